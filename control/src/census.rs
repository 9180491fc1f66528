//! How many programs of each class are installed, and what they were promised.
//!
//! Kept as programs come and go, because counting a million of them for every scrape would hold the loop.

use std::collections::BTreeMap;

use vinet_session::message::Class;

/// The programs of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ClassCount {
    /// How many are installed.
    pub programs: u64,
    /// The cycles a second that they were promised together.
    pub cycles_per_second: u64,
}

/// The programs by class. A class that once had programs is kept at 0.
#[derive(Clone, Debug, Default)]
pub struct Census {
    classes: BTreeMap<Class, ClassCount>,
}

impl Census {
    /// Counts a program that was installed.
    pub fn came(&mut self, class: Class, cycles_per_second: u64) {
        let count = self.classes.entry(class).or_default();
        count.programs += 1;
        count.cycles_per_second += cycles_per_second;
    }

    /// Takes a program off that was counted with the same figures.
    pub fn went(&mut self, class: Class, cycles_per_second: u64) {
        let count = self.classes.entry(class).or_default();
        count.programs -= 1;
        count.cycles_per_second -= cycles_per_second;
    }

    /// Each class that has, or had, programs.
    pub fn classes(&self) -> impl Iterator<Item = (Class, ClassCount)> {
        self.classes.iter().map(|(class, count)| (*class, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_leaves_nothing_behind() {
        let mut census = Census::default();
        census.came(Class::Header, 10);
        census.came(Class::Content, 500);
        census.came(Class::Header, 20);
        census.went(Class::Header, 10);
        census.went(Class::Content, 500);
        let left: Vec<(Class, ClassCount)> = census.classes().collect();
        assert_eq!(
            left,
            [
                (Class::Header, ClassCount { programs: 1, cycles_per_second: 20 }),
                (Class::Content, ClassCount::default()),
            ]
        );
    }
}
