//! Ports over the crate `capsule` 0.1.5, behind the feature of that name: to compare with, not to run a network on.
//!
//! Capsule builds everything at once, EAL and pool and ports, so [`CapsuleRuntime::start`] takes all ports of the process and
//! works once; the ports end together, when the last of their handles and queues is dropped. Packets are received, made, moved,
//! sent and freed by capsule's own calls, and what these cost (two vectors on the heap for each burst, at most 32 packets
//! in one) is what a comparison is to show. Its own scheduler and typed packets are not used: the worker brings both.
//! What the crate beneath adds so that this is sound is told in `capsule-ffi`.
//!
//! Left out, because capsule leaves it out: more than one queue of a direction (its hash spreads one source over several),
//! an MTU other than Ethernet's 1500, buffers of another size than DPDK's default, and ports that come or go later.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use capsule::batch::{PacketRx, PacketTx, Pipeline};
use capsule::config::{MempoolConfig, PortConfig, RuntimeConfig};
use capsule::{Mbuf, PortQueue, Runtime};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as CoreError;

use super::dpdk::device;
use super::{Burst, Link, PacketBuf, PacketPool, Port, PortHandle, PortStats, RxQueue, TxQueue};
use crate::eal::{Eal, EalError, EalSettings};

/// The most packets that capsule receives at once.
const RECEIVE_MAX: usize = 32;

/// How long capsule would run if nothing held it: it looks at this only when the ports have been given up.
const IDLE_TIME: Duration = Duration::from_millis(50);

/// The longest frame, in bytes: capsule leaves a byte of each buffer unused.
pub const FRAME_LEN_MAX: usize = 2047;

/// A port that capsule shall open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapsuleConfig {
    /// Its name, unique in the process.
    pub name: String,
    /// The device as DPDK names it, with its arguments: `net_pcap0,rx_pcap=in.pcap`, `0000:01:00.0`.
    pub device: String,
    /// Descriptors of the receive ring.
    pub rx_ring_len: u16,
    /// Descriptors of the transmit ring.
    pub tx_ring_len: u16,
}

impl CapsuleConfig {
    /// A device with rings of 512.
    #[must_use]
    pub fn new(name: &str, device: &str) -> Self {
        CapsuleConfig { name: name.to_owned(), device: device.to_owned(), rx_ring_len: 512, tx_ring_len: 512 }
    }
}

/// Capsule, running on a thread of its own, with all ports started. Dropping it alone ends nothing: the ports do.
#[derive(Clone, Debug)]
pub struct CapsuleRuntime {
    running: Arc<Running>,
}

impl CapsuleRuntime {
    /// Starts EAL, a pool of `buffers` packets with caches of `cache` for registered threads, and all ports.
    ///
    /// # Errors
    /// Where EAL was started before in this process, or capsule refuses. Nothing can be tried again in this process then.
    pub fn start(
        settings: &EalSettings,
        buffers: u32,
        cache: u32,
        ports: &[CapsuleConfig],
    ) -> Result<(CapsuleRuntime, Vec<CapsulePort>), CapsuleError> {
        let core = settings.main_core.unwrap_or(0);
        let config = configuration(settings, core, buffers, cache, ports)?;
        let (eal, mark) = Eal::started_by(settings)?;
        let (stop, stopped) = channel();
        let (ready, told) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("capsule".to_owned())
            .spawn(move || run(config, core, &ready, stopped))
            .map_err(|error| CapsuleError::Thread { reason: error.to_string() })?;
        let running = Arc::new(Running { stop: Some(stop), thread: Some(thread), eal, buffers });
        let mut queues = match told.recv() {
            Ok(Ok(queues)) => queues,
            Ok(Err(words)) => return Err(CapsuleError::Refused { words, log: mark.text() }),
            // It panicked; its words are on standard error.
            Err(_) => return Err(CapsuleError::Refused { words: "it ended at once".to_owned(), log: mark.text() }),
        };
        let ports = ports
            .iter()
            .map(|port| {
                let queue = queues.remove(&port.name);
                let id = device::find(device_name(&port.device));
                let (Some(queue), Some(id)) = (queue, id) else {
                    return Err(CapsuleError::Refused { words: format!("no port {}", port.name), log: mark.text() });
                };
                Ok(CapsulePort { name: port.name.clone(), id, queue, running: Arc::clone(&running) })
            })
            .collect::<Result<_, _>>()?;
        Ok((CapsuleRuntime { running }, ports))
    }

