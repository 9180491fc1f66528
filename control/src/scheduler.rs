//! Which request is looked at next: queues by class, in the order of what they pay, none of which starves.
//!
//! A [`Scheduler`] holds the requests that wait for the judges. It is a pure data structure: time comes in as stamps
//! and as `now`, and nothing goes out but what [`Scheduler::pop`] and [`Scheduler::given_back`] return.
//!
//! *Classes.* A request belongs to the class of its program's function and of its cost, in bands ([`Bands`]). Within a
//! class the requests of each interface are one FIFO queue, and the queues of all interfaces are merged by their time
//! stamps, as in the paper's Section II-C. A stamp before that of the request ahead on the same interface counts as
//! that one, so that a clock that steps back lets nobody overtake.
//!
//! *Priority.* Of all classes the one whose waiting requests pay most for their cost, together, is served next; among
//! equals the one whose first request has waited longest. What is behind in a class pulls what is ahead of it: a
//! request that pays nothing at the head of its class does not hold up those behind it as if they paid nothing too.
//!
//! *Ageing.* Every A-th pop serves the request that has waited longest, whatever its class pays.
//!
//! **Theorem (no class starves).** Let `n` count the requests that wait when `r` is pushed, with `r`, and those that
//! come later with a stamp before `r`'s (none where all stamps are of one clock). Then `r` has left after at most
//! `A · n` pops, whatever comes later and whatever it pays. *Proof.* Of any `A` pops in a row one is an ageing pop. It
//! takes the first of all in the order of (stamp, arrival); as long as `r` waits, that is `r` or one of the at most
//! `n - 1` before it in that order, and each of them leaves only once. ∎ So `A · whole` pops are enough always. And in
//! time: no request is served later than `age_max_us` after its stamp; one that is older is given back as
//! [`GivenBack::Expired`].
//!
//! *Bounds.* One owner, one class, one interface and the whole have each a bound. Where one of the last three is full,
//! a newcomer takes the place of the newest request of the owner that has most there, if that owner has at least two
//! more there than the newcomer's; that request is given back as [`GivenBack::Displaced`]. **So an owner that has none
//! waiting is refused only where every place is held by another owner**, and floods, by one owner or by many, are cut
//! down to what all others have.
//!
//! Left out: what a request may pay. Who pushes has made sure that its owner has the money, and that the payment is the
//! one that was signed.

mod pool;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::num::NonZeroU32;

use vinet_trusted::addr::Principal;
use vinet_trusted::program::{Instr, Program};

use pool::Pool;

/// Most bands of cost.
pub const BANDS_MAX: usize = 32;

/// What a program does, as far as it matters for what its check and its run take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    /// It looks at addresses and headers, one packet at a time.
    Header,
    /// It looks for words in content.
    Content,
    /// It holds packets in windows, or generates some.
    Windowed,
}

impl Function {
    /// What `program` does; what takes most counts.
    #[must_use]
    pub fn of(program: &Program) -> Function {
        fn generates(block: &[Instr]) -> bool {
            block.iter().any(|instr| {
                matches!(instr, Instr::Generate { .. }) || instr.blocks().any(|inner| generates(inner.as_slice()))
            })
        }
        if program.window() > 1 || generates(program.body()) {
            Function::Windowed
        } else if program.words().is_empty() {
            Function::Header
        } else {
            Function::Content
        }
    }
}

/// A class of programs: its queue, and its line in the operator's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProgramClass {
    /// What its programs do.
    pub function: Function,
    /// The band of their costs, from 0 for the cheapest.
    pub band: u8,
}

impl fmt::Display for ProgramClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let function = match self.function {
            Function::Header => "header",
            Function::Content => "content",
            Function::Windowed => "windowed",
        };
        write!(f, "{function}-{}", self.band)
    }
}

/// The bands of cost: band `i` holds the costs below the `i`-th bound and not below the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bands(Vec<u64>);

impl Default for Bands {
    /// A band for each power of ten.
    fn default() -> Bands {
        Bands((1..19).map(|digits| 10u64.pow(digits)).collect())
    }
}

impl Bands {
    /// Bands between `bounds`, which rise; `None` where they do not, or are [`BANDS_MAX`] or more.
    #[must_use]
    pub fn between(bounds: Vec<u64>) -> Option<Bands> {
        (bounds.len() < BANDS_MAX && bounds.is_sorted_by(|a, b| a < b)).then_some(Bands(bounds))
    }

    /// The class of a program that does `function` at `cost` (cycles a packet times seconds).
    #[must_use]
    pub fn class(&self, function: Function, cost: u64) -> ProgramClass {
        // There are at most BANDS_MAX bounds.
        let band = self.0.partition_point(|bound| *bound <= cost) as u8;
        ProgramClass { function, band }
    }
}

