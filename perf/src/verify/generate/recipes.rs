//! The recipes: each makes the body of a lawful program, or of one that gets the recipe's one thing wrong.

use super::draft::{Draft, SUBNET_SIZE, and, at_most, int, minus, not, or, plus, slot, times};
use vinet_trusted::packet::{Field, Number, Ranges, Test};
use vinet_trusted::program::{ALL_PACKETS, AddrTerm, Cond, Instr, Slot};

/// TLS by the ports that the strict operator names.
const TLS: [u32; 5] = [443, 465, 853, 993, 995];
const ICMP: u32 = 1;
const TCP: u32 = 6;
const UDP: u32 = 17;
const ICMP_V6: u32 = 58;

/// A selection of the owner's packets first, and what else there is to select after it; or the other way round.
pub fn straight_line(d: &mut Draft, is_lawful: bool) -> Vec<Instr> {
    let mut body = Vec::new();
    d.harmless(&mut body);
    let chosen = if is_lawful {
        let mine = d.mine(&mut body);
        d.some_of(&mut body, mine)
    } else {
        let addrs = d.anybody();
        let from = d.select(&mut body, ALL_PACKETS, Test::In { field: Field::Src, addrs });
        let addrs = d.owned();
        d.select(&mut body, from, Test::In { field: Field::Dst, addrs })
    };
    d.harmless(&mut body);
    body.push(Instr::Discard { arg: chosen });
    body
}

/// A loop over the groups of all packets by `field`; `inside` makes the block.
fn for_groups(
    d: &mut Draft,
    body: &mut Vec<Instr>,
    arg: Slot,
    field: Field,
    inside: impl FnOnce(&mut Draft, Slot, Slot) -> Vec<Instr>,
) {
    let groups = d.slot();
    body.push(Instr::Partition { out: groups, arg, field });
    let (packets, key) = (d.slot(), d.slot());
    let block = inside(d, packets, key);
    body.push(Instr::Foreach { groups, packets, key, body: block });
}

/// A condition that holds only of keys that the owner owns.
fn key_is_owned(d: &mut Draft, key: Slot) -> Cond {
    match d.chance.below(4) {
        0 => Cond::AddrIs { addr: key, is: AddrTerm::ThisIp },
        1 => {
            let (a, b) = (d.owned(), d.owned());
            let [a, b] = [a, b].map(|addrs| Box::new(Cond::AddrIn { addr: key, addrs }));
            Cond::Or { a, b }
        }
        _ => Cond::AddrIn { addr: key, addrs: d.owned() },
    }
}

/// All packets by destination; the address of a group says whether it is the owner's.
pub fn key_test(d: &mut Draft, is_lawful: bool) -> Vec<Instr> {
    let mut body = Vec::new();
    d.harmless(&mut body);
    for_groups(d, &mut body, ALL_PACKETS, Field::Dst, |d, packets, key| {
        let owned = if is_lawful { key_is_owned(d, key) } else { Cond::AddrIn { addr: key, addrs: d.too_wide() } };
        let discard = vec![Instr::Discard { arg: packets }];
        // Whether the answer is yes or no, what the group says stands at the same block.
        match d.chance.below(3) {
            0 => vec![Instr::If { cond: not(owned), then: Vec::new(), otherwise: discard }],
            1 => {
                let word = d.word();
                let cond = Cond::And { a: Box::new(owned), b: Box::new(Cond::Contains { arg: packets, word }) };
                vec![Instr::If { cond, then: discard, otherwise: Vec::new() }]
            }
            _ => vec![Instr::If { cond: owned, then: discard, otherwise: Vec::new() }],
        }
    });
    body
}