    /// EAL, as capsule started it: for registering workers.
    #[must_use]
    pub fn eal(&self) -> &Eal {
        &self.running.eal
    }

    /// A worker's handle to the one pool.
    #[must_use]
    pub fn pool(&self) -> CapsulePool {
        CapsulePool { _running: Arc::clone(&self.running) }
    }

    /// Buffers that are free now: exact while nothing moves, otherwise a close guess.
    #[must_use]
    pub fn free(&self) -> u32 {
        // SAFETY: the pool was made by the start, and lives until the process ends.
        unsafe { capsule_ffi::rte_mempool_avail_count(capsule_ffi::pool()) }
    }

    /// Buffers in all.
    #[must_use]
    pub fn buffers(&self) -> u32 {
        self.running.buffers
    }
}

/// What every handle and queue holds; the last of them ends capsule and waits until its ports are closed.
struct Running {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    eal: Eal,
    buffers: u32,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been told on standard error, and nothing here depends on how it ended.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "capsule over {:?}", self.eal)
    }
}

/// The settings in capsule's form. Its core numbers can only be deserialised.
fn configuration(
    settings: &EalSettings,
    core: usize,
    buffers: u32,
    cache: u32,
    ports: &[CapsuleConfig],
) -> Result<RuntimeConfig, CapsuleError> {
    let mut plain = settings.clone();
    // Capsule gives these itself.
    plain.main_core = None;
    let mut args = plain.arguments()?;
    args.retain(|arg| *arg != format!("--file-prefix={}", settings.file_prefix));
    args.remove(0);
    if let Some(arg) = args.iter().find(|arg| arg.contains(|c: char| c.is_ascii_whitespace())) {
        return Err(CapsuleError::ArgumentWithSpace { arg: arg.clone() });
    }
    let number = |core: usize| IntoDeserializer::<CoreError>::into_deserializer(core);
    let bad_core = |error: CoreError| CapsuleError::Refused { words: error.to_string(), log: String::new() };
    let ports = ports
        .iter()
        .map(|port| {
            let args = port.device.split_once(',').map(|(_, args)| args.to_owned());
            Ok(PortConfig {
                name: port.name.clone(),
                device: device_name(&port.device).to_owned(),
                args,
                cores: vec![Deserialize::deserialize(number(core)).map_err(bad_core)?],
                rxd: usize::from(port.rx_ring_len),
                txd: usize::from(port.tx_ring_len),
                promiscuous: true,
                multicast: true,
                kni: false,
            })
        })
        .collect::<Result<_, CapsuleError>>()?;
    Ok(RuntimeConfig {
        app_name: "vinet".to_owned(),
        secondary: false,
        app_group: Some(settings.file_prefix.clone()),
        master_core: Deserialize::deserialize(number(core)).map_err(bad_core)?,
        cores: Vec::new(),
        mempool: MempoolConfig { capacity: buffers as usize, cache_size: cache as usize },
        ports,
        dpdk_args: Some(args.join(" ")),
        duration: Some(IDLE_TIME),
    })
}

fn device_name(device: &str) -> &str {
    device.split(',').next().unwrap_or(device).trim()
}

type Queues = HashMap<String, PortQueue>;

/// Capsule's thread: builds the runtime, hands its queues out and holds it until `stopped` says that all are given up.
fn run(config: RuntimeConfig, core: usize, ready: &SyncSender<Result<Queues, String>>, stopped: Receiver<()>) {
    // Nobody listens any more only where the start was given up.
    let tell = |words: String| drop(ready.send(Err(words)));
    let mut runtime = match Runtime::build(config) {
        Ok(runtime) => runtime,
        Err(error) => return tell(format!("{error:#}")),
    };
    let hold = Hold { stopped: Mutex::new(stopped) };
    let to = ready.clone();
    let installed = runtime.add_pipeline_to_core(core, move |queues| {
        let _ = to.send(Ok(queues));
        hold
    });
    if let Err(error) = installed.map(|_| ()) {
        return tell(format!("{error:#}"));
    }
    if let Err(error) = runtime.execute() {
        tell(format!("{error:#}"));
    }
}

/// A pipeline that moves no packet. It keeps capsule's thread asleep, and its ports started, as long as they are in use.
struct Hold {
    stopped: Mutex<Receiver<()>>,
}

