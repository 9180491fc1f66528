//! Linear arithmetic over the integers, as far as sums of inequalities go: exact Fourier-Motzkin elimination that keeps
//! track of how often each inequality was taken.

use std::collections::{BTreeMap, BTreeSet};
use vinet_trusted::term::{Id, Node, Op, Terms};

/// The most rows that elimination holds at once.
const ROWS_MAX: usize = 400;

/// The most nodes of one sum: what is shared counts each time.
const NODES_MAX: usize = 4096;

/// Multiples of terms that are no sums, and a constant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How often each term is in it, never 0.
    pub parts: BTreeMap<Id, i128>,
    /// What is added.
    pub constant: i128,
}

impl Sum {
    /// `times` the integer `id`, added. Nothing where it gets too large.
    pub fn add(&mut self, terms: &mut Terms, id: Id, times: i128) -> Option<()> {
        let mut todo = vec![(id, times)];
        for _ in 0..NODES_MAX {
            let Some((id, times)) = todo.pop() else { return Some(()) };
            let Node { op, args: [a, b, ..] } = terms.get(id);
            if let Some(value) = terms.as_int(id) {
                self.constant = self.constant.checked_add(times.checked_mul(i128::from(value))?)?;
                continue;
            }
            match op {
                Op::Add => todo.extend([(a, times), (b, times)]),
                Op::Sub => todo.extend([(a, times), (b, times.checked_neg()?)]),
                Op::Mul => match (terms.as_int(a), terms.as_int(b)) {
                    (Some(value), _) => todo.push((b, times.checked_mul(i128::from(value))?)),
                    (_, Some(value)) => todo.push((a, times.checked_mul(i128::from(value))?)),
                    _ => {
                        let ordered = terms.node(Op::Mul, a.min(b), a.max(b)).ok()?;
                        self.count(ordered, times)?;
                    }
                },
                _ => self.count(id, times)?,
            }
        }
        None
    }
    fn count(&mut self, id: Id, times: i128) -> Option<()> {
        let part = self.parts.entry(id).or_insert(0);
        *part = part.checked_add(times)?;
        if *part == 0 {
            self.parts.remove(&id);
        }
        Some(())
    }
    /// Whether the two add up to 0.
    pub fn is_minus(&self, other: &Sum) -> bool {
        let mirrored = |((a, n), (b, m)): ((&Id, &i128), (&Id, &i128))| a == b && n.checked_add(*m) == Some(0);
        self.constant.checked_add(other.constant) == Some(0)
            && self.parts.len() == other.parts.len()
            && self.parts.iter().zip(&other.parts).all(mirrored)
    }
    fn plus(&self, other: &Sum, times: i128, own: i128) -> Option<Sum> {
        let mut sum = Sum { parts: BTreeMap::new(), constant: self.constant.checked_mul(own)? };
        sum.constant = sum.constant.checked_add(other.constant.checked_mul(times)?)?;
        for (id, part) in &self.parts {
            sum.count(*id, part.checked_mul(own)?)?;
        }
        for (id, part) in &other.parts {
            sum.count(*id, part.checked_mul(times)?)?;
        }
        Some(sum)
    }
}

/// That a sum is at most 0, or that it is 0.
#[derive(Clone, Debug)]
pub struct Row {
    /// The sum.
    pub sum: Sum,
    /// Whether it is 0.
    pub is_equation: bool,
    /// What using it costs, in bytes.
    pub price: usize,
}

#[derive(Clone, Debug)]
struct Taken {
    sum: Sum,
    is_equation: bool,
    /// How often each of the rows given is in it.
    of: BTreeMap<usize, i128>,
}

