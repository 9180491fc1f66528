//! Programs made by chance: families of structured programs that are lawful, or unlawful, by the way they are made.
//!
//! A family is a recipe with one thing to get right. Each recipe makes both kinds: programs that get it right, and
//! programs that differ in that one thing. What is chosen freely (addresses, sets, bounds, nesting, harmless
//! instructions in between) is drawn from a seed, so that a seed and a number name a program.

mod draft;
mod recipes;

use crate::run::PerfError;
use crate::verify::chance::Chance;
use draft::Draft;
use std::path::Path;
use std::sync::Arc;
use vinet_session::policy_file;
use vinet_trusted::addr::Principal;
use vinet_trusted::packet::Test;
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{Instr, Program};

/// Under which policy a family's programs are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ground {
    /// The shipped policy for edge routers.
    EdgeRouter,
    /// The shipped policy for end users or for edge routers, by chance.
    Either,
    /// One of the two, but with leave to group any packet: who owns what is then for branches and sets to establish.
    OpenGrouping,
    /// The shipped policy of the strict operator.
    Strict,
}

/// The policies that programs are made for.
pub struct Policies {
    /// For end users.
    pub end_user: Arc<Policy>,
    /// For edge routers.
    pub edge_router: Arc<Policy>,
    /// The strict operator's.
    pub strict: Arc<Policy>,
    open_end_user: Arc<Policy>,
    open_edge_router: Arc<Policy>,
}

impl Policies {
    /// The shipped ones, from the folder `configs/policy`.
    pub fn load(folder: &Path) -> Result<Policies, PerfError> {
        let load = |name: &str| {
            let policy = policy_file::load(&folder.join(name)).map_err(|e| PerfError::Option(e.to_string()))?;
            Ok::<_, PerfError>(Arc::new(policy))
        };
        let (end_user, edge_router) = (load("end-user.toml")?, load("edge-router.toml")?);
        let open = |policy: &Arc<Policy>| {
            let name = format!("{}, open grouping", policy.name);
            Arc::new(Policy { name, group: Test::True, ..Policy::clone(policy) })
        };
        let (open_end_user, open_edge_router) = (open(&end_user), open(&edge_router));
        Ok(Policies { end_user, edge_router, strict: load("strict-operator.toml")?, open_end_user, open_edge_router })
    }

    fn of(&self, ground: Ground, owner: &Principal) -> Arc<Policy> {
        let is_end_user = matches!(owner, Principal::EndUser(_));
        Arc::clone(match ground {
            Ground::OpenGrouping if is_end_user => &self.open_end_user,
            Ground::OpenGrouping => &self.open_edge_router,
            Ground::Strict => &self.strict,
            _ if is_end_user => &self.end_user,
            _ => &self.edge_router,
        })
    }
}

/// A recipe, and which of its two kinds.
#[derive(Clone, Copy)]
pub struct Family {
    /// Its name; that of an unlawful one says what is wrong.
    pub name: &'static str,
    /// Whether its programs keep to the policy.
    pub is_lawful: bool,
    ground: Ground,
    recipe: fn(&mut Draft, bool) -> Vec<Instr>,
}

/// A program by chance.
pub struct Case {
    /// Of which family.
    pub family: Family,
    /// It.
    pub program: Program,
    /// Whose.
    pub owner: Principal,
    /// Under which policy.
    pub policy: Arc<Policy>,
}

macro_rules! families {
    ($($ground:ident $recipe:ident $lawful:literal $unlawful:literal)*) => {
        &[$(
            Family { name: $lawful, is_lawful: true, ground: Ground::$ground, recipe: recipes::$recipe },
            Family { name: $unlawful, is_lawful: false, ground: Ground::$ground, recipe: recipes::$recipe },
        )*]
    };
}

/// All families, a lawful one before the unlawful one of the same recipe.
pub const FAMILIES: &[Family] = families! {
    Either straight_line "straight line" "straight line, in the wrong order"
    OpenGrouping key_test "test of the group's address" "test of the group's address, wrong"
    OpenGrouping correlated "correlated branches" "branches that contradict"
    EdgeRouter counting "counting loop in the subnet" "counting loop out of the subnet"
    OpenGrouping offset_guarded "offset behind a test" "offset behind a test that is too wide"
    Either score "score against a threshold" "score of strangers"
    OpenGrouping accumulated "accumulated set" "accumulated set, of strangers too"
    OpenGrouping relational "integers in relation" "integers in relation, off by one"
    OpenGrouping dead "dead branch" "branch that is not dead"
    OpenGrouping complement "complement" "complement of too little"
    OpenGrouping reassigned "variable assigned again" "variable assigned again on one way only"
    OpenGrouping nested "groups in groups" "groups in groups, of strangers"
    Strict strict_discard "strict operator, discard" "strict operator, discard of ICMP"
    Strict strict_scan "strict operator, scan" "strict operator, scan of TLS"
    EdgeRouter window "window told to the owner" "window told to another"
};

/// The program with this number, of those that `seed` makes. The families take turns.
pub fn case(policies: &Policies, seed: u64, number: usize) -> Case {
    of_family(policies, FAMILIES[number % FAMILIES.len()], seed, number)
}

/// A program of one family.
pub fn of_family(policies: &Policies, family: Family, seed: u64, number: usize) -> Case {
    let mut chance = Chance::new(seed ^ (number as u64).wrapping_mul(0xd134_2543_de82_ef95));
    // The first draws of neighbouring seeds are alike.
    chance.bits();
    let is_router = match family.ground {
        Ground::Strict => false,
        Ground::EdgeRouter => true,
        Ground::Either | Ground::OpenGrouping => chance.one_in(2),
    };
    let mut draft = Draft::new(chance, is_router);
    let body = (family.recipe)(&mut draft, family.is_lawful);
    let (owner, program) = draft.finish(body);
    Case { family, program, owner, policy: policies.of(family.ground, &owner) }
}

#[cfg(test)]
mod tests;
