//! The commands that talk to a router: firewall, spam, multicast, upload, lemma add, list, show, withdraw, policy.

use super::answer::{self, Failure, Outcome, Refusal, Steps};
use super::local::{read_proof, source_or_program};
use super::proof::Task;
use super::script::Lemmas;
use super::{
    Firewall, Instance, LemmaAdd, Mode, Multicast, Policy as PolicyArgs, Reach, Router, Spam, Template,
    Upload as UploadArgs,
};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vinet_client::lang::{self, SourceMap, lifetime, source_map::hex};
use vinet_client::link::Link;
use vinet_client::{file, template};
use vinet_session::Now;
use vinet_session::identity::{Authority, Identity};
use vinet_session::message::{
    Class, NewLemma, ProgramStatus, Rejection, Reply, Request, Terms, Upload, Withdraw, fresh_nonce,
};
use vinet_session::policy_file;
use vinet_session::receipt::Installed;
use vinet_trusted::addr::Principal;
use vinet_trusted::check::check;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::policy::{Policy, PrincipalKind};
use vinet_trusted::program::Program;

/// How long a signed request may be under way.
const REQUEST_TIME_MAX_S: u64 = 120;

/// The user's keys, and a session with the router.
struct Session {
    identity: Arc<Identity>,
    principal: Principal,
    link: Link,
    steps: Steps,
}

/// What a program is shown to keep to, and with which lemmas.
struct Contract {
    policy: Arc<Policy>,
    lemmas: Lemmas,
}

/// A program ready to be asked for.
struct Ready {
    program: Program,
    map: Option<SourceMap>,
    /// None asks the router to analyse the program.
    proof: Option<Vec<u8>>,
    complexity: u64,
    cost: u64,
    packet_rate: u32,
}

pub(super) fn firewall(args: Firewall) -> Outcome {
    let Firewall { blocked, template } = args;
    written("firewall.vnp", &template, |owner| template::firewall(&blocked, template.lifetime, owner))
}

pub(super) fn spam(args: Spam) -> Outcome {
    let Spam { words, template } = args;
    let words: Vec<Vec<u8>> = words.into_iter().map(|word| word.0).collect();
    written("spam-filter.vnp", &template, |owner| template::spam(&words, template.lifetime, owner))
}

pub(super) fn multicast(args: Multicast) -> Outcome {
    let Multicast { sender, template } = args;
    written("multicast.vnp", &template, |owner| template::multicast(sender.into(), template.lifetime, owner))
}

/// A program that is written for the user: printed, tried, or uploaded.
fn written(name: &str, args: &Template, source: impl Fn(&Principal) -> String) -> Outcome {
    let Some(router) = args.router.as_ref().filter(|_| !args.emit) else {
        let owner = match args.principal {
            Some(principal) => principal,
            // Without an identity it is written for an end user, whose address does not stand in it.
            None => match identity_file(&args.reach).filter(|path| path.exists()) {
                Some(path) => principal(&Identity::load(&path)?)?,
                None => Principal::EndUser(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED).into()),
            },
        };
        return answer::print_bytes(source(&owner).as_bytes());
    };
    let mut session = Session::open(router, &args.reach)?;
    let policy = session.policy(PrincipalKind::of(&session.principal))?;
    let contract = Contract { policy, lemmas: Lemmas::library() };
    let text = source(&session.principal);
    session.steps.tell(&format_args!("writing {name}:\n{}", text.trim_end()));
    let compiled = lang::compile(name, &text, &[], &session.principal)?;
    let ready = session.prove(Mode::Proof, compiled.program, Some(compiled.map), &contract, args.rate)?;
    session.finish(ready, &contract, args.dry_run, args.json.json)
}

