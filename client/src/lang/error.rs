//! What can be wrong with a source text: a cause, its place, what was expected, and what to do.
//!
//! An [`Errors`] holds at least one [`Diagnostic`], in the order of the text, each with its own excerpt.

use super::token::{Span, routines};
use ariadne::{Color, Config, IndexType, Label, Report, ReportKind, Source};
use std::fmt;
use std::sync::Arc;
use vinet_trusted::addr::Prefix;
use vinet_trusted::packet::RANGES_MAX;
use vinet_trusted::program::{
    DEPTH_MAX, LIFETIME_MAX_S, LOOP_MAX, NODES_MAX, PREFIXES_MAX, ProgramError, SLOTS_MAX, WINDOW_MAX, WORD_LEN_MAX,
    WORDS_MAX,
};

/// The longest source text, in bytes.
pub const SOURCE_BYTES_MAX: usize = 4 << 20;
/// The deepest nesting that the parser follows; the bytecode allows less.
pub const PARSE_DEPTH_MAX: usize = 64;
/// The most errors told at once.
pub const ERRORS_MAX: usize = 20;

/// Why a text is no program.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // The sentence of each variant is in `Display`.
pub enum Cause {
    SourceTooLong { len: usize },
    UnknownCharacter(char),
    UnclosedString,
    BadEscape(String),
    NotAnAddress(String),
    PrefixLength { written: String, width: u8 },
    HostBits { written: String, network: Prefix },
    NumberTooLarge(String),
    Unexpected { found: String, expected: &'static str, nearest: Option<String> },
    MissingSemicolon { after: &'static str },
    TooDeeplyWritten,
    UnknownRoutine { name: String, nearest: Option<String> },
    NoResult { routine: &'static str },
    LifetimeMissing,
    LifetimeTwice,
    LifetimeInside,
    LifetimeRange { count: u64, unit: String },
    UnknownUnit { name: String, nearest: Option<String> },
    WindowInside,
    WindowRange { count: u64 },
    ClauseTwice(&'static str),
    LoopWithoutBound,
    LoopRange(i128),
    NotInLoop { routine: &'static str, place: &'static str },
    InvariantOfContent,
    InvariantOfVariable { var: String },
    UnknownTest { name: String, nearest: Option<String> },
    RangeReversed,
    TooManyRanges,
    ManyNumbers { name: String },
    NotAnInteger(String),
    IntegerIn,
    AddressOrder,
    IntegerWithAddress,
    NotOneAddress { text: String },
    ContentResults,
    ResultIndexed { var: String },
    OneResult,
    KindChanged { name: String, first: Kind, second: Kind },
    WrongKind { var: String, is: Kind, wanted: Kind },
    NotData { var: String },
    NotCopied { var: String },
    NotAParameter { name: String, is: Kind },
    EmptyAddrs,
    NestedAddrs,
    AddressOnTheLeft,
    NotCompared(String),
    ReservedName { name: String },
    IndexMissing { name: String },
    IndexWithAddress { name: String, index: String },
    IndexesDiffer { first: String, second: String },
    SameResultTwice { name: String },
    TooManyResults,
    PairWithoutIndex,
    AllPacketsAssigned,
    PlainAndIndexed { name: String },
    IndexTaken { index: String },
    IndexRunning { index: String },
    UnknownIndex { index: String, nearest: Option<String> },
    NoSuchResult { name: String, index: String, results: Vec<String> },
    OutsideForeach { var: String, index: String },
    IndexNeeded { name: String },
    NotIndexed { name: String },
    BothKinds { var: String },
    BothKeys { first: String, second: String },
    BothPackets { first: String, second: String },
    NotPackets { name: String },
    UndefinedPackets { name: String, nearest: Option<String> },
    NotAssignedYet { var: String },
    WordOfSet { name: String },
    ParameterUnset { name: String, what: ParameterKind, nearest: Option<String> },
    ParameterTwoKinds { name: String, kinds: [ParameterKind; 2] },
    ThisIpUnset,
    ThisSubnetUnset,
    EmptyWord,
    WordTooLong { len: usize },
    TooManyWords,
    TooManyPrefixes { count: usize },
    TooManyVariables,
    TooManyNodes,
    TooDeep,
    BadSetting,
    SetTwice { name: String },
    SetUnknown { name: String, nearest: Option<String>, parameters: Vec<String> },
    SetAssigned { name: String },
    SetValue { name: String, inner: Box<Cause> },
    SetValueRest,
    Refused(ProgramError),
}

/// What a parameter stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ParameterKind {
    /// An address, a prefix or a set of them.
    Addrs,
    /// A string.
    Word,
    /// An integer, or a set of numbers.
    Number,
}

impl fmt::Display for ParameterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ParameterKind::Addrs => "an address",
            ParameterKind::Word => "a string",
            ParameterKind::Number => "an integer",
        })
    }
}

