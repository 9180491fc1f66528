//! Terms and formulas as the text form writes them: what is printed can be read again.

use std::collections::HashMap;
use vinet_trusted::packet::Number;
use vinet_trusted::term::{Id, Node, Op, PACKET, SetValue, Sort, Terms, sort};

/// The names of the sorts, with the sort that each is.
pub const SORTS: [(&str, Sort); 10] = [
    ("Prop", sort::BOOL),
    ("Addr", sort::ADDR),
    ("Addrs", sort::ADDRS),
    ("Int", sort::INT),
    ("Numbers", sort::NUMBERS),
    ("Content", sort::CONTENT),
    ("Packet", sort::PACKET),
    ("Packets", sort::PACKETS),
    ("Groups", sort::GROUPS),
    ("List", sort::LIST),
];

/// The name of a function of a packet that is a number in its headers.
#[must_use]
pub const fn number_name(number: Number) -> &'static str {
    match number {
        Number::Protocol => "protocol",
        Number::SrcPort => "srcport",
        Number::DstPort => "dstport",
        Number::Length => "length",
        Number::Fin => "fin",
        Number::Syn => "syn",
        Number::Rst => "rst",
        Number::Psh => "psh",
        Number::Ack => "ack",
        Number::Urg => "urg",
    }
}

/// The functions that are written with their arguments in parentheses.
pub(crate) const FUNCTIONS: [(&str, Op); 16] = [
    ("src", Op::Src),
    ("dst", Op::Dst),
    ("content", Op::Content),
    ("offset", Op::Offset),
    ("union", Op::Union),
    ("inter", Op::Inter),
    ("minus", Op::Minus),
    ("from", Op::From),
    ("to", Op::To),
    ("bysrc", Op::BySrc),
    ("bydst", Op::ByDst),
    ("group", Op::Group),
    ("cons", Op::Cons),
    ("append", Op::Append),
    ("len", Op::Len),
    ("nil", Op::Nil),
];

/// How what has no name of its own is called.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Constants. Those that are not here are written as a letter for their sort and their number: see [`letter`].
    pub constants: HashMap<u32, String>,
    /// Declared symbols, by number.
    pub symbols: Vec<String>,
    /// Declared sorts.
    pub sorts: Vec<String>,
}

impl Names {
    /// Of a program: the arbitrary packet is `p`.
    #[must_use]
    pub fn of_program() -> Self {
        Names { constants: HashMap::from([(PACKET, "p".into())]), ..Names::default() }
    }
    /// The name of a sort.
    #[must_use]
    pub fn sort(&self, sort: Sort) -> String {
        let declared = usize::from(sort).checked_sub(usize::from(sort::DECLARED)).and_then(|i| self.sorts.get(i));
        let known = SORTS.iter().find(|(_, known)| *known == sort).map(|(name, _)| (*name).to_owned());
        known.or_else(|| declared.cloned()).unwrap_or_else(|| format!("Sort{sort}"))
    }

    fn is_taken(&self, name: &str) -> bool {
        self.symbols.iter().chain(self.constants.values()).any(|taken| taken == name)
    }

    /// A name for the variable of a binder with so many around it.
    fn variable(&self, depth: usize) -> String {
        let plain = ["x", "y", "z", "u", "v", "w"].iter().map(|name| (*name).to_owned());
        let all = plain.chain((7..).map(|i| format!("x{i}")));
        all.filter(|name| !self.is_taken(name)).nth(depth).unwrap_or_default()
    }
}

/// The letter that constants of a sort begin with: `p7` packets, `v3` sets of packets, `k4` addresses, `n5` integers,
/// `a6` answers about content, `c8` others.
#[must_use]
pub const fn letter(sort: Sort) -> char {
    match sort {
        sort::PACKET => 'p',
        sort::PACKETS => 'v',
        sort::ADDR => 'k',
        sort::INT => 'n',
        sort::BOOL => 'a',
        _ => 'c',
    }
}

/// The name of a constant that has no other.
pub(crate) fn constant_name(number: u32, sort: Sort) -> String {
    format!("{}{number}", letter(sort))
}

/// `id` in the text form.
#[must_use]
pub fn print(terms: &Terms, id: Id, names: &Names) -> String {
    let mut printer = Printer { terms, names, out: String::new(), bound: Vec::new() };
    printer.write(id, 0);
    printer.out
}

struct Printer<'a> {
    terms: &'a Terms,
    names: &'a Names,
    out: String,
    bound: Vec<String>,
}

