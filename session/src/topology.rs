//! The topology of an experiment: one file from which every key, certificate and list of a testbed is made.
//!
//! Holding a [`Topology`] proves that its names are plain and used once, that its routers and owners can be certified, and
//! that no two routers control one prefix. [`Topology::make`] writes a folder that is whole or not there.

use crate::certificate::is_name;
use crate::directory::{Directory, DirectoryEntry, DirectoryError, SignedDirectory};
use crate::identity::{AuthorityKey, IdentityError, Subject, Validity, parse_principal};
use crate::limits::{ENDPOINTS_MAX, NAME_BYTES_MAX, ROUTER_ADDRS_MAX};
use crate::payment::{BankKey, Credit, CreditTerms};
use crate::signed::fresh_nonce;
use crate::text::{Document, Table, TomlFault};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use vinet_trusted::addr::{Addr, Prefix, Principal};

/// The port of a router that the file names no endpoint for.
const CONTROL_PORT: u16 = 7400;
/// The most bytes of the file.
pub const TOPOLOGY_BYTES_MAX: u64 = 4 << 20;

/// A router of the experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRouter {
    /// Its name.
    pub name: String,
    /// The addresses in its certificate.
    pub addrs: Vec<Addr>,
    /// Where its control port is, the best first.
    pub endpoints: Vec<SocketAddr>,
    /// The sources that it controls.
    pub controls: Vec<Prefix>,
}

/// An owner of the experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedOwner {
    /// The name of its files.
    pub name: String,
    /// What it owns.
    pub principal: Principal,
    /// What the bank gives it at which router, in credits.
    pub credits: BTreeMap<String, u64>,
}

/// The whole of an experiment's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The authority's name.
    pub authority: String,
    /// The bank's name.
    pub bank: String,
    /// How long certificates and credits are valid, in seconds.
    pub valid_s: u64,
    /// The routers.
    pub routers: Vec<PlannedRouter>,
    /// The owners.
    pub owners: Vec<PlannedOwner>,
}

