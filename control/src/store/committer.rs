//! The store's thread, and the queue to and from it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use redb::ReadableDatabase as _;
use vinet_session::identity::PublicKey;
use vinet_session::receipt::Receipt;

use super::keeper::Fault;
use super::{Store, StoreError, Transaction, codec, tables};

/// What the thread did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The transaction is durable.
    Committed,
    /// The receipts that were asked for, in order.
    Receipts(Vec<Receipt>),
}

#[derive(Debug)]
enum Work {
    Commit(Transaction),
    Receipts { account: PublicKey, after: u64, most: usize },
}

#[derive(Debug)]
struct Job<T> {
    ticket: T,
    work: Work,
    bytes: usize,
}

#[derive(Debug)]
struct Answered<T> {
    ticket: T,
    result: Result<Done, StoreError>,
    bytes: usize,
}

/// The way to the store's thread. Dropping it commits what waits, and closes the file.
#[derive(Debug)]
pub struct Committer<T> {
    jobs: Option<Sender<Job<T>>>,
    answered: Receiver<Answered<T>>,
    thread: Option<JoinHandle<()>>,
    pending: usize,
    pending_max: usize,
    pending_bytes: usize,
    pending_bytes_max: usize,
    failure: Option<StoreError>,
}

impl<T: Send + 'static> Committer<T> {
    pub(super) fn start(store: Store, wake: impl Fn() + Send + 'static) -> std::io::Result<Committer<T>> {
        let super::Options { pending_max, pending_bytes_max, .. } = store.options;
        let (jobs, queue) = bounded(pending_max);
        // As large as the most jobs there can be, so that the thread never waits to give one back.
        let (answers, answered) = bounded(pending_max);
        let thread = std::thread::Builder::new()
            .name("vinet-store".into())
            .spawn(move || Scribe { store, failure: None }.serve(&queue, &answers, wake))?;
        Ok(Committer {
            jobs: Some(jobs),
            answered,
            thread: Some(thread),
            pending: 0,
            pending_max,
            pending_bytes: 0,
            pending_bytes_max,
            failure: None,
        })
    }

    /// Whether the queue takes another transaction now. Asked before money moves, a refusal needs no undoing.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.pending < self.pending_max && self.pending_bytes < self.pending_bytes_max
    }

    /// Hands a transaction over; `ticket` comes back with [`Committer::committed`], in order, when it is durable or has
    /// failed. Never blocks.
    ///
    /// # Errors
    /// The queue is full: both come back. Try again later.
    pub fn submit(&mut self, transaction: Transaction, ticket: T) -> Result<(), Box<(Transaction, T)>> {
        let bytes = transaction.bytes;
        self.send(Job { ticket, work: Work::Commit(transaction), bytes }).map_err(|job| match job.work {
            Work::Commit(transaction) => Box::new((transaction, job.ticket)),
            Work::Receipts { .. } => unreachable!("a transaction was handed over"),
        })
    }

    /// Asks for the receipts of `account` with numbers above `after`, the first `most` of them, as they are after everything
    /// that was handed over before.
    ///
    /// # Errors
    /// The queue is full: the ticket comes back. Try again later.
    pub fn receipts(&mut self, account: PublicKey, after: u64, most: usize, ticket: T) -> Result<(), T> {
        self.send(Job { ticket, work: Work::Receipts { account, after, most }, bytes: 0 }).map_err(|job| job.ticket)
    }

    fn send(&mut self, job: Job<T>) -> Result<(), Job<T>> {
        if !self.is_free() {
            return Err(job);
        }
        let bytes = job.bytes;
        let jobs = self.jobs.as_ref().expect("the queue is open until drop");
        jobs.try_send(job).map_err(crossbeam::channel::TrySendError::into_inner)?;
        self.pending += 1;
        self.pending_bytes += bytes;
        Ok(())
    }

    /// What the thread has answered next, if anything.
    pub fn committed(&mut self) -> Option<(T, Result<Done, StoreError>)> {
        let Answered { ticket, result, bytes } = self.answered.try_recv().ok()?;
        self.pending -= 1;
        self.pending_bytes -= bytes;
        if let Err(error) = &result
            && self.failure.is_none()
        {
            self.failure = Some(error.clone());
        }
        Some((ticket, result))
    }

    /// Tickets that are with the thread.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Why the store has stopped taking writes; everything handed over since is answered with it.
    #[must_use]
    pub fn failure(&self) -> Option<&StoreError> {
        self.failure.as_ref()
    }
}

