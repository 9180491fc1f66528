//! A session with a router on the command line: whose keys, which router, and a program's way from text to receipt.
//!
//! Requests whose doing twice is doing once are sent again, the same bytes, when the connection was lost before their
//! answer came, a bounded number of times and within the time that the user gave.

use super::answer::{self, Failure, Outcome, Refusal, Steps};
use super::proof::Task;
use super::route::Target;
use super::script::Lemmas;
use super::{Mode, Pay, Reach};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vinet_client::lang::{SourceMap, lifetime, source_map::hex};
use vinet_client::link::{Clock, Introduction, Link, LinkError};
use vinet_client::tickets::Tickets;
use vinet_session::Now;
use vinet_session::identity::{Authority, Identity};
use vinet_session::limits::PART_BYTES_MAX;
use vinet_session::message::{
    Class, Part, Quote, Rejection, Reply, Request, Tariff, Terms, Upload, fresh_nonce, object_id,
};
use vinet_session::receipt::{Installed, Receipt, ReceiptTerms};
use vinet_trusted::addr::Principal;
use vinet_trusted::check::check;
use vinet_trusted::policy::{Policy, PrincipalKind};
use vinet_trusted::program::Program;

/// How long a signed request may be under way.
const REQUEST_TIME_MAX_S: u64 = 120;
/// How often one request is sent, with those over new connections.
const TRIES_MAX: u32 = 6;
/// The pause before the second time; it doubles each time.
const PAUSE: Duration = Duration::from_millis(100);

/// The user's keys, and a session with the router.
pub(super) struct Session {
    pub(super) identity: Arc<Identity>,
    pub(super) principal: Principal,
    pub(super) link: Link,
    pub(super) steps: Steps,
    /// What the router takes, once its policy was fetched.
    pub(super) tariff: Tariff,
    authority: Arc<Authority>,
    target: Target,
    clock: Clock,
    /// Where the session's ticket is kept, and for which endpoint, with --sealed.
    tickets: Option<(Tickets, String)>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some((tickets, endpoint)) = &self.tickets else { return };
        let Some(ticket) = self.link.ticket() else { return };
        if let Err(error) = tickets.keep(endpoint, ticket) {
            self.steps.tell(&format_args!("the ticket is not kept, and the next command makes a handshake: {error}"));
        }
    }
}

/// What a program is shown to keep to, and with which lemmas.
pub(super) struct Contract {
    pub(super) policy: Arc<Policy>,
    pub(super) lemmas: Lemmas,
}

/// A program ready to be asked for.
pub(super) struct Ready {
    pub(super) program: Program,
    pub(super) map: Option<SourceMap>,
    /// None asks the router to analyse the program.
    pub(super) proof: Option<Vec<u8>>,
    pub(super) complexity: u64,
    pub(super) cost: u64,
    pub(super) packet_rate: u32,
    /// What one worker keeps for it; 0 where nobody here has checked it.
    pub(super) state_bytes: u64,
}

impl Session {
    /// A session with the router that `router` names: `HOST:PORT`, or `auto` where the directory says which one is meant.
    pub(super) fn open(router: &str, reach: &Reach) -> Result<Session, Failure> {
        Session::at(Target::of(router, reach)?, reach)
    }

    /// A session with the router `target`.
    pub(super) fn at(target: Target, reach: &Reach) -> Result<Session, Failure> {
        let steps = Steps::new(reach.verbose);
        let identity = Arc::new(load_identity(reach)?);
        let principal = principal(&identity)?;
        let authority = Arc::new(load_authority(reach)?);
        let clock = Clock::start(Duration::from_secs(reach.timeout.into()));
        steps.tell(&format_args!("connecting to {target} as {principal}"));
        let (link, tickets) = if reach.sealed {
            let tickets = Tickets::at(state_dir().ok_or_else(no_state)?);
            let (link, endpoint) = connect_sealed(&target, &identity, &authority, clock, &tickets)?;
            let how = if link.is_sealed() { "asking with a ticket" } else { "no ticket: a handshake" };
            steps.tell(&format_args!("{how}"));
            (link, Some((tickets, endpoint)))
        } else {
            (connect(&target, &identity, &authority, clock)?, None)
        };
        steps.tell(&format_args!("the router is `{}`, key {}", link.router().name(), link.router().id()));
        Ok(Session { identity, principal, link, steps, tariff: Tariff::FREE, authority, target, clock, tickets })
    }

