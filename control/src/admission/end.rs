//! How programs end: at their owners' wish, when their lifetime is over, with their owner's key.

use vinet_fastpath::flow_table::{InstallError, InstallId};
use vinet_session::identity::{Ownership, PublicKey};
use vinet_session::message::{Rejection, Reply, Withdraw};
use vinet_session::receipt::{Ending, ReceiptSubject};
use vinet_session::verify::check_withdraw;
use vinet_session::{Claim, Now};
use vinet_trusted::addr::Principal;

use super::decide::Gone;
use super::{Admission, Outcome, ProgramTable, Stage, not_found, rejected, still_valid};
use crate::requests::OpenRequest;
use crate::store::{Answer, Put};

/// A request to end a program, whose signature is being verified.
#[derive(Debug)]
#[must_use = "an open request is in progress until it is answered or forgotten"]
pub struct OpenWithdraw {
    request: OpenRequest,
    instance: u64,
    owner: Principal,
}

/// A program that came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its instance.
    pub instance: u64,
    /// Its owner.
    pub owner: Principal,
    /// Why.
    pub why: Ending,
}

impl Admission {
    /// Decides what can be decided about a withdrawal without verifying its signature, which is left as a claim.
    ///
    /// # Errors
    /// The answer, or what was answered before.
    pub fn open_withdraw(
        &mut self,
        withdraw: &Withdraw,
        owner: &Ownership,
        now: Now,
    ) -> Result<(Claim, OpenWithdraw), Result<Answer, Rejection>> {
        let claim = withdraw.claim(owner.key());
        let (nonce, expiry_s) = (withdraw.nonce(), withdraw.expiry_s());
        let checked = || check_withdraw(withdraw, &self.router, now.wall_s).map_err(Rejection::from);
        let request = match still_valid(owner, now).and_then(|()| self.requests.answered(&claim, nonce)) {
            Err(why) => Err(Err(why)),
            Ok(Some(answer)) => {
                self.decisions.repeated += 1;
                Err(Ok(answer))
            }
            Ok(None) => checked().and_then(|()| self.requests.open(&claim, nonce, expiry_s, now.wall_s)).map_err(Err),
        }?;
        Ok((claim, OpenWithdraw { request, instance: withdraw.instance(), owner: owner.principal() }))
    }

    /// Gives up a withdrawal that the judges did not take, with the reason for the client.
    pub fn drop_withdraw(&mut self, open: OpenWithdraw, why: Rejection) -> Outcome {
        self.refuse(open.request, why)
    }

    /// Takes a program out at its owner's wish.
    pub fn withdraw(
        &mut self,
        open: OpenWithdraw,
        verdict: Result<(), Rejection>,
        now: Now,
        table: &mut impl ProgramTable,
    ) -> Outcome {
        let OpenWithdraw { request, instance, owner } = open;
        let done = verdict.and_then(|()| {
            let status = self.status_of(instance, &owner, now, table).ok_or_else(|| not_found(instance, &owner))?;
            let (_, puts) = self.end(instance, Ending::Withdrawn, now, table).map_err(|error| {
                let text = format_args!("the router's table cannot let the program go now: {error}; try again");
                rejected("table", text)
            })?;
            Ok((status, puts))
        });
        match done {
            Ok((status, puts)) => Outcome::of(request, Reply::Withdrawn(status), puts),
            Err(why) => self.refuse(request, why),
        }
    }

    /// Takes a program out of the table, then out of the register; gives what the store has to do about it.
    fn end(
        &mut self,
        instance: u64,
        why: Ending,
        now: Now,
        table: &mut impl ProgramTable,
    ) -> Result<(Option<Ended>, Vec<Put>), InstallError> {
        table.withdraw(InstallId(instance))?;
        let left_s = match why {
            Ending::Expired => 0,
            _ => self.programs.get(&instance).map_or(0, |installed| installed.left_s(now)),
        };
        let Some(gone) = self.release(instance) else { return Ok((None, Vec::new())) };
        let (ended, puts) = self.ended(instance, &gone, why, left_s, now);
        Ok((Some(ended), puts))
    }

