//! What the shipped programs do, by the reference interpreter on random windows: never anything to the packets of others,
//! always to their end, and each of them something.

use super::random::Numbers;
use super::shipped::{compiled, programs};
use std::collections::BTreeSet;
use vinet_trusted::addr::{Addr, Prefix};
use vinet_trusted::meaning::{Answers, End, Event, run};
use vinet_trusted::packet::{Packet, Test};
use vinet_trusted::policy::{Costs, Limits, OverBudget, Policy, PrincipalKind};
use vinet_trusted::program::{Cond, Instr, Word};

/// The prices and ceilings do not matter here, nor do the formulas: what is allowed is asked of each event.
fn policy() -> Policy {
    let costs = Costs {
        program: 1,
        select: 1,
        select_many: 1,
        partition: 1,
        foreach: 1,
        test: 1,
        set: 1,
        arithmetic: 1,
        turn: 1,
        discard: 1,
        contains: 1,
        contains_per_64_bytes: 1,
        stream: 1,
        content: 1,
        content_per_64_bytes: 1,
        generate: 1,
        generate_per_64_bytes: 1,
    };
    let limits = Limits {
        program_bytes_max: 1 << 16,
        proof_bytes_max: 1 << 16,
        lifetime_max_s: 1 << 30,
        complexity_max: 1 << 40,
        cost_max: 1 << 60,
        packet_bytes_max: 1500,
        window_packets_max: 32,
        window_us_max: 200,
        generate_port: 7401,
        generate_rate_max: 1000,
        stream_flows_max: 1024,
        stream_islands_max: 8,
        packet_rate_default: 1,
        packet_rate_max: 1,
        over_budget: OverBudget::Forward,
    };
    Policy {
        name: "test".to_string(),
        principals: PrincipalKind::EndUser,
        discard: Test::True,
        group: Test::True,
        scan: Test::True,
        generate: Test::True,
        costs,
        limits,
    }
}

/// Answers about content that are as good as any.
struct Any<'a>(&'a mut Numbers);

impl Answers for Any<'_> {
    fn contains(&mut self, packets: &[usize], _: &Word) -> bool {
        !packets.is_empty() && self.0.below(2) == 0
    }
    fn count(&mut self, packets: &[usize], _: &Word) -> u64 {
        if packets.is_empty() { 0 } else { self.0.below(6) as u64 }
    }
}

/// The addresses and numbers that a program speaks of.
#[derive(Default)]
struct Spoken {
    addrs: BTreeSet<Addr>,
    numbers: BTreeSet<u32>,
}

impl Spoken {
    fn block(&mut self, block: &[Instr]) {
        for instr in block {
            match instr {
                Instr::Select { test, .. } => self.test(test),
                Instr::If { cond, .. } => self.cond(cond),
                _ => {}
            }
            instr.blocks().for_each(|inner| self.block(inner));
        }
    }
    fn prefixes(&mut self, prefixes: &[Prefix]) {
        for prefix in prefixes {
            self.addrs.extend([prefix.addr(), prefix.last()]);
            self.addrs.extend([prefix.addr().offset(-1), prefix.addr().offset(1)].into_iter().flatten());
        }
    }
    fn cond(&mut self, cond: &Cond) {
        match cond {
            Cond::AddrIn { addrs, .. } => self.prefixes(addrs.prefixes.prefixes()),
            Cond::Not { cond } => self.cond(cond),
            Cond::And { a, b } | Cond::Or { a, b } => {
                self.cond(a);
                self.cond(b);
            }
            _ => {}
        }
    }
    fn test(&mut self, test: &Test) {
        match test {
            Test::In { addrs, .. } => self.prefixes(addrs.prefixes.prefixes()),
            Test::Number { ranges, .. } => self.numbers.extend(ranges.ranges().iter().flat_map(|&(a, b)| [a, b])),
            Test::Not { a } => self.test(a),
            Test::And { a, b } | Test::Or { a, b } => {
                self.test(a);
                self.test(b);
            }
            _ => {}
        }
    }
}

#[test]
fn shipped_programs_touch_their_owners_packets_alone_and_run_to_their_end() {
    let seed = 0x5eed_0003;
    println!("seed {seed:#x}");
    let mut numbers = Numbers(seed);
    let policy = policy();
    for (name, text) in programs() {
        let (program, owner) = compiled(&name, &text);
        let own = owner.owned();
        let mut spoken = Spoken::default();
        spoken.block(program.body());
        spoken.prefixes(&[own]);
        spoken.addrs.extend((0..80).filter_map(|n| own.addr().offset(n)).filter(|addr| own.contains(*addr)));
        spoken.addrs.insert(owner.addr());
        spoken.numbers.extend([0, 1, 6, 17, 1, 25, 40, 600, 1400]);
        let addrs: Vec<Addr> = spoken.addrs.into_iter().collect();
        let outside: Vec<Addr> = addrs.iter().copied().filter(|addr| !own.contains(*addr)).chain([addrs[0]]).collect();
        let inside: Vec<Addr> = addrs.iter().copied().filter(|addr| own.contains(*addr)).collect();
        let values: Vec<u32> = spoken.numbers.into_iter().collect();
        let count = if program.window() == 1 { 1 } else { 16 };
        let mut discarded = 0;
        for _ in 0..3_000 {
            // Few pairs, so that several packets of a window have one.
            let (few_src, few_dst) = (1 + numbers.below(outside.len()), 1 + numbers.below(inside.len()));
            let shift = numbers.below(addrs.len());
            let mut packet = || {
                let any = addrs[numbers.below(addrs.len())];
                let of = |numbers: &mut Numbers, some: &[Addr], few: usize| {
                    if numbers.below(5) == 0 { any } else { some[(shift + numbers.below(few)) % some.len()] }
                };
                let src = of(&mut numbers, &outside, few_src);
                let dst = of(&mut numbers, &inside, few_dst);
                let mut packet = Packet { content: numbers.below(3) as u64, ..Packet::between(src, dst) };
                for (i, number) in packet.numbers.iter_mut().enumerate() {
                    *number = if i < 4 { values[numbers.below(values.len())] } else { numbers.below(2) as u32 };
                }
                packet.numbers[0] = [6, 6, 6, 17, 17, 1, 58][numbers.below(7)];
                packet
            };
            let window: Vec<Packet> = (0..count).map(|_| packet()).collect();
            let run =
                run(&program, &owner, &policy, &window, &mut Any(&mut numbers), &|_| None).expect("names are set");
            assert_eq!(run.end, End::Done, "{name}: {window:?}");
            for event in &run.events {
                match event {
                    Event::Discard(p) | Event::Group(p) | Event::Scan(p) => {
                        assert!(own.contains(window[*p].dst), "{name}: {event:?} of {:?}", window[*p]);
                    }
                    Event::Generate { dst, .. } => assert_eq!(Some(*dst), owner.this_ip(), "{name}"),
                }
            }
            discarded += run.events.iter().filter(|event| matches!(event, Event::Discard(_))).count();
        }
        assert!(discarded > 0, "{name} never discards anything");
    }
}
