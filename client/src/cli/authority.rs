//! The commands of a testbed's authority.

use super::answer::{Failure, Outcome};
use std::path::Path;
use std::time::Instant;
use vinet_session::Now;
use vinet_session::identity::{AuthorityKey, Subject, Validity};
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
    let now_s = Now::read(Instant::now()).wall_s;
    let identity = key.issue_identity(subject, Validity::starting(now_s, u64::from(valid_s)))?;
    Ok(identity.save(out)?)
}
