//! What the office has on its desk, for the operator: requests that wait, the store, sources that are shut off, credits.

use serde_json::{Map, Value, json};
use vinet_session::Now;
use vinet_trusted::addr::Addr;

use super::Core;
use crate::admission::line_name;
use crate::office::Office;

/// Accounts of the operator's report.
const ACCOUNTS_TOLD: usize = 20;

/// The requests that wait, by class, and what waits for capacity and for the store.
pub(super) fn waiting(office: &Office) -> Value {
    let classes: Map<String, Value> =
        office.scheduler().classes().map(|(class, waiting)| (class.to_string(), waiting.into())).collect();
    json!({
        "classes": classes,
        "for_capacity": office.candidates(),
        "for_the_store": office.commits_pending(),
        "store_failure": office.store_failure().map(ToString::to_string),
    })
}

/// The sources that are shut off, and those that are back and not shut off again yet.
pub(super) fn shut_offs(office: &Office) -> Value {
    let register = office.admission.sources().shut_offs();
    let sources: Vec<Value> = register
        .all()
        .map(|status| {
            let record = status.record;
            json!({
                "source": record.source.to_string(), "phase": record.phase, "owners": status.owners,
                "since_s": record.since_s, "until_s": record.until_s,
            })
        })
        .collect();
    json!({ "sources": sources, "counts": register.counts() })
}

/// The operator's report of the credits.
pub(super) fn ledger(office: &Office) -> Value {
    json!(office.admission.ledger().report(ACCOUNTS_TOLD, line_name))
}

impl<H> Core<H> {
    /// Lets a source back that owners' votes have shut off.
    pub(super) fn let_back(&mut self, source: Addr, now: Now) -> Result<Value, String> {
        self.office.admission.sources_mut().shut_offs_mut().let_back(source, now).map_err(|error| error.to_string())?;
        Ok(json!({ "let_back": source.to_string() }))
    }
}
