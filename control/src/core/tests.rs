//! The whole daemon in this process, over ports in memory and without the kernel's side.

mod attacks;
mod operator;

use super::*;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;

use vinet_fastpath::port::memory::{MemoryConfig, MemoryHandle, MemoryPool, MemoryPort};
use vinet_session::identity::{AuthorityKey, Subject, Validity, parse_principal};
use vinet_session::message::{Class, NewLemma, Reply, Request, Tariff, Terms, Upload, Withdraw, fresh_nonce};
use vinet_session::payment::BankKey;
use vinet_session::policy_file;
use vinet_trusted::check::check;
use vinet_trusted::policy::{Policy, PrincipalKind};
use vinet_trusted::program::Program;
use vinet_trusted::proof::rule;
use vinet_trusted::term::Op;

use crate::admin::{self, Command};
use crate::admission::tests::{firewall, policy, prefix, prove};
use crate::daemon;
use crate::server::tests::BlockingClient;

const PATIENCE: Duration = Duration::from_secs(20);

struct Testbed {
    /// Taken out by a restart.
    place: Option<Place>,
    authority: Authority,
    address: SocketAddr,
    metrics: SocketAddr,
    admin: PathBuf,
    stopper: Stopper,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn wall_s() -> u64 {
    Now::read(Instant::now()).wall_s
}

/// What outlasts a router: the folder with its files, and the keys of everybody.
struct Place {
    dir: tempfile::TempDir,
    key: AuthorityKey,
    bank: BankKey,
    router: Arc<Identity>,
    /// How uploads are verified.
    verify: &'static str,
    /// The line of `[control] reach`.
    reach: &'static str,
    tariff: Tariff,
    /// What the policy has a program cost at least, in cycles.
    cost_program: u32,
}

impl Place {
    fn new() -> Place {
        let key = AuthorityKey::generate("bench").unwrap();
        let subject = Subject::Router { name: "edge1".into(), addrs: Vec::new() };
        let router = key.issue_identity(subject, Validity::starting(wall_s() - 10, 3600)).unwrap();
        let bank = BankKey::generate("bank").unwrap();
        let dir = tempfile::tempdir().unwrap();
        bank.bank().save(&dir.path().join("bank.pub")).unwrap();
        // A reload looks whether it is there.
        std::fs::write(dir.path().join("unused"), "").unwrap();
        Place {
            dir,
            key,
            bank,
            router: Arc::new(router),
            verify: "proof",
            reach: "off",
            tariff: Tariff::FREE,
            cost_program: 100,
        }
    }

    /// A router in this place, with what one before left in its store.
    fn open(self) -> Testbed {
        let core = *crate::config::cores_online().last().unwrap();
        let (verify, reach, tariff) = (self.verify, self.reach, self.tariff);
        let text = format!(
            r#"
            [router]
            name = "edge1"
            identity = "unused"
            authority = "unused"
            policies = ["policy.toml"]
            verify = "{verify}"
            run_dir = "{}"
            revocations = "revoked.list"
            [workers]
            cores = [{core}]
            [control]
            listen = ["127.0.0.1:0"]
            reach = "{reach}"
            [store]
            path = "router.redb"
            [payment]
            bank = "bank.pub"
            install = {}
            check = {}
            [[port]]
            name = "edge"
            device = "net_null0"
            addresses = ["192.0.2.1/24"]
            controlled = ["192.0.2.0/24"]
            [[port]]
            name = "uplink"
            device = "net_null1"
            addresses = ["198.51.100.2/24"]
            [capacity]
            cycles_per_second = 1_000_000_000
            memory_bytes = 1_000_000_000
            [control.limits]
            programs = 1000
            [metrics]
            listen = "127.0.0.1:0"
            "#,
            self.dir.path().display(),
            tariff.install,
            tariff.check,
        );
        std::fs::write(self.dir.path().join("router.toml"), &text).unwrap();
        let mut policy = policy();
        policy.costs.program = self.cost_program;
        std::fs::write(self.dir.path().join("policy.toml"), policy_file::print(&policy)).unwrap();
        let config = Config::parse(&self.dir.path().join("router.toml"), &text).unwrap();
        let admin = config.control.admin_socket.clone();
        let authority = self.key.authority();
        let policies = Policies::sign(vec![policy], vinet_prover::library().root(), tariff, &self.router);
        let pool = MemoryPool::new(4096, 2048);
        let (edge, _far_edge) = MemoryPort::wire(&MemoryConfig::new("edge", 1), &MemoryConfig::new("far", 2), 1);
        let (uplink, _far_uplink) = MemoryPort::wire(&MemoryConfig::new("uplink", 3), &MemoryConfig::new("far", 4), 1);
        let (mut core, workers): (Core<MemoryHandle>, _) = daemon::assemble(
            config,
            Arc::clone(&self.router),
            Arc::new(authority.clone()),
            policies,
            Vec::new(),
            vec![edge, uplink],
            vec![pool],
            |_| Ok(()),
            |_, _, _, _| Ok(None),
        )
        .unwrap();
        let address = core.listen().unwrap()[0];
        let metrics = core.metrics().unwrap();
        let stopper = core.stopper();
        let thread = std::thread::spawn(move || {
            core.run().unwrap();
            daemon::end::<MemoryPort, _>(core, workers);
        });
        Testbed { place: Some(self), authority, address, metrics, admin, stopper, thread: Some(thread) }
    }
}

impl Testbed {
    fn start(verify: &'static str) -> Testbed {
        Place { verify, ..Place::new() }.open()
    }

