//! Ethernet frames and captures, as inputs to damage.

use std::path::Path;
use vinet_pktops::checksum;

/// Frames of both families: TCP, UDP and ICMP, tags, options, extension headers and fragments, ARP.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let tcp = |seq: u32, payload: &[u8]| {
        let mut out = vec![0x30, 0x39, 0, 80];
        out.extend(seq.to_be_bytes());
        out.extend([0, 0, 0, 0, 0x50, 0x18, 0x20, 0, 0, 0, 0, 0]);
        out.extend(payload);
        out
    };
    let udp = |payload: &[u8]| {
        let len = (8 + payload.len() as u16).to_be_bytes();
        [&[0x30, 0x39, 0, 53, len[0], len[1], 0, 0], payload].concat()
    };
    let plain: &[u8] = &[0x08, 0x00];
    let tagged: &[u8] = &[0x81, 0x00, 0x00, 0x05, 0x08, 0x00];
    let twice: &[u8] = &[0x88, 0xa8, 0x00, 0x05, 0x81, 0x00, 0x00, 0x06, 0x08, 0x00];
    let six: &[u8] = &[0x86, 0xdd];
    let hop_by_hop = [&[17, 0, 5, 2, 0, 0, 1, 0][..], &udp(b"after an option")].concat();
    let fragment = [&[17, 0, 0, 0x09, 0, 0, 0, 7][..], b"a later piece of something".as_slice()].concat();
    vec![
        ethernet(plain, &v4(6, 0, &[], &tcp(1000, b"GET / HTTP/1.1\r\nHost: word one\r\n"))),
        ethernet(plain, &v4(6, 0, &[], &tcp(1032, b"word two and the rest"))),
        ethernet(plain, &v4(6, 0, &[], &tcp(1020, b"word two again"))),
        ethernet(tagged, &v4(17, 0, &[], &udp(b"cheap words in a datagram"))),
        ethernet(twice, &v4(17, 0, &[1, 1, 1, 0], &udp(b"with options"))),
        ethernet(plain, &v4(17, 0x2000, &[], &udp(b"a first fragment"))),
        ethernet(plain, &v4(17, 0x0010, &[], b"a later fragment")),
        ethernet(plain, &v4(1, 0, &[], &[8, 0, 0xf7, 0xff, 0, 0, 0, 0])),
        ethernet(six, &v6(6, &tcp(7, b"word one over IPv6"))),
        ethernet(six, &v6(0, &hop_by_hop)),
        ethernet(six, &v6(44, &fragment)),
        ethernet(
            &[0x08, 0x06],
            &[0, 1, 8, 0, 6, 4, 0, 1, 2, 2, 2, 2, 2, 2, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1],
        ),
    ]
}

fn ethernet(types: &[u8], packet: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], types, packet].concat()
}

/// From 198.51.100.7 to 192.0.2.1.
fn v4(protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let len = ((header_len + payload.len()) as u16).to_be_bytes();
    let fragment = fragment.to_be_bytes();
    let version_len = 0x40 | (header_len / 4) as u8;
    let mut header = vec![version_len, 0, len[0], len[1], 0, 9, fragment[0], fragment[1], 64, protocol, 0, 0];
    header.extend([198, 51, 100, 7, 192, 0, 2, 1]);
    header.extend(options);
    let sum = checksum::of(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    [&header[..], payload].concat()
}

/// From 2001:db8:1::7 to 2001:db8::1.
fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    let mut out = vec![0x60, 0, 0, 0, len[0], len[1], next, 64];
    out.extend([0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    out.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    out.extend(payload);
    out
}

/// The captures of the shared data; none, and a line that says so, where the folder is absent.
pub(crate) fn traces() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/traces");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("{} is absent: its captures are not in the corpus", folder.display());
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "pcap"))
        .filter_map(|p| std::fs::read(p).ok())
        .collect()
}
