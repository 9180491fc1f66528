//! DPDK's environment, started once in a process.
//!
//! Holding an [`Eal`] proves that `rte_eal_init` succeeded and that nothing has cleaned it up. Everything made from
//! DPDK's memory (pools, ports, worker registrations) holds one, so that the clean-up runs only after the last of
//! them; it is left to the end of the process when a packet is still out of its pool by then, or when a thread that
//! might be giving one back cannot be ruled out. Left out: EAL's own worker threads (the workers here are ordinary
//! threads that register), secondary processes, and starting again after a clean-up, which DPDK does not support.

mod log;
mod threads;

use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use vinet_dpdk_sys as sys;

pub(crate) use log::LogMark;

/// The longest file prefix, in bytes: it becomes a part of paths and of socket names.
pub const FILE_PREFIX_LEN_MAX: usize = 64;

/// What the environment needs at least when it is left to take hugepages as they are wanted, in MiB.
const MEMORY_MIB_MIN: u32 = 16;

/// Where packet memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Hugepages: `Some` sets that many MiB aside at the start, `None` takes them as pools are made.
    Huge {
        /// MiB to set aside at the start.
        mib: Option<u32>,
    },
    /// Ordinary pages, in MiB: slower, and refused by drivers of real NICs without an IOMMU.
    Ordinary {
        /// MiB in all.
        mib: u32,
    },
}

/// How EAL is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EalSettings {
    /// Names the process among other DPDK processes of the machine: letters, digits, `-`, `_` and `.`.
    pub file_prefix: String,
    /// The processor of the calling (control) thread as EAL sees it; EAL picks one where absent. Workers pin themselves.
    pub main_core: Option<usize>,
    /// Packet memory.
    pub memory: Memory,
    /// No files in hugetlbfs and no shared configuration: needs no mount, leaves nothing behind, excludes `dpdk-pdump`.
    pub in_memory: bool,
    /// Whether the PCI bus is scanned. Virtual devices need none.
    pub pci: bool,
    /// Further arguments for EAL, as they stand; those that contradict a setting above win over it.
    pub args: Vec<String>,
}

impl EalSettings {
    /// Hugepages as needed, in memory, with PCI, on the processor that EAL picks.
    #[must_use]
    pub fn new(file_prefix: &str) -> Self {
        EalSettings {
            file_prefix: file_prefix.to_owned(),
            main_core: None,
            memory: Memory::Huge { mib: None },
            in_memory: true,
            pci: true,
            args: Vec::new(),
        }
    }

    /// The arguments for `rte_eal_init`, the program's name first.
    ///
    /// # Errors
    /// Where a setting cannot be an argument.
    pub fn arguments(&self) -> Result<Vec<String>, EalError> {
        let prefix_ok = !self.file_prefix.is_empty()
            && self.file_prefix.len() <= FILE_PREFIX_LEN_MAX
            && !self.file_prefix.starts_with(['-', '.'])
            && self.file_prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !prefix_ok {
            return Err(EalError::BadFilePrefix { prefix: self.file_prefix.clone() });
        }
        if let Some(arg) = self.args.iter().find(|arg| arg.contains('\0')) {
            return Err(EalError::BadArgument { arg: arg.replace('\0', "\\0") });
        }
        let mut args = vec!["vinet".to_owned()];
        if !self.given(&["--file-prefix"]) {
            args.push(format!("--file-prefix={}", self.file_prefix));
        }
        if let Some(core) = self.main_core
            && !self.given(&["-l", "-c", "--lcores"])
        {
            args.push(format!("--lcores=0@{core}"));
        }
        let ordinary_pages = matches!(self.memory, Memory::Ordinary { .. }) || self.given(&["--no-huge"]);
        let (huge_flag, mib) = match self.memory {
            Memory::Huge { mib } => (None, mib),
            Memory::Ordinary { mib } => (Some("--no-huge"), Some(mib)),
        };
        if let Some(flag) = huge_flag
            && !self.given(&[flag])
        {
            args.push(flag.to_owned());
        }
        if let Some(mib) = mib
            && !self.given(&["-m", "--socket-mem", "--numa-mem"])
        {
            args.push("-m".to_owned());
            args.push(mib.to_string());
        }
        if self.in_memory && !self.given(&["--in-memory", "--no-shconf"]) {
            // DPDK has no in-memory mode for ordinary pages; without shared files they come to the same.
            args.push(if ordinary_pages { "--no-shconf" } else { "--in-memory" }.to_owned());
        }
        if self.in_memory && !ordinary_pages && !self.given(&["--single-file-segments", "--legacy-mem"]) {
            // virtio_user hands its memory to the other side as at most eight files.
            args.push("--single-file-segments".to_owned());
        }
        if !self.pci && !self.given(&["--no-pci"]) {
            args.push("--no-pci".to_owned());
        }
        let no_dma = !self.pci || ordinary_pages || self.given(&["--no-pci"]);
        if no_dma && !self.given(&["--iova-mode"]) {
            // Virtual devices need no physical addresses, and a pool then lies in one piece, which af_xdp requires.
            args.push("--iova-mode=va".to_owned());
        }
        args.extend(self.args.iter().cloned());
        Ok(args)
    }

