//! What packets are drawn from: the values that program, owner and policy speak of, and their neighbours.

use std::collections::{BTreeMap, BTreeSet};
use vinet_trusted::addr::{Addr, AddrExpr, Prefix, Principal};
use vinet_trusted::packet::{Number, Packet, Test};
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{AddrTerm, COUNT_MAX, Cond, Expr, Instr, Program};

/// The most addresses that packets are drawn from.
const ADDRS_MAX: usize = 32;
/// The most ways in which the numbers of headers are filled in.
const HEADERS_MAX: usize = 400;
/// The most values of one number that are combined with others.
const WANTED_MAX: usize = 8;
/// The most packets.
const PACKETS_MAX: usize = 60_000;
/// The most counts that are answered.
const COUNTS_MAX: usize = 8;

/// Values, in the order in which they are tried.
pub(super) struct Mentioned {
    addrs: Vec<Addr>,
    numbers: BTreeMap<usize, Values>,
    integers: BTreeSet<i64>,
}

/// Values of one number of the header.
#[derive(Default)]
struct Values {
    /// The first ones of ranges that are asked for.
    wanted: BTreeSet<u32>,
    /// The last ones, and those just outside.
    others: BTreeSet<u32>,
}

impl Mentioned {
    pub(super) fn of(program: &Program, owner: &Principal, policy: &Policy) -> Self {
        let mut all = Mentioned { addrs: Vec::new(), numbers: BTreeMap::new(), integers: BTreeSet::new() };
        all.prefix(owner.owned());
        all.addr(owner.addr());
        [&policy.discard, &policy.group, &policy.scan, &policy.generate].iter().for_each(|test| all.test(test));
        all.block(program.body());
        all
    }

    /// Takes addresses that the program computes in.
    pub(super) fn compute(&mut self, addrs: &BTreeSet<Addr>) {
        addrs.iter().for_each(|addr| self.addr(*addr));
    }

