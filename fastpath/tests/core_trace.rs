//! Traced packets: which are copied, and that what their records tell is what became of them.

mod core_support;

use std::sync::Arc;
use std::time::Instant;

use core_support::*;
use vinet_fastpath::drop_reason::DropReason;
use vinet_fastpath::flow_table::{Batch, Install, InstallId};
use vinet_fastpath::settings::Settings;
use vinet_fastpath::trace::{Decision, Fate, TRACE_BYTES_MAX, TRACE_RING_LEN, TraceOrder, Traced};
use vinet_pktops::Executable;
use vinet_trusted::policy::OverBudget;

const ALL: TraceOrder = TraceOrder { src: None, dst: None, one_in: 1, bytes: TRACE_BYTES_MAX };

/// Port 0 is the edge with the senders, port 1 leads to the owners.
fn lab() -> Lab {
    Lab::new(Settings::default(), vec![edge(0, &["10.0.0.0/24", "2001:db8::/64"]), port(1)])
}

fn install(id: u64, executable: Arc<Executable>) -> Install {
    let over_budget = OverBudget::Forward;
    Install { id: InstallId(id), executable, packet_rate: 0, over_budget, generate_key: [0; 32], monitor: false }
}

/// Waits for so many records.
fn records(lab: &mut Lab, count: usize) -> Vec<Traced> {
    let end = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(lab.tracer.next());
        assert!(Instant::now() < end, "{} of {count} records came: {records:?}", records.len());
    }
    assert!(lab.tracer.next().is_none());
    records
}

/// Sends one frame and gives what is told of it.
fn fate(lab: &mut Lab, frame: Vec<u8>) -> Traced {
    lab.send(0, std::slice::from_ref(&frame));
    let record = records(lab, 1)[0];
    let copied = frame.len().min(TRACE_BYTES_MAX);
    assert_eq!((record.bytes(), record.len as usize, record.input), (&frame[..copied], frame.len(), 0));
    record
}

#[test]
fn each_end_of_a_packet_is_told() {
    let mut lab = lab();
    lab.routes.route(net("10.9.0.0/16"), vinet_fastpath::fib::Target::Blackhole);
    lab.publish_routes();
    lab.tracer.start(ALL).expect("workers pass");
    assert!(lab.tracer.is_on());
    let to = |dst: &str, ttl| udp(0, "10.0.0.2", dst, ttl, &[1; 200]);
    assert_eq!(fate(&mut lab, to("10.0.1.2", 64)).fate, Fate::Sent { port: 1 });
    assert_eq!(fate(&mut lab, udp(0, "2001:db8::2", "2001:db8:1::2", 64, b"x")).fate, Fate::Sent { port: 1 });
    assert_eq!(fate(&mut lab, to("10.0.1.9", 64)).fate, Fate::Held);
    assert_eq!(fate(&mut lab, to("10.0.0.1", 64)).fate, Fate::Kernel);
    assert_eq!(fate(&mut lab, to("10.9.0.1", 64)).fate, Fate::Dropped(DropReason::Blackhole));
    // For these two an ICMP error goes back.
    assert_eq!(fate(&mut lab, to("10.0.1.2", 1)).fate, Fate::Dropped(DropReason::TtlExpired));
    assert_eq!(fate(&mut lab, to("192.0.2.1", 64)).fate, Fate::Dropped(DropReason::NoRoute));
    let stranger = udp(0, "10.7.0.2", "10.0.1.2", 64, b"x");
    assert_eq!(fate(&mut lab, stranger).fate, Fate::Dropped(DropReason::SourceNotControlled));
    assert_eq!(fate(&mut lab, vec![0xff; 9]).fate, Fate::Dropped(DropReason::EthernetTruncated));
    lab.tracer.stop().expect("workers pass");
    lab.send(0, &[to("10.0.1.2", 64)]);
    lab.expect(1, 3);
    assert!(lab.tracer.next().is_none() && !lab.tracer.is_on());
    lab.stop();
}

