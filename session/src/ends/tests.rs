//! Two ends against each other, and against liars, thieves, wires that cut and flip, and clocks.

use super::*;
use crate::cbor::{from_bytes, to_bytes};
use crate::digest::Domain;
use crate::error::Step as HandshakeStep;
use crate::handshake::{Credentials, NOISE, PROLOGUE, binding};
use crate::identity::{AuthorityKey, CertificateFault, Subject, Validity, parse_principal};
use crate::message::{Terms, Upload};
use crate::signed::Class;
use crate::testing::{NOW_S, Random, Testbed, at_ms, router_named, seed};

/// Carries what waits at each end to the other, cut into pieces of at most `cut` bytes, until nothing moves; what
/// happened at each end, up to its first error.
struct Wire {
    client_events: Vec<ClientEvent>,
    server_events: Vec<ServerEvent>,
    client_error: Option<SessionError>,
    server_error: Option<SessionError>,
}

impl Wire {
    fn run(client: &mut Client, server: &mut Server, now: Now, mut cut: impl FnMut() -> usize) -> Wire {
        let mut wire =
            Wire { client_events: Vec::new(), server_events: Vec::new(), client_error: None, server_error: None };
        loop {
            let up = client.transmit().len().min(cut()).min(server.room());
            let piece = client.transmit()[..up].to_vec();
            client.transmitted(up);
            assert_eq!(server.receive(&piece), up);
            let down = server.transmit().len().min(cut()).min(client.room());
            let piece = server.transmit()[..down].to_vec();
            server.transmitted(down);
            assert_eq!(client.receive(&piece), down);
            while wire.server_error.is_none() {
                match server.poll(now) {
                    Ok(Some(event)) => wire.server_events.push(event),
                    Ok(None) => break,
                    Err(error) => wire.server_error = Some(error),
                }
            }
            while wire.client_error.is_none() {
                match client.poll(now) {
                    Ok(Some(event)) => wire.client_events.push(event),
                    Ok(None) => break,
                    Err(error) => wire.client_error = Some(error),
                }
            }
            let stuck = |bytes: &[u8], room: usize| bytes.is_empty() || room == 0;
            if stuck(client.transmit(), server.room()) && stuck(server.transmit(), client.room()) {
                return wire;
            }
        }
    }
}

fn whole() -> impl FnMut() -> usize {
    || usize::MAX
}

fn established(testbed: &Testbed) -> (Client, Server) {
    let (mut client, mut server) = (testbed.client(), testbed.server());
    let wire = Wire::run(&mut client, &mut server, at_ms(0), whole());
    assert_eq!((wire.client_error, wire.server_error), (None, None));
    assert!(client.is_established() && server.is_established());
    (client, server)
}

fn large_upload(testbed: &Testbed) -> Request {
    let terms = Terms {
        router: testbed.router.public(),
        policy_id: [1; 32],
        lemma_root: crate::testing::LEMMA_ROOT,
        program: vec![2; 200_000],
        proof: Some(vec![3; 400_000]),
        principal: testbed.owner.principal().unwrap(),
        class: Class::Content,
        complexity: 4,
        cost: 5,
        lifetime_s: 6,
        packet_rate: 7,
        payment: 0,
        quote: None,
        monitor: false,
        nonce: [8; 16],
        expiry_s: NOW_S + 9,
    };
    Request::Upload(Box::new(Upload::sign(terms, &testbed.owner)))
}

