//! Frames and programs for tests: built by hand, or at random from a seed that the test prints.

use crate::checksum;
use std::net::IpAddr;
use vinet_trusted::addr::{Addr, AddrExpr, Prefix, PrefixSet, Principal};
use vinet_trusted::packet::{Field, Number, Ranges, Test};
use vinet_trusted::program::{AddrTerm, Cond, Expr, Instr, Program, SLOTS_MAX, Slot, Type, Word};

/// SplitMix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
    pub(crate) fn bytes(&mut self, len: usize, alphabet: &[u8]) -> Vec<u8> {
        (0..len).map(|_| *self.pick(alphabet)).collect()
    }
}

/// A seed for this run, printed; `VINET_TEST_SEED` repeats one.
pub(crate) fn seed(test: &str) -> u64 {
    let given = std::env::var("VINET_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        use std::hash::BuildHasher;
        std::hash::RandomState::new().hash_one(test) >> 16
    });
    println!("{test}: VINET_TEST_SEED={seed}");
    seed
}

pub(crate) fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().expect("an address").into()
}

pub(crate) fn prefix(text: &str) -> Prefix {
    let (address, len) = text.split_once('/').unwrap_or((text, ""));
    let address = addr(address);
    Prefix::new(address, len.parse().unwrap_or(address.width())).expect("a prefix without host bits")
}

/// What a frame carries behind its IP header.
#[derive(Clone, Debug)]
pub(crate) enum Carried {
    Tcp { ports: (u16, u16), seq: u32, flags: u8, payload: Vec<u8> },
    Udp { ports: (u16, u16), payload: Vec<u8> },
    Other { protocol: u8, payload: Vec<u8> },
}

impl Carried {
    fn protocol(&self) -> u8 {
        match self {
            Carried::Tcp { .. } => 6,
            Carried::Udp { .. } => 17,
            Carried::Other { protocol, .. } => *protocol,
        }
    }
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Carried::Tcp { ports, seq, flags, payload } => {
                out.extend(ports.0.to_be_bytes());
                out.extend(ports.1.to_be_bytes());
                out.extend(seq.to_be_bytes());
                out.extend([0, 0, 0, 0, 0x50, *flags, 0x20, 0, 0, 0, 0, 0]);
                out.extend(payload);
            }
            Carried::Udp { ports, payload } => {
                out.extend(ports.0.to_be_bytes());
                out.extend(ports.1.to_be_bytes());
                out.extend((8 + payload.len() as u16).to_be_bytes());
                out.extend([0, 0]);
                out.extend(payload);
            }
            Carried::Other { payload, .. } => out.extend(payload),
        }
        out
    }
}

/// A frame with `tags` (VLAN identifiers, outermost first), `options` bytes of IPv4 options or of an IPv6 destination
/// options header, and, where `fragment` says so, the fragment offset in units of 8 and whether more follow.
pub(crate) fn frame_with(
    src: Addr,
    dst: Addr,
    carried: &Carried,
    tags: &[u16],
    options: usize,
    fragment: Option<(u16, bool)>,
) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (i, tag) in tags.iter().enumerate() {
        frame.extend(if tags.len() - i > 1 { [0x88, 0xa8] } else { [0x81, 0x00] });
        frame.extend(tag.to_be_bytes());
    }
    let body = carried.bytes();
    match (src, dst) {
        (Addr::V4(src), Addr::V4(dst)) => {
            frame.extend([0x08, 0x00]);
            let start = frame.len();
            let header_len = 20 + options.next_multiple_of(4);
            let (offset, more) = fragment.unwrap_or((0, false));
            frame.extend([0x40 | (header_len / 4) as u8, 0]);
            frame.extend(((header_len + body.len()) as u16).to_be_bytes());
            frame.extend([0, 7]);
            frame.extend((offset | if more { 0x2000 } else { 0 }).to_be_bytes());
            frame.extend([64, carried.protocol(), 0, 0]);
            frame.extend(src.to_be_bytes());
            frame.extend(dst.to_be_bytes());
            frame.resize(start + header_len, 1);
            let sum = checksum::of(&frame[start..]);
            frame[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
        }
        (Addr::V6(src), Addr::V6(dst)) => {
            frame.extend([0x86, 0xdd]);
            let mut extensions = Vec::new();
            let mut next = carried.protocol();
            if let Some((offset, more)) = fragment {
                extensions = vec![next, 0];
                extensions.extend((offset << 3 | u16::from(more)).to_be_bytes());
                extensions.extend([0, 0, 0, 9]);
                next = 44;
            }
            if options > 0 {
                let len = (options + 2).next_multiple_of(8);
                let mut header = vec![next, (len / 8 - 1) as u8];
                header.resize(len, 0);
                header.extend(extensions);
                extensions = header;
                next = 60;
            }
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(((extensions.len() + body.len()) as u16).to_be_bytes());
            frame.extend([next, 64]);
            frame.extend(src.to_be_bytes());
            frame.extend(dst.to_be_bytes());
            frame.extend(extensions);
        }
        _ => panic!("a packet has addresses of one family"),
    }
    frame.extend(body);
    frame
}

