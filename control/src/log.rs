//! Log lines on standard error: one line each, for people or as JSON.
//!
//! Every line is an event of `tracing`, so whatever else in the process makes such events is told in the same way, with
//! its fields. Lines go through a bounded queue to a thread of their own, so that a terminal or a pipe that nobody reads
//! never stops the control core; lines that find the queue full are counted and the count is logged when there is room
//! again. Control characters are escaped, as are those that turn the direction of text, and what is long is cut: no text
//! from a stranger can start a line of its own, steer a terminal or show something else than it is.

use std::fmt;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Receiver, Sender, bounded};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::config::LogFormat;

/// Lines that wait for the writer.
const LINES_QUEUED_MAX: usize = 1024;
/// Lines about strangers' mistakes that are written in one second; the rest is only in the counters.
const STRANGER_LINES_PER_SECOND: u64 = 20;
/// The longest text of one field, in bytes; of what is longer the end is left out.
const TEXT_LEN_MAX: usize = 4096;

/// One line.
struct Line {
    time: SystemTime,
    level: Level,
    component: String,
    message: String,
    /// The event's other fields.
    fields: Map<String, Value>,
}

enum Order {
    Line(Box<Line>),
    Flush(Sender<()>),
}

static QUEUE: OnceLock<Sender<Order>> = OnceLock::new();
/// Whether lines are JSON.
static JSON: AtomicBool = AtomicBool::new(false);
static LOST: AtomicU64 = AtomicU64::new(0);
/// The second (upper 48 bits) and the number of strangers' lines in it (lower 16 bits).
static STRANGERS: AtomicU64 = AtomicU64::new(0);

/// Starts the writer. Before this, lines go straight to standard error. A second call only changes the form.
pub fn start(format: LogFormat) {
    set_form(format);
    let (sender, receiver) = bounded(LINES_QUEUED_MAX);
    if QUEUE.set(sender).is_ok() {
        // Without the thread the queue would fill and its lines be lost; the process is about to fail anyway then.
        let _ = std::thread::Builder::new().name("vinet-log".into()).spawn(move || write_lines(&receiver));
        // Where somebody else takes the events of this process, ours are theirs.
        let _ =
            tracing::subscriber::set_global_default(tracing_subscriber::registry().with(LevelFilter::INFO).with(Lines));
    }
}

/// Has the lines from now on in this form.
pub fn set_form(format: LogFormat) {
    // Relaxed: a line more or less in the old form is no harm.
    JSON.store(format == LogFormat::Json, Ordering::Relaxed);
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
    line(Level::ERROR, component, &message);
}
/// Logs that something may not be as the operator wants it.
pub fn warn(component: &'static str, message: impl fmt::Display) {
    line(Level::WARN, component, &message);
}
/// Logs that something happened.
pub fn info(component: &'static str, message: impl fmt::Display) {
    line(Level::INFO, component, &message);
}
/// Logs something that a stranger can cause at will: only so many lines a second.
pub fn stranger(component: &'static str, message: impl fmt::Display) {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    // Relaxed: a line more or less in a second is no harm, and nothing else depends on the number.
    let before = STRANGERS.load(Ordering::Relaxed);
    let count = if before >> 16 == second { before & 0xffff } else { 0 };
    STRANGERS.store(second << 16 | (count + 1).min(0xffff), Ordering::Relaxed);
    if count < STRANGER_LINES_PER_SECOND {
        line(Level::INFO, component, &message);
    } else if count == STRANGER_LINES_PER_SECOND {
        line(Level::INFO, component, &"more of these in this second are only counted");
    }
}

fn line(level: Level, component: &'static str, message: &dyn fmt::Display) {
    if QUEUE.get().is_none() {
        let line = Line {
            time: SystemTime::now(),
            level,
            component: component.to_owned(),
            message: message.to_string(),
            fields: Map::new(),
        };
        eprintln!("{}", line.text(false));
        return;
    }
    // The level of an event is fixed where it is written.
    match level {
        Level::ERROR => tracing::error!(component, "{message}"),
        Level::WARN => tracing::warn!(component, "{message}"),
        _ => tracing::info!(component, "{message}"),
    }
}

