//! Programs of owners on the traffic of a router: what is dropped, what passes, what is counted.

mod core_support;

use std::sync::Arc;

use core_support::*;
use etherparse::PacketBuilder;
use vinet_fastpath::drop_reason::DropReason;
use vinet_fastpath::flow_table::{Batch, Install, InstallId};
use vinet_fastpath::settings::{PortSettings, Settings};
use vinet_pktops::Executable;
use vinet_trusted::addr::Addr;
use vinet_trusted::policy::OverBudget;

/// Port 0 is the edge with the senders, port 1 leads to the owners.
fn lab() -> Lab {
    Lab::new(Settings::default(), vec![edge(0, &["10.0.0.0/24", "2001:db8::/64"]), port(1)])
}

fn install(id: u64, executable: Arc<Executable>) -> Install {
    Install {
        id: InstallId(id),
        executable,
        packet_rate: 0,
        over_budget: OverBudget::Forward,
        generate_key: [0; 32],
        monitor: false,
    }
}

/// Sends a packet each way for each pair and tells which came through.
fn passes(lab: &mut Lab, pairs: &[(&str, &str)]) -> Vec<bool> {
    let before = lab.counters.snapshot();
    let frames: Vec<Vec<u8>> =
        pairs.iter().enumerate().map(|(i, (src, dst))| udp(0, src, dst, 64, &[i as u8; 30])).collect();
    lab.send(0, &frames);
    let received = before.ports[0].rx_packets + pairs.len() as u64;
    let after = lab.wait_for("all received", |counts| {
        counts.ports[0].rx_packets == received && counts.queued == 0 && counts.held == 0
    });
    let out = lab.expect(1, (after.ports[1].tx_packets - before.ports[1].tx_packets) as usize);
    let mut passed = vec![false; pairs.len()];
    for frame in out {
        passed[usize::from(frame[frame.len() - 1])] = true;
    }
    passed
}

#[test]
fn a_firewall_drops_its_owners_packets_from_the_blocked_and_nothing_else() {
    let mut lab = lab();
    let pairs = [
        ("10.0.0.66", "10.0.1.2"),
        ("10.0.0.7", "10.0.1.2"),
        ("10.0.0.66", "10.0.1.3"),
        ("10.0.0.130", "10.0.1.2"),
        ("2001:db8::66", "2001:db8:1::2"),
        ("2001:db8::7", "2001:db8:1::2"),
    ];
    lab.routes.neighbour(1, addr("10.0.1.3"), host_mac(1));
    lab.publish_routes();
    assert_eq!(passes(&mut lab, &pairs), [true; 6]);
    let mut batch = Batch::new();
    batch
        .install(install(1, firewall("10.0.1.2", &[net("10.0.0.66/32"), net("10.0.0.128/25")])))
        .install(install(2, firewall("2001:db8:1::2", &[net("2001:db8::66/128")])));
    lab.table.apply(batch).expect("within the bounds");
    assert_eq!(passes(&mut lab, &pairs), [false, true, true, false, false, true]);
    let counts = lab.table.program_counts(InstallId(1)).expect("installed");
    assert_eq!((counts.seen_packets, counts.discarded_packets), (2, 2));
    assert_eq!(counts.discarded_bytes, 2 * (14 + 20 + 8 + 30));
    assert_eq!(lab.table.acting_on(addr("10.0.0.66"), addr("10.0.1.2")), [InstallId(1)]);

    lab.table.withdraw(InstallId(1)).expect("installed");
    assert_eq!(passes(&mut lab, &pairs), [true, true, true, true, false, true]);
    let finished = loop {
        let finished = lab.table.reclaim();
        if !finished.is_empty() {
            break finished;
        }
    };
    assert_eq!((finished[0].id, finished[0].counts), (InstallId(1), counts));
    let counts = lab.stop();
    assert_eq!(counts.drop(DropReason::Program), 4);
}

