//! While packets are run nothing is allocated: all memory of a program is there when it is installed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use vinet_pktops::parse::headers;
use vinet_pktops::{Executable, Verdict};
use vinet_trusted::addr::{Addr, PrefixSet, Principal};
use vinet_trusted::check::check;
use vinet_trusted::policy::{Costs, Formula, Limits, OverBudget, Policy, PrincipalKind};
use vinet_trusted::program::{AddrExpr, Cond, Field, Instr, Program};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts the allocations of each thread.
struct Counting;

// SAFETY: every call goes on to the system's allocator unchanged; the counter is a plain cell of the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`, which is that of the system's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from the system's allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const OWNER: Addr = Addr::V4(0x0a00_0005);

fn accepted(limits_flows: u32) -> Arc<vinet_trusted::check::Checked> {
    let this_ip = AddrExpr { this_ip: true, ..AddrExpr::default() };
    let contains = |word| Cond::Contains { arg: 1, word };
    let body = vec![
        Instr::Select { out: 1, arg: 0, field: Field::Dst, addrs: this_ip },
        Instr::If {
            cond: Cond::And(Box::new(contains(0)), Box::new(Cond::Not(Box::new(contains(1))))),
            then: vec![Instr::Discard { arg: 1 }],
            otherwise: vec![],
        },
    ];
    let program = Program::new(60, vec![b"needle".to_vec(), b"a friend".to_vec()], body).unwrap();
    let owner = Principal::EndUser(OWNER);
    let owns = Formula::Owns(Field::Dst);
    let policy = Arc::new(Policy {
        name: "test".into(),
        principals: PrincipalKind::EndUser,
        discard: owns.clone(),
        group: owns.clone(),
        scan: owns,
        costs: Costs {
            program: 1,
            select: 1,
            select_many: 1,
            partition: 1,
            foreach: 1,
            test: 1,
            discard: 1,
            contains: 1,
            contains_per_64_bytes: 1,
            stream: 1,
        },
        limits: Limits {
            program_bytes_max: 1 << 16,
            proof_bytes_max: 1 << 16,
            lifetime_max_s: 3600,
            complexity_max: 1 << 30,
            cost_max: 1 << 40,
            packet_bytes_max: 1500,
            stream_flows_max: limits_flows,
            stream_islands_max: 4,
            packet_rate_default: 1,
            packet_rate_max: 1,
            over_budget: OverBudget::Forward,
        },
    });
    let proof = vinet_prover::prove(&program, &owner, &policy).expect("a proof");
    Arc::new(check(&program.encode(), &proof, owner, &policy).expect("what is proven checks"))
}

/// An IPv4 frame with a TCP segment.
fn segment(src: u32, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend((40 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend(src.to_be_bytes());
    let Addr::V4(dst) = OWNER else { unreachable!("the owner is an IPv4 address") };
    frame.extend(dst.to_be_bytes());
    let sum = vinet_pktops::checksum::of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend([0, 7, 0, 25]);
    frame.extend(seq.to_be_bytes());
    frame.extend([0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

#[test]
fn running_packets_allocates_nothing() {
    assert!(PrefixSet::of(OWNER).contains(OWNER));
    let executable = Executable::lower(accepted(32)).unwrap();
    let mut state = executable.state();
    // More flows and more islands than there is room for, in and out of order, with and without the words.
    let frames: Vec<Vec<u8>> = (0..4000u32)
        .map(|i| {
            segment(
                0xc000_0200 + i / 100,
                (i * 7919) % 3000,
                [&b"some needle or friend of "[..], b"no"][i as usize / 100 % 2],
            )
        })
        .collect();
    let parsed: Vec<_> = frames.iter().map(|frame| headers(frame).unwrap()).collect();
    let mut verdicts = Vec::with_capacity(frames.len());
    let before = ALLOCATIONS.get();
    executable.run_window(&mut state, frames.iter().map(Vec::as_slice).zip(&parsed), 0, &mut verdicts);
    assert_eq!(ALLOCATIONS.get() - before, 0);
    let discarded = verdicts.iter().filter(|v| **v != Verdict::Forward).count();
    assert!(discarded > 1000 && discarded < frames.len());
    let counters = state.counters();
    assert!(counters.flows_evicted > 0 && counters.islands_evicted > 0, "{counters:?}");
    let boxed = Box::new(1);
    assert!(ALLOCATIONS.get() > before, "the counter counts: {boxed}");
}
