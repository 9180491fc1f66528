//! `vinetd ctl`: the operator's commands to a running router.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;
use vinet_control::admin::{self, Command, Pair, ReloadOrder};

use crate::UNUSABLE;

/// Where the sockets of routers are, unless the configuration says otherwise.
const RUN_DIR: &str = "/run/vinet";

#[derive(Args)]
pub(crate) struct Arguments {
    /// The router's admin socket; without it, the only one in /run/vinet.
    #[arg(long, value_name = "PATH", env = "VINET_SOCKET", hide_env = true, global = true)]
    socket: Option<PathBuf>,
    /// What to ask for.
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// All counters of the fast path, with the conservation equation.
    Counters,
    /// The installed programs.
    Programs,
    /// Routes and neighbours in force.
    Fib,
    /// Ports with their links and the devices' own counters.
    Ports,
    /// Sessions, admission and capacity.
    Sessions,
    /// All that one look at a running router shows: cores, ports, drops, classes, capacity, the busiest programs.
    Status,
    /// Which programs act on packets from one address to another, and what they did.
    Why {
        /// The source.
        src: IpAddr,
        /// The destination.
        dst: IpAddr,
    },
    /// Reads the configuration again, tells what differs, and takes it over; undone by itself unless it is confirmed.
    Reload(Reload),
    /// The sources that owners' votes have shut off.
    ShutOffs,
    /// Where the credits are: issued, free, held, in escrow, earned, given back, and the accounts with the most.
    Ledger,
    /// Lets a source back that is shut off.
    LetBack {
        /// The source.
        source: IpAddr,
    },
    /// Keeps what the last reload changed.
    Confirm,
    /// Undoes what the last reload changed, before its time is up.
    Rollback,
}

#[derive(Args)]
pub(crate) struct Reload {
    /// Undo it after so many seconds unless `vinetd ctl confirm` comes.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    confirm_within: u32,
    /// For good, without a confirmation: for a service manager.
    #[arg(long, conflicts_with = "confirm_within")]
    now: bool,
    /// Only tell what differs.
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Reload {
    fn command(&self) -> Command {
        let confirm_within_s = (!self.now).then_some(self.confirm_within);
        Command::Reload(ReloadOrder { confirm_within_s, dry_run: self.dry_run })
    }
}

impl What {
    fn command(&self) -> Command {
        match self {
            What::Counters => Command::Counters,
            What::Programs => Command::Programs,
            What::Fib => Command::Fib,
            What::Ports => Command::Ports,
            What::Sessions => Command::Sessions,
            What::Status => Command::Status,
            What::Reload(reload) => reload.command(),
            What::ShutOffs => Command::ShutOffs,
            What::Ledger => Command::Ledger,
            What::LetBack { source } => Command::LetBack(*source),
            What::Confirm => Command::Confirm,
            What::Rollback => Command::Rollback,
            What::Why { src, dst } => Command::Why(Pair { src: *src, dst: *dst }),
        }
    }
}

/// The arguments of `vinetd reload`, the short form of `vinetd ctl reload`.
#[derive(Args)]
pub(crate) struct ReloadArguments {
    /// The router's admin socket; without it, the only one in /run/vinet.
    #[arg(long, value_name = "PATH", env = "VINET_SOCKET", hide_env = true)]
    socket: Option<PathBuf>,
    #[command(flatten)]
    reload: Reload,
}

/// Asks, and prints the answer. Status 1 is a lawful no of the router, 2 that nobody can be asked.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let in_words = matches!(&arguments.what, What::Reload(reload) if !reload.json);
    ask(arguments.socket.as_deref(), &arguments.what.command(), in_words)
}

/// The same for a reload.
pub(crate) fn reload(arguments: &ReloadArguments) -> ExitCode {
    ask(arguments.socket.as_deref(), &arguments.reload.command(), !arguments.reload.json)
}

fn ask(socket: Option<&Path>, command: &Command, in_words: bool) -> ExitCode {
    let socket = match socket.map_or_else(|| only_socket(Path::new(RUN_DIR)), |path| Ok(path.to_owned())) {
        Ok(socket) => socket,
        Err(what) => {
            eprintln!("vinetd: {what}; name it with --socket PATH");
            return ExitCode::from(UNUSABLE);
        }
    };
    match admin::ask(&socket, command) {
        Ok(answer) => match answer.get("error") {
            Some(error) => {
                if !in_words {
                    println!("{answer}");
                }
                eprintln!("vinetd: {}", error.as_str().unwrap_or("the router refuses"));
                ExitCode::FAILURE
            }
            None if in_words => {
                print!("{}", reload_words(&answer));
                ExitCode::SUCCESS
            }
            None => {
                println!("{answer}");
                ExitCode::SUCCESS
            }
        },
        Err(error) => {
            eprintln!(
                "vinetd: no answer from {}: {error}; is the router running, is this its [control] admin_socket, and are \
                 you in its admin_group?",
                socket.display()
            );
            ExitCode::from(UNUSABLE)
        }
    }
}

/// What a reload changed, key by key, and what is to be done.
fn reload_words(answer: &Value) -> String {
    let mut words = String::new();
    let changes = answer["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    for change in changes {
        let of = |key: &str| change[key].as_str().unwrap_or_default();
        words += &match (change["before"].is_string(), change["after"].is_string()) {
            (true, true) => format!("~ {}: {} -> {}", of("key"), of("before"), of("after")),
            (false, _) => format!("+ {}: {}", of("key"), of("after")),
            (true, false) => format!("- {}: {}", of("key"), of("before")),
        };
        words += if change["at_run_time"] == true { "\n" } else { "    (needs a restart)\n" };
    }
    words += &match (changes.len(), answer["applied"] == true, answer["undone_in_s"].as_u64()) {
        (0, ..) => "nothing differs\n".to_owned(),
        (_, false, _) => "nothing was changed\n".to_owned(),
        (_, true, None) => "applied\n".to_owned(),
        (_, true, Some(seconds)) => format!("applied; undone in {seconds} s unless `vinetd ctl confirm` comes\n"),
    };
    words
}

/// The socket in `dir` where there is exactly one.
fn only_socket(dir: &Path) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut sockets: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "sock"))
        .collect();
    match (sockets.pop(), sockets.len()) {
        (None, _) => Err(format!("{} has no admin socket, so no router seems to run", dir.display())),
        (Some(socket), 0) => Ok(socket),
        (Some(_), others) => Err(format!("{} has {} admin sockets", dir.display(), others + 1)),
    }
}
