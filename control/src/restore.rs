//! The start: every program that the store knows is checked again, before a port opens.
//!
//! No verdict is stored, so nothing is trusted that an earlier process, or whoever wrote to the file, believed: bytes,
//! proof, policy and owner go through the same checker and the same register as an upload, and only what both accept is put
//! in force. What is not checked again are signature, quote and reach: they were about who asks, and the store keeps only
//! what was asked lawfully. Cores share the checks; the register and the table are filled meanwhile, many at once.
//!
//! A program that does not come back (its time is over, its policy is another, its key is revoked, there is no room) ends
//! as programs end: with a receipt, what is left of its payment, and an event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::{AHashMap, AHashSet};
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use vinet_fastpath::flow_table::Install;
use vinet_pktops::Lowerings;
use vinet_session::Now;
use vinet_session::identity::PublicKey;
use vinet_session::message::{Rejection, Upload};
use vinet_trusted::addr::Principal;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::policy::{Policy, PrincipalKind};

use crate::admission::{Admission, Outcome, ProgramTable, Restored, Unfit};
use crate::config::cores_online;
use crate::judges::{Accepted, accept};
use crate::log;
use crate::store::{ProgramRecord, Recovered, StoreError};

/// Programs that go to a core at once.
const BATCH_LEN: usize = 128;
/// Batches that wait for a core, and results that wait for the register, at once.
const BATCHES_WAITING: usize = 16;

/// What programs are checked against.
#[derive(Debug)]
pub struct Rules {
    /// The policies in force, with their names.
    pub policies: Vec<(Arc<Policy>, [u8; 32])>,
    /// The lemmas that every proof may cite.
    pub library: Arc<LemmaStore>,
    /// Those of owners who have more.
    pub lemmas: AHashMap<Principal, Arc<LemmaStore>>,
    /// Keys that are revoked.
    pub revoked: AHashSet<PublicKey>,
}

/// What came of it.
#[derive(Debug)]
pub struct Restoration {
    /// Programs that are in force again.
    pub programs: u64,
    /// What is to be filed for those that are not.
    pub ended: Vec<Outcome>,
    /// What all programs in the store had paid, in credits.
    pub paid: u128,
    /// How long it took.
    pub took: Duration,
}

type Checked = Result<Restored, Box<Unfit>>;

impl Rules {
    /// Checks one program again.
    fn check(&self, record: ProgramRecord, now_s: u64, lowerings: &Lowerings) -> Checked {
        let upload = match Upload::decode(&record.upload) {
            Ok(upload) => Box::new(upload),
            Err(error) => {
                let why = Rejection::new("unreadable", &format!("its upload cannot be read: {error}"), None);
                return Err(Box::new(Unfit { record, upload: None, why }));
            }
        };
        match self.accept(&record, &upload, now_s, lowerings) {
            Ok(accepted) => Ok(Restored { record, upload, accepted }),
            Err(why) => Err(Box::new(Unfit { record, upload: Some(upload), why })),
        }
    }

    fn accept(
        &self,
        record: &ProgramRecord,
        upload: &Upload,
        now_s: u64,
        lowerings: &Lowerings,
    ) -> Result<Accepted, Rejection> {
        if record.ends_s <= now_s {
            return Err(Rejection::new("expired", "its lifetime ended while the router was away", None));
        }
        if self.revoked.contains(&record.owner) {
            return Err(Rejection::new("revoked", "the key of its owner was revoked", None));
        }
        let terms = upload.terms();
        let kind = PrincipalKind::of(&terms.principal);
        let policy = self.policies.iter().find(|(policy, id)| policy.principals == kind && *id == terms.policy_id);
        let Some((policy, _)) = policy else {
            return Err(Rejection::new("stale-policy", "the policy that it was admitted under is not in force", None));
        };
        let lemmas = self.lemmas.get(&terms.principal).unwrap_or(&self.library);
        let proof = record.proof.as_deref().or(terms.proof.as_deref()).unwrap_or_default();
        let executable = accept(terms, proof, policy, lemmas, lowerings)?;
        Ok(Accepted { executable, record: Vec::new(), proof: None })
    }
}

