//! The examination of a node: whether it has what a router needs, and what to type where it has not.
//!
//! [`examine`] looks and changes nothing. Every check ends in exactly one [`Finding`], a failure always with a
//! [`Remedy`]; a check that a configuration does not call for (hugepages without ports on PCI) is left out. What is looked at
//! is a [`Machine`], so that the tests show one that they made up. Without a configuration only what concerns every router is looked
//! at, and the NICs are listed.
//!
//! It leaves out what only the device can say, such as its queues and its largest MTU: `vinetd` says that when it opens it.

mod cores;
mod devices;
mod drivers;
mod machine;
mod memory;
mod node;
mod pci;

use std::fmt;

use serde::Serialize;

use crate::config::Config;

pub use machine::Machine;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// A router runs, and not as well as it could.
    Warn,
    /// A router does not run, or does not forward.
    Fail,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "fail",
        })
    }
}

/// What helps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Remedy {
    /// A line for root's shell. It changes nothing that a restart of the machine does not undo, but packages and files.
    #[serde(rename = "type")]
    Type(String),
    /// Something that needs a decision, in words.
    #[serde(rename = "do")]
    Do(String),
}

/// The end of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: `hugepages`, `device`.
    pub check: &'static str,
    /// Which one, where there are several of its kind; else empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What helps; always there with a failure.
    #[serde(flatten)]
    pub remedy: Option<Remedy>,
}

impl Finding {
    /// The finding as one JSON object without a line break.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings can be written as JSON")
    }
}

/// One line, and one below it for the remedy: after `$` to be typed, after `>` to be done.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            if self.subject.is_empty() { self.check.to_owned() } else { format!("{} {}", self.check, self.subject) };
        write!(f, "{:<5} {name:<22} {}", self.status.to_string(), self.found)?;
        match &self.remedy {
            Some(Remedy::Type(line)) => write!(f, "\n      $ {line}"),
            Some(Remedy::Do(words)) => write!(f, "\n      > {words}"),
            None => Ok(()),
        }
    }
}

/// What was found so far.
#[derive(Debug, Default)]
struct Report(Vec<Finding>);

impl Report {
    fn ok(&mut self, check: &'static str, subject: &str, found: impl Into<String>) {
        self.add(check, subject, Status::Ok, found.into(), None);
    }

    fn warn(&mut self, check: &'static str, subject: &str, found: impl Into<String>, remedy: Remedy) {
        self.add(check, subject, Status::Warn, found.into(), Some(remedy));
    }

    fn fail(&mut self, check: &'static str, subject: &str, found: impl Into<String>, remedy: Remedy) {
        self.add(check, subject, Status::Fail, found.into(), Some(remedy));
    }

    fn add(&mut self, check: &'static str, subject: &str, status: Status, found: String, remedy: Option<Remedy>) {
        self.0.push(Finding { check, subject: subject.to_owned(), status, found, remedy });
    }
}

fn to_type(line: impl Into<String>) -> Remedy {
    Remedy::Type(line.into())
}

fn to_do(words: impl Into<String>) -> Remedy {
    Remedy::Do(words.into())
}

/// Looks at everything that a router on `machine` needs, in the order in which it needs it.
#[must_use]
pub fn examine(machine: &Machine, config: Option<&Config>) -> Vec<Finding> {
    let mut report = Report::default();
    node::privileges(machine, config, &mut report);
    let drivers = node::dpdk(machine, &mut report);
    cores::processor(machine, &mut report);
    cores::clock_source(machine, &mut report);
    node::time(machine, config, &mut report);
    node::tun(machine, &mut report);
    match config {
        None => {
            memory::hugepages_there(machine, &mut report);
            pci::list(machine, &drivers, &mut report);
        }
        Some(config) => {
            let running = node::instance(machine, config, &mut report);
            node::files(machine, config, &mut report);
            node::run_dir(machine, config, &mut report);
            node::kernel_features(machine, config, &mut report);
            node::listen(machine, config, running, &mut report);
            cores::placement(machine, config, &mut report);
            memory::hugepages(machine, config, running, &mut report);
            memory::buffers(config, &mut report);
            memory::locked(machine, config, &mut report);
            devices::ports(machine, config, &drivers, &mut report);
        }
    }
    report.0
}

/// The counts of the statuses, as the last line of an examination.
#[must_use]
pub fn summary(findings: &[Finding]) -> String {
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    match (count(Status::Fail), count(Status::Warn)) {
        (0, 0) => format!("all {} checks are ok", findings.len()),
        (fails, warns) => format!("of {} checks, {fails} failed and {warns} warn", findings.len()),
    }
}

/// Whether a router would run.
#[must_use]
pub fn is_fit(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.status != Status::Fail)
}

#[cfg(test)]
mod tests;
