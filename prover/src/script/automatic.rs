//! The automatic prover as the one who proves what a text leaves open.

use super::program::Fallback;
use super::read::Certificate;
use crate::hint::Hint;
use crate::search::{Cited, Search};
use std::collections::BTreeMap;
use vinet_trusted::addr::Principal;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::logic::Kernel;
use vinet_trusted::policy::Policy;
use vinet_trusted::program::Program;
use vinet_trusted::proof::{ProofFault, Steps};
use vinet_trusted::term::{Id, Terms};
use vinet_trusted::walk::{self, BranchNote, Guide, LoopNote, Obligation, Site};
use vinet_trusted::wire::Reader;

/// Searches for the proof of each obligation; says of loops and branches what the automatic prover's own certificate
/// says, where it finds one.
#[derive(Debug, Default)]
pub struct Automatic {
    notes: Notes,
    shown: Vec<(Option<Id>, Id)>,
}

impl Automatic {
    /// For this program. `hints` are what its author says of its loops.
    #[must_use]
    pub fn new(program: &Program, owner: &Principal, policy: &Policy, lemmas: &LemmaStore, hints: &[Hint]) -> Self {
        let certificate = crate::prove(program, owner, policy, lemmas, hints);
        let notes = certificate.ok().and_then(|bytes| Notes::read(program, owner, policy, lemmas, &bytes));
        Automatic { notes: notes.unwrap_or_default(), shown: Vec::new() }
    }
}

impl Fallback for Automatic {
    fn show(&mut self, kernel: &mut Kernel<'_>, obligation: &Obligation) -> Option<Vec<u8>> {
        let mut cited = Vec::new();
        for (number, (member, goal)) in self.shown.iter().enumerate() {
            kernel.begin(*member);
            let premise = if member.is_some() { Some(kernel.claim(0).ok()?) } else { None };
            // What was shown where more was known than here cannot be cited.
            if kernel.cite(number, premise).is_ok() {
                let set = member.map(|member| kernel.terms.get(member).args[1]);
                cited.push(Cited { number: number as u32, set, goal: *goal });
            }
        }
        Search::new(kernel, obligation.member, None, cited).written(obligation.goal)
    }
    fn shown(&mut self, obligation: &Obligation) {
        self.shown.push((obligation.member, obligation.goal));
    }
    fn program(&mut self, _: &Kernel<'_>) -> Option<u64> {
        self.notes.cost
    }
    fn branch(&mut self, _: &mut Kernel<'_>, site: &Site<'_>) -> BranchNote {
        self.notes.branches.get(&site.instr).copied().unwrap_or(BranchNote::Live)
    }
    fn turn(&mut self, kernel: &mut Kernel<'_>, site: &Site<'_>) -> LoopNote {
        // Sets and addresses have the numbers here that they had in the certificate's own walk.
        let bytes = self.notes.loops.get(&site.instr);
        bytes.and_then(|bytes| Certificate::new(bytes).turn(kernel).ok()).unwrap_or_default()
    }
}

/// What a certificate says besides proofs; of each loop the bytes.
#[derive(Debug, Default)]
struct Notes {
    cost: Option<u64>,
    branches: BTreeMap<usize, BranchNote>,
    loops: BTreeMap<usize, Vec<u8>>,
}

impl Notes {
    fn read(program: &Program, owner: &Principal, policy: &Policy, lemmas: &LemmaStore, bytes: &[u8]) -> Option<Notes> {
        let mut kernel = Kernel::new(Terms::new(usize::MAX), lemmas);
        let mut collector = Collector { bytes, at: 0, notes: Notes::default() };
        walk::walk(program, owner, policy, &mut kernel, &mut collector).ok()?;
        Some(collector.notes)
    }
}

/// The guide that reads a certificate for its notes.
struct Collector<'a> {
    bytes: &'a [u8],
    at: usize,
    notes: Notes,
}

impl<'a> Collector<'a> {
    fn read<T>(&mut self, item: impl FnOnce(&mut Certificate<'a>) -> Result<T, ProofFault>) -> Result<T, ProofFault> {
        let mut certificate = Certificate::new(&self.bytes[self.at..]);
        let item = item(&mut certificate)?;
        self.at += certificate.position();
        Ok(item)
    }
}

impl Guide for Collector<'_> {
    type Fault = ProofFault;

    fn program(&mut self, _: &mut Kernel<'_>) -> Result<Option<u64>, ProofFault> {
        self.notes.cost = self.read(Certificate::program)?;
        Ok(self.notes.cost)
    }
    fn branch(&mut self, _: &mut Kernel<'_>, site: &Site<'_>) -> Result<BranchNote, ProofFault> {
        let note = self.read(Certificate::branch)?;
        self.notes.branches.insert(site.instr, note);
        Ok(note)
    }
    fn turn(&mut self, kernel: &mut Kernel<'_>, site: &Site<'_>) -> Result<LoopNote, ProofFault> {
        let from = self.at;
        let said = self.read(|certificate| certificate.turn(kernel))?;
        self.notes.loops.insert(site.instr, self.bytes[from..self.at].to_vec());
        Ok(said)
    }
    fn show(&mut self, kernel: &mut Kernel<'_>, _: &Site<'_>, obligation: &Obligation) -> Result<(), ProofFault> {
        let mut steps = Steps::new(Reader::new(&self.bytes[self.at..], usize::MAX, usize::MAX));
        steps.show(kernel, obligation.member, obligation.goal)?;
        self.at += steps.position();
        Ok(())
    }
}
