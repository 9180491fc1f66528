use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel;
use vinet_session::identity::{AuthorityKey, Identity, Subject, Validity};
use vinet_session::payment::{BankKey, Credit, CreditTerms};
use vinet_session::receipt::{Ending, ReceiptSubject};

use super::*;
use crate::ledger::bank::Deposit;
use crate::ledger::{Ledger, Line};

mod damage;
mod format;

const NOW_S: u64 = 1_800_000_000;
/// How long a test waits for the store's thread before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn identity() -> Identity {
    let authority = AuthorityKey::generate("bench").unwrap();
    let subject = Subject::Router { name: "edge1".into(), addrs: Vec::new() };
    authority.issue_identity(subject, Validity::starting(NOW_S - 10, 1 << 30)).unwrap()
}

fn key(number: u8) -> PublicKey {
    PublicKey([number; 32])
}

/// A router's side of the store: a ledger, and the transactions that it gives rise to.
struct Till {
    identity: Identity,
    bank: BankKey,
    ledger: Ledger,
    instance: u64,
    serial: u64,
}

impl Till {
    fn new() -> Till {
        let bank = BankKey::generate("bank").unwrap();
        Till { identity: identity(), bank, ledger: Ledger::new(), instance: 0, serial: 0 }
    }
    fn router(&self) -> RouterId {
        self.identity.public()
    }

    fn deposit(&mut self, account: PublicKey, amount: u64) -> Transaction {
        self.serial += 1;
        let mut serial = [0; 16];
        serial[..8].copy_from_slice(&self.serial.to_be_bytes());
        let terms = CreditTerms { serial, amount, router: self.router(), account, expiry_s: NOW_S + self.serial };
        let credit = Credit::sign(terms, &self.bank);
        match self.ledger.deposit(&credit, &self.bank.bank(), &account, &self.identity, NOW_S).unwrap() {
            Deposit::Taken(taken) => (*taken).into(),
            Deposit::Again { .. } => unreachable!("serial numbers differ"),
        }
    }

    fn program(&mut self, owner: PublicKey, paid: u64) -> ProgramRecord {
        self.instance += 1;
        let upload = [[7; 110].as_slice(), &self.instance.to_be_bytes()].concat();
        let (began_s, ends_s) = (NOW_S, NOW_S + 100);
        ProgramRecord { instance: self.instance, owner, upload, proof: None, began_s, ends_s, paid }
    }

    fn install(&mut self, owner: PublicKey, paid: u64) -> Transaction {
        let hold = self.ledger.hold(&owner, paid).unwrap();
        let entry = self.ledger.capture(hold);
        let program = self.program(owner, paid);
        let subject = ReceiptSubject::Renewed { instance: program.instance, ends_s: program.ends_s, nonce: [0; 16] };
        let receipt = self.ledger.receipt(&owner, NOW_S, &[&entry], subject, &self.identity);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&program.instance.to_be_bytes());
        let request = RequestRecord {
            owner,
            nonce,
            digest: [9; 32],
            expiry_s: NOW_S + program.instance,
            answer: Answer::Receipt(receipt.terms().number),
        };
        let puts = vec![
            Put::Program(Box::new(program)),
            Put::Entry(entry),
            Put::Receipt(Box::new(receipt)),
            Put::Request(request),
        ];
        puts.into()
    }

    fn withdraw(&mut self, owner: PublicKey, instance: u64, paid: u64, left_s: u64) -> Transaction {
        let entry = self.ledger.refund(&owner, Line(1), paid, 100, left_s);
        let subject = ReceiptSubject::Ended { instance, why: Ending::Withdrawn };
        let receipt = self.ledger.receipt(&owner, NOW_S, &[&entry], subject, &self.identity);
        vec![Put::RemoveProgram { instance }, Put::Entry(entry), Put::Receipt(Box::new(receipt))].into()
    }
}

/// A started store, and a wait for its answers that ends.
struct Desk {
    committer: Committer<u64>,
    wakes: channel::Receiver<()>,
}

impl Desk {
    fn start(store: Store) -> Desk {
        let (woken, wakes) = channel::unbounded();
        Desk { committer: store.start(move || woken.send(()).unwrap()).unwrap(), wakes }
    }
    fn open(path: &Path, till: &Till) -> (Desk, Recovered) {
        let (store, recovered) = Store::open(path, &till.router(), Options::default()).unwrap();
        (Desk::start(store), recovered)
    }
    fn answer(&mut self) -> (u64, Result<Done, StoreError>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.committer.committed() {
                return answer;
            }
            self.wakes.recv_deadline(deadline).expect("the store answers");
        }
    }
    fn commit(&mut self, transaction: Transaction) {
        self.committer.submit(transaction, 7).unwrap();
        assert_eq!(self.answer(), (7, Ok(Done::Committed)));
    }
    fn receipts(&mut self, account: PublicKey, after: u64, most: usize) -> Vec<u64> {
        self.committer.receipts(account, after, most, 8).unwrap();
        match self.answer() {
            (8, Ok(Done::Receipts(receipts))) => receipts.iter().map(|receipt| receipt.terms().number).collect(),
            answer => panic!("{answer:?}"),
        }
    }
}