#[test]
fn both_ends_learn_who_the_other_is_however_the_bytes_are_cut() {
    let testbed = Testbed::new();
    let seed = seed();
    let mut random = Random::new(seed);
    let upload = large_upload(&testbed);
    for round in 0..20 {
        let (mut client, mut server) = (testbed.client(), testbed.server());
        let largest = [1, 3, 40, 5000, 100_000][round % 5];
        let wire = Wire::run(&mut client, &mut server, at_ms(0), || 1 + random.below(largest) as usize);
        let [ClientEvent::Established(router)] = &wire.client_events[..] else { panic!("{:?}", wire.client_error) };
        assert_eq!((router.name(), router.id()), ("edge-1", testbed.router.public()));
        let [ServerEvent::Established(owner)] = &wire.server_events[..] else { panic!("{:?}", wire.server_error) };
        assert_eq!(owner.principal(), parse_principal("192.0.2.7").unwrap());
        assert_eq!(server.peer(), Some(owner));
        if largest < 1000 && round >= 5 {
            continue;
        }
        // Requests follow each other without waiting, and replies find their request.
        let first = client.send(&Request::List, at_ms(1)).unwrap();
        let second = client.send(&upload, at_ms(1)).unwrap();
        let wire = Wire::run(&mut client, &mut server, at_ms(1), || 1 + random.below(largest.max(3000)) as usize);
        let ids = |events: &[ServerEvent]| -> Vec<(u32, bool)> {
            events
                .iter()
                .map(|event| match event {
                    ServerEvent::Request { id, request } => (*id, *request == upload),
                    ServerEvent::Established(_) => panic!("established twice"),
                })
                .collect()
        };
        assert_eq!(ids(&wire.server_events), [(first, false), (second, true)], "seed {seed}");
        let rejection = Reply::Rejected(Rejection::new("no", "because", Some(3)));
        server.reply(second, &rejection, at_ms(2)).unwrap();
        server.reply(first, &Reply::List(Vec::new()), at_ms(2)).unwrap();
        let wire = Wire::run(&mut client, &mut server, at_ms(2), || 1 + random.below(largest) as usize);
        assert_eq!(
            wire.client_events,
            [
                ClientEvent::Reply { id: second, reply: rejection },
                ClientEvent::Reply { id: first, reply: Reply::List(Vec::new()) }
            ]
        );
    }
}

#[test]
fn certificates_that_do_not_stand_end_the_handshake_at_either_end() {
    let testbed = Testbed::new();
    let stranger = AuthorityKey::generate("testbed").unwrap();
    let owner = || Subject::Owner(parse_principal("192.0.2.7").unwrap());
    let expired = Validity { not_before_s: 0, not_after_s: NOW_S - 1 };
    let valid = Validity::starting(NOW_S, 10);
    let fault = |error: Option<SessionError>| match error {
        Some(SessionError::Certificate(fault)) => fault,
        other => panic!("{other:?}"),
    };
    for (issuer, validity) in [(&stranger, valid), (&testbed.authority_key, expired)] {
        let identity = Arc::new(issuer.issue_identity(owner(), validity).unwrap());
        let mut client = Client::new(identity, testbed.authority.clone(), None, at_ms(0)).unwrap();
        let wire = Wire::run(&mut client, &mut testbed.server(), at_ms(0), whole());
        let found = fault(wire.server_error);
        match validity == expired {
            true => assert!(matches!(found, CertificateFault::Expired { .. }), "{found}"),
            false => assert!(matches!(found, CertificateFault::WrongAuthority { .. }), "{found}"),
        }
        // The client is told why, in secret.
        let Some(SessionError::Refused(why)) = wire.client_error else { panic!("{:?}", wire.client_error) };
        assert!(why.contains(&found.to_string()), "{why}");
        assert!(wire.server_events.is_empty());

        let identity = Arc::new(issuer.issue_identity(router_named("edge-1"), validity).unwrap());
        let mut server = Server::new(identity, testbed.authority.clone(), at_ms(0)).unwrap();
        let wire = Wire::run(&mut testbed.client(), &mut server, at_ms(0), whole());
        fault(wire.client_error);
        assert!(wire.client_events.is_empty() && wire.server_events.is_empty());
    }
}

