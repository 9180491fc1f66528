//! Proofs: what has to be shown of a program, who shows it, and what is told where nobody can.

use super::answer::{self, Failure, Outcome, Refusal, Search};
use super::local::{read_policy, read_program, read_proof};
use super::script::{Lemmas, Script};
use super::{Explain, Mode, Obligations, Prove};
use serde_json::json;
use std::path::{Path, PathBuf};
use vinet_client::file;
use vinet_client::lang::SourceMap;
use vinet_client::lang::source_map::hex;
use vinet_client::replay::NotRunnable;
use vinet_prover::analyse::{AnalysisFailed, Lacking};
use vinet_prover::explain::{self, ExplainError};
use vinet_prover::hint::Hint;
use vinet_prover::script::{self, Automatic, ObligationText, ProgramFault};
use vinet_prover::{NotProven, counterexample};
use vinet_trusted::addr::Principal;
use vinet_trusted::check::{Ceiling, Reject};
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::logic::Kernel;
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{Program, Unset};
use vinet_trusted::walk::{Duty, Obligation};

/// What a proof is about.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) program: &'a Program,
    pub(super) owner: &'a Principal,
    pub(super) policy: &'a Policy,
    pub(super) map: Option<&'a SourceMap>,
}

pub(super) fn obligations(args: &Obligations) -> Outcome {
    let (_, program) = read_program(&args.program)?;
    let policy = read_policy(&args.policy)?;
    let map = SourceMap::beside(&args.program, &program);
    let task = Task { program: &program, owner: &args.owner.principal, policy: &policy, map: map.as_ref() };
    let script = args.script.as_deref().map(Script::read).transpose()?;
    let lemmas = with_script(&args.lemmas.files, script.as_ref())?;
    let text = script.as_ref().map_or("", |script| &script.text);
    let mut automatic = task.automatic(&lemmas.store);
    let listed = script::obligations(&program, task.owner, &policy, &lemmas.store, text, &mut automatic)
        .map_err(|fault| task.fault(fault, script.as_ref()))?;
    if args.json.json {
        return listed.iter().try_for_each(|obligation| answer::print_json(&task.obligation_json(obligation)));
    }
    listed.iter().try_for_each(|obligation| answer::print(&task.obligation_words(obligation)))
}

pub(super) fn prove(args: &Prove) -> Outcome {
    let (_, program) = read_program(&args.program)?;
    let policy = read_policy(&args.policy)?;
    let map = SourceMap::beside(&args.program, &program);
    let task = Task { program: &program, owner: &args.owner.principal, policy: &policy, map: map.as_ref() };
    let script = args.script.as_deref().map(Script::read).transpose()?;
    let lemmas = with_script(&args.lemmas.files, script.as_ref())?;
    let proof = match (&script, args.mode) {
        (None, mode) => task.certificate(mode, &lemmas.store)?,
        (Some(script), Mode::Proof) => task.by_script(script, &lemmas)?,
        (Some(script), Mode::Static) => {
            let text = format!("--mode static takes no proof; {} would not be looked at", script.path.display());
            return Err(Failure::Unusable(text));
        }
    };
    file::write(&args.output, &proof)?;
    if args.json.json {
        answer::print_json(&json!({
            "program": hex(&program.id()),
            "proof_bytes": proof.len(),
            "lemma_root": hex(&lemmas.store.root()),
        }))?;
    }
    Ok(())
}

pub(super) fn explain(args: &Explain) -> Outcome {
    let (program_path, proof_path) = match &args.proof {
        Some(proof) => (args.file.clone(), proof.clone()),
        None => (beside(&args.file)?, args.file.clone()),
    };
    let (bytes, program) = read_program(&program_path)?;
    let proof = read_proof(&proof_path)?;
    let policy = read_policy(&args.policy)?;
    let map = SourceMap::beside(&program_path, &program);
    let lemmas = Lemmas::of(&args.lemmas.files)?;
    let line = |instr: usize| Some(map.as_ref()?.place(instr)?.line);
    match explain::proof(&bytes, &proof, &args.owner.principal, &policy, &lemmas.store, &line) {
        Ok(text) => answer::print_bytes(text.as_bytes()),
        Err(error) => {
            if let ExplainError::Step { so_far, .. } = &error {
                answer::print_bytes(so_far.as_bytes())?;
            }
            Err(Refusal::new("not-proven", &error, None, None).into())
        }
    }
}

