//! Exhaustive small scope: whatever the checker accepts never produces a forbidden event.
//!
//! Every program of up to four instructions over two addresses is run by the reference interpreter on every window of
//! up to three packets with every answer about content (which is more than every content could give). Each program
//! that has a forbidden event on any of these is *unsafe*. Against every unsafe program the checker is given every
//! certificate of up to two bytes and every certificate that the prover makes for any program of the scope; it must
//! accept none. And of the safe programs the prover must prove almost all, or the test would be about nothing.
//!
//! What is counted as an instruction: each instruction, and each `and` and `or`. Address sets are the owner (by name),
//! the other address, and both. Windows of three packets are taken in one order only for programs of four
//! instructions, because order decides only which group comes first.

mod common;
use common::{and, contains, end_user, not, or, this_ip};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use vinet_trusted::addr::{Addr, Prefix, PrefixSet, Principal};
use vinet_trusted::check::check_proof;
use vinet_trusted::meaning::{Event, Packet, run};
use vinet_trusted::obligations::Obligations;
use vinet_trusted::program::{AddrExpr, Cond, Field, Instr, Program, Slot, Type};

const OWN: Addr = Addr::V4(0xc000_0200);
const OTHER: Addr = Addr::V4(0xc000_0201);
const INSTRUCTIONS_MAX: usize = 4;

fn sets() -> [AddrExpr; 3] {
    let both = PrefixSet::new(vec![Prefix::of(OWN, 31).expect("a prefix")]);
    [this_ip(), OTHER.into(), AddrExpr { prefixes: both, ..AddrExpr::default() }]
}

/// Gives `then` every block of exactly `size` instructions that may stand where the slots have these types, with the
/// slots behind it.
fn blocks(size: usize, slots: &[Type], then: &mut dyn FnMut(Vec<Instr>, Vec<Type>)) {
    if size == 0 {
        return then(Vec::new(), slots.to_vec());
    }
    let mut first = |instr: Instr, slots: &[Type], size: usize| {
        blocks(size, slots, &mut |mut rest, slots| {
            rest.insert(0, instr.clone());
            then(rest, slots);
        });
    };
    let of = |ty: Type| (0..slots.len() as Slot).filter(move |&s| slots[usize::from(s)] == ty).collect::<Vec<_>>();
    let packets = of(Type::Packets);
    let targets = |ty: Type| {
        let mut targets: Vec<(Slot, Vec<Type>)> =
            of(ty).into_iter().filter(|&s| s > 0).map(|s| (s, slots.to_vec())).collect();
        let mut more = slots.to_vec();
        more.push(ty);
        targets.push((slots.len() as Slot, more));
        targets
    };
    for &arg in &packets {
        first(Instr::Discard { arg }, slots, size - 1);
        for field in [Field::Src, Field::Dst] {
            for (out, slots) in targets(Type::Packets) {
                for addrs in sets() {
                    first(Instr::Select { out, arg, field, addrs }, &slots, size - 1);
                }
            }
            for (out, slots) in targets(Type::Groups(field)) {
                first(Instr::Partition { out, arg, field }, &slots, size - 1);
            }
        }
    }
    for field in [Field::Src, Field::Dst] {
        for groups in of(Type::Groups(field)) {
            let mut inside = slots.to_vec();
            inside.extend([Type::Packets, Type::Key(field)]);
            let bound = slots.len() as Slot;
            for inner in 0..size {
                blocks(inner, &inside, &mut |body, slots| {
                    first(Instr::Foreach { groups, packets: bound, key: bound + 1, body }, &slots, size - 1 - inner);
                });
            }
        }
    }
    for (cond, cond_size) in conds(slots) {
        for inner in 0..(size.saturating_sub(cond_size)) {
            for left in 0..=inner {
                blocks(left, slots, &mut |then, slots| {
                    blocks(inner - left, &slots, &mut |otherwise, slots| {
                        let instr = Instr::If { cond: cond.clone(), then: then.clone(), otherwise };
                        first(instr, &slots, size - 1 - cond_size - inner);
                    });
                });
            }
        }
    }
}

/// The conditions, with what they count.
fn conds(slots: &[Type]) -> Vec<(Cond, usize)> {
    let mut atoms = Vec::new();
    for (slot, ty) in slots.iter().enumerate() {
        match ty {
            Type::Packets => atoms.push(contains(slot as Slot, 0)),
            Type::Key(_) => {
                atoms.extend(sets()[..2].iter().cloned().map(|addrs| Cond::KeyIn { key: slot as Slot, addrs }))
            }
            Type::Groups(_) => {}
        }
    }
    let mut all: Vec<(Cond, usize)> = atoms.iter().map(|c| (c.clone(), 0)).collect();
    all.extend(atoms.iter().map(|c| (not(c.clone()), 0)));
    for a in &atoms {
        for b in &atoms {
            all.push((and(a.clone(), b.clone()), 1));
            all.push((or(a.clone(), b.clone()), 1));
        }
    }
    all
}

fn programs(size: usize) -> Vec<Program> {
    let mut programs = Vec::new();
    blocks(size, &[Type::Packets], &mut |body, _| {
        let program = Program::new(1, vec![b"w".to_vec()], body.clone()).or_else(|_| Program::new(1, vec![], body));
        programs.extend(program);
    });
    programs
}

