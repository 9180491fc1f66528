//! What the structures hold and what they are asked for.

/// A source and a destination.
pub type Pair = (u32, u32);

/// The kinds of questions, in order.
pub const KINDS: [&str; 4] = ["hits", "misses", "half", "hits by Zipf"];

/// Numbers by chance that follow from a seed (SplitMix64).
pub struct Chance(pub u64);

impl Chance {
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }
    pub fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.word()) * limit as u128) >> 64) as usize
    }
}

/// Questions of one kind, and how many of them are answered with yes.
pub struct Questions {
    pub name: &'static str,
    pub pairs: Vec<Pair>,
    pub hits: usize,
}

/// The pairs, and the questions.
pub struct Workload {
    pub pairs: Vec<Pair>,
    pub questions: Vec<Questions>,
    seed: u64,
}

impl Workload {
    /// So many pairs of different owners, against sources by chance of a /12.
    pub fn new(count: usize, questions: usize, seed: u64) -> Workload {
        let mut chance = Chance(seed);
        // Multiplying by an odd number modulo 2^28 gives every owner another address.
        let owner = |number: usize| 0xc000_0000 | (number as u32).wrapping_mul(0x0351_9b0d) & 0x0fff_ffff;
        let source = |chance: &mut Chance| 0x0a00_0000 | chance.word() as u32 & 0x000f_ffff;
        let pairs: Vec<Pair> = (0..count).map(|number| (source(&mut chance), owner(number))).collect();
        let hit = |chance: &mut Chance| pairs[chance.below(count)];
        // A source that is in use against an owner that has blocked another.
        let miss = |chance: &mut Chance| loop {
            let ((src, _), (other, dst)) = (hit(chance), hit(chance));
            if src != other || count == 1 {
                return (if count == 1 { src ^ 1 } else { src }, dst);
            }
        };
        // Numbers in the order of their popularity; pairs are by chance, so their order is no matter.
        let harmonic: Vec<f64> = (1..=count)
            .scan(0.0, |sum, rank| {
                *sum += 1.0 / rank as f64;
                Some(*sum)
            })
            .collect();
        let zipf = |chance: &mut Chance| {
            let at = chance.word() as f64 / u64::MAX as f64 * harmonic[count - 1];
            pairs[harmonic.partition_point(|&sum| sum < at).min(count - 1)]
        };
        let mut asked = |name: &'static str| {
            let mut hits = 0;
            let pairs = (0..questions)
                .map(|_| {
                    let is_hit = name == KINDS[0] || name == KINDS[3] || (name == KINDS[2] && chance.word() & 1 == 0);
                    hits += usize::from(is_hit);
                    match (is_hit, name == KINDS[3]) {
                        (true, true) => zipf(&mut chance),
                        (true, false) => hit(&mut chance),
                        (false, _) => miss(&mut chance),
                    }
                })
                .collect();
            Questions { name, pairs, hits }
        };
        let questions = KINDS.map(&mut asked).into();
        Workload { pairs, questions, seed }
    }

    /// The number of the pair that update `number` takes out and puts in again.
    pub fn update(&self, number: usize) -> usize {
        Chance(self.seed ^ (number as u64) << 20).below(self.pairs.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn questions_have_the_answers_that_they_say() {
        for count in [1, 1000] {
            let workload = Workload::new(count, 5000, 7);
            let pairs: HashSet<Pair> = workload.pairs.iter().copied().collect();
            let owners: HashSet<u32> = workload.pairs.iter().map(|pair| pair.1).collect();
            assert_eq!(owners.len(), count, "every owner is another");
            for kind in &workload.questions {
                assert_eq!(kind.pairs.iter().filter(|pair| pairs.contains(pair)).count(), kind.hits, "{}", kind.name);
                assert!(kind.pairs.iter().all(|pair| owners.contains(&pair.1)));
            }
        }
    }
}