    /// Whether one of these options stands among the further arguments, alone or joined with its value.
    fn given(&self, options: &[&str]) -> bool {
        self.args.iter().any(|arg| {
            options.iter().any(|option| match arg.strip_prefix(option) {
                Some(rest) if option.starts_with("--") => rest.is_empty() || rest.starts_with('='),
                Some(_) => true,
                None => false,
            })
        })
    }
}

/// The running environment; clones are handles to the same one.
#[derive(Clone)]
pub struct Eal {
    shared: Arc<Shared>,
}

struct Shared {
    /// The pools made so far, as addresses of `rte_mempool`, and how many buffers each has. They live until the clean-up.
    pools: Mutex<Vec<(usize, u32)>>,
    /// Whether EAL is ours to clean up.
    ours: bool,
}

/// Set by the first start; never cleared, because DPDK cannot be started again.
static STARTED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Starts EAL, with its log on standard error, and puts the affinity of all threads back to what it was.
    ///
    /// # Errors
    /// On a second call, and where DPDK refuses; the error says what to do. After [`EalError::NoHugepages`] and errors of the
    /// settings themselves, another call may be made with other settings.
    pub fn start(settings: &EalSettings) -> Result<Eal, EalError> {
        let args = settings.arguments()?;
        if !STARTED.load(Ordering::SeqCst) {
            // Found out before EAL does, which could not be tried again and whose own words for it help nobody.
            settings.check_hugepages()?;
        }
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(EalError::AlreadyStarted);
        }
        let mark = log::capture();
        let affinities = threads::Affinities::save();
        let strings: Vec<CString> = args
            .iter()
            .map(|arg| CString::new(arg.as_str()).map_err(|_| EalError::BadArgument { arg: arg.clone() }))
            .collect::<Result<_, _>>()?;
        let mut pointers: Vec<*mut c_char> = strings.iter().map(|arg| arg.as_ptr().cast_mut()).collect();
        let count = c_int::try_from(pointers.len()).map_err(|_| EalError::TooManyArguments { count: args.len() })?;
        pointers.push(std::ptr::null_mut());
        // SAFETY: the array holds `count` strings and a null; EAL may reorder the pointers, and copies what it keeps.
        let outcome = unsafe { sys::rte_eal_init(count, pointers.as_mut_ptr()) };
        let errno = errno();
        affinities.restore();
        if outcome < 0 {
            return Err(EalError::from_log(errno, &log::since(mark), settings, &args));
        }
        Ok(Eal { shared: Arc::new(Shared { pools: Mutex::new(Vec::new()), ours: true }) })
    }

    /// Leaves the start to another library, which must follow at once, and whose clean-up is its own. What DPDK says to it is
    /// logged from the mark on.
    ///
    /// # Errors
    /// As for [`Eal::start`], but for what EAL itself would refuse.
    #[cfg(feature = "capsule")]
    pub(crate) fn started_by(settings: &EalSettings) -> Result<(Eal, LogMark), EalError> {
        settings.check_hugepages()?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(EalError::AlreadyStarted);
        }
        let mark = log::capture();
        Ok((Eal { shared: Arc::new(Shared { pools: Mutex::new(Vec::new()), ours: false }) }, mark))
    }

    /// The version of the DPDK that runs.
    #[must_use]
    pub fn version(&self) -> String {
        dpdk_version()
    }

    /// Whether packet memory is on hugepages.
    #[must_use]
    pub fn has_hugepages(&self) -> bool {
        // SAFETY: reads EAL's configuration, which is there since the start.
        unsafe { sys::rte_eal_has_hugepages() != 0 }
    }

    /// Makes the calling thread one of EAL's until the guard is dropped, so that it has its own cache in every pool.
    ///
    /// # Errors
    /// Where the thread is registered already, or DPDK has no number left.
    pub fn register_worker_thread(&self) -> Result<WorkerThread, EalError> {
        // SAFETY: only reads a thread-local.
        if unsafe { sys::vinet_lcore_id() } != u32::MAX {
            return Err(EalError::ThreadRegistered);
        }
        let affinities = threads::Affinities::save_own();
        // SAFETY: EAL runs; the thread is not registered.
        let outcome = unsafe { sys::rte_thread_register() };
        affinities.restore_own();
        if outcome != 0 {
            return Err(EalError::NoThreadLeft { lcores_max: sys::RTE_MAX_LCORE, errno: errno() });
        }
        Ok(WorkerThread { _eal: self.clone(), _not_send: PhantomData })
    }

    /// Notes a pool, which then lives as long as the environment.
    pub(crate) fn adopt_pool(&self, pool: *mut sys::rte_mempool, buffers: u32) {
        self.shared.pools.lock().unwrap_or_else(PoisonError::into_inner).push((pool as usize, buffers));
    }
}

