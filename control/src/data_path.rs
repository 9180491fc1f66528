//! The router's own datagrams to owners and senders: by the data path, whatever other ways the machine has.
//!
//! What is sent here is to show that an address can be reached through this router, or to tell its user something; so it
//! must not leave by a management network, although the kernel may know a way there. A [`DataPath`] looks up which port
//! the route leads to, as the workers would, and sends from a socket that is bound to that port's twin: the kernel makes the
//! packet, a worker sends it. Nothing waits: what the kernel does not take at once is an error. What comes to these sockets
//! is not read; the kernel drops it when their buffers are full.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};
use vinet_trusted::addr::Addr;

use crate::config::Config;
use crate::plane::Plane;

/// The receive buffers, which nobody reads, in bytes.
const RECEIVE_BUFFER_LEN: usize = 2048;

/// Why a datagram was not sent.
#[derive(Debug)]
pub enum DataPathError {
    /// No port leads there.
    NoRoute(IpAddr),
    /// The kernel did not take it.
    Refused {
        /// Where it was to go.
        to: SocketAddr,
        /// By which twin.
        twin: String,
        /// The system's reason.
        reason: io::Error,
    },
}

impl fmt::Display for DataPathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataPathError::NoRoute(to) => write!(f, "no route by a port of this router leads to {to}"),
            DataPathError::Refused { to, twin, reason } => {
                write!(f, "a datagram to {to} by {twin} was not taken: {reason}")
            }
        }
    }
}
impl std::error::Error for DataPathError {}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DataPathCounters {
    /// Datagrams that the kernel took.
    pub sent: u64,
    /// Datagrams without a route, or that the kernel did not take.
    pub unsent: u64,
}

/// A socket for each port and family.
#[derive(Debug)]
pub struct DataPath {
    twins: Vec<Sockets>,
    counters: DataPathCounters,
}

#[derive(Debug)]
struct Sockets {
    twin: String,
    v4: UdpSocket,
    /// Absent where the kernel has no IPv6.
    v6: Option<UdpSocket>,
}

impl DataPath {
    /// Opens the sockets. The twins are there by then.
    ///
    /// # Errors
    /// A socket cannot be made, or not be bound to its twin.
    pub fn open(config: &Config) -> io::Result<DataPath> {
        let twins = config.ports.iter().map(|port| {
            let twin = port.tap.clone();
            let v4 = bound(Ipv4Addr::UNSPECIFIED.into(), &twin)?;
            let v6 = bound(Ipv6Addr::UNSPECIFIED.into(), &twin).ok();
            Ok(Sockets { twin, v4, v6 })
        });
        Ok(DataPath { twins: twins.collect::<io::Result<_>>()?, counters: DataPathCounters::default() })
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// [`DataPathError`].
    pub fn send(&mut self, plane: &Plane, to: SocketAddr, payload: &[u8]) -> Result<(), DataPathError> {
        let sent = self.try_send(plane, to, payload);
        match sent {
            Ok(()) => self.counters.sent += 1,
            Err(_) => self.counters.unsent += 1,
        }
        sent
    }

    fn try_send(&self, plane: &Plane, to: SocketAddr, payload: &[u8]) -> Result<(), DataPathError> {
        let port = plane.port_towards(Addr::from(to.ip())).ok_or(DataPathError::NoRoute(to.ip()))?;
        let sockets = self.twins.get(usize::from(port)).ok_or(DataPathError::NoRoute(to.ip()))?;
        let socket = if to.is_ipv4() { Some(&sockets.v4) } else { sockets.v6.as_ref() };
        let socket = socket.ok_or(DataPathError::NoRoute(to.ip()))?;
        match socket.send_to(payload, to) {
            Ok(_) => Ok(()),
            Err(reason) => Err(DataPathError::Refused { to, twin: sockets.twin.clone(), reason }),
        }
    }

    /// What was sent so far.
    #[must_use]
    pub fn counters(&self) -> DataPathCounters {
        self.counters
    }
}

/// A socket of which everything goes by `interface`.
fn bound(any: IpAddr, interface: &str) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, sockopt::BindToDevice, &interface.into()).map_err(io::Error::from)?;
    setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_LEN).map_err(io::Error::from)?;
    Ok(socket)
}
