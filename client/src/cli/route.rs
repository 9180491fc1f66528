//! Which routers a command is about: one that is named, or those that the signed directory names for the sources.

use super::answer::{self, Failure, Outcome, Refusal};
use super::session::{Session, config_dir, load_authority, no_home, unexpected};
use super::{Reach, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use vinet_client::replay::{self, builtin_policy};
use vinet_pktops::Executable;
use vinet_session::directory::{Directory, DirectoryEntry, SignedDirectory};
use vinet_session::message::{Reply, Request};
use vinet_trusted::addr::{Prefix, Principal};
use vinet_trusted::gate::Cell;
use vinet_trusted::policy::PrincipalKind;
use vinet_trusted::program::Program;

/// The word that stands for what the directory says.
const AUTO: &str = "auto";

/// A router, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    /// At least one, the best first.
    pub(super) endpoints: Vec<String>,
    /// The name that its certificate has to have.
    pub(super) router_name: Option<String>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.router_name, &self.endpoints[..]) {
            (Some(name), [first, ..]) => write!(f, "`{name}` at {first}"),
            (None, [first, ..]) => f.write_str(first),
            (_, []) => f.write_str("nowhere"),
        }
    }
}

impl Target {
    fn plain(router: &str, reach: &Reach) -> Target {
        Target { endpoints: vec![router.to_owned()], router_name: reach.router_name.clone() }
    }

    fn entry(entry: &DirectoryEntry) -> Target {
        Target {
            endpoints: entry.endpoints.iter().map(ToString::to_string).collect(),
            router_name: Some(entry.router_name.clone()),
        }
    }

    /// The router that `router` names; with `auto` the one of the directory that --router-name names, or its only one.
    pub(super) fn of(router: &str, reach: &Reach) -> Result<Target, Failure> {
        if router != AUTO {
            return Ok(Target::plain(router, reach));
        }
        let directory = load(reach)?;
        let mut names: Vec<&str> = directory.entries().iter().map(|entry| entry.router_name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let wanted = match (&reach.router_name, &names[..]) {
            (Some(name), _) => name.as_str(),
            (None, [one]) => one,
            (None, _) => {
                let text = format!("the directory has the routers {}; say which with --router-name", names.join(", "));
                return Err(Failure::Unusable(text));
            }
        };
        let entry = directory.entries().iter().find(|entry| entry.router_name == wanted);
        entry.map(Target::entry).ok_or_else(|| {
            Failure::Unusable(format!("the directory has no router `{wanted}`; it has {}", names.join(", ")))
        })
    }
}

/// A router, and those of the sources that are its own.
pub(super) struct Stop {
    pub(super) target: Target,
    pub(super) sources: Vec<Prefix>,
}

/// The routers that a program about `sources` belongs on: the one that `router` names, or with `auto` every one that
/// controls some of them. No sources are any.
pub(super) fn stops(router: &str, reach: &Reach, sources: &[Prefix]) -> Result<Vec<Stop>, Failure> {
    if router != AUTO {
        return Ok(vec![Stop { target: Target::plain(router, reach), sources: sources.to_vec() }]);
    }
    let directory = load(reach)?;
    let every: Vec<Prefix> = directory.entries().iter().map(|entry| entry.prefix).collect();
    divide(&directory, if sources.is_empty() { &every } else { sources }).map_err(|nobody| {
        let text = format!("the directory has no router that controls {nobody}");
        Refusal::new("no-router", &text, None, None).into()
    })
}

/// The routers of `sources` in `directory`, in the order of their first source; or a source that has none. A source that
/// belongs to several routers is divided as their prefixes are.
fn divide(directory: &Directory, sources: &[Prefix]) -> Result<Vec<Stop>, Prefix> {
    let mut stops: Vec<(&str, Stop)> = Vec::new();
    for &source in sources {
        let mut found = false;
        for entry in directory.routers_of(source) {
            found = true;
            let own = if entry.prefix.covers(source) { source } else { entry.prefix };
            match stops.iter_mut().find(|(name, _)| *name == entry.router_name) {
                Some((_, stop)) if stop.sources.contains(&own) => {}
                Some((_, stop)) => stop.sources.push(own),
                None => {
                    stops.push((&entry.router_name, Stop { target: Target::entry(entry), sources: vec![own] }));
                }
            }
        }
        if !found {
            return Err(source);
        }
    }
    Ok(stops.into_iter().map(|(_, stop)| stop).collect())
}

/// The sources that `program` is about, where `router` asks for them; none where it is about any.
pub(super) fn sources(program: &Program, owner: &Principal, router: &str) -> Result<Vec<Prefix>, Failure> {
    if router != AUTO {
        return Ok(Vec::new());
    }
    // What a program looks at is in its own bytes; that it may is the business of each router's policy.
    let policy = Arc::new(builtin_policy(PrincipalKind::of(owner), program.window().max(32)));
    let checked = replay::checked(program, owner, &policy, &[])
        .map_err(|error| Refusal::new(error.code(), &error, error.instr(), None))?;
    let executable =
        Executable::lower(checked).map_err(|error| Failure::Unusable(format!("the program cannot be run: {error}")))?;
    let mut sources: Vec<Prefix> = executable.cells().iter().map(Cell::src).collect();
    if sources.iter().any(|source| source.len() == 0) {
        return Ok(Vec::new());
    }
    sources.sort_unstable();
    sources.dedup();
    Ok(sources)
}

/// `vinet directory`: fetches the directory that a router was given, and keeps it where it is newer.
pub(super) fn fetch(output: Option<PathBuf>, router: &Router) -> Outcome {
    let path = output.or_else(|| Some(config_dir()?.join("directory"))).ok_or_else(|| no_home("--output"))?;
    let authority = load_authority(&router.reach)?;
    let mut session = Session::open(&router.router, &router.reach)?;
    let Reply::Directory(signed) = session.insist(&Request::Directory, "fetching the directory")? else {
        return Err(unexpected("a directory"));
    };
    let directory = signed
        .verify(&authority)
        .map_err(|fault| Failure::Unusable(format!("the router's directory does not stand: {fault}")))?;
    let older = path.exists() && {
        let here = SignedDirectory::load(&path)?;
        here.verify(&authority).is_ok_and(|here| here.number() > directory.number())
    };
    if older {
        let text =
            format!("the router has directory {}, which is older than that in {}", directory.number(), path.display());
        return Err(Refusal::new("older-directory", &text, None, None).into());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| Failure::Unusable(format!("cannot make the folder {}: {error}", folder.display())))?;
    }
    signed.save(&path)?;
    for entry in directory.entries() {
        let endpoints: Vec<String> = entry.endpoints.iter().map(ToString::to_string).collect();
        let prefix = entry.prefix.to_string();
        if router.json.json {
            answer::print_json(&json!({ "prefix": prefix, "router": entry.router_name, "endpoints": endpoints }))?;
        } else {
            answer::print(&format_args!("{prefix} {} {}", entry.router_name, endpoints.join(" ")))?;
        }
    }
    Ok(())
}

