#!/usr/bin/env bash
# Makes a Debian 12 machine ready for this project. It may be run any number of times: what is there is left alone.
#   scripts/setup.sh build   what compiling needs
#   scripts/setup.sh run     that, and what the tests and the demo run: namespaces, traffic programs, a solver, hugepages
#   scripts/setup.sh virtio  that, and the emulator of the machine that test-virtio-pci.sh starts
#   scripts/setup.sh bench   run, and the peers that vinet-perf measures itself against
# It installs Debian packages, reserves hugepages where there is memory for them, and fetches the locked crates. Nothing else changes.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

level=${1:-run}
case $level in build | run | virtio | bench) ;; *) stop "unknown level '$level'" "expected build, run, virtio or bench" ;; esac

# libdpdk-dev brings every poll-mode driver of Debian's DPDK; libclang-dev is what bindgen reads the headers with.
packages=(gcc make libc6-dev pkgconf libdpdk-dev libclang-dev)
# unshare, nsenter and setpriv come with util-linux, which every Debian has.
[ "$level" = build ] ||
  packages+=(iproute2 iputils-ping iputils-tracepath traceroute curl iperf3 tcpdump ethtool procps busybox socat z3)
# The emulated machine's kernel is a package too, which the test fetches and does not install.
[ "$level" != virtio ] || packages+=(qemu-system-x86 seabios)
[ "$level" != bench ] || packages+=(dpdk-dev dpdk-doc libsystemd-dev libhyperscan-dev)

hugepages_wanted=256     # of 2 MiB; half a GiB is plenty for every packet pool that the tests and the demo make
memory_spare_kib=2097152 # and is taken only where this much stays free for the compiler

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_packages() {
  local missing=() p
  command -v dpkg-query >/dev/null || stop "this is not a Debian machine" \
    "what is needed is what these Debian 12 packages hold: ${packages[*]}" "install it by hand, then run: cargo build --release"
  for p in "${packages[@]}"; do installed "$p" || missing+=("$p"); done
  [ ${#missing[@]} -gt 0 ] || { note "Debian packages: all ${#packages[@]} are there"; return 0; }
  [ "$(id -u)" = 0 ] || stop "Debian packages are missing, and only root may install them" \
    "as root: apt-get install --no-install-recommends ${missing[*]}"
  note "Debian packages: installing ${missing[*]}"
  note "${dim}(a few minutes on a bare machine)${plain}"
  local apt=(apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3) log try
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  for try in 1 2 3; do
    # The lists may be absent, or older than the mirror: fetch them unless the first try does without.
    if [ "$try" = 1 ] && apt-cache policy "${missing[@]}" 2>/dev/null | grep -c 'Candidate: [0-9]' | grep -qx "${#missing[@]}"; then :
    else "${apt[@]}" update >"$log" 2>&1 || true; fi
    if "${apt[@]}" install --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then rm -f "$log"; return 0; fi
    sleep $((try * 3))
  done
  tail -n 15 "$log" >&2
  rm -f "$log"
  stop "apt-get could not install: ${missing[*]}" "its last words are above; the packages are those of Debian 12 (bookworm)"
}

check_rust() {
  command -v cargo >/dev/null || stop "cargo is not on the PATH" "install Rust with rustup (https://rustup.rs), then run this again"
  local wanted have
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  have=$(rustc --version | awk '{print $2}')
  [ "$(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -n 1)" = "$wanted" ] ||
    stop "rustc is $have, the project needs $wanted or newer" "rustup update stable"
  note "Rust: $have"
}

reserve_hugepages() {
  local file=/proc/sys/vm/nr_hugepages have free available
  have=$(awk '/^HugePages_Total/{print $2}' /proc/meminfo)
  free=$(awk '/^HugePages_Free/{print $2}' /proc/meminfo)
  available=$(awk '/^MemAvailable/{print $2}' /proc/meminfo)
  if [ "${free:-0}" -lt "$hugepages_wanted" ] && [ -w "$file" ] &&
    [ "$available" -gt $((memory_spare_kib + (hugepages_wanted - free) * 2048)) ]; then
    echo $((have + hugepages_wanted - free)) >"$file" 2>/dev/null || true
    free=$(awk '/^HugePages_Free/{print $2}' /proc/meminfo)
  fi
  if [ "${free:-0}" -ge "$hugepages_wanted" ]; then note "hugepages: $free of 2 MiB are free"
  else note "hugepages: ${free:-0} are free, fewer than $hugepages_wanted; DPDK will run with --no-huge (slower, otherwise the same)"; fi
}

fetch_crates() {
  retried cargo fetch --locked --quiet || stop "the crates of Cargo.lock could not be fetched" "is there a way to the registry?"
  note "crates: fetched as Cargo.lock says"
}

say "Setting this machine up ($level)"
install_packages
check_rust
[ "$level" = build ] || reserve_hugepages
fetch_crates
