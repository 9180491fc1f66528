//! Policies as operators write them: TOML, with formulas as text.
//!
//! What [`load`] gives is a policy that has an encoding; whether it is a wise one is the operator's business. Unknown
//! keys are errors that name the nearest known one; nothing has a silent default. The names of a file's `[define]` are
//! expanded when it is read: a policy has none.

use crate::formula::{self, DefinitionError, Definitions, FormulaError};
use crate::text::{Document, Place, Table, TomlFault, nearest};
use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use vinet_trusted::packet::Test;
use vinet_trusted::policy::{Costs, ISLANDS_MAX, Limits, OverBudget, Policy, PolicyError, PrincipalKind};
use vinet_trusted::program::WINDOW_MAX;

const POLICY_KEYS: &[&str] = &["name", "principals", "costs", "define", "allow", "limits"];
const ALLOW_KEYS: &[&str] = &["discard", "group", "scan", "generate"];
const COST_KEYS: &[&str] = &[
    "program",
    "select",
    "select_many",
    "partition",
    "foreach",
    "test",
    "set",
    "arithmetic",
    "turn",
    "discard",
    "contains",
    "contains_per_64_bytes",
    "stream",
    "content",
    "content_per_64_bytes",
    "generate",
    "generate_per_64_bytes",
];
const LIMIT_KEYS: &[&str] = &[
    "program_bytes_max",
    "proof_bytes_max",
    "lifetime_max_s",
    "complexity_max",
    "cost_max",
    "packet_bytes_max",
    "window_packets_max",
    "window_us_max",
    "generate_port",
    "generate_rate_max",
    "stream_flows_max",
    "stream_islands_max",
    "packet_rate_default",
    "packet_rate_max",
    "over_budget",
];
const END_USER: &str = "end-user";
const EDGE_ROUTER: &str = "edge-router";
const FORWARD: &str = "forward";
const DROP: &str = "drop";
const MAX_32: u64 = u32::MAX as u64;

/// Why a file is no policy. The operator is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyFileError {
    /// A file cannot be read.
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: String,
    },
    /// Something in a file is not as it should be.
    Toml(TomlFault),
    /// A definition is none.
    Definition {
        /// Where it stands.
        place: Place,
        /// Its name.
        name: String,
        /// What is wrong with it.
        error: DefinitionError,
    },
    /// A formula is none.
    Formula {
        /// Where its text starts.
        place: Place,
        /// Its key.
        key: &'static str,
        /// Its text.
        text: String,
        /// What is wrong with it.
        error: Box<FormulaError>,
    },
    /// The parts do not make a policy.
    Policy {
        /// The file.
        path: PathBuf,
        /// Why.
        error: PolicyError,
    },
}

impl From<TomlFault> for PolicyFileError {
    fn from(fault: TomlFault) -> Self {
        PolicyFileError::Toml(fault)
    }
}