pub(super) fn upload(args: &UploadArgs) -> Outcome {
    // A source text that does not compile and files that are missing are told before anyone is called.
    let identity = load_identity(&args.router.reach)?;
    let owner = principal(&identity)?;
    let (program, map) = source_or_program(&args.program, &args.settings.settings, &owner)?;
    let proof = args.proof.as_deref().map(read_proof).transpose()?;
    let lemmas = Lemmas::of(&args.lemmas.files)?;
    let mut session = Session::open(&args.router.router, &args.router.reach)?;
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
    session.finish(ready, &contract, args.dry_run, args.router.json.json)
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
        let Reply::Lemma(place) = session.ask(&request, "adding a lemma")? else {
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
    let Reply::List(list) = session.ask(&Request::List, "asking for the list")? else {
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
    let Reply::Status(status) = session.ask(&request, "asking for the program")? else {
        return Err(unexpected("a program"));
    };
    print_status(&status, args.router.json.json)
}

pub(super) fn withdraw(args: &Instance) -> Outcome {
    let mut session = Session::open(&args.router.router, &args.router.reach)?;
    let (nonce, expiry_s) = (fresh_nonce()?, expiry_s());
    let router = session.link.router().id();
    let request = Request::Withdraw(Withdraw::sign(router, args.instance, nonce, expiry_s, &session.identity));
    let Reply::Withdrawn(status) = session.ask(&request, "withdrawing the program")? else {
        return Err(unexpected("a withdrawal"));
    };
    session.steps.tell(&format_args!("program {} is withdrawn", status.instance));
    print_status(&status, args.router.json.json)
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

impl Session {
    fn open(router: &str, reach: &Reach) -> Result<Session, Failure> {
        let steps = Steps::new(reach.verbose);
        let identity = Arc::new(load_identity(reach)?);
        let principal = principal(&identity)?;
        let authority = authority_file(reach).ok_or_else(|| no_home("--authority"))?;
        if !authority.exists() {
            let remedy = "it is the authority.pub that `vinet ca init` makes; name it with --authority FILE or in \
                          $VINET_AUTHORITY";
            let what = format!("{}: the authority's public key is not here; {remedy}", authority.display());
            return Err(Failure::Unusable(what));
        }
        let authority = Arc::new(Authority::load(&authority)?);
        steps.tell(&format_args!("connecting to {router} as {principal}"));
        let limit = Duration::from_secs(reach.timeout.into());
        let link = Link::open(router, Arc::clone(&identity), authority, reach.router_name.clone(), limit)?;
        steps.tell(&format_args!("the router is `{}`, key {}", link.router().name(), link.router().id()));
        Ok(Session { identity, principal, link, steps })
    }

    /// Asks; a rejection that is about no program is a lawful no.
    fn ask(&mut self, request: &Request, doing: &'static str) -> Result<Reply, Failure> {
        match self.link.ask(request, doing)? {
            Reply::Rejected(rejection) => Err(refusal(&rejection, None).into()),
            reply => Ok(reply),
        }
    }

    fn policy(&mut self, kind: PrincipalKind) -> Result<Arc<Policy>, Failure> {
        let Reply::Policy(signed) = self.ask(&Request::GetPolicy { kind }, "fetching the policy")? else {
            return Err(unexpected("a policy"));
        };
        let policy = signed
            .verify(self.link.router(), &vinet_prover::library().root())
            .map_err(|fault| Failure::Unusable(format!("the router's policy does not stand: {fault}")))?;
        if policy.principals != kind {
            return Err(unexpected("the policy of the kind asked for"));
        }
        let id = hex(&policy.id());
        self.steps.tell(&format_args!("policy `{}` ({}…), signed by the router", policy.name, &id[..16]));
        Ok(Arc::new(policy))
    }

    /// Makes the proof here, or the certificate that the router's analysis will make, and checks it as the router will:
    /// a request declares what the checker derives.
    fn prove(
        &self,
        mode: Mode,
        program: Program,
        map: Option<SourceMap>,
        contract: &Contract,
        rate: Option<u32>,
    ) -> Result<Ready, Failure> {
        let task = Task { program: &program, owner: &self.principal, policy: &contract.policy, map: map.as_ref() };
        let proof = task.certificate(mode, &contract.lemmas.store)?;
        let ready = self.declare(program, map, &proof, contract, rate)?;
        let by = if mode == Mode::Proof { "proven: proof" } else { "analysed: certificate" };
        self.steps.tell(&format_args!(
            "{by} of {} bytes, complexity {} cycles per packet, cost {}",
            proof.len(),
            ready.complexity,
            ready.cost
        ));
        Ok(Ready { proof: (mode == Mode::Proof).then_some(proof), ..ready })
    }

    /// The program with the figures that its request declares, and no proof yet.
    fn declare(
        &self,
        program: Program,
        map: Option<SourceMap>,
        proof: &[u8],
        contract: &Contract,
        rate: Option<u32>,
    ) -> Result<Ready, Failure> {
        let Contract { policy, lemmas } = contract;
        let task = Task { program: &program, owner: &self.principal, policy, map: map.as_ref() };
        let checked = check(&program.encode(), proof, self.principal, policy, &lemmas.store)
            .map_err(|reject| task.rejected(&reject))?;
        let packet_rate = rate.unwrap_or(policy.limits.packet_rate_default);
        let (complexity, cost) = (checked.complexity(), checked.cost());
        Ok(Ready { program, map, proof: None, complexity, cost, packet_rate })
    }

    /// The program with its proof, whatever that is worth: declared are the sums of the program's parts.
    fn unchecked(
        &self,
        program: Program,
        map: Option<SourceMap>,
        proof: Vec<u8>,
        contract: &Contract,
        rate: Option<u32>,
    ) -> Result<Ready, Failure> {
        let policy = &contract.policy;
        let (complexity, cost) = vinet_prover::figures(&program, &self.principal, policy).ok_or_else(|| {
            let owner = &self.principal;
            Failure::Unusable(format!("the program uses a name that {owner} has not, or its cost has no figure"))
        })?;
        let packet_rate = rate.unwrap_or(policy.limits.packet_rate_default);
        Ok(Ready { program, map, proof: Some(proof), complexity, cost, packet_rate })
    }

    /// Uploads the program and tells the receipt, or what it would have cost.
    fn finish(&mut self, ready: Ready, contract: &Contract, dry_run: bool, json: bool) -> Outcome {
        let proof_bytes = ready.proof.as_ref().map_or(0, Vec::len);
        if dry_run {
            return tell_dry_run(&ready, proof_bytes, json);
        }
        let Ready { program, map, proof, complexity, cost, packet_rate } = ready;
        let (lifetime_s, program_id, nonce) = (program.lifetime_s(), program.id(), fresh_nonce()?);
        let terms = Terms {
            router: self.link.router().id(),
            policy_id: contract.policy.id(),
            lemma_root: contract.lemmas.store.root(),
            class: Class::of(&program),
            program: program.encode(),
            proof,
            principal: self.principal,
            complexity,
            cost,
            lifetime_s,
            packet_rate,
            payment: 0,
            quote: None,
            monitor: false,
            nonce,
            expiry_s: expiry_s(),
        };
        self.steps.tell(&format_args!("uploading {} bytes of program", terms.program.len()));
        let request = Request::Upload(Box::new(Upload::sign(terms, &self.identity)));
        let receipt = match self.link.ask(&request, "uploading the program")? {
            Reply::Receipt(receipt) => receipt,
            Reply::Rejected(rejection) => return Err(refusal(&rejection, map.as_ref()).into()),
            _ => return Err(unexpected("a receipt")),
        };
        let terms = receipt
            .verify(self.link.router())
            .map_err(|fault| Failure::Unusable(format!("the router's receipt does not stand: {fault}")))?;
        let ours = terms.account == self.identity.public();
        let terms = terms
            .installed()
            .filter(|i| ours && i.program_id == program_id && i.nonce == nonce && i.principal == self.principal)
            .ok_or_else(|| Failure::Unusable("the router's receipt is for another program".to_string()))?;
        if json {
            return answer::print_json(&receipt_json(terms, lifetime_s, proof_bytes));
        }
        answer::print(&format_args!(
            "program {} is installed at router `{}` for {}: {}\n\
             complexity {} cycles per packet, cost {}, proof {proof_bytes} bytes, admitted for {} packets a second",
            terms.instance,
            self.link.router().name(),
            lifetime::written(lifetime_s),
            hex(&terms.program_id),
            terms.complexity,
            terms.cost,
            terms.packet_rate
        ))
    }
}

fn tell_dry_run(ready: &Ready, proof_bytes: usize, json: bool) -> Outcome {
    let program_bytes = ready.program.encode().len();
    if json {
        return answer::print_json(&json!({
            "dry_run": true,
            "program": hex(&ready.program.id()),
            "program_bytes": program_bytes,
            "proof_bytes": proof_bytes,
            "complexity": ready.complexity,
            "cost": ready.cost,
            "packet_rate": ready.packet_rate,
            "lifetime_s": ready.program.lifetime_s(),
        }));
    }
    answer::print(&format_args!(
        "nothing was uploaded: complexity {} cycles per packet, cost {}, program {program_bytes} bytes, \
         proof {proof_bytes} bytes",
        ready.complexity, ready.cost
    ))
}

/// What the router refused, with the line of the source where it is about one.
fn refusal(rejection: &Rejection, map: Option<&SourceMap>) -> Refusal {
    let instr = rejection.instr().map(|instr| instr as usize);
    Refusal::new(rejection.code(), &rejection.text(), instr, map)
}

fn unexpected(expected: &str) -> Failure {
    Failure::Unusable(format!("the router answered something else than {expected}"))
}

/// The Unix second after which a request that is signed now is void.
fn expiry_s() -> u64 {
    Now::read(Instant::now()).wall_s + REQUEST_TIME_MAX_S
}

fn principal(identity: &Identity) -> Result<Principal, Failure> {
    let router = "this identity is a router's; an owner's is needed (vinet ca issue)";
    identity.principal().ok_or_else(|| Failure::Unusable(router.to_string()))
}

fn load_identity(reach: &Reach) -> Result<Identity, Failure> {
    let path = identity_file(reach).ok_or_else(|| no_home("--identity"))?;
    if !path.exists() {
        let remedy = "make one with `vinet ca issue`, and name it with --identity FILE or in $VINET_IDENTITY";
        return Err(Failure::Unusable(format!("{}: there is no identity here; {remedy}", path.display())));
    }
    Ok(Identity::load(&path)?)
}

fn identity_file(reach: &Reach) -> Option<PathBuf> {
    reach.identity.clone().or_else(|| Some(config_dir()?.join("identity.key")))
}

fn authority_file(reach: &Reach) -> Option<PathBuf> {
    reach.authority.clone().or_else(|| Some(config_dir()?.join("authority.pub")))
}

/// Where a user's configuration lies.
fn config_dir() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    Some(folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?.join("vinet"))
}

fn no_home(option: &str) -> Failure {
    Failure::Unusable(format!("there is no home folder to look in; use {option} FILE"))
}

fn receipt_json(terms: &Installed, lifetime_s: u32, proof_bytes: usize) -> serde_json::Value {
    json!({
        "instance": terms.instance,
        "program": hex(&terms.program_id),
        "principal": terms.principal.to_string(),
        "policy": hex(&terms.policy_id),
        "class": terms.class.to_string(),
        "complexity": terms.complexity,
        "cost": terms.cost,
        "packet_rate": terms.packet_rate,
        "lifetime_s": lifetime_s,
        "installed_s": terms.installed_s,
        "ends_s": terms.ends_s,
        "proof_bytes": proof_bytes,
    })
}

fn status_json(status: &ProgramStatus) -> serde_json::Value {
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
    })
}

fn status_line(status: &ProgramStatus) -> String {
    format!(
        "{:>6}  {}…  {}  {} s left, {} of {} packets discarded",
        status.instance,
        &hex(&status.program_id)[..16],
        status.class,
        status.seconds_left,
        status.packets_discarded,
        status.packets_seen
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