impl Future for Hold {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        // Nothing is ever sent: this waits until the sender is gone.
        let _ = self.stopped.lock().unwrap_or_else(PoisonError::into_inner).recv();
        Poll::Ready(())
    }
}

impl Pipeline for Hold {
    fn name(&self) -> &str {
        "hold"
    }
    fn run_once(&mut self) {}
}

/// A port of capsule's, started, with one queue of each direction.
pub struct CapsulePort {
    name: String,
    id: u16,
    queue: PortQueue,
    running: Arc<Running>,
}

impl Port for CapsulePort {
    type Buf = CapsuleBuf;
    type Rx = CapsuleRx;
    type Tx = CapsuleTx;
    type Handle = CapsuleHandle;

    fn split(self) -> (CapsuleHandle, Vec<CapsuleRx>, Vec<CapsuleTx>) {
        let unusable = Arc::new(AtomicU64::new(0));
        let rx = CapsuleRx {
            // The clone receives and the original sends: two rings, so each has one user.
            queue: self.queue.clone(),
            ahead: Vec::with_capacity(RECEIVE_MAX),
            unusable: Arc::clone(&unusable),
            _running: Arc::clone(&self.running),
        };
        let tx = CapsuleTx { queue: self.queue, _running: Arc::clone(&self.running) };
        let handle =
            CapsuleHandle { name: self.name, id: self.id, unusable, running: self.running, _not_sync: PhantomData };
        (handle, vec![rx], vec![tx])
    }
}

impl fmt::Debug for CapsulePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapsulePort({:?})", self.name)
    }
}

/// The receive queue of a port of capsule's.
pub struct CapsuleRx {
    queue: PortQueue,
    /// Received beyond the room of a burst, newest first: capsule takes no limit.
    ahead: Vec<CapsuleBuf>,
    unusable: Arc<AtomicU64>,
    _running: Arc<Running>,
}

impl RxQueue for CapsuleRx {
    type Buf = CapsuleBuf;

    fn receive(&mut self, burst: &mut Burst<CapsuleBuf>) -> usize {
        let before = burst.len();
        while burst.room() > 0 {
            if let Some(packet) = self.ahead.pop() {
                burst.packets_vec().push(packet);
                continue;
            }
            let received = PacketRx::receive(&mut self.queue);
            let unusable = capsule_ffi::take_unusable();
            if unusable != 0 {
                // Only this queue writes the counter; others only read it, and nothing hangs on the order.
                self.unusable.fetch_add(unusable, Ordering::Relaxed);
            }
            let (room, count) = (burst.room(), received.len());
            let mut received = received.into_iter().map(CapsuleBuf);
            burst.packets_vec().extend(received.by_ref().take(room));
            self.ahead.extend(received.rev());
            if count < RECEIVE_MAX {
                break;
            }
        }
        burst.len() - before
    }

    fn unusable(&self) -> u64 {
        self.unusable.load(Ordering::Relaxed)
    }
}

/// The transmit queue of a port of capsule's.
pub struct CapsuleTx {
    queue: PortQueue,
    _running: Arc<Running>,
}

impl TxQueue for CapsuleTx {
    type Buf = CapsuleBuf;

    fn send(&mut self, burst: &mut Burst<CapsuleBuf>) -> usize {
        let packets: Vec<Mbuf> = burst.drain().map(|packet| packet.0).collect();
        let count = packets.len();
        if count == 0 {
            return 0;
        }
        let keeping = capsule_ffi::keep_unsent();
        PacketTx::transmit(&mut self.queue, packets);
        let unsent = keeping.end();
        while burst.len() < unsent {
            // Capsule can make packets of its pointers only by receiving: this gives those back that found no room.
            burst.packets_vec().extend(PacketRx::receive(&mut self.queue).into_iter().map(CapsuleBuf));
        }
        count - unsent
    }
}

/// The control core's side of a port of capsule's.
pub struct CapsuleHandle {
    name: String,
    id: u16,
    unusable: Arc<AtomicU64>,
    running: Arc<Running>,
    /// One thread at a time may ask a device for its state.
    _not_sync: PhantomData<std::cell::Cell<()>>,
}

impl CapsuleHandle {
    /// Packets dropped on reception because they came in a form the worker cannot take.
    #[must_use]
    pub fn unusable(&self) -> u64 {
        self.unusable.load(Ordering::Relaxed)
    }
}

