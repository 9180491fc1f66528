//! The store and the ledger under `kill -9`: a child process works as a router's control core does, with many requests in
//! flight, and says over a pipe what was acknowledged; it is killed at a random moment, and everything is added up.
//!
//! `VINET_CRASH_KILLS` is how often (20), `VINET_TEST_SEED` repeats a run as far as the machine's timing allows.

mod audit;
mod child;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use vinet_session::identity::{AuthorityKey, PublicKey, RouterPeer, Subject, Validity};
use vinet_session::payment::BankKey;

use audit::Auditor;

/// The second at which the first generation of children works; each later one works a second later.
const NOW_S: u64 = 1_800_000_000;
/// Owners.
const ACCOUNTS: u8 = 12;
/// Kills before a new store is begun, so that what is added up stays small.
const KILLS_PER_STORE: u64 = 25;
/// How long a child may take to open the store, and a child on a full disk to notice.
const PATIENCE: Duration = Duration::from_secs(60);

/// A small generator (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn owner(number: u64) -> PublicKey {
    PublicKey([(number % u64::from(ACCOUNTS)) as u8 + 1; 32])
}

/// The bytes that stand for the upload of a program.
fn upload(instance: u64) -> Vec<u8> {
    let mut bytes = vec![0x5a; 110];
    bytes.extend_from_slice(&instance.to_be_bytes());
    bytes.resize(130 + (instance % 300) as usize, instance as u8);
    bytes
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seed() -> u64 {
    let fresh = || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64);
    let seed = number("VINET_TEST_SEED").unwrap_or_else(fresh);
    println!("VINET_TEST_SEED={seed}");
    seed
}

/// A router's keys and a bank's in `dir`.
fn keys(dir: &Path) -> RouterPeer {
    let authority = AuthorityKey::generate("bench").unwrap();
    let subject = Subject::Router { name: "edge1".into(), addrs: Vec::new() };
    let identity = authority.issue_identity(subject, Validity::starting(NOW_S - 10, 1 << 30)).unwrap();
    identity.save(&dir.join("router.key")).unwrap();
    BankKey::generate("bank").unwrap().save(&dir.join("bank.key")).unwrap();
    authority.authority().router(identity.certificate(), NOW_S).unwrap()
}

/// What a child said, line by line; a line that the kill cut is none.
struct Said(mpsc::Receiver<String>);

impl Said {
    fn of(child: &mut Child) -> Said {
        let out = child.stdout.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut out = BufReader::new(out);
            let mut line = String::new();
            while out.read_line(&mut line).is_ok_and(|len| len > 0) && line.ends_with('\n') {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Said(receiver)
    }
    /// Waits for a line that begins with `what`; the lines before it go to `others`.
    fn wait_for(&self, what: &str, others: &mut Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.0.recv_timeout(left).unwrap_or_else(|_| panic!("the child never said `{what}`"));
            if line.starts_with(what) {
                return;
            }
            others.push(line);
        }
    }
    /// Everything up to its end.
    fn rest(self) -> Vec<String> {
        let mut lines = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => lines.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => return lines,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the child did not end"),
            }
        }
    }
}

fn command(mut command: Command, dir: &Path, seed: u64, generation: u64) -> Child {
    command
        .args(["--exact", "child_of_the_crash_test", "--ignored", "--nocapture", "--test-threads=1"])
        .env("VINET_CRASH_DIR", dir)
        .env("VINET_CRASH_SEED", seed.to_string())
        .env("VINET_CRASH_GENERATION", generation.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "the crash test starts it"]
fn child_of_the_crash_test() {
    let dir = std::env::var("VINET_CRASH_DIR").expect("the crash test starts this and says where");
    child::work(Path::new(&dir), number("VINET_CRASH_SEED").unwrap(), number("VINET_CRASH_GENERATION").unwrap());
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_else_is_half_there_after_any_kill() {
    let seed = seed();
    let kills = number("VINET_CRASH_KILLS").unwrap_or(20);
    let mut random = Random(seed);
    let (mut acknowledged, mut early) = (0, 0);
    let mut done = 0;
    while done < kills {
        let dir = tempfile::tempdir().unwrap();
        let mut auditor = Auditor::new(dir.path(), keys(dir.path()));
        for generation in 0..KILLS_PER_STORE.min(kills - done) {
            let exe = Command::new(std::env::current_exe().unwrap());
            let mut child = command(exe, dir.path(), random.next(), generation);
            let said = Said::of(&mut child);
            let mut lines = Vec::new();
            // Some kills hit the start: the first commit of a new file, the check or the repair of an old one.
            if random.below(6) == 0 {
                early += 1;
                std::thread::sleep(Duration::from_micros(random.below(60_000)));
            } else {
                said.wait_for("ready", &mut lines);
                std::thread::sleep(Duration::from_micros(random.below(150_000)));
            }
            child.kill().unwrap();
            let status = child.wait().unwrap();
            assert_eq!(status.code(), None, "the child ended by itself: {status}");
            lines.extend(said.rest());
            acknowledged += auditor.audit(&lines, generation);
            done += 1;
        }
    }
    println!("{done} kills, {early} of them at the start; {acknowledged} acknowledgements, none lost");
    assert!(acknowledged > done * 10, "only {acknowledged} acknowledgements came before {done} kills");
}

#[test]
fn a_full_disk_is_told_to_everyone_who_waits_and_loses_nothing() {
    let seed = seed();
    let dir = tempfile::tempdir().unwrap();
    let mut auditor = Auditor::new(dir.path(), keys(dir.path()));
    // A file may have 2048 blocks of 512 bytes, and more is an error instead of a signal.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$@\"", "sh"]).arg(std::env::current_exe().unwrap());
    let mut child = command(limited, dir.path(), seed, 0);
    let said = Said::of(&mut child);
    let mut lines = Vec::new();
    said.wait_for("failed store-full", &mut lines);
    // The child goes on submitting, and is told the same for everything until it ends by itself.
    lines.extend(said.rest());
    assert!(child.wait().unwrap().success());
    let told = lines.iter().filter(|line| line.starts_with("failed store-full")).count();
    assert!(told >= 100, "{told} were told");
    let last = lines.iter().rposition(|line| line.starts_with("ack"));
    let first = lines.iter().position(|line| line.starts_with("failed"));
    assert!(last < first, "something was acknowledged after the failure");
    // With room again, the next router goes on from there.
    assert!(auditor.audit(&lines, 0) > 10);
    let mut child = command(Command::new(std::env::current_exe().unwrap()), dir.path(), seed + 1, 1);
    let said = Said::of(&mut child);
    let mut lines = Vec::new();
    said.wait_for("ack", &mut lines);
    child.kill().unwrap();
    child.wait().unwrap();
    lines.extend(said.rest());
    auditor.audit(&lines, 1);
}
