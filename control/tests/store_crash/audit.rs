//! The parent's side: what must be true of the store after a kill, added up from its receipts alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vinet_control::ledger::{Ledger, Line};
use vinet_control::store::{Answer, Committer, Done, Kind, Options, ProgramRecord, Recovered, Store};
use vinet_session::identity::{PublicKey, RouterPeer};
use vinet_session::receipt::{ChainHead, Receipt, ReceiptSubject};

use super::{ACCOUNTS, NOW_S, owner, upload};

/// Receipts that are read at once.
const PAGE: usize = 1_000;

/// What the receipts of all accounts say, so far.
#[derive(Default)]
struct Story {
    heads: HashMap<PublicKey, ChainHead>,
    digests: HashMap<(PublicKey, u64), [u8; 32]>,
    running: BTreeMap<u64, ProgramRecord>,
    /// Account, amount, and receipt of each credit.
    deposits: HashMap<[u8; 16], (PublicKey, u64, u64)>,
    /// Receipt and expiry of each request.
    requests: HashMap<(PublicKey, [u8; 16]), (u64, u64)>,
    last_instance: u64,
    refunded: u64,
    fees: u64,
}

pub struct Auditor {
    path: PathBuf,
    router: RouterPeer,
    story: Story,
    acknowledged: HashSet<(PublicKey, u64)>,
    pruned_s: u64,
}

impl Auditor {
    pub fn new(dir: &Path, router: RouterPeer) -> Auditor {
        let path = dir.join("edge1.store");
        Auditor { path, router, story: Story::default(), acknowledged: HashSet::new(), pruned_s: 0 }
    }

    /// Adds up the store after a child said `lines`; returns how many acknowledgements there were.
    pub fn audit(&mut self, lines: &[String], generation: u64) -> u64 {
        let options = Options { receipts_per_account: u64::MAX, ..Options::default() };
        let (store, recovered) = Store::open(&self.path, &self.router.id(), options).unwrap();
        let programs: Vec<ProgramRecord> = recovered.programs().unwrap().collect::<Result<_, _>>().unwrap();
        let last = recovered.kept(Kind::Note).unwrap();
        let mut committer: Committer<()> = store.start(|| {}).unwrap();
        for number in 0..u64::from(ACCOUNTS) {
            self.follow(owner(number), &mut committer);
        }
        drop(committer);
        let acknowledged = self.acknowledgements(lines);
        self.compare(&recovered, programs, last, generation);
        acknowledged
    }

    /// Reads on in the chain of an account: signatures, numbers, links and balances.
    fn follow(&mut self, account: PublicKey, committer: &mut Committer<()>) {
        loop {
            let head = self.story.heads.entry(account).or_insert_with(|| ChainHead::start(account));
            committer.receipts(account, head.number, PAGE, ()).unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            let receipts = loop {
                match committer.committed() {
                    Some(((), Ok(Done::Receipts(receipts)))) => break receipts,
                    Some(other) => panic!("{other:?}"),
                    None => assert!(Instant::now() < deadline, "the store answers"),
                }
                std::thread::yield_now();
            };
            head.extend(&receipts, &self.router).unwrap();
            for receipt in &receipts {
                self.story.take(receipt);
            }
            if receipts.len() < PAGE {
                return;
            }
        }
    }