pub(crate) fn frame(src: Addr, dst: Addr, carried: &Carried) -> Vec<u8> {
    frame_with(src, dst, carried, &[], 0, None)
}

/// A world of few addresses, so that random programs and packets meet.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) owner: Principal,
    pub(crate) sources: Vec<Addr>,
    pub(crate) owned: Vec<Addr>,
    /// What programs write: of the world's addresses and of none, of both families.
    prefixes: Vec<Prefix>,
}

impl World {
    pub(crate) fn random(random: &mut Random) -> World {
        let (sources, base, width) = if random.one_in(2) {
            (["192.0.2.1", "192.0.2.2", "192.0.2.77", "198.51.100.9", "10.0.0.3"], addr("10.0.0.0"), 32)
        } else {
            (["2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::77", "fd00::9", "2001:db8::3"], addr("2001:db8::"), 128)
        };
        let at = |host: u32| match base {
            Addr::V4(a) => Addr::V4(a + host),
            Addr::V6(a) => Addr::V6(a + u128::from(host)),
        };
        let host = random.below(8) as u32;
        let (owner, owned) = if random.one_in(2) {
            (Principal::EndUser(at(host)), vec![at(host)])
        } else {
            let router = Principal::edge_router(at(host), width - 3).expect("a prefix of 8 addresses");
            (router, (0..8).map(at).collect())
        };
        let mut prefixes: Vec<Prefix> = ["0.0.0.0/0", "::/0", "192.0.2.0/24", "192.0.2.0/30", "2001:db8::/31"]
            .into_iter()
            .chain(["2001:db8:1::/48", "10.0.0.0/30", "10.0.0.4/31", "10.0.0.0/8", "2001:db8::4/126", "203.0.113.0/24"])
            .map(prefix)
            .collect();
        prefixes.extend(sources.map(|source| Prefix::host(addr(source))));
        prefixes.extend((0..8).map(|host| Prefix::host(at(host))));
        World { owner, sources: sources.map(addr).to_vec(), owned, prefixes }
    }

    fn addrs(&self, random: &mut Random) -> AddrExpr {
        loop {
            let count = random.below(4);
            let addrs = AddrExpr {
                this_ip: self.owner.this_ip().is_some() && random.one_in(3),
                this_subnet: self.owner.this_subnet().is_some() && random.one_in(4),
                prefixes: PrefixSet::new((0..count).map(|_| *random.pick(&self.prefixes)).collect()),
            };
            if addrs.this_ip || addrs.this_subnet || !addrs.prefixes.is_empty() {
                return addrs;
            }
        }
    }