/// What is in a set depends on a condition, and an integer remembers which; a later branch on the integer is about
/// the set.
pub fn correlated(d: &mut Draft, is_lawful: bool) -> Vec<Instr> {
    let mut body = Vec::new();
    let mine = d.mine(&mut body);
    let cond = d.open_cond(&mut body, mine);
    let (set, flag) = (d.slot(), d.slot());
    let first = d.chance.between(-3, 3);
    let second = first + d.chance.between(1, 3);
    let is_mine = vec![Instr::Union { out: set, a: mine, b: mine }, Instr::Let { out: flag, expr: int(first) }];
    let is_all =
        vec![Instr::Union { out: set, a: ALL_PACKETS, b: ALL_PACKETS }, Instr::Let { out: flag, expr: int(second) }];
    // All packets where none is the owner's.
    body.push(Instr::If { cond, then: is_all, otherwise: is_mine });
    d.harmless(&mut body);
    let discard = vec![Instr::Discard { arg: set }];
    let is_first = match d.chance.below(3) {
        0 => Cond::Equal { a: slot(flag), b: int(first) },
        1 => at_most(slot(flag), int(second - 1)),
        _ => not(at_most(int(second), slot(flag))),
    };
    let (then, otherwise) = if is_lawful { (discard, Vec::new()) } else { (Vec::new(), discard) };
    body.push(Instr::If { cond: is_first, then, otherwise });
    body
}

/// `number` counts up by `step` from `first` as long as it is at most `last`; the block comes before the step.
fn counting_loop(body: &mut Vec<Instr>, number: Slot, [first, last, step]: [i64; 3], mut block: Vec<Instr>) {
    body.push(Instr::Let { out: number, expr: int(first) });
    block.push(Instr::Let { out: number, expr: plus(slot(number), int(step)) });
    let turns = (last - first) / step + 1;
    let cond = at_most(slot(number), int(last));
    body.push(Instr::While { cond, max: turns.max(1) as u32, body: block });
}

/// Discards the packets to the address that is `number` behind the subnet's first.
fn discard_offset(d: &mut Draft, number: Slot, shift: i64) -> Vec<Instr> {
    let addr = d.slot();
    let by = if shift == 0 { slot(number) } else { plus(slot(number), int(shift)) };
    let mut block = vec![Instr::Offset { out: addr, base: AddrTerm::ThisSubnet, by }];
    let chosen = d.select(&mut block, ALL_PACKETS, Test::Is { field: Field::Dst, slot: addr });
    block.push(Instr::Discard { arg: chosen });
    block
}

/// A loop over the addresses from one number of the subnet to another.
pub fn counting(d: &mut Draft, is_lawful: bool) -> Vec<Instr> {
    let mut body = Vec::new();
    d.harmless(&mut body);
    let (step, turns) = (d.chance.between(1, 3), d.chance.between(1, 20));
    let reach = step * (turns - 1);
    let first = if is_lawful {
        d.chance.between(0, SUBNET_SIZE - 1 - reach)
    } else if d.flip() {
        d.chance.between(SUBNET_SIZE - reach, SUBNET_SIZE)
    } else {
        d.chance.between(-3, -1)
    };
    let shift = if d.flip() { 0 } else { d.chance.between(-5, 5) };
    let number = d.slot();
    let block = discard_offset(d, number, shift);
    counting_loop(&mut body, number, [first - shift, first + reach - shift, step], block);
    body
}

/// An address counted from a number that the window gives, behind a test of the number's bounds.
pub fn offset_guarded(d: &mut Draft, is_lawful: bool) -> Vec<Instr> {
    let mut body = Vec::new();
    let (size, addr) = (d.slot(), d.slot());
    body.push(Instr::Size { out: size, arg: ALL_PACKETS });
    // So far behind the owner's address nothing is its own.
    let factor = d.chance.between(300, 9000);
    let by = times(slot(size), int(factor));
    let base = AddrTerm::ThisIp;
    let limit = if is_lawful { 0 } else { d.chance.between(1, 4) };
    let mut block = vec![Instr::Offset { out: addr, base, by }];
    let chosen = d.select(&mut block, ALL_PACKETS, Test::Is { field: Field::Dst, slot: addr });
    block.push(Instr::Discard { arg: chosen });
    let cond = if d.flip() { at_most(slot(size), int(limit)) } else { not(at_most(int(limit + 1), slot(size))) };
    body.push(Instr::If { cond, then: block, otherwise: Vec::new() });
    body
}

