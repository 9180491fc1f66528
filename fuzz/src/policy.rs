//! Not covered here: what a policy means; its formulas are evaluated elsewhere.
//!
//! Policies in bytes decode to one value with those bytes; policies and formulas as text are read or refused with an
//! error, and what is read is printed as a text that is read as the same.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use vinet_session::{formula, policy_file};
use vinet_trusted::policy::Policy;

fn shipped(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/policy").join(name)
}

/// The shipped policy for end users.
///
/// # Panics
/// Where the file is no policy.
pub fn end_user() -> &'static Arc<Policy> {
    static POLICY: OnceLock<Arc<Policy>> = OnceLock::new();
    POLICY.get_or_init(|| Arc::new(policy_file::load(&shipped("end-user.toml")).unwrap_or_else(|e| panic!("{e}"))))
}

/// The shipped policies as bytes, as text, and formulas. The first byte says which.
#[must_use]
pub fn corpus() -> Vec<Vec<u8>> {
    let tagged = |tag: u8, bytes: &[u8]| [&[tag], bytes].concat();
    let formulas = [
        "owns(dst)",
        "owns(dst) and not src in {192.0.2.0/24, 2001:db8::/32, self} or (dst = subnet and true)",
        "not (src in {10.0.0.0/8, 10.0.0.1} or false) and owns(src) or dst in self",
    ];
    let mut corpus = vec![tagged(0, &end_user().encode()), tagged(1, policy_file::print(end_user()).as_bytes())];
    for text in formulas {
        corpus.push(tagged(2, text.as_bytes()));
        let formula = formula::parse(text).expect("the corpus holds formulas");
        let policy = Policy { scan: formula, ..Policy::clone(end_user()) };
        corpus.push(tagged(0, &policy.encode()));
        corpus.push(tagged(1, policy_file::print(&policy).as_bytes()));
    }
    corpus
}

/// Reads `data` as one of the three.
///
/// # Panics
/// Where something misbehaves.
pub fn target(data: &[u8]) -> bool {
    let Some((&tag, bytes)) = data.split_first() else { return false };
    let file = Path::new("fuzz.toml");
    match tag {
        0 => {
            let Ok(policy) = Policy::decode(bytes) else { return false };
            assert_eq!(policy.encode(), bytes, "two encodings of one policy");
            assert_eq!(policy_file::parse(&policy_file::print(&policy), file), Ok(policy));
            true
        }
        1 => match policy_file::parse(&String::from_utf8_lossy(bytes), file) {
            Ok(policy) => {
                assert_eq!(Policy::decode(&policy.encode()).as_ref(), Ok(&policy));
                assert_eq!(policy_file::parse(&policy_file::print(&policy), file), Ok(policy));
                true
            }
            Err(error) => explained(&error),
        },
        _ => match formula::parse(&String::from_utf8_lossy(bytes)) {
            Ok(formula) => {
                assert_eq!(formula::parse(&formula::print(&formula)), Ok(formula));
                true
            }
            Err(error) => explained(&error),
        },
    }
}

/// An error says something; what it is about was not read.
fn explained(error: &dyn std::error::Error) -> bool {
    assert!(!error.to_string().is_empty());
    false
}

#[cfg(test)]
mod tests {
    #[test]
    fn policies_are_read_in_one_way_or_refused() {
        crate::run("policy", &super::corpus(), 12_000, super::target);
    }
}
