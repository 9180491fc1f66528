//! `vinet-perf session`: what a client costs its router while it says nothing, and when it asks.
//!
//! The paper leaves the choice open: the router keeps the key of every client, or the clients carry them sealed. Both ends of
//! both are run in this process, without sockets; what is timed is the router's end alone, in time of the processor, while
//! it serves questions of clients chosen by chance: from the bytes of a request in memory to the bytes of its reply. Memory
//! is what the allocator gave. The control core's part of a kept session, its connection, is measured with real sockets
//! and fewer clients. The kernel's buffers for a connection are not in it.

mod connections;

use crate::heap;
use crate::machine;
use crate::run::PerfError;
use crate::table::Spread;
use crate::verify::report::{Bar, Report, short};
use clap::Args;
use nix::time::{ClockId, clock_gettime};
use serde_json::json;
use std::hint::black_box;
use std::sync::Arc;
use vinet_session::identity::{Authority, AuthorityKey, Identity, Subject, Validity, parse_principal};
use vinet_session::message::{Reply, Request};
use vinet_session::{Client, ClientEvent, Door, Now, Server, ServerEvent, Ticket};

/// The most that an idle session may take at the router, in bytes.
const KEPT_BYTES_MAX: f64 = 4096.0;
/// Questions that are prepared and then asked together.
const BATCH: usize = 256;
/// Tickets of which questions are made; all others are given out and forgotten.
const TICKETS_MAX: usize = 50_000;
/// Owners that the sessions are of.
const OWNERS: usize = 64;
/// Between two rounds the clocks go on by so much, in seconds: the memory of sealed requests is empty again.
const ROUND_S: u64 = 180;
const START_S: u64 = 1_800_000_000;

/// How it is measured.
#[derive(Args)]
pub struct Options {
    /// Numbers of clients.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 10_000, 1_000_000])]
    clients: Vec<usize>,
    /// Up to how many clients sessions are kept for: each takes a handshake of two ends to make.
    #[arg(long, default_value_t = 10_000)]
    kept_max: usize,
    /// Questions in each round.
    #[arg(long, default_value_t = 10_000)]
    questions: usize,
    /// Rounds; the medians count.
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    /// Sessions over sockets, for the control core's part.
    #[arg(long, default_value_t = 200)]
    connections: usize,
    /// What chance follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object a line instead of tables.
    #[arg(long)]
    json: bool,
}

/// What was measured of one way and one number of clients.
struct Measured {
    clients: usize,
    /// Bytes at the router for each client that says nothing.
    idle_bytes: f64,
    /// Microseconds of the router's processor for one question, a figure for each round.
    request_us: Vec<f64>,
    /// Bytes of a request on the wire.
    wire_bytes: usize,
}

/// A testbed.
struct Testbed {
    authority: Arc<Authority>,
    router: Arc<Identity>,
    owners: Vec<Arc<Identity>>,
}

impl Testbed {
    fn new() -> Result<Testbed, PerfError> {
        let failed = |error: vinet_session::IdentityError| broken(&error);
        let key = AuthorityKey::generate("bench").map_err(failed)?;
        let valid = Validity::starting(0, 1 << 40);
        let subject = Subject::Router { name: "edge-1".to_owned(), addrs: Vec::new() };
        let router = Arc::new(key.issue_identity(subject, valid).map_err(failed)?);
        let owner = |number: usize| {
            let principal = parse_principal(&format!("10.0.{}.{}", number / 256, number % 256)).map_err(failed)?;
            key.issue_identity(Subject::Owner(principal), valid).map(Arc::new).map_err(failed)
        };
        let owners = (0..OWNERS).map(owner).collect::<Result<_, _>>()?;
        Ok(Testbed { authority: Arc::new(key.authority()), router, owners })
    }
    fn door(&self) -> Result<Arc<Door>, PerfError> {
        let door = Door::new(Arc::clone(&self.router), Arc::clone(&self.authority));
        door.and_then(|door| door.with_sealing(at(0))).map(Arc::new).map_err(|error| broken(&error))
    }
}

fn at(second: u64) -> Now {
    Now { wall_s: START_S + second, mono_ms: second * 1000 }
}

fn broken(error: &dyn std::fmt::Display) -> PerfError {
    PerfError::Failed { what: "session".to_owned(), words: error.to_string() }
}

/// A small generator (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// The time that this thread has had of a processor, in microseconds.
fn processor_us() -> Result<f64, PerfError> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_err(|error| broken(&error))?;
    Ok(time.tv_sec() as f64 * 1e6 + time.tv_nsec() as f64 / 1e3)
}

