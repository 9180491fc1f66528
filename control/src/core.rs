//! The control core: one thread, one event loop, around everything that is not a packet on its way.
//!
//! A turn of the loop moves frames between workers and twins, follows the kernel's routes, takes verdicts from the
//! judges, serves sessions and operators, and publishes what changed; each of these is bounded, so that none starves
//! another. Workers make no system calls, so nothing wakes the loop when a worker has a frame for the kernel: the loop
//! looks again at once while there was work, after a millisecond while there was some lately, and after
//! [`QUIET_WAIT`] otherwise.

mod reloading;
mod sample;
mod status;
mod view;
mod why;

pub use view::mac_text;

use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};
use vinet_fastpath::counters::Counters;
use vinet_fastpath::fib::FibWriter;
use vinet_fastpath::flow_table::TableWriter;
use vinet_fastpath::hold::ResolveReceiver;
use vinet_fastpath::port::PortHandle;
use vinet_fastpath::slow_path::SlowPath;
use vinet_session::identity::{Authority, Identity, Ownership};
use vinet_session::message::{NewLemma, Rejection, Reply, Request};
use vinet_session::{Door, Now, SessionError};
use vinet_trusted::addr::{PrefixSet, Principal};

use crate::admin::Admin;
use crate::admission::{Admission, OpenCase, Opened, Terrain, not_served};
use crate::capacity::Budget;
use crate::config::{Config, PORTS_MAX};
use crate::judges::{Case, Judged, Judges};
use crate::lemmas::Lemmas;
use crate::log;
use crate::metrics::Metrics;
use crate::notify::Notifier;
use crate::plane::{Plane, PlaneError};
use crate::policies::Policies;
use crate::server::{Desk, ListenError, Server, SessionId, Stamp};

/// How long the loop waits when nothing has happened for a while (200 ms).
pub const QUIET_WAIT: Duration = Duration::from_millis(4);
/// How long it waits when something has.
const LATELY_WAIT: Duration = Duration::from_millis(1);
/// What "lately" means.
const LATELY: Duration = Duration::from_millis(200);
/// The time between two ticks.
const TICK: Duration = Duration::from_millis(100);
/// Ticks between two looks at the links.
const LINK_TICKS: u64 = 5;
/// Ticks between two refreshes of neighbours.
const REFRESH_TICKS: u64 = 10;
/// Resolve requests taken in one turn.
const RESOLVES_PER_TURN: usize = 256;
/// Verdicts taken in one turn.
const VERDICTS_PER_TURN: usize = 256;
/// Threads that check proofs. They share the control core, so that no worker ever waits for one.
const JUDGES: usize = 1;

use reloading::Reloading;

const TOKEN_WAKE: Token = Token(0);
const TOKEN_SIGNAL: Token = Token(1);
const TOKENS_ADMIN: usize = 8;
/// The first token of the kernel's side.
pub const TOKENS_PLANE: usize = 32;
const TOKENS_SERVER: usize = TOKENS_PLANE + PORTS_MAX + 1;

/// Why the core could not start or go on.
#[derive(Debug)]
pub enum CoreError {
    /// The event loop itself.
    Loop(std::io::Error),
    /// An address cannot be listened on.
    Listen(ListenError),
    /// The admin socket cannot be made.
    Admin {
        /// Its path.
        path: std::path::PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// The metrics' address cannot be listened on.
    Metrics {
        /// Where.
        address: SocketAddr,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// The kernel's side.
    Plane(PlaneError),
    /// The sessions' keys cannot be had.
    Door(SessionError),
}

impl fmt::Display for CoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoreError::Loop(reason) => write!(f, "the event loop failed: {reason}"),
            CoreError::Listen(error) => write!(f, "{error}"),
            CoreError::Admin { path, reason } => write!(
                f,
                "{}: cannot make the admin socket: {reason}; run as root, or set [control] admin_socket",
                path.display()
            ),
            CoreError::Metrics { address, reason } => write!(
                f,
                "cannot listen on {address} for the metrics: {reason}; [metrics] listen must be a free port of an \
                 address of this machine"
            ),
            CoreError::Plane(error) => write!(f, "{error}"),
            CoreError::Door(error) => write!(f, "no session can be had: {error}"),
        }
    }
}
impl std::error::Error for CoreError {}

