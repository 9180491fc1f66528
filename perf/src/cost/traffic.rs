//! Traffic that is hard for one program: maximal packets between the addresses that it is about.

use crate::frames::{self, Above, Spec};
use crate::verify::chance::Chance;
use vinet_pktops::Executable;
use vinet_pktops::parse::{Headers, headers};
use vinet_trusted::addr::{Addr, Prefix};
use vinet_trusted::gate::Cell;
use vinet_trusted::packet::{Field, Number, Ranges, Test};
use vinet_trusted::program::{AddrTerm, Cond, Instr, Program};

/// In which way it is hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Datagrams whose contents nearly hold the words everywhere, each different.
    NearlyUdp,
    /// Datagrams with the same content, which does not hold the words.
    AlikeUdp,
    /// Datagrams of 64 bytes, each different.
    ShortUdp,
    /// Echo requests.
    Echo,
    /// Segments of many flows, in order, nearly with the words everywhere.
    NearlyTcp,
    /// Segments of many flows, in order, full of the words.
    WithWords,
    /// The same, but every other flow only nearly.
    HalfWithWords,
    /// Segments of one flow, in order.
    OneFlow,
    /// Segments of many flows, out of order.
    Gaps,
    /// The first segments of ever new flows.
    NewFlows,
    /// Openings of connections, without content.
    Openings,
}

impl Kind {
    /// All.
    pub const ALL: [Kind; 11] = [
        Kind::NearlyUdp,
        Kind::AlikeUdp,
        Kind::ShortUdp,
        Kind::Echo,
        Kind::NearlyTcp,
        Kind::WithWords,
        Kind::HalfWithWords,
        Kind::OneFlow,
        Kind::Gaps,
        Kind::NewFlows,
        Kind::Openings,
    ];
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::NearlyUdp => "UDP, nearly the words",
            Kind::AlikeUdp => "UDP, all alike",
            Kind::ShortUdp => "UDP, short",
            Kind::Echo => "echo requests",
            Kind::HalfWithWords => "TCP, half full of the words",
            Kind::NearlyTcp => "TCP, nearly the words",
            Kind::WithWords => "TCP, full of the words",
            Kind::OneFlow => "TCP, one flow",
            Kind::Gaps => "TCP, out of order",
            Kind::NewFlows => "TCP, new flows",
            Kind::Openings => "TCP, openings",
        }
    }
    const fn above(self) -> Above {
        match self {
            Kind::NearlyUdp | Kind::AlikeUdp | Kind::ShortUdp => Above::Udp,
            Kind::Echo => Above::Icmp,
            Kind::Openings => Above::Tcp { seq: FIRST_SEQ, flags: 0x02 },
            _ => Above::Tcp { seq: FIRST_SEQ, flags: 0x10 },
        }
    }
    /// Bytes of its contents, at most.
    const fn content_len_max(self) -> usize {
        match self {
            Kind::Openings => 0,
            Kind::ShortUdp => 64,
            _ => usize::MAX,
        }
    }
}

/// Where traffic is from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum From {
    /// Wherever it meets the program.
    Anywhere,
    /// A prefix that the program names.
    Named(Prefix),
    /// Such a prefix and anywhere in turn, two and two to the same destination.
    InTurn(Prefix),
}

/// One choice of traffic for a program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hard {
    /// In which way it is hard.
    pub kind: Kind,
    /// The destination port; `None` stands for each that the program names and another, in turn.
    pub port: Option<u16>,
    /// Where it is from.
    pub from: From,
}

impl Hard {
    /// Every choice for a program.
    pub fn all(program: &Program) -> Vec<Hard> {
        let names = Names::of(program);
        let mut froms = vec![From::Anywhere];
        froms.extend(names.sources.first().map(|&source| From::InTurn(source)));
        froms.extend(names.sources.iter().take(NAMED_MAX).map(|&source| From::Named(source)));
        let mut ports = vec![None];
        ports.extend(names.dst_ports.iter().take(NAMED_MAX).copied().map(Some));
        let mut all = Vec::new();
        for kind in Kind::ALL {
            for &port in &ports {
                all.extend(froms.iter().map(|&from| Hard { kind, port, from }));
            }
        }
        all
    }
    /// In words.
    pub fn name(&self) -> String {
        match self.port {
            None => self.kind.name().to_owned(),
            Some(port) => format!("{}, port {port}", self.kind.name()),
        }
    }
}