#[test]
fn a_certificate_without_its_key_proves_nothing() {
    let testbed = Testbed::new();
    let valid = Validity::starting(NOW_S, 10);
    let subject = Subject::Owner(parse_principal("203.0.113.1").unwrap());
    let other_owner = testbed.authority_key.issue_identity(subject, valid).unwrap();
    let other_router = testbed.authority_key.issue_identity(router_named("edge-2"), valid).unwrap();

    let thief = Testbed::mixed(&other_owner, &testbed.owner);
    let mut client = Client::new(thief, testbed.authority.clone(), None, at_ms(0)).unwrap();
    let wire = Wire::run(&mut client, &mut testbed.server(), at_ms(0), whole());
    assert_eq!(wire.server_error, Some(SessionError::NotItsKey(HandshakeStep::Owner)));
    assert!(wire.server_events.is_empty());

    let thief = Testbed::mixed(&other_router, &testbed.router);
    let mut server = Server::new(thief, testbed.authority.clone(), at_ms(0)).unwrap();
    let wire = Wire::run(&mut testbed.client(), &mut server, at_ms(0), whole());
    assert_eq!(wire.client_error, Some(SessionError::NotItsKey(HandshakeStep::Router)));
}

#[test]
fn roles_and_names_are_not_mixed_up() {
    let testbed = Testbed::new();
    let refused = |client: Result<Client, SessionError>| matches!(client, Err(SessionError::OwnIdentity(_)));
    assert!(refused(Client::new(testbed.router.clone(), testbed.authority.clone(), None, at_ms(0))));
    assert!(matches!(
        Server::new(testbed.owner.clone(), testbed.authority.clone(), at_ms(0)),
        Err(SessionError::OwnIdentity(_))
    ));
    let name = Some("edge-2".to_owned());
    let mut client = Client::new(testbed.owner.clone(), testbed.authority.clone(), name, at_ms(0)).unwrap();
    let wire = Wire::run(&mut client, &mut testbed.server(), at_ms(0), whole());
    assert_eq!(
        wire.client_error,
        Some(SessionError::WrongRouter { expected: "edge-2".into(), found: "edge-1".into() })
    );
    assert!(wire.server_events.is_empty(), "the owner does not even say who it is");
    // An owner that answers as a router: its handshake is signed and its certificate stands, for another role.
    let mut liar = RawServer::new(testbed.owner.clone());
    let mut client = testbed.client();
    let reply = liar.answer(&frame_of(client.transmit()));
    push(&mut client, &reply);
    assert!(matches!(client.poll(at_ms(0)), Err(SessionError::WrongRole { .. } | SessionError::NotItsKey(_))));
}

/// An end made of bare Noise, for attacks that the honest ends cannot make.
struct RawServer {
    noise: snow::HandshakeState,
    public: Vec<u8>,
    identity: Arc<Identity>,
}

fn raw(initiator: bool) -> (snow::HandshakeState, Vec<u8>) {
    let builder = || snow::Builder::new(NOISE.parse().unwrap()).prologue(PROLOGUE).unwrap();
    let keys = builder().generate_keypair().unwrap();
    let builder = builder().local_private_key(&keys.private).unwrap();
    let noise = if initiator { builder.build_initiator() } else { builder.build_responder() };
    (noise.unwrap(), keys.public)
}

fn write(noise: &mut snow::HandshakeState, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 4096];
    let len = noise.write_message(payload, &mut message).unwrap();
    message.truncate(len);
    message
}

fn read(noise: &mut snow::HandshakeState, message: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; 4096];
    let len = noise.read_message(message, &mut payload).unwrap();
    payload.truncate(len);
    payload
}

impl RawServer {
    fn new(identity: Arc<Identity>) -> RawServer {
        let (noise, public) = raw(false);
        RawServer { noise, public, identity }
    }
    fn answer(&mut self, hello: &[u8]) -> Vec<u8> {
        read(&mut self.noise, hello);
        let certificate = self.identity.certificate().encode();
        let hash = self.noise.get_handshake_hash().to_vec();
        let payload = credentials(Domain::RouterHandshake, &hash, &self.public, &certificate, &self.identity);
        write(&mut self.noise, &payload)
    }
}

/// The message of the one frame in `bytes`.
fn frame_of(bytes: &[u8]) -> Vec<u8> {
    bytes[LENGTH_BYTES..].to_vec()
}

fn push(client: &mut Client, message: &[u8]) {
    let mut framed = Vec::new();
    push_frame(&mut framed, message);
    assert_eq!(client.receive(&framed), framed.len());
}