/// What a variable stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A set of packets.
    Packets,
    /// An integer.
    Int,
    /// An address.
    Addr,
    /// The destinations of a GROUP_BY_CONTENT.
    Dests,
    /// The contents of a GROUP_BY_CONTENT.
    Contents,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Packets => "a set of packets",
            Kind::Int => "an integer",
            Kind::Addr => "an address",
            Kind::Dests => "the destinations of a GROUP_BY_CONTENT",
            Kind::Contents => "the contents of a GROUP_BY_CONTENT",
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::SourceTooLong { len } => {
                write!(f, "the source text has {len} bytes; at most {SOURCE_BYTES_MAX} are read")
            }
            Cause::UnknownCharacter(c) => write!(f, "the character {c:?} means nothing here"),
            Cause::UnclosedString => write!(f, "the string is not closed on its line"),
            Cause::BadEscape(escape) => write!(f, "`{escape}` is no escape of a string"),
            Cause::NotAnAddress(text) => write!(f, "`{text}` is no IPv4 or IPv6 address"),
            Cause::PrefixLength { written, width } => {
                write!(f, "`/{written}` is no prefix length; this family has 0 to {width}")
            }
            Cause::HostBits { written, .. } => write!(f, "`{written}` has bits set behind its prefix length"),
            Cause::NumberTooLarge(text) => write!(f, "the number {text} is too large"),
            Cause::Unexpected { found, expected, .. } => write!(f, "expected {expected}, found {found}"),
            Cause::MissingSemicolon { after } => write!(f, "expected `;` behind {after}"),
            Cause::TooDeeplyWritten => write!(f, "nested deeper than {PARSE_DEPTH_MAX}"),
            Cause::UnknownRoutine { name, .. } => write!(f, "there is no routine {name}"),
            Cause::NoResult { routine } => write!(f, "{routine} has no result that a variable could hold"),
            Cause::LifetimeMissing => write!(f, "the program says no LIFETIME"),
            Cause::LifetimeTwice => write!(f, "the LIFETIME is said twice"),
            Cause::LifetimeInside => write!(f, "LIFETIME stands outside of all other statements"),
            Cause::LifetimeRange { count, unit } => {
                write!(f, "a lifetime of {count} {unit}; it is 1 to {LIFETIME_MAX_S} seconds")
            }
            Cause::UnknownUnit { name, .. } => write!(f, "`{name}` is no unit of time"),
            Cause::WindowInside => write!(f, "WINDOW stands outside of all other statements"),
            Cause::WindowRange { count } => write!(f, "a window of {count} packets; it is 1 to {WINDOW_MAX}"),
            Cause::ClauseTwice(clause) => write!(f, "`{clause}` is said twice"),
            Cause::LoopWithoutBound => write!(f, "the while says no bound"),
            Cause::LoopRange(turns) => write!(f, "a loop of {turns} turns; it is 1 to {LOOP_MAX}"),
            Cause::NotInLoop { routine, place } => write!(f, "{routine} cannot stand in {place}"),
            Cause::InvariantOfContent => write!(f, "an invariant says nothing of content"),
            Cause::InvariantOfVariable { var } => {
                write!(f, "{var} is a variable; the addresses of an invariant are constants")
            }
            Cause::UnknownTest { name, .. } => write!(f, "a packet has no `{name}` to ask for"),
            Cause::RangeReversed => write!(f, "the range ends before it begins"),
            Cause::TooManyRanges => write!(f, "the set has more than {RANGES_MAX} ranges of numbers"),
            Cause::ManyNumbers { name } => write!(f, "{name} has several numbers; one is expected"),
            Cause::NotAnInteger(text) => write!(f, "`{text}` is no integer of 64 bits"),
            Cause::IntegerIn => write!(f, "`in` and `is` ask of an address; this is an integer"),
            Cause::AddressOrder => write!(f, "addresses have no order; they are compared with = != in"),
            Cause::IntegerWithAddress => write!(f, "an integer is compared with an address"),
            Cause::NotOneAddress { text } => write!(f, "{text} is several addresses; one is expected"),
            Cause::ContentResults => {
                write!(f, "GROUP_BY_CONTENT has two results: the destinations, then the contents")
            }
            Cause::ResultIndexed { var } => write!(f, "only groups by address have an index: {var} has one"),
            Cause::OneResult => write!(f, "there is one result here"),
            Cause::KindChanged { name, first, second } => write!(f, "{name} is {first} and cannot become {second}"),
            Cause::WrongKind { var, is, wanted } => write!(f, "{var} is {is}; {wanted} is expected"),
            Cause::NotCopied { var } => write!(f, "{var} is a result of a GROUP_BY_CONTENT, which cannot be copied"),
            Cause::NotAParameter { name, is } => write!(f, "{name} is {is} of the program; a number stands here"),
            Cause::NotData { var } => write!(f, "{var} is no result of a GROUP_BY_CONTENT"),
            Cause::EmptyAddrs => write!(f, "the set of addresses is empty"),
            Cause::NestedAddrs => write!(f, "a set of addresses holds addresses and prefixes, no other set in braces"),
            Cause::AddressOnTheLeft => write!(f, "the address of the group stands on the left of a comparison"),
            Cause::NotCompared(var) => write!(f, "expected `=`, `!=` or `in` behind {var}"),
            Cause::ReservedName { name } => write!(f, "{name} is a word of the language and cannot be a variable"),
            Cause::IndexMissing { name } => write!(f, "groups need an index: {name} has none"),
            Cause::IndexWithAddress { name, index } => {
                write!(f, "with an address the result is one set: {name}({index}) has an index")
            }
            Cause::IndexesDiffer { first, second } => {
                write!(f, "the two results of one grouping have one index, not {first} and {second}")
            }
            Cause::SameResultTwice { name } => write!(f, "{name} stands for both results"),
            Cause::TooManyResults => write!(f, "a grouping has at most two results: packets and their common address"),
            Cause::PairWithoutIndex => write!(f, "with an address there is one result, a set of packets"),
            Cause::AllPacketsAssigned => write!(f, "AllPackets is given and cannot be assigned"),
            Cause::PlainAndIndexed { name } => write!(f, "{name} is used both with and without an index"),
            Cause::IndexTaken { index } => write!(f, "the index {index} belongs to another grouping"),
            Cause::IndexRunning { index } => write!(f, "the index {index} is being run through here"),
            Cause::UnknownIndex { index, .. } => write!(f, "no grouping has the index {index}"),
            Cause::NoSuchResult { name, index, .. } => {
                write!(f, "{name} is no result of the grouping with index {index}")
            }
            Cause::OutsideForeach { var, index } => write!(f, "{var} exists only inside `foreach {index} do`"),
            Cause::IndexNeeded { name } => write!(f, "{name} is one of many groups; it needs its index"),
            Cause::NotIndexed { name } => write!(f, "{name} is one set and has no index"),
            Cause::BothKinds { var } => write!(f, "{var} is used both as packets and as an address"),
            Cause::BothKeys { first, second } => {
                write!(f, "{first} and {second} are both used as an address; one of them is the packets")
            }
            Cause::BothPackets { first, second } => {
                write!(f, "{first} and {second} are both used as packets; one of them is the common address")
            }
            Cause::NotPackets { name } => write!(f, "{name} is not a set of packets"),
            Cause::UndefinedPackets { name, .. } => {
                write!(f, "no statement assigns {name}; a set of packets is expected")
            }
            Cause::NotAssignedYet { var } => write!(f, "{var} is not assigned on every way to here"),
            Cause::WordOfSet { name } => write!(f, "{name} is assigned by the program; a string is expected"),
            Cause::ParameterUnset { name, what, .. } => write!(f, "{name} is not set; {what} is expected"),
            Cause::ParameterTwoKinds { name, kinds: [first, second] } => {
                write!(f, "{name} is used both as {first} and as {second}")
            }
            Cause::ThisIpUnset => write!(f, "THIS_IP has no value: the principal gave its prefix without an address"),
            Cause::ThisSubnetUnset => write!(f, "THIS_SUBNET_IP has no value: the principal is an end user"),
            Cause::EmptyWord => write!(f, "the string is empty; every content contains it"),
            Cause::WordTooLong { len } => {
                write!(f, "the string has {len} bytes; at most {WORD_LEN_MAX} are searched for")
            }
            Cause::TooManyWords => write!(f, "the program has more than {WORDS_MAX} different strings"),
            Cause::TooManyPrefixes { count } => {
                write!(f, "the set of addresses has {count} prefixes; at most {PREFIXES_MAX} are allowed")
            }
            Cause::TooManyVariables => {
                write!(f, "the program has more than {SLOTS_MAX} variables, each foreach counting as two more")
            }
            Cause::TooManyNodes => write!(f, "the program has more than {NODES_MAX} statements and conditions"),
            Cause::TooDeep => write!(f, "nested deeper than {DEPTH_MAX} statements and conditions"),
            Cause::BadSetting => write!(f, "a setting is written NAME=VALUE"),
            Cause::SetTwice { name } => write!(f, "{name} is set twice"),
            Cause::SetUnknown { name, .. } => write!(f, "the program has no parameter {name}"),
            Cause::SetAssigned { name } => write!(f, "{name} is assigned by the program; only parameters can be set"),
            Cause::SetValue { name, inner } => write!(f, "the value of {name}: {inner}"),
            Cause::SetValueRest => write!(f, "there is more behind the end of the value"),
            Cause::Refused(error) => write!(f, "the program is refused: {error}"),
        }
    }
}