impl Taken {
    fn plus(&self, other: &Taken, times: i128, own: i128) -> Option<Taken> {
        let mut of: BTreeMap<usize, i128> = BTreeMap::new();
        for (row, count) in &self.of {
            of.insert(*row, count.checked_mul(own)?);
        }
        for (row, count) in &other.of {
            let entry = of.entry(*row).or_insert(0);
            *entry = entry.checked_add(count.checked_mul(times)?)?;
        }
        of.retain(|_, count| *count != 0);
        let mut sum = Taken { sum: self.sum.plus(&other.sum, times, own)?, is_equation: self.is_equation, of };
        sum.reduce();
        Some(sum)
    }
    /// Divides by what divides everything.
    fn reduce(&mut self) {
        let all = self.sum.parts.values().chain(self.of.values()).chain([&self.sum.constant]);
        let divisor = all.fold(0u128, |d, n| gcd(d, n.unsigned_abs()));
        if divisor > 1
            && let Ok(divisor) = i128::try_from(divisor)
        {
            self.sum.parts.values_mut().for_each(|n| *n /= divisor);
            self.of.values_mut().for_each(|n| *n /= divisor);
            self.sum.constant /= divisor;
        }
    }
}

const fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Eliminates every term but `keep`. What is left says things of it alone, or of nothing.
fn eliminate(rows: &[Row], keep: Option<Id>) -> Option<Vec<Taken>> {
    let mut rows: Vec<Taken> = rows
        .iter()
        .enumerate()
        .map(|(i, row)| Taken { sum: row.sum.clone(), is_equation: row.is_equation, of: BTreeMap::from([(i, 1)]) })
        .collect();
    let mut done = Vec::new();
    loop {
        let (left, over): (Vec<Taken>, Vec<Taken>) =
            rows.into_iter().partition(|row| row.sum.parts.keys().any(|id| Some(*id) != keep));
        done.extend(over);
        rows = left;
        let variables: BTreeSet<Id> =
            rows.iter().flat_map(|row| row.sum.parts.keys().copied()).filter(|id| Some(*id) != keep).collect();
        if variables.is_empty() {
            return Some(done);
        }
        // An equation says what a variable is; else the variable goes that makes the fewest new rows.
        let of_equation = rows.iter().enumerate().filter(|(_, row)| row.is_equation).find_map(|(at, row)| {
            let parts = row.sum.parts.iter().filter(|(id, _)| Some(**id) != keep);
            parts.min_by_key(|(_, n)| n.unsigned_abs()).map(|(id, _)| (at, *id))
        });
        if let Some((at, id)) = of_equation {
            let equation = rows.swap_remove(at);
            let own = equation.sum.parts[&id];
            rows = rows
                .into_iter()
                .map(|row| match row.sum.parts.get(&id) {
                    None => Some(row),
                    Some(other) => row.plus(&equation, -other * own.signum(), own.abs()),
                })
                .collect::<Option<_>>()?;
            continue;
        }
        let sides = |id: Id| {
            let of =
                |up: bool| rows.iter().filter(|row| row.sum.parts.get(&id).is_some_and(|n| (*n > 0) == up)).count();
            of(true) * of(false)
        };
        let id = variables.into_iter().min_by_key(|id| (sides(*id), *id))?;
        let (with, mut next): (Vec<Taken>, Vec<Taken>) =
            rows.into_iter().partition(|row| row.sum.parts.contains_key(&id));
        let (up, down): (Vec<&Taken>, Vec<&Taken>) = with.iter().partition(|row| row.sum.parts[&id] > 0);
        for a in &up {
            for b in &down {
                next.push(a.plus(b, a.sum.parts[&id], -b.sum.parts[&id])?);
            }
        }
        // Of two rows that differ in the constant the one with the greater says more.
        next.sort_by(|a, b| {
            let of =
                |row: &Taken| (row.sum.parts.clone().into_iter().collect::<Vec<_>>(), -row.sum.constant, row.of.len());
            of(a).cmp(&of(b))
        });
        next.dedup_by(|b, a| a.sum.parts == b.sum.parts && !a.is_equation && !b.is_equation);
        if next.len() > ROWS_MAX {
            return None;
        }
        rows = next;
    }
}

