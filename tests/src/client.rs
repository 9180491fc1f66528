//! The real `vinet` at a host, acting for a principal.

use std::time::Duration;

use serde_json::Value;

use crate::host::Host;
use crate::keys::identity;
use crate::lab::Lab;
use crate::process::{Finished, binary, run};

/// A user of the router: where, as whom, and by which of the router's addresses.
pub struct Client<'a> {
    lab: &'a Lab,
    host: &'a Host,
    principal: String,
    router: String,
}

impl<'a> Client<'a> {
    /// The principal is an address, or an address with its prefix length; the router is `HOST:PORT`.
    pub fn new(lab: &'a Lab, host: &'a Host, principal: &str, router: &str) -> Client<'a> {
        Client { lab, host, principal: principal.to_string(), router: router.to_string() }
    }

    /// Runs `vinet` with these words, split at blanks, and this client's identity and router.
    pub fn run(&self, words: &str) -> Finished {
        let mut command = self.host.command(binary("vinet"));
        command.args(words.split_whitespace()).args(["--router", &self.router, "--identity"]);
        command
            .arg(identity(self.lab.dir(), &self.principal))
            .arg("--authority")
            .arg(self.lab.dir().join("authority.pub"));
        run(command, Duration::from_secs(30))
    }

    /// Runs it with `--json`; it must succeed and print one object.
    #[track_caller]
    pub fn json(&self, words: &str) -> Value {
        let printed = self.run(&format!("{words} --json")).expect();
        serde_json::from_str(&printed).unwrap_or_else(|e| panic!("vinet {words} --json: {e}: {printed}"))
    }

    /// Installs a program and returns its instance.
    #[track_caller]
    pub fn install(&self, words: &str) -> u64 {
        let receipt = self.json(words);
        receipt["instance"].as_u64().unwrap_or_else(|| panic!("a receipt without instance: {receipt}"))
    }

    /// What is installed for this principal, one object a program.
    #[track_caller]
    pub fn list(&self) -> Vec<Value> {
        let printed = self.run("list --json").expect();
        let object =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("vinet list --json: {e}: {printed}"));
        printed.lines().map(object).collect()
    }
}