#[test]
fn programs_act_only_on_what_enters_from_controlled_sources() {
    let mut lab = Lab::new(Settings::default(), vec![edge(0, &["10.0.0.0/24"]), port(1)]);
    // The owner is behind the edge; what comes to it from the uplink is not this router's to program.
    lab.table.install(install(1, firewall("10.0.0.2", &[net("0.0.0.0/0")]))).expect("within the bounds");
    lab.send(1, &[udp(1, "10.0.1.2", "10.0.0.2", 64, &[1; 30])]);
    lab.expect(0, 1);
    // Nor is what the kernel sends.
    lab.slow_path.from_tap(0, &udp(0, "10.0.0.1", "10.0.0.2", 64, &[1; 30])).expect("room");
    lab.expect(0, 1);
    lab.send(0, &[udp(0, "10.0.0.9", "10.0.0.2", 64, &[1; 30])]);
    lab.wait_for("the one that is", |counts| counts.drop(DropReason::Program) == 1);
    lab.stop();
}

fn tcp(src: [u8; 4], dst: [u8; 4], seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(host_mac(0), router_mac(0))
        .ipv4(src, dst, 64)
        .tcp(4000, 25, seq, 1000)
        .write(&mut frame, payload)
        .expect("it fits");
    frame
}

#[test]
fn a_word_is_found_across_segments_and_state_goes_with_the_program() {
    let mut lab = lab();
    lab.table.install(install(1, word_filter("10.0.1.2", "viagra"))).expect("within the bounds");
    let (src, dst) = ([10, 0, 0, 2], [10, 0, 1, 2]);
    lab.send(
        0,
        &[tcp(src, dst, 100, b"cheap via"), tcp(src, dst, 109, b"gra here"), tcp([10, 0, 0, 3], dst, 1, b"gra")],
    );
    let out = lab.expect(1, 2);
    assert!(out[0].ends_with(b"cheap via") && out[1].ends_with(b"gra"));
    let counts = lab.wait_for("the drop", |counts| counts.drop(DropReason::Program) == 1);
    assert_eq!(counts.ports[0].rx_packets, 3);
    let counts = lab.table.program_counts(InstallId(1)).expect("installed");
    assert_eq!((counts.seen_packets, counts.discarded_packets), (3, 1));
    // A new installation begins with no history.
    let mut batch = Batch::new();
    batch.withdraw(InstallId(1)).install(install(2, word_filter("10.0.1.2", "viagra")));
    lab.table.apply(batch).expect("within the bounds");
    lab.send(0, &[tcp(src, dst, 117, b"and more")]);
    lab.expect(1, 1);
    lab.stop();
}

#[test]
fn several_programs_run_in_the_order_of_their_installation_and_a_discard_is_final() {
    let mut lab = lab();
    let mut batch = Batch::new();
    batch
        .install(install(7, word_filter("10.0.1.2", "second")))
        .install(install(5, word_filter("10.0.1.2", "first")))
        .install(install(9, firewall("10.0.1.2", &[net("10.0.0.66/32")])));
    lab.table.apply(batch).expect("within the bounds");
    let (src, dst) = ([10, 0, 0, 2], [10, 0, 1, 2]);
    lab.send(
        0,
        &[
            tcp(src, dst, 0, b"first and second"),
            tcp([10, 0, 0, 3], dst, 0, b"second"),
            tcp([10, 0, 0, 66], dst, 0, b"nothing"),
            tcp([10, 0, 0, 4], dst, 0, b"nothing"),
        ],
    );
    lab.expect(1, 1);
    lab.wait_for("three drops", |counts| counts.drop(DropReason::Program) == 3);
    let seen = |lab: &Lab, id| {
        let counts = lab.table.program_counts(InstallId(id)).expect("installed");
        (counts.seen_packets, counts.discarded_packets)
    };
    assert_eq!((seen(&lab, 5), seen(&lab, 7), seen(&lab, 9)), ((3, 1), (2, 1), (1, 1)));
    lab.stop();
}

#[test]
fn an_owner_above_its_rate_is_treated_as_the_policy_says() {
    for over_budget in [OverBudget::Forward, OverBudget::Drop] {
        let mut lab = lab();
        let slow = Install { packet_rate: 1, over_budget, ..install(1, word_filter("10.0.1.2", "x")) };
        lab.table.install(slow).expect("within the bounds");
        let frames = vec![udp(0, "10.0.0.2", "10.0.1.2", 64, b"an x"); 200];
        lab.send(0, &frames);
        let counts = lab.wait_for("all", |counts| counts.ports[0].rx_packets == 200 && counts.queued == 0);
        // The first 64 may come at once.
        assert_eq!(counts.drop(DropReason::Program), 64);
        let above = (counts.drop(DropReason::OverBudget), counts.over_budget_forwarded, counts.ports[1].tx_packets);
        match over_budget {
            OverBudget::Forward => assert_eq!(above, (0, 136, 136)),
            OverBudget::Drop => assert_eq!(above, (136, 0, 0)),
        }
        let program = lab.table.program_counts(InstallId(1)).expect("installed");
        assert_eq!((program.seen_packets, program.over_budget_packets), (64, 136));
        lab.stop();
    }
}

