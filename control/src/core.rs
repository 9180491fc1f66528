//! The control core: one thread, one event loop, around everything that is not a packet on its way.
//!
//! A turn of the loop moves frames between workers and twins, follows the kernel's routes, takes verdicts from the
//! judges, serves sessions and operators, and publishes what changed; each of these is bounded, so that none starves
//! another. Workers make no system calls, so nothing wakes the loop when a worker has a frame for the kernel: the loop
//! looks again at once while there was work, after a millisecond while there was some lately, and after
//! [`QUIET_WAIT`] otherwise.

mod desk;
mod reloading;
mod sample;
mod status;
mod trace;
mod view;
mod why;

pub use view::mac_text;

use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Events, Interest, Poll, Token, Waker};
use vinet_fastpath::counters::Counters;
use vinet_fastpath::fib::FibWriter;
use vinet_fastpath::flow_table::TableWriter;
use vinet_fastpath::hold::ResolveReceiver;
use vinet_fastpath::port::PortHandle;
use vinet_fastpath::slow_path::SlowPath;
use vinet_fastpath::trace::Tracer;
use vinet_session::identity::{Authority, Identity};
use vinet_session::{Door, Now, SessionError};

use crate::admin::Admin;
use crate::config::{Config, PORTS_MAX};
use crate::data_path::DataPath;
use crate::log;
use crate::metrics::Metrics;
use crate::notify::Notifier;
use crate::office::{Answer, Office, OpenError};
use crate::plane::{Plane, PlaneError};
use crate::policies::Policies;
use crate::server::{ListenError, Server};

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

use reloading::Reloading;
use trace::Trace;

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
    /// The office: its files, its store.
    Office(OpenError),
    /// The sockets of the router's own datagrams.
    DataPath(std::io::Error),
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
            CoreError::Office(error) => write!(f, "{error}"),
            CoreError::DataPath(reason) => write!(f, "cannot open a socket on a twin: {reason}"),
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

impl From<OpenError> for CoreError {
    fn from(error: OpenError) -> CoreError {
        CoreError::Office(error)
    }
}

/// The clocks, for everything but the loop itself: wall time, and a clock that also runs while the machine sleeps, so that
/// a lifetime is over when it is over (CLOCK_BOOTTIME).
fn read_clocks() -> Now {
    let boot = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map(Duration::from);
    let wall_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Now { wall_s, mono_ms: boot.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)) }
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
    /// What has the workers sample packets.
    pub tracer: Tracer,
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
    data_path: Option<DataPath>,
    server: Server,
    admin: Admin,
    metrics: Option<Metrics>,
    reloading: Reloading,
    tracer: Tracer,
    trace: Option<Trace>,
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
        let Parts {
            config,
            identity,
            authority,
            policies,
            handles,
            table,
            mut fib,
            slow_path,
            resolve,
            counters,
            tracer,
        } = parts;
        let reloading = Reloading::new(&config, policies.all().cloned().collect());
        let registry = || poll.registry().try_clone().map_err(CoreError::Loop);
        let waker = Arc::new(Waker::new(poll.registry(), TOKEN_WAKE).map_err(CoreError::Loop)?);
        if let Some(plane) = &mut plane {
            plane.publish(&mut fib, Instant::now())?;
        }
        let wake = Arc::clone(&waker);
        let wake = move || {
            // Where waking fails the loop finds what there is at its next turn.
            let _ = wake.wake();
        };
        let office = Office::open(&config, &identity, &authority, policies, table, wake, read_clocks())?;
        let data_path = plane.as_ref().map(|_| DataPath::open(&config)).transpose().map_err(CoreError::DataPath)?;
        let path = config.control.admin_socket.clone();
        let admin = Admin::open(&path, &config.control.admin_access, registry()?, TOKENS_ADMIN)
            .map_err(|reason| CoreError::Admin { path, reason })?;
        let limits = config.control.limits;
        let standing = Box::new(office.standing());
        let door =
            Door::new(identity, authority).and_then(|door| door.with_standing(standing).with_sealing(read_clocks()));
        let door = Arc::new(door.map_err(CoreError::Door)?);
        let server = Server::new(door, limits, registry()?, TOKENS_SERVER);
        Ok(Core {
            links_up: vec![true; handles.len()],
            poll,
            events: Events::with_capacity(1024),
            origin: Instant::now(),
            stopper: Stopper { stop: Arc::new(AtomicBool::new(false)), waker },
            signals: None,
            office,
            data_path,
            server,
            admin,
            metrics: None,
            reloading,
            tracer,
            trace: None,
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
        let now = read_clocks();
        let mut answers = Vec::new();
        more |= self.office.turn(now, &mut answers);
        for Answer { way, reply } in answers {
            self.server.reply(way.session, way.request, &reply, now);
        }
        more |= self.server.turn(&mut self.office, now);
        for key in self.office.take_closing() {
            self.server.close_of(&key);
        }
        self.send_datagrams();
        more |= self.serve_operators(now);
        more |= self.serve_trace();
        self.serve_metrics();
        if instant >= self.next_tick {
            self.next_tick = instant + TICK;
            self.tick(instant, now)?;
        }
        Ok(more)
    }

    fn tick(&mut self, instant: Instant, now: Now) -> Result<(), CoreError> {
        self.ticks += 1;
        self.office.tick(now);
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

    /// Sends the router's own datagrams. Without the kernel's side there is no data path; they are lost then, as they may
    /// be anywhere.
    fn send_datagrams(&mut self) {
        for (to, payload) in self.office.take_datagrams() {
            let (Some(path), Some(plane)) = (&mut self.data_path, &self.plane) else { continue };
            if let Err(error) = path.send(plane, to, &payload) {
                log::stranger("reach", error);
            }
        }
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
        let count = self.office.clear();
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
