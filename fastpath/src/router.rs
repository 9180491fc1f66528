//! The start and the end of a fast path: workers over ports, and the control core's handles to them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use crate::counters::{Counters, Snapshot};
use crate::distributor::{self, Distributor};
use crate::fib::FibWriter;
use crate::flow_table::{self, TableWriter};
use crate::hold::{self, ResolveReceiver};
use crate::link::Face;
use crate::pinning::{self, PinError};
use crate::port::{BURST_LEN_MAX, PacketPool, RxQueue, TxQueue};
use crate::publication::Domain;
use crate::queue::OutputQueue;
use crate::settings::{PortSettings, Settings};
use crate::slow_path::SlowPath;
use crate::trace::Tracer;
use crate::worker::{Parts, Remains, Worker};

/// The most ports of one router.
pub const PORTS_MAX: usize = 256;
/// The most workers of one router.
pub const WORKERS_MAX: usize = 64;

/// A port's settings with its queues: a transmit queue for each worker, and one to as many receive queues.
pub struct PortQueues<R, T> {
    /// Its settings.
    pub settings: PortSettings,
    /// Receive queues. Queue `i` of port `p` is polled by worker `(p + i)` modulo the workers. Where there is one for
    /// several workers, or they are not filled by source address, the workers distribute the packets by it.
    pub rx: Vec<R>,
    /// Transmit queues: number `i` is worker `i`'s.
    pub tx: Vec<T>,
}

/// The control core's handles to a running fast path.
pub struct Running<R, T: TxQueue, P> {
    /// Installs and withdraws programs.
    pub table: TableWriter,
    /// Publishes routes and neighbours.
    pub fib: FibWriter,
    /// Frames to and from the kernel.
    pub slow_path: SlowPath,
    /// Next hops that packets wait for.
    pub resolve: ResolveReceiver,
    /// What the workers count.
    pub counters: Counters,
    /// Copies of packets with what became of them.
    pub tracer: Tracer,
    /// The workers themselves.
    pub workers: Workers<R, T, P>,
}

/// Running workers. Dropping it tells them to stop and waits for them.
pub struct Workers<R, T: TxQueue, P> {
    threads: Vec<JoinHandle<Remains<R, T, P>>>,
    stop: Arc<AtomicBool>,
    counters: Counters,
    settings: Vec<PortSettings>,
}

/// What is left of a fast path.
pub struct Stopped<R, T, P> {
    /// The last counts.
    pub counters: Snapshot,
    /// The ports with their queues, as they were given.
    pub ports: Vec<PortQueues<R, T>>,
    /// The pools, as they were given.
    pub pools: Vec<P>,
    /// Workers that panicked. Their queues and pools are lost.
    pub panicked: Vec<usize>,
}

/// Why a fast path did not start. The operator is at fault but for `Thread`.
#[derive(Debug)]
pub enum StartError {
    /// No worker, or more than [`WORKERS_MAX`].
    Workers {
        /// How many there are.
        workers: usize,
    },
    /// No port, or more than [`PORTS_MAX`].
    Ports {
        /// How many there are.
        ports: usize,
    },
    /// A burst of no packets, or of more than [`BURST_LEN_MAX`].
    BurstLen {
        /// The length asked for.
        burst_len: usize,
    },
    /// A port has other queues than the workers need.
    Queues {
        /// The port.
        port: String,
        /// Its receive queues: 1 to the number of workers are needed.
        rx: usize,
        /// Its transmit queues: one for each worker is needed.
        tx: usize,
        /// The workers.
        workers: usize,
    },
    /// A port has more than two VLAN tags.
    VlanTags {
        /// The port.
        port: String,
        /// How many it has.
        tags: usize,
    },
    /// There is not one pool for each worker.
    Pools {
        /// The pools.
        pools: usize,
        /// The workers.
        workers: usize,
    },
    /// The flow table could not be made.
    Table(flow_table::StartError),
    /// The system gave no random numbers for the distribution of sources to workers.
    NoRandom(getrandom::Error),
    /// A worker could not be pinned.
    Pin {
        /// The worker.
        worker: usize,
        /// Why.
        error: PinError,
    },
    /// A worker's thread could not be registered.
    Register {
        /// The worker.
        worker: usize,
        /// Why, in the words of whoever registers.
        reason: String,
    },
    /// The system gave no thread, or it ended before it polled.
    Thread {
        /// The worker.
        worker: usize,
        /// The system's reason.
        reason: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Workers { workers } => {
                write!(f, "{workers} workers are configured; give 1 to {WORKERS_MAX} cores")
            }
            StartError::Ports { ports } => write!(f, "{ports} ports are configured; give 1 to {PORTS_MAX}"),
            StartError::BurstLen { burst_len } => {
                write!(f, "a burst of {burst_len} packets; give 1 to {BURST_LEN_MAX}")
            }
            StartError::Queues { port, rx, tx, workers } => write!(
                f,
                "port {port} has {rx} receive and {tx} transmit queues; {workers} workers need 1 to {workers} and {workers}"
            ),
            StartError::VlanTags { port, tags } => write!(f, "port {port} has {tags} VLAN tags; give at most two"),
            StartError::Pools { pools, workers } => {
                write!(f, "{pools} packet pools for {workers} workers; each needs one")
            }
            StartError::Table(error) => error.fmt(f),
            StartError::NoRandom(error) => write!(f, "no random numbers for the distribution of sources: {error}"),
            StartError::Pin { worker, error } => write!(f, "worker {worker}: {error}"),
            StartError::Register { worker, reason } => write!(f, "worker {worker} could not be registered: {reason}"),
            StartError::Thread { worker, reason } => write!(f, "worker {worker} could not be started: {reason}"),
        }
    }
}
impl std::error::Error for StartError {}

