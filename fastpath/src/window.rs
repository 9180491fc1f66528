//! Windows: packets that wait until their program is run on several of them together.
//!
//! [`Windows`] is what one worker keeps for all programs. A window takes packets of one installation until it is full or
//! its time is up; then it is *due*, and whoever empties it runs the program on what it holds. Windows become due, and
//! are emptied, in the order in which they were filled, and packets leave each in the order in which they came. All
//! memory is taken at the start: there are at most so many packets in all windows together, and, since a window without
//! packets does not exist, at most as many windows.
//!
//! A window holds the name of an installation, which is never used twice, and no reference: what it waits for may be
//! withdrawn meanwhile.

use std::collections::VecDeque;

use crate::flow_table::InstallId;

/// No entry, no window.
const NONE: u32 = u32::MAX;

/// The terms of a program's windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowTerms {
    /// The packets of a full window, at least one.
    pub(crate) packets_max: u16,
    /// How long the first packet may wait for the others.
    pub(crate) wait_max_ns: u64,
}

/// The number of a window. It says nothing once the window is empty; [`Windows::is_of`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowNumber(u32);

/// All windows of one worker, with packets `E`.
pub(crate) struct Windows<E> {
    entries: Vec<Entry<E>>,
    /// The first free entry.
    free: u32,
    windows: Vec<Window>,
    free_windows: Vec<u32>,
    /// Windows that are not due.
    open: Vec<u32>,
    due: VecDeque<u32>,
    /// No open window's time is up before this.
    earliest_ns: u64,
    len: usize,
}

struct Entry<E> {
    packet: Option<E>,
    next: u32,
}

#[derive(Clone, Copy)]
struct Window {
    id: InstallId,
    first: u32,
    last: u32,
    len: u16,
    terms: WindowTerms,
    deadline_ns: u64,
    is_due: bool,
}

impl<E> Windows<E> {
    /// No windows, with room for so many packets in all, at least one.
    pub(crate) fn new(packets_max: usize) -> Windows<E> {
        let count = packets_max.clamp(1, NONE as usize) as u32;
        let entries = (1..=count).map(|next| Entry { packet: None, next: if next == count { NONE } else { next } });
        Windows {
            entries: entries.collect(),
            free: 0,
            windows: Vec::with_capacity(count as usize),
            free_windows: Vec::with_capacity(count as usize),
            open: Vec::with_capacity(count as usize),
            due: VecDeque::with_capacity(count as usize),
            earliest_ns: u64::MAX,
            len: 0,
        }
    }

