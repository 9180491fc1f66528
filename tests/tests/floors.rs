//! The floors of the workspace: a crate imports only crates below it, the trusted base imports almost nothing, and the crates that
//! promise to be free of `unsafe` say so where the compiler reads it. Derived from `cargo metadata`, so no list has to be kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The floor of each crate, and what it may import of this workspace; none: anything below it.
const FLOORS: &[(&str, u8, Option<&[&str]>)] = &[
    ("vinet-trusted", 0, Some(&[])),
    ("vinet-dpdk-sys", 1, Some(&[])),
    ("vinet-tap-sys", 1, Some(&[])),
    ("vinet-pktops", 1, Some(&["vinet-trusted"])),
    ("vinet-prover", 1, Some(&["vinet-trusted"])),
    ("vinet-session", 1, Some(&["vinet-trusted"])),
    ("vinet-fastpath", 2, Some(&["vinet-trusted", "vinet-pktops", "vinet-dpdk-sys"])),
    ("vinet-client", 2, Some(&["vinet-trusted", "vinet-prover", "vinet-pktops", "vinet-session"])),
    (
        "vinet-control",
        3,
        Some(&["vinet-trusted", "vinet-prover", "vinet-session", "vinet-pktops", "vinet-fastpath", "vinet-tap-sys"]),
    ),
    ("vinet-perf", 4, None),
    ("vinet-tests", 4, None),
    ("vinet-fuzz", 4, None),
];

/// Crates whose every target forbids `unsafe`.
const WITHOUT_UNSAFE: &[&str] =
    &["vinet-trusted", "vinet-pktops", "vinet-prover", "vinet-session", "vinet-client", "vinet-control"];

struct Crate {
    name: String,
    /// Its dependencies: name, and whether it is only for its own tests.
    imports: Vec<(String, bool)>,
    /// The root file of each target that is not a test, example or benchmark.
    roots: Vec<PathBuf>,
}

fn workspace() -> Vec<Crate> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(top().join("Cargo.toml"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let text = |v: &Value| v.as_str().expect("a string of cargo metadata").to_string();
    let list = |v: &Value| v.as_array().expect("a list of cargo metadata").clone();
    list(&metadata["packages"])
        .iter()
        .map(|package| Crate {
            name: text(&package["name"]),
            imports: list(&package["dependencies"]).iter().map(|d| (text(&d["name"]), d["kind"] == "dev")).collect(),
            roots: list(&package["targets"])
                .iter()
                .filter(|t| list(&t["kind"]).iter().any(|k| k == "lib" || k == "bin"))
                .map(|t| PathBuf::from(text(&t["src_path"])))
                .collect(),
        })
        .collect()
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

#[test]
fn every_crate_has_a_floor() {
    let known: BTreeSet<&str> = FLOORS.iter().map(|(name, ..)| *name).collect();
    let found: BTreeSet<String> = workspace().into_iter().map(|c| c.name).collect();
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, known, "a crate came or went: give it a floor here and in docs/ARCHITECTURE.md");
}

#[test]
fn imports_go_down() {
    let floors: BTreeMap<&str, (u8, Option<&[&str]>)> = FLOORS.iter().map(|(n, f, may)| (*n, (*f, *may))).collect();
    for importer in workspace() {
        let (floor, may) = floors[importer.name.as_str()];
        for (import, for_tests) in &importer.imports {
            let Some((below, _)) = floors.get(import.as_str()) else { continue };
            // A crate's own tests may look sideways, for an oracle, but never up.
            let down = if *for_tests { *below <= floor.max(1) } else { *below < floor };
            assert!(down, "{} (floor {floor}) imports {import} (floor {below})", importer.name);
            if let (Some(may), false) = (may, *for_tests) {
                assert!(may.contains(&import.as_str()), "{} may not import {import}", importer.name);
            }
        }
    }
}

#[test]
fn the_trusted_base_imports_blake3_at_most() {
    let trusted = workspace().into_iter().find(|c| c.name == "vinet-trusted").expect("the trusted base exists");
    let imports: Vec<&String> = trusted.imports.iter().filter(|(_, dev)| !dev).map(|(name, _)| name).collect();
    assert!(imports.iter().all(|i| *i == "blake3"), "the trusted base imports {imports:?}");
    let root = std::fs::read_to_string(&trusted.roots[0]).expect("its root file can be read");
    assert!(
        root.contains("#![no_std]") || root.contains("#![cfg_attr(not(test), no_std)]"),
        "the trusted base is no_std"
    );
}

#[test]
fn dpdk_is_reached_only_through_the_fast_path() {
    for importer in workspace() {
        if importer.imports.iter().any(|(i, _)| ["vinet-dpdk-sys", "capsule", "capsule-ffi"].contains(&i.as_str())) {
            assert_eq!(importer.name, "vinet-fastpath", "only the fast path may import the raw bindings");
        }
    }
}

#[test]
fn unsafe_is_forbidden_where_promised() {
    let mut seen = 0;
    for c in workspace().into_iter().filter(|c| WITHOUT_UNSAFE.contains(&c.name.as_str())) {
        for root in &c.roots {
            let text = std::fs::read_to_string(root).expect("a target's root file can be read");
            let manifest = std::fs::read_to_string(
                root.ancestors()
                    .find_map(|a| {
                        let manifest = a.join("Cargo.toml");
                        manifest.exists().then_some(manifest)
                    })
                    .expect("a target lies in a crate"),
            )
            .expect("a manifest can be read");
            let forbids = text.contains("#![forbid(unsafe_code)]") || manifest.contains("unsafe_code = \"forbid\"");
            assert!(forbids, "{} does not forbid unsafe code", root.display());
            seen += 1;
        }
    }
    assert!(seen >= WITHOUT_UNSAFE.len(), "fewer targets than crates: {seen}");
}

#[test]
fn sources_hold_no_unfinished_business() {
    // Spelt in halves, so that this file passes its own test.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    let mut files = 0;
    for file in sources(top()) {
        let text = std::fs::read_to_string(&file).expect("a source file can be read");
        for (number, line) in text.lines().enumerate() {
            for mark in marks {
                assert!(!line.contains(mark), "{}:{}: {mark}", file.display(), number + 1);
            }
        }
        assert!(text.lines().count() <= 900, "{} tells more than one story: split it", file.display());
        files += 1;
    }
    assert!(files > 20, "the walk found only {files} files");
}

/// Every file of Rust or shell below the folder, without what was built.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of the workspace can be read").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            if !name.starts_with("target") && !name.starts_with('.') {
                found.extend(sources(&path));
            }
        } else if name.ends_with(".rs") || name.ends_with(".sh") {
            found.push(path);
        }
    }
    found
}
