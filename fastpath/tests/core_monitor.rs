//! Programs that are only watched: what they would do is counted, and nothing comes of it.

mod core_support;

use std::sync::Arc;

use core_support::*;
use vinet_fastpath::drop_reason::DropReason;
use vinet_fastpath::flow_table::{Batch, Install, InstallId, ProgramCounts};
use vinet_fastpath::settings::Settings;
use vinet_pktops::Executable;
use vinet_trusted::policy::OverBudget;

/// Port 0 is the edge with the senders, port 1 leads to the owners.
fn lab() -> Lab {
    Lab::new(Settings::default(), vec![edge(0, &["10.0.0.0/24"]), port(1)])
}

fn acting(id: u64, executable: Arc<Executable>) -> Install {
    Install {
        id: InstallId(id),
        executable,
        packet_rate: 0,
        over_budget: OverBudget::Forward,
        generate_key: [7; 32],
        monitor: false,
    }
}

fn watched(id: u64, executable: Arc<Executable>) -> Install {
    Install { monitor: true, ..acting(id, executable) }
}

fn counts(lab: &Lab, id: u64) -> ProgramCounts {
    lab.table.program_counts(InstallId(id)).expect("installed")
}

fn seen_and_discarded(lab: &Lab, id: u64) -> (u64, u64) {
    let counts = counts(lab, id);
    (counts.seen_packets, counts.discarded_packets)
}

#[test]
fn what_a_watched_program_would_drop_is_counted_and_goes_on() {
    let mut lab = lab();
    // Verdicts and programs that run, watched and acting, meet in one cell.
    let block = |net_: &str| firewall("10.0.1.2", &[net(net_)]);
    let mut batch = Batch::new();
    batch
        .install(watched(1, block("10.0.0.64/26")))
        .install(watched(2, word_filter("10.0.1.2", "spam")))
        .install(acting(3, block("10.0.0.66/32")))
        .install(acting(4, word_filter("10.0.1.2", "worm")))
        .install(watched(5, word_filter("10.0.1.2", "worm")));
    lab.table.apply(batch).expect("within the bounds");
    let send = |lab: &mut Lab, src: &str, text: &str| lab.send(0, &[udp(0, src, "10.0.1.2", 64, text.as_bytes())]);
    send(&mut lab, "10.0.0.66", "spam"); // dropped by 3 before anybody is asked
    send(&mut lab, "10.0.0.67", "spam"); // 1 and 2 would drop it
    send(&mut lab, "10.0.0.68", "worm"); // 1 would drop it, 4 does, 5 does not see it
    send(&mut lab, "10.0.0.7", "worm"); // 4 drops it
    send(&mut lab, "10.0.0.7", "spam"); // 2 would drop it
    send(&mut lab, "10.0.0.7", "mail");
    lab.expect(1, 3);
    lab.wait_for("three drops", |counts| counts.drop(DropReason::Program) == 3);
    assert_eq!(seen_and_discarded(&lab, 1), (2, 2));
    assert_eq!(seen_and_discarded(&lab, 2), (5, 2));
    assert_eq!(seen_and_discarded(&lab, 3), (1, 1));
    assert_eq!(seen_and_discarded(&lab, 4), (5, 2));
    assert_eq!(seen_and_discarded(&lab, 5), (3, 0));
    assert_eq!(counts(&lab, 1).discarded_bytes, 2 * (14 + 20 + 8 + 4));

    // From watching to acting, in one step.
    let mut batch = Batch::new();
    batch.withdraw(InstallId(1)).install(acting(6, block("10.0.0.64/26")));
    lab.table.apply(batch).expect("within the bounds");
    send(&mut lab, "10.0.0.67", "mail");
    lab.wait_for("a fourth drop", |counts| counts.drop(DropReason::Program) == 4);
    let counts = lab.stop();
    assert_eq!((counts.dropped(), counts.ports[1].tx_packets), (4, 3));
}

#[test]
fn above_its_rate_a_watched_program_drops_nothing_either() {
    let mut lab = lab();
    let slow = Install {
        packet_rate: 1,
        over_budget: OverBudget::Drop,
        ..watched(1, firewall("10.0.1.2", &[net("10.0.0.0/24")]))
    };
    lab.table.install(slow).expect("within the bounds");
    lab.send(0, &vec![udp(0, "10.0.0.2", "10.0.1.2", 64, b"mail"); 200]);
    lab.expect(1, 200);
    // The first 64 may come at once.
    assert_eq!(seen_and_discarded(&lab, 1), (64, 64));
    assert_eq!(counts(&lab, 1).over_budget_packets, 136);
    assert_eq!(lab.stop().dropped(), 0);
}

#[test]
fn what_a_watched_program_would_send_is_counted_and_not_sent() {
    // The same traffic to the same program, acting and watched.
    let run = |monitor: bool| {
        let mut lab = lab();
        let owner = edge_router("10.0.1.2", 24);
        let program = accept_under(&generous(&owner, 1_000_000, u32::MAX), &multicast(4, "10.0.0.9"), owner);
        lab.table.install(Install { monitor, ..acting(1, program) }).expect("within the bounds");
        let frames: Vec<_> =
            (0..8u8).map(|i| udp(0, "10.0.0.9", &format!("10.0.1.{}", 2 + i % 4), 64, &[i / 4; 2000 / 4])).collect();
        lab.routes.neighbour(1, addr("10.0.1.3"), host_mac(1)).neighbour(1, addr("10.0.1.4"), host_mac(1));
        lab.routes.neighbour(1, addr("10.0.1.5"), host_mac(1));
        lab.publish_routes();
        lab.send(0, &frames);
        lab.wait_for("all", |counts| counts.ports[0].rx_packets == 8 && counts.held == 0 && counts.queued == 0);
        let did = counts(&lab, 1);
        (did, lab.stop())
    };
    let (did, acted) = run(false);
    let (would, watched) = run(true);
    assert_eq!(did, would);
    assert!(did.generated_packets > 0 && did.discarded_packets == 8, "{did:?}");
    assert_eq!((acted.drop(DropReason::Program), acted.ports[1].tx_packets), (8, did.generated_packets));
    assert_eq!((watched.dropped(), watched.generated, watched.ports[1].tx_packets), (0, 0, 8));
}
