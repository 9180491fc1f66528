#!/usr/bin/env bash
# The main job, on real hosts: a victim shuts an attacker off at the router next to the attacker, with a program that the router
# has proven harmless. Everything runs in network namespaces of this machine; every program but vinet and vinetd is everybody's.
# Exits with 0 only if all that it claims happened. Whatever ends it, nothing of it stays: the namespaces live as long as the
# processes that hold them, and the kernel ends those with this script.
#   DEMO_DRIVER=af_packet   takes that DPDK driver at once (default: af_xdp, and af_packet where af_xdp does not work)
#   DEMO_BIN_DIR=DIR        takes vinet and vinetd from there (default: target/release)
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

bin_dir=$(cd "${DEMO_BIN_DIR:-target/release}" 2>/dev/null && pwd) || stop "nothing is built" "make build"
vinet=$bin_dir/vinet vinetd=$bin_dir/vinetd
configs=$PWD/configs
lawful=203.0.113.2 attacker=198.51.100.2 victim=192.0.2.2 router=192.0.2.1:7400
friends=(192.0.2.3 192.0.2.4 192.0.2.5)     # further owners, at the victim's machine
lifetime_s=30            # short enough for a demonstration; two days are as good to the router
lawful_mbit=20 attack_mbit=60

[ "$(id -u)" = 0 ] || stop "network namespaces need root" "as root: make demo"
for file in "$vinet" "$vinetd"; do [ -x "$file" ] || stop "$file is not built" "make build"; done
for tool in ip ethtool ping curl iperf3 busybox perl socat nsenter unshare setpriv; do
  command -v "$tool" >/dev/null || stop "$tool is missing" "scripts/setup.sh run"
done

. scripts/hosts.sh
began=$SECONDS
daemon=                  # vinetd
before_leaving() { [ -z "$daemon" ] || end "$daemon"; }

# Ends one process that we started: asks, waits, insists.
end() {
  local i
  kill -TERM "$1" 2>/dev/null || return 0
  for i in $(seq 50); do kill -0 "$1" 2>/dev/null || return 0; sleep 0.1; done
  kill -KILL "$1" 2>/dev/null
}

# Joins a host to a router: host, its address, the router's leg, the router's address, and which router.
wire() {
  at "$1" ip link add eth0 type veth peer name "$3" netns "${holder[${5:-router}]}"
  # The other end of a veth is a poller, which takes packets as they are: with their checksums, in their real sizes.
  at "$1" ethtool -K eth0 tx off tso off gso off gro off >/dev/null
  at "$1" ip address add "$2/24" dev eth0
  at "$1" ip link set eth0 up
  at "$1" ip route add default via "$4"
  at "${5:-router}" ip link set "$3" up
}

# Whether something comes true within that many seconds.
within() {
  local until=$((SECONDS + $1)); shift
  until "$@"; do [ "$SECONDS" -lt "$until" ] || return 1; sleep 0.1; done
}
share() { awk -v x="$1" -v part="$2" 'BEGIN {print x * part}'; }