#[test]
fn a_firewall_over_ten_thousand_prefixes_is_one_program() {
    let mut lab = lab();
    let prefixes: Vec<_> = (0..10_000u32)
        .map(|i| {
            let len = 24 + (i % 9) as u8;
            vinet_trusted::addr::Prefix::of(Addr::V4(0x0b00_0000 + i * 512), len).expect("a length")
        })
        .chain([net("10.0.0.66/32")])
        .collect();
    lab.table.install(install(1, firewall("10.0.1.2", &prefixes))).expect("within the bounds");
    assert_eq!(passes(&mut lab, &[("10.0.0.66", "10.0.1.2"), ("10.0.0.67", "10.0.1.2")]), [false, true]);
    lab.table.withdraw(InstallId(1)).expect("installed");
    assert_eq!(passes(&mut lab, &[("10.0.0.66", "10.0.1.2"), ("10.0.0.67", "10.0.1.2")]), [true, true]);
    lab.stop();
}

#[test]
fn packets_leave_in_order_whichever_way_they_go() {
    let mut lab = Lab::new(
        Settings::default(),
        vec![edge(0, &["10.0.0.0/24", "2001:db8::/64"]), PortSettings { queue_depth: 4096, ..port(1) }],
    );
    lab.routes.neighbour(1, addr("10.0.1.3"), host_mac(1));
    lab.publish_routes();
    let mut batch = Batch::new();
    batch
        .install(install(1, word_filter("10.0.1.2", "spam")))
        .install(install(2, firewall("10.0.1.3", &[net("10.0.0.66/32")])));
    lab.table.apply(batch).expect("within the bounds");
    let frame = |number: u32| {
        let payload = |word: &[u8]| [word, &number.to_be_bytes()[..]].concat();
        match number * 7 % 23 {
            // Looked into, and let pass or dropped; dropped by a verdict.
            0 | 1 => udp(0, "10.0.0.7", "10.0.1.2", 64, &payload(b"ham and eggs, 30 bytes in all.")),
            2 => udp(0, "10.0.0.7", "10.0.1.2", 64, &payload(b"spam and eggs")),
            3 | 4 => udp(0, "10.0.0.66", "10.0.1.3", 64, &payload(b"blocked")),
            5 | 6 => udp(0, "2001:db8::7", "2001:db8:1::2", 64, &payload(b"IPv6")),
            7 => {
                let link = PacketBuilder::ethernet2(host_mac(0), router_mac(0));
                let options = etherparse::Ipv4Options::try_from(&[1, 1, 1, 0][..]).expect("one word");
                let mut ip = etherparse::Ipv4Header { options, time_to_live: 9, ..Default::default() };
                (ip.source, ip.destination) = ([10, 0, 0, 7], [10, 0, 1, 3]);
                let mut frame = Vec::new();
                link.ip(etherparse::IpHeaders::Ipv4(ip, Default::default()))
                    .udp(1, 2)
                    .write(&mut frame, &payload(b"options"))
                    .expect("it fits");
                frame
            }
            _ => udp(0, "10.0.0.7", "10.0.1.3", 64, &payload(b"plain")),
        }
    };
    let frames: Vec<Vec<u8>> = (0..1500).map(frame).collect();
    let is_dropped = |frame: &&Vec<u8>| {
        let has = |word: &[u8]| frame.windows(word.len()).any(|part| part == word);
        has(b"spam") || has(b"blocked")
    };
    let tail = |frame: &Vec<u8>| frame[frame.len() - 4..].to_vec();
    let expected: Vec<Vec<u8>> = frames.iter().filter(|frame| !is_dropped(frame)).map(tail).collect();
    lab.send(0, &frames);
    let out = lab.expect(1, expected.len());
    for frame in &out {
        read_ip(frame);
    }
    assert_eq!(out.iter().map(tail).collect::<Vec<_>>(), expected);
    let counts = lab.stop();
    assert_eq!(counts.dropped(), (frames.len() - expected.len()) as u64);
}
