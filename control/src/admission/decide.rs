//! What is decided once the judges have spoken, and what a program holds from then on.
//!
//! [`Admission::decide`] compares what was declared with what was derived; [`Admission::admit`] takes everything that the
//! program needs (its price, a number, a place with its owner, capacity, quotas, a timer) or nothing. The program is then
//! in the register, but not in force: [`Admission::publish`] puts it in force when the store has it. Whatever fails in
//! between, [`Admission::undo`] gives everything back, by the same code that ends a program.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use vinet_fastpath::flow_table::{Install, InstallId};
use vinet_pktops::Executable;
use vinet_session::Now;
use vinet_session::identity::PublicKey;
use vinet_session::message::{Class, Receipt, Rejection, Reply, Terms, Upload};
use vinet_session::receipt::{self, Ending, ReceiptSubject};
use vinet_session::tag_key;
use vinet_session::verify::RequestFault;
use vinet_trusted::addr::{Prefix, Principal};
use vinet_trusted::check::Checked;

use super::{Admission, Installed, OpenCase, Outcome, ProgramTable, Stage, rejected};
use crate::capacity::load;
use crate::judges::Accepted;
use crate::lookahead::{Job, Load};
use crate::requests::OpenRequest;
use crate::sources::Aim;
use crate::store::{Answer, ProgramRecord, Put, Transaction};

/// A program that may run if there is room for it: [`Admission::admit`] it or [`Admission::turn_down`] it.
#[derive(Debug)]
#[must_use = "a candidate holds its owner's money until it is admitted or turned down"]
pub struct Candidate {
    case: OpenCase,
    upload: Box<Upload>,
    accepted: Accepted,
    aim: Aim,
    load: Load,
}

/// A program that everything is taken for and that is not in force yet: [`Admission::publish`] it or
/// [`Admission::undo`] it.
#[must_use = "a decided program holds its capacity until it is published or undone"]
pub struct Decided {
    instance: u64,
    request: OpenRequest,
    receipt: Receipt,
    install: Install,
}

impl fmt::Debug for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decided").field("receipt", &self.receipt).finish_non_exhaustive()
    }
}

/// Reasons that are not about the upload: the very same may be sent again, and costs nothing.
const PASSING: [&str; 8] =
    ["busy", "router-fault", "router-full", "too-many-programs", "table", "bad-signature", "store", "quota"];

impl Admission {
    /// Decides all that does not depend on who else wants the capacity.
    ///
    /// # Errors
    /// What it comes to, where the program may not run here.
    pub fn decide(
        &mut self,
        case: OpenCase,
        upload: Box<Upload>,
        verdict: Result<Accepted, Rejection>,
        now: Now,
    ) -> Result<Box<Candidate>, Box<Outcome>> {
        let terms = upload.terms();
        let accepted = match verdict.and_then(|accepted| {
            declared_as_derived(terms, &accepted.executable)?;
            Ok(accepted)
        }) {
            Ok(accepted) => accepted,
            Err(why) if PASSING.contains(&why.code()) => return Err(Box::new(self.drop_case(case, why))),
            // Proofs that prove nothing and numbers that lie have cost a check.
            Err(why) => {
                self.decisions.rejected += 1;
                return Err(Box::new(self.charge(case, terms.nonce, why, now)));
            }
        };
        let executable = &accepted.executable;
        let fits = self.sources_controlled(executable).and_then(|()| self.is_paid(terms, executable.checked()));
        if let Err(why) = fits {
            return Err(Box::new(self.drop_case(case, why)));
        }
        let aim = Aim::of(executable, &self.terrain.controlled, case.verified, terms.monitor);
        let checked = executable.checked();
        let load = load(checked.complexity(), terms.packet_rate, checked.state_bytes(), self.terrain.workers);
        Ok(Box::new(Candidate { case, upload, accepted, aim, load }))
    }

    /// Ends a request with a rejection, which its copies get as well unless it will pass.
    pub(super) fn refuse(&mut self, request: OpenRequest, why: Rejection) -> Outcome {
        self.decisions.rejected += 1;
        if PASSING.contains(&why.code()) {
            Outcome::passing(request, why)
        } else {
            Outcome::of(request, Reply::Rejected(why), Vec::new())
        }
    }

    /// Gives up a case without a charge, with the reason for the client.
    pub fn drop_case(&mut self, case: OpenCase, why: Rejection) -> Outcome {
        self.unreserve(case.money);
        self.refuse(case.request, why)
    }

