//! The hard corpus is proven, and what differs from it in one place is not.

use std::sync::Arc;
use vinet_prover::corpus::{self, Hard, Kind};
use vinet_prover::{NotProven, library, prove};
use vinet_trusted::addr::{Addr, Prefix, Principal};
use vinet_trusted::check::check;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::meaning::{Answers, Event, run};
use vinet_trusted::packet::{Number, Packet, Test};
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{Program, Word};

fn proven(program: &Program, owner: Principal, policy: Policy) -> Vec<u8> {
    let lemmas = LemmaStore::default();
    let proof = prove(program, &owner, &policy, &lemmas, &[]).unwrap_or_else(|why| panic!("{why}"));
    check(&program.encode(), &proof, owner, &Arc::new(policy), &lemmas).unwrap_or_else(|why| panic!("{why}"));
    proof
}

#[test]
fn the_papers_programs_have_short_proofs() {
    let user = (corpus::owner(Kind::EndUser), corpus::policy(Kind::EndUser));
    let firewall = corpus::firewall(vec![Prefix::host(Addr::V4(0xcb00_7107))]);
    let proof = proven(&firewall, user.0, user.1.clone());
    assert_eq!(proof, [0, 1, 0, 2, 4, 0, 1, 0, 2, 3, 6, 0, 0, 1, 0, 6, 1, 0], "{proof:x?}");
    let spam = proven(&corpus::spam_filter(), user.0, user.1);
    assert!(spam.len() <= 200, "{} bytes", spam.len());
    let multicast = proven(&corpus::multicast(), corpus::owner(Kind::EdgeRouter), corpus::policy(Kind::EdgeRouter));
    assert!(multicast.len() <= 200, "{} bytes", multicast.len());
    println!("firewall {}, spam filter {}, multicast {}", proof.len(), spam.len(), multicast.len());
}

fn prove_hard(hard: &Hard, program: &Program) -> Result<Vec<u8>, NotProven> {
    prove(program, &hard.owner(), &hard.policy(), &LemmaStore::default(), &hard.hints)
}

#[test]
fn every_program_of_the_hard_corpus_is_proven() {
    let all = corpus::hard();
    assert!(all.len() >= 30);
    let mut sizes = Vec::new();
    for hard in &all {
        let proof = prove_hard(hard, &hard.program).unwrap_or_else(|why| panic!("{}: {why}", hard.name));
        let bytes = hard.program.encode();
        let checked = check(&bytes, &proof, hard.owner(), &Arc::new(hard.policy()), &LemmaStore::default());
        assert!(checked.is_ok(), "{}: {}", hard.name, checked.map_or_else(|why| why.to_string(), |_| String::new()));
        println!("{:>5} bytes  {}", proof.len(), hard.name);
        sizes.push(proof.len());
    }
    sizes.sort_unstable();
    println!("median {} bytes, longest {} bytes", sizes[sizes.len() / 2], sizes[sizes.len() - 1]);
    assert!(sizes[sizes.len() / 2] <= 512);
}

#[test]
fn the_library_makes_no_proof_longer_and_all_together_shorter() {
    let (mut with, mut without) = (0, 0);
    for hard in corpus::hard() {
        let (owner, policy) = (hard.owner(), hard.policy());
        let longer = prove_hard(&hard, &hard.program).expect("lawful").len();
        let proof = prove(&hard.program, &owner, &policy, &library(), &hard.hints).expect("lawful");
        let checked = check(&hard.program.encode(), &proof, owner, &Arc::new(policy), &library());
        assert!(checked.is_ok(), "{}", hard.name);
        assert!(proof.len() <= longer, "{}: {} bytes with lemmas, {longer} without", hard.name, proof.len());
        (with, without) = (with + proof.len(), without + longer);
    }
    println!("{with} bytes with lemmas, {without} without");
    assert!(with * 10 <= without * 9);
}

