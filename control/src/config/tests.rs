use super::*;

const SHIPPED: &str = include_str!("../../../configs/router.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/etc/vinet/router.toml"), text)
}

/// The shipped file with `from` replaced; fails where `from` is not there.
fn edited(from: &str, to: &str) -> String {
    assert!(SHIPPED.contains(from), "the shipped file has no `{from}`");
    SHIPPED.replacen(from, to, 1)
}

fn refusal(from: &str, to: &str) -> String {
    parse(&edited(from, to)).expect_err("must be refused").to_string()
}

#[test]
fn the_shipped_file_parses() {
    let config = parse(SHIPPED).unwrap();
    assert_eq!(config.router.name, "edge1");
    assert_eq!(config.router.identity, Path::new("/etc/vinet/router.key"));
    assert_eq!(config.control.admin_socket, Path::new("/run/vinet/edge1.sock"));
    assert_eq!(config.ports.len(), 2);
    assert_eq!(config.ports[1].controlled, None);
    assert_eq!(config.controlled().len(), 2);
    assert_eq!(config.routes[0].port, 1);
    assert_eq!(config.workers.burst, 64);
    assert_eq!(config.control.limits.handshake_timeout_s, 5);
}

#[test]
fn every_commented_key_of_the_shipped_file_is_a_real_one_and_shows_its_default() {
    let defaults = parse(SHIPPED).unwrap();
    let uncommented: String = SHIPPED
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest.starts_with("[[")
                    || rest
                        .split_once(" = ")
                        .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_')) =>
            {
                rest
            }
            _ => line,
        })
        .fold(String::new(), |text, line| text + line + "\n");
    assert_ne!(uncommented, SHIPPED);
    let config = parse(&uncommented).unwrap();
    assert_eq!(config.control.limits, defaults.control.limits);
    assert_eq!(config.schedule, defaults.schedule);
    assert_eq!(config.mempool, defaults.mempool);
    assert_eq!(config.sources, defaults.sources);
    assert_eq!((config.control.reach, config.control.reach_time_s), (defaults.control.reach, 3_600));
    assert_eq!(config.ports[0].mtu, defaults.ports[0].mtu);
    let queue = |config: &Config| {
        let port = &config.ports[0];
        (port.queue, port.queue_depth, port.codel_target_us, port.codel_interval_ms)
    };
    assert_eq!(queue(&config), queue(&defaults));
    assert_eq!(config.control.admin_socket, defaults.control.admin_socket);
    assert_eq!(config.workers.burst, defaults.workers.burst);
    assert_eq!(config.workers.window_packets, defaults.workers.window_packets);
    assert_eq!((config.metrics.listen.map(|address| address.port()), defaults.metrics.listen), (Some(9477), None));
    assert_eq!((config.expand.len(), defaults.expand.len()), (1, 0));
    assert_eq!(config.expand[0].identity, Path::new("/etc/vinet/192.0.2.1_24.key"));
    assert_eq!((config.expand[0].port, config.expand[0].program[0]), (7401, 0x0e));
    // Twice the same is a slip.
    let at = uncommented.find("[[expand]]").unwrap();
    let end = uncommented.find("[capacity]").unwrap();
    let table = &uncommented[at..end];
    let twice = parse(&uncommented.replacen(table, &format!("{table}{table}"), 1)).expect_err("twice").to_string();
    assert!(twice.contains("[[expand]] program: this program on this router is named twice"), "{twice}");
    let unkeyed =
        parse(&uncommented.replacen("router = \"ed49", "router = \"ed4", 1)).expect_err("63 digits").to_string();
    assert!(unkeyed.contains("[[expand]] router: the public key of a router: 64 hexadecimal digits"), "{unkeyed}");
}

#[test]
fn several_workers_need_buffers_for_what_they_hand_over() {
    // Every port gives each worker rings and a queue of 1024, and each worker has windows, two bursts and a cache.
    let two = edited("cores = [1]", "cores = [1, 2]");
    let held = 2 * (2 * 3 * 1024 + 1024 + 2 * 64 + 256) + 2 * 1024;
    let with = |buffers: u32| parse(&two.replace("# buffers = 16383", &format!("buffers = {buffers}")));
    assert!(with(held).is_ok());
    let error = with(held - 1).unwrap_err().to_string();
    assert!(error.contains(&format!("less than the {held} ")), "{error}");
}

#[test]
fn an_unknown_key_names_file_line_and_the_nearest_key() {
    let line = SHIPPED.lines().position(|l| l.starts_with("cores = ")).unwrap() + 1;
    let text = refusal("cores = [1]", "corse = [1]");
    assert_eq!(text, format!("/etc/vinet/router.toml:{line}: unknown key `corse`; did you mean `cores`?"));
    let text = refusal("cores = [1]", "cores = [1]\nfrobnicate = 3");
    assert!(text.contains("unknown key `frobnicate`; known here: cores, idle, burst"), "{text}");
    let text = refusal("[mempool]", "[mempol]");
    assert!(text.contains("unknown key `mempol`; did you mean `mempool`?"), "{text}");
    let text = refusal("tap = \"vi-edge\"", "tab = \"vi-edge\"");
    assert!(text.contains("did you mean `tap`?"), "{text}");
}

