//! `vinet vfirewall`: the daemon that keeps the programs of a machine's own applications installed.
//!
//! One thread, the keeper, has the rules and does everything that takes time at routers, one thing after the other; a
//! thread for each local connection and one for alerts hand it what comes in. It looks at each router every few seconds:
//! a program whose time is running out is renewed, one that is gone is uploaded again, and what is new is told to every
//! watcher. The rules are in a file, so that another start goes on with them.
//!
//! Bounds: [`RULES_MAX`] rules, [`local::CONNECTIONS_MAX`] local connections, [`WATCHERS_MAX`] watchers with
//! [`WATCH_LINES_MAX`] lines each that wait; a watcher that does not keep up is let go.

pub(super) mod alerts;
pub(super) mod local;
mod rule;

use super::answer::{self, Failure, Outcome, Steps};
use super::money::renewed;
use super::network::{ready, withdrawn};
use super::route::{self, Target};
use super::session::{Session, load_authority, load_identity, no_state, now_s, principal, state_dir};
use super::watch::{Notice, Seen};
use super::{Json, Pay, Reach};
use clap::Args;
use rule::{Rule, Written};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use vinet_client::file;
use vinet_client::lang::{self, lifetime};
use vinet_session::limits::VFIREWALL_PORT;
use vinet_trusted::addr::Prefix;

/// The most rules that are kept.
const RULES_MAX: usize = 1024;
/// The most watchers.
const WATCHERS_MAX: usize = 16;
/// The most lines that wait for one of them.
const WATCH_LINES_MAX: usize = 256;
/// Things that wait for the keeper.
const JOBS_MAX: usize = 64;
/// The longest pause before a program that was refused is asked for again.
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// The most bytes of the file of rules.
const FILE_BYTES_MAX: u64 = 16 << 20;

#[derive(Args)]
pub(super) struct Vfirewall {
    /// The port: TCP on the loopback address for local applications, UDP for routers' alerts; 0 takes any
    #[arg(long, value_name = "PORT", default_value_t = VFIREWALL_PORT)]
    port: u16,
    /// The seconds between two looks at a router
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    pub(super) json: Json,
}

/// What the keeper is handed.
pub(super) enum Job {
    /// A request of a local application, and where the answer goes.
    Ask(Value, SyncSender<Value>),
    /// Somebody wants to be told everything from now on.
    Watch(SyncSender<Value>),
    /// A router's alert that stands.
    Alert(Notice),
}

/// A program at a router.
#[derive(Clone, Serialize, Deserialize)]
struct Placed {
    target: Target,
    /// The router's name.
    router: String,
    sources: Vec<String>,
    instance: u64,
    paid: u64,
    lifetime_s: u32,
    /// How often it was asked for since it was last installed or renewed, and not before when again.
    #[serde(skip)]
    failed: u32,
    #[serde(skip)]
    not_before: Option<Instant>,
}

impl Placed {
    fn may_try(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|then| then <= now)
    }
    /// Every failure doubles the pause: a router may charge for what it rejects.
    fn failed(&mut self, now: Instant) {
        self.failed += 1;
        let pause = Duration::from_secs(1 << self.failed.min(12));
        self.not_before = Some(now + pause.min(PAUSE_MAX));
    }
    fn sources(&self) -> Vec<Prefix> {
        self.sources.iter().filter_map(|text| lang::prefix(text).ok()).collect()
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    id: u64,
    rule: Rule,
    placed: Vec<Placed>,
}

#[derive(Default, Serialize, Deserialize)]
struct Book {
    next: u64,
    rules: Vec<Kept>,
}

struct Keeper<'a> {
    args: &'a Vfirewall,
    path: PathBuf,
    book: Book,
    watchers: Vec<SyncSender<Value>>,
    seen: BTreeMap<String, Seen>,
    /// The routers that could not be reached the last time.
    away: BTreeSet<String>,
    steps: Steps,
}