    /// A program with at most `words_max` words.
    pub(crate) fn program(&self, random: &mut Random, words_max: usize, style: Style) -> Program {
        let mut words: Vec<Word> = Vec::new();
        while words.len() < words_max {
            let len = if random.one_in(12) { 64 } else { 1 + random.below(5) };
            let word = Word { fold: random.one_in(4), bytes: random.bytes(len, b"ab") };
            if !words.contains(&word) {
                words.push(word);
            }
        }
        let mut writer = Writer {
            world: self,
            style,
            words: words.len(),
            used: 0,
            types: vec![Type::Packets],
            fixed: 1,
            first: 0,
            nodes_left: 40,
        };
        let count = 1 + random.below(5);
        let mut assigned = vec![true];
        let mut body = Vec::new();
        if style.lawful {
            let this_ip = self.owner.this_ip().is_some() && random.one_in(2) || self.owner.this_subnet().is_none();
            let addrs = AddrExpr { this_ip, this_subnet: !this_ip, ..AddrExpr::default() };
            let out = writer.new_slot(Type::Packets, true, &mut assigned);
            body.push(Instr::Select { out, arg: 0, test: Test::In { field: Field::Dst, addrs } });
            writer.first = 1;
        }
        body.extend(writer.block(random, count, 0, &mut assigned));
        words.truncate(writer.used);
        Program::new(60, style.window, words, body).expect("a well-formed program")
    }
}

/// What programs to draw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// All that it does is done to packets that it has selected as its owner's, and it generates for the owner alone.
    pub(crate) lawful: bool,
    /// Every construct may occur; otherwise those that a plan can say.
    pub(crate) whole: bool,
    pub(crate) window: u16,
}

/// Writes a random program that is well-formed by construction.
struct Writer<'a> {
    world: &'a World,
    style: Style,
    words: usize,
    used: usize,
    types: Vec<Type>,
    /// Bit s: slot s may not be assigned.
    fixed: u64,
    /// The first slot that is read.
    first: usize,
    nodes_left: usize,
}

