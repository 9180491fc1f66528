//! Where a curve of rates over numbers of programs bends.
//!
//! Both axes are brought to 0 … 1, the numbers by their logarithm, with 0 a decade before 1. The knee is the point that lies
//! furthest above the straight line from the first to the last point (Satopää, Albrecht, Irwin, Raghavan: Finding a "Kneedle" in
//! a Haystack, 2011, without its smoothing: each point is a median already). A curve that falls by less than a tenth, or that
//! keeps within a tenth of the line, has no knee.

/// The least fall, as a share of the first rate, and the least distance from the line.
const LEAST: f64 = 0.1;

/// Points of numbers and rates, in ascending order of the numbers: the number at the knee.
pub fn knee(points: &[(u32, f64)]) -> Option<u32> {
    let (&(_, first), &(_, last)) = (points.first()?, points.last()?);
    let fall = first - last;
    if points.len() < 3 || !fall.is_finite() || fall < LEAST * first {
        return None;
    }
    let (low, high) = (place(points[0].0), place(points[points.len() - 1].0));
    let above = |&(number, rate): &(u32, f64)| {
        let (x, y) = ((place(number) - low) / (high - low), (rate - last) / fall);
        (number, y - (1.0 - x))
    };
    let furthest = points.iter().map(above).max_by(|a, b| a.1.total_cmp(&b.1))?;
    (furthest.1 >= LEAST).then_some(furthest.0)
}

/// The largest number up to which no rate is below this share of the first.
pub fn held(points: &[(u32, f64)], share: f64) -> Option<u32> {
    let first = points.first()?.1;
    points.iter().take_while(|&&(_, rate)| rate >= share * first).last().map(|&(number, _)| number)
}

fn place(number: u32) -> f64 {
    if number == 0 { -1.0 } else { f64::from(number).log10() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(rates: [f64; 8]) -> Vec<(u32, f64)> {
        [0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000].into_iter().zip(rates).collect()
    }

    #[test]
    fn the_knee_is_where_a_level_curve_begins_to_fall() {
        assert_eq!(knee(&curve([30.0, 30.0, 30.0, 29.5, 29.0, 28.0, 15.0, 5.0])), Some(10_000));
        assert_eq!(knee(&curve([30.0, 30.0, 29.0, 10.0, 4.0, 2.0, 1.0, 0.5])), Some(10));
    }

    #[test]
    fn a_straight_or_level_curve_and_one_that_falls_at_once_have_none() {
        assert_eq!(knee(&curve([30.0; 8])), None);
        assert_eq!(
            knee(&curve([30.0, 29.9, 29.8, 29.7, 29.6, 29.4, 28.0, 27.5])),
            None,
            "it falls by less than a tenth"
        );
        assert_eq!(knee(&curve([35.0, 30.0, 25.0, 20.0, 15.0, 10.0, 5.0, 0.1])), None);
        assert_eq!(knee(&curve([35.0, 5.0, 4.0, 3.0, 2.0, 1.5, 1.0, 0.5])), None);
        assert_eq!(knee(&[]), None);
        assert_eq!(knee(&[(0, 1.0), (1, 0.1)]), None);
    }

    #[test]
    fn nine_tenths_are_held_up_to_the_first_point_below() {
        assert_eq!(held(&curve([30.0, 29.0, 28.0, 26.0, 28.0, 28.0, 28.0, 28.0]), 0.9), Some(10));
        assert_eq!(held(&curve([30.0; 8]), 0.9), Some(1_000_000));
        assert_eq!(held(&[], 0.9), None);
    }
}
