//! An experiment from one file, and programs that find their routers by the directory.

use crate::lab::{Router, object, objects, succeeds, text, vinet};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use vinet_session::Tariff;
use vinet_session::payment::Bank;
use vinet_session::{RevocationList, SignedDirectory};
use vinet_trusted::addr::PrefixSet;

/// Two routers, whose endpoints are known when they run, and an owner with money at one of them.
struct Experiment {
    dir: TempDir,
    east: Router,
    west: Router,
}

fn topology(east: &str, west: &str) -> String {
    format!(
        "authority = \"lab\"\nbank = \"mint\"\nvalid_days = 1\n\
         [[router]]\nname = \"east\"\naddresses = [\"127.0.0.1\"]\nendpoints = [{east}]\n\
         controls = [\"198.51.100.0/24\"]\n\
         [[router]]\nname = \"west\"\naddresses = [\"127.0.0.1\"]\nendpoints = [{west}]\n\
         controls = [\"203.0.113.0/24\"]\n\
         [[owner]]\nname = \"me\"\nprincipal = \"192.0.2.2\"\ncredits = {{ east = 100 }}\n"
    )
}

impl Experiment {
    fn new() -> Experiment {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("lab.toml"), topology("", "")).expect("a file");
        let out = at("lab").display().to_string();
        let made = succeeds(&vinet(&["ca", "topology", &at("lab.toml").display().to_string(), "--out", &out]));
        assert!(made.ends_with("the authority `lab`, the bank `mint`, 2 routers, 1 owners\n"), "{made}");
        std::fs::copy(at("lab/routers/east.key"), at("lab/east.key")).expect("a copy");
        std::fs::copy(at("lab/routers/west.key"), at("lab/west.key")).expect("a copy");
        let (east, west) = (Router::start(&at("lab"), "east.key"), Router::start(&at("lab"), "west.key"));
        let controls = |text: &str| Some(PrefixSet::new(vec![vinet_client::lang::prefix(text).expect("a prefix")]));
        east.books().controlled = controls("198.51.100.0/24");
        west.books().controlled = controls("203.0.113.0/24");
        let experiment = Experiment { dir, east, west };
        // The first endpoint of one of them is dead: the next is tried.
        let dead = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let (east, west) = (experiment.east.addr, experiment.west.addr);
        let text = topology(&format!("\"{dead}\", \"{east}\""), &format!("\"{west}\""));
        std::fs::write(experiment.path("lab.toml"), text).expect("a file");
        let signed = succeeds(&experiment.run(&["ca", "directory", "--ca", "lab", "lab.toml"]));
        assert_eq!(signed, "lab/directory: directory 2, 2 prefixes\n");
        experiment
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vinet"));
        command.args(args).current_dir(self.dir.path()).env("VINET_STATE", self.path("state"));
        command.env("VINET_IDENTITY", self.path("lab/owners/me.key"));
        command.env("VINET_AUTHORITY", self.path("lab/authority.pub"));
        command.env("VINET_DIRECTORY", self.path("lab/directory")).output().expect("vinet runs")
    }
}

#[test]
fn a_program_goes_to_the_routers_of_its_sources_and_what_one_refuses_is_named() {
    let lab = Experiment::new();
    let block = |sources: &[&str], more: &[&str]| {
        let blocked = sources.iter().flat_map(|source| ["--block", source]);
        let args: Vec<&str> = ["firewall"].into_iter().chain(blocked).collect();
        lab.run(&[&args[..], &["--lifetime", "2m", "--router", "auto"], more].concat())
    };
    let one = object(&block(&["198.51.100.7"], &["--json"]));
    assert_eq!((&one["instance"], &one["router"]), (&7.into(), &"east".into()));
    let both = objects(&block(&["198.51.100.7", "203.0.113.0/25", "198.51.100.9"], &["--json"]));
    let routers: Vec<&Value> = both.iter().map(|receipt| &receipt["router"]).collect();
    assert_eq!(routers, ["east", "west"]);
    assert_ne!(both[0]["program"], both[1]["program"], "each has its own sources");
    // What is about any source goes to all.
    let spam = ["spam", "--word", "lottery", "--lifetime", "1d", "--router", "auto", "--json"];
    assert_eq!(objects(&lab.run(&spam)).len(), 2);
    // One is paid, and the other is not.
    lab.west.books().tariff = Tariff { install: 1, ..Tariff::FREE };
    let refused = block(&["198.51.100.7", "203.0.113.7"], &[]);
    assert_eq!(refused.status.code(), Some(1));
    let told = text(&refused.stderr);
    let expected =
        format!("vinet: not-everywhere: 1 of 2 routers did not do it: `west` at {}: no-money", lab.west.addr);
    assert!(told.starts_with(&expected), "{told}");
    assert!(text(&refused.stdout).contains("at router `east`"), "{}", text(&refused.stdout));
    let nobody = block(&["192.0.2.77"], &[]);
    assert_eq!(nobody.status.code(), Some(1));
    let told = text(&nobody.stderr);
    assert!(told.starts_with("vinet: no-router: the directory has no router that controls 192.0.2.77"), "{told}");
    // A text of one's own goes where its sources are.
    let own = "LIFETIME = 1 hour\nMine = GROUP_BY_DESTINATION(AllPackets, THIS_IP);\n\
               Bad = GROUP_BY_SOURCE(Mine, 198.51.100.0/25);\nDISCARD(Bad);\n";
    std::fs::write(lab.path("own.vnp"), own).expect("a file");
    assert_eq!(object(&lab.run(&["upload", "own.vnp", "--router", "auto", "--json"]))["router"], "east");
}

