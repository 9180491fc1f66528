//! The policies of a router: one contract for each kind of principal, signed once at the start.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vinet_session::identity::Identity;
use vinet_session::message::{SignedPolicy, Tariff};
use vinet_session::policy_file::{self, PolicyFileError};
use vinet_trusted::policy::{Policy, PrincipalKind};

/// One policy, with its name in requests and the form that clients get.
#[derive(Debug)]
pub struct Contract {
    policy: Arc<Policy>,
    id: [u8; 32],
    signed: SignedPolicy,
}

impl Contract {
    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }
    /// The hash that requests name it by.
    #[must_use]
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }
    /// The policy as this router signed it.
    #[must_use]
    pub fn signed(&self) -> &SignedPolicy {
        &self.signed
    }
}

/// At most one policy for each kind of principal.
#[derive(Debug)]
pub struct Policies {
    contracts: Vec<Contract>,
    tariff: Tariff,
}

/// Why the policies cannot be used. The operator is at fault.
#[derive(Debug)]
pub enum PoliciesError {
    /// A file cannot be read or parsed.
    File(PolicyFileError),
    /// Two files are for the same kind of principal.
    TwoForOneKind {
        /// The second file.
        file: PathBuf,
        /// The kind.
        kind: PrincipalKind,
    },
}

impl fmt::Display for PoliciesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoliciesError::File(error) => write!(f, "{error}"),
            PoliciesError::TwoForOneKind { file, kind } => write!(
                f,
                "{}: there is already a policy for {kind:?} principals; name one file for each kind in [router] policies",
                file.display()
            ),
        }
    }
}
impl std::error::Error for PoliciesError {}

impl Policies {
    /// Loads and checks `files` without signing anything.
    ///
    /// # Errors
    /// A file cannot be used, or two are for one kind.
    pub fn read<P: AsRef<Path>>(files: &[P]) -> Result<Vec<Policy>, PoliciesError> {
        let mut policies: Vec<Policy> = Vec::new();
        for file in files {
            let policy = policy_file::load(file.as_ref()).map_err(PoliciesError::File)?;
            if policies.iter().any(|other| other.principals == policy.principals) {
                return Err(PoliciesError::TwoForOneKind { file: file.as_ref().to_owned(), kind: policy.principals });
            }
            policies.push(policy);
        }
        Ok(policies)
    }

    /// Signs `policies`, the root of the lemmas that go with them, and what is taken for programs under them, with the
    /// router's key. Of two for one kind the first counts; [`Policies::read`] refuses such.
    #[must_use]
    pub fn sign(policies: Vec<Policy>, lemma_root: [u8; 32], tariff: Tariff, identity: &Identity) -> Policies {
        let contracts = policies
            .into_iter()
            .map(|policy| Contract {
                id: policy.id(),
                signed: SignedPolicy::sign(&policy, lemma_root, tariff, identity),
                policy: Arc::new(policy),
            })
            .collect();
        Policies { contracts, tariff }
    }

    /// All policies.
    pub fn all(&self) -> impl Iterator<Item = &Policy> {
        self.contracts.iter().map(|contract| &*contract.policy)
    }

    /// The prices that are signed with every policy.
    #[must_use]
    pub fn tariff(&self) -> Tariff {
        self.tariff
    }
    /// Every contract.
    pub fn contracts(&self) -> impl Iterator<Item = &Contract> {
        self.contracts.iter()
    }

    /// The contract for one kind of principal.
    #[must_use]
    pub fn of(&self, kind: PrincipalKind) -> Option<&Contract> {
        self.contracts.iter().find(|contract| contract.policy.principals == kind)
    }
}
