//! The far ends of the router's wires: hosts that send as much as the wires take, mixes of every kind, and look at what
//! comes back.
//!
//! What a host sends carries a pattern that follows from its first bytes, so that a byte that was changed on the way, or
//! that belongs to another packet, is seen.

use crate::frames::{self, Above, Spec, frame};
use crate::verify::chance::Chance;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use vinet_fastpath::port::fault::{FaultCounters, FaultCounts, FaultyRx};
use vinet_fastpath::port::memory::{MemoryBuf, MemoryPool, MemoryRx, MemoryTx};
use vinet_fastpath::port::{Burst, PacketBuf, PacketPool, RxQueue, TxQueue};
use vinet_pktops::parse::{Fragment, headers};
use vinet_trusted::addr::Addr;

/// Ports of the router.
pub const PORTS: usize = 3;
/// The port whose link takes short packets only.
pub const NARROW: usize = 2;
/// Different frames of each host and queue.
const FRAMES: usize = 2048;
/// The first bytes of every pattern.
const MAGIC: [u8; 2] = *b"Vi";
/// Bytes of the magic and of the key that the pattern follows from.
const HEAD_LEN: usize = 6;
/// Ethernet addresses: the router's of a port, and the hosts'.
pub const fn router_mac(port: usize) -> [u8; 6] {
    [2, 0, 0, 0, 0, 0x10 + port as u8]
}
/// That of all hosts behind a port.
pub const fn host_mac(port: usize) -> [u8; 6] {
    [2, 0, 0, 0, 0, 0x20 + port as u8]
}

/// A receive queue whose worker can be made to hang in it.
pub struct Hanging {
    inner: FaultyRx<MemoryRx, MemoryPool>,
    hangs: Arc<AtomicBool>,
}

impl Hanging {
    /// It hangs while `hangs` says so.
    pub fn new(inner: FaultyRx<MemoryRx, MemoryPool>, hangs: Arc<AtomicBool>) -> Hanging {
        Hanging { inner, hangs }
    }
}

impl RxQueue for Hanging {
    type Buf = MemoryBuf;
    fn receive(&mut self, burst: &mut Burst<MemoryBuf>) -> usize {
        while self.hangs.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.inner.receive(burst)
    }
    fn unusable(&self) -> u64 {
        self.inner.unusable()
    }
}

/// What the hosts did.
#[derive(Default)]
pub struct HostCounts {
    /// Frames given to the wires of each port.
    pub sent: [AtomicU64; PORTS],
    /// Frames taken from them.
    pub received: [AtomicU64; PORTS],
    /// Frames whose pattern was looked at.
    pub verified: AtomicU64,
    /// Frames that were wrong.
    pub corrupt: AtomicU64,
}

/// What hosts are told.
#[derive(Default)]
pub struct Orders {
    /// Send nothing, only receive.
    pub pause: AtomicBool,
    /// End.
    pub end: AtomicBool,
}

/// The hosts behind one port.
pub struct Hosts {
    rx: Vec<MemoryRx>,
    tx: Vec<MemoryTx>,
    /// The frames of each queue.
    frames: Vec<Vec<Vec<u8>>>,
    next: usize,
}

impl Hosts {
    /// Hosts behind `port` at these queues. The words are sent now and then.
    pub fn new(port: usize, rx: Vec<MemoryRx>, tx: Vec<MemoryTx>, words: &[Vec<u8>], chance: &mut Chance) -> Hosts {
        let frames =
            (0..tx.len()).map(|queue| (0..FRAMES).map(|_| mixed(port, queue, words, chance)).collect()).collect();
        Hosts { rx, tx, frames, next: 0 }
    }
}

