//! The packets of a trial, all made before it: a cycle that is gone through as often as the trial is long.
//!
//! An entry is headers, a payload, and the part of the checksum that does not depend on the stamp; what is left for the
//! time of sending is to copy both, write the stamp, and fold the checksum. The cycle has whole rounds over all flows and
//! whole cycles of the size mix, and is the same for the same seed.

use super::flows::{Mix, shuffle};
use super::packet::{FCS_LEN, Flow, Link, Transport, frame_len_min, head, head_len, transport_checksum};
use super::payload::{Planted, Planter, Source};
use super::sizes::Sizes;
use super::stamp::{self, STAMP_LEN, Stamp};
use crate::run::PerfError;
use crate::verify::chance::Chance;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use vinet_client::pcap::Capture;
use vinet_fastpath::port::PacketBuf;
use vinet_pktops::checksum;
use vinet_trusted::addr::{Addr, Prefix};

/// The least packets of a cycle, so that sizes, flows and words mix well.
const CYCLE_LEN_MIN: usize = 1 << 14;
/// The most packets of a cycle.
const CYCLE_LEN_MAX: usize = 1 << 20;
/// The most bytes of the packets of one cycle.
const CYCLE_BYTES_MAX: usize = 1 << 30;
/// The most bytes of a capture that is replayed.
const CAPTURE_BYTES_MAX: u64 = 1 << 30;

/// Which families the flows are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Every second flow IPv6.
    Both,
}

/// What a cycle is made of.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Frame sizes.
    pub sizes: Sizes,
    /// How many flows.
    pub flows: usize,
    /// How packets spread over them.
    pub mix: Mix,
    /// Of which families.
    pub family: Family,
    /// What carries the payload.
    pub transport: Transport,
    /// Sources, IPv4 and IPv6.
    pub src: [Prefix; 2],
    /// Destinations.
    pub dst: [Prefix; 2],
    /// The destination port.
    pub dst_port: u16,
    /// Mails.
    pub payload: Option<PathBuf>,
    /// Words.
    pub plant: Vec<Planted>,
    /// What chance follows from.
    pub seed: u64,
}

/// One packet of the cycle.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where it lies among the bytes.
    at: usize,
    /// Its length in a buffer, without FCS.
    len: u32,
    /// Where the stamp goes, and the checksum; 0 and 0 for a packet that gets none.
    stamp_at: u16,
    checksum_at: u16,
    /// The sum of what the checksum covers, without checksum and stamp.
    sum: u64,
    transport: Transport,
}

/// A cycle of packets.
#[derive(Debug)]
pub struct Plan {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// What a reader of the results ought to know.
    pub notes: Vec<String>,
}

impl Plan {
    /// Makes the cycle of a recipe.
    pub fn build(recipe: &Recipe, link: Link) -> Result<Plan, PerfError> {
        let mut chance = Chance::new(recipe.seed);
        let mut notes = Vec::new();
        let is_v6 = |flow: usize| match recipe.family {
            Family::V4 => false,
            Family::V6 => true,
            Family::Both => flow % 2 == 1,
        };
        let largest_head = recipe.family != Family::V4;
        let least = frame_len_min(largest_head, recipe.transport);
        let mut sizes = recipe.sizes.cycle(least).map_err(PerfError::Option)?;
        if sizes != recipe.sizes.cycle(0).map_err(PerfError::Option)? {
            notes.push(format!("the small frames of the mix have {least} bytes: headers and stamp need them"));
        }
        let wanted = CYCLE_LEN_MIN.max(recipe.flows.saturating_mul(4)).min(CYCLE_LEN_MAX.max(recipe.flows));
        let drawn = recipe.mix.draw(recipe.flows, wanted, &mut chance);
        let flows: Vec<Flow> = (0..recipe.flows)
            .map(|number| flow(recipe, number, is_v6(number), &mut chance))
            .collect::<Result<_, _>>()?;
        let mut source = match &recipe.payload {
            Some(path) => Source::corpus(path)?,
            None => Source::random(&mut chance),
        };
        let mut planter = Planter::new(recipe.plant.clone());
        let mut plan = Plan { bytes: Vec::new(), entries: Vec::with_capacity(drawn.len()), notes };
        let mut place = sizes.len();
        for number in drawn {
            if place == sizes.len() {
                shuffle(&mut sizes, &mut chance);
                place = 0;
            }
            let (number, wire_len) = (number as usize, sizes[place]);
            place += 1;
            let payload_len = wire_len - FCS_LEN - head_len(is_v6(number), recipe.transport);
            let head = head(link, &flows[number], recipe.transport, payload_len);
            let at = plan.bytes.len();
            plan.bytes.extend(&head.bytes);
            let stamp_at = plan.bytes.len();
            source.cut(payload_len, &mut plan.bytes);
            plan.bytes[stamp_at..stamp_at + STAMP_LEN].fill(0);
            planter.plant(&mut plan.bytes[stamp_at..], &mut chance);
            plan.entries.push(Entry {
                at,
                len: (plan.bytes.len() - at) as u32,
                stamp_at: (stamp_at - at) as u16,
                checksum_at: head.checksum_at as u16,
                sum: checksum::sum(head.sum, &plan.bytes[stamp_at..]),
                transport: recipe.transport,
            });
            if plan.bytes.len() > CYCLE_BYTES_MAX {
                let words = format!(
                    "so many flows of such sizes need more than {CYCLE_BYTES_MAX} bytes: take fewer or smaller"
                );
                return Err(PerfError::Option(words));
            }
        }
        for (planted, count) in recipe.plant.iter().zip(&planter.planted) {
            let share = 100.0 * *count as f64 / plan.entries.len() as f64;
            let word = String::from_utf8_lossy(&planted.word);
            plan.notes.push(format!("`{word}` is planted in {share:.2} % of the packets"));
        }
        if planter.without_room > 0 {
            plan.notes.push(format!("{} times a word had no room in its packet", planter.without_room));
        }
        Ok(plan)
    }

