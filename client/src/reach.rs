//! Showing a router that packets to one's address arrive: taking in its datagram, and signing what is in it.
//!
//! An end user listens at its own address, at a port that the system chooses. An edge router is sent the datagram to an
//! address of its prefix that it cannot foretell, and that is rarely its own, so it looks at what comes in on every
//! interface ([`Ear::open`]): that takes the right to capture packets. Without it, it hears only what its kernel takes for
//! its own, and the error says how to change that. Datagrams that are none, or of another router or owner, are passed over;
//! what an impostor sends cannot be signed for anyone but the owner and the router of this session.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use vinet_session::identity::RouterId;
use vinet_session::reach::ReachDatagram;
use vinet_trusted::addr::{Addr, Principal};

/// How long one datagram is waited for before another is asked for.
pub const DATAGRAM_TIME_MAX: Duration = Duration::from_millis(1_500);
/// How many are asked for before it is given up.
pub const DATAGRAMS_MAX: usize = 4;
/// Room for what a capture has not looked at yet, in bytes: on a busy router more passes than is wanted.
const CAPTURE_BUFFER_LEN: usize = 4 << 20;
/// The most bytes of a packet that are looked at: headers and the datagram.
const PACKET_LEN: usize = 2048;
const UDP: u8 = 17;

/// Why an owner cannot show that it is reached.
#[derive(Debug)]
pub enum ReachError {
    /// There is no listening at the owner's address.
    Listen {
        /// The address.
        addr: Addr,
        /// What the operating system said.
        error: io::Error,
    },
    /// The socket failed.
    Broken(io::Error),
    /// No datagram came.
    NothingCame {
        /// Whose address or prefix it was sent to.
        principal: Principal,
        /// Whether everything that came in was looked at.
        captured: bool,
    },
}

impl fmt::Display for ReachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReachError::Listen { addr, error } => write!(
                f,
                "cannot listen at {addr} for the router's datagram ({error}); run this where packets to {addr} arrive"
            ),
            ReachError::Broken(error) => write!(f, "listening for the router's datagram failed: {error}"),
            ReachError::NothingCame { principal, captured } => {
                write!(f, "the router sent {DATAGRAMS_MAX} datagrams to {}, and none came here; ", principal.owned())?;
                match (principal, captured) {
                    (Principal::EndUser(_), _) => f.write_str(
                        "see that no firewall on the way or here drops them, and that this machine has the address",
                    ),
                    (Principal::EdgeRouter(_), true) => {
                        f.write_str("run this on the machine that the prefix is routed to")
                    }
                    (Principal::EdgeRouter(_), false) => write!(
                        f,
                        "this user may not capture packets, so only those for the machine itself were heard: run as root, give \
                         vinet the right (setcap cap_net_raw+ep), or have the machine take the prefix for its own meanwhile \
                         (ip route add local {} dev lo)",
                        principal.owned()
                    ),
                }
            }
        }
    }
}
impl std::error::Error for ReachError {}

/// Where the router's datagrams are heard.
#[derive(Debug)]
pub struct Ear {
    /// Bound to the port, so that no other program has it and the kernel refuses nothing that comes to it.
    bound: UdpSocket,
    /// Everything that comes in, as packets from the IP header on.
    capture: Option<UdpSocket>,
    port: u16,
    principal: Principal,
}

impl Ear {
    /// Listens for `principal`.
    ///
    /// # Errors
    /// [`ReachError::Listen`] or [`ReachError::Broken`].
    pub fn open(principal: Principal) -> Result<Ear, ReachError> {
        let any = || -> IpAddr {
            match principal.addr() {
                Addr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                Addr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            }
        };
        let (at, is_router): (IpAddr, bool) = match principal {
            Principal::EndUser(addr) => (addr.into(), false),
            Principal::EdgeRouter(_) => (any(), true),
        };
        let bound = UdpSocket::bind((at, 0)).map_err(|error| ReachError::Listen { addr: principal.addr(), error })?;
        let port = bound.local_addr().map_err(ReachError::Broken)?.port();
        let capture = if is_router { capture().map_err(ReachError::Broken)? } else { None };
        Ok(Ear { bound, capture, port, principal })
    }

    /// The port that the datagrams have to be sent to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until `end` for a datagram of `router`, and gives its nonce; none when there was none.
    ///
    /// # Errors
    /// [`ReachError::Broken`].
    pub fn hear(&self, router: &RouterId, end: Instant) -> Result<Option<[u8; 32]>, ReachError> {
        let mut packet = [0; PACKET_LEN];
        let socket = self.capture.as_ref().unwrap_or(&self.bound);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            socket.set_read_timeout(Some(left)).map_err(ReachError::Broken)?;
            let len = match socket.recv(&mut packet) {
                Ok(len) => len,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(None),
                    // An interface that goes down, or somebody's ICMP error, is no reason to stop listening.
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused | io::ErrorKind::NetworkDown => {
                        continue;
                    }
                    _ => return Err(ReachError::Broken(error)),
                },
            };
            let payload = match &self.capture {
                None => Some(&packet[..len]),
                Some(_) => payload(&packet[..len], &self.principal, self.port),
            };
            if let Some(datagram) = payload.and_then(ReachDatagram::decode)
                && datagram.router == *router
                && datagram.principal == self.principal
            {
                return Ok(Some(datagram.nonce));
            }
        }
    }

    /// What is told when no datagram came.
    #[must_use]
    pub fn nothing_came(&self) -> ReachError {
        ReachError::NothingCame { principal: self.principal, captured: self.capture.is_some() }
    }
}

