//! The README and the pages in docs/: what they tell a reader to type is typed here, and what they link to exists.
//!
//! A block of commands that follows a line `<!-- run -->` is run by bash, in a folder of its own for each page that has the
//! project's `configs` in it, with the built programs on the PATH, and must exit with 0.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use vinet_tests::process::{binary, run};

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![top().join("README.md")];
    let docs = std::fs::read_dir(top().join("docs")).expect("docs/ can be read");
    pages.extend(docs.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "md")));
    pages.sort();
    pages
}

/// The marked blocks of a page, each with the number of its first line.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        if line.trim() != "<!-- run -->" {
            continue;
        }
        let (number, fence) = lines.next().expect("a block follows its mark");
        assert!(fence.starts_with("```"), "line {}: a block of commands follows its mark, not {fence:?}", number + 1);
        let body: Vec<&str> = lines.by_ref().map(|(_, l)| l).take_while(|l| !l.starts_with("```")).collect();
        found.push((number + 2, body.join("\n")));
    }
    found
}

#[test]
fn what_the_pages_say_to_type_works() {
    let bin_dir = binary("vinet").parent().expect("a binary lies in a folder").to_path_buf();
    let path = format!("{}:{}", bin_dir.display(), std::env::var("PATH").unwrap_or_default());
    let mut ran = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::os::unix::fs::symlink(top().join("configs"), dir.path().join("configs"))
            .expect("a link in a temporary folder");
        for (line, block) in blocks(&text) {
            let mut command = Command::new("bash");
            command.args(["-euo", "pipefail", "-c", &block]).current_dir(dir.path()).env("PATH", &path);
            let finished = run(command, Duration::from_secs(60));
            assert!(finished.ok(), "{}:{line}: {finished}", page.display());
            ran += 1;
        }
    }
    assert!(ran > 0, "no page has a block marked to run");
}

#[test]
fn links_inside_the_project_lead_somewhere() {
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().expect("a split has a first part");
            if file.is_empty() || file.contains("://") || file.contains(char::is_whitespace) {
                continue;
            }
            let folder = page.parent().expect("a page lies in a folder");
            assert!(folder.join(file).exists(), "{} links to {file}, which does not exist", page.display());
        }
    }
}

#[test]
fn the_readme_names_the_two_commands() {
    let text = std::fs::read_to_string(top().join("README.md")).expect("README.md");
    let (demo, test) = (text.find("make demo"), text.find("make test"));
    assert!(demo.is_some() && test.is_some(), "make demo and make test");
}
