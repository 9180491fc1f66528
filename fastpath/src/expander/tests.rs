use std::collections::BTreeMap;

use proptest::prelude::*;
use vinet_pktops::datagram::Sender;
use vinet_pktops::generate::{Data, Generated};
use vinet_trusted::addr::Prefix;

use super::*;

const KEY: [u8; 32] = [7; 32];
const PROGRAM: [u8; 32] = [3; 32];
const SRC: Addr = Addr::V4(0xcb00_7109);
const OWN: Addr = Addr::V4(0xc000_0201);

fn rule() -> ExpandRule {
    let prefix = Prefix::of(OWN, 24).expect("a length");
    ExpandRule { own: OWN, port: 7401, prefix, program: PROGRAM, key: KEY }
}

fn expander(limits: ExpandLimits) -> Expander {
    Expander::new(&[rule()], limits).expect("there is a rule")
}

/// The payloads of one item.
fn item(key: [u8; 32], batch: u64, item: u16, kind: Kind, bytes: &[u8]) -> Vec<Vec<u8>> {
    let sender = Sender { program: PROGRAM, key, port: 7401, first_batch: 0, mtu: 576 };
    let mut payloads = Vec::new();
    let generated = Generated { src: SRC, dst: OWN, batch, item, kind, data: Data::Bytes(bytes) };
    sender.send(&generated, &mut |packet| payloads.push(packet[28..].to_vec())).expect("it can be sent");
    payloads
}

/// Host `n` of the prefix.
fn host(n: u32) -> Addr {
    Addr::V4(0xc000_0200 + n)
}

fn dests_bytes(all: &[Vec<Addr>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for dests in all {
        bytes.extend((dests.len() as u16).to_be_bytes());
        for dest in dests {
            let Addr::V4(a) = dest else { panic!("IPv4 here") };
            bytes.push(4);
            bytes.extend(a.to_be_bytes());
        }
    }
    bytes
}

fn contents_bytes(all: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for payload in all {
        bytes.extend([17, 1, 0, 5, 0, 6]);
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend(payload);
    }
    bytes
}

/// A destination and a payload.
type Packet = (Addr, Vec<u8>);

/// The datagrams of a batch: `pairs` times contents of `lens` bytes, each to hosts of its own.
fn batch(number: u64, pairs: u16, lens: &[usize]) -> (Vec<Vec<u8>>, Vec<Packet>) {
    let (mut datagrams, mut expected) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        let contents: Vec<Vec<u8>> = lens.iter().map(|&len| vec![(len + usize::from(pair)) as u8; len]).collect();
        let dests: Vec<Vec<Addr>> =
            (0..lens.len() as u32).map(|i| vec![host(2 + i), host(100 + i + u32::from(pair))]).collect();
        datagrams.extend(item(KEY, number, 2 * pair, Kind::Dests, &dests_bytes(&dests)));
        datagrams.extend(item(KEY, number, 2 * pair + 1, Kind::Contents, &contents_bytes(&contents)));
        for (content, dests) in contents.iter().zip(&dests) {
            expected.extend(dests.iter().map(|dest| (*dest, content.clone())));
        }
    }
    (datagrams, expected)
}

/// What an expander delivers.
#[derive(Default)]
struct Delivered {
    packets: Vec<Packet>,
    not_owned: usize,
}

impl Delivered {
    fn take(&mut self, expander: &mut Expander, payload: &[u8], now_ns: u64) -> Result<(), Refused> {
        expander.take((SRC, OWN), payload, now_ns, &mut |expanded| self.note(expanded))
    }
    fn note(&mut self, expanded: Expanded<'_>) {
        match expanded {
            Expanded::Packet { src, dst, content } => {
                assert_eq!((src, content.protocol, content.ports, content.whole), (SRC, 17, Some((5, 6)), true));
                self.packets.push((dst, content.payload.to_vec()));
            }
            Expanded::NotOwned => self.not_owned += 1,
        }
    }
    fn sorted(mut self) -> Vec<Packet> {
        self.packets.sort();
        self.packets
    }
}

fn limits() -> ExpandLimits {
    ExpandLimits { batches_max: 4, datagrams_max: 64, wait_max_ns: 1000 }
}