    /// What is left to do about a program that is out of the register: its money, its receipt, and telling its owner.
    pub(super) fn ended(
        &mut self,
        instance: u64,
        gone: &Gone,
        why: Ending,
        left_s: u64,
        now: Now,
    ) -> (Ended, Vec<Put>) {
        let line = super::account::line(gone.class);
        let entry = self.ledger.refund(&gone.key, line, gone.paid, gone.lifetime_s, left_s);
        let subject = ReceiptSubject::Ended { instance, why };
        let back = entry.given_back();
        let receipt = self.ledger.receipt(&gone.key, now.wall_s, &[&entry], subject, &self.identity);
        let mut puts = vec![Put::RemoveProgram { instance }, Put::Entry(entry), Put::Receipt(Box::new(receipt))];
        let (count, reason) = match why {
            Ending::Withdrawn => (&mut self.decisions.withdrawn, None),
            Ending::Expired => (&mut self.decisions.expired, Some("its lifetime is over")),
            Ending::Revoked => (&mut self.decisions.revoked, Some("the key of its owner was revoked")),
            Ending::Displaced => (&mut self.decisions.displaced, Some("this router cannot run it any longer")),
        };
        *count += 1;
        if let Some(reason) = reason {
            let given = if back > 0 { format!("; {back} credits were given back") } else { String::new() };
            let text = format!("program {instance} ended: {reason}{given}");
            puts.extend(self.events.note(&gone.owner, now.wall_s, &why.to_string(), &text));
        }
        (Ended { instance, owner: gone.owner, why }, puts)
    }

    /// Has every program of `keys` end soon.
    pub fn revoke(&mut self, keys: &[PublicKey]) {
        let keys: std::collections::BTreeSet<&PublicKey> = keys.iter().collect();
        let theirs = self.programs.iter().filter(|(_, installed)| keys.contains(&installed.key));
        self.doomed.extend(theirs.map(|(instance, _)| (*instance, Ending::Revoked)));
    }

    /// Takes out at most `most` programs whose time has come. What the table cannot let go now is tried again.
    pub fn reap(&mut self, most: usize, now: Now, table: &mut impl ProgramTable) -> Vec<(Ended, Outcome)> {
        let mut due = Vec::new();
        self.wheel.expire(now.mono_ms, &mut due);
        self.doomed.extend(due.into_iter().map(|instance| (instance, Ending::Expired)));
        let mut reaped = Vec::new();
        for _ in 0..self.doomed.len().min(most) {
            let Some((instance, why)) = self.doomed.pop_front() else { break };
            match self.programs.get(&instance) {
                None => continue,
                // What is not in force yet cannot be taken out: it ends as soon as it is.
                Some(installed) if installed.stage == Stage::Decided => self.doomed.push_back((instance, why)),
                // Its lifetime began anew meanwhile.
                Some(installed) if why == Ending::Expired && installed.ends_ms > now.mono_ms => {}
                Some(_) => match self.end(instance, why, now, table) {
                    Ok((Some(ended), puts)) => reaped.push((ended, Outcome::unasked(puts))),
                    Ok((None, _)) => {}
                    Err(_) => {
                        self.doomed.push_front((instance, why));
                        break;
                    }
                },
            }
        }
        reaped
    }

    /// How many programs are to end and have not yet.
    #[must_use]
    pub fn doomed(&self) -> usize {
        self.doomed.len()
    }

    /// Takes every program out of the table, for the end of the router; the store keeps them for the next start. Returns
    /// how many there were.
    pub fn clear(&mut self, table: &mut impl ProgramTable) -> usize {
        let running = self.programs.iter().filter(|(_, installed)| installed.stage == Stage::Running);
        running.filter(|(instance, _)| table.withdraw(InstallId(**instance)).is_ok()).count()
    }
}
