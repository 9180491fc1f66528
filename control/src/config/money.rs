//! `[payment]`: what programs cost, and whose credits count. `[store]`: what is not forgotten.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;
use vinet_session::payment::Tariff;

use super::ConfigError;
use super::raw::Source;

/// What programs cost. Without a bank they are free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRules {
    /// The file with the public key of the bank.
    pub bank: Option<PathBuf>,
    /// The prices.
    pub tariff: Tariff,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPayment {
    bank: Option<Spanned<PathBuf>>,
    install: Option<Spanned<u64>>,
    per_teracycle: Option<Spanned<u64>>,
    per_gibibyte_day: Option<Spanned<u64>>,
    check: Option<Spanned<u64>>,
}

/// What is kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreRules {
    /// The file; absent, everything is in memory and forgotten at the end.
    pub path: Option<PathBuf>,
    /// Receipts that are kept of each account.
    pub receipts_per_account: u64,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStore {
    path: Option<PathBuf>,
    receipts_per_account: Option<Spanned<u64>>,
}

pub(super) fn payment(source: &Source<'_>, raw: RawPayment) -> Result<PaymentRules, ConfigError> {
    // Prices of this size times the largest programs are still counted exactly.
    const MAX: u64 = 1 << 48;
    let prices = [&raw.install, &raw.per_teracycle, &raw.per_gibibyte_day, &raw.check];
    let costs = prices.into_iter().flatten().find(|price| *price.get_ref() > 0);
    if let (None, Some(price)) = (&raw.bank, costs) {
        let what = "nobody can pay without a bank: set [payment] bank to its public key, or leave the prices out";
        return Err(source.invalid(&price.span(), "[payment]", what));
    }
    let number = |value, key: &str| source.number(value, format_args!("[payment] {key}"), 0, 0..=MAX);
    Ok(PaymentRules {
        bank: raw.bank.map(|bank| source.in_folder(bank.into_inner())),
        tariff: Tariff {
            install: number(raw.install, "install")?,
            per_teracycle: number(raw.per_teracycle, "per_teracycle")?,
            per_gibibyte_day: number(raw.per_gibibyte_day, "per_gibibyte_day")?,
            check: number(raw.check, "check")?,
        },
    })
}

pub(super) fn store(source: &Source<'_>, raw: RawStore) -> Result<StoreRules, ConfigError> {
    Ok(StoreRules {
        path: raw.path.map(|path| source.in_folder(path)),
        receipts_per_account: source.number(
            raw.receipts_per_account,
            "[store] receipts_per_account",
            1024,
            1..=1 << 30,
        )?,
    })
}
