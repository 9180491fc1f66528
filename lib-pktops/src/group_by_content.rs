//! GROUP_BY_CONTENT: which packets say the same, and to whom it is said.
//!
//! A packet's content is its protocol, its ports, and the payload that [`crate::parse::transport`] finds, and whether that
//! is all of a datagram; the checksums of TCP and UDP are no part of it. Contents are compared byte by byte; a hash only
//! tells which to compare.

use crate::equals::Equals;
use crate::packet_set::{PacketSet, packets};
use crate::parse::{Fragment, Headers, Transport, transport};
use ahash::RandomState;
use vinet_trusted::addr::Addr;
use vinet_trusted::gate::ScanPermit;
use vinet_trusted::packet::{Number, Packet};

/// The content of one packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Content<'a> {
    /// The protocol of the IP payload.
    pub protocol: u8,
    /// Source and destination port, where the packet has them.
    pub ports: Option<(u16, u16)>,
    /// Whether it is the content of a whole packet: neither of a fragment, nor of one with a broken transport header.
    pub whole: bool,
    /// What is behind the transport header, or, where there is none that is known, behind the IP header.
    pub payload: &'a [u8],
}

impl<'a> Content<'a> {
    /// The content of the packet that `frame` holds.
    #[must_use]
    pub fn of(frame: &'a [u8], headers: &Headers, packet: &Packet) -> Content<'a> {
        let port = |number| packet.number(number).map(|port| port as u16);
        let transport = transport(frame, headers);
        let broken = matches!(&transport, Transport::Other(other) if other.irregular.is_some());
        Content {
            protocol: headers.protocol,
            ports: port(Number::SrcPort).zip(port(Number::DstPort)),
            whole: headers.fragment == Fragment::Whole && !broken,
            payload: &frame[transport.payload()],
        }
    }
}

/// A window: frames and their headers, in the order of arrival.
pub(crate) type Frames<'a> = &'a [(&'a [u8], &'a Headers)];

/// Puts a packet of the window among those of equal content, with leave to look into it.
pub(crate) fn insert<const N: usize, const P: usize>(
    classes: &mut Equals<N, P>,
    _leave: ScanPermit,
    packet: usize,
    frames: Frames<'_>,
    window: &[Packet],
    hasher: &RandomState,
) {
    let content = |p: usize| Content::of(frames[p].0, frames[p].1, &window[p]);
    classes.insert(packet, |p| hasher.hash_one(content(p)), |a, b| content(a) == content(b));
}

/// The contents of a set of packets, each once, in order of first arrival.
#[derive(Clone, Copy, Debug)]
pub struct Grouping<'a> {
    frames: Frames<'a>,
    window: &'a [Packet],
    set: &'a [u64],
    class_of: &'a [u8],
    members: &'a [u64],
}

impl<'a> Grouping<'a> {
    pub(crate) fn new<const N: usize, const P: usize>(
        frames: Frames<'a>,
        window: &'a [Packet],
        set: &'a PacketSet<N>,
        classes: &'a Equals<N, P>,
    ) -> Grouping<'a> {
        let (class_of, members) = classes.parts();
        Grouping { frames, window, set: set.words(), class_of, members }
    }
    /// The number of the first packet of each content.
    fn firsts(&self) -> impl Iterator<Item = usize> + use<'a> {
        let class_of = self.class_of;
        let mut seen = PacketSet::<4>::EMPTY;
        packets(self.set.iter().copied()).filter(move |&p| {
            let class = usize::from(class_of[p]);
            let is_first = !seen.contains(class);
            seen.insert(class);
            is_first
        })
    }
    /// The contents.
    pub fn contents(&self) -> impl Iterator<Item = Content<'a>> + use<'a> {
        let (frames, window) = (self.frames, self.window);
        self.firsts().map(move |p| Content::of(frames[p].0, frames[p].1, &window[p]))
    }
    /// For each content how many packets have it, and where they go to, in the order of arrival.
    pub fn dests(&self) -> impl Iterator<Item = (usize, impl Iterator<Item = Addr> + use<'a>)> + use<'a> {
        let (window, set, class_of, members) = (self.window, self.set, self.class_of, self.members);
        self.firsts().map(move |first| {
            let class = usize::from(class_of[first]) * set.len();
            let words = members[class..class + set.len()].iter().zip(set).map(|(equal, held)| equal & held);
            let count = words.clone().map(|word| word.count_ones() as usize).sum();
            (count, packets(words).map(move |p| window[p].dst))
        })
    }
}