impl fmt::Debug for Eal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Eal({})", self.version())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.ours {
            return;
        }
        let pools = self.pools.get_mut().unwrap_or_else(PoisonError::into_inner);
        let all_home = pools.iter().all(|&(pool, buffers)| {
            // SAFETY: pools are never freed before this clean-up.
            unsafe { sys::rte_mempool_avail_count(pool as *const sys::rte_mempool) == buffers }
        });
        // A packet that is out would point into unmapped memory after the clean-up. With all of them in their pools
        // none can leave (no pool handle and no port is left), but one may be on its last steps into the pool: steps without
        // a system call, so a thread that is seen asleep is not on them.
        if all_home && threads::all_others_rest() {
            // SAFETY: no port, pool handle or registered thread is left (each holds an Eal), and no packet is out.
            unsafe { sys::rte_eal_cleanup() };
        }
    }
}

/// A thread that is registered with EAL while this lives. It cannot leave its thread.
#[derive(Debug)]
pub struct WorkerThread {
    _eal: Eal,
    _not_send: PhantomData<*mut ()>,
}

impl WorkerThread {
    /// EAL's number for the thread.
    #[must_use]
    pub fn lcore_id(&self) -> u32 {
        // SAFETY: only reads a thread-local.
        unsafe { sys::vinet_lcore_id() }
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        // SAFETY: the guard is made on, and bound to, the thread that it registered.
        unsafe { sys::rte_thread_unregister() };
    }
}

/// DPDK's error number of the calling thread.
pub(crate) fn errno() -> i32 {
    // SAFETY: only reads a thread-local.
    unsafe { sys::vinet_errno() }
}

/// The words for an error number of DPDK, negative or not.
pub(crate) fn error_text(errno: i32) -> String {
    // SAFETY: rte_strerror returns a string that stays until the thread's next call; it is copied here.
    unsafe { CStr::from_ptr(sys::rte_strerror(errno.saturating_abs())) }.to_string_lossy().into_owned()
}

