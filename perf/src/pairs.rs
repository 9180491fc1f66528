//! The paper's firewall as a table entry, many times over: one proof, each for an owner of its own.
//!
//! `SELECT` what goes to the owner from one source, `DISCARD` it: one pair of addresses, and nothing that runs. The checker
//! holds every one against its owner. Which source it is makes no difference to the proof: it says that what is discarded
//! is the owner's.

use std::sync::Arc;
use vinet_pktops::Executable;
use vinet_trusted::addr::{Addr, Principal};
use vinet_trusted::check::check;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::packet::Test;
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{AddrExpr, Field, Instr, Program};

/// Firewalls against one source.
pub struct Pairs {
    program: Vec<u8>,
    proof: Vec<u8>,
    policy: Arc<Policy>,
    lemmas: Arc<LemmaStore>,
}

impl Pairs {
    /// The program against `source`, with its proof.
    pub fn against(source: Addr, policy: &Arc<Policy>) -> Result<Pairs, String> {
        let program = program(source)?;
        let lemmas = vinet_prover::library();
        let anybody = Principal::EndUser(Addr::V4(0x0a00_0001));
        let proof = vinet_prover::prove(&program, &anybody, policy, &lemmas, &[]).map_err(|e| e.to_string())?;
        Ok(Pairs { program: program.encode(), proof, policy: Arc::clone(policy), lemmas })
    }

    /// That of one owner, checked and lowered as a router does.
    pub fn of(&self, owner: Addr) -> Result<Arc<Executable>, String> {
        self.accepted(&self.program, owner)
    }

    /// The same for another source, with the proof that there is.
    pub fn between(&self, source: Addr, owner: Addr) -> Result<Arc<Executable>, String> {
        self.accepted(&program(source)?.encode(), owner)
    }

    /// The program against `source` and its proof, as bytes.
    pub fn sent(&self, source: Addr) -> Result<(Vec<u8>, Vec<u8>), String> {
        Ok((program(source)?.encode(), self.proof.clone()))
    }

    fn accepted(&self, program: &[u8], owner: Addr) -> Result<Arc<Executable>, String> {
        let owner = Principal::EndUser(owner);
        let checked = check(program, &self.proof, owner, &self.policy, &self.lemmas).map_err(|e| e.to_string())?;
        Executable::lower(Arc::new(checked)).map(Arc::new).map_err(|e| e.to_string())
    }
}

/// The firewall against `source`.
fn program(source: Addr) -> Result<Program, String> {
    let this_ip = AddrExpr { this_ip: true, ..AddrExpr::default() };
    let body = vec![
        Instr::Select { out: 1, arg: 0, test: Test::In { field: Field::Dst, addrs: this_ip } },
        Instr::Select { out: 2, arg: 1, test: Test::In { field: Field::Src, addrs: source.into() } },
        Instr::Discard { arg: 2 },
    ];
    Program::new(3600, 1, Vec::new(), body).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_prover::corpus::{Kind, policy};

    #[test]
    fn every_owner_has_one_pair_of_addresses_and_nothing_runs() {
        let source = Addr::V4(0xac10_0000);
        let pairs = Pairs::against(source, &Arc::new(policy(Kind::EndUser))).expect("a proof");
        for owner in [1u32, 0x0a00_0001, 0xc612_0001].map(Addr::V4) {
            let executable = pairs.of(owner).expect("it holds for every owner");
            let [cell] = executable.cells() else { panic!("one cell") };
            assert_eq!((cell.src().addr(), cell.dst().addr()), (source, owner));
            assert_eq!((cell.src().len(), cell.dst().len()), (32, 32));
            assert!(executable.is_verdict());
        }
    }

    #[test]
    fn one_proof_holds_for_every_source() {
        let policy = Arc::new(policy(Kind::EndUser));
        let pairs = Pairs::against(Addr::V4(0xac10_0000), &policy).expect("a proof");
        for (source, owner) in [(0x0a00_0001, 0x6440_0000), (0x0aff_ffff, 0x647f_ffff), (0xac1f_ffff, 0xc612_0001)] {
            let (source, owner) = (Addr::V4(source), Addr::V4(owner));
            let executable = pairs.between(source, owner).expect("the proof holds");
            let [cell] = executable.cells() else { panic!("one cell") };
            assert_eq!((cell.src().addr(), cell.dst().addr()), (source, owner));
        }
    }
}
