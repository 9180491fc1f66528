//! Log lines on standard error: one line each, for people or as JSON.
//!
//! Lines go through a bounded queue to a thread of their own, so that a terminal or a pipe that nobody reads never
//! stops the control core; lines that find the queue full are counted and the count is logged when there is room again.
//! Control characters are escaped: no text from a stranger can start a line of its own.

use std::fmt;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::config::LogFormat;

/// Lines that wait for the writer.
const LINES_QUEUED_MAX: usize = 1024;
/// Lines about strangers' mistakes that are written in one second; the rest is only in the counters.
const STRANGER_LINES_PER_SECOND: u64 = 20;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something does not work.
    Error,
    /// Something may not be as the operator wants it.
    Warn,
    /// Something happened.
    Info,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
        }
    }
}

enum Order {
    Line(Level, &'static str, String, SystemTime),
    Flush(Sender<()>),
}

static QUEUE: OnceLock<Sender<Order>> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);
/// The second (upper 48 bits) and the number of strangers' lines in it (lower 16 bits).
static STRANGERS: AtomicU64 = AtomicU64::new(0);

/// Starts the writer. Before this, lines go straight to standard error. A second call changes nothing.
pub fn start(format: LogFormat) {
    let (sender, receiver) = bounded(LINES_QUEUED_MAX);
    if QUEUE.set(sender).is_ok() {
        // Without the thread the queue would fill and its lines be lost; the process is about to fail anyway then.
        let _ = std::thread::Builder::new().name("vinet-log".into()).spawn(move || write_lines(&receiver, format));
    }
}

/// Waits until every line so far is written, at most a second.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        let (done, wait) = bounded(1);
        if queue.send_timeout(Order::Flush(done), Duration::from_secs(1)).is_ok() {
            let _ = wait.recv_timeout(Duration::from_secs(1));
        }
    }
}

/// Logs that something does not work.
pub fn error(component: &'static str, message: impl fmt::Display) {
    line(Level::Error, component, &message);
}
/// Logs that something may not be as the operator wants it.
pub fn warn(component: &'static str, message: impl fmt::Display) {
    line(Level::Warn, component, &message);
}
/// Logs that something happened.
pub fn info(component: &'static str, message: impl fmt::Display) {
    line(Level::Info, component, &message);
}
/// Logs something that a stranger can cause at will: only so many lines a second.
pub fn stranger(component: &'static str, message: impl fmt::Display) {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    // Relaxed: a line more or less in a second is no harm, and nothing else depends on the number.
    let before = STRANGERS.load(Ordering::Relaxed);
    let count = if before >> 16 == second { before & 0xffff } else { 0 };
    STRANGERS.store(second << 16 | (count + 1).min(0xffff), Ordering::Relaxed);
    if count < STRANGER_LINES_PER_SECOND {
        line(Level::Info, component, &message);
    } else if count == STRANGER_LINES_PER_SECOND {
        line(Level::Info, component, &"more of these in this second are only counted");
    }
}

fn line(level: Level, component: &'static str, message: &dyn fmt::Display) {
    let now = SystemTime::now();
    match QUEUE.get() {
        None => eprintln!("{}", text(level, component, &message.to_string(), now, LogFormat::Text)),
        Some(queue) => {
            if queue.try_send(Order::Line(level, component, message.to_string(), now)).is_err() {
                LOST.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn write_lines(queue: &Receiver<Order>, format: LogFormat) {
    for order in queue {
        let lost = LOST.swap(0, Ordering::Relaxed);
        let mut stderr = std::io::stderr().lock();
        if lost > 0 {
            let message = format!("{lost} lines were lost, because standard error was not read fast enough");
            let _ = writeln!(stderr, "{}", text(Level::Warn, "log", &message, SystemTime::now(), format));
        }
        match order {
            Order::Line(level, component, message, time) => {
                let _ = writeln!(stderr, "{}", text(level, component, &message, time, format));
            }
            Order::Flush(done) => {
                let _ = stderr.flush();
                let _ = done.try_send(());
            }
        }
    }
}

fn text(level: Level, component: &str, message: &str, time: SystemTime, format: LogFormat) -> String {
    let time = Utc(time);
    match format {
        LogFormat::Text => format!("{time} {:<5} {component}: {}", level.name(), OneLine(message)),
        LogFormat::Json => serde_json::json!({
            "time": time.to_string(), "level": level.name(), "component": component, "message": message,
        })
        .to_string(),
    }
}

/// Text without characters that could break a line or steer a terminal.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

/// A time as RFC 3339 in UTC, to the millisecond.
struct Utc(SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        // Days to a civil date in eras of 400 years that begin in March, so that the leap day is the last of a year.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            second / 3600,
            second / 60 % 60,
            second % 60,
            since.subsec_millis()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let at = |seconds| Utc(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59.000Z");
        assert_eq!(at(1_767_225_600), "2026-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_stranger_cannot_start_a_line_of_its_own() {
        let evil = "x\n1970-01-01 error core: all is lost\u{1b}[2J";
        for format in [LogFormat::Text, LogFormat::Json] {
            let line = text(Level::Info, "session", evil, UNIX_EPOCH, format);
            assert!(!line.contains(['\n', '\u{1b}']), "{line}");
        }
    }
}
