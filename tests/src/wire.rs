//! A wire of the stories' own between two hosts: it sees every frame, and can lose some.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, recv, send, socket};

use crate::host::Host;

/// How long the wire's thread sleeps when no frame has come.
const IDLE: Duration = Duration::from_micros(100);

/// What the wire does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It passes unseen.
    Pass,
    /// It passes, and is kept to be looked at.
    Keep,
    /// It is lost, and kept.
    Lose,
}

/// Frames with their fates, in order.
type Kept = Arc<Mutex<Vec<(Fate, Vec<u8>)>>>;

/// A wire. Dropping it cuts it.
pub struct Wire {
    kept: Kept,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Where its two ends are.
    _middle: Host,
}

impl Wire {
    /// Joins an interface of one host with one of another. `fate` decides for each frame.
    pub fn join(
        (one, one_interface): (&Host, &str),
        (other, other_interface): (&Host, &str),
        mut fate: impl FnMut(&[u8]) -> Fate + Send + 'static,
    ) -> Wire {
        let middle = Host::new("wire");
        // The middle only passes frames on; it has nothing to say itself.
        middle.sysctl("net/ipv6/conf/default/disable_ipv6", "1");
        one.join(one_interface, &middle, "one");
        other.join(other_interface, &middle, "other");
        let ends = [open(&middle, "one"), open(&middle, "other")];
        let (kept, stop): (Kept, _) = (Kept::default(), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (kept, stop) = (Arc::clone(&kept), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    if !pass(&ends, &kept, &mut fate) {
                        std::thread::sleep(IDLE);
                    }
                }
            }
        });
        Wire { kept, stop, thread: Some(thread), _middle: middle }
    }

    /// The frames that were kept by now with that fate.
    pub fn kept(&self, fate: Fate) -> Vec<Vec<u8>> {
        let kept = self.kept.lock().expect("the wire's thread does not panic");
        kept.iter().filter(|(of, _)| *of == fate).map(|(_, frame)| frame.clone()).collect()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A packet socket on an interface.
fn open(host: &Host, interface: &str) -> OwnedFd {
    host.inside(|| {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).expect("a packet socket");
        let link = getifaddrs()
            .expect("the interfaces can be listed")
            .filter(|i| i.interface_name == interface)
            .find_map(|i| i.address?.as_link_addr().copied())
            .unwrap_or_else(|| panic!("there is no interface {interface}"));
        debug_assert_eq!(link.family(), Some(AddressFamily::Packet));
        nix::sys::socket::bind(socket.as_raw_fd(), &link).expect("a packet socket can be bound to an interface");
        socket
    })
}

/// Passes on the frames that have come; tells whether there were any.
fn pass(ends: &[OwnedFd; 2], kept: &Kept, fate: &mut impl FnMut(&[u8]) -> Fate) -> bool {
    let mut frame = [0; 2048];
    let mut moved = false;
    for (from, to) in [(0, 1), (1, 0)] {
        while let Ok(len) = recv(ends[from].as_raw_fd(), &mut frame, MsgFlags::empty()) {
            moved = true;
            let frame = &frame[..len];
            let decided = fate(frame);
            if decided != Fate::Pass {
                kept.lock().expect("nobody panics with it").push((decided, frame.to_vec()));
            }
            if decided != Fate::Lose {
                let _ = send(ends[to].as_raw_fd(), frame, MsgFlags::empty());
            }
        }
    }
    moved
}
