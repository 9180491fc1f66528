//! What a worker does with the packets that do not just leave: hold them, cut them, or tell their senders why not.

use vinet_pktops::parse::{self, Headers};
use vinet_trusted::addr::Addr;

use super::{Context, Exit, IpPlace};
use crate::drop_reason::DropReason;
use crate::fib::{Fib, Hop, Neighbour};
use crate::fragment::{self, NotCut};
use crate::hold::HoldFull;
use crate::icmp::{self, Problem};
use crate::judge::Lane;
use crate::link;
use crate::port::{PacketBuf, PacketPool, TxQueue};

impl<T, P> Exit<T, P>
where
    T: TxQueue,
    P: PacketPool<Buf = T::Buf>,
{
    /// The ways of a packet that does not just leave.
    #[cold]
    pub(super) fn forward_rarely(&mut self, mut packet: T::Buf, lane: &Lane, context: &Context<'_>) {
        let &Context { fib, input, now_ns, .. } = context;
        let Ok(headers) = parse::headers(packet.bytes()) else {
            return self.drop(packet, DropReason::EthernetTruncated);
        };
        let refuse = |exit: &mut Self, packet, problem, reason| {
            exit.complain(packet, &headers, input, problem, reason, fib, now_ns);
        };
        if headers.ttl <= 1 {
            return refuse(self, packet, Problem::TtlExpired, DropReason::TtlExpired);
        }
        let next = match fib.look_up(headers.dst) {
            Hop::OnLink { port } => (port, headers.dst),
            Hop::Gateway { port, gateway } => match fib.gateway(gateway) {
                Some(gateway) => (port, gateway),
                None => return self.drop(packet, DropReason::NoRoute),
            },
            Hop::NoRoute => return refuse(self, packet, Problem::NoRoute, DropReason::NoRoute),
            Hop::Unreachable => return refuse(self, packet, Problem::HostUnreachable, DropReason::Unreachable),
            Hop::Prohibit => return refuse(self, packet, Problem::Prohibited, DropReason::Prohibited),
            // Local packets went to the kernel, and those whose station is known went on.
            Hop::Blackhole | Hop::Local | Hop::Forward { .. } => return self.drop(packet, DropReason::Blackhole),
        };
        link::count_hop(packet.bytes_mut(), usize::from(lane.l3_offset), headers.family());
        self.hold(packet, &headers, Some(input), next, fib, now_ns);
    }

    /// Cuts a packet that is larger than the next link's MTU, or tells its sender (RFC 1191, RFC 8201).
    #[cold]
    pub(super) fn emit_too_big(
        &mut self,
        mut packet: T::Buf,
        input: Option<u16>,
        (port, mac): (u16, [u8; 6]),
        fib: &Fib,
        now_ns: u64,
    ) {
        // One of our own ICMP errors, whose link header is not written yet.
        let Some(input) = input else { return self.drop(packet, DropReason::TooBig) };
        let Ok(headers) = &parse::headers(packet.bytes()) else {
            return self.drop(packet, DropReason::EthernetTruncated);
        };
        let mtu = self.faces[usize::from(port)].mtu;
        let cut = if headers.dont_fragment {
            Err(NotCut::TooMany)
        } else {
            fragment::cut(&mut packet, headers, mtu, &mut self.pool, &mut self.cutter, &mut self.fragments)
        };
        match cut {
            Ok(()) => {}
            Err(NotCut::NoBuffer) => return self.drop(packet, DropReason::FragmentNoBuffer),
            Err(NotCut::BeyondDatagram) => return self.drop(packet, DropReason::FragmentBeyondDatagram),
            Err(NotCut::TooMany) => {
                let problem = Problem::TooBig { mtu };
                return self.complain(packet, headers, input, problem, DropReason::TooBig, fib, now_ns);
            }
        }
        self.tally.totals.fragments += self.fragments.len() as u64;
        let l3_offset = usize::from(headers.l3_offset);
        self.emit_fragment(packet, l3_offset, headers, (port, mac));
        while let Some(fragment) = self.fragments.pop_front() {
            self.emit_fragment(fragment, parse::ETHERNET_LEN, headers, (port, mac));
        }
    }

    pub(super) fn emit_fragment(
        &mut self,
        mut packet: T::Buf,
        l3_offset: usize,
        headers: &Headers,
        (port, mac): (u16, [u8; 6]),
    ) {
        if self.faces[usize::from(port)].write_header(&mut packet, l3_offset, mac, headers.family()) {
            self.send(packet, port);
        } else {
            self.drop(packet, DropReason::NoHeadroom);
        }
    }

    /// Holds a packet, its hop counted, until the address of its next hop is known. One that is known not to answer is
    /// asked for again, but nothing waits for it.
    #[cold]
    pub(super) fn hold(
        &mut self,
        packet: T::Buf,
        headers: &Headers,
        input: Option<u16>,
        hop: (u16, Addr),
        fib: &Fib,
        now_ns: u64,
    ) {
        if fib.neighbour(hop.0, hop.1) == Some(Neighbour::Failed) {
            if self.failed_asks.admits(now_ns) && !self.resolve.ask(hop.0, hop.1) {
                self.tally.totals.resolve_lost += 1;
            }
            // About our own ICMP nobody is told, so this ends here.
            return self.end_unresolved(packet, headers, input, fib, now_ns);
        }
        match self.hold.push(packet, *headers, input, hop, now_ns) {
            Ok(is_first) => {
                if is_first && !self.resolve.ask(hop.0, hop.1) {
                    self.tally.totals.resolve_lost += 1;
                }
            }
            Err(HoldFull { packet }) => self.drop(packet, DropReason::HoldFull),
        }
    }

    /// Ends a packet whose next hop did not answer.
    #[cold]
    pub(super) fn end_unresolved(
        &mut self,
        packet: T::Buf,
        headers: &Headers,
        input: Option<u16>,
        fib: &Fib,
        now_ns: u64,
    ) {
        let reason = DropReason::NeighbourUnresolved;
        match input {
            Some(input) => self.complain(packet, headers, input, Problem::HostUnreachable, reason, fib, now_ns),
            None => self.drop(packet, reason),
        }
    }

    /// Drops a packet and tells its sender why, in the same buffer, if it may be told, can be reached, and the rate
    /// allows.
    #[cold]
    #[allow(clippy::too_many_arguments, reason = "all of it is the circumstances of one drop")]
    pub(super) fn complain(
        &mut self,
        mut packet: T::Buf,
        headers: &Headers,
        input: u16,
        problem: Problem,
        reason: DropReason,
        fib: &Fib,
        now_ns: u64,
    ) {
        if !icmp::may_answer(packet.bytes(), headers) {
            return self.drop(packet, reason);
        }
        let sources = fib.sources(input);
        let source = match headers.src {
            Addr::V4(_) => sources.v4.map(Addr::V4),
            Addr::V6(_) => sources.v6.map(Addr::V6),
        };
        let hop = match fib.look_up(headers.src) {
            Hop::Forward { port, mac } => Ok((port, mac)),
            Hop::OnLink { port } => Err(Some((port, headers.src))),
            Hop::Gateway { port, gateway } => Err(fib.gateway(gateway).map(|gateway| (port, gateway))),
            _ => Err(None),
        };
        let (Some(source), Ok(_) | Err(Some(_))) = (source, hop) else {
            self.tally.totals.icmp_unsendable += 1;
            return self.drop(packet, reason);
        };
        if !self.icmp.admits(now_ns) {
            self.tally.totals.icmp_rate_limited += 1;
            return self.drop(packet, reason);
        }
        let Some(error) = icmp::write_error(&mut packet, headers, problem, source) else {
            self.tally.totals.icmp_unsendable += 1;
            return self.drop(packet, reason);
        };
        // The packet ends here by name, and its buffer goes on as one of our own.
        self.tally.drop_packet(reason);
        self.tally.totals.own_icmp += 1;
        match hop {
            Ok(station) => self.emit(packet, IpPlace::of(&error), None, station, fib, now_ns),
            Err(Some(hop)) => self.hold(packet, &error, None, hop, fib, now_ns),
            Err(None) => self.drop(packet, DropReason::NoRoute),
        }
    }
}
