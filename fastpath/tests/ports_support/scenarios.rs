//! What holds for ports of every kind, told once over the traits: what is sent comes back, what finds no room stays, files keep
//! counts and contents, buffers grow within their room and come back from any thread.

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use vinet_fastpath::eal::Eal;
use vinet_fastpath::port::{Burst, PacketBuf, PacketPool, Port, PortHandle, RxQueue, TxQueue};

use super::{ARRIVAL_TIME_MAX, frame, frames, receive, send_all};

/// A port over net_ring, called "loop". `free` tells the pool's free buffers, `all` of them while nothing is under way.
pub fn ring_returns_what_was_sent<P: Port>(
    port: P,
    buffers: &mut impl PacketPool<Buf = P::Buf>,
    free: &dyn Fn() -> u32,
    all: u32,
) -> (P::Handle, Vec<P::Rx>, Vec<P::Tx>) {
    let (handle, mut rx, mut tx) = port.split();
    assert_eq!((handle.name(), handle.mtu(), handle.link().up), ("loop", 1500, true));
    assert_eq!(handle.kernel_interface(), None);
    let sent = frames(500);
    send_all(&mut tx[0], buffers, &sent);
    assert_eq!(receive(&mut rx[0], sent.len()), sent);
    let stats = handle.stats();
    assert_eq!((stats.tx_packets, stats.rx_packets), (500, 500));
    let extended: BTreeMap<String, u64> = handle.extended_stats().into_iter().collect();
    assert_eq!(extended.get("rx_good_packets"), Some(&500), "{extended:?}");
    assert_eq!(free(), all, "every buffer is back");

    // A burst with less room than there are packets takes what fits; the rest comes next, in order.
    send_all(&mut tx[0], buffers, &sent[..50]);
    let mut narrow = Burst::with_len_max(7);
    let mut arrived = Vec::new();
    while arrived.len() < 50 {
        let received = rx[0].receive(&mut narrow);
        assert!((1..=7).contains(&received) && narrow.len() == received, "{received}");
        assert!(narrow.room() == 0 || arrived.len() + received == 50, "a burst is filled while there are packets");
        arrived.extend(narrow.drain().map(|packet| packet.bytes().to_vec()));
    }
    assert_eq!(arrived, sent[..50]);

    // The driver's ring takes 1023 packets; the rest stays with the sender, in order.
    let mut burst = Burst::new();
    let mut taken = 0;
    loop {
        while burst.room() > 0 {
            let packet = buffers.allocate(&frame(taken + burst.len() as u32, 60)).unwrap();
            assert!(burst.push(packet).is_ok());
        }
        let sent = tx[0].send(&mut burst) as u32;
        taken += sent;
        if sent < 64 {
            break;
        }
    }
    assert_eq!(taken, 1023);
    for (index, packet) in burst.packets().iter().enumerate() {
        assert_eq!(packet.bytes(), frame(taken + index as u32, 60), "the first that was not taken is the next");
    }
    assert_eq!((tx[0].send(&mut burst), burst.len()), (0, 1));
    P::Buf::drop_all(&mut burst);
    assert_eq!(receive(&mut rx[0], taken as usize).len(), taken as usize);
    assert_eq!(free(), all);
    assert_eq!(rx[0].receive(&mut burst), 0);
    (handle, rx, tx)
}

/// A port over net_pcap from a file to a file, where the file holds `sent` and one more packet, which is longer than a buffer.
pub fn pcap_in_pcap_out_keeps_contents<P: Port>(port: P, sent: &[Vec<u8>]) {
    let (handle, mut rx, mut tx) = port.split();
    let mut burst = Burst::new();
    let mut moved = 0;
    while moved < sent.len() {
        assert!(rx[0].receive(&mut burst) > 0, "{moved} packets, then none");
        moved += tx[0].send(&mut burst);
        assert!(burst.is_empty());
    }
    assert_eq!(rx[0].unusable(), 1, "several segments are dropped and counted");
    assert_eq!(handle.stats().tx_packets, sent.len() as u64);
}

/// From a file that repeats `sent` for ever into nothing.
pub fn pcap_into_null_keeps_counts<P: Port>(source: P, sink: P, sent: &[Vec<u8>]) {
    let (source, mut rx, _tx) = source.split();
    let (sink, _rx, mut tx) = sink.split();
    let mut burst = Burst::new();
    let mut moved = 0;
    while moved < 10_000 {
        rx[0].receive(&mut burst);
        for packet in burst.packets() {
            packet.prefetch();
            assert_eq!(packet.bytes(), sent[moved % sent.len()]);
            moved += 1;
        }
        tx[0].send(&mut burst);
        assert!(burst.is_empty());
    }
    assert_eq!(sink.stats().tx_packets, moved as u64);
    // A queue may have received more than its bursts had room for.
    let received = source.stats().rx_packets;
    assert!((moved as u64..moved as u64 + 64).contains(&received), "{received} received, {moved} moved");
}

