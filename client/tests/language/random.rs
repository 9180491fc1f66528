//! Random texts and random programs.

use super::{FIREWALL, SPAM, router, settings};
use vinet_client::disasm::listing;
use vinet_client::lang::{Cause, Diagnostic, compile, format};
use vinet_trusted::addr::{Addr, Prefix, PrefixSet};
use vinet_trusted::packet::{Number, Packet, Ranges, Test};
use vinet_trusted::program::{
    AddrExpr, AddrTerm, COUNT_MAX, Cond, Expr, Field, Instr, LOOP_MAX, Program, Slot, Type, WINDOW_MAX, Word,
};

/// A small generator of numbers (SplitMix64), so that a seed names a run.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

#[test]
fn no_text_makes_the_compiler_panic() {
    let seed = 0x5eed_0001;
    println!("seed {seed:#x}");
    let mut numbers = Numbers(seed);
    let parts = [
        "LIFETIME",
        "=",
        "2",
        "days",
        ";",
        "foreach",
        "i",
        "do",
        "if",
        "then",
        "else",
        "begin",
        "end",
        "and",
        "or",
        "not",
        "in",
        "(",
        ")",
        "{",
        "}",
        ",",
        "!=",
        "THIS_IP",
        "THIS_SUBNET_IP",
        "GROUP_BY_SOURCE",
        "GROUP_BY_DESTINATION",
        "DISCARD",
        "CONTAINS_STRING",
        "AllPackets",
        "A",
        "B(i)",
        "P(i)",
        "10.0.0.1",
        "2001:db8::/32",
        "10.0.0.1/8",
        "\"x\"",
        "\"",
        "\\",
        "é",
        "\n",
        "#",
        "//",
        "/",
        ":",
        "::",
        "1.2",
        "\u{0}",
        "while",
        "max",
        "variant",
        "invariant",
        "to",
        "as",
        "is",
        "+",
        "-",
        "*",
        "<",
        ">=",
        "..",
        "SELECT",
        "SIZE",
        "SCORE",
        "FOLD",
        "OFFSET",
        "UNION",
        "EMPTY",
        "GENERATE",
        "GROUP_BY_CONTENT",
        "WINDOW",
        "packets",
        "dstport",
        "1e9",
        "0x10",
        "\u{feff}",
    ];
    let statements = [
        "A = GROUP_BY_SOURCE(A, 10.0.0.1);",
        "A = GROUP_BY_DESTINATION(AllPackets, THIS_IP);",
        "B = GROUP_BY_SOURCE(A, SrcIP);",
        "P(i) = GROUP_BY_SOURCE(A);",
        "K(j), Q(j) = GROUP_BY_DESTINATION(A);",
        "K(j), Q(j) = GROUP_BY_DESTINATION(P(i));",
        "foreach i do",
        "foreach j do begin",
        "begin",
        "end",
        "end",
        "else",
        "if CONTAINS_STRING(A, Word1) then",
        "if CONTAINS_STRING(P(i), \"w\") or K(j) != 10.0.0.0/8 then begin",
        "A = MINUS(A, B);",
        "A = SELECT(A, dstport in {25, 80..90} and not (syn or dst = h));",
        "A = SELECT(P(i), src = K(j) or length < 100);",
        "B = A;",
        "n = SIZE(A) * 2 - COUNT_STRING(A, Word2);",
        "n = n + 1;",
        "n = SCORE(A, {\"a\" 1, FOLD(Word1) -2});",
        "h = OFFSET(THIS_SUBNET_IP, n);",
        "h = K(j);",
        "D, C = GROUP_BY_CONTENT(A);",
        "GENERATE(h, THIS_IP, C);",
        "while n < 5 max 9 do",
        "while not EMPTY(A) variant n invariant n >= 0 invariant A to THIS_IP do begin",
        "foreach i as k do",
        "if SIZE(A) > n and K(j) in {h, 10.0.0.0/8} then",
        "if (n + 1) * 2 <= n or h is THIS_SUBNET_IP then begin",
        "DISCARD(A);",
        "DISCARD(B);",
        "DISCARD(P(i));",
        "DISCARD(Q(j));",
        "DISCARD(AllPackets);",
    ];
    let mut compiled = 0;
    for round in 0..15_000 {
        let text = if round % 3 == 2 {
            let mut text = String::from("LIFETIME = 1 day\n");
            if numbers.below(2) == 0 {
                text.push_str("A = GROUP_BY_DESTINATION(AllPackets, THIS_IP);\nP(i) = GROUP_BY_SOURCE(A);\n");
                text.push_str("n = 1;\nh = THIS_IP;\n");
            }
            for _ in 0..=numbers.below(8) {
                text.push_str(statements[numbers.below(statements.len())]);
                text.push('\n');
            }
            text
        } else if round % 3 == 0 {
            let mut text = String::from("LIFETIME = 1 day\n");
            for _ in 0..numbers.below(40) {
                text.push_str(parts[numbers.below(parts.len())]);
                if numbers.below(3) > 0 {
                    text.push(' ');
                }
            }
            text
        } else {
            let mut chars: Vec<char> = if numbers.below(2) == 0 { SPAM } else { FIREWALL }.chars().collect();
            for _ in 0..=numbers.below(4) {
                let at = numbers.below(chars.len().max(1)).min(chars.len().saturating_sub(1));
                match numbers.below(4) {
                    _ if chars.is_empty() => break,
                    0 => drop(chars.remove(at)),
                    1 => chars[at] = char::from(numbers.below(128) as u8),
                    2 => chars.insert(at, ['(', '"', '\\', 'é', ';', '{', '/', ':'][numbers.below(8)]),
                    _ => chars.truncate(at.max(1)),
                }
            }
            chars.into_iter().collect()
        };
        let mut set = settings(&["SrcIP=10.0.0.1", "Word1=a", "Word2=b"]);
        set.retain(|(name, _)| text.contains(name));
        match compile("r.vnp", &text, &set, &router()) {
            Ok(one) => {
                compiled += 1;
                let tidy = format("r.vnp", &text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
                assert_eq!(format("r.vnp", &tidy).expect("it is formatted"), tidy, "{text}");
                let again =
                    compile("r.vnp", &tidy, &set, &router()).unwrap_or_else(|errors| panic!("{errors}\n{tidy}"));
                assert_eq!((again.program, again.hints), (one.program, one.hints), "{text}\n{tidy}");
            }
            Err(errors) => {
                assert!(!errors.diagnostics().is_empty(), "{text}");
                assert!(!errors.report(round % 2 == 0).is_empty());
                // The compiler finds with its place whatever the bytecode does not allow.
                let refused = |error: &Diagnostic| matches!(error.cause(), Cause::Refused(_));
                assert!(!errors.diagnostics().iter().any(refused), "{errors}\n{text}");
            }
        }
    }
    assert!(compiled > 250, "{compiled} texts compiled");
}

/// A random program, of every construct that the bytecode has.
struct Maker<'a> {
    numbers: &'a mut Numbers,
    slots: Vec<Type>,
    readable: Vec<bool>,
    /// What an instruction may assign again.
    free: Vec<bool>,
    words: Vec<Word>,
    left: usize,
}