impl Writer<'_> {
    fn pick(&self, random: &mut Random, assigned: &[bool], what: impl Fn(Type) -> bool) -> Option<Slot> {
        let fitting: Vec<Slot> =
            (self.first..self.types.len()).filter(|&s| assigned[s] && what(self.types[s])).map(|s| s as Slot).collect();
        (!fitting.is_empty()).then(|| *random.pick(&fitting))
    }

    fn packets(&self, random: &mut Random, assigned: &[bool]) -> Slot {
        self.pick(random, assigned, |ty| ty == Type::Packets).expect("the first slot at least")
    }

    fn target(&mut self, random: &mut Random, ty: Type, assigned: &mut Vec<bool>) -> Slot {
        assigned.resize(self.types.len(), false);
        let again: Vec<usize> =
            (0..self.types.len()).filter(|&s| self.types[s] == ty && self.fixed >> s & 1 == 0).collect();
        if !again.is_empty() && (random.one_in(3) || self.types.len() == SLOTS_MAX) {
            let slot = *random.pick(&again);
            assigned[slot] = true;
            return slot as Slot;
        }
        self.new_slot(ty, false, assigned)
    }

    fn new_slot(&mut self, ty: Type, fixed: bool, assigned: &mut Vec<bool>) -> Slot {
        let slot = self.types.len();
        self.types.push(ty);
        self.fixed |= u64::from(fixed) << slot;
        assigned.resize(slot, false);
        assigned.push(true);
        slot as Slot
    }

    fn block(&mut self, random: &mut Random, count: usize, depth: usize, assigned: &mut Vec<bool>) -> Vec<Instr> {
        (0..count).map(|_| self.instr(random, depth, assigned)).collect()
    }

    fn test(&self, random: &mut Random, depth: usize, assigned: &[bool]) -> Test {
        let field = if random.one_in(2) { Field::Src } else { Field::Dst };
        let below = |writer: &Self, random: &mut Random| Box::new(writer.test(random, depth + 1, assigned));
        match random.below(if depth >= 3 { 9 } else { 14 }) {
            0..=4 => Test::In { field, addrs: self.world.addrs(random) },
            5 | 6 => {
                let number = *random.pick(&Number::ALL);
                let first = match number {
                    Number::Protocol => *random.pick(&[6, 17, 132]),
                    Number::SrcPort | Number::DstPort => *random.pick(&[5, 6, 25, 1000, 1001]),
                    Number::Length => 40 + random.below(60) as u32,
                    _ => random.below(2) as u32,
                };
                let mut ranges = vec![(first, first + random.below(2) as u32 * random.below(40) as u32)];
                if random.one_in(3) {
                    ranges.push((60_000, 65_535));
                }
                Test::Number { number, ranges: Ranges::new(ranges).expect("ranges") }
            }
            7 => match self.pick(random, assigned, |ty| ty == Type::Addr) {
                Some(slot) => Test::Is { field, slot },
                None => Test::Owns { field },
            },
            8 => [Test::True, Test::False, Test::Owns { field }][random.below(3)].clone(),
            9 | 10 => Test::Not { a: below(self, random) },
            11 | 12 => Test::And { a: below(self, random), b: below(self, random) },
            _ => Test::Or { a: below(self, random), b: below(self, random) },
        }
    }

    fn expr(&self, random: &mut Random, depth: usize, assigned: &[bool]) -> Expr {
        let below = |random: &mut Random| Box::new(self.expr(random, depth + 1, assigned));
        match random.below(if depth >= 3 { 4 } else { 7 }) {
            0 | 1 => Expr::Const { value: random.below(9) as i64 - 3 },
            2 if random.one_in(12) => Expr::Const { value: *random.pick(&[i64::MIN, i64::MAX, 1 << 40]) },
            2 | 3 => match self.pick(random, assigned, |ty| ty == Type::Int) {
                Some(slot) => Expr::Slot { slot },
                None => Expr::Const { value: 1 },
            },
            4 => Expr::Add { a: below(random), b: below(random) },
            5 => Expr::Sub { a: below(random), b: below(random) },
            _ => Expr::Mul { a: below(random), b: below(random) },
        }
    }

    fn term(&self, random: &mut Random, assigned: &[bool]) -> AddrTerm {
        match (random.below(5), self.pick(random, assigned, |ty| ty == Type::Addr)) {
            (0, _) if self.world.owner.this_ip().is_some() => AddrTerm::ThisIp,
            (1, _) if self.world.owner.this_subnet().is_some() => AddrTerm::ThisSubnet,
            (2 | 3, Some(slot)) => AddrTerm::Slot { slot },
            _ => AddrTerm::Const { addr: *random.pick(&self.world.sources) },
        }
    }

    fn instr(&mut self, random: &mut Random, depth: usize, assigned: &mut Vec<bool>) -> Instr {
        let packets = self.packets(random, assigned);
        let field = if random.one_in(2) { Field::Src } else { Field::Dst };
        self.nodes_left = self.nodes_left.saturating_sub(1);
        let room = self.types.len() + 3 < SLOTS_MAX;
        let nested = depth < 4 && self.nodes_left > 0 && room;
        if self.style.whole && room && random.one_in(2) {
            return self.rich(random, depth, nested, assigned);
        }
        match random.below(if nested { 14 } else { 8 }) {
            0 | 1 if room => {
                let test = self.test(random, 0, assigned);
                Instr::Select { out: self.target(random, Type::Packets, assigned), arg: packets, test }
            }
            2 | 3 if room => {
                Instr::Partition { out: self.target(random, Type::Groups(field), assigned), arg: packets, field }
            }
            kind @ (4 | 5) if room => {
                let b = self.packets(random, assigned);
                let out = self.target(random, Type::Packets, assigned);
                if kind == 4 { Instr::Union { out, a: packets, b } } else { Instr::Minus { out, a: packets, b } }
            }
            8..=10 => {
                let cond = self.cond(random, depth + 1, assigned);
                let mut then_assigned = assigned.clone();
                let count = random.below(4);
                let then = self.block(random, count, depth + 1, &mut then_assigned);
                assigned.resize(self.types.len(), false);
                let count = random.below(3);
                let otherwise = self.block(random, count, depth + 1, assigned);
                then_assigned.resize(self.types.len(), false);
                assigned.resize(self.types.len(), false);
                assigned.iter_mut().zip(&then_assigned).for_each(|(a, b)| *a &= *b);
                Instr::If { cond, then, otherwise }
            }
            11..=13 => match self.pick(random, assigned, |ty| matches!(ty, Type::Groups(_))) {
                Some(groups) => {
                    let mut inside = assigned.clone();
                    let packets = self.new_slot(Type::Packets, true, &mut inside);
                    let key = self.new_slot(Type::Addr, true, &mut inside);
                    let count = 1 + random.below(3);
                    let body = self.block(random, count, depth + 1, &mut inside);
                    assigned.resize(self.types.len(), false);
                    Instr::Foreach { groups, packets, key, body }
                }
                None => Instr::Discard { arg: packets },
            },
            // A discard that nothing guards leaves nothing to decide about content.
            _ if depth == 0 && self.words > 0 && !random.one_in(8) => {
                let cond = self.cond(random, depth + 1, assigned);
                Instr::If { cond, then: vec![Instr::Discard { arg: packets }], otherwise: vec![] }
            }
            _ => Instr::Discard { arg: packets },
        }
    }

    /// What a plan cannot say. There is room for three slots more.
    fn rich(&mut self, random: &mut Random, depth: usize, nested: bool, assigned: &mut Vec<bool>) -> Instr {
        let arg = self.packets(random, assigned);
        match random.below(if nested { 10 } else { 8 }) {
            0 => Instr::Content {
                dests: self.target(random, Type::Dests, assigned),
                contents: self.target(random, Type::Contents, assigned),
                arg,
            },
            1 if self.words > 0 => {
                let word = self.word(random);
                Instr::Count { out: self.target(random, Type::Int, assigned), arg, word }
            }
            1 | 2 => Instr::Size { out: self.target(random, Type::Int, assigned), arg },
            3 | 4 => {
                let expr = self.expr(random, 0, assigned);
                Instr::Let { out: self.target(random, Type::Int, assigned), expr }
            }
            5 => {
                let (base, by) = (self.term(random, assigned), self.expr(random, 2, assigned));
                Instr::Offset { out: self.target(random, Type::Addr, assigned), base, by }
            }
            6 | 7 => match self.pick(random, assigned, |ty| matches!(ty, Type::Dests | Type::Contents)) {
                Some(data) => {
                    let dst = match self.style.lawful {
                        true => AddrTerm::Const { addr: *random.pick(&self.world.owned) },
                        false => self.term(random, assigned),
                    };
                    Instr::Generate { src: self.term(random, assigned), dst, data }
                }
                None => Instr::Discard { arg },
            },
            _ => {
                // Most of them count to a bound.
                let count_up = self.pick(random, assigned, |ty| ty == Type::Int).filter(|_| !random.one_in(5));
                let cond = match count_up {
                    Some(slot) => {
                        Cond::AtMost { a: Expr::Slot { slot }, b: Expr::Const { value: random.below(6) as i64 } }
                    }
                    None => self.cond(random, depth + 1, assigned),
                };
                let mut inside = assigned.clone();
                let count = random.below(3);
                let mut body = self.block(random, count, depth + 1, &mut inside);
                body.extend(count_up.map(|out| {
                    let step = Expr::Const { value: 1 + random.below(3) as i64 };
                    Instr::Let { out, expr: Expr::Add { a: Box::new(Expr::Slot { slot: out }), b: Box::new(step) } }
                }));
                assigned.resize(self.types.len(), false);
                Instr::While { cond, max: 1 + random.below(6) as u32, body }
            }
        }
    }

    fn cond(&mut self, random: &mut Random, depth: usize, assigned: &[bool]) -> Cond {
        let key = self.pick(random, assigned, |ty| ty == Type::Addr);
        let below = |writer: &mut Self, random: &mut Random| Box::new(writer.cond(random, depth + 1, assigned));
        match (random.below(if depth >= 7 { 5 } else { 10 }), key) {
            (0, Some(addr)) => Cond::AddrIn { addr, addrs: self.world.addrs(random) },
            (1, Some(addr)) => {
                let is = match self.style.whole {
                    true => self.term(random, assigned),
                    false => AddrTerm::Const { addr: *random.pick(&self.world.sources) },
                };
                Cond::AddrIs { addr, is }
            }
            (2, _) if self.style.whole => {
                let (a, b) = (self.expr(random, 1, assigned), self.expr(random, 1, assigned));
                if random.one_in(3) { Cond::Equal { a, b } } else { Cond::AtMost { a, b } }
            }
            (5, _) => Cond::Not { cond: below(self, random) },
            (6 | 7, _) => Cond::And { a: below(self, random), b: below(self, random) },
            (8, _) => Cond::Or { a: below(self, random), b: below(self, random) },
            (9, _) => Cond::Empty { arg: self.packets(random, assigned) },
            _ if self.words > 0 => {
                let arg = self.packets(random, assigned);
                Cond::Contains { arg, word: self.word(random) }
            }
            (_, Some(addr)) => Cond::AddrIn { addr, addrs: self.world.addrs(random) },
            _ => Cond::Empty { arg: self.packets(random, assigned) },
        }
    }

    fn word(&mut self, random: &mut Random) -> u8 {
        let word = random.below((self.used + 1).min(self.words));
        self.used = self.used.max(word + 1);
        word as u8
    }
}

