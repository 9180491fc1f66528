//! The worker: one thread that polls its receive queue of every port and runs each packet to completion.
//!
//! This file is the packet's way, top to bottom: receive, parse and judge, look up, act (run programs, forward, hold,
//! complain, give to the kernel), send. A burst is classified whole before anything is looked up, and looked up whole
//! before anything is done, so that the memory that the look-ups need is fetched together. What most packets need is done
//! to all of them together: plain ones are judged eight at a time, and those that just leave are queued port by port.
//! Packets that leave by one port leave in the order in which they came.
//!
//! While it polls a worker allocates nothing, takes no lock, and makes no system call of its own. Once per turn (a
//! burst from each port) it reports quiescence, reads the clock, and shows its counters. With [`Idle::Backoff`] it
//! sleeps after some empty turns, and nobody waits for it meanwhile.
//!
//! Who meets programs: transit packets that enter by a port with controlled prefixes, from a source in them. Any
//! other source is dropped there (strict source validation), but for what hosts need before they have an address. An
//! uplink, a port without controlled prefixes, has neither. The kernel's own packets pass by all of this.
//!
//! What the costs ought to be, for 64-byte IPv4 packets on one core: receive and send are the driver's; judging with
//! the checksum and the route 4 ns, eight at a time; the link header, hop and queue 3 ns; the programs' front 2 ns where
//! programs are installed and none wants the packet. `l3fwd` takes 4.8 ns beyond the driver for what it does of this.

mod expand;
mod kernel;
mod originate;
mod programs;
mod rarely;
mod trace;
mod windows;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vinet_pktops::parse::{Family, Headers};
use vinet_trusted::addr::Addr;

use crate::clock::Clock;
use crate::counters::{CounterBoard, Tally};
use crate::distributor::Distributor;
use crate::drop_reason::DropReason;
use crate::expander::Expander;
use crate::fib::{Fib, FibRoot, Hop, Neighbour};
use crate::flow_table::{Findings, FlowTable, Found, Meter, Sought, TableScratch};
use crate::fragment::FragmentScratch;
use crate::hold::{HoldQueue, ResolveSender};
use crate::judge::{Lane, Lanes, Together, Way};
use crate::link::{self, Face};
use crate::port::{BURST_LEN_MAX, Burst, Hand, PacketBuf, PacketPool, RxQueue, TxQueue, numbers};
use crate::publication::Reader;
use crate::queue::{Flushed, OutputQueue};
use crate::settings::{Idle, Settings};
use crate::slow_path::SlowPathEnd;
use crate::trace::{TraceEnd, TraceRoot};
use programs::Ran;
use windows::{Mark, WindowRoom};

/// Empty turns after which a worker that backs off sleeps.
const EMPTY_TURNS_MAX: u32 = 200;
/// The first sleep; each further one is longer.
const SLEEP_MIN: Duration = Duration::from_micros(50);
/// The longest sleep.
const SLEEP_MAX: Duration = Duration::from_micros(200);
/// Empty turns after which the counters are shown although only the turns have changed.
const SHOW_TURNS: u64 = 1024;
/// Questions a second about next hops that are known not to answer; the kernel asks each at most once a second.
const FAILED_ASKS_PPS: u32 = 200;

/// What a worker is made of. [`Worker::run`] polls until it is told to stop.
pub(crate) struct Worker<R, T: TxQueue, P> {
    reader: Reader,
    table: Arc<FlowTable>,
    fib: Arc<FibRoot>,
    tracing: Arc<TraceRoot>,
    stop: Arc<AtomicBool>,
    board: CounterBoard,
    clock: Clock,
    /// When the turn began that had something to do, until the next begins.
    busy_since_ns: Option<u64>,
    idle: Idle,
    rx: Vec<Option<R>>,
    /// Where some port's packets are not kept on one worker by their source.
    distributor: Option<Distributor<T::Buf>>,
    burst: Burst<T::Buf>,
    together: Option<Together>,
    lanes: Box<Lanes>,
    scratch: TableScratch,
    fib_generation: u64,
    exit: Exit<T, P>,
}

