//! The commands of a testbed's authority.

use super::Reach;
use super::answer::{self, Failure, Outcome, Refusal};
use super::bank;
use super::session::{Session, now_s, unexpected};
use std::path::Path;
use vinet_client::file;
use vinet_session::directory::{Directory, DirectoryEntry, SignedDirectory};
use vinet_session::identity::{AuthorityKey, Subject, Validity};
use vinet_session::limits::REVOKED_MAX;
use vinet_session::message::{Reply, Request, RevocationList};
use vinet_session::topology::{TOPOLOGY_BYTES_MAX, Topology};
use vinet_trusted::addr::{Addr, Principal};

const SECRET: &str = "authority.key";
const PUBLIC: &str = "authority.pub";

pub(super) fn init(dir: &Path, name: &str) -> Outcome {
    std::fs::create_dir_all(dir)
        .map_err(|error| Failure::Unusable(format!("cannot make the folder {}: {error}", dir.display())))?;
    let key = AuthorityKey::generate(name)?;
    key.save(&dir.join(SECRET))?;
    key.authority().save(&dir.join(PUBLIC))?;
    Ok(())
}

pub(super) fn issue(ca: &Path, principal: Principal, valid_s: u32, out: &Path) -> Outcome {
    identity(ca, Subject::Owner(principal), valid_s, out)
}

pub(super) fn router(ca: &Path, name: String, addrs: Vec<Addr>, valid_s: u32, out: &Path) -> Outcome {
    identity(ca, Subject::Router { name, addrs }, valid_s, out)
}

fn identity(ca: &Path, subject: Subject, valid_s: u32, out: &Path) -> Outcome {
    let key = AuthorityKey::load(&ca.join(SECRET))?;
    let identity = key.issue_identity(subject, Validity::starting(now_s(), u64::from(valid_s)))?;
    Ok(identity.save(out)?)
}

fn read(path: &Path) -> Result<Topology, Failure> {
    let text = file::text(path, file::read(path, TOPOLOGY_BYTES_MAX)?)?;
    Topology::parse(path, &text).map_err(|fault| Failure::Unusable(fault.to_string()))
}

pub(super) fn topology(path: &Path, out: &Path) -> Outcome {
    let topology = read(path)?;
    topology.make(out, now_s()).map_err(|error| Failure::Unusable(error.to_string()))?;
    answer::print(&format_args!(
        "{}: the authority `{}`, the bank `{}`, {} routers, {} owners",
        out.display(),
        topology.authority,
        topology.bank,
        topology.routers.len(),
        topology.owners.len()
    ))
}

/// Signs the directory of the routers in `path`, with a higher number than the one before.
pub(super) fn directory(ca: &Path, path: &Path, out: Option<&Path>) -> Outcome {
    let usual = ca.join("directory");
    let out = out.unwrap_or(&usual);
    let key = AuthorityKey::load(&ca.join(SECRET))?;
    let before = if out.exists() { SignedDirectory::load(out)?.directory().number() } else { 0 };
    let entries = read(path)?.routers.into_iter().flat_map(|router| {
        router.controls.into_iter().map(move |prefix| DirectoryEntry {
            prefix,
            router_name: router.name.clone(),
            endpoints: router.endpoints.clone(),
        })
    });
    let directory = Directory::new(before + 1, now_s(), entries.collect())
        .map_err(|error| Failure::Unusable(format!("{}: {error}", path.display())))?;
    let (number, len) = (directory.number(), directory.entries().len());
    SignedDirectory::sign(directory, &key).save(out)?;
    answer::print(&format_args!("{}: directory {number}, {len} prefixes", out.display()))
}

/// Signs the list of the keys revoked before and of `keys`, and brings it to the routers.
pub(super) fn revoke(ca: &Path, list: Option<&Path>, keys: &[String], routers: &[String], reach: &Reach) -> Outcome {
    let usual = ca.join("revoked");
    let path = list.unwrap_or(&usual);
    let key = AuthorityKey::load(&ca.join(SECRET))?;
    let (before, mut revoked) = match path.exists() {
        false => (0, Vec::new()),
        true => {
            let list = RevocationList::load(path)?;
            // A list by another would bring keys back when its number falls.
            list.verify(&key.authority()).map_err(|fault| Failure::Unusable(format!("{}: {fault}", path.display())))?;
            (list.number(), list.keys().to_vec())
        }
    };
    for text in keys {
        revoked.push(bank::key(text)?);
    }
    let list = RevocationList::sign(before + 1, now_s(), revoked, &key).ok_or_else(|| {
        Failure::Unusable(format!("a list has at most {REVOKED_MAX} keys; begin again with a new authority"))
    })?;
    list.save(path)?;
    answer::print(&format_args!("{}: list {}, {} keys", path.display(), list.number(), list.keys().len()))?;
    for router in routers {
        let mut session = Session::open(router, reach)?;
        let request = Request::Revoke(Box::new(list.clone()));
        let Reply::Revocations { number } = session.insist(&request, "bringing the list of revoked keys")? else {
            return Err(unexpected("the number of a list"));
        };
        if number < list.number() {
            let text = format!("the router goes on with list {number}");
            return Err(Refusal::new("not-taken", &text, None, None).into());
        }
        answer::print(&format_args!("router `{}` goes by list {number}", session.link.router().name()))?;
    }
    Ok(())
}
