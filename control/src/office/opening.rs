//! How an office opens: the store is read, the books are balanced, and every program is checked again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vinet_fastpath::flow_table::TableWriter;
use vinet_pktops::Lowerings;
use vinet_session::Now;
use vinet_session::identity::{Authority, Identity, IdentityError};
use vinet_session::message::{Reply, SignedDirectory};
use vinet_session::payment::Bank;
use vinet_session::verify::RequestFault;
use vinet_trusted::addr::PrefixSet;

use super::{Office, Staff};
use crate::admission::{Admission, Books, Payment, Terrain};
use crate::alerts::Alerts;
use crate::capacity::Budget;
use crate::config::{Config, Reach as ReachRule};
use crate::judges::{BATCH_LEN_MAX, Judges};
use crate::ledger::{AuditFault, Ledger};
use crate::lemmas::Lemmas;
use crate::log;
use crate::policies::Policies;
use crate::reach::Reach;
use crate::restore::{Rules, restore};
use crate::revoked::{Revoked, RevokedError};
use crate::shut_off::ShutOffMaker;
use crate::sources::Sources;
use crate::store::{Kind, Options, Recovered, Store, StoreError};

/// The most threads that check proofs. There is one for each core that the control thread may run on, so that no worker
/// ever waits for one.
const JUDGES_MAX: usize = 8;

/// Signatures and lemmas that find a place with the judges beside the programs.
const SIGNATURES_MAX: usize = 256;

/// What the files say that an office goes by.
#[derive(Debug)]
pub struct Papers {
    /// The bank whose credits count.
    pub bank: Option<Bank>,
    /// The directory that clients may fetch.
    pub directory: Option<SignedDirectory>,
    /// Which keys are revoked.
    pub revoked: Revoked,
}

/// Why an office cannot open. The operator can do something about it, and the text says what.
#[derive(Debug)]
pub enum OpenError {
    /// A file cannot be used.
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: IdentityError,
    },
    /// The directory is not the authority's.
    Directory {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: RequestFault,
    },
    /// The list of revoked keys.
    Revoked(RevokedError),
    /// The store.
    Store(StoreError),
    /// The books do not balance.
    Books(AuditFault),
    /// A thread cannot be started.
    Thread(std::io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::File { path, reason } => write!(f, "{}: {reason}", path.display()),
            OpenError::Directory { path, reason } => write!(
                f,
                "{}: this directory does not stand: {reason}; take the one that `vinet ca` signed last",
                path.display()
            ),
            OpenError::Revoked(error) => write!(f, "{error}"),
            OpenError::Store(error) => write!(f, "{error}"),
            OpenError::Books(fault) => {
                write!(f, "the books of [store] path do not balance: {fault}; keep the file, export it, and begin anew")
            }
            OpenError::Thread(reason) => write!(f, "a thread cannot be started: {reason}"),
        }
    }
}
impl std::error::Error for OpenError {}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> OpenError {
        OpenError::Store(error)
    }
}

impl Papers {
    /// Reads the files that `config` names.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn read(config: &Config, authority: &Arc<Authority>) -> Result<Papers, OpenError> {
        let file = |path: &Path, reason| OpenError::File { path: path.to_owned(), reason };
        let bank = match &config.payment.bank {
            Some(path) => Some(Bank::load(path).map_err(|reason| file(path, reason))?),
            None => None,
        };
        let directory = match &config.router.directory {
            Some(path) => {
                let directory = SignedDirectory::load(path).map_err(|reason| file(path, reason))?;
                let fault = |reason| OpenError::Directory { path: path.clone(), reason };
                directory.verify(authority).map_err(fault)?;
                Some(directory)
            }
            None => None,
        };
        let revoked =
            Revoked::load(config.router.revocations.as_deref(), Arc::clone(authority)).map_err(OpenError::Revoked)?;
        Ok(Papers { bank, directory, revoked })
    }
}

