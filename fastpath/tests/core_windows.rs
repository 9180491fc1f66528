//! Programs that look at several packets together, and that generate some, on the traffic of a router: windows that
//! fill, wait, are cut short and are given up; what they send, and what an expander makes of it again.

mod core_support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use core_support::*;
use proptest::prelude::*;
use vinet_fastpath::drop_reason::DropReason;
use vinet_fastpath::flow_table::{Batch, Install, InstallId};
use vinet_fastpath::settings::{ExpandRule, Idle, Settings};
use vinet_pktops::Executable;
use vinet_pktops::datagram::Datagram;
use vinet_pktops::parse::{self, Headers, Transport, transport};
use vinet_pktops::reference::{Reference, Sent};
use vinet_trusted::addr::Principal;
use vinet_trusted::policy::OverBudget;

const KEY: [u8; 32] = [9; 32];
/// Longer than a test.
const FOREVER_US: u32 = u32::MAX;

fn install(id: u64, executable: Arc<Executable>) -> Install {
    Install {
        id: InstallId(id),
        executable,
        packet_rate: 0,
        over_budget: OverBudget::Forward,
        generate_key: KEY,
        monitor: false,
    }
}

/// Port 0 is the edge with the senders, port 1 leads to the owners.
fn lab_with(settings: Settings) -> Lab {
    Lab::new(settings, vec![edge(0, &["10.0.0.0/24", "2001:db8::/64"]), port(1)])
}

fn lab() -> Lab {
    lab_with(Settings::default())
}

fn owner() -> Principal {
    Principal::EndUser(addr("10.0.1.2"))
}

/// A filter with windows of `window` packets that wait `wait_us`.
fn crowd(window: u16, least: i64, wait_us: u32) -> Arc<Executable> {
    accept_under(&generous(&owner(), 0, wait_us), &crowd_filter(window, "spam", least), owner())
}

/// What a frame sent from port 0 carries behind UDP.
fn payload(frame: &[u8]) -> Vec<u8> {
    let headers = parse::headers(frame).expect("IP");
    let Transport::Udp(udp) = transport(frame, &headers) else { panic!("UDP") };
    frame[udp.payload].to_vec()
}

/// Datagrams to `dst`, one from each of `hosts`, numbered, with `text`.
fn numbered(dst: &str, hosts: std::ops::Range<u8>, text: &str) -> Vec<Vec<u8>> {
    hosts.map(|host| udp(0, &format!("10.0.0.{host}"), dst, 64, format!("{text} {host}").as_bytes())).collect()
}

fn texts(frames: &[Vec<u8>]) -> Vec<String> {
    frames.iter().map(|frame| String::from_utf8(payload(frame)).expect("text")).collect()
}

