//! Renewals: a lifetime begins anew.

use vinet_session::identity::Ownership;
use vinet_session::message::{Rejection, Renew, Reply};
use vinet_session::receipt::ReceiptSubject;
use vinet_session::verify::{RequestFault, check_renew};
use vinet_session::{Claim, Now};
use vinet_trusted::addr::Principal;

use super::{Admission, Outcome, Stage, not_found, rejected, still_valid};
use crate::requests::OpenRequest;
use crate::sources::Aim;
use crate::store::{Answer, Put};

/// A request for a new lifetime, whose signature is being verified.
#[derive(Debug)]
#[must_use = "an open request is in progress until it is answered or forgotten"]
pub struct OpenRenew {
    request: OpenRequest,
    instance: u64,
    payment: u64,
    nonce: [u8; 16],
    owner: Principal,
    verified: bool,
}

impl Admission {
    /// Decides what can be decided about a renewal without verifying its signature, which is left as a claim. Its owner has
    /// to be reached anew, as for an upload.
    ///
    /// # Errors
    /// The answer, or what was answered before.
    pub fn open_renew(
        &mut self,
        renew: &Renew,
        owner: &Ownership,
        now: Now,
    ) -> Result<(Claim, OpenRenew), Result<Answer, Rejection>> {
        let claim = renew.claim(owner.key());
        if let Some(answer) =
            still_valid(owner, now).and_then(|()| self.requests.answered(&claim, renew.nonce())).map_err(Err)?
        {
            self.decisions.repeated += 1;
            return Err(Ok(answer));
        }
        check_renew(renew, &self.router, now.wall_s).map_err(|fault| Err(fault.into()))?;
        let verified = self.reach.may(owner, now).map_err(Err)?;
        let request = self.requests.open(&claim, renew.nonce(), renew.expiry_s(), now.wall_s).map_err(Err)?;
        let (instance, payment, nonce) = (renew.instance(), renew.payment(), renew.nonce());
        Ok((claim, OpenRenew { request, instance, payment, nonce, owner: owner.principal(), verified }))
    }

    /// Gives up a renewal that the judges did not take, with the reason for the client.
    pub fn drop_renew(&mut self, open: OpenRenew, why: Rejection) -> Outcome {
        self.refuse(open.request, why)
    }

    /// Begins the lifetime of a program anew: what is left of its payment goes back, and the new payment is taken.
    pub fn renew(&mut self, open: OpenRenew, verdict: Result<(), Rejection>, now: Now) -> Outcome {
        match verdict.and_then(|()| self.renewed(&open, now)) {
            Ok((reply, puts)) => Outcome::of(open.request, reply, puts),
            Err(why) => self.refuse(open.request, why),
        }
    }

    fn renewed(&mut self, open: &OpenRenew, now: Now) -> Result<(Reply, Vec<Put>), Rejection> {
        let instance = open.instance;
        // What has run out and is about to be taken out cannot be given more time.
        let own = |installed: &&super::Installed| {
            installed.owner == open.owner && installed.stage == Stage::Running && installed.ends_ms > now.mono_ms
        };
        let installed = self.programs.get(&instance).filter(own).ok_or_else(|| not_found(instance, &open.owner))?;
        let checked = installed.executable.checked();
        let needed = self.price(checked, installed.packet_rate)?;
        if open.payment < needed {
            return Err(RequestFault::Price { needed, offered: open.payment }.into());
        }
        let (key, line) = (installed.key, super::account::line(installed.class));
        let (paid, of_s, left_s) = (installed.paid, installed.lifetime_s, installed.left_s(now));
        let lifetime_s = u64::from(checked.lifetime_s());
        let ends_ms = now.mono_ms.saturating_add(lifetime_s * 1_000);
        let aim = Aim::of(&installed.executable, &self.terrain.controlled, open.verified, installed.monitor);
        // The new payment has to be there before the old one goes back: nothing is half done.
        let hold = self.ledger.hold(&key, open.payment).map_err(|error| rejected(error.code(), error))?;
        let Some(installed) = self.programs.get_mut(&instance) else {
            self.ledger.release(hold);
            return Err(not_found(instance, &open.owner));
        };
        self.wheel.cancel(installed.timer);
        // A timer was just taken out, so there is room for this one.
        if let Ok(timer) = self.wheel.set(instance, ends_ms) {
            installed.timer = timer;
        }
        let before = std::mem::replace(&mut installed.aim, aim);
        (installed.ends_ms, installed.lifetime_s, installed.paid) = (ends_ms, lifetime_s, open.payment);
        self.sources.add(&installed.aim);
        self.sources.remove(&before);
        let back = self.ledger.refund(&key, line, paid, of_s, left_s);
        let entry = self.ledger.capture(hold);
        let ends_s = now.wall_s + lifetime_s;
        let subject = ReceiptSubject::Renewed { instance, ends_s, nonce: open.nonce };
        let receipt = self.ledger.receipt(&key, now.wall_s, &[&back, &entry], subject, &self.identity);
        self.decisions.renewed += 1;
        let puts = vec![
            Put::Entry(back),
            Put::Entry(entry),
            Put::Receipt(Box::new(receipt.clone())),
            Put::Renew { instance, began_s: now.wall_s, ends_s, paid: open.payment },
        ];
        Ok((Reply::Receipt(receipt), puts))
    }
}
