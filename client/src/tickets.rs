//! Tickets of earlier sessions: what lets the next command ask without a handshake.
//!
//! One small file for each router and owner, which only its user can read: it holds the session's secret. A ticket is
//! taken out of its place while it is used, so that two commands at once never count its requests twice; the other makes a
//! handshake. Whatever is wrong with a ticket costs a handshake and nothing more.

use crate::file;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use vinet_session::Ticket;
use vinet_session::identity::{Authority, PublicKey};

const BYTES_MAX: u64 = 4096;

/// The folder of the tickets.
#[derive(Clone, Debug)]
pub struct Tickets {
    dir: PathBuf,
}

impl Tickets {
    /// The tickets in the folder `dir`, which is made with the first.
    #[must_use]
    pub const fn at(dir: PathBuf) -> Tickets {
        Tickets { dir }
    }

    fn path(&self, router: &str, owner: &PublicKey) -> PathBuf {
        let mut name = format!("ticket-{owner}-");
        // A host's name may be anything that the user typed; what is not plain is written as its number.
        for byte in router.bytes().take(64) {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' => name.push(char::from(byte)),
                _ => name.push_str(&format!("_{byte:02x}")),
            }
        }
        self.dir.join(name)
    }

    /// Takes the ticket of `owner` for `router` (as it was typed) out of its place, where there is one that may still be good at
    /// the second `now_s`.
    #[must_use]
    pub fn take(&self, router: &str, owner: &PublicKey, authority: &Authority, now_s: u64) -> Option<Ticket> {
        let path = self.path(router, owner);
        // Under a name of this process alone it is nobody else's.
        let taken = path.with_extension(format!("taken-{}", std::process::id()));
        fs::rename(&path, &taken).ok()?;
        let bytes = file::read(&taken, BYTES_MAX);
        let _ = fs::remove_file(&taken);
        let ticket = Ticket::decode(&bytes.ok()?, authority, now_s).ok()?;
        (ticket.owner() == *owner).then_some(ticket)
    }

    /// Puts a ticket for `router` in its place.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn keep(&self, router: &str, ticket: &Ticket) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let path = self.path(router, &ticket.owner());
        let new = path.with_extension(format!("new-{}", std::process::id()));
        let written = write_secret(&new, &ticket.encode()).and_then(|()| fs::rename(&new, &path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }
}

/// Writes a new file that its owner alone may read.
fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let _ = fs::remove_file(path);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use vinet_session::identity::{AuthorityKey, Subject, Validity, parse_principal};
    use vinet_session::message::{Reply, Request};
    use vinet_session::{Client, ClientEvent, Door, Now, Server};

    const NOW: Now = Now { wall_s: 1_800_000_000, mono_ms: 0 };

    fn ticket() -> (Ticket, Authority) {
        let key = AuthorityKey::generate("bench").unwrap();
        let valid = Validity::starting(NOW.wall_s, 10_000);
        let issue = |subject| Arc::new(key.issue_identity(subject, valid).unwrap());
        let router = issue(Subject::Router { name: "edge-1".to_owned(), addrs: Vec::new() });
        let owner = issue(Subject::Owner(parse_principal("192.0.2.7").unwrap()));
        let authority = Arc::new(key.authority());
        let door = Door::new(router, authority.clone()).unwrap().with_sealing(NOW).unwrap();
        let mut client = Client::new(owner, authority.clone(), None, NOW).unwrap();
        let mut server = Server::at(Arc::new(door), NOW);
        loop {
            let (up, down) = (client.transmit().to_vec(), server.transmit().to_vec());
            client.transmitted(up.len());
            server.transmitted(down.len());
            server.receive(&up);
            client.receive(&down);
            assert_eq!(
                server.poll(NOW).map(|event| event.is_some() && event != server.peer().map(established)),
                Ok(false)
            );
            match client.poll(NOW).unwrap() {
                Some(ClientEvent::Established(_)) => drop(client.send(&Request::Ticket, NOW).unwrap()),
                Some(ClientEvent::Reply { reply: Reply::Ticket(grant), .. }) => {
                    return (client.keep(&grant, NOW).unwrap(), key.authority());
                }
                Some(other) => panic!("{other:?}"),
                None => {}
            }
        }
    }

    fn established(owner: &vinet_session::Ownership) -> vinet_session::ServerEvent {
        vinet_session::ServerEvent::Established(*owner)
    }

    #[test]
    fn a_ticket_is_its_users_and_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let tickets = Tickets::at(folder.path().join("state"));
        let (ticket, authority) = ticket();
        let owner = ticket.owner();
        assert_eq!(tickets.take("edge-1:7400", &owner, &authority, NOW.wall_s), None);
        tickets.keep("edge-1:7400", &ticket).unwrap();
        let files =
            || fs::read_dir(folder.path().join("state")).unwrap().map(|f| f.unwrap().path()).collect::<Vec<_>>();
        let [file] = &files()[..] else { panic!("{:?}", files()) };
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        // It is for this router and this owner.
        assert_eq!(tickets.take("edge-2:7400", &owner, &authority, NOW.wall_s), None);
        assert_eq!(tickets.take("edge-1:7400", &PublicKey([0; 32]), &authority, NOW.wall_s), None);
        assert_eq!(tickets.take("edge-1:7400", &owner, &authority, NOW.wall_s), Some(ticket.clone()));
        assert_eq!(tickets.take("edge-1:7400", &owner, &authority, NOW.wall_s), None, "somebody uses it");
        assert!(files().is_empty());
        // What is too old or damaged goes away.
        tickets.keep("edge-1:7400", &ticket).unwrap();
        assert_eq!(tickets.take("edge-1:7400", &owner, &authority, NOW.wall_s + 9_000), None);
        fs::write(tickets.path("edge-1:7400", &owner), b"rubbish").unwrap();
        assert_eq!(tickets.take("edge-1:7400", &owner, &authority, NOW.wall_s), None);
        assert!(files().is_empty());
    }

    #[test]
    fn no_name_of_a_router_leaves_the_folder() {
        let tickets = Tickets::at(PathBuf::from("/state"));
        for name in ["../../etc/passwd", "/etc/passwd", "a\0b", &"x/".repeat(500), "A:1"] {
            let path = tickets.path(name, &PublicKey([1; 32]));
            assert_eq!(path.parent(), Some(Path::new("/state")), "{name}");
            assert!(path.file_name().unwrap().len() < 255);
        }
        assert_ne!(tickets.path("a_b", &PublicKey([1; 32])), tickets.path("a:b", &PublicKey([1; 32])));
    }
}