/// A port that no shipped program names.
const OTHER_PORT: u16 = 9;
/// How many of the prefixes and of the ports that a program names are tried, each.
const NAMED_MAX: usize = 5;
/// Sources of programs that are about any: the prefixes of the documentation, as in the shipped programs (RFC 5737).
const ANY_V4: [u32; 3] = [0xc000_0200, 0xc633_6400, 0xcb00_7100];
/// The same for IPv6 (RFC 3849).
const ANY_V6: u128 = 0x2001_0db8 << 96;
/// How far bytes out of order lie apart, at most.
const SPAN: u32 = 1 << 20;
/// The number of a flow's first byte.
const FIRST_SEQ: u32 = 1000;

/// Packets, parsed, that change a little before each time they are given to a program.
pub struct Traffic {
    frames: Vec<(Vec<u8>, Headers)>,
    kind: Kind,
    payload_len: u32,
    turn: u32,
}

impl Traffic {
    /// So many packets of `packet_len` bytes from the IP header on, each of which meets the program, to one port.
    pub fn for_program(
        program: &Program,
        executable: &Executable,
        Hard { kind, port, from }: Hard,
        packet_len: usize,
        count: usize,
        seed: u64,
    ) -> Traffic {
        let (mut chance, names) = (Chance::new(seed), Names::of(program));
        let (mut payload_len, mut last_dst) = (0, None);
        let frames = (0..count).map(|number| {
            let named = match from {
                From::Named(prefix) => Some(prefix),
                From::InTurn(prefix) => Some(prefix).filter(|_| number.is_multiple_of(2)),
                From::Anywhere => None,
            };
            // A cell that the source is about, or any.
            let is_about = |cell: &&Cell| named.is_none_or(|named| cell.src().overlaps(named));
            let cells = executable.cells().iter();
            let mut fit: Vec<&Cell> = cells.clone().filter(is_about).collect();
            if fit.is_empty() {
                fit = cells.collect();
            }
            let cell = fit[number % fit.len()];
            let turn = number / fit.len();
            let same =
                last_dst.filter(|&dst| matches!(from, From::InTurn(_)) && number % 2 == 1 && cell.dst().contains(dst));
            let dst = same.unwrap_or_else(|| within(cell.dst(), turn, &mut chance));
            last_dst = Some(dst);
            // The narrower of the two.
            let narrow = named.filter(|named| cell.src().covers(*named)).unwrap_or(cell.src());
            let src = within(narrow, turn, &mut chance);
            let above = kind.above();
            let headers_len = frames::transport_at(dst) - frames::ETHERNET_LEN + frames::transport_len(above);
            let longest = (packet_len - headers_len).min(kind.content_len_max());
            let payload = content(program, kind, number, longest, &mut chance);
            payload_len = payload.len() as u32;
            let in_turn = |ports: &[u16]| ports.get(number % ports.len().max(1)).copied();
            let to = port.or_else(|| in_turn(&names.dst_ports)).unwrap_or(OTHER_PORT);
            // Flows differ by their source ports, datagrams come from those that the program names.
            let own = 1024 + if kind == Kind::OneFlow { 0 } else { number as u16 };
            let of_udp = in_turn(&names.src_ports).filter(|_| above == Above::Udp);
            let ports = [of_udp.unwrap_or(own), to];
            let macs = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
            let spec = Spec { macs, src, dst, ports, ttl: 64, may_be_cut: false, above, payload: &payload };
            let frame = frames::frame(&spec);
            let headers = headers(&frame).expect("it was made to be sound");
            (frame, headers)
        });
        let mut frames: Vec<(Vec<u8>, Headers)> = frames.collect();
        if kind == Kind::OneFlow {
            let first = frames[0].clone();
            frames.fill(first);
        }
        Traffic { frames, kind, payload_len, turn: 0 }
    }

    /// The packets as they come next.
    pub fn go_on(&mut self) {
        let (turn, count, len) = (self.turn, self.frames.len() as u32, self.payload_len);
        self.turn = turn.wrapping_add(1);
        if !matches!(self.kind.above(), Above::Tcp { .. }) {
            return;
        }
        for (number, (frame, headers)) in (0u32..).zip(&mut self.frames) {
            let at = usize::from(headers.l4_offset);
            let seq = match self.kind {
                Kind::OneFlow => turn.wrapping_mul(count).wrapping_add(number).wrapping_mul(len),
                Kind::Gaps => (turn ^ number << 16).wrapping_mul(0x9e37_79b1) % SPAN,
                Kind::NewFlows | Kind::Openings => 0,
                _ => turn.wrapping_mul(len),
            };
            frame[at + 4..at + 8].copy_from_slice(&seq.wrapping_add(FIRST_SEQ).to_be_bytes());
            if matches!(self.kind, Kind::NewFlows | Kind::Openings) {
                frame[at..at + 2]
                    .copy_from_slice(&(turn.wrapping_mul(count).wrapping_add(number) as u16).to_be_bytes());
            }
        }
    }

