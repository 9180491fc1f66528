//! Lines of code, as the bars of the trusted base count them: without comments, blank lines and tests.
//!
//! It reads Rust well enough for that: nested comments, strings, raw strings and characters are told apart, and an item
//! behind `#[cfg(test)]` is left out together with the file that it may name.

use crate::run::PerfError;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The functions of `term.rs` that substitution is made of.
const SUBSTITUTION: [&str; 7] = ["map", "open_with", "open", "close", "replace", "fill", "Put"];

/// The lines of the trusted base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// For each file, its name and its lines of code.
    pub files: Vec<(String, usize)>,
    /// `logic.rs`, `theory.rs` and the substitution of `term.rs`.
    pub rules: usize,
}

impl Lines {
    /// All files together.
    pub fn total(&self) -> usize {
        self.files.iter().map(|(_, lines)| lines).sum()
    }
}

/// Counts the sources in the folder `trusted/src` of the source tree; none where there is no such folder.
pub fn count(folder: &Path) -> Result<Option<Lines>, PerfError> {
    if !folder.is_dir() {
        return Ok(None);
    }
    let mut sources = Vec::new();
    read_folder(folder, &mut sources)?;
    sources.sort();
    let tests: BTreeSet<PathBuf> = sources.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    let is_test = |path: &Path| tests.iter().any(|test| path == test || path.starts_with(test.with_extension("")));
    let mut lines = Lines { files: Vec::new(), rules: 0 };
    for (path, text) in sources.iter().filter(|(path, _)| !is_test(path)) {
        let code = code_of(text);
        let name = path.strip_prefix(folder).unwrap_or(path).display().to_string();
        lines.rules += match name.as_str() {
            "logic.rs" | "theory.rs" => count_lines(&code),
            "term.rs" => substitution(&code).ok_or_else(|| {
                let why = format!("one of {SUBSTITUTION:?} is not there: the bar of the rules has to be told anew");
                PerfError::Void { what: format!("the count of {}", path.display()), why }
            })?,
            _ => 0,
        };
        lines.files.push((name, count_lines(&code)));
    }
    Ok(Some(lines))
}

fn read_folder(folder: &Path, sources: &mut Vec<(PathBuf, String)>) -> Result<(), PerfError> {
    let fault = |path: &Path, error| PerfError::File { path: path.to_owned(), error };
    for entry in std::fs::read_dir(folder).map_err(|e| fault(folder, e))? {
        let path = entry.map_err(|e| fault(folder, e))?.path();
        if path.is_dir() {
            read_folder(&path, sources)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).map_err(|e| fault(&path, e))?;
            sources.push((path, text));
        }
    }
    Ok(())
}

/// The text without comments and without what is for tests; line ends stay, strings become empty.
fn code_of(text: &str) -> String {
    let code = without_comments(text);
    let mut left = code.as_str();
    let mut kept = String::new();
    while let Some(at) = left.find("#[cfg(test)]") {
        kept.push_str(&left[..at]);
        left = &left[at + item_len(&left[at..])..];
    }
    kept.push_str(left);
    kept
}

/// How long the item at the start of `code` is: to its `;` outside of brackets, or to the end of its block.
fn item_len(code: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(c, '}' | ';') {
            return at + 1;
        }
    }
    code.len()
}

/// The files of the modules that `text`, which stands at `path`, declares for tests alone.
fn test_files(path: &Path, text: &str) -> Vec<PathBuf> {
    let code = without_comments(text);
    let mut files = Vec::new();
    for (at, _) in code.match_indices("#[cfg(test)]") {
        let item = &code[at..at + item_len(&code[at..])];
        let Some(name) = item.strip_suffix(';').and_then(|item| item.rsplit_once("mod ")).map(|(_, name)| name.trim())
        else {
            continue;
        };
        let is_root = path.file_name().is_some_and(|n| n == "lib.rs" || n == "main.rs" || n == "mod.rs");
        let folder = if is_root { path.with_file_name("") } else { path.with_extension("") };
        files.push(folder.join(format!("{name}.rs")));
    }
    files
}