/// A pool of 64 buffers for frames of up to `frame_len_max` bytes, with `headroom` more before them.
pub fn buffers_grow_and_shrink<P: PacketPool<Buf: 'static>>(
    mut buffers: P,
    frame_len_max: usize,
    headroom: usize,
    free: &dyn Fn() -> u32,
) {
    let mut packet = buffers.allocate(b"payload").unwrap();
    packet.prepend(2).unwrap()[..2].copy_from_slice(b"> ");
    let len = packet.append(2).unwrap().len();
    packet.bytes_mut()[len - 2..].copy_from_slice(b" <");
    assert_eq!(packet.bytes(), b"> payload <");
    for len in [frame_len_max + headroom, 1 << 16, usize::MAX] {
        assert!(packet.prepend(len).is_none(), "{len}");
    }
    for len in [frame_len_max - 7 - 2 + 1, 1 << 16, usize::MAX] {
        assert!(packet.append(len).is_none(), "{len}");
    }
    assert_eq!(packet.bytes(), b"> payload <", "a refusal changes nothing");
    assert!(packet.trim_front(2) && !packet.trim_front(10) && !packet.trim_front(1 << 16));
    assert!(!packet.trim_front(usize::MAX) && packet.trim_front(0));
    packet.truncate(7);
    packet.truncate(1 << 16);
    assert_eq!(packet.bytes(), b"payload");
    assert_eq!(packet.append(frame_len_max - 7).unwrap().len(), frame_len_max);
    assert!(packet.append(1).is_none());
    assert_eq!(&packet.bytes()[..7], b"payload");
    if headroom > 0 {
        assert_eq!(packet.prepend(headroom).unwrap().len(), frame_len_max + headroom);
    }
    assert!(packet.prepend(1).is_none());
    packet.truncate(0);
    assert!(packet.bytes().is_empty() && packet.bytes_mut().is_empty() && !packet.trim_front(1));

    assert!(buffers.allocate(&vec![0; frame_len_max + 1]).is_none());
    assert_eq!(free(), 63, "a frame that is too long takes no buffer");
    let all: Vec<P::Buf> = std::iter::from_fn(|| buffers.allocate(&vec![7; frame_len_max])).collect();
    assert_eq!((all.len(), free()), (63, 0));
    // Packets may be dropped on any thread, registered or not.
    thread::spawn(move || drop((all, packet))).join().unwrap();
    assert_eq!(free(), 64);
}

/// A port over net_ring between two threads, each with a cache of its own.
pub fn buffers_come_back_from_threads<P>(port: P, mut buffers: impl PacketPool<Buf = P::Buf> + 'static, eal: &Eal)
where
    P: Port<Buf: 'static, Rx: 'static, Tx: 'static>,
{
    const COUNT: usize = 50_000;
    let (_handle, mut rx, mut tx) = port.split();
    let sender = thread::spawn({
        let eal = eal.clone();
        move || {
            let _worker = eal.register_worker_thread().unwrap();
            let mut burst = Burst::new();
            let mut sent = 0;
            while sent < COUNT {
                while burst.room() > 0 && sent + burst.len() < COUNT {
                    match buffers.allocate(&frame((sent + burst.len()) as u32, 60)) {
                        Some(packet) => assert!(burst.push(packet).is_ok()),
                        None => break,
                    }
                }
                match tx[0].send(&mut burst) {
                    0 => thread::yield_now(),
                    count => sent += count,
                }
            }
        }
    });
    let receiver = thread::spawn({
        let eal = eal.clone();
        move || {
            let _worker = eal.register_worker_thread().unwrap();
            let mut burst = Burst::new();
            let mut received = 0;
            let deadline = Instant::now() + 2 * ARRIVAL_TIME_MAX;
            while received < COUNT {
                if rx[0].receive(&mut burst) == 0 {
                    assert!(Instant::now() < deadline, "{received} of {COUNT} frames arrived");
                    thread::yield_now();
                }
                for packet in burst.packets() {
                    assert_eq!(packet.bytes(), frame(received as u32, 60));
                    received += 1;
                }
                // By ones and at once in turn.
                if received % 2 == 0 { P::Buf::drop_all(&mut burst) } else { drop(burst.drain()) }
            }
        }
    });
    sender.join().unwrap();
    receiver.join().unwrap();
}