proptest! {
    #[test]
    fn what_was_taken_together_comes_out_again_once_however_it_travels(
        order in Just(()).prop_perturb(|(), mut random| (random.random::<u64>(), random.random::<u64>())),
        pairs in 1u16..4,
        lens in proptest::collection::vec(0usize..900, 1..6),
        lost in proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
        doubled in any::<prop::sample::Index>(),
    ) {
        let mut expander = expander(limits());
        let (datagrams, mut expected) = batch(5, pairs, &lens);
        let mut sent: Vec<(u64, Vec<u8>)> = datagrams
            .iter()
            .enumerate()
            .map(|(i, datagram)| ((i as u64).wrapping_mul(order.0 | 1) ^ order.1, datagram.clone()))
            .collect();
        for index in &lost {
            if !sent.is_empty() {
                sent.remove(index.index(sent.len()));
            }
        }
        sent.sort();
        if !sent.is_empty() {
            let twice = sent[doubled.index(sent.len())].clone();
            sent.push(twice);
        }
        let mut delivered = Delivered::default();
        let mut refused = 0;
        for (_, datagram) in &sent {
            refused += usize::from(delivered.take(&mut expander, datagram, 10).is_err());
        }
        prop_assert_eq!(refused, usize::from(!sent.is_empty()));
        let is_whole = sent.len() == datagrams.len() + 1;
        expander.expire(1009, &mut |_| panic!("it is not time"));
        expander.expire(1010, &mut |expanded| delivered.note(expanded));
        // All chunks are free again.
        let mut free = 0;
        let mut next = expander.free;
        while let Some(chunk) = expander.chunks.get(next as usize) {
            (free, next) = (free + 1, chunk.next);
        }
        prop_assert_eq!(free, 64);
        prop_assert!(expander.batches.iter().all(Option::is_none));
        prop_assert!(expander.counts().incomplete == 0 || !is_whole);
        let delivered = delivered.sorted();
        expected.sort();
        if is_whole {
            prop_assert_eq!(delivered, expected);
        } else {
            // Nothing that was not sent, and nothing more often.
            let mut left: BTreeMap<_, usize> = BTreeMap::new();
            for packet in expected {
                *left.entry(packet).or_default() += 1;
            }
            for packet in delivered {
                let count = left.get_mut(&packet);
                prop_assert!(count.as_ref().is_some_and(|count| **count > 0), "{packet:?} was not sent");
                if let Some(count) = count {
                    *count -= 1;
                }
            }
        }
        // What was begun is not begun again.
        if !sent.is_empty() {
            for datagram in &datagrams {
                let again = expander.take((SRC, OWN), datagram, 2000, &mut |_| panic!("nothing comes of it"));
                prop_assert_eq!(again, Err(Refused::Replayed));
            }
        }
    }
}

#[test]
fn what_stands_before_the_first_missing_part_is_delivered() {
    let mut expander = expander(limits());
    let (datagrams, expected) = batch(9, 1, &[400, 400, 400, 400, 400]);
    assert_eq!(datagrams.len(), 1 + 5);
    let mut delivered = Delivered::default();
    for (i, datagram) in datagrams.iter().enumerate() {
        if i != 4 {
            delivered.take(&mut expander, datagram, 0).expect("new");
        }
    }
    assert!(delivered.packets.is_empty());
    expander.expire(1000, &mut |expanded| delivered.note(expanded));
    // Parts 0 to 2 hold 3 × 484 bytes, which is three contents of 408 and a piece.
    assert_eq!(delivered.packets, expected[..6]);
    assert_eq!(expander.counts(), ExpanderCounts { batches: 1, incomplete: 1 });
    // What comes too late is not begun again.
    assert_eq!(delivered.take(&mut expander, &datagrams[4], 1000), Err(Refused::Replayed));
}

#[test]
fn an_item_is_not_paired_with_anothers_destinations_where_one_is_missing() {
    let mut expander = expander(limits());
    let (datagrams, expected) = batch(9, 2, &[10]);
    let mut delivered = Delivered::default();
    // The first destinations are lost.
    for datagram in &datagrams[1..] {
        delivered.take(&mut expander, datagram, 0).expect("new");
    }
    expander.expire(1000, &mut |expanded| delivered.note(expanded));
    assert!(delivered.packets.is_empty());
    // The last contents are lost: the first pair is delivered nonetheless.
    let (datagrams, _) = batch(10, 2, &[10]);
    for datagram in &datagrams[..3] {
        delivered.take(&mut expander, datagram, 2000).expect("new");
    }
    assert_eq!(delivered.packets, expected[..2]);
    assert_eq!(expander.counts(), ExpanderCounts { batches: 2, incomplete: 1 });
    expander.expire(9000, &mut |_| panic!("there is nothing left"));
    assert_eq!(expander.counts(), ExpanderCounts { batches: 2, incomplete: 2 });
}

