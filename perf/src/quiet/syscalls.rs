//! The system calls of one thread, counted by the kernel's own hand: a seccomp filter that passes each of them to a thread
//! of ours, which counts it and lets it go on (seccomp(2), SECCOMP_RET_USER_NOTIF).
//!
//! Between system calls the thread is not slowed, and no system call escapes: none runs before it is counted. Reading the
//! clock through the vDSO is none. Linux 5.5 or later; no privilege is needed.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// System calls with greater numbers are counted together under this one.
const NUMBERS: usize = 1024;
/// How long the counting thread waits before it looks whether it shall end.
const PATIENCE_MS: i32 = 50;
/// `_IOWR('!', 0, struct seccomp_notif)` and `_IOWR('!', 1, struct seccomp_notif_resp)` of linux/seccomp.h.
const NOTIF_RECV: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
const NOTIF_SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
/// No filter is there yet.
const NO_FD: RawFd = -1;

struct Shared {
    counts: [AtomicU64; NUMBERS],
    listener: AtomicI32,
    is_over: AtomicBool,
}

/// Counts the system calls of one thread, which [`SystemCalls::watch_this_thread`] makes it.
pub struct SystemCalls {
    shared: Arc<Shared>,
    counting: Option<JoinHandle<()>>,
}

/// What the thread to be watched needs.
#[derive(Clone)]
pub struct Watch {
    shared: Arc<Shared>,
}

impl SystemCalls {
    /// Ready to count; nobody is watched yet.
    pub fn new() -> io::Result<SystemCalls> {
        let counts = [const { AtomicU64::new(0) }; NUMBERS];
        let shared = Arc::new(Shared { counts, listener: AtomicI32::new(NO_FD), is_over: AtomicBool::new(false) });
        let counting = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("system-calls".to_owned()).spawn(move || count(&shared))?
        };
        Ok(SystemCalls { shared, counting: Some(counting) })
    }

    /// For the thread to be watched.
    pub fn watch(&self) -> Watch {
        Watch { shared: Arc::clone(&self.shared) }
    }

    /// How many there were so far.
    pub fn total(&self) -> u64 {
        self.by_number().iter().map(|(_, count)| count).sum()
    }

    /// Those that there were, by number.
    pub fn by_number(&self) -> Vec<(usize, u64)> {
        let counts = self.shared.counts.iter().map(|count| count.load(Ordering::Acquire)).enumerate();
        counts.filter(|&(_, count)| count > 0).collect()
    }
}

impl Drop for SystemCalls {
    /// The watched thread must have ended: whoever is watched and not counted waits for ever.
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        if let Some(counting) = self.counting.take() {
            // It does not panic, and if it did the counts would have told.
            let _ = counting.join();
        }
    }
}

impl Watch {
    /// From now on every system call of the calling thread is counted, to the thread's end. Once, by one thread.
    pub fn watch_this_thread(&self) -> io::Result<()> {
        // One instruction: whatever the call, tell the listener.
        let mut instruction = libc::sock_filter {
            code: (libc::BPF_RET | libc::BPF_K) as u16,
            jt: 0,
            jf: 0,
            k: libc::SECCOMP_RET_USER_NOTIF,
        };
        let program = libc::sock_fprog { len: 1, filter: &raw mut instruction };
        // SAFETY: prctl takes plain numbers here; it only renounces privileges that execve could give to this thread.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the program lives through the call, and its length is that of its one instruction.
        let listener = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
                &raw const program,
            )
        };
        if listener < 0 {
            return Err(io::Error::last_os_error());
        }
        // Pairs with the counting thread's load. It looks for it by itself, for this thread can wake nobody: that would
        // be a system call.
        self.shared.listener.store(listener as RawFd, Ordering::Release);
        Ok(())
    }
}

/// Counts and lets go on, until it is over.
fn count(shared: &Shared) {
    let listener = loop {
        match shared.listener.load(Ordering::Acquire) {
            NO_FD if shared.is_over.load(Ordering::Acquire) => return,
            NO_FD => std::thread::sleep(Duration::from_millis(1)),
            // SAFETY: the kernel gave the descriptor to us, and nobody else holds it.
            fd => break unsafe { OwnedFd::from_raw_fd(fd) },
        }
    };
    while !shared.is_over.load(Ordering::Acquire) {
        let mut ready = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry is passed, and its number.
        let events = unsafe { libc::poll(&raw mut ready, 1, PATIENCE_MS) };
        if events > 0 && ready.revents & libc::POLLIN != 0 {
            let_one_go_on(&listener, shared);
        } else if events > 0 {
            // The watched thread is gone.
            return;
        }
    }
}

fn let_one_go_on(listener: &OwnedFd, shared: &Shared) {
    // SAFETY: zeros are a value of this struct of numbers, and what the kernel asks for.
    let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is a listener, and the struct the one that this request fills.
    if unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut notice) } != 0 {
        // A signal took the thread out of its call: it comes again.
        return;
    }
    let number = usize::try_from(notice.data.nr).unwrap_or(NUMBERS).min(NUMBERS - 1);
    // Counted before it runs. Pairs with the load of whoever asks.
    shared.counts[number].fetch_add(1, Ordering::Release);
    let mut answer = libc::seccomp_notif_resp {
        id: notice.id,
        val: 0,
        error: 0,
        flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
    };
    // SAFETY: as above, and the struct is the one that this request reads. An error means that the thread is gone.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw mut answer) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_call_of_the_watched_thread_is_counted_and_none_of_others() {
        let calls = SystemCalls::new().expect("a thread");
        let watch = calls.watch();
        let asks = |times: usize| {
            // SAFETY: getppid has no preconditions.
            (0..times).for_each(|_| _ = std::hint::black_box(unsafe { libc::getppid() }));
        };
        let watched = std::thread::spawn(move || {
            watch.watch_this_thread().expect("a filter");
            asks(3);
            // Long enough to be seen, were it to make any.
            (0..1_000_000u64).for_each(|i| _ = std::hint::black_box(i));
            asks(4);
        });
        asks(10);
        watched.join().expect("it ends");
        let asked = calls.by_number().into_iter().find(|&(number, _)| number == libc::SYS_getppid as usize);
        assert_eq!(asked, Some((libc::SYS_getppid as usize, 7)));
        assert!(calls.total() > 7, "a thread's end makes some: {:?}", calls.by_number());
    }

    #[test]
    fn nobody_need_be_watched() {
        let calls = SystemCalls::new().expect("a thread");
        assert_eq!(calls.total(), 0);
    }
}
