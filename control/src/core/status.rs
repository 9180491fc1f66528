//! All that one look at a running router shows: what `vinet top` draws.
//!
//! Counts are totals, with the time at which they were taken, so that who asks twice can tell rates.

use serde_json::{Map, Value, json};
use vinet_fastpath::drop_reason::DropReason;
use vinet_fastpath::port::PortHandle;
use vinet_session::Now;

use super::{Core, desk, view};

/// Programs looked at for the busiest; more would hold the loop.
const PROGRAMS_LOOKED_AT: usize = 10_000;
/// Programs told.
const PROGRAMS_TOLD: usize = 50;

impl<H: PortHandle> Core<H> {
    pub(super) fn status(&self, now: Now) -> Value {
        let sample = self.sample();
        let ports: Vec<Value> = sample
            .ports
            .iter()
            .map(|port| {
                json!({
                    "name": port.name, "up": port.link.up, "speed_mbps": port.link.speed_mbps,
                    "rx_packets": port.counts.rx_packets, "rx_bytes": port.counts.rx_bytes,
                    "tx_packets": port.counts.tx_packets, "tx_bytes": port.counts.tx_bytes,
                    "rx_missed": port.stats.rx_missed,
                })
            })
            .collect();
        let cores: Vec<Value> = sample
            .workers
            .iter()
            .map(|worker| {
                json!({
                    "core": worker.core, "busy_ns": worker.busy_ns, "turns": worker.turns,
                    "turns_empty": worker.turns_empty, "stuck": worker.stuck,
                })
            })
            .collect();
        let drops: Map<String, Value> = DropReason::ALL
            .iter()
            .zip(sample.drops)
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| (reason.name().to_owned(), count.into()))
            .collect();
        let classes: Vec<Value> = sample
            .classes
            .iter()
            .map(|(class, count)| {
                json!({ "class": class, "programs": count.programs, "cycles_per_second": count.cycles_per_second })
            })
            .collect();
        json!({
            "router": sample.router,
            "version": env!("CARGO_PKG_VERSION"),
            "at_ms": now.mono_ms,
            "uptime_s": self.origin.elapsed().as_secs(),
            "cores": cores,
            "ports": ports,
            "drops": drops,
            "held": sample.totals.held + sample.totals.queued,
            "unaccounted": sample.unaccounted,
            "classes": classes,
            "capacity": {
                "cycles_per_second": sample.cycles.0, "cycles_per_second_max": sample.cycles.1,
                "memory_bytes": sample.memory.0, "memory_bytes_max": sample.memory.1,
            },
            "sessions": { "open": sample.sessions.0, "half_open": sample.sessions.1 },
            "admission": sample.decisions,
            "checks_pending": sample.checks_pending,
            "waiting": desk::waiting(&self.office),
            "sources_shut_off": sample.sources_shut_off,
            "reload_undone_in_s": self.reload_undone_in_s(std::time::Instant::now()),
            "programs_installed": self.office.admission.len(),
            "programs_looked_at": self.office.admission.len().min(PROGRAMS_LOOKED_AT),
            "programs": self.busiest(now),
        })
    }

    /// The programs that have seen most, most first.
    fn busiest(&self, now: Now) -> Vec<Value> {
        let office = &self.office;
        let mut programs: Vec<_> = office.admission.all(now, &office.table).take(PROGRAMS_LOOKED_AT).collect();
        programs.sort_by_key(|(_, status)| std::cmp::Reverse((status.packets_seen, status.instance)));
        programs.truncate(PROGRAMS_TOLD);
        programs.iter().map(|(owner, status)| view::program(office, owner, status)).collect()
    }
}
