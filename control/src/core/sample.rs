//! The core's state at one moment, for the metrics.

use vinet_fastpath::port::PortHandle;

use super::Core;
use crate::metrics::{Credits, PortSample, Sample, WorkerSample};

impl<H: PortHandle> Core<H> {
    /// Answers the metrics' thread, where it has asked.
    pub(super) fn serve_metrics(&mut self) {
        if let Some(metrics) = &self.metrics {
            metrics.serve(|| self.sample());
        }
    }

    pub(super) fn sample(&self) -> Sample {
        let workers = self.counters.worker_snapshots();
        let all = self.counters.snapshot();
        let (admission, table) = (&self.office.admission, &self.office.table);
        let budget = admission.budget();
        let ports = self.handles.iter().zip(&all.ports).map(|(handle, counts)| PortSample {
            name: handle.name().to_owned(),
            counts: *counts,
            link: handle.link(),
            stats: handle.stats(),
        });
        let cores = self.config.workers.cores.iter().enumerate().zip(&workers);
        Sample {
            router: self.config.router.name.clone(),
            ports: ports.collect(),
            drops: all.drops,
            totals: all.totals,
            unaccounted: i64::try_from(all.balance().difference).unwrap_or(i64::MAX),
            workers: cores
                .map(|((worker, core), counts)| WorkerSample {
                    core: *core,
                    turns: counts.turns,
                    turns_empty: counts.turns_empty,
                    busy_ns: counts.busy_ns,
                    stuck: self.stuck.contains(&worker),
                })
                .collect(),
            classes: admission.census().classes().map(|(class, count)| (class.to_string(), count)).collect(),
            cycles: (budget.cycles_per_second(), budget.cycles_per_second_max()),
            memory: (budget.memory_bytes(), budget.memory_bytes_max()),
            table_bytes: table.memory_bytes(),
            retired: table.retired(),
            decisions: admission.decisions(),
            checks_pending: self.office.checks_pending(),
            waiting: self.office.scheduler().classes().map(|(class, count)| (class.to_string(), count)).collect(),
            candidates: self.office.candidates(),
            commits_pending: self.office.commits_pending(),
            store_failed: self.office.store_failure().is_some(),
            sources_shut_off: admission.sources().shut_offs().len(),
            shut_offs: admission.sources().shut_offs().counts(),
            credits: Credits {
                issued: admission.ledger().books().issued,
                held: admission.ledger().open_holds().1,
                escrow: admission.ledger().books().escrow,
                revenue: u64::try_from(admission.ledger().books().revenue_total()).unwrap_or(u64::MAX),
                refunded: admission.ledger().books().refunded,
            },
            sessions: (self.server.len(), self.server.half_open()),
            session_counters: self.server.counters(),
            plane: self.plane.as_ref().map(|plane| plane.counters()),
        }
    }
}