/// Checks what `recovered` holds on every core of the machine, and puts in force what is accepted.
///
/// # Errors
/// The store cannot be read.
pub fn restore(
    admission: &mut Admission,
    table: &mut impl ProgramTable,
    recovered: &Recovered,
    rules: &Rules,
    lowerings: &Lowerings,
    now: Now,
) -> Result<Restoration, StoreError> {
    let start = Instant::now();
    admission.numbers_from(recovered.next_instance);
    let mut restoration = Restoration { programs: 0, ended: Vec::new(), paid: 0, took: Duration::ZERO };
    let (to_check, waiting) = bounded::<Vec<ProgramRecord>>(BATCHES_WAITING);
    let (checked, results) = bounded::<Vec<Checked>>(BATCHES_WAITING);
    std::thread::scope(|scope| {
        for _ in 0..cores_online().len().max(1) {
            let (waiting, checked) = (waiting.clone(), checked.clone());
            scope.spawn(move || check_batches(&waiting, &checked, rules, now.wall_s, lowerings));
        }
        drop((waiting, checked));
        read_batches(admission, table, recovered, to_check, &results, now, &mut restoration)
    })?;
    restoration.took = start.elapsed();
    Ok(restoration)
}

/// Lets this thread run on every core: no port is open yet, so the workers' are as free as the others.
fn run_anywhere() {
    let mut cores = CpuSet::new();
    for core in cores_online() {
        // A core beyond what a set can name is one less to run on.
        let _ = cores.set(core);
    }
    // Where it is not allowed the thread stays where the control core is: slower, and as good.
    let _ = sched_setaffinity(Pid::from_raw(0), &cores);
}

/// The life of one core.
fn check_batches(
    waiting: &Receiver<Vec<ProgramRecord>>,
    checked: &Sender<Vec<Checked>>,
    rules: &Rules,
    now_s: u64,
    lowerings: &Lowerings,
) {
    run_anywhere();
    for batch in waiting {
        let results = batch.into_iter().map(|record| rules.check(record, now_s, lowerings)).collect();
        if checked.send(results).is_err() {
            return;
        }
    }
}

/// Reads the store, gives the cores what is read, and takes what they give back.
fn read_batches(
    admission: &mut Admission,
    table: &mut impl ProgramTable,
    recovered: &Recovered,
    to_check: Sender<Vec<ProgramRecord>>,
    results: &Receiver<Vec<Checked>>,
    now: Now,
    restoration: &mut Restoration,
) -> Result<(), StoreError> {
    let mut programs = recovered.programs()?;
    loop {
        let mut batch = Vec::with_capacity(BATCH_LEN);
        for record in programs.by_ref().take(BATCH_LEN) {
            let record = record?;
            restoration.paid += u128::from(record.paid);
            batch.push(record);
        }
        if batch.is_empty() {
            break;
        }
        // Results are taken before the cores could wait for room, and while they have enough to do.
        while let Err(TrySendError::Full(back)) = to_check.try_send(batch) {
            batch = back;
            if let Ok(checked) = results.recv() {
                take_in(admission, table, checked, now, restoration);
            }
        }
        while let Ok(checked) = results.try_recv() {
            take_in(admission, table, checked, now, restoration);
        }
    }
    drop(to_check);
    for checked in results {
        take_in(admission, table, checked, now, restoration);
    }
    Ok(())
}

/// Takes checked programs into the register and the table.
fn take_in(
    admission: &mut Admission,
    table: &mut impl ProgramTable,
    checked: Vec<Checked>,
    now: Now,
    restoration: &mut Restoration,
) {
    let mut installs: Vec<Install> = Vec::with_capacity(checked.len());
    for checked in checked {
        match checked.and_then(|restored| admission.restore(restored, now)) {
            Ok(install) => installs.push(install),
            Err(unfit) => {
                let (ended, outcome) = admission.end_unfit(&unfit, now);
                log::stranger(
                    "restore",
                    format_args!("{} of {} does not come back: {}", ended.instance, ended.owner, unfit.why.text()),
                );
                restoration.ended.push(outcome);
            }
        }
    }
    let count = installs.len();
    let refused = admission.publish_restored(installs, table);
    restoration.programs += (count - refused.len()) as u64;
    for id in refused {
        if let Some((ended, outcome)) = admission.restored_in_vain(id, now) {
            let (instance, owner) = (ended.instance, ended.owner);
            log::stranger("restore", format_args!("{instance} of {owner} does not come back: the table is full"));
            restoration.ended.push(outcome);
        }
    }
}