impl PortHandle for CapsuleHandle {
    fn name(&self) -> &str {
        &self.name
    }
    fn mac(&self) -> [u8; 6] {
        device::mac(self.id).unwrap_or_default()
    }
    fn mtu(&self) -> u16 {
        1500
    }
    fn link(&self) -> Link {
        device::link(self.id)
    }
    fn stats(&self) -> PortStats {
        device::stats(self.id)
    }
    fn extended_stats(&self) -> Vec<(String, u64)> {
        device::extended_stats(self.id)
    }
    fn kernel_interface(&self) -> Option<u32> {
        device::info(self.id).ok().map(|info| info.if_index).filter(|index| *index != 0)
    }
}

impl fmt::Debug for CapsuleHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapsuleHandle({:?}, {:?})", self.name, self.running)
    }
}

/// One packet of capsule's, owned.
///
/// It grows at the end of its buffer only: to put bytes before the frame, capsule moves the frame.
#[repr(transparent)]
pub struct CapsuleBuf(Mbuf);

impl fmt::Debug for CapsuleBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapsuleBuf({} bytes)", self.0.data_len())
    }
}

impl PacketBuf for CapsuleBuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self.0.read_data_slice::<u8>(0, self.0.data_len()) {
            // SAFETY: the slice lies within the packet's data, which came from the kernel initialised; it is ours, and
            // borrowed as long as `self`.
            Ok(bytes) => unsafe { bytes.as_ref() },
            // An empty packet: capsule calls its beginning out of bounds.
            Err(_) => &[],
        }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        match self.0.read_data_slice::<u8>(0, self.0.data_len()) {
            // SAFETY: as for `bytes`; `self` is borrowed for writing.
            Ok(mut bytes) => unsafe { bytes.as_mut() },
            Err(_) => &mut [],
        }
    }

    #[inline]
    fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        if len != 0 {
            self.0.extend(0, len).ok()?;
        }
        Some(self.bytes_mut())
    }

    #[inline]
    fn append(&mut self, len: usize) -> Option<&mut [u8]> {
        if len != 0 {
            self.0.extend(self.0.data_len(), len).ok()?;
        }
        Some(self.bytes_mut())
    }

    #[inline]
    fn trim_front(&mut self, len: usize) -> bool {
        // Checked here, because capsule adds up the lengths, which can overflow.
        len <= self.0.data_len() && (len == 0 || self.0.shrink(0, len).is_ok())
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        if len < self.0.data_len() {
            // Capsule refuses only what does not shorten.
            let _ = self.0.truncate(len);
        }
    }
}

/// A worker's handle to capsule's pool.
#[derive(Debug)]
pub struct CapsulePool {
    _running: Arc<Running>,
}

impl PacketPool for CapsulePool {
    type Buf = CapsuleBuf;

    fn allocate(&mut self, frame: &[u8]) -> Option<CapsuleBuf> {
        let mut packet = CapsuleBuf(Mbuf::new().ok()?);
        packet.append(frame.len())?.copy_from_slice(frame);
        Some(packet)
    }
}

/// Why capsule did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CapsuleError {
    /// EAL cannot be started with these settings, or was started before.
    Eal(EalError),
    /// Capsule splits EAL's arguments at spaces, so none may have one.
    ArgumentWithSpace {
        /// The argument.
        arg: String,
    },
    /// Capsule refuses.
    Refused {
        /// Its words.
        words: String,
        /// What DPDK said.
        log: String,
    },
    /// The system gave no thread.
    Thread {
        /// The system's reason.
        reason: String,
    },
}

impl From<EalError> for CapsuleError {
    fn from(error: EalError) -> Self {
        CapsuleError::Eal(error)
    }
}

impl fmt::Display for CapsuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CapsuleError::Eal(error) => error.fmt(f),
            CapsuleError::ArgumentWithSpace { arg } => {
                write!(f, "capsule cannot pass on the EAL argument {arg:?}: it splits arguments at spaces")
            }
            CapsuleError::Refused { words, log } => {
                write!(f, "capsule does not start: {words}; start a new process to try again")?;
                if log.is_empty() { Ok(()) } else { write!(f, "; DPDK said: {log}") }
            }
            CapsuleError::Thread { reason } => write!(f, "the system gives no thread for capsule: {reason}"),
        }
    }
}

impl std::error::Error for CapsuleError {}
