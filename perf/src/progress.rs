//! What a person sees while something long runs, and how it is ended: bars on a terminal, and the interrupt key.

use crate::run::PerfError;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Set when the user wants an end: by the interrupt key, or by a signal to terminate. A second one ends the process at once.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over the two signals.
    pub fn listen() -> Result<Interrupt, PerfError> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let failed = |e: std::io::Error| PerfError::Failed { what: "signals".to_owned(), words: e.to_string() };
            // In this order: the first signal only sets the flag, because the shutdown looks at it before.
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag)).map_err(failed)?;
            signal_hook::flag::register(signal, Arc::clone(&flag)).map_err(failed)?;
        }
        Ok(Interrupt(flag))
    }
    /// Whether an end is wanted.
    pub fn is_wanted(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// A bar on standard error where that is a terminal, and nothing elsewhere.
pub struct Bar(ProgressBar);

impl Bar {
    /// Of `length` steps (of any unit).
    pub fn new(length: u64) -> Bar {
        let is_shown = std::io::stderr().is_terminal();
        let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(length), target);
        let style = ProgressStyle::with_template("{elapsed:>4} {wide_bar:.blue} {percent:>3} %  {msg}");
        // The template is a constant that a test reads.
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Bar(bar)
    }
    /// So far, and what is going on.
    pub fn show(&self, position: u64, words: String) {
        self.0.set_position(position);
        self.0.set_message(words);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_of_the_bar_is_one() {
        assert!(ProgressStyle::with_template("{elapsed:>4} {wide_bar:.blue} {percent:>3} %  {msg}").is_ok());
    }
}