    /// Gives up a program for which there is no room, with the reason for the client.
    pub fn turn_down(&mut self, candidate: Candidate, why: Rejection) -> Outcome {
        self.drop_case(candidate.case, why)
    }

    /// What a program needs that is not there already, and what it pays, for who decides about the capacity.
    #[must_use]
    pub fn job(&self, candidate: &Candidate, until_us: u64) -> Job {
        let Candidate { upload, accepted, load, .. } = candidate;
        let program_id = accepted.executable.checked().program_id();
        let group = self.sharers.group_of(&program_id, &accepted.executable, &self.programs);
        let terms = upload.terms();
        Job {
            load: self.budget.needed(load, group),
            value: terms.payment,
            lifetime_s: u64::from(terms.lifetime_s),
            until_us,
        }
    }

    /// Takes everything that a program needs; what the store has to make durable comes with it.
    ///
    /// # Errors
    /// What it comes to, where something is not there; nothing is taken then.
    pub fn admit(&mut self, candidate: Candidate, now: Now) -> Result<(Decided, Transaction), Box<Outcome>> {
        let Candidate { case, upload, accepted, aim, load } = candidate;
        let terms = upload.terms();
        let Accepted { executable, record, proof } = accepted;
        let checked = Arc::clone(executable.checked());
        let program_id = checked.program_id();
        let key = case.request.key();
        let lifetime_s = u64::from(checked.lifetime_s());
        let ends_ms = now.mono_ms.saturating_add(lifetime_s * 1_000);
        let class = Class::of(checked.program());
        let taken = self.take(terms, &executable, &key, aim, load, lifetime_s, ends_ms);
        let (instance, install) = match taken {
            Ok(taken) => taken,
            Err(why) => return Err(Box::new(self.drop_case(case, why))),
        };
        let OpenCase { request, money, .. } = case;
        self.ledger.release(money.bond);
        let paid = money.price.amount();
        let entry = self.ledger.capture(money.price);
        let subject = ReceiptSubject::Installed(Box::new(receipt::Installed {
            instance,
            program_id,
            principal: terms.principal,
            policy_id: terms.policy_id,
            class,
            complexity: checked.complexity(),
            cost: checked.cost(),
            packet_rate: terms.packet_rate,
            installed_s: now.wall_s,
            ends_s: now.wall_s + lifetime_s,
            nonce: terms.nonce,
            monitor: terms.monitor,
        }));
        let receipt = self.ledger.receipt(&key, now.wall_s, &[&entry], subject, &self.identity);
        let record = ProgramRecord {
            instance,
            owner: key,
            upload: record,
            proof,
            began_s: now.wall_s,
            ends_s: now.wall_s + lifetime_s,
            paid,
        };
        let puts = vec![
            Put::Entry(entry),
            Put::Receipt(Box::new(receipt.clone())),
            Put::Program(Box::new(record)),
            request.record(Answer::Receipt(receipt.terms().number)),
        ];
        Ok((Decided { instance, request, receipt, install }, Transaction::from(puts)))
    }

    /// Gives everything back that was taken for a program which the store could not make durable.
    pub fn undo(&mut self, decided: Decided, why: Rejection) -> Reply {
        let Decided { instance, request, .. } = decided;
        if let Some(gone) = self.release(instance) {
            // The store writes no more, so this is about what memory says until the next start.
            let line = super::account::line(gone.class);
            drop(self.ledger.refund(&gone.key, line, gone.paid, gone.lifetime_s, gone.lifetime_s));
        }
        self.decisions.rejected += 1;
        self.requests.forget(request);
        Reply::Rejected(why)
    }

    /// Puts programs in force, all at once where the table can. `W` is the way back. Those that the table does not take
    /// are ended again, with everything that was paid.
    pub fn publish<W>(
        &mut self,
        programs: Vec<(W, Decided)>,
        now: Now,
        table: &mut impl ProgramTable,
    ) -> Vec<(W, Result<Reply, Outcome>)> {
        let installs = programs.iter().map(|(_, decided)| decided.install.clone()).collect();
        // What cannot be done all at once may be possible one by one, but for those that are at fault.
        let together = table.install_all(installs).is_ok();
        let mut replies = Vec::with_capacity(programs.len());
        for (way, decided) in programs {
            let published = if together { Ok(()) } else { table.install(decided.install.clone()) };
            let reply = match published {
                Ok(()) => Ok(self.in_force(decided)),
                Err(error) => {
                    let text = format_args!("the router's table cannot take the program: {error}");
                    Err(self.take_back(decided, rejected("table", text), now))
                }
            };
            replies.push((way, reply));
        }
        replies
    }

