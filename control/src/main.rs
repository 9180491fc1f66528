//! `vinetd`: the router daemon.

#![forbid(unsafe_code)]

mod ctl;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use vinet_control::config::{Config, LogFormat};
use vinet_control::daemon::{self, Prepared};
use vinet_control::doctor::{self, Machine};
use vinet_control::{log, store};

/// The exit status for unusable arguments, files or machines.
const UNUSABLE: u8 = 2;

/// A programmable edge router: runs proof-carrying packet programs of its users.
#[derive(Parser)]
#[command(name = "vinetd", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Subcommands>,
    /// The configuration file; configs/router.toml explains every key.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Reads and checks the configuration and every file it names, and touches nothing.
    #[arg(long)]
    check: bool,
    /// The form of log lines; wins over `log_format` of the file.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// A file that is made when the router accepts sessions, and removed when it ends.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Asks a running router, or has it change something, and prints one JSON object.
    Ctl(ctl::Arguments),
    /// Has a running router read its configuration again: `vinetd ctl reload`.
    Reload(ctl::ReloadArguments),
    /// Prints the completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Writes the manual pages to a folder.
    Man {
        /// Where to.
        dir: PathBuf,
    },
    /// Says whether this node has what a router needs, and what to type where it has not. Changes nothing.
    Doctor {
        /// The configuration to look with; without it, only what every router needs is looked at.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// One JSON object a line, one for each check.
        #[arg(long)]
        json: bool,
    },
    /// Looks at a router's store while the router does not run.
    #[command(subcommand)]
    Store(StoreCommand),
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Writes what is readable of a store, damaged or not, to standard output: one JSON object a line. Changes nothing.
    Export {
        /// The file: [store] path of the router's configuration.
        file: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Subcommands::Ctl(arguments)) => ctl::run(&arguments),
        Some(Subcommands::Reload(arguments)) => ctl::reload(&arguments),
        Some(Subcommands::Doctor { config, json }) => examine(config.as_deref(), json),
        Some(Subcommands::Store(StoreCommand::Export { file })) => export(&file),
        Some(Subcommands::Completions { shell }) => {
            clap_complete::generate(shell, &mut Arguments::command(), "vinetd", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Some(Subcommands::Man { dir }) => manual(&dir),
        None => router(&arguments),
    }
}

/// Writes the manual pages, of section 8 as for a daemon: one of the program, and one of each command.
fn manual(dir: &Path) -> ExitCode {
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    match std::fs::create_dir_all(dir).and_then(|()| page(&program, dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vinetd: cannot write to {}: {error}", dir.display());
            ExitCode::from(UNUSABLE)
        }
    }
}

fn page(command: &clap::Command, dir: &Path) -> std::io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).title(name.to_uppercase()).section("8").render(&mut text)?;
    std::fs::write(dir.join(format!("{name}.8")), text)?;
    command.get_subcommands().try_for_each(|command| page(command, dir))
}

fn router(arguments: &Arguments) -> ExitCode {
    let Some(file) = &arguments.config else {
        eprintln!("vinetd: which router? Give its configuration with --config FILE (see configs/router.toml)");
        return ExitCode::from(UNUSABLE);
    };
    let prepared = match Prepared::read(file) {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("vinetd: {error}");
            return ExitCode::from(UNUSABLE);
        }
    };
    if arguments.check {
        println!("{}: good", file.display());
        return ExitCode::SUCCESS;
    }
    log::start(match arguments.log_format {
        Some(Format::Text) => LogFormat::Text,
        Some(Format::Json) => LogFormat::Json,
        None => prepared.config.control.log_format,
    });
    let status = match daemon::run(prepared, arguments.ready_file.as_deref()) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            log::error("core", error);
            ExitCode::FAILURE
        }
        Err(error) => {
            log::error("start", error);
            ExitCode::from(UNUSABLE)
        }
    };
    log::flush();
    status
}

fn examine(config: Option<&Path>, json: bool) -> ExitCode {
    let config = match config.map(Config::load).transpose() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("vinetd: {error}");
            return ExitCode::from(UNUSABLE);
        }
    };
    let findings = doctor::examine(&Machine::this(), config.as_ref());
    let mut text = String::new();
    for finding in &findings {
        text += &if json { finding.to_json() } else { finding.to_string() };
        text.push('\n');
    }
    if !json {
        text += &doctor::summary(&findings);
        text.push('\n');
    }
    // Whoever reads may have read enough: a closed pipe is no failure of the examination.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if doctor::is_fit(&findings) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn export(file: &Path) -> ExitCode {
    match store::export(file, &mut std::io::BufWriter::new(std::io::stdout().lock())) {
        Ok(found) if found.damaged == 0 => ExitCode::SUCCESS,
        Ok(found) => {
            let whence = if found.scanned { ", from pages that may be out of force" } else { "" };
            eprintln!(
                "vinetd: {}: wrote {} records{whence}; {} places cannot be read, they are named among the records",
                file.display(),
                found.records,
                found.damaged
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("vinetd: {error}");
            ExitCode::from(UNUSABLE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_its_page() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(manual(&dir.path().join("man")), ExitCode::SUCCESS);
        for (name, words) in [
            ("vinetd", "\\-\\-config"),
            ("vinetd-ctl", "vinetd\\-ctl\\-why(8)"),
            ("vinetd-ctl-why", "SRC"),
            ("vinetd-reload", "confirm"),
        ] {
            let text = std::fs::read_to_string(dir.path().join(format!("man/{name}.8"))).unwrap();
            assert!(text.contains(words) && text.contains(" 8 "), "{name}: {text}");
        }
        assert_eq!(manual(Path::new("/proc/nonexistent")), ExitCode::from(UNUSABLE));
    }
}
