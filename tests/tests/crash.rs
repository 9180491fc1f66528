//! The real router under `kill -9` while users install and pay: what was acknowledged is in force again, nothing is paid
//! twice, and the store balances after every kill.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use vinet_session::identity::{Authority, Identity};
use vinet_session::receipt::{Receipt, ReceiptSubject, verify_chain};
use vinet_tests::client::Client;
use vinet_tests::keys::{self, vinet};
use vinet_tests::lab::{Lab, VICTIM};
use vinet_tests::process::{binary, run};
use vinet_tests::router::{Config, Router};
use vinet_tests::story;

/// Kills, unless `VINET_CRASH_KILLS` is above ten times that: then a tenth of it, because a real router takes seconds to start.
/// Between two kills it takes what comes for up to a second.
const KILLS: usize = 5;
/// Users at work at the same time.
const USERS: usize = 3;
/// What a credit is worth, and what an installation costs.
const CREDIT: u64 = 500;
const PRICE: u64 = 3;

/// The store's records of one kind, as the real `vinetd store export` writes them.
struct Exported(Vec<Value>);

impl Exported {
    #[track_caller]
    fn of(store: &Path) -> Exported {
        let mut command = Command::new(binary("vinetd"));
        command.args(["store", "export"]).arg(store);
        let lines = run(command, Duration::from_secs(30)).expect();
        Exported(lines.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect())
    }
    fn all<'e>(&'e self, kind: &'e str) -> impl Iterator<Item = &'e Value> {
        self.0.iter().filter(move |record| record["record"] == kind)
    }
    fn sum(&self, kind: &str, field: &str) -> u64 {
        self.all(kind).map(|record| record[field].as_u64().expect("a number")).sum()
    }
    fn instances(&self) -> BTreeSet<u64> {
        self.all("program").map(|record| record["instance"].as_u64().expect("a number")).collect()
    }

    /// Adds everything up.
    fn audit(&self, dir: &Path) {
        let state = self.all("state").next().expect("a state");
        let revenue: u64 =
            state["revenue"].as_array().expect("lines").iter().filter_map(|line| line["credits"].as_u64()).sum();
        let escrow = state["escrow"].as_u64().expect("a number");
        assert_eq!(state["issued"].as_u64(), Some(self.sum("account", "balance") + escrow + revenue), "{state}");
        assert_eq!(escrow, self.sum("program", "paid"), "the escrow is what the running programs paid");
        assert_eq!(state["issued"].as_u64(), Some(self.sum("credit", "amount")), "each credit counts once");

        let identity = Identity::load(&dir.join("router.key")).expect("the router's key");
        let authority = Authority::load(&dir.join("authority.pub")).expect("the authority");
        let validity = identity.certificate().validity();
        let router = authority.router(identity.certificate(), validity.not_before_s).expect("a certificate");
        let receipts: Vec<Receipt> = self.all("receipt").map(|record| receipt(&record["receipt"])).collect();
        verify_chain(&receipts, &router).expect("the account's receipts are one chain");
        let installed = receipts.iter().filter_map(|receipt| match &receipt.terms().subject {
            ReceiptSubject::Installed(installed) => Some(installed.instance),
            _ => None,
        });
        assert_eq!(
            installed.collect::<BTreeSet<_>>(),
            self.instances(),
            "each program has a receipt, each receipt a program"
        );
    }
}

fn receipt(hex: &Value) -> Receipt {
    let hex = hex.as_str().expect("hexadecimal digits");
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    Receipt::decode(&bytes).expect("a receipt")
}

fn credit(dir: &Path, user: &Path, number: usize) -> PathBuf {
    let file = dir.join(format!("{number}.credit"));
    let (dir, user, out) = (dir.display(), user.display(), file.display());
    vinet(&format!(
        "bank issue --bank {dir} --to {user} --amount {CREDIT} --router {dir}/router.key --valid 1d --out {out}"
    ))
    .expect();
    file
}