/// The program that lies beside a proof: `P.proof` has `P.vnb`.
fn beside(proof: &Path) -> Result<PathBuf, Failure> {
    let program = proof.with_extension("vnb");
    if program != proof && program.exists() {
        return Ok(program);
    }
    let text = format!("{}: no program {} is beside it; name it first", proof.display(), program.display());
    Err(Failure::Unusable(text))
}

/// The lemmas of these files, and of the script where it is none of them.
fn with_script(files: &[PathBuf], script: Option<&Script>) -> Result<Lemmas, Failure> {
    let mut lemmas = Lemmas::of(files)?;
    if let Some(script) = script.filter(|script| !files.contains(&script.path)) {
        lemmas.add(script)?;
    }
    Ok(lemmas)
}

impl Task<'_> {
    /// What the source says of the loops.
    fn hints(&self) -> Vec<Hint> {
        self.map.map_or_else(Vec::new, |map| map.hints(self.program))
    }

    fn automatic(&self, lemmas: &LemmaStore) -> Automatic {
        Automatic::new(self.program, self.owner, self.policy, lemmas, &self.hints())
    }

    /// The bytes that show that the program keeps to the policy: found by the prover, or by the analysis of a router.
    pub(super) fn certificate(&self, mode: Mode, lemmas: &LemmaStore) -> Result<Vec<u8>, Box<Refusal>> {
        let Task { program, owner, policy, .. } = *self;
        match mode {
            Mode::Proof => vinet_prover::prove(program, owner, policy, lemmas, &self.hints())
                .map_err(|error| Box::new(self.not_proven(&error))),
            Mode::Static => vinet_prover::analyse(program, owner, policy, lemmas)
                .map_err(|error| Box::new(self.not_analysed(&error))),
        }
    }

    /// The bytes that the script shows, the automatic prover's where it says nothing.
    fn by_script(&self, script: &Script, lemmas: &Lemmas) -> Result<Vec<u8>, Failure> {
        let Task { program, owner, policy, .. } = *self;
        let mut automatic = self.automatic(&lemmas.store);
        let store = (&*lemmas.store, &lemmas.names);
        script::prove(program, owner, policy, store, &script.text, &mut automatic)
            .map_err(|fault| self.fault(fault, Some(script)))
    }

    fn fault(&self, fault: ProgramFault, script: Option<&Script>) -> Failure {
        match (fault, script) {
            (ProgramFault::Script(error), Some(script)) => script.failure(error).into(),
            (ProgramFault::NotShown(obligation), _) => {
                let ObligationText { number, instr, duty, .. } = &*obligation;
                let text = format!("no proof was found of obligation {number}, that {duty}");
                let refusal = Refusal::new("not-proven", &text, Some(*instr), self.map);
                self.told(Refusal { goal: Some(obligation.goal.clone()), known: known(&obligation), ..refusal }).into()
            }
            (ProgramFault::Unset(instr, name), _) => self.rejected(&Reject::Unset(instr, name)).into(),
            (ProgramFault::CostOverflow, _) => self.rejected(&Reject::CostOverflow).into(),
            (ProgramFault::CostOfWindow, _) => self.rejected(&Reject::CostOfWindow).into(),
            (ProgramFault::TooLarge(fault), _) => self.rejected(&Reject::TooLarge(fault)).into(),
            (fault @ (ProgramFault::BadProof { .. } | ProgramFault::Script(_)), _) => {
                Refusal::new("not-proven", &fault, None, None).into()
            }
        }
    }

    /// Why the prover found no proof.
    pub(super) fn not_proven(&self, error: &NotProven) -> Refusal {
        match error {
            NotProven::Rejected(reject) => self.rejected(reject),
            NotProven::NoProofFound { instr, duty, goal, known } => {
                let text = format!("no proof was found that {duty}");
                let refusal = Refusal::new(error.code(), &text, Some(*instr), self.map);
                self.told(Refusal { goal: Some(goal.clone()), known: vec![known.clone()], ..refusal })
            }
        }
    }

    /// Why the analysis gave up.
    fn not_analysed(&self, error: &AnalysisFailed) -> Refusal {
        let AnalysisFailed { instr, duty, why, .. } = error;
        match (why, duty) {
            (Lacking::Rejected(reject), _) => self.rejected(reject),
            (Lacking::Unset(name), _) => self.rejected(&Reject::Unset(Some(*instr), *name)),
            (_, Some(duty)) => {
                let text = format!("the analysis cannot show that {duty}: {why}");
                let refusal = Refusal::new("not-analysed", &text, Some(*instr), self.map);
                self.told(self.with_obligation(refusal, *instr, *duty))
            }
            (_, None) => Refusal::new("not-analysed", error, None, self.map),
        }
    }

    /// Why the checker says no.
    pub(super) fn rejected(&self, reject: &Reject) -> Refusal {
        let refusal = Refusal::new(reject.code(), reject, reject.instr(), self.map);
        match reject {
            Reject::NotProven(place) => match place.duty {
                Some(duty) => self.told(self.with_obligation(refusal, place.instr, duty)),
                None => self.told(refusal),
            },
            Reject::AboveCeiling { what: Ceiling::Complexity, .. } => self.told(refusal),
            _ => refusal,
        }
    }

    /// Why a replay has nothing to run.
    pub(super) fn not_runnable(&self, error: &NotRunnable) -> Refusal {
        match error {
            NotRunnable::NotProven(error) => self.not_proven(error),
            NotRunnable::Rejected(reject) => self.rejected(reject),
            NotRunnable::Lower(_) => Refusal::new(error.code(), error, error.instr(), self.map),
        }
    }

    /// With what had to be shown, where that does not depend on what a certificate says of loops.
    fn with_obligation(&self, refusal: Refusal, instr: usize, duty: Duty) -> Refusal {
        let Task { program, owner, policy, .. } = *self;
        let mut nobody = |_: &mut Kernel<'_>, _: &Obligation| None;
        let listed = script::obligations(program, owner, policy, &LemmaStore::default(), "", &mut nobody);
        let found = listed.ok().and_then(|all| all.into_iter().find(|o| (o.instr, o.duty) == (instr, duty)));
        match found {
            Some(obligation) => Refusal { goal: Some(obligation.goal.clone()), known: known(&obligation), ..refusal },
            None => refusal,
        }
    }

    /// With packets on which the program does what it may not, where a search finds any.
    fn told(&self, refusal: Refusal) -> Refusal {
        let found = counterexample::find(self.program, self.owner, self.policy, &counterexample::Limits::default());
        let place = found.as_ref().ok().and_then(|found| self.map?.place(found.instr?).cloned());
        Refusal { search: Some(Search { found, place }), ..refusal }
    }

    fn obligation_words(&self, obligation: &ObligationText) -> String {
        let place = self.map.and_then(|map| Some((&map.source, map.place(obligation.instr)?)));
        match place {
            Some((source, place)) => format!("{source}:{}: {}\n{obligation}", place.line, place.text),
            None => obligation.to_string(),
        }
    }

    fn obligation_json(&self, obligation: &ObligationText) -> serde_json::Value {
        let ObligationText { number, instr, duty, given, facts, goal } = obligation;
        let given: serde_json::Map<_, _> = given.iter().map(|claim| (claim.name.clone(), json!(claim.says))).collect();
        let mut object = json!({
            "number": number,
            "instr": instr,
            "duty": duty.to_string(),
            "given": given,
            "facts": facts,
            "goal": goal,
        });
        if let Some(map) = self.map
            && let Some(place) = map.place(*instr)
        {
            object["source"] = json!(map.source);
            object["line"] = json!(place.line);
            object["statement"] = json!(place.text);
        }
        object
    }
}

/// What is known where an obligation stands, a line each.
fn known(obligation: &ObligationText) -> Vec<String> {
    let given = obligation.given.iter().map(|claim| claim.says.clone());
    given.chain(obligation.facts.iter().cloned()).collect()
}

/// What is told of a name that an owner has not.
pub(super) fn unset(name: Unset, owner: &Principal) -> Refusal {
    let name = match name {
        Unset::ThisIp => "THIS_IP",
        Unset::ThisSubnet => "THIS_SUBNET_IP",
    };
    Refusal::new("unset-name", &format_args!("the program uses {name}, which {owner} has not"), None, None)
}
