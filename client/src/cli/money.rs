//! The commands about money at a router: quote, renew, deposit, balance, receipts.

use super::answer::{self, Failure, Outcome, Refusal};
use super::local::source_or_program;
use super::script::Lemmas;
use super::session::{Contract, Session, expiry_s, load_identity, no_state, now_s, principal, state_dir, unexpected};
use super::{Quote as QuoteArgs, Renew as RenewArgs, Router};
use serde_json::json;
use std::path::Path;
use vinet_client::heads::{self, Heads};
use vinet_client::lang::{lifetime, source_map::hex};
use vinet_session::message::{Class, Credit, QuoteAsk, Renew, Reply, Request, fresh_nonce};
use vinet_session::receipt::{ChainHead, Receipt, ReceiptSubject, ReceiptTerms};
use vinet_trusted::policy::PrincipalKind;

pub(super) fn quote(args: &QuoteArgs) -> Outcome {
    let identity = load_identity(&args.router.reach)?;
    let owner = principal(&identity)?;
    let (program, map) = source_or_program(&args.program, &args.settings.settings, &owner)?;
    let lemmas = Lemmas::of(&args.lemmas.files)?;
    let mut session = Session::open(&args.router.router, &args.router.reach)?;
    let contract = Contract { policy: session.policy(PrincipalKind::of(&owner))?, lemmas };
    let ready = session.prove(args.mode, program, map, &contract, args.rate)?;
    let ask = QuoteAsk {
        class: Class::of(&ready.program),
        complexity: ready.complexity,
        packet_rate: ready.packet_rate,
        state_bytes: ready.state_bytes,
        lifetime_s: ready.program.lifetime_s(),
    };
    let Reply::Quote(quote) = session.insist(&Request::Quote(ask), "asking for a quote")? else {
        return Err(unexpected("a quote"));
    };
    let terms = quote
        .verify(&session.link.router().id())
        .map_err(|fault| Failure::Unusable(format!("the router's quote does not stand: {fault}")))?;
    let quoted = QuoteAsk {
        class: terms.class,
        complexity: terms.complexity,
        packet_rate: terms.packet_rate,
        state_bytes: terms.state_bytes,
        lifetime_s: terms.lifetime_s,
    };
    if quoted != ask || terms.principal != owner {
        return Err(Failure::Unusable("the router's quote is for another program".to_string()));
    }
    if let Some(path) = &args.output {
        quote.save(path)?;
    }
    if args.router.json.json {
        return answer::print_json(&json!({
            "router": session.link.router().name(),
            "price": terms.price,
            "expiry_s": terms.expiry_s,
            "class": terms.class.to_string(),
            "complexity": terms.complexity,
            "packet_rate": terms.packet_rate,
            "state_bytes": terms.state_bytes,
            "lifetime_s": terms.lifetime_s,
        }));
    }
    answer::print(&format_args!(
        "router `{}` takes {} credits for {} at {} packets a second; the quote holds for {} s",
        session.link.router().name(),
        terms.price,
        lifetime::written(terms.lifetime_s),
        terms.packet_rate,
        terms.expiry_s.saturating_sub(now_s())
    ))
}

pub(super) fn renew(args: &RenewArgs) -> Outcome {
    let mut session = Session::open(&args.router.router, &args.router.reach)?;
    let payment = match args.pay {
        Some(payment) => payment,
        None => paid_before(&mut session, args.instance)?,
    };
    let terms = renewed(&mut session, args.instance, payment)?;
    tell_receipt(&terms, args.router.json.json)
}

/// Lets the lifetime of `instance` begin anew for `payment` credits; what the receipt says.
pub(super) fn renewed(session: &mut Session, instance: u64, payment: u64) -> Result<ReceiptTerms, Failure> {
    let (router, nonce) = (session.link.router().id(), fresh_nonce()?);
    let renew = Renew::sign(router, instance, payment, nonce, expiry_s(), &session.identity);
    let Reply::Receipt(receipt) = session.insist(&Request::Renew(renew), "renewing the program")? else {
        return Err(unexpected("a receipt"));
    };
    let terms = session.own(&receipt)?;
    match terms.subject {
        ReceiptSubject::Renewed { instance: found, nonce: of, .. } if found == instance && of == nonce => {
            Ok(terms.clone())
        }
        _ => Err(Failure::Unusable("the router's receipt is about something else".to_string())),
    }
}

/// What was paid for `instance` the last time, as the receipts say.
fn paid_before(session: &mut Session, instance: u64) -> Result<u64, Failure> {
    let (receipts, _) = fetch(session)?;
    let about = |terms: &&ReceiptTerms| match &terms.subject {
        ReceiptSubject::Installed(installed) => installed.instance == instance,
        ReceiptSubject::Renewed { instance: renewed, .. } => *renewed == instance,
        _ => false,
    };
    let last = receipts.iter().rev().map(Receipt::terms).find(about);
    last.map(|terms| terms.paid).ok_or_else(|| {
        let text = format!("the router has no receipt of yours for a program {instance}; see `vinet list`");
        Refusal::new("not-found", &text, None, None).into()
    })
}