/// Sends and receives for all hosts until it is told to end.
pub fn drive(hosts: &mut [Hosts], mut pool: MemoryPool, counts: &HostCounts, orders: &Orders) {
    let mut burst = Burst::new();
    while !orders.end.load(Ordering::Relaxed) {
        let is_paused = orders.pause.load(Ordering::Relaxed);
        let mut moved = 0;
        for (port, host) in hosts.iter_mut().enumerate() {
            for (tx, frames) in host.tx.iter_mut().zip(&host.frames) {
                while !is_paused && burst.room() > 0 {
                    host.next += 1;
                    match pool.allocate(&frames[host.next % FRAMES]) {
                        Some(packet) => _ = burst.push(packet),
                        None => break,
                    }
                }
                let sent = tx.send(&mut burst);
                // What the wire has no room for is not sent.
                burst.drain();
                moved += sent;
                counts.sent[port].fetch_add(sent as u64, Ordering::Release);
            }
            for rx in &mut host.rx {
                let received = rx.receive(&mut burst);
                for packet in burst.drain() {
                    match is_sound(packet.bytes()) {
                        Some(true) => counts.verified.fetch_add(1, Ordering::Relaxed),
                        Some(false) => counts.corrupt.fetch_add(1, Ordering::Relaxed),
                        None => 0,
                    };
                }
                moved += received;
                counts.received[port].fetch_add(received as u64, Ordering::Release);
            }
        }
        if moved == 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

/// The sums of some queues' counts.
pub fn sum(counters: &[FaultCounters]) -> FaultCounts {
    counters.iter().fold(FaultCounts::default(), |sum, counters| sum.plus(&counters.counts()))
}

/// An address in words.
pub fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().expect("an address").into()
}

/// A frame by chance: to a host that is there, to one that is not, to the router, expired, too long, broken, from a source
/// that is not behind the port, with a word in it.
fn mixed(port: usize, queue: usize, words: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let is_v4 = chance.one_in(2);
    let to = (port + 1 + chance.below(PORTS - 1)) % PORTS;
    // A source stays on one queue, as a device would keep it.
    let behind = if chance.one_in(40) { (port + 1) % PORTS } else { port };
    let src = host(behind, is_v4, (1 + queue + 4 * chance.below(20)) as u32);
    let dst = match chance.below(30) {
        0 => own(port, is_v4),
        1 => host(to, is_v4, 100 + chance.below(20) as u32),
        2 => addr(if is_v4 { "10.66.0.1" } else { "2001:db8:66::1" }),
        3 => addr(if is_v4 { "10.77.0.1" } else { "2001:db8:77::1" }),
        _ => host(to, is_v4, 2),
    };
    let above = match chance.below(3) {
        0 => Above::Udp,
        _ => Above::Tcp { seq: chance.bits() as u32, flags: *chance.pick(&[0x10, 0x10, 0x18, 0x02, 0x11]) },
    };
    let payload = payload(words, chance);
    let ports = [1024 + chance.below(1000) as u16, *chance.pick(&[25, 53, 80, 443, 445, 5000, 23])];
    let spec = Spec {
        macs: [router_mac(port), host_mac(port)],
        src,
        dst,
        ports,
        ttl: if chance.one_in(20) { 1 } else { 64 },
        may_be_cut: chance.one_in(2),
        above,
        payload: &payload,
    };
    let mut made = frame(&spec);
    if chance.one_in(50) {
        made.truncate(chance.below(60));
    }
    made
}

/// A host behind a port.
fn host(port: usize, is_v4: bool, number: u32) -> Addr {
    let (v4, v6) = [
        (0xcb00_7100, 0x2001_0db8_000f_0000_u128 << 64),
        (0xc000_0200, 0x2001_0db8_0001_0000_u128 << 64),
        (0x0a09_0000, 0x2001_0db8_0009_0000_u128 << 64),
    ][port];
    if is_v4 { Addr::V4(v4 + number) } else { Addr::V6(v6 + u128::from(number)) }
}

/// The router's own address on a port.
pub fn own(port: usize, is_v4: bool) -> Addr {
    host(port, is_v4, 254)
}

fn payload(words: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let len = HEAD_LEN + chance.below(1400);
    if let (true, false) = (chance.one_in(8), words.is_empty()) {
        return chance.pick(words).iter().copied().cycle().take(len).collect();
    }
    let key = chance.bits() as u32;
    let mut payload = [&MAGIC[..], &key.to_be_bytes()].concat();
    payload.extend((HEAD_LEN..len).map(|at| pattern(key, at)));
    payload
}

/// The byte of a pattern at a place.
const fn pattern(key: u32, at: usize) -> u8 {
    (key.rotate_left(at as u32 % 31) as u8) ^ (at as u8)
}

/// Whether a frame is as it was sent; `None` for one that carries no pattern: ICMP, words, a later fragment.
fn is_sound(frame: &[u8]) -> Option<bool> {
    // What a host receives, the router has written: it must be sound.
    let Ok(read) = headers(frame) else { return Some(false) };
    let above = match read.protocol {
        17 => Above::Udp,
        6 => Above::Tcp { seq: 0, flags: 0 },
        _ => return None,
    };
    if !matches!(read.fragment, Fragment::Whole | Fragment::First) {
        return None;
    }
    let end = (usize::from(read.l3_offset) + usize::from(read.l3_len)).min(frame.len());
    let payload = frame.get(usize::from(read.l4_offset) + frames::transport_len(above)..end)?;
    let (head, _) = payload.split_at_checked(HEAD_LEN)?;
    if head[..2] != MAGIC {
        return None;
    }
    let key = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
    Some((HEAD_LEN..payload.len()).all(|at| payload[at] == pattern(key, at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_is_seen() {
        let mut chance = Chance::new(7);
        let (mut looked_at, mut seen) = (0, 0);
        for _ in 0..2000 {
            let mut made = mixed(0, 0, &[], &mut chance);
            if is_sound(&made) != Some(true) {
                continue;
            }
            looked_at += 1;
            // Behind the transport header and the key: where the pattern is.
            let from = 14 + 40 + 20 + HEAD_LEN;
            if made.len() > from {
                let at = from + chance.below(made.len() - from);
                made[at] ^= 1 << chance.below(8);
                assert_eq!(is_sound(&made), Some(false));
                seen += 1;
            }
        }
        assert!(looked_at > 1000 && seen > 900, "{looked_at} {seen}");
    }
}