fn programs(recovered: &Recovered) -> Vec<ProgramRecord> {
    recovered.programs().unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn what_was_committed_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge1.store");
    let mut till = Till::new();
    let (mut desk, recovered) = Desk::open(&path, &till);
    assert_eq!((recovered.programs, recovered.next_instance, recovered.accounts.len()), (0, 1, 0));
    drop(recovered);
    desk.commit(till.deposit(key(1), 100));
    desk.commit(till.install(key(1), 30));
    desk.commit(till.install(key(1), 20));
    desk.commit(till.install(key(2), 0));
    let (began_s, ends_s) = (NOW_S + 50, NOW_S + 150);
    desk.commit(vec![Put::Renew { instance: 1, began_s, ends_s, paid: 30 }].into());
    desk.commit(till.withdraw(key(1), 2, 20, 50));
    let keep = |kind, key: &[u8], value: &[u8]| Put::Keep { kind, key: key.to_vec(), value: value.to_vec() };
    desk.commit(
        vec![
            keep(Kind::ShutOff, b"b", b"2"),
            keep(Kind::ShutOff, b"a", b"0"),
            keep(Kind::ShutOff, b"a", b"1"),
            keep(Kind::Note, b"a", b"note"),
            keep(Kind::Event, b"a", b"event"),
            Put::Drop { kind: Kind::Event, key: b"a".to_vec() },
            Put::Drop { kind: Kind::Event, key: b"never".to_vec() },
        ]
        .into(),
    );
    drop(desk);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let (_store, recovered) = Store::open(&path, &till.router(), Options::default()).unwrap();
    assert_eq!((recovered.programs, recovered.next_instance), (2, 4));
    let found = programs(&recovered);
    let first = ProgramRecord { began_s, ends_s, ..found[0].clone() };
    assert_eq!((found[0].instance, found[0].owner, found[0].paid, &found[0]), (1, key(1), 30, &first));
    assert_eq!((found[1].instance, found[1].owner), (3, key(2)));
    assert_eq!(found[1].upload, [[7; 110].as_slice(), &3u64.to_be_bytes()].concat());
    assert_eq!(
        recovered.kept(Kind::ShutOff).unwrap(),
        [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]
    );
    assert_eq!(recovered.kept(Kind::Note).unwrap(), [(b"a".to_vec(), b"note".to_vec())]);
    assert_eq!((recovered.kept(Kind::Event).unwrap(), recovered.kept(Kind::Lemma).unwrap()), (vec![], vec![]));
    assert_eq!(recovered.requests.len(), 3);
    assert_eq!(recovered.requests[1].answer, Answer::Receipt(3));
    let Recovered { books, accounts, credits, pruned_s, .. } = recovered;
    let ledger = Ledger::restore(books, accounts, credits, pruned_s).unwrap();
    assert_eq!(ledger.books(), till.ledger.books());
    for account in [key(1), key(2)] {
        assert_eq!(ledger.balance(&account), till.ledger.balance(&account));
    }
    assert_eq!((ledger.credits(), ledger.balance(&key(1)).free), (1, 60));
    ledger.audit_escrow(30).unwrap();
}

#[test]
fn a_hold_that_is_open_at_a_crash_is_the_accounts_again() {
    let mut till = Till::new();
    let (store, _) = Store::in_memory(&till.router(), Options::default()).unwrap();
    let mut desk = Desk::start(store);
    desk.commit(till.deposit(key(1), 100));
    let open = till.ledger.hold(&key(1), 70).unwrap();
    // The receipt of another program tells the balance with what is held, and so does the store.
    desk.commit(till.install(key(1), 30));
    assert_eq!(desk.receipts(key(1), 0, 9), [1, 2]);
    till.ledger.release(open);
}

#[test]
fn everything_that_waits_goes_into_one_commit() {
    let mut till = Till::new();
    let (store, _) = Store::in_memory(&till.router(), Options::default()).unwrap();
    let (woken, wakes) = channel::unbounded();
    let (go, gate) = channel::unbounded::<()>();
    // The thread waits in the wake of its first commit until the test lets it go.
    let mut committer: Committer<u64> = store
        .start(move || {
            woken.send(()).unwrap();
            let _ = gate.recv();
        })
        .unwrap();
    committer.submit(till.deposit(key(1), 1_000), 0).unwrap();
    wakes.recv_timeout(PATIENCE).unwrap();
    for ticket in 1..=500 {
        committer.submit(till.install(key(1), 1), ticket).unwrap();
    }
    go.send(()).unwrap();
    wakes.recv_timeout(PATIENCE).unwrap();
    // Two commits, and all tickets in order.
    for ticket in 0..=500 {
        assert_eq!(committer.committed(), Some((ticket, Ok(Done::Committed))));
    }
    assert_eq!((committer.committed(), committer.pending()), (None, 0));
    drop(go);
}

