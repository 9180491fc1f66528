//! Signed uploads, made before anything is timed.

use super::daemon::{Bed, wall_s};
use crate::pairs::Pairs;
use crate::run::PerfError;
use crate::verify::generate::Policies;
use std::path::Path;
use std::sync::Arc;
use vinet_control::policies::Policies as Signed;
use vinet_session::identity::{Identity, RouterId};
use vinet_session::message::{Class, Request, Terms, Upload, Withdraw, fresh_nonce};
use vinet_session::payment::Tariff;
use vinet_trusted::addr::{Addr, Principal};
use vinet_trusted::check::check;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::policy::PrincipalKind;

/// The first source that programs are against: one that sends nothing.
pub const SOURCES: u32 = 0xac10_0000;
/// How long a signed request is good for, in seconds.
const GOOD_FOR_S: u64 = 280;

fn failed(words: impl std::fmt::Display) -> PerfError {
    PerfError::Failed { what: "signing uploads".to_owned(), words: words.to_string() }
}

/// What a client knows of a router before it signs.
pub struct Orders {
    router: RouterId,
    /// For end users, and for edge routers.
    policy_ids: [[u8; 32]; 2],
    lemma_root: [u8; 32],
    lemmas: Arc<LemmaStore>,
    /// The shipped policies.
    pub policies: Policies,
    pairs: Pairs,
    tariff: Tariff,
}

impl Orders {
    /// For the router of `bed`, which asks for so much.
    pub fn new(bed: &Bed, configs: &Path, tariff: Tariff) -> Result<Orders, PerfError> {
        let policies = Policies::load(&configs.join("policy"))?;
        let lemma_root = vinet_prover::library().root();
        let all = vec![(*policies.end_user).clone(), (*policies.edge_router).clone()];
        let signed = Signed::sign(all, lemma_root, tariff, &bed.router);
        let id = |kind| signed.of(kind).map(|contract| *contract.id()).ok_or_else(|| failed("a policy is for nobody"));
        let policy_ids = [id(PrincipalKind::EndUser)?, id(PrincipalKind::EdgeRouter)?];
        let pairs = Pairs::against(Addr::V4(SOURCES), &policies.end_user).map_err(failed)?;
        let lemmas = vinet_prover::library();
        Ok(Orders { router: bed.router.public(), policy_ids, lemma_root, lemmas, policies, pairs, tariff })
    }

    /// The paper's firewall against one source.
    pub fn firewall(&self, identity: &Identity, source: u32) -> Result<Terms, PerfError> {
        let (program, proof) = self.pairs.sent(Addr::V4(source)).map_err(failed)?;
        let principal = identity.principal().ok_or_else(|| failed("an identity of no owner"))?;
        self.terms(principal, program, proof)
    }

    /// What a client declares about a program and its proof, once it has checked them itself.
    pub fn terms(&self, principal: Principal, program: Vec<u8>, proof: Vec<u8>) -> Result<Terms, PerfError> {
        let (policy, policy_id) = match principal {
            Principal::EndUser(_) => (&self.policies.end_user, self.policy_ids[0]),
            Principal::EdgeRouter(..) => (&self.policies.edge_router, self.policy_ids[1]),
        };
        let checked = check(&program, &proof, principal, policy, &self.lemmas).map_err(failed)?;
        let decoded = checked.program();
        let packet_rate = policy.limits.packet_rate_default;
        let price = self.tariff.price(
            checked.complexity(),
            packet_rate,
            checked.state_bytes(),
            u64::from(decoded.lifetime_s()),
        );
        Ok(Terms {
            router: self.router,
            policy_id,
            lemma_root: self.lemma_root,
            program,
            proof: Some(proof),
            principal,
            class: Class::of(decoded),
            complexity: checked.complexity(),
            cost: checked.cost(),
            lifetime_s: decoded.lifetime_s(),
            packet_rate,
            payment: price.ok_or_else(|| failed("a price beyond all numbers"))?,
            quote: None,
            monitor: false,
            nonce: fresh_nonce().map_err(failed)?,
            expiry_s: wall_s() + GOOD_FOR_S,
        })
    }

    /// So many firewalls of one owner, signed, each against a source of its own.
    pub fn firewalls(&self, identity: &Identity, count: usize) -> Result<Vec<Request>, PerfError> {
        (0..count)
            .map(|number| {
                let terms = self.firewall(identity, SOURCES + number as u32)?;
                Ok(Request::Upload(Box::new(Upload::sign(terms, identity))))
            })
            .collect()
    }

    /// The withdrawal of an instance.
    pub fn withdrawal(&self, identity: &Identity, instance: u64) -> Result<Request, PerfError> {
        let nonce = fresh_nonce().map_err(failed)?;
        Ok(Request::Withdraw(Withdraw::sign(self.router, instance, nonce, wall_s() + GOOD_FOR_S, identity)))
    }
}
