//! How a source is shut off: by a program of the router's own.
//!
//! There is one way to an effect on packets, and the router takes it too. For every address of the family it is an owner
//! under a policy of its own, whose contract is the common one: discard what goes to its owner. A [`ShutOffMaker`] writes the
//! program "discard everything from this source", proves it with the prover, has the trusted checker check it and lowers it:
//! one table verdict for (the source, any destination). The fast path learns nothing new, and the checker vouches that
//! nothing from any other source is touched. Packets from the source to the router itself are no transit, so it can still
//! ask here why; so are the router's own packets to it.
//!
//! [`ShutOffMaker::carry_out`] keeps the table as the register of shut-offs says; what the table does not take now is tried
//! again. These programs are not admitted: they take no capacity of owners' programs, and are at most
//! [`ShutOffLimits::sources_max`](crate::sources::ShutOffLimits) many. Their price for others is one more look-up for
//! every packet while some source of its family is shut off.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use vinet_fastpath::flow_table::{Install, InstallError, InstallId};
use vinet_pktops::{Executable, LowerError};
use vinet_session::Now;
use vinet_trusted::addr::{Addr, AddrExpr, PrefixSet, Principal};
use vinet_trusted::check::{Reject, check};
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::packet::{Field, Test};
use vinet_trusted::policy::{Costs, Limits, OverBudget, Policy, PrincipalKind};
use vinet_trusted::program::{ALL_PACKETS, Instr, LIFETIME_MAX_S, Program};

use crate::admission::ProgramTable;
use crate::sources::{Change, ShutOffs};

/// The names of the router's own programs begin here, far above those of owners' programs.
pub const OWN_IDS_FROM: u64 = 1 << 63;
/// Shut-offs that are made in one turn of the loop: each is a proof and its check.
const MADE_PER_TURN: usize = 8;

/// Why a source could not be shut off. Never the source's doing.
#[derive(Debug)]
pub enum ShutOffError {
    /// The prover found no proof: a defect of ours.
    NotProven(String),
    /// The checker did not accept it: a defect of ours.
    Rejected(Reject),
    /// It cannot run: a defect of ours.
    NotLowered(LowerError),
    /// The table does not take it now.
    Table(InstallError),
}

impl fmt::Display for ShutOffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShutOffError::NotProven(error) => write!(f, "the router's own program is not proven: {error}"),
            ShutOffError::Rejected(error) => write!(f, "the router's own program is not accepted: {error}"),
            ShutOffError::NotLowered(error) => write!(f, "the router's own program cannot run: {error}"),
            ShutOffError::Table(error) => write!(f, "the table does not take it now: {error}"),
        }
    }
}
impl std::error::Error for ShutOffError {}

/// What came of a change.
#[derive(Debug)]
pub enum Outcome {
    /// It is in force.
    Done(Change),
    /// The source is not shut off; the register tries again in a while.
    Failed {
        /// The source.
        source: Addr,
        /// Why not.
        error: ShutOffError,
    },
}

/// Makes the router's own programs, and keeps the table as the register says.
pub struct ShutOffMaker {
    policy: Arc<Policy>,
    lemmas: Arc<LemmaStore>,
    /// The owner of every IPv4 and of every IPv6 address.
    owners: [Principal; 2],
    next: u64,
    installed: BTreeMap<Addr, InstallId>,
    /// What is still to be carried out, the latest for each source.
    wanted: BTreeMap<Addr, Change>,
}

impl fmt::Debug for ShutOffMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutOffMaker").field("installed", &self.installed).field("wanted", &self.wanted).finish()
    }
}

/// The router's contract with itself: discard what goes to the owner, look into nothing, make nothing.
fn policy() -> Policy {
    let owns_dst = Test::Owns { field: Field::Dst };
    Policy {
        name: "shut-off".to_owned(),
        principals: PrincipalKind::EdgeRouter,
        discard: owns_dst.clone(),
        group: owns_dst,
        scan: Test::False,
        generate: Test::False,
        // Nobody pays for it, and a table verdict costs the same whatever it is priced at.
        costs: Costs {
            program: 1,
            select: 1,
            select_many: 1,
            partition: 1,
            foreach: 1,
            test: 1,
            set: 1,
            arithmetic: 1,
            turn: 1,
            discard: 1,
            contains: 1,
            contains_per_64_bytes: 1,
            stream: 1,
            content: 1,
            content_per_64_bytes: 1,
            generate: 1,
            generate_per_64_bytes: 1,
        },
        limits: Limits {
            program_bytes_max: 1024,
            proof_bytes_max: 16_384,
            lifetime_max_s: LIFETIME_MAX_S,
            complexity_max: 1_000,
            cost_max: u64::MAX,
            packet_bytes_max: 65_535,
            window_packets_max: 1,
            window_us_max: 1,
            generate_port: 1,
            generate_rate_max: 0,
            stream_flows_max: 1,
            stream_islands_max: 1,
            packet_rate_default: 1,
            packet_rate_max: 1,
            over_budget: OverBudget::Forward,
        },
    }
}

