//! What can be wrong with a text, and where.

use core::fmt;
use vinet_trusted::lemma::LemmaError;

/// From the first byte to behind the last one.
pub type Span = core::ops::Range<usize>;

/// Something is wrong in a text. The client's author is at fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptError {
    /// Where, in bytes.
    pub span: Span,
    /// What.
    pub cause: Cause,
}

/// What is wrong. Formulas are written as the text form writes them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The text is longer than [`super::TEXT_BYTES_MAX`].
    TextTooLong,
    /// A character that begins nothing.
    StrangeCharacter(char),
    /// An integer of more than 64 bits.
    IntegerTooLarge,
    /// Something else is expected here.
    Expected {
        /// What.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Nested deeper than [`super::DEPTH_MAX`].
    TooDeep,
    /// Nothing has this name.
    UnknownName {
        /// What was looked for: a term, a theorem, a sort.
        what: &'static str,
        /// The name.
        name: String,
        /// Names of such things that are like it.
        nearest: Vec<String>,
    },
    /// Two things have one name.
    NameTaken(String),
    /// A rule, lemma or method takes other arguments.
    Arguments {
        /// Its name.
        name: String,
        /// What it takes.
        takes: String,
        /// How many there are.
        found: usize,
    },
    /// Operands of sorts that do not fit.
    Sorts {
        /// The operation.
        operation: String,
        /// The sorts that it was given.
        found: Vec<String>,
    },
    /// A formula is needed, and this is a term, or the other way round.
    WrongSort {
        /// The sort that is needed.
        expected: String,
        /// The sort that is there.
        found: String,
    },
    /// A term or formula cannot be made: too large or too deep.
    TermLimit(String),
    /// A set or address that neither the program nor the policy has.
    NotInProgram(String),
    /// A rule does not apply to these theorems.
    RuleFails {
        /// The rule or lemma.
        rule: String,
        /// Why.
        why: String,
        /// What its premises say.
        premises: Vec<String>,
    },
    /// Another formula was derived than was to be concluded.
    NotThat {
        /// What was to be shown.
        wanted: String,
        /// What was shown.
        shown: String,
    },
    /// No theorem here says this.
    NotKnown(String),
    /// A block without a deduction.
    EmptyBlock,
    /// More than [`super::STEPS_MAX`] steps, or methods call each other too deep.
    TooManySteps,
    /// The proof is too long, or needs more than the checker allows.
    ProofLimit(String),
    /// The program has no such loop, if or obligation.
    NoSuchPlace {
        /// What.
        what: &'static str,
        /// Its number.
        number: usize,
    },
    /// The store does not take the lemma.
    Lemma(LemmaError),
}

impl ScriptError {
    pub(crate) fn new(span: Span, cause: Cause) -> Self {
        ScriptError { span, cause }
    }
    /// Line and column of its first character, from 1.
    #[must_use]
    pub fn line_column(&self, text: &str) -> (usize, usize) {
        let before = text.get(..self.span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (1 + before.matches('\n').count(), 1 + before[line_start..].chars().count())
    }
    /// The message with line and column.
    #[must_use]
    pub fn with_place(&self, text: &str) -> String {
        let (line, column) = self.line_column(text);
        format!("{line}:{column}: {self}")
    }
}

impl std::error::Error for ScriptError {}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::TextTooLong => write!(f, "the text is longer than {} bytes", super::TEXT_BYTES_MAX),
            Cause::StrangeCharacter(c) => write!(f, "`{c}` begins nothing"),
            Cause::IntegerTooLarge => write!(f, "the integer has more than 64 bits"),
            Cause::Expected { expected, found } => write!(f, "expected {expected}, found {found}"),
            Cause::TooDeep => write!(f, "it is nested deeper than {}", super::DEPTH_MAX),
            Cause::UnknownName { what, name, nearest } => {
                write!(f, "there is no {what} `{name}`")?;
                match nearest.as_slice() {
                    [] => Ok(()),
                    names => write!(f, "; near it: {}", names.join(", ")),
                }
            }
            Cause::NameTaken(name) => write!(f, "`{name}` is there already"),
            Cause::Arguments { name, takes, found } => write!(f, "`{name}` takes {takes}, not {found} arguments"),
            Cause::Sorts { operation, found } => write!(f, "{operation} does not go with {}", found.join(" and ")),
            Cause::WrongSort { expected, found } => write!(f, "expected {expected}, found {found}"),
            Cause::TermLimit(why) => write!(f, "this term cannot be made: {why}"),
            Cause::NotInProgram(what) => write!(f, "neither the program nor the policy speaks of {what}"),
            Cause::RuleFails { rule, why, premises } => {
                write!(f, "`{rule}` does not apply: {why}")?;
                premises.iter().try_for_each(|premise| write!(f, "\n  premise: {premise}"))
            }
            Cause::NotThat { wanted, shown } => write!(f, "to show:  {wanted}\n  shown is: {shown}"),
            Cause::NotKnown(formula) => write!(f, "nothing here says {formula}"),
            Cause::EmptyBlock => write!(f, "the block has no deduction"),
            Cause::TooManySteps => write!(f, "more than {} steps", super::STEPS_MAX),
            Cause::ProofLimit(why) => write!(f, "the proof cannot be written: {why}"),
            Cause::NoSuchPlace { what, number } => write!(f, "the program has no {what} {number}"),
            Cause::Lemma(error) => error.fmt(f),
        }
    }
}

/// The names among `names` that are most like `name`, three at most.
pub(crate) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let mut ranked: Vec<(usize, &str)> = names
        .map(|known| {
            // A name in a module is meant by its last part, too.
            let short = known.rsplit('.').next().unwrap_or(known);
            (distance(name, known).min(distance(name, short)), known)
        })
        .filter(|(distance, known)| *distance <= (name.len().min(known.len()) / 2).max(1))
        .collect();
    ranked.sort_unstable();
    ranked.dedup();
    let best = ranked.first().map_or(0, |(distance, _)| *distance);
    ranked.retain(|(distance, _)| *distance <= best + 1);
    ranked.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

/// How many characters have to be put in, taken out, changed, or swapped with the next.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = changed.min(row[j - 1] + 1).min(rows[i - 1][j] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
