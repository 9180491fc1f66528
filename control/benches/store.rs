//! How many paid installs a second the store takes, and how long a million programs take to come back:
//! `cargo bench -p vinet-control --bench store`.
//!
//! An install is one transaction of a program, an entry, a receipt and a request, on a file in the folder for temporary
//! files (TMPDIR). What admission does before, signing among it, is done ahead. The processor time is that of the store's
//! thread alone, from /proc.

use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam::channel::unbounded;
use vinet_control::ledger::Ledger;
use vinet_control::ledger::bank::Deposit;
use vinet_control::store::{
    Answer, Committer, Options, ProgramRecord, Put, RequestRecord, Store, StoreError, Transaction,
};
use vinet_prover::corpus::{self, Kind};
use vinet_session::identity::{AuthorityKey, Identity, PublicKey, Subject, Validity};
use vinet_session::message::{Class, Terms, Upload};
use vinet_session::payment::{BankKey, Credit, CreditTerms};
use vinet_session::receipt::{Installed, ReceiptSubject};
use vinet_trusted::addr::{Addr, Prefix};

const NOW_S: u64 = 1_800_000_000;
const OWNERS: u64 = 1_000;
const INSTALLS: u64 = 48_000;
const PROGRAMS: u64 = 1_000_000;
/// Linux reports processor time in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

fn owner(number: u64) -> PublicKey {
    let mut key = [7; 32];
    key[..8].copy_from_slice(&(number % OWNERS).to_be_bytes());
    PublicKey(key)
}

/// A firewall's upload as an honest client signs it.
fn upload(router: &Identity, authority: &AuthorityKey) -> Vec<u8> {
    let principal = corpus::owner(Kind::EndUser);
    let policy = corpus::policy(Kind::EndUser);
    let program = corpus::firewall(vec![Prefix::host(Addr::V4(0xcb00_7107))]);
    let lemmas = vinet_prover::library();
    let proof = vinet_prover::prove(&program, &principal, &policy, &lemmas, &[]).expect("proven");
    let identity = authority.issue_identity(Subject::Owner(principal), Validity::starting(NOW_S, 60)).expect("issued");
    println!("a firewall: {} bytes of program, {} of proof", program.encode().len(), proof.len());
    let terms = Terms {
        router: router.public(),
        policy_id: policy.id(),
        lemma_root: lemmas.root(),
        program: program.encode(),
        proof: Some(proof),
        principal,
        class: Class::Header,
        complexity: 100,
        cost: 10_000,
        lifetime_s: 100,
        packet_rate: 1_000,
        payment: 10,
        quote: None,
        monitor: false,
        nonce: [9; 16],
        expiry_s: NOW_S + 60,
    };
    Upload::sign(terms, &identity).encode()
}

fn program(instance: u64, upload: &[u8]) -> ProgramRecord {
    let mut upload = upload.to_vec();
    // Another signature each time.
    let end = upload.len();
    upload[end - 8..].copy_from_slice(&instance.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    ProgramRecord {
        instance,
        owner: owner(instance),
        upload,
        proof: None,
        began_s: NOW_S,
        ends_s: NOW_S + 100,
        paid: 10,
    }
}

/// Deposits for every owner, and installs of which every one is the next of its owner.
fn work(identity: &Identity, upload: &[u8]) -> (Vec<Transaction>, Vec<Transaction>) {
    let mut ledger = Ledger::new();
    let key = BankKey::generate("bank").expect("a key");
    let deposits = (0..OWNERS).map(|number| {
        let mut serial = [0; 16];
        serial[..8].copy_from_slice(&number.to_be_bytes());
        let account = owner(number);
        let terms = CreditTerms { serial, amount: 1_000_000, router: identity.public(), account, expiry_s: NOW_S + 1 };
        let credit = Credit::sign(terms, &key);
        match ledger.deposit(&credit, &key.bank(), &account, identity, NOW_S).expect("taken") {
            Deposit::Taken(taken) => Transaction::from(*taken),
            Deposit::Again { .. } => unreachable!("serial numbers differ"),
        }
    });
    let deposits: Vec<Transaction> = deposits.collect();
    let installs = (1..=INSTALLS).map(|instance| {
        let program = program(instance, upload);
        let owner = program.owner;
        let hold = ledger.hold(&owner, program.paid).expect("enough");
        let entry = ledger.capture(hold);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&instance.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let installed = Installed {
            instance,
            program_id: [1; 32],
            principal: corpus::owner(Kind::EndUser),
            policy_id: [2; 32],
            class: Class::Header,
            complexity: 100,
            cost: 10_000,
            packet_rate: 1_000,
            installed_s: NOW_S,
            ends_s: NOW_S + 100,
            nonce,
            monitor: false,
        };
        let subject = ReceiptSubject::Installed(Box::new(installed));
        let receipt = ledger.receipt(&owner, NOW_S, &[&entry], subject, identity);
        // A second has 20,000 of them.
        let expiry_s = NOW_S + 60 + instance / 20_000;
        let answer = Answer::Receipt(receipt.terms().number);
        let request = RequestRecord { owner, nonce, digest: [3; 32], expiry_s, answer };
        Transaction::from(vec![
            Put::Program(Box::new(program)),
            Put::Entry(entry),
            Put::Receipt(Box::new(receipt)),
            Put::Request(request),
        ])
    });
    let installs = installs.collect();
    (deposits, installs)
}

/// Processor seconds of this process's thread `name`.
fn processor_seconds(name: &str) -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let ticks = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (before, after) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        before
            .ends_with(name)
            .then(|| fields[11].parse::<f64>().unwrap_or(0.0) + fields[12].parse::<f64>().unwrap_or(0.0))
    });
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

