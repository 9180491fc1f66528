#!/usr/bin/env bash
# The virtio PCI driver, for real: vinetd in a virtual machine with Debian's own kernel and two virtio-net-pci NICs, which it
# routes between. The hosts on both sides are network namespaces of this machine; their interfaces are the other ends of
# the guest's NICs. The guest is emulated (no KVM is needed), so this decides whether the router is right, never how fast it is.
# In the guest, `vinetd doctor` says what is missing, the guest types what it says, and only then does the router start.
# Exits with 0 only if all that it claims happened. Whatever ends it, nothing of it stays.
#   scripts/test-virtio-pci.sh         all of these, one after the other:
#   scripts/test-virtio-pci.sh uio     uio_pci_generic, physical addresses (the machine has no IOMMU)
#   scripts/test-virtio-pci.sh vfio    vfio-pci behind an emulated IOMMU, virtual addresses
#   scripts/test-virtio-pci.sh unfit   a machine that vfio-pci does not work on: the doctor has to foresee it
#   VIRTIO_PCI_BIN_DIR=DIR   takes vinet and vinetd from there (default: target/release)
#   VIRTIO_PCI_CACHE=DIR     keeps the guest's kernel package there (default: target/guest)
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

parts=(uio vfio unfit)
case ${1:-all} in all) ;; uio | vfio | unfit) parts=("$1") ;; *) stop "unknown part '$1'" "expected uio, vfio or unfit" ;; esac

bin_dir=$(cd "${VIRTIO_PCI_BIN_DIR:-target/release}" 2>/dev/null && pwd) || stop "nothing is built" "make build"
vinet=$bin_dir/vinet vinetd=$bin_dir/vinetd
cache=${VIRTIO_PCI_CACHE:-$PWD/target/guest}
kernel_package=linux-image-cloud-amd64
lawful=198.51.100.3 attacker=198.51.100.2 victim=192.0.2.2 router=192.0.2.1
lawful6=2001:db8:b::3 attacker6=2001:db8:b::2 victim6=2001:db8:c::2 router6=2001:db8:c::1
boot_limit_s=180         # an emulated machine takes its time; one that needs longer than this hangs
pings=20 page_mib=8

[ "$(id -u)" = 0 ] || stop "network namespaces need root" "as root: make test-virtio-pci"
for file in "$vinet" "$vinetd"; do [ -x "$file" ] || stop "$file is not built" "make build"; done
for tool in qemu-system-x86_64 busybox ip ping curl nsenter unshare setpriv ldd dpkg-deb; do
  command -v "$tool" >/dev/null || stop "$tool is missing" "scripts/setup.sh virtio"
done

. scripts/hosts.sh

# Waits until a command is true, at most that many seconds, and only as long as the guest runs.
within() {
  local limit=$1 at=$SECONDS; shift
  until "$@"; do
    [ $((SECONDS - at)) -lt "$limit" ] && kill -0 "$guest" 2>/dev/null || { "$@"; return; }
    sleep 0.2
  done
}

# ---- What the guest is made of: the kernel of a package that is unpacked here and not installed, and files of this machine.