#[test]
fn values_that_cannot_be_meant_are_refused_with_their_line() {
    for (from, to, expected) in [
        ("name = \"edge1\"", "name = \"../evil\"", "[router] name: `../evil` must be"),
        ("policies = [\"policy/end-user.toml\", \"policy/edge-router.toml\"]", "policies = []", "at least one policy"),
        ("verify = \"proof\"", "verify = \"trust\"", "unknown variant `trust`"),
        ("cores = [1]", "cores = [1, 1]", "core 1 is named twice"),
        ("cores = [1]", "cores = []", "at least one worker"),
        ("cores = [1]", "cores = [1, 0]", "core 0 already polls for a worker"),
        ("# queue = \"fifo\"", "queue = \"red\"", "unknown variant `red`, expected `fifo` or `codel`"),
        ("# queue_depth = 1024", "queue_depth = 63", "63 is not in 64 to 16384"),
        ("# codel_target_us = 5000", "codel_target_us = 100_000", "not less than codel_interval_ms, 100 ms"),
        ("# codel_interval_ms = 100", "codel_interval_ms = 0", "0 is not in 1 to 100000"),
        ("# burst = 64", "burst = 65", "65 is not in 1 to 64"),
        ("# admin_mode = \"0600\"", "admin_mode = \"0666\"", "lets everybody on this machine command the router"),
        ("# admin_mode = \"0600\"", "admin_mode = \"rw\"", "`rw` is no mode"),
        ("# admin_mode = \"0600\"", "admin_mode = \"0060\"", "must let the owner read and write"),
        ("# admin_group = \"\"", "admin_group = \"vinet\"\nadmin_mode = \"0600\"", "does not let the group in"),
        ("\"127.0.0.1:7400\"", "\"127.0.0.1\"", "invalid socket address"),
        ("\"127.0.0.1:7400\"", "\"192.0.2.1:7400\"", "192.0.2.1:7400 is named twice"),
        ("# half_open = 64 ", "half_open = 999 ", "999 is more than the 256 sessions"),
        ("name = \"uplink\"", "name = \"edge\"", "`edge` is already used in line"),
        ("tap = \"vi-uplink\"", "tap = \"vi-edge\"", "`vi-edge` is already used in line"),
        ("tap = \"vi-uplink\"", "tap = \"much-too-long-for-linux\"", "cannot name a network interface"),
        ("net_af_packet1,iface=eth2", "net_af_packet0,iface=eth2", "`net_af_packet0` is already used"),
        ("net_af_packet1,iface=eth2", "eth2", "is neither a PCI address"),
        ("\"198.51.100.2/24\"", "\"198.51.100.2\"", "the prefix length of the link is missing"),
        ("\"198.51.100.2/24\"", "\"198.51.100.2/33\"", "must be a number from 0 to 32"),
        ("\"198.51.100.2/24\"", "\"198.51.100.0/24\"", "is the address of the network itself"),
        ("\"198.51.100.2/24\"", "\"198.51.100.255/24\"", "is the broadcast address"),
        ("\"198.51.100.2/24\"", "\"192.0.2.9/24\"", "is in the same network as 192.0.2.0/24 of port `edge`"),
        ("\"192.0.2.0/24\", \"2001", "\"192.0.2.1/24\", \"2001", "has host bits set; the prefix is 192.0.2.0/24"),
        ("controlled = [\"192.0.2.0/24\", \"2001:db8:1::/64\"]", "controlled = []", "leave the key out for an uplink"),
        ("# mtu = 1500", "mtu = 1000", "1000 is below 1280"),
        ("# rx_ring = 1024", "rx_ring = 8", "8 is not in 32 to 16384"),
        ("# vlan = []", "vlan = [4095]", "4095 is not in 1 to 4094"),
        ("# vlan = []", "vlan = [1, 2, 3]", "at most two tags"),
        ("via = \"198.51.100.1\"", "via = \"203.0.113.1\"", "in the network of no port"),
        ("via = \"198.51.100.1\"", "via = \"198.51.100.1\"\nport = \"nope\"", "there is no port `nope`"),
        ("via = \"198.51.100.1\"", "via = \"198.51.100.1\"\nport = \"edge\"", "is not in a network of port `edge`"),
        ("via = \"198.51.100.1\"", "via = \"198.51.100.2\"", "is this router itself"),
        ("via = \"198.51.100.1\"", "via = \"2001:db8:2::1\"", "of another family"),
        ("via = \"198.51.100.1\"\n", "\n", "needs `via`, the next hop, or `port`"),
        ("to = \"::/0\"", "to = \"0.0.0.0/0\"", "another family"),
        ("cycles_per_second = 1_000_000_000", "cycles_per_second = 0", "0 is not in 1 to"),
        ("cycles_per_second = 1_000_000_000", "", "missing field `cycles_per_second`"),
        ("# buffers = 16383", "buffers = 600", "600 is less than the"),
        ("args = []", "args = [\"--file-prefix=x\"]", "`--file-prefix` is set by `[router] name`"),
    ] {
        let text = refusal(from, to);
        assert!(text.contains(expected), "for {to}: {text}");
        let line = text.strip_prefix("/etc/vinet/router.toml:").unwrap_or_else(|| panic!("{text}"));
        assert!(line.split(':').next().unwrap().parse::<usize>().is_ok(), "{text}");
    }
}

