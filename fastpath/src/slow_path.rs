//! The slow path's rings: frames between each worker and the control side, which does the I/O of the TAP twins.
//!
//! Every frame has a buffer that was allocated at start and goes around: free ring, worker or control, full ring, the
//! other side, free ring. So a worker copies bytes and moves a pointer; it never allocates, waits, or wakes anyone. A
//! ring that is full costs the packet, by name. Frames on the rings are untagged Ethernet.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;

use crate::settings::SlowPathLimits;

/// A frame with the port whose twin it goes to or comes from.
pub struct SlowFrame {
    port: u16,
    len: usize,
    buffer: Box<[u8]>,
}

impl SlowFrame {
    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
    /// The frame.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
    /// Makes it the concatenation of `pieces`; `false` where the buffer does not hold them.
    fn fill(&mut self, port: u16, pieces: [&[u8]; 2]) -> bool {
        let len = pieces[0].len() + pieces[1].len();
        let Some(room) = self.buffer.get_mut(..len) else { return false };
        let (front, back) = room.split_at_mut(pieces[0].len());
        front.copy_from_slice(pieces[0]);
        back.copy_from_slice(pieces[1]);
        (self.port, self.len) = (port, len);
        true
    }
}

/// One direction: full frames one way, their empty buffers the other.
struct Lane {
    full: ArrayQueue<SlowFrame>,
    free: ArrayQueue<SlowFrame>,
}

impl Lane {
    fn new(limits: &SlowPathLimits) -> Lane {
        let ring_len = limits.ring_len.max(1);
        let free = ArrayQueue::new(ring_len);
        for _ in 0..ring_len {
            let frame = SlowFrame { port: 0, len: 0, buffer: vec![0; limits.frame_len_max].into() };
            // The ring was made for exactly so many.
            let _ = free.push(frame);
        }
        Lane { full: ArrayQueue::new(ring_len), free }
    }

    fn send(&self, port: u16, pieces: [&[u8]; 2]) -> Result<(), SlowPathError> {
        let mut frame = self.free.pop().ok_or(SlowPathError::RingFull)?;
        let len = pieces[0].len() + pieces[1].len();
        let fits = frame.fill(port, pieces);
        // There are as many buffers as places in either ring, so neither push can fail.
        let refused = if fits { self.full.push(frame) } else { self.free.push(frame) };
        debug_assert!(refused.is_ok());
        if fits { Ok(()) } else { Err(SlowPathError::FrameTooLong { len }) }
    }

    fn receive<R>(&self, take: impl FnOnce(&SlowFrame) -> R) -> Option<R> {
        let frame = self.full.pop()?;
        let result = take(&frame);
        let _ = self.free.push(frame);
        Some(result)
    }
}

/// Why a frame did not go onto the slow path. It is lost, and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowPathError {
    /// The other side does not keep up.
    RingFull,
    /// Longer than a buffer of the ring.
    FrameTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// No such port.
    UnknownPort {
        /// The port named.
        port: u16,
    },
}

impl fmt::Display for SlowPathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SlowPathError::RingFull => f.write_str("the slow path's ring is full: the other side does not keep up"),
            SlowPathError::FrameTooLong { len } => {
                write!(f, "a frame of {len} bytes is longer than the slow path's buffers; raise frame_len_max")
            }
            SlowPathError::UnknownPort { port } => write!(f, "there is no port {port}"),
        }
    }
}
impl std::error::Error for SlowPathError {}

struct Lanes {
    to_tap: Lane,
    from_tap: Lane,
}

/// The control side's end of all workers' rings.
pub struct SlowPath {
    workers: Vec<Arc<Lanes>>,
    ports: usize,
    /// The worker that the next frame for the kernel is taken from, so that none starves.
    next: usize,
    refused: AtomicU64,
}

/// A worker's end of its rings.
pub struct SlowPathEnd {
    lanes: Arc<Lanes>,
}

impl SlowPath {
    /// Rings for `workers` workers over `ports` ports, and the workers' ends in order.
    #[must_use]
    pub fn new(workers: usize, ports: usize, limits: &SlowPathLimits) -> (SlowPath, Vec<SlowPathEnd>) {
        let lanes: Vec<Arc<Lanes>> =
            (0..workers).map(|_| Arc::new(Lanes { to_tap: Lane::new(limits), from_tap: Lane::new(limits) })).collect();
        let ends = lanes.iter().map(|lanes| SlowPathEnd { lanes: lanes.clone() }).collect();
        (SlowPath { workers: lanes, ports, next: 0, refused: AtomicU64::new(0) }, ends)
    }

