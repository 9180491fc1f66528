//! The readable listing of a program: the language itself, with the number of each instruction in a comment.
//!
//! The listing compiles to the same bytes again.

use crate::lang::{is_flag, lifetime, number_name, quoted, source_map::hex};
use std::fmt::Write;
use vinet_trusted::packet::{Field, Number, Ranges, Test};
use vinet_trusted::program::{ALL_PACKETS, AddrExpr, AddrTerm, Cond, Expr, Instr, Program, Slot, Type};

/// The column at which the numbers of the instructions stand.
const NUMBER_COLUMN: usize = 72;

/// The listing of `program`, ending in a line break.
#[must_use]
pub fn listing(program: &Program) -> String {
    let bytes = program.encode().len();
    let mut lister = Lister { program, out: String::new(), next: 0, running: Vec::new() };
    let _ = writeln!(lister.out, "# program {}", hex(&program.id()));
    let _ = writeln!(lister.out, "# {bytes} bytes, {} slots, {} words", program.slots().len(), program.words().len());
    let _ = writeln!(lister.out, "LIFETIME = {};", lifetime::written(program.lifetime_s()));
    // Always said: what a program gets that says nothing depends on what is in it.
    let _ = match program.window() {
        0 => writeln!(lister.out, "WINDOW = policy;"),
        1 => writeln!(lister.out, "WINDOW = 1 packet;"),
        packets => writeln!(lister.out, "WINDOW = {packets} packets;"),
    };
    lister.block(program.body(), 0);
    lister.out
}

/// A foreach around the place at hand.
struct Running {
    packets: Slot,
    key: Slot,
    groups: Slot,
    /// The number in the name of its index.
    index: Slot,
}

struct Lister<'a> {
    program: &'a Program,
    out: String,
    /// The number of the next instruction.
    next: usize,
    running: Vec<Running>,
}