/// A socket on which every packet that comes in on any interface is read; none where this user may not have one.
fn capture() -> io::Result<Option<UdpSocket>> {
    let made = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
    let socket = match made {
        Ok(socket) => socket,
        Err(nix::errno::Errno::EPERM | nix::errno::Errno::EACCES | nix::errno::Errno::EAFNOSUPPORT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // As much as the system allows; less is not worth an error.
    let _ = setsockopt(&socket, sockopt::RcvBuf, &CAPTURE_BUFFER_LEN);
    // It is read like any datagram socket: one packet with each call.
    Ok(Some(UdpSocket::from(socket)))
}

/// What is in a UDP datagram to `port` of an address of `principal`, in a packet from the IP header on.
fn payload<'p>(packet: &'p [u8], principal: &Principal, port: u16) -> Option<&'p [u8]> {
    let (dst, udp) = match packet.first()? >> 4 {
        4 => {
            let head_len = usize::from(packet[0] & 15) * 4;
            let total_len = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
            let is_fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff != 0;
            if *packet.get(9)? != UDP || is_fragment || head_len < 20 {
                return None;
            }
            let dst = u32::from_be_bytes(packet.get(16..20)?.try_into().ok()?);
            (Addr::V4(dst), packet.get(head_len..total_len)?)
        }
        6 => {
            let len = usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
            if *packet.get(6)? != UDP {
                return None;
            }
            let dst = u128::from_be_bytes(packet.get(24..40)?.try_into().ok()?);
            (Addr::V6(dst), packet.get(40..40 + len)?)
        }
        _ => return None,
    };
    let to = u16::from_be_bytes([*udp.get(2)?, *udp.get(3)?]);
    let len = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    (to == port && principal.owned().contains(dst)).then(|| udp.get(8..len)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use vinet_session::identity::{PublicKey, parse_principal};

    const ROUTER: RouterId = PublicKey([3; 32]);

    fn datagram(principal: &str, nonce: u8) -> Vec<u8> {
        let principal = parse_principal(principal).unwrap();
        ReachDatagram { router: ROUTER, nonce: [nonce; 32], principal }.encode().to_vec()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(300)
    }

    #[test]
    fn an_end_user_hears_what_its_router_sends_to_its_address() {
        for addr in ["127.0.0.1", "::1"] {
            let ear = Ear::open(parse_principal(addr).unwrap()).unwrap();
            let sender = UdpSocket::bind((addr.parse::<IpAddr>().unwrap(), 0)).unwrap();
            let to = SocketAddr::new(addr.parse().unwrap(), ear.port());
            assert_eq!(ear.hear(&ROUTER, Instant::now()).unwrap(), None);
            // Junk, another router's, and one for another owner are passed over.
            let mut other = datagram(addr, 7);
            other[20] ^= 1;
            for bytes in [vec![], vec![0; 92], other, datagram("192.0.2.1", 7), datagram(addr, 9)] {
                sender.send_to(&bytes, to).unwrap();
            }
            assert_eq!(ear.hear(&ROUTER, soon()).unwrap(), Some([9; 32]));
            assert_eq!(ear.hear(&ROUTER, Instant::now() + Duration::from_millis(5)).unwrap(), None);
        }
        let error = Ear::open(parse_principal("192.0.2.77").unwrap()).unwrap_err().to_string();
        assert!(error.contains("run this where packets to 192.0.2.77 arrive"), "{error}");
    }

    fn ipv4(dst: [u8; 4], port: u16, content: &[u8]) -> Vec<u8> {
        let udp_len = (8 + content.len()) as u16;
        let mut packet = vec![0x45, 0];
        packet.extend((20 + udp_len).to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, UDP, 0, 0, 192, 0, 2, 1]);
        packet.extend(dst);
        packet.extend([1, 1]);
        packet.extend(port.to_be_bytes());
        packet.extend(udp_len.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(content);
        packet
    }

    #[test]
    fn an_edge_router_finds_the_datagram_among_what_comes_in() {
        let principal = parse_principal("203.0.113.1/24").unwrap();
        let good = ipv4([203, 0, 113, 99], 77, b"content");
        assert_eq!(payload(&good, &principal, 77), Some(&b"content"[..]));
        // Padding of the frame behind it does not count.
        assert_eq!(payload(&[&good[..], &[0; 9]].concat(), &principal, 77), Some(&b"content"[..]));
        assert_eq!(payload(&good, &principal, 78), None);
        assert_eq!(payload(&ipv4([203, 0, 114, 99], 77, b"content"), &principal, 77), None);
        for (at, value) in [(9, 6), (6, 0x20), (7, 1), (0, 0x44), (0, 0x65)] {
            let mut other = good.clone();
            other[at] = value;
            assert_eq!(payload(&other, &principal, 77), None, "byte {at}");
        }
        let mut ipv6 = vec![0x60, 0, 0, 0];
        ipv6.extend([0, 15, UDP, 64]);
        ipv6.extend([0; 16]);
        ipv6.extend("2001:db8::99".parse::<Ipv6Addr>().unwrap().octets());
        ipv6.extend([1, 1, 0, 77, 0, 15, 0, 0]);
        ipv6.extend(b"content");
        assert_eq!(payload(&ipv6, &parse_principal("2001:db8::1/32").unwrap(), 77), Some(&b"content"[..]));
        // Whatever is cut short or says wrong lengths is none, and never a panic.
        for packet in [&good, &ipv6] {
            for len in 0..packet.len() {
                assert_eq!(payload(&packet[..len], &principal, 77), None);
            }
            for at in 0..packet.len() {
                for value in [0, 1, 5, 7, 0x7f, 0x80, 0xff] {
                    let mut other = packet.clone();
                    other[at] = value;
                    let _ = payload(&other, &principal, 77);
                }
            }
        }
    }
}