    fn place(&self) -> &Place {
        self.place.as_ref().unwrap()
    }

    /// Ends it in order.
    fn close(mut self) -> Place {
        let place = self.place.take().unwrap();
        drop(self);
        place
    }

    /// Ends it in order, and begins another in the same place.
    fn restart(self) -> Testbed {
        self.close().open()
    }

    fn user(&self, principal: &str) -> Arc<Identity> {
        let subject = Subject::Owner(parse_principal(principal).unwrap());
        Arc::new(self.place().key.issue_identity(subject, Validity::starting(wall_s() - 10, 3600)).unwrap())
    }

    fn client(&self, user: &Arc<Identity>) -> BlockingClient {
        BlockingClient::connect(self.address, user, &self.authority).unwrap()
    }

    fn operator(&self, command: Command) -> serde_json::Value {
        admin::ask(&self.admin, &command).unwrap()
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        self.stopper.stop();
        let outcome = self.thread.take().unwrap().join();
        assert!(outcome.is_ok() || std::thread::panicking(), "the daemon panicked");
    }
}

/// What an honest client sends.
fn upload(client: &mut BlockingClient, user: &Identity, program: &Program, proven: bool) -> Upload {
    let reply = client.ask(&Request::GetPolicy { kind: PrincipalKind::EndUser }).unwrap();
    let Reply::Policy(signed) = reply else { panic!("{reply:?}") };
    let policy: Arc<Policy> = Arc::new(signed.verify(client.router(), &vinet_prover::library().root()).unwrap());
    let principal = user.principal().unwrap();
    let proof = prove(program, &principal).unwrap();
    let checked = check(&program.encode(), &proof, principal, &policy, &vinet_prover::library()).unwrap();
    let terms = Terms {
        router: client.router().id(),
        policy_id: policy.id(),
        lemma_root: vinet_prover::library().root(),
        program: program.encode(),
        proof: proven.then_some(proof),
        principal,
        class: Class::of(program),
        complexity: checked.complexity(),
        cost: checked.cost(),
        lifetime_s: program.lifetime_s(),
        packet_rate: policy.limits.packet_rate_default,
        payment: 0,
        quote: None,
        monitor: false,
        nonce: fresh_nonce().unwrap(),
        expiry_s: wall_s() + 60,
    };
    Upload::sign(terms, user)
}

fn install(client: &mut BlockingClient, user: &Identity, lifetime_s: u32) -> u64 {
    let program = firewall(&[prefix("192.0.2.66/32")], lifetime_s);
    let upload = upload(client, user, &program, true);
    let reply = client.ask(&Request::Upload(Box::new(upload))).unwrap();
    let Reply::Receipt(receipt) = reply else { panic!("{reply:?}") };
    receipt.verify(client.router()).unwrap().installed().unwrap().instance
}

fn withdraw(client: &mut BlockingClient, user: &Identity, instance: u64) -> Reply {
    let nonce = fresh_nonce().unwrap();
    let request = Withdraw::sign(client.router().id(), instance, nonce, wall_s() + 60, user);
    client.ask(&Request::Withdraw(request)).unwrap()
}

fn list_len(client: &mut BlockingClient) -> usize {
    match client.ask(&Request::List).unwrap() {
        Reply::List(list) => list.len(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_goes_from_its_owner_into_the_table_and_out_again() {
    let testbed = Testbed::start("proof");
    let user = testbed.user("198.51.100.7");
    let mut client = testbed.client(&user);
    let instance = install(&mut client, &user, 60);
    let programs = testbed.operator(Command::Programs);
    assert_eq!(programs["programs"][0]["owner"], "198.51.100.7");
    assert_eq!(programs["programs"][0]["instance"], instance);
    let reply = client.ask(&Request::Show { instance }).unwrap();
    assert!(matches!(reply, Reply::Status(status) if status.seconds_left > 50));

    let stranger = testbed.user("198.51.100.8");
    let mut other = testbed.client(&stranger);
    assert!(matches!(withdraw(&mut other, &stranger, instance), Reply::Rejected(why) if why.code() == "not-found"));
    assert_eq!((list_len(&mut other), list_len(&mut client)), (0, 1));
    assert!(matches!(withdraw(&mut client, &user, instance), Reply::Withdrawn(_)));
    assert_eq!(list_len(&mut client), 0);
    let sessions = testbed.operator(Command::Sessions);
    assert_eq!(sessions["capacity"]["cycles_per_second"], 0);
    assert_eq!(sessions["admission"]["withdrawn"], 1);
}

#[test]
fn a_lifetime_runs_out_in_the_running_daemon() {
    let testbed = Testbed::start("proof");
    let user = testbed.user("198.51.100.7");
    let mut client = testbed.client(&user);
    install(&mut client, &user, 1);
    assert_eq!(list_len(&mut client), 1);
    let start = Instant::now();
    while list_len(&mut client) > 0 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(start.elapsed() > Duration::from_millis(500));
    assert_eq!(testbed.operator(Command::Sessions)["admission"]["expired"], 1);
}

#[test]
fn a_router_that_analyses_itself_needs_no_proof() {
    let testbed = Testbed::start("static");
    let user = testbed.user("198.51.100.7");
    let mut client = testbed.client(&user);
    let program = firewall(&[prefix("192.0.2.66/32")], 60);
    let upload = upload(&mut client, &user, &program, false);
    assert!(matches!(client.ask(&Request::Upload(Box::new(upload))).unwrap(), Reply::Receipt(_)));
}

#[test]
fn a_lemma_is_checked_once_and_uploads_may_name_its_root() {
    let testbed = Testbed::start("proof");
    let user = testbed.user("198.51.100.7");
    let mut client = testbed.client(&user);
    let number = vinet_prover::library().len();
    // No symbols, no premises, and truth as the conclusion.
    let lemma = vec![0, 0, Op::True as u8];
    let wrong = NewLemma { lemma: lemma.clone(), proof: vec![rule::DONE] };
    let right = NewLemma { lemma, proof: vec![rule::TRUTH, rule::DONE] };
    let reply = client.ask(&Request::AddLemma(wrong.clone())).unwrap();
    assert!(matches!(&reply, Reply::Rejected(why) if why.code() == "lemma-rejected"), "{reply:?}");
    let reply = client.ask(&Request::AddLemma(right)).unwrap();
    let Reply::Lemma(place) = reply else { panic!("{reply:?}") };
    assert_eq!(place.index as usize, number);
    // It is there already, so its proof is of no interest.
    assert!(matches!(client.ask(&Request::AddLemma(wrong)).unwrap(), Reply::Lemma(again) if again == place));
    assert_eq!(testbed.operator(Command::Sessions)["lemmas"], 1);

    let program = firewall(&[prefix("192.0.2.66/32")], 60);
    let reply = client.ask(&Request::GetPolicy { kind: PrincipalKind::EndUser }).unwrap();
    let Reply::Policy(signed) = reply else { panic!("{reply:?}") };
    let named = |client: &BlockingClient, user: &Identity, lemma_root| {
        let terms = Terms {
            router: client.router().id(),
            policy_id: signed.verify(client.router(), &vinet_prover::library().root()).unwrap().id(),
            lemma_root,
            program: program.encode(),
            proof: Some(Vec::new()),
            principal: user.principal().unwrap(),
            class: Class::of(&program),
            complexity: 0,
            cost: 0,
            lifetime_s: program.lifetime_s(),
            packet_rate: 1,
            payment: 0,
            quote: None,
            monitor: false,
            nonce: fresh_nonce().unwrap(),
            expiry_s: wall_s() + 60,
        };
        Request::Upload(Box::new(Upload::sign(terms, user)))
    };
    // The empty proof is looked at where the root is one of the owner's, and only there.
    let code = |reply: Reply| match reply {
        Reply::Rejected(why) => why.code().to_owned(),
        other => panic!("{other:?}"),
    };
    for root in [vinet_prover::library().root(), place.root] {
        let request = named(&client, &user, root);
        assert_eq!(code(client.ask(&request).unwrap()), "not-proven");
    }
    let stranger = testbed.user("198.51.100.8");
    let mut other = testbed.client(&stranger);
    let request = named(&other, &stranger, place.root);
    assert_eq!(code(other.ask(&request).unwrap()), "stale-manifest");
}

#[test]
fn it_keeps_serving_through_rubbish_silence_floods_and_rejections() {
    let testbed = Testbed::start("proof");
    let user = testbed.user("198.51.100.7");
    let mut client = testbed.client(&user);
    let _silent: Vec<TcpStream> = (0..10).map(|_| TcpStream::connect(testbed.address).unwrap()).collect();
    for round in 0..100u8 {
        let mut stream = TcpStream::connect(testbed.address).unwrap();
        // The router may have refused it by now.
        let _ = stream.write_all(&[round; 3000]);
    }
    // A program whose proof proves something else, then the same with its own.
    let program = firewall(&[prefix("192.0.2.66/32")], 60);
    let good = upload(&mut client, &user, &program, true);
    let mut terms = good.terms().clone();
    terms.proof = Some(vec![0x55; 2000]);
    terms.nonce = fresh_nonce().unwrap();
    let reply = client.ask(&Request::Upload(Box::new(Upload::sign(terms, &user)))).unwrap();
    assert!(matches!(reply, Reply::Rejected(_)), "{reply:?}");
    let first = client.ask(&Request::Upload(Box::new(good.clone()))).unwrap();
    let again = client.ask(&Request::Upload(Box::new(good))).unwrap();
    assert!(matches!(first, Reply::Receipt(_)), "{first:?}");
    assert_eq!(format!("{first:?}"), format!("{again:?}"));
    assert_eq!(list_len(&mut client), 1);
    let counters = testbed.operator(Command::Counters);
    assert_eq!(counters["balance"]["difference"], 0);
    assert_eq!(counters["admission"]["repeated"], 1);
    assert_eq!(counters["programs"], 1);
}

#[test]
fn many_uploads_at_once_are_all_answered() {
    let testbed = Testbed::start("proof");
    let user = testbed.user("198.51.100.7");
    let mut client = testbed.client(&user);
    let uploads: Vec<Upload> = (1..=100)
        .map(|host| upload(&mut client, &user, &firewall(&[prefix(&format!("192.0.2.{host}/32"))], 60), true))
        .collect();
    let mut ids: Vec<u32> =
        uploads.into_iter().map(|upload| client.send(&Request::Upload(Box::new(upload))).unwrap()).collect();
    while !ids.is_empty() {
        let (id, reply) = client.reply().unwrap();
        assert!(matches!(reply, Reply::Receipt(_)), "{reply:?}");
        ids.retain(|open| *open != id);
    }
    assert_eq!(list_len(&mut client), 100);
}