    /// The packets, as a program is given them.
    pub fn packets(&self) -> impl Iterator<Item = (&[u8], &Headers)> {
        self.frames.iter().map(|(frame, headers)| (&frame[..], headers))
    }
}

/// What a program's selections and conditions name, in order.
#[derive(Default)]
struct Names {
    /// Prefixes and addresses of sources.
    sources: Vec<Prefix>,
    /// The first of each range of source ports.
    src_ports: Vec<u16>,
    /// The same of destination ports, behind one that no program names.
    dst_ports: Vec<u16>,
}

impl Names {
    fn of(program: &Program) -> Names {
        let mut names = Names { dst_ports: vec![OTHER_PORT], ..Names::default() };
        names.of_block(program.body());
        names.sources.dedup();
        names
    }
    fn of_block(&mut self, block: &[Instr]) {
        for instr in block {
            match instr {
                Instr::Select { test, .. } => self.of_test(test),
                Instr::If { cond, .. } | Instr::While { cond, .. } => self.of_cond(cond),
                _ => {}
            }
            instr.blocks().for_each(|block| self.of_block(block));
        }
    }
    fn of_test(&mut self, test: &Test) {
        match test {
            Test::In { field: Field::Src, addrs } => self.sources.extend(addrs.prefixes.prefixes()),
            Test::Number { number: Number::SrcPort, ranges } => self.src_ports.extend(firsts(ranges)),
            Test::Number { number: Number::DstPort, ranges } => self.dst_ports.extend(firsts(ranges)),
            Test::Not { a } => self.of_test(a),
            Test::And { a, b } | Test::Or { a, b } => {
                self.of_test(a);
                self.of_test(b);
            }
            _ => {}
        }
    }
    fn of_cond(&mut self, cond: &Cond) {
        match cond {
            Cond::AddrIn { addrs, .. } => self.sources.extend(addrs.prefixes.prefixes()),
            Cond::AddrIs { is: AddrTerm::Const { addr }, .. } => self.sources.push(Prefix::host(*addr)),
            Cond::Not { cond } => self.of_cond(cond),
            Cond::And { a, b } | Cond::Or { a, b } => {
                self.of_cond(a);
                self.of_cond(b);
            }
            _ => {}
        }
    }
}

fn firsts(ranges: &Ranges) -> impl Iterator<Item = u16> {
    ranges.ranges().iter().filter_map(|&(first, _)| u16::try_from(first).ok())
}

/// An address of a prefix; where it holds all, one that programs may be about.
fn within(prefix: Prefix, number: usize, chance: &mut Chance) -> Addr {
    let (base, len) = match (prefix.len(), prefix.addr()) {
        (0, Addr::V4(_)) => (Addr::V4(ANY_V4[number % ANY_V4.len()]), 24),
        (0, Addr::V6(_)) => (Addr::V6(ANY_V6), 64),
        (len, base) => (base, len),
    };
    let host_bits = (base.width() - len).min(8);
    base.offset(chance.below(1 << host_bits) as i64).unwrap_or(base)
}

/// What a packet holds, at most `len` bytes of it.
fn content(program: &Program, kind: Kind, number: usize, len: usize, chance: &mut Chance) -> Vec<u8> {
    let has_words = kind == Kind::WithWords || (kind == Kind::HalfWithWords && number.is_multiple_of(2));
    let mut piece: Vec<u8> = Vec::new();
    for word in program.words() {
        let from = piece.len();
        piece.extend(&word.bytes);
        if !has_words && let Some(last) = piece[from..].last_mut() {
            *last ^= 1;
        }
        piece.push(b' ');
    }
    if piece.is_empty() {
        piece.extend((0..64).map(|_| chance.bits() as u8));
    }
    let mut content: Vec<u8> = piece.iter().copied().cycle().take(len).collect();
    let is_numbered = !matches!(kind, Kind::AlikeUdp | Kind::OneFlow);
    if is_numbered && let Some(front) = content.get_mut(..4) {
        front.copy_from_slice(&(number as u32).to_be_bytes());
    }
    content
}
