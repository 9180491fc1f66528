//! The commands that talk to a router: firewall, spam, multicast, upload, lemma add, list, show, withdraw, policy.

use super::answer::{self, Failure, Outcome, Refusal};
use super::local::{read_proof, source_or_program};
use super::route::{self, Stop};
use super::script::Lemmas;
use super::session::{Contract, Ready, Session, expiry_s, identity_file, load_identity, principal, unexpected};
use super::{
    Firewall, Instance, LemmaAdd, Mode, Multicast, Policy as PolicyArgs, Protocol, Quarantine, Router, Spam, Template,
    Upload as UploadArgs,
};
use serde_json::json;
use vinet_client::file;
use vinet_client::lang::{self, source_map::hex};
use vinet_client::template::{self, Worm};
use vinet_session::identity::Identity;
use vinet_session::message::{NewLemma, ProgramStatus, Reply, Request, Withdraw, fresh_nonce};
use vinet_session::policy_file;
use vinet_trusted::addr::{Prefix, Principal};
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::policy::PrincipalKind;

pub(super) fn firewall(args: Firewall) -> Outcome {
    let Firewall { blocked, template } = args;
    written("firewall.vnp", &template, &blocked, |blocked, owner| template::firewall(blocked, template.lifetime, owner))
}

pub(super) fn spam(args: Spam) -> Outcome {
    let Spam { words, template } = args;
    let words: Vec<Vec<u8>> = words.into_iter().map(|word| word.0).collect();
    written("spam-filter.vnp", &template, &[], |_, owner| template::spam(&words, template.lifetime, owner))
}

pub(super) fn multicast(args: Multicast) -> Outcome {
    let Multicast { sender, template } = args;
    let sender = sender.into();
    written("multicast.vnp", &template, &[Prefix::host(sender)], |_, owner| {
        template::multicast(sender, template.lifetime, owner)
    })
}

pub(super) fn quarantine(args: Quarantine) -> Outcome {
    let Quarantine { infected, signatures, port, protocol, spare, template } = args;
    let worm = match port {
        Some(port) => Worm::Port { protocol: protocol.text(), port },
        None => Worm::Signatures(signatures.into_iter().map(|word| word.0).collect()),
    };
    let spared = spare.map(Into::into);
    written("quarantine.vnp", &template, &infected, |infected, owner| {
        template::quarantine(infected, &worm, spared, template.lifetime, owner)
    })
}

/// A program that is written for the user: printed, tried, or uploaded to each router that controls some of the
/// `sources` that it is about; to every one where it is about any source.
pub(super) fn written(
    name: &str,
    args: &Template,
    sources: &[Prefix],
    source: impl Fn(&[Prefix], &Principal) -> String,
) -> Outcome {
    let Some(router) = args.router.as_ref().filter(|_| !args.emit) else {
        let owner = match args.principal {
            Some(principal) => principal,
            // Without an identity it is written for an end user, whose address does not stand in it.
            None => match identity_file(&args.reach).filter(|path| path.exists()) {
                Some(path) => principal(&Identity::load(&path)?)?,
                None => Principal::EndUser(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED).into()),
            },
        };
        return answer::print_bytes(source(sources, &owner).as_bytes());
    };
    at_each(route::stops(router, &args.reach, sources)?, |stop| {
        let mut session = Session::at(stop.target.clone(), &args.reach)?;
        let (ready, contract) = ready(&mut session, &stop.sources, name, args.rate, &source)?;
        session.finish(ready, &contract, &args.pay, args.dry_run, args.json.json)
    })
}

/// A program that is written for those `sources` that a router controls, proven under that router's policy.
pub(super) fn ready(
    session: &mut Session,
    sources: &[Prefix],
    name: &str,
    rate: Option<u32>,
    source: &dyn Fn(&[Prefix], &Principal) -> String,
) -> Result<(Ready, Contract), Failure> {
    let policy = session.policy(PrincipalKind::of(&session.principal))?;
    let contract = Contract { policy, lemmas: Lemmas::library() };
    let text = source(sources, &session.principal);
    session.steps.tell(&format_args!("writing {name}:\n{}", text.trim_end()));
    let compiled = lang::compile(name, &text, &[], &session.principal)?;
    let ready = session.prove(Mode::Proof, compiled.program, Some(compiled.map), &contract, rate)?;
    Ok((ready, contract))
}