impl<T> Drop for Committer<T> {
    fn drop(&mut self) {
        // Without a sender the thread ends after the jobs that it has.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread.
struct Scribe {
    store: Store,
    failure: Option<StoreError>,
}

impl Scribe {
    fn serve<T>(mut self, queue: &Receiver<Job<T>>, answers: &Sender<Answered<T>>, wake: impl Fn()) {
        let mut batch = Vec::new();
        while let Ok(first) = queue.recv() {
            batch.push(first);
            batch.extend(queue.try_iter().take(self.store.options.pending_max));
            let outcome = self.commit(&batch);
            for Job { ticket, work, bytes } in batch.drain(..) {
                let result = match (&outcome, work) {
                    (Err(failure), _) => Err(failure.clone()),
                    (Ok(()), Work::Commit(_)) => Ok(Done::Committed),
                    (Ok(()), Work::Receipts { account, after, most }) => self.receipts(&account, after, most),
                };
                if answers.send(Answered { ticket, result, bytes }).is_err() {
                    return;
                }
            }
            wake();
        }
    }

    /// Makes everything in `batch` durable, or nothing; after a failure nothing ever.
    fn commit<T>(&mut self, batch: &[Job<T>]) -> Result<(), StoreError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let transactions = || {
            batch.iter().filter_map(|job| match &job.work {
                Work::Commit(transaction) => Some(transaction),
                Work::Receipts { .. } => None,
            })
        };
        if transactions().next().is_none() {
            return Ok(());
        }
        let Store { db, keeper, path, .. } = &mut self.store;
        let run = AssertUnwindSafe(|| -> Result<(), Fault> {
            let write = tables::begin(db)?;
            keeper.carry_out(&write, transactions())?;
            Ok(write.commit()?)
        });
        let committed =
            catch_unwind(run).unwrap_or_else(|_| Err(Fault::Broken("the store's thread failed".to_owned())));
        committed.map_err(|fault| {
            let failure = match fault {
                Fault::Redb(error) => StoreError::redb(path, "write to it", error),
                Fault::Broken(what) => StoreError::Broken { what },
            };
            self.failure = Some(failure.clone());
            failure
        })
    }

    fn receipts(&self, account: &PublicKey, after: u64, most: usize) -> Result<Done, StoreError> {
        let Store { db, keeper, path, .. } = &self.store;
        let Some(&id) = keeper.ids.get(account) else { return Ok(Done::Receipts(Vec::new())) };
        let read = || -> Result<Option<Vec<Receipt>>, redb::Error> {
            let table = db.begin_read()?.open_table(tables::RECEIPTS)?;
            let (first, last) = (codec::receipt_key(id, after.saturating_add(1)), codec::receipt_key(id, u64::MAX));
            let mut receipts = Vec::new();
            for entry in table.range::<&[u8; 12]>(&first..=&last)?.take(most) {
                match Receipt::decode(entry?.1.value()) {
                    Ok(receipt) => receipts.push(receipt),
                    Err(_) => return Ok(None),
                }
            }
            Ok(Some(receipts))
        };
        match read() {
            Ok(Some(receipts)) => Ok(Done::Receipts(receipts)),
            Ok(None) => {
                let what = format!("a receipt of {account} cannot be read");
                Err(StoreError::Damaged { path: path.clone(), what })
            }
            Err(error) => Err(StoreError::redb(path, "read receipts", error)),
        }
    }
}
