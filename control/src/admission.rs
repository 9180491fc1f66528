//! Admission: which programs run here, for whom, until when, and on what capacity.
//!
//! An [`Admission`] is the register of installed programs, with the accounts of those who pay for them. An upload passes
//! through it three times: [`Admission::open`] decides what needs neither signature nor proof (fields, expiry, sizes, the
//! owner's limits) and puts the payment on hold; the judges verify the signature and check the proof;
//! [`Admission::decide`] compares the declared terms with the derived ones and takes everything; and
//! [`Admission::publish`] puts it in force, once the store has it. A rejection at any point changes nothing but what a
//! rejected check costs. Capacity is given back exactly when the table has let a program go.
//!
//! Nothing here waits, reads a clock or touches a file. What has to be durable comes out as changes for the store, and
//! what is answered comes out as an [`Outcome`] that says so.

mod account;
mod decide;
mod end;
mod outcome;
mod renew;
mod restore;
mod share;
mod view;

pub use account::{Payment, line_name};
pub use decide::{Candidate, Decided};
pub use end::{Ended, OpenWithdraw};
pub use outcome::Outcome;
pub use renew::OpenRenew;
pub use restore::{Restored, Unfit};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use ahash::AHashMap;
use vinet_fastpath::flow_table::{Batch, Install, InstallError, InstallId, ProgramCounts, TableWriter};
use vinet_pktops::Executable;
use vinet_session::Now;
use vinet_session::identity::{Identity, Ownership, PublicKey, RouterId};
use vinet_session::message::{Class, NewLemma, Rejection, Reply, Tariff, Upload};
use vinet_session::receipt::Ending;
use vinet_session::verify::check_upload;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet, Principal};
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::policy::{Policy, PrincipalKind};

use crate::bucket::Rate;
use crate::capacity::{Budget, Hold};
use crate::census::Census;
use crate::config::Limits;
use crate::events::{EVENTS_LEN_MAX, Events};
use crate::judges::Question;
use crate::ledger::{Ledger, MoneyHold};
use crate::lemmas::{Lemmas, OpenedLemma};
use crate::policies::Policies;
use crate::rate::Rates;
use crate::reach::Reach;
use crate::requests::{OpenRequest, Requests};
use crate::sources::{Aim, Sources};
use crate::store::Answer;
use crate::wheel::{Timer, Wheel};
use share::Sharers;

/// Requests that are remembered, all keys together, each until its expiry.
const REQUESTS_MAX: usize = 1 << 20;
/// Requests of one key that are remembered.
const REQUESTS_PER_KEY_MAX: usize = 1 << 19;
/// Checks of an owner that may end in a rejection where they cost nothing.
const REJECTED_CHECKS: Rate = Rate { burst: 64, per_second: 4 };
/// Of an owner's requests those that cost the router a signature of its own, or a look at another's.
const SIGNATURES: Rate = Rate { burst: 256, per_second: 128 };

/// What admission needs of the flow table.
pub trait ProgramTable {
    /// Makes a program visible to every worker.
    ///
    /// # Errors
    /// The table cannot take it; then nothing changed.
    fn install(&mut self, install: Install) -> Result<(), InstallError> {
        self.install_all(vec![install])
    }
    /// Makes programs visible to every worker, all at once.
    ///
    /// # Errors
    /// The table cannot take one of them; then nothing changed.
    fn install_all(&mut self, installs: Vec<Install>) -> Result<(), InstallError>;
    /// Takes a program out.
    ///
    /// # Errors
    /// The table cannot do it now; then nothing changed.
    fn withdraw(&mut self, id: InstallId) -> Result<(), InstallError>;
    /// What a program has seen and done so far.
    fn counts(&self, id: InstallId) -> Option<ProgramCounts>;
    /// Frees what every worker has passed, so that there is room for more changes.
    fn free_passed(&mut self);
}

impl ProgramTable for TableWriter {
    fn install_all(&mut self, installs: Vec<Install>) -> Result<(), InstallError> {
        let mut batch = Batch::new();
        for install in installs {
            batch.install(install);
        }
        self.apply(batch)
    }
    fn withdraw(&mut self, id: InstallId) -> Result<(), InstallError> {
        TableWriter::withdraw(self, id)
    }
    fn counts(&self, id: InstallId) -> Option<ProgramCounts> {
        self.program_counts(id)
    }
    fn free_passed(&mut self) {
        // Programs that have ended are told by who ends them.
        drop(self.reclaim());
    }
}