    /// Asks; a rejection that is about no program is a lawful no.
    pub(super) fn ask(&mut self, request: &Request, doing: &'static str) -> Result<Reply, Failure> {
        match self.link.ask(request, doing)? {
            Reply::Rejected(rejection) => Err(refusal(&rejection, None).into()),
            reply => Ok(reply),
        }
    }

    /// Asks what may be asked twice; a rejection that is about no program is a lawful no.
    pub(super) fn insist(&mut self, request: &Request, doing: &'static str) -> Result<Reply, Failure> {
        match self.again(|link| link.ask(request, doing))? {
            Reply::Rejected(rejection) => Err(refusal(&rejection, None).into()),
            reply => Ok(reply),
        }
    }

    /// Asks what may be asked twice; the answer, whatever it is.
    pub(super) fn answer(&mut self, request: &Request, doing: &'static str) -> Result<Reply, Failure> {
        self.again(|link| link.ask(request, doing))
    }

    /// Does `ask` until an answer comes that is not only about this moment: over a new connection where the last was lost,
    /// after a pause where the router has no room now or still has the request of before under way.
    fn again(&mut self, mut ask: impl FnMut(&mut Link) -> Result<Reply, LinkError>) -> Result<Reply, Failure> {
        let mut lost = false;
        for sent in 1.. {
            let answer = if lost {
                connect(&self.target, &self.identity, &self.authority, self.clock).and_then(|link| {
                    self.link = link;
                    ask(&mut self.link)
                })
            } else {
                ask(&mut self.link)
            };
            let pause = PAUSE * (1 << (sent - 1));
            let last = sent >= TRIES_MAX || !self.clock.has(pause);
            match answer {
                Ok(Reply::Rejected(why)) if !last && is_passing(&why) => {
                    self.steps.tell(&format_args!("the router says: {}; asking again", why.text()));
                    lost = false;
                }
                Err(error) if !last && (error.is_lost() || lost && matches!(error, LinkError::Connect { .. })) => {
                    self.steps.tell(&format_args!("{error}; asking again over a new connection"));
                    lost = true;
                }
                answer => return Ok(answer?),
            }
            std::thread::sleep(pause);
        }
        unreachable!("the last time returns")
    }

    pub(super) fn policy(&mut self, kind: PrincipalKind) -> Result<Arc<Policy>, Failure> {
        let Reply::Policy(signed) = self.insist(&Request::GetPolicy { kind }, "fetching the policy")? else {
            return Err(unexpected("a policy"));
        };
        let policy = signed
            .verify(self.link.router(), &vinet_prover::library().root())
            .map_err(|fault| Failure::Unusable(format!("the router's policy does not stand: {fault}")))?;
        if policy.principals != kind {
            return Err(unexpected("the policy of the kind asked for"));
        }
        self.tariff = signed.tariff();
        let id = hex(&policy.id());
        self.steps.tell(&format_args!("policy `{}` ({}…), signed by the router", policy.name, &id[..16]));
        Ok(Arc::new(policy))
    }