/// Why EAL did not start, or a thread could not be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EalError {
    /// It was started (or tried) before in this process.
    AlreadyStarted,
    /// The file prefix has characters, or a length, that paths do not take.
    BadFilePrefix {
        /// The prefix.
        prefix: String,
    },
    /// An argument with a zero byte.
    BadArgument {
        /// The argument.
        arg: String,
    },
    /// More arguments than a C int counts.
    TooManyArguments {
        /// How many.
        count: usize,
    },
    /// Fewer hugepages are free than are wanted.
    NoHugepages {
        /// Free now, in MiB.
        free_mib: u64,
        /// Wanted, in MiB.
        wanted_mib: u32,
    },
    /// Hugepages are wanted as files, and no hugetlbfs is mounted.
    NoHugetlbfs,
    /// The user may not do what EAL must.
    NotPermitted {
        /// What EAL said.
        log: String,
    },
    /// Another process runs with the same file prefix.
    PrefixInUse {
        /// The prefix.
        prefix: String,
    },
    /// The core is not one of this machine.
    NoSuchCore {
        /// The core.
        core: usize,
    },
    /// EAL does not know an argument, or two contradict each other.
    ArgumentsRefused {
        /// All arguments.
        args: Vec<String>,
        /// What EAL said.
        log: String,
    },
    /// Anything else.
    Refused {
        /// DPDK's error number.
        errno: i32,
        /// What EAL said.
        log: String,
    },
    /// The thread is registered already.
    ThreadRegistered,
    /// DPDK has no number left for another thread.
    NoThreadLeft {
        /// How many there are.
        lcores_max: u32,
        /// DPDK's error number.
        errno: i32,
    },
}

impl EalError {
    fn from_log(errno: i32, log: &str, settings: &EalSettings, args: &[String]) -> EalError {
        let log = log.trim().to_owned();
        let has = |words: &str| log.contains(words);
        if has("Is another primary process running") {
            EalError::PrefixInUse { prefix: settings.file_prefix.clone() }
        } else if has("no mounted hugetlbfs") && !settings.in_memory {
            EalError::NoHugetlbfs
        } else if has("ermission denied") || has("Operation not permitted") {
            EalError::NotPermitted { log }
        } else if let Some(core) = settings.main_core
            && has("invalid parameter for --lcores")
        {
            EalError::NoSuchCore { core }
        } else if has("nvalid") || has("nrecognized") || has("cannot be used") || has("cannot be specified") {
            EalError::ArgumentsRefused { args: args[1..].to_vec(), log }
        } else {
            EalError::Refused { errno, log }
        }
    }
}

impl fmt::Display for EalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EalError::AlreadyStarted => f.write_str(
                "DPDK was started before in this process, and can be started only once: start a new process",
            ),
            EalError::BadFilePrefix { prefix } => write!(
                f,
                "DPDK's file prefix {prefix:?} is unusable: expected 1 to {FILE_PREFIX_LEN_MAX} letters, digits, `-`, `_` \
                 or `.`, not beginning with `-` or `.`"
            ),
            EalError::BadArgument { arg } => write!(f, "the EAL argument {arg:?} has a zero byte: take it out"),
            EalError::TooManyArguments { count } => write!(f, "{count} EAL arguments are too many"),
            EalError::NoHugepages { free_mib, wanted_mib } => write!(
                f,
                "{wanted_mib} MiB of hugepages are wanted and {free_mib} MiB are free: as root, run `echo {} > \
                 /proc/sys/vm/nr_hugepages`, or choose memory without hugepages (slower)",
                hugepages_to_set(*wanted_mib)
            ),
            EalError::NoHugetlbfs => f.write_str(
                "no hugetlbfs is mounted: run `mount -t hugetlbfs none /dev/hugepages` as root, or leave DPDK's \
                 in-memory mode on",
            ),
            EalError::NotPermitted { log } => {
                write!(f, "DPDK may not do what it must: run as root, or without hugepages and PCI; it said: {log}")
            }
            EalError::PrefixInUse { prefix } => write!(
                f,
                "another DPDK process runs with the file prefix {prefix:?}: end it, or give this router another name"
            ),
            EalError::NoSuchCore { core } => {
                write!(f, "core {core} is not one of this machine's: see `lscpu -e` for those that are")
            }
            EalError::ArgumentsRefused { args, log } => {
                write!(f, "DPDK refuses its arguments `{}`: {log}", args.join(" "))
            }
            EalError::Refused { errno, log } => write!(f, "DPDK does not start ({}): {log}", error_text(*errno)),
            EalError::ThreadRegistered => f.write_str("the thread is registered with DPDK already"),
            EalError::NoThreadLeft { lcores_max, errno } => {
                write!(f, "DPDK takes no further thread ({}): it knows at most {lcores_max}", error_text(*errno))
            }
        }
    }
}

