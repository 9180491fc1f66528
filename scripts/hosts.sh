# Shared by the scripts that show or test the router on hosts of their own. A host is a network namespace held by a process
# of this script, so that whatever ends the script, nothing of it stays: the namespaces, with all that is in them, live as
# long as their holders. To be sourced after lib.sh; the outputs of what runs in the background go to files in $work.

work=$(mktemp -d /tmp/vinet-hosts.XXXXXX)
declare -A holder=()     # host -> the process that holds its namespace
children=()              # everything started in the background, oldest first
failures=0               # claims that did not hold

# Ends everything that was started.
end_all() {
  local pid
  for pid in "${children[@]}"; do kill -KILL "$pid"; wait "$pid"; done 2>/dev/null
  children=()
}
leave() {
  local status=$?
  trap '' INT TERM HUP
  before_leaving
  end_all
  rm -rf "$work"
  exit "$status"
}
before_leaving() { :; }  # a script may have something to do first
trap leave EXIT
trap 'printf "\n"; note "interrupted; cleaning up"; exit 130' INT TERM HUP

host() {
  setpriv --pdeathsig KILL unshare --net sleep infinity &
  holder[$1]=$!
  children+=($!)
  local i
  for i in $(seq 100); do
    [ "$(readlink "/proc/${holder[$1]}/ns/net" 2>/dev/null)" != "$(readlink /proc/self/ns/net)" ] &&
      [ "$(cat "/proc/${holder[$1]}/comm" 2>/dev/null)" = sleep ] && { at "$1" ip link set lo up; return; }
    sleep 0.02
  done
  stop "the kernel gave no network namespace"
}
# Runs a command at a host.
at() { local where=$1; shift; nsenter --net="/proc/${holder[$where]}/ns/net" -- "$@"; }
# Starts a program at a host in the background; its outputs go to the file of $work that is named second.
behind() {
  local where=$1 log=$work/$2; shift 2
  setpriv --pdeathsig KILL nsenter --net="/proc/${holder[$where]}/ns/net" -- "$@" >"$log" 2>&1 </dev/null &
  started=$!
  children+=("$started")
}

# A claim of the script, and a command that is true if it holds.
claim() {
  local text=$1; shift
  if "$@"; then note "${green}✓${plain} $text"
  else note "${red}✗ $text: this did not happen${plain}"; failures=$((failures + 1)); fi
}
# A step without which nothing else makes sense.
must() { local text=$1; shift; "$@" >"$work/step.log" 2>&1 || { cat "$work/step.log" >&2; stop "$text"; }; }
no() { ! "$@"; }
above() { awk -v x="${1:-0}" -v least="$2" 'BEGIN {exit !(x > least)}'; }
# The first number under that key, of JSON on standard input.
json() { grep -oE "\"$1\": *-?[0-9.]+" | head -n 1 | grep -oE '[-0-9.]+$'; }
typed() { note "${dim}$1${plain} ${bold}\$ $2${plain}"; }
