//! Three hosts and a router: what every story starts from.
//!
//! ```text
//!   lawful   203.0.113.2  2001:db8:a::2 ──┐
//!                                         ├── router ── victim  192.0.2.2  2001:db8:c::2
//!   attacker 198.51.100.2 2001:db8:b::2 ──┘
//! ```
//! The router's address in each network ends in 1. Its legs are `leg0` (lawful), `leg1` (attacker) and `leg2` (victim).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use tempfile::TempDir;

use crate::host::Host;
use crate::router::address;

/// The host that does nothing wrong.
pub const LAWFUL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// Its IPv6 address.
pub const LAWFUL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 2);
/// The host whose traffic nobody wants.
pub const ATTACKER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// Its IPv6 address.
pub const ATTACKER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 2);
/// The host that both send to.
pub const VICTIM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Its IPv6 address.
pub const VICTIM6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 2);

/// One network of the laboratory.
pub struct Network {
    /// The router's interface in it.
    pub leg: &'static str,
    /// Its IPv4 prefix.
    pub prefix: &'static str,
    /// Its IPv6 prefix.
    pub prefix6: &'static str,
    /// The router's IPv4 address with its prefix length.
    pub router: &'static str,
    /// The router's IPv6 address with its prefix length.
    pub router6: &'static str,
    /// The host's IPv4 address.
    pub host: Ipv4Addr,
    /// The host's IPv6 address.
    pub host6: Ipv6Addr,
}

/// The networks of the lawful sender, the attacker and the victim, in the order of the router's legs.
pub const NETWORKS: [Network; 3] = [
    Network {
        leg: "leg0",
        prefix: "203.0.113.0/24",
        prefix6: "2001:db8:a::/64",
        router: "203.0.113.1/24",
        router6: "2001:db8:a::1/64",
        host: LAWFUL,
        host6: LAWFUL6,
    },
    Network {
        leg: "leg1",
        prefix: "198.51.100.0/24",
        prefix6: "2001:db8:b::/64",
        router: "198.51.100.1/24",
        router6: "2001:db8:b::1/64",
        host: ATTACKER,
        host6: ATTACKER6,
    },
    Network {
        leg: "leg2",
        prefix: "192.0.2.0/24",
        prefix6: "2001:db8:c::/64",
        router: "192.0.2.1/24",
        router6: "2001:db8:c::1/64",
        host: VICTIM,
        host6: VICTIM6,
    },
];

/// The hosts, wired to a router on which nothing runs yet.
pub struct Lab {
    /// Sends what the victim wants.
    pub lawful: Host,
    /// Sends what the victim does not want.
    pub attacker: Host,
    /// Receives, and may program the router.
    pub victim: Host,
    /// Where the router runs; it has the legs, and no addresses.
    pub router: Host,
    dir: TempDir,
}

impl Lab {
    /// Makes hosts and wires, with addresses and default routes at the hosts.
    pub fn new() -> Lab {
        let lab = Lab {
            lawful: Host::new("lawful"),
            attacker: Host::new("attacker"),
            victim: Host::new("victim"),
            router: Host::new("router"),
            dir: tempfile::Builder::new().prefix("vinet-lab-").tempdir().expect("a temporary folder"),
        };
        for (host, network) in [&lab.lawful, &lab.attacker, &lab.victim].into_iter().zip(&NETWORKS) {
            host.join("eth0", &lab.router, network.leg);
            host.address("eth0", &format!("{}/24", network.host));
            host.address("eth0", &format!("{}/64", network.host6));
            for (family, router) in [("-4", network.router), ("-6", network.router6)] {
                host.ok(&format!("ip {family} route add default via {}", address(router)));
            }
        }
        lab
    }

    /// A folder for keys, configurations and captures, removed with the laboratory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The hardware address to which the attacker sends what is to be routed: that of the twin of its port.
    pub fn attacker_next_hop(&self) -> [u8; 6] {
        self.router.mac("vi-attacker")
    }

    /// Makes the router namespace an ordinary Linux router: what the laboratory itself is tested with.
    pub fn forward_by_kernel(&self) {
        self.router.sysctl("net/ipv4/ip_forward", "1");
        self.router.sysctl("net/ipv6/conf/all/forwarding", "1");
        for network in &NETWORKS {
            self.router.address(network.leg, network.router);
            self.router.address(network.leg, network.router6);
        }
    }
}

impl Default for Lab {
    fn default() -> Lab {
        Lab::new()
    }
}

/// The two addresses of a host, for stories that hold for both families.
pub fn both(v4: Ipv4Addr, v6: Ipv6Addr) -> [IpAddr; 2] {
    [v4.into(), v6.into()]
}