#[test]
fn a_full_queue_gives_back_and_never_blocks() {
    let mut till = Till::new();
    let options = Options { pending_max: 3, pending_bytes_max: 1 << 20, ..Options::default() };
    let (store, _) = Store::in_memory(&till.router(), options).unwrap();
    let (go, gate) = channel::unbounded::<()>();
    let (woken, wakes) = channel::unbounded();
    let mut committer: Committer<u64> = store
        .start(move || {
            woken.send(()).unwrap();
            let _ = gate.recv();
        })
        .unwrap();
    let note = |len| vec![Put::Keep { kind: Kind::Note, key: b"n".to_vec(), value: vec![0; len] }].into();
    committer.submit(till.deposit(key(1), 1_000), 0).unwrap();
    wakes.recv_timeout(PATIENCE).unwrap();
    // The thread is stuck; what was answered still counts until it is taken.
    committer.submit(note(1), 1).unwrap();
    committer.submit(note(1), 2).unwrap();
    assert!(!committer.is_free());
    let transaction: Transaction = note(5);
    let refused = committer.submit(transaction.clone(), 3).unwrap_err();
    assert_eq!(*refused, (transaction, 3));
    assert_eq!(committer.receipts(key(1), 0, 1, 4), Err(4));
    assert_eq!(committer.committed(), Some((0, Ok(Done::Committed))));
    // Bytes are bounded too: one large transaction is taken, and then no other.
    committer.submit(note(1 << 20), 5).unwrap();
    assert_eq!(committer.committed(), None);
    drop(go);
    let deadline = Instant::now() + PATIENCE;
    let mut answered = 0;
    while answered < 3 {
        assert!(Instant::now() < deadline);
        answered += usize::from(committer.committed().is_some());
    }
    committer.submit(note(1 << 20), 6).unwrap();
    assert!(committer.submit(note(1), 7).is_err());
}

#[test]
fn receipts_are_kept_up_to_a_number_and_read_in_pages() {
    let mut till = Till::new();
    let options = Options { receipts_per_account: 5, ..Options::default() };
    let (store, _) = Store::in_memory(&till.router(), options).unwrap();
    let mut desk = Desk::start(store);
    for _ in 0..12 {
        desk.commit(till.deposit(key(1), 1));
        desk.commit(till.deposit(key(2), 1));
    }
    assert_eq!(desk.receipts(key(1), 0, 100), [8, 9, 10, 11, 12]);
    assert_eq!(desk.receipts(key(1), 9, 2), [10, 11]);
    assert_eq!(desk.receipts(key(2), 11, 2), [12]);
    assert_eq!(desk.receipts(key(2), u64::MAX, 2), [0; 0]);
    assert_eq!(desk.receipts(key(3), 0, 2), [0; 0]);
}

#[test]
fn what_expired_is_forgotten_and_the_second_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge1.store");
    let mut till = Till::new();
    let (mut desk, recovered) = Desk::open(&path, &till);
    drop(recovered);
    for _ in 0..10 {
        desk.commit(till.deposit(key(1), 1));
        desk.commit(till.install(key(1), 1));
    }
    // Number n expires after second NOW_S + n.
    desk.commit(vec![Put::Prune { before_s: NOW_S + 4 }].into());
    desk.commit(vec![Put::Prune { before_s: NOW_S + 1 }].into());
    drop(desk);
    let (_store, recovered) = Store::open(&path, &till.router(), Options::default()).unwrap();
    let expiries = |from: u64| (from..=10).map(|n| NOW_S + n).collect::<Vec<_>>();
    assert_eq!(recovered.credits.iter().map(|credit| credit.expiry_s).collect::<Vec<_>>(), expiries(4));
    assert_eq!(recovered.requests.iter().map(|request| request.expiry_s).collect::<Vec<_>>(), expiries(4));
    assert_eq!(recovered.pruned_s, NOW_S + 4);
}