impl Protocol {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// Does the same at every router, also where one says no, and says which did.
fn at_each(stops: Vec<Stop>, mut ask: impl FnMut(&Stop) -> Outcome) -> Outcome {
    if let [stop] = &stops[..] {
        return ask(stop);
    }
    let (mut refused, mut unreached) = (Vec::new(), Vec::new());
    let count = stops.len();
    for stop in stops {
        match ask(&stop) {
            Ok(()) => {}
            Err(Failure::Refused(why)) => refused.push(format!("{}: {}: {}", stop.target, why.code, why.text)),
            Err(Failure::Unusable(why)) => unreached.push(format!("{}: {why}", stop.target)),
            Err(failure) => return Err(failure),
        }
    }
    let told = [&refused[..], &unreached[..]].concat();
    let text = format!("{} of {count} routers did not do it: {}", told.len(), told.join("; "));
    match (refused.is_empty(), unreached.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(Failure::Unusable(text)),
        (false, _) => Err(Refusal::new("not-everywhere", &text, None, None).into()),
    }
}

pub(super) fn upload(args: &UploadArgs) -> Outcome {
    // A source text that does not compile and files that are missing are told before anyone is called.
    let identity = load_identity(&args.router.reach)?;
    let owner = principal(&identity)?;
    let read = || source_or_program(&args.program, &args.settings.settings, &owner);
    let sources = route::sources(&read()?.0, &owner, &args.router.router)?;
    at_each(route::stops(&args.router.router, &args.router.reach, &sources)?, |stop| {
        let (program, map) = read()?;
        let proof = args.proof.as_deref().map(read_proof).transpose()?;
        let lemmas = Lemmas::of(&args.lemmas.files)?;
        let mut session = Session::at(stop.target.clone(), &args.router.reach)?;
        let contract = Contract { policy: session.policy(PrincipalKind::of(&owner))?, lemmas };
        let ready = match (proof, args.mode) {
            (None, mode) => session.prove(mode.unwrap_or(Mode::Proof), program, map, &contract, args.rate)?,
            (Some(proof), _) if args.unchecked => session.unchecked(program, map, proof, &contract, args.rate)?,
            // What a proof that was brought is worth is known only by checking it.
            (Some(proof), _) => {
                let ready = session.declare(program, map, &proof, &contract, args.rate)?;
                Ready { proof: Some(proof), ..ready }
            }
        };
        session.finish(ready, &contract, &args.pay, args.dry_run, args.router.json.json)
    })
}

/// Sends each lemma of the files with its proof; the router checks it and says where it stands.
pub(super) fn lemma_add(args: &LemmaAdd) -> Outcome {
    let lemmas = Lemmas::of(&args.files)?;
    let mut session = Session::open(&args.router.router, &args.router.reach)?;
    // A router with another library would give other numbers.
    session.policy(PrincipalKind::of(&session.principal))?;
    for lemma in &lemmas.own {
        let full = lemmas.names.name(lemma.number).unwrap_or(&lemma.name);
        session.steps.tell(&format_args!(
            "adding {full}: {} bytes, proof {} bytes",
            lemma.lemma.len(),
            lemma.proof.len()
        ));
        let request = Request::AddLemma(NewLemma { lemma: lemma.lemma.clone(), proof: lemma.proof.clone() });
        let Reply::Lemma(place) = session.insist(&request, "adding a lemma")? else {
            return Err(unexpected("the place of a lemma"));
        };
        if place.index as usize != lemma.number {
            let text = format!(
                "the router has {full} as its lemma {}, and here it is lemma {}: it has other lemmas of yours before \
                 this one; name their files first",
                place.index, lemma.number
            );
            return Err(Refusal::new("lemma-order", &text, None, None).into());
        }
        let root = hex(&place.root);
        if args.router.json.json {
            let id = hex(&LemmaStore::id_of(&lemma.lemma));
            answer::print_json(&json!({ "index": place.index, "name": full, "id": id, "root": root }))?;
        } else {
            answer::print(&format_args!("lemma {} is {full}; root {root}", place.index))?;
        }
    }
    Ok(())
}

pub(super) fn list(args: &Router) -> Outcome {
    let mut session = Session::open(&args.router, &args.reach)?;
    let Reply::List(list) = session.insist(&Request::List, "asking for the list")? else {
        return Err(unexpected("a list"));
    };
    if args.json.json {
        return list.iter().try_for_each(|status| answer::print_json(&status_json(status)));
    }
    if list.is_empty() {
        return answer::print(&format_args!("no programs of {}", session.principal));
    }
    list.iter().try_for_each(|status| answer::print(&status_line(status)))
}

pub(super) fn show(args: &Instance) -> Outcome {
    let mut session = Session::open(&args.router.router, &args.router.reach)?;
    let request = Request::Show { instance: args.instance };
    let Reply::Status(status) = session.insist(&request, "asking for the program")? else {
        return Err(unexpected("a program"));
    };
    print_status(&status, args.router.json.json)
}

pub(super) fn withdraw(args: &Instance) -> Outcome {
    let mut session = Session::open(&args.router.router, &args.router.reach)?;
    let status = withdrawn(&mut session, args.instance)?;
    session.steps.tell(&format_args!("program {} is withdrawn", status.instance));
    print_status(&status, args.router.json.json)
}

/// Ends `instance`; what it had done.
pub(super) fn withdrawn(session: &mut Session, instance: u64) -> Result<ProgramStatus, Failure> {
    let (nonce, expiry_s) = (fresh_nonce()?, expiry_s());
    let router = session.link.router().id();
    let request = Request::Withdraw(Withdraw::sign(router, instance, nonce, expiry_s, &session.identity));
    let Reply::Withdrawn(status) = session.ask(&request, "withdrawing the program")? else {
        return Err(unexpected("a withdrawal"));
    };
    Ok(status)
}

pub(super) fn policy(args: &PolicyArgs) -> Outcome {
    let mut session = Session::open(&args.router.router, &args.router.reach)?;
    let kind = args.kind.map_or_else(|| PrincipalKind::of(&session.principal), PrincipalKind::from);
    let policy = session.policy(kind)?;
    let text = policy_file::print(&policy);
    if let Some(path) = &args.output {
        file::write(path, text.as_bytes())?;
    }
    if args.router.json.json {
        return answer::print_json(&json!({
            "router": session.link.router().name(),
            "policy": hex(&policy.id()),
            "name": policy.name,
            "principals": match policy.principals {
                PrincipalKind::EndUser => "end-user",
                PrincipalKind::EdgeRouter => "edge-router",
            },
            "toml": text,
        }));
    }
    if args.output.is_some() { Ok(()) } else { answer::print_bytes(text.as_bytes()) }
}

pub(super) fn status_json(status: &ProgramStatus) -> serde_json::Value {
    json!({
        "instance": status.instance,
        "program": hex(&status.program_id),
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
        "monitor": status.monitor,
    })
}

pub(super) fn status_line(status: &ProgramStatus) -> String {
    format!(
        "{:>6}  {}…  {}  {} s left, {} of {} packets {}",
        status.instance,
        &hex(&status.program_id)[..16],
        status.class,
        status.seconds_left,
        status.packets_discarded,
        status.packets_seen,
        if status.monitor { "would be discarded (it only counts)" } else { "discarded" }
    )
}

fn print_status(status: &ProgramStatus, json: bool) -> Outcome {
    if json {
        return answer::print_json(&status_json(status));
    }
    answer::print(&format_args!(
        "program {}\n  id           {}\n  class        {}\n  complexity   {} cycles per packet\n  cost         {}\n  \
         rate         {} packets a second\n  time left    {} s\n  seen         {} packets, {} bytes\n  \
         discarded    {} packets, {} bytes\n  over budget  {} packets",
        status.instance,
        hex(&status.program_id),
        status.class,
        status.complexity,
        status.cost,
        status.packet_rate,
        status.seconds_left,
        status.packets_seen,
        status.bytes_seen,
        status.packets_discarded,
        status.bytes_discarded,
        status.packets_over_budget
    ))
}