    fn in_force(&mut self, decided: Decided) -> Reply {
        if let Some(installed) = self.programs.get_mut(&decided.instance) {
            installed.stage = Stage::Running;
        }
        self.decisions.installed += 1;
        self.requests.answer(decided.request, Answer::Receipt(decided.receipt.terms().number));
        Reply::Receipt(decided.receipt)
    }

    /// Ends a program that the store has and the table does not take.
    fn take_back(&mut self, decided: Decided, why: Rejection, now: Now) -> Outcome {
        self.decisions.rejected += 1;
        self.decisions.displaced += 1;
        let puts = match self.release(decided.instance) {
            Some(gone) => {
                let whole_s = gone.lifetime_s;
                self.ended(decided.instance, &gone, Ending::Displaced, whole_s, now).1
            }
            None => Vec::new(),
        };
        Outcome::of(decided.request, Reply::Rejected(why), puts)
    }

    #[allow(clippy::too_many_arguments)]
    fn take(
        &mut self,
        terms: &Terms,
        executable: &Arc<Executable>,
        key: &PublicKey,
        aim: Aim,
        load: Load,
        lifetime_s: u64,
        ends_ms: u64,
    ) -> Result<(u64, Install), Rejection> {
        self.room_for(&terms.principal)?;
        let instance = self.next_instance;
        let generate_key = self.generate_key(executable, key)?;
        let installed = self.enter(instance, terms, executable, *key, aim, load, lifetime_s, ends_ms, terms.payment)?;
        let install = installed.install(instance, generate_key);
        self.next_instance += 1;
        self.programs.insert(instance, installed);
        Ok((instance, install))
    }

    /// What the tags of a program's generated packets are made with.
    pub(super) fn generate_key(&self, executable: &Executable, key: &PublicKey) -> Result<[u8; 32], Rejection> {
        if !executable.generates() {
            return Ok([0; 32]);
        }
        tag_key::at_router(&self.identity, key, &executable.checked().program_id())
            .ok_or_else(|| rejected("bad-key", "the owner's key gives no key for generated packets"))
    }

