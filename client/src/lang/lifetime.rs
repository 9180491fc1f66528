//! Spans of time as programs and command lines write them: `2 days`, `2d`.

use super::error::{Cause, nearest};
use vinet_trusted::program::LIFETIME_MAX_S;

/// The units, with the one to suggest first.
const UNITS: &[(&[&str], u64)] = &[
    (&["seconds", "second", "secs", "sec", "s"], 1),
    (&["minutes", "minute", "mins", "min", "m"], 60),
    (&["hours", "hour", "hrs", "hr", "h"], 3600),
    (&["days", "day", "d"], 86_400),
    (&["weeks", "week", "w"], 604_800),
];

/// `count` times `unit` in seconds.
pub(crate) fn seconds(count: u64, unit: &str) -> Result<u32, Cause> {
    let folded = unit.to_ascii_lowercase();
    let Some(&(_, factor)) = UNITS.iter().find(|(names, _)| names.contains(&folded.as_str())) else {
        let known = UNITS.iter().flat_map(|(names, _)| names.iter().copied()).filter(|name| name.len() > 2);
        return Err(Cause::UnknownUnit { name: unit.to_string(), nearest: nearest(unit, known) });
    };
    count
        .checked_mul(factor)
        .filter(|&s| s >= 1 && s <= u64::from(LIFETIME_MAX_S))
        .map(|s| s as u32)
        .ok_or_else(|| Cause::LifetimeRange { count, unit: unit.to_string() })
}

/// The seconds of `2d`, `2 days`, `90 secs`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<u32, Cause> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(digits);
    let count = match count.parse() {
        Ok(count) => count,
        Err(_) if count.is_empty() => {
            let found = if text.is_empty() { "nothing".to_string() } else { format!("`{text}`") };
            return Err(Cause::Unexpected { found, expected: "a number and a unit, like 2d", nearest: None });
        }
        Err(_) => return Err(Cause::NumberTooLarge(count.to_string())),
    };
    if unit.trim().is_empty() {
        return Err(Cause::Unexpected {
            found: format!("`{text}` alone"),
            expected: "a number and a unit, like 2d",
            nearest: None,
        });
    }
    seconds(count, unit.trim())
}

/// `seconds` in the largest unit that divides it: `2 days`.
#[must_use]
pub fn written(seconds: u32) -> String {
    let (names, factor) = UNITS.iter().rev().find(|(_, factor)| u64::from(seconds) % factor == 0).unwrap_or(&UNITS[0]);
    let count = u64::from(seconds) / factor;
    format!("{count} {}", names[usize::from(count == 1)])
}