impl From<PlaneError> for CoreError {
    fn from(error: PlaneError) -> CoreError {
        CoreError::Plane(error)
    }
}

/// What the core is made from: who the router is, and the control side's ends of a running fast path.
pub struct Parts<H> {
    /// The configuration.
    pub config: Config,
    /// The router's key.
    pub identity: Arc<Identity>,
    /// The testbed's authority.
    pub authority: Arc<Authority>,
    /// The policies, signed.
    pub policies: Policies,
    /// The ports, in order.
    pub handles: Vec<H>,
    /// The flow table.
    pub table: TableWriter,
    /// The forwarding table.
    pub fib: FibWriter,
    /// The rings to and from the workers.
    pub slow_path: SlowPath,
    /// The workers' requests for neighbours.
    pub resolve: ResolveReceiver,
    /// What the workers count.
    pub counters: Counters,
}

/// Ends a running core from another thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Stopper {
    /// Has [`Core::run`] return soon.
    pub fn stop(&self) {
        // Release, with the Acquire in the loop: what was done before the stop is seen by who stops.
        self.stop.store(true, Ordering::Release);
        let _ = self.waker.wake();
    }
}

/// The way back for a request that is with the judges, and what admission has open for it.
#[derive(Debug)]
struct Ticket<T> {
    session: SessionId,
    request: u32,
    open: T,
}

/// Who answers requests: admission, with the table and the judges.
struct Office {
    admission: Admission,
    table: TableWriter,
    judges: Judges<Ticket<OpenCase>, Ticket<Principal>>,
}

fn busy() -> Rejection {
    Rejection::new("busy", "too many checks wait; try again in a moment", None)
}

impl Office {
    /// Hands a lemma to the judges, or answers at once.
    fn add_lemma(&mut self, from: SessionId, id: u32, owner: &Ownership, lemma: NewLemma, now: Now) -> Option<Reply> {
        let store = match self.admission.open_lemma(&lemma, owner, self.judges.is_free(), now) {
            Ok(store) => store,
            Err(reply) => return Some(*reply),
        };
        let ticket = Ticket { session: from, request: id, open: owner.principal() };
        if self.judges.submit(Case::Lemma { ticket, lemma, store }).is_ok() {
            return None;
        }
        self.admission.drop_lemma(&owner.principal());
        Some(Reply::Rejected(busy()))
    }

    /// The answer to what the judges say, and where it goes.
    fn conclude(
        &mut self,
        judged: Judged<Ticket<OpenCase>, Ticket<Principal>>,
        now: Now,
    ) -> (SessionId, u32, Principal, Reply) {
        match judged {
            Judged::Program { ticket: Ticket { session, request, open }, terms, verdict } => {
                let principal = terms.principal;
                let reply = self.admission.close(open, *terms, verdict, now, &mut self.table);
                (session, request, principal, reply)
            }
            Judged::Lemma { ticket: Ticket { session, request, open: principal }, verdict } => {
                (session, request, principal, self.admission.close_lemma(&principal, verdict, now))
            }
        }
    }
}

impl Desk for Office {
    fn request(
        &mut self,
        from: SessionId,
        id: u32,
        owner: &Ownership,
        request: Request,
        _: Stamp,
        now: Now,
    ) -> Option<Reply> {
        match request {
            Request::GetPolicy { kind } => Some(self.admission.policy(kind)),
            Request::List => Some(self.admission.list(&owner.principal(), now, &self.table)),
            Request::Show { instance } => Some(self.admission.show(instance, &owner.principal(), now, &self.table)),
            Request::Withdraw(withdraw) => {
                let reply = self.admission.withdraw(&withdraw, owner, now, &mut self.table);
                if let Reply::Withdrawn(status) = &reply {
                    log::stranger("admission", format_args!("{} withdrew {}", owner.principal(), status.instance));
                }
                Some(reply)
            }
            // The session itself answers these.
            Request::Ticket => Some(Reply::Rejected(Rejection::new("no-ticket", "no ticket is given here", None))),
            Request::AddLemma(lemma) => self.add_lemma(from, id, owner, lemma, now),
            Request::Upload(upload) => match self.admission.open(*upload, owner, self.judges.is_free(), now) {
                Opened::Answer(reply) => Some(*reply),
                Opened::Judge { terms, policy, lemmas, case } => {
                    let ticket = Ticket { session: from, request: id, open: case };
                    match self.judges.submit(Case::Program { ticket, terms, policy, lemmas }) {
                        Ok(()) => None,
                        Err(case) => match *case {
                            Case::Program { ticket, .. } => Some(self.admission.drop_case(ticket.open, busy())),
                            Case::Lemma { .. } => unreachable!("a program was handed in"),
                        },
                    }
                }
            },
            Request::Quote(_)
            | Request::Deposit(_)
            | Request::Balance
            | Request::Receipts { .. }
            | Request::Renew(_)
            | Request::ReachMe { .. }
            | Request::Reached(_)
            | Request::Events { .. }
            | Request::Part(_)
            | Request::UploadObject { .. }
            | Request::Directory
            | Request::Revoke(_) => Some(Reply::Rejected(not_served("does not answer this request"))),
        }
    }
}

