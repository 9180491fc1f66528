//! How programs come back after a start: as if they were admitted again, with what is left of their time.

use std::time::{Duration, Instant};

use vinet_fastpath::flow_table::{Install, InstallError, InstallId};
use vinet_session::Now;
use vinet_session::message::{Class, Rejection, Upload};
use vinet_session::receipt::Ending;

use super::decide::Gone;
use super::{Admission, Ended, Outcome, ProgramTable, Stage, rejected};
use crate::capacity::load;
use crate::judges::Accepted;
use crate::sources::Aim;
use crate::store::{ProgramRecord, RequestRecord};

/// How long a start waits for the workers to pass what the table has retired.
const RETIRED_PATIENCE: Duration = Duration::from_secs(10);
/// The time between two looks at whether they have.
const RETIRED_LOOK_EVERY: Duration = Duration::from_millis(1);

/// A program that was checked again.
#[derive(Debug)]
pub struct Restored {
    /// What the store has of it; the upload is taken out of it.
    pub record: ProgramRecord,
    /// The upload.
    pub upload: Box<Upload>,
    /// What was accepted.
    pub accepted: Accepted,
}

/// A program that does not come back.
#[derive(Debug)]
pub struct Unfit {
    /// What the store has of it.
    pub record: ProgramRecord,
    /// The upload, where it can be read.
    pub upload: Option<Box<Upload>>,
    /// Why it ends.
    pub why: Rejection,
}

impl Admission {
    /// Takes in what was answered before.
    pub fn restore_requests(&mut self, records: Vec<RequestRecord>) {
        records.into_iter().for_each(|record| self.requests.restore(record));
    }

    /// Takes in lemmas that the store kept, and gives what it need not keep any longer.
    pub fn restore_lemmas(&mut self, kept: Vec<(Vec<u8>, Vec<u8>)>, now: Now) -> Outcome {
        Outcome::unasked(self.lemmas.restore(kept, now))
    }

    /// Takes in events that the store kept, and gives what it need not keep any longer.
    pub fn restore_events(&mut self, kept: Vec<(Vec<u8>, Vec<u8>)>) -> Outcome {
        Outcome::unasked(self.events.restore(kept))
    }

    /// The number of the next program, at least.
    pub fn numbers_from(&mut self, instance: u64) {
        self.next_instance = self.next_instance.max(instance);
    }

    /// Takes a program into the register again.
    ///
    /// # Errors
    /// It cannot come back.
    pub fn restore(&mut self, restored: Restored, now: Now) -> Result<Install, Box<Unfit>> {
        let Restored { record, upload, accepted } = restored;
        let executable = accepted.executable;
        match self.come_back(&record, &upload, &executable, now) {
            Ok(install) => Ok(install),
            Err(why) => Err(Box::new(Unfit { record, upload: Some(upload), why })),
        }
    }

    fn come_back(
        &mut self,
        record: &ProgramRecord,
        upload: &Upload,
        executable: &std::sync::Arc<vinet_pktops::Executable>,
        now: Now,
    ) -> Result<Install, Rejection> {
        let terms = upload.terms();
        let left_s = record.ends_s.saturating_sub(now.wall_s);
        if left_s == 0 {
            return Err(rejected("expired", "its lifetime is over"));
        }
        self.sources_controlled(executable)?;
        self.room_for(&terms.principal)?;
        let checked = executable.checked();
        let load = load(checked.complexity(), terms.packet_rate, checked.state_bytes(), self.terrain.workers);
        // Where owners have to be reached, this one was when the program came.
        let verified = self.reach.is_required();
        let aim = Aim::of(executable, &self.terrain.controlled, verified, terms.monitor);
        let lifetime_s = record.ends_s.saturating_sub(record.began_s);
        // A clock that went back does not make a lifetime longer than what was paid for.
        let ends_ms = now.mono_ms.saturating_add(left_s.min(lifetime_s) * 1_000);
        let generate_key = self.generate_key(executable, &record.owner)?;
        let (instance, owner, paid) = (record.instance, record.owner, record.paid);
        let mut installed = self.enter(instance, terms, executable, owner, aim, load, lifetime_s, ends_ms, paid)?;
        installed.stage = Stage::Running;
        let install = installed.install(instance, generate_key);
        self.programs.insert(instance, installed);
        self.next_instance = self.next_instance.max(instance + 1);
        Ok(install)
    }

    /// Takes a restored program out again that the table does not take.
    pub fn restored_in_vain(&mut self, id: InstallId, now: Now) -> Option<(Ended, Outcome)> {
        let left_s = self.programs.get(&id.0)?.left_s(now);
        let gone = self.release(id.0)?;
        let (ended, puts) = self.ended(id.0, &gone, Ending::Displaced, left_s, now);
        Some((ended, Outcome::unasked(puts)))
    }

    /// Ends a program that does not come back: what is left of its payment goes back.
    pub fn end_unfit(&mut self, unfit: &Unfit, now: Now) -> (Ended, Outcome) {
        let record = &unfit.record;
        let terms = unfit.upload.as_ref().map(|upload| upload.terms());
        let gone = Gone {
            // What cannot be read is of nobody that could be told.
            owner: terms.map_or(vinet_trusted::addr::Principal::EndUser(vinet_trusted::addr::Addr::V4(0)), |terms| {
                terms.principal
            }),
            key: record.owner,
            class: terms.map_or(Class::Header, |terms| terms.class),
            lifetime_s: record.ends_s.saturating_sub(record.began_s),
            paid: record.paid,
        };
        let why = match unfit.why.code() {
            "expired" => Ending::Expired,
            "revoked" => Ending::Revoked,
            _ => Ending::Displaced,
        };
        let left_s = record.ends_s.saturating_sub(now.wall_s).min(gone.lifetime_s);
        let (ended, puts) = self.ended(record.instance, &gone, why, left_s, now);
        (ended, Outcome::unasked(puts))
    }

    /// Puts restored programs in force, all at once where the table can; gives those that it does not take. Where it only
    /// waits for the workers to pass what was retired, so does this, for [`RETIRED_PATIENCE`].
    pub fn publish_restored(&self, installs: Vec<Install>, table: &mut impl ProgramTable) -> Vec<InstallId> {
        let deadline = Instant::now() + RETIRED_PATIENCE;
        while let Err(error) = table.install_all(installs.clone()) {
            if !matches!(error, InstallError::RetiredFull { .. }) || Instant::now() >= deadline {
                return one_by_one(installs, table);
            }
            table.free_passed();
            std::thread::sleep(RETIRED_LOOK_EVERY);
        }
        Vec::new()
    }
}

/// Puts each program in force that the table takes; gives the others.
fn one_by_one(installs: Vec<Install>, table: &mut impl ProgramTable) -> Vec<InstallId> {
    installs
        .into_iter()
        .filter_map(|install| {
            let id = install.id;
            table.install(install).err().map(|_| id)
        })
        .collect()
}
