//! What owners and the operator see of the installed programs.

use vinet_fastpath::flow_table::InstallId;
use vinet_session::Now;
use vinet_session::limits::LIST_LEN_MAX;
use vinet_session::message::{ProgramStatus, Reply};
use vinet_trusted::addr::Principal;

use super::{Admission, Installed, ProgramTable, Stage, not_found};

impl Admission {
    /// The programs of one owner, as many as one answer holds.
    pub fn list(&self, owner: &Principal, now: Now, table: &impl ProgramTable) -> Reply {
        let own = self.by_owner.get(owner).into_iter().flatten();
        let states = own.filter_map(|&instance| self.status_of(instance, owner, now, table));
        Reply::List(states.take(LIST_LEN_MAX).collect())
    }

    /// One program of one owner.
    pub fn show(&self, instance: u64, owner: &Principal, now: Now, table: &impl ProgramTable) -> Reply {
        match self.status_of(instance, owner, now, table) {
            Some(status) => Reply::Status(status),
            None => Reply::Rejected(not_found(instance, owner)),
        }
    }

    /// The state of `instance`, where it is `owner`'s.
    pub(super) fn status_of(
        &self,
        instance: u64,
        owner: &Principal,
        now: Now,
        table: &impl ProgramTable,
    ) -> Option<ProgramStatus> {
        let own = self.programs.get(&instance).filter(|i| i.stage == Stage::Running && i.owner == *owner);
        own.map(|i| status(instance, i, now, table))
    }

    /// One installed program with its owner, for the operator.
    pub fn instance(&self, instance: u64, now: Now, table: &impl ProgramTable) -> Option<(Principal, ProgramStatus)> {
        let running = self.programs.get(&instance).filter(|installed| installed.stage == Stage::Running);
        running.map(|installed| (installed.owner, status(instance, installed, now, table)))
    }

    /// Every installed program with its owner, for the operator.
    pub fn all(&self, now: Now, table: &impl ProgramTable) -> impl Iterator<Item = (Principal, ProgramStatus)> {
        let running = self.programs.iter().filter(|(_, i)| i.stage == Stage::Running);
        running.map(move |(&instance, i)| (i.owner, status(instance, i, now, table)))
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
        monitor: installed.monitor,
    }
}
