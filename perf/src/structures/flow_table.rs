//! The flow table that runs in the router, with a firewall of its own for every pair: proven, checked, lowered and
//! installed.

use super::workload::Pair;
use super::{BURST, Beside, Structure};
use crate::run::PerfError;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use vinet_fastpath::flow_table::{Batch, FlowTable, Install, InstallId, TableScratch, TableWriter};
use vinet_fastpath::publication::{Domain, Reader};
use vinet_fastpath::settings::TableLimits;
use vinet_pktops::Executable;
use vinet_session::policy_file;
use vinet_trusted::addr::{Addr, Principal};
use vinet_trusted::check::check;
use vinet_trusted::packet::Test;
use vinet_trusted::policy::{OverBudget, Policy};
use vinet_trusted::program::{AddrExpr, Field, Instr, Program};

/// What is above an IPv4 address to make it one of IPv6.
const V6_NET: u128 = 0x2001_0db8 << 96;

pub struct InTable {
    v6: bool,
    table: Arc<FlowTable>,
    writer: TableWriter,
    reader: Reader,
    scratch: Box<TableScratch>,
    /// The program of each pair, and the name that it is installed by.
    programs: Vec<(Arc<Executable>, u64)>,
    next_id: u64,
    beside: Beside,
}

/// Bytes of this process that are in memory.
fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    pages * 4096
}

impl InTable {
    pub fn new(pairs: &[Pair], v6: bool, policy: &Path) -> Result<InTable, PerfError> {
        let failed = |words: String| PerfError::Failed { what: "the flow table".to_owned(), words };
        let policy = policy_file::load(policy).map_err(|e| PerfError::Option(e.to_string()))?;
        let policy = Arc::new(policy);
        let (domain, places) = Domain::new(1);
        let count = pairs.len() as u32;
        let limits = TableLimits { programs_max: count + 1, cells_max: count + 1024, retired_max: 1 << 18 };
        let (writer, table) = TableWriter::new(domain, limits).map_err(|e| failed(e.to_string()))?;
        let reader = places.into_iter().next().map(|place| place.join());
        let reader = reader.ok_or_else(|| failed("no place for a reader".to_owned()))?;
        let before = resident_bytes();
        let programs = pairs
            .iter()
            .map(|&pair| Ok((Arc::new(firewall(pair, v6, &policy)?), 0)))
            .collect::<Result<Vec<_>, String>>()
            .map_err(failed)?;
        let lowered = resident_bytes();
        let scratch = Box::new(TableScratch::new());
        let mut this = InTable {
            v6,
            table,
            writer,
            reader,
            scratch,
            programs,
            next_id: 1,
            beside: Beside { executable: (lowered - before) / pairs.len(), installed: 0, batch_ms: [0.0; 2] },
        };
        // Few at a time at first, as they come to a router.
        let mut start = 0;
        while start < pairs.len() {
            let mut batch = Batch::new();
            let end = pairs.len().min(start + 10 + start / 100);
            for number in start..end {
                batch.install(this.install(number));
            }
            this.writer.apply(batch).map_err(|e| failed(e.to_string()))?;
            this.pass();
            start = end;
        }
        for _ in 0..4096 {
            // The table under construction, if there is one, is completed.
            this.pass();
        }
        let cells = usize::try_from(this.writer.memory_bytes()).unwrap_or(usize::MAX);
        this.beside.installed = resident_bytes().saturating_sub(lowered).saturating_sub(cells) / pairs.len();
        Ok(this)
    }

    pub fn beside(&self) -> Beside {
        self.beside
    }

    fn install(&mut self, number: usize) -> Install {
        let (executable, id) = &mut self.programs[number];
        *id = self.next_id;
        self.next_id += 1;
        Install {
            id: InstallId(*id),
            executable: executable.clone(),
            packet_rate: 0,
            over_budget: OverBudget::Forward,
            generate_key: [0; 32],
            monitor: false,
        }
    }

    /// Milliseconds that it takes to withdraw so many programs in one batch, and to install them in one.
    pub fn batch_ms(&mut self, programs: usize) -> (f64, f64) {
        let numbers = 0..programs.min(self.programs.len());
        let mut withdrawals = Batch::new();
        for number in numbers.clone() {
            withdrawals.withdraw(InstallId(self.programs[number].1));
        }
        let withdrawn_ms = self.apply_ms(withdrawals);
        let mut installs = Batch::new();
        for number in numbers {
            installs.install(self.install(number));
        }
        (withdrawn_ms, self.apply_ms(installs))
    }

    fn apply_ms(&mut self, batch: Batch) -> f64 {
        let started = Instant::now();
        let applied = self.writer.apply(batch);
        let ms = started.elapsed().as_secs_f64() * 1e3;
        assert!(applied.is_ok(), "{applied:?}");
        for _ in 0..8 {
            self.pass();
        }
        ms
    }

    fn pass(&mut self) {
        self.reader.quiescent();
        drop(self.writer.reclaim());
    }
}

impl Structure for InTable {
    fn name(&self) -> &'static str {
        if self.v6 { "the flow table, IPv6" } else { "the flow table" }
    }
    fn count_hits(&mut self, pairs: &[Pair]) -> usize {
        let mut hits = 0;
        for burst in pairs.chunks(BURST) {
            self.reader.quiescent();
            for (lane, &(src, dst)) in burst.iter().enumerate() {
                if self.v6 {
                    self.scratch.push_v6(lane as u8, V6_NET | u128::from(src), V6_NET | u128::from(dst));
                } else {
                    self.scratch.push_v4(lane as u8, src, dst);
                }
            }
            hits += self.table.wanted_lanes(&self.reader, &mut self.scratch).count_ones() as usize;
        }
        hits
    }
    fn update(&mut self, number: usize, _pair: Pair) {
        let withdrawn = self.writer.withdraw(InstallId(self.programs[number].1));
        let install = self.install(number);
        let installed = self.writer.install(install);
        assert!(withdrawn.is_ok() && installed.is_ok(), "{withdrawn:?} {installed:?}");
        self.pass();
    }
    fn memory_bytes(&self) -> usize {
        usize::try_from(self.writer.memory_bytes()).unwrap_or(usize::MAX)
    }
}

/// A firewall of the owner of the destination against the source.
fn firewall((src, dst): Pair, v6: bool, policy: &Arc<Policy>) -> Result<Executable, String> {
    let addr = |addr: u32| if v6 { Addr::V6(V6_NET | u128::from(addr)) } else { Addr::V4(addr) };
    let owner = Principal::EndUser(addr(dst));
    let this_ip = AddrExpr { this_ip: true, ..AddrExpr::default() };
    let body = vec![
        Instr::Select { out: 1, arg: 0, test: Test::In { field: Field::Dst, addrs: this_ip } },
        Instr::Select { out: 2, arg: 1, test: Test::In { field: Field::Src, addrs: addr(src).into() } },
        Instr::Discard { arg: 2 },
    ];
    let program = Program::new(3600, 1, Vec::new(), body).map_err(|e| e.to_string())?;
    let lemmas = vinet_prover::library();
    let proof = vinet_prover::prove(&program, &owner, policy, &lemmas, &[]).map_err(|e| e.to_string())?;
    let checked = check(&program.encode(), &proof, owner, policy, &lemmas).map_err(|e| e.to_string())?;
    Executable::lower(Arc::new(checked)).map_err(|e| e.to_string())
}