/// The half of a worker through which packets leave it, whichever way.
struct Exit<T: TxQueue, P> {
    faces: Arc<[Face]>,
    tx: Vec<T>,
    queues: Vec<OutputQueue<T::Buf>>,
    /// The time of the turn, for the queues.
    now_ns: u64,
    hold: HoldQueue<T::Buf>,
    resolve: ResolveSender,
    slow_path: SlowPathEnd,
    pool: P,
    icmp: Meter,
    /// How often next hops are asked for again that did not answer.
    failed_asks: Meter,
    cutter: FragmentScratch,
    fragments: Burst<T::Buf>,
    /// Packets that wait for programs that look at several together.
    room: WindowRoom<T::Buf>,
    expander: Option<Box<Expander>>,
    /// Dropped packets, given back to their pool together.
    dropped: Burst<T::Buf>,
    tally: Tally,
    trace: TraceEnd,
}

/// What a worker is given.
pub(crate) struct Parts<R, T: TxQueue, P> {
    pub(crate) reader: Reader,
    pub(crate) table: Arc<FlowTable>,
    pub(crate) fib: Arc<FibRoot>,
    pub(crate) tracing: Arc<TraceRoot>,
    pub(crate) trace: TraceEnd,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) board: CounterBoard,
    pub(crate) slow_path: SlowPathEnd,
    pub(crate) resolve: ResolveSender,
    pub(crate) faces: Arc<[Face]>,
    pub(crate) queues: Vec<OutputQueue<T::Buf>>,
    pub(crate) rx: Vec<Option<R>>,
    pub(crate) tx: Vec<T>,
    pub(crate) distributor: Option<Distributor<T::Buf>>,
    pub(crate) pool: P,
}

/// What a worker gives back: its queues, by port, its pool, and what other workers still handed over to it.
pub(crate) struct Remains<R, T: TxQueue, P> {
    pub(crate) rx: Vec<Option<R>>,
    pub(crate) tx: Vec<T>,
    pub(crate) distributor: Option<Distributor<T::Buf>>,
    pub(crate) pool: P,
}

