//! Packets that start here: their way out, by the routes, past every program.

use vinet_pktops::parse::{self, ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Headers, IPV4_LEN};
use vinet_trusted::addr::Addr;

use super::{Context, Exit, IpPlace};
use crate::drop_reason::DropReason;
use crate::fib::{Fib, Hop};
use crate::link::Face;
use crate::port::{PacketBuf, PacketPool, TxQueue};

/// The longest IP packet that is made here, in bytes.
pub(super) const OWN_PACKET_LEN_MAX: usize = vinet_pktops::datagram::PACKET_LEN_MAX;

/// Room for one frame while it is written: the IP packet is behind the room for its Ethernet header.
pub(super) struct Draft {
    frame: Box<[u8; ETHERNET_LEN + OWN_PACKET_LEN_MAX]>,
}

impl Draft {
    pub(super) fn new() -> Draft {
        Draft { frame: Box::new([0; ETHERNET_LEN + OWN_PACKET_LEN_MAX]) }
    }
    /// The room for the IP packet.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.frame[ETHERNET_LEN..]
    }
    /// A packet buffer with the first `len` bytes of the room, or none where there is none.
    pub(super) fn packet<P: PacketPool>(&mut self, len: usize, pool: &mut P) -> Option<P::Buf> {
        let frame = self.frame.get_mut(..ETHERNET_LEN + len.max(IPV4_LEN))?;
        let ethertype = if frame[ETHERNET_LEN] >> 4 == 4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        frame[12..ETHERNET_LEN].copy_from_slice(&ethertype.to_be_bytes());
        pool.allocate(frame)
    }
}

/// The longest IP packet that leaves towards `dst` whole, as far as this router knows.
pub(super) fn mtu_towards(dst: Addr, fib: &Fib, faces: &[Face]) -> u16 {
    let port = match fib.look_up(dst) {
        Hop::Forward { port, .. } | Hop::OnLink { port } | Hop::Gateway { port, .. } => usize::from(port),
        _ => return OWN_PACKET_LEN_MAX as u16,
    };
    faces.get(port).map_or(OWN_PACKET_LEN_MAX as u16, |face| face.mtu)
}

impl<T, P> Exit<T, P>
where
    T: TxQueue,
    P: PacketPool<Buf = T::Buf>,
{
    /// Sends an untagged frame with a packet of our own by the routes; its Ethernet header is yet to be written. One to
    /// the router itself goes to the kernel, through the twin of the port that the burst came by.
    pub(super) fn originate(&mut self, mut packet: T::Buf, context: &Context<'_>) {
        let &Context { fib, now_ns, input, .. } = context;
        let Ok(headers): Result<Headers, _> = parse::headers(packet.bytes()) else {
            return self.drop(packet, DropReason::EthernetTruncated);
        };
        match fib.look_up(headers.dst) {
            Hop::Forward { port, mac } => {
                self.emit(packet, IpPlace::of(&headers), None, (port, mac), fib, now_ns);
            }
            Hop::OnLink { port } => self.hold(packet, &headers, None, (port, headers.dst), fib, now_ns),
            Hop::Gateway { port, gateway } => match fib.gateway(gateway) {
                Some(gateway) => self.hold(packet, &headers, None, (port, gateway), fib, now_ns),
                None => self.drop(packet, DropReason::NoRoute),
            },
            Hop::Local => {
                // The kernel takes what is addressed to the twin.
                if let (Some(face), Some(header)) =
                    (self.faces.get(usize::from(input)), packet.bytes_mut().first_chunk_mut::<12>())
                {
                    header[..6].copy_from_slice(&face.mac);
                    header[6..].copy_from_slice(&face.mac);
                }
                self.give_to_kernel(packet, headers.l3_offset, input);
            }
            Hop::NoRoute => self.drop(packet, DropReason::NoRoute),
            Hop::Unreachable => self.drop(packet, DropReason::Unreachable),
            Hop::Prohibit => self.drop(packet, DropReason::Prohibited),
            Hop::Blackhole => self.drop(packet, DropReason::Blackhole),
        }
    }
}