#[test]
fn a_full_window_is_run_as_the_reference_runs_it() {
    for window in [1u16, 2, 7, 32] {
        let edge_owner = edge_router("10.0.1.2", 24);
        let policy = generous(&edge_owner, 1_000_000, FOREVER_US);
        let program = multicast(window, "10.0.0.9");
        let mut lab = lab();
        lab.table.install(install(1, accept_under(&policy, &program, edge_owner))).expect("within the bounds");
        // Two contents in turn, to six hosts, in as many packets as are whole windows.
        let count = 4 * usize::from(window);
        let frames: Vec<Vec<u8>> =
            (0..count).map(|i| udp(0, "10.0.0.9", &format!("10.0.1.{}", 2 + i % 6), 64, &[i as u8 % 2; 300])).collect();
        lab.send(0, &frames);
        let mut reference = Reference::new(&program, &edge_owner, &policy);
        let mut expected: Vec<Sent> = Vec::new();
        for window in frames.chunks(usize::from(window)) {
            let headers: Vec<Headers> = window.iter().map(|frame| parse::headers(frame).expect("IP")).collect();
            let packets: Vec<(&[u8], &Headers)> = window.iter().map(Vec::as_slice).zip(&headers).collect();
            let outcome = reference.run(&packets).expect("the owner has what the program names");
            assert!(outcome.discarded.iter().all(|&discarded| discarded));
            expected.extend(outcome.generated);
        }
        let counts = lab.wait_for("the windows", |counts| counts.drop(DropReason::Program) == count as u64);
        let sent = lab.expect(1, counts.generated as usize);
        // Item by item, the parts in order.
        let mut items: Vec<(u64, u16, Vec<u8>)> = Vec::new();
        for frame in &sent {
            let (src, dst, ttl) = read_ip(frame);
            assert_eq!((src, dst, ttl), (addr("10.0.0.9"), addr("10.0.1.2"), 64));
            let bytes = payload(frame);
            let datagram = Datagram::read(src, dst, &bytes, &KEY).expect("a tag of the key");
            assert_eq!(datagram.program, program.id());
            match items.last_mut().filter(|(batch, item, _)| (*batch, *item) == (datagram.batch, datagram.item)) {
                Some((_, _, bytes)) => bytes.extend(datagram.data),
                None => items.push((datagram.batch, datagram.item, datagram.data.to_vec())),
            }
        }
        let first = items[0].0;
        let items: Vec<_> = items.into_iter().map(|(batch, item, bytes)| (batch - first, item, bytes)).collect();
        let expected: Vec<_> = expected.into_iter().map(|sent| (sent.batch, sent.item, sent.bytes)).collect();
        assert_eq!(items, expected, "windows of {window}");
        let program = lab.table.program_counts(InstallId(1)).expect("installed");
        assert_eq!((program.seen_packets, program.discarded_packets), (count as u64, count as u64));
        assert_eq!(program.generated_packets, counts.generated);
        let bytes: usize = sent.iter().map(|frame| frame.len() - 14).sum();
        assert_eq!(program.generated_bytes, bytes as u64);
        lab.stop();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_windows_leave_is_what_the_reference_leaves(
        window in 2u16..12,
        least in 1i64..6,
        packets in proptest::collection::vec((2u8..6, 0usize..3), 1..80),
    ) {
        let policy = generous(&owner(), 0, FOREVER_US);
        let program = crowd_filter(window, "spam", least);
        let mut lab = lab();
        lab.table.install(install(1, accept_under(&policy, &program, owner()))).expect("within the bounds");
        let frames: Vec<Vec<u8>> = packets
            .iter()
            .enumerate()
            .map(|(i, (host, spam))| {
                let text = format!("{i} {}", "spam".repeat(*spam));
                udp(0, &format!("10.0.0.{host}"), "10.0.1.2", 64, text.as_bytes())
            })
            .collect();
        lab.send(0, &frames);
        let mut reference = Reference::new(&program, &owner(), &policy);
        let mut expected = Vec::new();
        let whole = frames.len() / usize::from(window) * usize::from(window);
        for window in frames[..whole].chunks(usize::from(window)) {
            let headers: Vec<Headers> = window.iter().map(|frame| parse::headers(frame).expect("IP")).collect();
            let packets: Vec<(&[u8], &Headers)> = window.iter().map(Vec::as_slice).zip(&headers).collect();
            let outcome = reference.run(&packets).expect("the owner has what the program names");
            let left = window.iter().zip(&outcome.discarded).filter(|(_, discarded)| !**discarded);
            expected.extend(left.map(|(frame, _)| payload(frame)));
        }
        let rest = (frames.len() - whole) as u64;
        let counts = lab.wait_for("whole windows", |counts| {
            counts.ports[0].rx_packets == frames.len() as u64 && counts.held == rest && counts.queued == 0
        });
        prop_assert_eq!(counts.drop(DropReason::Program) as usize, whole - expected.len());
        let out: Vec<Vec<u8>> = lab.expect(1, expected.len()).iter().map(|frame| payload(frame)).collect();
        prop_assert_eq!(out, expected, "in order");
        lab.stop();
    }
}

#[test]
fn a_window_that_does_not_fill_is_run_when_its_time_is_up() {
    for idle in [Idle::Spin, Idle::Backoff] {
        let mut lab = lab_with(Settings { idle, ..Settings::default() });
        lab.table.install(install(1, crowd(32, 3, 60_000))).expect("within the bounds");
        let at = Instant::now();
        lab.send(0, &numbered("10.0.1.2", 2..4, "spam"));
        // Two are too few to be dropped.
        assert_eq!(texts(&lab.expect(1, 2)), ["spam 2", "spam 3"]);
        let took = at.elapsed();
        assert!(took >= Duration::from_millis(60), "they waited {took:?}");
        lab.send(0, &numbered("10.0.1.2", 2..6, "spam"));
        lab.wait_for("the end of four", |counts| counts.drop(DropReason::Program) == 4);
        let counts = lab.stop();
        assert_eq!(counts.windows_cut, 0);
    }
}

#[test]
fn without_room_the_window_that_was_begun_first_is_run_as_it_is() {
    let mut lab = lab_with(Settings { window_packets_max: 10, ..Settings::default() });
    let mut batch = Batch::new();
    batch.install(install(1, crowd(32, 7, FOREVER_US)));
    let other = Principal::EndUser(addr("10.0.1.3"));
    let policy = generous(&other, 0, FOREVER_US);
    batch.install(install(2, accept_under(&policy, &crowd_filter(32, "spam", 3), other)));
    lab.table.apply(batch).expect("within the bounds");
    lab.routes.neighbour(1, addr("10.0.1.3"), host_mac(1));
    lab.publish_routes();
    lab.send(0, &numbered("10.0.1.2", 10..16, "spam"));
    lab.send(0, &numbered("10.0.1.3", 20..24, "spam"));
    lab.wait_for("ten that wait", |counts| counts.held == 10);
    // The eleventh: the six that came first are run together, and are fewer than seven.
    lab.send(0, &numbered("10.0.1.3", 24..25, "spam"));
    let expected: Vec<String> = (10..16).map(|host| format!("spam {host}")).collect();
    assert_eq!(texts(&lab.expect(1, 6)), expected);
    let counts = lab.wait_for("the others", |counts| counts.held == 5);
    assert_eq!(counts.windows_cut, 1);
    // Five more fit; the next has the second program run on its nine, and drop them.
    lab.send(0, &numbered("10.0.1.3", 25..30, "spam"));
    lab.send(0, &numbered("10.0.1.2", 30..31, "spam"));
    let counts = lab.wait_for("the second cut", |counts| counts.drop(DropReason::Program) == 10);
    assert_eq!((counts.windows_cut, counts.held), (2, 1));
    let counts = lab.stop();
    assert_eq!(counts.drop(DropReason::Stopped), 1);
}

#[test]
fn a_withdrawn_programs_packets_go_on_without_it_and_its_memory_is_freed() {
    let mut lab = lab();
    // It would drop everything.
    lab.table.install(install(1, crowd(32, 0, FOREVER_US))).expect("within the bounds");
    lab.send(0, &numbered("10.0.1.2", 2..7, "text"));
    lab.wait_for("five that wait", |counts| counts.held == 5);
    // Other changes do not touch them.
    lab.table.install(install(2, firewall("10.0.1.9", &[net("10.0.0.66/32")]))).expect("within the bounds");
    lab.publish_routes();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(lab.counters.snapshot().held, 5);
    let mut batch = Batch::new();
    // Its successor has windows of its own: two full ones, that drop nothing of these, and one that is not full.
    batch.withdraw(InstallId(1)).install(install(3, crowd(2, 1, FOREVER_US)));
    lab.table.apply(batch).expect("within the bounds");
    assert_eq!(texts(&lab.expect(1, 4)), ["text 2", "text 3", "text 4", "text 5"]);
    let counts = lab.wait_for("the fifth", |counts| counts.held == 1);
    assert_eq!(counts.drop(DropReason::Program), 0);
    let end = Instant::now() + PATIENCE;
    let finished = loop {
        let finished = lab.table.reclaim();
        if !finished.is_empty() {
            break finished;
        }
        assert!(Instant::now() < end, "it is not freed");
    };
    assert_eq!((finished[0].id, finished[0].counts.seen_packets), (InstallId(1), 0));
    lab.table.withdraw(InstallId(3)).expect("installed");
    assert_eq!(texts(&lab.expect(1, 1)), ["text 6"]);
    lab.stop();
}

#[test]
fn what_a_window_leaves_goes_on_to_the_next_programs_in_order() {
    let mut lab = lab();
    let mut batch = Batch::new();
    batch
        .install(install(1, crowd(4, 3, FOREVER_US)))
        .install(install(2, word_filter("10.0.1.2", "bad")))
        .install(install(3, crowd(3, 3, FOREVER_US)));
    lab.table.apply(batch).expect("within the bounds");
    // First window: three times spam, dropped together. Second: 8 is dropped by the second program, and three are left
    // for the third, in whose window there is no more than two of it.
    lab.send(0, &numbered("10.0.1.2", 2..5, "spam"));
    lab.send(0, &numbered("10.0.1.2", 5..7, "text"));
    lab.send(0, &numbered("10.0.1.2", 7..8, "spam"));
    lab.send(0, &numbered("10.0.1.2", 8..9, "bad"));
    lab.send(0, &numbered("10.0.1.2", 9..10, "spam"));
    assert_eq!(texts(&lab.expect(1, 3)), ["text 6", "spam 7", "spam 9"]);
    let seen = |lab: &Lab, id| {
        let counts = lab.table.program_counts(InstallId(id)).expect("installed");
        (counts.seen_packets, counts.discarded_packets)
    };
    assert_eq!((seen(&lab, 1), seen(&lab, 2), seen(&lab, 3)), ((8, 4), (4, 1), (3, 0)));
    let counts = lab.stop();
    assert_eq!(counts.drop(DropReason::Program), 5);
}

#[test]
fn packets_above_the_rate_keep_their_place() {
    for over_budget in [OverBudget::Forward, OverBudget::Drop] {
        let mut lab = lab();
        let slow = Install { packet_rate: 1, over_budget, ..install(1, crowd(30, 1000, 300_000)) };
        lab.table.install(slow).expect("within the bounds");
        let frames: Vec<_> = (0..100u8).map(|i| udp(0, "10.0.0.2", "10.0.1.2", 64, &[i; 8])).collect();
        lab.send(0, &frames);
        // The first 64 may come at once; the others wait behind them, or are dropped.
        let expected: Vec<u8> = if over_budget == OverBudget::Forward { (0..100).collect() } else { (0..64).collect() };
        let out = lab.expect(1, expected.len());
        assert_eq!(out.iter().map(|frame| payload(frame)[0]).collect::<Vec<_>>(), expected);
        let program = lab.table.program_counts(InstallId(1)).expect("installed");
        assert_eq!((program.seen_packets, program.over_budget_packets), (64, 36));
        let counts = lab.stop();
        let dropped = if over_budget == OverBudget::Forward { 0 } else { 36 };
        assert_eq!((counts.drop(DropReason::OverBudget), counts.over_budget_forwarded), (dropped, 36 - dropped));
    }
}

#[test]
fn what_is_generated_is_bounded_and_every_end_of_it_is_named() {
    let sender = "10.0.0.9";
    let send = |lab: &mut Lab, batches: usize| {
        let frames: Vec<_> = (0..batches).map(|i| udp(0, sender, "10.0.1.2", 64, &[i as u8; 100])).collect();
        lab.send(0, &frames);
        lab.wait_for("all", |counts| counts.drop(DropReason::Program) == batches as u64)
    };
    let installed = |rate: u32, principal: Principal| {
        let mut lab = lab();
        let policy = generous(&principal, rate, FOREVER_US);
        lab.table
            .install(install(1, accept_under(&policy, &multicast(1, sender), principal)))
            .expect("within the bounds");
        lab
    };
    // Two packets for each; 64 may come at once.
    let mut lab = installed(1, edge_router("10.0.1.2", 24));
    let counts = send(&mut lab, 100);
    let sent = counts.generated - counts.drop(DropReason::GenerateOverRate);
    assert_eq!((counts.generated, sent), (200, 64), "{counts:?}");
    let program = lab.table.program_counts(InstallId(1)).expect("installed");
    assert_eq!((program.generated_packets, program.generate_refused_packets), (64, 136));
    lab.expect(1, 64);
    lab.stop();
    // None at all.
    let mut lab = installed(0, edge_router("10.0.1.2", 24));
    let counts = send(&mut lab, 10);
    assert_eq!((counts.generated, counts.drop(DropReason::GenerateOverRate)), (20, 20));
    lab.stop();
    // An owner's own address that no route leads to, though its hosts have one.
    let mut lab = installed(1_000_000, edge_router("10.0.1.2", 24));
    lab.routes.route(net("10.0.1.2/32"), vinet_fastpath::fib::Target::Blackhole);
    lab.publish_routes();
    lab.send(0, &[udp(0, sender, "10.0.1.3", 64, &[1; 100])]);
    let counts = lab.wait_for("both", |counts| counts.drop(DropReason::Blackhole) == 2);
    assert_eq!((counts.generated, counts.drop(DropReason::Program)), (2, 1));
    lab.stop();
    // A link that takes no packets of the least size.
    let mut lab = Lab::new(
        Settings::default(),
        vec![edge(0, &["10.0.0.0/24"]), vinet_fastpath::settings::PortSettings { mtu: 500, ..port(1) }],
    );
    let principal = edge_router("10.0.1.2", 24);
    let policy = generous(&principal, 1_000_000, FOREVER_US);
    lab.table.install(install(1, accept_under(&policy, &multicast(1, sender), principal))).expect("within the bounds");
    let counts = send(&mut lab, 5);
    assert_eq!((counts.generated, counts.drop(DropReason::GenerateUnsendable)), (10, 10));
    lab.stop();
}

/// A receiving edge router: port 0 leads to the sender's side, port 1 to its hosts; 10.0.1.1 and 2001:db8:1::1 are its
/// own. It expands what `programs` with these owners sent.
fn receiver(rules: Vec<ExpandRule>) -> Lab {
    let mut lab = Lab::new(Settings { expand: rules, ..Settings::default() }, vec![port(0), port(1)]);
    for host in 3..40 {
        lab.routes.neighbour(1, addr(&format!("10.0.1.{host}")), host_mac(1)).neighbour(
            1,
            addr(&format!("2001:db8:1::{host:x}")),
            host_mac(1),
        );
    }
    lab.publish_routes();
    lab
}

fn rule(owner: &str, len: u8, program: [u8; 32]) -> ExpandRule {
    let own = addr(owner);
    let prefix = vinet_trusted::addr::Prefix::of(own, len).expect("a length");
    ExpandRule { own, port: 7401, prefix, program, key: KEY }
}

/// Brings what came out of the sender's edge router to the receiver's.
fn carry(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| [&router_mac(0)[..], &host_mac(0), &frame[12..]].concat()).collect()
}