#[test]
fn an_owners_handshake_cannot_be_relayed_to_another_router() {
    let testbed = Testbed::new();
    let valid = Validity::starting(NOW_S, 10);
    // The liar is a lawful router of the same testbed, to which the owner speaks of its own free will.
    let liar = Arc::new(testbed.authority_key.issue_identity(router_named("edge-1"), valid).unwrap());
    let mut client = testbed.client();
    let mut towards_owner = RawServer::new(liar);
    let reply = towards_owner.answer(&frame_of(client.transmit()));
    client.transmitted(usize::MAX);
    push(&mut client, &reply);
    assert!(matches!(client.poll(at_ms(0)), Ok(Some(ClientEvent::Established(_)))));
    let stolen = read(&mut towards_owner.noise, &frame_of(client.transmit()));
    assert!(from_bytes::<Credentials>(&stolen).is_ok());

    let mut server = testbed.server();
    let (mut towards_router, _) = raw(true);
    let mut framed = Vec::new();
    push_frame(&mut framed, &write(&mut towards_router, &[]));
    server.receive(&framed);
    assert_eq!(server.poll(at_ms(0)), Ok(None));
    read(&mut towards_router, &frame_of(server.transmit()));
    framed.clear();
    push_frame(&mut framed, &write(&mut towards_router, &stolen));
    server.receive(&framed);
    assert_eq!(server.poll(at_ms(0)), Err(SessionError::NotItsKey(HandshakeStep::Owner)));
}

#[test]
fn a_routers_handshake_cannot_be_relayed_to_another_client() {
    let testbed = Testbed::new();
    let mut server = testbed.server();
    let (mut towards_router, _) = raw(true);
    let mut framed = Vec::new();
    push_frame(&mut framed, &write(&mut towards_router, &[]));
    server.receive(&framed);
    server.poll(at_ms(0)).unwrap();
    let stolen = read(&mut towards_router, &frame_of(server.transmit()));

    let mut client = testbed.client();
    let (mut towards_owner, _) = raw(false);
    read(&mut towards_owner, &frame_of(client.transmit()));
    push(&mut client, &write(&mut towards_owner, &stolen));
    assert_eq!(client.poll(at_ms(0)), Err(SessionError::NotItsKey(HandshakeStep::Router)));
    assert!(!client.is_established());
}

/// Credentials of `identity`, signed over the parts given.
fn credentials(domain: Domain, hash: &[u8], public: &[u8], certificate: &[u8], identity: &Identity) -> Vec<u8> {
    let signature = identity.sign(&binding(domain, hash, public, certificate));
    to_bytes(&Credentials { certificate: identity.certificate().encode(), signature })
}

/// What a router says of a client that signs with its own key what `sign` makes of the handshake hash, the Noise static
/// key, and its certificate.
fn server_given(
    testbed: &Testbed,
    sign: impl FnOnce(&[u8], &[u8], &[u8]) -> Vec<u8>,
) -> Result<Option<ServerEvent>, SessionError> {
    let mut server = testbed.server();
    let (mut noise, public) = raw(true);
    let mut framed = Vec::new();
    push_frame(&mut framed, &write(&mut noise, &[]));
    server.receive(&framed);
    server.poll(at_ms(0)).unwrap();
    read(&mut noise, &frame_of(server.transmit()));
    let payload = sign(noise.get_handshake_hash(), &public, &testbed.owner.certificate().encode());
    framed.clear();
    push_frame(&mut framed, &write(&mut noise, &payload));
    server.receive(&framed);
    server.poll(at_ms(0))
}

/// The same the other way round.
fn client_given(
    testbed: &Testbed,
    sign: impl FnOnce(&[u8], &[u8], &[u8]) -> Vec<u8>,
) -> Result<Option<ClientEvent>, SessionError> {
    let mut client = testbed.client();
    let (mut noise, public) = raw(false);
    read(&mut noise, &frame_of(client.transmit()));
    let payload = sign(noise.get_handshake_hash(), &public, &testbed.router.certificate().encode());
    push(&mut client, &write(&mut noise, &payload));
    client.poll(at_ms(0))
}

