//! What the programs of the corpus are put together from.

use super::NET;
use vinet_trusted::addr::{Addr, AddrExpr, Prefix, PrefixSet};
use vinet_trusted::packet::{Field, Number, Ranges, Test};
use vinet_trusted::program::{AddrTerm, Cond, Expr, Instr, Program, Slot, Word};

pub(super) fn both(a: Test, b: Test) -> Test {
    Test::And { a: Box::new(a), b: Box::new(b) }
}
pub(super) fn either(a: Test, b: Test) -> Test {
    Test::Or { a: Box::new(a), b: Box::new(b) }
}
pub(super) fn not(a: Test) -> Test {
    Test::Not { a: Box::new(a) }
}
pub(super) fn number(number: Number, ranges: &[(u32, u32)]) -> Test {
    Test::Number { number, ranges: Ranges::new(ranges.to_vec()).expect("ranges of the corpus fit") }
}
pub(super) fn prefixes(all: &[(u32, u8)]) -> AddrExpr {
    let all = all.iter().filter_map(|(addr, len)| Prefix::of(Addr::V4(*addr), *len)).collect();
    AddrExpr { prefixes: PrefixSet::new(all), ..AddrExpr::default() }
}
pub(super) fn net(len: u8) -> AddrExpr {
    prefixes(&[(NET, len)])
}
pub(super) fn to(addrs: AddrExpr) -> Test {
    Test::In { field: Field::Dst, addrs }
}
pub(super) fn from(addrs: AddrExpr) -> Test {
    Test::In { field: Field::Src, addrs }
}
pub(super) fn subnet() -> AddrExpr {
    AddrExpr { this_subnet: true, ..AddrExpr::default() }
}
pub(super) fn this_ip() -> AddrExpr {
    AddrExpr { this_ip: true, ..AddrExpr::default() }
}
/// Where some traffic comes from that has nothing to do with the owner.
pub(super) fn elsewhere() -> AddrExpr {
    prefixes(&[(0x0a00_0000, 8)])
}
pub(super) fn select(out: Slot, arg: Slot, test: Test) -> Instr {
    Instr::Select { out, arg, test }
}
pub(super) fn by(field: Field, out: Slot, arg: Slot) -> Instr {
    Instr::Partition { out, arg, field }
}
pub(super) fn each(groups: Slot, packets: Slot, body: Vec<Instr>) -> Instr {
    Instr::Foreach { groups, packets, key: packets + 1, body }
}
pub(super) fn when(cond: Cond, then: Vec<Instr>, otherwise: Vec<Instr>) -> Instr {
    Instr::If { cond, then, otherwise }
}
pub(super) fn repeat(cond: Cond, max: u32, body: Vec<Instr>) -> Instr {
    Instr::While { cond, max, body }
}
pub(super) fn discard(arg: Slot) -> Instr {
    Instr::Discard { arg }
}
pub(super) fn set(out: Slot, expr: Expr) -> Instr {
    Instr::Let { out, expr }
}
pub(super) fn slot(slot: Slot) -> Expr {
    Expr::Slot { slot }
}
pub(super) fn int(value: i64) -> Expr {
    Expr::Const { value }
}
pub(super) fn add(a: Expr, b: Expr) -> Expr {
    Expr::Add { a: Box::new(a), b: Box::new(b) }
}
pub(super) fn sub(a: Expr, b: Expr) -> Expr {
    Expr::Sub { a: Box::new(a), b: Box::new(b) }
}
pub(super) fn mul(a: Expr, b: Expr) -> Expr {
    Expr::Mul { a: Box::new(a), b: Box::new(b) }
}
pub(super) fn at_most(a: Expr, b: Expr) -> Cond {
    Cond::AtMost { a, b }
}
pub(super) fn unless(cond: Cond) -> Cond {
    Cond::Not { cond: Box::new(cond) }
}
pub(super) fn and(a: Cond, b: Cond) -> Cond {
    Cond::And { a: Box::new(a), b: Box::new(b) }
}
pub(super) fn or(a: Cond, b: Cond) -> Cond {
    Cond::Or { a: Box::new(a), b: Box::new(b) }
}
pub(super) fn key_in(addr: Slot, addrs: AddrExpr) -> Cond {
    Cond::AddrIn { addr, addrs }
}
pub(super) fn contains(arg: Slot, word: u8) -> Cond {
    Cond::Contains { arg, word }
}
pub(super) fn count(out: Slot, arg: Slot, word: u8) -> Instr {
    Instr::Count { out, arg, word }
}
pub(super) fn offset(out: Slot, base: AddrTerm, by: Expr) -> Instr {
    Instr::Offset { out, base, by }
}
pub(super) fn send(dst: Slot, data: Slot) -> Instr {
    Instr::Generate { src: AddrTerm::ThisIp, dst: AddrTerm::Slot { slot: dst }, data }
}
/// Slot 1: what is sent into the owner's prefix. Slots 2 and 3: its destinations and contents.
pub(super) fn contents() -> Vec<Instr> {
    vec![select(1, 0, to(subnet())), Instr::Content { dests: 2, contents: 3, arg: 1 }]
}
pub(super) fn word(bytes: &str) -> Word {
    Word { fold: bytes.bytes().any(|b| b.is_ascii_lowercase()), bytes: bytes.as_bytes().to_vec() }
}
pub(super) fn program(window: u16, words: &[&str], body: Vec<Instr>) -> Program {
    let words = words.iter().map(|bytes| word(bytes)).collect();
    Program::new(86_400, window, words, body).expect("programs of the corpus are well-formed")
}