/// Starts one worker for each of the settings' cores, over all ports, and waits until each is pinned, registered and
/// polling.
///
/// `register` is called on each worker's thread after it is pinned, with the worker's number; what it gives is
/// dropped on that thread when the worker ends. It is how threads become EAL threads.
///
/// # Errors [`StartError`]; every worker that was started is stopped then.
pub fn start<R, T, P, G, F>(
    settings: Settings,
    ports: Vec<PortQueues<R, T>>,
    pools: Vec<P>,
    register: F,
) -> Result<Running<R, T, P>, StartError>
where
    R: RxQueue<Buf = T::Buf> + 'static,
    T: TxQueue + 'static,
    P: PacketPool<Buf = T::Buf> + 'static,
    F: Fn(usize) -> Result<G, String> + Send + Sync + 'static,
{
    let workers = settings.cores.len();
    check(&settings, &ports, pools.len())?;
    let (domain, places) = Domain::new(workers);
    let (table, table_root) = TableWriter::new(domain.clone(), settings.table).map_err(StartError::Table)?;
    let (tracer, tracing, trace_ends) = Tracer::new(domain.clone());
    let faces: Arc<[Face]> = ports.iter().map(|port| Face::new(&port.settings)).collect();
    let (fib, fib_root) = FibWriter::new(domain, faces.clone());
    let (counters, boards) = Counters::new(workers, ports.len());
    let (slow_path, slow_path_ends) = SlowPath::new(workers, ports.len(), &settings.slow_path);
    let (resolve_sender, resolve) = hold::resolve_ring(settings.hold.requests_max);
    let output_queues: Vec<Vec<OutputQueue<T::Buf>>> =
        (0..workers).map(|_| ports.iter().map(|port| OutputQueue::new(&port.settings)).collect()).collect();
    let distributors = distributors(&settings, &ports)?;
    let stop = Arc::new(AtomicBool::new(false));
    let register = Arc::new(register);

    // Deal the queues out: `rx[worker][port]`, `tx[worker][port]`.
    let mut rx: Vec<Vec<Option<R>>> = (0..workers).map(|_| Vec::new()).collect();
    let mut tx: Vec<Vec<T>> = (0..workers).map(|_| Vec::new()).collect();
    let mut port_settings = Vec::new();
    for (number, port) in ports.into_iter().enumerate() {
        for queues in &mut rx {
            queues.push(None);
        }
        for (i, queue) in port.rx.into_iter().enumerate() {
            rx[(number + i) % workers][number] = Some(queue);
        }
        for (queues, queue) in tx.iter_mut().zip(port.tx) {
            queues.push(queue);
        }
        port_settings.push(port.settings);
    }

    let mut running =
        Workers { threads: Vec::new(), stop: stop.clone(), counters: counters.clone(), settings: port_settings };
    let ends = output_queues.into_iter().zip(distributors).zip(rx.into_iter().zip(tx));
    let boards = boards.into_iter().zip(trace_ends);
    let given = places.into_iter().zip(boards).zip(slow_path_ends).zip(pools).zip(ends);
    for (((((place, (board, trace)), slow_path), pool), ((queues, distributor), (rx, tx))), core) in
        given.zip(settings.cores.clone())
    {
        let worker = place.worker();
        let (table, fib, stop) = (table_root.clone(), fib_root.clone(), stop.clone());
        let tracing = tracing.clone();
        let (resolve, faces) = (resolve_sender.clone(), faces.clone());
        let (register, settings) = (register.clone(), settings.clone());
        let (ready, started) = mpsc::channel();
        let body = move || {
            // Whoever waits learns from the message how it went; if nobody waits any more, nobody needs to.
            let _guard = match prepare(worker, core, &*register) {
                Ok(guard) => guard,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return Remains { rx, tx, distributor, pool };
                }
            };
            let reader = place.join();
            let parts = Parts {
                reader,
                table,
                fib,
                tracing,
                trace,
                stop,
                board,
                slow_path,
                resolve,
                faces,
                queues,
                rx,
                tx,
                distributor,
                pool,
            };
            let poller = Worker::new(parts, &settings);
            let _ = ready.send(Ok(()));
            poller.run()
        };
        let thread = std::thread::Builder::new()
            .name(format!("worker-{worker}"))
            .spawn(body)
            .map_err(|error| StartError::Thread { worker, reason: error.to_string() })?;
        running.threads.push(thread);
        // On an error `running` is dropped, which stops those that were started, this one included.
        started
            .recv()
            .unwrap_or_else(|_| Err(StartError::Thread { worker, reason: "it ended before it polled".to_owned() }))?;
    }
    Ok(Running { table, fib, slow_path, resolve, counters, tracer, workers: running })
}

