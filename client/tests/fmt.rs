//! `vinet fmt` over files.

use std::path::Path;
use std::process::{Command, Output};

const UNTIDY: &str = "lifetime=1 day\nDISCARD(AllPackets) ;# all\n";
const TIDY: &str = "LIFETIME = 1 day\nDISCARD(AllPackets);  # all\n";

fn fmt(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vinet"));
    command.arg("fmt").args(args).current_dir(folder).output().expect("vinet runs")
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).expect("a text")
}

#[test]
fn files_are_checked_and_rewritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    for (name, text) in [("a.vnp", UNTIDY), ("b.vnp", TIDY), ("bad.vnp", "LIFETIME = 1 day\nDISCARD()\n")] {
        std::fs::write(folder.join(name), text).expect("a file");
    }
    let no = fmt(folder, &["--check", "a.vnp", "b.vnp"]);
    assert_eq!(no.status.code(), Some(1));
    let words = String::from_utf8(no.stderr).expect("text");
    assert!(words.contains("a.vnp") && !words.contains("b.vnp"), "{words}");
    assert_eq!(read(folder, "a.vnp"), UNTIDY);
    // Where one text is wrong, no file is changed.
    let wrong = fmt(folder, &["a.vnp", "bad.vnp"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8(wrong.stderr).expect("text").contains("bad.vnp:2:9"));
    assert_eq!(read(folder, "a.vnp"), UNTIDY);
    assert!(fmt(folder, &["a.vnp", "b.vnp"]).status.success());
    assert_eq!((read(folder, "a.vnp"), read(folder, "b.vnp")), (TIDY.to_string(), TIDY.to_string()));
    assert!(fmt(folder, &["--check", "a.vnp", "b.vnp"]).status.success());
    assert_eq!(fmt(folder, &["absent.vnp"]).status.code(), Some(2));
}
