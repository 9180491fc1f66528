//! Installs a second, and how long one takes.

use super::client::{Session, instance, rich};
use super::daemon::{Bed, Daemon, Threads};
use super::orders::Orders;
use super::{Options, failed};
use crate::run::PerfError;
use crate::table::Spread;
use crate::verify::chance::Chance;
use crate::verify::report::{Bar, Report, short};
use nix::time::{ClockId, clock_gettime};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use vinet_session::identity::Identity;
use vinet_session::message::{Reply, Request};

const PIPELINED_MIN: f64 = 10_000.0;
const SESSIONS_MIN: f64 = 1_000.0;
const P99_MS_MAX: f64 = 5.0;
/// The owners, each for one kind of measurement.
const OWNERS: u32 = 0x6440_0001;
/// Withdrawals under way at once, outside of any measurement.
const WITHDRAWN_AT_ONCE: usize = 32;
/// The longest pause between two installs that are timed one by one: the control loop is at rest by then.
const PAUSE_MAX_US: usize = 3_000;

/// What a round took.
struct Round {
    seconds: f64,
    client_s: f64,
    threads: Threads,
}

/// Processor time of the whole process so far, in seconds.
fn own_s() -> f64 {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(0.0, |t| t.tv_sec() as f64 + t.tv_nsec() as f64 / 1e9)
}

/// Times `work`, and what it takes here and in the daemon.
fn round(daemon: &Daemon, work: impl FnOnce() -> Result<(), PerfError>) -> Result<Round, PerfError> {
    let (before, own, start) = (daemon.threads(), own_s(), Instant::now());
    work()?;
    let (seconds, client_s) = (start.elapsed().as_secs_f64(), own_s() - own);
    let threads = daemon.threads().into_iter().map(|(name, ns)| {
        let ran = ns - before.get(&name).copied().unwrap_or(0).min(ns);
        (name, ran)
    });
    Ok(Round { seconds, client_s, threads: threads.collect() })
}

/// All parts of it.
pub fn measure(
    report: &mut Report,
    daemon: &Daemon,
    bed: &Bed,
    orders: &Orders,
    options: &Options,
) -> Result<(), PerfError> {
    report.heading("Installs");
    let one = bed.user(OWNERS)?;
    let mut session = rich(daemon.address(), &one, bed).map_err(failed)?;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        let uploads = orders.firewalls(&one, options.installs)?;
        let mut replies = Vec::with_capacity(uploads.len());
        rounds.push(round(daemon, || {
            session.pipeline(&uploads, options.window, |answered| replies.push(answered.reply)).map_err(failed)
        })?);
        withdraw(&mut session, &one, orders, &replies)?;
    }
    tell(report, "one session, pipelined", &rounds, options.installs, PIPELINED_MIN);

    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        let uploads = orders.firewalls(&one, options.installs)?;
        let mut replies = Vec::new();
        rounds.push(round(daemon, || {
            replies = each_on_its_own(daemon, bed, &one, &uploads, options.clients)?;
            Ok(())
        })?);
        withdraw(&mut session, &one, orders, &replies)?;
    }
    tell(report, "a new session each", &rounds, options.installs, SESSIONS_MIN);

    let times = singles(&mut session, &one, orders, options)?;
    let mut us: Vec<f64> = times.iter().map(|time| time.as_nanos() as f64 / 1e3).collect();
    us.sort_by(f64::total_cmp);
    let quantile = |share: f64| us[((us.len() as f64 * share).ceil() as usize).clamp(1, us.len()) - 1];
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(quantile);
    report.object("single", json!({"p50_us": p50, "p99_us": p99, "max_us": most, "count": us.len()}));
    report.say(&format!(
        "One at a time on a router at rest, from the request to its receipt, which is sent after the program is in the \
         table: median {} µs, p99 {} µs, most {} µs.\n",
        short(p50),
        short(p99),
        short(most)
    ));
    report.bar("from request to running, router at rest, p99", p99 / 1e3, "ms", Bar::AtMost(P99_MS_MAX));
    report.bars();
    Ok(())
}