    /// The packets of a capture and the time behind each, in nanoseconds. Each gets `link`'s addresses; with `is_stamped`,
    /// whole TCP and UDP packets with room get a stamp over the beginning of their payload. Packets that were captured in
    /// part, and those longer than `frame_len_max` (in a buffer), are left out.
    pub fn replay(
        bytes: &[u8],
        name: &str,
        link: Link,
        is_stamped: bool,
        frame_len_max: usize,
    ) -> Result<(Plan, Vec<u64>), PerfError> {
        let capture = Capture::read(bytes).map_err(|e| PerfError::Option(format!("{name}: {e}")))?;
        let mut plan = Plan { bytes: Vec::new(), entries: Vec::new(), notes: Vec::new() };
        let (mut times, mut left_out) = (Vec::new(), 0u64);
        for packet in capture.packets() {
            if packet.bytes.len() < packet.wire_len as usize || !(14..=frame_len_max).contains(&packet.bytes.len()) {
                left_out += 1;
                continue;
            }
            let at = plan.bytes.len();
            plan.bytes.extend(link.dst);
            plan.bytes.extend(link.src);
            plan.bytes.extend(&packet.bytes[12..]);
            let mut entry = Entry {
                at,
                len: packet.bytes.len() as u32,
                stamp_at: 0,
                checksum_at: 0,
                sum: 0,
                transport: Transport::Udp,
            };
            if is_stamped {
                stamp_over(&mut plan.bytes[at..], &mut entry);
            }
            plan.entries.push(entry);
            times.push(u64::from(packet.seconds) * 1_000_000_000 + u64::from(packet.nanoseconds));
        }
        if plan.entries.is_empty() {
            return Err(PerfError::Option(format!("{name}: there is no whole packet in it")));
        }
        if left_out > 0 {
            plan.notes.push(format!("{left_out} packets of the capture are left out: cut or too long"));
        }
        let unstamped = plan.entries.iter().filter(|entry| entry.stamp_at == 0).count();
        if is_stamped && unstamped > 0 {
            plan.notes
                .push(format!("{unstamped} packets of the capture have no room for a stamp: they are counted alone"));
        }
        // A capture may go back in time; then the packet follows at once. Behind the last one the mean time passes.
        let mut gaps: Vec<u64> = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        let mean = gaps.iter().sum::<u64>() / gaps.len().max(1) as u64;
        gaps.push(mean.max(1));
        Ok((plan, gaps))
    }

    /// Reads a capture for [`Plan::replay`].
    pub fn read_capture(path: &std::path::Path) -> Result<Vec<u8>, PerfError> {
        let file = |error| PerfError::File { path: path.to_owned(), error };
        if std::fs::metadata(path).map_err(file)?.len() > CAPTURE_BYTES_MAX {
            return Err(PerfError::Option(format!("{}: more than {CAPTURE_BYTES_MAX} bytes", path.display())));
        }
        std::fs::read(path).map_err(file)
    }

