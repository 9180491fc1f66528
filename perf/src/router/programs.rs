//! Programs for a router under test, of several kinds and in any number: compiled, proven, checked and lowered as those of an
//! end user are.
//!
//! A proof depends on the shape of a program and not on its addresses, so it is made once and every program is checked with
//! it; where the checker refuses it for one, that one gets a proof of its own. Owners are the 508 destinations of the standard
//! capture first, then addresses of 100.64.0.0/10, which no packet is for: beyond the first 508, more programs of a kind that
//! runs make the table larger and no packet meet more of them.

use crate::run::PerfError;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use vinet_client::{lang, pcap::Capture};
use vinet_fastpath::flow_table::{Install, InstallId, TableWriter};
use vinet_pktops::Executable;
use vinet_prover::hint::Hint;
use vinet_session::policy_file;
use vinet_trusted::addr::{Addr, AddrExpr, Prefix, PrefixSet, Principal};
use vinet_trusted::check::check;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::packet::{Field, Test};
use vinet_trusted::policy::{OverBudget, Policy};
use vinet_trusted::program::{Instr, Program};

/// How many programs are installed between two looks at the memory that they take.
const MEMORY_LOOK_EVERY: u32 = 64;
/// The destinations of the standard capture.
const DESTINATIONS: u32 = 508;

/// What the programs do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Drops one source that sends nothing: a verdict in the table.
    Firewall,
    /// Drops one source: the flows of the capture, one after the other, then sources that send nothing.
    FirewallMatching,
    /// Drops a prefix of sources that send nothing.
    PrefixFirewall,
    /// Looks at protocol and port of every packet to its owner, and drops none.
    HeaderTest,
    /// Looks for one word that no packet has.
    Spam1,
    /// For two.
    Spam2,
    /// For ten.
    Spam10,
    /// Counts over a window of 32 packets.
    Windowed,
}

impl Kind {
    /// The name that the command line has for it.
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map_or_else(String::new, |value| value.get_name().to_owned())
    }
    /// How many programs of the kind one packet of the standard capture meets at most.
    const fn words(self) -> Option<usize> {
        match self {
            Kind::Spam1 => Some(1),
            Kind::Spam2 => Some(2),
            Kind::Spam10 => Some(10),
            _ => None,
        }
    }
}

/// What the programs took.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Placed {
    /// How many are installed.
    pub programs: usize,
    /// Proofs that had to be made.
    pub proofs: usize,
    /// Seconds to make, check and install all of them.
    pub seconds: f64,
    /// Bytes that the flow table says it uses.
    pub table_bytes: u64,
    /// Bytes by which the process grew.
    pub resident_bytes: u64,
    /// Why there are none.
    pub refused: Option<String>,
}

/// Installs `count` programs of a kind. What the router refuses to do is told in the answer; it is no error.
pub fn install(
    table: &mut TableWriter,
    kind: Kind,
    count: u32,
    policy: &Path,
    flows_of: Option<&Path>,
) -> Result<Placed, PerfError> {
    install_within(table, kind, count, policy, flows_of, available_bytes() / 2, resident_bytes)
}

/// [`install`], where the programs may take so many bytes of those that `resident_bytes` tells.
fn install_within(
    table: &mut TableWriter,
    kind: Kind,
    count: u32,
    policy: &Path,
    flows_of: Option<&Path>,
    memory_max: u64,
    resident_bytes: impl Fn() -> u64,
) -> Result<Placed, PerfError> {
    let failed = |words: String| PerfError::Failed { what: format!("installing a program ({})", kind.name()), words };
    if count == 0 {
        return Ok(Placed::default());
    }
    let policy = Arc::new(policy_file::load(policy).map_err(|e| PerfError::Option(e.to_string()))?);
    let flows = match flows_of {
        Some(path) if kind == Kind::FirewallMatching => flows(path)?,
        _ => Vec::new(),
    };
    let mut maker = Maker { policy, lemmas: vinet_prover::library(), proof: None, proofs: 0 };
    let (resident, started) = (resident_bytes(), Instant::now());
    let mut placed = Placed::default();
    let compiled = compile(kind).map_err(failed)?;
    for number in 0..count {
        let (owner, program) = match &compiled {
            Some((program, _)) => (owner(number), program.clone()),
            None => address_program(kind, number, &flows).map_err(failed)?,
        };
        let hints = compiled.as_ref().map_or(&[][..], |(_, hints)| hints);
        let install = match maker.make(&program, owner, hints) {
            Ok(executable) => Install {
                id: InstallId(u64::from(number) + 1),
                executable: Arc::new(executable),
                packet_rate: 0,
                over_budget: OverBudget::Forward,
                generate_key: [0; 32],
                monitor: false,
            },
            Err(words) => {
                placed.refused = Some(words);
                break;
            }
        };
        if let Err(error) = table.install(install) {
            placed.refused = Some(error.to_string());
            break;
        }
        if number % 1024 == 0 {
            table.reclaim();
        }
        let taken = if number % MEMORY_LOOK_EVERY == 0 { resident_bytes().saturating_sub(resident) } else { 0 };
        if taken > memory_max {
            placed.refused = Some(format!(
                "{} programs take {} MiB, above the bound of {} MiB",
                number + 1,
                taken >> 20,
                memory_max >> 20
            ));
            break;
        }
    }
    table.reclaim();
    placed.programs = table.len();
    placed.proofs = maker.proofs;
    placed.seconds = started.elapsed().as_secs_f64();
    placed.table_bytes = table.memory_bytes();
    placed.resident_bytes = resident_bytes().saturating_sub(resident);
    Ok(placed)
}