    fn addr(&mut self, addr: Addr) {
        if self.addrs.len() < ADDRS_MAX && !self.addrs.contains(&addr) {
            self.addrs.push(addr);
        }
    }
    fn prefix(&mut self, prefix: Prefix) {
        let (first, last) = (prefix.addr(), prefix.last());
        self.addr(first);
        self.addr(last);
        first.offset(-1).into_iter().chain(last.offset(1)).for_each(|addr| self.addr(addr));
    }
    fn addrs(&mut self, addrs: &AddrExpr) {
        // The first and last ones of a long list say enough.
        let prefixes = addrs.prefixes.prefixes();
        prefixes.iter().take(4).chain(prefixes.iter().rev().take(1)).for_each(|prefix| self.prefix(*prefix));
    }
    fn term(&mut self, term: &AddrTerm) {
        if let AddrTerm::Const { addr } = term {
            self.prefix(Prefix::host(*addr));
        }
    }
    fn test(&mut self, test: &Test) {
        match test {
            Test::In { addrs, .. } => self.addrs(addrs),
            Test::Number { number, ranges } => {
                let values = self.numbers.entry(*number as usize).or_default();
                for &(first, last) in ranges.ranges().iter().take(WANTED_MAX) {
                    values.wanted.insert(first);
                    values.others.extend([last, last + 1].into_iter().filter(|n| *n != Packet::ABSENT));
                    values.others.extend(first.checked_sub(1));
                }
                values.others.retain(|n| !values.wanted.contains(n));
            }
            Test::Not { a } => self.test(a),
            Test::And { a, b } | Test::Or { a, b } => {
                self.test(a);
                self.test(b);
            }
            Test::True | Test::False | Test::Owns { .. } | Test::Is { .. } => {}
        }
    }
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Const { value } => {
                self.integers.insert(*value);
            }
            Expr::Slot { .. } => {}
            Expr::Add { a, b } | Expr::Sub { a, b } | Expr::Mul { a, b } => {
                self.expr(a);
                self.expr(b);
            }
        }
    }
    fn cond(&mut self, cond: &Cond) {
        match cond {
            Cond::Contains { .. } | Cond::Empty { .. } => {}
            Cond::AddrIn { addrs, .. } => self.addrs(addrs),
            Cond::AddrIs { is, .. } => self.term(is),
            Cond::AtMost { a, b } | Cond::Equal { a, b } => {
                self.expr(a);
                self.expr(b);
            }
            Cond::Not { cond } => self.cond(cond),
            Cond::And { a, b } | Cond::Or { a, b } => {
                self.cond(a);
                self.cond(b);
            }
        }
    }
    fn block(&mut self, block: &[Instr]) {
        for instr in block {
            match instr {
                Instr::Select { test, .. } => self.test(test),
                Instr::Let { expr, .. } => self.expr(expr),
                Instr::Offset { base, by, .. } => {
                    self.term(base);
                    self.expr(by);
                }
                Instr::Generate { src, dst, .. } => {
                    self.term(src);
                    self.term(dst);
                }
                Instr::If { cond, .. } | Instr::While { cond, .. } => self.cond(cond),
                _ => {}
            }
            instr.blocks().for_each(|block| self.block(block));
        }
    }

    /// The counts that COUNT_STRING answers: none, one, what is mentioned and around it, the most.
    pub(super) fn counts(&self) -> Vec<u64> {
        let around = self.integers.iter().flat_map(|n| [n.saturating_sub(1), *n, n.saturating_add(1)]);
        let mut counts = vec![0, 1];
        for count in around.filter(|n| (2..COUNT_MAX).contains(n)).filter_map(|n| u64::try_from(n).ok()) {
            if !counts.contains(&count) && counts.len() < COUNTS_MAX - 1 {
                counts.push(count);
            }
        }
        counts.push(COUNT_MAX as u64);
        counts
    }

    /// How headers are filled in: not at all, with one number, then with two and three that the tests ask for, as far
    /// as they are not too many.
    fn headers(&self) -> Vec<[u32; 10]> {
        let nothing = [Packet::ABSENT; 10];
        let mut all = vec![nothing];
        for (number, Values { wanted, others }) in &self.numbers {
            for value in wanted.iter().chain(others) {
                let mut header = nothing;
                header[*number] = *value;
                all.push(header);
            }
        }
        let mut from = vec![nothing];
        for depth in 0..3 {
            let mut more = Vec::new();
            for header in from {
                for (number, Values { wanted, .. }) in &self.numbers {
                    // Each combination once: numbers are filled in in their order.
                    if header[*number..].iter().all(|n| *n == Packet::ABSENT) {
                        more.extend(wanted.iter().take(WANTED_MAX).map(|value| {
                            let mut header = header;
                            header[*number] = *value;
                            header
                        }));
                    }
                }
            }
            if depth > 0 {
                all.extend(more.iter().copied().take(HEADERS_MAX.saturating_sub(all.len())));
            }
            from = more;
        }
        all
    }

    /// The packets: of each family, between all addresses, in all ways to fill in the headers; of each what was
    /// mentioned first comes first.
    pub(super) fn packets(&self) -> Vec<Packet> {
        let (addrs, headers) = (&self.addrs, self.headers());
        let of_one_family = |(src, dst): &(usize, usize)| addrs[*src].width() == addrs[*dst].width();
        let pairs: Vec<(usize, usize)> = shells(addrs.len(), addrs.len()).filter(of_one_family).collect();
        let all = shells(headers.len(), pairs.len()).map(|(header, pair)| {
            let (src, dst) = pairs[pair];
            Packet { numbers: headers[header], ..Packet::between(addrs[src], addrs[dst]) }
        });
        all.take(PACKETS_MAX).collect()
    }
}

/// The pairs of a number below `a` and one below `b`, in the order of the greater one.
fn shells(a: usize, b: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..a.max(b)).flat_map(move |shell| {
        let row = (0..=shell).map(move |i| (shell, i));
        let column = (0..shell).map(move |i| (i, shell));
        row.chain(column).filter(move |(i, j)| *i < a && *j < b)
    })
}

// A number is an index of a header.
const _: () = assert!(Number::ALL.len() == 10);