/// Takes the events of the process and queues them.
struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(queue) = QUEUE.get() else { return };
        if queue.try_send(Order::Line(Box::new(Line::of(event)))).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Line {
    fn of(event: &Event<'_>) -> Line {
        let metadata = event.metadata();
        let mut line = Line {
            time: SystemTime::now(),
            level: *metadata.level(),
            // Of events that are not ours the module is all that is known.
            component: metadata.target().to_owned(),
            message: String::new(),
            fields: Map::new(),
        };
        event.record(&mut line);
        line
    }

    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("component", Value::String(text)) => self.component = text,
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.fields.insert(name.to_owned(), value);
            }
        }
    }

    fn text(&self, json: bool) -> String {
        let level = match self.level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        };
        let time = Utc(self.time);
        if json {
            let mut object = Map::new();
            object.insert("time".into(), time.to_string().into());
            object.insert("level".into(), level.into());
            object.insert("component".into(), OneLine(&self.component).to_string().into());
            object.insert("message".into(), OneLine(&self.message).to_string().into());
            for (name, value) in &self.fields {
                let value = match value {
                    Value::String(text) => OneLine(text).to_string().into(),
                    other => other.clone(),
                };
                object.entry(name.as_str()).or_insert(value);
            }
            return Value::Object(object).to_string();
        }
        let mut text = format!("{time} {level:<5} {}: {}", OneLine(&self.component), OneLine(&self.message));
        for (name, value) in &self.fields {
            text += &match value {
                Value::String(value) => format!(" {name}={}", OneLine(value)),
                other => format!(" {name}={other}"),
            };
        }
        text
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

fn write_lines(queue: &Receiver<Order>) {
    for order in queue {
        let lost = LOST.swap(0, Ordering::Relaxed);
        let json = JSON.load(Ordering::Relaxed);
        let mut stderr = std::io::stderr().lock();
        if lost > 0 {
            let message = format!("{lost} lines were lost, because standard error was not read fast enough");
            let line = Line {
                time: SystemTime::now(),
                level: Level::WARN,
                component: "log".into(),
                message,
                fields: Map::new(),
            };
            let _ = writeln!(stderr, "{}", line.text(json));
        }
        match order {
            Order::Line(line) => {
                let _ = writeln!(stderr, "{}", line.text(json));
            }
            Order::Flush(done) => {
                let _ = stderr.flush();
                let _ = done.try_send(());
            }
        }
    }
}

/// Text of bounded length without characters that could break a line, steer a terminal or turn the direction of text.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.floor_char_boundary(TEXT_LEN_MAX);
        for c in self.0[..end].chars() {
            let steers = c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if steers { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        if end < self.0.len() { write!(f, "… ({} bytes more)", self.0.len() - end) } else { Ok(()) }
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

    fn line(message: &str) -> Line {
        let (level, component) = (Level::INFO, "session".to_owned());
        Line { time: UNIX_EPOCH, level, component, message: message.into(), fields: Map::new() }
    }

    #[test]
    fn a_stranger_cannot_start_a_line_of_its_own_or_steer_a_terminal() {
        let controls: String = (0..0x20).chain(0x7f..0xa0).filter_map(char::from_u32).collect();
        let evil =
            format!("x\n1970-01-01 error core: all is lost\u{1b}[2J\u{202e}\u{2028}{controls}\",\"level\":\"error");
        for json in [false, true] {
            let mut line = line(&evil);
            line.fields.insert("peer".into(), evil.as_str().into());
            let text = line.text(json);
            assert!(!text.contains(|c: char| c.is_control() || "\u{202e}\u{2028}".contains(c)), "{text:?}");
            assert!(text.contains("all is lost"), "{text}");
            if json {
                let value: Value = serde_json::from_str(&text).unwrap();
                assert_eq!((&value["level"], &value["component"]), (&"info".into(), &"session".into()));
                assert_eq!(value["peer"], value["message"]);
            }
        }
    }

    #[test]
    fn what_is_long_is_cut_between_characters() {
        let text = line(&"ü".repeat(TEXT_LEN_MAX)).text(false);
        assert!(text.ends_with(&format!("ü… ({TEXT_LEN_MAX} bytes more)")), "{}", text.len());
        assert!(text.len() < TEXT_LEN_MAX + 100);
    }

    #[test]
    fn events_of_others_are_told_with_their_fields() {
        use std::sync::{Arc, Mutex};
        struct Caught(Arc<Mutex<Vec<String>>>);
        impl<S: Subscriber> Layer<S> for Caught {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                let line = Line { time: UNIX_EPOCH, ..Line::of(event) };
                self.0.lock().unwrap().extend([line.text(true), line.text(false)]);
            }
        }
        let caught = Arc::new(Mutex::new(Vec::new()));
        let subscriber = tracing_subscriber::registry().with(Caught(Arc::clone(&caught)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "redb", rows = 7u64, file = "a\nb", "repaired {}", "now");
        });
        let caught = caught.lock().unwrap();
        let value: Value = serde_json::from_str(&caught[0]).unwrap();
        let expected = serde_json::json!({
            "time": "1970-01-01T00:00:00.000Z", "level": "warn", "component": "redb", "message": "repaired now",
            "rows": 7, "file": "a\\nb",
        });
        assert_eq!(value, expected);
        assert_eq!(caught[1], "1970-01-01T00:00:00.000Z warn  redb: repaired now file=a\\nb rows=7");
    }
}