/// What the signal handlers write to.
struct Signals {
    pipe: mio::net::UnixStream,
    end: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// Reads what the handlers wrote; `true` where one of them was for the end.
    fn ask_for_the_end(&mut self) -> bool {
        // What is read says only that there was a signal; the edge is used up when there is nothing more.
        while matches!(self.pipe.read(&mut [0; 64]), Ok(1..)) {}
        // Acquire, with the release in the handler.
        self.end.load(Ordering::Acquire)
    }
}

/// The control core.
pub struct Core<H> {
    poll: Poll,
    events: Events,
    origin: Instant,
    stopper: Stopper,
    signals: Option<Signals>,
    config: Config,
    office: Office,
    server: Server,
    admin: Admin,
    metrics: Option<Metrics>,
    reloading: Reloading,
    notifier: Notifier,
    plane: Option<Plane>,
    fib: FibWriter,
    slow_path: SlowPath,
    resolve: ResolveReceiver,
    counters: Counters,
    handles: Vec<H>,
    links_up: Vec<bool>,
    stuck: Vec<usize>,
    ticks: u64,
    next_tick: Instant,
}

impl<H> fmt::Debug for Core<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("admission", &self.office.admission).field("server", &self.server).finish()
    }
}

/// What is left of a core that has stopped, to be dropped in this order after the workers.
#[derive(Debug)]
pub struct Remains<H> {
    /// The kernel's side.
    pub plane: Option<Plane>,
    /// The ports.
    pub handles: Vec<H>,
}

impl<H: PortHandle> Core<H> {
    /// A core that does not listen yet, on the loop of `poll`. `plane` is the kernel's side, registered there from
    /// [`TOKENS_PLANE`] on; tests have none.
    ///
    /// # Errors
    /// [`CoreError`].
    pub fn new(parts: Parts<H>, poll: Poll, mut plane: Option<Plane>) -> Result<Core<H>, CoreError> {
        let Parts { config, identity, authority, policies, handles, table, mut fib, slow_path, resolve, counters } =
            parts;
        let reloading = Reloading::new(&config, policies.all().cloned().collect());
        let registry = || poll.registry().try_clone().map_err(CoreError::Loop);
        let waker = Arc::new(Waker::new(poll.registry(), TOKEN_WAKE).map_err(CoreError::Loop)?);
        if let Some(plane) = &mut plane {
            plane.publish(&mut fib, Instant::now())?;
        }
        let origin = Instant::now();
        let limits = config.control.limits;
        let terrain = Terrain {
            controlled: PrefixSet::new(config.controlled()),
            own: config.own_addresses(),
            workers: config.workers.cores.len(),
            programs_max: limits.programs,
            programs_per_owner_max: limits.programs_per_owner,
        };
        let budget = Budget::new(config.capacity.cycles_per_second, config.capacity.memory_bytes);
        let lemmas = Lemmas::new(vinet_prover::library(), limits.lemmas, limits.lemmas_per_owner);
        let admission = Admission::new(Arc::clone(&identity), policies, lemmas, terrain, budget, Now::read(origin));
        let wake = Arc::clone(&waker);
        let judges = Judges::start(config.router.verify, JUDGES, limits.checks_queued, move || {
            // Where waking fails the loop finds the verdict at its next turn.
            let _ = wake.wake();
        })
        .map_err(CoreError::Loop)?;
        let path = config.control.admin_socket.clone();
        let admin = Admin::open(&path, &config.control.admin_access, registry()?, TOKENS_ADMIN)
            .map_err(|reason| CoreError::Admin { path, reason })?;
        let door = Door::new(identity, authority).and_then(|door| door.with_sealing(Now::read(origin)));
        let door = Arc::new(door.map_err(CoreError::Door)?);
        let server = Server::new(door, limits, registry()?, TOKENS_SERVER);
        Ok(Core {
            links_up: vec![true; handles.len()],
            poll,
            events: Events::with_capacity(1024),
            origin,
            stopper: Stopper { stop: Arc::new(AtomicBool::new(false)), waker },
            signals: None,
            office: Office { admission, table, judges },
            server,
            admin,
            metrics: None,
            reloading,
            notifier: Notifier::default(),
            plane,
            fib,
            slow_path,
            resolve,
            counters,
            handles,
            stuck: Vec::new(),
            ticks: 0,
            next_tick: Instant::now(),
            config,
        })
    }

