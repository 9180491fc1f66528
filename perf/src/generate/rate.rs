//! Offered rates as a user writes them, and the schedule of send times that follows from one.
//!
//! A [`Schedule`] knows when each packet ought to be sent, in nanoseconds from the start of a trial, and nothing of when
//! it is: it has no clock. A packet that is late moves no later one. Errors of rounding stay below a nanosecond in a
//! thousand million packets.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Preamble, start of frame and the gap between frames: what a frame takes on an Ethernet line beyond its bytes.
pub const LINE_OVERHEAD_BYTES: u64 = 8 + 12;
/// The most packets a second that may be asked for: beyond what any device takes.
pub const PPS_MAX: f64 = 1e10;
/// The most bits a second that may be asked for.
pub const BPS_MAX: f64 = 1e13;

/// A rate to be offered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Packets a second.
    Packets(f64),
    /// Bits of frames a second, frame check sequence included.
    Bits(f64),
    /// Percent of the line's rate, with preamble and gap.
    Line(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let expected = || format!("`{text}` is no rate; expected e.g. 250kpps, 1.5Mpps, 500Mbit/s, 10Gbit/s or 80%");
        let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(expected)?;
        let (number, unit) = text.split_at(unit_at);
        let number: f64 = number.parse().map_err(|_| expected())?;
        let factor = |prefix: &str| match prefix {
            "" => Some(1.0),
            "k" => Some(1e3),
            "M" => Some(1e6),
            "G" => Some(1e9),
            _ => None,
        };
        let scaled = |prefix: &str| factor(prefix).map(|factor| number * factor).ok_or_else(expected);
        let rate = if unit == "%" {
            Rate::Line(number)
        } else if let Some(prefix) = unit.strip_suffix("pps") {
            Rate::Packets(scaled(prefix)?)
        } else if let Some(prefix) = unit.strip_suffix("bit/s") {
            Rate::Bits(scaled(prefix)?)
        } else {
            return Err(expected());
        };
        let in_range = match rate {
            Rate::Packets(pps) => pps > 0.0 && pps <= PPS_MAX,
            Rate::Bits(bps) => bps > 0.0 && bps <= BPS_MAX,
            Rate::Line(percent) => percent > 0.0 && percent <= 100.0,
        };
        if in_range {
            Ok(rate)
        } else {
            Err(format!("`{text}` is out of range: above 0, at most 10Gpps, 10Tbit/s, 100%"))
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rate::Packets(pps) => write!(f, "{pps}pps"),
            Rate::Bits(bps) => write!(f, "{bps}bit/s"),
            Rate::Line(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Rate {
    /// The pace of this rate on a line of `line_mbps`, which percentages need.
    pub fn pace(self, line_mbps: Option<u32>) -> Result<Pace, String> {
        match (self, line_mbps) {
            (Rate::Packets(pps), _) => Ok(Pace::packets(pps)),
            (Rate::Bits(bps), _) => Ok(Pace::Bits { ns_per_bit: fixed(1e9 / bps), overhead_bytes: 0 }),
            (Rate::Line(percent), Some(mbps)) => {
                let bps = f64::from(mbps) * 1e6 * percent / 100.0;
                Ok(Pace::Bits { ns_per_bit: fixed(1e9 / bps), overhead_bytes: LINE_OVERHEAD_BYTES })
            }
            (Rate::Line(_), None) => {
                Err("a rate in percent needs the line's rate, which the device does not tell: give --line-mbps"
                    .to_owned())
            }
        }
    }
}

/// How the time of a packet follows from those before it. Times are nanoseconds with 32 binary places.
#[derive(Clone, Debug)]
pub enum Pace {
    /// The same time between any two packets.
    Packets {
        /// It.
        step: u128,
    },
    /// As long as the line takes for a packet at a part of its rate.
    Bits {
        /// The time of one bit.
        ns_per_bit: u128,
        /// Bytes of each frame beyond its own.
        overhead_bytes: u64,
    },
    /// The time behind each packet of a cycle, as it was captured.
    Recorded {
        /// By the packet's place in the cycle.
        gaps: Arc<[u128]>,
    },
}

impl Pace {
    /// So many packets a second.
    pub fn packets(pps: f64) -> Pace {
        Pace::Packets { step: fixed(1e9 / pps) }
    }
    /// The gaps of a capture, in nanoseconds, gone through `speed` times as fast.
    pub fn recorded(gaps_ns: impl IntoIterator<Item = u64>, speed: f64) -> Pace {
        Pace::Recorded { gaps: gaps_ns.into_iter().map(|gap| fixed(gap as f64 / speed)).collect() }
    }
}

fn fixed(ns: f64) -> u128 {
    (ns * (1u64 << 32) as f64).round() as u128
}

/// The send times of one trial.
#[derive(Clone, Debug)]
pub struct Schedule {
    pace: Pace,
    /// The next packet's, with 32 binary places.
    at: u128,
    /// Its place in the cycle of a recorded pace.
    place: usize,
}

impl Schedule {
    /// The first packet is due at 0.
    pub fn new(pace: Pace) -> Schedule {
        Schedule { pace, at: 0, place: 0 }
    }
    /// When the next packet is due.
    #[inline]
    pub fn due_ns(&self) -> u64 {
        ((self.at + (1 << 31)) >> 32) as u64
    }
    /// The next packet has `wire_len` bytes on the wire; the one behind it is the next now.
    #[inline]
    pub fn advance(&mut self, wire_len: u32) {
        self.at += match &self.pace {
            Pace::Packets { step } => *step,
            Pace::Bits { ns_per_bit, overhead_bytes } => {
                *ns_per_bit * u128::from((u64::from(wire_len) + overhead_bytes) * 8)
            }
            Pace::Recorded { gaps } => {
                let gap = gaps[self.place];
                self.place = if self.place + 1 == gaps.len() { 0 } else { self.place + 1 };
                gap
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets due before `end_ns`, of lengths that repeat.
    fn count(pace: Pace, lens: &[u32], end_ns: u64) -> u64 {
        let mut schedule = Schedule::new(pace);
        let mut packets = 0;
        for len in lens.iter().cycle() {
            if schedule.due_ns() >= end_ns {
                break;
            }
            packets += 1;
            schedule.advance(*len);
        }
        packets
    }

    #[test]
    fn rates_are_read_with_their_units_and_nothing_else_is() {
        assert_eq!("250kpps".parse(), Ok(Rate::Packets(250_000.0)));
        assert_eq!("1.5Mpps".parse(), Ok(Rate::Packets(1.5e6)));
        assert_eq!("10Gbit/s".parse(), Ok(Rate::Bits(1e10)));
        assert_eq!("80%".parse(), Ok(Rate::Line(80.0)));
        for wrong in
            ["", "10", "pps", "1Tpps", "-1pps", "0pps", "101%", "1e3pps", "1.2.3pps", "5 pps", "99Gpps", "nanpps"]
        {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_second_holds_as_many_packets_as_the_rate_says() {
        for pps in [1.0, 3.0, 7_000.0, 1e6, 9_999_999.0] {
            assert_eq!(count(Pace::packets(pps), &[60], 1_000_000_000), pps as u64, "{pps}");
        }
        // A third of a nanosecond does not add up to an error: 30 million packets a second for a tenth.
        let mut schedule = Schedule::new(Pace::packets(3e7));
        for _ in 0..3_000_000 {
            schedule.advance(60);
        }
        assert!(schedule.due_ns().abs_diff(100_000_000) <= 1, "{}", schedule.due_ns());
    }

    #[test]
    fn bits_and_percent_of_a_line_count_the_frames_lengths() {
        // 64 bytes at 512 Mbit/s are a million packets a second.
        let bits = Rate::Bits(512e6).pace(None).expect("bits need no line");
        assert_eq!(count(bits, &[64], 1_000_000_000), 1_000_000);
        // The best known figure: 64 bytes at 10 Gbit/s are 14.88 Mpps with preamble and gap.
        let line = Rate::Line(100.0).pace(Some(10_000)).expect("the line is known");
        assert_eq!(count(line, &[64], 1_000_000_000), 14_880_953);
        let half = Rate::Line(50.0).pace(Some(10_000)).expect("the line is known");
        assert_eq!(count(half, &[1518], 1_000_000_000), 406_372);
        assert!(Rate::Line(50.0).pace(None).is_err());
    }

    #[test]
    fn a_recorded_pace_repeats_its_gaps_and_scales_them() {
        let mut schedule = Schedule::new(Pace::recorded([100, 200, 300], 2.0));
        let mut due = Vec::new();
        for _ in 0..7 {
            due.push(schedule.due_ns());
            schedule.advance(60);
        }
        assert_eq!(due, [0, 50, 150, 300, 350, 450, 600]);
    }
}