fn windows(ordered: bool) -> Vec<Vec<Packet>> {
    let kinds: Vec<Packet> = [OWN, OTHER].iter().flat_map(|&src| [OWN, OTHER].map(|dst| Packet { src, dst })).collect();
    let mut all = vec![Vec::new()];
    let mut longest: Vec<Vec<usize>> = vec![Vec::new()];
    for _ in 0..3 {
        longest = longest
            .iter()
            .flat_map(|w| (0..kinds.len()).map(|k| [&w[..], &[k]].concat()))
            .filter(|w| ordered || w.is_sorted())
            .collect();
        all.extend(longest.iter().map(|w| w.iter().map(|&k| kinds[k]).collect()));
    }
    all
}

/// Whether some window and some answers give an event on a packet that is not to the owner.
fn is_unsafe(program: &Program, windows: &[Vec<Packet>]) -> bool {
    let owner = Principal::EndUser(OWN);
    for window in windows {
        // Answers as a binary counter whose length is the number of questions.
        let mut answers: Vec<bool> = Vec::new();
        loop {
            let mut asked = 0;
            let events = run(program, &owner, window, &mut |packets, _| {
                if packets.is_empty() {
                    return false;
                }
                if asked == answers.len() {
                    answers.push(false);
                }
                asked += 1;
                answers[asked - 1]
            });
            for event in events.expect("an end user has THIS_IP") {
                let (Event::Discard(p) | Event::Group(p) | Event::Scan(p)) = event;
                if window[p].dst != OWN {
                    return true;
                }
            }
            while answers.last() == Some(&true) {
                answers.pop();
            }
            match answers.last_mut() {
                Some(last) => *last = true,
                None => break,
            }
        }
    }
    false
}

/// Every certificate of up to two bytes that reaches further than its first byte in some program; the others fail
/// before they say anything about one.
fn short_certificates(programs: &[Program]) -> Vec<Vec<u8>> {
    let mut live = BTreeSet::from([Vec::new()]);
    let every = (0..=255u8).map(|a| vec![a]).chain((0..=255u8).flat_map(|a| (0..=255u8).map(move |b| vec![a, b])));
    let every: Vec<Vec<u8>> = every.collect();
    for program in programs {
        let mut obligations = obligations(program);
        for certificate in &every {
            use vinet_trusted::check::{ProofFault::Wire, Reject};
            match check_proof(&mut obligations, certificate) {
                Err(Reject::NotProven { fault: Wire(_), .. } | Reject::TrailingProof { at: 0 }) => {}
                _ => {
                    live.insert(certificate.clone());
                }
            }
        }
    }
    live.into_iter().collect()
}

fn obligations(program: &Program) -> Obligations {
    Obligations::of(program, &Principal::EndUser(OWN), &end_user()).expect("an end user has THIS_IP")
}

/// Splits the work over the processors.
fn for_all<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(chunk) = items.chunks(256).nth(next.fetch_add(1, Ordering::Relaxed)) {
                    chunk.iter().for_each(&work);
                }
            });
        }
    });
}

#[test]
fn what_is_accepted_never_does_what_is_forbidden() {
    let started = std::time::Instant::now();
    let scope: Vec<Vec<Program>> = (0..=INSTRUCTIONS_MAX).map(programs).collect();
    println!("programs by size: {:?} ({:?})", scope.iter().map(Vec::len).collect::<Vec<_>>(), started.elapsed());

    let certificates = std::sync::Mutex::new(BTreeSet::new());
    let unsafe_programs = std::sync::Mutex::new(Vec::new());
    let (safe, unproven) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for (size, programs) in scope.iter().enumerate() {
        let windows = windows(size < INSTRUCTIONS_MAX);
        for_all(programs, |program| {
            if is_unsafe(program, &windows) {
                unsafe_programs.lock().expect("no thread panicked").push(program.clone());
                return;
            }
            safe.fetch_add(1, Ordering::Relaxed);
            match vinet_prover::prove(program, &Principal::EndUser(OWN), &end_user()) {
                Ok(proof) => {
                    check_proof(&mut obligations(program), &proof).expect("what the prover makes is accepted");
                    certificates.lock().expect("no thread panicked").insert(proof);
                }
                Err(_) => {
                    unproven.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let unsafe_programs = unsafe_programs.into_inner().expect("no thread panicked");
    let mut certificates = certificates.into_inner().expect("no thread panicked");
    let (safe, unproven) = (safe.into_inner(), unproven.into_inner());
    println!(
        "{safe} safe ({unproven} of them not proven), {} unsafe, {} certificates ({:?})",
        unsafe_programs.len(),
        certificates.len(),
        started.elapsed()
    );
    assert!(unproven * 10 <= safe, "the prover gives up on too many safe programs");

    let small: Vec<Program> = scope[..=2].concat();
    certificates.extend(short_certificates(&small));
    let certificates: Vec<Vec<u8>> = certificates.into_iter().collect();
    println!("{} certificates against each unsafe program ({:?})", certificates.len(), started.elapsed());
    for_all(&unsafe_programs, |program| {
        let mut obligations = obligations(program);
        for certificate in &certificates {
            assert!(
                check_proof(&mut obligations, certificate).is_err(),
                "accepted an unsafe program: {program:?} with {certificate:02x?}"
            );
        }
    });
    println!("done ({:?})", started.elapsed());
}