#[test]
fn the_programs_that_acted_are_named_in_order_with_what_they_decided() {
    let mut lab = lab();
    let watched = Install { monitor: true, ..install(3, word_filter("10.0.1.2", "spam")) };
    let slow = Install { packet_rate: 1, ..install(7, word_filter("10.0.1.2", "nothing")) };
    let mut batch = Batch::new();
    batch
        .install(install(5, word_filter("10.0.1.2", "worm")))
        .install(watched)
        .install(install(9, firewall("10.0.1.2", &[net("10.0.0.66/32")])))
        .install(slow);
    lab.table.apply(batch).expect("within the bounds");
    lab.tracer.start(ALL).expect("workers pass");
    let mut act = |src: &str, text: &str| fate(&mut lab, udp(0, src, "10.0.1.2", 64, text.as_bytes()));
    let id = InstallId;
    let record = act("10.0.0.66", "spam");
    assert_eq!((record.fate, record.acted()), (Fate::Dropped(DropReason::Program), &[(id(9), Decision::Discard)][..]));
    let record = act("10.0.0.2", "spam");
    let expected = [(id(3), Decision::WouldDiscard), (id(5), Decision::Pass), (id(7), Decision::Pass)];
    assert_eq!((record.fate, record.acted()), (Fate::Sent { port: 1 }, &expected[..]));
    let record = act("10.0.0.2", "worm");
    assert_eq!(record.fate, Fate::Dropped(DropReason::Program));
    assert_eq!(record.acted(), [(id(3), Decision::Pass), (id(5), Decision::Discard)]);
    for _ in 0..63 {
        act("10.0.0.2", "mail");
    }
    assert_eq!(act("10.0.0.2", "mail").acted()[2], (id(7), Decision::OverBudget));
    lab.stop();
}

#[test]
fn a_packet_that_waits_in_a_window_has_a_second_record_when_it_leaves() {
    let mut lab = lab();
    let owner = vinet_trusted::addr::Principal::EndUser(addr("10.0.1.2"));
    let crowd = accept_under(&generous(&owner, 0, u32::MAX), &crowd_filter(2, "spam", 2), owner);
    let mut batch = Batch::new();
    batch.install(install(1, crowd)).install(install(2, word_filter("10.0.1.2", "worm")));
    lab.table.apply(batch).expect("within the bounds");
    lab.tracer.start(ALL).expect("workers pass");
    let send = |lab: &mut Lab, text: &str| lab.send(0, &[udp(0, "10.0.0.2", "10.0.1.2", 64, text.as_bytes())]);
    let id = InstallId;
    for (texts, end, acted) in [
        (["spam", "spam"], Fate::Dropped(DropReason::Program), &[(id(1), Decision::Discard)][..]),
        (["spam", "mail"], Fate::Sent { port: 1 }, &[(id(1), Decision::Pass), (id(2), Decision::Pass)]),
        (["worm", "worm"], Fate::Dropped(DropReason::Program), &[(id(1), Decision::Pass), (id(2), Decision::Discard)]),
    ] {
        send(&mut lab, texts[0]);
        let first = records(&mut lab, 1)[0];
        assert_eq!((first.fate, first.acted()), (Fate::Window(id(1)), &[(id(1), Decision::Wait)][..]));
        send(&mut lab, texts[1]);
        let rest = records(&mut lab, 3);
        // The window is run while its last packet is acted on, and that one's own record comes behind.
        for (record, text) in rest.iter().zip(texts) {
            assert!(record.bytes().ends_with(text.as_bytes()));
            assert_eq!((record.fate, record.acted()), (end, acted), "{texts:?}");
        }
        assert_eq!(rest[2].fate, Fate::Window(id(1)));
    }
    lab.stop();
}

#[test]
fn only_what_the_order_is_about_is_traced_and_what_has_no_room_is_counted() {
    let mut lab = lab();
    let order = TraceOrder { src: Some(net("10.0.0.8/29")), dst: Some(net("10.0.1.0/24")), one_in: 0, bytes: 14 };
    lab.tracer.start(order).expect("workers pass");
    let from = |host: u8, dst: &str| udp(0, &format!("10.0.0.{host}"), dst, 64, b"x");
    lab.send(0, &[from(7, "10.0.1.2"), from(8, "10.0.1.2"), from(15, "10.0.0.1"), from(15, "10.0.1.2"), vec![0; 60]]);
    let told = records(&mut lab, 2);
    assert!(told.iter().all(|record| record.bytes().len() == 14 && record.fate == Fate::Sent { port: 1 }));
    lab.expect(1, 3);

    // One in eight, by chance.
    lab.tracer.start(TraceOrder { one_in: 8, ..ALL }).expect("workers pass");
    lab.send(0, &vec![from(2, "10.0.1.2"); 1600]);
    lab.expect(1, 1600);
    let told = std::iter::from_fn(|| lab.tracer.next()).count();
    assert!((120..=280).contains(&told), "{told} of 1600");
    assert_eq!(lab.tracer.lost(), 0);

    // Nobody takes the records: all packets go on, and those without room are counted.
    lab.tracer.start(ALL).expect("workers pass");
    lab.send(0, &vec![from(2, "10.0.1.2"); TRACE_RING_LEN + 100]);
    lab.expect(1, TRACE_RING_LEN + 100);
    assert_eq!(lab.tracer.lost(), 100);
    assert_eq!(records(&mut lab, TRACE_RING_LEN).len(), TRACE_RING_LEN);
    lab.stop();
}