#[test]
fn classes_are_between_the_bounds_that_the_file_gives() {
    use crate::scheduler::Function;
    let band = |config: &Config, cost| config.schedule.bands.class(Function::Header, cost).band;
    assert_eq!(band(&parse(SHIPPED).unwrap(), 12_345), 4);
    let config = parse(&edited("[schedule]", "[schedule]\ncost_bounds = [1000, 1000000]\nadmit = \"priced\"")).unwrap();
    assert_eq!((band(&config, 12_345), config.schedule.admit.to_string().as_str()), (1, "priced"));
    let falling = refusal("[schedule]", "[schedule]\ncost_bounds = [10, 5]");
    assert!(falling.contains("[schedule] cost_bounds: the bounds must rise"), "{falling}");
    let unknown = refusal("[schedule]", "[schedule]\nper_clas = 5");
    assert!(unknown.contains("did you mean `per_class`?"), "{unknown}");
}

#[test]
fn overlapping_controlled_prefixes_are_refused() {
    let text = refusal(
        "addresses = [\"198.51.100.2/24\", \"2001:db8:2::2/64\"]",
        "addresses = [\"198.51.100.2/24\", \"2001:db8:2::2/64\"]\ncontrolled = [\"192.0.0.0/16\"]",
    );
    assert!(text.contains("192.0.0.0/16 overlaps 192.0.2.0/24 of port `edge`"), "{text}");
}

#[test]
fn a_core_that_does_not_exist_is_named_with_those_that_do() {
    let config = parse(&edited("cores = [1]", "cores = [4000]")).unwrap();
    let text = config.check_machine().unwrap_err().to_string();
    assert!(text.contains("core 4000 does not exist or is off line; this machine has cores 0"), "{text}");
}

#[test]
fn a_missing_identity_says_how_to_make_one() {
    let mut config = parse(SHIPPED).unwrap();
    config.workers.cores = vec![0];
    config.control.core = None;
    config.router.identity = "/nonexistent/router.key".into();
    let text = config.check_machine().unwrap_err().to_string();
    assert!(text.contains("[router] identity: /nonexistent/router.key"), "{text}");
    assert!(text.contains("vinet ca"), "{text}");
}

#[test]
fn the_kernels_list_of_cores_is_parsed() {
    assert_eq!(core_list("0-2,5"), [0, 1, 2, 5]);
    assert_eq!(core_list("0"), [0]);
    assert_eq!(core_list(""), [0usize; 0]);
}

#[test]
fn the_rules_about_sources_are_as_they_are_written() {
    let config = parse(SHIPPED).unwrap();
    assert_eq!((config.control.reach, config.control.reach_time_s), (Reach::Required, 3_600));
    let rules = config.sources;
    assert_eq!((rules.shut_off.owners, rules.shut_off.back_below), (100, 50));
    assert_eq!((rules.quotas.header.per_address, rules.quotas.content.any_source), (65_536, 1_000_000));
    let config = parse(&edited(
        "# shut_off_owners = 100\n",
        "shut_off_owners = 7\nshut_off_time_s = 5\nshut_off_respite_s = 0\n",
    ))
    .unwrap();
    let limits = config.sources.shut_off;
    assert_eq!((limits.owners, limits.back_below, limits.time_s, limits.respite_s), (7, 4, 5, 0));
    let text = refusal("# shut_off_back_below = 50", "shut_off_back_below = 101");
    assert!(text.contains("101 is above the 100 owners that shut a source off"), "{text}");
    let text = refusal("# owners_per_prefix = 65536", "owners_per_prefix = 16777217");
    assert!(text.contains("[sources.header] owners_per_prefix: 16777217 is not in 0 to 16777216"), "{text}");
    let config = parse(&edited("# reach = \"required\"", "reach = \"off\"")).unwrap();
    assert_eq!((config.control.reach, config.router.revocations), (Reach::Off, None));
    let config = parse(&edited("# revocations =", "revocations =")).unwrap();
    assert_eq!(config.router.revocations.as_deref(), Some(Path::new("/etc/vinet/revoked.list")));
}
