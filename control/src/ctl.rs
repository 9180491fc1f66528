//! `vinetd ctl`: the operator's commands to a running router.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use vinet_control::admin::{self, Command, Pair};

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
            What::Why { src, dst } => Command::Why(Pair { src: *src, dst: *dst }),
        }
    }
}

/// Asks, and prints the answer. Status 1 is a lawful no of the router, 2 that nobody can be asked.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let socket = match arguments.socket.clone().map_or_else(|| only_socket(Path::new(RUN_DIR)), Ok) {
        Ok(socket) => socket,
        Err(what) => {
            eprintln!("vinetd: {what}; name it with --socket PATH");
            return ExitCode::from(UNUSABLE);
        }
    };
    match admin::ask(&socket, &arguments.what.command()) {
        Ok(answer) => {
            println!("{answer}");
            if let Some(error) = answer.get("error") {
                eprintln!("vinetd: {}", error.as_str().unwrap_or("the router refuses"));
                return ExitCode::FAILURE;
            }
            ExitCode::SUCCESS
        }
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