#[test]
fn each_content_crosses_the_core_once_and_reaches_every_destination() {
    let families = [("10.0.0.9", "10.0.1.1", 24, "10.0.1."), ("2001:db8::9", "2001:db8:1::1", 64, "2001:db8:1::")];
    for (sender, own, len, hosts) in families {
        let principal = edge_router(own, len);
        let policy = generous(&principal, 1_000_000, 20_000);
        let program = multicast(0, sender);
        let mut near = lab();
        // The owner's own address is not this router's, but that of the router behind it.
        near.routes
            .route(
                net(&format!("{own}/{}", if len == 24 { 32 } else { 128 })),
                vinet_fastpath::fib::Target::Via { port: 1, gateway: None },
            )
            .neighbour(1, addr(own), host_mac(1));
        near.publish_routes();
        near.table.install(install(1, accept_under(&policy, &program, principal))).expect("within the bounds");
        let mut far = receiver(vec![rule(own, len, program.id())]);
        // Ten contents, each to sixteen hosts; and one that is not of the broadcast.
        let mut expected: Vec<(String, Vec<u8>)> = Vec::new();
        let mut frames = Vec::new();
        for content in 0..10u8 {
            for host in 0..16u8 {
                let dst =
                    format!("{hosts}{}", if len == 24 { format!("{}", 3 + host) } else { format!("{:x}", 3 + host) });
                let payload = vec![content; 1000 + usize::from(content)];
                frames.push(udp(0, sender, &dst, 64, &payload));
                expected.push((dst, payload));
            }
        }
        near.send(0, &frames);
        let counts = near.wait_for("all windows", |counts| counts.drop(DropReason::Program) == 160);
        let crossing = near.expect(1, counts.generated as usize);
        let bytes: usize = crossing.iter().map(Vec::len).sum();
        // Five windows of 32 packets, each with two contents of about 1000 bytes and a list of 32 destinations.
        assert!(bytes < frames.iter().map(Vec::len).sum::<usize>() / 10, "{bytes} bytes cross");
        far.send(0, &carry(&crossing));
        let out = far.expect(1, 160);
        let mut got: Vec<(String, Vec<u8>)> = out
            .iter()
            .map(|frame| {
                let (src, dst, _) = read_ip(frame);
                assert_eq!(src, addr(sender));
                assert_eq!(ports_of(frame), (1000, 2000));
                (dst.to_string(), payload(frame))
            })
            .collect();
        got.sort();
        expected.sort();
        assert_eq!(got, expected);
        // Whatever is recorded and sent again does nothing.
        far.send(0, &carry(&crossing));
        let counts =
            far.wait_for("refusals", |counts| counts.drop(DropReason::ExpandReplayed) == crossing.len() as u64);
        assert_eq!((counts.consumed, counts.expanded), (crossing.len() as u64, 160));
        assert_eq!((counts.batches, counts.batches_incomplete), (5, 0));
        near.stop();
        far.stop();
    }
}

