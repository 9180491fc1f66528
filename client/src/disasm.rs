//! The readable listing of a program: the language itself, with the number of each instruction in a comment.
//!
//! The listing compiles to the same bytes again, unless a foreach runs inside another one over the same groups, or its
//! groups are assigned anew inside of it: bytecode may say that, the language does not.

use crate::lang::{lifetime, quoted, source_map::hex};
use std::fmt::Write;
use vinet_trusted::program::{ALL_PACKETS, AddrExpr, Cond, Field, Instr, Program, Slot, Type};

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
    lister.block(program.body(), 0);
    lister.out
}

struct Lister<'a> {
    program: &'a Program,
    out: String,
    /// The number of the next instruction.
    next: usize,
    /// What each foreach around the place at hand binds: packets, key, groups.
    running: Vec<(Slot, Slot, Slot)>,
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
        for &(packets, key, groups) in &self.running {
            if slot == packets {
                return format!("Packets{groups}(i{groups})");
            }
            if slot == key {
                return format!("{}{groups}(i{groups})", self.key_name(groups));
            }
        }
        if slot == ALL_PACKETS { "AllPackets".to_string() } else { format!("Set{slot}") }
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
            Instr::Select { out, arg, field, addrs } => {
                let text =
                    format!("{} = {}({}, {});", self.name(*out), routine(*field), self.name(*arg), addr_set(addrs));
                self.numbered(indent, &text);
            }
            Instr::Partition { out, arg, field } => {
                let key = self.key_name(*out);
                let text =
                    format!("{key}{out}(i{out}), Packets{out}(i{out}) = {}({});", routine(*field), self.name(*arg));
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
                self.numbered(indent, &format!("foreach i{groups} do begin"));
                self.running.push((*packets, *key, *groups));
                self.nested(body, indent);
                self.running.pop();
            }
        }
    }

    /// A condition; inside of another one, `and` and `or` stand in parentheses.
    fn cond(&self, cond: &Cond, outermost: bool) -> String {
        let joined = |a: &Cond, word: &str, b: &Cond| {
            let text = format!("{} {word} {}", self.cond(a, false), self.cond(b, false));
            if outermost { text } else { format!("({text})") }
        };
        match cond {
            Cond::Contains { arg, word } => {
                let word = self.program.words().get(usize::from(*word)).map_or(&[][..], Vec::as_slice);
                format!("CONTAINS_STRING({}, {})", self.name(*arg), quoted(word))
            }
            Cond::KeyIn { key, addrs } => format!("{} in {}", self.name(*key), addr_set(addrs)),
            Cond::Not(inner) => format!("not {}", self.cond(inner, false)),
            Cond::And(a, b) => joined(a, "and", b),
            Cond::Or(a, b) => joined(a, "or", b),
        }
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
