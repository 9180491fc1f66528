//! Sampled packets for an operator who watches: the router's side of `vinet trace`.
//!
//! One trace at a time. The workers' rings are bounded, and so is what waits for a slow reader: what has no room in either
//! is counted and told (`lost`). The sampling stops when enough packets were told or when the operator goes, however.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use vinet_fastpath::clock::Clock;
use vinet_fastpath::port::PortHandle;
use vinet_fastpath::trace::{Fate, TRACE_RING_LEN, TraceOrder, Traced};

use super::{Core, view};
use crate::admin::{Asker, Peer, Streamed, TraceRequest};
use crate::log;

/// Records told in one turn of the loop.
const TOLD_PER_TURN: usize = 256;

/// A trace under way.
pub(super) struct Trace {
    asker: Asker,
    peer: Peer,
    /// Packets that are still to be told; absent is without an end.
    left: Option<u64>,
    /// What the workers had lost when it began.
    lost_before: u64,
    /// Records that a slow reader has not been told.
    untold: u64,
    /// What the workers' clock lacks to the nanoseconds since 1970.
    offset_ns: u64,
}

impl<H: PortHandle> Core<H> {
    /// Begins a trace for `asker`; its records follow this answer.
    pub(super) fn start_trace(&mut self, asker: Asker, peer: &Peer, request: &TraceRequest) -> Value {
        if let Some(trace) = &self.trace
            && trace.asker != asker
        {
            return json!({ "error": format!("another trace runs, by {}; one at a time", trace.peer) });
        }
        let order = TraceOrder {
            src: request.src.map(|cidr| cidr.0),
            dst: request.dst.map(|cidr| cidr.0),
            one_in: request.one_in,
            bytes: request.bytes,
        };
        log::info("admin", format_args!("{peer} traces {}", request.to_json()));
        // What an earlier trace has left is not about these packets.
        for _ in 0..self.config.workers.cores.len() * TRACE_RING_LEN {
            if self.tracer.next().is_none() {
                break;
            }
        }
        if let Err(error) = self.tracer.start(order) {
            return json!({ "error": error.to_string() });
        }
        self.admin.keep(asker);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ns = u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX);
        self.trace = Some(Trace {
            asker,
            peer: *peer,
            left: request.count,
            lost_before: self.tracer.lost(),
            untold: 0,
            offset_ns: now_ns.wrapping_sub(Clock::get().now_ns()),
        });
        let ports: Vec<&str> = self.config.ports.iter().map(|port| port.name.as_str()).collect();
        json!({ "tracing": { "router": self.config.router.name, "ports": ports } })
    }

    /// Tells what was sampled; `true` where there is more.
    pub(super) fn serve_trace(&mut self) -> bool {
        let Some(trace) = &mut self.trace else { return false };
        for _ in 0..TOLD_PER_TURN {
            if trace.left == Some(0) {
                let lost = self.tracer.lost() - trace.lost_before + trace.untold;
                self.admin.answer(trace.asker, &json!({ "ended": "as many as were asked for", "lost": lost }));
                self.stop_trace();
                return false;
            }
            if !self.admin.is_there(trace.asker) {
                self.stop_trace();
                return false;
            }
            let Some(traced) = self.tracer.next() else { return false };
            let lost = self.tracer.lost() - trace.lost_before + trace.untold;
            match self.admin.stream(trace.asker, &record(&traced, trace.offset_ns, lost)) {
                Streamed::Taken => trace.left = trace.left.map(|left| left - 1),
                Streamed::Full => trace.untold += 1,
                Streamed::Gone => {}
            }
        }
        true
    }

    fn stop_trace(&mut self) {
        if let Err(error) = self.tracer.stop() {
            // It is tried again at every turn.
            log::stranger("core", format_args!("the trace cannot be stopped yet: {error}"));
        } else if let Some(trace) = self.trace.take() {
            self.admin.release(trace.asker);
            log::info("admin", format_args!("the trace of {} has ended", trace.peer));
        }
    }
}

/// One sampled packet.
fn record(traced: &Traced, offset_ns: u64, lost: u64) -> Value {
    let programs: Vec<Value> =
        traced.acted().iter().map(|(id, decision)| json!({ "instance": id.0, "decision": decision.name() })).collect();
    let mut record = json!({
        "at_ns": traced.at_ns.wrapping_add(offset_ns),
        "worker": traced.worker,
        "port": traced.input,
        "len": traced.len,
        "fate": traced.fate.name(),
        "programs": programs,
        "programs_in_all": traced.acted_count(),
        "bytes": view::hex(traced.bytes()),
    });
    match traced.fate {
        Fate::Sent { port } => record["to"] = port.into(),
        Fate::Dropped(reason) => record["reason"] = reason.name().into(),
        Fate::Window(id) => record["program"] = id.0.into(),
        _ => {}
    }
    if lost > 0 {
        record["lost"] = lost.into();
    }
    record
}