/// How tight an operation binds: its own level, and the least of its two sides.
const fn levels(op: Op) -> (u8, u8, u8) {
    match op {
        Op::Iff => (1, 2, 2),
        Op::Implies => (2, 3, 2),
        Op::Or => (3, 3, 4),
        Op::And => (4, 4, 5),
        Op::Eq | Op::Le | Op::In | Op::Subset => (6, 7, 7),
        Op::Add | Op::Sub => (7, 7, 8),
        _ => (8, 8, 9),
    }
}

const fn sign(op: Op) -> &'static str {
    match op {
        Op::Iff => " <-> ",
        Op::Implies => " -> ",
        Op::Or => " or ",
        Op::And => " and ",
        Op::Eq => " = ",
        Op::Le => " <= ",
        Op::In => " in ",
        Op::Subset => " subset ",
        Op::Add => " + ",
        Op::Sub => " - ",
        _ => " * ",
    }
}

impl Printer<'_> {
    fn write(&mut self, id: Id, least: u8) {
        let node = self.terms.get(id);
        let Node { op, args } = node;
        match op {
            Op::Var => {
                let at = self.bound.len().checked_sub(1 + args[0] as usize);
                let name = at.map_or_else(|| format!("?{}", args[0]), |at| self.bound[at].clone());
                self.out.push_str(&name);
            }
            Op::Const => match self.names.constants.get(&args[0]) {
                Some(name) => self.out.push_str(name),
                None => self.out.push_str(&constant_name(args[0], args[1] as Sort)),
            },
            Op::Slot => self.out.push_str(&format!("${}", args[0])),
            Op::Int => {
                let value = self.terms.as_int(id).unwrap_or_default();
                self.out.push_str(&value.to_string());
            }
            Op::Addr => self.out.push_str(&self.terms.addrs[args[0] as usize].to_string()),
            Op::Set => {
                let text = set_words(&self.terms.sets[args[0] as usize]);
                self.out.push_str(&text);
            }
            Op::Symbol => {
                let name = self.names.symbols.get(args[0] as usize).cloned();
                self.out.push_str(&name.unwrap_or_else(|| format!("symbol{}", args[0])));
                self.arguments(node);
            }
            Op::Num => {
                let name = Number::ALL.get(args[1] as usize).map_or("?", |number| number_name(*number));
                self.out.push_str(name);
                self.arguments(node);
            }
            Op::Empty => self.out.push_str(if args[0] == u32::from(sort::PACKETS) { "no-packets" } else { "no-addrs" }),
            Op::True => self.out.push_str("true"),
            Op::False => self.out.push_str("false"),
            Op::Not => self.around(5, least, |printer| {
                printer.out.push_str("not ");
                printer.write(args[0], 5);
            }),
            Op::Forall | Op::Exists | Op::Unique => self.around(0, least, |printer| {
                let name = printer.names.variable(printer.bound.len());
                let word = match op {
                    Op::Forall => "forall",
                    Op::Exists => "exists",
                    _ => "exists!",
                };
                let sort = printer.names.sort(args[0] as Sort);
                printer.out.push_str(&format!("{word} {name} : {sort} . "));
                printer.bound.push(name);
                printer.write(args[1], 0);
                printer.bound.pop();
            }),
            _ => match FUNCTIONS.iter().find(|(_, function)| *function == op) {
                Some((name, _)) => {
                    self.out.push_str(name);
                    self.arguments(node);
                }
                None => {
                    let (own, left, right) = levels(op);
                    self.around(own, least, |printer| {
                        printer.write(args[0], left);
                        printer.out.push_str(sign(op));
                        printer.write(args[1], right);
                    });
                }
            },
        }
    }

    fn around(&mut self, own: u8, least: u8, inside: impl FnOnce(&mut Self)) {
        let needs = own < least;
        if needs {
            self.out.push('(');
        }
        inside(self);
        if needs {
            self.out.push(')');
        }
    }

    fn arguments(&mut self, node: Node) {
        let children = self.terms.children(node);
        if children.is_empty() {
            return;
        }
        self.out.push('(');
        for i in children.clone() {
            if i > children.start {
                self.out.push_str(", ");
            }
            self.write(node.args[i], 0);
        }
        self.out.push(')');
    }
}

/// A set as the text form writes it.
#[must_use]
pub fn set_words(set: &SetValue) -> String {
    match set {
        SetValue::Addrs(set) => set.to_string(),
        SetValue::Numbers(set) => {
            let ranges: Vec<String> = set
                .ranges()
                .iter()
                .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}..{last}") })
                .collect();
            format!("{{{}}}", ranges.join(", "))
        }
    }
}