/// Words counted, weighed and held against a threshold.
pub fn score(d: &mut Draft, is_lawful: bool) -> Vec<Instr> {
    let mut body = Vec::new();
    let mine = d.mine(&mut body);
    let mine = d.some_of(&mut body, mine);
    let strangers = d.chance.below(3);
    let mut sum = int(0);
    for number in 0..3 {
        let (out, word) = (d.slot(), d.word());
        let arg = if !is_lawful && number == strangers { ALL_PACKETS } else { mine };
        body.push(Instr::Count { out, arg, word });
        sum = plus(sum, times(int(d.chance.between(-3, 9)), slot(out)));
    }
    let score = d.slot();
    body.push(Instr::Let { out: score, expr: sum });
    let threshold = int(d.chance.between(1, 20));
    body.push(Instr::If {
        cond: at_most(threshold, slot(score)),
        then: vec![Instr::Discard { arg: mine }],
        otherwise: Vec::new(),
    });
    body
}

/// A set that grows in a loop, and is discarded behind it.
pub fn accumulated(d: &mut Draft, is_lawful: bool) -> Vec<Instr> {
    let mut body = Vec::new();
    // What is grouped and what is put in have to be able to differ.
    let packets = d.chance.between(2, 4) as u16;
    d.set_window(packets);
    let mine = d.all_mine(&mut body);
    let bad = d.slot();
    body.push(Instr::Minus { out: bad, a: mine, b: mine });
    let (over, field) = if d.flip() { (mine, Field::Src) } else { (ALL_PACKETS, Field::Dst) };
    for_groups(d, &mut body, over, field, |d, packets, key| {
        let is_all = over == ALL_PACKETS;
        let grown = Instr::Union { out: bad, a: bad, b: if !is_lawful && !is_all { ALL_PACKETS } else { packets } };
        let cond = if !is_all {
            Cond::AddrIn { addr: key, addrs: d.anybody() }
        } else if is_lawful {
            key_is_owned(d, key)
        } else {
            Cond::AddrIn { addr: key, addrs: d.too_wide() }
        };
        if d.flip() {
            vec![Instr::If { cond, then: vec![grown], otherwise: Vec::new() }]
        } else {
            vec![Instr::If { cond: not(cond), then: Vec::new(), otherwise: vec![grown] }]
        }
    });
    d.harmless(&mut body);
    body.push(Instr::Discard { arg: bad });
    body
}

/// Two integers of which each turn changes both; what they are together stays, and decides.
pub fn relational(d: &mut Draft, is_lawful: bool) -> Vec<Instr> {
    let mut body = Vec::new();
    let mine = d.mine(&mut body);
    let (up, down, most) = (d.slot(), d.slot(), d.slot());
    let sum = d.chance.between(1, 50);
    body.push(Instr::Let { out: up, expr: int(0) });
    body.push(Instr::Let { out: down, expr: int(sum) });
    body.push(Instr::Size { out: most, arg: ALL_PACKETS });
    let block = vec![
        Instr::Let { out: up, expr: plus(slot(up), int(1)) },
        Instr::Let { out: down, expr: minus(slot(down), int(1)) },
    ];
    body.push(Instr::While { cond: not(at_most(slot(most), slot(up))), max: 8, body: block });
    let asked = if is_lawful { sum } else { sum + d.chance.between(1, 2) };
    let cond = Cond::Equal { a: plus(slot(up), slot(down)), b: int(asked) };
    let (then, otherwise) = (vec![Instr::Discard { arg: mine }], vec![Instr::Discard { arg: ALL_PACKETS }]);
    body.push(Instr::If { cond, then, otherwise });
    body
}

