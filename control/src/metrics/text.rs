//! A sample as text.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use vinet_fastpath::drop_reason::DropReason;

use super::{PortSample, Sample};

/// The page of `sample`.
pub(super) fn encode(sample: Sample) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(sample));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

/// Writes metrics one after the other.
struct Out<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Out<'_> {
    /// A counter for each set of labels; its name gets `_total` behind.
    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
    /// The same for a sum of seconds.
    fn seconds<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, nanoseconds) in values {
            ConstCounter::new(nanoseconds as f64 / 1e9).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
    /// A gauge for each set of labels.
    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
    }
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstGauge::new(value).encode(self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}

impl Collector for Sample {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out { encoder };
        let version = env!("CARGO_PKG_VERSION");
        let build = [("version", version), ("router", self.router.as_str())];
        out.gauges("vinet_build_info", "The version and the router's name; always 1.", [(build, 1)])?;
        self.encode_ports(&mut out)?;
        self.encode_workers(&mut out)?;
        self.encode_programs(&mut out)?;
        self.encode_control(&mut out)
    }
}

impl Sample {
    fn encode_ports(&self, out: &mut Out<'_>) -> fmt::Result {
        let ports = |of: fn(&PortSample) -> u64| self.ports.iter().map(move |p| ([("port", p.name.as_str())], of(p)));
        out.counters("vinet_port_rx_packets", "Packets received.", ports(|p| p.counts.rx_packets))?;
        out.counters("vinet_port_rx_bytes", "Bytes received.", ports(|p| p.counts.rx_bytes))?;
        out.counters("vinet_port_tx_packets", "Packets sent.", ports(|p| p.counts.tx_packets))?;
        out.counters("vinet_port_tx_bytes", "Bytes sent.", ports(|p| p.counts.tx_bytes))?;
        out.gauges("vinet_port_up", "1 where the link has a carrier.", ports(|p| u64::from(p.link.up)))?;
        let speed = ports(|p| u64::from(p.link.speed_mbps.unwrap_or(0)) * 1_000_000);
        out.gauges("vinet_port_speed_bits_per_second", "The link's speed; 0 where it is not known.", speed)?;
        let missed = ports(|p| p.stats.rx_missed);
        out.counters("vinet_port_rx_missed", "Packets that the device dropped because its ring was full.", missed)?;
        out.counters("vinet_port_rx_errors", "Packets received with an error.", ports(|p| p.stats.rx_errors))?;
        let no_buffer = ports(|p| p.stats.rx_no_buffer);
        out.counters("vinet_port_rx_no_buffer", "Receptions that failed for want of a buffer.", no_buffer)?;
        out.counters("vinet_port_tx_errors", "Packets that the device could not send.", ports(|p| p.stats.tx_errors))?;
        let drops = DropReason::ALL.iter().map(|&r| ([("reason", r.name())], self.drops[r as usize]));
        out.counters("vinet_drops", "Packets dropped, by reason.", drops)
    }

    fn encode_workers(&self, out: &mut Out<'_>) -> fmt::Result {
        // Counts of packets only; what waits now is a gauge below.
        let t = &self.totals;
        for (name, help, value) in [
            ("vinet_to_kernel_packets", "Packets given to the kernel.", t.to_tap),
            ("vinet_from_kernel_packets", "Packets of the kernel.", t.from_tap),
            ("vinet_icmp_sent_packets", "ICMP errors of the router's own.", t.own_icmp),
            ("vinet_icmp_rate_limited", "ICMP errors not sent because of the rate.", t.icmp_rate_limited),
            ("vinet_generated_packets", "Packets that programs generated.", t.generated),
            ("vinet_expanded_packets", "Packets that the expander made.", t.expanded),
            ("vinet_consumed_packets", "Packets that the expander took in.", t.consumed),
            (
                "vinet_over_budget_forwarded_packets",
                "Forwarded past programs over their rate.",
                t.over_budget_forwarded,
            ),
            ("vinet_handed_over_packets", "Packets handed over between workers.", t.handed_over),
        ] {
            out.counter(name, help, value)?;
        }
        out.gauge("vinet_held_packets", "Packets that wait for a next hop or in a window.", t.held)?;
        out.gauge("vinet_queued_packets", "Packets that wait for a transmit ring.", t.queued)?;
        out.gauge(
            "vinet_unaccounted_packets",
            "Packets without a name: 0, or a fault.",
            self.unaccounted.unsigned_abs(),
        )?;
        let cores: Vec<String> = self.workers.iter().map(|w| w.core.to_string()).collect();
        let label = |i: usize| [("core", cores[i].as_str())];
        let each = |of: fn(&super::WorkerSample) -> u64| {
            self.workers.iter().enumerate().map(move |(i, worker)| (label(i), of(worker)))
        };
        let help = "Time that a worker had something to do; its rate is the busy share of its core.";
        out.seconds("vinet_worker_busy_seconds", help, each(|w| w.busy_ns))?;
        out.counters("vinet_worker_turns", "Turns of a worker's loop.", each(|w| w.turns))?;
        let help = "Turns of a worker's loop in which nothing was received.";
        out.counters("vinet_worker_turns_empty", help, each(|w| w.turns_empty))?;
        out.gauges("vinet_worker_stuck", "1 where a worker has been silent for a second.", each(|w| u64::from(w.stuck)))
    }