/// Ends what the receipts are about, outside of any measurement.
fn withdraw(session: &mut Session, owner: &Identity, orders: &Orders, replies: &[Reply]) -> Result<(), PerfError> {
    let instances =
        replies.iter().map(|reply| instance(reply, session).map_err(failed)).collect::<Result<Vec<_>, _>>()?;
    let requests: Vec<Request> =
        instances.into_iter().map(|instance| orders.withdrawal(owner, instance)).collect::<Result<_, _>>()?;
    let mut refused = None;
    let all = session.pipeline(&requests, WITHDRAWN_AT_ONCE, |answered| {
        if !matches!(answered.reply, Reply::Withdrawn(_) | Reply::Receipt(_)) {
            refused.get_or_insert(format!("{:?}", answered.reply));
        }
    });
    all.map_err(failed)?;
    refused.map_or(Ok(()), |reply| Err(failed(format!("a withdrawal is answered {reply}"))))
}

/// Each upload over a session of its own, several clients at once.
fn each_on_its_own(
    daemon: &Daemon,
    bed: &Bed,
    owner: &Arc<Identity>,
    uploads: &[Request],
    clients: usize,
) -> Result<Vec<Reply>, PerfError> {
    let next = AtomicUsize::new(0);
    let client = || {
        let mut replies = Vec::new();
        // Relaxed: the number is all that is shared.
        while let Some(upload) = uploads.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut session = Session::open(daemon.address(), owner, &bed.authority).map_err(failed)?;
            replies.push(session.ask(upload).map_err(failed)?.0);
        }
        Ok::<_, PerfError>(replies)
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().map_err(|_| failed("a client panicked"))??);
        }
        Ok(all)
    })
}

/// Times of installs one by one, with pauses that keep step with nothing.
fn singles(
    session: &mut Session,
    owner: &Arc<Identity>,
    orders: &Orders,
    options: &Options,
) -> Result<Vec<Duration>, PerfError> {
    let mut chance = Chance::new(options.seed);
    let mut times = Vec::new();
    for upload in orders.firewalls(owner, options.singles)? {
        std::thread::sleep(Duration::from_micros(chance.below(PAUSE_MAX_US) as u64));
        let (reply, time) = session.ask(&upload).map_err(failed)?;
        let instance = instance(&reply, session).map_err(failed)?;
        times.push(time);
        session.ask(&orders.withdrawal(owner, instance)?).map_err(failed)?;
    }
    Ok(times)
}

/// The rate of some rounds against its bar, and where the time went.
fn tell(report: &mut Report, name: &str, rounds: &[Round], installs: usize, bar: f64) {
    let rate = Spread::of(rounds.iter().map(|round| installs as f64 / round.seconds));
    let per_install_us = |seconds: f64| seconds * 1e6 / installs as f64;
    let client = Spread::of(rounds.iter().map(|round| per_install_us(round.client_s)));
    let mut rows = vec![["where", "processor time of one install, µs"].map(str::to_owned).to_vec()];
    rows.push(vec!["the clients".to_owned(), short(client.median)]);
    let mut threads = Vec::new();
    for thread in rounds.iter().flat_map(|round| round.threads.keys()).collect::<std::collections::BTreeSet<_>>() {
        let of = |round: &Round| round.threads.get(thread).map_or(0.0, |ns| per_install_us(*ns as f64 / 1e9));
        let us = Spread::of(rounds.iter().map(of)).median;
        threads.push((thread.clone(), us));
        if us >= 0.1 {
            rows.push(vec![format!("vinetd: {thread}"), short(us)]);
        }
    }
    report.say(&format!(
        "{name}: {} installs a second [{} … {}], {} rounds of {}.\n",
        short(rate.median),
        short(rate.min),
        short(rate.max),
        rounds.len(),
        short(installs as f64)
    ));
    report.table(&rows);
    report.object(
        "installs",
        json!({"how": name, "per_s": rate.median, "min": rate.min, "max": rate.max, "client_us": client.median, "threads_us": threads}),
    );
    report.bar(&format!("installs, {name}"), rate.median, "/s", Bar::AtLeast(bar));
}