impl fmt::Display for PolicyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyFileError::Io { path, error } => write!(f, "{}: cannot read it: {error}", path.display()),
            PolicyFileError::Toml(fault) => fault.fmt(f),
            PolicyFileError::Definition { place, name, error } => write!(f, "{place}: `define.{name}`: {error}"),
            PolicyFileError::Formula { place, key, text, error } => {
                write!(f, "{place}: `allow.{key}` = `{text}`: {error}")
            }
            PolicyFileError::Policy { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for PolicyFileError {}

/// Reads a policy file, and the file of costs that it names.
///
/// # Errors
/// The first fault found, with its place.
pub fn load(path: &Path) -> Result<Policy, PolicyFileError> {
    parse(&read(path)?, path)
}

/// Reads the text of a policy file that stands at `file`, from where the file of costs is found.
///
/// # Errors
/// The first fault found, with its place.
pub fn parse(text: &str, file: &Path) -> Result<Policy, PolicyFileError> {
    let document = Document { file, text };
    let mut root = document.root(POLICY_KEYS)?;
    let (name, _) = root.string("name", "the policy's name")?;
    let kinds = [(END_USER, PrincipalKind::EndUser), (EDGE_ROUTER, PrincipalKind::EdgeRouter)];
    let principals = choice(&document, &mut root, "principals", &kinds)?;
    let costs = if root.is_string("costs") {
        let (costs, _) = root.string("costs", "the path of a file of costs, or a table")?;
        load_costs(&file.parent().unwrap_or(Path::new("")).join(costs))?
    } else {
        read_costs(root.table("costs", COST_KEYS)?)?
    };
    let names = definitions(&document, &mut root)?;
    let mut allow = root.table("allow", ALLOW_KEYS)?;
    let mut formula = |key: &'static str| -> Result<(Test, usize), PolicyFileError> {
        let (text, at) = allow.string(key, "a formula, such as \"owns(dst)\"")?;
        let formula = formula::parse_with(&text, &names).map_err(|error| PolicyFileError::Formula {
            place: Place::of(document.file, document.text, at),
            key,
            text: text.chars().take(200).collect(),
            error: Box::new(error),
        })?;
        Ok((formula, at))
    };
    let (discard, group, scan) = (formula("discard")?.0, formula("group")?.0, formula("scan")?.0);
    let (generate, at) = formula("generate")?;
    if !generate.is_of_addresses() {
        let what = "`allow.generate` is about packets that are yet to be made: it may speak of `src` and `dst` only";
        return Err(document.fault(at, what).into());
    }
    let mut limits = root.table("limits", LIMIT_KEYS)?;
    let over_budgets = [(FORWARD, OverBudget::Forward), (DROP, OverBudget::Drop)];
    let limits = Limits {
        program_bytes_max: limits.u32("program_bytes_max")?,
        proof_bytes_max: limits.u32("proof_bytes_max")?,
        lifetime_max_s: limits.u32("lifetime_max_s")?,
        complexity_max: limits.integer("complexity_max", u64::MAX)?,
        cost_max: limits.integer("cost_max", u64::MAX)?,
        packet_bytes_max: limits.u32("packet_bytes_max")?,
        window_packets_max: limits.integer("window_packets_max", u64::from(WINDOW_MAX))? as u16,
        window_us_max: limits.u32("window_us_max")?,
        generate_port: limits.integer("generate_port", u64::from(u16::MAX))? as u16,
        generate_rate_max: limits.u32("generate_rate_max")?,
        stream_flows_max: limits.u32("stream_flows_max")?,
        stream_islands_max: limits.integer("stream_islands_max", u64::from(ISLANDS_MAX))? as u8,
        packet_rate_default: limits.u32("packet_rate_default")?,
        packet_rate_max: limits.u32("packet_rate_max")?,
        over_budget: choice(&document, &mut limits, "over_budget", &over_budgets)?,
    };
    let policy = Policy { name, principals, discard, group, scan, generate, costs, limits };
    policy.validate().map_err(|error| PolicyFileError::Policy { path: file.to_path_buf(), error })?;
    Ok(policy)
}

/// Reads a file of costs.
///
/// # Errors
/// The first fault found, with its place.
pub fn load_costs(path: &Path) -> Result<Costs, PolicyFileError> {
    let text = read(path)?;
    let document = Document { file: path, text: &text };
    Ok(read_costs(document.root(COST_KEYS)?)?)
}

fn read(path: &Path) -> Result<String, PolicyFileError> {
    std::fs::read_to_string(path)
        .map_err(|error| PolicyFileError::Io { path: path.to_path_buf(), error: error.to_string() })
}

impl Table<'_, '_> {
    fn u32(&mut self, key: &'static str) -> Result<u32, TomlFault> {
        self.integer(key, MAX_32).map(|value| value as u32)
    }
}

fn read_costs(mut table: Table<'_, '_>) -> Result<Costs, TomlFault> {
    Ok(Costs {
        program: table.u32("program")?,
        select: table.u32("select")?,
        select_many: table.u32("select_many")?,
        partition: table.u32("partition")?,
        foreach: table.u32("foreach")?,
        test: table.u32("test")?,
        set: table.u32("set")?,
        arithmetic: table.u32("arithmetic")?,
        turn: table.u32("turn")?,
        discard: table.u32("discard")?,
        contains: table.u32("contains")?,
        contains_per_64_bytes: table.u32("contains_per_64_bytes")?,
        stream: table.u32("stream")?,
        content: table.u32("content")?,
        content_per_64_bytes: table.u32("content_per_64_bytes")?,
        generate: table.u32("generate")?,
        generate_per_64_bytes: table.u32("generate_per_64_bytes")?,
    })
}