/// What the scheduler knows of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its class, as declared; whoever lies about it is rejected after the check.
    pub class: ProgramClass,
    /// Where it came in: the index of a port, or a number of its own for the management address.
    pub interface: u16,
    /// When it came in, in microseconds.
    pub stamp_us: u64,
    /// What its owner pays for its whole lifetime.
    pub payment: u64,
    /// Its declared cost, in cycles a packet times seconds; 0 counts as 1.
    pub cost: u64,
    /// Who pays.
    pub owner: Principal,
}

/// How much may wait, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Requests in all.
    pub whole: usize,
    /// Requests of one class.
    pub per_class: usize,
    /// Requests from one interface.
    pub per_interface: usize,
    /// Requests of one owner.
    pub per_owner: usize,
    /// Microseconds after its stamp when a request is no longer served.
    pub age_max_us: u64,
    /// Of so many pops one serves the request that has waited longest.
    pub ageing: NonZeroU32,
}

/// Why a request may not wait. Its client may try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its owner has so many waiting, which is the most.
    Owner(usize),
    /// Its class has so many waiting, which is the most, and no owner has two more of them than this one.
    Class(usize),
    /// Its interface has so many waiting, likewise.
    Interface(usize),
    /// So many wait, likewise.
    Whole(usize),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Owner(count) => write!(f, "{count} requests of yours wait already, which is the most"),
            Refused::Class(count) => write!(f, "{count} requests of this class wait already, which is the most"),
            Refused::Interface(count) => write!(f, "{count} requests wait on this interface, which is the most"),
            Refused::Whole(count) => write!(f, "{count} requests wait already, which is the most"),
        }?;
        f.write_str("; try again in a moment")
    }
}
impl std::error::Error for Refused {}

/// Why a request that waited is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenBack {
    /// It waited for longer than is allowed.
    Expired,
    /// Its owner had most of the places, and another owner needed one.
    Displaced,
}

impl fmt::Display for GivenBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GivenBack::Expired => "the request waited for too long, the router has too much to check; try again later",
            GivenBack::Displaced => {
                "the request gave way to another owner's, since most of those that wait are yours; try again in a moment"
            }
        })
    }
}

/// The place of a request in the order of all: its stamp, then its arrival.
type Place = (u64, u64);

/// The requests of one class, or of one interface.
#[derive(Debug, Default)]
struct Queue {
    order: BTreeSet<Place>,
    pool: Pool,
    payment: u128,
    cost: u128,
}

/// The requests that wait. `T` is what they are about.
#[derive(Debug)]
pub struct Scheduler<T> {
    bounds: Bounds,
    waiting: BTreeMap<Place, (Arrival, T)>,
    pool: Pool,
    /// Only those in which something waits.
    classes: BTreeMap<ProgramClass, Queue>,
    interfaces: BTreeMap<u16, Queue>,
    given_back: VecDeque<(GivenBack, Arrival, T)>,
    arrivals: u64,
    pops: u64,
}

