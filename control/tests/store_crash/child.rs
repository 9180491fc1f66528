//! The child: as many requests as it can, until it is killed.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use crossbeam::channel::{Receiver, unbounded};
use vinet_control::ledger::bank::{Deposit, DepositError};
use vinet_control::ledger::{Ledger, Line, MoneyHold};
use vinet_control::store::{
    Answer, Committer, Done, Kind, Options, ProgramRecord, Put, Recovered, RequestRecord, Store, StoreError,
    Transaction,
};
use vinet_session::identity::{Identity, PublicKey, parse_principal};
use vinet_session::message::Class;
use vinet_session::payment::{BankKey, Credit, CreditFault, CreditTerms};
use vinet_session::receipt::{Ending, Installed, Receipt, ReceiptSubject};

use super::{NOW_S, Random, owner, upload};

/// What a program's end is booked to.
const LINE: Line = Line(1);
/// Everything that is asked for after a failure, before the child ends.
const AFTER_FAILURE: u32 = 100;

/// What comes back with an answer.
enum Ticket {
    /// A receipt that may be given out now.
    Receipt { account: PublicKey, number: u64, digest: [u8; 32] },
    /// A retry: the receipt of the first copy.
    Again { account: PublicKey, number: u64 },
    /// Nobody waits.
    Nobody,
}

struct Running {
    instance: u64,
    owner: PublicKey,
    paid: u64,
    began_s: u64,
    ends_s: u64,
}

struct Router {
    random: Random,
    identity: Identity,
    bank: BankKey,
    ledger: Ledger,
    committer: Committer<Ticket>,
    wakes: Receiver<()>,
    running: Vec<Running>,
    /// The receipt of each request.
    requests: HashMap<(PublicKey, [u8; 16]), u64>,
    waiting: Vec<MoneyHold>,
    next_instance: u64,
    generation: u64,
    now_s: u64,
}

/// Works in `dir` until it is killed, or until the store has failed and everyone has been told.
pub fn work(dir: &Path, seed: u64, generation: u64) {
    let identity = Identity::load(&dir.join("router.key")).unwrap();
    let options = Options { receipts_per_account: u64::MAX, ..Options::default() };
    let (store, recovered) = Store::open(&dir.join("edge1.store"), &identity.public(), options).unwrap();
    let running: Vec<Running> = recovered.programs().unwrap().map(|record| running(record.unwrap())).collect();
    let Recovered { accounts, books, credits, requests, next_instance, pruned_s, .. } = recovered;
    let ledger = Ledger::restore(books, accounts, credits, pruned_s).unwrap();
    ledger.audit_escrow(running.iter().map(|program| u128::from(program.paid)).sum()).unwrap();
    let requests = requests.into_iter().map(|request| match request.answer {
        Answer::Receipt(number) => ((request.owner, request.nonce), number),
        Answer::Bytes(_) => unreachable!("this router answers with receipts"),
    });
    let (woken, wakes) = unbounded();
    let router = Router {
        random: Random(seed),
        bank: BankKey::load(&dir.join("bank.key")).unwrap(),
        ledger,
        committer: store.start(move || woken.send(()).unwrap_or_default()).unwrap(),
        wakes,
        running,
        requests: requests.collect(),
        waiting: Vec::new(),
        next_instance,
        generation,
        now_s: NOW_S + generation,
        identity,
    };
    router.work();
}

