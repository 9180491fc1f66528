//! Texts of lemmas and proofs: read from files, their lemmas put behind the library, and told where they do not stand.

use super::answer::Failure;
use ariadne::{Color, Config, IndexType, Label, Report, ReportKind, Source};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vinet_client::file;
use vinet_prover::library;
use vinet_prover::script::{self, Cause, CompiledLemma, LemmaNames, ScriptError, TEXT_BYTES_MAX};
use vinet_trusted::lemma::LemmaStore;

/// A text as it was read.
pub(super) struct Script {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// What is wrong in a text.
pub(super) struct ScriptFailure {
    file: String,
    text: String,
    error: ScriptError,
}

/// The lemmas that a proof may cite: the library's, and behind them those of the user's files.
pub(super) struct Lemmas {
    pub(super) store: Arc<LemmaStore>,
    pub(super) names: LemmaNames,
    /// Those of the files, in their order.
    pub(super) own: Vec<CompiledLemma>,
}

impl Script {
    pub(super) fn read(path: &Path) -> Result<Script, Failure> {
        let text = file::text(path, file::read(path, TEXT_BYTES_MAX as u64)?)?;
        Ok(Script { path: path.to_path_buf(), text })
    }

    pub(super) fn failure(&self, error: ScriptError) -> Box<ScriptFailure> {
        Box::new(ScriptFailure { file: self.path.display().to_string(), text: self.text.clone(), error })
    }
}

impl Lemmas {
    /// The library's alone.
    pub(super) fn library() -> Lemmas {
        Lemmas { store: vinet_prover::library(), names: library::names().clone(), own: Vec::new() }
    }

    /// With those of the files; a file that is named twice counts once.
    pub(super) fn of(files: &[PathBuf]) -> Result<Lemmas, Failure> {
        let mut lemmas = Lemmas::library();
        for (number, path) in files.iter().enumerate() {
            if !files[..number].contains(path) {
                lemmas.add(&Script::read(path)?)?;
            }
        }
        Ok(lemmas)
    }

    /// Puts the lemmas of a text behind the others.
    pub(super) fn add(&mut self, script: &Script) -> Result<(), Box<ScriptFailure>> {
        let store = Arc::make_mut(&mut self.store);
        let added = script::lemmas(&script.text, store, &mut self.names);
        self.own.extend(added.map_err(|error| script.failure(error))?);
        Ok(())
    }
}

impl ScriptFailure {
    /// The error with its excerpt, as the errors of source texts are told.
    pub(super) fn report(&self, color: bool) -> String {
        let file = self.file.as_str();
        let end = self.error.span.end.min(self.text.len());
        let span = (file, self.error.span.start.min(end)..end);
        // The first line says what is wrong; what belongs to it stands at the place.
        let said = self.error.to_string();
        let (message, more) = said.split_once('\n').unwrap_or((&said, ""));
        let label = match &self.error.cause {
            Cause::UnknownName { nearest, .. } if !nearest.is_empty() => {
                format!("did you mean {}?", nearest.join(" or "))
            }
            Cause::Expected { expected, found } => match near(expected, found) {
                Some(word) => format!("did you mean {word}?"),
                None => "here".to_string(),
            },
            _ => "here".to_string(),
        };
        let mut report = Report::build(ReportKind::Error, span.clone())
            .with_config(Config::default().with_color(color).with_index_type(IndexType::Byte))
            .with_message(message)
            .with_label(Label::new(span).with_color(Color::Red).with_message(label));
        for line in more.lines() {
            report = report.with_note(line.trim());
        }
        let mut out = Vec::new();
        let written = report.finish().write((file, Source::from(&*self.text)), &mut out);
        match (written, String::from_utf8(out)) {
            (Ok(()), Ok(text)) => text,
            _ => format!("{file}:{}\n", self.error.with_place(&self.text)),
        }
    }
}

/// The word in backquotes among those that are expected that the one that was found may have been meant for.
fn near<'e>(expected: &'e str, found: &str) -> Option<&'e str> {
    let words = expected.split([' ', ',']).filter(|word| word.starts_with('`'));
    let ranked = words.map(|word| (strsim::damerau_levenshtein(word, found), word));
    // Of short words anything is a near one.
    ranked.filter(|(distance, word)| distance * 3 < word.len()).min().map(|(_, word)| word)
}