    /// Listens on every configured address; returns those it really has.
    ///
    /// # Errors
    /// [`CoreError::Listen`] with the first that cannot be had.
    pub fn listen(&mut self) -> Result<Vec<SocketAddr>, CoreError> {
        self.metrics = self.config.metrics.listen.map(|address| self.start_metrics(address)).transpose()?;
        let addresses = self.config.control.listen.clone();
        addresses.into_iter().map(|address| self.server.listen(address).map_err(CoreError::Listen)).collect()
    }

    fn start_metrics(&self, address: SocketAddr) -> Result<Metrics, CoreError> {
        let waker = Arc::clone(&self.stopper.waker);
        let wake = move || {
            // Where waking fails the loop finds the question at its next turn.
            let _ = waker.wake();
        };
        Metrics::start(address, wake).map_err(|reason| CoreError::Metrics { address, reason })
    }

    /// Stops, or reloads, when a byte comes from `pipe`, the reading end of the signal handlers': reloads where `reload`
    /// has been lifted meanwhile, stops where `end` has.
    ///
    /// # Errors
    /// [`CoreError::Loop`].
    pub fn heed_signals(
        &mut self,
        pipe: std::os::unix::net::UnixStream,
        end: Arc<AtomicBool>,
        reload: Arc<AtomicBool>,
    ) -> Result<(), CoreError> {
        pipe.set_nonblocking(true).map_err(CoreError::Loop)?;
        let mut pipe = mio::net::UnixStream::from_std(pipe);
        self.poll.registry().register(&mut pipe, TOKEN_SIGNAL, Interest::READABLE).map_err(CoreError::Loop)?;
        self.signals = Some(Signals { pipe, end, reload });
        Ok(())
    }

