//! `vinet fmt`: source texts in their one layout.

use super::Fmt;
use super::answer::{Outcome, Refusal};
use vinet_client::lang::error::SOURCE_BYTES_MAX;
use vinet_client::{file, lang};

/// Brings each file into the layout, or tells which are not in it. A text that is no program is told, and no file is
/// written then.
pub(super) fn fmt(args: &Fmt) -> Outcome {
    let mut untidy = Vec::new();
    for path in &args.files {
        let text = file::text(path, file::read(path, SOURCE_BYTES_MAX as u64)?)?;
        let tidy = lang::format(&path.display().to_string(), &text)?;
        if tidy != text {
            untidy.push((path, tidy));
        }
    }
    if args.check {
        let names: Vec<_> = untidy.iter().map(|(path, _)| path.display().to_string()).collect();
        return match names.is_empty() {
            true => Ok(()),
            false => {
                let text = format!("{}: not in the layout that `vinet fmt` writes", names.join(", "));
                Err(Refusal::new("not-formatted", &text, None, None).into())
            }
        };
    }
    for (path, tidy) in untidy {
        file::write(path, tidy.as_bytes())?;
    }
    Ok(())
}