/// Why an experiment's files cannot be made.
#[derive(Debug)]
pub enum TopologyError {
    /// A key or certificate cannot be made or written.
    Identity(IdentityError),
    /// The routers make no directory.
    Directory(DirectoryError),
    /// The folder is there already.
    Exists(PathBuf),
    /// A folder cannot be made.
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopologyError::Identity(error) => error.fmt(f),
            TopologyError::Directory(error) => error.fmt(f),
            TopologyError::Exists(path) => {
                write!(f, "{} is there already; move it away first, keys are never overwritten", path.display())
            }
            TopologyError::Folder { path, error } => write!(f, "cannot make the folder {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for TopologyError {}

impl From<IdentityError> for TopologyError {
    fn from(error: IdentityError) -> Self {
        TopologyError::Identity(error)
    }
}

impl From<DirectoryError> for TopologyError {
    fn from(error: DirectoryError) -> Self {
        TopologyError::Directory(error)
    }
}

/// The prefix that `text` writes: an address, or an address without host bits and a length.
fn prefix(text: &str) -> Option<Prefix> {
    let (addr, len) = text.split_once('/').map_or((text, None), |(addr, len)| (addr, Some(len)));
    let addr = Addr::from(addr.parse::<IpAddr>().ok()?);
    Prefix::new(addr, len.map_or(Some(addr.width()), |len| len.parse().ok())?)
}

const NAME: &str = "a name of letters, digits, `-`, `_` and `.`";

fn name(table: &mut Table<'_, '_>, document: &Document<'_>, taken: &[&str]) -> Result<String, TomlFault> {
    let (name, at) = table.string("name", NAME)?;
    // A name stands in file names: one that begins with a dot would be hidden, or mean a folder.
    if !is_name(&name) || name.starts_with('.') {
        let what = format!("`{}` is no name; expected 1 to {NAME_BYTES_MAX} of {NAME}", name.escape_debug());
        return Err(document.fault(at, what));
    }
    if taken.contains(&name.as_str()) {
        return Err(document.fault(at, format!("the name `{name}` is used twice")));
    }
    Ok(name)
}

/// Each text of a list, parsed.
fn parsed<T>(
    texts: Vec<(String, usize)>,
    document: &Document<'_>,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, TomlFault> {
    texts
        .into_iter()
        .map(|(text, at)| {
            parse(&text).ok_or_else(|| {
                document.fault(at, format!("`{}` is not {expected}", text.chars().take(64).collect::<String>()))
            })
        })
        .collect()
}

impl Topology {
    /// The topology that `text` writes; `file` is named in faults.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn parse(file: &Path, text: &str) -> Result<Topology, TomlFault> {
        let document = Document { file, text };
        let mut root = document.root(&["authority", "bank", "valid_days", "router", "owner"])?;
        let plain = |(name, at): (String, usize)| match is_name(&name) {
            true => Ok(name),
            false => Err(document.fault(at, format!("expected 1 to {NAME_BYTES_MAX} of {NAME}"))),
        };
        let authority = plain(root.string("authority", NAME)?)?;
        let bank = if root.is_string("bank") { plain(root.string("bank", NAME)?)? } else { "bank".to_owned() };
        let valid_s = 86_400 * root.integer("valid_days", 36_500)?;
        let mut routers: Vec<PlannedRouter> = Vec::new();
        for mut table in root.tables("router", &["name", "addresses", "endpoints", "controls"])? {
            let taken: Vec<&str> = routers.iter().map(|router| router.name.as_str()).collect();
            let name = name(&mut table, &document, &taken)?;
            let addrs = parsed(table.texts("addresses")?, &document, "an address", |text| {
                text.parse::<IpAddr>().ok().map(Addr::from)
            })?;
            let mut endpoints: Vec<SocketAddr> =
                parsed(table.texts("endpoints")?, &document, "ADDRESS:PORT", |text| text.parse().ok())?;
            if endpoints.is_empty() {
                let usual = |addr: &Addr| SocketAddr::new((*addr).into(), CONTROL_PORT);
                endpoints = addrs.iter().take(ENDPOINTS_MAX).map(usual).collect();
            }
            let controls = parsed(table.texts("controls")?, &document, "a prefix without host bits", prefix)?;
            if addrs.is_empty() || addrs.len() > ROUTER_ADDRS_MAX {
                return Err(table.fault(format!("`{name}` needs 1 to {ROUTER_ADDRS_MAX} `addresses`")));
            }
            if endpoints.len() > ENDPOINTS_MAX {
                return Err(table.fault(format!("`{name}` has more than {ENDPOINTS_MAX} `endpoints`")));
            }
            let of_others = |prefix: &&Prefix| routers.iter().any(|other| other.controls.contains(prefix));
            if let Some(twice) = controls.iter().find(of_others) {
                return Err(table.fault(format!("{twice} is controlled by another router already")));
            }
            routers.push(PlannedRouter { name, addrs, endpoints, controls });
        }
        let mut owners: Vec<PlannedOwner> = Vec::new();
        for mut table in root.tables("owner", &["name", "principal", "credits"])? {
            let taken: Vec<&str> = owners.iter().map(|owner| owner.name.as_str()).collect();
            let name = name(&mut table, &document, &taken)?;
            let (principal, at) = table.string("principal", "an address, or an address with its prefix length")?;
            let principal = parse_principal(&principal).map_err(|error| document.fault(at, error.to_string()))?;
            let credits: BTreeMap<String, u64> = table.integers("credits")?.into_iter().collect();
            let unknown = |router: &&String| !routers.iter().any(|known| known.name == **router);
            if let Some(unknown) = credits.keys().find(unknown) {
                let shown: String = unknown.escape_debug().take(80).collect();
                return Err(table.fault(format!("`{name}` has credits at `{shown}`, which is no [[router]] above")));
            }
            owners.push(PlannedOwner { name, principal, credits });
        }
        Ok(Topology { authority, bank, valid_s, routers, owners })
    }

    /// Makes the folder `dir`: `authority.key`, `authority.pub`, `bank.key`, `bank.pub`, `directory`, `routers/NAME.key`,
    /// `owners/NAME.key`, and `credits/OWNER-at-ROUTER`. All is valid from `now_s` on.
    ///
    /// # Errors
    /// A [`TopologyError`]; then there is no folder.
    pub fn make(&self, dir: &Path, now_s: u64) -> Result<(), TopologyError> {
        if dir.exists() {
            return Err(TopologyError::Exists(dir.to_path_buf()));
        }
        let mut beside_name = std::ffi::OsString::from(".");
        beside_name.push(dir.file_name().unwrap_or(std::ffi::OsStr::new("topology")));
        beside_name.push(format!(".{}.new", std::process::id()));
        let beside = dir.with_file_name(beside_name);
        let made = self.make_in(&beside, now_s).and_then(|()| {
            std::fs::rename(&beside, dir).map_err(|error| TopologyError::Folder { path: dir.to_path_buf(), error })
        });
        if made.is_err() {
            // What is left is of no use, and may not be there at all.
            let _ = std::fs::remove_dir_all(&beside);
        }
        made
    }

    fn make_in(&self, dir: &Path, now_s: u64) -> Result<(), TopologyError> {
        for folder in ["", "routers", "owners", "credits"] {
            let path = dir.join(folder);
            let made = std::fs::DirBuilder::new().mode(0o755).create(&path);
            made.map_err(|error| TopologyError::Folder { path, error })?;
        }
        let validity = Validity::starting(now_s, self.valid_s);
        let authority = AuthorityKey::generate(&self.authority)?;
        authority.save(&dir.join("authority.key"))?;
        authority.authority().save(&dir.join("authority.pub"))?;
        let bank = BankKey::generate(&self.bank)?;
        bank.save(&dir.join("bank.key"))?;
        bank.bank().save(&dir.join("bank.pub"))?;
        let mut ids = BTreeMap::new();
        let mut entries = Vec::new();
        for router in &self.routers {
            let subject = Subject::Router { name: router.name.clone(), addrs: router.addrs.clone() };
            let identity = authority.issue_identity(subject, validity)?;
            identity.save(&dir.join("routers").join(format!("{}.key", router.name)))?;
            ids.insert(&router.name, identity.public());
            entries.extend(router.controls.iter().map(|&prefix| DirectoryEntry {
                prefix,
                router_name: router.name.clone(),
                endpoints: router.endpoints.clone(),
            }));
        }
        let directory = Directory::new(1, now_s, entries)?;
        SignedDirectory::sign(directory, &authority).save(&dir.join("directory"))?;
        for owner in &self.owners {
            let identity = authority.issue_identity(Subject::Owner(owner.principal), validity)?;
            identity.save(&dir.join("owners").join(format!("{}.key", owner.name)))?;
            for (router, &amount) in &owner.credits {
                let terms = CreditTerms {
                    serial: fresh_nonce()?,
                    amount,
                    router: ids[router],
                    account: identity.public(),
                    expiry_s: validity.not_after_s,
                };
                Credit::sign(terms, &bank).save(&dir.join("credits").join(format!("{}-at-{router}", owner.name)))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Authority, Identity};
    use crate::payment::Bank;
    use crate::testing::NOW_S;

    const EXAMPLE: &str = "authority = \"lab\"\nvalid_days = 30\n\
        [[router]]\nname = \"edge1\"\naddresses = [\"192.0.2.1\", \"2001:db8::1\"]\n\
        controls = [\"198.51.100.0/24\", \"2001:db8:1::/48\"]\n\
        [[router]]\nname = \"edge2\"\naddresses = [\"192.0.2.9\"]\nendpoints = [\"127.0.0.1:1234\"]\n\
        controls = [\"203.0.113.7\"]\n\
        [[owner]]\nname = \"victim\"\nprincipal = \"192.0.2.2\"\ncredits = { edge1 = 1000, edge2 = 5 }\n\
        [[owner]]\nname = \"campus\"\nprincipal = \"192.0.2.1/24\"\n";

    fn parse(text: &str) -> Result<Topology, String> {
        Topology::parse(Path::new("lab.toml"), text).map_err(|fault| fault.to_string())
    }

    #[test]
    fn one_file_makes_everything_that_an_experiment_needs() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("lab");
        parse(EXAMPLE).unwrap().make(&out, NOW_S).unwrap();
        let authority = Authority::load(&out.join("authority.pub")).unwrap();
        let edge1 = Identity::load(&out.join("routers/edge1.key")).unwrap();
        let peer = authority.router(edge1.certificate(), NOW_S + 30 * 86_400).unwrap();
        assert_eq!((peer.name(), peer.addrs().len()), ("edge1", 2));
        let victim = Identity::load(&out.join("owners/victim.key")).unwrap();
        let owner = authority.owner(victim.certificate(), NOW_S).unwrap();
        assert_eq!(owner.principal().to_string(), "192.0.2.2");
        let bank = Bank::load(&out.join("bank.pub")).unwrap();
        let credit = Credit::load(&out.join("credits/victim-at-edge1")).unwrap();
        assert_eq!(credit.accept(&bank, &edge1.public(), &victim.public(), NOW_S).unwrap().amount, 1000);
        let signed = SignedDirectory::load(&out.join("directory")).unwrap();
        let directory = signed.verify(&authority).unwrap();
        let at = |text: &str| directory.lookup(text.parse::<IpAddr>().unwrap().into()).unwrap().clone();
        assert_eq!(at("198.51.100.9").endpoints[0].to_string(), "192.0.2.1:7400");
        assert_eq!((at("203.0.113.7").router_name, at("203.0.113.7").endpoints.len()), ("edge2".to_owned(), 1));
        // A second time nothing is touched, and nothing is left over.
        assert!(matches!(parse(EXAMPLE).unwrap().make(&out, NOW_S), Err(TopologyError::Exists(_))));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_shipped_example_can_be_made() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/topology.toml");
        let topology = Topology::parse(&path, &std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!((topology.routers.len(), topology.owners.len()), (2, 2));
        let dir = tempfile::tempdir().unwrap();
        topology.make(&dir.path().join("lab"), NOW_S).unwrap();
    }

    #[test]
    fn what_cannot_be_made_is_named_with_its_place() {
        let expect = |text: &str, with: &str, part: &str| {
            assert!(EXAMPLE.contains(text), "{text}");
            let fault = parse(&EXAMPLE.replacen(text, with, 1)).unwrap_err();
            assert!(fault.starts_with("lab.toml:") && fault.contains(part), "{fault}");
        };
        expect("addresses", "adresses", "did you mean `addresses`?");
        expect("\"edge2\"\naddresses", "\"edge1\"\naddresses", "the name `edge1` is used twice");
        expect("name = \"victim\"", "name = \"../victim\"", "is no name");
        expect("name = \"victim\"", "name = \"..\"", "is no name");
        expect("\"192.0.2.2\"", "\"192.0.2\"", "is no principal");
        expect("edge2 = 5", "edge3 = 5", "credits at `edge3`, which is no [[router]]");
        expect("edge2 = 5", "edge2 = -5", "must be an integer");
        expect("\"203.0.113.7\"", "\"198.51.100.0/24\"", "198.51.100.0/24 is controlled by another router");
        expect("\"203.0.113.7\"", "\"203.0.113.7/24\"", "not a prefix without host bits");
        expect("[\"127.0.0.1:1234\"]", "[\"127.0.0.1\"]", "not ADDRESS:PORT");
        expect("[\"192.0.2.9\"]", "[]", "needs 1 to 16 `addresses`");
        expect("valid_days = 30", "", "`valid_days` is missing");
        expect("[[owner]]\nname = \"campus\"", "[owner.x]\nname = \"campus\"", "");
    }
}