/// Makes a session; also what its handshake takes of the router's processor.
fn handshake(testbed: &Testbed, door: &Arc<Door>, number: usize) -> Result<(Client, Server, f64), PerfError> {
    let failed = |error| broken(&error as &dyn std::fmt::Display);
    let owner = Arc::clone(&testbed.owners[number % OWNERS]);
    let mut client = Client::new(owner, Arc::clone(&testbed.authority), None, at(0)).map_err(failed)?;
    let mut spent_us = 0.0;
    let started = processor_us()?;
    let mut server = Server::at(Arc::clone(door), at(0));
    spent_us += processor_us()? - started;
    for _ in 0..2 {
        let said = client.transmit().to_vec();
        client.transmitted(said.len());
        let started = processor_us()?;
        server.receive(&said);
        black_box(server.poll(at(0)).map_err(failed)?);
        spent_us += processor_us()? - started;
        let said = server.transmit().to_vec();
        server.transmitted(said.len());
        client.receive(&said);
        black_box(client.poll(at(0)).map_err(failed)?);
    }
    if !server.is_established() {
        return Err(broken(&"a handshake did not come to its end"));
    }
    Ok((client, server, spent_us))
}

/// The router's part of one question: takes its bytes, answers, gives the bytes of the reply away.
fn serve(server: &mut Server, asked: &[u8], now: Now) -> Result<Vec<u8>, PerfError> {
    server.receive(asked);
    match server.poll(now) {
        Ok(Some(ServerEvent::Request { id, .. })) => {
            server.reply(id, &Reply::List(Vec::new()), now).map_err(|error| broken(&error))?;
            let reply = server.transmit().to_vec();
            server.transmitted(reply.len());
            Ok(reply)
        }
        other => Err(broken(&format!("a question was not taken: {other:?}"))),
    }
}

/// Whether the reply is one.
fn answered(client: &mut Client, reply: &[u8], now: Now) -> Result<(), PerfError> {
    client.receive(reply);
    match client.poll(now) {
        Ok(Some(ClientEvent::Reply { reply: Reply::List(_), .. })) => Ok(()),
        other => Err(broken(&format!("a question was not answered: {other:?}"))),
    }
}

/// Sessions that the router keeps; and what a handshake took, in microseconds.
fn kept(testbed: &Testbed, options: &Options, count: usize) -> Result<(Measured, Spread), PerfError> {
    let door = testbed.door()?;
    let (mut clients, mut handshakes) = (Vec::with_capacity(count), Vec::with_capacity(count));
    heap::count_held();
    let mut servers = Vec::with_capacity(count);
    for number in 0..count {
        let (client, server, spent_us) = handshake(testbed, &door, number)?;
        clients.push(client);
        servers.push(server);
        handshakes.push(spent_us);
    }
    heap::pause_counting();
    let mut random = Random(options.seed);
    let (mut request_us, mut wire_bytes) = (Vec::new(), 0);
    for round in 0..options.rounds {
        let (mut spent_us, mut asked) = (0.0, 0);
        while asked < options.questions {
            let questions: Vec<(usize, Vec<u8>)> = (0..BATCH)
                .map(|_| {
                    let who = random.below(count);
                    let client: &mut Client = &mut clients[who];
                    client.send(&Request::List, at(round)).map_err(|error| broken(&error))?;
                    let said = client.transmit().to_vec();
                    client.transmitted(said.len());
                    Ok((who, said))
                })
                .collect::<Result<_, PerfError>>()?;
            wire_bytes = questions[0].1.len();
            let mut replies = Vec::with_capacity(BATCH);
            let started = processor_us()?;
            for (who, said) in &questions {
                replies.push(serve(&mut servers[*who], said, at(round))?);
            }
            spent_us += processor_us()? - started;
            for ((who, _), reply) in questions.iter().zip(&replies) {
                answered(&mut clients[*who], reply, at(round))?;
            }
            asked += BATCH;
        }
        request_us.push(spent_us / asked as f64);
    }
    heap::go_on_counting();
    let before = heap::held();
    drop(servers);
    // Threads of others may take memory meanwhile: a difference below nothing is possible, and told as it is.
    let idle_bytes = (before as f64 - heap::held() as f64) / count as f64;
    heap::pause_counting();
    Ok((Measured { clients: count, idle_bytes, request_us, wire_bytes }, Spread::of(handshakes)))
}