/// The directory that the user has, if the user's authority signed it.
pub(super) fn load(reach: &Reach) -> Result<Directory, Failure> {
    let path = reach.directory.clone().or_else(|| Some(config_dir()?.join("directory")));
    let path = path.ok_or_else(|| no_home("--directory"))?;
    if !path.exists() {
        let remedy = "`vinet ca directory` makes one, and `vinet directory` fetches a router's; name it with --directory \
                      FILE or in $VINET_DIRECTORY";
        return Err(Failure::Unusable(format!("{}: there is no directory here; {remedy}", path.display())));
    }
    let authority = load_authority(reach)?;
    let signed = SignedDirectory::load(&path)?;
    signed
        .verify(&authority)
        .cloned()
        .map_err(|fault| Failure::Unusable(format!("{}: the directory does not stand: {fault}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use vinet_client::lang;

    fn directory() -> Directory {
        let entry = |prefix: &str, name: &str| DirectoryEntry {
            prefix: lang::prefix(prefix).expect("a prefix"),
            router_name: name.to_owned(),
            endpoints: vec![SocketAddr::from(([203, 0, 113, 1], 7400))],
        };
        let entries = vec![
            entry("198.51.100.0/24", "campus"),
            entry("198.51.100.128/25", "hall"),
            entry("10.0.0.0/8", "inner"),
            entry("10.1.0.0/16", "campus"),
        ];
        Directory::new(1, 1, entries).expect("a directory")
    }

    fn divided(sources: &[&str]) -> Result<Vec<(String, String)>, String> {
        let sources: Vec<Prefix> = sources.iter().map(|s| lang::prefix(s).expect("a prefix")).collect();
        let told = |stop: Stop| {
            let own: Vec<String> = stop.sources.iter().map(ToString::to_string).collect();
            (stop.target.router_name.expect("a name"), own.join(" "))
        };
        divide(&directory(), &sources)
            .map(|stops| stops.into_iter().map(told).collect())
            .map_err(|nobody| nobody.to_string())
    }

    #[test]
    fn every_source_goes_to_the_router_that_controls_it() {
        let pair = |name: &str, sources: &str| (name.to_owned(), sources.to_owned());
        assert_eq!(divided(&["10.2.3.4"]), Ok(vec![pair("inner", "10.2.3.4")]));
        assert_eq!(
            divided(&["198.51.100.7", "198.51.100.200", "10.1.2.3", "198.51.100.9"]),
            Ok(vec![pair("campus", "198.51.100.7 10.1.2.3 198.51.100.9"), pair("hall", "198.51.100.200")])
        );
        assert_eq!(
            divided(&["198.51.100.0/24"]),
            Ok(vec![pair("campus", "198.51.100.0/24"), pair("hall", "198.51.100.128/25")])
        );
        assert_eq!(
            divided(&["0.0.0.0/0"]),
            Ok(vec![
                pair("inner", "10.0.0.0/8"),
                pair("campus", "10.1.0.0/16 198.51.100.0/24"),
                pair("hall", "198.51.100.128/25")
            ])
        );
        assert_eq!(divided(&["10.2.3.4", "192.0.2.1"]), Err("192.0.2.1".to_owned()));
    }
}