/// What a router promises and controls; only the bound for one owner changes while it runs.
#[derive(Debug)]
pub struct Terrain {
    /// The sources that this router controls.
    pub controlled: PrefixSet,
    /// The router's own addresses.
    pub own: Vec<Addr>,
    /// How many workers keep state for a program.
    pub workers: usize,
    /// Installed programs, all owners together.
    pub programs_max: usize,
    /// Installed programs of one owner.
    pub programs_per_owner_max: usize,
}

/// The parts that an [`Admission`] is made of.
#[derive(Debug)]
pub struct Books {
    /// The lemmas that proofs may cite.
    pub lemmas: Lemmas,
    /// What programs may be promised.
    pub budget: Budget,
    /// What owners have.
    pub ledger: Ledger,
    /// What programs cost, and who pays.
    pub payment: Payment,
    /// Who was reached.
    pub reach: Reach,
    /// What is aimed at which source.
    pub sources: Sources,
}

/// One program of the register.
#[derive(Debug)]
struct Installed {
    owner: Principal,
    /// Whose account pays.
    key: PublicKey,
    executable: Arc<Executable>,
    class: Class,
    packet_rate: u32,
    monitor: bool,
    hold: Hold,
    timer: Timer,
    aim: Aim,
    /// The lemmas that its proof may cite.
    lemma_root: [u8; 32],
    /// When the paid time ends, and how long it is in all.
    ends_ms: u64,
    lifetime_s: u64,
    /// What was paid for that time, in credits.
    paid: u64,
    stage: Stage,
}

impl Installed {
    /// Whole seconds of its time that are left.
    fn left_s(&self, now: Now) -> u64 {
        (self.ends_ms.saturating_sub(now.mono_ms) / 1_000).min(self.lifetime_s)
    }
}

/// How far a program has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Everything is taken for it, and the store has it or is about to.
    Decided,
    /// It is in force.
    Running,
}

/// What to do with an upload.
#[derive(Debug)]
pub enum Opened {
    /// Let the judges see it; then give it to [`Admission::decide`], or to [`Admission::drop_case`].
    Judge {
        /// What they look at.
        question: Box<Question>,
        /// Who asks.
        case: Box<OpenCase>,
    },
    /// It was answered before, so.
    Again(Answer),
    /// It is rejected.
    Rejected(Rejection),
}

/// An upload that is with the judges: decide it or drop it, so that it is not in progress for ever.
#[derive(Debug)]
#[must_use = "an open case holds its owner's money until it is decided or dropped"]
pub struct OpenCase {
    request: OpenRequest,
    money: Reserved,
    owner: Principal,
    /// Whether the owner was shown to be reached.
    verified: bool,
}

/// What is reserved of an account for one upload.
#[derive(Debug)]
struct Reserved {
    /// What is paid for the program.
    price: MoneyHold,
    /// What a rejected check costs beyond that, so that nobody has checks for which it cannot pay.
    bond: MoneyHold,
}

/// Counters of what admission decided, for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Decisions {
    /// Programs that were installed.
    pub installed: u64,
    /// Uploads that were rejected.
    pub rejected: u64,
    /// Programs that their owners withdrew.
    pub withdrawn: u64,
    /// Programs whose lifetime ended.
    pub expired: u64,
    /// Programs whose lifetime began anew.
    pub renewed: u64,
    /// Programs of keys that were revoked.
    pub revoked: u64,
    /// Programs that could not go on: the table, a changed policy.
    pub displaced: u64,
    /// Uploads that were answered with the receipt of their first copy.
    pub repeated: u64,
}

/// The register of installed programs.
pub struct Admission {
    identity: Arc<Identity>,
    router: RouterId,
    policies: Policies,
    lemmas: Lemmas,
    terrain: Terrain,
    budget: Budget,
    wheel: Wheel,
    requests: Requests,
    ledger: Ledger,
    payment: Payment,
    reach: Reach,
    sources: Sources,
    events: Events,
    rejected_checks: Rates,
    signatures: Rates,
    programs: BTreeMap<u64, Installed>,
    by_owner: AHashMap<Principal, BTreeSet<u64>>,
    sharers: Sharers,
    /// Programs that are to end, and why.
    doomed: VecDeque<(u64, Ending)>,
    next_instance: u64,
    census: Census,
    decisions: Decisions,
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("programs", &self.programs.len()).field("budget", &self.budget).finish()
    }
}

fn rejected(code: &str, text: impl fmt::Display) -> Rejection {
    Rejection::new(code, &text.to_string(), None)
}

