//! Not covered here: whether the parser agrees with another one, and the executor with the reference interpreter; the
//! property tests of `vinet-pktops` hold them against each other.
//!
//! An input is a burst of frames, each behind its length. Parsing one is total, and all that it says lies within the
//! frame; running programs that search streams on a burst of anything panics nowhere and discards nobody else's
//! packets.

use crate::frames;
use std::sync::{Arc, OnceLock};
use vinet_client::pcap::Capture;
use vinet_pktops::parse::{self, Headers, Transport};
use vinet_pktops::{Executable, Verdict};
use vinet_trusted::addr::{Addr, Principal};
use vinet_trusted::check::check;
use vinet_trusted::packet::Test;
use vinet_trusted::policy::{Limits, Policy};
use vinet_trusted::program::{AddrExpr, Cond, Field, Instr, Program, Word};

const OWNER_V4: Principal = Principal::EndUser(Addr::V4(0xc000_0201));
const OWNER_V6: Principal = Principal::EndUser(Addr::V6(0x2001_0db8_0000_0000_0000_0000_0000_0001));

/// The input of [`target`] for these frames.
pub(crate) fn burst<F: AsRef<[u8]>>(frames: &[F]) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in frames {
        let frame = frame.as_ref();
        out.extend((frame.len() as u16).to_be_bytes());
        out.extend(frame);
    }
    out
}

/// Every frame alone, all together, and pieces of the traces of the shared data where they are.
#[must_use]
pub fn corpus() -> Vec<Vec<u8>> {
    let frames = frames::frames();
    let mut corpus: Vec<Vec<u8>> = frames.iter().map(|frame| burst(&[frame])).collect();
    corpus.push(burst(&frames));
    for trace in frames::traces() {
        if let Ok(capture) = Capture::read(&trace) {
            let packets: Vec<&[u8]> = capture.packets().iter().map(|packet| packet.bytes).collect();
            corpus.extend(packets.chunks(8).step_by(1 + packets.len() / 64).map(burst));
        }
    }
    corpus
}

/// A program that discards the owner's packets whose streams hold both words.
pub(crate) fn executables() -> &'static [Arc<Executable>] {
    static EXECUTABLES: OnceLock<Vec<Arc<Executable>>> = OnceLock::new();
    EXECUTABLES.get_or_init(|| {
        let shipped = crate::policy::end_user();
        // Few flows and islands, so that a burst brings evictions.
        let limits = Limits { stream_flows_max: 4, stream_islands_max: 2, ..shipped.limits };
        let policy = Arc::new(Policy { limits, ..Policy::clone(shipped) });
        let to_owner = AddrExpr { this_ip: true, ..AddrExpr::default() };
        let contains = |word| Box::new(Cond::Contains { arg: 1, word });
        let either = Cond::Or { a: contains(1), b: Box::new(Cond::Not { cond: contains(2) }) };
        let cond = Cond::And { a: contains(0), b: Box::new(either) };
        let body = vec![
            Instr::Select { out: 1, arg: 0, test: Test::In { field: Field::Dst, addrs: to_owner } },
            Instr::If { cond, then: vec![Instr::Discard { arg: 1 }], otherwise: vec![] },
        ];
        let word = |fold, bytes: &[u8]| Word { fold, bytes: bytes.to_vec() };
        let words = vec![word(false, b"word"), word(true, b"two"), word(false, b"\0")];
        let program = Program::new(60, 1, words, body).expect("a program");
        [OWNER_V4, OWNER_V6]
            .into_iter()
            .map(|owner| {
                let lemmas = vinet_prover::library();
                let proof = vinet_prover::prove(&program, &owner, &policy, &lemmas, &[]).expect("a proof");
                let checked = check(&program.encode(), &proof, owner, &policy, &lemmas).expect("a proof that holds");
                Arc::new(Executable::lower(Arc::new(checked)).expect("an executable"))
            })
            .collect()
    })
}

/// Parses and runs the burst `data`; whether a packet of it was discarded.
///
/// # Panics
/// Where something misbehaves.
pub fn target(mut data: &[u8]) -> bool {
    let executables = executables();
    let mut states: Vec<_> = executables.iter().map(|executable| executable.state()).collect();
    let (mut now_ns, mut is_any_discarded) = (0, false);
    while let Some((len, rest)) = data.split_first_chunk::<2>() {
        let (frame, rest) = rest.split_at(rest.len().min(usize::from(u16::from_be_bytes(*len))));
        data = rest;
        now_ns += 1000;
        // A capture that kept the first half of the frame only.
        if let Ok(headers) = parse::headers_snapped(&frame[..frame.len() / 2], frame.len()) {
            let _ = parse::transport(&frame[..frame.len() / 2], &headers);
        }
        let headers = match parse::headers(frame) {
            Ok(headers) => headers,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        check_bounds(frame, &headers);
        for (executable, state) in executables.iter().zip(&mut states) {
            if let Verdict::Discard(_) = executable.run(state, frame, &headers, now_ns) {
                is_any_discarded = true;
                let owner = executable.checked().owner();
                assert!(owner.owned().contains(headers.dst), "a packet to {} is not {owner}'s", headers.dst);
            }
            assert!(state.memory_bytes() <= executable.checked().state_bytes(), "more state than was paid for");
        }
    }
    is_any_discarded
}

fn check_bounds(frame: &[u8], headers: &Headers) {
    let (l3, l4) = (usize::from(headers.l3_offset), usize::from(headers.l4_offset));
    assert!(l3 < l4 && l4 <= headers.end() && headers.end() <= frame.len(), "{headers:?} of {} bytes", frame.len());
    let payload = match parse::transport(frame, headers) {
        Transport::Tcp(tcp) => tcp.payload,
        Transport::Udp(udp) => udp.payload,
        Transport::Other(other) => other.payload,
    };
    assert!(payload.start <= payload.end && payload.end <= headers.end(), "{payload:?} of {headers:?}");
    let same = parse::headers_snapped(frame, frame.len());
    assert_eq!(same, Ok(*headers), "a whole frame is read as its own capture");
}

#[cfg(test)]
mod tests {
    #[test]
    fn frames_are_read_within_their_bounds_and_programs_run_on_anything() {
        crate::run("packet", &super::corpus(), 12_000, super::target);
    }
}
