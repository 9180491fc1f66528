//! The paper's multicast between two edge routers: what a sender broadcasts to the hosts behind one of them crosses the
//! core once, with the list of those it is for, and reaches each of them as it was sent.
//!
//! ```text
//!   sender ── near router ══ wire ══ far router ── hosts
//! ```
//! The far router's owner uploads the program to the near one, and the far router expands what that sends. The wire sees
//! every frame of the core, and loses some where a story wants it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use vinet_pktops::datagram::Datagram;
use vinet_pktops::generate::{Kind, read_contents, read_dests};
use vinet_pktops::parse::{Headers, Transport, headers, transport};
use vinet_session::identity::{Identity, PublicKey};
use vinet_session::tag_key;
use vinet_tests::host::Host;
use vinet_tests::keys;
use vinet_tests::process::{Daemon, binary, eventually, run};
use vinet_tests::router::{Counters, START_LIMIT, vinetd};
use vinet_tests::story;
use vinet_tests::traffic::{ping, reaches};
use vinet_tests::wire::{Fate, Wire};
use vinet_trusted::program::Program;

const LEARN_LIMIT: Duration = Duration::from_secs(5);
/// The port of generated packets.
const GENERATE_PORT: u16 = 7401;
/// The port that the hosts listen at.
const PORT: u16 = 9000;
/// Hosts of the broadcast.
const HOSTS: u16 = 16;
/// Contents of the broadcast: with the hosts, ten windows of 32 packets.
const CONTENTS: u16 = 20;

/// The addresses of one family.
struct Family {
    sender: &'static str,
    /// The far edge router, as an owner.
    owner: &'static str,
    hosts: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family { sender: "203.0.113.9", owner: "192.0.2.1/24", hosts: "192.0.2." },
    Family { sender: "2001:db8:a::9", owner: "2001:db8:c::1/64", hosts: "2001:db8:c::" },
];

impl Family {
    fn sender(&self) -> IpAddr {
        self.sender.parse().expect("an address")
    }
    /// Host number `n`, from 10 on.
    fn host(&self, n: u16) -> IpAddr {
        format!("{}{}", self.hosts, 10 + n).parse().expect("an address")
    }
}

/// One router of the story.
struct Edge {
    _daemon: Daemon,
    socket: PathBuf,
}

impl Edge {
    /// Starts `vinetd` with the tables of `more`.
    fn start(host: &Host, dir: &Path, name: &str, more: &str) -> Edge {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let text = format!(
            "[router]\nname = \"{name}\"\nidentity = \"{name}.key\"\nauthority = \"authority.pub\"\n\
             policies = [\"edge-router.toml\"]\nrun_dir = \"{}\"\n\n\
             [eal]\nmemory = \"no-huge\"\nmemory_mb = 160\n\n[workers]\ncores = [{}]\nidle = \"backoff\"\n\n\
             [capacity]\ncycles_per_second = 1_000_000_000_000\nmemory_bytes = 268_435_456\n\n{more}",
            dir.display(),
            cores - 1,
        );
        let file = dir.join(format!("{name}.toml"));
        std::fs::write(&file, text).expect("a file of the story");
        let mut daemon = Daemon::start(vinetd(host, &file));
        daemon.wait_for(" ready ", START_LIMIT);
        Edge { _daemon: daemon, socket: dir.join(format!("{name}.sock")) }
    }
    fn counters(&self) -> Counters {
        Counters::of(&self.socket)
    }
}

/// A port's table.
fn port(name: &str, number: u16, addresses: &str, controlled: &str) -> String {
    let mut text = format!(
        "[[port]]\nname = \"{name}\"\ndevice = \"net_af_packet{number},iface=leg{number}\"\naddresses = [{addresses}]\n\
         rx_ring = 256\ntx_ring = 256\nqueue_depth = 256\n"
    );
    if !controlled.is_empty() {
        writeln!(text, "controlled = [{controlled}]").expect("a string takes text");
    }
    text + "\n"
}

/// Two edge routers, the wire between them, and who is behind them.
struct Story {
    // Dropped in this order: routers before the namespaces that they run in.
    near: Edge,
    far: Edge,
    wire: Wire,
    sender: Host,
    lan: Host,
    far_host: Host,
    _near_host: Host,
    dir: TempDir,
}