    /// Has the service manager told what the router does.
    pub fn notify_through(&mut self, notifier: Notifier) {
        self.notifier = notifier;
    }
    /// The way to the service manager.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// Where the metrics are, once the core listens.
    #[must_use]
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(Metrics::address)
    }
    /// The ports, in order.
    #[must_use]
    pub fn handles(&self) -> &[H] {
        &self.handles
    }

    /// A handle to stop the core from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Runs until it is stopped.
    ///
    /// # Errors
    /// What makes going on impossible: the loop itself, or a twin that somebody deleted.
    pub fn run(&mut self) -> Result<(), CoreError> {
        let mut busy_at = Instant::now();
        let mut more = true;
        while !self.stopper.stop.load(Ordering::Acquire) {
            let now = Instant::now();
            let wait = match (more, now.saturating_duration_since(busy_at) < LATELY) {
                (true, _) => Duration::ZERO,
                (false, true) => LATELY_WAIT,
                (false, false) => QUIET_WAIT,
            };
            match self.poll.poll(&mut self.events, Some(wait)) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CoreError::Loop(error)),
            }
            self.take_events();
            more = self.turn()?;
            if more {
                busy_at = Instant::now();
            }
        }
        Ok(())
    }

    fn take_events(&mut self) {
        for event in &self.events {
            let token = event.token();
            if token == TOKEN_SIGNAL {
                if let Some(signals) = &mut self.signals
                    && signals.ask_for_the_end()
                {
                    self.stopper.stop.store(true, Ordering::Release);
                }
            } else if token.0 >= TOKENS_SERVER {
                self.server.event(event);
            } else if token.0 >= TOKENS_PLANE {
                if let Some(plane) = &mut self.plane {
                    plane.event(token);
                }
            } else if token.0 >= TOKENS_ADMIN {
                self.admin.event(token);
            }
        }
    }

    /// One turn; `true` where there was work, so that there may be more.
    fn turn(&mut self) -> Result<bool, CoreError> {
        let instant = Instant::now();
        let mut more = false;
        if let Some(plane) = &mut self.plane {
            more |= plane.carry(&mut self.slow_path)? > 0;
            more |= plane.follow(instant)?;
            for _ in 0..RESOLVES_PER_TURN {
                let Some(request) = self.resolve.next() else { break };
                plane.resolve(request.port, request.addr, instant)?;
                more = true;
            }
            match plane.publish(&mut self.fib, instant) {
                Ok(published) => more |= published,
                // The FIB before stays in force, and the next change tries again.
                Err(error) => log::error("plane", error),
            }
        }
        if self.signals.as_ref().is_some_and(|signals| signals.reload.swap(false, Ordering::AcqRel)) {
            self.reload_on_signal(instant);
        }
        let now = Now::read(self.origin);
        for _ in 0..VERDICTS_PER_TURN {
            let Some(judged) = self.office.judges.judged() else { break };
            more = true;
            let (session, request, principal, reply) = self.office.conclude(judged, now);
            match &reply {
                Reply::Receipt(receipt) => {
                    if let Some(installed) = receipt.terms().installed() {
                        // An owner with many programs can cause many of these lines.
                        log::stranger(
                            "admission",
                            format_args!(
                                "installed {} of {principal}: complexity {}, until {}",
                                installed.instance, installed.complexity, installed.ends_s
                            ),
                        );
                    }
                }
                Reply::Rejected(why) => {
                    log::stranger("admission", format_args!("rejected what {principal} sent: {}", why.text()));
                }
                _ => {}
            }
            self.server.reply(session, request, &reply, now);
        }
        more |= self.server.turn(&mut self.office, now);
        more |= self.serve_operators(now);
        self.serve_metrics();
        if instant >= self.next_tick {
            self.next_tick = instant + TICK;
            self.tick(instant, now)?;
        }
        Ok(more)
    }

    fn tick(&mut self, instant: Instant, now: Now) -> Result<(), CoreError> {
        self.ticks += 1;
        for ended in self.office.admission.expire(now, &mut self.office.table) {
            log::info("admission", format_args!("{} of {} ended: its lifetime is over", ended.instance, ended.owner));
        }
        // Final counts are the operator's business only while a program is installed.
        drop(self.office.table.reclaim());
        self.fib.reclaim();
        self.server.tick(now);
        let stuck = self.office.table.stuck_workers();
        if stuck != self.stuck {
            match stuck.as_slice() {
                [] => log::info("core", "every worker answers again"),
                workers => log::error(
                    "core",
                    format_args!("workers {workers:?} have been silent for a second; nothing is freed meanwhile"),
                ),
            }
            self.stuck = stuck;
        }
        if self.stuck.is_empty() {
            self.notifier.alive(instant);
        }
        self.undo_overdue_reload(instant);
        if self.ticks.is_multiple_of(LINK_TICKS) {
            self.follow_links();
        }
        if let Some(plane) = self.plane.as_mut().filter(|_| self.ticks.is_multiple_of(REFRESH_TICKS)) {
            plane.refresh(instant)?;
        }
        Ok(())
    }

    fn follow_links(&mut self) {
        for (port, handle) in self.handles.iter().enumerate() {
            let up = handle.link().up;
            if up != self.links_up[port] {
                self.links_up[port] = up;
                log::info("port", format_args!("{}: the link is {}", handle.name(), if up { "up" } else { "down" }));
                if let Some(plane) = &mut self.plane {
                    plane.set_carrier(port, up);
                }
            }
        }
    }

    /// Takes every program out and takes the carriers from the twins. The workers are stopped next, by their owner.
    #[must_use]
    pub fn shut_down(mut self) -> Remains<H> {
        let Office { admission, table, .. } = &mut self.office;
        let count = admission.clear(table);
        if count > 0 {
            log::info("core", format_args!("withdrew {count} programs"));
        }
        if let Some(plane) = &mut self.plane {
            plane.down();
        }
        Remains { plane: self.plane, handles: self.handles }
    }
}

#[cfg(test)]
mod tests;
