//! Why a packet from one address to another would fare as it would: the operator's `why`.
//!
//! Programs act on transit that came by a port which controls its source. So the answer says first whether the pair is
//! such transit, then which programs claim it, in the order in which they run, and what each did so far (to all of its
//! packets, not only to this pair's: nothing is counted for pairs).

use serde_json::{Value, json};
use vinet_session::Now;
use vinet_trusted::addr::{Addr, Prefix};

use super::view;
use crate::admin::Pair;
use crate::config::Config;
use crate::kernel::mirror::Target;
use crate::office::Office;
use crate::plane::Plane;

/// The answer to `why`.
pub(super) fn answer(config: &Config, office: &Office, plane: Option<&Plane>, pair: Pair, now: Now) -> Value {
    let (src, dst) = (Addr::from(pair.src), Addr::from(pair.dst));
    if src.width() != dst.width() {
        let what = format!("{} and {} are of two families, and no packet has both", pair.src, pair.dst);
        return json!({ "error": what });
    }
    let behind = config.ports.iter().find(|port| holds(port.controlled.as_deref(), src)).map(|port| port.name.as_str());
    let own = config.own_addresses();
    let is_own = own.contains(&src) || own.contains(&dst);
    let acting = office.table.acting_on(src, dst);
    let programs: Vec<Value> = acting
        .into_iter()
        .filter_map(|id| office.admission.instance(id.0, now, &office.table))
        .map(|(owner, status)| view::program(office, &owner, &status))
        .collect();
    json!({
        "src": pair.src,
        "dst": pair.dst,
        "source_port": behind,
        "router_itself": is_own,
        "meets_programs": behind.is_some() && !is_own,
        "route": plane.and_then(|plane| route(config, plane, dst)),
        "programs": programs,
    })
}

fn holds(prefixes: Option<&[Prefix]>, addr: Addr) -> bool {
    prefixes.is_some_and(|prefixes| prefixes.iter().any(|prefix| prefix.contains(addr)))
}

/// The longest route that holds `dst`, as the workers forward.
fn route(config: &Config, plane: &Plane, dst: Addr) -> Option<Value> {
    let holding = plane.mirror().routes().filter(|(prefix, _)| prefix.contains(dst));
    let (prefix, target) = holding.max_by_key(|(prefix, _)| prefix.len())?;
    let name = |port: u16| config.ports.get(usize::from(port)).map(|port| port.name.as_str());
    let (kind, port, gateway) = match target {
        Target::Local => ("local", None, None),
        Target::Via { port, gateway } => ("via", name(port), gateway),
        Target::Blackhole => ("blackhole", None, None),
        Target::Unreachable => ("unreachable", None, None),
        Target::Prohibit => ("prohibit", None, None),
    };
    let gateway = gateway.map(|addr| addr.to_string());
    Some(json!({ "prefix": prefix.to_string(), "kind": kind, "port": port, "gateway": gateway }))
}
