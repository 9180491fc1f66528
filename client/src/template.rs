//! Programs written for the user: source text, to be compiled like any other and to be edited.

use crate::lang::{lifetime, quoted};
use std::fmt::Write;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet, Principal};

/// A firewall for all that `owner` owns, against the senders in `blocked`.
#[must_use]
pub fn firewall(blocked: &[Prefix], lifetime_s: u32, owner: &Principal) -> String {
    let set = PrefixSet::new(blocked.to_vec());
    let senders: Vec<String> = set.prefixes().iter().map(ToString::to_string).collect();
    let senders = if let [one] = &senders[..] { one.clone() } else { format!("{{{}}}", senders.join(", ")) };
    let mut text = String::from("# A virtual firewall: drops what these senders send to its owner.\n");
    head(&mut text, lifetime_s, owner);
    let _ = writeln!(text, "BadPackets = GROUP_BY_SOURCE(MyPackets, {senders});");
    text.push_str("DISCARD(BadPackets);\n");
    text
}

/// A spam filter for all that `owner` owns: what contains every one of `words` is dropped, whoever sends it.
#[must_use]
pub fn spam(words: &[Vec<u8>], lifetime_s: u32, owner: &Principal) -> String {
    let mut text = String::from("# A virtual spam filter: drops what contains all of these words, whoever sends it.\n");
    head(&mut text, lifetime_s, owner);
    text.push_str("SourceIP(i), Packets(i) = GROUP_BY_SOURCE(MyPackets);\nforeach i do\n");
    for (i, word) in words.iter().enumerate() {
        let joint = if i == 0 { "if" } else { "and" };
        let then = if i + 1 == words.len() { " then" } else { "" };
        let _ = writeln!(text, "  {joint} CONTAINS_STRING(Packets(i), {}){then}", quoted(word));
    }
    text.push_str("    DISCARD(Packets(i));\n");
    text
}

/// Multicast de-duplication for all that `owner` owns: of what `sender` sends to many, one copy goes to the owner's own
/// address, with the list of those it is for. The owner has to have an address of its own.
#[must_use]
pub fn multicast(sender: Addr, lifetime_s: u32, owner: &Principal) -> String {
    let mut text = String::from("# Multicast de-duplication: one copy of what this sender sends to many.\n");
    head(&mut text, lifetime_s, owner);
    let _ = writeln!(text, "Broadcast = GROUP_BY_SOURCE(MyPackets, {sender});");
    text.push_str("Destinations, Content = GROUP_BY_CONTENT(Broadcast);\n");
    for data in ["Destinations", "Content"] {
        let _ = writeln!(text, "GENERATE({sender}, THIS_IP, {data});");
    }
    text.push_str("DISCARD(Broadcast);\n");
    text
}

/// By what a worm is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Worm {
    /// By words in its content: any of them; what a sender has sent in the same window goes with it.
    Signatures(Vec<Vec<u8>>),
    /// By the port that it spreads through.
    Port {
        /// `tcp` or `udp`.
        protocol: &'static str,
        /// The port.
        port: u16,
    },
}

/// A quarantine for all that `owner` owns: nothing that is told to be the worm comes in from the `infected` prefixes, but
/// to the address `spared`, a honeypot, where one is given.
#[must_use]
pub fn quarantine(
    infected: &[Prefix],
    worm: &Worm,
    spared: Option<Addr>,
    lifetime_s: u32,
    owner: &Principal,
) -> String {
    let set = PrefixSet::new(infected.to_vec());
    let mut text = String::from("# A worm quarantine: lets nothing of the worm in from the infected prefixes.\n");
    if let Worm::Signatures(_) = worm {
        text.push_str("WINDOW = 32 packets\n");
    }
    head(&mut text, lifetime_s, owner);
    let spare = spared.map_or(String::new(), |addr| format!(" and dst != {addr}"));
    match worm {
        Worm::Port { protocol, port } => {
            let _ = writeln!(
                text,
                "Worm = SELECT(MyPackets, src in {set} and protocol = {protocol} and dstport = {port}{spare});"
            );
            text.push_str("DISCARD(Worm);\n");
        }
        Worm::Signatures(words) => {
            let _ = writeln!(text, "Suspect = SELECT(MyPackets, src in {set}{spare});");
            text.push_str("SourceIP(s), Packets(s) = GROUP_BY_SOURCE(Suspect);\nforeach s do\n");
            for (i, word) in words.iter().enumerate() {
                let joint = if i == 0 { "if" } else { "or" };
                let then = if i + 1 == words.len() { " then" } else { "" };
                let _ = writeln!(text, "  {joint} CONTAINS_STRING(Packets(s), {}){then}", quoted(word));
            }
            text.push_str("    DISCARD(Packets(s));\n");
        }
    }
    text
}

/// The lines that every template begins with: the lifetime, and the packets to the owner.
fn head(text: &mut String, lifetime_s: u32, owner: &Principal) {
    let own = match owner {
        Principal::EndUser(_) => "THIS_IP",
        Principal::EdgeRouter(_) => "THIS_SUBNET_IP",
    };
    let _ = writeln!(text, "LIFETIME = {}", lifetime::written(lifetime_s));
    let _ = writeln!(text, "MyPackets = GROUP_BY_DESTINATION(AllPackets, {own});");
}