/// Commits `work` with `in_flight` transactions at once, for at most `most`; returns how many.
fn run(store: Store, work: &[Transaction], in_flight: usize, most: Duration) -> Result<usize, StoreError> {
    let (woken, wakes) = unbounded();
    let mut committer: Committer<Instant> = store.start(move || woken.send(()).unwrap_or_default()).expect("a thread");
    let (began, processor) = (Instant::now(), processor_seconds("vinet-store"));
    let (mut sent, mut done) = (0, 0);
    let mut latencies = Vec::with_capacity(work.len());
    while done < sent || (sent < work.len() && began.elapsed() < most) {
        while sent < work.len() && committer.pending() < in_flight && began.elapsed() < most {
            committer.submit(work[sent].clone(), Instant::now()).expect("there is room");
            sent += 1;
        }
        wakes.recv().expect("the thread runs");
        while let Some((submitted, result)) = committer.committed() {
            result?;
            latencies.push(submitted.elapsed());
            done += 1;
        }
    }
    let (seconds, processor) = (began.elapsed().as_secs_f64(), processor_seconds("vinet-store") - processor);
    latencies.sort_unstable();
    println!(
        "{in_flight:>9} {:>11.0} {:>9.2} {:>9.2} {:>11.0} {:>14.1}",
        done as f64 / seconds,
        latencies[done / 2].as_secs_f64() * 1e3,
        latencies[done * 99 / 100].as_secs_f64() * 1e3,
        processor / seconds * 100.0,
        processor / done as f64 * 1e6,
    );
    Ok(done)
}

fn open(path: &Path, identity: &Identity) -> Result<Store, StoreError> {
    Store::open(path, &identity.public(), Options::default()).map(|(store, _)| store)
}

fn million(dir: &Path, identity: &Identity, upload: &[u8]) -> Result<(), StoreError> {
    let path = dir.join("million.store");
    let mut committer: Committer<()> = open(&path, identity)?.start(|| {}).expect("a thread");
    for first in (1..=PROGRAMS).step_by(10_000) {
        let puts = (first..first + 10_000).map(|instance| Put::Program(Box::new(program(instance, upload))));
        committer.submit(puts.collect::<Vec<_>>().into(), ()).expect("there is room");
        loop {
            match committer.committed() {
                Some(((), result)) => break drop(result?),
                None => std::thread::yield_now(),
            }
        }
    }
    drop(committer);
    let bytes = std::fs::metadata(&path).map_or(0, |found| found.len());
    let began = Instant::now();
    let (_store, recovered) = Store::open(&path, &identity.public(), Options::default())?;
    let opened = began.elapsed();
    let began = Instant::now();
    let mut read = 0usize;
    for record in recovered.programs()? {
        read += record?.upload.len();
    }
    println!(
        "{PROGRAMS} programs in {} MB, {:.0} bytes each: opened with every checksum in {:.2} s, read in {:.2} s ({} MB of uploads)",
        bytes >> 20,
        bytes as f64 / PROGRAMS as f64,
        opened.as_secs_f64(),
        began.elapsed().as_secs_f64(),
        read >> 20,
    );
    Ok(())
}

fn main() -> Result<(), StoreError> {
    let dir = tempfile::tempdir().expect("a folder");
    let authority = AuthorityKey::generate("bench").expect("a key");
    let subject = Subject::Router { name: "edge1".into(), addrs: Vec::new() };
    let identity = authority.issue_identity(subject, Validity::starting(NOW_S - 10, 1 << 30)).expect("issued");
    let upload = upload(&identity, &authority);
    println!("its upload: {} bytes", upload.len());
    let (deposits, installs) = work(&identity, &upload);
    println!("in flight  installs/s    p50 ms    p99 ms  processor %  processor µs/install");
    for in_flight in [1, 16, 256, 1024] {
        let path = dir.path().join(format!("{in_flight}.store"));
        let mut committer: Committer<()> = open(&path, &identity)?.start(|| {}).expect("a thread");
        for deposit in &deposits {
            committer.submit(deposit.clone(), ()).expect("there is room");
        }
        drop(committer);
        run(open(&path, &identity)?, &installs, in_flight, Duration::from_secs(3))?;
    }
    million(dir.path(), &identity, &upload)
}