impl Admission {
    /// An empty register. `identity` signs policies and receipts.
    #[must_use]
    pub fn new(identity: Arc<Identity>, policies: Policies, books: Books, terrain: Terrain, now: Now) -> Admission {
        let Books { lemmas, budget, ledger, payment, reach, sources } = books;
        Admission {
            router: identity.public(),
            identity,
            policies,
            lemmas,
            budget,
            wheel: Wheel::new(terrain.programs_max, now.mono_ms),
            requests: Requests::new(REQUESTS_MAX, REQUESTS_PER_KEY_MAX),
            ledger,
            payment,
            reach,
            sources,
            events: Events::new(EVENTS_LEN_MAX),
            rejected_checks: Rates::new(REJECTED_CHECKS),
            signatures: Rates::new(SIGNATURES),
            terrain,
            programs: BTreeMap::new(),
            by_owner: AHashMap::new(),
            sharers: Sharers::new(),
            doomed: VecDeque::new(),
            next_instance: 1,
            census: Census::default(),
            decisions: Decisions::default(),
        }
    }

    /// The policy for one kind of principal, signed.
    #[must_use]
    pub fn policy(&self, kind: PrincipalKind) -> Reply {
        match self.policies.of(kind) {
            Some(policy) => Reply::Policy(policy.signed().clone()),
            None => Reply::Rejected(no_policy(kind)),
        }
    }

    /// Decides what can be decided about an upload without looking into its proof.
    pub fn open(&mut self, upload: Upload, owner: &Ownership, now: Now) -> Opened {
        match self.authenticate(upload, owner, now) {
            Ok(opened) => opened,
            Err(why) => {
                self.decisions.rejected += 1;
                Opened::Rejected(why)
            }
        }
    }

    fn authenticate(&mut self, upload: Upload, owner: &Ownership, now: Now) -> Result<Opened, Rejection> {
        still_valid(owner, now)?;
        // A client that lost the reply sends the same request again: it gets the same answer and installs nothing.
        let claim = upload.claim(owner.key());
        if let Some(answer) = self.requests.answered(&claim, upload.terms().nonce)? {
            self.decisions.repeated += 1;
            return Ok(Opened::Again(answer));
        }
        let kind = PrincipalKind::of(&owner.principal());
        let policy = self.policies.of(kind).ok_or_else(|| no_policy(kind))?;
        let (policy, policy_id) = (Arc::clone(policy.policy()), *policy.id());
        let limits = &policy.limits;
        let sizes = [
            ("program-too-long", "program", upload.terms().program.len(), limits.program_bytes_max),
            ("proof-too-long", "proof", upload.terms().proof.as_ref().map_or(0, Vec::len), limits.proof_bytes_max),
        ];
        for (code, what, len, len_max) in sizes {
            if len > len_max as usize {
                return Err(rejected(code, format_args!("the {what} has {len} bytes; the policy allows {len_max}")));
            }
        }
        let lemmas = &self.lemmas;
        let knows_lemmas = |root: &[u8; 32]| lemmas.knows(&owner.principal(), root);
        check_upload(&upload, owner, &self.router, &policy_id, knows_lemmas, now.wall_s)?;
        let terms = upload.terms();
        if terms.packet_rate == 0 || terms.packet_rate > limits.packet_rate_max {
            return Err(rejected(
                "packet-rate",
                format_args!(
                    "a packet rate of {} is declared; the policy allows 1 to {} packets a second",
                    terms.packet_rate, limits.packet_rate_max
                ),
            ));
        }
        let owned = terms.principal.owned();
        if let (Principal::EndUser(addr), Some(_)) =
            (terms.principal, self.terrain.own.iter().find(|own| Prefix::host(**own) == owned))
        {
            return Err(rejected("own-address", format_args!("{addr} is the router's own address, which nobody owns")));
        }
        let verified = self.reach.may(owner, now)?;
        self.room_for(&terms.principal)?;
        self.may_be_checked(owner, now)?;
        let request = self.requests.open(&claim, terms.nonce, terms.expiry_s, now.wall_s)?;
        let money = match self.reserve(&owner.key(), terms.payment) {
            Ok(money) => money,
            Err(error) => {
                self.requests.forget(request);
                return Err(rejected(error.code(), error));
            }
        };
        let owner = terms.principal;
        let lemmas = self.lemmas.store(&owner, now);
        let question = Box::new(Question { claim, upload: Box::new(upload), policy, lemmas, now_s: now.wall_s });
        Ok(Opened::Judge { question, case: Box::new(OpenCase { request, money, owner, verified }) })
    }

