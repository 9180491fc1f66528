//! What a frame shows, and the rates between two looks at a router.

use super::super::operator::{number, plain, text};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table};
use serde_json::{Map, Value};

/// Columns of a bar.
const BAR_LEN: usize = 20;
/// Rows for drops at most, the heading included.
const DROP_ROWS_MAX: u16 = 9;
/// Rows for cores at most.
const CORE_ROWS_MAX: u16 = 16;

/// By what programs are sorted.
#[derive(Clone, Copy, Default)]
pub(super) enum Sort {
    /// Packets a second that they see.
    #[default]
    Seen,
    /// Packets a second that they discard.
    Discarded,
    /// The time that they have left, least first.
    Left,
}

impl Sort {
    pub(super) fn next(self) -> Sort {
        match self {
            Sort::Seen => Sort::Discarded,
            Sort::Discarded => Sort::Left,
            Sort::Left => Sort::Seen,
        }
    }
    fn name(self) -> &'static str {
        match self {
            Sort::Seen => "packets seen",
            Sort::Discarded => "packets discarded",
            Sort::Left => "time left",
        }
    }
}

/// The last two looks.
#[derive(Default)]
pub(super) struct Frames {
    before: Option<Value>,
    now: Value,
}

/// A share as a bar and a percentage.
fn bar(share: f64) -> String {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let full = (share * BAR_LEN as f64).round() as usize;
    format!("{}{} {:>3.0} %", "█".repeat(full), "░".repeat(BAR_LEN - full), share * 100.0)
}

/// A number of something a second, in three digits.
fn rate(value: Option<f64>, unit: &str) -> String {
    let Some(value) = value else { return "-".to_owned() };
    let (scaled, prefix) = match value {
        v if v >= 1e9 => (v / 1e9, "G"),
        v if v >= 1e6 => (v / 1e6, "M"),
        v if v >= 1e3 => (v / 1e3, "k"),
        v => (v, ""),
    };
    let digits = if prefix.is_empty() || scaled >= 100.0 {
        0
    } else if scaled >= 10.0 {
        1
    } else {
        2
    };
    format!("{scaled:.digits$} {prefix}{unit}")
}