#[test]
fn a_router_is_found_by_its_name_and_paid_with_what_the_topology_gave() {
    let lab = Experiment::new();
    lab.east.books().bank = Some(Bank::load(&lab.path("lab/bank.pub")).expect("the bank"));
    let auto = |args: &[&str]| lab.run(&[args, &["--router", "auto", "--router-name", "east"]].concat());
    succeeds(&auto(&["deposit", "lab/credits/me-at-east"]));
    assert_eq!(object(&auto(&["balance", "--json"]))["balance"], 100);
    let which = lab.run(&["balance", "--router", "auto"]);
    assert_eq!(which.status.code(), Some(2));
    assert!(text(&which.stderr).contains("has the routers east, west; say which with --router-name"));
    let wrong = lab.run(&["balance", "--router", "auto", "--router-name", "north"]);
    assert!(text(&wrong.stderr).contains("no router `north`"), "{}", text(&wrong.stderr));
}

#[test]
fn a_directory_is_fetched_verified_and_never_replaced_by_an_older_one() {
    let lab = Experiment::new();
    let load = |name: &str| SignedDirectory::load(&lab.path(name)).expect("a directory");
    lab.east.books().directory = Some(load("lab/directory"));
    let router = lab.east.addr.to_string();
    let fetch = ["directory", "-o", "fetched", "--router", &router];
    let listed = succeeds(&lab.run(&fetch));
    assert!(listed.lines().count() == 2 && listed.starts_with("198.51.100.0/24 east "), "{listed}");
    assert_eq!(load("fetched"), load("lab/directory"));
    succeeds(&lab.run(&["ca", "directory", "--ca", "lab", "lab.toml", "--out", "fetched"]));
    let older = lab.run(&fetch);
    assert_eq!(older.status.code(), Some(1));
    assert!(text(&older.stderr).contains("older-directory"), "{}", text(&older.stderr));
    assert_eq!(load("fetched").directory().number(), 3);
    // Another authority's is none.
    succeeds(&lab.run(&["ca", "init", "--out", "other"]));
    succeeds(&lab.run(&["ca", "directory", "--ca", "other", "lab.toml"]));
    lab.east.books().directory = Some(load("other/directory"));
    assert_eq!(lab.run(&fetch).status.code(), Some(2));
    let strange = ["firewall", "--block", "198.51.100.7", "--lifetime", "2m", "--router", "auto"];
    let told = text(&lab.run(&[&strange[..], &["--directory", "other/directory"]].concat()).stderr);
    assert!(told.contains("the directory does not stand"), "{told}");
}

#[test]
fn revoked_keys_pile_up_in_a_list_that_is_brought_to_routers() {
    let lab = Experiment::new();
    let list = |name: &str| RevocationList::load(Path::new(&lab.path(name))).expect("a list");
    let router = lab.east.addr.to_string();
    let told = succeeds(&lab.run(&["ca", "revoke", "--ca", "lab", "lab/owners/me.key", "--router", &router]));
    assert!(told.ends_with("router `east` goes by list 1\n"), "{told}");
    let first = list("lab/revoked");
    let key = "07".repeat(32);
    succeeds(&lab.run(&["ca", "revoke", "--ca", "lab", &key]));
    let second = list("lab/revoked");
    assert_eq!((first.number(), first.keys().len(), second.number(), second.keys().len()), (1, 1, 2, 2));
    assert!(second.revokes(&first.keys()[0]) && second.revokes(&key.parse().expect("a key")));
    let mixed = lab.run(&["ca", "init", "--out", "other"]);
    succeeds(&mixed);
    let other = lab.run(&["ca", "revoke", "--ca", "other", "--list", "lab/revoked", &key]);
    assert_eq!(other.status.code(), Some(2), "{}", text(&other.stderr));
    assert_eq!(list("lab/revoked"), second);
}
