//! What an operator can ask for, and the way from a line to it.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::config::Cidr;

/// Nearest names of commands that differ in more than this are no help.
const NEAREST_DISTANCE_MAX: usize = 3;

/// What an operator can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// All counters of the fast path, with the conservation equation.
    Counters,
    /// The installed programs.
    Programs,
    /// Routes and neighbours in force.
    Fib,
    /// Ports with their links and the devices' own counters.
    Ports,
    /// Sessions, admission and capacity.
    Sessions,
    /// All that one look at a running router shows: cores, ports, drops, classes, capacity, the busiest programs.
    Status,
    /// Which programs act on packets from one address to another, and what they did.
    Why(Pair),
    /// Samples packets, with what becomes of each, until the operator goes.
    Trace(TraceRequest),
    /// Reads the configuration again and takes over what differs.
    Reload(ReloadOrder),
    /// The sources that owners' votes have shut off.
    ShutOffs,
    /// Where the credits are.
    Ledger,
    /// Lets a source back that is shut off.
    LetBack(IpAddr),
    /// Keeps what the last reload changed.
    Confirm,
    /// Undoes what the last reload changed, before its time is up.
    Rollback,
}

/// Which packets to sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TraceRequest {
    /// Only packets from here.
    pub src: Option<Cidr>,
    /// Only packets to there.
    pub dst: Option<Cidr>,
    /// Of those, one in so many, by chance.
    pub one_in: u32,
    /// Bytes of each packet to tell.
    pub bytes: usize,
    /// Packets to tell before it ends by itself.
    pub count: Option<u64>,
}

impl Default for TraceRequest {
    fn default() -> TraceRequest {
        TraceRequest { src: None, dst: None, one_in: 1, bytes: vinet_fastpath::trace::TRACE_BYTES_MAX, count: None }
    }
}

impl TraceRequest {
    /// As a request.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let prefix = |cidr: Option<Cidr>| cidr.map(|cidr| cidr.0.to_string());
        json!({
            "cmd": "trace", "src": prefix(self.src), "dst": prefix(self.dst), "one_in": self.one_in,
            "bytes": self.bytes, "count": self.count,
        })
    }
}

/// How to reload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadOrder {
    /// Undo it after so many seconds unless it is confirmed; absent is for good.
    pub confirm_within_s: Option<u32>,
    /// Only tell what differs.
    pub dry_run: bool,
}

/// A source and a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The source.
    pub src: IpAddr,
    /// The destination.
    pub dst: IpAddr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LetBack {
    source: IpAddr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Why a line is no command. The operator is at fault.
#[derive(Debug)]
pub enum CommandError {
    /// Not a JSON object with a `cmd`.
    Malformed {
        /// What is wrong with it.
        what: String,
    },
    /// No command has this name.
    Unknown {
        /// The name.
        name: String,
    },
    /// The command's arguments are not as it needs them.
    Arguments {
        /// The command.
        name: String,
        /// What is wrong with them.
        what: String,
    },
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = || Command::NAMES.join(", ");
        match self {
            CommandError::Malformed { what } => {
                write!(f, "expected {{\"cmd\":\"…\"}} with one of {}: {what}", known())
            }
            CommandError::Unknown { name } => {
                write!(f, "unknown command `{name}`; ")?;
                match nearest(name) {
                    Some(nearest) => write!(f, "did you mean `{nearest}`?"),
                    None => write!(f, "there are: {}", known()),
                }
            }
            CommandError::Arguments { name, what } => write!(f, "`{name}`: {what}"),
        }
    }
}
impl std::error::Error for CommandError {}

fn nearest(name: &str) -> Option<&'static str> {
    let ranked = Command::NAMES.into_iter().map(|known| (strsim::damerau_levenshtein(name, known), known));
    ranked.min().filter(|(distance, known)| *distance <= NEAREST_DISTANCE_MAX.min(known.len() / 2)).map(|(_, n)| n)
}

impl Command {
    /// The names of all commands.
    pub const NAMES: [&'static str; 14] = [
        "counters",
        "programs",
        "fib",
        "ports",
        "sessions",
        "status",
        "why",
        "trace",
        "reload",
        "confirm",
        "rollback",
        "shut-offs",
        "ledger",
        "let-back",
    ];

    /// The commands that need no arguments and change nothing.
    pub const PLAIN: [Command; 8] = [
        Command::Counters,
        Command::Programs,
        Command::Fib,
        Command::Ports,
        Command::Sessions,
        Command::Status,
        Command::ShutOffs,
        Command::Ledger,
    ];

