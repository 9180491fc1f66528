//! Admission: which programs run here, for whom, until when, and on what capacity.
//!
//! An [`Admission`] is the register of installed programs. An upload passes through it twice: [`Admission::open`]
//! decides what needs no proof check (signature, nonce, expiry, sizes, the owner's limits), the judges check the
//! proof, and [`Admission::close`] compares the declared terms with the derived ones, takes capacity and installs. A
//! rejection at any point changes nothing. Capacity is given back exactly when the table has let a program go. Left
//! out: queues by class, payment, and a memory of programs across a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use ahash::{AHashMap, AHashSet, RandomState};
use vinet_fastpath::flow_table::{Install, InstallError, InstallId, ProgramCounts, TableWriter};
use vinet_pktops::Executable;
use vinet_session::Now;
use vinet_session::identity::{Identity, Ownership, PublicKey, RouterId};
use vinet_session::message::{Class, NewLemma, ProgramStatus, Receipt, Rejection, Reply, Terms, Upload, Withdraw};
use vinet_session::payment::Tariff;
use vinet_session::receipt::{self, ChainHead, ReceiptSubject};
use vinet_session::tag_key;
use vinet_session::verify::{NonceCache, verify_upload, verify_withdraw};
use vinet_trusted::addr::{Addr, Prefix, PrefixSet, Principal};
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::policy::{Policy, PrincipalKind};

use crate::capacity::{Budget, Hold};
use crate::census::Census;
use crate::config::Limits;
use crate::lemmas::{Lemmas, OpenedLemma};
use crate::policies::Policies;
use crate::wheel::{Timer, Wheel};

/// Milliseconds until a withdrawal that the table refused is tried again.
const WITHDRAW_RETRY_MS: u64 = 1_000;
/// Uploads of one owner that are with the judges at once, so that one owner cannot fill their queue.
pub const CASES_PER_OWNER_MAX: usize = 64;
/// Nonces that are remembered, all owners together, each until its request's expiry.
const NONCES_MAX: usize = 1 << 20;
/// Nonces of one owner that are remembered.
const NONCES_PER_OWNER_MAX: usize = 1 << 17;

/// What admission needs of the flow table.
pub trait ProgramTable {
    /// Makes a program visible to every worker.
    ///
    /// # Errors
    /// The table cannot take it; then nothing changed.
    fn install(&mut self, install: Install) -> Result<(), InstallError>;
    /// Takes a program out.
    ///
    /// # Errors
    /// The table cannot do it now; then nothing changed.
    fn withdraw(&mut self, id: InstallId) -> Result<(), InstallError>;
    /// What a program has seen and done so far.
    fn counts(&self, id: InstallId) -> Option<ProgramCounts>;
}

impl ProgramTable for TableWriter {
    fn install(&mut self, install: Install) -> Result<(), InstallError> {
        TableWriter::install(self, install)
    }
    fn withdraw(&mut self, id: InstallId) -> Result<(), InstallError> {
        TableWriter::withdraw(self, id)
    }
    fn counts(&self, id: InstallId) -> Option<ProgramCounts> {
        self.program_counts(id)
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

/// One installed program.
#[derive(Debug)]
struct Installed {
    owner: Principal,
    executable: Arc<Executable>,
    class: Class,
    packet_rate: u32,
    hold: Hold,
    timer: Timer,
    ends_ms: u64,
    key: RequestKey,
}

/// What makes two uploads the same request: who signed it, and the nonce.
type RequestKey = ([u8; 32], [u8; 16]);

/// What to do with an upload.
#[derive(Debug)]
pub enum Opened {
    /// Let the judges see it; then give it to [`Admission::close`], or to [`Admission::drop_case`].
    Judge {
        /// What is asked, authenticated.
        terms: Box<Terms>,
        /// The policy it names.
        policy: Arc<Policy>,
        /// The lemmas that its proof may cite.
        lemmas: Arc<LemmaStore>,
        /// Who asks.
        case: OpenCase,
    },
    /// The answer is known already.
    Answer(Box<Reply>),
}

/// An upload that is with the judges: close it or drop it, so that its nonce is not held as pending for ever.
#[derive(Debug)]
#[must_use = "an open case keeps its nonce pending until it is closed or dropped"]
pub struct OpenCase {
    key: RequestKey,
    owner: Principal,
}

/// A program that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its instance.
    pub instance: u64,
    /// Its owner.
    pub owner: Principal,
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
    nonces: NonceCache,
    programs: BTreeMap<u64, Installed>,
    by_owner: AHashMap<Principal, BTreeSet<u64>>,
    /// The receipt of each installed program, with a digest of what was asked.
    receipts: AHashMap<RequestKey, (Receipt, u64)>,
    /// Where the receipts of each owner's key stand.
    chains: AHashMap<PublicKey, ChainHead>,
    digests: RandomState,
    pending: AHashSet<RequestKey>,
    /// How many of them are of each owner.
    pending_of: AHashMap<Principal, usize>,
    next_instance: u64,
    decisions: Decisions,
    census: Census,
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("programs", &self.programs.len()).field("budget", &self.budget).finish()
    }
}

