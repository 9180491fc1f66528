//! Two readings of the configuration file, key by key: what differs, and what of it a running router can take over.
//!
//! Pure: who applies the changes, and takes them back where nobody confirms, is the core. The file's text is compared,
//! so a key that is written with its default is a change, to what the file says, though not to what the router does.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use vinet_trusted::policy::{Policy, PrincipalKind};

/// The keys that a running router takes over; a table stands for all that is in it. Everything else needs a restart:
/// ports, workers, memory, identities, and what the flow table was made for.
pub const AT_RUN_TIME: [&str; 23] = [
    "[router] policies",
    "[control] log_format",
    "[control] admin_mode",
    "[control] admin_group",
    "[control.limits] sessions",
    "[control.limits] half_open",
    "[control.limits] sessions_per_peer",
    "[control.limits] handshake_timeout_s",
    "[control.limits] idle_timeout_s",
    "[control.limits] programs_per_owner",
    "[control.limits] lemmas",
    "[control.limits] lemmas_per_owner",
    "[capacity]",
    "[metrics]",
    "[payment] install",
    "[payment] per_teracycle",
    "[payment] per_gibibyte_day",
    "[payment] check",
    "[sources]",
    "[sources.header]",
    "[sources.content]",
    "[[route]]",
    "policy",
];

/// The keys of a configuration file with their values, as the file writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(BTreeMap<String, String>);

impl Keys {
    /// The keys of `text`; none where it is not TOML.
    ///
    /// An entry of a list of tables is named by its name or its destination, else by its place.
    #[must_use]
    pub fn of(text: &str) -> Keys {
        let mut keys = Keys::default();
        for (name, value) in text.parse::<toml::Table>().unwrap_or_default() {
            keys.add(&name, &value);
        }
        keys
    }

    fn add(&mut self, path: &str, value: &toml::Value) {
        match value {
            toml::Value::Table(table) => self.add_table(&format!("[{path}]"), path, table),
            toml::Value::Array(array) if array.iter().any(toml::Value::is_table) => {
                for (place, entry) in array.iter().enumerate() {
                    let Some(table) = entry.as_table() else { continue };
                    let name = ["name", "to"].iter().find_map(|key| table.get(*key)?.as_str());
                    let name = name.map_or_else(|| (place + 1).to_string(), |name| format!("`{name}`"));
                    self.add_table(&format!("[[{path}]] {name}"), path, table);
                }
            }
            plain => {
                self.0.insert(path.to_owned(), plain.to_string());
            }
        }
    }

    fn add_table(&mut self, heading: &str, path: &str, table: &toml::Table) {
        for (key, value) in table {
            if value.is_table() {
                self.add(&format!("{path}.{key}"), value);
            } else {
                self.0.insert(format!("{heading} {key}"), value.to_string());
            }
        }
    }

    /// Takes in which policies the file names: their contents count, not only the names of their files.
    pub fn add_policies(&mut self, policies: &[Policy]) {
        for policy in policies {
            let kind = match policy.principals {
                PrincipalKind::EndUser => "end users",
                PrincipalKind::EdgeRouter => "edge routers",
            };
            let id: String = policy.id().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            self.0.insert(format!("policy for {kind}"), format!("`{}` {id}…", policy.name));
        }
    }

    /// What differs from these keys to those of `after`.
    #[must_use]
    pub fn diff(&self, after: &Keys) -> Vec<Change> {
        let mut names: Vec<&String> = self.0.keys().chain(after.0.keys()).collect();
        names.sort();
        names.dedup();
        names
            .into_iter()
            .filter(|name| self.0.get(*name) != after.0.get(*name))
            .map(|name| Change {
                key: name.clone(),
                before: self.0.get(name).cloned(),
                after: after.0.get(name).cloned(),
                at_run_time: is_at_run_time(name),
            })
            .collect()
    }
}