/// How often each row has to be taken for the sum to say that a positive number is at most 0: of those ways that
/// elimination finds, the cheapest.
pub fn refute(rows: &[Row]) -> Option<Vec<(usize, i64)>> {
    let found = eliminate(rows, None)?;
    let fits = |row: &Taken| -> Option<Vec<(usize, i64)>> {
        let sign = match row.sum.constant {
            0 => return None,
            n if n > 0 => 1,
            // An equation that says that a negative number is 0.
            _ if row.is_equation => -1,
            _ => return None,
        };
        row.of.iter().map(|(at, count)| Some((*at, i64::try_from(sign * count).ok()?))).collect()
    };
    let price = |taken: &Vec<(usize, i64)>| taken.iter().map(|(row, _)| rows[*row].price + 1).sum::<usize>();
    found.iter().filter_map(fits).min_by_key(|taken| (price(taken), taken.clone()))
}

/// The least and the greatest integer that `value` can be by these rows, where there are such.
pub fn range(rows: &[Row], value: &Sum, unused: Id) -> (Option<i64>, Option<i64>) {
    let mut sum = value.clone();
    sum.parts.insert(unused, -1);
    let mut rows = rows.to_vec();
    rows.push(Row { sum, is_equation: true, price: 0 });
    let (mut least, mut greatest): (Option<i128>, Option<i128>) = (None, None);
    for row in eliminate(&rows, Some(unused)).unwrap_or_default() {
        let Some(&times) = row.sum.parts.get(&unused) else { continue };
        // times × value is at most `at`, or is it.
        let at = -row.sum.constant;
        let (at, times, is_most) = if times < 0 { (-at, -times, false) } else { (at, times, true) };
        if is_most || row.is_equation {
            let most = at.div_euclid(times);
            greatest = Some(greatest.map_or(most, |known| known.min(most)));
        }
        if !is_most || row.is_equation {
            let low = -(-at).div_euclid(times);
            least = Some(least.map_or(low, |known| known.max(low)));
        }
    }
    let small = |n: i128| i64::try_from(n).ok();
    (least.and_then(small), greatest.and_then(small))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(parts: &[(Id, i128)], constant: i128, is_equation: bool) -> Row {
        Row { sum: Sum { parts: parts.iter().copied().collect(), constant }, is_equation, price: 2 }
    }

    #[test]
    fn a_contradiction_is_found_with_its_multipliers() {
        // 2x - y <= 0, y - 7 <= 0, 4 - x <= 0.
        let rows = [row(&[(1, 2), (2, -1)], 0, false), row(&[(2, 1)], -7, false), row(&[(1, -1)], 4, false)];
        assert_eq!(refute(&rows), Some(vec![(0, 1), (1, 1), (2, 2)]));
        assert_eq!(refute(&rows[..2]), None);
    }

    #[test]
    fn equations_are_taken_either_way() {
        // x + y = 5, x >= 3, y >= 3.
        let rows = [row(&[(1, 1), (2, 1)], -5, true), row(&[(1, -1)], 3, false), row(&[(2, -1)], 3, false)];
        assert_eq!(refute(&rows), Some(vec![(0, 1), (1, 1), (2, 1)]));
        assert_eq!(refute(&[row(&[], -5, true)]), Some(vec![(0, -1)]));
    }

    #[test]
    fn ranges_are_rounded_to_integers() {
        // 2x <= 7, 3x >= 4.
        let rows = [row(&[(1, 2)], -7, false), row(&[(1, -3)], 4, false)];
        let x = Sum { parts: BTreeMap::from([(1, 1)]), constant: 0 };
        assert_eq!(range(&rows, &x, 99), (Some(2), Some(3)));
        let minus = Sum { parts: BTreeMap::from([(1, -1)]), constant: 0 };
        assert_eq!(range(&rows, &minus, 99), (Some(-3), Some(-2)));
        assert_eq!(range(&rows[..1], &x, 99), (None, Some(3)));
        let equal = [row(&[(1, 1)], -4, true)];
        assert_eq!(range(&equal, &x, 99), (Some(4), Some(4)));
        assert_eq!(range(&[row(&[(1, -1)], 4, true)], &x, 99), (Some(4), Some(4)));
    }
}
