//! Hugepages for a run: where too few are free, root's number of them is raised, with a word on standard error, and put
//! back when the value is dropped.

use crate::run::PerfError;
use std::path::Path;

const NUMBER: &str = "/proc/sys/vm/nr_hugepages";
const MEMINFO: &str = "/proc/meminfo";

/// Holding one proves that so much was free on hugepages when it was made.
pub struct Hugepages {
    /// The number to put back, where it was raised.
    before: Option<u64>,
}

impl Hugepages {
    /// Sees to it that `mib` MiB are free.
    pub fn reserve(mib: u32) -> Result<Hugepages, PerfError> {
        let missing = |number: u64| PerfError::Missing {
            what: format!("packet memory of {mib} MiB on hugepages"),
            remedy: format!("as root: echo {number} > {NUMBER}"),
        };
        let file = |error| PerfError::File { path: MEMINFO.into(), error };
        let pages = || Ok(Pages::parse(&std::fs::read_to_string(MEMINFO).map_err(file)?));
        let there: Pages = pages()?;
        let Some(target) = there.number_for(mib) else { return Ok(Hugepages { before: None }) };
        // Who may not write it is told what to write.
        if std::fs::write(Path::new(NUMBER), target.to_string()).is_err() {
            return Err(missing(target));
        }
        let raised = Hugepages { before: Some(there.total) };
        let now: Pages = pages()?;
        // The kernel gives as many as it finds in one piece.
        if now.number_for(mib).is_some() {
            return Err(missing(target));
        }
        eprintln!("note: {NUMBER} is {} for this scenario, and {} again when it ends", now.total, there.total);
        Ok(raised)
    }
}

impl Drop for Hugepages {
    fn drop(&mut self) {
        if let Some(before) = self.before
            && let Err(error) = std::fs::write(NUMBER, before.to_string())
        {
            eprintln!("note: {NUMBER} could not be put back to {before}: {error}");
        }
    }
}

/// What the kernel says of its hugepages.
#[derive(Debug, PartialEq, Eq)]
struct Pages {
    total: u64,
    /// Neither in use nor promised.
    free: u64,
    kib: u64,
}

impl Pages {
    fn parse(meminfo: &str) -> Pages {
        let field = |name: &str| -> u64 {
            let rest = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let free = field("HugePages_Free").saturating_sub(field("HugePages_Rsvd"));
        Pages { total: field("HugePages_Total"), free, kib: field("Hugepagesize") }
    }

    /// The number in all at which `mib` MiB would be free; none where they are.
    fn number_for(&self, mib: u32) -> Option<u64> {
        let wanted = (u64::from(mib) * 1024).div_ceil(self.kib.max(1));
        (self.free < wanted).then(|| self.total + wanted - self.free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "MemFree: 5 kB\nHugePages_Total:     512\nHugePages_Free:      500\nHugePages_Rsvd:       10\n\
                        HugePages_Surp:        0\nHugepagesize:       2048 kB\nHugetlb:         1048576 kB\n";

    #[test]
    fn promised_pages_are_not_free() {
        assert_eq!(Pages::parse(TEXT), Pages { total: 512, free: 490, kib: 2048 });
    }

    #[test]
    fn pages_in_use_stay_beside_those_that_are_wanted() {
        let pages = Pages::parse(TEXT);
        assert_eq!(pages.number_for(980), None);
        assert_eq!(pages.number_for(981), Some(513));
        assert_eq!(pages.number_for(2831), Some(512 - 490 + 1416));
    }

    #[test]
    fn what_is_free_is_left_alone() {
        assert!(Hugepages::reserve(0).is_ok_and(|held| held.before.is_none()));
    }
}