# Leaves the kernel's version in `release` and the unpacked package in `unpacked`. One that was unpacked before is good again.
kernel() {
  local package complete
  complete=$(ls "$cache"/*/complete 2>/dev/null | head -n 1)
  unpacked=${complete%/complete}
  if [ -z "$unpacked" ]; then
    fetch() {
      package=$(apt-cache depends "$kernel_package" 2>/dev/null | awk '/Depends: linux-image/{print $2; exit}')
      [ -n "$package" ] && (cd "$cache" && apt-get -q download "$package") >"$work/step.log" 2>&1
    }
    mkdir -p "$cache"
    # The lists may be absent, or older than the mirror.
    fetch || { apt-get -q update >/dev/null 2>&1; retried fetch; } ||
      { cat "$work/step.log" >&2; stop "$kernel_package could not be fetched" "is there a way to Debian's mirror?"; }
    unpacked=$cache/$package
    must "$package could not be unpacked" dpkg-deb -x "$cache/$package"_*.deb "$unpacked"
    rm -f "$cache/$package"_*.deb
    must "the modules' dependencies could not be found" busybox depmod -b "$unpacked" "$(ls "$unpacked/lib/modules")"
    touch "$unpacked/complete"
  fi
  release=$(ls "$unpacked/lib/modules")
}

# Copies a file of this machine to the same place in the guest, and every library that it is linked with. A file with
# several names stays one file: EAL would start a driver twice that is there twice.
into_guest() {
  local file real
  for file in "$@"; do
    real=$(readlink -f "$file") file=$(realpath -s "$file")
    if [ ! -e "$root$real" ]; then
      mkdir -p "$root${real%/*}"
      cp "$real" "$root$real"
      # The lines of ldd: `name => /path (address)`, and `/path (address)` for the loader.
      into_guest $(ldd "$real" 2>/dev/null | grep -oE '/[^ ]+' | sort -u)
    fi
    [ -e "$root$file" ] || { mkdir -p "$root${file%/*}"; ln -s "$real" "$root$file"; }
  done
}
module_into_guest() {
  local name line file
  for name in "$@"; do
    line=$(grep -E "/$name\.ko(\.[a-z]+)?:" "$unpacked/lib/modules/$release/modules.dep") || stop "$release has no module $name"
    for file in ${line/:/ }; do
      mkdir -p "$root/lib/modules/$release/${file%/*}"
      cp "$unpacked/lib/modules/$release/$file" "$root/lib/modules/$release/$file"
    done
  done
}

# The memory file system that the guest starts from.
make_guest() {
  local pmds pmd name
  root=$work/root
  mkdir -p "$root"/{etc/vinet/policy,proc,sys,dev,run,tmp,var,usr/bin,usr/lib/modules/"$release",usr/lib64}
  for name in bin lib lib64; do ln -s "usr/$name" "$root/$name"; done
  ln -s usr/bin "$root/sbin"   # where the kernel looks for modprobe
  ln -s ../run "$root/var/run"
  cp "$(command -v busybox)" "$root/bin/busybox"
  ln -s busybox "$root/bin/sh"
  into_guest $(ldd "$root/bin/busybox" | grep -oE '/[^ ]+' | sort -u)
  # What a NIC driver of the kernel's own needs, so that the guest begins as every machine does: with its NICs taken.
  module_into_guest virtio_pci virtio_net tun uio_pci_generic vfio-pci vfio_iommu_type1
  cp "$unpacked/lib/modules/$release"/modules.{order,builtin,builtin.modinfo} "$root/lib/modules/$release/"
  must "the modules' dependencies could not be found" busybox depmod -b "$root" "$release"
  # EAL loads every file of its folder that is named like a driver of its version: once each, by its full name.
  pmds=$(echo /usr/lib/*/dpdk/pmds-*)
  for pmd in bus_pci bus_vdev mempool_ring net_virtio; do
    into_guest "$(ls "$pmds/librte_$pmd".so.*.*)"
  done
  cp "$vinetd" "$root/bin/vinetd"
  into_guest $(ldd "$vinetd" | grep -oE '/[^ ]+' | sort -u)
  cp configs/policy/{end-user,edge-router}.toml "$root/etc/vinet/policy/"
  cp configs/costs.toml "$root/etc/vinet/"
  cp "$work"/{router.key,authority.pub,router.toml} "$root/etc/vinet/"
  guest_init >"$root/init"
  chmod +x "$root/init"
  (cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initrd.gz"
}

configuration() {
  cat <<TOML
[router]
name = "guest"
identity = "router.key"
authority = "authority.pub"
policies = ["policy/end-user.toml", "policy/edge-router.toml"]
run_dir = "/run/vinet"
[eal]
memory = "huge"
memory_mb = 256
[workers]
cores = [1]
idle = "backoff"
[control]
core = 0
listen = ["$router:7400", "[$router6]:7400"]
[[port]]
name = "edge"
device = "0000:00:04.0"
addresses = ["198.51.100.1/24", "2001:db8:b::1/64"]
controlled = ["198.51.100.0/24", "2001:db8:b::/64"]
[[port]]
name = "uplink"
device = "0000:00:05.0"
addresses = ["$router/24", "$router6/64"]
[capacity]
cycles_per_second = 1_000_000_000
memory_bytes = 268_435_456
TOML
}

# The guest's first and only script. It speaks on the first serial line and takes orders from the second.
guest_init() {
  cat <<'GUEST'
#!/bin/sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
say() { echo "guest: $*"; }
give_up() { say "failed: $*"; poweroff -f; }
say "booted $(uname -r)"
modprobe virtio_pci && modprobe virtio_net || give_up "the kernel's own driver does not load"
for nic in 0000:00:04.0 0000:00:05.0; do
  say "$nic begins with $(basename "$(readlink /sys/bus/pci/devices/$nic/driver)"), interface $(ls /sys/bus/pci/devices/$nic/virtio*/net)"
done
ip link set lo up
doctor() { vinetd doctor --config /etc/vinet/router.toml "$@"; }
# Whatever the doctor calls a failure comes with what to type; typed it is, until nothing is left.
for round in 1 2 3; do
  doctor --json >/run/doctor
  status=$?
  say "doctor: exit status $status"
  [ $status = 1 ] || break
  sed -n '/"status":"fail"/s/.*"type":"\([^"]*\)".*/\1/p' /run/doctor >/run/remedies
  [ -s /run/remedies ] || { cat /run/doctor; break; }
  while read -r line; do say "types: $line"; eval "$line" || say "that failed"; done </run/remedies
done
doctor
for nic in 0000:00:04.0 0000:00:05.0; do say "$nic is bound to $(basename "$(readlink /sys/bus/pci/devices/$nic/driver)")"; done
(vinetd --config /etc/vinet/router.toml --ready-file /run/ready; say "vinetd ended with $?") &
router=$!
(until [ -e /run/ready ]; do sleep 0.2; done; say "ready") &
stty -F /dev/ttyS1 raw -echo
while read -r order <&3; do
  case $order in
    ask\ *) say "answer $(vinetd ctl --socket /run/vinet/guest.sock ${order#ask } | tr -d '\n')" ;;
    stop) killall -TERM vinetd; wait $router; break ;;
  esac
