//! `[sources]`: how many owners may program against one source, and when a source is shut off.

use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;
use super::raw::Source;
use crate::sources::{ClassQuota, QuotaLimits, ShutOffLimits};

/// `[sources]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRules {
    /// The quotas.
    pub quotas: QuotaLimits,
    /// When sources are shut off.
    pub shut_off: ShutOffLimits,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSources {
    #[serde(default)]
    header: RawQuota,
    #[serde(default)]
    content: RawQuota,
    shut_off_owners: Option<Spanned<u32>>,
    shut_off_back_below: Option<Spanned<u32>>,
    shut_off_time_s: Option<Spanned<u32>>,
    shut_off_respite_s: Option<Spanned<u32>>,
    shut_off_sources: Option<Spanned<usize>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawQuota {
    owners_per_address: Option<Spanned<u32>>,
    owners_per_prefix: Option<Spanned<u32>>,
    owners_any_source: Option<Spanned<u32>>,
}

pub(super) fn rules(source: &Source<'_>, raw: RawSources) -> Result<SourceRules, ConfigError> {
    const MAX: u32 = 1 << 24;
    let quota = |raw: RawQuota, class: &str, named: u32| {
        let number =
            |value, key: &str, default| source.number(value, format_args!("[sources.{class}] {key}"), default, 0..=MAX);
        Ok::<_, ConfigError>(ClassQuota {
            per_address: number(raw.owners_per_address, "owners_per_address", named)?,
            per_prefix: number(raw.owners_per_prefix, "owners_per_prefix", named)?,
            any_source: number(raw.owners_any_source, "owners_any_source", 1_000_000)?,
        })
    };
    let quotas =
        QuotaLimits { header: quota(raw.header, "header", 65_536)?, content: quota(raw.content, "content", 4_096)? };
    let owners = source.number(raw.shut_off_owners, "[sources] shut_off_owners", 100, 0..=MAX)?;
    let span = raw.shut_off_back_below.as_ref().map(Spanned::span);
    let back_below =
        source.number(raw.shut_off_back_below, "[sources] shut_off_back_below", owners.div_ceil(2).max(1), 1..=MAX)?;
    if let Some(span) = span.filter(|_| owners > 0 && back_below > owners) {
        let what = format!("{back_below} is above the {owners} owners that shut a source off, so none would stay so");
        return Err(source.invalid(&span, "[sources] shut_off_back_below", what));
    }
    let shut_off = ShutOffLimits {
        owners,
        back_below,
        time_s: source.number(raw.shut_off_time_s, "[sources] shut_off_time_s", 3_600, 1..=31_536_000)?,
        respite_s: source.number(raw.shut_off_respite_s, "[sources] shut_off_respite_s", 600, 0..=31_536_000)?,
        sources_max: source.number(raw.shut_off_sources, "[sources] shut_off_sources", 1_024, 1..=65_536)?,
    };
    Ok(SourceRules { quotas, shut_off })
}