impl<R, T, P> Worker<R, T, P>
where
    R: RxQueue<Buf = T::Buf>,
    T: TxQueue,
    P: PacketPool<Buf = T::Buf>,
{
    pub(crate) fn new(parts: Parts<R, T, P>, settings: &Settings) -> Self {
        let ports = parts.faces.len();
        Worker {
            reader: parts.reader,
            table: parts.table,
            fib: parts.fib,
            tracing: parts.tracing,
            stop: parts.stop,
            board: parts.board,
            clock: Clock::get(),
            busy_since_ns: None,
            idle: settings.idle,
            rx: parts.rx,
            distributor: parts.distributor,
            burst: Burst::with_len_max(settings.burst_len),
            together: Together::get(),
            lanes: Box::new(Lanes::EMPTY),
            scratch: TableScratch::new(),
            fib_generation: 0,
            exit: Exit {
                faces: parts.faces,
                tx: parts.tx,
                queues: parts.queues,
                now_ns: 0,
                hold: HoldQueue::new(settings.hold),
                resolve: parts.resolve,
                slow_path: parts.slow_path,
                pool: parts.pool,
                icmp: Meter::with_burst(settings.icmp.rate_pps, settings.icmp.burst),
                failed_asks: Meter::with_burst(FAILED_ASKS_PPS, FAILED_ASKS_PPS / 10),
                cutter: FragmentScratch::new(),
                fragments: Burst::new(),
                room: WindowRoom::new(settings.window_packets_max),
                expander: Expander::new(&settings.expand, settings.expand_limits).map(Box::new),
                dropped: Burst::new(),
                tally: Tally::new(ports),
                trace: parts.trace,
            },
        }
    }

    /// Polls until it is told to stop, and gives everything back.
    pub(crate) fn run(mut self) -> Remains<R, T, P> {
        let mut empty_turns = 0;
        let mut sleep = SLEEP_MIN;
        // Relaxed: nothing is read on the strength of it but the wish to stop.
        while !self.stop.load(Ordering::Relaxed) {
            if self.turn() {
                (empty_turns, sleep) = (0, SLEEP_MIN);
                continue;
            }
            empty_turns += 1;
            if self.idle == Idle::Backoff && empty_turns > EMPTY_TURNS_MAX {
                self.board.show(&mut self.exit.tally);
                // Nobody sleeps longer than the first window waits.
                let due = self.exit.room.earliest_ns().map(|at| at.saturating_sub(self.clock.now_ns()));
                let sleep_now = due.map_or(sleep, |due_ns| sleep.min(Duration::from_nanos(due_ns)));
                self.reader.while_offline(|| std::thread::sleep(sleep_now));
                sleep = (sleep * 2).min(SLEEP_MAX);
            }
        }
        self.finish()
    }

    /// One burst from every port, and what time brings. Tells whether there was anything to do.
    fn turn(&mut self) -> bool {
        self.reader.quiescent();
        let now_ns = self.clock.now_ns();
        if let Some(since_ns) = self.busy_since_ns.take() {
            self.exit.tally.totals.busy_ns += now_ns.saturating_sub(since_ns);
        }
        self.exit.now_ns = now_ns;
        if self.exit.room.len() > 0 || self.exit.expander.as_ref().is_some_and(|e| e.earliest_ns() <= now_ns) {
            self.attend_to_waiting(now_ns);
        }
        let mut received = 0;
        for port in 0..self.rx.len() {
            received += self.receive(port, now_ns);
        }
        received += self.take_over(now_ns);
        let sent_for_kernel = self.exit.take_from_kernel();
        self.attend_to_held(now_ns);
        let is_idle = !self.exit.flush() && received == 0 && !sent_for_kernel;

        let totals = &mut self.exit.tally.totals;
        totals.held = (self.exit.hold.len() + self.exit.room.len()) as u64;
        totals.queued = self.exit.queues.iter().map(|queue| queue.len() as u64).sum();
        totals.turns += 1;
        totals.turns_empty += u64::from(received == 0);
        // The next turn begins when this one ends, so the one reading of the clock serves both.
        self.busy_since_ns = (!is_idle).then_some(now_ns);
        if !is_idle || totals.turns.is_multiple_of(SHOW_TURNS) {
            self.board.show(&mut self.exit.tally);
        }
        !is_idle
    }

    /// Receives a burst from one port and does all that is to be done with it.
    fn receive(&mut self, port: usize, now_ns: u64) -> usize {
        let Some(rx) = &mut self.rx[port] else { return 0 };
        let received = rx.receive(&mut self.burst);
        if let Some(distributor) = &mut self.distributor
            && received > 0
        {
            distributor.scatter(port, &mut self.burst, &mut self.exit.tally);
        }
        self.handle(port, now_ns);
        received
    }

    /// Does what is to be done with the packets that other workers received and that are this one's.
    fn take_over(&mut self, now_ns: u64) -> usize {
        let mut taken = 0;
        while let Some(distributor) = &mut self.distributor
            && let Some(port) = distributor.take_over(&mut self.burst, &mut self.exit.tally)
        {
            taken += self.burst.len();
            self.handle(port, now_ns);
        }
        taken
    }

    /// Does all that is to be done with a burst that came by a port.
    #[inline]
    fn handle(&mut self, port: usize, now_ns: u64) {
        let received = self.burst.len();
        if received == 0 {
            return;
        }
        let mut bytes = 0;
        for packet in self.burst.packets() {
            packet.prefetch();
            bytes += packet.bytes().len() as u64;
        }
        let meets_programs = self.exit.faces[port].controlled.is_some() && !self.table.is_empty_for(&self.reader);

        // Parse, judge, and look up the route: what is for the router itself is no transit and meets no programs.
        let (fib, face) = (self.fib.read(&self.reader), &self.exit.faces[port]);
        let packets = self.burst.packets();
        let Lanes { lanes, wide, plain } = &mut *self.lanes;
        let pairs = self.scratch.pairs_v4();
        let is_plain = self.together.map_or(0, |together| together.judge(packets, (face, fib), plain, pairs));
        let mut passes = is_plain;
        for number in numbers(!is_plain & (u64::MAX >> (u64::BITS as usize - received))) {
            let (lane, wide) = (&mut lanes[number], &mut wide[number]);
            lane.judge(wide, packets[number].bytes(), face, fib);
            if lane.passes {
                passes |= 1 << number;
                plain.set_port(number, lane.station.port());
            }
            if meets_programs && lane.goes_on() {
                lane.look_up_in(&mut self.scratch, number as u8, wide);
            }
        }
        let counts = &mut self.exit.tally.ports[port];
        counts.rx_packets += received as u64;
        counts.rx_bytes += bytes;

        // Look up the programs of all together. While what that needs comes from memory, the headers of those that no
        // program wants are written.
        let context = Context { reader: &self.reader, table: &self.table, fib, input: port as u16, now_ns };
        let sought = meets_programs.then(|| {
            self.scratch.push_those_v4(is_plain);
            self.table.seek(&self.reader, &mut self.scratch)
        });
        if let Some(order) = self.tracing.order(&self.reader) {
            for number in numbers(is_plain) {
                lanes[number] = Lane::of_plain(plain, number, packets[number].bytes(), fib);
            }
            let found = sought.map(|sought| self.table.settle(&self.reader, &mut self.scratch, &sought));
            self.exit.act_traced(&mut self.burst, &self.lanes, found, order, &context);
            return self.exit.free_dropped();
        }
        let judged = Judged { lanes: &self.lanes, is_plain, passes, together: self.together };
        let mut hand = self.burst.deal();
        let maybe_wanted = sought.as_ref().map_or(0, Sought::lanes);
        judged.pass_on(&mut hand, passes & !maybe_wanted, fib);
        let found = sought.map(|sought| self.table.settle(&self.reader, &mut self.scratch, &sought));
        let wanted = found.map_or(0, |found| found.lanes());
        judged.pass_on(&mut hand, passes & maybe_wanted & !wanted, fib);

        // Act, in order.
        self.exit.act(&mut hand, &judged, (found, wanted), &context);
        drop(hand);
        self.exit.free_dropped();
    }

    /// Runs the windows whose time is up, and gives up the batches whose is.
    fn attend_to_waiting(&mut self, now_ns: u64) {
        let fib = self.fib.read(&self.reader);
        let context = Context { reader: &self.reader, table: &self.table, fib, input: 0, now_ns };
        self.exit.attend_to_windows(&context);
        self.exit.attend_to_expander(&context);
    }

    /// Sends the held packets whose next hops are known by now, and ends those whose time is up.
    fn attend_to_held(&mut self, now_ns: u64) {
        if self.exit.hold.is_empty() {
            return;
        }
        let fib = self.fib.read(&self.reader);
        if fib.generation() != self.fib_generation {
            self.fib_generation = fib.generation();
            for _ in 0..self.exit.hold.len() {
                let Some(held) = self.exit.hold.pop() else { break };
                let (port, addr) = held.hop();
                match fib.look_up(held.headers.dst) {
                    Hop::Forward { port, mac } => {
                        let ip = IpPlace::of(&held.headers);
                        self.exit.emit(held.packet, ip, held.input, (port, mac), fib, now_ns);
                    }
                    Hop::OnLink { .. } | Hop::Gateway { .. }
                        if fib.neighbour(port, addr) != Some(Neighbour::Failed) =>
                    {
                        self.exit.hold.put_back(held);
                    }
                    _ => self.exit.end_unresolved(held.packet, &held.headers, held.input, fib, now_ns),
                }
            }
        }
        while let Some(held) = self.exit.hold.expired(now_ns) {
            self.exit.end_unresolved(held.packet, &held.headers, held.input, fib, now_ns);
        }
        self.exit.free_dropped();
    }

    /// Ends what still waits, by name, and gives everything back.
    fn finish(mut self) -> Remains<R, T, P> {
        self.exit.flush();
        let tally = &mut self.exit.tally;
        let mut waiting: usize = self.exit.queues.iter_mut().map(OutputQueue::clear).sum();
        waiting += self.exit.room.clear();
        while self.exit.hold.pop().is_some() {
            waiting += 1;
        }
        tally.drop_packets(DropReason::Stopped, waiting as u64);
        (tally.totals.held, tally.totals.queued) = (0, 0);
        self.board.show(tally);
        Remains { rx: self.rx, tx: self.exit.tx, distributor: self.distributor, pool: self.exit.pool }
    }
}

