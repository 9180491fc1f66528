//! What the operator sees: the answers on the admin socket.

use serde_json::{Map, Value, json};
use vinet_fastpath::counters::Counters;
use vinet_fastpath::drop_reason::DropReason;
use vinet_fastpath::flow_table::InstallId;
use vinet_fastpath::port::PortHandle;
use vinet_session::Now;
use vinet_session::message::ProgramStatus;
use vinet_trusted::addr::Principal;

use super::{Core, desk, why};
use crate::admin::{Asker, Command, Peer};
use crate::office::Office;
use crate::plane::Plane;
use crate::server::Server;

/// Rows of one answer: an operator reads no more, and building a million would hold the loop.
const ROWS_MAX: usize = 10_000;

impl<H: PortHandle> Core<H> {
    /// Answers operators; `true` where more of them wait.
    pub(super) fn serve_operators(&mut self, now: Now) -> bool {
        self.admin.turn(now.mono_ms);
        while let Some((asker, command, peer)) = self.admin.next(now.mono_ms) {
            let answer = self.answer_operator(asker, &command, &peer, now);
            self.admin.answer(asker, &answer);
        }
        self.admin.is_busy()
    }

    fn answer_operator(&mut self, asker: Asker, command: &Command, peer: &Peer, now: Now) -> Value {
        let (config, office, server, plane) = (&self.config, &self.office, &self.server, self.plane.as_ref());
        match command {
            Command::Counters => all_counters(&self.counters, office, server, plane, &self.handles),
            Command::Programs => programs(office, now),
            Command::Fib => plane.map_or_else(|| json!({ "routes": [], "neighbours": [] }), fib),
            Command::Ports => ports(&self.handles),
            Command::Sessions => sessions(office, server, &format!("{:?}", config.router.verify).to_lowercase()),
            Command::Why(pair) => why::answer(config, office, plane, *pair, now),
            Command::Status => self.status(now),
            Command::Trace(request) => self.start_trace(asker, peer, request),
            Command::ShutOffs => desk::shut_offs(office),
            Command::Ledger => desk::ledger(office),
            Command::Reload(_) | Command::Confirm | Command::Rollback | Command::LetBack(_) => {
                self.change(command, peer, now)
            }
        }
    }
}

fn all_counters<H: PortHandle>(
    counters: &Counters,
    office: &Office,
    server: &Server,
    plane: Option<&Plane>,
    handles: &[H],
) -> Value {
    let snapshot = counters.snapshot();
    let ports: Vec<Value> = handles
        .iter()
        .zip(&snapshot.ports)
        .map(|(handle, port)| {
            json!({
                "name": handle.name(),
                "rx_packets": port.rx_packets, "rx_bytes": port.rx_bytes,
                "tx_packets": port.tx_packets, "tx_bytes": port.tx_bytes,
            })
        })
        .collect();
    let drops: Map<String, Value> =
        DropReason::ALL.iter().map(|reason| (reason.name().to_owned(), snapshot.drop(*reason).into())).collect();
    let mut all = Map::new();
    all.insert("ports".into(), ports.into());
    all.insert("drops".into(), drops.into());
    all.extend(snapshot.totals.named().into_iter().map(|(name, count)| (name.to_owned(), count.into())));
    let balance = snapshot.balance();
    let difference = i64::try_from(balance.difference).unwrap_or(i64::MAX);
    all.insert(
        "balance".into(),
        json!({ "in": balance.entered, "out": balance.left, "inside": balance.inside, "difference": difference }),
    );
    if let Some(plane) = plane {
        let stats = plane.mirror_stats();
        all.insert("slow_path".into(), json!(plane.counters()));
        all.insert(
            "mirror".into(),
            json!({
                "announcements": stats.announcements, "losses": stats.losses, "resyncs": stats.resyncs,
                "interrupted_dumps": stats.interrupted_dumps, "unread": stats.unread,
            }),
        );
    }
    all.insert("sessions".into(), json!(server.counters()));
    all.insert("admission".into(), json!(office.admission.decisions()));
    all.insert("programs".into(), office.admission.len().into());
    Value::Object(all)
}