done 3</dev/ttyS1
poweroff -f
GUEST
}

# ---- One guest: from its start to its end.

console() { tr -d '\r' <"$work/console.log"; }
said() { console | grep -qE "$1"; }
# Asks the router's admin socket in the guest; prints its answer.
ask() {
  local before
  before=$(console | grep -c '^guest: answer ')
  echo "ask $1" >"$work/orders.in"
  within 20 eval '[ "$(console | grep -c "^guest: answer ")" -gt '"$before"' ]' || return 1
  console | grep '^guest: answer ' | tail -n 1 | cut -d' ' -f3-
}
reply_count() { at "$1" ping -n -q -c "$pings" -i 0.05 -W 2 -I "$2" "$3" 2>/dev/null | grep -oE '[0-9]+ received' | grep -oE '[0-9]+'; }
reaches() { at "$1" ping -n -q -c 1 -W 1 -I "$2" "$3" >/dev/null 2>&1; }
# Fetches the page from the victim; true if every byte of it is right.
page() {
  local got
  got=$(at senders curl -s --interface "$1" --max-time "$3" "http://$2/page" | sha256sum)
  [ "${got%% *}" = "$page_sum" ]
}
replies() { [ "$(reply_count "$1" "$2" "$3")" = "$4" ]; }

start_guest() {
  local options=() append="console=ttyS0 quiet panic=-1"
  local nic=disable-legacy=on,romfile=
  if [ "$1" != uio ]; then
    options=(-device "intel-iommu,intremap=$([ "$1" = vfio ] && echo on || echo off)")
    nic+=,iommu_platform=on
    append+=" intel_iommu=on"
  fi
  mkfifo "$work/orders.in" "$work/orders.out"
  # The answers of the second serial line are not wanted, but somebody must take them.
  behind wires orders.log cat "$work/orders.out"
  behind wires qemu.log qemu-system-x86_64 -accel tcg,thread=multi -machine q35 -cpu max -smp 2 -m 1024 \
    -nodefaults -no-user-config -display none -no-reboot "${options[@]}" \
    -kernel "$unpacked/boot/vmlinuz-$release" -initrd "$work/initrd.gz" -append "$append" \
    -chardev "file,id=console,path=$work/console.log" -serial chardev:console \
    -chardev "pipe,id=orders,path=$work/orders" -serial chardev:orders \
    -netdev tap,id=edge,ifname=vg0,script=no,downscript=no -device "virtio-net-pci,netdev=edge,bus=pcie.0,addr=4,$nic" \
    -netdev tap,id=uplink,ifname=vg1,script=no,downscript=no -device "virtio-net-pci,netdev=uplink,bus=pcie.0,addr=5,$nic"
  guest=$started
  touch "$work/console.log"
  # The other end of a NIC moves to the host whose interface it is; the emulator keeps it open.
  within 20 at wires ip link show vg1 >/dev/null 2>&1 || { cat "$work/qemu.log" >&2; stop "the emulator does not start"; }
  join vg0 senders 198.51.100.1 2001:db8:b::1 "$attacker" "$lawful" "$attacker6" "$lawful6"
  join vg1 victim "$router" "$router6" "$victim" "$victim6"
}
join() {
  local tap=$1 where=$2 via=$3 via6=$4 address; shift 4
  at wires ip link set "$tap" netns "${holder[$where]}" name eth0
  for address in "$@"; do
    case $address in
      *:*) at "$where" ip address add "$address/64" dev eth0 nodad ;;
      *) at "$where" ip address add "$address/24" dev eth0 ;;
    esac
  done
  at "$where" ip link set eth0 up
  at "$where" ip route add default via "$via"
  at "$where" ip -6 route add default via "$via6"
}