    /// Makes the proof here, or the certificate that the router's analysis will make, and checks it as the router will:
    /// a request declares what the checker derives.
    pub(super) fn prove(
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
    pub(super) fn declare(
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
        let (complexity, cost, state_bytes) = (checked.complexity(), checked.cost(), checked.state_bytes());
        Ok(Ready { program, map, proof: None, complexity, cost, packet_rate, state_bytes })
    }

    /// The program with its proof, whatever that is worth: declared are the sums of the program's parts.
    pub(super) fn unchecked(
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
        Ok(Ready { program, map, proof: Some(proof), complexity, cost, packet_rate, state_bytes: 0 })
    }

    /// What the router takes for the program by its tariff, in credits.
    pub(super) fn price(&self, ready: &Ready) -> Result<u64, Failure> {
        let lifetime_s = u64::from(ready.program.lifetime_s());
        self.tariff.price(ready.complexity, ready.packet_rate, ready.state_bytes, lifetime_s).ok_or_else(|| {
            Refusal::new("price", &"the router's tariff makes a price that no account can have", None, None).into()
        })
    }

    /// Uploads the program and tells the receipt, or what it would have cost.
    pub(super) fn finish(
        &mut self,
        ready: Ready,
        contract: &Contract,
        pay: &Pay,
        dry_run: bool,
        json: bool,
    ) -> Outcome {
        let proof_bytes = ready.proof.as_ref().map_or(0, Vec::len);
        let lifetime_s = ready.program.lifetime_s();
        if dry_run {
            let price = self.price(&ready)?;
            return tell_dry_run(&ready, price, proof_bytes, json);
        }
        let (receipt, installed) = self.install(ready, contract, pay)?;
        if json {
            let mut object = receipt_json(&receipt, &installed, lifetime_s, proof_bytes);
            object["router"] = json!(self.link.router().name());
            return answer::print_json(&object);
        }
        let paid = if receipt.paid > 0 { format!(", {} credits paid", receipt.paid) } else { String::new() };
        let how = if installed.monitor { " (counting only)" } else { "" };
        answer::print(&format_args!(
            "program {} is installed at router `{}` for {}{how}: {}\n\
             complexity {} cycles per packet, cost {}, proof {proof_bytes} bytes, admitted for {} packets a second{paid}",
            installed.instance,
            self.link.router().name(),
            lifetime::written(lifetime_s),
            hex(&installed.program_id),
            installed.complexity,
            installed.cost,
            installed.packet_rate
        ))
    }

    /// Uploads the program; what its receipt says.
    pub(super) fn install(
        &mut self,
        ready: Ready,
        contract: &Contract,
        pay: &Pay,
    ) -> Result<(ReceiptTerms, Installed), Failure> {
        let price = self.price(&ready)?;
        let quote = pay.quote.as_deref().map(Quote::load).transpose()?.map(Box::new);
        let payment = pay.pay.unwrap_or_else(|| quote.as_ref().map_or(price, |quote| quote.terms().price));
        let Ready { program, map, proof, complexity, cost, packet_rate, .. } = ready;
        let (program_id, nonce) = (program.id(), fresh_nonce()?);
        let terms = Terms {
            router: self.link.router().id(),
            policy_id: contract.policy.id(),
            lemma_root: contract.lemmas.store.root(),
            class: Class::of(&program),
            lifetime_s: program.lifetime_s(),
            program: program.encode(),
            proof,
            principal: self.principal,
            complexity,
            cost,
            packet_rate,
            payment,
            quote,
            monitor: pay.monitor,
            nonce,
            expiry_s: expiry_s(),
        };
        let paying = if payment > 0 { format!(", paying {payment} credits") } else { String::new() };
        self.steps.tell(&format_args!("uploading {} bytes of program{paying}", terms.program.len()));
        let upload = Upload::sign(terms, &self.identity);
        let bytes = upload.encode();
        let reply = if bytes.len() <= PART_BYTES_MAX {
            let request = Request::Upload(Box::new(upload));
            self.again(|link| link.ask(&request, "uploading the program"))?
        } else {
            self.again(|link| in_parts(link, &bytes))?
        };
        let receipt = match reply {
            Reply::Receipt(receipt) => receipt,
            Reply::Rejected(rejection) => return Err(refusal(&rejection, map.as_ref()).into()),
            _ => return Err(unexpected("a receipt")),
        };
        let terms = self.own(&receipt)?;
        let ours = |i: &&Installed| i.program_id == program_id && i.nonce == nonce && i.principal == self.principal;
        match terms.installed().filter(ours) {
            Some(installed) => Ok((terms.clone(), installed.clone())),
            None => Err(Failure::Unusable("the router's receipt is for another program".to_string())),
        }
    }

    /// What a receipt of the router about the user's own account says.
    pub(super) fn own<'r>(&self, receipt: &'r Receipt) -> Result<&'r ReceiptTerms, Failure> {
        let terms = receipt
            .verify(self.link.router())
            .map_err(|fault| Failure::Unusable(format!("the router's receipt does not stand: {fault}")))?;
        if terms.account == self.identity.public() {
            Ok(terms)
        } else {
            Err(Failure::Unusable("the router's receipt is about another account".to_string()))
        }
    }
}