#[test]
fn strangers_and_strays_are_refused_by_name() {
    let mut expander = expander(limits());
    let mut delivered = Delivered::default();
    let good = item(KEY, 1, 0, Kind::Dests, &dests_bytes(&[vec![host(2)]])).remove(0);
    let forged = item([8; 32], 1, 0, Kind::Dests, &dests_bytes(&[vec![host(2)]])).remove(0);
    assert_eq!(delivered.take(&mut expander, &forged, 0), Err(Refused::BadTag));
    assert_eq!(delivered.take(&mut expander, &good[..40], 0), Err(Refused::Malformed));
    assert_eq!(delivered.take(&mut expander, &[], 0), Err(Refused::Malformed));
    let mut other = good.clone();
    other[16] ^= 1;
    assert_eq!(delivered.take(&mut expander, &other, 0), Err(Refused::UnknownProgram));
    let moved = expander.take((host(77), OWN), &good, 0, &mut |_| panic!("nothing comes of it"));
    assert_eq!(moved, Err(Refused::BadTag), "from another source");
    assert_eq!(expander.counts(), ExpanderCounts::default(), "strangers begin nothing");
    delivered.take(&mut expander, &good, 0).expect("good");
    assert_eq!(delivered.take(&mut expander, &good, 0), Err(Refused::Replayed));
    // Who has the key is not believed everything.
    let far = item(KEY, 1, ITEMS_MAX, Kind::Dests, &dests_bytes(&[vec![host(2)]])).remove(0);
    assert_eq!(delivered.take(&mut expander, &far, 0), Err(Refused::Malformed));
    let changed = item(KEY, 1, 0, Kind::Contents, &contents_bytes(&[vec![1; 3000]])).remove(1);
    assert_eq!(delivered.take(&mut expander, &changed, 0), Err(Refused::Malformed), "another kind");
    let endless = item(KEY, 2, 0, Kind::Contents, &[1; 65 * 484]).remove(1);
    assert_eq!(delivered.take(&mut expander, &endless, 0), Err(Refused::Malformed), "more than is kept");
}

#[test]
fn nothing_goes_outside_the_prefix_and_no_more_than_a_window() {
    let mut expander = expander(limits());
    let mut delivered = Delivered::default();
    let dests = [vec![host(2), Addr::V4(0xc000_0302), host(3)], vec![host(4); 300]];
    let contents = vec![vec![1; 5], vec![2; 5]];
    for payload in item(KEY, 1, 0, Kind::Dests, &dests_bytes(&dests[..1])).iter().chain(&item(
        KEY,
        1,
        1,
        Kind::Contents,
        &contents_bytes(&contents),
    )) {
        delivered.take(&mut expander, payload, 0).expect("good");
    }
    assert_eq!((delivered.packets.len(), delivered.not_owned), (2, 1));
    // 256 destinations of one content are lawful, and then the rest is left out.
    let dests = vec![vec![host(4); 256], vec![host(5)]];
    let mut delivered = Delivered::default();
    for payload in item(KEY, 2, 0, Kind::Dests, &dests_bytes(&dests)).iter().chain(&item(
        KEY,
        2,
        1,
        Kind::Contents,
        &contents_bytes(&contents),
    )) {
        delivered.take(&mut expander, payload, 0).expect("good");
    }
    assert_eq!(delivered.packets, vec![(host(4), vec![1; 5]); 256]);
}

