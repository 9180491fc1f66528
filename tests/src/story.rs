//! Who may run, and when: a story holds a lock on the machine while it runs, because two routers that poll would share two cores.

use std::fs::{File, OpenOptions};
use std::io::Write;

/// Holding one proves that no other story runs on this machine.
pub struct Story {
    _lock: File,
}

/// Waits for the machine, or says on standard error why the story is skipped: it needs root, and `VINET_SKIP_STORIES` is how
/// `make unit` leaves the stories out.
pub fn begin(name: &str) -> Option<Story> {
    if std::env::var_os("VINET_SKIP_STORIES").is_some() {
        return None;
    }
    if !nix::unistd::geteuid().is_root() {
        skip(name, "network namespaces need root");
        return None;
    }
    let path = std::env::temp_dir().join("vinet-stories.lock");
    let lock = OpenOptions::new().create(true).write(true).truncate(false).open(&path).expect("the stories' lock file");
    lock.lock().expect("the stories' lock");
    Some(Story { _lock: lock })
}

/// Says past the test harness's capture that something was left out, so that the summary of `make test` can list it.
pub fn skip(name: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {why}");
}