impl Lister<'_> {
    /// A line of an instruction, with its number behind it.
    fn numbered(&mut self, indent: usize, text: &str) {
        let line = format!("{:indent$}{text}", "");
        let _ = writeln!(self.out, "{line:NUMBER_COLUMN$} # {}", self.next);
        self.next += 1;
    }
    fn line(&mut self, indent: usize, text: &str) {
        let _ = writeln!(self.out, "{:indent$}{text}", "");
    }

    /// The name of a slot; a result of a grouping is named by its groups.
    fn name(&self, slot: Slot) -> String {
        for &Running { packets, key, groups, index } in &self.running {
            if slot == packets {
                return format!("Packets{groups}(i{index})");
            }
            if slot == key {
                return format!("{}{groups}(i{index})", self.key_name(groups));
            }
        }
        let kind = match self.program.slots().get(usize::from(slot)) {
            _ if slot == ALL_PACKETS => return "AllPackets".to_string(),
            Some(Type::Int) => "Int",
            Some(Type::Addr) => "Addr",
            Some(Type::Dests) => "Destinations",
            Some(Type::Contents) => "Content",
            _ => "Set",
        };
        format!("{kind}{slot}")
    }
    fn key_name(&self, groups: Slot) -> &'static str {
        match self.program.slots().get(usize::from(groups)) {
            Some(Type::Groups(Field::Dst)) => "DestIP",
            _ => "SourceIP",
        }
    }

    fn block(&mut self, block: &[Instr], indent: usize) {
        for instr in block {
            self.instr(instr, indent);
        }
    }

    fn nested(&mut self, block: &[Instr], indent: usize) {
        self.block(block, indent + 2);
        self.line(indent, "end");
    }

    fn instr(&mut self, instr: &Instr, indent: usize) {
        match instr {
            Instr::Select { out, arg, test } => {
                let (out, arg) = (self.name(*out), self.name(*arg));
                let text = match test {
                    Test::In { field, addrs } => format!("{out} = {}({arg}, {});", routine(*field), addr_set(addrs)),
                    Test::Is { field, slot } => format!("{out} = {}({arg}, {});", routine(*field), self.name(*slot)),
                    _ => format!("{out} = SELECT({arg}, {});", self.test(test, true)),
                };
                self.numbered(indent, &text);
            }
            Instr::Partition { out, arg, field } => {
                let key = self.key_name(*out);
                let text =
                    format!("{key}{out}(i{out}), Packets{out}(i{out}) = {}({});", routine(*field), self.name(*arg));
                self.numbered(indent, &text);
            }
            Instr::Content { dests, contents, arg } => {
                let [dests, contents, arg] = [dests, contents, arg].map(|slot| self.name(*slot));
                self.numbered(indent, &format!("{dests}, {contents} = GROUP_BY_CONTENT({arg});"));
            }
            Instr::Union { out, a, b } => self.joined(indent, "UNION", [*out, *a, *b]),
            Instr::Minus { out, a, b } => self.joined(indent, "MINUS", [*out, *a, *b]),
            Instr::Count { out, arg, word } => {
                let text = format!("{} = COUNT_STRING({}, {});", self.name(*out), self.name(*arg), self.word(*word));
                self.numbered(indent, &text);
            }
            Instr::Size { out, arg } => {
                let text = format!("{} = SIZE({});", self.name(*out), self.name(*arg));
                self.numbered(indent, &text);
            }
            Instr::Let { out, expr } => {
                let text = format!("{} = {};", self.name(*out), self.expr(expr, true));
                self.numbered(indent, &text);
            }
            Instr::Offset { out, base, by } => {
                let text = format!("{} = OFFSET({}, {});", self.name(*out), self.address(base), self.expr(by, true));
                self.numbered(indent, &text);
            }
            Instr::Generate { src, dst, data } => {
                let text = format!("GENERATE({}, {}, {});", self.address(src), self.address(dst), self.name(*data));
                self.numbered(indent, &text);
            }
            Instr::Discard { arg } => {
                let text = format!("DISCARD({});", self.name(*arg));
                self.numbered(indent, &text);
            }
            Instr::If { cond, then, otherwise } => {
                let text = format!("if {} then begin", self.cond(cond, true));
                self.numbered(indent, &text);
                self.nested(then, indent);
                if !otherwise.is_empty() {
                    self.line(indent, "else begin");
                    self.nested(otherwise, indent);
                }
            }
            Instr::Foreach { groups, packets, key, body } => {
                // Where the groups are run through already, or made anew inside, the results need another index.
                let around = self.running.iter().any(|running| running.groups == *groups);
                let index = if around || assigns(body, *groups) { *packets } else { *groups };
                let alias = if index == *groups { String::new() } else { format!(" as i{index}") };
                self.numbered(indent, &format!("foreach i{groups}{alias} do begin"));
                self.running.push(Running { packets: *packets, key: *key, groups: *groups, index });
                self.nested(body, indent);
                self.running.pop();
            }
            Instr::While { cond, max, body } => {
                self.numbered(indent, &format!("while {} max {max} do begin", self.cond(cond, true)));
                self.nested(body, indent);
            }
        }
    }

    fn joined(&mut self, indent: usize, routine: &str, slots: [Slot; 3]) {
        let [out, a, b] = slots.map(|slot| self.name(slot));
        self.numbered(indent, &format!("{out} = {routine}({a}, {b});"));
    }

    fn word(&self, word: u8) -> String {
        match self.program.words().get(usize::from(word)) {
            Some(word) if word.fold => format!("FOLD({})", quoted(&word.bytes)),
            word => quoted(word.map_or(&[][..], |word| &word.bytes)),
        }
    }

    fn address(&self, term: &AddrTerm) -> String {
        match term {
            AddrTerm::ThisIp => "THIS_IP".to_string(),
            AddrTerm::ThisSubnet => "THIS_SUBNET_IP".to_string(),
            AddrTerm::Const { addr } => addr.to_string(),
            AddrTerm::Slot { slot } => self.name(*slot),
        }
    }

    /// An integer; inside of another one, sums and products stand in parentheses.
    fn expr(&self, expr: &Expr, outermost: bool) -> String {
        let joined = |a: &Expr, sign: &str, b: &Expr| {
            parted(format!("{} {sign} {}", self.expr(a, false), self.expr(b, false)), outermost)
        };
        match expr {
            Expr::Const { value } => value.to_string(),
            Expr::Slot { slot } => self.name(*slot),
            Expr::Add { a, b } => joined(a, "+", b),
            Expr::Sub { a, b } => joined(a, "-", b),
            Expr::Mul { a, b } => joined(a, "*", b),
        }
    }

    /// A condition; inside of another one, `and` and `or` stand in parentheses.
    fn cond(&self, cond: &Cond, outermost: bool) -> String {
        let joined = |a: &Cond, word: &str, b: &Cond| {
            parted(format!("{} {word} {}", self.cond(a, false), self.cond(b, false)), outermost)
        };
        match cond {
            Cond::Contains { arg, word } => format!("CONTAINS_STRING({}, {})", self.name(*arg), self.word(*word)),
            Cond::Empty { arg } => format!("EMPTY({})", self.name(*arg)),
            Cond::AddrIn { addr, addrs } => format!("{} in {}", self.name(*addr), addr_set(addrs)),
            Cond::AddrIs { addr, is } => format!("{} is {}", self.name(*addr), self.address(is)),
            Cond::AtMost { a, b } => format!("{} <= {}", self.expr(a, true), self.expr(b, true)),
            Cond::Equal { a, b } => format!("{} = {}", self.expr(a, true), self.expr(b, true)),
            Cond::Not { cond } => format!("not {}", self.cond(cond, false)),
            Cond::And { a, b } => joined(a, "and", b),
            Cond::Or { a, b } => joined(a, "or", b),
        }
    }

    /// What a SELECT asks; inside of another test, `and` and `or` stand in parentheses.
    fn test(&self, test: &Test, outermost: bool) -> String {
        let joined = |a: &Test, word: &str, b: &Test| {
            parted(format!("{} {word} {}", self.test(a, false), self.test(b, false)), outermost)
        };
        match test {
            Test::True => "true".to_string(),
            Test::False => "false".to_string(),
            Test::Owns { field } => format!("owns({})", field_name(*field)),
            Test::In { field, addrs } => format!("{} in {}", field_name(*field), addr_set(addrs)),
            Test::Is { field, slot } => format!("{} = {}", field_name(*field), self.name(*slot)),
            Test::Number { number, ranges } => number_test(*number, ranges),
            Test::Not { a } => format!("not {}", self.test(a, false)),
            Test::And { a, b } => joined(a, "and", b),
            Test::Or { a, b } => joined(a, "or", b),
        }
    }
}

