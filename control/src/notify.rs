//! What systemd is told: ready, reloading, stopping, and that the router is alive (sd_notify(3), without its library).
//!
//! One datagram to the socket that the environment names; without one nothing is said. Sending never waits, and that it
//! fails is no failure of the router. The watchdog is fed by the control core's tick, and not while a worker is silent:
//! so systemd's restart is for a router whose loop or whose workers hang.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// The way to the service manager.
#[derive(Debug, Default)]
pub struct Notifier {
    way: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear.
    watchdog: Option<Duration>,
    next: Option<Instant>,
}

impl Notifier {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    #[must_use]
    pub fn from_environment() -> Notifier {
        let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Notifier::default() };
        let ours = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let limit = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok()).filter(|_| ours);
        Notifier::new(&socket, limit.map(Duration::from_micros))
    }

    /// To the socket of this name, a path or `@` and an abstract name; `watchdog` is the time after which silence is death.
    #[must_use]
    pub fn new(socket: &OsStr, watchdog: Option<Duration>) -> Notifier {
        let address = match socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(socket),
        };
        let way = address.and_then(|address| {
            let datagram = UnixDatagram::unbound()?;
            datagram.set_nonblocking(true)?;
            Ok((datagram, address))
        });
        // Half of the limit, as sd_watchdog_enabled(3) advises.
        Notifier { way: way.ok(), watchdog: watchdog.map(|limit| limit / 2), next: None }
    }

    fn say(&self, words: &str) {
        if let Some((datagram, address)) = &self.way {
            // A service manager that does not listen is no reason to stop.
            let _ = datagram.send_to_addr(words.as_bytes(), address);
        }
    }

    /// Says that the router serves.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={}", status.replace('\n', " ")));
    }

    /// Says that the configuration is read again; [`Notifier::ready`] ends it.
    pub fn reloading(&self) {
        let since_boot = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", since_boot.as_micros()));
    }

    /// Says that the router ends.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// Says that the router is alive, where it is time to.
    pub fn alive(&mut self, now: Instant) {
        let Some(watchdog) = self.watchdog else { return };
        if self.next.is_none_or(|next| now >= next) {
            self.next = Some(now + watchdog);
            self.say("WATCHDOG=1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 1024];
        let len = listener.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..len]).into_owned())
    }

    fn tell_everything(notifier: &mut Notifier, listener: &UnixDatagram) {
        listener.set_nonblocking(true).unwrap();
        notifier.ready("2 ports\nEVIL=1");
        assert_eq!(heard(listener).unwrap(), "READY=1\nSTATUS=2 ports EVIL=1");
        notifier.reloading();
        let said = heard(listener).unwrap();
        let time = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{said}"));
        assert!(time.parse::<u64>().unwrap() > 0);
        notifier.stopping();
        assert_eq!(heard(listener).unwrap(), "STOPPING=1");
        let start = Instant::now();
        let told: Vec<bool> = [0, 4, 5, 6, 11]
            .into_iter()
            .map(|second| {
                notifier.alive(start + Duration::from_secs(second));
                heard(listener).is_some_and(|said| said == "WATCHDOG=1")
            })
            .collect();
        assert_eq!(told, [true, false, true, false, true], "every half of ten seconds");
    }

    #[test]
    fn the_service_manager_hears_at_a_path_and_at_an_abstract_name() {
        let limit = Some(Duration::from_secs(10));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        tell_everything(&mut Notifier::new(path.as_os_str(), limit), &listener);
        let name = format!("vinet-notify-{}", std::process::id());
        let listener = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        tell_everything(&mut Notifier::new(OsStr::new(&format!("@{name}")), limit), &listener);
    }

    #[test]
    fn without_a_listener_nothing_happens() {
        let mut notifier = Notifier::new(OsStr::new("/nonexistent/notify"), Some(Duration::from_secs(1)));
        notifier.ready("");
        notifier.alive(Instant::now());
        Notifier::new(OsStr::new(&"x".repeat(500)), None).stopping();
        Notifier::default().reloading();
    }
}