/// Whether the same may be granted when it is asked again: the router has no room at the moment, still has the first copy
/// under way, or has forgotten parts.
fn is_passing(why: &Rejection) -> bool {
    matches!(why.code(), "busy" | "in-progress" | "unknown-object" | "incomplete-object" | "broken-object")
}

fn connect(
    target: &Target,
    identity: &Arc<Identity>,
    authority: &Arc<Authority>,
    clock: Clock,
) -> Result<Link, LinkError> {
    let mut last = None;
    for endpoint in &target.endpoints {
        let (identity, authority) = (Arc::clone(identity), Arc::clone(authority));
        match Link::open_by(endpoint, identity, authority, target.router_name.clone(), clock) {
            Err(error @ LinkError::Connect { .. }) => last = Some(error),
            opened => return opened,
        }
    }
    Err(last.expect("a target has an endpoint"))
}

/// The same with a ticket that was kept, where there is one; also the endpoint that it is for.
fn connect_sealed(
    target: &Target,
    identity: &Arc<Identity>,
    authority: &Arc<Authority>,
    clock: Clock,
    tickets: &Tickets,
) -> Result<(Link, String), LinkError> {
    let mut last = None;
    for endpoint in &target.endpoints {
        let introduction = Introduction {
            router: endpoint.clone(),
            identity: Arc::clone(identity),
            authority: Arc::clone(authority),
            router_name: target.router_name.clone(),
        };
        let ticket = tickets.take(endpoint, &identity.public(), authority, now_s());
        match Link::open_sealed(introduction, ticket, clock) {
            Err(error @ LinkError::Connect { .. }) => last = Some(error),
            opened => return opened.map(|link| (link, endpoint.clone())),
        }
    }
    Err(last.expect("a target has an endpoint"))
}

/// Sends an upload piece by piece, beginning where the router's memory of it ends, and has it installed.
fn in_parts(link: &mut Link, bytes: &[u8]) -> Result<Reply, LinkError> {
    let object = object_id(bytes);
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let doing = "uploading the program in parts";
    let mut offset = 0;
    let mut piece = &bytes[..0];
    // Every answer but the first moves on by a whole piece, so a router that never has enough comes to an end too.
    for _ in 0..2 + 2 * bytes.len().div_ceil(PART_BYTES_MAX) {
        let part = Part { object, len, offset, bytes: piece.to_vec() };
        match link.ask(&Request::Part(Box::new(part)), doing)? {
            Reply::Part { have } if have == len => return link.ask(&Request::UploadObject { object }, doing),
            Reply::Part { have } if have < len => {
                offset = have;
                let rest = &bytes[have as usize..];
                piece = &rest[..rest.len().min(PART_BYTES_MAX)];
            }
            reply @ Reply::Rejected(_) => return Ok(reply),
            _ => return Err(LinkError::WrongReply { doing }),
        }
    }
    Err(LinkError::WrongReply { doing })
}

