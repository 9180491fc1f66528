//! The gates: the only ways in which a program can have an effect.
//!
//! What runs on the fast path is a lowering of the checked bytes that nobody has to trust: a flow table takes only
//! [`Cell`]s, a packet is dropped on a program's behalf only with a [`DiscardPermit`], looked into only with a
//! [`ScanPermit`], and made only with a [`GeneratePermit`]. All come from a [`Checked`], and making one evaluates the
//! policy's formula again: once for a cell where only addresses matter, so that a table verdict costs nothing, and once
//! for each packet otherwise.

use crate::addr::{Addr, Prefix, Principal, Unset};
use crate::check::Checked;
use crate::packet::{Field, Packet, Test};
use alloc::sync::Arc;
use core::fmt;

/// What is done with the packets of a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Every packet is dropped: a table verdict.
    Discard,
    /// The program is given every packet, and may ask to look into it and to discard it.
    Run,
}

/// The packets from one prefix to another that a program is given. Holding one proves that they go to its owner, and
/// that the policy allows to drop every one of them where that is the action.
#[derive(Clone, Debug)]
pub struct Cell {
    checked: Arc<Checked>,
    src: Prefix,
    dst: Prefix,
    action: Action,
    scan: Option<ScanPermit>,
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

/// Leave to look into one packet on a program's behalf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanPermit(());

/// Leave to send packets on a program's behalf, between these addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GeneratePermit {
    src: Addr,
    dst: Addr,
}

impl GeneratePermit {
    /// The source address of what is sent.
    #[must_use]
    pub const fn src(&self) -> Addr {
        self.src
    }
    /// Where it is sent to.
    #[must_use]
    pub const fn dst(&self) -> Addr {
        self.dst
    }
}

impl Cell {
    /// The cell of packets from `src` (length 0: any source of the family) to `dst`.
    ///
    /// # Errors
    /// [`NotAllowed`] unless they go to the owner and, for [`Action::Discard`], the policy allows to drop all of them.
    /// What a running program then does is asked packet by packet, of [`discard`] and [`scan`].
    pub fn new(checked: &Arc<Checked>, src: Prefix, dst: Prefix, action: Action) -> Result<Cell, NotAllowed> {
        let policy = checked.policy();
        let owner = checked.owner();
        let everywhere = |test| of_all(test, owner, src, dst) == Ok(Some(true));
        if owner.owned().covers(dst) && (action == Action::Run || everywhere(&policy.discard)) {
            let scan = everywhere(&policy.scan).then_some(ScanPermit(()));
            Ok(Cell { checked: Arc::clone(checked), src, dst, action, scan })
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
    /// Leave to look into any packet of the cell, where the policy gives it for all of them.
    #[must_use]
    pub const fn scan_permit(&self) -> Option<ScanPermit> {
        self.scan
    }
}

/// Leave for a running program to drop `packet`, if the policy gives it.
#[must_use]
pub fn discard(checked: &Checked, packet: &Packet) -> Option<DiscardPermit> {
    allows(checked, &checked.policy().discard, packet).then_some(DiscardPermit(()))
}

/// Leave for a running program to look into `packet`, if the policy gives it.
#[must_use]
pub fn scan(checked: &Checked, packet: &Packet) -> Option<ScanPermit> {
    allows(checked, &checked.policy().scan, packet).then_some(ScanPermit(()))
}

/// Leave for a running program to send packets from `src` to `dst`, if the policy gives it.
#[must_use]
pub fn generate(checked: &Checked, src: Addr, dst: Addr) -> Option<GeneratePermit> {
    allows(checked, &checked.policy().generate, &Packet::between(src, dst)).then_some(GeneratePermit { src, dst })
}

fn allows(checked: &Checked, test: &Test, packet: &Packet) -> bool {
    // A policy's formula reads no slots.
    test.eval(checked.owner(), packet, &|_| packet.dst) == Ok(true)
}

/// Whether `test` holds of all packets from `src` to `dst` (true), of none (false), or this cannot be told (none).
fn of_all(test: &Test, owner: &Principal, src: Prefix, dst: Prefix) -> Result<Option<bool>, Unset> {
    let prefix = |field: &Field| if *field == Field::Src { src } else { dst };
    let tell = |all, some| {
        if all {
            Some(true)
        } else if some {
            None
        } else {
            Some(false)
        }
    };
    Ok(match test {
        Test::True => Some(true),
        Test::False => Some(false),
        Test::Owns { field } => {
            let (owned, prefix) = (owner.owned(), prefix(field));
            tell(owned.covers(prefix), owned.overlaps(prefix))
        }
        Test::In { field, addrs } => {
            let (set, prefix) = (addrs.resolve(owner)?, prefix(field));
            tell(set.covers(prefix), set.overlaps(prefix))
        }
        Test::Is { .. } | Test::Number { .. } => None,
        Test::Not { a } => of_all(a, owner, src, dst)?.map(|held| !held),
        Test::And { a, b } => match (of_all(a, owner, src, dst)?, of_all(b, owner, src, dst)?) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        },
        Test::Or { a, b } => match (of_all(a, owner, src, dst)?, of_all(b, owner, src, dst)?) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        },
    })
}
