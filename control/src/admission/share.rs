//! Which installed programs run from one executable, so that their load is counted once.

use std::collections::{BTreeMap, BTreeSet};

use ahash::AHashMap;
use vinet_pktops::Executable;

use super::Installed;
use crate::capacity::Group;

/// Of the programs with the same bytes, so many at each end are asked whether they share: all share unless their owners
/// are of different kinds or their proofs bound a loop differently, and one that is not found is counted for itself.
const ASKED_MAX: usize = 4;

/// Installed programs by their bytes.
#[derive(Debug)]
pub(super) struct Sharers {
    by_program: AHashMap<[u8; 32], Instances>,
}

#[derive(Debug)]
enum Instances {
    One(u64),
    Many(BTreeSet<u64>),
}

impl Sharers {
    pub(super) fn new() -> Sharers {
        Sharers { by_program: AHashMap::new() }
    }

    /// Those whose executable `executable` shares.
    pub(super) fn group_of(
        &self,
        program_id: &[u8; 32],
        executable: &Executable,
        programs: &BTreeMap<u64, Installed>,
    ) -> Option<Group> {
        let shares = |instance: &u64| {
            let installed = programs.get(instance).filter(|installed| installed.executable.shares(executable))?;
            Some(installed.hold.group())
        };
        match self.by_program.get(program_id)? {
            Instances::One(instance) => shares(instance),
            Instances::Many(all) => all.iter().rev().take(ASKED_MAX).chain(all.iter().take(ASKED_MAX)).find_map(shares),
        }
    }

    pub(super) fn add(&mut self, program_id: [u8; 32], instance: u64) {
        match self.by_program.get_mut(&program_id) {
            None => {
                self.by_program.insert(program_id, Instances::One(instance));
            }
            Some(Instances::Many(all)) => {
                all.insert(instance);
            }
            Some(one @ Instances::One(_)) => {
                let Instances::One(first) = *one else { return };
                *one = Instances::Many(BTreeSet::from([first, instance]));
            }
        }
    }

    pub(super) fn remove(&mut self, program_id: &[u8; 32], instance: u64) {
        let empty = match self.by_program.get_mut(program_id) {
            None => false,
            Some(Instances::One(_)) => true,
            Some(Instances::Many(all)) => {
                all.remove(&instance);
                all.is_empty()
            }
        };
        if empty {
            self.by_program.remove(program_id);
        }
    }
}