#[test]
fn a_counter_that_is_asked_for_equality_needs_the_lemma_that_order_is_antisymmetric() {
    let counting = |last: i64| corpus::counting_until(last);
    let (owner, policy) = (corpus::owner(Kind::EdgeRouter), corpus::policy(Kind::EdgeRouter));
    let made = |last, lemmas: &LemmaStore| prove(&counting(last), &owner, &policy, lemmas, &[]);
    let proof = made(256, &library()).unwrap_or_else(|why| panic!("{why}"));
    let checked = check(&counting(256).encode(), &proof, owner, &Arc::new(policy.clone()), &library());
    assert!(checked.is_ok());
    assert!(made(257, &library()).is_err());
    assert!(made(256, &LemmaStore::default()).is_err());
}

#[test]
fn what_is_close_to_it_and_unlawful_is_not_proven() {
    for hard in corpus::hard() {
        assert!(!hard.unlawful.is_empty(), "{}", hard.name);
        for (number, unlawful) in hard.unlawful.iter().enumerate() {
            assert!(prove_hard(&hard, unlawful).is_err(), "{} [{number}] was proven", hard.name);
        }
    }
}

/// Answers at random, among them the numbers on both sides of the bounds of the corpus.
struct Guesses(u64);

impl Guesses {
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        of[(self.0 % of.len() as u64) as usize]
    }
}

impl Answers for Guesses {
    fn contains(&mut self, packets: &[usize], _: &Word) -> bool {
        !packets.is_empty() && self.one(&[true, false])
    }
    fn count(&mut self, packets: &[usize], _: &Word) -> u64 {
        if packets.is_empty() { 0 } else { self.one(&[0, 1, 2, 3, 4, 192, 193, 255, 256, 257, 65_535]) }
    }
}

const NET: u32 = 0xc000_0200;
const ADDRS: [u32; 10] =
    [NET, NET + 1, NET + 2, NET + 3, NET + 63, NET + 200, NET + 256, NET + 700, 0x0a00_0001, 0x0b00_0001];

fn a_packet(guesses: &mut Guesses) -> Packet {
    let (src, dst) = (Addr::V4(guesses.one(&ADDRS)), Addr::V4(guesses.one(&ADDRS)));
    let mut packet = Packet::between(src, dst);
    packet.numbers[Number::Protocol as usize] = guesses.one(&[1, 6, 17, 58]);
    packet.numbers[Number::SrcPort as usize] = guesses.one(&[25, 443, 853, 2000]);
    packet.numbers[Number::DstPort as usize] = guesses.one(&[25, 443, 853, 2000]);
    packet.content = u64::from(guesses.one(&ADDRS));
    packet
}

/// Whether some run of the program does what the policy forbids, or costs more than it allows.
fn misbehaves(hard: &Hard, program: &Program) -> bool {
    let (owner, policy) = (hard.owner(), hard.policy());
    let mut guesses = Guesses(0x5eed_0002);
    let longest = match program.window() {
        0 => policy.limits.window_packets_max,
        n => n,
    };
    (0..20_000).any(|_| {
        let len = guesses.one(&[1, 2, 3, 5, 9, 11, longest]).min(longest);
        let window: Vec<Packet> = (0..len).map(|_| a_packet(&mut guesses)).collect();
        let run = run(program, &owner, &policy, &window, &mut guesses, &|_| None).expect("names are set");
        let may = |formula: &Test, packet: &Packet| {
            formula.eval(&owner, packet, &|_| unreachable!("policies have no slots")).expect("names are set")
        };
        run.cost > policy.limits.complexity_max.saturating_mul(u64::from(len))
            || run.events.iter().any(|event| match event {
                Event::Discard(at) => !may(&policy.discard, &window[*at]),
                Event::Group(at) => !may(&policy.group, &window[*at]),
                Event::Scan(at) => !may(&policy.scan, &window[*at]),
                Event::Generate { src, dst, .. } => !may(&policy.generate, &Packet::between(*src, *dst)),
            })
    })
}

#[test]
fn the_lawful_ones_keep_to_the_policy_and_the_others_do_not() {
    for hard in corpus::hard() {
        assert!(!misbehaves(&hard, &hard.program), "{}", hard.name);
        for (number, unlawful) in hard.unlawful.iter().enumerate() {
            assert!(misbehaves(&hard, unlawful), "{} [{number}] does nothing wrong", hard.name);
        }
    }
}