#[test]
fn what_contradicts_the_store_is_not_written_and_stops_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut till = Till::new();
    till.deposit(key(1), 100);
    // Money that the store has never seen, a receipt that is not the next, a program that is not there, a long key.
    let spent = till.install(key(1), 30);
    let receipt = till.ledger.receipt(
        &key(1),
        NOW_S,
        &[],
        ReceiptSubject::Ended { instance: 1, why: Ending::Expired },
        &till.identity,
    );
    let cases: [(&str, Transaction); 5] = [
        ("would hold -30", spent),
        ("the account is at receipt 0", vec![Put::Receipt(Box::new(receipt))].into()),
        ("program 77", vec![Put::Renew { instance: 77, began_s: 0, ends_s: 1, paid: 0 }].into()),
        ("a key of 257", vec![Put::Keep { kind: Kind::Note, key: vec![0; 257], value: Vec::new() }].into()),
        (
            "a value of",
            vec![Put::Keep { kind: Kind::Note, key: Vec::new(), value: vec![0; VALUE_BYTES_MAX + 1] }].into(),
        ),
    ];
    for (number, (what, bad)) in cases.into_iter().enumerate() {
        let path = dir.path().join(format!("{number}.store"));
        let (mut desk, recovered) = Desk::open(&path, &till);
        drop(recovered);
        let note = |name: &[u8]| Put::Keep { kind: Kind::Note, key: name.to_vec(), value: Vec::new() };
        desk.commit(vec![note(b"before")].into());
        desk.committer
            .submit(std::iter::once(note(b"with it")).chain(bad.puts().to_vec()).collect::<Vec<_>>().into(), 1)
            .unwrap();
        let (ticket, result) = desk.answer();
        let error = result.unwrap_err();
        assert!(ticket == 1 && matches!(error, StoreError::Broken { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        desk.committer.submit(vec![note(b"after")].into(), 2).unwrap();
        assert_eq!(desk.answer(), (2, Err(error.clone())));
        assert_eq!(desk.committer.failure(), Some(&error));
        drop(desk);
        let (_store, recovered) = Store::open(&path, &till.router(), Options::default()).unwrap();
        assert_eq!(recovered.kept(Kind::Note).unwrap(), [(b"before".to_vec(), Vec::new())]);
    }
}

/// A file on which writing fails from some moment on.
#[derive(Debug)]
struct Failing {
    inner: FileBackend,
    broken: Arc<AtomicBool>,
    /// Writes that still succeed then.
    left: AtomicU64,
    kind: std::io::ErrorKind,
}

impl Failing {
    fn check(&self) -> std::io::Result<()> {
        let spent = || self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err();
        if self.broken.load(Ordering::SeqCst) && spent() { Err(self.kind.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Failing {
    fn len(&self) -> std::io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.check().and_then(|()| self.inner.set_len(len))
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.check().and_then(|()| self.inner.sync_data())
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.check().and_then(|()| self.inner.write(offset, data))
    }
}

#[test]
fn a_commit_that_fails_is_told_to_all_and_the_store_stops() {
    use std::io::ErrorKind;
    let mut codes = BTreeMap::new();
    // Fail at the first write of a commit, at the second, and so on, to and past its last sync.
    for left in 0..12 {
        let kind = if left % 2 == 0 { ErrorKind::StorageFull } else { ErrorKind::Other };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge1.store");
        let mut till = Till::new();
        make(&path, &till.router(), Options::default()).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let broken = Arc::new(AtomicBool::new(false));
        let backend =
            Failing { inner: FileBackend::new(file).unwrap(), broken: Arc::clone(&broken), left: left.into(), kind };
        let (store, recovered) =
            Store::with_backend(&path, backend, &till.router(), Options::default(), tables::STEPS).unwrap();
        drop(recovered);
        let mut desk = Desk::start(store);
        desk.commit(till.deposit(key(1), 100));
        broken.store(true, Ordering::SeqCst);
        let mut failed_at = None;
        for ticket in 0..8 {
            desk.committer.submit(till.install(key(1), 1), ticket).unwrap();
            match desk.answer() {
                (answered, Ok(Done::Committed)) => assert!(answered == ticket && failed_at.is_none()),
                (answered, Err(error)) => {
                    assert_eq!(answered, ticket);
                    assert!(error.to_string().contains("edge1.store"), "{error}");
                    *codes.entry(error.code()).or_insert(0) += 1;
                    failed_at.get_or_insert(ticket);
                    assert_eq!(desk.committer.failure(), Some(&error));
                }
                answer => panic!("{answer:?}"),
            }
        }
        let failed_at = failed_at.expect("the disk is broken");
        drop(desk);
        // The disk works again: everything acknowledged is there, and at most the one commit whose fate was not known.
        let (_store, recovered) = Store::open(&path, &till.router(), Options::default()).unwrap();
        let found = programs(&recovered).len() as u64;
        assert!(found == failed_at || found == failed_at + 1, "{found} programs, {failed_at} acknowledged");
        assert_eq!(recovered.books.escrow, found);
        assert_eq!(recovered.accounts[0].balance, 100 - found);
    }
    assert_eq!(codes.into_keys().collect::<Vec<_>>(), ["store-failed", "store-full"]);
}