impl Story {
    /// Everything up, and the programs of both families known to the far router; uploaded is none.
    fn begin(fate: impl FnMut(&[u8]) -> Fate + Send + 'static) -> Story {
        let dir = tempfile::Builder::new().prefix("vinet-multicast-").tempdir().expect("a temporary folder");
        let (sender, near_host, far_host, lan) =
            (Host::new("sender"), Host::new("near"), Host::new("far"), Host::new("lan"));
        sender.join("eth0", &near_host, "leg0");
        let wire = Wire::join((&near_host, "leg1"), (&far_host, "leg0"), fate);
        lan.join("eth0", &far_host, "leg1");
        for (host, addresses, routers) in [
            (&sender, ["203.0.113.9/24", "2001:db8:a::9/64"], ["203.0.113.1", "2001:db8:a::1"]),
            (&lan, ["192.0.2.9/24", "2001:db8:c::9/64"], ["192.0.2.1", "2001:db8:c::1"]),
        ] {
            addresses.iter().for_each(|address| host.address("eth0", address));
            host.ok(&format!("ip -4 route add default via {}", routers[0]));
            host.ok(&format!("ip -6 route add default via {}", routers[1]));
        }
        for family in &FAMILIES {
            for n in 0..HOSTS {
                let len = if family.host(n).is_ipv4() { 32 } else { 128 };
                lan.address("eth0", &format!("{}/{len}", family.host(n)));
            }
        }
        let path = dir.path();
        keys::vinet(&format!("ca init --out {}", path.display())).expect();
        for (name, address) in [("near", "198.51.100.1"), ("far", "198.51.100.2")] {
            let out = path.join(format!("{name}.key"));
            let ca = path.display();
            keys::vinet(&format!("ca router --ca {ca} --name {name} --address {address} --out {}", out.display()))
                .expect();
        }
        // The windows of a test wait longer than those of a router: it sends a broadcast packet by packet.
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let shipped = std::fs::read_to_string(configs.join("policy/edge-router.toml")).expect("the shipped policy");
        let policy = shipped
            .replace("window_us_max = 200\n", "window_us_max = 100_000\n")
            .replace("\"../costs.toml\"", &format!("\"{}\"", configs.join("costs.toml").display()));
        assert!(policy.contains("window_us_max = 100_000") && policy.contains("configs/costs.toml"));
        std::fs::write(path.join("edge-router.toml"), policy).expect("a file of the story");

        let near_id = load(&path.join("near.key")).public();
        let near = Edge::start(
            &near_host,
            path,
            "near",
            &format!(
                "[control]\nlisten = [\"198.51.100.1:7400\"]\nreach = \"off\"\n\n{}{}[[route]]\nto = \"192.0.2.0/24\"\nvia = \
                 \"198.51.100.2\"\n\n[[route]]\nto = \"2001:db8:c::/64\"\nvia = \"2001:db8:b::2\"\n",
                port("edge", 0, "\"203.0.113.1/24\", \"2001:db8:a::1/64\"", "\"203.0.113.0/24\", \"2001:db8:a::/64\""),
                port("core", 1, "\"198.51.100.1/24\", \"2001:db8:b::1/64\"", ""),
            ),
        );
        let mut tables = format!(
            "[control]\nlisten = [\"198.51.100.2:7400\"]\nreach = \"off\"\n\n{}{}[[route]]\nto = \"203.0.113.0/24\"\nvia = \
             \"198.51.100.1\"\n\n[[route]]\nto = \"2001:db8:a::/64\"\nvia = \"2001:db8:b::1\"\n\n",
            port("core2", 0, "\"198.51.100.2/24\", \"2001:db8:b::2/64\"", ""),
            port("lan", 1, "\"192.0.2.1/24\", \"2001:db8:c::1/64\"", "\"192.0.2.0/24\", \"2001:db8:c::/64\""),
        );
        for family in &FAMILIES {
            writeln!(
                tables,
                "[[expand]]\nidentity = \"{}\"\nrouter = \"{near_id}\"\nprogram = \"{}\"\n",
                keys::identity(path, family.owner).display(),
                PublicKey(program(path, family).id()),
            )
            .expect("a string takes text");
        }
        let far = Edge::start(&far_host, path, "far", &tables);
        let story = Story { near, far, wire, sender, lan, far_host, _near_host: near_host, dir };
        // Everybody's neighbours are known before the broadcast.
        for family in &FAMILIES {
            for n in 0..HOSTS {
                assert!(reaches(&story.sender, family.host(n), LEARN_LIMIT), "{} is not reached", family.host(n));
            }
        }
        story
    }

