//! What a program costs by the sum of its parts, whether or not it keeps to a policy.

use vinet_trusted::addr::Principal;
use vinet_trusted::cost;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::logic::Kernel;
use vinet_trusted::policy::Policy;
use vinet_trusted::program::Program;
use vinet_trusted::term::Terms;
use vinet_trusted::walk::{BranchNote, Guide, LoopNote, Obligation, Site, walk};

/// A guide that says nothing and takes everything for shown. It makes no certificate.
struct Credulous;

impl Guide for Credulous {
    type Fault = std::convert::Infallible;

    fn program(&mut self, _: &mut Kernel<'_>) -> Result<Option<u64>, Self::Fault> {
        Ok(None)
    }
    fn branch(&mut self, _: &mut Kernel<'_>, _: &Site<'_>) -> Result<BranchNote, Self::Fault> {
        Ok(BranchNote::Live)
    }
    fn turn(&mut self, _: &mut Kernel<'_>, _: &Site<'_>) -> Result<LoopNote, Self::Fault> {
        Ok(LoopNote::default())
    }
    fn show(&mut self, _: &mut Kernel<'_>, _: &Site<'_>, _: &Obligation) -> Result<(), Self::Fault> {
        Ok(())
    }
}

/// Complexity(P) in cycles per packet and Cost(P) in cycles per packet times seconds, as they are where the proof says
/// nothing of costs and loops. None where a name has no value for the owner, or a figure does not fit into 64 bits.
#[must_use]
pub fn figures(program: &Program, owner: &Principal, policy: &Policy) -> Option<(u64, u64)> {
    let lemmas = LemmaStore::default();
    let mut kernel = Kernel::new(Terms::new(usize::MAX), &lemmas);
    let complexity = walk(program, owner, policy, &mut kernel, &mut Credulous).ok()?.complexity;
    Some((complexity, cost::total(complexity, program.lifetime_s()).ok()?))
}