/// What is known of the packets of a burst by themselves.
struct Judged<'l> {
    lanes: &'l Lanes,
    /// Those that were judged together.
    is_plain: u64,
    /// Those that leave at once, if no program wants them: of all of these the port is known.
    passes: u64,
    together: Option<Together>,
}

/// What the handling of one burst refers to.
#[derive(Clone, Copy)]
struct Context<'r> {
    reader: &'r Reader,
    table: &'r FlowTable,
    fib: &'r Fib,
    input: u16,
    now_ns: u64,
}

/// Where the IP packet is in its frame.
#[derive(Clone, Copy)]
struct IpPlace {
    l3_offset: u16,
    l3_len: u16,
    family: Family,
}

impl IpPlace {
    fn of(headers: &Headers) -> IpPlace {
        IpPlace { l3_offset: headers.l3_offset, l3_len: headers.l3_len, family: headers.family() }
    }
    #[inline]
    fn end(self) -> usize {
        usize::from(self.l3_offset) + usize::from(self.l3_len)
    }
}

impl Judged<'_> {
    /// Writes the headers of packets that are to leave by their ports.
    #[inline]
    fn pass_on<B: PacketBuf>(&self, hand: &mut Hand<'_, B>, which: u64, fib: &Fib) {
        let Lanes { lanes, plain, .. } = self.lanes;
        let (hops, lifetimes) = (plain.hops(), plain.lifetimes());
        for (number, packet) in hand.each_mut(which & self.is_plain) {
            if let Some(front) = packet.bytes_mut().first_chunk_mut() {
                fib.station(hops[number]).pass_plain_on(front, lifetimes[number]);
            }
        }
        for (number, packet) in hand.each_mut(which & !self.is_plain) {
            if let Some(front) = packet.bytes_mut().first_chunk_mut() {
                lanes[number].station.pass_on(front, lanes[number].family());
            }
        }
    }

    /// A bit for each of the first `len` packets that leaves by a port.
    #[inline]
    fn places_of(&self, port: u32, len: u32) -> u64 {
        let ports = self.lanes.plain.ports();
        match self.together {
            Some(together) => together.places_of(port, ports, len as usize),
            None => {
                (0..len).filter(|&place| ports[place as usize] == port).fold(0, |places, place| places | 1 << place)
            }
        }
    }
}