    /// Packets of the cycle.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    /// Bytes on the wire of the packet at `place`, FCS included.
    #[inline]
    pub fn wire_len(&self, place: usize) -> u32 {
        (self.entries[place].len + FCS_LEN as u32).max(super::sizes::FRAME_LEN_MIN as u32)
    }
    /// The mean of the bytes on the wire.
    pub fn wire_len_mean(&self) -> f64 {
        (0..self.len()).map(|place| f64::from(self.wire_len(place))).sum::<f64>() / self.len() as f64
    }
    /// Whether every packet has a stamp.
    pub fn is_stamped(&self) -> bool {
        self.entries.iter().all(|entry| entry.stamp_at != 0)
    }
    /// The frame at `place`, stamp and checksum not yet written.
    #[inline]
    pub fn frame(&self, place: usize) -> &[u8] {
        let entry = &self.entries[place];
        &self.bytes[entry.at..entry.at + entry.len as usize]
    }
    /// Writes stamp and checksum into a copy of the frame at `place`. Whether there is room for a stamp.
    #[inline]
    pub fn finish<B: PacketBuf>(&self, place: usize, stamp: Stamp, packet: &mut B) -> bool {
        let entry = &self.entries[place];
        if entry.stamp_at == 0 {
            return false;
        }
        let (stamp_at, checksum_at) = (usize::from(entry.stamp_at), usize::from(entry.checksum_at));
        let stamp = stamp.bytes();
        let frame = packet.bytes_mut();
        frame[stamp_at..stamp_at + STAMP_LEN].copy_from_slice(&stamp);
        let sum = transport_checksum(entry.sum + Stamp::sum(&stamp), entry.transport);
        frame[checksum_at..checksum_at + 2].copy_from_slice(&sum);
        true
    }
}

/// A flow: addresses by chance from the prefixes, the destination dense from the prefix's start, so that few of them are
/// enough for few flows.
fn flow(recipe: &Recipe, number: usize, is_v6: bool, chance: &mut Chance) -> Result<Flow, PerfError> {
    let family = usize::from(is_v6);
    let src = inside(recipe.src[family], chance.bits());
    // The first address of an IPv4 prefix is the network's own.
    let dst = inside(recipe.dst[family], number as u64 + 1);
    let src_port = 1024 + (chance.bits() % 60_000) as u16;
    Ok(Flow { src, dst, src_port, dst_port: recipe.dst_port })
}

/// An address of the prefix: the one with this number, modulo how many there are.
fn inside(prefix: Prefix, number: u64) -> IpAddr {
    match prefix.addr() {
        Addr::V4(bits) => {
            let free = 32 - u32::from(prefix.len());
            let mask = if free == 0 { 0 } else { u32::MAX >> (32 - free) };
            Ipv4Addr::from_bits(bits | (number as u32 & mask)).into()
        }
        Addr::V6(bits) => {
            let free = 128 - u32::from(prefix.len());
            let mask = if free == 0 { 0 } else { u128::MAX >> (128 - free) };
            Ipv6Addr::from_bits(bits | (u128::from(number) & mask)).into()
        }
    }
}

/// Makes room for a stamp in a captured frame: finds the payload, and takes checksum and old bytes out of the sum.
fn stamp_over(frame: &mut [u8], entry: &mut Entry) {
    let Ok(headers) = vinet_pktops::parse::headers(frame) else { return };
    let Some(place) = stamp::place(frame) else { return };
    if place.len() < STAMP_LEN || headers.options {
        return;
    }
    let transport = if headers.protocol == 6 { Transport::Tcp } else { Transport::Udp };
    let l4 = usize::from(headers.l4_offset);
    let checksum_at = l4 + transport.checksum_at();
    let (Ok(stamp_at), Ok(checksum_at_16)) = (u16::try_from(place.start), u16::try_from(checksum_at)) else { return };
    frame[place.start..place.start + STAMP_LEN].fill(0);
    frame[checksum_at..checksum_at + 2].fill(0);
    let addresses = match headers.src {
        Addr::V4(_) => &frame[l4 - 8..l4],
        Addr::V6(_) => &frame[l4 - 32..l4],
    };
    let (src, dst) = addresses.split_at(addresses.len() / 2);
    let pseudo = checksum::pseudo_header(src, dst, (place.end - l4) as u32, headers.protocol);
    entry.sum = checksum::sum(pseudo, &frame[l4..place.end]);
    (entry.stamp_at, entry.checksum_at, entry.transport) = (stamp_at, checksum_at_16, transport);
}

#[cfg(test)]
mod tests;