impl<T> Scheduler<T> {
    /// Nothing waits.
    #[must_use]
    pub fn new(bounds: Bounds) -> Scheduler<T> {
        Scheduler {
            bounds,
            waiting: BTreeMap::new(),
            pool: Pool::default(),
            classes: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            given_back: VecDeque::new(),
            arrivals: 0,
            pops: 0,
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
    /// How many of `owner` wait.
    #[must_use]
    pub fn of_owner(&self, owner: &Principal) -> usize {
        self.pool.of_owner(owner)
    }
    /// Each class in which something waits, with how many, for the operator.
    pub fn classes(&self) -> impl Iterator<Item = (ProgramClass, usize)> {
        self.classes.iter().map(|(class, queue)| (*class, queue.order.len()))
    }

    /// Has a request wait. What it displaces is in [`Scheduler::given_back`].
    ///
    /// # Errors
    /// The bound that it meets, and the request; then nothing has changed.
    pub fn push(&mut self, mut arrival: Arrival, item: T) -> Result<(), (Refused, T)> {
        let victims = match self.victims(&arrival) {
            Ok(victims) => victims,
            Err(refused) => return Err((refused, item)),
        };
        for place in victims {
            if let Some((arrival, item)) = self.take(place) {
                self.given_back.push_back((GivenBack::Displaced, arrival, item));
            }
        }
        let interface = self.interfaces.entry(arrival.interface).or_default();
        let ahead = interface.order.last().map_or(0, |(stamp_us, _)| *stamp_us);
        arrival.stamp_us = arrival.stamp_us.max(ahead);
        let place = (arrival.stamp_us, self.arrivals);
        self.arrivals += 1;
        interface.add(place, &arrival);
        self.classes.entry(arrival.class).or_default().add(place, &arrival);
        self.pool.add(arrival.owner, place);
        self.waiting.insert(place, (arrival, item));
        Ok(())
    }

    /// The requests that have to give way for `arrival`.
    fn victims(&self, arrival: &Arrival) -> Result<Vec<Place>, Refused> {
        let bounds = &self.bounds;
        if self.of_owner(&arrival.owner) >= bounds.per_owner {
            return Err(Refused::Owner(bounds.per_owner));
        }
        if self.given_back.len() >= bounds.whole {
            return Err(Refused::Whole(bounds.whole));
        }
        let class = self.classes.get(&arrival.class).map(|queue| &queue.pool);
        let interface = self.interfaces.get(&arrival.interface).map(|queue| &queue.pool);
        let mut victims: Vec<Place> = Vec::new();
        for (pool, bound, refused) in [
            (class, bounds.per_class, Refused::Class(bounds.per_class)),
            (interface, bounds.per_interface, Refused::Interface(bounds.per_interface)),
            (Some(&self.pool), bounds.whole, Refused::Whole(bounds.whole)),
        ] {
            let Some(pool) = pool.filter(|pool| pool.len() >= bound) else { continue };
            // One that gives way elsewhere may make room here too.
            let makes_room =
                |place: &Place| self.waiting.get(place).is_some_and(|(victim, _)| pool.holds(&victim.owner, *place));
            if !victims.iter().any(makes_room) {
                victims.push(pool.victim(&arrival.owner).ok_or(refused)?);
            }
        }
        Ok(victims)
    }

    /// Takes a request out of all queues.
    fn take(&mut self, place: Place) -> Option<(Arrival, T)> {
        let (arrival, item) = self.waiting.remove(&place)?;
        self.pool.remove(&arrival.owner, place);
        if let Some(queue) = self.classes.get_mut(&arrival.class) {
            queue.remove(place, &arrival);
            if queue.order.is_empty() {
                self.classes.remove(&arrival.class);
            }
        }
        if let Some(queue) = self.interfaces.get_mut(&arrival.interface) {
            queue.remove(place, &arrival);
            if queue.order.is_empty() {
                self.interfaces.remove(&arrival.interface);
            }
        }
        Some((arrival, item))
    }

    /// The request that is served next; none that is too old by `now_us`.
    pub fn pop(&mut self, now_us: u64) -> Option<(Arrival, T)> {
        self.expire(now_us);
        let (&oldest, _) = self.waiting.first_key_value()?;
        self.pops += 1;
        let place = if self.pops.is_multiple_of(u64::from(self.bounds.ageing.get())) {
            oldest
        } else {
            let best = self.classes.values().max_by(|a, b| a.before(b))?;
            *best.order.first()?
        };
        self.take(place)
    }

    /// A request that is not served, and why. Call it until there is none, after [`Scheduler::push`] and now and then:
    /// what is given back and not taken counts against the bound of the whole.
    pub fn given_back(&mut self, now_us: u64) -> Option<(GivenBack, Arrival, T)> {
        self.expire(now_us);
        self.given_back.pop_front()
    }

    fn expire(&mut self, now_us: u64) {
        while let Some((&place, _)) = self.waiting.first_key_value() {
            if now_us.saturating_sub(place.0) <= self.bounds.age_max_us {
                return;
            }
            if let Some((arrival, item)) = self.take(place) {
                self.given_back.push_back((GivenBack::Expired, arrival, item));
            }
        }
    }
}

impl Queue {
    fn add(&mut self, place: Place, arrival: &Arrival) {
        self.order.insert(place);
        self.pool.add(arrival.owner, place);
        self.payment += u128::from(arrival.payment);
        self.cost += u128::from(arrival.cost.max(1));
    }

    fn remove(&mut self, place: Place, arrival: &Arrival) {
        if self.order.remove(&place) {
            self.pool.remove(&arrival.owner, place);
            self.payment -= u128::from(arrival.payment);
            self.cost -= u128::from(arrival.cost.max(1));
        }
    }

    /// `Greater` where this one is served before `other`.
    fn before(&self, other: &Queue) -> Ordering {
        ratio_order((self.payment, self.cost), (other.payment, other.cost))
            .then_with(|| other.order.first().cmp(&self.order.first()))
    }
}

/// The order of `a.0 / a.1` and `b.0 / b.1`, exact for all numbers with positive denominators: Euclid's algorithm on
/// both at once.
fn ratio_order(mut a: (u128, u128), mut b: (u128, u128)) -> Ordering {
    let mut turned = false;
    loop {
        let order = match (a.0 / a.1).cmp(&(b.0 / b.1)) {
            Ordering::Equal => match (a.0 % a.1, b.0 % b.1) {
                (0, 0) => Ordering::Equal,
                (0, _) => Ordering::Less,
                (_, 0) => Ordering::Greater,
                (rest_a, rest_b) => {
                    // Of two fractions below one the greater has the smaller inverse.
                    (a, b) = ((a.1, rest_a), (b.1, rest_b));
                    turned = !turned;
                    continue;
                }
            },
            order => order,
        };
        return if turned { order.reverse() } else { order };
    }
}

#[cfg(test)]
mod tests;