pub(super) fn run(args: &Vfirewall) -> Outcome {
    let dir = state_dir().ok_or_else(no_state)?;
    std::fs::create_dir_all(&dir)
        .map_err(|error| Failure::Unusable(format!("cannot make the folder {}: {error}", dir.display())))?;
    // What is wrong with the keys shows now, and not at the first request.
    let owner = principal(&load_identity(&args.reach)?)?;
    let authority = load_authority(&args.reach)?;
    let path = dir.join("vfirewall-rules.json");
    let book = if path.exists() {
        serde_json::from_slice(&file::read(&path, FILE_BYTES_MAX)?)
            .map_err(|error| Failure::Unusable(format!("{}: {error}", path.display())))?
    } else {
        Book::default()
    };
    let (jobs, waiting) = sync_channel(JOBS_MAX);
    let door = local::Door::open(&dir, args.port, jobs.clone())?;
    alerts::start(door.port, authority, owner, jobs)?;
    if args.json.json {
        let file = door.path.display().to_string();
        answer::print_json(&json!({ "port": door.port, "file": file, "rules": book.rules.len() }))?;
    } else {
        let (port, file) = (door.port, door.path.display());
        answer::print(&format_args!(
            "listening on 127.0.0.1 port {port} for local applications ({file} has the token), and on UDP port {port} \
             for alerts to {owner}; {} rules",
            book.rules.len()
        ))?;
    }
    let steps = Steps::new(args.reach.verbose);
    let mut keeper =
        Keeper { args, path, book, watchers: Vec::new(), seen: BTreeMap::new(), away: BTreeSet::new(), steps };
    keeper.keep(&waiting)
}

