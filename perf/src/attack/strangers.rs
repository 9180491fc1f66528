//! What can be done to a router without a certificate.

use crate::verify::chance::Chance;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt::Linger,
};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use vinet_session::identity::{Authority, Identity};
use vinet_session::message::Request;
use vinet_session::{Client, ClientEvent, Now};

/// Connections that drip at once.
const DRIPPING: usize = 200;
/// How long a router is waited for that says nothing.
const PATIENCE: Duration = Duration::from_millis(200);
/// The source addresses that attackers on loopback use.
const SOURCES: u32 = 1 << 16;

/// Connects from the `number`-th address of loopback, so that no limit per address helps. The connection is reset when it
/// is dropped, so that no port stays taken.
fn connect_from(number: u32, to: SocketAddr) -> io::Result<TcpStream> {
    let SocketAddr::V4(to) = to else { return TcpStream::connect(to) };
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    if to.ip().is_loopback() {
        let source = Ipv4Addr::from_bits(0x7f01_0001 + number % SOURCES);
        bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(source, 0)))?;
    }
    setsockopt(&fd, Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    connect(fd.as_raw_fd(), &SockaddrIn::from(to))?;
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connects, sends `bytes`, may wait for a word of the router, and goes; again and again.
pub fn send_and_go(to: SocketAddr, bytes: &[u8], waits: bool, goes_on: impl Fn() -> bool) -> u64 {
    let mut tries = 0;
    while goes_on() {
        tries += 1;
        // A router that refuses is what an attacker is used to.
        let _ = connect_from(tries as u32, to).and_then(|mut stream| {
            stream.write_all(bytes)?;
            if waits { stream.read(&mut [0; 4096]).map(|_| ()) } else { Ok(()) }
        });
    }
    tries
}

/// Connects and sends bytes by chance, some of them after a length that a frame may have.
pub fn rubbish(to: SocketAddr, seed: u64, goes_on: impl Fn() -> bool) -> u64 {
    let (mut chance, mut tries) = (Chance::new(seed), 0);
    while goes_on() {
        tries += 1;
        let mut bytes: Vec<u8> = (0..chance.below(3000)).map(|_| chance.bits() as u8).collect();
        if chance.one_in(2) && bytes.len() > 2 {
            let len = (bytes.len() as u16 - 2).to_be_bytes();
            bytes[..2].copy_from_slice(&len);
        }
        let _ = connect_from(tries as u32, to).and_then(|mut stream| stream.write_all(&bytes));
    }
    tries
}

/// Holds many connections, each of which sends one byte of `hello` after the other; how many bytes were sent.
pub fn drip(to: SocketAddr, hello: &[u8], goes_on: impl Fn() -> bool) -> u64 {
    let mut open: Vec<(TcpStream, usize)> = Vec::new();
    let (mut sent, mut sources) = (0, 0);
    while goes_on() {
        while open.len() < DRIPPING && goes_on() {
            sources += 1;
            let Ok(stream) = connect_from(sources, to) else { break };
            open.push((stream, 0));
        }
        open.retain_mut(|(stream, at)| {
            let byte = hello[*at % hello.len()];
            *at += 1;
            sent += 1;
            // The last byte of the first message is kept back: it never ends.
            *at < hello.len() && stream.write_all(&[byte]).is_ok()
        });
        std::thread::sleep(Duration::from_millis(1));
    }
    sent
}

/// All that a client sends in a session in which `request` is answered.
pub fn record(
    to: SocketAddr,
    identity: &Arc<Identity>,
    authority: &Arc<Authority>,
    request: &Request,
) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let origin = std::time::Instant::now();
    let now = || Now::read(origin);
    let mut client = Client::new(Arc::clone(identity), Arc::clone(authority), None, now()).map_err(io::Error::other)?;
    let (mut recording, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match client.poll(now()).map_err(io::Error::other)? {
            Some(ClientEvent::Established(_)) => {
                client.send(request, now()).map_err(io::Error::other)?;
            }
            Some(ClientEvent::Reply { .. }) => return Ok(recording),
            None => {}
        }
        recording.extend_from_slice(client.transmit());
        stream.write_all(client.transmit())?;
        client.transmitted(client.transmit().len());
        let room = client.room().min(buffer.len());
        let len = stream.read(&mut buffer[..room])?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        client.receive(&buffer[..len]);
    }
}

/// The first frame of a recording: two bytes of length, and as many more.
pub fn first_frame(recording: &[u8]) -> Vec<u8> {
    let len = recording.first_chunk::<2>().map_or(0, |len| usize::from(u16::from_be_bytes(*len)));
    recording[..recording.len().min(2 + len)].to_vec()
}