/// Each worker's part in the distribution, where the packets of some port need one: several workers, and a device that
/// has one receive queue for all, or fills them otherwise than by source address.
#[allow(clippy::type_complexity, reason = "a list of parts")]
fn distributors<R, T>(
    settings: &Settings,
    ports: &[PortQueues<R, T>],
) -> Result<Vec<Option<Distributor<T::Buf>>>, StartError>
where
    R: RxQueue<Buf = T::Buf>,
    T: TxQueue,
{
    let workers = settings.cores.len();
    let is_shared: Vec<bool> = ports
        .iter()
        .map(|port| workers > 1 && (port.rx.len() == 1 || !port.rx.iter().all(RxQueue::is_filled_by_source)))
        .collect();
    if !is_shared.contains(&true) {
        return Ok((0..workers).map(|_| None).collect());
    }
    let mut seeds = [0; 4];
    for seed in &mut seeds {
        *seed = getrandom::u64().map_err(StartError::NoRandom)?;
    }
    Ok(distributor::mesh(workers, &is_shared, seeds, settings.handover_len).into_iter().map(Some).collect())
}

/// Pins and registers the calling thread.
fn prepare<G>(
    worker: usize,
    core: Option<usize>,
    register: &impl Fn(usize) -> Result<G, String>,
) -> Result<G, StartError> {
    if let Some(core) = core {
        pinning::pin_current_thread(core).map_err(|error| StartError::Pin { worker, error })?;
    }
    register(worker).map_err(|reason| StartError::Register { worker, reason })
}

/// Whether the parts fit together.
fn check<R, T>(settings: &Settings, ports: &[PortQueues<R, T>], pools: usize) -> Result<(), StartError> {
    let workers = settings.cores.len();
    if workers == 0 || workers > WORKERS_MAX {
        return Err(StartError::Workers { workers });
    }
    if ports.is_empty() || ports.len() > PORTS_MAX {
        return Err(StartError::Ports { ports: ports.len() });
    }
    if settings.burst_len == 0 || settings.burst_len > BURST_LEN_MAX {
        return Err(StartError::BurstLen { burst_len: settings.burst_len });
    }
    if pools != workers {
        return Err(StartError::Pools { pools, workers });
    }
    for port in ports {
        let (rx, tx) = (port.rx.len(), port.tx.len());
        let name = || port.settings.name.clone();
        if rx == 0 || rx > workers || tx != workers {
            return Err(StartError::Queues { port: name(), rx, tx, workers });
        }
        if port.settings.vlan.len() > 2 {
            return Err(StartError::VlanTags { port: name(), tags: port.settings.vlan.len() });
        }
    }
    Ok(())
}

impl<R, T: TxQueue, P> Workers<R, T, P> {
    /// Tells the workers to stop, waits for them, and gives back what they had.
    #[must_use]
    pub fn stop(mut self) -> Stopped<R, T, P> {
        let remains = self.join();
        let mut ports: Vec<PortQueues<R, T>> = std::mem::take(&mut self.settings)
            .into_iter()
            .map(|settings| PortQueues { settings, rx: Vec::new(), tx: Vec::new() })
            .collect();
        let mut pools = Vec::new();
        let mut rx_dealt: Vec<Vec<(usize, R)>> = ports.iter().map(|_| Vec::new()).collect();
        let workers = remains.len();
        let mut panicked = Vec::new();
        let mut counters = self.counters.snapshot();
        for (worker, remains) in remains.into_iter().enumerate() {
            let Some(remains) = remains else {
                panicked.push(worker);
                continue;
            };
            for (number, queue) in remains.rx.into_iter().enumerate() {
                // The inverse of how they were dealt out.
                let place = (worker + workers - number % workers) % workers;
                rx_dealt[number].extend(queue.map(|queue| (place, queue)));
            }
            for (port, queue) in ports.iter_mut().zip(remains.tx) {
                port.tx.push(queue);
            }
            // All workers have stopped, so nothing more is handed over.
            if let Some(distributor) = remains.distributor {
                distributor.end(&mut counters);
            }
            pools.push(remains.pool);
        }
        for (port, mut dealt) in ports.iter_mut().zip(rx_dealt) {
            dealt.sort_by_key(|&(place, _)| place);
            port.rx = dealt.into_iter().map(|(_, queue)| queue).collect();
        }
        Stopped { counters, ports, pools, panicked }
    }

    /// Whether a worker's thread has ended by itself, which only a panic does.
    #[must_use]
    pub fn any_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// What each worker left, or `None` for one that panicked.
    fn join(&mut self) -> Vec<Option<Remains<R, T, P>>> {
        // Relaxed: the workers look at it once per turn, and joining orders everything else.
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).map(|thread| thread.join().ok()).collect()
    }
}

impl<R, T: TxQueue, P> Drop for Workers<R, T, P> {
    fn drop(&mut self) {
        self.join();
    }
}
