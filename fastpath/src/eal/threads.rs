//! The threads of this process: their affinity, which EAL changes at its start, and whether they rest.

use std::mem;
use std::time::Duration;

/// How often the threads are looked at, a millisecond apart, before one that never rests is given up on.
const LOOKS_MAX: u32 = 20;

/// Which processors each thread may use.
pub(super) struct Affinities {
    saved: Vec<(libc::pid_t, libc::cpu_set_t)>,
    own: Option<libc::cpu_set_t>,
}

impl Affinities {
    /// Those of all threads of the process.
    pub(super) fn save() -> Affinities {
        let saved = tasks().into_iter().filter_map(|task| Some((task, affinity(task)?))).collect();
        Affinities { saved, own: affinity(0) }
    }

    /// That of the calling thread.
    pub(super) fn save_own() -> Affinities {
        Affinities { saved: Vec::new(), own: affinity(0) }
    }

    /// Gives every thread its own back, and threads that are new (EAL's) the calling thread's.
    pub(super) fn restore(self) {
        self.restore_own();
        for task in tasks() {
            let saved = self.saved.iter().find(|(saved, _)| *saved == task).map(|(_, set)| set);
            if let Some(set) = saved.or(self.own.as_ref()) {
                set_affinity(task, set);
            }
        }
    }

    /// Gives the calling thread its own back.
    pub(super) fn restore_own(&self) {
        if let Some(set) = &self.own {
            set_affinity(0, set);
        }
    }
}

/// Whether each thread other than the calling one was seen asleep in the kernel, at a time after the call.
pub(super) fn all_others_rest() -> bool {
    // SAFETY: gettid has no preconditions.
    let own = unsafe { libc::gettid() };
    let mut busy: Vec<libc::pid_t> = tasks().into_iter().filter(|task| *task != own).collect();
    for _ in 0..LOOKS_MAX {
        busy.retain(|task| !rests(*task));
        if busy.is_empty() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// Asleep in a system call, or gone.
fn rests(task: libc::pid_t) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/self/task/{task}/stat")) else { return true };
    // The state follows the command's name, which stands in parentheses and may hold any character (proc(5)).
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| matches!(rest.trim_start().as_bytes().first(), Some(b'S' | b'Z' | b'X')))
}

fn tasks() -> Vec<libc::pid_t> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

/// A thread that ended in between has none.
fn affinity(task: libc::pid_t) -> Option<libc::cpu_set_t> {
    // SAFETY: a cpu_set_t of zeros is an empty set; the kernel writes at most its size.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        (libc::sched_getaffinity(task, size_of::<libc::cpu_set_t>(), &raw mut set) == 0).then_some(set)
    }
}

/// A failure means that the thread ended in between, or that the processors went away: the kernel's choice stands.
fn set_affinity(task: libc::pid_t, set: &libc::cpu_set_t) {
    // SAFETY: the set is a valid one of that size.
    unsafe { libc::sched_setaffinity(task, size_of::<libc::cpu_set_t>(), set) };
}
