//! Programs larger than the small scope: whatever is accepted never produces a forbidden event.
//!
//! Random programs of up to fourteen instructions, nested, with slots assigned again in branches and loops; random
//! windows, random answers. The generator leans towards the owner's address, so that a good part is lawful and the
//! rest is almost so. A seed is printed; `VINET_SEED` sets it.

mod common;
use common::{Random, and, contains, end_user, me, not, or, policy, this_ip};
use std::sync::Arc;
use vinet_prover::prove;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet};
use vinet_trusted::check::check;
use vinet_trusted::meaning::{Event, Packet, run};
use vinet_trusted::policy::{Formula, Policy, PrincipalKind};
use vinet_trusted::program::{AddrExpr, Cond, Field, Instr, Program, Slot, Type};

const PROGRAMS: usize = 30_000;
const WINDOWS: usize = 12;

fn addresses() -> Vec<Addr> {
    vec![common::ME, common::OTHER, Addr::V4(0xc000_0202), Addr::V6(1)]
}

fn set(r: &mut Random) -> AddrExpr {
    if !r.one_in(3) {
        return this_ip();
    }
    let list = (0..=r.below(2)).map(|_| {
        let addr = r.of(&addresses());
        Prefix::of(addr, if r.one_in(2) { addr.width() } else { addr.width() - 2 }).expect("a length of the family")
    });
    AddrExpr { prefixes: PrefixSet::new(list.collect()), this_ip: r.one_in(4), ..AddrExpr::default() }
}

struct Builder {
    slots: Vec<Type>,
    fixed: Vec<bool>,
    /// Assigned on every way to here.
    assigned: Vec<bool>,
    left: usize,
}

impl Builder {
    fn readable(&self, ty: impl Fn(Type) -> bool) -> Vec<Slot> {
        (0..self.slots.len()).filter(|&s| self.assigned[s] && ty(self.slots[s])).map(|s| s as Slot).collect()
    }

    fn target(&mut self, r: &mut Random, ty: Type) -> Slot {
        let again: Vec<usize> = (0..self.slots.len()).filter(|&s| !self.fixed[s] && self.slots[s] == ty).collect();
        if !again.is_empty() && r.one_in(2) {
            let slot = r.of(&again);
            self.assigned[slot] = true;
            return slot as Slot;
        }
        self.bind(ty, false)
    }

    fn bind(&mut self, ty: Type, fixed: bool) -> Slot {
        self.slots.push(ty);
        self.fixed.push(fixed);
        self.assigned.push(true);
        (self.slots.len() - 1) as Slot
    }

    fn block(&mut self, r: &mut Random, depth: usize) -> Vec<Instr> {
        let mut block = Vec::new();
        while self.left > 0 && !(depth > 0 && r.one_in(4)) {
            self.left -= 1;
            block.push(self.instr(r, depth));
        }
        block
    }

    fn instr(&mut self, r: &mut Random, depth: usize) -> Instr {
        let packets = self.readable(|ty| ty == Type::Packets);
        // Not AllPackets, as a rule: almost nothing that is done with it is lawful, but for selecting.
        let arg = if packets.len() > 1 && !r.one_in(12) { r.of(&packets[1..]) } else { r.of(&packets) };
        let groups = self.readable(|ty| matches!(ty, Type::Groups(_)));
        match r.below(10) {
            0 | 1 => Instr::Discard { arg },
            2 if depth < 4 => {
                let cond = self.cond(r, 0);
                let before = self.assigned.clone();
                let then = self.block(r, depth + 1);
                let after_then = std::mem::replace(&mut self.assigned, before);
                self.assigned.resize(self.slots.len(), false);
                let otherwise = self.block(r, depth + 1);
                for (slot, assigned) in self.assigned.iter_mut().enumerate() {
                    *assigned &= after_then.get(slot).copied().unwrap_or(false);
                }
                Instr::If { cond, then, otherwise }
            }
            3 | 4 if depth < 4 && !groups.is_empty() => {
                let groups = r.of(&groups);
                let Type::Groups(field) = self.slots[usize::from(groups)] else { unreachable!("chosen by type") };
                let before = self.assigned.clone();
                let packets = self.bind(Type::Packets, true);
                let key = self.bind(Type::Key(field), true);
                let body = self.block(r, depth + 1);
                self.assigned = before;
                self.assigned.resize(self.slots.len(), false);
                Instr::Foreach { groups, packets, key, body }
            }
            5 | 6 => {
                let field = if r.one_in(3) { Field::Dst } else { Field::Src };
                Instr::Partition { out: self.target(r, Type::Groups(field)), arg, field }
            }
            _ => {
                let (arg, field) = if r.one_in(2) { (0, Field::Dst) } else { (arg, r.of(&[Field::Src, Field::Dst])) };
                Instr::Select { out: self.target(r, Type::Packets), arg, field, addrs: set(r) }
            }
        }
    }