fn running(record: ProgramRecord) -> Running {
    let ProgramRecord { instance, owner, paid, began_s, ends_s, .. } = record;
    Running { instance, owner, paid, began_s, ends_s }
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Router {
    fn work(mut self) {
        // The harness has begun a line of its own.
        say("\nready\n");
        let mut left = AFTER_FAILURE;
        while left > 0 {
            // Bursts of many requests, and now and then one alone.
            let most = [1, 4, 32, 128][self.random.below(4) as usize];
            for _ in 0..self.random.below(64) {
                if self.committer.pending() < most {
                    self.request();
                }
                self.report();
            }
            while self.committer.pending() >= most {
                let _ = self.wakes.recv_timeout(Duration::from_millis(50));
                self.report();
            }
            if self.committer.failure().is_some() {
                left -= 1;
            }
        }
    }

    fn report(&mut self) {
        let mut text = String::new();
        while let Some((ticket, result)) = self.committer.committed() {
            let line = match (ticket, result) {
                (_, Err(error)) => {
                    assert!(!matches!(error, StoreError::Broken { .. }), "{error}");
                    format!("failed {} {error}\n", error.code())
                }
                (Ticket::Receipt { account, number, digest }, Ok(Done::Committed)) => {
                    format!("ack {account} {number} {}\n", hex(&digest))
                }
                (Ticket::Again { account, number }, Ok(Done::Receipts(receipts))) => {
                    assert_eq!((receipts.len(), receipts[0].terms().number), (1, number));
                    format!("ack {account} {number} {}\n", hex(&receipts[0].digest()))
                }
                (Ticket::Nobody, Ok(Done::Committed)) => continue,
                (_, Ok(done)) => panic!("another answer than was asked for: {done:?}"),
            };
            text += &line;
        }
        say(&text);
    }

    fn request(&mut self) {
        match self.random.below(10) {
            0 | 1 => self.deposit(),
            2..=4 => self.install(),
            5 => self.end(Ending::Withdrawn),
            6 => self.end(Ending::Expired),
            7 => self.renew(),
            8 => self.check(),
            _ => self.other(),
        }
    }

    fn submit(&mut self, receipt: &Receipt, puts: Vec<Put>) {
        let terms = receipt.terms();
        let ticket = Ticket::Receipt { account: terms.account, number: terms.number, digest: receipt.digest() };
        let mut transaction = Transaction::from(puts);
        transaction.put(Put::Receipt(Box::new(receipt.clone())));
        assert!(self.committer.submit(transaction, ticket).is_ok(), "there is room");
    }

    /// The same credit some times in a row, of a series that later generations try again.
    fn deposit(&mut self) {
        let number = self.generation * 25 + self.random.below(75);
        let mut serial = [0; 16];
        serial[..8].copy_from_slice(&number.to_be_bytes());
        let (account, amount) = (owner(number), 500 + number % 1_000);
        let terms =
            CreditTerms { serial, amount, router: self.identity.public(), account, expiry_s: NOW_S + number / 20 };
        let credit = Credit::sign(terms, &self.bank);
        for _ in 0..1 + self.random.below(3) {
            match self.ledger.deposit(&credit, &self.bank.bank(), &account, &self.identity, self.now_s) {
                Ok(Deposit::Taken(taken)) => {
                    let receipt = &taken.receipt;
                    let number = receipt.terms().number;
                    let ticket = Ticket::Receipt { account, number, digest: receipt.digest() };
                    assert!(self.committer.submit((*taken).into(), ticket).is_ok(), "there is room");
                }
                Ok(Deposit::Again { receipt: number }) => {
                    let ticket = Ticket::Again { account, number };
                    assert!(self.committer.receipts(account, number - 1, 1, ticket).is_ok(), "there is room");
                }
                Err(DepositError::Fault(CreditFault::Expired { .. })) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn install(&mut self) {
        // Nonces come again in the next generation: a client that lost the reply.
        let number = self.generation * 500 + self.random.below(2_000);
        let owner = owner(self.random.below(100));
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&number.to_be_bytes());
        if let Some(&number) = self.requests.get(&(owner, nonce)) {
            let ticket = Ticket::Again { account: owner, number };
            assert!(self.committer.receipts(owner, number - 1, 1, ticket).is_ok(), "there is room");
            return;
        }
        let price = self.random.below(40);
        let Ok(hold) = self.ledger.hold(&owner, price) else { return };
        match self.random.below(8) {
            0 => return self.ledger.release(hold),
            // Some checks take longer; their holds are open when the crash comes.
            1 if self.waiting.len() < 20 => return self.waiting.push(hold),
            _ => {}
        }
        let entry = self.ledger.capture(hold);
        let instance = self.next_instance;
        self.next_instance += 1;
        let (began_s, ends_s) = (self.now_s, self.now_s + 100);
        let installed = Installed {
            instance,
            program_id: [1; 32],
            principal: parse_principal("192.0.2.7").unwrap(),
            policy_id: [2; 32],
            class: Class::Header,
            complexity: 1,
            cost: 100,
            packet_rate: 1,
            installed_s: began_s,
            ends_s,
            nonce,
            monitor: false,
        };
        let subject = ReceiptSubject::Installed(Box::new(installed));
        let receipt = self.ledger.receipt(&owner, self.now_s, &[&entry], subject, &self.identity);
        let number = receipt.terms().number;
        let program =
            ProgramRecord { instance, owner, upload: upload(instance), proof: None, began_s, ends_s, paid: price };
        let answer = Answer::Receipt(number);
        let request = RequestRecord { owner, nonce, digest: [3; 32], expiry_s: self.now_s + 3, answer };
        let last = Put::Keep { kind: Kind::Note, key: b"last".to_vec(), value: instance.to_be_bytes().to_vec() };
        self.requests.insert((owner, nonce), number);
        self.running.push(Running { instance, owner, paid: price, began_s, ends_s });
        let puts = vec![Put::Program(Box::new(program)), Put::Entry(entry), Put::Request(request), last];
        self.submit(&receipt, puts);
    }

    fn some_running(&mut self) -> Option<usize> {
        let len = self.running.len() as u64;
        (len > 0).then(|| self.random.below(len) as usize)
    }

    fn end(&mut self, why: Ending) {
        let Some(place) = self.some_running() else { return };
        let Running { instance, owner, paid, began_s, ends_s } = self.running.swap_remove(place);
        let left_s = if why == Ending::Expired { 0 } else { self.random.below(ends_s - began_s + 1) };
        let entry = self.ledger.refund(&owner, LINE, paid, ends_s - began_s, left_s);
        let subject = ReceiptSubject::Ended { instance, why };
        let receipt = self.ledger.receipt(&owner, self.now_s, &[&entry], subject, &self.identity);
        self.submit(&receipt, vec![Put::RemoveProgram { instance }, Put::Entry(entry)]);
    }

    fn renew(&mut self) {
        let Some(place) = self.some_running() else { return };
        let price = self.random.below(40);
        let program = &mut self.running[place];
        let Running { instance, owner, .. } = *program;
        let Ok(hold) = self.ledger.hold(&owner, price) else { return };
        let of_s = program.ends_s - program.began_s;
        let left_s = self.random.below(of_s + 1);
        let back = self.ledger.refund(&owner, LINE, program.paid, of_s, left_s);
        let paid = self.ledger.capture(hold);
        let (began_s, ends_s) = (self.now_s, self.now_s + 50 + self.random.below(50));
        *program = Running { instance, owner, paid: price, began_s, ends_s };
        let subject = ReceiptSubject::Renewed { instance, ends_s, nonce: [4; 16] };
        let receipt = self.ledger.receipt(&owner, self.now_s, &[&back, &paid], subject, &self.identity);
        let renew = Put::Renew { instance, began_s, ends_s, paid: price };
        self.submit(&receipt, vec![renew, Put::Entry(back), Put::Entry(paid)]);
    }

    fn check(&mut self) {
        let account = owner(self.random.below(100));
        let amount = self.random.below(5);
        let Some(entry) = self.ledger.fee(&account, amount) else { return };
        let subject = ReceiptSubject::Checked { nonce: [5; 16] };
        let receipt = self.ledger.receipt(&account, self.now_s, &[&entry], subject, &self.identity);
        self.submit(&receipt, vec![Put::Entry(entry)]);
    }

    fn other(&mut self) {
        match self.random.below(8) {
            0 => {
                self.ledger.prune(self.now_s, 1 << 20);
                let transaction = vec![Put::Prune { before_s: self.now_s }].into();
                assert!(self.committer.submit(transaction, Ticket::Nobody).is_ok(), "there is room");
            }
            1..=3 => {
                while let Some(hold) = self.waiting.pop() {
                    self.ledger.release(hold);
                }
            }
            _ => self.ledger.audit().unwrap(),
        }
    }
}
