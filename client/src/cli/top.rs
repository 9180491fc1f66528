//! `vinet top`: a running router at a glance, drawn anew every second.
//!
//! The terminal is put back as it was however the command ends: by a key, an error, a panic, or a signal.

mod frame;

use super::Top;
use super::answer::{self, Failure, Outcome};
use frame::{Frames, Sort};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vinet_client::admin::Admin;

/// The longest time until a signal is noticed.
const NOTICE: Duration = Duration::from_millis(100);
/// The size of a frame that is printed as text, in columns and rows.
const TEXT_SIZE: (u16, u16) = (110, 40);

/// Draws until it is told to stop; with `--once`, prints one frame as text.
pub(super) fn top(args: &Top) -> Outcome {
    let interval = Duration::from_millis(args.interval.into());
    let mut admin = args.socket.open()?;
    let mut frames = Frames::default();
    look(&mut admin, &mut frames)?;
    if args.once {
        // Rates need two looks.
        std::thread::sleep(interval);
        look(&mut admin, &mut frames)?;
        return answer::print(&as_text(&frames)?);
    }
    if !io::stdout().is_terminal() {
        return Err(Failure::Unusable("top draws on a terminal; `vinet top --once` prints one frame as text".into()));
    }
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended)).map_err(|error| terminal(&error))?;
    }
    // Also has a panic put the terminal back before it is told.
    let mut screen = ratatui::try_init().map_err(|error| terminal(&error))?;
    let outcome = draw_on(&mut screen, &mut admin, &mut frames, interval, &ended);
    ratatui::restore();
    outcome
}

fn terminal(error: &io::Error) -> Failure {
    Failure::Unusable(format!("the terminal cannot be used: {error}"))
}

fn look(admin: &mut Admin, frames: &mut Frames) -> Outcome {
    frames.push(admin.ask(&json!({ "cmd": "status" }))?);
    Ok(())
}

fn draw_on(
    screen: &mut ratatui::DefaultTerminal,
    admin: &mut Admin,
    frames: &mut Frames,
    interval: Duration,
    ended: &AtomicBool,
) -> Outcome {
    let mut sort = Sort::default();
    let mut next = Instant::now() + interval;
    // Relaxed: nothing is read on the strength of it but the wish to stop.
    while !ended.load(Ordering::Relaxed) {
        screen.draw(|frame| frames.draw(frame, sort)).map_err(|error| terminal(&error))?;
        let wait = next.saturating_duration_since(Instant::now()).min(NOTICE);
        if event::poll(wait).map_err(|error| terminal(&error))?
            && let Event::Key(key) = event::read().map_err(|error| terminal(&error))?
            && key.kind == KeyEventKind::Press
        {
            match key.code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                KeyCode::Char('s') => sort = sort.next(),
                _ => {}
            }
        }
        if Instant::now() >= next {
            next = Instant::now() + interval;
            look(admin, frames)?;
        }
    }
    Ok(())
}

/// The frame as lines of text.
fn as_text(frames: &Frames) -> Result<String, Failure> {
    let (columns, rows) = TEXT_SIZE;
    let mut screen =
        Terminal::new(TestBackend::new(columns, rows)).map_err(|error| Failure::Unusable(error.to_string()))?;
    screen.draw(|frame| frames.draw(frame, Sort::default())).map_err(|error| Failure::Unusable(error.to_string()))?;
    let cells = screen.backend().buffer().content();
    let lines = cells.chunks(usize::from(columns)).map(|row| {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned()
    });
    Ok(lines.collect::<Vec<String>>().join("\n").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn status(at_ms: u64, factor: u64) -> Value {
        json!({
            "router": "edge1", "version": "0.1.0", "at_ms": at_ms, "uptime_s": 93_784,
            "cores": [{ "core": 2, "busy_ns": factor * 500_000_000, "turns": 1, "turns_empty": 0, "stuck": false }],
            "ports": [
                { "name": "edge", "up": true, "speed_mbps": 10_000, "rx_packets": factor * 1_500_000,
                  "rx_bytes": factor * 96_000_000, "tx_packets": 0, "tx_bytes": 0, "rx_missed": 0 },
                { "name": "uplink", "up": false, "speed_mbps": null, "rx_packets": 0, "rx_bytes": 0,
                  "tx_packets": factor * 1_000_000, "tx_bytes": factor * 64_000_000, "rx_missed": 0 },
            ],
            "drops": { "program": factor * 500_000 }, "held": 3, "unaccounted": 0,
            "classes": [{ "class": "header", "programs": 2, "cycles_per_second": 4_000_000 }],
            "capacity": { "cycles_per_second": 250_000_000, "cycles_per_second_max": 1_000_000_000,
                          "memory_bytes": 0, "memory_bytes_max": 268_435_456 },
            "sessions": { "open": 4, "half_open": 1 }, "checks_pending": 2, "waiting": { "for_capacity": 5, "for_the_store": 6, "store_failure": null },
            "sources_shut_off": 7, "admission": { "installed": 2 },
            "programs_installed": 2, "programs_looked_at": 2,
            "programs": [
                { "instance": 1, "owner": "198.51.100.7", "class": "header", "packets_seen": factor * 500_000,
                  "packets_discarded": factor * 500_000, "packets_over_budget": 0, "seconds_left": 90,
                  "complexity": 20, "packet_rate": 100 },
                { "instance": 2, "owner": "198.51.100.8", "class": "header", "packets_seen": 7, "packets_discarded": 0,
                  "packets_over_budget": 0, "seconds_left": 172_800, "complexity": 20, "packet_rate": 100 },
            ],
        })
    }

    #[test]
    fn a_frame_shows_rates_between_two_looks() {
        let mut frames = Frames::default();
        frames.push(status(1_000, 1));
        frames.push(status(2_000, 2));
        let text = as_text(&frames).unwrap_or_else(|_| panic!("drawn"));
        for words in [
            "edge1",
            "up 1d 02:03:04",
            "1.50 Mpps",
            "core 2",
            "50 %",
            "25 %",
            "uplink",
            "down",
            "768 Mb/s",
            "program",
            "500 kpps",
            "198.51.100.7",
            "header",
            "2d",
            "4 sessions",
            "2 checks, 5 for capacity, 6 for the store",
            "7 sources shut off",
        ] {
            assert!(text.contains(words), "`{words}` is missing in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(TEXT_SIZE.0)));
    }

    #[test]
    fn whatever_a_socket_answers_is_drawn() {
        for odd in [json!(null), json!({}), json!({ "ports": 7, "cores": [1, null], "programs": [[]], "drops": [] })] {
            let mut frames = Frames::default();
            frames.push(odd.clone());
            frames.push(odd);
            assert!(as_text(&frames).is_ok());
        }
        let mut evil = status(1_000, 1);
        evil["router"] = json!("edge\u{1b}[2J");
        evil["programs"][0]["owner"] = json!("x\n\u{1b}]0;y");
        let mut frames = Frames::default();
        frames.push(evil);
        let text = as_text(&frames).unwrap_or_else(|_| panic!("drawn"));
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_router_that_started_anew_has_no_rates_yet() {
        let mut frames = Frames::default();
        frames.push(status(900_000, 9));
        frames.push(status(1_000, 1));
        let text = as_text(&frames).unwrap_or_else(|_| panic!("drawn"));
        assert!(!text.contains("Mpps"), "{text}");
    }
}
