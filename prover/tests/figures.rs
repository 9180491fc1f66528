//! The paper's Figures 2 and 3 in the text form, checked; and the real firewall, whose meaning nobody asserts.

use std::collections::HashSet;
use std::sync::Arc;
use vinet_prover::corpus::{self, Kind};
use vinet_prover::script::{self, LemmaNames};
use vinet_trusted::addr::{Addr, Prefix};
use vinet_trusted::check::check;
use vinet_trusted::lemma::{LemmaError, LemmaStore};
use vinet_trusted::packet::Packet;
use vinet_trusted::policy::Policy;
use vinet_trusted::term::Op;
use vinet_trusted::walk::{Duty, EventKind};

const FIGURES: &str = include_str!("../lemmas/figures.vpf");

#[test]
fn figure_3s_theorem_follows_from_figure_2s_axioms() {
    let (mut store, mut names) = (LemmaStore::default(), LemmaNames::default());
    let lemmas = script::lemmas(FIGURES, &mut store, &mut names).map_err(|error| error.with_place(FIGURES)).unwrap();
    // From the bytes alone, as a router would take it.
    let theorem = &lemmas[0];
    assert_eq!(theorem.name, "EndUser-IP1-observes-policy");
    let mut router = LemmaStore::default();
    assert_eq!(router.add(&theorem.lemma, &theorem.proof), Ok(0));
    assert_eq!(router.premises(0), Some(6));
    // It says what the figure says: of everything, and with an equation of network states at its end.
    let (_, _, conclusion) = router.statement(0).unwrap();
    let terms = router.terms();
    let mut at = conclusion;
    let mut ops = Vec::new();
    while matches!(terms.get(at).op, Op::Forall | Op::Implies) {
        ops.push(terms.get(at).op);
        at = terms.get(at).args[1];
    }
    use Op::{Forall, Implies};
    assert_eq!(ops, [Forall, Forall, Forall, Implies, Forall, Forall]);
    assert_eq!(terms.get(at).op, Op::Eq);
}

/// As printed, the figure's second case does not assume that the packet is to someone else.
#[test]
fn without_the_assumption_that_the_figure_lacks_it_does_not_follow() {
    let printed = FIGURES.replace("Held, In, Out), other);", "Held, In, Out), same);");
    assert_ne!(printed, FIGURES);
    let (mut store, mut names) = (LemmaStore::default(), LemmaNames::default());
    assert!(script::lemmas(&printed, &mut store, &mut names).is_err());
    assert!(store.is_empty());
}

#[test]
fn every_step_of_the_figures_proof_is_needed() {
    let (mut store, mut names) = (LemmaStore::default(), LemmaNames::default());
    let theorem = script::lemmas(FIGURES, &mut store, &mut names).unwrap().remove(0);
    for at in 0..theorem.proof.len() {
        let mut without = theorem.proof.clone();
        without.remove(at);
        let taken = LemmaStore::default().add(&theorem.lemma, &without);
        assert!(matches!(taken, Err(LemmaError::NotShown { .. })), "byte {at}");
    }
}

#[test]
fn the_real_firewall_gives_the_same_guarantee_from_its_bytes() {
    let blocked = Prefix::host(Addr::from("203.0.113.7".parse::<std::net::IpAddr>().unwrap()));
    let program = corpus::firewall(vec![blocked]);
    let (owner, policy) = (corpus::owner(Kind::EndUser), Arc::new(corpus::policy(Kind::EndUser)));
    let Policy { discard, .. } = &*policy;
    // The obligation of the discard says that each of its packets is to the owner.
    let empty = LemmaStore::default();
    let mut nobody = |_: &mut vinet_trusted::logic::Kernel<'_>, _: &vinet_trusted::walk::Obligation| None;
    let listed = script::obligations(&program, &owner, &policy, &empty, "", &mut nobody).unwrap();
    let own = format!("dst(p) in {{{}}}", owner.addr());
    assert!(listed.iter().all(|obligation| obligation.goal == own));
    let discards = listed.iter().filter(|obligation| matches!(obligation.duty, Duty::Event(EventKind::Discard, _)));
    assert_eq!(discards.count(), 1);
    // They are shown by hand, and the checker takes it.
    let text = "
        obligation 0 { right(unfold(member)) }
        obligation 1 { right(unfold(left(unfold(member)))) }
        obligation 2 { cite(1, member) }
    ";
    let store = (&empty, &LemmaNames::default());
    let proof = script::prove(&program, &owner, &policy, store, text, &mut nobody).unwrap();
    let checked = check(&program.encode(), &proof, owner, &policy, &empty).unwrap();
    // Figure 2's policy of it, packet by packet: one that may not be discarded is not.
    let [here, there, bad]: [Addr; 3] =
        [owner.addr(), "198.51.100.9".parse::<std::net::IpAddr>().unwrap().into(), blocked.addr()];
    let mut seen = HashSet::new();
    for (src, dst) in [(bad, here), (bad, there), (there, here), (there, there), (here, there)] {
        let packet = Packet::between(src, dst);
        let may = discard.eval(&owner, &packet, &|_| unreachable!("a policy has no slots")).unwrap();
        assert_eq!(may, dst == here);
        if !may {
            assert!(vinet_trusted::gate::discard(&checked, &packet).is_none());
        }
        seen.insert(may);
    }
    assert_eq!(seen.len(), 2);
}
