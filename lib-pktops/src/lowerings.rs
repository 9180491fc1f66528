//! The programs that are lowered now, so that equal programs of different owners are lowered and held once.
//!
//! What is shared are the tree, the searchers for words and the decisions: what follows from the bytes, the policy and
//! the kind of owner. Each owner has its own [`Executable`], made of its own `Checked`, with its own cells, addresses and
//! state; when one is withdrawn the others run on. The last one frees what they shared.

use crate::Executable;
use crate::exec::Lowered;
use crate::lower::LowerError;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use vinet_trusted::check::Checked;
use vinet_trusted::policy::PrincipalKind;

/// What may share one [`Lowered`]: the program, the policy, and the kind of its owner.
type LoweringKey = ([u8; 32], [u8; 32], bool);

/// What is lowered now. It keeps nothing alive.
#[derive(Debug, Default)]
pub struct Lowerings {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    lowered: HashMap<LoweringKey, Weak<Lowered>>,
    /// How many there may be before the dead ones are looked for.
    sweep_at: usize,
}

/// Dead entries are looked for when there are so many, or twice as many as lived the last time.
const SWEEP_MIN: usize = 64;

impl Lowerings {
    /// [`Executable::lower`], sharing with what is lowered already.
    ///
    /// # Errors
    /// [`LowerError`].
    pub fn lower(&self, checked: Arc<Checked>) -> Result<Executable, LowerError> {
        let is_router = PrincipalKind::of(checked.owner()) == PrincipalKind::EdgeRouter;
        let key = (checked.program_id(), checked.policy_id(), is_router);
        // Another thread's panic leaves a map that is whole.
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let there = known().lowered.get(&key).and_then(Weak::upgrade);
        let executable = Executable::lower_like(checked, there)?;
        let mut known = known();
        known.lowered.insert(key, Arc::downgrade(executable.lowered()));
        if known.lowered.len() > known.sweep_at {
            known.lowered.retain(|_, lowered| lowered.strong_count() > 0);
            known.sweep_at = SWEEP_MIN.max(2 * known.lowered.len());
        }
        Ok(executable)
    }
    /// How many different programs are lowered now.
    #[must_use]
    pub fn len(&self) -> usize {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.lowered.values().filter(|lowered| lowered.strong_count() > 0).count()
    }
    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::tests::{accepted, datagram, discards, spam_filter};
    use crate::samples::addr;
    use vinet_trusted::addr::Principal;
    use vinet_trusted::program::{Program, Word};

    fn owner(host: u32) -> Principal {
        Principal::EndUser(addr(&format!("10.0.0.{host}")))
    }

    #[test]
    fn owners_of_one_program_share_it_and_nothing_else() {
        let lowerings = Lowerings::default();
        let word = |bytes: &[u8]| Word { fold: true, bytes: bytes.to_vec() };
        let lower = |program: &Program, host| lowerings.lower(accepted(program, &owner(host))).unwrap();
        let program = spam_filter(1, word(b"spam"), 2);
        let (first, second) = (lower(&program, 1), lower(&program, 2));
        let other = lower(&spam_filter(1, word(b"ham"), 2), 1);
        assert!(first.shares(&second) && !first.shares(&other));
        assert_eq!(lowerings.len(), 2);
        let cells = |executable: &Executable| executable.cells().iter().map(|cell| cell.dst()).collect::<Vec<_>>();
        assert_eq!((cells(&first), cells(&second)), (vec![owner(1).owned()], vec![owner(2).owned()]));
        // Each discards its own owner's packets, and only those.
        let mut states = [first.state(), second.state()];
        for (executable, state, host) in [(&first, 0, 1), (&second, 1, 2)] {
            for to in [1, 2] {
                let frame = datagram(&format!("10.0.0.{to}"), 9, b"Spam, spam");
                assert_eq!(discards(executable, &mut states[state], &frame), to == host, "{host} and {to}");
            }
        }
        // One goes, the other runs on; the last one takes what they shared with it.
        drop(first);
        assert!(discards(&second, &mut states[1], &datagram("10.0.0.2", 9, b"spamspam")));
        assert!(second.shares(&lower(&program, 3)));
        drop((second, other));
        assert!(lowerings.is_empty());
    }

    #[test]
    fn programs_that_are_gone_are_forgotten() {
        let lowerings = Lowerings::default();
        for number in 0..3 * SWEEP_MIN {
            let program = spam_filter(1, Word { fold: false, bytes: format!("{number}").into_bytes() }, 2);
            drop(lowerings.lower(accepted(&program, &owner(1))).unwrap());
            assert!(lowerings.known.lock().unwrap().lowered.len() <= SWEEP_MIN + 1);
        }
    }
}