#[test]
fn its_places_are_bounded_and_the_oldest_makes_room() {
    let mut expander = expander(limits());
    let mut delivered = Delivered::default();
    // Four open batches; a fifth has the oldest given up, with what is there of it.
    for number in 1..=5u64 {
        let (datagrams, _) = batch(number, 1, &[400, 400]);
        assert_eq!(datagrams.len(), 3);
        for datagram in &datagrams[..2] {
            delivered.take(&mut expander, datagram, number).expect("new");
        }
    }
    assert_eq!(expander.counts(), ExpanderCounts { batches: 5, incomplete: 1 });
    assert_eq!(delivered.packets.len(), 2, "the first content of the first batch");
    // Finished batches make room before those that wait.
    let (datagrams, _) = batch(2, 1, &[400, 400]);
    delivered.take(&mut expander, &datagrams[2], 6).expect("the last part");
    let (datagrams, _) = batch(6, 1, &[1]);
    delivered.take(&mut expander, &datagrams[0], 6).expect("new");
    assert_eq!(expander.counts(), ExpanderCounts { batches: 6, incomplete: 1 });
    // 64 datagrams are kept: a long batch has the others given up, and goes itself when it fills all.
    let long = item(KEY, 7, 0, Kind::Contents, &[0; 64 * 484]);
    assert_eq!(long.len(), 64);
    for payload in &long {
        delivered.take(&mut expander, payload, 7).expect("room is made");
    }
    let more = item(KEY, 7, 1, Kind::Contents, &[0; 4]).remove(0);
    assert_eq!(delivered.take(&mut expander, &more, 7), Err(Refused::Malformed));
    assert!(expander.batches.iter().all(|batch| batch.as_ref().is_none_or(|batch| batch.chunks == 0)));
}

#[test]
fn each_sender_worker_has_a_replay_window_of_its_own() {
    let mut replay = Replay::NEW;
    assert!(replay.begin(5_000) && !replay.begin(5_000));
    assert!(replay.begin(5_000 - REPLAY_BATCHES + 1) && !replay.begin(5_000 - REPLAY_BATCHES));
    assert!(replay.begin(5_001) && replay.begin(4_999) && !replay.begin(4_999));
    assert!(replay.begin(9_000) && !replay.begin(5_001) && replay.begin(8_500) && !replay.begin(8_500));
    let mut expander = expander(limits());
    let mut delivered = Delivered::default();
    let first = |number| item(KEY, number, 0, Kind::Dests, &dests_bytes(&[vec![host(2)]])).remove(0);
    delivered.take(&mut expander, &first(1 << BATCH_WORKER_SHIFT | 9_000_000), 0).expect("new");
    delivered.take(&mut expander, &first(9), 0).expect("another worker counts for itself");
    assert_eq!(delivered.take(&mut expander, &first(1 << BATCH_WORKER_SHIFT | 9), 0), Err(Refused::Replayed));
}

proptest! {
    #[test]
    fn whoever_has_the_key_keeps_it_within_its_bounds(
        steps in proptest::collection::vec(
            ((0u64..6, 0u16..70, any::<bool>(), any::<bool>()), any::<prop::sample::Index>(), 0usize..3000, any::<u64>()),
            1..200,
        ),
    ) {
        let mut expander = expander(limits());
        for (now_ns, ((batch, item, is_contents, is_sound), part, len, seed)) in (0u64..).step_by(20).zip(steps) {
            let bytes: Vec<u8> = match (is_sound, is_contents) {
                (true, true) => contents_bytes(&vec![vec![0; len / 4]; 3]),
                (true, false) => dests_bytes(&vec![vec![host(2), host(300)]; len / 100]),
                // Anything at all, with many small numbers.
                (false, _) => (0..len).map(|i| (seed >> (i % 57) & 0x11) as u8).collect(),
            };
            let kind = if is_contents { Kind::Contents } else { Kind::Dests };
            let payloads = self::item(KEY, batch, item, kind, &bytes);
            if payloads.is_empty() {
                continue;
            }
            let mut made = 0;
            let _ = expander.take((SRC, OWN), &payloads[part.index(payloads.len())], now_ns, &mut |expanded| {
                made += 1;
                if let Expanded::Packet { src, dst, .. } = expanded {
                    assert!(src == SRC && rule().prefix.contains(dst));
                }
            });
            // A datagram completes the pairs of its batch, and may have two others given up: each has 32 pairs.
            prop_assert!(made <= 3 * 32 * usize::from(WINDOW_MAX), "{made} packets of one datagram");
            expander.expire(now_ns, &mut |_| ());
            let mut free = 0;
            let mut next = expander.free;
            while let Some(chunk) = expander.chunks.get(next as usize) {
                (free, next) = (free + 1, chunk.next);
            }
            let used: usize = expander.batches.iter().flatten().map(|batch| batch.chunks).sum();
            prop_assert_eq!(free + used, 64);
            for batch in expander.batches.iter().flatten() {
                prop_assert_eq!(expander.chunks_of(batch).count(), batch.chunks);
                prop_assert_eq!((batch.whole | batch.done | batch.are_contents) & !batch.known, 0);
            }
        }
    }
}