    /// Takes quotas, capacity, a timer and a place with its owner for `instance`, or nothing.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn enter(
        &mut self,
        instance: u64,
        terms: &Terms,
        executable: &Arc<Executable>,
        key: PublicKey,
        aim: Aim,
        load: Load,
        lifetime_s: u64,
        ends_ms: u64,
        paid: u64,
    ) -> Result<Installed, Rejection> {
        self.sources.may(&aim).map_err(|fault| rejected("quota", fault))?;
        let program_id = executable.checked().program_id();
        let group = self.sharers.group_of(&program_id, executable, &self.programs);
        let hold = self.budget.take(load, group).map_err(|short| rejected(short.code(), short))?;
        let Ok(timer) = self.wheel.set(instance, ends_ms) else {
            self.budget.release(hold);
            return Err(rejected("router-full", "every timer of the router is in use; ask later"));
        };
        self.sources.add(&aim);
        self.lemmas.cite(&terms.principal, &terms.lemma_root);
        self.sharers.add(program_id, instance);
        let class = Class::of(executable.checked().program());
        self.census.came(class, load.cycles_per_second);
        self.by_owner.entry(terms.principal).or_default().insert(instance);
        Ok(Installed {
            owner: terms.principal,
            key,
            executable: Arc::clone(executable),
            class,
            packet_rate: terms.packet_rate,
            monitor: terms.monitor,
            hold,
            timer,
            aim,
            lemma_root: terms.lemma_root,
            ends_ms,
            lifetime_s,
            paid,
            stage: Stage::Decided,
        })
    }

    /// Takes a program out of the register and gives back all that it held but its money.
    pub(super) fn release(&mut self, instance: u64) -> Option<Gone> {
        let installed = self.programs.remove(&instance)?;
        self.wheel.cancel(installed.timer);
        self.census.went(installed.class, installed.hold.load().cycles_per_second);
        self.budget.release(installed.hold);
        self.sources.remove(&installed.aim);
        self.lemmas.cite_no_more(&installed.owner, &installed.lemma_root);
        self.sharers.remove(&installed.executable.checked().program_id(), instance);
        if let Some(own) = self.by_owner.get_mut(&installed.owner) {
            own.remove(&instance);
            if own.is_empty() {
                self.by_owner.remove(&installed.owner);
            }
        }
        let Installed { owner, key, class, lifetime_s, paid, .. } = installed;
        Some(Gone { owner, key, class, lifetime_s, paid })
    }

    /// Whether one more program of `owner` may be installed.
    pub(super) fn room_for(&self, owner: &Principal) -> Result<(), Rejection> {
        let own = self.by_owner.get(owner).map_or(0, BTreeSet::len);
        if own >= self.terrain.programs_per_owner_max {
            let text = format_args!("{owner} has {own} programs here already, which is the most; withdraw one first");
            return Err(rejected("too-many-programs", text));
        }
        if self.programs.len() >= self.terrain.programs_max {
            let text = format_args!("{} programs are installed, which is the most; ask later", self.programs.len());
            return Err(rejected("router-full", text));
        }
        Ok(())
    }

    /// Whether the payment is at least the price: that of the quote, which the judges found to be ours and for this, or
    /// that of the tariff.
    fn is_paid(&self, terms: &Terms, checked: &Checked) -> Result<(), Rejection> {
        if terms.payment > 0 && self.payment.bank.is_none() {
            return Err(rejected("no-bank", "this router takes no payment: its programs are free, offer none"));
        }
        let state_bytes = checked.state_bytes();
        let needed = match &terms.quote {
            Some(quote) if quote.terms().state_bytes < state_bytes => {
                let (what, quoted) = ("state", quote.terms().state_bytes);
                return Err(RequestFault::QuoteDiffers { what, quoted, declared: state_bytes }.into());
            }
            Some(quote) => quote.terms().price,
            None => self.price(checked, terms.packet_rate)?,
        };
        if terms.payment < needed {
            return Err(RequestFault::Price { needed, offered: terms.payment }.into());
        }
        Ok(())
    }

    /// What the tariff asks for a program.
    pub(super) fn price(&self, checked: &Checked, packet_rate: u32) -> Result<u64, Rejection> {
        self.payment
            .tariff
            .price(checked.complexity(), packet_rate, checked.state_bytes(), u64::from(checked.lifetime_s()))
            .ok_or_else(|| rejected("price", "such a program costs more than anybody can have"))
    }

    /// Whether every cell of the program is about sources that this router controls.
    ///
    /// Any source stands for the controlled ones. A prefix that holds some controlled and some other addresses is
    /// accepted: packets from the others are not given to programs here.
    pub(super) fn sources_controlled(&self, executable: &Executable) -> Result<(), Rejection> {
        let stranger = executable
            .cells()
            .iter()
            .map(vinet_trusted::gate::Cell::src)
            .find(|src| src.len() > 0 && !self.terrain.controlled.overlaps(*src));
        match stranger {
            None => Ok(()),
            Some(src) => Err(rejected(
                "source-not-controlled",
                format_args!(
                    "the source {src} is not controlled by this router; it controls {}",
                    Listed(self.terrain.controlled.prefixes())
                ),
            )),
        }
    }
}

/// What is left of a program that is out of the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) owner: Principal,
    pub(super) key: PublicKey,
    pub(super) class: Class,
    pub(super) lifetime_s: u64,
    pub(super) paid: u64,
}

impl Installed {
    /// What the table is given.
    pub(super) fn install(&self, instance: u64, generate_key: [u8; 32]) -> Install {
        Install {
            id: InstallId(instance),
            executable: Arc::clone(&self.executable),
            packet_rate: self.packet_rate,
            over_budget: self.executable.checked().policy().limits.over_budget,
            generate_key,
            monitor: self.monitor,
        }
    }
}

/// What the client declared must be what the router derived; a rejection names both.
fn declared_as_derived(terms: &Terms, executable: &Executable) -> Result<(), Rejection> {
    let checked = executable.checked();
    let class = Class::of(checked.program());
    if terms.class != class {
        let text = format_args!("class {:?} is declared, the program is of class {class:?}", terms.class);
        return Err(rejected("class-differs", text));
    }
    for (code, what, declared, derived) in [
        ("complexity-differs", "Complexity", terms.complexity, checked.complexity()),
        ("cost-differs", "Cost", terms.cost, checked.cost()),
        ("lifetime-differs", "a lifetime (in seconds)", u64::from(terms.lifetime_s), u64::from(checked.lifetime_s())),
    ] {
        if declared != derived {
            return Err(rejected(code, format_args!("{what} of {declared} is declared, {derived} is derived")));
        }
    }
    Ok(())
}

/// At most eight prefixes, and how many more.
struct Listed<'a>(&'a [Prefix]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 8;
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (i, prefix) in self.0.iter().take(SHOWN_MAX).enumerate() {
            write!(f, "{}{prefix}", if i > 0 { ", " } else { "" })?;
        }
        match self.0.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
