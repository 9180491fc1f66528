//! What Prometheus is told: `GET /metrics`, in the OpenMetrics text format.
//!
//! An HTTP server on a thread of its own, so that neither the encoding nor a slow reader is ever on the control core's
//! loop. For each page it asks the core for a [`Sample`] through a channel of one place, at most four times a second;
//! what the core cannot give in time is status 503. How many series there are is fixed when the router starts: by its
//! ports, cores, drop reasons and classes, never by owners or sources.

mod http;
mod text;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use vinet_fastpath::counters::{PortCounts, Totals};
use vinet_fastpath::drop_reason::DROP_REASONS;
use vinet_fastpath::port::{Link, PortStats};

use crate::admission::Decisions;
use crate::census::ClassCount;
use crate::plane::PlaneCounters;
use crate::server::SessionCounters;
use crate::sources::ShutOffCounts;
use http::{Page, Stopper};

/// How long the thread waits for the core.
const CORE_TIMEOUT: Duration = Duration::from_secs(1);
/// A sample that is no older is given again.
const SAMPLE_AGE_MAX: Duration = Duration::from_millis(250);
/// The form of a page.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One port.
#[derive(Clone, Debug)]
pub struct PortSample {
    /// Its name.
    pub name: String,
    /// What the workers counted.
    pub counts: PortCounts,
    /// Its link.
    pub link: Link,
    /// What the device counted.
    pub stats: PortStats,
}

/// One worker.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSample {
    /// Its core.
    pub core: usize,
    /// Turns of its loop.
    pub turns: u64,
    /// Turns in which nothing was received.
    pub turns_empty: u64,
    /// Nanoseconds that it spent on turns in which there was something to do.
    pub busy_ns: u64,
    /// Whether it has been silent for a second.
    pub stuck: bool,
}

/// Where the credits are, without those that accounts can spend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credits {
    /// Paid in.
    pub issued: u64,
    /// Reserved for requests under way.
    pub held: u64,
    /// Paid for programs that run, and not earned yet.
    pub escrow: u64,
    /// Earned.
    pub revenue: u64,
    /// Given back so far.
    pub refunded: u64,
}

/// The state of a router at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The router's name.
    pub router: String,
    /// The ports, in order.
    pub ports: Vec<PortSample>,
    /// Packets dropped, by reason.
    pub drops: [u64; DROP_REASONS],
    /// The other counts of all workers together.
    pub totals: Totals,
    /// Packets without a name: 0, or the workers have a fault.
    pub unaccounted: i64,
    /// The workers.
    pub workers: Vec<WorkerSample>,
    /// Installed programs by class, with the cycles a second that they were promised.
    pub classes: Vec<(String, ClassCount)>,
    /// Cycles a second promised, and in all.
    pub cycles: (u64, u64),
    /// Bytes of state promised, and in all.
    pub memory: (u64, u64),
    /// Bytes of the flow table's cells.
    pub table_bytes: u64,
    /// Things of the flow table that wait to be freed.
    pub retired: usize,
    /// What admission decided.
    pub decisions: Decisions,
    /// Proof checks that wait.
    pub checks_pending: usize,
    /// Requests that wait in each class's queue.
    pub waiting: Vec<(String, usize)>,
    /// Programs that wait for capacity.
    pub candidates: usize,
    /// What is with the store, or waits for it.
    pub commits_pending: usize,
    /// Whether the store takes nothing any more.
    pub store_failed: bool,
    /// Sources that are shut off, or in respite.
    pub sources_shut_off: usize,
    /// What was decided about sources.
    pub shut_offs: ShutOffCounts,
    /// Where the credits are.
    pub credits: Credits,
    /// Sessions now, and those of them without a finished handshake.
    pub sessions: (usize, usize),
    /// What the sessions' server counted.
    pub session_counters: SessionCounters,
    /// The slow path's kernel side, where there is one.
    pub plane: Option<PlaneCounters>,
}

/// The core's end: answers the thread.
pub struct Metrics {
    /// Always there until the end.
    asks: Option<Receiver<Sender<Sample>>>,
    address: SocketAddr,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("address", &self.address).finish()
    }
}

impl Metrics {
    /// Listens on `address` and serves it; `wake` has the core call [`Metrics::serve`] soon.
    ///
    /// # Errors
    /// The address cannot be had, or there can be no thread.
    pub fn start(address: SocketAddr, wake: impl Fn() + Send + 'static) -> io::Result<Metrics> {
        let (ask, asks) = bounded(1);
        let mut server = http::Server::listen(address)?;
        let (address, stopper) = (server.address()?, server.stopper()?);
        let mut source = Source { ask, wake: Box::new(wake), last: None };
        let thread = std::thread::Builder::new()
            .name("vinet-metrics".into())
            .spawn(move || server.run(|path| source.page(path)))?;
        Ok(Metrics { asks: Some(asks), address, stopper, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers the thread, where it has asked. To be called in every turn of the core's loop.
    pub fn serve(&self, sample: impl FnOnce() -> Sample) {
        if let Some(reply) = self.asks.as_ref().and_then(|asks| asks.try_recv().ok()) {
            // The thread may have given up waiting.
            let _ = reply.try_send(sample());
        }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.stopper.stop();
        // With the channel gone, the thread does not wait for an answer.
        self.asks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's end.
struct Source {
    ask: Sender<Sender<Sample>>,
    wake: Box<dyn Fn() + Send>,
    /// The last page, and when it was made.
    last: Option<(Instant, Arc<str>)>,
}

impl Source {
    fn page(&mut self, path: &str) -> Page {
        match path {
            "/metrics" => match self.metrics() {
                Some(text) => Page::ok(CONTENT_TYPE, text),
                None => Page::text(503, "the control core does not answer; try again\n"),
            },
            "/" => Page::text(200, "vinetd; see /metrics\n"),
            _ => Page::text(404, "there is only /metrics\n"),
        }
    }

    fn metrics(&mut self) -> Option<Arc<str>> {
        if let Some((_, text)) = self.last.as_ref().filter(|(at, _)| at.elapsed() <= SAMPLE_AGE_MAX) {
            return Some(Arc::clone(text));
        }
        let (reply, answer) = bounded(1);
        self.ask.send_timeout(reply, CORE_TIMEOUT).ok()?;
        (self.wake)();
        let sample = answer.recv_timeout(CORE_TIMEOUT).ok()?;
        let text: Arc<str> = text::encode(sample).ok()?.into();
        self.last = Some((Instant::now(), Arc::clone(&text)));
        Some(text)
    }
}

#[cfg(test)]
mod tests;