fn without_comments(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::new();
    let mut at = 0;
    let starts = |at: usize, what: &str| what.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    while at < chars.len() {
        let end = if starts(at, "//") {
            at + chars[at..].iter().position(|c| *c == '\n').unwrap_or(chars.len() - at)
        } else if starts(at, "/*") {
            let (mut depth, mut end) = (1, at + 2);
            while depth > 0 && end < chars.len() {
                let (opens, closes) = (starts(end, "/*"), starts(end, "*/"));
                depth = depth + usize::from(opens) - usize::from(closes);
                end += if opens || closes { 2 } else { 1 };
            }
            end
        } else if let Some(end) = string_end(&chars, at) {
            code.push_str("\"\"");
            end
        } else {
            code.push(chars[at]);
            at += 1;
            continue;
        };
        let end = end.min(chars.len());
        // A string over several lines is code on each of them; a comment is not.
        let is_string = !starts(at, "/");
        for _ in chars[at..end].iter().filter(|c| **c == '\n') {
            code.push_str(if is_string { "\n\"\"" } else { "\n" });
        }
        at = end;
    }
    code
}

/// Where the string or character that starts at `at` ends; none where none starts.
fn string_end(chars: &[char], at: usize) -> Option<usize> {
    let get = |at: usize| chars.get(at).copied();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let inside_word = at > 0 && is_word(chars[at - 1]);
    if get(at) == Some('r') && !inside_word {
        let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
        if get(at + 1 + hashes) == Some('"') {
            let closing = |end: usize| get(end) == Some('"') && (1..=hashes).all(|i| get(end + i) == Some('#'));
            let end = (at + 2 + hashes..chars.len()).find(|&end| closing(end));
            return Some(end.map_or(chars.len(), |end| end + 1 + hashes));
        }
        return None;
    }
    let quote = get(at).filter(|c| matches!(c, '"' | '\''))?;
    // A lifetime has no closing quote behind its first character.
    if quote == '\'' && get(at + 1) != Some('\\') && get(at + 2) != Some('\'') {
        return None;
    }
    let mut end = at + 1;
    while end < chars.len() && chars[end] != quote {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    Some(end + 1)
}

fn count_lines(code: &str) -> usize {
    code.lines().filter(|line| !line.trim().is_empty()).count()
}

/// The lines of the items that substitution is made of; none where one of them is not there.
fn substitution(code: &str) -> Option<usize> {
    SUBSTITUTION.iter().try_fold(0, |sum, name| {
        let heads = [format!("fn {name}("), format!("type {name}<")];
        let at = heads.iter().find_map(|head| code.find(head.as_str()))?;
        let at = code[..at].rfind('\n').map_or(0, |line_end| line_end + 1);
        Some(sum + count_lines(&code[at..at + item_len(&code[at..])]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "//! Docs.\n\nuse a; // why\n/* many\n lines /* nested */ */\nfn f() {\n    let s = \"// no comment\";\n\
        }\n#[cfg(test)]\nmod tests {\n    fn g() { let c = '}'; }\n}\nconst R: &str = r#\"}\n\"#;\nfn h<'a>(x: &'a u8) {}\n";

    #[test]
    fn comments_blanks_and_tests_do_not_count() {
        // use, fn, let, }, const on two lines, fn.
        assert_eq!(count_lines(&code_of(TEXT)), 7, "{}", code_of(TEXT));
    }

    #[test]
    fn code_behind_the_tests_counts() {
        assert!(code_of(TEXT).contains("fn h<'a>"));
        assert!(!code_of(TEXT).contains("fn g"));
    }

    #[test]
    fn files_that_only_tests_name_are_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
        write("logic.rs", "fn a() {}\n#[cfg(test)]\nmod tests;\n");
        std::fs::create_dir(folder.path().join("logic")).expect("a folder");
        write("logic/tests.rs", "fn b() {}\n");
        let lines = count(folder.path()).expect("readable").expect("there");
        assert_eq!(lines, Lines { files: vec![("logic.rs".to_owned(), 1)], rules: 1 });
    }

    #[test]
    fn what_is_no_source_tree_is_not_counted() {
        assert_eq!(count(Path::new("/nowhere/trusted/src")).expect("no fault"), None);
    }

    #[test]
    fn substitution_is_the_functions_that_make_it_and_no_others() {
        let one = |name: &str| format!("fn {name}(x: u8) {{\n    x\n}}\n");
        let mut text: String = SUBSTITUTION[..6].iter().map(|name| one(name)).collect();
        assert_eq!(substitution(&text), None, "Put is missing");
        text += &format!("type Put<'a> = dyn FnMut(&'a u8);\n{}", one("other"));
        assert_eq!(substitution(&text), Some(19));
    }

    #[test]
    fn the_trusted_base_is_counted() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../trusted/src");
        let lines = count(&folder).expect("readable").expect("there");
        assert!(lines.rules > 400 && lines.total() > lines.rules + 1000, "{lines:?}");
    }
}