impl std::error::Error for EalError {}

impl EalSettings {
    fn check_hugepages(&self) -> Result<(), EalError> {
        let Memory::Huge { mib } = self.memory else { return Ok(()) };
        if self.given(&["--no-huge"]) {
            return Ok(());
        }
        let wanted_mib = mib.unwrap_or(MEMORY_MIB_MIN);
        let free_mib = free_hugepages_mib();
        if free_mib < u64::from(wanted_mib) {
            return Err(EalError::NoHugepages { free_mib, wanted_mib });
        }
        Ok(())
    }
}

/// The version of the DPDK that this program is linked with, started or not.
#[must_use]
pub fn dpdk_version() -> String {
    // SAFETY: rte_version returns a string that stays; it is copied here.
    unsafe { CStr::from_ptr(sys::rte_version()) }.to_string_lossy().into_owned()
}

/// The folder from which EAL loads its drivers; `None` where DPDK was built without one.
#[must_use]
pub fn drivers_folder() -> Option<&'static Path> {
    let folder = CStr::from_bytes_with_nul(sys::RTE_EAL_PMD_PATH).ok()?.to_str().ok()?;
    (!folder.is_empty()).then(|| Path::new(folder))
}

/// The free hugepages of all sizes, in MiB.
#[must_use]
pub fn free_hugepages_mib() -> u64 {
    let Ok(sizes) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return 0 };
    sizes
        .flatten()
        .filter_map(|size| {
            let name = size.file_name().into_string().ok()?;
            let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let free: u64 = std::fs::read_to_string(size.path().join("free_hugepages")).ok()?.trim().parse().ok()?;
            Some(kib * free / 1024)
        })
        .sum()
}

/// How many pages of 2 MiB to set, with as much again for the pools that come later.
fn hugepages_to_set(wanted_mib: u32) -> u32 {
    wanted_mib.max(256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_arguments() {
        let mut settings = EalSettings::new("edge1");
        settings.main_core = Some(1);
        settings.memory = Memory::Ordinary { mib: 128 };
        settings.pci = false;
        settings.args = vec!["--no-telemetry".to_owned()];
        let args = settings.arguments().unwrap();
        assert_eq!(
            args.join(" "),
            "vinet --file-prefix=edge1 --lcores=0@1 --no-huge -m 128 --no-shconf --no-pci --iova-mode=va --no-telemetry"
        );
    }

    #[test]
    fn further_arguments_win_over_settings() {
        let mut settings = EalSettings::new("edge1");
        settings.main_core = Some(1);
        settings.memory = Memory::Huge { mib: Some(64) };
        settings.args = ["-l", "0", "--file-prefix=other", "-m", "32", "--iova-mode=pa"].map(str::to_owned).to_vec();
        let args = settings.arguments().unwrap();
        assert_eq!(
            args.join(" "),
            "vinet --in-memory --single-file-segments -l 0 --file-prefix=other -m 32 --iova-mode=pa"
        );
    }

    #[test]
    fn unusable_prefixes_and_arguments_are_named() {
        for prefix in ["", "a/b", "-x", ".x", "a b", &"x".repeat(65)] {
            assert!(matches!(EalSettings::new(prefix).arguments(), Err(EalError::BadFilePrefix { .. })), "{prefix}");
        }
        let mut settings = EalSettings::new("edge1");
        settings.args.push("a\0b".to_owned());
        assert!(matches!(settings.arguments(), Err(EalError::BadArgument { .. })));
    }

    #[test]
    fn missing_hugepages_are_told_with_the_command() {
        let mut settings = EalSettings::new("edge1");
        settings.memory = Memory::Huge { mib: Some(u32::MAX) };
        let error = settings.check_hugepages().unwrap_err();
        assert!(error.to_string().contains("/proc/sys/vm/nr_hugepages"), "{error}");
    }
}
