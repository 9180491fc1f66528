//! Both ends of the session and the messages inside it, with broken bytes at every stage: before, during and after the handshake, and
//! below the encryption. Not covered: what a router does with a well-formed request (control's own tests), and timing.

use std::sync::Arc;

use vinet_fuzz::{Random, attack};
use vinet_session::message::{decode_reply, decode_request, encode_reply, encode_request};
use vinet_session::{
    AuthorityKey, Certificate, Client, ClientEvent, Identity, Now, Rejection, Reply, Request, Server, ServerEvent,
    Subject, Validity, parse_principal,
};
use vinet_trusted::policy::PrincipalKind;

const NOW: Now = Now { wall_s: 1_800_000_000, mono_ms: 1000 };

struct Keys {
    authority: Arc<vinet_session::Authority>,
    user: Arc<Identity>,
    router: Arc<Identity>,
}

fn keys() -> Keys {
    let authority = AuthorityKey::generate("fuzz").expect("an authority");
    let validity = Validity { not_before_s: NOW.wall_s - 10, not_after_s: NOW.wall_s + 1_000_000 };
    let issue = |subject| Arc::new(authority.issue_identity(subject, validity).expect("an identity"));
    let principal = parse_principal("192.0.2.2").expect("a principal");
    let address = std::net::IpAddr::from([192, 0, 2, 1]).into();
    Keys {
        user: issue(Subject::Owner(principal)),
        router: issue(Subject::Router { name: "edge1".to_string(), addrs: vec![address] }),
        authority: Arc::new(authority.authority()),
    }
}

fn client(keys: &Keys) -> Client {
    Client::new(Arc::clone(&keys.user), Arc::clone(&keys.authority), None, NOW).expect("a client")
}

fn server(keys: &Keys) -> Server {
    Server::new(Arc::clone(&keys.router), Arc::clone(&keys.authority), NOW).expect("a server")
}

/// Takes what an end wants to send.
macro_rules! sent {
    ($end:expr) => {{
        let bytes = $end.transmit().to_vec();
        $end.transmitted(bytes.len());
        bytes
    }};
}

/// Gives an end bytes as it has room for them, in pieces, and lets it work on them. Returns its events, and whether it still lives.
macro_rules! given {
    ($end:expr, $bytes:expr, $random:expr) => {{
        let mut rest: &[u8] = $bytes;
        let mut events = Vec::new();
        let mut alive = true;
        while alive && !rest.is_empty() {
            let piece = (1 + $random.below(700)).min(rest.len());
            let taken = $end.receive(&rest[..piece]);
            rest = &rest[taken..];
            loop {
                match $end.poll(NOW) {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(_) => {
                        alive = false;
                        break;
                    }
                }
            }
            // An end that takes nothing and says nothing would hold its peer for ever.
            assert!(taken > 0 || !alive || $end.room() > 0 || !$end.transmit().is_empty(), "an end is stuck");
        }
        (events, alive)
    }};
}

/// The handshake of a client and a server, and the bytes that crossed: from the client, from the server, and so on.
fn established(keys: &Keys, random: &mut Random) -> (Client, Server, Vec<Vec<u8>>) {
    let (mut client, mut server) = (client(keys), server(keys));
    let mut crossed = Vec::new();
    for _ in 0..4 {
        let bytes = sent!(client);
        assert!(given!(server, &bytes, random).1, "the server lives");
        crossed.push(bytes);
        let bytes = sent!(server);
        assert!(given!(client, &bytes, random).1, "the client lives");
        crossed.push(bytes);
    }
    assert!(client.is_established() && server.is_established());
    crossed.retain(|bytes| !bytes.is_empty());
    (client, server, crossed)
}

fn requests() -> Vec<Vec<u8>> {
    let kinds = [PrincipalKind::EndUser, PrincipalKind::EdgeRouter].map(|kind| Request::GetPolicy { kind });
    let others = [Request::List, Request::Show { instance: 7 }];
    kinds.iter().chain(&others).map(|request| encode_request(1, request)).collect()
}

#[test]
fn a_server_lives_through_a_broken_handshake_or_ends_it() {
    let mut random = Random::of_this_run();
    let keys = keys();
    let (_, _, crossed) = established(&keys, &mut random);
    attack(&mut random, &crossed, |random, bytes| {
        let mut server = server(&keys);
        // Half of the time the first message is whole, so that the breakage meets the second.
        if random.below(2) == 0 {
            let first = sent!(client(&keys));
            given!(server, &first, random);
        }
        let (events, alive) = given!(server, bytes, random);
        assert!(events.iter().all(|e| !matches!(e, ServerEvent::Request { .. })), "a request before a handshake");
        assert!(!server.is_established(), "nobody proved a key, alive: {alive}");
    });
}

#[test]
fn a_client_lives_through_a_broken_handshake_or_ends_it() {
    let mut random = Random::of_this_run();
    let keys = keys();
    let (_, _, crossed) = established(&keys, &mut random);
    attack(&mut random, &crossed, |random, bytes| {
        let mut client = client(&keys);
        let (events, _) = given!(client, bytes, random);
        assert!(events.iter().all(|e| !matches!(e, ClientEvent::Reply { .. })), "a reply before a handshake");
        assert!(!client.is_established(), "nobody proved to be a router");
    });
}

#[test]
fn a_broken_frame_ends_the_session_before_a_request_is_seen() {
    let mut random = Random::of_this_run();
    let keys = keys();
    attack(&mut random, &[vec![0; 16]], |random, _| {
        let (mut client, mut server, _) = established(&keys, random);
        client.send(&Request::List, NOW).expect("an established client sends");
        let whole = sent!(client);
        let broken = random.broken(std::slice::from_ref(&whole));
        if broken.starts_with(&whole) {
            return;
        }
        let (events, _) = given!(server, &broken, random);
        assert!(events.is_empty(), "a changed frame was taken for a request: {broken:02x?}");
    });
}

#[test]
fn broken_messages_below_the_encryption_are_refused_or_are_messages() {
    let mut random = Random::of_this_run();
    let mut whole = requests();
    whole.push(encode_reply(3, &Reply::Rejected(Rejection::new("not-proven", "the reason", Some(2)))));
    whole.push(encode_reply(4, &Reply::List(Vec::new())));
    let mut messages = 0u64;
    attack(&mut random, &whole, |_, bytes| {
        if let Ok((id, request)) = decode_request(bytes) {
            messages += 1;
            assert_eq!(encode_request(id, &request), bytes, "canonical: a request has one encoding");
        }
        if let Ok((id, reply)) = decode_reply(bytes) {
            messages += 1;
            assert_eq!(encode_reply(id, &reply), bytes, "canonical: a reply has one encoding");
        }
    });
    assert!(messages > 0, "no mutation was a message: the attack is too coarse to mean anything");
}

#[test]
fn a_broken_certificate_proves_nothing() {
    let mut random = Random::of_this_run();
    let keys = keys();
    let whole = vec![keys.user.certificate().encode(), keys.router.certificate().encode()];
    attack(&mut random, &whole, |_, bytes| {
        if whole.iter().any(|w| w == bytes) {
            return;
        }
        if let Ok(certificate) = Certificate::decode(bytes) {
            assert!(keys.authority.owner(&certificate, NOW.wall_s).is_err(), "a changed certificate binds an owner");
            assert!(keys.authority.router(&certificate, NOW.wall_s).is_err(), "a changed certificate binds a router");
        }
    });
}