impl Maker<'_> {
    fn addr(&mut self) -> Addr {
        let bits = self.numbers.next();
        if bits & 1 == 0 { Addr::V4(bits as u32) } else { Addr::V6(u128::from(bits) << 64 | 7) }
    }
    fn addrs(&mut self) -> AddrExpr {
        let mut prefixes = Vec::new();
        for _ in 0..self.numbers.below(4) {
            let addr = self.addr();
            let len = self.numbers.below(usize::from(addr.width()) + 1) as u8;
            prefixes.extend(Prefix::of(addr, len));
        }
        let this_ip = prefixes.is_empty() || self.numbers.below(4) == 0;
        AddrExpr { this_ip, this_subnet: self.numbers.below(4) == 0, prefixes: PrefixSet::new(prefixes) }
    }
    fn pick(&mut self, what: impl Fn(Type) -> bool) -> Option<Slot> {
        let fit: Vec<Slot> =
            (0..self.slots.len()).filter(|&i| self.readable[i] && what(self.slots[i])).map(|i| i as Slot).collect();
        if fit.is_empty() { None } else { Some(fit[self.numbers.below(fit.len())]) }
    }
    fn packets(&mut self) -> Slot {
        self.pick(|ty| ty == Type::Packets).expect("AllPackets")
    }
    fn new_slot(&mut self, ty: Type, free: bool) -> Slot {
        self.slots.push(ty);
        self.readable.push(true);
        self.free.push(free);
        (self.slots.len() - 1) as Slot
    }
    /// A slot to assign: a new one, or one that is there.
    fn target(&mut self, ty: Type) -> Slot {
        let fit: Vec<usize> = (0..self.slots.len()).filter(|&i| self.free[i] && self.slots[i] == ty).collect();
        if fit.is_empty() || self.numbers.below(3) > 0 {
            return self.new_slot(ty, true);
        }
        let slot = fit[self.numbers.below(fit.len())];
        self.readable[slot] = true;
        slot as Slot
    }
    fn word(&mut self) -> u8 {
        let mut bytes: Vec<u8> = (0..=self.numbers.below(3)).map(|_| self.numbers.next() as u8).collect();
        let fold = self.numbers.below(3) == 0;
        if fold {
            bytes.push(b'q');
            bytes.make_ascii_lowercase();
        }
        let word = Word { fold, bytes };
        let index = self.words.iter().position(|known| *known == word).unwrap_or_else(|| {
            self.words.push(word);
            self.words.len() - 1
        });
        index as u8
    }
    fn field(&mut self) -> Field {
        if self.numbers.below(2) == 0 { Field::Src } else { Field::Dst }
    }
    fn term(&mut self) -> AddrTerm {
        match (self.numbers.below(4), self.pick(|ty| ty == Type::Addr)) {
            (0, _) => AddrTerm::ThisIp,
            (1, _) => AddrTerm::ThisSubnet,
            (2, Some(slot)) => AddrTerm::Slot { slot },
            _ => AddrTerm::Const { addr: self.addr() },
        }
    }
    fn expr(&mut self, depth: usize) -> Expr {
        let part = |maker: &mut Self| Box::new(maker.expr(depth + 1));
        match (self.numbers.below(if depth > 3 { 2 } else { 5 }), self.pick(|ty| ty == Type::Int)) {
            (0, Some(slot)) => Expr::Slot { slot },
            (2, _) => Expr::Add { a: part(self), b: part(self) },
            (3, _) => Expr::Sub { a: part(self), b: part(self) },
            (4, _) => Expr::Mul { a: part(self), b: part(self) },
            _ => {
                let bits = self.numbers.next() as i64;
                let value = [bits, bits % 9, i64::MIN, i64::MAX, COUNT_MAX][self.numbers.below(5)];
                Expr::Const { value }
            }
        }
    }
    fn cond(&mut self, depth: usize) -> Cond {
        let part = |maker: &mut Self| Box::new(maker.cond(depth + 1));
        match self.numbers.below(if depth > 3 { 6 } else { 9 }) {
            0 => Cond::Contains { arg: self.packets(), word: self.word() },
            1 => Cond::Empty { arg: self.packets() },
            2 => Cond::AtMost { a: self.expr(0), b: self.expr(0) },
            3 => Cond::Equal { a: self.expr(0), b: self.expr(0) },
            what @ (4 | 5) => match self.pick(|ty| ty == Type::Addr) {
                Some(addr) if what == 4 => Cond::AddrIn { addr, addrs: self.addrs() },
                Some(addr) => Cond::AddrIs { addr, is: self.term() },
                None => Cond::Empty { arg: self.packets() },
            },
            6 => Cond::Not { cond: part(self) },
            7 => Cond::And { a: part(self), b: part(self) },
            _ => Cond::Or { a: part(self), b: part(self) },
        }
    }
    fn test(&mut self, depth: usize) -> Test {
        let part = |maker: &mut Self| Box::new(maker.test(depth + 1));
        match self.numbers.below(if depth > 3 { 7 } else { 10 }) {
            0 => Test::True,
            1 => Test::False,
            2 => Test::Owns { field: self.field() },
            3 => Test::In { field: self.field(), addrs: self.addrs() },
            4 => match self.pick(|ty| ty == Type::Addr) {
                Some(slot) => Test::Is { field: self.field(), slot },
                None => Test::True,
            },
            5 | 6 => {
                let number = Number::ALL[self.numbers.below(10)];
                let mut ranges = Vec::new();
                for _ in 0..=self.numbers.below(3) {
                    let first = self.numbers.next() as u32 >> self.numbers.below(32);
                    let first = first.min(Packet::ABSENT - 1);
                    let last = first.saturating_add(self.numbers.below(3) as u32 * 40).min(Packet::ABSENT - 1);
                    ranges.push((first, last));
                }
                Test::Number { number, ranges: Ranges::new(ranges).expect("ranges") }
            }
            7 => Test::Not { a: part(self) },
            8 => Test::And { a: part(self), b: part(self) },
            _ => Test::Or { a: part(self), b: part(self) },
        }
    }
    /// A block of a loop: what it assigns may not be assigned behind it.
    fn inner(&mut self, depth: usize) -> Vec<Instr> {
        let before = self.readable.clone();
        let body = self.block(depth + 1);
        self.readable = before;
        self.readable.resize(self.slots.len(), false);
        body
    }
    fn block(&mut self, depth: usize) -> Vec<Instr> {
        let mut block = Vec::new();
        for _ in 0..self.numbers.below(5) {
            if self.left == 0 || self.slots.len() > 50 || self.words.len() > 40 {
                break;
            }
            self.left -= 1;
            block.extend(self.instr(depth));
        }
        block
    }
    fn instr(&mut self, depth: usize) -> Option<Instr> {
        // Arguments come before the target: it may not be assigned before.
        Some(match self.numbers.below(if depth > 3 { 11 } else { 17 }) {
            0 => {
                let (arg, test) = (self.packets(), self.test(0));
                Instr::Select { arg, test, out: self.target(Type::Packets) }
            }
            1 | 2 => {
                let (arg, field) = (self.packets(), self.field());
                Instr::Partition { arg, field, out: self.target(Type::Groups(field)) }
            }
            3 => {
                let arg = self.packets();
                Instr::Content { arg, dests: self.target(Type::Dests), contents: self.target(Type::Contents) }
            }
            4 => {
                let (a, b) = (self.packets(), self.packets());
                let out = self.target(Type::Packets);
                if self.numbers.below(2) == 0 { Instr::Union { out, a, b } } else { Instr::Minus { out, a, b } }
            }
            5 => {
                let (arg, word) = (self.packets(), self.word());
                Instr::Count { arg, word, out: self.target(Type::Int) }
            }
            6 => {
                let arg = self.packets();
                Instr::Size { arg, out: self.target(Type::Int) }
            }
            7 => {
                let expr = self.expr(0);
                Instr::Let { expr, out: self.target(Type::Int) }
            }
            8 => {
                let (base, by) = (self.term(), self.expr(0));
                Instr::Offset { base, by, out: self.target(Type::Addr) }
            }
            9 => Instr::Discard { arg: self.packets() },
            10 => {
                let data = self.pick(|ty| matches!(ty, Type::Dests | Type::Contents))?;
                Instr::Generate { src: self.term(), dst: self.term(), data }
            }
            11 | 12 => {
                let cond = self.cond(0);
                let before = self.readable.clone();
                let then = self.block(depth + 1);
                let after_then = std::mem::replace(&mut self.readable, before);
                self.readable.resize(self.slots.len(), false);
                let otherwise = self.block(depth + 1);
                for (slot, readable) in self.readable.iter_mut().enumerate() {
                    *readable &= after_then.get(slot).copied().unwrap_or(false);
                }
                Instr::If { cond, then, otherwise }
            }
            13 => {
                let (cond, max) = (self.cond(0), 1 + self.numbers.below(LOOP_MAX as usize) as u32);
                Instr::While { cond, max, body: self.inner(depth) }
            }
            _ => {
                let groups = self.pick(|ty| matches!(ty, Type::Groups(_)))?;
                let before = self.readable.clone();
                let (packets, key) = (self.new_slot(Type::Packets, false), self.new_slot(Type::Addr, false));
                let body = self.block(depth + 1);
                self.readable = before;
                self.readable.resize(self.slots.len(), false);
                Instr::Foreach { groups, packets, key, body }
            }
        })
    }
}