pub(super) fn deposit(path: &Path, router: &Router) -> Outcome {
    let credit = Credit::load(path)?;
    let mut session = Session::open(&router.router, &router.reach)?;
    let serial = credit.terms().serial;
    let Reply::Receipt(receipt) = session.insist(&Request::Deposit(Box::new(credit)), "depositing the credit")? else {
        return Err(unexpected("a receipt"));
    };
    let terms = session.own(&receipt)?;
    if terms.subject != (ReceiptSubject::Deposited { serial }) {
        return Err(Failure::Unusable("the router's receipt is about something else".to_string()));
    }
    tell_receipt(terms, router.json.json)
}

pub(super) fn balance(args: &Router) -> Outcome {
    let mut session = Session::open(&args.router, &args.reach)?;
    let reply = session.insist(&Request::Balance, "asking for the balance")?;
    let Reply::Balance { balance, held, receipts } = reply else {
        return Err(unexpected("a balance"));
    };
    if args.json.json {
        return answer::print_json(&json!({
            "router": session.link.router().name(),
            "account": session.identity.public().to_string(),
            "balance": balance,
            "held": held,
            "receipts": receipts,
        }));
    }
    answer::print(&format_args!("{balance} credits can be spent, {held} are on hold; {receipts} receipts"))
}

pub(super) fn receipts(args: &Router) -> Outcome {
    let mut session = Session::open(&args.router, &args.reach)?;
    let (receipts, head) = fetch(&mut session)?;
    let memory = Heads::at(state_dir().ok_or_else(no_state)?);
    let router = session.link.router().id();
    if let Some(known) = memory.load(&router, &session.identity.public())? {
        heads::goes_on(&known, &receipts).map_err(|text| Refusal::new("history-rewritten", &text, None, None))?;
    }
    memory.save(&router, &head)?;
    let json = args.json.json;
    receipts.iter().try_for_each(|receipt| tell_receipt(receipt.terms(), json))?;
    if json {
        return Ok(());
    }
    answer::print(&format_args!(
        "{} receipts of router `{}`, one chain, balance {}",
        receipts.len(),
        session.link.router().name(),
        head.balance
    ))
}

/// All receipts of the user's account, which make one chain, and where it ends.
fn fetch(session: &mut Session) -> Result<(Vec<Receipt>, ChainHead), Failure> {
    let mut head = ChainHead::start(session.identity.public());
    let mut all = Vec::new();
    loop {
        let request = Request::Receipts { after: head.number };
        let Reply::Receipts(more) = session.insist(&request, "fetching the receipts")? else {
            return Err(unexpected("receipts"));
        };
        if more.is_empty() {
            return Ok((all, head));
        }
        head.extend(&more, session.link.router())
            .map_err(|fault| Refusal::new("receipts-do-not-stand", &fault, None, None))?;
        all.extend(more);
    }
}

fn tell_receipt(terms: &ReceiptTerms, json: bool) -> Outcome {
    let (what, mut object) = match &terms.subject {
        ReceiptSubject::Installed(i) => (
            format!("program {} installed", i.instance),
            json!({ "subject": "installed", "instance": i.instance, "program": hex(&i.program_id), "ends_s": i.ends_s }),
        ),
        ReceiptSubject::Renewed { instance, ends_s, .. } => (
            format!("program {instance} renewed until second {ends_s}"),
            json!({ "subject": "renewed", "instance": instance, "ends_s": ends_s }),
        ),
        ReceiptSubject::Ended { instance, why } => (
            format!("program {instance} {why}"),
            json!({ "subject": "ended", "instance": instance, "why": why.to_string() }),
        ),
        ReceiptSubject::Deposited { serial } => {
            (format!("credit {} deposited", hex(serial)), json!({ "subject": "deposited", "serial": hex(serial) }))
        }
        ReceiptSubject::Checked { nonce } => (
            "a program that was rejected was checked".to_string(),
            json!({ "subject": "checked", "nonce": hex(nonce) }),
        ),
    };
    if json {
        object["number"] = json!(terms.number);
        object["at_s"] = json!(terms.at_s);
        object["paid"] = json!(terms.paid);
        object["given_back"] = json!(terms.given_back);
        object["balance"] = json!(terms.balance);
        return answer::print_json(&object);
    }
    answer::print(&format_args!(
        "receipt {}: {what}; paid {}, given {}, balance {}",
        terms.number, terms.paid, terms.given_back, terms.balance
    ))
}