    /// The command of one line, a JSON object: its name in `cmd`, its arguments beside it.
    ///
    /// # Errors
    /// [`CommandError`]
    pub fn parse(line: &[u8]) -> Result<Command, CommandError> {
        let malformed = |what: String| CommandError::Malformed { what };
        let mut object: Map<String, Value> =
            serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
        let name = match object.remove("cmd") {
            Some(Value::String(name)) => name,
            Some(other) => return Err(malformed(format!("{other} is no name"))),
            None => return Err(malformed("there is no `cmd`".to_owned())),
        };
        let arguments = Value::Object(object);
        let parsed = match name.as_str() {
            "counters" => plain(arguments, Command::Counters),
            "programs" => plain(arguments, Command::Programs),
            "fib" => plain(arguments, Command::Fib),
            "ports" => plain(arguments, Command::Ports),
            "sessions" => plain(arguments, Command::Sessions),
            "status" => plain(arguments, Command::Status),
            "trace" => with(arguments, Command::Trace),
            "reload" => with(arguments, Command::Reload),
            "shut-offs" => plain(arguments, Command::ShutOffs),
            "ledger" => plain(arguments, Command::Ledger),
            "let-back" => with(arguments, |LetBack { source }| Command::LetBack(source)),
            "confirm" => plain(arguments, Command::Confirm),
            "rollback" => plain(arguments, Command::Rollback),
            "why" => with(arguments, Command::Why),
            _ => return Err(CommandError::Unknown { name }),
        };
        parsed.map_err(|error| CommandError::Arguments { name, what: error.to_string() })
    }

    /// Its name in requests.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Command::Counters => "counters",
            Command::Programs => "programs",
            Command::Fib => "fib",
            Command::Ports => "ports",
            Command::Sessions => "sessions",
            Command::Status => "status",
            Command::Why(_) => "why",
            Command::Trace(_) => "trace",
            Command::Reload(_) => "reload",
            Command::ShutOffs => "shut-offs",
            Command::Ledger => "ledger",
            Command::LetBack(_) => "let-back",
            Command::Confirm => "confirm",
            Command::Rollback => "rollback",
        }
    }

    /// As a request: what [`Command::parse`] reads.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Command::Why(Pair { src, dst }) => json!({ "cmd": "why", "src": src, "dst": dst }),
            Command::Trace(request) => request.to_json(),
            Command::LetBack(source) => json!({ "cmd": "let-back", "source": source }),
            Command::Reload(ReloadOrder { confirm_within_s, dry_run }) => {
                json!({ "cmd": "reload", "confirm_within_s": confirm_within_s, "dry_run": dry_run })
            }
            plain => json!({ "cmd": plain.name() }),
        }
    }
}

fn plain(arguments: Value, command: Command) -> Result<Command, serde_json::Error> {
    serde_json::from_value(arguments).map(|Nothing {}| command)
}

fn with<A: DeserializeOwned>(arguments: Value, command: impl Fn(A) -> Command) -> Result<Command, serde_json::Error> {
    serde_json::from_value(arguments).map(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let pair = Pair { src: "192.0.2.1".parse().unwrap(), dst: "2001:db8::1".parse().unwrap() };
        let reload = |confirm_within_s| Command::Reload(ReloadOrder { confirm_within_s, dry_run: true });
        let from = Some("192.0.2.0/24".parse().unwrap());
        let trace = TraceRequest { src: from, count: Some(7), ..TraceRequest::default() };
        let others = [
            Command::Why(pair),
            Command::Trace(trace),
            Command::Trace(TraceRequest::default()),
            Command::LetBack(pair.src),
            reload(None),
            reload(Some(60)),
            Command::Confirm,
            Command::Rollback,
        ];
        for command in Command::PLAIN.into_iter().chain(others) {
            assert!(Command::NAMES.contains(&command.name()));
            assert_eq!(Command::parse(command.to_json().to_string().as_bytes()).unwrap(), command);
        }
    }

    #[test]
    fn every_name_is_a_commands() {
        for name in Command::NAMES {
            let parsed = Command::parse(format!("{{\"cmd\":\"{name}\",\"nonsense\":1}}").as_bytes());
            assert!(matches!(&parsed, Err(CommandError::Arguments { name: of, .. }) if of == name), "{parsed:?}");
        }
    }

    #[test]
    fn a_slip_is_told_with_what_was_expected() {
        for (line, words) in [
            ("rubbish", "expected {\"cmd\":\"…\"} with one of counters, programs"),
            ("{}", "there is no `cmd`"),
            ("{\"cmd\":7}", "7 is no name"),
            ("{\"cmd\":\"explode\"}", "unknown command `explode`; there are: counters"),
            ("{\"cmd\":\"conters\"}", "did you mean `counters`?"),
            ("{\"cmd\":\"counters\",\"port\":1}", "`counters`: unknown field `port`"),
            ("{\"cmd\":\"why\",\"src\":\"192.0.2.1\"}", "`why`: missing field `dst`"),
            ("{\"cmd\":\"why\",\"src\":\"192.0.2.1\",\"dst\":\"me\"}", "`why`: invalid IP address"),
        ] {
            let said = Command::parse(line.as_bytes()).expect_err(line).to_string();
            assert!(said.contains(words), "{line}: {said}");
        }
    }
}