/// The names of `[define]`, if the file has it.
fn definitions(document: &Document<'_>, root: &mut Table<'_, '_>) -> Result<Definitions, PolicyFileError> {
    let entries = root.strings("define", "a formula, such as \"protocol = tcp and dstport = 443\"")?;
    let texts: Vec<(String, String)> = entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
    Definitions::new(&texts).map_err(|(index, error)| PolicyFileError::Definition {
        place: Place::of(document.file, document.text, entries[index].at),
        name: entries[index].key.clone(),
        error,
    })
}

/// One of a few words.
fn choice<T: Copy>(
    document: &Document<'_>,
    table: &mut Table<'_, '_>,
    key: &'static str,
    choices: &[(&'static str, T)],
) -> Result<T, TomlFault> {
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let expected = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
    let (found, at) = table.string(key, &expected)?;
    choices.iter().find(|(word, _)| *word == found).map(|(_, value)| *value).ok_or_else(|| {
        let hint = nearest(&found, &words).map_or(String::new(), |near| format!(" (did you mean \"{near}\"?)"));
        document.fault(at, format!("`{key}` must be {expected}; found \"{}\"{hint}", found.escape_debug()))
    })
}

/// A commented file that [`load`] reads as the same policy, with its costs in it.
#[must_use]
pub fn print(policy: &Policy) -> String {
    let kind = match policy.principals {
        PrincipalKind::EndUser => END_USER,
        PrincipalKind::EdgeRouter => EDGE_ROUTER,
    };
    let over_budget = match policy.limits.over_budget {
        OverBudget::Forward => FORWARD,
        OverBudget::Drop => DROP,
    };
    let (c, l) = (&policy.costs, &policy.limits);
    let mut out = String::new();
    let mut section = |head: &str, lines: &[(&str, String, &str)]| {
        out.push_str(head);
        for (key, value, comment) in lines {
            let setting = format!("{key} = {value}");
            // Writing into a string cannot fail.
            let _ = writeln!(out, "{setting:<36} # {comment}");
        }
    };
    section(
        "",
        &[("name", quoted(&policy.name), "for people"), ("principals", quoted(kind), "whose programs this is about")],
    );
    section(
        "\n# What a program may do to a packet, for each kind of event.\n[allow]\n",
        &[
            ("discard", quoted(&formula::print(&policy.discard)), "drop it"),
            ("group", quoted(&formula::print(&policy.group)), "put it into a group by an address or its content"),
            ("scan", quoted(&formula::print(&policy.scan)), "look at its content"),
            ("generate", quoted(&formula::print(&policy.generate)), "make and send it"),
        ],
    );
    section(
        "\n# What each step costs, in processor cycles per packet.\n[costs]\n",
        &[
            ("program", c.program.to_string(), "any program, for each packet that it is given"),
            ("select", c.select.to_string(), "a selection"),
            ("select_many", c.select_many.to_string(), "more, where its set has several prefixes or names"),
            ("partition", c.partition.to_string(), "a partition by address"),
            ("foreach", c.foreach.to_string(), "a group of a foreach, besides its block"),
            ("test", c.test.to_string(), "a node of a condition or test"),
            ("set", c.set.to_string(), "a union, a difference, or counting the packets of a set"),
            ("arithmetic", c.arithmetic.to_string(), "a node of an integer expression"),
            ("turn", c.turn.to_string(), "a turn of a while, besides its condition and block"),
            ("discard", c.discard.to_string(), "a discard"),
            ("contains", c.contains.to_string(), "a search for a word, besides the bytes"),
            ("contains_per_64_bytes", c.contains_per_64_bytes.to_string(), "a search, for every 64 bytes begun"),
            ("stream", c.stream.to_string(), "the upkeep of streams, if words are searched for"),
            ("content", c.content.to_string(), "a grouping by content, besides the bytes"),
            ("content_per_64_bytes", c.content_per_64_bytes.to_string(), "a grouping, for every 64 bytes begun"),
            ("generate", c.generate.to_string(), "a GENERATE, besides the bytes"),
            ("generate_per_64_bytes", c.generate_per_64_bytes.to_string(), "a GENERATE, for every 64 bytes begun"),
        ],
    );
    section(
        "\n[limits]\n",
        &[
            ("program_bytes_max", l.program_bytes_max.to_string(), "bytes of a program"),
            ("proof_bytes_max", l.proof_bytes_max.to_string(), "bytes of a proof"),
            ("lifetime_max_s", l.lifetime_max_s.to_string(), "seconds"),
            ("complexity_max", l.complexity_max.to_string(), "cycles per packet"),
            ("cost_max", l.cost_max.to_string(), "cycles per packet times seconds"),
            ("packet_bytes_max", l.packet_bytes_max.to_string(), "bytes of a packet, from the IP header on"),
            ("window_packets_max", l.window_packets_max.to_string(), "packets of a window"),
            ("window_us_max", l.window_us_max.to_string(), "microseconds that a packet may wait for its window"),
            ("generate_port", l.generate_port.to_string(), "the UDP port that generated packets go to"),
            ("generate_rate_max", l.generate_rate_max.to_string(), "packets a second that one program generates"),
            ("stream_flows_max", l.stream_flows_max.to_string(), "TCP flows that one program follows"),
            ("stream_islands_max", l.stream_islands_max.to_string(), "separate runs of bytes kept of a flow"),
            ("packet_rate_default", l.packet_rate_default.to_string(), "packets a second, where none is asked for"),
            ("packet_rate_max", l.packet_rate_max.to_string(), "packets a second that may be asked for"),
            ("over_budget", quoted(over_budget), "what becomes of packets beyond the rate"),
        ],
    );
    out
}

/// A TOML string of printable ASCII, which is all that a policy has.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(name)
    }

    fn end_user() -> Policy {
        load(&shipped("policy/end-user.toml")).unwrap()
    }

    #[test]
    fn every_shipped_policy_is_one() {
        let mut found = 0;
        for entry in std::fs::read_dir(shipped("policy")).unwrap() {
            let path = entry.unwrap().path();
            let policy = load(&path).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(path.file_stem().unwrap().to_str(), Some(&*policy.name), "a policy is called as its file is");
            assert_eq!(Policy::decode(&policy.encode()), Ok(policy.clone()));
            let lines = std::fs::read_to_string(&path).unwrap();
            assert!(lines.starts_with('#'), "{}: a shipped file starts with what it is", path.display());
            found += 1;
        }
        assert!(found >= 2);
        assert_eq!(end_user().principals, PrincipalKind::EndUser);
        assert_eq!(load(&shipped("policy/edge-router.toml")).unwrap().principals, PrincipalKind::EdgeRouter);
        load_costs(&shipped("costs.toml")).unwrap();
    }

    #[test]
    fn what_is_printed_is_read_as_the_same_policy() {
        let mut policy = end_user();
        policy.name = "a \"quoted\" \\ name".into();
        policy.limits.cost_max = u64::MAX;
        policy.limits.over_budget = OverBudget::Drop;
        policy.principals = PrincipalKind::EdgeRouter;
        policy.scan = formula::parse("not (src in {self, 10.0.0.0/8} or owns(src)) and dst = subnet").unwrap();
        policy.discard =
            formula::parse("owns(dst) and (protocol != icmp or length in 1000..1500) and not syn").unwrap();
        policy.generate = formula::parse("dst = self and not src in 10.0.0.0/8").unwrap();
        let text = print(&policy);
        assert_eq!(parse(&text, Path::new("printed.toml")), Ok(policy), "{text}");
    }

    #[test]
    fn errors_say_where_and_what_was_expected() {
        let good = print(&end_user());
        let error = |from: &str, to: &str| {
            assert!(good.contains(from), "the test's own text is wrong: {from}");
            parse(&good.replacen(from, to, 1), Path::new("policy/x.toml")).unwrap_err().to_string()
        };
        let expect = |from: &str, to: &str, parts: &[&str]| {
            let message = error(from, to);
            for part in parts {
                assert!(message.contains(part), "{message:?} does not say {part:?}");
            }
            assert!(message.contains("policy/x.toml"), "{message:?} names no file");
        };
        expect(
            "lifetime_max_s",
            "lifetime_maxs",
            &[":34:1", "lifetime_maxs", "did you mean `lifetime_max_s`?", "[limits]"],
        );
        expect("principals = \"end-user\"", "principals = \"enduser\"", &[":2:", "did you mean \"end-user\"?"]);
        expect("[allow]", "[alow]", &["did you mean `allow`?"]);
        expect("\"owns(dst)\"", "\"own(dst)\"", &[":6:", "allow.discard", "did you mean `owns`?"]);
        expect("\"owns(dst)\"", "7", &["`allow.discard` must be a formula", "found a TOML integer"]);
        expect("complexity_max = ", "complexity_max = -", &["complexity_max", "0 to"]);
        expect("stream_islands_max = ", "stream_islands_max = 9", &["stream_islands_max", "0 to 64"]);
        expect("stream_islands_max = 8", "stream_islands_max = 0", &["islands"]);
        expect("window_packets_max = ", "window_packets_max = 99", &["window_packets_max", "0 to 256"]);
        expect("generate = \"", "generate = \"syn and ", &[":9:", "`allow.generate`", "`src` and `dst` only"]);
        expect("[allow]", "[define]\nmail = \"dstport = 25\"\n[alow]", &["did you mean `allow`?"]);
        expect("[allow]", "[define]\nmail = 25\n[allow]", &[":6:8", "`define.mail` must be a formula"]);
        expect("[allow]", "[define]\nmail = \"dstport\"\n[allow]", &[":6:8", "`define.mail`: in the formula"]);
        expect("[allow]", "[define]\na = \"b\"\nb = \"a\"\n[allow]", &["`define.a`", "a, which uses b, which uses a"]);
        expect(
            "[allow]\ndiscard = \"",
            "[define]\nmail = \"dstport = 25\"\n[allow]\ndiscard = \"mial and ",
            &["allow.discard", "did you mean `mail`?"],
        );
        expect("over_budget = \"forward\"", "over_budget = \"fwd\"", &["\"forward\" or \"drop\"", "fwd"]);
        expect("name = \"end-user\"", "name = \"\"", &["name"]);
        expect("name = \"end-user\"", "", &["`name` is missing"]);
        expect("[costs]", "[costs", &["not valid TOML"]);
        expect("program = ", "program = 99999999999999999999", &["costs.program", "4294967295"]);
        expect("name = ", "costs = \"nowhere.toml\"\nname = ", &["TOML"]);
        let text = "name = \"x\"\nprincipals = \"end-user\"\ncosts = \"nowhere.toml\"\n";
        let missing = parse(text, Path::new("policy/x.toml")).unwrap_err().to_string();
        assert!(missing.contains("policy/nowhere.toml"), "{missing}");
    }

    #[test]
    fn definitions_are_expanded_when_the_file_is_read() {
        let defined = print(&end_user()).replacen(
            "[allow]\ndiscard = \"",
            "[define]\nmail = \"protocol = tcp and ports\"\nports = \"dstport in {25, 587}\"\n[allow]\ndiscard = \"not mail and ",
            1,
        );
        let policy = parse(&defined, Path::new("x")).unwrap();
        let discard = formula::print(&policy.discard);
        assert!(discard.starts_with("not (protocol in tcp and dstport in {25, 587}) and "), "{discard}");
        assert_eq!(parse(&print(&policy), Path::new("x")), Ok(policy));
    }

    #[test]
    fn any_text_is_a_policy_or_an_error() {
        let seed = crate::testing::seed();
        let mut random = crate::testing::Random::new(seed);
        let good = print(&end_user());
        for _ in 0..3000 {
            let mut bytes = good.clone().into_bytes();
            for _ in 0..1 + random.below(4) {
                let at = random.below(bytes.len() as u64) as usize;
                match random.below(3) {
                    0 => bytes[at] = random.next() as u8,
                    1 if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(policy) = parse(&text, Path::new("x")) {
                assert_eq!(parse(&print(&policy), Path::new("x")), Ok(policy), "seed {seed}: {text}");
            }
        }
    }
}
