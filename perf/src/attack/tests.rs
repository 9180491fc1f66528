//! Every attack against the whole control plane in this process, over ports in memory.

use super::*;
use crate::control::client::{Session, instance};
use crate::control::daemon::Setup;
use std::path::Path;
use std::time::{Duration, Instant};
use vinet_control::admin::{self, Command as Ask};
use vinet_control::config::{Config, cores_online};
use vinet_control::core::{Core, Stopper};
use vinet_control::daemon;
use vinet_control::policies::Policies;
use vinet_fastpath::port::memory::{MemoryConfig, MemoryHandle, MemoryPool, MemoryPort};
use vinet_session::message::Reply;
use vinet_session::payment::Tariff;

const PATIENCE: Duration = Duration::from_secs(20);
/// How long each attack goes on.
const ATTACK: Duration = Duration::from_millis(150);

/// A control core that runs.
struct Local {
    address: SocketAddr,
    socket: std::path::PathBuf,
    stopper: Stopper,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Local {
    fn start(bed: &Bed, configs: &Path, orders: &Orders) -> Local {
        let core = *cores_online().last().expect("a core");
        let setup = Setup {
            vinetd: "unused".into(),
            configs: configs.to_owned(),
            cores: [core, core],
            idle: "backoff",
            edge: "net_null0".to_owned(),
            controlled: r#""10.0.0.0/8", "172.16.0.0/12""#,
            more: String::new(),
        };
        let text = bed.config(&setup).replace("127.0.0.1:7400", "127.0.0.1:0");
        // A core that is the worker's as well is for tests only.
        let text = text.replace(&format!("[control]\ncore = {core}\n"), "[control]\n");
        let config = Config::parse(&bed.dir.path().join("router.toml"), &text).expect("the configuration");
        let socket = config.control.admin_socket.clone();
        std::fs::create_dir_all(bed.dir.path().join("run")).expect("a folder");
        let policies = vec![(*orders.policies.end_user).clone(), (*orders.policies.edge_router).clone()];
        let policies = Policies::sign(policies, vinet_prover::library().root(), Tariff::FREE, &bed.router);
        let router = vinet_session::identity::Identity::load(&bed.dir.path().join("router.key")).expect("its key");
        let pool = MemoryPool::new(4096, 2048);
        let wire = |name, number| {
            MemoryPort::wire(&MemoryConfig::new(name, number), &MemoryConfig::new("far", number + 1), 1).0
        };
        let (mut core, workers): (Core<MemoryHandle>, _) = daemon::assemble(
            config,
            Arc::new(router),
            Arc::clone(&bed.authority),
            policies,
            Vec::new(),
            vec![wire("edge", 1), wire("uplink", 3)],
            vec![pool],
            |_| Ok(()),
            |_, _, _, _| Ok(None),
        )
        .expect("a core");
        let address = core.listen().expect("it listens")[0];
        let stopper = core.stopper();
        let thread = std::thread::spawn(move || {
            core.run().expect("it runs");
            daemon::end::<MemoryPort, _>(core, workers);
        });
        Local { address, socket, stopper, thread: Some(thread) }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.stopper.stop();
        let outcome = self.thread.take().expect("it is there").join();
        assert!(outcome.is_ok() || std::thread::panicking(), "the control core panicked");
    }
}

#[test]
fn every_attack_leaves_honest_clients_their_installs_and_the_router_whole() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let bed = Bed::new().expect("a testbed");
    let orders = Orders::new(&bed, &configs, Tariff::FREE).expect("policies");
    let local = Local::start(&bed, &configs, &orders);
    let honest = bed.user(0x6440_1001).expect("an identity");
    let mut session = Session::open(local.address, &honest, &bed.authority).expect("a session");
    let mut uploads = orders.firewalls(&honest, 4 * Attack::ALL.len()).expect("uploads").into_iter();
    let target = Target::new(local.address, &bed, &orders, false, 1).expect("a target");
    let mut installed = 0;
    for attack in Attack::ALL {
        let stop = AtomicBool::new(false);
        let tries = std::thread::scope(|scope| {
            let attacker = scope.spawn(|| target.attack(attack, &stop));
            let begin = Instant::now();
            let upload = uploads.next().expect("there are enough");
            let regular = session.ask(&upload).map(|(reply, _)| instance(&reply, &session));
            // One that comes new may be turned away while the flood lasts, and gets in when it tries again.
            let upload = uploads.next().expect("there are enough");
            let newcomer = loop {
                let came = Session::open(local.address, &honest, &bed.authority)
                    .and_then(|mut session| session.ask(&upload).map(|(reply, _)| instance(&reply, &session)));
                match came {
                    Ok(Ok(instance)) => break Ok(instance),
                    other if begin.elapsed() > PATIENCE => break Err(format!("{other:?}")),
                    _ => {}
                }
            };
            std::thread::sleep(ATTACK.saturating_sub(begin.elapsed()));
            stop.store(true, Ordering::Release);
            let tries = attacker.join().expect("the attacker goes on");
            assert!(matches!(regular, Ok(Ok(_))), "{attack}: {regular:?}");
            assert!(newcomer.is_ok(), "{attack}: {newcomer:?}");
            tries
        });
        assert!(tries > 0, "{attack}");
        installed += 2;
    }
    let Reply::List(list) = session.ask(&Request::List).expect("an answer").0 else { panic!("no list") };
    assert_eq!(list.len(), installed);
    let sessions = admin::ask(&local.socket, &Ask::Sessions).expect("its operator is answered");
    // The attacker's one program is that of the session that was recorded.
    assert_eq!(sessions["admission"]["installed"], installed + 1, "{sessions}");
}