/// Sessions that their clients carry.
fn sealed(testbed: &Testbed, options: &Options, count: usize) -> Result<Measured, PerfError> {
    let door = testbed.door()?;
    let (introduced, _, _) = handshake(testbed, &door, 0)?;
    let owners = testbed
        .owners
        .iter()
        .map(|owner| testbed.authority.owner(owner.certificate(), START_S).map_err(|error| broken(&error)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut tickets: Vec<Ticket> = Vec::with_capacity(count.min(TICKETS_MAX));
    heap::count_held();
    let stride = count.div_ceil(TICKETS_MAX);
    for number in 0..count {
        let grant = door.ticket(&owners[number % OWNERS], at(0)).map_err(|error| broken(&error))?;
        let grant = grant.ok_or_else(|| broken(&"the router gives no tickets"))?;
        if number % stride == 0 {
            heap::pause_counting();
            tickets.push(introduced.keep(&grant, at(0)).ok_or_else(|| broken(&"no router"))?);
            heap::go_on_counting();
        }
    }
    let idle_bytes = heap::held() as f64 / count as f64;
    heap::pause_counting();
    let mut random = Random(options.seed);
    let (mut request_us, mut wire_bytes) = (Vec::new(), 0);
    for round in 0..options.rounds {
        let now = at((1 + round) * ROUND_S);
        let (mut spent_us, mut asked) = (0.0, 0);
        while asked < options.questions {
            let mut questions = Vec::with_capacity(BATCH);
            for _ in 0..BATCH {
                let who = random.below(tickets.len());
                let mut client = Client::resume(tickets[who].clone(), now);
                client.send(&Request::List, now).map_err(|error| broken(&error))?;
                let said = client.transmit().to_vec();
                client.transmitted(said.len());
                if let Some(ticket) = client.ticket() {
                    tickets[who] = ticket.clone();
                }
                questions.push((client, said));
            }
            wire_bytes = questions[0].1.len();
            let mut replies = Vec::with_capacity(BATCH);
            let started = processor_us()?;
            for (_, said) in &questions {
                // Every question comes on a connection of its own.
                replies.push(serve(&mut Server::at(Arc::clone(&door), now), said, now)?);
            }
            spent_us += processor_us()? - started;
            for ((client, _), reply) in questions.iter_mut().zip(&replies) {
                answered(client, reply, now)?;
            }
            asked += BATCH;
        }
        request_us.push(spent_us / asked as f64);
    }
    Ok(Measured { clients: count, idle_bytes, request_us, wire_bytes })
}

/// Measures, and prints.
pub fn run(options: &Options) -> Result<(), PerfError> {
    let is_wrong = options.clients.contains(&0) || options.questions == 0 || options.rounds == 0;
    if is_wrong || options.rounds > 18 || options.questions > 50_000 {
        let words =
            "--clients, --questions and --rounds are at least 1, --rounds at most 18, --questions at most 50000";
        return Err(PerfError::Option(words.to_owned()));
    }
    let testbed = Testbed::new()?;
    let mut report = Report::new(options.json);
    report.say(&format!(
        "{}; seed {}; {} rounds of {} questions; medians [least … most].\n",
        machine::describe(),
        options.seed,
        options.rounds,
        options.questions
    ));
    let heads = ["session", "clients", "idle client, B", "request, µs of processor", "request on the wire, B"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let (mut handshake_us, mut most_kept, mut most_sealed) = (None, 0.0f64, 0.0f64);
    for &count in &options.clients {
        let mut all = Vec::new();
        if count <= options.kept_max {
            let (measured, handshakes) = kept(&testbed, options, count)?;
            most_kept = most_kept.max(measured.idle_bytes);
            handshake_us = Some(handshakes);
            all.push(("kept", measured));
        }
        let measured = sealed(&testbed, options, count)?;
        most_sealed = most_sealed.max(measured.idle_bytes);
        all.push(("sealed", measured));
        for (mode, measured) in all {
            let spread = Spread::of(measured.request_us.iter().copied());
            report.object(
                "session",
                json!({
                    "mode": mode, "clients": measured.clients, "idle_bytes": measured.idle_bytes,
                    "request_us": measured.request_us, "wire_bytes": measured.wire_bytes,
                }),
            );
            rows.push(vec![
                mode.to_owned(),
                short(measured.clients as f64),
                short(measured.idle_bytes),
                format!("{:.2} [{:.2} … {:.2}]", spread.median, spread.min, spread.max),
                measured.wire_bytes.to_string(),
            ]);
        }
    }
    report.table(&rows);
    if let Some(spread) = handshake_us {
        let object = json!({ "median_us": spread.median, "min_us": spread.min, "max_us": spread.max });
        report.object("handshake", object);
        report.say(&format!(
            "A handshake takes {:.0} µs of the router's processor [{:.0} … {:.0}].\n",
            spread.median, spread.min, spread.max
        ));
    }
    let with_connection = connections::idle_bytes(&testbed, options.connections)?;
    report.bar("an idle kept session, without its connection", most_kept, "B", Bar::AtMost(KEPT_BYTES_MAX));
    let name = "an idle kept session, with its connection in the control core";
    report.bar(name, with_connection, "B", Bar::AtMost(KEPT_BYTES_MAX));
    report.bar("an idle sealed client", most_sealed, "B", Bar::AtMost(0.0));
    report.bars();
    if report.missed().is_empty() { Ok(()) } else { Err(PerfError::Missed(report.missed().to_vec())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_are_measured_and_a_carried_session_takes_nothing() {
        let testbed = Testbed::new().unwrap_or_else(|error| panic!("{error}"));
        let options = Options {
            clients: vec![20],
            kept_max: 20,
            questions: BATCH,
            rounds: 2,
            connections: 3,
            seed: 1,
            json: true,
        };
        let (kept, handshakes) = kept(&testbed, &options, 20).unwrap_or_else(|error| panic!("{error}"));
        assert!(handshakes.min > 0.0 && kept.request_us.iter().all(|us| *us > 0.0));
        let sealed = sealed(&testbed, &options, 20).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(sealed.request_us.len(), 2);
        assert!(sealed.wire_bytes > kept.wire_bytes);
    }
}