fn ports_of(frame: &[u8]) -> (u16, u16) {
    let headers = parse::headers(frame).expect("IP");
    let Transport::Udp(udp) = transport(frame, &headers) else { panic!("UDP") };
    (udp.src_port, udp.dst_port)
}

#[test]
fn lost_datagrams_cost_their_own_batch_and_are_told() {
    let (sender, own) = ("10.0.0.9", "10.0.1.1");
    let principal = edge_router(own, 24);
    let program = multicast(4, sender);
    let mut near = lab();
    near.routes.route(net("10.0.1.1/32"), vinet_fastpath::fib::Target::Via { port: 1, gateway: None });
    near.routes.neighbour(1, addr(own), host_mac(1));
    near.publish_routes();
    let policy = generous(&principal, 1_000_000, FOREVER_US);
    near.table.install(install(1, accept_under(&policy, &program, principal))).expect("within the bounds");
    let mut far = receiver(vec![rule(own, 24, program.id())]);
    let frames: Vec<_> =
        (0..400usize).map(|i| udp(0, sender, &format!("10.0.1.{}", 3 + i % 4), 64, &[(i / 4) as u8; 200])).collect();
    near.send(0, &frames);
    near.wait_for("all windows", |counts| counts.drop(DropReason::Program) == 400);
    // A hundred batches, each of one datagram with destinations and one with the content.
    let crossing = carry(&near.expect(1, 200));
    let kept: Vec<Vec<u8>> =
        crossing.iter().enumerate().filter(|(i, _)| i % 7 != 3).map(|(_, frame)| frame.clone()).collect();
    let broken = (0..100).filter(|batch| [2 * batch, 2 * batch + 1].iter().any(|i| i % 7 == 3)).count() as u64;
    far.send(0, &kept);
    let out = far.expect(1, 4 * (100 - broken as usize));
    assert!(out.iter().all(|frame| payload(frame).len() == 200));
    let counts = far.wait_for("the time", |counts| counts.batches_incomplete == broken);
    assert_eq!((counts.batches, counts.consumed), (100, kept.len() as u64));
    // What comes afterwards begins nothing again.
    let late: Vec<Vec<u8>> = crossing.iter().skip(3).step_by(7).cloned().collect();
    far.send(0, &late);
    far.wait_for("refusals", |counts| counts.drop(DropReason::ExpandReplayed) == late.len() as u64);
    near.stop();
    far.stop();
}

