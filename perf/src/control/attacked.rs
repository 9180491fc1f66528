//! What attacks on the control plane leave of the rate of packets, and of honest clients' requests.

use super::client::{Session, instance, rich};
use super::daemon::{Bed, Daemon};
use super::orders::{Orders, SOURCES};
use super::{Options, failed};
use crate::attack::{Attack, Target};
use crate::run::PerfError;
use crate::table::Spread;
use crate::verify::report::{Bar, Report, short};
use serde_json::json;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vinet_session::identity::Identity;
use vinet_session::message::{Request, Upload};

const RATE_SHARE_MIN: f64 = 0.97;
/// The honest owner.
const HONEST: u32 = 0x6440_1001;
/// An honest client's pace.
const PACE: Duration = Duration::from_millis(10);
const PACE_PER_S: f64 = 100.0;
/// Every so many installs there is one over a session of its own.
const NEWCOMER_EVERY: u32 = 4;
const NEWCOMERS_PER_S: f64 = PACE_PER_S / NEWCOMER_EVERY as f64;
/// How long packets flow before anything is counted.
const WARM_UP: Duration = Duration::from_millis(500);

/// What a window saw.
struct Window {
    packets_per_s: f64,
    /// The share of what honest clients offered that was granted: on a session that was there, and on new ones.
    regular: f64,
    newcomers: f64,
    attempts_per_s: f64,
}