    /// Packets in all windows.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }
    /// Whether there is no room for another packet.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.free == NONE
    }
    /// A time before which no open window's time is up; none where no window is open.
    #[inline]
    pub(crate) fn earliest_ns(&self) -> Option<u64> {
        (!self.open.is_empty()).then_some(self.earliest_ns)
    }
    /// Whether the window exists, is of `id`, and takes another packet.
    #[inline]
    pub(crate) fn is_of(&self, WindowNumber(number): WindowNumber, id: InstallId) -> bool {
        self.windows.get(number as usize).is_some_and(|w| w.id == id && (1..w.terms.packets_max).contains(&w.len))
    }

    /// Adds a packet to `window`, or to a new one where there is none, and tells which it is. A window that is full now
    /// is due.
    ///
    /// # Errors
    /// The packet, where there is no room.
    pub(crate) fn add(
        &mut self,
        window: Option<WindowNumber>,
        id: InstallId,
        terms: WindowTerms,
        now_ns: u64,
        packet: E,
    ) -> Result<WindowNumber, E> {
        let place = self.free;
        let Some(entry) = self.entries.get_mut(place as usize) else { return Err(packet) };
        self.free = std::mem::replace(&mut entry.next, NONE);
        entry.packet = Some(packet);
        self.len += 1;
        let number = match window.filter(|window| self.is_of(*window, id)) {
            Some(WindowNumber(number)) => {
                let window = &mut self.windows[number as usize];
                let last = std::mem::replace(&mut window.last, place);
                window.len += 1;
                self.entries[last as usize].next = place;
                number
            }
            None => self.begin(id, terms, now_ns, place),
        };
        let window = &self.windows[number as usize];
        if window.len >= window.terms.packets_max {
            self.make_due(number);
        }
        Ok(WindowNumber(number))
    }

    fn begin(&mut self, id: InstallId, terms: WindowTerms, now_ns: u64, place: u32) -> u32 {
        let deadline_ns = now_ns.saturating_add(terms.wait_max_ns);
        let window = Window { id, first: place, last: place, len: 1, terms, deadline_ns, is_due: false };
        let number = match self.free_windows.pop() {
            Some(number) => {
                self.windows[number as usize] = window;
                number
            }
            None => {
                // There are as many windows as packets at most, and so much room was taken at the start.
                self.windows.push(window);
                (self.windows.len() - 1) as u32
            }
        };
        self.earliest_ns = if self.open.is_empty() { deadline_ns } else { self.earliest_ns.min(deadline_ns) };
        self.open.push(number);
        number
    }

    fn make_due(&mut self, number: u32) {
        let window = &mut self.windows[number as usize];
        if !std::mem::replace(&mut window.is_due, true) {
            self.due.push_back(number);
            // Full windows are mostly young ones; the order of the others stays.
            if let Some(place) = self.open.iter().rposition(|&open| open == number) {
                self.open.remove(place);
            }
        }
    }

    /// Makes every open window due whose time is up, or that `is_over` names by its installation and its first packet.
    pub(crate) fn close_those(&mut self, now_ns: u64, mut is_over: impl FnMut(InstallId, &E) -> bool) {
        let Windows { entries, windows, open, due, earliest_ns, .. } = self;
        *earliest_ns = u64::MAX;
        open.retain(|&number| {
            let window = &mut windows[number as usize];
            let first = entries[window.first as usize].packet.as_ref();
            let closes = window.deadline_ns <= now_ns || first.is_some_and(|first| is_over(window.id, first));
            if closes {
                window.is_due = true;
                due.push_back(number);
            } else {
                *earliest_ns = window.deadline_ns.min(*earliest_ns);
            }
            !closes
        });
    }

    /// Makes the window due that was begun first; `false` where none is open.
    pub(crate) fn close_oldest(&mut self) -> bool {
        let oldest = self.open.first().copied();
        if let Some(number) = oldest {
            self.make_due(number);
        }
        oldest.is_some()
    }

    /// The window that is to be emptied next, with its installation.
    pub(crate) fn pop_due(&mut self) -> Option<(WindowNumber, InstallId)> {
        let number = self.due.pop_front()?;
        Some((WindowNumber(number), self.windows[number as usize].id))
    }

    /// The packets of a window, in order.
    pub(crate) fn packets(&self, WindowNumber(number): WindowNumber) -> impl Iterator<Item = &E> {
        let mut place = self.windows.get(number as usize).map_or(NONE, |window| window.first);
        std::iter::from_fn(move || {
            let entry = self.entries.get(place as usize)?;
            place = entry.next;
            entry.packet.as_ref()
        })
    }

    /// Takes the first packet out of a window that [`Windows::pop_due`] gave; the window ends with its last, and its
    /// number may be another's from then on.
    pub(crate) fn take(&mut self, WindowNumber(number): WindowNumber) -> Option<E> {
        let window = &mut self.windows[number as usize];
        let place = window.first;
        let entry = self.entries.get_mut(place as usize)?;
        let packet = entry.packet.take();
        window.first = std::mem::replace(&mut entry.next, self.free);
        window.len -= 1;
        self.free = place;
        self.len -= 1;
        if window.first == NONE {
            self.free_windows.push(number);
        }
        packet
    }

    /// Drops every packet and tells how many there were.
    pub(crate) fn clear(&mut self) -> usize {
        let count = self.len;
        *self = Windows::new(self.entries.len());
        count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One window of the model: whose, its packets, its deadline.
    struct Modelled {
        id: u64,
        packets: Vec<u32>,
        deadline_ns: u64,
    }

    fn terms(id: u64) -> WindowTerms {
        WindowTerms { packets_max: 1 + id as u16 * 2, wait_max_ns: 50 + id * 10 }
    }

    proptest! {
        #[test]
        fn are_bounded_queues_that_are_due_when_full_or_late(
            packets_max in 1usize..20,
            steps in proptest::collection::vec((0u64..5, 0u64..30, 0u32..10), 1..300),
        ) {
            let mut windows = Windows::new(packets_max);
            let mut numbers: [Option<WindowNumber>; 5] = [None; 5];
            let mut open: Vec<Modelled> = Vec::new();
            let mut due: Vec<Modelled> = Vec::new();
            let mut now_ns = 0;
            for (packet, (id, step, kind)) in steps.into_iter().enumerate() {
                let packet = packet as u32;
                now_ns += step;
                let len = open.iter().chain(&due).map(|window| window.packets.len()).sum::<usize>();
                prop_assert_eq!((windows.len(), windows.is_full()), (len, len == packets_max));
                match kind {
                    0 => {
                        windows.close_those(now_ns, |of, _| of == InstallId(id));
                        let (closed, kept) =
                            open.into_iter().partition(|window| window.deadline_ns <= now_ns || window.id == id);
                        open = kept;
                        due.extend::<Vec<_>>(closed);
                        let earliest = open.iter().map(|window| window.deadline_ns).min();
                        prop_assert_eq!(windows.earliest_ns(), earliest);
                    }
                    1 => {
                        prop_assert_eq!(windows.close_oldest(), !open.is_empty());
                        if !open.is_empty() {
                            due.push(open.remove(0));
                        }
                    }
                    2 => {
                        let popped = windows.pop_due();
                        prop_assert_eq!(popped.map(|(_, id)| id.0), due.first().map(|window| window.id));
                        if let Some((number, id)) = popped {
                            let expected = due.remove(0).packets;
                            let seen: Vec<u32> = windows.packets(number).copied().collect();
                            prop_assert_eq!(&seen, &expected);
                            let taken: Vec<u32> = std::iter::from_fn(|| windows.take(number)).take(expected.len()).collect();
                            prop_assert_eq!(taken, expected);
                            prop_assert!(!windows.is_of(number, id));
                        }
                    }
                    _ => {
                        let added = windows.add(numbers[id as usize], InstallId(id), terms(id), now_ns, packet);
                        if len == packets_max {
                            prop_assert_eq!(added, Err(packet));
                            continue;
                        }
                        numbers[id as usize] = added.ok();
                        let terms = terms(id);
                        // The last one of this installation, open or due, while it has room.
                        let known = open.iter_mut().chain(&mut due).filter(|w| w.id == id).max_by_key(|w| w.packets[0]);
                        match known.filter(|window| window.packets.len() < usize::from(terms.packets_max)) {
                            Some(window) => window.packets.push(packet),
                            None => open.push(Modelled { id, packets: vec![packet], deadline_ns: now_ns + terms.wait_max_ns }),
                        }
                        let is_full = |window: &Modelled| window.packets.len() == usize::from(terms.packets_max);
                        if let Some(full) = open.iter().position(|window| window.id == id && is_full(window)) {
                            due.push(open.remove(full));
                        }
                    }
                }
            }
            let left = windows.len();
            prop_assert_eq!(windows.clear(), left);
            prop_assert_eq!((windows.len(), windows.earliest_ns()), (0, None));
        }
    }
}
