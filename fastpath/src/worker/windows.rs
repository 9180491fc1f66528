//! Programs that look at several packets together, or generate some: their windows on this worker.
//!
//! A packet that meets such a program waits in the program's window until that is full or its time is up. Then the
//! program is run on the window, what it generates is sent, and what it left goes on to the next program and out, in
//! order. A program with windows of one packet that generates something has windows that are full at once.
//!
//! Packets of one flow meet the same programs, so windows never change their order: a packet that its program is not to
//! be run on, because the owner is over its rate and the policy says to forward, waits in the window as a *bystander*
//! where others wait.
//!
//! All windows of a worker together hold a bounded number of packets. Where one more comes, the window that was begun
//! first is run on what it holds: a shorter window is a window too, and nothing is lost. A worker that sees a new epoch
//! looks whether the installations of its windows are still there, and lets the packets of one that is not go on
//! without it. Nothing here refers to a program from one turn to the next: a window has its name, and it is found again
//! where its packets meet it.

use std::ops::ControlFlow;

use vinet_pktops::Verdict;
use vinet_pktops::generate::Generated;
use vinet_pktops::parse::{self, Headers};
use vinet_trusted::addr::Addr;
use vinet_trusted::program::WINDOW_MAX;

use super::originate::{Draft, mtu_towards};
use super::programs::Ran;
use super::{Context, Exit};
use crate::counters::Tally;
use crate::drop_reason::DropReason;
use crate::flow_table::{FlowTable, Found, Generator, InstallId, Installed, NotSent, TableScratch};
use crate::judge::{Lane, Way};
use crate::port::{PacketBuf, PacketPool, TxQueue};
use crate::publication::{Epoch, Reader};
use crate::trace::{Acted, Decision};
use crate::window::{WindowNumber, Windows};

/// The most packets that one run of a program sends.
const GENERATED_PER_RUN_MAX: usize = 1024;

/// A packet that waits in a window.
pub(super) struct Waiting<B> {
    packet: B,
    lane: Lane,
    /// Its source and destination.
    pair: (Addr, Addr),
    headers: Headers,
    input: u16,
    mark: Mark,
}

/// How a packet waits.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    /// The program is not run on it; it only keeps its place.
    pub(super) is_bystander: bool,
    /// What comes of it is told.
    pub(super) is_traced: bool,
}

/// A worker's windows, and room for running them.
pub(super) struct WindowRoom<B> {
    windows: Windows<Waiting<B>>,
    scratch: TableScratch,
    verdicts: Vec<Verdict>,
    /// What the run under way generates.
    generated: Vec<B>,
    /// Where packets of our own are written.
    pub(super) draft: Draft,
    /// The epoch in which the installations of the windows were last seen.
    epoch: Epoch,
}

impl<B: PacketBuf> WindowRoom<B> {
    /// Room for so many packets in all windows together.
    pub(super) fn new(packets_max: usize) -> WindowRoom<B> {
        WindowRoom {
            windows: Windows::new(packets_max),
            scratch: TableScratch::new(),
            verdicts: Vec::with_capacity(usize::from(WINDOW_MAX)),
            generated: Vec::with_capacity(GENERATED_PER_RUN_MAX),
            draft: Draft::new(),
            epoch: 0,
        }
    }
    /// Packets that wait.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.windows.len()
    }
    /// A time before which nothing has to be done here; none where no packet waits.
    #[inline]
    pub(super) fn earliest_ns(&self) -> Option<u64> {
        self.windows.earliest_ns()
    }
    /// Drops every packet and tells how many there were.
    pub(super) fn clear(&mut self) -> usize {
        self.windows.clear()
    }
}

/// What the table says now of a packet with these addresses.
fn look_up<'r>(
    scratch: &mut TableScratch,
    (src, dst): (Addr, Addr),
    reader: &'r Reader,
    table: &'r FlowTable,
) -> Option<Found<'r>> {
    scratch.push(0, src, dst);
    table.look_up(reader, scratch).get(0)
}

/// The installation `id`, where a packet with these addresses still meets it.
fn find<'r>(
    scratch: &mut TableScratch,
    pair: (Addr, Addr),
    id: InstallId,
    reader: &'r Reader,
    table: &'r FlowTable,
) -> Option<&'r Installed> {
    let found = look_up(scratch, pair, reader, table)?;
    let mut installed = None;
    table.each_run(reader, pair, &found, None, |program| {
        if program.id() < id {
            return ControlFlow::Continue(());
        }
        installed = Some(program).filter(|program| program.id() == id);
        ControlFlow::Break(())
    });
    installed
}