# Megabits per second that the victim's iperf3 server saw in its last interval.
rate() { awk '/bits\/sec/ && !/receiver|sender/ {for (i = 2; i <= NF; i++) if ($i == "Mbits/sec") r = $(i - 1)} END {print r + 0}' "$work/$1"; }
discarded() { "$vinetd" ctl --socket "$work/demo.sock" counters 2>/dev/null | json program; }
bar() { awk -v r="$1" -v full="$attack_mbit" 'BEGIN {n = int(r / full * 24 + 0.5); if (n > 24) n = 24; for (i = 0; i < n; i++) s = s "█"; for (; i < 24; i++) s = s "·"; print s}'; }
head_line() { note "${dim}$(printf '%5s  %-38s %-38s %s' second 'lawful → victim' 'attacker → victim' 'discarded by the router')${plain}"; }
# Watches for that many seconds, one line a second. Leaves the mean rates in lawful_rate and attack_rate, without the first
# second, which may hold some of what was before.
watch() {
  local i l a seen=''
  for i in $(seq "$1"); do
    sleep 1
    l=$(rate lawful.iperf) a=$(rate attacker.iperf)
    [ "$i" = 1 ] || seen+="$l $a"$'\n'
    note "$(printf '%5d' $((SECONDS - began)))  ${green}$(bar "$l")${plain} $(printf '%5.1f Mbit/s' "$l")  ${red}$(bar "$a")${plain} $(printf '%5.1f Mbit/s' "$a")  $(printf '%9d packets' "$(discarded || echo 0)")"
  done
  [ -z "$seen" ] || read -r lawful_rate attack_rate < <(awk 'NF {l += $1; a += $2; n++} END {printf "%.1f %.1f\n", l / n, a / n}' <<<"$seen")
}
web() { [ "$(at "$1" curl -s -o /dev/null -w '%{http_code}' --max-time "$2" "http://$victim/")" = 200 ]; }
reaches() { at "$1" ping -n -q -c 1 -W 1 "$2" >/dev/null 2>&1; }
pings() { at "$1" ping -n -q -c 5 -i 0.2 -W 1 "$victim" 2>/dev/null | grep -oE '[0-9]+ received' | grep -oE '[0-9]+'; }

cat <<PICTURE

${bold}VInet: a victim shuts an attacker off, at the router next to the attacker${plain}

    lawful    $lawful  ──┐                              ┌── victim  $victim
                           ├── ${bold}vinetd${plain} ─────────────────────┤
    attacker  $attacker ──┘   the edge router              └── ${bold}vinetd${plain}, a far edge router ── eight hosts
                               near the senders

PICTURE

say "Hosts and routers, each a network namespace of this machine"
for name in router lawful attacker victim far lan; do host "$name"; done
wire lawful "$lawful" leg0 203.0.113.1
wire attacker "$attacker" leg1 198.51.100.1
wire victim "$victim" leg2 192.0.2.1
for friend in "${friends[@]}"; do at victim ip address add "$friend/24" dev eth0; done
wire lan 198.18.77.10 leg1 198.18.77.1 far
for n in 11 12 13 14 15 16 17; do at lan ip address add "198.18.77.$n/24" dev eth0; done
at router ip link add leg3 type veth peer name leg0 netns "${holder[far]}"
at far ethtool -K leg0 tx off tso off gso off gro off >/dev/null
at far ip link set leg0 up
at far ip address add 198.18.77.1/24 dev leg1
at router ip link set leg3 up
note "to look in: nsenter --net=/proc/${holder[victim]}/ns/net   (the victim; ${holder[router]} is the router)"

say "Keys: an authority certifies who owns which address"
must "the authority could not be made" "$vinet" ca init --out "$work"
must "the router got no key" "$vinet" ca router --ca "$work" --name demo --address 192.0.2.1 --out "$work/router.key"
must "the far router got no key" "$vinet" ca router --ca "$work" --name far --address 198.18.0.2 --out "$work/far.key"
must "the far router's owner got no key" "$vinet" ca issue --ca "$work" --principal 198.18.77.1/24 --valid 1d --out "$work/far-owner.key"
for who in "$victim" "$attacker" "$lawful" "${friends[@]}"; do
  must "$who got no key" "$vinet" ca issue --ca "$work" --principal "$who" --valid 1d --out "$work/$who.key"
done
must "there is no bank" "$vinet" bank init --out "$work"
for who in "$victim" "$attacker" "${friends[@]}" far-owner; do
  must "$who got no credit" "$vinet" bank issue --bank "$work" --to "$work/$who.key" --amount 10000 --router "$work/router.key" --out "$work/$who.credit"
done
as_victim=(--identity "$work/$victim.key" --authority "$work/authority.pub")
as_attacker=(--identity "$work/$attacker.key" --authority "$work/authority.pub")
as_lawful=(--identity "$work/$lawful.key" --authority "$work/authority.pub")
note "the authority certified the routers, the victim ($victim), the attacker ($attacker) and others; a bank sold credit to some"
# The windows of a demonstration wait longer than a router's: a shell sends a broadcast packet by packet.
sed -e 's/^window_us_max = .*/window_us_max = 100_000/' -e "s|\.\./costs.toml|$configs/costs.toml|" "$configs/policy/edge-router.toml" >"$work/edge-router.toml"

say "The router: vinetd polls a DPDK port on each leg"
configuration() {
  cat <<TOML
[router]
name = "demo"
identity = "router.key"
authority = "authority.pub"
policies = ["$configs/policy/end-user.toml", "$work/edge-router.toml"]
run_dir = "$work"
[eal]
memory = "auto"
memory_mb = 256
[workers]
cores = [$(($(nproc) - 1))]
idle = "backoff"
[control]
listen = ["$router", "198.51.100.1:7400", "203.0.113.1:7400", "198.18.0.1:7400"]
[store]
path = "demo.redb"
[payment]
bank = "bank.pub"
install = 10
per_teracycle = 1_000
[sources]
shut_off_owners = 3
shut_off_back_below = 2
[[port]]
name = "lawful"
device = "net_${1}0,iface=leg0"
addresses = ["203.0.113.1/24"]
controlled = ["203.0.113.0/24"]
[[port]]
name = "attacker"
device = "net_${1}1,iface=leg1"
addresses = ["198.51.100.1/24"]
controlled = ["198.51.100.0/24"]
[[port]]
name = "uplink"
device = "net_${1}2,iface=leg2"
addresses = ["192.0.2.1/24"]
[[port]]
name = "core"
device = "net_${1}3,iface=leg3"
addresses = ["198.18.0.1/30"]
[[route]]
to = "198.18.77.0/24"
via = "198.18.0.2"
[capacity]
cycles_per_second = 1_000_000_000
memory_bytes = 268_435_456
TOML
}
# Starts the router over one driver; false if it does not become ready or does not forward.
start_router() {
  configuration "$1" >"$work/router.toml"
  rm -f "$work/ready"
  behind router vinetd.log "$vinetd" --config "$work/router.toml" --ready-file "$work/ready"
  daemon=$started
  local i
  for i in $(seq 150); do
    [ -e "$work/ready" ] && break
    kill -0 "$daemon" 2>/dev/null || return 1
    sleep 0.1
  done
  for i in $(seq 10); do
    at lawful ping -n -q -c 1 -W 1 "$victim" >/dev/null 2>&1 && at attacker ping -n -q -c 1 -W 1 "$victim" >/dev/null 2>&1 && return 0
  done
  return 1
}
driver=
for candidate in ${DEMO_DRIVER:-af_xdp af_packet}; do
  if start_router "$candidate"; then driver=$candidate; break; fi
  note "net_$candidate does not work on this machine"
  sed 's/^/        /' "$work/vinetd.log" | tail -n 5
  end "$daemon"; daemon=
done
[ -n "$driver" ] || stop "vinetd did not forward over any driver" "its words are above"
note "running over net_$driver, $(awk '/^HugePages_Free/{exit !($2 > 0)}' /proc/meminfo && echo 'with hugepages' || echo 'without hugepages')"

say "Real programs at the ends: a web server and two iperf3 receivers at the victim"
mkdir "$work/www" && echo "hello from the victim" >"$work/www/index.html"
behind victim httpd.log busybox httpd -f -p 80 -h "$work/www"
behind victim lawful.iperf iperf3 --server --port 5201 --interval 1 --format m --forceflush
behind victim attacker.iperf iperf3 --server --port 5202 --interval 1 --format m --forceflush
sleep 0.5
behind lawful lawful.send iperf3 --client "$victim" --port 5201 --udp --bitrate "${lawful_mbit}M" --length 1200 --time 600
behind attacker attacker.send iperf3 --client "$victim" --port 5202 --udp --bitrate "${attack_mbit}M" --length 1200 --time 600

say "Before"
head_line
watch 6
claim "the lawful sender reaches the victim: curl gets the page" web lawful 3
claim "and so does the attacker" web attacker 3
lawful_before=$lawful_rate attack_before=$attack_rate
claim "the lawful sender's traffic arrives: $lawful_before of $lawful_mbit Mbit/s" above "$lawful_before" $((lawful_mbit / 4))
claim "the attacker's flood arrives: $attack_before of $attack_mbit Mbit/s" above "$attack_before" $((attack_mbit / 4))

say "The victim puts its credit on its account, writes a program, proves it harmless, and uploads it through the data path"
typed victim "vinet deposit $victim.credit --router $router"
for who in "$victim" "$attacker" "${friends[@]}"; do
  must "$who could not deposit its credit" at victim "$vinet" deposit "$work/$who.credit" --router "$router" --identity "$work/$who.key" --authority "$work/authority.pub"
done
must "the far router's owner could not deposit its credit" at victim "$vinet" deposit "$work/far-owner.credit" --router "$router" --identity "$work/far-owner.key" --authority "$work/authority.pub"
typed victim "vinet firewall --block $attacker --lifetime ${lifetime_s}s --router $router"
at victim "$vinet" firewall --block "$attacker" --lifetime "${lifetime_s}s" --emit --as "$victim" 2>/dev/null | sed 's/^/        /'
uploaded=$SECONDS
if at victim "$vinet" firewall --block "$attacker" --lifetime "${lifetime_s}s" --router "$router" "${as_victim[@]}" >"$work/receipt" 2>&1; then
  sed 's/^/        /' "$work/receipt"
else
  sed 's/^/        /' "$work/receipt"
  stop "the router did not take the program"
fi

say "After"
head_line
watch 7
claim "the attacker's flood has stopped: $attack_before before, $(rate attacker.iperf) Mbit/s now" [ "$(rate attacker.iperf)" = 0 ]
claim "the lawful sender's traffic goes on: $lawful_before before, $lawful_rate Mbit/s now" above "$lawful_rate" "$(share "$lawful_before" 0.7)"
claim "the lawful sender still gets the page" web lawful 3
claim "the attacker does not" no web attacker 2
claim "of five pings of the lawful sender, five are answered" [ "$(pings lawful)" = 5 ]
claim "of five pings of the attacker, none" [ "$(pings attacker)" = 0 ]
d=$(discarded)
claim "the router itself counts what the program discarded: $d packets" [ "${d:-0}" -gt 1000 ]
typed victim "vinet list --router $router"
at victim "$vinet" list --router "$router" "${as_victim[@]}" 2>&1 | sed 's/^/        /'

say "The attacker may not do the same to the victim's friends: a program acts on its owner's traffic only"
cat >"$work/foul.vnp" <<'VNP'
LIFETIME = 1 hr
FromLawful = GROUP_BY_SOURCE(AllPackets,203.0.113.2);
DISCARD(FromLawful);
VNP
must "the foul program does not compile" "$vinet" compile "$work/foul.vnp" --as "$attacker" -o "$work/foul.vnb"
# The attacker's own vinet finds no proof, of course; so the attacker takes the proof of a lawful program and sends that along.
"$vinet" firewall --block 203.0.113.2 --lifetime 1h --as "$attacker" --emit >"$work/fair.vnp"
must "the lawful program does not compile" "$vinet" compile "$work/fair.vnp" --as "$attacker" -o "$work/fair.vnb"
must "the lawful program has no proof" "$vinet" prove "$work/fair.vnb" --policy "$configs/policy/end-user.toml" --as "$attacker" -o "$work/stolen.proof"
typed attacker "vinet upload foul.vnb stolen.proof --unchecked --router 198.51.100.1:7400      # discards what anybody gets from $lawful"
rejections() { "$vinetd" ctl --socket "$work/demo.sock" counters | json rejected; }
rejected_before=$(rejections)
# Exit status 1 is the lawful no; anything else would be a failure of another kind.
foul() {
  at attacker "$vinet" upload "$work/foul.vnb" "$work/stolen.proof" --unchecked --router 198.51.100.1:7400 "${as_attacker[@]}" >"$work/foul" 2>&1
  [ $? = 1 ] && [ "$(rejections)" -gt "$rejected_before" ]
}
claim "the router checks the proof against the very bytes, and refuses" foul
sed "s|$work/||g; s/^/        /" "$work/foul"

say "The lifetime of ${lifetime_s} s ends by itself"
head_line
while [ $((SECONDS - uploaded)) -le "$lifetime_s" ]; do watch 1; done
watch 4
claim "the attacker's traffic is back: $attack_rate Mbit/s" above "$attack_rate" "$(share "$attack_before" 0.5)"
claim "and gets the page again" web attacker 3

say "The paper's other program: a spam filter, which looks for words in what the victim receives"
typed victim "vinet spam --word cheap --word pills --lifetime 1m --router $router"
at victim "$vinet" spam --word cheap --word pills --lifetime 1m --router "$router" "${as_victim[@]}" >"$work/receipt" 2>&1 ||
  { sed 's/^/        /' "$work/receipt"; stop "the router did not take the program"; }
sed 's/^/        /' "$work/receipt"
says() { [ "$(at "$1" curl -s -o /dev/null -w '%{http_code}' --max-time 2 --user-agent "$2" "http://$victim/")" = 200 ]; }
typed attacker "curl --user-agent 'cheap pills' http://$victim/"
claim "a request with both words does not get through" no says attacker "cheap pills"
typed attacker "curl --user-agent 'cheap books' http://$victim/"
claim "a request with one of them does" says attacker "cheap books"

. scripts/demo/payment.sh
. scripts/demo/shared.sh
. scripts/demo/shut_off.sh
. scripts/demo/multicast.sh

say "Nothing is lost from view"
note "$("$vinetd" ctl --socket "$work/demo.sock" counters | json difference >"$work/difference"; printf 'every packet is accounted for: received less sent, dropped and kept is %s' "$(cat "$work/difference")")"
claim "the router's counters balance" [ "$(cat "$work/difference")" = 0 ]

say "Ending the router"
at_end=$daemon
kill -TERM "$at_end"
for i in $(seq 80); do kill -0 "$at_end" 2>/dev/null || break; sleep 0.1; done
wait "$at_end"; status=$?
daemon=
claim "vinetd ended cleanly on SIGTERM" [ "$status" = 0 ]

echo
if [ "$failures" = 0 ]; then say "${green}All of it happened${plain}, in $((SECONDS - began)) s. What to type next is in the README."
else say "${red}$failures of the claims did not hold${plain}"; exit 1; fi