/// Traffic of a few flows whose segments come in every order, again, overlapping and disagreeing.
#[derive(Debug)]
pub(crate) struct Traffic<'a> {
    world: &'a World,
    /// Where each TCP flow's numbers start: some just before they wrap.
    starts: Vec<u32>,
    next: Vec<u32>,
}

impl<'a> Traffic<'a> {
    pub(crate) fn new(world: &'a World, random: &mut Random) -> Traffic<'a> {
        let starts: Vec<u32> = (0..2).map(|_| (random.next() as u32 % 400).wrapping_sub(200)).collect();
        Traffic { world, next: starts.clone(), starts }
    }

    pub(crate) fn frame(&mut self, random: &mut Random) -> Vec<u8> {
        let src = *random.pick(&self.world.sources);
        let dst = *random.pick(&self.world.owned);
        let tags = [&[][..], &[], &[], &[5], &[7, 9]][random.below(5)];
        let options = if random.one_in(8) { 1 + random.below(20) } else { 0 };
        let len = match random.below(4) {
            0 => 1,
            1 => random.below(4),
            2 => random.below(12),
            _ => random.below(90),
        };
        let alphabet = *random.pick(&[&b"a"[..], b"ab", b"ab", b"abAB"]);
        let payload = random.bytes(len, alphabet);
        match random.below(12) {
            0 => {
                let payload = if random.one_in(2) { payload } else { b"to all"[..random.below(7)].to_vec() };
                frame_with(src, dst, &Carried::Udp { ports: (5, 6), payload }, tags, options, None)
            }
            1 => frame_with(src, dst, &Carried::Other { protocol: 132, payload }, tags, options, None),
            2 => {
                let more = random.one_in(2);
                let offset = if more && random.one_in(2) { 0 } else { 1 + random.below(5) as u16 };
                let tcp = Carried::Tcp { ports: (5, 6), seq: 9, flags: 0x10, payload };
                frame_with(src, dst, &tcp, tags, options, Some((offset, more)))
            }
            _ => {
                let flow = random.below(self.starts.len());
                let seq = match random.below(4) {
                    0 | 1 => self.next[flow],
                    2 => self.next[flow].wrapping_sub(random.below(40) as u32),
                    _ => self.starts[flow].wrapping_sub(20).wrapping_add(random.below(300) as u32),
                };
                let syn = random.one_in(10);
                let flags = 0x10 | if syn { 2 } else { 0 } | u8::from(random.one_in(10));
                let (from, fragment) = (seq.wrapping_sub(u32::from(syn)), None);
                self.next[flow] = seq.wrapping_add(payload.len() as u32);
                let tcp = Carried::Tcp { ports: (1000 + flow as u16, 25), seq: from, flags, payload };
                frame_with(src, dst, &tcp, tags, options, fragment)
            }
        }
    }
}