/// Every attack in pairs of windows, with it and without it in alternation.
pub fn measure(
    report: &mut Report,
    daemon: &Daemon,
    bed: &Bed,
    orders: &Orders,
    options: &Options,
) -> Result<(), PerfError> {
    report.heading("The rate of packets under attack");
    let honest = bed.user(HONEST)?;
    drop(rich(daemon.address(), &honest, bed).map_err(failed)?);
    let target = Target::new(daemon.address(), bed, orders, true, options.seed)?;
    std::thread::sleep(WARM_UP);
    // Where two cores share what is in a core, a worker slows down when its neighbour works, whatever it works at. So the
    // control thread's core is busy in all windows, and what that costs by itself is told first.
    let mut alone = Vec::new();
    for _ in 0..options.pairs {
        let idle = rate(daemon, options)?;
        let _busy = Busy::start()?;
        alone.push((idle, rate(daemon, options)?));
    }
    let idle = Spread::of(alone.iter().map(|(idle, _)| *idle)).median;
    let share = Spread::of(alone.iter().map(|(idle, busy)| busy / idle));
    report.object("busy", json!({"idle_per_s": idle, "share": share.median, "min": share.min, "max": share.max}));
    let _busy = Busy::start()?;
    let heads = ["attack", "attempts/s", "packets, to none", "honest installs", "honest newcomers"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for attack in Attack::ALL {
        let mut pairs = Vec::new();
        for number in 0..options.pairs {
            let of = |attack| window(daemon, bed, orders, &honest, &target, attack, options);
            pairs.push(if number % 2 == 0 {
                let quiet = of(None)?;
                (quiet, of(Some(attack))?)
            } else {
                let attacked = of(Some(attack))?;
                (of(None)?, attacked)
            });
        }
        let spread = |of: fn(&(Window, Window)) -> f64| Spread::of(pairs.iter().map(of));
        let share = spread(|(quiet, attacked)| attacked.packets_per_s / quiet.packets_per_s);
        let [attempts, regular, newcomers] =
            [spread(|p| p.1.attempts_per_s), spread(|p| p.1.regular), spread(|p| p.1.newcomers)];
        rows.push(vec![
            attack.to_string(),
            short(attempts.median.round()),
            format!("{:.3} [{:.3} … {:.3}]", share.median, share.min, share.max),
            format!("{:.2}", regular.median),
            format!("{:.2}", newcomers.median),
        ]);
        report.object(
            "attack",
            json!({
                "attack": attack.to_string(), "attempts_per_s": attempts.median, "share": share.median,
                "min": share.min, "max": share.max, "regular": regular.median, "newcomers": newcomers.median,
            }),
        );
        report.bar(&format!("packets under {attack}"), share.median, "", Bar::AtLeast(RATE_SHARE_MIN));
    }
    report.say(&format!(
        "The worker receives {} packets a second while the control thread's core has nothing to do, and {:.3} [{:.3} … {:.3}] \
         of that while a loop of low priority keeps it busy, as it does in all windows below.\n",
        short(idle),
        share.median,
        share.min,
        share.max
    ));
    report.say(&format!(
        "Honest clients offer {PACE_PER_S} installs a second on a session that was there before and {NEWCOMERS_PER_S} over \
         new ones; the share that is granted is told. Attackers, clients and the control thread share one core.\n"
    ));
    report.table(&rows);
    report.bars();
    Ok(())
}

/// A loop of low priority on the core of this process, until it is dropped.
struct Busy(Child);

impl Busy {
    fn start() -> Result<Busy, PerfError> {
        let words = ["-n", "19", "sh", "-c", "while :; do :; done"];
        let child = Command::new("nice").args(words).spawn().map_err(failed)?;
        Ok(Busy(child))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // It does not end by itself; if somebody ended it, there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Packets a second in a window without clients.
fn rate(daemon: &Daemon, options: &Options) -> Result<f64, PerfError> {
    let (first, begin) = daemon.packets()?;
    std::thread::sleep(Duration::from_millis(options.window_ms));
    let (last, end) = daemon.packets()?;
    Ok((last - first) as f64 / (end - begin).as_secs_f64())
}

/// Tells the threads of a window to end.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        // Release, with the Acquire of those who look: they end after what is counted.
        self.0.store(true, Ordering::Release);
    }
}

/// One window: packets are counted while an attack runs, or none, and an honest client installs on its session.
fn window(
    daemon: &Daemon,
    bed: &Bed,
    orders: &Orders,
    honest: &Arc<Identity>,
    target: &Target,
    attack: Option<Attack>,
    options: &Options,
) -> Result<Window, PerfError> {
    let length = Duration::from_millis(options.window_ms);
    let stop = AtomicBool::new(false);
    // Who was there before the attack stays there; who comes during it, and for how long it lasts, is another figure.
    let mut session = Session::open(daemon.address(), honest, &bed.authority).map_err(failed)?;
    let window = std::thread::scope(|scope| {
        // Whatever goes wrong here, the threads come to their end.
        let ends = Ends(&stop);
        let attacker = attack.map(|attack| {
            scope.spawn({
                let stop = &stop;
                move || target.attack(attack, stop)
            })
        });
        let client = scope.spawn(|| installs(daemon, bed, orders, honest, &mut session, &stop));
        let (first, begin) = daemon.packets()?;
        std::thread::sleep(length);
        let (last, end) = daemon.packets()?;
        drop(ends);
        let seconds = (end - begin).as_secs_f64();
        let served = client.join().map_err(|_| failed("the honest client panicked"))??;
        let attempts = match attacker {
            Some(attacker) => attacker.join().map_err(|_| failed("the attacker panicked"))?,
            None => 0,
        };
        Ok::<_, PerfError>(Window {
            packets_per_s: (last - first) as f64 / seconds,
            regular: served.regular as f64 / seconds / PACE_PER_S,
            newcomers: served.newcomers as f64 / seconds / NEWCOMERS_PER_S,
            attempts_per_s: attempts as f64 / seconds,
        })
    })?;
    Ok(window)
}

/// What honest clients did in a window.
#[derive(Clone, Copy, Default)]
struct Served {
    /// Installs on the session that was there before.
    regular: u64,
    /// Installs over a session of their own.
    newcomers: u64,
}

/// Installs and withdraws at a steady pace until it is told to stop, as one owner with a session and one without.
fn installs(
    daemon: &Daemon,
    bed: &Bed,
    orders: &Orders,
    honest: &Arc<Identity>,
    session: &mut Session,
    stop: &AtomicBool,
) -> Result<Served, PerfError> {
    let (mut served, mut due, mut round) = (Served::default(), Instant::now(), 0u32);
    while !stop.load(Ordering::Acquire) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A client that was kept waiting does not make up for it.
        due = Instant::now().max(due + PACE);
        served.regular += u64::from(install(session, honest, orders, round)?);
        if round.is_multiple_of(NEWCOMER_EVERY) {
            // Whether a newcomer gets in under attack is what is measured.
            if let Ok(mut session) = Session::open(daemon.address(), honest, &bed.authority) {
                served.newcomers += u64::from(install(&mut session, honest, orders, round).unwrap_or(false));
            }
        }
        round += 1;
    }
    Ok(served)
}

/// Whether an install was granted; it is withdrawn again.
fn install(session: &mut Session, owner: &Identity, orders: &Orders, number: u32) -> Result<bool, PerfError> {
    let terms = orders.firewall(owner, SOURCES + number)?;
    let upload = Request::Upload(Box::new(Upload::sign(terms, owner)));
    let (reply, _) = session.ask(&upload).map_err(failed)?;
    // What is refused for now is what an attack may do to honest clients; what else it does shows in the figure.
    let Ok(instance) = instance(&reply, session) else { return Ok(false) };
    session.ask(&orders.withdrawal(owner, instance)?).map_err(failed)?;
    Ok(true)
}
