//! Running the programs that a packet meets.

use std::ops::ControlFlow;

use vinet_pktops::parse;
use vinet_trusted::addr::Addr;
use vinet_trusted::policy::OverBudget;

use super::{Context, Exit};
use crate::drop_reason::DropReason;
use crate::flow_table::{Found, InstallId, Installed, Outcome};
use crate::port::{PacketPool, TxQueue};
use crate::trace::Decision;

/// What comes of a packet's programs.
pub(super) enum Ran<'r> {
    /// It goes on.
    Forward,
    /// It is dropped.
    Drop(DropReason),
    /// It waits in the window of a program.
    Wait {
        /// Which.
        program: &'r Installed,
        /// Whether the program is not to be run on it.
        is_bystander: bool,
    },
}

impl Ran<'_> {
    /// The program in whose window it waits, if it does.
    pub(super) fn waits(&self) -> Option<InstallId> {
        match self {
            Ran::Wait { program, .. } => Some(program.id()),
            Ran::Forward | Ran::Drop(_) => None,
        }
    }
}

impl<T, P> Exit<T, P>
where
    T: TxQueue,
    P: PacketPool<Buf = T::Buf>,
{
    /// Runs a packet's programs, in order, from the one behind `after` on, and tells `act` what each decided. A verdict is
    /// for the caller to tell.
    #[inline(never)]
    pub(super) fn run_programs<'r>(
        &mut self,
        frame: &[u8],
        pair: (Addr, Addr),
        found: &Found<'r>,
        after: Option<InstallId>,
        context: &Context<'r>,
        act: &mut impl FnMut(InstallId, Decision),
    ) -> Ran<'r> {
        let Context { reader, table, now_ns, .. } = *context;
        let counters = table.counters();
        if let Some(program) = found.discard {
            counters.discarded(reader, program, frame.len());
            return Ran::Drop(DropReason::Program);
        }
        // It was read before, so this is no surprise. The answer stays where it was written: to move it at once is to wait.
        let parsed = parse::headers(frame);
        let Ok(headers) = &parsed else { return Ran::Forward };
        let mut ran = Ran::Forward;
        table.each_run(reader, pair, found, after, |program| {
            if program.window().is_some() {
                let over_budget = program.meter(reader, now_ns);
                if over_budget.is_some() {
                    counters.over_budget(reader, program.slot());
                }
                act(program.id(), if over_budget.is_none() { Decision::Wait } else { Decision::OverBudget });
                return match over_budget {
                    None => {
                        ran = Ran::Wait { program, is_bystander: false };
                        ControlFlow::Break(())
                    }
                    Some(OverBudget::Drop) => {
                        ran = Ran::Drop(DropReason::OverBudget);
                        ControlFlow::Break(())
                    }
                    Some(OverBudget::Forward) => {
                        self.tally.totals.over_budget_forwarded += 1;
                        if !self.waits_for(program, reader) {
                            return ControlFlow::Continue(());
                        }
                        ran = Ran::Wait { program, is_bystander: true };
                        ControlFlow::Break(())
                    }
                };
            }
            let outcome = program.run(reader, frame, headers, now_ns);
            act(program.id(), decision(outcome));
            match outcome {
                Outcome::Forward => counters.passed(reader, program.slot(), frame.len()),
                Outcome::Discard | Outcome::WouldDiscard => counters.discarded(reader, program.slot(), frame.len()),
                Outcome::OverBudgetForward | Outcome::OverBudgetDrop => counters.over_budget(reader, program.slot()),
            }
            match outcome {
                Outcome::Forward | Outcome::WouldDiscard => ControlFlow::Continue(()),
                Outcome::OverBudgetForward => {
                    self.tally.totals.over_budget_forwarded += 1;
                    ControlFlow::Continue(())
                }
                Outcome::Discard => {
                    ran = Ran::Drop(DropReason::Program);
                    ControlFlow::Break(())
                }
                Outcome::OverBudgetDrop => {
                    ran = Ran::Drop(DropReason::OverBudget);
                    ControlFlow::Break(())
                }
            }
        });
        ran
    }
}

fn decision(outcome: Outcome) -> Decision {
    match outcome {
        Outcome::Forward => Decision::Pass,
        Outcome::Discard => Decision::Discard,
        Outcome::WouldDiscard => Decision::WouldDiscard,
        Outcome::OverBudgetForward | Outcome::OverBudgetDrop => Decision::OverBudget,
    }
}