as_victim() { at victim "$vinet" "$@" --identity "$work/$victim.key" --authority "$work/authority.pub" --router "$router:7400"; }
withdrawn() { as_victim withdraw "$1" >/dev/null; }

try_binding() {
  local driver=$1 instance at=$SECONDS
  case $driver in uio) driver=uio_pci_generic ;; vfio) driver=vfio-pci ;; esac
  say "A guest whose NICs are to be bound to $driver"
  rm -f "$work"/orders.* "$work/console.log"
  host wires; host senders; host victim
  start_guest "$1"
  behind victim httpd.log busybox httpd -f -p "$victim:80" -h "$work/www"
  behind victim httpd6.log busybox httpd -f -p "[$victim6]:80" -h "$work/www"
  within "$boot_limit_s" said '^guest: (ready|failed|vinetd ended)'
  if ! said '^guest: ready'; then
    console | sed 's/^/        /' | tail -n 100
    stop "the router in the guest did not become ready"
  fi
  console | grep -E '^guest: |^(ok|warn|fail) |^ +\$ ' | sed 's/^/        /'
  claim "$release booted and the router is ready after $((SECONDS - at)) s" true
  claim "the doctor found faults first, and none in the end" eval 'said "doctor: exit status 1" && said "doctor: exit status 0"'
  for nic in 4 5; do claim "0000:00:0$nic.0 went from virtio-pci to $driver" eval \
    "said 'guest: 0000:00:0$nic.0 begins with virtio-pci' && said 'guest: 0000:00:0$nic.0 is bound to $driver'"; done
  claim "both ports run DPDK's virtio PCI driver" eval '[ "$(console | grep -cE "0000:00:0[45].0 \(net_virtio\)")" = 2 ]'

  within 20 reaches senders "$lawful" "$victim" && within 20 reaches senders "$attacker" "$victim"
  within 20 reaches senders "$lawful6" "$victim6" && within 20 reaches senders "$attacker6" "$victim6"
  for pair in "$lawful $victim" "$attacker $victim" "$lawful6 $victim6" "$attacker6 $victim6"; do
    claim "$pings of $pings pings from ${pair% *} come back from ${pair#* }" replies senders $pair "$pings"
  done
  claim "$page_mib MiB over TCP arrive whole over IPv4" page "$lawful" "$victim" 60
  claim "and over IPv6" page "$lawful6" "[$victim6]" 60

  typed victim "vinet firewall --block $attacker --lifetime 10m --router $router:7400"
  if as_victim firewall --block "$attacker" --lifetime 10m --json >"$work/receipt" 2>"$work/step.log"; then
    instance=$(json instance <"$work/receipt")
    claim "the router took the victim's program, in-band: instance $instance" [ -n "$instance" ]
    claim "no ping from $attacker comes back" replies senders "$attacker" "$victim" 0
    claim "no connection from it gets through" no page "$attacker" "$victim" 3
    claim "$pings of $pings pings from $lawful still do" replies senders "$lawful" "$victim" "$pings"
    claim "and TCP from it still arrives whole" page "$lawful" "$victim" 60
    claim "the router counted what the program discarded" above "$(as_victim show "$instance" --json 2>/dev/null | json packets_discarded)" $((pings - 1))
    claim "the victim withdraws it" withdrawn "$instance"
    claim "and $attacker is back" replies senders "$attacker" "$victim" "$pings"
  else
    sed 's/^/        /' "$work/step.log"
    claim "the router took the victim's program, in-band" false
  fi
  ask counters >"$work/counters"
  claim "every packet is accounted for" [ "$(json difference <"$work/counters")" = 0 ]
  echo stop >"$work/orders.in"
  within 60 no kill -0 "$guest" 2>/dev/null
  claim "vinetd ended cleanly on SIGTERM, and the guest with it" said '^guest: vinetd ended with 0'
  end_all
}

