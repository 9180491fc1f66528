//! Why a packet was dropped: one name for every way in which a packet can end here.
//!
//! The causes for which the parser refuses a frame stand first, in its order and under its names.
//! The names are part of what operators read (`drops.ttl_expired`), so they only ever grow.

use vinet_pktops::parse::Malformed;

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason { $($(#[doc = $doc])+ $name,)+ }

        impl DropReason {
            /// All of them, in order: `ALL[i] as usize == i`.
            pub const ALL: [DropReason; [$(DropReason::$name),+].len()] = [$(DropReason::$name),+];

            /// Its name in counters.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$name => $text,)+ }
            }
        }
    };
}

drop_reasons! {
    /// [`Malformed::EthernetTruncated`]
    EthernetTruncated = "ethernet_truncated",
    /// [`Malformed::VlanTagsAboveMax`]
    VlanTagsAboveMax = "vlan_tags_above_max",
    /// [`Malformed::Ipv4Truncated`]
    Ipv4Truncated = "ipv4_truncated",
    /// [`Malformed::Ipv4BadVersion`]
    Ipv4BadVersion = "ipv4_bad_version",
    /// [`Malformed::Ipv4BadHeaderLen`]
    Ipv4BadHeaderLen = "ipv4_bad_header_len",
    /// [`Malformed::Ipv4BadTotalLen`]
    Ipv4BadTotalLen = "ipv4_bad_total_len",
    /// [`Malformed::Ipv4TotalLenAboveFrame`]
    Ipv4TotalLenAboveFrame = "ipv4_total_len_above_frame",
    /// [`Malformed::Ipv4BadChecksum`]
    Ipv4BadChecksum = "ipv4_bad_checksum",
    /// [`Malformed::Ipv6Truncated`]
    Ipv6Truncated = "ipv6_truncated",
    /// [`Malformed::Ipv6BadVersion`]
    Ipv6BadVersion = "ipv6_bad_version",
    /// [`Malformed::Ipv6PayloadLenAboveFrame`]
    Ipv6PayloadLenAboveFrame = "ipv6_payload_len_above_frame",
    /// [`Malformed::Ipv6Jumbogram`]
    Ipv6Jumbogram = "ipv6_jumbogram",
    /// [`Malformed::Ipv6TooLong`]
    Ipv6TooLong = "ipv6_too_long",
    /// Other VLAN tags than the port's.
    VlanMismatch = "vlan_mismatch",
    /// A unicast frame to another station's address.
    NotForUs = "not_for_us",
    /// Neither IP nor ARP: nothing here or in the kernel wants it.
    EtherTypeUnknown = "ether_type_unknown",
    /// The source cannot be one: multicast, loopback, broadcast (RFC 1812, 5.3.7).
    SourceMartian = "source_martian",
    /// The destination cannot be forwarded to: loopback, reserved, unspecified (RFC 1812, 5.3.7).
    DestinationMartian = "destination_martian",
    /// The source or the destination is link-local, and the packet would leave its link.
    LinkLocalScope = "link_local_scope",
    /// A packet to a multicast group beyond the link: multicast is not routed.
    MulticastNotRouted = "multicast_not_routed",
    /// A unicast packet that came as a link-layer broadcast or multicast (RFC 1812, 5.3.4).
    LinkBroadcast = "link_broadcast",
    /// Strict source validation: the source is not one that the port controls.
    SourceNotControlled = "source_not_controlled",
    /// A program discarded it.
    Program = "program",
    /// Its owner's programs are over their packet rate, and the policy says to drop.
    OverBudget = "over_budget",
    /// A program generates more than the policy's rate; what it generates is sent whole or not at all.
    GenerateOverRate = "generate_over_rate",
    /// What a program generates cannot be sent: addresses of two families, an MTU below 576, or more than the worker
    /// sends at once.
    GenerateUnsendable = "generate_unsendable",
    /// A packet that a program generates, and there was no packet buffer for it.
    GenerateNoBuffer = "generate_no_buffer",
    /// For the expander, and not of the form of generated packets.
    ExpandMalformed = "expand_malformed",
    /// For the expander, of a program that it has no key for.
    ExpandUnknownProgram = "expand_unknown_program",
    /// For the expander, and its tag was not made with the program's key for these addresses.
    ExpandBadTag = "expand_bad_tag",
    /// For the expander, of a batch or a part of one that it has had, or too old to tell.
    ExpandReplayed = "expand_replayed",
    /// An expanded packet to a destination outside the expander's prefix, which is not made.
    ExpandNotOwned = "expand_not_owned",
    /// An expanded packet that cannot be made of its content: TCP, fragments, or longer than a packet here.
    ExpandNotRebuilt = "expand_not_rebuilt",
    /// An expanded packet, and there was no packet buffer for it.
    ExpandNoBuffer = "expand_no_buffer",
    /// The TTL or hop limit ran out.
    TtlExpired = "ttl_expired",
    /// No route to the destination.
    NoRoute = "no_route",
    /// The route is a black hole.
    Blackhole = "blackhole",
    /// The route says that the destination cannot be reached.
    Unreachable = "unreachable",
    /// The route says that the destination is forbidden.
    Prohibited = "prohibited",
    /// Larger than the output port's MTU, and not to be fragmented.
    TooBig = "too_big",
    /// Larger than the output port's MTU, and there was no buffer for its fragments.
    FragmentNoBuffer = "fragment_no_buffer",
    /// The next hop did not answer in time.
    NeighbourUnresolved = "neighbour_unresolved",
    /// Too many packets wait for next hops, here or for this one.
    HoldFull = "hold_full",
    /// The output queue is full.
    QueueFull = "queue_full",
    /// The output queue kept packets waiting for too long (CoDel, RFC 8289).
    QueueDelay = "queue_delay",
    /// The slow path's ring to the kernel is full.
    SlowPathFull = "slow_path_full",
    /// Too long for a buffer of the slow path.
    SlowPathTooLong = "slow_path_too_long",
    /// A packet of the kernel, and there was no packet buffer for it.
    FromTapNoBuffer = "from_tap_no_buffer",
    /// There was no room in the buffer for a longer link header.
    NoHeadroom = "no_headroom",
    /// Another worker's, by its source, and that one does not keep up.
    HandoverFull = "handover_full",
    /// Still waiting when the worker was stopped.
    Stopped = "stopped",
    /// Larger than the output port's MTU, and a fragment that reaches over the end of any datagram.
    FragmentBeyondDatagram = "fragment_beyond_datagram",
}

impl From<Malformed> for DropReason {
    #[inline]
    fn from(cause: Malformed) -> DropReason {
        DropReason::ALL[cause.index()]
    }
}

/// How many reasons there are.
pub const DROP_REASONS: usize = DropReason::ALL.len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_in_order() {
        for cause in Malformed::ALL {
            assert_eq!(DropReason::from(cause).name(), cause.name());
        }
        for (i, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, i);
            assert!(!DropReason::ALL[..i].iter().any(|other| other.name() == reason.name()));
            assert!(reason.name().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        }
    }
}