fn random_program(numbers: &mut Numbers) -> Program {
    let left = 3 + numbers.below(25);
    let lifetime_s = 1 + numbers.below(1_000_000) as u32;
    let window = [0, 1, 1 + numbers.below(usize::from(WINDOW_MAX)) as u16][numbers.below(3)];
    let (slots, readable, free) = (vec![Type::Packets], vec![true], vec![false]);
    let mut maker = Maker { numbers, slots, readable, free, words: vec![], left };
    let body = maker.block(0);
    let words = maker.words;
    Program::new(lifetime_s, window, words, body).expect("a well-formed program")
}

#[test]
fn a_listing_compiles_to_the_bytes_that_it_lists() {
    let seed = 0x5eed_0002;
    println!("seed {seed:#x}");
    let mut numbers = Numbers(seed);
    let mut instructions = 0;
    let mut all = String::new();
    for round in 0..3_000 {
        let program = random_program(&mut numbers);
        if round < 300 {
            all += &format!("{:?} {:?}", program.body(), program.words());
        }
        let text = listing(&program);
        assert_eq!(text, listing(&Program::decode(&program.encode()).expect("decodes")));
        let again =
            compile("l.vnp", &text, &[], &router()).unwrap_or_else(|errors| panic!("round {round}: {errors}\n{text}"));
        assert_eq!(again.program.encode(), program.encode(), "round {round}\n{text}");
        // The numbers in the listing are those of the map.
        for (number, place) in again.map.instructions.iter().enumerate() {
            let line = text.lines().nth(place.line - 1).expect("the line");
            assert!(line.ends_with(&format!("# {number}")), "round {round}: {line}");
        }
        instructions += again.map.instructions.len();
    }
    assert!(instructions > 6_000, "{instructions} instructions were listed");
    for construct in [
        "Select",
        "Partition",
        "Content",
        "Union",
        "Minus",
        "Count",
        "Size",
        "Let",
        "Offset",
        "Discard",
        "Generate",
        "If",
        "Foreach",
        "While",
        "Contains",
        "Empty",
        "AddrIn",
        "AddrIs",
        "AtMost",
        "Equal",
        "Not",
        "And",
        "Or",
        "ThisIp",
        "ThisSubnet",
        "Const",
        "Slot",
        "Add",
        "Sub",
        "Mul",
        "True",
        "False",
        "Owns",
        "In",
        "Is",
        "Number",
        "fold: true",
    ] {
        assert!(all.contains(construct), "no {construct}");
    }
}
