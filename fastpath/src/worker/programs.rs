//! Running the programs that a packet meets.

use std::ops::ControlFlow;

use vinet_pktops::parse;
use vinet_trusted::addr::Addr;

use super::{Context, Exit};
use crate::drop_reason::DropReason;
use crate::flow_table::{Found, Outcome};
use crate::port::{PacketPool, TxQueue};

impl<T, P> Exit<T, P>
where
    T: TxQueue,
    P: PacketPool<Buf = T::Buf>,
{
    /// Runs a packet's programs, in order; tells why it is dropped, if it is.
    #[inline(never)]
    pub(super) fn run_programs(
        &mut self,
        frame: &[u8],
        pair: (Addr, Addr),
        found: &Found<'_>,
        context: &Context<'_>,
    ) -> Option<DropReason> {
        let Context { reader, table, now_ns, .. } = *context;
        let counters = table.counters();
        if let Some(program) = found.discard {
            counters.discarded(reader, program, frame.len());
            return Some(DropReason::Program);
        }
        // It was read before, so this is no surprise.
        let headers = parse::headers(frame).ok()?;
        let mut reason = None;
        table.each_run(reader, pair, found, |program| {
            let outcome = program.run(reader, frame, &headers, now_ns);
            match outcome {
                Outcome::Forward => counters.passed(reader, program.slot(), frame.len()),
                Outcome::Discard => counters.discarded(reader, program.slot(), frame.len()),
                Outcome::OverBudgetForward | Outcome::OverBudgetDrop => counters.over_budget(reader, program.slot()),
            }
            match outcome {
                Outcome::Forward => ControlFlow::Continue(()),
                Outcome::OverBudgetForward => {
                    self.tally.totals.over_budget_forwarded += 1;
                    ControlFlow::Continue(())
                }
                Outcome::Discard => {
                    reason = Some(DropReason::Program);
                    ControlFlow::Break(())
                }
                Outcome::OverBudgetDrop => {
                    reason = Some(DropReason::OverBudget);
                    ControlFlow::Break(())
                }
            }
        });
        reason
    }
}