/// A block that touches strangers, under a condition that never holds, or that can.
pub fn dead(d: &mut Draft, is_lawful: bool) -> Vec<Instr> {
    let mut body = Vec::new();
    let mine = d.mine(&mut body);
    let size = d.slot();
    body.push(Instr::Size { out: size, arg: ALL_PACKETS });
    let bound = d.chance.between(1, 9);
    let cond = if !is_lawful {
        let least = d.chance.between(0, 1);
        at_most(int(least), slot(size))
    } else {
        match d.chance.below(4) {
            0 => at_most(slot(size), int(-bound)),
            1 => at_most(plus(slot(size), int(bound)), slot(size)),
            2 => Cond::And {
                a: Box::new(at_most(slot(size), int(bound))),
                b: Box::new(at_most(int(bound + 1), slot(size))),
            },
            _ => Cond::Equal { a: times(slot(size), int(0)), b: int(bound) },
        }
    };
    let (all, own) = (vec![Instr::Discard { arg: ALL_PACKETS }], vec![Instr::Discard { arg: mine }]);
    if d.flip() {
        body.push(Instr::If { cond, then: all, otherwise: own });
    } else {
        body.push(Instr::If { cond: not(cond), then: own, otherwise: all });
    }
    body
}

/// What is left when the packets of others are taken away.
pub fn complement(d: &mut Draft, is_lawful: bool) -> Vec<Instr> {
    let mut body = Vec::new();
    let kept = if is_lawful { d.all_owned() } else { d.too_wide() };
    let is_kept = Test::In { field: Field::Dst, addrs: kept };
    let more = d.some_test();
    let others = Test::Not { a: Box::new(if d.flip() { is_kept } else { and(is_kept, more) }) };
    let others = d.select(&mut body, ALL_PACKETS, others);
    let left = d.slot();
    body.push(Instr::Minus { out: left, a: ALL_PACKETS, b: others });
    d.harmless(&mut body);
    body.push(Instr::Discard { arg: left });
    body
}

/// A variable that holds everything first and the owner's packets later: always, or only sometimes.
pub fn reassigned(d: &mut Draft, is_lawful: bool) -> Vec<Instr> {
    let mut body = Vec::new();
    let set = d.slot();
    body.push(Instr::Union { out: set, a: ALL_PACKETS, b: ALL_PACKETS });
    let cond = d.open_cond(&mut body, ALL_PACKETS);
    let narrow =
        |d: &mut Draft| Instr::Select { out: set, arg: set, test: Test::In { field: Field::Dst, addrs: d.owned() } };
    let then = vec![narrow(d)];
    let otherwise = if is_lawful { vec![narrow(d)] } else { Vec::new() };
    body.push(Instr::If { cond, then, otherwise });
    d.harmless(&mut body);
    body.push(Instr::Discard { arg: set });
    body
}

/// Groups of groups, by source and by destination.
pub fn nested(d: &mut Draft, is_lawful: bool) -> Vec<Instr> {
    let mut body = Vec::new();
    let over = if is_lawful && d.flip() { d.mine(&mut body) } else { ALL_PACKETS };
    for_groups(d, &mut body, over, Field::Src, |d, from, sender| {
        let mut block = Vec::new();
        for_groups(d, &mut block, from, Field::Dst, |d, packets, key| {
            let discard = vec![Instr::Discard { arg: packets }];
            if over != ALL_PACKETS {
                return discard;
            }
            let cond = if is_lawful { key_is_owned(d, key) } else { Cond::AddrIn { addr: key, addrs: d.too_wide() } };
            vec![Instr::If { cond, then: discard, otherwise: Vec::new() }]
        });
        let cond = Cond::AddrIn { addr: sender, addrs: d.anybody() };
        vec![Instr::If { cond: not(cond), then: block, otherwise: Vec::new() }]
    });
    body
}

