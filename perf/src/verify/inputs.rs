//! What is proven and checked: the shipped programs and the hard corpus, each with an owner and a policy.

use crate::run::PerfError;
use crate::verify::generate::Policies;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use vinet_client::lang;
use vinet_prover::corpus::Hard;
use vinet_prover::hint::Hint;
use vinet_session::identity::parse_principal;
use vinet_trusted::addr::Principal;
use vinet_trusted::check::{Checked, Reject, check};
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::policy::Policy;
use vinet_trusted::program::Program;

/// A program to be proven.
pub struct Subject {
    /// The name of the file, or of the program of the corpus.
    pub name: String,
    /// It.
    pub program: Program,
    /// What its text says of its loops.
    pub hints: Vec<Hint>,
    /// Whose.
    pub owner: Principal,
    /// Under which policy.
    pub policy: Arc<Policy>,
}

/// What a router is given: bytes, and for whom and under which policy they are checked.
pub struct Sent {
    /// The program's.
    pub program: Vec<u8>,
    /// The proof's.
    pub proof: Vec<u8>,
    /// Whose.
    pub owner: Principal,
    /// Under which policy.
    pub policy: Arc<Policy>,
}

impl Sent {
    /// What the checker says.
    pub fn check(&self, lemmas: &LemmaStore) -> Result<Checked, Reject> {
        check(&self.program, &self.proof, self.owner, &self.policy, lemmas)
    }
}

/// Why a program has no certificate.
pub enum NoCertificate {
    /// Its maker gives up.
    GivesUp(String),
    /// The checker refuses what its maker made: the maker is wrong.
    Refused(Reject),
}

impl fmt::Display for NoCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoCertificate::GivesUp(why) => f.write_str(why),
            NoCertificate::Refused(reject) => write!(f, "the checker refuses the certificate: {reject}"),
        }
    }
}

impl Subject {
    /// It with its proof, which the checker has accepted; or why there is none.
    pub fn proven(&self, lemmas: &LemmaStore) -> Result<Sent, NoCertificate> {
        let proof = vinet_prover::prove(&self.program, &self.owner, &self.policy, lemmas, &self.hints);
        self.with(proof.map_err(|error| NoCertificate::GivesUp(error.to_string()))?, lemmas)
    }
    /// It with the certificate of the static analysis, which the checker has accepted; or what the analysis lacks.
    pub fn analysed(&self, lemmas: &LemmaStore) -> Result<Sent, NoCertificate> {
        let proof = vinet_prover::analyse(&self.program, &self.owner, &self.policy, lemmas);
        self.with(proof.map_err(|failed| NoCertificate::GivesUp(failed.why.to_string()))?, lemmas)
    }
    fn with(&self, proof: Vec<u8>, lemmas: &LemmaStore) -> Result<Sent, NoCertificate> {
        let (owner, policy) = (self.owner, Arc::clone(&self.policy));
        let sent = Sent { program: self.program.encode(), proof, owner, policy };
        match sent.check(lemmas) {
            Ok(_) => Ok(sent),
            Err(reject) => Err(NoCertificate::Refused(reject)),
        }
    }
}

/// Every program of the folder, compiled as its line `# compile: --as … --set …` says, in order of their names.
pub fn shipped(folder: &Path, policies: &Policies) -> Result<Vec<Subject>, PerfError> {
    let fault = |path: &Path, error| PerfError::File { path: path.to_owned(), error };
    let mut subjects = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| fault(folder, e))? {
        let path = entry.map_err(|e| fault(folder, e))?.path();
        if path.extension().is_some_and(|extension| extension == "vnp") {
            let text = std::fs::read_to_string(&path).map_err(|e| fault(&path, e))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            subjects.push(compiled(&name, &text, policies).map_err(PerfError::Option)?);
        }
    }
    subjects.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(subjects)
}

fn compiled(name: &str, text: &str, policies: &Policies) -> Result<Subject, String> {
    let line = text.lines().find_map(|line| line.strip_prefix("# compile:"));
    let line = line.ok_or_else(|| format!("{name}: no line says how it is compiled"))?;
    let (mut owner, mut settings) = (None, Vec::new());
    let mut words = line.split_whitespace();
    while let Some(option) = words.next() {
        let value = words.next().unwrap_or_default();
        match option {
            "--as" => owner = Some(parse_principal(value).map_err(|e| format!("{name}: {e}"))?),
            "--set" => settings.push(lang::setting(value).map_err(|e| format!("{name}: {e}"))?),
            _ => return Err(format!("{name}: `{option}` says nothing about compiling")),
        }
    }
    let owner = owner.ok_or_else(|| format!("{name}: no line says whose program it is"))?;
    let compiled = lang::compile(name, text, &settings, &owner).map_err(|errors| errors.to_string())?;
    let policy = match owner {
        Principal::EndUser(_) => &policies.end_user,
        Principal::EdgeRouter(_) => &policies.edge_router,
    };
    let (program, hints, policy) = (compiled.program, compiled.hints, Arc::clone(policy));
    Ok(Subject { name: name.to_owned(), program, hints, owner, policy })
}

/// The hard corpus: lawful programs, each with the domain that an analyser needs for it.
pub fn corpus() -> Vec<(Subject, &'static str)> {
    let subject = |hard: Hard| {
        let (owner, policy) = (hard.owner(), Arc::new(hard.policy()));
        let Hard { name, domain, program, hints, .. } = hard;
        (Subject { name: name.to_owned(), program, hints, owner, policy }, domain)
    };
    vinet_prover::corpus::hard().into_iter().map(subject).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
    }

    #[test]
    fn every_shipped_program_has_an_owner_and_a_policy() {
        let policies = Policies::load(&configs().join("policy")).unwrap_or_else(|error| panic!("{error}"));
        let shipped = shipped(&configs().join("programs"), &policies).unwrap_or_else(|error| panic!("{error}"));
        let names: Vec<&str> = shipped.iter().map(|subject| subject.name.as_str()).collect();
        for name in ["firewall.vnp", "spam-filter.vnp", "multicast.vnp"] {
            assert!(names.contains(&name), "{names:?}");
        }
    }

    #[test]
    fn a_text_that_does_not_say_how_it_is_compiled_is_told() {
        let policies = Policies::load(&configs().join("policy")).unwrap_or_else(|error| panic!("{error}"));
        let told = |text: &str| compiled("f.vnp", text, &policies).err().unwrap_or_default();
        assert_eq!(told("LIFETIME = 1 day\n"), "f.vnp: no line says how it is compiled");
        assert_eq!(told("# compile: --set A=1\n"), "f.vnp: no line says whose program it is");
        assert_eq!(told("# compile: --for 192.0.2.2\n"), "f.vnp: `--for` says nothing about compiling");
    }
}
