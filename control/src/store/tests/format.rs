//! Whose the file is, its version, its lock.

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};

use super::*;

/// What a made-up version 0 kept in the place of programs.
const OLD: TableDefinition<u64, u64> = TableDefinition::new("old");

/// A file of the made-up version 0, with two programs of one owner that were not worth a table of their own.
fn version_0(path: &Path, router: &RouterId) {
    make(path, router, Options::default()).unwrap();
    let db = Database::open(path).unwrap();
    let write = db.begin_write().unwrap();
    write.open_table(tables::FORMAT).unwrap().insert(tables::VERSION_KEY, 0u32.to_le_bytes().as_slice()).unwrap();
    write.delete_table(tables::PROGRAMS).unwrap();
    for (instance, paid) in [(4, 10), (5, 20)] {
        write.open_table(OLD).unwrap().insert(instance, paid).unwrap();
    }
    write.commit().unwrap();
}

fn from_0(write: &WriteTransaction) -> Result<(), redb::Error> {
    let mut programs = write.open_table(tables::PROGRAMS)?;
    for entry in write.open_table(OLD)?.iter()? {
        let (instance, paid) = entry?;
        let row = codec::ProgramRow {
            owner: 0,
            head: None,
            upload: b"old",
            proof: None,
            began_s: NOW_S,
            lifetime_s: 1,
            paid: paid.value(),
        };
        programs.insert(instance.value(), row.encode().as_slice())?;
    }
    drop(programs);
    write.delete_table(OLD)?;
    let row = codec::AccountRow { key: key(1), balance: 0, receipts: 0, last: [0; 32] };
    write.open_table(tables::ACCOUNTS)?.insert(0, row.encode().as_slice())?;
    Ok(())
}

/// Does part of its work, and fails.
fn fails(write: &WriteTransaction) -> Result<(), redb::Error> {
    write.delete_table(tables::RECEIPTS)?;
    Err(redb::Error::Corrupted("a row of version 1 is not in its form".into()))
}

fn open(path: &Path, router: &RouterId, steps: &[tables::Step]) -> Result<(Store, Recovered), StoreError> {
    let file = File::options().read(true).write(true).open(path).unwrap();
    Store::with_backend(path, FileBackend::new(file).unwrap(), router, Options::default(), steps)
}

#[test]
fn an_older_file_becomes_one_of_this_version_or_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge1.store");
    let router = key(9);
    version_0(&path, &router);
    // This program knows no way from version 0, and says so.
    let error = Store::open(&path, &router, Options::default()).unwrap_err();
    assert_eq!(error, StoreError::Format { path: path.clone(), found: 0, known: FORMAT_VERSION });
    assert!(error.to_string().contains("version 0, and this vinetd reads 1"), "{error}");
    // A migration of two steps of which the second fails changes nothing.
    let steps = [tables::Step { from: 0, run: from_0 }, tables::Step { from: 1, run: fails }];
    let error = open(&path, &router, &steps).unwrap_err();
    assert!(error.to_string().contains("a row of version 1"), "{error}");
    let db = Database::open(&path).unwrap();
    assert!(
        db.begin_read().unwrap().open_table(OLD).is_ok()
            && db.begin_read().unwrap().open_table(tables::RECEIPTS).is_ok()
    );
    drop(db);
    // With the step there is a way, once and for all.
    let (_store, recovered) = open(&path, &router, &steps[..1]).unwrap();
    let paid = |recovered: &Recovered| programs(recovered).iter().map(|program| program.paid).collect::<Vec<_>>();
    assert_eq!((paid(&recovered), programs(&recovered)[0].owner), (vec![10, 20], key(1)));
    drop((_store, recovered));
    let (_store, recovered) = Store::open(&path, &router, Options::default()).unwrap();
    assert_eq!(paid(&recovered), [10, 20]);
}

#[test]
fn a_newer_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge1.store");
    make(&path, &key(9), Options::default()).unwrap();
    let db = Database::open(&path).unwrap();
    let write = db.begin_write().unwrap();
    write.open_table(tables::FORMAT).unwrap().insert(tables::VERSION_KEY, 7u32.to_le_bytes().as_slice()).unwrap();
    write.commit().unwrap();
    drop(db);
    let error = Store::open(&path, &key(9), Options::default()).unwrap_err();
    assert_eq!(error, StoreError::Format { path, found: 7, known: FORMAT_VERSION });
}

#[test]
fn another_routers_file_is_refused_and_both_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge1.store");
    drop(Store::open(&path, &key(1), Options::default()).unwrap());
    let error = Store::open(&path, &key(2), Options::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&"01".repeat(32)) && text.contains(&"02".repeat(32)), "{text}");
    drop(Store::open(&path, &key(1), Options::default()).unwrap());
}

#[test]
fn a_second_instance_is_refused_until_the_first_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge1.store");
    let (store, recovered) = Store::open(&path, &key(1), Options::default()).unwrap();
    drop(recovered);
    let locked = || Store::open(&path, &key(1), Options::default()).unwrap_err();
    assert_eq!(locked(), StoreError::Locked { path: path.clone() });
    assert_eq!(export(&path, &mut Vec::new()).unwrap_err(), StoreError::Locked { path: path.clone() });
    let committer: Committer<()> = store.start(|| {}).unwrap();
    assert_eq!(locked(), StoreError::Locked { path: path.clone() });
    drop(committer);
    drop(Store::open(&path, &key(1), Options::default()).unwrap());
}

#[test]
fn what_a_crash_left_while_the_file_was_made_is_no_hindrance() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge1.store");
    std::fs::write(dir.path().join("edge1.store.new"), vec![7; 10_000]).unwrap();
    std::fs::write(&path, []).unwrap();
    let (_store, recovered) = Store::open(&path, &key(1), Options::default()).unwrap();
    assert_eq!(recovered.next_instance, 1);
    assert!(!dir.path().join("edge1.store.new").exists());
}

#[test]
fn a_file_that_others_could_read_is_taken_from_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge1.store");
    drop(Store::open(&path, &key(1), Options::default()).unwrap());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(Store::open(&path, &key(1), Options::default()).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let error = Store::open(Path::new("/proc/nope/edge1.store"), &key(1), Options::default()).unwrap_err();
    assert!(error.to_string().contains("/proc/nope/edge1.store: cannot make it"), "{error}");
}