/// The owner of every address of a family; it is the address of the router, where there is one.
fn everywhere(own: &[Addr], any: Addr) -> Principal {
    let own = own.iter().copied().find(|addr| addr.width() == any.width()).unwrap_or(any);
    // Length 0 is within every family.
    Principal::edge_router(own, 0).unwrap_or(Principal::EndUser(any))
}

/// "Discard everything from `source`".
fn program(source: Addr) -> Program {
    let everyone = AddrExpr { this_subnet: true, ..AddrExpr::default() };
    let only = AddrExpr { prefixes: PrefixSet::of(source), ..AddrExpr::default() };
    let select = |out, arg, field, addrs| Instr::Select { out, arg, test: Test::In { field, addrs } };
    let body =
        vec![select(1, ALL_PACKETS, Field::Dst, everyone), select(2, 1, Field::Src, only), Instr::Discard { arg: 2 }];
    // How long it runs is the register's affair; a program has a lifetime all the same.
    Program::new(LIFETIME_MAX_S, 1, Vec::new(), body).expect("two selections and a discard are a program")
}

impl ShutOffMaker {
    /// A maker for a router with the addresses `own`.
    #[must_use]
    pub fn new(own: &[Addr]) -> ShutOffMaker {
        ShutOffMaker {
            policy: Arc::new(policy()),
            lemmas: vinet_prover::library(),
            owners: [everywhere(own, Addr::V4(0)), everywhere(own, Addr::V6(0))],
            next: OWN_IDS_FROM,
            installed: BTreeMap::new(),
            wanted: BTreeMap::new(),
        }
    }

    /// The program that discards everything from `source`, proven, checked and lowered.
    ///
    /// # Errors
    /// [`ShutOffError`], but for the table's.
    pub fn make(&self, source: Addr) -> Result<Arc<Executable>, ShutOffError> {
        let owner = self.owners[usize::from(matches!(source, Addr::V6(_)))];
        let program = program(source);
        let proof = vinet_prover::prove(&program, &owner, &self.policy, &self.lemmas, &[])
            .map_err(|error| ShutOffError::NotProven(error.to_string()))?;
        let checked =
            check(&program.encode(), &proof, owner, &self.policy, &self.lemmas).map_err(ShutOffError::Rejected)?;
        Executable::lower(Arc::new(checked)).map(Arc::new).map_err(ShutOffError::NotLowered)
    }

    /// Takes up `changes` of the register, and carries out what it can of all that it knows; gives what came of it.
    /// What was not done in this turn is done in the next: [`ShutOffMaker::is_done`].
    pub fn carry_out(
        &mut self,
        changes: Vec<Change>,
        register: &mut ShutOffs,
        table: &mut impl ProgramTable,
        now: Now,
    ) -> Vec<Outcome> {
        self.wanted.extend(changes.into_iter().map(|change| (change.source(), change)));
        let mut outcomes = Vec::new();
        for _ in 0..MADE_PER_TURN {
            let Some((source, change)) = self.wanted.pop_first() else { break };
            match (change, self.installed.get(&source).copied()) {
                (Change::ShutOff { .. }, None) => match self.install(source, table) {
                    Ok(()) => outcomes.push(Outcome::Done(change)),
                    Err(error) => {
                        register.not_carried_out(source, now);
                        outcomes.push(Outcome::Failed { source, error });
                    }
                },
                (Change::Back { .. }, Some(id)) => {
                    if table.withdraw(id).is_err() {
                        // The table takes nothing now; the rest waits as well.
                        self.wanted.insert(source, change);
                        break;
                    }
                    self.installed.remove(&source);
                    outcomes.push(Outcome::Done(change));
                }
                // It came back before it was shut off, or the other way round.
                (Change::ShutOff { .. }, Some(_)) | (Change::Back { .. }, None) => {}
            }
        }
        outcomes
    }

    fn install(&mut self, source: Addr, table: &mut impl ProgramTable) -> Result<(), ShutOffError> {
        let executable = self.make(source)?;
        let id = InstallId(self.next);
        table
            .install(Install {
                id,
                executable,
                packet_rate: 0,
                over_budget: OverBudget::Forward,
                generate_key: [0; 32],
                monitor: false,
            })
            .map_err(ShutOffError::Table)?;
        self.next += 1;
        self.installed.insert(source, id);
        Ok(())
    }

    /// Whether everything is carried out.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.wanted.is_empty()
    }
    /// The program that shuts `source` off.
    #[must_use]
    pub fn program_of(&self, source: Addr) -> Option<InstallId> {
        self.installed.get(&source).copied()
    }
    /// Takes every program out, for the end of the router.
    pub fn clear(&mut self, table: &mut impl ProgramTable) {
        self.wanted.clear();
        self.installed.retain(|_, id| table.withdraw(*id).is_err());
    }
}

#[cfg(test)]
mod tests;
