//! Frame sizes: one, the standard mix, or a mix of one's own.
//!
//! Sizes are those on the wire, frame check sequence included. A mix is exact: every cycle of as many packets as the
//! weights sum up to has each size as often as its weight says.

use std::fmt;
use std::str::FromStr;

/// The least Ethernet frame.
pub const FRAME_LEN_MIN: usize = 64;
/// The largest frame that is sent: an MTU of 9,000 bytes.
pub const FRAME_LEN_MAX: usize = 9_018;
/// The most packets of one cycle of a mix.
pub const CYCLE_LEN_MAX: u32 = 1_000;
/// The simple IMIX: seven small frames, four middle ones, one large.
const IMIX: [(u32, usize); 3] = [(7, 64), (4, 594), (1, 1518)];

/// Sizes with their weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    shares: Vec<(u32, usize)>,
    /// Whether it is the named mix, whose small frames may be raised to what headers and stamp need.
    is_named: bool,
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        if text == "imix" {
            return Ok(Sizes { shares: IMIX.to_vec(), is_named: true });
        }
        let mut shares = Vec::new();
        for part in text.split(',') {
            let expected =
                || format!("`{part}` is no frame size; expected 64 to {FRAME_LEN_MAX}, WEIGHT:SIZE, or imix");
            let (weight, len) = part.split_once(':').unwrap_or(("1", part));
            let weight: u32 = weight.parse().map_err(|_| expected())?;
            let len: usize = len.parse().map_err(|_| expected())?;
            if weight == 0 || !(FRAME_LEN_MIN..=FRAME_LEN_MAX).contains(&len) {
                return Err(expected());
            }
            shares.push((weight, len));
        }
        if shares.iter().map(|&(weight, _)| u64::from(weight)).sum::<u64>() > u64::from(CYCLE_LEN_MAX) {
            return Err(format!("the weights of `{text}` sum up to more than {CYCLE_LEN_MAX}"));
        }
        Ok(Sizes { shares, is_named: false })
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_named {
            return f.write_str("imix");
        }
        let parts: Vec<String> = self.shares.iter().map(|(weight, len)| format!("{weight}:{len}")).collect();
        f.write_str(&parts.join(","))
    }
}

impl Sizes {
    /// The sizes of one cycle, in order of the weights, none below `least`.
    ///
    /// # Errors
    /// Where a size that was asked for by number is below `least`; the named mix is raised instead.
    pub fn cycle(&self, least: usize) -> Result<Vec<usize>, String> {
        let mut cycle = Vec::new();
        for &(weight, len) in &self.shares {
            if len < least && !self.is_named {
                return Err(format!(
                    "frames of {len} bytes are too small for these headers and the stamp: {least} at least"
                ));
            }
            cycle.extend((0..weight).map(|_| len.max(least)));
        }
        Ok(cycle)
    }
    /// The largest size.
    pub fn largest(&self) -> usize {
        self.shares.iter().map(|&(_, len)| len).max().unwrap_or(FRAME_LEN_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_mix_is_seven_to_four_to_one() {
        let imix: Sizes = "imix".parse().expect("the named mix");
        let cycle = imix.cycle(64).expect("it may be raised");
        assert_eq!(cycle.len(), 12);
        let count = |len| cycle.iter().filter(|&&l| l == len).count();
        assert_eq!((count(64), count(594), count(1518)), (7, 4, 1));
        assert_eq!(imix.cycle(84).expect("it may be raised").iter().min(), Some(&84));
    }

    #[test]
    fn sizes_are_read_and_wrong_ones_are_told() {
        let mix: Sizes = "2:64,1:1500".parse().expect("a mix");
        assert_eq!(mix.cycle(64), Ok(vec![64, 64, 1500]));
        assert_eq!((mix.largest(), mix.to_string()), (1500, "2:64,1:1500".to_owned()));
        assert!(mix.cycle(65).is_err(), "a size asked for by number is not changed");
        for wrong in ["", "63", "9019", "0:64", "a", "1:2:3", "64,", "600:64,600:128"] {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
    }
}
