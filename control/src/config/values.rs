//! The values of the configuration file that have a form of their own.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use vinet_trusted::addr::{Addr, Prefix};

/// How uploads are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// The client sends a proof, which the router checks.
    #[default]
    Proof,
    /// The router makes the proof itself and checks it; a proof that is sent is ignored.
    Static,
    /// The client's proof where one is sent, else the router's own.
    Either,
}

/// Whether owners have to show that packets to their addresses reach them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Before anything of theirs is admitted or renewed.
    #[default]
    Required,
    /// The authority's word is enough. Then nobody's programs count towards shutting a source off.
    Off,
}

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// Polls on: the lowest latency, one core in full.
    Spin,
    /// Sleeps a little after some empty polls: for cores that are shared.
    #[default]
    Backoff,
}

/// The discipline of a port's output queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueKind {
    /// First in, first out; what comes when the queue is full is dropped.
    #[default]
    Fifo,
    /// The same, and a queue that stands for too long loses packets at its front (RFC 8289).
    Codel,
}

/// Which memory DPDK uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryKind {
    /// Hugepages where enough are free, else ordinary pages, with a line in the log.
    #[default]
    Auto,
    /// Hugepages only.
    Huge,
    /// Ordinary pages only.
    NoHuge,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// An address with the length of its link's prefix, `192.0.2.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddrLen {
    /// The address.
    pub addr: IpAddr,
    /// The length of the prefix in bits.
    pub len: u8,
}

impl AddrLen {
    /// The prefix of the link.
    #[must_use]
    pub fn prefix(self) -> Prefix {
        let addr = Addr::from(self.addr);
        Prefix::of(addr, self.len).unwrap_or(Prefix::host(addr))
    }
}

impl fmt::Display for AddrLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

/// Splits `ADDRESS/LENGTH`; without a length, all bits count.
fn addr_and_len(text: &str) -> Result<(IpAddr, u8), String> {
    let (addr, len) = text.split_once('/').map_or((text, None), |(addr, len)| (addr, Some(len)));
    let addr: IpAddr = addr
        .parse()
        .map_err(|_| format!("`{text}` is not an address with a prefix length, like 192.0.2.1/24 or 2001:db8::1/64"))?;
    let width = Addr::from(addr).width();
    let len = match len {
        None => width,
        Some(len) => len
            .parse()
            .ok()
            .filter(|&len| len <= width)
            .ok_or_else(|| format!("`{text}`: the prefix length must be a number from 0 to {width}"))?,
    };
    Ok((addr, len))
}

impl FromStr for AddrLen {
    type Err = String;
    fn from_str(text: &str) -> Result<AddrLen, String> {
        let (addr, len) = addr_and_len(text)?;
        if !text.contains('/') {
            return Err(format!("`{text}`: the prefix length of the link is missing, as in {addr}/24"));
        }
        Ok(AddrLen { addr, len })
    }
}

/// A prefix as the file writes it, without host bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr(pub Prefix);

impl FromStr for Cidr {
    type Err = String;
    fn from_str(text: &str) -> Result<Cidr, String> {
        if text == "default" {
            return Err("write 0.0.0.0/0 or ::/0 for a default route, so that the family is clear".to_owned());
        }
        let (addr, len) = addr_and_len(text)?;
        let addr = Addr::from(addr);
        Prefix::new(addr, len).map(Cidr).ok_or_else(|| {
            let prefix = Prefix::of(addr, len).map(|p| p.to_string()).unwrap_or_default();
            format!("`{text}` has host bits set; the prefix is {prefix}")
        })
    }
}

macro_rules! deserialize_from_str {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}
deserialize_from_str!(AddrLen, Cidr);