impl<T, P> Exit<T, P>
where
    T: TxQueue,
    P: PacketPool<Buf = T::Buf>,
{
    /// Has a packet wait in the window of a program that it meets, and runs every window that is due by that.
    #[cold]
    #[inline(never)]
    pub(super) fn wait(
        &mut self,
        packet: T::Buf,
        lane: (&Lane, (Addr, Addr)),
        program: &Installed,
        mark: Mark,
        context: &Context<'_>,
    ) {
        // Each turn of this loop brings the packets of a window on by one program, or out.
        while self.room.windows.is_full() && self.room.windows.close_oldest() {
            self.tally.totals.windows_cut += 1;
            self.run_due(context);
        }
        self.enter(packet, lane, program, mark, context);
        self.run_due(context);
    }

    /// Puts a packet into the window of a program.
    fn enter(
        &mut self,
        packet: T::Buf,
        (lane, pair): (&Lane, (Addr, Addr)),
        program: &Installed,
        mark: Mark,
        context: &Context<'_>,
    ) {
        let &Context { reader, input, now_ns, .. } = context;
        let (Some(terms), Ok(headers)) = (program.window(), parse::headers(packet.bytes())) else {
            // It was read before and the program has windows, so this does not happen; and if, nothing is lost.
            return self.go_on(packet, lane, context);
        };
        let waiting = Waiting { packet, lane: *lane, pair, headers, input, mark };
        match self.room.windows.add(program.open_window(reader), program.id(), terms, now_ns, waiting) {
            Ok(number) => program.set_open_window(reader, Some(number)),
            // There is room: `wait` has made it, or the packet has just left its place.
            Err(waiting) => self.go_on(waiting.packet, lane, context),
        }
    }

    /// Whether packets wait for a program, so that those behind them have to wait too.
    pub(super) fn waits_for(&self, program: &Installed, reader: &Reader) -> bool {
        program.open_window(reader).is_some_and(|window| self.room.windows.is_of(window, program.id()))
    }

    /// Runs the windows whose time is up, and lets the packets go whose programs are gone.
    pub(super) fn attend_to_windows(&mut self, context: &Context<'_>) {
        let &Context { reader, table, now_ns, .. } = context;
        let WindowRoom { windows, scratch, epoch, .. } = &mut self.room;
        let is_new = *epoch != reader.epoch();
        *epoch = reader.epoch();
        if is_new || windows.earliest_ns().is_some_and(|at| at <= now_ns) {
            windows.close_those(now_ns, |id, first: &Waiting<T::Buf>| {
                is_new && find(scratch, first.pair, id, reader, table).is_none()
            });
        }
        self.run_due(context);
        self.free_dropped();
    }

    /// Runs every window that is due, until none is.
    fn run_due(&mut self, context: &Context<'_>) {
        // A packet that comes out of a window waits only for later programs, so this ends.
        while let Some((number, id)) = self.room.windows.pop_due() {
            self.run_window(number, id, context);
        }
    }

    fn run_window(&mut self, number: WindowNumber, id: InstallId, context: &Context<'_>) {
        let &Context { reader, table, .. } = context;
        let WindowRoom { windows, scratch, .. } = &mut self.room;
        // The first packet finds it, unless a verdict on that packet's addresses has come into force meanwhile.
        let program = windows.packets(number).find_map(|waiting| find(scratch, waiting.pair, id, reader, table));
        if let Some(program) = program {
            if program.open_window(reader) == Some(number) {
                program.set_open_window(reader, None);
            }
            self.run_on_window(program, number, context);
        }
        let mut verdicts = std::mem::take(&mut self.room.verdicts);
        let mut judged = verdicts.drain(..);
        // As many as there are now: behind the last of them the number may be that of another window.
        for _ in 0..self.room.windows.packets(number).count() {
            let Some(waiting) = self.room.windows.take(number) else { break };
            let verdict = if waiting.mark.is_bystander { None } else { judged.next() };
            let judged = verdict.zip(program);
            if waiting.mark.is_traced {
                self.release_traced(waiting, judged, id, context);
            } else {
                self.release(waiting, judged, id, context, &mut |_, _| ());
            }
        }
        drop(judged);
        self.room.verdicts = verdicts;
    }

    /// Does with a packet what the program of its window decided, if that was asked; tells `act` what it and later programs
    /// decide. Gives the port by which the packet leaves, if it does, and the program that it waits for now.
    fn release(
        &mut self,
        waiting: Waiting<T::Buf>,
        judged: Option<(Verdict, &Installed)>,
        id: InstallId,
        context: &Context<'_>,
        act: &mut impl FnMut(InstallId, Decision),
    ) -> (u16, Option<InstallId>) {
        let &Context { reader, table, .. } = context;
        let len = waiting.packet.bytes().len();
        match judged {
            // Only the gate makes a permit, and only with one is the packet dropped.
            Some((Verdict::Discard(_permit), program)) => {
                table.counters().discarded(reader, program.slot(), len);
                if program.is_monitored() {
                    act(id, Decision::WouldDiscard);
                    return self.go_to_next(waiting, id, context, act);
                }
                act(id, Decision::Discard);
                let port = waiting.lane.station.port();
                self.drop(waiting.packet, DropReason::Program);
                (port, None)
            }
            Some((Verdict::Forward, program)) => {
                table.counters().passed(reader, program.slot(), len);
                act(id, Decision::Pass);
                self.go_to_next(waiting, id, context, act)
            }
            None => self.go_to_next(waiting, id, context, act),
        }
    }

    /// The same for a packet that is traced.
    #[cold]
    fn release_traced(
        &mut self,
        waiting: Waiting<T::Buf>,
        judged: Option<(Verdict, &Installed)>,
        id: InstallId,
        context: &Context<'_>,
    ) {
        let record = self.trace.begin(waiting.packet.bytes(), waiting.input, context.now_ns);
        let (before, mut acted) = (self.before(), Acted::NONE);
        let (port, waits) = self.release(waiting, judged, id, context, &mut |id, decision| acted.push(id, decision));
        let fate = self.fate(&before, port, waits);
        self.trace.end(record, fate, acted);
    }

    /// Runs a program on a window: verdicts to `self.room`, what it generates on its way.
    fn run_on_window(&mut self, program: &Installed, number: WindowNumber, context: &Context<'_>) {
        let &Context { reader, table, fib, now_ns, .. } = context;
        let counters = table.counters();
        let Exit { room, pool, tally, faces, .. } = self;
        let WindowRoom { windows, verdicts, generated, draft, .. } = room;
        let mut packets = windows.packets(number).filter(|waiting| !waiting.mark.is_bystander).peekable();
        let Some(first) = packets.peek() else { return };
        let mut frames: [(&[u8], &Headers); WINDOW_MAX as usize] = [(&[], &first.headers); WINDOW_MAX as usize];
        let mut len = 0;
        for (waiting, frame) in packets.zip(&mut frames) {
            *frame = (waiting.packet.bytes(), &waiting.headers);
            len += 1;
        }
        let is_monitored = program.is_monitored();
        let mut send = |what: &Generated<'_>, generator: &mut Generator| {
            let mtu = mtu_towards(what.dst, fib, faces);
            let mut each = |packet: &[u8]| {
                if is_monitored {
                    return counters.generated(reader, program.slot(), packet.len());
                }
                tally.totals.generated += 1;
                if generated.len() == GENERATED_PER_RUN_MAX {
                    return tally.drop_packet(DropReason::GenerateUnsendable);
                }
                draft.room()[..packet.len()].copy_from_slice(packet);
                match draft.packet(packet.len(), pool) {
                    Some(made) => {
                        counters.generated(reader, program.slot(), packet.len());
                        generated.push(made);
                    }
                    None => tally.drop_packet(DropReason::GenerateNoBuffer),
                }
            };
            match generator.send(what, mtu, now_ns, &mut each) {
                Ok(()) => {}
                Err(NotSent::OverRate { packets }) => {
                    counters.generate_refused(reader, program.slot(), packets);
                    if !is_monitored {
                        not_made(tally, DropReason::GenerateOverRate, u64::from(packets));
                    }
                }
                Err(NotSent::Unsendable) if is_monitored => {}
                Err(NotSent::Unsendable) => not_made(tally, DropReason::GenerateUnsendable, 1),
            }
        };
        program.run_window(reader, &frames[..len], now_ns, verdicts, &mut send);
        let mut generated = std::mem::take(generated);
        for packet in generated.drain(..) {
            self.originate(packet, context);
        }
        self.room.generated = generated;
    }

    /// Brings a packet that a program left to the next one, or out; tells as [`Exit::release`] does.
    fn go_to_next(
        &mut self,
        waiting: Waiting<T::Buf>,
        after: InstallId,
        context: &Context<'_>,
        act: &mut impl FnMut(InstallId, Decision),
    ) -> (u16, Option<InstallId>) {
        let Waiting { packet, mut lane, pair, input, mark, .. } = waiting;
        let context = &Context { input, ..*context };
        let &Context { reader, table, fib, .. } = context;
        // What is in force now counts: routes, and programs.
        lane.route_again(fib, pair.1, packet.bytes().len());
        let port = lane.station.port();
        if lane.way == Way::Kernel {
            self.give_to_kernel(packet, lane.l3_offset, input);
            return (port, None);
        }
        let found = look_up(&mut self.room.scratch, pair, reader, table);
        if let Some(slot) = found.and_then(|found| found.discard) {
            act(table.id_of(slot), Decision::Discard);
        }
        let ran = match found {
            Some(found) => self.run_programs(packet.bytes(), pair, &found, Some(after), context, act),
            None => Ran::Forward,
        };
        let waits = ran.waits();
        match ran {
            Ran::Forward => self.go_on(packet, &lane, context),
            Ran::Drop(reason) => self.drop(packet, reason),
            Ran::Wait { program, is_bystander } => {
                let mark = Mark { is_bystander, ..mark };
                self.enter(packet, (&lane, pair), program, mark, context);
            }
        }
        (port, waits)
    }
}

/// Counts packets that were to be generated and are not.
fn not_made(tally: &mut Tally, reason: DropReason, packets: u64) {
    tally.totals.generated += packets;
    tally.drop_packets(reason, packets);
}