struct Maker {
    policy: Arc<Policy>,
    lemmas: Arc<LemmaStore>,
    /// The last proof that was made.
    proof: Option<Vec<u8>>,
    proofs: usize,
}

impl Maker {
    fn make(&mut self, program: &Program, owner: Principal, hints: &[Hint]) -> Result<Executable, String> {
        let bytes = program.encode();
        let accepted =
            self.proof.as_ref().and_then(|proof| check(&bytes, proof, owner, &self.policy, &self.lemmas).ok());
        let checked = match accepted {
            Some(checked) => checked,
            None => {
                let proof = vinet_prover::prove(program, &owner, &self.policy, &self.lemmas, hints);
                let proof = proof.map_err(|e| e.to_string())?;
                self.proofs += 1;
                let checked = check(&bytes, &proof, owner, &self.policy, &self.lemmas).map_err(|e| e.to_string())?;
                self.proof = Some(proof);
                checked
            }
        };
        Executable::lower(Arc::new(checked)).map_err(|e| e.to_string())
    }
}

fn owner(number: u32) -> Principal {
    let addr =
        if number < DESTINATIONS { 0xc612_0000 + (number % 2) * 256 + 1 + number / 2 } else { 0x6440_0000 + number };
    Principal::EndUser(Addr::V4(addr))
}

/// The firewalls: a source, or a prefix of sources, against an owner. All are of the 508 destinations, so that every packet's
/// destination has programs.
fn address_program(kind: Kind, number: u32, flows: &[(Addr, Addr)]) -> Result<(Principal, Program), String> {
    let mut to = owner(number % DESTINATIONS);
    let host = number / DESTINATIONS;
    let sources: AddrExpr = match (kind, flows.get(number as usize)) {
        (Kind::PrefixFirewall, _) => {
            // Prefixes of 256 addresses, 4,096 of them for each owner: two million in all.
            let prefix = Prefix::of(Addr::V4(0xac10_0000 + host % 4096 * 256), 24);
            AddrExpr { prefixes: PrefixSet::new(prefix.into_iter().collect()), ..AddrExpr::default() }
        }
        (Kind::FirewallMatching, Some(&(src, dst))) => {
            to = Principal::EndUser(dst);
            src.into()
        }
        _ => Addr::V4(0xac10_0000 + host).into(),
    };
    let this_ip = AddrExpr { this_ip: true, ..AddrExpr::default() };
    let body = vec![
        Instr::Select { out: 1, arg: 0, test: Test::In { field: Field::Dst, addrs: this_ip } },
        Instr::Select { out: 2, arg: 1, test: Test::In { field: Field::Src, addrs: sources } },
        Instr::Discard { arg: 2 },
    ];
    Ok((to, Program::new(3600, 1, Vec::new(), body).map_err(|e| e.to_string())?))
}