    fn cond(&mut self, r: &mut Random, depth: usize) -> Cond {
        if depth < 3 && r.one_in(3) {
            let (a, b) = (self.cond(r, depth + 1), self.cond(r, depth + 1));
            return if r.one_in(2) { and(a, b) } else { or(a, b) };
        }
        let keys = self.readable(|ty| matches!(ty, Type::Key(_)));
        let cond = if !keys.is_empty() && !r.one_in(3) {
            Cond::KeyIn { key: r.of(&keys), addrs: set(r) }
        } else {
            let packets = self.readable(|ty| ty == Type::Packets);
            contains(if packets.len() > 1 { r.of(&packets[1..]) } else { 0 }, 0)
        };
        if r.one_in(3) { not(cond) } else { cond }
    }
}

fn program(r: &mut Random) -> Program {
    let left = 2 + r.below(13);
    let mut builder = Builder { slots: vec![Type::Packets], fixed: vec![true], assigned: vec![true], left };
    // Most begin as the paper's do.
    let mut body = Vec::new();
    if !r.one_in(4) {
        let out = builder.bind(Type::Packets, false);
        body.push(Instr::Select { out, arg: 0, field: Field::Dst, addrs: this_ip() });
    }
    body.extend(builder.block(r, 0));
    Program::new(1, vec![b"w".to_vec()], body.clone()).or_else(|_| Program::new(1, vec![], body)).expect("well-formed")
}

fn policies() -> Vec<Arc<Policy>> {
    // Grouping allowed to anyone, so that ownership can come from a branch; and sources that nobody may discard.
    let mut grouping = policy(PrincipalKind::EndUser, Formula::Owns(Field::Dst));
    grouping.group = Formula::True;
    let mut protected = grouping.clone();
    let source = Formula::In(Field::Src, common::OTHER.into());
    protected.discard = Formula::And(Box::new(Formula::Owns(Field::Dst)), Box::new(Formula::Not(Box::new(source))));
    vec![end_user(), Arc::new(grouping), Arc::new(protected)]
}

#[test]
fn what_is_accepted_never_does_what_is_forbidden() {
    let seed = std::env::var("VINET_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x5eed_0001);
    println!("VINET_SEED={seed}");
    let mut r = Random(seed);
    let (policies, addresses) = (policies(), addresses());
    let (mut accepted, mut with_events) = (0, 0);
    for _ in 0..PROGRAMS {
        let program = program(&mut r);
        let bytes = program.encode();
        assert_eq!(Program::decode(&bytes).as_ref(), Ok(&program));
        for policy in &policies {
            let Ok(proof) = prove(&program, &me(), policy) else { continue };
            let checked = check(&bytes, &proof, me(), policy).expect("what the prover makes is accepted");
            accepted += 1;
            let mut any = false;
            for _ in 0..WINDOWS {
                let packet = |r: &mut Random| Packet { src: r.of(&addresses), dst: r.of(&addresses) };
                let window: Vec<Packet> = (0..r.below(7)).map(|_| packet(&mut r)).collect();
                let answer = |packets: &[usize], _: &[u8]| !packets.is_empty() && r.one_in(2);
                for event in run(checked.program(), &me(), &window, &mut { answer }).expect("THIS_IP is set") {
                    let (p, formula) = match event {
                        Event::Discard(p) => (p, &policy.discard),
                        Event::Group(p) => (p, &policy.group),
                        Event::Scan(p) => (p, &policy.scan),
                    };
                    any = true;
                    let allowed = formula.eval(&me(), window[p].src, window[p].dst);
                    assert_eq!(allowed, Ok(true), "{event:?} of {:?} by {program:?}", window[p]);
                }
            }
            with_events += usize::from(any);
        }
    }
    println!("{PROGRAMS} programs, {accepted} acceptances, {with_events} of them with events");
    assert!(with_events > PROGRAMS / 20, "too few lawful programs do anything: the test would be about nothing");
}
