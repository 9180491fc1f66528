//! The file of costs: every key with what it is the price of, read and written.

use crate::machine;
use crate::run::PerfError;
use std::path::Path;
use vinet_session::policy_file;
use vinet_trusted::policy::Costs;

/// The keys of the cost model in the order of the file, each with what it is the price of.
pub const KEYS: [(&str, &str); 17] = [
    ("program", "Any program, for each packet that it is given: entering it."),
    ("select", "A selection by address (GROUP_BY_SOURCE or GROUP_BY_DESTINATION with an address)."),
    ("select_many", "More, where the set of a selection or test is written with more than one prefix or name."),
    ("partition", "A partition by address (GROUP_BY_SOURCE or GROUP_BY_DESTINATION without an address)."),
    ("foreach", "One group of a foreach, besides its block."),
    ("test", "One node of a condition: a comparison, a search, `not`, `and`, `or`."),
    ("discard", "One DISCARD."),
    ("contains", "One search for a word (CONTAINS_STRING), besides the bytes."),
    ("contains_per_64_bytes", "One search for a word, for every 64 bytes begun of the longest packet."),
    ("stream", "The upkeep of streams, once for each packet, if the program searches for words at all."),
    ("set", "One union or difference of sets, or counting the packets of one."),
    ("arithmetic", "One node of an integer expression, or an address counted from another."),
    ("turn", "One turn of a while, besides its condition and block."),
    ("content", "One grouping by content (GROUP_BY_CONTENT), besides the bytes."),
    ("content_per_64_bytes", "One grouping by content, for every 64 bytes begun of the longest packet."),
    ("generate", "One GENERATE, besides the bytes."),
    ("generate_per_64_bytes", "One GENERATE, for every 64 bytes begun of the longest packet."),
];

/// What the file says of where its figures come from.
pub struct Head {
    /// The machine.
    pub machine: String,
    /// The command that makes them again.
    pub command: String,
    /// How often everything was measured.
    pub passes: usize,
}

/// The costs in a file.
pub fn read(path: &Path) -> Result<Costs, PerfError> {
    policy_file::load_costs(path).map_err(|e| PerfError::Option(e.to_string()))
}

/// The figure of a key. Every key has one.
pub fn figure(costs: &Costs, key: &str) -> u32 {
    match key {
        "program" => costs.program,
        "select" => costs.select,
        "select_many" => costs.select_many,
        "partition" => costs.partition,
        "foreach" => costs.foreach,
        "test" => costs.test,
        "discard" => costs.discard,
        "contains" => costs.contains,
        "contains_per_64_bytes" => costs.contains_per_64_bytes,
        "stream" => costs.stream,
        "set" => costs.set,
        "arithmetic" => costs.arithmetic,
        "turn" => costs.turn,
        "content" => costs.content,
        "content_per_64_bytes" => costs.content_per_64_bytes,
        "generate" => costs.generate,
        "generate_per_64_bytes" => costs.generate_per_64_bytes,
        _ => unreachable!("{key} is not a key of the cost model"),
    }
}

/// Writes the file.
pub fn write(path: &Path, head: &Head, declared: impl Fn(&str) -> Option<u32>) -> Result<(), PerfError> {
    std::fs::write(path, text(head, declared)).map_err(|error| PerfError::File { path: path.to_owned(), error })
}

fn text(head: &Head, declared: impl Fn(&str) -> Option<u32>) -> String {
    let mut text = format!(
        "# What each step of a program costs, in processor cycles per packet of one core.\n\
         #\n\
         # Every policy file names this one, so a change here is a change of policy: programs are proven and checked against\n\
         # these figures. Each is the 99th percentile of the worst case that is tried, half as much again: the median of {}\n\
         # passes. One cycle is one of the time-stamp counter. Run the command on the machine that routes: a figure that is\n\
         # too small lets programs take more of the processor than they were admitted for, one that is too large only admits\n\
         # fewer programs. With --check it holds this file against the machine.\n\
         #\n\
         # machine: {}\n\
         # date:    {}\n\
         # command: {}\n",
        head.passes,
        head.machine,
        machine::today(),
        head.command
    );
    for (key, what) in KEYS {
        if let Some(cycles) = declared(key) {
            text += &format!("\n# {what}\n{key} = {cycles}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let head = Head { machine: "a machine".into(), command: "a command".into(), passes: 5 };
        let number = |key: &str| KEYS.iter().position(|(k, _)| *k == key).map(|at| 100 + at as u32);
        let file = tempfile::NamedTempFile::new().expect("a file");
        write(file.path(), &head, number).unwrap_or_else(|error| panic!("{error}"));
        let costs = read(file.path()).unwrap_or_else(|error| panic!("{error}"));
        for (key, _) in KEYS {
            assert_eq!(Some(figure(&costs, key)), number(key), "{key}");
        }
    }

    #[test]
    fn a_file_that_lacks_a_key_is_refused() {
        let head = Head { machine: String::new(), command: String::new(), passes: 1 };
        let file = tempfile::NamedTempFile::new().expect("a file");
        write(file.path(), &head, |key| (key != "turn").then_some(1)).unwrap_or_else(|error| panic!("{error}"));
        assert!(read(file.path()).is_err());
    }
}
