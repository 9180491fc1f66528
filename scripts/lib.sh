# Shared by the scripts of this folder: how they speak, and how they stop.
# Colours appear on a terminal only, and never when NO_COLOR is set.
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' blue=$'\e[34m' plain=$'\e[0m'
else
  bold='' dim='' red='' green='' yellow='' blue='' plain=''
fi

say()  { printf '%s\n' "${blue}==>${plain} ${bold}$*${plain}"; }
note() { printf '%s\n' "    $*"; }
stop() { printf '%s\n' "${red}stopped:${plain} $1" >&2; shift; for line in "$@"; do printf '         %s\n' "$line" >&2; done; exit 1; }

# Runs a command up to three times: a registry or a mirror may be away for a moment.
retried() {
  local try
  for try in 1 2 3; do
    "$@" && return 0
    [ "$try" = 3 ] || { note "that failed; once more in $((try * 5)) s"; sleep $((try * 5)); }
  done
  return 1
}