/// A time in days and a clock's form.
fn clock(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let clock = format!("{hours:02}:{minutes:02}:{:02}", seconds % 60);
    if days > 0 { format!("{days}d {clock}") } else { clock }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

impl Frames {
    /// Takes in another look.
    pub(super) fn push(&mut self, status: Value) {
        let before = std::mem::replace(&mut self.now, status);
        let time = |value: &Value| value.get("at_ms").and_then(Value::as_u64);
        // A router that started anew counts from 0 again.
        self.before = match (time(&before), time(&self.now)) {
            (Some(then), Some(now)) if then < now => Some(before),
            _ => None,
        };
    }

    fn seconds(&self) -> Option<f64> {
        let before = self.before.as_ref()?;
        Some((number(&self.now, "at_ms") - number(before, "at_ms")) as f64 / 1000.0)
    }

    /// The growth a second of a count; `find` takes it from a look.
    fn growth(&self, find: impl Fn(&Value) -> Option<u64>) -> Option<f64> {
        let (before, now) = (find(self.before.as_ref()?)?, find(&self.now)?);
        Some(now.saturating_sub(before) as f64 / self.seconds()?)
    }

    /// The growth of `count` of the object in `all` whose `key` is as in `one`.
    fn growth_of(&self, all: &str, key: &str, one: &Value, count: &str) -> Option<f64> {
        let same = |value: &Value| list(value, all).iter().find(|other| other.get(key) == one.get(key)).cloned();
        self.growth(|value| same(value)?.get(count)?.as_u64())
    }

    /// Draws the frame.
    pub(super) fn draw(&self, frame: &mut Frame<'_>, sort: Sort) {
        let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let cores = rows(list(&self.now, "cores").len()).min(CORE_ROWS_MAX);
        let drops = rows(self.now.get("drops").and_then(Value::as_object).map_or(0, Map::len)) + 1;
        let classes = rows(list(&self.now, "classes").len()) + 1;
        let [title, shares, ports, middle, programs, keys] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(cores.max(2) + 1),
            Constraint::Length(rows(list(&self.now, "ports").len()) + 2),
            Constraint::Length(drops.max(classes).clamp(2, DROP_ROWS_MAX) + 1),
            Constraint::Min(3),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        self.title(frame, title);
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(shares);
        self.cores(frame, left);
        self.capacity(frame, right);
        self.ports(frame, ports);
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(middle);
        self.drops(frame, left);
        self.classes(frame, right);
        self.programs(frame, programs, sort);
        let words = format!("q quits, s sorts (by {})", sort.name());
        frame.render_widget(Paragraph::new(words).style(Style::new().fg(Color::DarkGray)), keys);
    }

    fn title(&self, frame: &mut Frame<'_>, area: Rect) {
        let sum = |count: &'static str| {
            self.growth(|value| Some(list(value, "ports").iter().map(|port| number(port, count)).sum()))
        };
        let dropped =
            self.growth(|value| Some(value.get("drops")?.as_object()?.values().filter_map(Value::as_u64).sum()));
        let sessions = self.now.get("sessions").cloned().unwrap_or_default();
        let waiting = self.now.get("waiting").cloned().unwrap_or_default();
        let first = format!(
            "vinetd {} up {}   in {} {}   out {} {}   dropped {}",
            text(&self.now, "router"),
            clock(number(&self.now, "uptime_s")),
            rate(sum("rx_packets"), "pps"),
            rate(sum("rx_bytes").map(|bytes| bytes * 8.0), "b/s"),
            rate(sum("tx_packets"), "pps"),
            rate(sum("tx_bytes").map(|bytes| bytes * 8.0), "b/s"),
            rate(dropped, "pps"),
        );
        let unaccounted = self.now.get("unaccounted").and_then(Value::as_i64).unwrap_or(0);
        let mut second = format!(
            "{} programs   {} sessions, {} half open   wait: {} checks, {} for capacity, {} for the store   {} sources \
             shut off   {} packets inside",
            number(&self.now, "programs_installed"),
            number(&sessions, "open"),
            number(&sessions, "half_open"),
            number(&self.now, "checks_pending"),
            number(&waiting, "for_capacity"),
            number(&waiting, "for_the_store"),
            number(&self.now, "sources_shut_off"),
            number(&self.now, "held"),
        );
        let failure = text(&waiting, "store_failure");
        if !failure.is_empty() {
            second = format!("THE STORE HAS FAILED: {failure}   {second}");
        }
        if unaccounted != 0 {
            second += &format!("   {unaccounted} UNACCOUNTED FOR");
        }
        if let Some(left) = self.now.get("reload_undone_in_s").and_then(Value::as_u64) {
            second += &format!("   reload is undone in {left} s: vinetd ctl confirm");
        }
        let style = Style::new().add_modifier(Modifier::BOLD);
        frame.render_widget(Paragraph::new(vec![Line::styled(first, style), Line::raw(second)]), area);
    }

    fn cores(&self, frame: &mut Frame<'_>, area: Rect) {
        let rows = list(&self.now, "cores").iter().map(|core| {
            let share = self.growth_of("cores", "core", core, "busy_ns").map(|busy_ns| busy_ns / 1e9);
            let stuck = core.get("stuck").and_then(Value::as_bool) == Some(true);
            let shown = match share {
                _ if stuck => "SILENT".to_owned(),
                Some(share) => bar(share),
                None => "-".to_owned(),
            };
            Row::new([format!("core {}", number(core, "core")), shown])
        });
        table(frame, area, "busy", rows, &[Constraint::Length(9), Constraint::Fill(1)]);
    }

    fn capacity(&self, frame: &mut Frame<'_>, area: Rect) {
        let capacity = self.now.get("capacity").cloned().unwrap_or_default();
        let share = |taken: &str, all: &str| bar(number(&capacity, taken) as f64 / number(&capacity, all) as f64);
        let rows = [
            Row::new(["cycles".to_owned(), share("cycles_per_second", "cycles_per_second_max")]),
            Row::new(["memory".to_owned(), share("memory_bytes", "memory_bytes_max")]),
        ];
        table(frame, area, "promised to programs", rows, &[Constraint::Length(9), Constraint::Fill(1)]);
    }

    fn ports(&self, frame: &mut Frame<'_>, area: Rect) {
        let rows = list(&self.now, "ports").iter().map(|port| {
            let of = |count: &str| self.growth_of("ports", "name", port, count);
            let up = port.get("up").and_then(Value::as_bool) == Some(true);
            let link = match (up, port.get("speed_mbps").and_then(Value::as_u64)) {
                (false, _) => "down".to_owned(),
                (true, None) => "up".to_owned(),
                (true, Some(speed)) => format!("{speed} Mb/s"),
            };
            Row::new([
                text(port, "name"),
                link,
                rate(of("rx_packets"), "pps"),
                rate(of("rx_bytes").map(|bytes| bytes * 8.0), "b/s"),
                rate(of("tx_packets"), "pps"),
                rate(of("tx_bytes").map(|bytes| bytes * 8.0), "b/s"),
                number(port, "rx_missed").to_string(),
            ])
        });
        let heading = Row::new(["port", "link", "in", "", "out", "", "missed"]);
        let rows: Vec<Row<'_>> = std::iter::once(heading.style(dim())).chain(rows).collect();
        let widths = [16, 12, 12, 12, 12, 12, 12].map(Constraint::Length);
        table(frame, area, "", rows, &widths);
    }

    fn drops(&self, frame: &mut Frame<'_>, area: Rect) {
        let drops = self.now.get("drops").and_then(Value::as_object).cloned().unwrap_or_default();
        let mut rows: Vec<(String, u64, Option<f64>)> = drops
            .iter()
            .map(|(reason, count)| {
                let growth = self.growth(|value| value.get("drops")?.get(reason).map_or(Some(0), Value::as_u64));
                (plain(reason), count.as_u64().unwrap_or(0), growth)
            })
            .collect();
        rows.sort_by(|a, b| b.2.unwrap_or(0.0).total_cmp(&a.2.unwrap_or(0.0)).then(b.1.cmp(&a.1)));
        let rows =
            rows.into_iter().map(|(reason, count, growth)| Row::new([reason, rate(growth, "pps"), count.to_string()]));
        let widths = [Constraint::Length(32), Constraint::Length(10), Constraint::Fill(1)];
        table(frame, area, "drops", rows, &widths);
    }

    fn classes(&self, frame: &mut Frame<'_>, area: Rect) {
        let rows = list(&self.now, "classes").iter().map(|class| {
            let cycles = Some(number(class, "cycles_per_second") as f64);
            Row::new([text(class, "class"), number(class, "programs").to_string(), rate(cycles, "cycles/s")])
        });
        let widths = [Constraint::Length(16), Constraint::Length(10), Constraint::Fill(1)];
        table(frame, area, "classes", rows, &widths);
    }

    fn programs(&self, frame: &mut Frame<'_>, area: Rect, sort: Sort) {
        let mut programs: Vec<(&Value, Option<f64>, Option<f64>)> = list(&self.now, "programs")
            .iter()
            .map(|program| {
                let of = |count: &str| self.growth_of("programs", "instance", program, count);
                (program, of("packets_seen"), of("packets_discarded"))
            })
            .collect();
        let most = |a: Option<f64>, b: Option<f64>| b.unwrap_or(0.0).total_cmp(&a.unwrap_or(0.0));
        programs.sort_by(|a, b| match sort {
            Sort::Seen => most(a.1, b.1),
            Sort::Discarded => most(a.2, b.2),
            Sort::Left => number(a.0, "seconds_left").cmp(&number(b.0, "seconds_left")),
        });
        let heading =
            Row::new(["program", "owner", "class", "seen", "discarded", "over budget", "cycles", "time left"]);
        let rows = programs.iter().map(|(program, seen, discarded)| {
            Row::new(
                [
                    number(program, "instance").to_string(),
                    text(program, "owner"),
                    text(program, "class"),
                    rate(*seen, "pps"),
                    rate(*discarded, "pps"),
                    number(program, "packets_over_budget").to_string(),
                    number(program, "complexity").to_string(),
                    clock(number(program, "seconds_left")),
                ]
                .map(Cell::from),
            )
        });
        let rows: Vec<Row<'_>> = std::iter::once(heading.style(dim())).chain(rows).collect();
        let (looked_at, all) = (number(&self.now, "programs_looked_at"), number(&self.now, "programs_installed"));
        let title = match looked_at < all {
            true => format!("the busiest of {looked_at} of {all} programs"),
            false => "the busiest programs".to_owned(),
        };
        let widths = [10, 26, 9, 12, 12, 12, 8, 14].map(Constraint::Length);
        table(frame, area, &title, rows, &widths);
    }
}

fn dim() -> Style {
    Style::new().fg(Color::DarkGray)
}

/// A table under a line with its title.
fn table<'r>(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    rows: impl IntoIterator<Item = Row<'r>>,
    widths: &[Constraint],
) {
    let block = Block::new().borders(Borders::TOP).title(format!("{title} ")).border_style(dim());
    frame.render_widget(Table::new(rows, widths.to_vec()).block(block), area);
}
