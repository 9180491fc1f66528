//! Requests to the kernel over rtnetlink, each answered before the call returns.
//!
//! An [`Rtnl`] is one socket for requests; what the kernel announces by itself is read by the mirror on a socket of its
//! own. The kernel acts on a request inside the `send` call, so an answer is there when it returns and the wait is
//! microseconds; a bound of [`ANSWER_WAIT_MAX`] guards against a kernel that does not answer at all.
//! A socket belongs to the network namespace of the thread that opened it.

use std::fmt;
use std::io;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// The longest wait for the kernel's answer to one request.
pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);

/// Room for one datagram from the kernel. Dumps come in datagrams of at most 32 KiB (net/netlink/af_netlink.c).
pub(super) const DATAGRAM_LEN_MAX: usize = 64 * 1024;

/// Why a request to the kernel failed.
#[derive(Debug)]
pub enum NetlinkError {
    /// The socket cannot be opened or used.
    Socket {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel refused a request.
    Refused {
        /// What was asked for, in words.
        request: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel's answer cannot be read: an rtnetlink that this program does not know.
    Garbled {
        /// What was asked for, in words.
        request: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl NetlinkError {
    /// The kernel's error number, where it refused a request.
    #[must_use]
    pub fn refusal(&self) -> Option<i32> {
        match self {
            NetlinkError::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetlinkError::Socket { doing, source } => write!(f, "netlink socket, {doing}: {source}"),
            NetlinkError::Refused { request, source } => {
                write!(f, "the kernel refused to {request}: {source}")?;
                if source.raw_os_error() == Some(nix::libc::EPERM) {
                    write!(f, " (run as root or with CAP_NET_ADMIN)")?;
                }
                Ok(())
            }
            NetlinkError::Garbled { request, reason } => {
                write!(f, "the kernel's answer to the request to {request} cannot be read: {reason}")
            }
        }
    }
}
impl std::error::Error for NetlinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NetlinkError::Socket { source, .. } | NetlinkError::Refused { source, .. } => Some(source),
            NetlinkError::Garbled { .. } => None,
        }
    }
}

/// A socket for requests to the kernel about links, addresses, routes and neighbours.
pub struct Rtnl {
    socket: Socket,
    sequence: u32,
    datagram: Vec<u8>,
}

impl Rtnl {
    /// Opens the socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn open() -> Result<Rtnl, NetlinkError> {
        let socket = open_socket(NETLINK_ROUTE)?;
        let wait = TimeVal::milliseconds(ANSWER_WAIT_MAX.as_millis() as i64);
        setsockopt(&socket, sockopt::ReceiveTimeout, &wait)
            .map_err(|source| socket_error("set its timeout")(source.into()))?;
        Ok(Rtnl { socket, sequence: 0, datagram: Vec::with_capacity(DATAGRAM_LEN_MAX) })
    }

    /// Asks for one change and waits for the acknowledgement. `flags` are `NLM_F_*` beyond request and ack; `request`
    /// completes "the kernel refused to …".
    pub(super) fn change(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        request: &dyn Fn() -> String,
    ) -> Result<(), NetlinkError> {
        self.exchange(message, NLM_F_ACK | flags, request).map(drop)
    }

    /// Asks for every object of the kind of `message`.
    pub(super) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
        request: &dyn Fn() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.exchange(message, NLM_F_DUMP, request)
    }

    /// Asks for one object.
    pub(super) fn get(
        &mut self,
        message: RouteNetlinkMessage,
        request: &dyn Fn() -> String,
    ) -> Result<Option<RouteNetlinkMessage>, NetlinkError> {
        Ok(self.exchange(message, NLM_F_ACK, request)?.pop())
    }

    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        request: &dyn Fn() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        send(&self.socket, message, NLM_F_REQUEST | flags, sequence)?;
        let garbled = |reason: String| NetlinkError::Garbled { request: request(), reason };
        let mut answers = Vec::new();
        loop {
            self.datagram.clear();
            self.socket.recv(&mut self.datagram, 0).map_err(socket_error("wait for an answer"))?;
            for part in Parts(&self.datagram) {
                let part = part.map_err(garbled)?;
                let answer =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(part).map_err(|e| garbled(e.to_string()))?;
                // The rest of the answer to an earlier request that was given up is not for this one.
                if answer.header.sequence_number != sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(object) => answers.push(object),
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                    NetlinkPayload::Error(error) => {
                        return Err(NetlinkError::Refused { request: request(), source: error.to_io() });
                    }
                    _ => {}
                }
            }
        }
    }
}

/// A netlink socket of `protocol`, connected to the kernel.
pub(super) fn open_socket(protocol: isize) -> Result<Socket, NetlinkError> {
    let mut socket = Socket::new(protocol).map_err(socket_error("open it"))?;
    socket.bind_auto().map_err(socket_error("bind it"))?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(socket_error("connect it"))?;
    Ok(socket)
}

/// Sends one message.
pub(super) fn send(
    socket: &Socket,
    message: RouteNetlinkMessage,
    flags: u16,
    sequence: u32,
) -> Result<(), NetlinkError> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0).map_err(socket_error("send a request")).map(drop)
}

pub(super) fn socket_error(doing: &'static str) -> impl Fn(io::Error) -> NetlinkError {
    move |source| NetlinkError::Socket { doing, source }
}

/// The netlink messages of one datagram, each with its header, or what is wrong with the next.
pub(super) struct Parts<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = Result<&'a [u8], String>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        match NetlinkBuffer::new_checked(bytes) {
            Err(error) => Some(Err(error.to_string())),
            Ok(part) => {
                let len = part.length() as usize;
                // Messages start at multiples of four bytes (NLMSG_ALIGN).
                self.0 = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
                Some(Ok(&bytes[..len]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_rubbish_end_with_an_error_and_never_panic() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for len in 0..200usize {
            let bytes: Vec<u8> = (0..len)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (seed >> 60) as u8
                })
                .collect();
            let parts: Vec<_> = Parts(&bytes).collect();
            assert!(parts.iter().rev().skip(1).all(Result::is_ok));
        }
        assert_eq!(Parts(&[]).count(), 0);
        assert!(Parts(&[16, 0, 0, 0]).next().is_some_and(|part| part.is_err()));
    }
}
