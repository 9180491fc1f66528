//! The gates: the only ways in which a program can have an effect.
//!
//! What runs on the fast path is a lowering of the checked bytes that nobody has to trust: a flow table takes only
//! [`Cell`]s, and a packet is dropped on a program's behalf only with a [`DiscardPermit`]. Both come from a
//! [`Checked`], and making one evaluates the policy's formula again: once for a cell where only addresses matter, so
//! that a table verdict costs nothing, and once for each packet that a running program discards.

use crate::addr::{Addr, Prefix, Principal};
use crate::check::Checked;
use crate::policy::Formula;
use crate::program::{Field, Unset};
use alloc::sync::Arc;
use core::fmt;

/// What is done with the packets of a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Every packet is dropped: a table verdict.
    Discard,
    /// The program is given every packet, and may look into it and discard it.
    Run,
}

/// The packets from one prefix to another that a program is given. Holding one proves that the policy allows the
/// program's owner to have the action on every such packet.
#[derive(Clone, Debug)]
pub struct Cell {
    checked: Arc<Checked>,
    src: Prefix,
    dst: Prefix,
    action: Action,
}

/// Why there is no such cell: the policy does not allow the action on every packet of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAllowed {
    /// Where the packets come from.
    pub src: Prefix,
    /// Where they go to.
    pub dst: Prefix,
    /// What was to be done with them.
    pub action: Action,
}

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            Action::Discard => "discarded",
            Action::Run => "given to a program",
        };
        write!(f, "the policy does not allow every packet from {} to {} to be {action}", self.src, self.dst)
    }
}

/// Leave to drop one packet on a program's behalf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiscardPermit(());

impl Cell {
    /// The cell of packets from `src` (length 0: any source of the family) to `dst`.
    ///
    /// # Errors
    /// [`NotAllowed`] unless the policy allows the action on all of them: to drop them for [`Action::Discard`], to
    /// look into them for [`Action::Run`] where the program looks for words. What a running program then discards is
    /// asked packet by packet, of [`discard`].
    pub fn new(checked: &Arc<Checked>, src: Prefix, dst: Prefix, action: Action) -> Result<Cell, NotAllowed> {
        let policy = checked.policy();
        let owner = checked.owner();
        let everywhere = |formula| of_all(formula, owner, src, dst) == Ok(Some(true));
        let allowed = owner.owned().covers(dst)
            && match action {
                Action::Discard => everywhere(&policy.discard),
                Action::Run => checked.program().words().is_empty() || everywhere(&policy.scan),
            };
        if allowed {
            Ok(Cell { checked: Arc::clone(checked), src, dst, action })
        } else {
            Err(NotAllowed { src, dst, action })
        }
    }
    /// The program.
    #[must_use]
    pub const fn checked(&self) -> &Arc<Checked> {
        &self.checked
    }
    /// Where its packets come from.
    #[must_use]
    pub const fn src(&self) -> Prefix {
        self.src
    }
    /// Where they go to.
    #[must_use]
    pub const fn dst(&self) -> Prefix {
        self.dst
    }
    /// What is done with them.
    #[must_use]
    pub const fn action(&self) -> Action {
        self.action
    }
    /// Leave to drop any packet of the cell, where that is its action.
    #[must_use]
    pub const fn permit(&self) -> Option<DiscardPermit> {
        match self.action {
            Action::Discard => Some(DiscardPermit(())),
            Action::Run => None,
        }
    }
}

/// Leave for a running program to drop the packet from `src` to `dst`, if the policy gives it.
#[must_use]
pub fn discard(checked: &Checked, src: Addr, dst: Addr) -> Option<DiscardPermit> {
    let allowed = checked.policy().discard.eval(checked.owner(), src, dst);
    (allowed == Ok(true)).then_some(DiscardPermit(()))
}

/// Whether `formula` holds of all packets from `src` to `dst` (true), of none (false), or this cannot be told (none).
fn of_all(formula: &Formula, owner: &Principal, src: Prefix, dst: Prefix) -> Result<Option<bool>, Unset> {
    let prefix = |field: Field| if field == Field::Src { src } else { dst };
    Ok(match formula {
        Formula::True => Some(true),
        Formula::False => Some(false),
        Formula::Owns(field) => {
            let prefix = prefix(*field);
            if owner.owned().covers(prefix) {
                Some(true)
            } else if owner.owned().overlaps(prefix) {
                None
            } else {
                Some(false)
            }
        }
        Formula::In(field, addrs) => {
            let (prefix, set) = (prefix(*field), addrs.resolve(owner)?);
            if set.covers(prefix) {
                Some(true)
            } else if set.overlaps(prefix) {
                None
            } else {
                Some(false)
            }
        }
        Formula::Not(a) => of_all(a, owner, src, dst)?.map(|held| !held),
        Formula::And(a, b) => match (of_all(a, owner, src, dst)?, of_all(b, owner, src, dst)?) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        },
        Formula::Or(a, b) => match (of_all(a, owner, src, dst)?, of_all(b, owner, src, dst)?) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        },
    })
}
