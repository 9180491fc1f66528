//! The commands of who operates a router, over its admin socket: why.

use super::answer::{self, Failure, Outcome, Refusal};
use super::{AdminSocket, Why};
use serde_json::{Value, json};
use std::fmt;
use std::path::Path;
use std::time::Duration;
use vinet_client::admin::{self, Admin, AdminError, RUN_DIR};

/// The longest that an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        match &error {
            AdminError::Refused { .. } => Refusal::new("refused", &error, None, None).into(),
            _ => Failure::Unusable(error.to_string()),
        }
    }
}

impl AdminSocket {
    pub(super) fn open(&self) -> Result<Admin, Failure> {
        let path = match &self.socket {
            Some(path) => path.clone(),
            None => admin::only_socket(Path::new(RUN_DIR))?,
        };
        Ok(Admin::open(&path, LIMIT)?)
    }
}

/// Text of a router without what could steer a terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The text under `key`, or nothing.
pub(super) fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).map(plain).unwrap_or_default()
}

/// The number under `key`, or 0.
pub(super) fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// Tells which programs act on a pair. Status 1 where none does.
pub(super) fn why(args: &Why) -> Outcome {
    let answer = args.socket.open()?.ask(&json!({ "cmd": "why", "src": args.src, "dst": args.dst }))?;
    let none = answer["programs"].as_array().is_none_or(Vec::is_empty) || answer["meets_programs"] != true;
    if args.json.json {
        answer::print_json(&answer)?;
    } else {
        answer::print(&Told(&answer))?;
    }
    if none {
        let words = format_args!("no program here acts on packets from {} to {}", args.src, args.dst).to_string();
        return Err(Refusal::new("none", &words, None, None).into());
    }
    Ok(())
}

/// The answer to `why` in words.
struct Told<'a>(&'a Value);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = self.0;
        write!(f, "{} -> {}", text(answer, "src"), text(answer, "dst"))?;
        match answer["source_port"].as_str() {
            Some(port) => write!(f, "\n  source   behind port {}, which controls it", plain(port))?,
            None => write!(f, "\n  source   behind no port that controls it: no program here can be about it")?,
        }
        if answer["router_itself"] == true {
            write!(f, "\n  note     one end is the router itself, whose packets meet no programs")?;
        }
        if let Some(route) = answer.get("route").filter(|route| route.is_object()) {
            write!(f, "\n  route    {} {}", text(route, "prefix"), text(route, "kind"))?;
            let (port, gateway) = (text(route, "port"), text(route, "gateway"));
            if !gateway.is_empty() {
                write!(f, " {gateway}")?;
            }
            if !port.is_empty() {
                write!(f, " port {port}")?;
            }
        }
        let programs = answer["programs"].as_array().map(Vec::as_slice).unwrap_or_default();
        for (place, program) in programs.iter().enumerate() {
            let of = |key| number(program, key);
            write!(
                f,
                "\n  {:<8} program {} of {} ({}): saw {} packets, discarded {} ({} bytes), {} over budget; {} s left",
                format!("{}.", place + 1),
                of("instance"),
                text(program, "owner"),
                text(program, "class"),
                of("packets_seen"),
                of("packets_discarded"),
                of("bytes_discarded"),
                of("packets_over_budget"),
                of("seconds_left"),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_is_told_in_the_order_in_which_programs_run() {
        let program = |instance: u64| {
            json!({
                "instance": instance, "owner": "198.51.100.7", "class": "header", "packets_seen": 10,
                "packets_discarded": 9, "bytes_discarded": 900, "packets_over_budget": 1, "seconds_left": 60,
            })
        };
        let answer = json!({
            "src": "192.0.2.66", "dst": "198.51.100.7", "source_port": "ed\u{1b}ge", "router_itself": false,
            "meets_programs": true, "programs": [program(4), program(2)],
            "route": { "prefix": "198.51.100.0/24", "kind": "via", "port": "uplink", "gateway": null },
        });
        let told = Told(&answer).to_string();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[0], "192.0.2.66 -> 198.51.100.7");
        assert_eq!(lines[1], "  source   behind port ed\u{fffd}ge, which controls it");
        assert_eq!(lines[2], "  route    198.51.100.0/24 via port uplink");
        assert!(
            lines[3].starts_with("  1.       program 4 of 198.51.100.7 (header): saw 10 packets, discarded 9 (900 ")
        );
        assert!(lines[4].starts_with("  2.       program 2 "), "{told}");
        // Whatever a socket answers, nothing panics.
        for odd in [json!(null), json!({ "programs": 7 }), json!({ "programs": [null, 1, "x"] }), json!([1])] {
            let _ = Told(&odd).to_string();
        }
    }
}