#[test]
fn what_a_killed_router_acknowledged_is_in_force_again_and_paid_once() {
    let Some(_story) = story::begin("what_a_killed_router_acknowledged_is_in_force_again_and_paid_once") else {
        return;
    };
    let asked = std::env::var("VINET_CRASH_KILLS").ok().and_then(|kills| kills.parse::<usize>().ok()).unwrap_or(0);
    let kills = KILLS.max(asked / 10);
    let lab = Lab::new();
    let dir = lab.dir();
    keys::make(dir);
    vinet(&format!("bank init --out {}", dir.display())).expect();
    let user = keys::identity(dir, &VICTIM.to_string());
    let more = format!("[store]\npath = \"lab.store\"\n\n[payment]\nbank = \"bank.pub\"\ninstall = {PRICE}\n");
    let config = Config { more, ..Config::default() };
    let store = dir.join("lab.store");
    let client = Client::new(&lab, &lab.victim, &VICTIM.to_string(), "192.0.2.1:7400");

    let mut router = Router::start(&lab, &config);
    client.run(&format!("deposit {}", credit(dir, &user, 0).display())).expect();
    let (stop, acknowledged, failed) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()), Mutex::new(0));
    std::thread::scope(|scope| {
        // Users who install, one program after the other, while the router comes and goes; what an answer was lost for is
        // asked again by `vinet` itself.
        for number in 0..USERS {
            let (client, stop, acknowledged, failed) = (&client, &stop, &acknowledged, &failed);
            scope.spawn(move || {
                for host in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let source = format!("198.51.100.{}", (host * USERS + number) % 250 + 1);
                    let done = client.run(&format!("firewall --block {source} --lifetime 1h --json"));
                    let instance =
                        serde_json::from_str::<Value>(&done.stdout).ok().and_then(|r| r["instance"].as_u64());
                    match instance.filter(|_| done.ok()) {
                        Some(instance) => assert!(acknowledged.lock().expect("a lock").insert(instance), "twice"),
                        None => *failed.lock().expect("a lock") += 1,
                    }
                }
            });
        }
        for kill in 1..=kills {
            // The same credit from two sessions at once.
            let words = format!("deposit {}", credit(dir, &user, kill).display());
            let deposits = [words.clone(), words].map(|words| {
                let client = &client;
                scope.spawn(move || client.run(&words))
            });
            std::thread::sleep(Duration::from_millis(200 + 170 * (kill % 5) as u64));
            router.stop(Signal::SIGKILL);
            Exported::of(&store).audit(dir);
            router = Router::start(&lab, &config);
            for deposit in deposits {
                deposit.join().expect("no panic");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (acknowledged, failed) = (acknowledged.into_inner().expect("a lock"), failed.into_inner().expect("a lock"));
    assert!(acknowledged.len() > kills, "only {} installs were acknowledged, {failed} failed", acknowledged.len());
    // Every credit is deposited, if it was not before.
    for number in 0..=kills {
        client.run(&format!("deposit {}", dir.join(format!("{number}.credit")).display())).expect();
    }
    let running: BTreeSet<u64> = client.list().iter().filter_map(|program| program["instance"].as_u64()).collect();
    assert!(running.is_superset(&acknowledged), "{acknowledged:?} were acknowledged, {running:?} run");
    assert!(
        running.len() <= acknowledged.len() + failed,
        "{} run, {} were asked for",
        running.len(),
        acknowledged.len() + failed
    );
    let balance = client.json("balance");
    let paid = PRICE * running.len() as u64;
    assert_eq!(balance["balance"].as_u64(), Some(CREDIT * (kills as u64 + 1) - paid), "{balance}");
    router.stop(Signal::SIGKILL);
    let exported = Exported::of(&store);
    exported.audit(dir);
    assert_eq!(exported.instances(), running);
    println!("{kills} kills, {} installs acknowledged, {failed} not", acknowledged.len());
}
