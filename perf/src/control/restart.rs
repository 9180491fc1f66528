//! How fast a router is back: a store with many programs, every one of which is checked again before the ports open.
//!
//! Nine of ten programs are firewalls, each of an owner of its own; the tenth is one of the shipped programs, of which every
//! owner has a few. The store is made by the router's own store, in the form that installs leave.

use super::daemon::{Bed, Setup, wall_s};
use super::orders::Orders;
use super::{Options, failed};
use crate::run::PerfError;
use crate::verify::inputs::{self, Sent};
use crate::verify::report::{Bar, Report, short};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use vinet_control::admin::Command as Ask;
use vinet_control::store::{Options as StoreOptions, ProgramRecord, Put, Store, Transaction};
use vinet_session::identity::Identity;
use vinet_session::message::Upload;
use vinet_session::payment::Tariff;
use vinet_trusted::addr::{Addr, Principal};

/// The bar is for a million programs; it is held to in proportion.
const PROGRAMS_PER_S_MIN: f64 = 1_000_000.0 / 15.0;
/// Firewalls among ten programs.
const FIREWALLS_OF_TEN: usize = 9;
/// Shipped programs of one owner.
const EACH_OWNER: usize = 16;
/// Programs of one transaction.
const AT_ONCE: usize = 500;
/// The owners of firewalls, and of the rest.
const OWNERS: u32 = 0x6480_0000;
const OTHER_OWNERS: u32 = 0x64f0_0000;
/// Owners of shipped programs that are for edge routers: a prefix each.
const PREFIX_LEN: u8 = 24;
/// How long the programs still run.
const LIFETIME_LEFT_S: u64 = 12 * 3600;

/// Makes the store and starts a router on it.
pub fn measure(report: &mut Report, bed: &Bed, setup: &Setup, options: &Options) -> Result<(), PerfError> {
    report.heading("Restart");
    let count = options.programs;
    let orders = &Orders::new(bed, &options.configs, Tariff::FREE)?;
    let path = bed.dir.path().join("programs.redb");
    let begin = Instant::now();
    let bytes = fill(bed, orders, &options.configs, &path, count)?;
    eprintln!("a store of {count} programs is made after {:.1} s", begin.elapsed().as_secs_f64());
    let setup = Setup {
        controlled: r#""0.0.0.0/0", "::/0""#,
        more: format!("[store]\npath = \"{}\"\n", path.display()),
        ..setup.clone()
    };
    let patience = Duration::from_secs(30 + count as u64 / 2_000);
    let daemon = bed.start(&setup, patience)?;
    let (start, threads, resident) = (daemon.start.as_secs_f64(), daemon.threads(), daemon.resident());
    let installed = daemon.ask(Ask::Counters)?["programs"].as_u64().unwrap_or(0);
    if installed != count as u64 {
        let why = format!("{installed} of {count} programs are back\n{}", daemon.last_words());
        return Err(PerfError::Void { what: "vinetd".to_owned(), why });
    }
    daemon.end()?;
    let us = |ns: u64| ns as f64 / 1e3 / count as f64;
    let mut rows = vec![["where", "processor time of one program, µs"].map(str::to_owned).to_vec()];
    rows.extend(threads.iter().filter(|(_, ns)| us(**ns) > 0.05).map(|(name, ns)| vec![name.clone(), short(us(*ns))]));
    report.say(&format!(
        "{} programs, {} MiB on disk: the router accepts sessions after {start:.1} s, and holds {} MiB.\n",
        short(count as f64),
        short((bytes >> 20) as f64),
        short((resident >> 20) as f64)
    ));
    report.table(&rows);
    report.object(
        "restart",
        json!({"programs": count, "seconds": start, "store_bytes": bytes, "resident_bytes": resident, "threads_ns": threads}),
    );
    let rate = count as f64 / start;
    report.bar("programs back in force", rate, "/s", Bar::AtLeast(PROGRAMS_PER_S_MIN));
    report.bars();
    Ok(())
}

/// Fills a store as installs would; gives the bytes of its file.
fn fill(bed: &Bed, orders: &Orders, configs: &Path, path: &Path, count: usize) -> Result<u64, PerfError> {
    let lemmas = vinet_prover::library();
    let shipped: Vec<Sent> = inputs::shipped(&configs.join("programs"), &orders.policies)?
        .iter()
        .filter(|subject| subject.name != "firewall.vnp")
        .filter_map(|subject| subject.proven(&lemmas).ok())
        .collect();
    if shipped.is_empty() {
        return Err(failed("no shipped program is proven"));
    }
    let (store, recovered) = Store::open(path, &bed.router.public(), StoreOptions::default()).map_err(failed)?;
    drop(recovered);
    let mut committer = store.start(|| {}).map_err(failed)?;
    let mut others: Option<(Principal, Identity, usize)> = None;
    let mut next_owner = 0;
    let mut puts = Vec::with_capacity(AT_ONCE);
    for number in 0..count {
        let upload = if number % 10 < FIREWALLS_OF_TEN {
            let user = bed.user(OWNERS + number as u32)?;
            let terms = orders.firewall(&user, super::orders::SOURCES + (number % 0xf_ffff) as u32)?;
            (user.public(), Upload::sign(terms, &user))
        } else {
            let sent = &shipped[(number / 10) % shipped.len()];
            let is_router = matches!(sent.owner, Principal::EdgeRouter(..));
            let fits = |(owner, _, left): &(Principal, Identity, usize)| {
                *left > 0 && matches!(owner, Principal::EdgeRouter(..)) == is_router
            };
            if !others.as_ref().is_some_and(fits) {
                let owner = other_owner(next_owner, is_router)?;
                next_owner += 1;
                others = Some((owner, bed.owner(owner)?, EACH_OWNER));
            }
            let Some((owner, identity, left)) = &mut others else { continue };
            *left -= 1;
            let terms = orders.terms(*owner, sent.program.clone(), sent.proof.clone())?;
            (identity.public(), Upload::sign(terms, identity))
        };
        let (owner, upload) = upload;
        let began_s = wall_s();
        puts.push(Put::Program(Box::new(ProgramRecord {
            instance: number as u64 + 1,
            owner,
            upload: upload.encode(),
            proof: None,
            began_s,
            ends_s: began_s + LIFETIME_LEFT_S,
            paid: 0,
        })));
        if puts.len() == AT_ONCE || number + 1 == count {
            let mut transaction = Transaction::from(std::mem::take(&mut puts));
            // As many as may wait are on their way: one more waits for the first of them.
            while let Err(refused) = committer.submit(transaction, ()) {
                transaction = refused.0;
                std::thread::sleep(Duration::from_millis(1));
                settle(&mut committer)?;
            }
            settle(&mut committer)?;
        }
    }
    while committer.pending() > 0 {
        std::thread::sleep(Duration::from_millis(1));
        settle(&mut committer)?;
    }
    drop(committer);
    std::fs::metadata(path).map(|about| about.len()).map_err(failed)
}

fn settle(committer: &mut vinet_control::store::Committer<()>) -> Result<(), PerfError> {
    while let Some(((), done)) = committer.committed() {
        done.map_err(failed)?;
    }
    Ok(())
}

/// The owner of some shipped programs.
fn other_owner(number: u32, is_router: bool) -> Result<Principal, PerfError> {
    if !is_router {
        return Ok(Principal::EndUser(Addr::V4(OTHER_OWNERS + number)));
    }
    let router = Addr::V4(0x0b00_0001 + (number << 8));
    let text = format!("{router}/{PREFIX_LEN}");
    vinet_session::identity::parse_principal(&text).map_err(failed)
}
