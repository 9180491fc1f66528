# An act of the demonstration, sourced by demo.sh: the paper's multicast. What a sender sends to many hosts behind one edge
# router crosses the core once, with the list of those it is for, and that edge router expands it.

say "Multicast: a far edge router asks this one to send each content once, and expands it for the hosts behind it"
lan_hosts=(10 11 12 13 14 15 16 17) contents=40
far_owner=198.18.77.1/24
as_far=(--identity "$work/far-owner.key" --authority "$work/authority.pub")

# The far router is a plain Linux router while it shows that its prefix is its own, and asks.
at far ip address add 198.18.0.2/30 dev leg0
at far ip route add default via 198.18.0.1
within 5 at far ping -n -q -c 1 -W 1 198.18.0.1 >/dev/null 2>&1
typed far "vinet multicast --from $lawful --lifetime 10m --router 198.18.0.1:7400      # as $far_owner"
asked() { at far "$vinet" multicast --from "$lawful" --lifetime 10m --rate 20000 --router 198.18.0.1:7400 --json "${as_far[@]}" >"$work/multicast" 2>"$work/multicast.err"; }
claim "the far router's owner shows that packets to its prefix reach it, and installs the program" asked
sed 's/^/        /' "$work/multicast.err"
program=$(grep -oE '"program": *"[0-9a-f]{64}"' "$work/multicast" | grep -oE '[0-9a-f]{64}')
near=$(at far "$vinet" policy --verbose --router 198.18.0.1:7400 "${as_far[@]}" 2>&1 | grep -oE '[0-9a-f]{64}' | head -n 1)
at far ip address flush dev leg0
at far ip address flush dev leg1
cat >"$work/far.toml" <<TOML
[router]
name = "far"
identity = "far.key"
authority = "authority.pub"
policies = ["$work/edge-router.toml"]
run_dir = "$work"
[eal]
memory = "no-huge"
memory_mb = 160
[workers]
cores = [$(($(nproc) - 1))]
idle = "backoff"
[control]
listen = ["198.18.0.2:7400"]
[[port]]
name = "core"
device = "net_af_packet0,iface=leg0"
addresses = ["198.18.0.2/30"]
rx_ring = 256
tx_ring = 256
queue_depth = 256
[[port]]
name = "lan"
device = "net_af_packet1,iface=leg1"
addresses = ["198.18.77.1/24"]
controlled = ["198.18.77.0/24"]
rx_ring = 256
tx_ring = 256
queue_depth = 256
[[route]]
to = "0.0.0.0/0"
via = "198.18.0.1"
[[expand]]
identity = "far-owner.key"
router = "$near"
program = "$program"
[capacity]
cycles_per_second = 1_000_000_000
memory_bytes = 268_435_456
TOML
behind far far.log "$vinetd" --config "$work/far.toml" --ready-file "$work/far.ready"
far_daemon=$started
there() { [ -e "$work/far.ready" ]; }
within 20 there || { sed 's/^/        /' "$work/far.log"; stop "the far router did not start"; }
# Everybody's neighbours are known before the broadcast.
for n in "${lan_hosts[@]}"; do within 10 at lawful ping -n -q -c 1 -W 1 "198.18.77.$n" >/dev/null 2>&1; done

# Every host keeps what comes; the sender sends each content to each of them, one datagram each.
for n in "${lan_hosts[@]}"; do behind lan "lan.$n" socat -u "UDP-RECV:9000,bind=198.18.77.$n" STDOUT; done
for i in $(seq "$contents"); do printf 'content %04d %s\n' "$i" "$(printf '%0900d' 0)"; done >"$work/broadcast"
# Packets that the far router's device on the core has received.
crossed() { at far awk '$1 == "leg0:" {print $3}' /proc/net/dev; }
expanded() { "$vinetd" ctl --socket "$work/far.sock" counters | json expanded; }
sleep 0.5
crossed_before=$(crossed) expanded_before=$(expanded)
# One socket, as a broadcaster has: what is sent from another port is another content.
at lawful perl -MSocket -e '
  my ($own, $file, @hosts) = @ARGV;
  socket(my $socket, PF_INET, SOCK_DGRAM, 0) or die $!;
  bind($socket, sockaddr_in(9000, inet_aton($own))) or die $!;
  open(my $lines, "<", $file) or die $!;
  while (my $line = <$lines>) {
    for (@hosts) { send($socket, $line, 0, sockaddr_in(9000, inet_aton("198.18.77.$_"))) or die $! }
    select(undef, undef, undef, 0.002);
  }
' "$lawful" "$work/broadcast" "${lan_hosts[@]}"
everywhere() { local n; for n in "${lan_hosts[@]}"; do cmp -s "$work/broadcast" "$work/lan.$n" || return 1; done; }
sent=$((contents * ${#lan_hosts[@]}))
claim "each of ${#lan_hosts[@]} hosts has got all $contents contents, byte for byte" within 5 everywhere
crossed_after=$(crossed)
note "$sent datagrams were sent, $((crossed_after - crossed_before)) packets crossed the core"
claim "a fifth of them at the most" above $((sent / 5)) $((crossed_after - crossed_before))
made=$(($(expanded) - expanded_before))
claim "the far router made $made packets of them" [ "$made" = "$sent" ]
end "$far_daemon"
