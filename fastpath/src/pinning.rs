//! Pinning a thread to a core, and making sure of it.

use std::fmt;

use core_affinity::CoreId;

/// Why a thread is not pinned. The operator is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinError {
    /// The system refused: there is no such core, or this process may not use it.
    Refused {
        /// The core.
        core: usize,
        /// The cores that the process may use.
        allowed: Vec<usize>,
    },
    /// The system took the request, and the thread may run elsewhere all the same.
    NotKept {
        /// The core.
        core: usize,
        /// The cores that the thread may run on.
        found: Vec<usize>,
    },
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PinError::Refused { core, allowed } => {
                write!(
                    f,
                    "cannot be pinned to core {core}; this process may use cores {allowed:?} (see taskset and cpusets)"
                )
            }
            PinError::NotKept { core, found } => {
                write!(f, "was pinned to core {core} and may run on cores {found:?} all the same")
            }
        }
    }
}
impl std::error::Error for PinError {}

/// Pins the calling thread to `core`, by its number and not from a list (lists leave out isolated cores), and
/// verifies it.
///
/// # Errors [`PinError`]
pub fn pin_current_thread(core: usize) -> Result<(), PinError> {
    let allowed = allowed_cores();
    if core >= libc::CPU_SETSIZE as usize || !core_affinity::set_for_current(CoreId { id: core }) {
        return Err(PinError::Refused { core, allowed });
    }
    let found = allowed_cores();
    if found != [core] {
        return Err(PinError::NotKept { core, found });
    }
    Ok(())
}

/// The cores that the calling thread may run on; none where the system does not tell.
#[must_use]
pub fn allowed_cores() -> Vec<usize> {
    // SAFETY: a set of zeros is an empty set, and the call fills it within the size it is told.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            return Vec::new();
        }
        set
    };
    // SAFETY: the number is within the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_where_it_was_pinned_and_a_missing_core_is_named() {
        std::thread::spawn(|| {
            let core = *allowed_cores().last().expect("a core to run on");
            pin_current_thread(core).expect("an allowed core");
            assert_eq!(allowed_cores(), [core]);
            let missing = libc::CPU_SETSIZE as usize - 1;
            assert!(matches!(pin_current_thread(missing), Err(PinError::Refused { core, .. }) if core == missing));
            assert!(matches!(pin_current_thread(1 << 40), Err(PinError::Refused { .. })));
        })
        .join()
        .expect("the thread does not panic");
    }
}
