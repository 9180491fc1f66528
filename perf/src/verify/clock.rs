//! How long a check takes.

use crate::table::Spread;
use crate::verify::inputs::Sent;
use std::hint::black_box;
use std::time::{Duration, Instant};
use vinet_trusted::lemma::LemmaStore;

/// Readings of the clock are far enough apart to cost less than a hundredth of what is between them.
const BATCH: Duration = Duration::from_micros(20);
/// How many checks say, by the fastest of them, how many make a batch: the first ones find cold caches.
const WARMING: usize = 64;

/// The time of one check, from bytes on the wire to a `Checked` or the reason why not, in nanoseconds: least, median and
/// most of so many batches.
pub fn check_ns(sent: &Sent, lemmas: &LemmaStore, repeats: usize) -> Spread {
    let once = (0..WARMING).map(|_| nanoseconds(|| drop(black_box(sent.check(lemmas))))).fold(f64::INFINITY, f64::min);
    let batch = (BATCH.as_nanos() as f64 / once).ceil().max(1.0) as usize;
    let figures = (0..repeats.max(1)).map(|_| {
        let all = nanoseconds(|| (0..batch).for_each(|_| drop(black_box(sent.check(lemmas)))));
        all / batch as f64
    });
    Spread::of(figures.collect::<Vec<_>>())
}

/// How long `work` takes.
pub fn nanoseconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64
}