impl Office {
    /// An office as `config` says, with everything in force again that the store knows. `wake` is called from its threads
    /// when there is something to act on.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        config: &Config,
        identity: &Arc<Identity>,
        authority: &Arc<Authority>,
        policies: Policies,
        mut table: TableWriter,
        wake: impl Fn() + Send + Clone + 'static,
        now: Now,
    ) -> Result<Office, OpenError> {
        let Papers { bank, directory, revoked } = Papers::read(config, authority)?;
        let options = Options { receipts_per_account: config.store.receipts_per_account, ..Options::default() };
        let (store, mut recovered) = match &config.store.path {
            Some(path) => Store::open(path, &identity.public(), options)?,
            None => {
                log::info("store", "no [store] path: programs, accounts and receipts are forgotten at the end");
                Store::in_memory(&identity.public(), options)?
            }
        };
        let rules = Rules {
            policies: policies.contracts().map(|contract| (Arc::clone(contract.policy()), *contract.id())).collect(),
            library: vinet_prover::library(),
            lemmas: ahash::AHashMap::new(),
            revoked: revoked.keys().collect(),
        };
        let tariff = policies.tariff();
        let payment = Payment { tariff, bank };
        let mut admission = admission(config, identity, policies, payment, &mut recovered, now)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(JUDGES_MAX);
        let lowerings = Arc::new(Lowerings::default());
        let mut filed = Vec::new();
        filed.push(admission.restore_lemmas(recovered.kept(Kind::Lemma)?, now));
        filed.push(admission.restore_events(recovered.kept(Kind::Event)?));
        let rules = Rules { lemmas: admission.lemmas().stores(), ..rules };
        let in_escrow = admission.ledger().books().escrow;
        let restored = restore(&mut admission, &mut table, &recovered, &rules, &lowerings, now)?;
        if restored.paid != u128::from(in_escrow) {
            return Err(OpenError::Books(AuditFault::Escrow { book: in_escrow, programs: restored.paid }));
        }
        if recovered.programs > 0 {
            let (back, gone) = (restored.programs, restored.ended.len());
            log::info(
                "store",
                format_args!(
                    "{back} programs were checked again and are in force, {gone} are not, in {:?}",
                    restored.took
                ),
            );
        }
        filed.extend(restored.ended);
        let kept = recovered.kept(Kind::ShutOff)?;
        // What was read keeps the file's pages from being used again.
        drop(recovered);
        let judging_max = threads * 2 * BATCH_LEN_MAX;
        let pending_max = judging_max + SIGNATURES_MAX;
        let judges = Judges::start(config.router.verify, threads, pending_max, lowerings, wake.clone())
            .map_err(OpenError::Thread)?;
        let committer = store.start(wake).map_err(OpenError::Thread)?;
        let own = config.own_addresses();
        let staff = Staff {
            admission,
            table,
            judges,
            judging_max,
            committer,
            revoked,
            alerts: Alerts::new(Arc::clone(identity), now),
            shut_offs: ShutOffMaker::new(&own),
            directory,
        };
        let mut office = Office::new(staff, &config.schedule);
        office.restore_shut_offs(kept, now);
        for outcome in filed {
            let answer: Option<Reply> = office.file(None, outcome);
            debug_assert!(answer.is_none(), "nobody asked");
        }
        Ok(office)
    }
}

/// The register and the accounts, without programs.
fn admission(
    config: &Config,
    identity: &Arc<Identity>,
    policies: Policies,
    payment: Payment,
    recovered: &mut Recovered,
    now: Now,
) -> Result<Admission, OpenError> {
    let limits = config.control.limits;
    let terrain = Terrain {
        controlled: PrefixSet::new(config.controlled()),
        own: config.own_addresses(),
        workers: config.workers.cores.len(),
        programs_max: limits.programs,
        programs_per_owner_max: limits.programs_per_owner,
    };
    let accounts = std::mem::take(&mut recovered.accounts);
    let credits = std::mem::take(&mut recovered.credits);
    let ledger = Ledger::restore(recovered.books.clone(), accounts, credits, recovered.pruned_s);
    let required = config.control.reach == ReachRule::Required;
    let books = Books {
        lemmas: Lemmas::new(vinet_prover::library(), limits.lemmas, limits.lemmas_per_owner),
        budget: Budget::new(config.capacity.cycles_per_second, config.capacity.memory_bytes),
        ledger: ledger.map_err(OpenError::Books)?,
        payment,
        reach: Reach::new(required, config.control.reach_time_s, identity.public(), terrain.own.clone(), now),
        sources: Sources::new(config.sources.quotas, config.sources.shut_off),
    };
    let mut admission = Admission::new(Arc::clone(identity), policies, books, terrain, now);
    admission.restore_requests(std::mem::take(&mut recovered.requests));
    Ok(admission)
}