#[test]
fn the_signature_of_a_handshake_is_over_this_handshake_this_static_key_and_this_certificate() {
    let testbed = Testbed::new();
    let other = [0x5a; 32];
    let (owner, router) = (&*testbed.owner, &*testbed.router);
    let (of_owner, of_router) = (Domain::OwnerHandshake, Domain::RouterHandshake);

    let good = server_given(&testbed, |hash, public, cert| credentials(of_owner, hash, public, cert, owner));
    assert!(matches!(good, Ok(Some(ServerEvent::Established(_)))));
    for found in [
        server_given(&testbed, |_, public, cert| credentials(of_owner, &other, public, cert, owner)),
        server_given(&testbed, |hash, _, cert| credentials(of_owner, hash, &other, cert, owner)),
        server_given(&testbed, |hash, public, _| credentials(of_owner, hash, public, &other, owner)),
        server_given(&testbed, |hash, public, cert| credentials(of_router, hash, public, cert, owner)),
    ] {
        assert_eq!(found, Err(SessionError::NotItsKey(HandshakeStep::Owner)));
    }

    let good = client_given(&testbed, |hash, public, cert| credentials(of_router, hash, public, cert, router));
    assert!(matches!(good, Ok(Some(ClientEvent::Established(_)))));
    for found in [
        client_given(&testbed, |_, public, cert| credentials(of_router, &other, public, cert, router)),
        client_given(&testbed, |hash, _, cert| credentials(of_router, hash, &other, cert, router)),
        client_given(&testbed, |hash, public, _| credentials(of_router, hash, public, &other, router)),
        client_given(&testbed, |hash, public, cert| credentials(of_owner, hash, public, cert, router)),
    ] {
        assert_eq!(found, Err(SessionError::NotItsKey(HandshakeStep::Router)));
    }
}

