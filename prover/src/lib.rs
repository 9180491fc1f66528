//! Makers of certificates, none of them trusted: what they make is checked by the router like anyone's.
//!
//! [`prove`] finds a proof of every obligation of a program by itself. The client proves with it before it uploads; a
//! router that is set to analyse programs itself runs the same search and checks what comes out.
#![forbid(unsafe_code)]

mod search;

use std::fmt;
use vinet_trusted::addr::Principal;
use vinet_trusted::check::{Place, Reject};
use vinet_trusted::obligations::Obligations;
use vinet_trusted::policy::{Policy, PrincipalKind};
use vinet_trusted::program::Program;

/// Why no proof was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotProven {
    /// The search found no proof of an obligation.
    NoProofFound {
        /// Which.
        place: Place,
        /// What the policy asks of every packet there, in words.
        goal: String,
        /// What is known of every packet there, in words.
        known: String,
    },
    /// There is nothing to search for: the checker would reject the program whatever the proof.
    Rejected(Reject),
}

impl NotProven {
    /// The number of the instruction that it is about, where it is about one.
    #[must_use]
    pub fn instr(&self) -> Option<usize> {
        match self {
            NotProven::NoProofFound { place, .. } => Some(place.instr),
            NotProven::Rejected(reject) => reject.instr(),
        }
    }
    /// A stable short name for machines: the checker's, where there is one.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            NotProven::NoProofFound { .. } => "not-proven",
            NotProven::Rejected(reject) => reject.code(),
        }
    }
}

impl fmt::Display for NotProven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotProven::NoProofFound { place, goal, known } => write!(
                f,
                "packets are {} here, and the policy allows that only where {goal}; of these packets it is known only that {known}",
                place.event
            ),
            NotProven::Rejected(reject) => reject.fmt(f),
        }
    }
}

impl std::error::Error for NotProven {}

/// A proof that `program` keeps to `policy` for `owner`, for [`vinet_trusted::check::check`].
///
/// # Errors
/// [`NotProven`]: the first obligation that no proof was found for, or why no proof could help.
pub fn prove(program: &Program, owner: &Principal, policy: &Policy) -> Result<Vec<u8>, NotProven> {
    if policy.principals != PrincipalKind::of(owner) {
        return Err(NotProven::Rejected(Reject::WrongPrincipal { policy: policy.principals }));
    }
    let obligations = Obligations::of(program, owner, policy).map_err(|at| NotProven::Rejected(Reject::Unset(at)))?;
    search::prove_all(obligations)
}
