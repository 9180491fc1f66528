//! Shut-offs: what the votes come to is carried out, kept, and told.

use vinet_session::Now;
use vinet_trusted::addr::{Addr, Principal};

use super::Office;
use crate::alerts::words;
use crate::log;
use crate::shut_off::Outcome as Carried;
use crate::sources::{Phase, ShutOffRecord};
use crate::store::{Kind, Put};

/// A record as the store keeps it: phase, since when, until when.
fn encode(record: &ShutOffRecord) -> Vec<u8> {
    let phase = match record.phase {
        Phase::Off => 0,
        Phase::Respite => 1,
    };
    [&[phase][..], &record.since_s.to_be_bytes(), &record.until_s.to_be_bytes()].concat()
}

fn key(source: Addr) -> Vec<u8> {
    match source {
        Addr::V4(bits) => bits.to_be_bytes().to_vec(),
        Addr::V6(bits) => bits.to_be_bytes().to_vec(),
    }
}

/// The record that was kept, where it can be read.
fn decode(key: &[u8], value: &[u8]) -> Option<ShutOffRecord> {
    let source = match (<[u8; 4]>::try_from(key), <[u8; 16]>::try_from(key)) {
        (Ok(v4), _) => Addr::V4(u32::from_be_bytes(v4)),
        (_, Ok(v6)) => Addr::V6(u128::from_be_bytes(v6)),
        _ => return None,
    };
    let (&phase, rest) = value.split_first()?;
    let (since_s, until_s) = rest.split_first_chunk()?;
    let phase = match phase {
        0 => Phase::Off,
        1 => Phase::Respite,
        _ => return None,
    };
    let (since_s, until_s) = (u64::from_be_bytes(*since_s), u64::from_be_bytes(until_s.try_into().ok()?));
    Some(ShutOffRecord { source, phase, since_s, until_s })
}

impl Office {
    /// Has the table follow the votes.
    pub(super) fn carry_out_shut_offs(&mut self, now: Now) -> bool {
        if !self.may_decide() {
            return false;
        }
        let changes = self.admission.sources_mut().changes(now);
        if changes.is_empty() && self.shut_offs.is_done() {
            return false;
        }
        let mut worked = !changes.is_empty();
        let register = self.admission.sources_mut().shut_offs_mut();
        let carried = self.shut_offs.carry_out(changes, register, &mut self.table, now);
        worked |= !carried.is_empty();
        let mut puts = Vec::new();
        for outcome in carried {
            let change = match outcome {
                Carried::Done(change) => change,
                Carried::Failed { source, error } => {
                    log::error("sources", format_args!("{source} could not be shut off: {error}"));
                    continue;
                }
            };
            let source = change.source();
            let (code, text) = words(&change);
            log::info("sources", format_args!("{text}"));
            if let Some(datagram) = self.alerts.of(&change, now) {
                self.datagrams.push(datagram);
            }
            puts.extend(self.admission.note(&Principal::EndUser(source), code, &text, now));
            puts.push(match self.admission.sources().shut_offs().record(source) {
                Some(record) => Put::Keep { kind: Kind::ShutOff, key: key(source), value: encode(&record) },
                None => Put::Drop { kind: Kind::ShutOff, key: key(source) },
            });
        }
        if !puts.is_empty() {
            let outcome = self.admission.unasked(puts);
            self.file(None, outcome);
        }
        worked
    }

    /// Takes up the shut-offs that the store kept, once the programs are counted again.
    pub fn restore_shut_offs(&mut self, kept: Vec<(Vec<u8>, Vec<u8>)>, now: Now) {
        for (key, value) in kept {
            if let Some(record) = decode(&key, &value) {
                self.admission.sources_mut().shut_offs_mut().restore(&record, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shut_off_is_kept_and_read_again() {
        for (source, phase) in [(Addr::V4(7), Phase::Off), (Addr::V6(1 << 100), Phase::Respite)] {
            let record = ShutOffRecord { source, phase, since_s: 5, until_s: 1 << 40 };
            assert_eq!(decode(&key(source), &encode(&record)), Some(record));
        }
        let record = ShutOffRecord { source: Addr::V4(7), phase: Phase::Off, since_s: 5, until_s: 9 };
        let good = encode(&record);
        assert_eq!(decode(&[1, 2, 3], &good), None);
        assert_eq!(decode(&[1, 2, 3, 4], &good[1..]), None);
        assert_eq!(decode(&[1, 2, 3, 4], &[]), None);
    }
}