/// The kinds that are the same program for every owner.
fn compile(kind: Kind) -> Result<Option<(Program, Vec<Hint>)>, String> {
    const WORDS: [&str; 10] = [
        "lottery",
        "winner",
        "inheritance",
        "wire transfer",
        "casino",
        "pharmacy",
        "mortgage",
        "refinance",
        "jackpot",
        "unclaimed",
    ];
    let text = match (kind, kind.words()) {
        (_, Some(words)) => {
            let tests: Vec<String> =
                WORDS[..words].iter().map(|word| format!("CONTAINS_STRING(Packets(i), \"{word}\")")).collect();
            format!(
                "LIFETIME = 1 day\nMine = GROUP_BY_DESTINATION(AllPackets, THIS_IP);\n\
                 SourceIP(i), Packets(i) = GROUP_BY_SOURCE(Mine);\nforeach i do\n  if {} then\n    DISCARD(Packets(i));\n",
                tests.join("\n  or ")
            )
        }
        (Kind::HeaderTest, _) => include_str!("../../../configs/programs/block-telnet.vnp").to_owned(),
        (Kind::Windowed, _) => include_str!("../../../configs/programs/three-strikes.vnp").to_owned(),
        _ => return Ok(None),
    };
    let compiled = lang::compile(&kind.name(), &text, &[], &owner(0)).map_err(|errors| errors.to_string())?;
    Ok(Some((compiled.program, compiled.hints)))
}

/// The different flows of a capture, source and destination, in their order.
fn flows(path: &Path) -> Result<Vec<(Addr, Addr)>, PerfError> {
    let bytes = std::fs::read(path).map_err(|error| PerfError::File { path: path.to_owned(), error })?;
    let capture = Capture::read(&bytes).map_err(|e| PerfError::Option(format!("{}: {e}", path.display())))?;
    let headers = capture.packets().iter().filter_map(|packet| vinet_pktops::parse::headers(packet.bytes).ok());
    let mut seen = BTreeSet::new();
    Ok(headers.map(|headers| (headers.src, headers.dst)).filter(|&flow| seen.insert(flow)).collect())
}

/// Bytes that the machine has free, or would free for others; all there are where it does not tell.
fn available_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: Option<u64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.map_or(u64::MAX, |kib| kib * 1024)
}

/// Bytes of this process that are in memory.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    pages * 4096
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_fastpath::publication::Domain;
    use vinet_fastpath::settings::TableLimits;

    fn table() -> TableWriter {
        let limits = TableLimits { programs_max: 4096, cells_max: 8192, retired_max: 4096 };
        TableWriter::new(Domain::new(0).0, limits).expect("a table").0
    }

    fn policy() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/policy/end-user.toml")
    }

    #[test]
    fn programs_of_every_kind_are_installed_with_one_proof() {
        use clap::ValueEnum;
        for &kind in Kind::value_variants() {
            let mut table = table();
            let placed = install(&mut table, kind, 600, &policy(), None).expect("they are tried");
            match &placed.refused {
                None => assert_eq!((placed.programs, placed.proofs), (600, 1), "{kind:?}"),
                Some(why) => {
                    assert_eq!(kind, Kind::Windowed, "{why}");
                    assert_eq!(placed.programs, 0);
                }
            }
        }
    }

    #[test]
    fn programs_that_take_too_much_memory_are_refused() {
        let mut table = table();
        // Each look finds another 300 KiB: what the process really has is other tests' affair too.
        let looks = std::cell::Cell::new(0);
        let resident = || looks.replace(looks.get() + (300 << 10));
        let placed = install_within(&mut table, Kind::Spam10, 1_000, &policy(), None, 1 << 20, resident)
            .expect("they are tried");
        let why = placed.refused.expect("a reason");
        assert!(why.contains("above the bound of 1 MiB") && placed.programs < 1_000, "{why}: {}", placed.programs);
    }

    #[test]
    fn matching_firewalls_are_for_the_flows_of_the_capture() {
        let dir = tempfile::tempdir().expect("a folder");
        let pcap = dir.path().join("64.pcap");
        crate::capture::write(&pcap, 64, 32).expect("a capture");
        let flows = flows(&pcap).expect("flows");
        assert_eq!(flows.len(), 32);
        let mut table = table();
        install(&mut table, Kind::FirewallMatching, 20, &policy(), Some(&pcap)).expect("installed");
        for (number, &(src, dst)) in flows.iter().enumerate() {
            assert_eq!(table.acting_on(src, dst).len(), usize::from(number < 20), "{number}");
        }
    }

    #[test]
    fn firewalls_that_do_not_match_are_of_the_captures_destinations_alone() {
        let mut table = table();
        install(&mut table, Kind::Firewall, 1100, &policy(), None).expect("installed");
        assert!(available_bytes() > resident_bytes() && resident_bytes() > 0);
        let dst = Addr::V4(0xc612_0001);
        assert_eq!(table.acting_on(Addr::V4(0x0a00_0001), dst), vec![]);
        assert_eq!(table.acting_on(Addr::V4(0xac10_0002), dst), vec![InstallId(1017)]);
    }
}
