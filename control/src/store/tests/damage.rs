//! Damaged files: they are refused with a reason, and what is readable of them can be had.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;

use serde_json::Value;

use super::*;

/// A store with 300 programs, in a file, and the same file closed in disorder.
fn stores(dir: &Path) -> (Till, PathBuf, PathBuf) {
    let (path, torn) = (dir.join("edge1.store"), dir.join("torn.store"));
    let mut till = Till::new();
    let (mut desk, recovered) = Desk::open(&path, &till);
    drop(recovered);
    desk.commit(till.deposit(key(1), 1_000));
    let installs: Vec<Put> = (0..300).flat_map(|_| till.install(key(1), 1).puts().to_vec()).collect();
    desk.commit(installs.into());
    let note = |value: Vec<u8>| Put::Keep { kind: Kind::Note, key: b"long".to_vec(), value };
    desk.commit(vec![note(vec![0x55; 20_000])].into());
    std::fs::copy(&path, &torn).unwrap();
    drop(desk);
    (till, path, torn)
}

fn lines(path: &Path) -> (Exported, Vec<Value>) {
    let mut out = Vec::new();
    let exported = export(path, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    (exported, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn instances(lines: &[Value]) -> BTreeSet<u64> {
    lines.iter().filter(|line| line["record"] == "program").map(|line| line["instance"].as_u64().unwrap()).collect()
}

#[test]
fn a_good_file_is_exported_whole_whether_closed_in_order_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let (till, path, torn) = stores(dir.path());
    for path in [path, torn] {
        let before = std::fs::read(&path).unwrap();
        let (exported, lines) = lines(&path);
        assert_eq!((exported.damaged, exported.scanned, exported.records), (0, false, lines.len() as u64));
        let count = |kind: &str| lines.iter().filter(|line| line["record"] == kind).count();
        assert_eq!(["program", "receipt", "request", "credit", "account", "note"].map(count), [300, 301, 300, 1, 1, 1]);
        let state = lines.iter().find(|line| line["record"] == "state").unwrap();
        assert_eq!((state["issued"].as_u64(), state["escrow"].as_u64()), (Some(1_000), Some(300)));
        let account = lines.iter().find(|line| line["record"] == "account").unwrap();
        assert_eq!((account["balance"].as_u64(), &account["key"]), (Some(700), &Value::from(key(1).to_string())));
        assert_eq!(lines[0]["key"].as_str().unwrap(), till.router().to_string());
        assert_eq!(std::fs::read(&path).unwrap(), before, "an export changes nothing");
    }
}

#[test]
fn no_store_at_all_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge1.store");
    std::fs::write(&path, b"#!/bin/sh\necho a script, and not a store\n".repeat(300)).unwrap();
    let text = Store::open(&path, &key(1), Options::default()).unwrap_err().to_string();
    assert!(text.contains("edge1.store is damaged or no store"), "{text}");
    assert!(text.contains(&format!("vinetd store export {}", path.display())), "{text}");
    // Another program's redb file is none either.
    std::fs::remove_file(&path).unwrap();
    let db = Database::create(&path).unwrap();
    let write = db.begin_write().unwrap();
    write.open_table(redb::TableDefinition::<u64, u64>::new("format")).unwrap().insert(1, 1).unwrap();
    write.commit().unwrap();
    drop(db);
    let error = Store::open(&path, &key(1), Options::default()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn a_damaged_page_is_found_when_the_file_is_opened_and_the_others_are_exported() {
    let dir = tempfile::tempdir().unwrap();
    let (till, path, torn) = stores(dir.path());
    // One receipt's bytes in each file, which no structure depends on.
    for path in [path, torn] {
        let mut bytes = std::fs::read(&path).unwrap();
        let needle = till.ledger_receipt_bytes(&path);
        let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
        bytes[at + 40..at + 60].fill(0xee);
        std::fs::write(&path, &bytes).unwrap();
        let error = Store::open(&path, &till.router(), Options::default()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "a refused file is as it was");
        let (exported, lines) = lines(&path);
        assert!(exported.damaged > 0);
        assert_eq!(instances(&lines), (1..=300).collect(), "all programs are readable");
    }
}

impl Till {
    /// The bytes of a receipt that the file holds.
    fn ledger_receipt_bytes(&self, path: &Path) -> Vec<u8> {
        let (_, lines) = lines(path);
        let line = lines.iter().find(|line| line["record"] == "receipt" && line["number"] == 150).unwrap();
        let hex = line["receipt"].as_str().unwrap();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }
}

#[test]
fn a_file_without_its_head_is_exported_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let (till, path, _) = stores(dir.path());
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0xaa; 4096], 0).unwrap();
    let error = Store::open(&path, &till.router(), Options::default()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let (exported, lines) = lines(&path);
    assert!(exported.scanned && exported.damaged == 1, "{exported:?}");
    assert_eq!(instances(&lines), (1..=300).collect());
    let numbers = |kind: &str, field: &str| -> BTreeSet<u64> {
        lines.iter().filter(|line| line["record"] == kind).filter_map(|line| line[field].as_u64()).collect()
    };
    assert_eq!(numbers("receipt", "number"), (1..=301).collect());
    assert!(numbers("account", "balance").contains(&700) && numbers("state", "escrow").contains(&300));
    assert_eq!(numbers("credit", "amount"), [1_000].into());
    assert_eq!(numbers("request", "expiry_s").len(), 300);
    let program = lines.iter().find(|line| line["record"] == "program").unwrap();
    assert_eq!(program["owner"].as_str().unwrap(), key(1).to_string());
}

#[test]
fn a_file_that_ends_early_is_refused_and_exported() {
    let dir = tempfile::tempdir().unwrap();
    let (till, path, _) = stores(dir.path());
    let len = std::fs::metadata(&path).unwrap().len();
    for len in [1, 100, 4096, len / 2, len - 1] {
        let cut = dir.path().join("cut.store");
        std::fs::copy(&path, &cut).unwrap();
        File::options().write(true).open(&cut).unwrap().set_len(len).unwrap();
        let error = Store::open(&cut, &till.router(), Options::default()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{len}: {error}");
        lines(&cut);
    }
}

#[test]
fn no_damage_makes_the_store_panic_or_tell_another_story() {
    let dir = tempfile::tempdir().unwrap();
    let (till, path, torn) = stores(dir.path());
    let damaged = dir.path().join("damaged.store");
    let seed = std::env::var("VINET_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| ahash::RandomState::new().hash_one(Instant::now()));
    println!("VINET_TEST_SEED={seed}");
    let mut state: u64 = seed | 1;
    let mut random = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    let mut refused = 0;
    for round in 0..30 {
        let mut bytes = std::fs::read(if round % 2 == 0 { &path } else { &torn }).unwrap();
        // A bit, some bytes, or a page; where most of the structure is, or anywhere.
        let end = if round % 3 == 0 { 8_192.min(bytes.len()) } else { bytes.len() };
        let at = random(end as u64) as usize;
        match random(3) {
            0 => bytes[at] ^= 1 << random(8),
            1 => bytes[at..].iter_mut().take(16).for_each(|byte| *byte = random(256) as u8),
            _ => {
                let at = at & !4095;
                bytes[at..].iter_mut().take(4096).for_each(|byte| *byte = random(256) as u8);
            }
        }
        std::fs::write(&damaged, &bytes).unwrap();
        match Store::open(&damaged, &till.router(), Options::default()) {
            Ok((_store, recovered)) => {
                assert_eq!((recovered.programs, recovered.books.escrow), (300, 300), "round {round}");
                assert_eq!(programs(&recovered).len(), 300);
            }
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("damaged.store"), "{error}");
            }
        }
        std::fs::write(&damaged, &bytes).unwrap();
        lines(&damaged);
    }
    assert!(refused > 2, "{refused} of 30 were refused");
}
