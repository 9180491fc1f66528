//! Traffic that is hard for one program: maximal packets between the addresses that it is about.

use crate::frames::{self, Above, Spec};
use crate::verify::chance::Chance;
use vinet_pktops::Executable;
use vinet_pktops::parse::{Headers, headers};
use vinet_trusted::addr::{Addr, Prefix};
use vinet_trusted::packet::{Field, Test};
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

/// One choice of traffic for a program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hard {
    /// In which way it is hard.
    pub kind: Kind,
    /// The destination port; 0 stands for each of [`PORTS`] in turn.
    pub port: u16,
    /// Where it is from: a prefix that the program names, or wherever it meets the program.
    pub from: Option<Prefix>,
}

impl Hard {
    /// Every choice for a program.
    pub fn all(program: &Program) -> Vec<Hard> {
        let mut froms = vec![None];
        froms.extend(named(program.body()).into_iter().map(Some));
        froms.truncate(1 + NAMED_MAX);
        let mut all = Vec::new();
        for kind in Kind::ALL {
            for port in PORTS {
                all.extend(froms.iter().map(|&from| Hard { kind, port, from }));
            }
        }
        all
    }
    /// In words.
    pub fn name(&self) -> String {
        match self.port {
            0 => format!("{}, several ports", self.kind.name()),
            port => format!("{}, port {port}", self.kind.name()),
        }
    }
}

/// Destination ports that shipped programs ask for, and one that none asks for. 0 stands for each in turn.
const PORTS: [u16; 9] = [0, 25, 53, 80, 443, 445, 5000, 23, 9];
/// How many of the prefixes that a program names are tried.
const NAMED_MAX: usize = 4;
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
        let mut chance = Chance::new(seed);
        let cells = executable.cells();
        let mut payload_len = 0;
        let frames = (0..count).map(|number| {
            let cell = &cells[number % cells.len()];
            let dst = within(cell.dst(), number / cells.len(), &mut chance);
            let is_fit = |from: &Prefix| from.addr().width() == dst.width() && cell.src().overlaps(*from);
            let from = from.filter(is_fit).unwrap_or(cell.src());
            let src = within(from, number / cells.len(), &mut chance);
            let above = kind.above();
            let headers_len = frames::transport_at(dst) - frames::ETHERNET_LEN + frames::transport_len(above);
            let longest = (packet_len - headers_len).min(kind.content_len_max());
            let payload = content(program, kind, number, longest, &mut chance);
            payload_len = payload.len() as u32;
            let port = if port == 0 { PORTS[1 + number % (PORTS.len() - 1)] } else { port };
            let (ports, macs) = ([1024 + number as u16, port], [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]]);
            let (src, ports) = if kind == Kind::OneFlow { (src, [1024, port]) } else { (src, ports) };
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

/// The prefixes and addresses that a program's selections and conditions name, in order.
fn named(body: &[Instr]) -> Vec<Prefix> {
    let mut found = Vec::new();
    for instr in body {
        match instr {
            Instr::Select { test, .. } => of_test(test, &mut found),
            Instr::If { cond, .. } | Instr::While { cond, .. } => of_cond(cond, &mut found),
            _ => {}
        }
        for block in instr.blocks() {
            found.extend(named(block));
        }
    }
    found.dedup();
    found
}

fn of_test(test: &Test, found: &mut Vec<Prefix>) {
    match test {
        Test::In { field: Field::Src, addrs } => found.extend(addrs.prefixes.prefixes()),
        Test::Not { a } => of_test(a, found),
        Test::And { a, b } | Test::Or { a, b } => {
            of_test(a, found);
            of_test(b, found);
        }
        _ => {}
    }
}

fn of_cond(cond: &Cond, found: &mut Vec<Prefix>) {
    match cond {
        Cond::AddrIn { addrs, .. } => found.extend(addrs.prefixes.prefixes()),
        Cond::AddrIs { is: AddrTerm::Const { addr }, .. } => found.push(Prefix::host(*addr)),
        Cond::Not { cond } => of_cond(cond, found),
        Cond::And { a, b } | Cond::Or { a, b } => {
            of_cond(a, found);
            of_cond(b, found);
        }
        _ => {}
    }
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