fn parted(text: String, outermost: bool) -> String {
    if outermost { text } else { format!("({text})") }
}

/// Whether the block, or one inside it, assigns the slot.
fn assigns(block: &[Instr], slot: Slot) -> bool {
    block
        .iter()
        .any(|instr| instr.targets().any(|target| target == slot) || instr.blocks().any(|inner| assigns(inner, slot)))
}

const fn field_name(field: Field) -> &'static str {
    match field {
        Field::Src => "src",
        Field::Dst => "dst",
    }
}

fn number_test(number: Number, ranges: &Ranges) -> String {
    let name = number_name(number);
    let range = |&(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}..{last}") }
    };
    match ranges.ranges() {
        [(1, 1)] if is_flag(number) => name.to_string(),
        [(first, last)] if first == last => format!("{name} = {first}"),
        ranges => format!("{name} in {{{}}}", ranges.iter().map(range).collect::<Vec<_>>().join(", ")),
    }
}

const fn routine(field: Field) -> &'static str {
    match field {
        Field::Src => "GROUP_BY_SOURCE",
        Field::Dst => "GROUP_BY_DESTINATION",
    }
}

/// A set of addresses as the language writes it; one member goes without braces.
fn addr_set(addrs: &AddrExpr) -> String {
    let mut terms = Vec::new();
    if addrs.this_ip {
        terms.push("THIS_IP".to_string());
    }
    if addrs.this_subnet {
        terms.push("THIS_SUBNET_IP".to_string());
    }
    terms.extend(addrs.prefixes.prefixes().iter().map(ToString::to_string));
    if let [one] = &terms[..] { one.clone() } else { format!("{{{}}}", terms.join(", ")) }
}
