//! The laboratory's authority and the keys that it certifies, made with the real `vinet ca`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Finished, binary, run};

/// Makes the authority and the router's key in the folder, unless they are there.
pub fn make(dir: &Path) {
    if !dir.join("authority.pub").exists() {
        vinet(&format!("ca init --out {}", dir.display())).expect();
    }
    if !dir.join("router.key").exists() {
        let dir = dir.display();
        vinet(&format!("ca router --ca {dir} --name lab --address 192.0.2.1 --out {dir}/router.key")).expect();
    }
}

/// The identity file of a principal (an address, or an address with its prefix length), issued at the first call.
pub fn identity(dir: &Path, principal: &str) -> PathBuf {
    let file = dir.join(format!("{}.key", principal.replace(['/', ':'], "_")));
    if !file.exists() {
        let (ca, out) = (dir.display(), file.display());
        vinet(&format!("ca issue --ca {ca} --principal {principal} --valid 1d --out {out}")).expect();
    }
    file
}

/// Runs `vinet` with these words, split at blanks, away from every namespace.
pub fn vinet(words: &str) -> Finished {
    let mut command = Command::new(binary("vinet"));
    command.args(words.split_whitespace());
    run(command, Duration::from_secs(60))
}