impl<T, P> Exit<T, P>
where
    T: TxQueue,
    P: PacketPool<Buf = T::Buf>,
{
    /// Does with the packets of a burst what is to be done: in order, those together that just leave; and drops those that
    /// a verdict of the table drops.
    #[inline]
    fn act<'r>(
        &mut self,
        hand: &mut Hand<'_, T::Buf>,
        judged: &Judged<'_>,
        (found, wanted): (Option<Findings<'_, 'r>>, u64),
        context: &Context<'r>,
    ) {
        let (discarded, programs) = found.as_ref().map(Findings::discards).unzip();
        let (discarded, leave) = (discarded.unwrap_or(0), judged.passes & !wanted);
        loop {
            let other = hand.left() & !leave & !discarded;
            // Up to the next that does not just leave; all, where there is none.
            self.leave(hand, hand.left() & leave & other.wrapping_sub(1) & !other, judged);
            let number = other.trailing_zeros() as usize;
            let Some(packet) = hand.take(number) else { break };
            let Lanes { lanes, wide, plain } = judged.lanes;
            let lane = match judged.is_plain >> number & 1 {
                0 => lanes[number],
                _ => Lane::of_plain(plain, number, packet.bytes(), context.fib),
            };
            let found = found.and_then(|found| found.get(number));
            self.meet_programs(packet, &lane, lane.pair(&wide[number]), found, context);
        }
        if let Some(programs) = programs
            && discarded != 0
        {
            self.discard(hand, discarded, programs, context);
        }
    }

    /// Packets that just leave, their headers written, are queued port by port, each port's in order. (One by one, each
    /// would wait for the queue's length to be written by the one before.)
    #[inline]
    fn leave(&mut self, hand: &mut Hand<'_, T::Buf>, mut which: u64, judged: &Judged<'_>) {
        while which != 0 {
            let port = judged.lanes.plain.ports()[which.trailing_zeros() as usize % BURST_LEN_MAX];
            let those = which & judged.places_of(port, u64::BITS - which.leading_zeros());
            which &= !those;
            let port = port as u16;
            if !self.queues[usize::from(port)].push_all(hand, those) {
                self.leave_behind_burst(hand, those, port);
            }
        }
    }

    /// The same for packets by one port for which there is no room beside what came before: that goes to the ring first.
    #[inline(never)]
    fn leave_behind_burst(&mut self, hand: &mut Hand<'_, T::Buf>, which: u64, port: u16) {
        let number = usize::from(port);
        let flushed = self.queues[number].make_room(&mut self.tx[number], self.now_ns);
        self.count_flushed(number, flushed);
        if !self.queues[number].push_all(hand, which) {
            for packet in numbers(which).filter_map(|number| hand.take(number)) {
                self.send(packet, port);
            }
        }
    }

    /// Counts and drops the packets that a verdict of the table drops, of which nothing more needs to be known.
    #[inline]
    fn discard(
        &mut self,
        hand: &mut Hand<'_, T::Buf>,
        which: u64,
        programs: &[u32; BURST_LEN_MAX],
        context: &Context<'_>,
    ) {
        for number in numbers(which) {
            if let Some(packet) = hand.get(number) {
                context.table.counters().discarded(context.reader, programs[number], packet.bytes().len());
            }
        }
        self.tally.drop_packets(DropReason::Program, u64::from(which.count_ones()));
        if self.dropped.room() < which.count_ones() as usize {
            self.free_dropped();
        }
        hand.move_to(which, &mut self.dropped);
    }

    /// A packet goes its way, past all programs.
    #[inline]
    fn go(&mut self, mut packet: T::Buf, lane: &Lane, context: &Context<'_>) {
        if lane.passes
            && let Some(front) = packet.bytes_mut().first_chunk_mut()
        {
            lane.station.pass_on(front, lane.family());
            self.send(packet, lane.station.port());
        } else {
            self.go_slowly(packet, lane, context);
        }
    }

    /// The same for a packet that met programs.
    #[inline(never)]
    fn go_on(&mut self, packet: T::Buf, lane: &Lane, context: &Context<'_>) {
        self.go(packet, lane, context);
    }

    /// What does not leave at once.
    #[inline(never)]
    fn go_slowly(&mut self, packet: T::Buf, lane: &Lane, context: &Context<'_>) {
        match lane.way {
            Way::Transit if lane.station.is_known() && lane.ttl > 1 => self.forward_any(packet, lane, context),
            Way::Transit => self.forward_rarely(packet, lane, context),
            Way::Kernel => self.give_to_router(packet, lane, context),
            Way::Drop(reason) => self.drop(packet, reason),
        }
    }

    /// A packet that programs want: what they leave of it goes on.
    #[inline(never)]
    fn meet_programs<'r>(
        &mut self,
        packet: T::Buf,
        lane: &Lane,
        pair: (Addr, Addr),
        found: Option<Found<'r>>,
        context: &Context<'r>,
    ) {
        let Some(found) = &found else { return self.go_on(packet, lane, context) };
        let ran = self.run_programs(packet.bytes(), pair, found, None, context, &mut |_, _| ());
        self.follow(packet, (lane, pair), ran, false, context);
    }

    /// Does with a packet what its programs decided. Whether it is traced matters where it waits for one.
    #[inline]
    fn follow(
        &mut self,
        packet: T::Buf,
        lane: (&Lane, (Addr, Addr)),
        ran: Ran<'_>,
        is_traced: bool,
        context: &Context<'_>,
    ) {
        match ran {
            Ran::Forward => self.go_on(packet, lane.0, context),
            Ran::Drop(reason) => self.drop(packet, reason),
            Ran::Wait { program, is_bystander } => {
                self.wait(packet, lane, program, Mark { is_bystander, is_traced }, context);
            }
        }
    }

    /// Sends a packet on that has tags or gets some, is padded, or is too large for the next link.
    fn forward_any(&mut self, mut packet: T::Buf, lane: &Lane, context: &Context<'_>) {
        let family = lane.family();
        link::count_hop(packet.bytes_mut(), usize::from(lane.l3_offset), family);
        let ip = IpPlace { l3_offset: lane.l3_offset, l3_len: lane.l3_len, family };
        let station = (lane.station.port(), lane.station.mac());
        self.emit(packet, ip, Some(context.input), station, context.fib, context.now_ns);
    }

    /// Sends a packet, its hop counted, to a station on a port: cut to fragments where it must and may be.
    fn emit(
        &mut self,
        mut packet: T::Buf,
        ip: IpPlace,
        input: Option<u16>,
        (port, mac): (u16, [u8; 6]),
        fib: &Fib,
        now_ns: u64,
    ) {
        let Some(face) = self.faces.get(usize::from(port)) else { return self.drop(packet, DropReason::NoRoute) };
        if ip.l3_len > face.mtu {
            return self.emit_too_big(packet, input, (port, mac), fib, now_ns);
        }
        link::cut_padding(&mut packet, ip.end());
        if face.write_header(&mut packet, usize::from(ip.l3_offset), mac, ip.family) {
            self.send(packet, port);
        } else {
            self.drop(packet, DropReason::NoHeadroom);
        }
    }

    /// Queues a finished frame for a port's ring. Inlined by force: as a call it costs 2 ns a packet.
    #[inline(always)]
    fn send(&mut self, packet: T::Buf, port: u16) {
        if let Err(packet) = self.queues[usize::from(port)].push(packet) {
            self.send_behind_burst(packet, usize::from(port));
        }
    }

    /// Queues a frame behind a whole burst, which goes to the ring first, or into the line before it.
    #[inline(never)]
    fn send_behind_burst(&mut self, packet: T::Buf, port: usize) {
        let flushed = self.queues[port].make_room(&mut self.tx[port], self.now_ns);
        self.count_flushed(port, flushed);
        if let Err(packet) = self.queues[port].push(packet) {
            self.drop(packet, DropReason::QueueFull);
        }
    }

    /// Offers every ring what waits for it: once, nothing is waited for. Tells whether anything left its queue.
    fn flush(&mut self) -> bool {
        let mut has_moved = false;
        for port in 0..self.queues.len() {
            if !self.queues[port].is_empty() {
                let flushed = self.queues[port].flush(&mut self.tx[port], self.now_ns);
                has_moved |= flushed != Flushed::default();
                self.count_flushed(port, flushed);
            }
        }
        has_moved
    }

    #[inline]
    fn count_flushed(&mut self, port: usize, flushed: Flushed) {
        self.tally.ports[port].tx_packets += flushed.packets;
        self.tally.ports[port].tx_bytes += flushed.bytes;
        if flushed.delayed > 0 {
            self.tally.drop_packets(DropReason::QueueDelay, flushed.delayed);
        }
    }

    /// Ends a packet, by name.
    #[inline]
    fn drop(&mut self, packet: T::Buf, reason: DropReason) {
        self.tally.drop_packet(reason);
        self.discard_buffer(packet);
    }

    /// Puts a buffer with those that go back to their pool together.
    #[inline]
    fn discard_buffer(&mut self, packet: T::Buf) {
        if self.dropped.room() == 0 {
            self.free_dropped();
        }
        // There is room now, so nothing comes back.
        let _ = self.dropped.push(packet);
    }

    #[inline]
    fn free_dropped(&mut self) {
        if !self.dropped.is_empty() {
            T::Buf::drop_all(&mut self.dropped);
        }
    }
}