fn programs(office: &Office, now: Now) -> Value {
    let list: Vec<Value> = office
        .admission
        .all(now, &office.table)
        .take(ROWS_MAX)
        .map(|(owner, status)| program(office, &owner, &status))
        .collect();
    json!({ "installed": office.admission.len(), "programs": list })
}

/// One program, with what it did.
pub(super) fn program(office: &Office, owner: &Principal, status: &ProgramStatus) -> Value {
    let counts = office.table.program_counts(InstallId(status.instance)).unwrap_or_default();
    json!({
        "instance": status.instance,
        "owner": owner.to_string(),
        "program_id": hex(&status.program_id),
        "class": status.class.to_string(),
        "complexity": status.complexity,
        "cost": status.cost,
        "packet_rate": status.packet_rate,
        "seconds_left": status.seconds_left,
        "packets_seen": status.packets_seen,
        "bytes_seen": status.bytes_seen,
        "packets_discarded": status.packets_discarded,
        "bytes_discarded": status.bytes_discarded,
        "packets_over_budget": status.packets_over_budget,
        "packets_generated": counts.generated_packets,
        "bytes_generated": counts.generated_bytes,
        "packets_generate_refused": counts.generate_refused_packets,
    })
}

fn fib(plane: &Plane) -> Value {
    let mirror = plane.mirror();
    let routes: Vec<Value> = mirror
        .routes()
        .take(ROWS_MAX)
        .map(|(prefix, target)| json!({ "prefix": prefix.to_string(), "target": format!("{target:?}") }))
        .collect();
    let neighbours: Vec<Value> = mirror
        .neighbours()
        .take(ROWS_MAX)
        .map(|(port, addr, state)| json!({ "port": port, "addr": addr.to_string(), "state": format!("{state:?}") }))
        .collect();
    json!({ "routes": routes, "neighbours": neighbours })
}

fn ports<H: PortHandle>(handles: &[H]) -> Value {
    let list: Vec<Value> = handles
        .iter()
        .map(|handle| {
            let (link, stats) = (handle.link(), handle.stats());
            let extended: Map<String, Value> =
                handle.extended_stats().into_iter().map(|(name, count)| (name, count.into())).collect();
            json!({
                "name": handle.name(), "mac": mac_text(handle.mac()), "mtu": handle.mtu(),
                "up": link.up, "speed_mbps": link.speed_mbps,
                "rx_packets": stats.rx_packets, "rx_bytes": stats.rx_bytes, "rx_missed": stats.rx_missed,
                "rx_errors": stats.rx_errors, "rx_no_buffer": stats.rx_no_buffer,
                "tx_packets": stats.tx_packets, "tx_bytes": stats.tx_bytes, "tx_errors": stats.tx_errors,
                "extended": extended,
            })
        })
        .collect();
    json!({ "ports": list })
}

fn sessions(office: &Office, server: &Server, verify: &str) -> Value {
    let budget = office.admission.budget();
    json!({
        "sessions": server.sessions().collect::<Vec<_>>(),
        "half_open": server.half_open(),
        "counters": server.counters(),
        "admission": office.admission.decisions(),
        "verify": verify,
        "checks_pending": office.checks_pending(),
        "waiting": desk::waiting(office),
        "lemmas": office.admission.lemmas().kept(),
        "capacity": {
            "cycles_per_second": budget.cycles_per_second(),
            "cycles_per_second_max": budget.cycles_per_second_max(),
            "memory_bytes": budget.memory_bytes(),
            "memory_bytes_max": budget.memory_bytes_max(),
        },
    })
}

/// An Ethernet address as people write it.
#[must_use]
pub fn mac_text(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