    /// Everything that was acknowledged is there, under the same number, as it was given out.
    fn acknowledgements(&mut self, lines: &[String]) -> u64 {
        let mut count = 0;
        for line in lines {
            let mut words = line.split_whitespace();
            if words.next() != Some("ack") {
                continue;
            }
            let account: PublicKey = words.next().unwrap().parse().unwrap();
            let number: u64 = words.next().unwrap().parse().unwrap();
            let digest = words.next().unwrap();
            let found = self.story.digests.get(&(account, number));
            let found = found.unwrap_or_else(|| panic!("receipt {number} of {account} was acknowledged and is lost"));
            let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, digest, "receipt {number} of {account} is another than was acknowledged");
            self.acknowledged.insert((account, number));
            count += 1;
        }
        // Those of every earlier child are there too.
        for (account, number) in &self.acknowledged {
            assert!(self.story.heads[account].number >= *number);
        }
        count
    }

    fn compare(
        &mut self,
        recovered: &Recovered,
        programs: Vec<ProgramRecord>,
        last: Vec<(Vec<u8>, Vec<u8>)>,
        generation: u64,
    ) {
        let Story { heads, running, deposits, requests, last_instance, refunded, fees, .. } = &self.story;
        assert_eq!(programs, running.values().cloned().collect::<Vec<_>>(), "programs are those with a receipt");
        assert!(recovered.next_instance > *last_instance, "a number is never used twice");
        let note = (*last_instance > 0).then(|| (b"last".to_vec(), last_instance.to_be_bytes().to_vec()));
        assert_eq!(last, Vec::from_iter(note), "what is kept is kept with its transaction");

        let books = &recovered.books;
        assert_eq!(
            books.issued,
            deposits.values().map(|deposit| deposit.1).sum::<u64>(),
            "no credit lost or spent twice"
        );
        assert_eq!(books.escrow, programs.iter().map(|program| program.paid).sum::<u64>());
        assert_eq!(books.refunded, *refunded);
        assert_eq!(books.revenue.get(&Line::CHECKS).copied().unwrap_or(0), *fees);
        for account in &recovered.accounts {
            let head = heads[&account.key];
            assert_eq!(
                (account.balance, account.receipts, account.last),
                (head.balance, head.number, head.digest),
                "{}",
                account.key
            );
        }

        // What has expired is forgotten at some time; what has not is there.
        assert!(recovered.pruned_s >= self.pruned_s && recovered.pruned_s <= NOW_S + generation);
        self.pruned_s = recovered.pruned_s;
        let mut remembered = HashMap::new();
        for credit in &recovered.credits {
            remembered.insert(credit.serial, (credit.account, credit.amount, credit.receipt));
        }
        for (serial, deposit) in deposits {
            let number = u64::from_be_bytes(serial[..8].try_into().unwrap());
            if NOW_S + number / 20 >= self.pruned_s {
                assert_eq!(remembered.get(serial), Some(deposit), "a credit that counted is remembered");
            }
        }
        assert!(remembered.keys().all(|serial| deposits.contains_key(serial)));
        let answers: HashMap<_, _> = recovered
            .requests
            .iter()
            .map(|request| {
                let Answer::Receipt(number) = request.answer else { panic!("{request:?}") };
                ((request.owner, request.nonce), (number, request.expiry_s))
            })
            .collect();
        for (key, request) in requests {
            if request.1 >= self.pruned_s {
                assert_eq!(answers.get(key), Some(request), "a request that was carried out is remembered");
            }
        }
        assert!(answers.keys().all(|key| requests.contains_key(key)));

        let Recovered { accounts, books, credits, pruned_s, .. } = recovered;
        let ledger = Ledger::restore(books.clone(), accounts.clone(), credits.clone(), *pruned_s).unwrap();
        ledger.audit_escrow(programs.iter().map(|program| u128::from(program.paid)).sum()).unwrap();
    }
}

impl Story {
    fn take(&mut self, receipt: &Receipt) {
        let terms = receipt.terms();
        let account = terms.account;
        self.digests.insert((account, terms.number), receipt.digest());
        match &terms.subject {
            ReceiptSubject::Deposited { serial } => {
                let before = self.deposits.insert(*serial, (account, terms.given_back, terms.number));
                assert_eq!(before, None, "a credit counted twice");
            }
            ReceiptSubject::Installed(installed) => {
                let instance = installed.instance;
                let (began_s, ends_s) = (installed.installed_s, installed.ends_s);
                let paid = terms.paid;
                let program = ProgramRecord {
                    instance,
                    owner: account,
                    upload: upload(instance),
                    proof: None,
                    began_s,
                    ends_s,
                    paid,
                };
                assert_eq!(self.running.insert(instance, program), None, "an instance was used twice");
                let request = (terms.number, began_s + 3);
                // A nonce may come again when it is void; until then it is the same request.
                if let Some((_, expiry_s)) = self.requests.insert((account, installed.nonce), request) {
                    assert!(expiry_s < began_s, "a request was carried out twice");
                }
                self.last_instance = self.last_instance.max(instance);
            }
            ReceiptSubject::Renewed { instance, ends_s, .. } => {
                let program = self.running.get_mut(instance).expect("what is renewed runs");
                assert_eq!(program.owner, account);
                (program.began_s, program.ends_s, program.paid) = (terms.at_s, *ends_s, terms.paid);
                self.refunded += terms.given_back;
            }
            ReceiptSubject::Ended { instance, .. } => {
                let program = self.running.remove(instance).expect("what ends runs");
                assert!(program.owner == account && terms.given_back <= program.paid);
                self.refunded += terms.given_back;
            }
            ReceiptSubject::Checked { .. } => self.fees += terms.paid,
        }
    }
}