fn tell_dry_run(ready: &Ready, price: u64, proof_bytes: usize, json: bool) -> Outcome {
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
            "state_bytes": ready.state_bytes,
            "lifetime_s": ready.program.lifetime_s(),
            "price": price,
        }));
    }
    answer::print(&format_args!(
        "nothing was uploaded: complexity {} cycles per packet, cost {}, program {program_bytes} bytes, \
         proof {proof_bytes} bytes, price {price} credits",
        ready.complexity, ready.cost
    ))
}

fn receipt_json(
    receipt: &ReceiptTerms,
    installed: &Installed,
    lifetime_s: u32,
    proof_bytes: usize,
) -> serde_json::Value {
    json!({
        "instance": installed.instance,
        "program": hex(&installed.program_id),
        "principal": installed.principal.to_string(),
        "policy": hex(&installed.policy_id),
        "class": installed.class.to_string(),
        "complexity": installed.complexity,
        "cost": installed.cost,
        "packet_rate": installed.packet_rate,
        "lifetime_s": lifetime_s,
        "installed_s": installed.installed_s,
        "ends_s": installed.ends_s,
        "proof_bytes": proof_bytes,
        "monitor": installed.monitor,
        "receipt": receipt.number,
        "paid": receipt.paid,
        "balance": receipt.balance,
    })
}

/// What the router refused, with the line of the source where it is about one.
pub(super) fn refusal(rejection: &Rejection, map: Option<&SourceMap>) -> Refusal {
    let instr = rejection.instr().map(|instr| instr as usize);
    Refusal::new(rejection.code(), &rejection.text(), instr, map)
}

pub(super) fn unexpected(expected: &str) -> Failure {
    Failure::Unusable(format!("the router answered something else than {expected}"))
}

/// The Unix second now.
pub(super) fn now_s() -> u64 {
    Now::read(Instant::now()).wall_s
}

/// The Unix second after which a request that is signed now is void.
pub(super) fn expiry_s() -> u64 {
    now_s() + REQUEST_TIME_MAX_S
}

pub(super) fn principal(identity: &Identity) -> Result<Principal, Failure> {
    let router = "this identity is a router's; an owner's is needed (vinet ca issue)";
    identity.principal().ok_or_else(|| Failure::Unusable(router.to_string()))
}

pub(super) fn load_identity(reach: &Reach) -> Result<Identity, Failure> {
    let path = identity_file(reach).ok_or_else(|| no_home("--identity"))?;
    if !path.exists() {
        let remedy = "make one with `vinet ca issue`, and name it with --identity FILE or in $VINET_IDENTITY";
        return Err(Failure::Unusable(format!("{}: there is no identity here; {remedy}", path.display())));
    }
    Ok(Identity::load(&path)?)
}

pub(super) fn load_authority(reach: &Reach) -> Result<Authority, Failure> {
    let path = reach.authority.clone().or_else(|| Some(config_dir()?.join("authority.pub")));
    let path = path.ok_or_else(|| no_home("--authority"))?;
    if !path.exists() {
        let remedy =
            "it is the authority.pub that `vinet ca init` makes; name it with --authority FILE or in $VINET_AUTHORITY";
        let what = format!("{}: the authority's public key is not here; {remedy}", path.display());
        return Err(Failure::Unusable(what));
    }
    Ok(Authority::load(&path)?)
}

pub(super) fn identity_file(reach: &Reach) -> Option<PathBuf> {
    reach.identity.clone().or_else(|| Some(config_dir()?.join("identity.key")))
}

fn folder(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where a user's configuration lies.
pub(super) fn config_dir() -> Option<PathBuf> {
    Some(folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?.join("vinet"))
}

/// Where is kept what a user's commands remember.
pub(super) fn state_dir() -> Option<PathBuf> {
    let usual = || Some(folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?.join("vinet"));
    folder("VINET_STATE").or_else(usual)
}

pub(super) fn no_home(option: &str) -> Failure {
    Failure::Unusable(format!("there is no home folder to look in; use {option} FILE"))
}

pub(super) fn no_state() -> Failure {
    Failure::Unusable("there is no home folder to remember anything in; name a folder in $VINET_STATE".to_string())
}