#[test]
fn the_expander_takes_what_is_its_own_and_leaves_the_rest_to_the_kernel() {
    let program = multicast(1, "10.0.0.9");
    // The prefix is narrower than what the program was told: hosts 10.0.1.0 to 10.0.1.7.
    let mut far = receiver(vec![rule("10.0.1.1", 29, program.id())]);
    let mut near = lab();
    near.routes.route(net("10.0.1.1/32"), vinet_fastpath::fib::Target::Via { port: 1, gateway: None });
    near.routes.neighbour(1, addr("10.0.1.1"), host_mac(1));
    near.publish_routes();
    let principal = edge_router("10.0.1.1", 24);
    let policy = generous(&principal, 1_000_000, FOREVER_US);
    near.table.install(install(1, accept_under(&policy, &program, principal))).expect("within the bounds");
    near.send(0, &[udp(0, "10.0.0.9", "10.0.1.9", 64, b"outside"), udp(0, "10.0.0.9", "10.0.1.1", 64, b"itself")]);
    let crossing = carry(&near.expect(1, 4));
    far.send(0, &crossing);
    let counts = far.wait_for("both", |counts| counts.expanded == 2);
    assert_eq!((counts.drop(DropReason::ExpandNotOwned), counts.to_tap), (1, 1), "{counts:?}");
    let mut told = Vec::new();
    far.slow_path.to_tap(8, |_, frame| {
        assert_eq!(frame[..6], router_mac(0), "the twin's address");
        told.push(payload(frame));
    });
    assert_eq!(told, [b"itself"]);
    // To another port or address of the router; broken; of a stranger.
    let mut broken = crossing[0].clone();
    broken.truncate(14 + 20 + 8 + 30);
    broken[16..18].copy_from_slice(&58u16.to_be_bytes());
    broken[38..40].copy_from_slice(&38u16.to_be_bytes());
    broken[24..26].fill(0);
    let sum = vinet_pktops::checksum::of(&broken[14..34]);
    broken[24..26].copy_from_slice(&sum.to_be_bytes());
    let mut forged = crossing[2].clone();
    *forged.last_mut().expect("bytes") ^= 1;
    let mut unknown = crossing[2].clone();
    unknown[14 + 20 + 8 + 20] ^= 1;
    far.send(0, &[udp(0, "10.0.0.9", "10.0.1.1", 64, b"to port 2000"), broken, forged, unknown]);
    let counts = far.wait_for("all four", |counts| counts.ports[0].rx_packets == 8);
    assert_eq!(counts.to_tap, 2);
    let refused = [DropReason::ExpandMalformed, DropReason::ExpandBadTag, DropReason::ExpandUnknownProgram];
    assert_eq!(refused.map(|reason| counts.drop(reason)), [1, 1, 1]);
    near.stop();
    far.stop();
}
