//! A node as it shows itself: the files below a root, which is `/` for the node that this process runs on, and the few
//! facts that no file tells. Nothing here fails: what cannot be read is not there.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A node to look at.
#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
    /// Seconds since 1970 by its clock.
    pub(super) now_s: u64,
    /// Its addresses, each with its interface.
    pub(super) addresses: Vec<(String, IpAddr)>,
}

/// Where the code of a kernel module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Module {
    /// In the kernel, loaded or built in.
    There,
    /// In a file that `modprobe` finds.
    Loadable,
    /// Nowhere, as far as can be seen.
    Absent,
}

impl Machine {
    /// The node that this process runs on, in its network namespace.
    #[must_use]
    pub fn this() -> Machine {
        let addresses = nix::ifaddrs::getifaddrs().map(|all| {
            all.filter_map(|interface| {
                let address = interface.address?;
                let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
                let ip = v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))?;
                Some((interface.interface_name, ip))
            })
            .collect()
        });
        Machine::at(Path::new("/"), vinet_session::Now::read(Instant::now()).wall_s, addresses.unwrap_or_default())
    }

    /// A node whose files lie below `root`, whose clock shows `now_s`, and whose interfaces have these addresses.
    #[must_use]
    pub fn at(root: &Path, now_s: u64, addresses: Vec<(String, IpAddr)>) -> Machine {
        Machine { root: root.to_owned(), now_s, addresses }
    }

    /// Where a file of the node is for this process.
    pub(super) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub(super) fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// A file's text without the white space around it.
    pub(super) fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let bytes = std::fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The number that a file holds.
    pub(super) fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// The names in a folder, in order; none where there is no such folder.
    pub(super) fn names(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(folder)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The last part of what a symbolic link points to.
    pub(super) fn link_name(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = std::fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// A value of `/proc/meminfo`, in the KiB (or pages) that it counts in.
    pub(super) fn meminfo(&self, key: &str) -> Option<u64> {
        let text = self.text("/proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// The processor's flags.
    pub(super) fn cpu_flags(&self) -> Vec<String> {
        let text = self.text("/proc/cpuinfo").unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("flags"));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, flags)| flags.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default()
    }

    pub(super) fn module(&self, name: &str) -> Module {
        let plain = name.replace('-', "_");
        if self.exists(format!("/sys/module/{plain}")) {
            return Module::There;
        }
        let release = self.text("/proc/sys/kernel/osrelease").unwrap_or_default();
        let listed = |list: &str| {
            let text = self.text(format!("/lib/modules/{release}/{list}")).unwrap_or_default();
            text.lines().any(|line| {
                let file = line.split(':').next().unwrap_or(line);
                let stem = file.rsplit('/').next().and_then(|name| name.split(".ko").next()).unwrap_or_default();
                stem.replace('-', "_") == plain
            })
        };
        match () {
            () if listed("modules.builtin") => Module::There,
            () if listed("modules.dep") => Module::Loadable,
            () => Module::Absent,
        }
    }

    /// Whether the running kernel has a function of that name.
    pub(super) fn has_kernel_symbol(&self, name: &str) -> bool {
        self.text("/proc/kallsyms")
            .is_some_and(|text| text.lines().any(|line| line.split_whitespace().nth(2) == Some(name)))
    }

    /// The addresses of an interface that somebody gave it.
    pub(super) fn addresses_of(&self, interface: &str) -> Vec<IpAddr> {
        let given = |ip: &IpAddr| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
        self.addresses.iter().filter(|(name, ip)| name == interface && given(ip)).map(|(_, ip)| *ip).collect()
    }

    /// Whether a default route leaves by the interface.
    pub(super) fn has_default_route(&self, interface: &str) -> bool {
        // Columns: Iface Destination Gateway Flags RefCnt Use Metric Mask
        let v4 = self.text("/proc/net/route").unwrap_or_default();
        let v6 = self.text("/proc/net/ipv6_route").unwrap_or_default();
        let zero = |text: &str| text.bytes().all(|byte| byte == b'0');
        v4.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.len() > 7 && words[0] == interface && zero(words[1]) && zero(words[7])
        }) || v6.lines().any(|line| {
            // Destination, its length, source, its length, next hop, metric, counts, flags, interface.
            let words: Vec<&str> = line.split_whitespace().collect();
            words.len() > 9 && words[9] == interface && zero(words[0]) && zero(words[1]) && !zero(words[4])
        })
    }
}