    /// Gives up to `budget` frames to `write`, port and bytes, for the kernel; tells how many there were.
    pub fn to_tap(&mut self, budget: usize, mut write: impl FnMut(u16, &[u8])) -> usize {
        let (mut taken, mut empty) = (0, 0);
        while taken < budget && empty < self.workers.len() {
            let lanes = &self.workers[self.next];
            self.next = (self.next + 1) % self.workers.len();
            match lanes.to_tap.receive(|frame| write(frame.port(), frame.bytes())) {
                Some(()) => (taken, empty) = (taken + 1, 0),
                None => empty += 1,
            }
        }
        taken
    }

    /// Sends a frame of the kernel out of `port`. One worker sends all of a port's, so their order is kept.
    ///
    /// # Errors
    /// [`SlowPathError`]; the frame is then lost and counted in [`SlowPath::refused`].
    pub fn from_tap(&mut self, port: u16, frame: &[u8]) -> Result<(), SlowPathError> {
        let sent = if usize::from(port) < self.ports {
            self.workers[usize::from(port) % self.workers.len()].from_tap.send(port, [frame, &[]])
        } else {
            Err(SlowPathError::UnknownPort { port })
        };
        if sent.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// Frames of the kernel that [`SlowPath::from_tap`] refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl SlowPathEnd {
    /// Gives a frame to the kernel through the twin of `port`: the concatenation of `pieces`, so that tags can be
    /// left out.
    ///
    /// # Errors [`SlowPathError`]; the caller counts the drop.
    pub fn to_tap(&self, port: u16, pieces: [&[u8]; 2]) -> Result<(), SlowPathError> {
        self.lanes.to_tap.send(port, pieces)
    }

    /// Whether a frame of the kernel waits.
    #[inline]
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.lanes.from_tap.full.is_empty()
    }

    /// Takes one frame of the kernel.
    pub fn from_tap<R>(&self, take: impl FnOnce(&SlowFrame) -> R) -> Option<R> {
        self.lanes.from_tap.receive(take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> SlowPathLimits {
        SlowPathLimits { ring_len: 4, frame_len_max: 100 }
    }

    #[test]
    fn frames_keep_their_bytes_port_and_order() {
        let (mut control, ends) = SlowPath::new(1, 3, &limits());
        for round in 0..10u8 {
            ends[0].to_tap(2, [&[round; 12], &[7; 20]]).expect("there is room");
            ends[0].to_tap(1, [&[round + 1; 60], &[]]).expect("there is room");
            let mut seen = Vec::new();
            assert_eq!(control.to_tap(10, |port, bytes| seen.push((port, bytes.to_vec()))), 2);
            assert_eq!(seen, [(2, [vec![round; 12], vec![7; 20]].concat()), (1, vec![round + 1; 60])]);
            control.from_tap(0, &[round; 50]).expect("there is room");
            assert!(ends[0].is_waiting());
            assert_eq!(ends[0].from_tap(|frame| (frame.port(), frame.bytes().to_vec())), Some((0, vec![round; 50])));
            assert!(!ends[0].is_waiting());
        }
    }

    #[test]
    fn a_full_ring_refuses_and_recovers() {
        let (mut control, ends) = SlowPath::new(1, 1, &limits());
        for _ in 0..4 {
            control.from_tap(0, &[1; 60]).expect("there is room");
        }
        assert_eq!(control.from_tap(0, &[1; 60]), Err(SlowPathError::RingFull));
        assert_eq!(control.from_tap(9, &[1; 60]), Err(SlowPathError::UnknownPort { port: 9 }));
        ends[0].from_tap(|_| ()).expect("four wait");
        assert_eq!(control.from_tap(0, &[1; 101]), Err(SlowPathError::FrameTooLong { len: 101 }));
        control.from_tap(0, &[1; 60]).expect("one place is free");
        assert_eq!(control.refused(), 3);
    }

    #[test]
    fn no_worker_starves() {
        let (mut control, ends) = SlowPath::new(3, 1, &limits());
        for (i, end) in ends.iter().enumerate() {
            for _ in 0..3 {
                end.to_tap(0, [&[i as u8; 14], &[]]).expect("there is room");
            }
        }
        let mut seen = Vec::new();
        assert_eq!(control.to_tap(6, |_, bytes| seen.push(bytes[0])), 6);
        assert_eq!(seen, [0, 1, 2, 0, 1, 2]);
        assert_eq!(control.to_tap(100, |_, _| ()), 3);
    }
}