# An IOMMU that does not remap interrupts: all looks well, and vfio refuses. The doctor must not say that all is well.
try_unfit() {
  say "A guest whose IOMMU does not remap interrupts, which vfio-pci needs"
  rm -f "$work"/orders.* "$work/console.log"
  host wires; host senders; host victim
  start_guest unfit
  within "$boot_limit_s" said '^guest: (ready|failed|vinetd ended)'
  console | grep -E '^guest: |^fail ' | sed 's/^/        /'
  claim "the doctor says so of both NICs" eval '[ "$(console | grep -cE "^fail .* does not remap interrupts")" = 2 ]'
  claim "and vinetd does not start, indeed" said '^guest: vinetd ended with 2'
  end_all
}

began=$SECONDS
say "The guest: the kernel of $kernel_package and this machine's vinetd, DPDK and busybox"
kernel
must "the authority could not be made" "$vinet" ca init --out "$work"
must "the router got no key" "$vinet" ca router --ca "$work" --name guest --address "$router" --out "$work/router.key"
must "the victim got no key" "$vinet" ca issue --ca "$work" --principal "$victim" --valid 1d --out "$work/$victim.key"
configuration >"$work/router.toml"
make_guest
note "$(du -h "$work/initrd.gz" | cut -f1) of files, kernel $release"
mkdir "$work/www"
head -c $((page_mib * 1048576)) /dev/urandom >"$work/www/page"
page_sum=$(sha256sum <"$work/www/page"); page_sum=${page_sum%% *}
for part in "${parts[@]}"; do
  case $part in unfit) try_unfit ;; *) try_binding "$part" ;; esac
done

echo
if [ "$failures" = 0 ]; then say "${green}All of it happened${plain}, in $((SECONDS - began)) s"
else say "${red}$failures of the claims did not hold${plain}"; exit 1; fi
