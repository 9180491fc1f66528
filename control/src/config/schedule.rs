//! `[schedule]`: in which order requests are looked at, and who gets the capacity when it is short.

use std::num::NonZeroU32;

use serde::Deserialize;
use toml::Spanned;

use super::raw::Source;
use super::{ConfigError, Limits};
use crate::lookahead::Rule;
use crate::scheduler::{BANDS_MAX, Bands, Bounds};

/// Which request is next, and which program is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The bands of cost that make classes.
    pub bands: Bands,
    /// How many requests may wait for the judges, and for how long; the whole is [`Limits::checks_queued`].
    pub bounds: Bounds,
    /// How it is decided who is admitted.
    pub admit: Rule,
    /// How many of those that wait to be admitted are looked at.
    pub lookahead: usize,
    /// How long a program that does not fit waits for room, in milliseconds.
    pub patience_ms: u64,
    /// With [`Rule::Priced`]: how many times the tariff is the price of the last bit of capacity.
    pub price_range: u32,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSchedule {
    cost_bounds: Option<Spanned<Vec<u64>>>,
    per_class: Option<Spanned<usize>>,
    per_interface: Option<Spanned<usize>>,
    per_owner: Option<Spanned<usize>>,
    age_max_ms: Option<Spanned<u64>>,
    ageing: Option<Spanned<u32>>,
    #[serde(default)]
    admit: Rule,
    lookahead: Option<Spanned<usize>>,
    patience_ms: Option<Spanned<u64>>,
    price_range: Option<Spanned<u32>>,
}

pub(super) fn schedule(source: &Source<'_>, raw: RawSchedule, limits: &Limits) -> Result<Schedule, ConfigError> {
    let bands = match raw.cost_bounds {
        None => Bands::default(),
        Some(bounds) => Bands::between(bounds.get_ref().clone()).ok_or_else(|| {
            let what = format!("the bounds must rise, and be fewer than {BANDS_MAX}");
            source.invalid(&bounds.span(), "[schedule] cost_bounds", what)
        })?,
    };
    let whole = limits.checks_queued;
    let ageing = source.number(raw.ageing, "[schedule] ageing", 8, 1..=1_000)?;
    let bounds = Bounds {
        whole,
        per_class: source.number(raw.per_class, "[schedule] per_class", whole, 1..=65_536)?,
        per_interface: source.number(raw.per_interface, "[schedule] per_interface", whole, 1..=65_536)?,
        per_owner: source.number(raw.per_owner, "[schedule] per_owner", 1024, 1..=65_536)?,
        age_max_us: source.number(raw.age_max_ms, "[schedule] age_max_ms", 10_000, 1..=600_000)? * 1_000,
        // The range above leaves out 0.
        ageing: NonZeroU32::new(ageing).unwrap_or(NonZeroU32::MIN),
    };
    Ok(Schedule {
        bands,
        bounds,
        admit: raw.admit,
        lookahead: source.number(raw.lookahead, "[schedule] lookahead", 16, 1..=1_024)?,
        patience_ms: source.number(raw.patience_ms, "[schedule] patience_ms", 250, 0..=60_000)?,
        price_range: source.number(raw.price_range, "[schedule] price_range", 100, 1..=1_000_000)?,
    })
}
