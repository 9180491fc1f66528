//! Random texts and random programs.

use super::{FIREWALL, SPAM, router, settings};
use vinet_client::disasm::listing;
use vinet_client::lang::{Cause, Diagnostic, compile};
use vinet_trusted::addr::{Addr, Prefix, PrefixSet};
use vinet_trusted::program::{AddrExpr, Cond, Field, Instr, Program, Slot, Type};

/// A small generator of numbers (SplitMix64), so that a seed names a run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
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
            Ok(_) => compiled += 1,
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

/// A random program that the language can say.
fn random_program(numbers: &mut Numbers) -> Program {
    struct Maker<'a> {
        numbers: &'a mut Numbers,
        slots: Vec<Type>,
        readable: Vec<bool>,
        words: Vec<Vec<u8>>,
        running: Vec<Slot>,
        left: usize,
    }
    impl Maker<'_> {
        fn addrs(&mut self) -> AddrExpr {
            let mut prefixes = Vec::new();
            for _ in 0..self.numbers.below(4) {
                let bits = self.numbers.next();
                let addr = if bits & 1 == 0 { Addr::V4(bits as u32) } else { Addr::V6(u128::from(bits) << 64 | 7) };
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
        fn new_slot(&mut self, ty: Type) -> Slot {
            self.slots.push(ty);
            self.readable.push(true);
            (self.slots.len() - 1) as Slot
        }
        fn cond(&mut self, depth: usize) -> Cond {
            match self.numbers.below(if depth > 3 { 2 } else { 5 }) {
                0 | 1 => {
                    if self.numbers.below(2) == 0
                        && let Some(key) = self.pick(|ty| matches!(ty, Type::Key(_)))
                    {
                        return Cond::KeyIn { key, addrs: self.addrs() };
                    }
                    let word: Vec<u8> = (0..=self.numbers.below(3)).map(|_| self.numbers.next() as u8).collect();
                    let index = self.words.iter().position(|w| *w == word).unwrap_or_else(|| {
                        self.words.push(word);
                        self.words.len() - 1
                    });
                    Cond::Contains { arg: self.packets(), word: index as u8 }
                }
                2 => Cond::Not(Box::new(self.cond(depth + 1))),
                3 => Cond::And(Box::new(self.cond(depth + 1)), Box::new(self.cond(depth + 1))),
                _ => Cond::Or(Box::new(self.cond(depth + 1)), Box::new(self.cond(depth + 1))),
            }
        }
        fn block(&mut self, depth: usize) -> Vec<Instr> {
            let mut block = Vec::new();
            for _ in 0..self.numbers.below(4) {
                if self.left == 0 || self.slots.len() > 50 || self.words.len() > 40 {
                    break;
                }
                self.left -= 1;
                let arg = self.packets();
                let field = if self.numbers.below(2) == 0 { Field::Src } else { Field::Dst };
                block.push(match self.numbers.below(if depth > 3 { 3 } else { 5 }) {
                    0 => {
                        let addrs = self.addrs();
                        Instr::Select { out: self.new_slot(Type::Packets), arg, field, addrs }
                    }
                    1 => Instr::Partition { out: self.new_slot(Type::Groups(field)), arg, field },
                    2 => Instr::Discard { arg },
                    3 => {
                        let cond = self.cond(0);
                        let before = self.readable.clone();
                        let then = self.block(depth + 1);
                        self.readable = before.clone();
                        self.readable.resize(self.slots.len(), false);
                        let otherwise = self.block(depth + 1);
                        self.readable = before;
                        self.readable.resize(self.slots.len(), false);
                        Instr::If { cond, then, otherwise }
                    }
                    _ => {
                        let running = self.running.clone();
                        let fit: Vec<Slot> = (0..self.slots.len())
                            .filter(|&i| self.readable[i] && matches!(self.slots[i], Type::Groups(_)))
                            .map(|i| i as Slot)
                            .filter(|slot| !running.contains(slot))
                            .collect();
                        let Some(&groups) = fit.first() else { continue };
                        let Type::Groups(field) = self.slots[usize::from(groups)] else { continue };
                        let before = self.readable.clone();
                        let packets = self.new_slot(Type::Packets);
                        let key = self.new_slot(Type::Key(field));
                        self.running.push(groups);
                        let body = self.block(depth + 1);
                        self.running.pop();
                        self.readable = before;
                        self.readable.resize(self.slots.len(), false);
                        Instr::Foreach { groups, packets, key, body }
                    }
                });
            }
            block
        }
    }
    let left = 3 + numbers.below(25);
    let lifetime_s = 1 + numbers.below(1_000_000) as u32;
    let mut maker =
        Maker { numbers, slots: vec![Type::Packets], readable: vec![true], words: vec![], running: vec![], left };
    let body = maker.block(0);
    let words = maker.words;
    Program::new(lifetime_s, words, body).expect("a well-formed program")
}

#[test]
fn a_listing_compiles_to_the_bytes_that_it_lists() {
    let seed = 0x5eed_0002;
    println!("seed {seed:#x}");
    let mut numbers = Numbers(seed);
    let mut instructions = 0;
    for round in 0..3_000 {
        let program = random_program(&mut numbers);
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
}
