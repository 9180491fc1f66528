//! `vinet watch`: what happens to one's programs, as a router tells it when it is asked again and again, or as the local
//! vfirewall passes it on.

use super::answer::{self, Failure, Outcome, Steps};
use super::session::{Session, now_s, unexpected};
use super::vfirewall::local;
use super::{Json, Reach};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use vinet_session::message::{ProgramStatus, Rejection, Reply, Request};

#[derive(Args)]
pub(super) struct Watch {
    /// The router's control port; or auto, for the one that the directory names. Without it, the local vfirewall is
    /// listened to
    #[arg(long, value_name = "HOST:PORT|auto")]
    router: Option<String>,
    /// The seconds between two looks at a router
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    /// End after so many looks, or so many lines of the vfirewall
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    pub(super) json: Json,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) at_s: u64,
    /// The router's name.
    pub(super) router: String,
    /// The program that it is about.
    pub(super) instance: Option<u64>,
    /// What it is, for machines.
    pub(super) code: String,
    /// What it is, for people.
    pub(super) text: String,
}

impl Notice {
    pub(super) fn json(&self) -> serde_json::Value {
        json!({
            "at_s": self.at_s,
            "router": self.router,
            "instance": self.instance,
            "code": self.code,
            "text": self.text,
        })
    }
    pub(super) fn words(&self) -> String {
        match self.instance {
            Some(instance) => format!("{} {}: program {instance}: {}", self.at_s, self.router, self.text),
            None => format!("{} {}: {}", self.at_s, self.router, self.text),
        }
    }
}

/// What was seen of a router so far.
#[derive(Default)]
pub(super) struct Seen {
    /// The number of the last event.
    pub(super) after: u64,
    pub(super) programs: BTreeMap<u64, ProgramStatus>,
    looked: bool,
}

impl Seen {
    /// Looks again, and tells what is new.
    pub(super) fn look(&mut self, session: &mut Session) -> Result<Vec<Notice>, Failure> {
        let mut notices = Vec::new();
        let router = session.link.router().name().to_owned();
        loop {
            let reply = session.answer(&Request::Events { after: self.after }, "asking what happened")?;
            let events = match reply {
                Reply::Events(events) => events,
                Reply::Rejected(why) => return Err(refused(&why)),
                _ => return Err(unexpected("events")),
            };
            // A router whose numbers do not rise would be asked for ever.
            let Some(last) = events.last().filter(|last| last.number > self.after) else { break };
            self.after = last.number;
            notices.extend(events.iter().map(|event| Notice {
                at_s: event.at_s,
                router: router.clone(),
                instance: None,
                code: event.code().to_owned(),
                text: event.text().to_owned(),
            }));
        }
        let Reply::List(list) = session.insist(&Request::List, "asking for the list")? else {
            return Err(unexpected("a list"));
        };
        let programs = list.into_iter().map(|status| (status.instance, status)).collect();
        notices.extend(self.compare(&router, programs, now_s()));
        Ok(notices)
    }

    /// What is new about the programs.
    fn compare(&mut self, router: &str, programs: BTreeMap<u64, ProgramStatus>, at_s: u64) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut tell = |instance: u64, code: &str, text: String| {
            let (router, code) = (router.to_owned(), code.to_owned());
            notices.push(Notice { at_s, router, instance: Some(instance), code, text });
        };
        for (&instance, status) in &programs {
            let would = if status.monitor { "would be discarded" } else { "discarded" };
            match self.programs.get(&instance) {
                None => {
                    let code = if self.looked { "installed" } else { "running" };
                    let (discarded, seen) = (status.packets_discarded, status.packets_seen);
                    let left = status.seconds_left;
                    tell(instance, code, format!("{discarded} of {seen} packets {would}, {left} s left"));
                }
                Some(before) => {
                    let discarded = status.packets_discarded.saturating_sub(before.packets_discarded);
                    let seen = status.packets_seen.saturating_sub(before.packets_seen);
                    if discarded > 0 {
                        tell(instance, "discarded", format!("{discarded} of {seen} new packets {would}"));
                    }
                    let over = status.packets_over_budget.saturating_sub(before.packets_over_budget);
                    if over > 0 {
                        tell(instance, "over-budget", format!("{over} packets above its rate"));
                    }
                    if status.seconds_left > before.seconds_left {
                        tell(instance, "renewed", format!("{} s left", status.seconds_left));
                    }
                }
            }
        }
        for (&instance, before) in &self.programs {
            if !programs.contains_key(&instance) {
                let (discarded, seen) = (before.packets_discarded, before.packets_seen);
                tell(instance, "ended", format!("it had discarded {discarded} of {seen} packets"));
            }
        }
        self.programs = programs;
        self.looked = true;
        notices
    }
}

fn refused(why: &Rejection) -> Failure {
    super::session::refusal(why, None).into()
}

pub(super) fn watch(args: &Watch) -> Outcome {
    let Some(router) = &args.router else {
        return local::listen(args.count, args.json.json);
    };
    let steps = Steps::new(args.reach.verbose);
    let mut seen = Seen::default();
    let mut looks = 0;
    loop {
        let looked = Session::open(router, &args.reach).and_then(|mut session| seen.look(&mut session));
        match looked {
            Ok(notices) => {
                for notice in notices {
                    if args.json.json {
                        answer::print_json(&notice.json())?;
                    } else {
                        answer::print(&notice.words())?;
                    }
                }
            }
            // A router that is away for a moment comes back; one that was never there does not.
            Err(Failure::Unusable(why)) if seen.looked => steps.tell(&why),
            Err(failure) => return Err(failure),
        }
        looks += 1;
        if args.count == Some(looks) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(args.every));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_session::message::Class;

    fn status(instance: u64, discarded: u64, seconds_left: u32) -> (u64, ProgramStatus) {
        let status = ProgramStatus {
            instance,
            program_id: [0; 32],
            class: Class::Header,
            complexity: 1,
            cost: 1,
            packet_rate: 1,
            seconds_left,
            packets_seen: 10 * discarded,
            bytes_seen: 0,
            packets_discarded: discarded,
            bytes_discarded: 0,
            packets_over_budget: 0,
            monitor: false,
        };
        (instance, status)
    }

    #[test]
    fn only_what_is_new_is_told() {
        let mut seen = Seen::default();
        let mut look = |programs: &[(u64, u64, u32)]| -> Vec<String> {
            let programs = programs.iter().map(|&(instance, discarded, left)| status(instance, discarded, left));
            let told = seen.compare("edge1", programs.collect(), 5);
            told.into_iter().map(|notice| format!("{} {}", notice.code, notice.words())).collect()
        };
        assert_eq!(look(&[(7, 2, 60)]), ["running 5 edge1: program 7: 2 of 20 packets discarded, 60 s left"]);
        assert_eq!(look(&[(7, 2, 58)]), [] as [&str; 0]);
        assert_eq!(
            look(&[(7, 5, 60), (8, 0, 9)]),
            [
                "discarded 5 edge1: program 7: 3 of 30 new packets discarded",
                "renewed 5 edge1: program 7: 60 s left",
                "installed 5 edge1: program 8: 0 of 0 packets discarded, 9 s left"
            ]
        );
        assert_eq!(look(&[(8, 0, 8)]), ["ended 5 edge1: program 7: it had discarded 5 of 50 packets"]);
    }
}