impl std::error::Error for Cause {}

impl Cause {
    /// What to do about it, where there is something to say.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        let did_you_mean = |nearest: &Option<String>| nearest.as_ref().map(|n| format!("did you mean {n}?"));
        match self {
            Cause::UnknownCharacter('&' | '|') => Some("write `and`, `or`".into()),
            Cause::UnknownCharacter('!') => Some("write `not`, or `!=` between an address and a set".into()),
            Cause::UnknownCharacter('\'') => Some("strings stand in double quotes".into()),
            Cause::UnknownCharacter('/') => {
                Some("comments start with `#` or `//`; a prefix is written 10.0.0.0/8".into())
            }
            Cause::UnknownCharacter(_) => None,
            Cause::UnclosedString => Some("close it with a double quote; a line break is written \\n".into()),
            Cause::BadEscape(_) => {
                Some("the escapes are \\n \\r \\t \\\\ \\\" and \\xNN with two hexadecimal digits".into())
            }
            Cause::NotAnAddress(_) => Some("like 203.0.113.7, 198.51.100.0/24, 2001:db8::7, 2001:db8::/32".into()),
            Cause::HostBits { network, .. } => Some(format!("did you mean {network}?")),
            Cause::Unexpected { nearest, .. } | Cause::UnknownUnit { nearest, .. } if nearest.is_some() => {
                did_you_mean(nearest)
            }
            Cause::UnknownUnit { .. } => Some("the units are seconds, minutes, hours, days and weeks".into()),
            Cause::UnknownRoutine { nearest, .. } => did_you_mean(nearest)
                .or_else(|| Some(format!("the routines are {}", routines().collect::<Vec<_>>().join(", ")))),
            Cause::UnknownTest { nearest, .. } => did_you_mean(nearest).or_else(|| {
                Some(
                    "it has protocol, srcport, dstport, length, src, dst, and fin syn rst psh ack urg under TCP".into(),
                )
            }),
            Cause::LoopWithoutBound => Some("add `max N`, or `variant EXPR` with an integer that falls".into()),
            Cause::NotInLoop { .. } => Some("assign it to a variable, inside the loop as well".into()),
            Cause::ContentResults => Some("write Destinations, Content = GROUP_BY_CONTENT(…);".into()),
            Cause::NotOneAddress { .. } => Some("it has to be one address of its own".into()),
            Cause::LifetimeMissing => Some("begin with a line like `LIFETIME = 2 days`".into()),
            Cause::EmptyAddrs => Some("write at least one address: {203.0.113.7}".into()),
            Cause::IndexMissing { name } => Some(format!(
                "write {name}(i) and use it inside `foreach i do`, or give an address as a second argument"
            )),
            Cause::IndexWithAddress { name, .. } => Some(format!("write {name} = …")),
            Cause::IndexTaken { .. } => Some("give this grouping an index of its own".into()),
            Cause::UnknownIndex { nearest, .. } => did_you_mean(nearest)
                .or_else(|| Some("an index is made by a grouping: Packets(i) = GROUP_BY_SOURCE(MyPackets);".into())),
            Cause::NoSuchResult { results, .. } => Some(format!("its results: {}", results.join(", "))),
            Cause::IndexNeeded { name } => Some(format!("write {name}(i) inside its foreach")),
            Cause::UndefinedPackets { nearest, .. } => did_you_mean(nearest),
            Cause::ParameterUnset { name, what, nearest } => {
                let value = match what {
                    ParameterKind::Addrs => "ADDRESS",
                    ParameterKind::Word => "STRING",
                    ParameterKind::Number => "NUMBER",
                };
                let set = format!("set it with --set {name}={value}");
                Some(match nearest {
                    Some(nearest) => format!("{set}; or did you mean {nearest}?"),
                    None => set,
                })
            }
            Cause::ThisIpUnset => Some("name the principal by its address and prefix length, as 192.0.2.1/24".into()),
            Cause::ThisSubnetUnset => Some("use THIS_IP, or name the principal as an edge router: 192.0.2.1/24".into()),
            Cause::SetUnknown { nearest, parameters, .. } => did_you_mean(nearest).or_else(|| {
                Some(if parameters.is_empty() {
                    "the program has no parameters".into()
                } else {
                    format!("its parameters: {}", parameters.join(", "))
                })
            }),
            Cause::SetValue { inner, .. } => inner.help(),
            _ => None,
        }
    }
}