impl Keeper<'_> {
    fn keep(&mut self, waiting: &Receiver<Job>) -> Outcome {
        let every = Duration::from_secs(self.args.every);
        let mut next_look = Instant::now();
        loop {
            match waiting.recv_timeout(next_look.saturating_duration_since(Instant::now())) {
                Ok(Job::Ask(request, reply)) => {
                    let answer = self.ask(&request).unwrap_or_else(|failure| told(&failure));
                    // The application may have gone away.
                    let _ = reply.try_send(answer);
                }
                Ok(Job::Watch(watcher)) if self.watchers.len() < WATCHERS_MAX => {
                    if watcher.try_send(json!({ "ok": true })).is_ok() {
                        self.watchers.push(watcher);
                    }
                }
                // It is dropped, which ends its connection.
                Ok(Job::Watch(watcher)) => {
                    let text = format!("{WATCHERS_MAX} watch already, which is the most");
                    let _ = watcher.try_send(json!({ "ok": false, "code": "busy", "text": text }));
                }
                Ok(Job::Alert(notice)) => self.tell(&[notice]),
                Err(RecvTimeoutError::Timeout) => {
                    self.look_round();
                    next_look = Instant::now() + every;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Unusable("the local port was closed".to_string()));
                }
            }
        }
    }

    fn tell(&mut self, notices: &[Notice]) {
        for notice in notices {
            self.steps.tell(&notice.words());
            let line = notice.json();
            self.watchers.retain(|watcher| watcher.try_send(line.clone()).is_ok());
        }
    }

    fn note(&mut self, router: &str, instance: Option<u64>, code: &str, text: String) {
        let (router, code) = (router.to_owned(), code.to_owned());
        self.tell(&[Notice { at_s: now_s(), router, instance, code, text }]);
    }

    fn save(&self) -> Outcome {
        let text = serde_json::to_vec_pretty(&self.book).expect("plain fields are JSON");
        Ok(file::write(&self.path, &text)?)
    }

    /// Answers a local application.
    fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
        let id = request["id"].as_u64();
        match (request["ask"].as_str(), id) {
            (Some("list"), _) => Ok(self.list()),
            (Some("remove"), Some(id)) => self.remove(id),
            _ => self.add(request),
        }
    }

    fn list(&self) -> Value {
        let programs = |placed: &Placed| {
            let seen = self.seen.get(&placed.target.to_string());
            let status = seen.and_then(|seen| seen.programs.get(&placed.instance));
            json!({
                "router": placed.router,
                "instance": placed.instance,
                "paid": placed.paid,
                "seconds_left": status.map(|status| status.seconds_left),
                "packets_discarded": status.map(|status| status.packets_discarded),
            })
        };
        let rules = self.book.rules.iter().map(|kept| {
            json!({ "id": kept.id, "rule": kept.rule, "programs": kept.placed.iter().map(programs).collect::<Vec<_>>() })
        });
        json!({ "ok": true, "rules": rules.collect::<Vec<_>>() })
    }

    /// Installs what a local application asks for at every router that it belongs on; kept where at least one has it.
    fn add(&mut self, request: &Value) -> Result<Value, Failure> {
        let rule: Rule = serde_json::from_value(request.clone())
            .map_err(|error| Failure::Unusable(format!("the request is none: {error}")))?;
        let written = rule.written()?;
        if self.book.rules.len() >= RULES_MAX {
            return Err(Failure::Unusable(format!("{RULES_MAX} rules are kept, which is the most; remove one")));
        }
        let mut placed = Vec::new();
        let mut refused = Vec::new();
        let mut first = None;
        for stop in route::stops(&rule.router, &self.args.reach, &written.sources)? {
            let placing = Session::at(stop.target.clone(), &self.args.reach)
                .and_then(|mut session| place(&mut session, &stop.target, &stop.sources, &rule, &written));
            match placing {
                Ok(done) => placed.push(done),
                Err(failure) => {
                    let mut answer = told(&failure);
                    answer["router"] = json!(stop.target.to_string());
                    refused.push(answer);
                    first.get_or_insert(failure);
                }
            }
        }
        if placed.is_empty() {
            return Err(first.unwrap_or_else(|| Failure::Unusable("there is no router for it".to_string())));
        }
        self.book.next += 1;
        let id = self.book.next;
        let programs: Vec<Value> = placed
            .iter()
            .map(|placed| json!({ "router": placed.router, "instance": placed.instance, "paid": placed.paid }))
            .collect();
        self.book.rules.push(Kept { id, rule, placed });
        self.save()?;
        Ok(json!({ "ok": refused.is_empty(), "id": id, "programs": programs, "refused": refused }))
    }

    /// Ends the programs of a rule, and forgets it.
    fn remove(&mut self, id: u64) -> Result<Value, Failure> {
        let Some(at) = self.book.rules.iter().position(|kept| kept.id == id) else {
            return Ok(json!({ "ok": false, "code": "not-found", "text": format!("there is no rule {id}") }));
        };
        let kept = self.book.rules.remove(at);
        self.save()?;
        let mut left = Vec::new();
        for placed in &kept.placed {
            let ended = Session::at(placed.target.clone(), &self.args.reach)
                .and_then(|mut session| withdrawn(&mut session, placed.instance));
            match ended {
                Ok(_) => {}
                // It has ended by itself.
                Err(Failure::Refused(why)) if why.code == "not-found" => {}
                Err(failure) => left.push(told(&failure)),
            }
        }
        Ok(json!({ "ok": left.is_empty(), "id": id, "refused": left }))
    }

    /// Looks at every router once: tells what is new, renews what is about to end, and uploads again what is gone.
    fn look_round(&mut self) {
        // A watcher that has gone away makes room for another.
        self.watchers.retain(|watcher| watcher.try_send(Value::Null).is_ok());
        let mut targets: Vec<Target> = Vec::new();
        for placed in self.book.rules.iter().flat_map(|kept| &kept.placed) {
            if !targets.contains(&placed.target) {
                targets.push(placed.target.clone());
            }
        }
        let mut changed = false;
        for target in targets {
            let key = target.to_string();
            let mut seen = self.seen.remove(&key).unwrap_or_default();
            let looked = Session::at(target.clone(), &self.args.reach)
                .and_then(|mut session| Ok((seen.look(&mut session)?, session)));
            match looked {
                Ok((notices, mut session)) => {
                    self.away.remove(&key);
                    self.tell(&notices);
                    changed |= self.care(&target, &seen, &mut session);
                }
                Err(failure) => {
                    if self.away.insert(key.clone()) {
                        let text = told(&failure)["text"].as_str().unwrap_or_default().to_owned();
                        self.note(&key, None, "unreachable", text);
                    }
                }
            }
            self.seen.insert(key, seen);
        }
        if changed && let Err(failure) = self.save() {
            let text = told(&failure)["text"].as_str().unwrap_or_default().to_owned();
            self.note("vfirewall", None, "not-saved", text);
        }
    }

    /// Renews or uploads again what needs it at one router; whether the book has changed.
    fn care(&mut self, target: &Target, seen: &Seen, session: &mut Session) -> bool {
        let now = Instant::now();
        let mut notes = Vec::new();
        let mut changed = false;
        let mut book = std::mem::take(&mut self.book);
        for Kept { rule, placed, .. } in &mut book.rules {
            for placed in placed.iter_mut().filter(|placed| placed.target == *target && placed.may_try(now)) {
                let status = seen.programs.get(&placed.instance);
                // A third of the lifetime is left for trying again.
                let due = placed.lifetime_s / 3;
                let done = match status {
                    Some(status) if status.seconds_left > due => continue,
                    Some(_) => {
                        let payment = rule.pay.unwrap_or(placed.paid);
                        renewed(session, placed.instance, payment).map(|terms| {
                            placed.paid = terms.paid;
                            let lasts = lifetime::written(placed.lifetime_s);
                            ("kept", format!("renewed for {lasts}, {} credits paid", terms.paid))
                        })
                    }
                    None => {
                        let sources = placed.sources();
                        let again = rule.written().and_then(|written| place(session, target, &sources, rule, &written));
                        again.map(|again| {
                            let before = placed.instance;
                            *placed = again;
                            ("kept", format!("in the place of program {before}, which is gone"))
                        })
                    }
                };
                match done {
                    Ok((code, text)) => {
                        (placed.failed, placed.not_before) = (0, None);
                        changed = true;
                        notes.push((placed.router.clone(), placed.instance, code, text));
                    }
                    Err(failure) => {
                        placed.failed(now);
                        let text = told(&failure)["text"].as_str().unwrap_or_default().to_owned();
                        notes.push((placed.router.clone(), placed.instance, "not-kept", text));
                    }
                }
            }
        }
        self.book = book;
        for (router, instance, code, text) in notes {
            self.note(&router, Some(instance), code, text);
        }
        changed
    }
}

/// Installs the program of a rule at the router of `session`.
fn place(
    session: &mut Session,
    target: &Target,
    sources: &[Prefix],
    rule: &Rule,
    written: &Written,
) -> Result<Placed, Failure> {
    let (ready, contract) = ready(session, sources, written.name, rule.rate, &*written.source)?;
    let lifetime_s = ready.program.lifetime_s();
    let pay = Pay { pay: rule.pay, quote: None, monitor: rule.monitor };
    let (receipt, installed) = session.install(ready, &contract, &pay)?;
    Ok(Placed {
        target: target.clone(),
        router: session.link.router().name().to_owned(),
        sources: sources.iter().map(ToString::to_string).collect(),
        instance: installed.instance,
        paid: receipt.paid,
        lifetime_s,
        failed: 0,
        not_before: None,
    })
}

/// A failure as an answer.
fn told(failure: &Failure) -> Value {
    let (code, text) = match failure {
        Failure::Refused(why) => (why.code.as_str(), why.text.clone()),
        Failure::Unusable(why) => ("unusable", why.clone()),
        Failure::Source(errors) => ("not-compiled", errors.report(false)),
        Failure::Script(error) => ("not-compiled", error.report(false)),
    };
    json!({ "ok": false, "code": code, "text": text })
}