fn number(number: Number, values: &[u32]) -> Test {
    let ranges = Ranges::new(values.iter().map(|&value| (value, value)).collect());
    Test::Number { number, ranges: ranges.expect("a few numbers") }
}

/// Discards but what no one may discard.
pub fn strict_discard(d: &mut Draft, is_lawful: bool) -> Vec<Instr> {
    let mut body = Vec::new();
    let mine = d.all_mine(&mut body);
    let but = match (is_lawful, d.flip()) {
        (true, true) => Test::Not { a: Box::new(number(Number::Protocol, &[ICMP, 2, ICMP_V6])) },
        (true, false) => number(Number::Protocol, &[TCP, UDP]),
        (false, true) => Test::Not { a: Box::new(number(Number::Protocol, &[ICMP_V6])) },
        (false, false) => number(Number::Protocol, &[ICMP, TCP, UDP]),
    };
    // Two selections, one behind the other, or one with both tests.
    let more = d.some_test();
    let chosen = match d.chance.below(3) {
        0 => d.select(&mut body, mine, but),
        1 => d.select(&mut body, mine, or(and(but.clone(), more), but)),
        _ if is_lawful => d.select(&mut body, mine, and(more, but)),
        _ => d.select(&mut body, mine, or(more, but)),
    };
    body.push(Instr::Discard { arg: chosen });
    body
}

/// Looks into anything but TLS.
pub fn strict_scan(d: &mut Draft, is_lawful: bool) -> Vec<Instr> {
    let mut body = Vec::new();
    let mine = d.all_mine(&mut body);
    let without = if is_lawful { TLS.len() } else { d.chance.below(TLS.len()) };
    let ports: Vec<u32> = TLS.iter().enumerate().filter(|(i, _)| *i != without).map(|(_, port)| *port).collect();
    let [to, from] = [Number::DstPort, Number::SrcPort].map(|port| number(port, &ports));
    let is_tls = or(to, from);
    let test = match d.chance.below(3) {
        0 if is_lawful => number(Number::Protocol, &[UDP]),
        1 => Test::Not { a: Box::new(and(number(Number::Protocol, &[TCP]), is_tls)) },
        _ => and(number(Number::Protocol, &[TCP]), Test::Not { a: Box::new(is_tls) }),
    };
    let chosen = d.select(&mut body, mine, test);
    let word = d.word();
    let not_icmp = d.select(&mut body, chosen, number(Number::Protocol, &[TCP, UDP]));
    body.push(Instr::If {
        cond: Cond::Contains { arg: chosen, word },
        then: vec![Instr::Discard { arg: not_icmp }],
        otherwise: Vec::new(),
    });
    body
}

/// Contents and destinations, told to the owner alone, or to somebody else.
pub fn window(d: &mut Draft, is_lawful: bool) -> Vec<Instr> {
    let packets = if d.flip() { 4 } else { 0 };
    d.set_window(packets);
    let mut body = Vec::new();
    // A selection that nothing can pass would make the unlawful kind lawful.
    let mine = if is_lawful { d.mine(&mut body) } else { d.all_mine(&mut body) };
    let mine = if is_lawful { d.some_of(&mut body, mine) } else { mine };
    let (dests, contents) = (d.slot(), d.slot());
    let content = Instr::Content { dests, contents, arg: mine };
    let src = AddrTerm::Const { addr: d.stranger() };
    let dst = if is_lawful { AddrTerm::ThisIp } else { AddrTerm::Const { addr: d.stranger() } };
    let mut told: Vec<Instr> =
        [dests, contents].map(|data| Instr::Generate { src: src.clone(), dst: dst.clone(), data }).into();
    told.push(Instr::Discard { arg: mine });
    body.push(content);
    if d.flip() {
        body.extend(told);
    } else {
        let size = d.slot();
        body.push(Instr::Size { out: size, arg: mine });
        body.push(Instr::If { cond: at_most(int(1), slot(size)), then: told, otherwise: Vec::new() });
    }
    body
}
