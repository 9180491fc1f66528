//! A drop of everything at the netfilter ingress of one interface.
//!
//! Holding an [`IngressDrop`] proves that nothing that arrives on the interface gets into the kernel's protocols. What
//! stands before the hook still sees every frame: AF_PACKET sockets and XDP programs (`__netif_receive_skb_core` of the
//! kernel: generic XDP, then the taps, then tc and netfilter ingress). Neither tc's `gact` action nor a BPF program is
//! needed: the drop is the policy of an empty base chain. The table belongs to the socket (NFT_TABLE_F_OWNER), so the
//! kernel removes it when the daemon ends, however it ends.
//!
//! The messages are written by hand, after linux/netfilter/nfnetlink.h and nf_tables.h.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use nix::libc::{EBUSY, EEXIST, EPERM};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::netlink::{ANSWER_WAIT_MAX, DATAGRAM_LEN_MAX, NetlinkError, Parts, open_socket, socket_error};

const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const NFT_MSG_DELTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8 | 2;
const NFT_MSG_NEWCHAIN: u16 = NFNL_SUBSYS_NFTABLES << 8 | 3;

const AF_UNSPEC: u8 = 0;
const NFPROTO_NETDEV: u8 = 5;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFT_TABLE_F_OWNER: u32 = 2;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEV: u16 = 3;
const NLA_F_NESTED: u16 = 1 << 15;

const NF_DROP: u32 = 0;
const NF_NETDEV_INGRESS: u32 = 0;
/// Before any other chain of the interface.
const PRIORITY: i32 = -1000;

/// A drop of everything at the netfilter ingress of one interface, for as long as it is held.
#[derive(Debug)]
pub(super) struct IngressDrop {
    /// The owner of the table.
    socket: Socket,
    table: String,
}

impl IngressDrop {
    /// Drops from now on what arrives on `interface`.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] with `EBUSY` where another process holds one for this interface, with `EOPNOTSUPP` where the
    /// kernel has no nf_tables for interfaces (CONFIG_NF_TABLES_NETDEV, Linux 5.12).
    pub(super) fn hold(interface: &str) -> Result<IngressDrop, NetlinkError> {
        let socket = open_socket(NETLINK_NETFILTER)?;
        let wait = TimeVal::milliseconds(ANSWER_WAIT_MAX.as_millis() as i64);
        setsockopt(&socket, sockopt::ReceiveTimeout, &wait)
            .map_err(|source| socket_error("set its timeout")(source.into()))?;
        let table = format!("vinet-{interface}");

        let mut hook = Vec::new();
        attribute(&mut hook, NFTA_HOOK_HOOKNUM, &NF_NETDEV_INGRESS.to_be_bytes());
        attribute(&mut hook, NFTA_HOOK_PRIORITY, &PRIORITY.to_be_bytes());
        attribute(&mut hook, NFTA_HOOK_DEV, &c_string(interface));

        let mut new_table = Vec::new();
        attribute(&mut new_table, NFTA_TABLE_NAME, &c_string(&table));
        attribute(&mut new_table, NFTA_TABLE_FLAGS, &NFT_TABLE_F_OWNER.to_be_bytes());
        let mut new_chain = Vec::new();
        attribute(&mut new_chain, NFTA_CHAIN_TABLE, &c_string(&table));
        attribute(&mut new_chain, NFTA_CHAIN_NAME, &c_string("ingress"));
        attribute(&mut new_chain, NFTA_CHAIN_HOOK | NLA_F_NESTED, &hook);
        attribute(&mut new_chain, NFTA_CHAIN_POLICY, &NF_DROP.to_be_bytes());
        attribute(&mut new_chain, NFTA_CHAIN_TYPE, &c_string("filter"));

        let create = NLM_F_CREATE | NLM_F_EXCL;
        transact(
            &socket,
            &[(NFT_MSG_NEWTABLE, create, &new_table), (NFT_MSG_NEWCHAIN, create, &new_chain)],
            &|code| {
                NetlinkError::Refused {
                    request: format!("drop at the netfilter ingress of {interface} what arrives there"),
                    // The table of another owner shows as either of the others.
                    source: io::Error::from_raw_os_error(if matches!(code, EEXIST | EPERM) { EBUSY } else { code }),
                }
            },
        )?;
        Ok(IngressDrop { socket, table })
    }

    /// Lets in again what arrives. Dropping an [`IngressDrop`] does so too, but only when its socket is closed in every
    /// process: one that is being started from another thread has a copy for a moment.
    ///
    /// # Errors
    /// [`NetlinkError`], none of which is expected.
    pub(super) fn release(self) -> Result<(), NetlinkError> {
        let mut table = Vec::new();
        attribute(&mut table, NFTA_TABLE_NAME, &c_string(&self.table));
        transact(&self.socket, &[(NFT_MSG_DELTABLE, 0, &table)], &|code| NetlinkError::Refused {
            request: format!("remove the netfilter table {}", self.table),
            source: io::Error::from_raw_os_error(code),
        })
    }
}

/// Sends `changes` (kind, flags, attributes of each) as one batch, of which either all or nothing is done.
fn transact(
    socket: &Socket,
    changes: &[(u16, u16, &[u8])],
    refused: &dyn Fn(i32) -> NetlinkError,
) -> Result<(), NetlinkError> {
    let mut batch = Vec::new();
    message(&mut batch, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES, &[]);
    for (kind, flags, attributes) in changes {
        message(&mut batch, *kind, flags | NLM_F_ACK, NFPROTO_NETDEV, 0, attributes);
    }
    message(&mut batch, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES, &[]);
    socket.send(&batch, 0).map_err(socket_error("send a request to netfilter"))?;

    // Either each change is acknowledged, or the first error ends the batch.
    let mut acknowledged = 0;
    let mut datagram = Vec::with_capacity(DATAGRAM_LEN_MAX);
    while acknowledged < changes.len() {
        datagram.clear();
        socket.recv(&mut datagram, 0).map_err(socket_error("wait for an answer of netfilter"))?;
        for part in Parts(&datagram).flatten() {
            let answer = NetlinkBuffer::new(part);
            if answer.message_type() != NLMSG_ERROR {
                continue;
            }
            let code = answer.payload().get(..4).and_then(|bytes| bytes.try_into().ok());
            match code.map_or(0, i32::from_ne_bytes) {
                0 => acknowledged += 1,
                code => return Err(refused(code.saturating_neg())),
            }
        }
    }
    Ok(())
}

/// Appends a netlink message with an `nfgenmsg`.
fn message(batch: &mut Vec<u8>, kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) {
    let len = 16 + 4 + attributes.len() as u32;
    batch.extend(len.to_ne_bytes());
    batch.extend(kind.to_ne_bytes());
    batch.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // The sequence number and the sender's port are of no use here.
    batch.extend([0; 8]);
    batch.extend([family, 0]);
    batch.extend(resource.to_be_bytes());
    batch.extend(attributes);
}

/// Appends an attribute, padded to four bytes.
fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    to.extend((4 + value.len() as u16).to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn c_string(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}