    /// Decides what can be decided about a lemma without looking into its proof: the judges have to see it, or the
    /// answer is known. What the judges say goes to [`Admission::close_lemma`]; where they do not take it, it is
    /// [`Admission::drop_lemma`]'s.
    ///
    /// # Errors
    /// The answer.
    pub fn open_lemma(&mut self, lemma: &NewLemma, owner: &Ownership, now: Now) -> Result<Arc<LemmaStore>, Box<Reply>> {
        let principal = owner.principal();
        let kind = PrincipalKind::of(&principal);
        let opened = still_valid(owner, now).and_then(|()| match self.policies.of(kind) {
            None => Err(no_policy(kind)),
            Some(_) => self.lemmas.open(&principal, &lemma.lemma, now),
        });
        match opened {
            Ok(OpenedLemma::Judge(store)) => Ok(store),
            Ok(OpenedLemma::Known(place)) => Err(Box::new(Reply::Lemma(place))),
            Err(rejection) => Err(Box::new(Reply::Rejected(rejection))),
        }
    }

    /// Takes in what the judges say about a lemma of `owner`.
    pub fn close_lemma(
        &mut self,
        owner: &Principal,
        lemma: &NewLemma,
        verdict: Result<(usize, Arc<LemmaStore>), Rejection>,
        now: Now,
    ) -> Outcome {
        let mut puts = Vec::new();
        let closed = self.lemmas.close(owner, lemma, verdict, now, &mut puts);
        Outcome::answered(closed.map_or_else(Reply::Rejected, Reply::Lemma), puts)
    }

    /// Gives up a lemma that the judges did not take.
    pub fn drop_lemma(&mut self, owner: &Principal) {
        self.lemmas.give_up(owner);
    }

    /// What is to be done about once a second: what has run out is forgotten.
    pub fn tick(&mut self, now: Now) {
        self.requests.expire(now.wall_s);
        self.reach.tick(now);
        self.rejected_checks.tick(now);
        self.signatures.tick(now);
    }

    /// How many programs are installed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.programs.len()
    }
    /// Whether no program is installed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }
    /// The lemmas of owners.
    #[must_use]
    pub fn lemmas(&self) -> &Lemmas {
        &self.lemmas
    }
    /// Judges uploads by other policies from now on. Programs that run keep the terms that they were admitted by.
    pub fn set_policies(&mut self, policies: Vec<Policy>, tariff: Tariff) {
        self.policies = Policies::sign(policies, self.lemmas.library_root(), tariff, &self.identity);
        self.payment.tariff = tariff;
    }
    /// Has other bounds from now on; what is above them already stays.
    pub fn set_limits(&mut self, limits: &Limits) {
        self.terrain.programs_per_owner_max = limits.programs_per_owner;
        self.lemmas.set_limits(limits.lemmas, limits.lemmas_per_owner);
    }
    /// Has another capacity from now on; what is promised stays promised.
    pub fn set_capacity(&mut self, cycles_per_second: u64, memory_bytes: u64) {
        self.budget.resize(cycles_per_second, memory_bytes);
    }
    /// How many programs of each class there are.
    #[must_use]
    pub fn census(&self) -> &Census {
        &self.census
    }
    /// The capacity and what is taken of it.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }
    /// What owners have, and what the router earned.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
    /// Who was reached.
    #[must_use]
    pub fn reach(&self) -> &Reach {
        &self.reach
    }
    /// Who was reached, to ask and to take answers.
    pub fn reach_mut(&mut self) -> &mut Reach {
        &mut self.reach
    }
    /// What is aimed at which source, and which are shut off.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }
    /// The same, to carry out what follows.
    pub fn sources_mut(&mut self) -> &mut Sources {
        &mut self.sources
    }
    /// What owners are told when they ask.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }
    /// What was decided so far.
    #[must_use]
    pub fn decisions(&self) -> Decisions {
        self.decisions
    }
}

/// A session can outlast the certificate that began it; the right to change anything does not.
fn still_valid(owner: &Ownership, now: Now) -> Result<(), Rejection> {
    if owner.not_after_s() >= now.wall_s {
        return Ok(());
    }
    let text = format_args!("the certificate of {} has run out during the session; get a new one", owner.principal());
    Err(rejected("certificate-expired", text))
}

fn no_policy(kind: PrincipalKind) -> Rejection {
    let kind = match kind {
        PrincipalKind::EndUser => "end users",
        PrincipalKind::EdgeRouter => "edge routers",
    };
    rejected("no-policy", format_args!("this router has no policy for {kind}, so they cannot upload here"))
}

fn not_found(instance: u64, owner: &Principal) -> Rejection {
    rejected("not-found", format_args!("{owner} has no program {instance} here; `vinet list` shows those there are"))
}

#[cfg(test)]
pub(crate) mod tests;