    fn encode_programs(&self, out: &mut Out<'_>) -> fmt::Result {
        let classes = |of: fn(&crate::census::ClassCount) -> u64| {
            self.classes.iter().map(move |(class, count)| ([("class", class.as_str())], of(count)))
        };
        out.gauges("vinet_programs", "Installed programs, by class.", classes(|c| c.programs))?;
        let help = "Cycles a second promised to programs, by class.";
        out.gauges("vinet_program_cycles_per_second", help, classes(|c| c.cycles_per_second))?;
        let ((cycles, cycles_max), (memory, memory_max)) = (self.cycles, self.memory);
        out.gauge("vinet_capacity_cycles_per_second", "Cycles a second that may be promised.", cycles_max)?;
        out.gauge("vinet_capacity_cycles_per_second_taken", "Cycles a second promised.", cycles)?;
        out.gauge("vinet_capacity_memory_bytes", "Bytes of state that may be promised.", memory_max)?;
        out.gauge("vinet_capacity_memory_bytes_taken", "Bytes of state promised.", memory)?;
        out.gauge("vinet_table_bytes", "Bytes of the flow table's cells.", self.table_bytes)?;
        out.gauge("vinet_table_retired", "Things of the table that wait to be freed.", self.retired as u64)?;
        let d = &self.decisions;
        let decisions = [
            ("installed", d.installed),
            ("rejected", d.rejected),
            ("withdrawn", d.withdrawn),
            ("expired", d.expired),
            ("repeated", d.repeated),
        ];
        let labelled = decisions.map(|(name, count)| ([("decision", name)], count));
        out.counters("vinet_admission_decisions", "What admission decided.", labelled)
    }

    fn encode_control(&self, out: &mut Out<'_>) -> fmt::Result {
        out.gauge("vinet_checks_pending", "Proof checks that wait.", self.checks_pending as u64)?;
        let waiting = self.waiting.iter().map(|(class, count)| ([("class", class.as_str())], *count as u64));
        out.gauges("vinet_requests_waiting", "Requests that wait for the judges, by class.", waiting)?;
        out.gauge("vinet_candidates", "Programs that wait for capacity.", self.candidates as u64)?;
        out.gauge("vinet_commits_pending", "What is with the store, or waits for it.", self.commits_pending as u64)?;
        out.gauge("vinet_store_failed", "1 where the store takes nothing any more.", u64::from(self.store_failed))?;
        out.gauge("vinet_sources_shut_off", "Sources shut off, or back for a while.", self.sources_shut_off as u64)?;
        let s = &self.shut_offs;
        let events = [
            ("shut_off", s.shut_off),
            ("back_by_votes", s.back_by_votes),
            ("back_by_time", s.back_by_time),
            ("back_by_operator", s.back_by_operator),
        ];
        let labelled = events.map(|(name, count)| ([("event", name)], count));
        out.counters("vinet_shut_off_events", "What was decided about sources.", labelled)?;
        let c = &self.credits;
        let books = [
            ("issued", c.issued),
            ("held", c.held),
            ("escrow", c.escrow),
            ("revenue", c.revenue),
            ("refunded", c.refunded),
        ];
        let labelled = books.map(|(name, credits)| ([("book", name)], credits));
        out.gauges("vinet_credits", "Credits, by where they are.", labelled)?;
        let (sessions, half_open) = self.sessions;
        out.gauge("vinet_sessions", "Sessions now.", sessions as u64)?;
        out.gauge("vinet_sessions_half_open", "Sessions without a finished handshake.", half_open as u64)?;
        let s = &self.session_counters;
        let events = [
            ("accepted", s.accepted),
            ("refused_full", s.refused_full),
            ("refused_peer", s.refused_peer),
            ("evicted", s.evicted),
            ("established", s.established),
            ("timeouts", s.timeouts),
            ("faults", s.faults),
            ("accept_errors", s.accept_errors),
        ];
        let labelled = events.map(|(name, count)| ([("event", name)], count));
        out.counters("vinet_session_events", "What happened to connections of strangers.", labelled)?;
        out.counter("vinet_session_requests", "Requests that were read.", s.requests)?;
        let plane = self.plane.unwrap_or_default();
        let frames = [
            ("to_kernel", plane.to_kernel),
            ("to_kernel_refused", plane.to_kernel_refused),
            ("from_kernel", plane.from_kernel),
            ("from_kernel_refused", plane.from_kernel_refused),
        ];
        let labelled = frames.map(|(name, count)| ([("way", name)], count));
        out.counters("vinet_slow_path_frames", "Frames between workers and kernel.", labelled)?;
        out.counter("vinet_neighbour_resolves", "Requests to resolve a neighbour.", plane.resolves)?;
        out.counter("vinet_fib_published", "Forwarding tables that were published.", plane.fibs)
    }
}