#[test]
fn no_bit_of_the_handshake_can_be_changed() {
    let testbed = Testbed::new();
    let lens: Vec<usize> = {
        let (mut client, mut server) = (testbed.client(), testbed.server());
        let hello = client.transmit().len();
        server.receive(client.transmit());
        server.poll(at_ms(0)).unwrap();
        client.receive(server.transmit());
        client.transmitted(usize::MAX);
        client.poll(at_ms(0)).unwrap();
        vec![hello, server.transmit().len(), client.transmit().len()]
    };
    for (message, len) in lens.into_iter().enumerate() {
        // Every bit of the length and the keys, and one bit of each later byte.
        let bits = (0..8 * 34).chain((34..len).map(|byte| 8 * byte + byte % 8));
        for bit in bits {
            let (mut client, mut server) = (testbed.client(), testbed.server());
            let flip = |bytes: &[u8], number: usize| {
                let mut bytes = bytes.to_vec();
                if number == message {
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
                bytes
            };
            server.receive(&flip(client.transmit(), 0));
            client.transmitted(usize::MAX);
            let Ok(_) = server.poll(at_ms(0)) else { continue };
            client.receive(&flip(server.transmit(), 1));
            let Ok(event) = client.poll(at_ms(0)) else { continue };
            assert_eq!(event.is_some(), message == 2, "message {message}, bit {bit}");
            server.receive(&flip(client.transmit(), 2));
            let event = server.poll(at_ms(0));
            assert!(!matches!(event, Ok(Some(_))), "message {message}, bit {bit}");
            assert!(event.is_err() || server.end_of_input() == Err(SessionError::Truncated));
        }
    }
}

#[test]
fn a_hello_with_a_payload_or_another_version_is_refused() {
    let testbed = Testbed::new();
    let mut server = testbed.server();
    let (mut noise, _) = raw(true);
    let mut framed = Vec::new();
    push_frame(&mut framed, &write(&mut noise, b"x"));
    server.receive(&framed);
    assert!(matches!(server.poll(at_ms(0)), Err(SessionError::FrameLength { len: 33, min: 32, max: 32 })));

    let mut server = testbed.server();
    let mut noise = snow::Builder::new(NOISE.parse().unwrap())
        .prologue(b"VInet session 2")
        .unwrap()
        .local_private_key(&[7; 32])
        .unwrap()
        .build_initiator()
        .unwrap();
    framed.clear();
    push_frame(&mut framed, &write(&mut noise, &[]));
    server.receive(&framed);
    server.poll(at_ms(0)).unwrap();
    assert!(noise.read_message(&frame_of(server.transmit()), &mut [0; 4096]).is_err());
}

#[test]
fn after_an_error_nothing_more_is_looked_at() {
    let testbed = Testbed::new();
    let (mut client, mut server) = established(&testbed);
    client.send(&Request::List, at_ms(1)).unwrap();
    let good = client.transmit().to_vec();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    server.receive(&bad);
    let error = SessionError::Decrypt { sequence: 0 };
    assert_eq!(server.poll(at_ms(1)), Err(error.clone()));
    assert_eq!((server.room(), server.receive(&good)), (0, 0));
    assert_eq!(server.poll(at_ms(1)), Err(error.clone()));
    assert_eq!(server.reply(1, &Reply::List(vec![]), at_ms(1)), Err(error.clone()));
    assert_eq!(server.end_of_input(), Err(error));
    assert!(server.transmit().is_empty() && !server.is_established());
}

#[test]
fn frames_replayed_reordered_or_cut_short_end_the_session() {
    let testbed = Testbed::new();
    let frames = |client: &mut Client| {
        [1, 2].map(|_| {
            client.send(&Request::List, at_ms(1)).unwrap();
            let frame = client.transmit().to_vec();
            client.transmitted(usize::MAX);
            frame
        })
    };
    let (mut client, mut server) = established(&testbed);
    let [first, _] = frames(&mut client);
    server.receive(&first);
    server.receive(&first);
    assert!(matches!(server.poll(at_ms(1)), Ok(Some(ServerEvent::Request { id: 1, .. }))));
    assert_eq!(server.poll(at_ms(1)), Err(SessionError::Decrypt { sequence: 1 }));

    let (mut client, mut server) = established(&testbed);
    let [_, second] = frames(&mut client);
    server.receive(&second);
    assert_eq!(server.poll(at_ms(1)), Err(SessionError::Decrypt { sequence: 0 }));

    let (mut client, mut server) = established(&testbed);
    let [first, _] = frames(&mut client);
    server.receive(&first[..first.len() - 1]);
    assert_eq!(server.poll(at_ms(1)), Ok(None));
    assert_eq!(server.end_of_input(), Err(SessionError::Truncated));
    server.receive(&first[first.len() - 1..]);
    assert!(matches!(server.poll(at_ms(1)), Ok(Some(_))));
    assert_eq!(server.end_of_input(), Ok(()));

    // The frame of another session between the same two.
    let (mut client, _) = established(&testbed);
    let (_, mut server) = established(&testbed);
    let [first, _] = frames(&mut client);
    server.receive(&first);
    assert_eq!(server.poll(at_ms(1)), Err(SessionError::Decrypt { sequence: 0 }));
}

#[test]
fn lengths_that_no_frame_has_end_the_session() {
    let testbed = Testbed::new();
    for (state, len, is_allowed) in [
        ("hello", 31, false),
        ("hello", 32, true),
        ("hello", 33, false),
        ("hello", 65535, false),
        ("open", SEALED_BYTES_MIN - 1, false),
        ("open", SEALED_BYTES_MIN, true),
        ("open", SEALED_BYTES_MAX, true),
        ("open", SEALED_BYTES_MAX + 1, false),
    ] {
        let mut server = if state == "hello" { testbed.server() } else { established(&testbed).1 };
        server.receive(&(len as u16).to_be_bytes());
        let polled = server.poll(at_ms(0));
        match is_allowed {
            true => assert_eq!(polled, Ok(None)),
            false => assert!(matches!(polled, Err(SessionError::FrameLength { .. })), "{state} {len}"),
        }
    }
}

#[test]
fn rubbish_never_gets_far_and_never_grows() {
    let testbed = Testbed::new();
    let seed = seed();
    let mut random = Random::new(seed);
    for round in 0..400 {
        let (mut client, mut server) =
            if round % 4 == 0 { established(&testbed) } else { (testbed.client(), testbed.server()) };
        for _ in 0..20 {
            let len = random.below(4000) as usize;
            let mut bytes = random.bytes(len);
            if bytes.len() > 2 && random.below(2) == 0 {
                // A length that is allowed, so that what is behind it is looked at.
                let len = [32u16, 96, 300, 26, 1000][random.below(5) as usize];
                bytes[..2].copy_from_slice(&len.to_be_bytes());
            }
            server.receive(&bytes);
            client.receive(&bytes);
            assert!(server.core.input.len() <= INPUT_BYTES_MAX && client.core.input.len() <= INPUT_BYTES_MAX);
            let server_event = server.poll(at_ms(0));
            let client_event = client.poll(at_ms(0));
            assert!(!matches!(server_event, Ok(Some(_))) && !matches!(client_event, Ok(Some(_))), "seed {seed}");
        }
        assert!(server.transmit().len() <= 4096);
    }
}

#[test]
fn before_the_handshake_two_kilobytes_are_kept_at_most() {
    let testbed = Testbed::new();
    let mut server = testbed.server();
    assert!(server.room() <= LENGTH_BYTES + HANDSHAKE_BYTES_MAX);
    assert_eq!(server.receive(&[0; 100_000]), LENGTH_BYTES + HANDSHAKE_BYTES_MAX);
    assert_eq!(server.room(), 0);
}

#[test]
fn a_message_that_is_none_is_refused_and_the_client_told() {
    let testbed = Testbed::new();
    let bad = |bytes: &[u8], part: &str| {
        let (mut client, mut server) = established(&testbed);
        client.core.send(bytes, at_ms(1)).unwrap();
        let wire = Wire::run(&mut client, &mut server, at_ms(1), whole());
        let Some(SessionError::BadMessage(what)) = wire.server_error else { panic!("{:?}", wire.server_error) };
        assert!(what.contains(part), "{what}");
        let Some(SessionError::Refused(why)) = wire.client_error else { panic!("{:?}", wire.client_error) };
        assert!(why.contains(&what), "{why}");
        assert!(wire.server_events.is_empty());
    };
    bad(b"\xff", "expected");
    bad(&message::encode_reply(1, &Reply::List(vec![])), "expected");
    bad(&message::encode_request(0, &Request::List), "numbered 0");
    bad(&[0x83, 0x01, 0x01, 0x81, 0x02], "version 2");
    // The list request with its id in two bytes, where one would do.
    bad(&[0x83, 0x02, 0x18, 0x01, 0x81, 0x02], "one encoding");
    let mut longer = message::encode_request(1, &Request::List);
    longer.push(0);
    bad(&longer, "one encoding");
}

#[test]
fn what_cannot_be_sent_is_not_and_the_session_lives() {
    let testbed = Testbed::new();
    let mut client = testbed.client();
    assert_eq!(client.send(&Request::List, at_ms(0)), Err(SessionError::NotEstablished));
    let (mut client, mut server) = established(&testbed);
    let error = client.core.send(&vec![0; MESSAGE_BYTES_MAX + 1], at_ms(1));
    assert!(matches!(error, Err(SessionError::OwnMessageTooLong { .. })));
    client.send(&Request::List, at_ms(1)).unwrap();
    let wire = Wire::run(&mut client, &mut server, at_ms(1), whole());
    assert_eq!(wire.server_events.len(), 1);
}

#[test]
fn every_state_has_its_time_limit() {
    let testbed = Testbed::new();
    // The handshake: a trickle of bytes does not lengthen it.
    let mut server = testbed.server();
    assert_eq!(server.deadline_ms(), HANDSHAKE_TIME_MAX_MS);
    server.receive(&[0]);
    assert_eq!(server.poll(at_ms(HANDSHAKE_TIME_MAX_MS)), Ok(None));
    server.receive(&[32]);
    assert_eq!(server.poll(at_ms(HANDSHAKE_TIME_MAX_MS + 1)), Err(SessionError::HandshakeTimeout));

    // Silence.
    let (_, mut server) = established(&testbed);
    assert_eq!(server.expired(at_ms(IDLE_TIME_MAX_MS)), None);
    assert_eq!(server.expired(at_ms(IDLE_TIME_MAX_MS + 1)), Some(SessionError::IdleTimeout));

    // A message that has begun, a byte at a time.
    let (mut client, mut server) = established(&testbed);
    client.send(&large_upload(&testbed), at_ms(1000)).unwrap();
    let bytes = client.transmit().to_vec();
    for (i, byte) in bytes.iter().take(30).enumerate() {
        server.receive(&[*byte]);
        assert_eq!(server.poll(at_ms(1000 + 1000 * i as u64)), Ok(None));
    }
    assert_eq!(server.deadline_ms(), 1000 + MESSAGE_TIME_MAX_MS);
    assert_eq!(server.poll(at_ms(1001 + MESSAGE_TIME_MAX_MS)), Err(SessionError::MessageTimeout));

    // Whole frames of a message that does not end.
    let (mut client, mut server) = established(&testbed);
    client.send(&large_upload(&testbed), at_ms(0)).unwrap();
    server.receive(&client.transmit()[..LENGTH_BYTES + SEALED_BYTES_MAX]);
    assert_eq!(server.poll(at_ms(10)), Ok(None));
    assert_eq!(server.expired(at_ms(11 + MESSAGE_TIME_MAX_MS)), Some(SessionError::MessageTimeout));

    // A peer that takes nothing.
    let (_, mut server) = established(&testbed);
    server.transmitted(usize::MAX);
    server.reply(1, &Reply::List(vec![]), at_ms(5000)).unwrap();
    assert_eq!(server.deadline_ms(), 5000 + STALL_TIME_MAX_MS);
    assert_eq!(server.expired(at_ms(5000 + STALL_TIME_MAX_MS)), None);
    server.transmitted(1);
    assert_eq!(server.expired(at_ms(5001 + STALL_TIME_MAX_MS)), None);
    assert_eq!(server.expired(at_ms(5002 + 2 * STALL_TIME_MAX_MS)), Some(SessionError::StallTimeout));
}

#[test]
fn a_client_that_takes_no_replies_gets_no_more_of_them() {
    let testbed = Testbed::new();
    let (mut client, mut server) = established(&testbed);
    let mut requests = 0;
    let reply = Reply::Rejected(Rejection::new("no", &"x".repeat(1000), None));
    for _ in 0..10_000 {
        client.send(&Request::List, at_ms(1)).unwrap();
        let taken = server.receive(client.transmit());
        client.transmitted(taken);
        while let Some(event) = server.poll(at_ms(1)).unwrap() {
            let ServerEvent::Request { id, .. } = event else { panic!() };
            server.reply(id, &reply, at_ms(1)).unwrap();
            requests += 1;
        }
        assert!(server.can_reply() || server.room() == 0);
    }
    assert!(!server.can_reply());
    assert_eq!(server.room(), 0);
    assert!(server.transmit().len() < BACKLOG_BYTES_MAX + 2000);
    assert!(requests < 2000);
    // Once the client takes them, it goes on where it stopped.
    let wire = Wire::run(&mut client, &mut server, at_ms(2), whole());
    assert_eq!(wire.client_events.len(), requests);
    assert_eq!(requests + wire.server_events.len(), 10_000);
    assert_eq!((wire.client_error, wire.server_error), (None, None));
}

#[test]
fn a_session_can_be_refused_with_a_reason() {
    let testbed = Testbed::new();
    let (mut client, mut server) = established(&testbed);
    server.refuse("too many sessions", at_ms(1));
    client.receive(server.transmit());
    assert_eq!(client.poll(at_ms(1)), Err(SessionError::Refused("too many sessions".into())));
}

#[test]
fn a_silent_session_keeps_no_buffers() {
    let testbed = Testbed::new();
    let (mut client, mut server) = established(&testbed);
    client.send(&large_upload(&testbed), at_ms(1)).unwrap();
    Wire::run(&mut client, &mut server, at_ms(1), whole());
    assert_eq!((client.core.output.capacity(), server.core.output.capacity()), (0, 0));
    assert_eq!(server.end_of_input(), Ok(()));
}