fn is_at_run_time(key: &str) -> bool {
    AT_RUN_TIME.iter().any(|known| key.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')))
}

/// One key that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The key, with its section.
    pub key: String,
    /// Its value before; absent where the key was.
    pub before: Option<String>,
    /// Its value after.
    pub after: Option<String>,
    /// Whether a running router can take it over.
    pub at_run_time: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "~ {}: {before} -> {after}", self.key),
            (None, Some(after)) => write!(f, "+ {}: {after}", self.key),
            (before, None) => write!(f, "- {}: {}", self.key, before.as_deref().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = include_str!("../../configs/router.toml");

    fn diff(from: &str, to: &str) -> Vec<Change> {
        assert!(FILE.contains(from), "{from}");
        Keys::of(FILE).diff(&Keys::of(&FILE.replacen(from, to, 1)))
    }

    fn told(from: &str, to: &str) -> Vec<(String, bool)> {
        diff(from, to).iter().map(|change| (change.to_string(), change.at_run_time)).collect()
    }

    #[test]
    fn what_differs_is_told_key_by_key_with_whether_it_can_be_taken_over() {
        let one = |text: &str, at_run_time| vec![(text.to_owned(), at_run_time)];
        assert_eq!(diff("args = []", "args = [] # the same"), []);
        assert_eq!(
            told("cycles_per_second = 1_000_000_000", "cycles_per_second = 2_000"),
            one("~ [capacity] cycles_per_second: 1000000000 -> 2000", true)
        );
        assert_eq!(told("cores = [1]", "cores = [1, 2]"), one("~ [workers] cores: [1] -> [1, 2]", false));
        assert_eq!(told("# mtu = 1500", "mtu = 9000"), one("+ [[port]] `edge` mtu: 9000", false));
        assert_eq!(told("core = 0\n", ""), one("- [control] core: 0", false));
        assert_eq!(
            told("# idle_timeout_s = 60", "idle_timeout_s = 5"),
            one("+ [control.limits] idle_timeout_s: 5", true)
        );
        assert_eq!(told("# programs = 1000000 ", "programs = 7 "), one("+ [control.limits] programs: 7", false));
        assert_eq!(
            told("via = \"198.51.100.1\"", "via = \"198.51.100.9\""),
            one("~ [[route]] `0.0.0.0/0` via: \"198.51.100.1\" -> \"198.51.100.9\"", true)
        );
        assert_eq!(told("verify = \"proof\"", "verify = \"either\"").len(), 1);
        assert!(!told("verify = \"proof\"", "verify = \"either\"")[0].1);
        assert_eq!(told("name = \"uplink\"", "name = \"up\"").len(), 8, "a port under another name is another port");
    }

    #[test]
    fn a_key_that_only_begins_like_a_known_one_needs_a_restart() {
        for (key, expected) in [
            ("[capacity] memory_bytes", true),
            ("[capacity.more] memory_bytes", false),
            ("[control] log_format_of_others", false),
            ("[control] log_format", true),
            ("[[route]] `::/0` to", true),
            ("policy for end users", true),
            ("[control.limits] lemmas_per_owner", true),
            ("[control.limits] checks_queued", false),
            ("[payment] bank", false),
            ("[payment] check", true),
            ("[sources.header] owners_per_address", true),
            ("[schedule] patience_ms", false),
        ] {
            assert_eq!(is_at_run_time(key), expected, "{key}");
        }
    }

    #[test]
    fn the_contents_of_policies_count() {
        let policy = crate::admission::tests::policy();
        let other = Policy { name: "another".into(), ..policy.clone() };
        let keys = |policy: &Policy| {
            let mut keys = Keys::of(FILE);
            keys.add_policies(std::slice::from_ref(policy));
            keys
        };
        assert_eq!(keys(&policy).diff(&keys(&policy)), []);
        let [change] = &keys(&policy).diff(&keys(&other))[..] else { panic!("one change") };
        assert!(change.at_run_time && change.to_string().starts_with("~ policy for end users: `"), "{change}");
    }
}
