#!/usr/bin/env bash
# The store under `kill -9`, many times: a process with a router's ledger and store, under load, is killed at random moments, and
# after each kill everything is added up. Then, as root, the same with the real router in network namespaces and a tenth of the
# kills. `make test` does 20 and 5 of them.
#   scripts/test-crash.sh          300 kills
#   scripts/test-crash.sh 5000     as many as you like
# VINET_TEST_SEED=… repeats a run, as far as the machine's timing allows.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

kills=${1:-300}
[[ $kills =~ ^[1-9][0-9]*$ ]] || stop "'$kills' is no number of kills"

say "The store under $kills kills"
began=$SECONDS
VINET_CRASH_KILLS=$kills cargo test --locked --quiet -p vinet-control --test store_crash -- --nocapture ||
  stop "something was lost, or half there" "again, with the seed that stands above: VINET_TEST_SEED=… scripts/test-crash.sh $kills"
note "${green}passed${plain} in $((SECONDS - began)) s"
[ "$(id -u)" = 0 ] || { note "the real router needs root, and is left out"; exit 0; }

say "The real router under a tenth of them"
began=$SECONDS
cargo build --locked --quiet --workspace --bins
VINET_CRASH_KILLS=$kills cargo test --locked --quiet -p vinet-tests --test crash -- --nocapture ||
  stop "something was lost, or paid twice" "again: scripts/test-crash.sh $kills"
note "${green}passed${plain} in $((SECONDS - began)) s"