/// What this router does not serve.
pub fn not_served(what: &str) -> Rejection {
    rejected("not-served", format_args!("this router {what}"))
}

fn rejected(code: &str, text: impl fmt::Display) -> Rejection {
    Rejection::new(code, &text.to_string(), None)
}

impl Admission {
    /// An empty register. `identity` signs policies and receipts.
    #[must_use]
    pub fn new(
        identity: Arc<Identity>,
        policies: Policies,
        lemmas: Lemmas,
        terrain: Terrain,
        budget: Budget,
        now: Now,
    ) -> Admission {
        Admission {
            router: identity.public(),
            identity,
            policies,
            lemmas,
            budget,
            wheel: Wheel::new(terrain.programs_max, now.mono_ms),
            nonces: NonceCache::new(NONCES_MAX, NONCES_PER_OWNER_MAX),
            terrain,
            programs: BTreeMap::new(),
            by_owner: AHashMap::new(),
            receipts: AHashMap::new(),
            chains: AHashMap::new(),
            digests: RandomState::new(),
            pending: AHashSet::new(),
            pending_of: AHashMap::new(),
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

    /// Decides what can be decided about an upload without looking into its proof. `judges_free` tells whether the
    /// judges take another case now; where not, the same upload may be sent again.
    pub fn open(&mut self, upload: Upload, owner: &Ownership, judges_free: bool, now: Now) -> Opened {
        match self.authenticate(upload, owner, judges_free, now) {
            Ok(opened) => opened,
            Err(rejection) => {
                self.decisions.rejected += 1;
                Opened::Answer(Box::new(Reply::Rejected(rejection)))
            }
        }
    }

    fn authenticate(
        &mut self,
        upload: Upload,
        owner: &Ownership,
        judges_free: bool,
        now: Now,
    ) -> Result<Opened, Rejection> {
        still_valid(owner, now)?;
        let key = (owner.key().0, upload.terms().nonce);
        // A client that lost the reply sends the same request again: it gets the same receipt and installs nothing.
        if let Some((receipt, digest)) = self.receipts.get(&key)
            && *digest == self.digest(upload.terms())
        {
            self.decisions.repeated += 1;
            return Ok(Opened::Answer(Box::new(Reply::Receipt(receipt.clone()))));
        }
        if self.pending.contains(&key) {
            return Err(rejected("in-progress", "this very upload is being checked; its answer comes on its session"));
        }
        let pending = self.pending_of.get(&owner.principal()).copied().unwrap_or(0);
        if !judges_free || pending >= CASES_PER_OWNER_MAX {
            let whose = if judges_free { "of yours " } else { "" };
            return Err(rejected(
                "busy",
                format_args!("too many programs {whose}wait for their check; try again in a moment"),
            ));
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
        let upload =
            verify_upload(upload, owner, &self.router, &policy_id, knows_lemmas, now.wall_s, &mut self.nonces)?;
        let terms = upload.into_terms();
        if terms.payment > 0 {
            return Err(not_served("takes no payment; offer none"));
        }
        if terms.monitor {
            return Err(not_served("does not run programs that only count"));
        }
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
        self.room_for(&terms.principal)?;
        self.pending.insert(key);
        *self.pending_of.entry(terms.principal).or_default() += 1;
        let case = OpenCase { key, owner: terms.principal };
        let lemmas = self.lemmas.store(&terms.principal, now);
        Ok(Opened::Judge { terms: Box::new(terms), policy, lemmas, case })
    }

    /// Decides what can be decided about a lemma without looking into its proof: the judges have to see it, or the
    /// answer is known. What the judges say goes to [`Admission::close_lemma`]; where they do not take it, it is
    /// [`Admission::drop_lemma`]'s.
    ///
    /// # Errors
    /// The answer.
    pub fn open_lemma(
        &mut self,
        lemma: &NewLemma,
        owner: &Ownership,
        judges_free: bool,
        now: Now,
    ) -> Result<Arc<LemmaStore>, Box<Reply>> {
        let principal = owner.principal();
        let kind = PrincipalKind::of(&principal);
        let opened = still_valid(owner, now).and_then(|()| match self.policies.of(kind) {
            None => Err(no_policy(kind)),
            Some(_) if !judges_free => Err(rejected("busy", "too many checks wait; try again in a moment")),
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
        verdict: Result<(usize, Arc<LemmaStore>), Rejection>,
        now: Now,
    ) -> Reply {
        self.lemmas.close(owner, verdict, now).map_or_else(Reply::Rejected, Reply::Lemma)
    }

    /// Gives up a lemma that the judges did not take.
    pub fn drop_lemma(&mut self, owner: &Principal) {
        self.lemmas.give_up(owner);
    }

    /// Tells a repeated request from another one of the same owner under the same nonce. Nobody else can make either,
    /// so who makes two that collide deceives himself.
    fn digest(&self, terms: &Terms) -> u64 {
        self.digests.hash_one((
            (&terms.program, &terms.proof, terms.policy_id, terms.lemma_root, terms.expiry_s),
            (terms.complexity, terms.cost, terms.lifetime_s, terms.packet_rate),
            (terms.payment, terms.monitor, terms.quote.as_ref().map(|quote| quote.terms().nonce)),
        ))
    }

    /// Whether one more program of `owner` may be installed.
    fn room_for(&self, owner: &Principal) -> Result<(), Rejection> {
        let own = self.by_owner.get(owner).map_or(0, BTreeSet::len);
        if own >= self.terrain.programs_per_owner_max {
            let text = format_args!("{owner} has {own} programs here already, which is the most; withdraw one first");
            return Err(rejected("too-many-programs", text));
        }
        if self.programs.len() >= self.terrain.programs_max {
            let text = format_args!("{} programs are installed, which is the most; ask later", self.programs.len());
            return Err(rejected("router-full", text));
        }
        Ok(())
    }

    /// Forgets that a case is pending.
    fn settle(&mut self, OpenCase { key, owner }: OpenCase) -> RequestKey {
        self.pending.remove(&key);
        if let Some(count) = self.pending_of.get_mut(&owner) {
            *count -= 1;
            if *count == 0 {
                self.pending_of.remove(&owner);
            }
        }
        key
    }

    /// Gives up a case that the judges did not take, with the reason for the client.
    pub fn drop_case(&mut self, case: OpenCase, why: Rejection) -> Reply {
        self.settle(case);
        self.decisions.rejected += 1;
        Reply::Rejected(why)
    }

    /// Installs what the judges accepted, or says why not.
    pub fn close(
        &mut self,
        case: OpenCase,
        terms: Terms,
        verdict: Result<Arc<Executable>, Rejection>,
        now: Now,
        table: &mut impl ProgramTable,
    ) -> Reply {
        let key = self.settle(case);
        match verdict.and_then(|executable| self.install(key, terms, executable, now, table)) {
            Ok(receipt) => {
                self.decisions.installed += 1;
                Reply::Receipt(receipt)
            }
            Err(rejection) => {
                self.decisions.rejected += 1;
                Reply::Rejected(rejection)
            }
        }
    }

    fn install(
        &mut self,
        key: RequestKey,
        terms: Terms,
        executable: Arc<Executable>,
        now: Now,
        table: &mut impl ProgramTable,
    ) -> Result<Receipt, Rejection> {
        let checked = Arc::clone(executable.checked());
        declared_as_derived(&terms, &executable)?;
        self.sources_controlled(&executable)?;
        self.room_for(&terms.principal)?;
        let generate_key = match executable.generates() {
            true => tag_key::at_router(&self.identity, &PublicKey(key.0), &checked.program_id())
                .ok_or_else(|| rejected("bad-key", "the owner's key gives no key for generated packets"))?,
            false => [0; 32],
        };
        let workers = self.terrain.workers;
        let hold = self
            .budget
            .take(checked.complexity(), terms.packet_rate, checked.state_bytes(), workers)
            .map_err(|short| rejected(short.code(), short))?;
        let instance = self.next_instance;
        let lifetime_s = u64::from(checked.lifetime_s());
        let ends_ms = now.mono_ms + lifetime_s * 1_000;
        let Ok(timer) = self.wheel.set(instance, ends_ms) else {
            self.budget.release(hold);
            return Err(rejected("router-full", "every timer of the router is in use; ask later"));
        };
        let install = Install {
            id: InstallId(instance),
            executable: Arc::clone(&executable),
            packet_rate: terms.packet_rate,
            over_budget: checked.policy().limits.over_budget,
            generate_key,
            monitor: false,
        };
        if let Err(error) = table.install(install) {
            self.wheel.cancel(timer);
            self.budget.release(hold);
            return Err(rejected("table", format_args!("the router's table cannot take the program: {error}")));
        }
        self.next_instance += 1;
        let class = Class::of(checked.program());
        let subject = ReceiptSubject::Installed(Box::new(receipt::Installed {
            instance,
            program_id: checked.program_id(),
            principal: terms.principal,
            policy_id: checked.policy_id(),
            class,
            complexity: checked.complexity(),
            cost: checked.cost(),
            packet_rate: terms.packet_rate,
            installed_s: now.wall_s,
            ends_s: now.wall_s + lifetime_s,
            nonce: terms.nonce,
            monitor: terms.monitor,
        }));
        let account = PublicKey(key.0);
        let head = self.chains.entry(account).or_insert(ChainHead::start(account));
        let next = head.next(now.wall_s, 0, 0, subject).expect("nothing is paid, and numbers do not run out");
        let receipt = Receipt::sign(next, &self.identity);
        head.push(&receipt).expect("it was made to be the next");
        self.census.came(class, hold.cycles_per_second());
        self.by_owner.entry(terms.principal).or_default().insert(instance);
        self.programs.insert(
            instance,
            Installed {
                owner: terms.principal,
                executable,
                class,
                packet_rate: terms.packet_rate,
                hold,
                timer,
                ends_ms,
                key,
            },
        );
        let digest = self.digest(&terms);
        self.receipts.insert(key, (receipt.clone(), digest));
        Ok(receipt)
    }

    /// Whether every cell of the program is about sources that this router controls.
    ///
    /// Any source stands for the controlled ones. A prefix that holds some controlled and some other addresses is
    /// accepted: packets from the others are not given to programs here.
    fn sources_controlled(&self, executable: &Executable) -> Result<(), Rejection> {
        let stranger = executable
            .cells()
            .iter()
            .map(vinet_trusted::gate::Cell::src)
            .find(|src| src.len() > 0 && !self.terrain.controlled.overlaps(*src));
        match stranger {
            None => Ok(()),
            Some(src) => Err(rejected(
                "source-not-controlled",
                format_args!(
                    "the source {src} is not controlled by this router; it controls {}",
                    Listed(self.terrain.controlled.prefixes())
                ),
            )),
        }
    }

    /// Takes a program out at its owner's wish.
    pub fn withdraw(
        &mut self,
        request: &Withdraw,
        owner: &Ownership,
        now: Now,
        table: &mut impl ProgramTable,
    ) -> Reply {
        let verified = still_valid(owner, now).and_then(|()| {
            verify_withdraw(request, owner, &self.router, now.wall_s, &mut self.nonces).map_err(Rejection::from)
        });
        let instance = match verified {
            Ok(instance) => instance,
            Err(rejection) => return Reply::Rejected(rejection),
        };
        let Some(status) = self.status_of(instance, &owner.principal(), now, table) else {
            return Reply::Rejected(not_found(instance, &owner.principal()));
        };
        match self.remove(instance, table) {
            Ok(()) => {
                self.decisions.withdrawn += 1;
                Reply::Withdrawn(status)
            }
            Err(error) => Reply::Rejected(rejected(
                "table",
                format_args!("the router's table cannot let the program go now: {error}; try again"),
            )),
        }
    }

    /// Takes a program out of the table, then out of the register.
    fn remove(&mut self, instance: u64, table: &mut impl ProgramTable) -> Result<(), InstallError> {
        table.withdraw(InstallId(instance))?;
        let Some(installed) = self.programs.remove(&instance) else { return Ok(()) };
        self.wheel.cancel(installed.timer);
        self.census.went(installed.class, installed.hold.cycles_per_second());
        self.budget.release(installed.hold);
        self.receipts.remove(&installed.key);
        if let Some(own) = self.by_owner.get_mut(&installed.owner) {
            own.remove(&instance);
            if own.is_empty() {
                self.by_owner.remove(&installed.owner);
            }
        }
        Ok(())
    }

    /// Takes out every program whose lifetime has ended. One that the table cannot let go now is tried again.
    pub fn expire(&mut self, now: Now, table: &mut impl ProgramTable) -> Vec<Ended> {
        let mut due = Vec::new();
        self.wheel.expire(now.mono_ms, &mut due);
        let mut ended = Vec::new();
        for instance in due {
            let Some(owner) = self.programs.get(&instance).map(|installed| installed.owner) else { continue };
            if self.remove(instance, table).is_ok() {
                self.decisions.expired += 1;
                ended.push(Ended { instance, owner });
                continue;
            }
            // Its timer has just fired, so there is room for another.
            if let Ok(timer) = self.wheel.set(instance, now.mono_ms + WITHDRAW_RETRY_MS)
                && let Some(installed) = self.programs.get_mut(&instance)
            {
                installed.timer = timer;
            }
        }
        ended
    }

    /// Takes out everything, for the end of the router. Returns how many programs there were.
    pub fn clear(&mut self, table: &mut impl ProgramTable) -> usize {
        let instances: Vec<u64> = self.programs.keys().copied().collect();
        instances.into_iter().filter(|instance| self.remove(*instance, table).is_ok()).count()
    }

    /// The programs of one owner.
    pub fn list(&self, owner: &Principal, now: Now, table: &impl ProgramTable) -> Reply {
        let own = self.by_owner.get(owner).into_iter().flatten();
        Reply::List(own.filter_map(|&instance| self.status_of(instance, owner, now, table)).collect())
    }

    /// One program of one owner.
    pub fn show(&self, instance: u64, owner: &Principal, now: Now, table: &impl ProgramTable) -> Reply {
        match self.status_of(instance, owner, now, table) {
            Some(status) => Reply::Status(status),
            None => Reply::Rejected(not_found(instance, owner)),
        }
    }

    /// The state of `instance`, where it is `owner`'s.
    fn status_of(
        &self,
        instance: u64,
        owner: &Principal,
        now: Now,
        table: &impl ProgramTable,
    ) -> Option<ProgramStatus> {
        self.programs.get(&instance).filter(|i| i.owner == *owner).map(|i| status(instance, i, now, table))
    }

    /// Every installed program with its owner, for the operator.
    pub fn all(&self, now: Now, table: &impl ProgramTable) -> impl Iterator<Item = (Principal, ProgramStatus)> {
        self.programs.iter().map(move |(&instance, i)| (i.owner, status(instance, i, now, table)))
    }

    /// One installed program with its owner, for the operator.
    pub fn instance(&self, instance: u64, now: Now, table: &impl ProgramTable) -> Option<(Principal, ProgramStatus)> {
        self.programs.get(&instance).map(|i| (i.owner, status(instance, i, now, table)))
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
    /// The capacity and what is taken of it.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }
    /// Judges uploads by other policies from now on. Programs that run keep the terms that they were admitted by.
    pub fn set_policies(&mut self, policies: Vec<Policy>, tariff: Tariff) {
        self.policies = Policies::sign(policies, self.lemmas.library_root(), tariff, &self.identity);
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
    /// What was decided so far.
    #[must_use]
    pub fn decisions(&self) -> Decisions {
        self.decisions
    }
}

fn status(instance: u64, installed: &Installed, now: Now, table: &impl ProgramTable) -> ProgramStatus {
    let checked = installed.executable.checked();
    let counts = table.counts(InstallId(instance)).unwrap_or_default();
    let seconds_left = installed.ends_ms.saturating_sub(now.mono_ms).div_ceil(1_000);
    ProgramStatus {
        instance,
        program_id: checked.program_id(),
        class: installed.class,
        complexity: checked.complexity(),
        cost: checked.cost(),
        packet_rate: installed.packet_rate,
        seconds_left: u32::try_from(seconds_left).unwrap_or(u32::MAX),
        packets_seen: counts.seen_packets,
        bytes_seen: counts.seen_bytes,
        packets_discarded: counts.discarded_packets,
        bytes_discarded: counts.discarded_bytes,
        packets_over_budget: counts.over_budget_packets,
        monitor: false,
    }
}

/// What the client declared must be what the router derived; a rejection names both.
fn declared_as_derived(terms: &Terms, executable: &Executable) -> Result<(), Rejection> {
    let checked = executable.checked();
    let class = Class::of(checked.program());
    if terms.class != class {
        let text = format_args!("class {:?} is declared, the program is of class {class:?}", terms.class);
        return Err(rejected("class-differs", text));
    }
    for (code, what, declared, derived) in [
        ("complexity-differs", "Complexity", terms.complexity, checked.complexity()),
        ("cost-differs", "Cost", terms.cost, checked.cost()),
        ("lifetime-differs", "a lifetime (in seconds)", u64::from(terms.lifetime_s), u64::from(checked.lifetime_s())),
    ] {
        if declared != derived {
            return Err(rejected(code, format_args!("{what} of {declared} is declared, {derived} is derived")));
        }
    }
    Ok(())
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

/// At most eight prefixes, and how many more.
struct Listed<'a>(&'a [Prefix]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 8;
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (i, prefix) in self.0.iter().take(SHOWN_MAX).enumerate() {
            write!(f, "{}{prefix}", if i > 0 { ", " } else { "" })?;
        }
        match self.0.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