/// A cause and its place in the text at hand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Located {
    pub(crate) span: Span,
    pub(crate) cause: Cause,
    /// Another place that belongs to it, and why.
    pub(crate) related: Option<Box<(Span, &'static str)>>,
}

impl Located {
    pub(crate) fn new(span: Span, cause: Cause) -> Located {
        Located { span, cause, related: None }
    }
    pub(crate) fn with(mut self, span: Span, why: &'static str) -> Located {
        self.related = Some(Box::new((span, why)));
        self
    }
}

/// One error, with the text that it is about.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    file: String,
    text: Arc<str>,
    located: Located,
}

impl Diagnostic {
    pub(crate) fn new(file: &str, text: &Arc<str>, located: Located) -> Diagnostic {
        Diagnostic { file: file.to_string(), text: Arc::clone(text), located }
    }
    /// The file, or the setting on the command line, that it is about.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }
    /// The line, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        position(&self.text, self.located.span.start).0
    }
    /// The column in characters, from 1.
    #[must_use]
    pub fn column(&self) -> usize {
        position(&self.text, self.located.span.start).1
    }
    /// Why.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.located.cause
    }
    /// The error with its source excerpt, over several lines.
    #[must_use]
    pub fn report(&self, color: bool) -> String {
        let file = self.file.as_str();
        let clamp = |span: &Span| {
            let end = span.end.min(self.text.len());
            (file, span.start.min(end)..end)
        };
        let help = self.located.cause.help();
        let mut report = Report::build(ReportKind::Error, clamp(&self.located.span))
            .with_config(Config::default().with_color(color).with_index_type(IndexType::Byte))
            .with_message(&self.located.cause)
            .with_label(
                Label::new(clamp(&self.located.span))
                    .with_color(Color::Red)
                    .with_message(help.as_deref().unwrap_or("here")),
            );
        if let Some(related) = &self.located.related {
            let (span, why) = &**related;
            report = report.with_label(Label::new(clamp(span)).with_color(Color::Blue).with_message(why));
        }
        let mut out = Vec::new();
        let written = report.finish().write((file, Source::from(&*self.text)), &mut out);
        match (written, String::from_utf8(out)) {
            (Ok(()), Ok(text)) => text,
            _ => format!("{self}\n"),
        }
    }
}

/// `file:line:column: cause; what to do`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line(), self.column(), self.located.cause)?;
        match self.located.cause.help() {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// Why a source text did not compile: at least one error, at most [`ERRORS_MAX`].
#[derive(Clone, Debug)]
pub struct Errors(pub(crate) Vec<Diagnostic>);

impl Errors {
    /// The errors, the first of the text first.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.0
    }
    /// All of them with their source excerpts.
    #[must_use]
    pub fn report(&self, color: bool) -> String {
        self.0.iter().map(|diagnostic| diagnostic.report(color)).collect()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// The line and the column of a byte, both from 1; columns count characters.
pub(crate) fn position(text: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The name among `known` that `name` may have been meant for.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let folded = name.to_ascii_lowercase();
    let len = name.chars().count();
    known
        .into_iter()
        .filter(|k| *k != name)
        .map(|k| (strsim::damerau_levenshtein(&folded, &k.to_ascii_lowercase()), k))
        .filter(|&(distance, k)| distance <= (len.max(k.len()) / 3).max(1) && distance < len)
        .min_by_key(|&(distance, k)| (distance, k))
        .map(|(_, k)| k.to_string())
}
