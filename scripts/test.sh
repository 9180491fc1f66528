#!/usr/bin/env bash
# Everything that decides whether a change is good: form, lints, unit and property tests, loom, randomised attacks on every
# decoder, and the end-to-end stories in network namespaces. The end-to-end part needs root.
#   scripts/test.sh         everything
#   scripts/test.sh unit    all but the end-to-end stories; needs no root
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

what=${1:-all}
case $what in all | unit) ;; *) stop "unknown part '$what'" "expected all or unit" ;; esac
[ "$what" = unit ] || [ "$(id -u)" = 0 ] || stop "the end-to-end tests make network namespaces and need root" "as root: make test" "without: make unit"

mkdir -p target
log=target/test.log
: >"$log"
failed=()
began=$SECONDS

# One step: its name, then its command. What it prints goes to the terminal and to the log.
step() {
  local name=$1 at=$SECONDS; shift
  say "$name"
  if "$@" 2>&1 | tee -a "$log"; then note "${green}passed${plain} in $((SECONDS - at)) s"
  else note "${red}failed${plain}: $name ($((SECONDS - at)) s)"; failed+=("$name"); return 1; fi
}

finish() {
  local passed bad ignored
  passed=$(grep -oE '^test result: .* [0-9]+ passed' "$log" | awk '{n += $(NF-1)} END {print n + 0}')
  bad=$(grep -oE '[0-9]+ failed;' "$log" | awk '{n += $1} END {print n + 0}')
  ignored=$(grep -oE '[0-9]+ ignored;' "$log" | awk '{n += $1} END {print n + 0}')
  echo
  grep -E '^test .* FAILED$' "$log" | sort -u | sed 's/^/    /'
  grep -hE '^skipped: ' "$log" | sort -u | sed 's/^/    /'
  if [ ${#failed[@]} -eq 0 ]; then
    say "${green}All is well:${plain} $passed tests passed, $ignored ignored, in $((SECONDS - began)) s"
  else
    say "${red}Not good:${plain} $(IFS=,; echo "${failed[*]}" | sed 's/,/, /g') failed; $passed tests passed, $bad failed; all of it is in $log"
    exit 1
  fi
}

cargo_test() { cargo test --locked --workspace --no-fail-fast "$@"; }

step "Form (cargo fmt)" cargo fmt --all --check || finish
step "Lints (cargo clippy, warnings denied)" cargo clippy --locked --quiet --workspace --all-targets -- -D warnings || finish
step "Build" cargo build --locked --quiet --workspace --bins || finish
if [ "$what" = unit ]; then
  export VINET_SKIP_STORIES=1
fi
# The stories take a lock on the machine, so they run one at a time whatever the number of threads.
step "Tests" cargo_test
finish
