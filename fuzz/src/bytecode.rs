//! Not covered here: whether a decoded program means what its author wrote, and programs near the limits of size, which
//! damaged small ones do not reach.
//!
//! Decoding is total; what decodes has exactly the bytes it came from, and everything that is computed from a decoded
//! program (its parts, cost, meaning, obligations) is computed without a panic.

use crate::programs::{self, AnyAnswers};
use crate::random::Random;
use vinet_client::disasm;
use vinet_client::lang::compile;
use vinet_trusted::addr::{Addr, Principal};
use vinet_trusted::check;
use vinet_trusted::meaning;
use vinet_trusted::program::{NODES_MAX, Program};

/// Programs at random, and the shipped ones.
///
/// # Panics
/// Where a shipped program does not compile.
#[must_use]
pub fn corpus() -> Vec<Vec<u8>> {
    let mut random = Random::new(1);
    (0..200).map(|_| programs::program(&mut random).encode()).chain(shipped()).collect()
}

/// The shipped sources that need no parameters, compiled.
fn shipped() -> Vec<Vec<u8>> {
    let owner = Principal::edge_router(Addr::V4(0xc000_0201), 24).expect("a prefix length within the family");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/programs");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("the shipped programs").filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let compiled = paths.iter().filter_map(|path| {
        let source = std::fs::read_to_string(path).expect("a shipped program");
        compile("shipped.vnp", &source, &[], &owner).ok()
    });
    compiled.map(|compiled| compiled.program.encode()).collect()
}

/// Decodes `data`, and uses what decodes.
///
/// # Panics
/// Where something misbehaves.
pub fn target(data: &[u8]) -> bool {
    let policy = crate::policy::end_user();
    let Ok(program) = Program::decode(data) else { return false };
    assert_eq!(program.encode(), data, "two encodings of one program");
    let again = Program::new(program.lifetime_s(), program.window(), program.words().to_vec(), program.body().to_vec());
    assert_eq!(again.as_ref(), Ok(&program), "the parts of a program make another one");
    assert!(disasm::listing(&program).lines().count() <= 8 * NODES_MAX, "a listing is bounded like its program");
    let owners = [
        Principal::EndUser(Addr::V4(0xc000_0201)),
        Principal::edge_router(Addr::V4(0xc000_0201), 24).expect("a prefix length within the family"),
    ];
    let mut random = Random::new(data.len() as u64);
    let lemmas = vinet_prover::library();
    // Damage can ask for more turns than there is time for.
    let turns = |_| Some(3);
    for owner in owners {
        for _ in 0..2 {
            let window = programs::window(&mut random);
            // A name that the owner has not is a lawful answer.
            let _ = meaning::run(&program, &owner, policy, &window, &mut AnyAnswers(&mut random), &turns);
        }
        // No proof at all: obligations are computed, and met by nothing.
        let _ = check::check(data, &[], owner, policy, &lemmas);
        let _ = vinet_prover::prove(&program, &owner, policy, &lemmas, &[]);
    }
    true
}

#[cfg(test)]
mod tests {
    #[test]
    fn decoding_is_total_and_canonical() {
        crate::run("bytecode", &super::corpus(), 30_000, super::target);
    }
}
