//! What a local application asks for: the parameters of a program, as the commands of the same names take them.

use super::super::answer::Failure;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use vinet_client::lang::{self, lifetime};
use vinet_client::template::{self, Worm};
use vinet_trusted::addr::{Addr, Prefix, Principal};

/// A request to keep a program installed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    ask: Kind,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    block: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    words: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    infected: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    signatures: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spare: Option<IpAddr>,
    lifetime: String,
    /// `HOST:PORT`, or `auto`.
    pub(super) router: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rate: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pay: Option<u64>,
    #[serde(default)]
    pub(super) monitor: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Firewall,
    Spam,
    Multicast,
    Quarantine,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Protocol {
    Tcp,
    Udp,
}

/// A text for a program that is written out for the sources of one router.
type Source = Box<dyn Fn(&[Prefix], &Principal) -> String>;

/// A rule that was looked at: what to write, and for which sources. No sources are any.
pub(super) struct Written {
    pub(super) name: &'static str,
    pub(super) sources: Vec<Prefix>,
    pub(super) source: Source,
}

fn unusable(what: impl ToString) -> Failure {
    Failure::Unusable(what.to_string())
}

fn prefixes(key: &str, texts: &[String]) -> Result<Vec<Prefix>, Failure> {
    if texts.is_empty() {
        return Err(unusable(format!("`{key}` is missing: expected a list of addresses or prefixes")));
    }
    texts.iter().map(|text| lang::prefix(text).map_err(unusable)).collect()
}

fn words(key: &str, texts: &[String]) -> Result<Vec<Vec<u8>>, Failure> {
    if texts.is_empty() {
        return Err(unusable(format!("`{key}` is missing: expected a list of words")));
    }
    texts.iter().map(|text| lang::word(text).map_err(unusable)).collect()
}

impl Rule {
    /// What is to be written.
    pub(super) fn written(&self) -> Result<Written, Failure> {
        let lifetime_s = lifetime::parse(&self.lifetime).map_err(unusable)?;
        let foreign = [
            ("block", !self.block.is_empty(), Kind::Firewall),
            ("words", !self.words.is_empty(), Kind::Spam),
            ("from", self.from.is_some(), Kind::Multicast),
            ("infected", !self.infected.is_empty(), Kind::Quarantine),
            ("signatures", !self.signatures.is_empty(), Kind::Quarantine),
            ("port", self.port.is_some(), Kind::Quarantine),
            ("protocol", self.protocol.is_some(), Kind::Quarantine),
            ("spare", self.spare.is_some(), Kind::Quarantine),
        ];
        if let Some((key, ..)) = foreign.iter().find(|(_, given, kind)| *given && *kind != self.ask) {
            return Err(unusable(format!("`{key}` has no meaning for this request")));
        }
        let (name, sources, source): (_, _, Source) = match self.ask {
            Kind::Firewall => (
                "firewall.vnp",
                prefixes("block", &self.block)?,
                Box::new(move |blocked, owner| template::firewall(blocked, lifetime_s, owner)),
            ),
            Kind::Spam => {
                let words = words("words", &self.words)?;
                let source = move |_: &[Prefix], owner: &Principal| template::spam(&words, lifetime_s, owner);
                ("spam-filter.vnp", Vec::new(), Box::new(source))
            }
            Kind::Multicast => {
                let sender: Addr = self.from.ok_or_else(|| unusable("`from` is missing: expected an address"))?.into();
                let source = move |_: &[Prefix], owner: &Principal| template::multicast(sender, lifetime_s, owner);
                ("multicast.vnp", vec![Prefix::host(sender)], Box::new(source))
            }
            Kind::Quarantine => {
                let infected = prefixes("infected", &self.infected)?;
                let worm = match (self.port, self.protocol) {
                    (Some(_), _) if !self.signatures.is_empty() => {
                        return Err(unusable("`signatures` or `port`, and not both"));
                    }
                    (Some(port), Some(Protocol::Udp)) => Worm::Port { protocol: "udp", port },
                    (Some(port), _) => Worm::Port { protocol: "tcp", port },
                    (None, _) => Worm::Signatures(words("signatures", &self.signatures)?),
                };
                let spared = self.spare.map(Addr::from);
                let source = move |infected: &[Prefix], owner: &Principal| {
                    template::quarantine(infected, &worm, spared, lifetime_s, owner)
                };
                ("quarantine.vnp", infected, Box::new(source))
            }
        };
        Ok(Written { name, sources, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Result<Written, String> {
        let rule: Rule = serde_json::from_str(text).map_err(|error| error.to_string())?;
        rule.written().map_err(|failure| match failure {
            Failure::Unusable(text) => text,
            _ => panic!("another failure"),
        })
    }

    #[test]
    fn what_is_asked_for_is_written_as_the_commands_write_it() {
        let owner = Principal::EndUser(Addr::V4(0xc000_0202));
        let text = |json: &str| {
            let written = rule(json).unwrap();
            (written.source)(&written.sources, &owner)
        };
        let rest = r#""lifetime":"2m","router":"auto"}"#;
        let firewall = text(&format!(r#"{{"ask":"firewall","block":["198.51.100.7"],{rest}"#));
        assert!(firewall.contains("LIFETIME = 2 minutes") && firewall.contains("198.51.100.7"), "{firewall}");
        let spam = text(&format!(r#"{{"ask":"spam","words":["lottery"],{rest}"#));
        assert!(spam.contains("CONTAINS_STRING(Packets(i), \"lottery\")"), "{spam}");
        let multicast = text(&format!(r#"{{"ask":"multicast","from":"203.0.113.9",{rest}"#));
        assert!(multicast.contains("GENERATE(203.0.113.9, THIS_IP, Content)"), "{multicast}");
        let worm = text(&format!(r#"{{"ask":"quarantine","infected":["10.0.0.0/8"],"port":445,{rest}"#));
        assert!(worm.contains("protocol = tcp and dstport = 445"), "{worm}");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let rest = r#""lifetime":"2m","router":"auto"}"#;
        let fault = |json: String| rule(&json).err().expect("a fault");
        assert!(fault(format!(r#"{{"ask":"firewall",{rest}"#)).contains("`block` is missing"));
        assert!(fault(format!(r#"{{"ask":"firewall","block":["x"],{rest}"#)).contains('x'));
        assert!(
            fault(format!(r#"{{"ask":"firewall","block":["10.0.0.1"],"port":1,{rest}"#))
                .contains("`port` has no meaning")
        );
        assert!(fault(format!(r#"{{"ask":"firewal","block":["10.0.0.1"],{rest}"#)).contains("firewal"));
        assert!(fault(format!(r#"{{"ask":"spam","words":["a"],"wrods":[],{rest}"#)).contains("wrods"));
        assert!(fault(r#"{"ask":"spam","words":["a"],"lifetime":"soon","router":"auto"}"#.to_owned()).contains("soon"));
    }
}