    /// Uploads the paper's program from the far router to the near one.
    fn upload(&self, family: &Family) {
        let mut command = self.far_host.command(binary("vinet"));
        command.arg("upload").arg(source()).args(["--set", &format!("BroadcastIP={}", family.sender)]);
        command.args(["--rate", "100000", "--router", "198.51.100.1:7400", "--identity"]);
        command.arg(keys::identity(self.dir.path(), family.owner));
        command.arg("--authority").arg(self.dir.path().join("authority.pub"));
        run(command, Duration::from_secs(30)).expect();
    }

    /// Sends every content to every host, and returns what each host got from the sender: content by content how often.
    fn broadcast(&self, family: &Family, wanted: u64) -> BTreeMap<(u16, Vec<u8>), u32> {
        let sockets: Vec<UdpSocket> = (0..HOSTS).map(|n| self.lan.udp(SocketAddr::new(family.host(n), PORT))).collect();
        sockets.iter().for_each(|s| s.set_nonblocking(true).expect("a socket can be made non-blocking"));
        let from = SocketAddr::new(family.sender(), 4000);
        let socket = self.sender.udp(from);
        for content in 0..CONTENTS {
            for n in 0..HOSTS {
                socket.send_to(&payload(content), SocketAddr::new(family.host(n), PORT)).expect("a datagram is sent");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut got = BTreeMap::new();
        let mut buffer = [0; 2048];
        let mut count = 0;
        eventually(Duration::from_secs(3), || {
            for (n, socket) in (0..).zip(&sockets) {
                while let Ok((len, source)) = socket.recv_from(&mut buffer) {
                    assert_eq!(source, from, "the source is the sender's");
                    *got.entry((n, buffer[..len].to_vec())).or_default() += 1;
                    count += 1;
                }
            }
            count >= wanted && wanted > 0
        });
        got
    }
}

fn load(file: &Path) -> Identity {
    Identity::load(file).expect("an identity")
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/programs/multicast.vnp")
}

/// The paper's program of the family's owner.
fn program(dir: &Path, family: &Family) -> Program {
    let out = dir.join("multicast.vnb");
    let (source, out_text) = (source(), out.display().to_string());
    let settings = format!("--set BroadcastIP={} --as {}", family.sender, family.owner);
    keys::vinet(&format!("compile {} {settings} -o {out_text}", source.display())).expect();
    Program::decode(&std::fs::read(out).expect("the compiled program")).expect("a program")
}

/// A content of the broadcast.
fn payload(content: u16) -> Vec<u8> {
    (0..1100 + usize::from(content)).map(|i| (i * 7 + usize::from(content) * 13) as u8).collect()
}

/// The UDP datagram in a frame of the core.
fn udp(frame: &[u8]) -> Option<(Headers, u16, &[u8])> {
    let headers = headers(frame).ok()?;
    let Transport::Udp(udp) = transport(frame, &headers) else { return None };
    Some((headers, udp.dst_port, &frame[udp.payload]))
}

/// Whether a frame of the core is of the broadcast, as it was sent or generated.
fn is_broadcast(frame: &[u8]) -> bool {
    udp(frame).is_some_and(|(_, port, _)| port == PORT || port == GENERATE_PORT)
}

#[test]
fn a_broadcast_crosses_the_core_once_and_reaches_every_host() {
    let Some(_story) = story::begin("a_broadcast_crosses_the_core_once_and_reaches_every_host") else { return };
    let story = Story::begin(|frame| if is_broadcast(frame) { Fate::Keep } else { Fate::Pass });
    let all: BTreeMap<(u16, Vec<u8>), u32> =
        (0..HOSTS).flat_map(|n| (0..CONTENTS).map(move |content| ((n, payload(content)), 1))).collect();
    let mut seen = 0;
    for family in &FAMILIES {
        // Without the program each packet crosses by itself.
        assert_eq!(story.broadcast(family, all.len() as u64), all, "before, from {}", family.sender);
        let before = story.wire.kept(Fate::Keep);
        assert_eq!(before.len() - seen, all.len());
        let bytes_before: usize = before[seen..].iter().map(Vec::len).sum();

        story.upload(family);
        assert_eq!(story.broadcast(family, all.len() as u64), all, "with the program, from {}", family.sender);
        let crossing = story.wire.kept(Fate::Keep).split_off(before.len());
        seen = before.len() + crossing.len();
        let bytes: usize = crossing.iter().map(Vec::len).sum();
        assert!(bytes * 8 < bytes_before, "{bytes} bytes instead of {bytes_before}");
        let path = story.dir.path();
        let owner = load(&keys::identity(path, family.owner));
        let key = tag_key::at_owner(&owner, &load(&path.join("near.key")).public(), &program(path, family).id());
        let key = key.expect("a router's key");
        // What crossed: each content once, with its destinations.
        let mut items: BTreeMap<(u64, u16), (Kind, Vec<u8>)> = BTreeMap::new();
        for frame in &crossing {
            let (headers, port, payload) = udp(frame).expect("it is UDP");
            assert_eq!(port, GENERATE_PORT, "no packet crosses as it was sent");
            let datagram = Datagram::read(headers.src, headers.dst, payload, &key).expect("an authentic tag");
            let item = items.entry((datagram.batch, datagram.item)).or_insert((datagram.kind, Vec::new()));
            item.1.extend(datagram.data);
        }
        let mut contents: Vec<Vec<u8>> = Vec::new();
        let mut dests = 0;
        for (kind, bytes) in items.values() {
            match kind {
                Kind::Contents => {
                    contents.extend(read_contents(bytes).expect("contents").iter().map(|c| c.payload.to_vec()));
                }
                Kind::Dests => dests += read_dests(bytes).expect("destinations").iter().map(Vec::len).sum::<usize>(),
            }
        }
        contents.sort();
        let mut expected: Vec<Vec<u8>> = (0..CONTENTS).map(payload).collect();
        expected.sort();
        assert_eq!(contents, expected);
        assert_eq!(dests, all.len());
    }
    let (near, far) = (story.near.counters(), story.far.counters());
    let sent = all.len() as u64;
    assert_eq!((near.unaccounted(), far.unaccounted()), (0, 0));
    assert_eq!(far.get(&["expanded"]), 2 * sent);
    assert_eq!(far.get(&["batches_incomplete"]), 0);
    assert!(near.drops("program") >= 2 * sent, "{:#}", near.value());
    assert_eq!(far.get(&["consumed"]), near.get(&["generated"]), "{:#}", far.value());
    // What else the broadcaster sends is taken too, and given back: to a host, and to the far router itself.
    for to in [FAMILIES[0].host(3), "192.0.2.1".parse().expect("an address"), FAMILIES[1].host(3)] {
        assert_eq!(ping(&story.sender, to, 2, ""), 2, "{to}");
    }
    assert_eq!(story.far.counters().unaccounted(), 0);
}

#[test]
fn what_the_core_loses_costs_its_own_batches_and_is_accounted_for() {
    let Some(_story) = story::begin("what_the_core_loses_costs_its_own_batches_and_is_accounted_for") else { return };
    let mut count = 0;
    let story = Story::begin(move |frame| {
        if udp(frame).is_none_or(|(_, port, _)| port != GENERATE_PORT) {
            return Fate::Pass;
        }
        count += 1;
        if count % 9 == 4 { Fate::Lose } else { Fate::Keep }
    });
    let sent = u64::from(HOSTS * CONTENTS);
    for (i, family) in FAMILIES.iter().enumerate() {
        let (near_before, far_before) = (story.near.counters(), story.far.counters());
        let (kept_before, lost_before) = (story.wire.kept(Fate::Keep).len(), story.wire.kept(Fate::Lose).len());
        story.upload(family);
        let got = story.broadcast(family, 0);
        let (near, far) = (story.near.counters(), story.far.counters());
        let more = |now: &Counters, before: &Counters, name: &str| now.get(&[name]) - before.get(&[name]);
        let delivered: u64 = got.values().map(|&count| u64::from(count)).sum();
        assert!(got.iter().all(|((_, bytes), &count)| count == 1 && (0..CONTENTS).any(|c| payload(c) == *bytes)));
        // Every datagram that was generated crossed or was lost, and every one that crossed was taken in.
        let kept = (story.wire.kept(Fate::Keep).len() - kept_before) as u64;
        let lost = (story.wire.kept(Fate::Lose).len() - lost_before) as u64;
        assert!(lost > 0);
        assert_eq!(more(&near, &near_before, "generated"), kept + lost);
        assert_eq!(more(&far, &far_before, "consumed"), kept);
        // Every packet that was made arrived; those that were not are of batches that are told.
        assert_eq!(more(&far, &far_before, "expanded"), delivered);
        let incomplete = more(&far, &far_before, "batches_incomplete");
        assert!(incomplete > 0 && incomplete <= lost, "family {i}: {incomplete} batches, {lost} datagrams");
        assert!(delivered < sent && sent - delivered <= 32 * incomplete, "{delivered} of {sent}, {incomplete} batches");
        assert_eq!((near.unaccounted(), far.unaccounted()), (0, 0));
    }
}
