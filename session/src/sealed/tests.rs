//! Sealed sessions between honest ends, and against who repeats, changes, keeps, steals and waits.

use super::*;
use crate::door::EPOCH_MS;
use crate::ends::{Client, ClientEvent, Server, ServerEvent};
use crate::identity::{AuthorityKey, Identity, Subject, Validity, parse_principal};
use crate::message::{Rejection, Reply, Request, Terms, Upload};
use crate::signed::Class;
use crate::testing::{LEMMA_ROOT, NOW_S, Random, Testbed, router_named, seed};
use crate::ticket::TicketFault;
use crate::window::FRESH_MS;
use std::sync::atomic::{AtomicBool, Ordering};

/// The clocks of everybody, a number of milliseconds after the start.
fn at(ms: u64) -> Now {
    Now { wall_s: NOW_S + ms / 1000, mono_ms: ms }
}

/// A testbed whose certificates outlast the keys of tickets.
fn testbed() -> Testbed {
    let mut testbed = Testbed::new();
    let valid = Validity::starting(NOW_S, 10 * EPOCH_MS / 1000);
    let subject = |identity: &Identity| identity.certificate().subject().clone();
    let issue = |identity: &Identity| Arc::new(testbed.authority_key.issue_identity(subject(identity), valid).unwrap());
    let (owner, router) = (issue(&testbed.owner), issue(&testbed.router));
    (testbed.owner, testbed.router) = (owner, router);
    testbed
}

fn door(testbed: &Testbed) -> Arc<Door> {
    let door = Door::new(testbed.router.clone(), testbed.authority.clone()).unwrap();
    Arc::new(door.with_window(1 << 14, at(0)).unwrap())
}

/// Carries what waits at either end to the other, in pieces of at most `cut` bytes, until nothing moves.
fn carry(
    client: &mut Client,
    server: &mut Server,
    now: Now,
    cut: usize,
) -> (Vec<ServerEvent>, Vec<ClientEvent>, Result<(), SessionError>) {
    let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
    loop {
        let taken = server.receive(&client.transmit()[..client.transmit().len().min(cut)]);
        client.transmitted(taken);
        let given = client.receive(&server.transmit()[..server.transmit().len().min(cut)]);
        server.transmitted(given);
        while let Ok(Some(event)) = server.poll(now) {
            at_server.push(event);
        }
        loop {
            match client.poll(now) {
                Ok(Some(event)) => at_client.push(event),
                Ok(None) => break,
                Err(error) => return (at_server, at_client, Err(error)),
            }
        }
        if taken == 0 && given == 0 {
            return (at_server, at_client, Ok(()));
        }
    }
}

/// Makes a handshake at the door and asks for a ticket.
fn ticket(testbed: &Testbed, door: &Arc<Door>, now: Now) -> Ticket {
    ticket_of(testbed, &testbed.owner, door, now)
}

fn ticket_of(testbed: &Testbed, owner: &Arc<Identity>, door: &Arc<Door>, now: Now) -> Ticket {
    let mut client = Client::new(owner.clone(), testbed.authority.clone(), None, now).unwrap();
    let mut server = Server::at(door.clone(), now);
    carry(&mut client, &mut server, now, usize::MAX).2.unwrap();
    client.send(&Request::Ticket, now).unwrap();
    let (at_server, at_client, _) = carry(&mut client, &mut server, now, usize::MAX);
    assert!(at_server.is_empty(), "the session answers itself");
    let [ClientEvent::Reply { id: 1, reply: Reply::Ticket(grant) }] = &at_client[..] else { panic!("{at_client:?}") };
    client.keep(grant, now).unwrap()
}

/// The bytes of one request for the list, and the ticket as it is after it.
fn request(ticket: &mut Ticket, now: Now) -> Vec<u8> {
    let mut client = Client::resume(ticket.clone(), now);
    client.send(&Request::List, now).unwrap();
    *ticket = client.ticket().unwrap().clone();
    client.transmit().to_vec()
}

/// What a new connection at the door makes of these bytes.
fn given(door: &Arc<Door>, bytes: &[u8], now: Now) -> (Result<Option<ServerEvent>, SessionError>, Server) {
    let mut server = Server::at(door.clone(), now);
    let mut rest = bytes;
    loop {
        let taken = server.receive(rest);
        rest = &rest[taken..];
        let outcome = server.poll(now);
        if outcome != Ok(None) || taken == 0 {
            return (outcome, server);
        }
    }
}

fn is_taken(outcome: &Result<Option<ServerEvent>, SessionError>) -> bool {
    matches!(outcome, Ok(Some(ServerEvent::Request { request: Request::List, .. })))
}

/// That a request is refused, for this reason and in the one way in which all are.
#[track_caller]
fn assert_refused(door: &Arc<Door>, bytes: &[u8], now: Now, why: SealedFault) {
    let (outcome, server) = given(door, bytes, now);
    assert_eq!(outcome, Err(SessionError::Sealed(why)));
    assert_eq!(server.transmit(), [0, 1, 0], "every refusal looks the same");
    assert!(!server.is_established() && server.room() == 0);
}

fn large_upload(testbed: &Testbed) -> Request {
    let terms = Terms {
        router: testbed.router.public(),
        policy_id: [1; 32],
        lemma_root: LEMMA_ROOT,
        program: vec![2; 100_000],
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
fn requests_of_any_length_are_answered_on_any_connection_however_it_is_cut() {
    let testbed = testbed();
    let door = door(&testbed);
    let mut ticket = ticket(&testbed, &door, at(0));
    let upload = large_upload(&testbed);
    let mut random = Random::new(seed());
    for round in 0..12u64 {
        let now = at(round * 1000);
        let cut = [1, 7, 1000, usize::MAX][round as usize % 4];
        let mut client = Client::resume(ticket, now);
        let mut server = Server::at(door.clone(), now);
        assert!(client.is_established() && !server.is_established());
        let first = client.send(&Request::List, now).unwrap();
        let show = Request::Show { instance: round };
        let second = client.send(if cut > 7 { &upload } else { &show }, now).unwrap();
        let (asked, answered, outcome) = carry(&mut client, &mut server, now, cut);
        assert_eq!((outcome, answered.len(), asked.len()), (Ok(()), 0, 2));
        assert_eq!(server.peer().unwrap().principal(), testbed.owner.principal().unwrap());
        assert_eq!(server.peer().unwrap().key(), testbed.owner.public());
        // Replies in any order, of one frame and of many.
        let text = "x".repeat(1 + random.below(900) as usize);
        let small = Reply::Rejected(Rejection::new("no", &text, None));
        let many = Reply::List(vec![status(); if cut > 7 { 4000 } else { 1 }]);
        let handles: Vec<u32> = asked
            .iter()
            .map(|event| match event {
                ServerEvent::Request { id, .. } => *id,
                ServerEvent::Established(_) => panic!("nothing is established"),
            })
            .collect();
        server.reply(handles[1], &small, now).unwrap();
        server.reply(handles[0], &many, now).unwrap();
        assert_eq!(server.reply(handles[0], &many, now), Err(SessionError::NotEstablished), "one reply each");
        let (_, answered, outcome) = carry(&mut client, &mut server, now, cut);
        assert_eq!(outcome, Ok(()));
        assert_eq!(
            answered,
            [ClientEvent::Reply { id: second, reply: small }, ClientEvent::Reply { id: first, reply: many }]
        );
        assert_eq!((client.end_of_input(), server.end_of_input()), (Ok(()), Ok(())));
        assert_eq!(server.held_bytes(), 0, "nothing stays");
        ticket = client.ticket().unwrap().clone();
    }
    assert_eq!(ticket.next, 25);
    assert_eq!(door.counters().taken, 24);
}

fn status() -> crate::message::ProgramStatus {
    crate::message::ProgramStatus {
        instance: 1 << 40,
        program_id: [1; 32],
        class: Class::Header,
        complexity: 1,
        cost: 2,
        packet_rate: 3,
        seconds_left: 4,
        packets_seen: 5,
        bytes_seen: 6,
        packets_discarded: 7,
        bytes_discarded: 8,
        packets_over_budget: 9,
        monitor: false,
    }
}

#[test]
fn no_bit_of_a_sealed_request_can_be_changed() {
    let testbed = testbed();
    let door = door(&testbed);
    let mut ticket = ticket(&testbed, &door, at(0));
    let good = request(&mut ticket, at(0));
    for bit in 0..8 * good.len() {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let (outcome, server) = given(&door, &bad, at(0));
        match outcome {
            Err(SessionError::Sealed(SealedFault::Ticket | SealedFault::Stale)) => {
                assert_eq!(server.transmit(), [0, 1, 0], "bit {bit}");
            }
            Err(SessionError::FrameLength { .. }) | Ok(None) => assert!(bit < 16, "bit {bit}"),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
    // None of them used the number up.
    assert!(is_taken(&given(&door, &good, at(0)).0));
}

#[test]
fn a_part_of_a_sealed_request_is_no_request() {
    let testbed = testbed();
    let door = door(&testbed);
    let mut ticket = ticket(&testbed, &door, at(0));
    let good = request(&mut ticket, at(0));
    for len in 0..good.len() {
        let (outcome, server) = given(&door, &good[..len], at(0));
        assert_eq!((outcome, server.end_of_input()), (Ok(None), Err(SessionError::Truncated)));
        assert!(!server.is_established());
    }
    // A piece that is left out, repeated or moved: the message has four.
    let mut client = Client::resume(ticket.clone(), at(0));
    client.send(&large_upload(&testbed), at(0)).unwrap();
    let whole = client.transmit().to_vec();
    let first = LENGTH_BYTES + REQUEST_BYTES_MAX;
    let piece = LENGTH_BYTES + PIECE_BYTES_MAX + TAG_BYTES;
    let moved = [&whole[..first], &whole[first + piece..first + 2 * piece]].concat();
    assert_refused(&door, &moved, at(0), SealedFault::Ticket);
    assert_refused(&door, &whole, at(0), SealedFault::Replayed);
}

#[test]
fn a_request_is_taken_once_whenever_and_wherever_it_comes_again() {
    let testbed = testbed();
    let door = door(&testbed);
    let mut ticket = ticket(&testbed, &door, at(0));
    // Shortly before the keys turn, so that the repetitions come in both epochs.
    let sent_ms = EPOCH_MS - 20_000;
    let good = request(&mut ticket, at(sent_ms));
    let (outcome, mut server) = given(&door, &good, at(sent_ms));
    assert!(is_taken(&outcome));
    server.receive(&good);
    assert_eq!(server.poll(at(sent_ms)), Err(SessionError::Sealed(SealedFault::Replayed)), "on its own connection");
    for late_ms in (0..=4 * FRESH_MS).step_by(500) {
        let why = if late_ms <= FRESH_MS { SealedFault::Replayed } else { SealedFault::Stale };
        assert_refused(&door, &good, at(sent_ms + late_ms), why);
    }
    assert_refused(&door, &good, at(sent_ms + 3 * EPOCH_MS), SealedFault::Ticket);
    // At another router, and at the same one after a restart.
    assert_refused(&self::door(&testbed), &good, at(sent_ms), SealedFault::Ticket);
}

#[test]
fn of_many_copies_in_parallel_one_is_taken() {
    let testbed = testbed();
    let door = door(&testbed);
    let mut ticket = ticket(&testbed, &door, at(0));
    for _ in 0..20 {
        let copies = request(&mut ticket, at(0));
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| usize::from(is_taken(&given(&door, &copies, at(0)).0)))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1);
    }
    // And of two that come piece by piece, in turn, the first whose first piece is there.
    let mut client = Client::resume(ticket, at(0));
    client.send(&large_upload(&testbed), at(0)).unwrap();
    let first = &client.transmit()[..LENGTH_BYTES + REQUEST_BYTES_MAX];
    let (begun, mut server) = given(&door, first, at(0));
    assert_eq!(begun, Ok(None));
    assert_refused(&door, first, at(0), SealedFault::Replayed);
    let mut rest = &client.transmit()[first.len()..];
    while !rest.is_empty() {
        let taken = server.receive(rest);
        rest = &rest[taken..];
        if let Some(event) = server.poll(at(1)).unwrap() {
            assert!(rest.is_empty() && matches!(event, ServerEvent::Request { .. }));
        }
    }
}

#[test]
fn two_requests_with_the_same_number_are_one_request() {
    let testbed = testbed();
    let door = door(&testbed);
    let ticket = ticket(&testbed, &door, at(0));
    // Two programs of one user that copied the ticket.
    let (first, second) = (request(&mut ticket.clone(), at(0)), request(&mut ticket.clone(), at(1000)));
    let sealed = |bytes: &[u8]| bytes[LENGTH_BYTES + REQUEST_HEAD_BYTES..].to_vec();
    assert_ne!(sealed(&first), sealed(&second), "no key seals two requests");
    assert!(is_taken(&given(&door, &second, at(1000)).0));
    assert_refused(&door, &first, at(1000), SealedFault::Replayed);
}

#[test]
fn requests_come_in_any_order() {
    let testbed = testbed();
    let door = door(&testbed);
    let mut ticket = ticket(&testbed, &door, at(0));
    let mut requests: Vec<Vec<u8>> = (0..20).map(|_| request(&mut ticket, at(0))).collect();
    let mut random = Random::new(seed());
    while !requests.is_empty() {
        let next = requests.swap_remove(random.below(requests.len() as u64) as usize);
        assert!(is_taken(&given(&door, &next, at(0)).0));
    }
}

#[test]
fn the_time_of_a_request_is_the_routers_within_half_a_minute() {
    let testbed = testbed();
    let door = door(&testbed);
    let mut ticket = ticket(&testbed, &door, at(100_000));
    // The clocks of client and router differ by a year, and it does not matter.
    ticket = {
        let mut client = Client::new(testbed.owner.clone(), testbed.authority.clone(), None, at(100_000)).unwrap();
        let mut server = Server::at(door.clone(), at(100_000));
        carry(&mut client, &mut server, at(100_000), usize::MAX).2.unwrap();
        client.keep(&ticket.grant, Now { wall_s: NOW_S - 31_000_000, mono_ms: 5 }).unwrap()
    };
    let wrong_clock = |ms: u64| Now { wall_s: NOW_S - 31_000_000 + ms / 1000, mono_ms: 6 };
    for (client_ms, router_ms, is_taken) in [
        (0, 100_000, true),
        (0, 100_000 + FRESH_MS, true),
        (0, 100_001 + FRESH_MS, false),
        (FRESH_MS + 1000, 100_000, false),
        (FRESH_MS, 100_000, true),
        (3_000_000, 3_100_000, true),
    ] {
        let bytes = request(&mut ticket, wrong_clock(client_ms));
        match is_taken {
            true => assert!(self::is_taken(&given(&door, &bytes, at(router_ms)).0), "{client_ms} {router_ms}"),
            false => assert_refused(&door, &bytes, at(router_ms), SealedFault::Stale),
        }
    }
}

#[test]
fn a_ticket_lasts_into_the_next_epoch_and_no_further() {
    let testbed = testbed();
    for issued_ms in [0, EPOCH_MS / 2, EPOCH_MS - 1, EPOCH_MS, 3 * EPOCH_MS + 7] {
        let door = door(&testbed);
        let mut ticket = ticket(&testbed, &door, at(issued_ms));
        let end_ms = (issued_ms / EPOCH_MS + 2) * EPOCH_MS;
        assert_eq!(u64::from(ticket.grant.lifetime_s), (end_ms - issued_ms) / 1000);
        for asked_ms in [issued_ms, issued_ms + 60_000, end_ms - 1] {
            let bytes = request(&mut ticket, at(asked_ms));
            assert!(is_taken(&given(&door, &bytes, at(asked_ms)).0), "{issued_ms} {asked_ms}");
        }
        let bytes = request(&mut ticket, at(end_ms));
        assert_refused(&door, &bytes, at(end_ms), SealedFault::Ticket);
        assert!(!ticket.is_alive(NOW_S + end_ms / 1000));
    }
    // Where nobody asked anything for epochs, the old keys are gone all the same.
    let door = door(&testbed);
    let mut ticket = ticket(&testbed, &door, at(0));
    let bytes = request(&mut ticket, at(5 * EPOCH_MS));
    assert_refused(&door, &bytes, at(5 * EPOCH_MS), SealedFault::Ticket);
}

#[test]
fn tickets_of_other_routers_are_foreign() {
    let testbed = testbed();
    let valid = Validity::starting(NOW_S, 1000);
    let other = Arc::new(testbed.authority_key.issue_identity(router_named("edge-2"), valid).unwrap());
    let here = door(&testbed);
    let there = Door::new(other, testbed.authority.clone()).unwrap().with_window(64, at(0)).unwrap();
    let mut foreign = ticket(&testbed, &Arc::new(there), at(0));
    assert_refused(&here, &request(&mut foreign, at(0)), at(0), SealedFault::Ticket);
    // A ticket made up, and a real one under another secret.
    let mut real = ticket(&testbed, &here, at(0));
    let mut made_up = real.clone();
    made_up.grant.ticket = [0; TICKET_BYTES];
    assert_refused(&here, &request(&mut made_up, at(0)), at(0), SealedFault::Ticket);
    let mut thief = real.clone();
    thief.grant.secret = [0; 32];
    assert_refused(&here, &request(&mut thief, at(0)), at(0), SealedFault::Ticket);
    assert!(is_taken(&given(&here, &request(&mut real, at(0)), at(0)).0));
}

#[test]
fn an_expired_certificate_ends_its_tickets_and_sessions() {
    let testbed = testbed();
    let door = door(&testbed);
    let owner = Subject::Owner(parse_principal("192.0.2.9").unwrap());
    let short = Arc::new(testbed.authority_key.issue_identity(owner, Validity::starting(NOW_S, 100)).unwrap());
    let mut ticket = ticket_of(&testbed, &short, &door, at(0));
    assert_eq!(ticket.grant.lifetime_s, 100);
    assert!(is_taken(&given(&door, &request(&mut ticket, at(100_000)), at(100_000)).0));
    assert_refused(&door, &request(&mut ticket, at(101_000)), at(101_000), SealedFault::Ticket);

    let mut client = Client::new(short, testbed.authority.clone(), None, at(60_000)).unwrap();
    let mut server = Server::at(door, at(60_000));
    carry(&mut client, &mut server, at(60_000), usize::MAX).2.unwrap();
    client.send(&Request::List, at(101_000)).unwrap();
    let (asked, _, outcome) = carry(&mut client, &mut server, at(101_000), usize::MAX);
    assert!(asked.is_empty());
    assert!(matches!(outcome, Err(SessionError::Refused(why)) if why.contains("expired")));
}

#[test]
fn a_revoked_key_does_nothing_any_more() {
    let testbed = testbed();
    let is_revoked = Arc::new(AtomicBool::new(false));
    let (asked, revoked) = (testbed.owner.public(), is_revoked.clone());
    let standing = move |owner: &Ownership| owner.key() != asked || !revoked.load(Ordering::Relaxed);
    let door = Door::new(testbed.router.clone(), testbed.authority.clone()).unwrap();
    let door = Arc::new(door.with_standing(Box::new(standing)).with_window(64, at(0)).unwrap());
    let mut ticket = ticket(&testbed, &door, at(0));
    let kept = |now| {
        let mut client = Client::new(testbed.owner.clone(), testbed.authority.clone(), None, now).unwrap();
        let mut server = Server::at(door.clone(), now);
        let outcome = carry(&mut client, &mut server, now, usize::MAX).2;
        (client, server, outcome)
    };
    let (mut client, mut server, _) = kept(at(0));
    assert!(is_taken(&given(&door, &request(&mut ticket, at(0)), at(0)).0));
    is_revoked.store(true, Ordering::Relaxed);
    assert_refused(&door, &request(&mut ticket, at(1)), at(1), SealedFault::Revoked);
    client.send(&Request::List, at(1)).unwrap();
    let (asked, _, outcome) = carry(&mut client, &mut server, at(1), usize::MAX);
    assert!(asked.is_empty());
    assert!(matches!(outcome, Err(SessionError::Refused(why)) if why.contains("revoked")));
    let (_, server, outcome) = kept(at(2));
    assert!(matches!(outcome, Err(SessionError::Refused(why)) if why.contains("revoked")));
    assert!(server.peer().is_none());
    assert_eq!(door.counters().revoked, 1);
    is_revoked.store(false, Ordering::Relaxed);
    assert!(is_taken(&given(&door, &request(&mut ticket, at(3)), at(3)).0));
}

#[test]
fn a_full_window_refuses_sealed_requests_and_lets_handshakes_in() {
    let testbed = testbed();
    let door = Door::new(testbed.router.clone(), testbed.authority.clone()).unwrap();
    let door = Arc::new(door.with_window(32, at(0)).unwrap());
    let mut ticket = ticket(&testbed, &door, at(0));
    // One owner has a sixteenth of it.
    assert!((0..2).all(|_| is_taken(&given(&door, &request(&mut ticket, at(0)), at(0)).0)));
    assert_refused(&door, &request(&mut ticket, at(0)), at(0), SealedFault::Full);
    let mut client = Client::resume(ticket.clone(), at(0));
    client.send(&Request::List, at(0)).unwrap();
    let (_, _, outcome) = carry(&mut client, &mut Server::at(door.clone(), at(0)), at(0), usize::MAX);
    assert_eq!(outcome, Err(SessionError::TicketRefused), "the client is told what to do");
    self::ticket(&testbed, &door, at(0));
    assert_eq!(door.counters().full, 2);
    assert!(is_taken(&given(&door, &request(&mut ticket, at(2 * FRESH_MS)), at(2 * FRESH_MS)).0));
}

#[test]
fn replies_are_the_routers_and_each_for_its_request() {
    let testbed = testbed();
    let door = door(&testbed);
    let mut ticket = ticket(&testbed, &door, at(0));
    let answered = |ticket: &mut Ticket| {
        let mut client = Client::resume(ticket.clone(), at(0));
        client.send(&Request::List, at(0)).unwrap();
        *ticket = client.ticket().unwrap().clone();
        let (asked, mut server) = given(&door, client.transmit(), at(0));
        let Ok(Some(ServerEvent::Request { id, .. })) = asked else { panic!("{asked:?}") };
        server.reply(id, &Reply::List(Vec::new()), at(0)).unwrap();
        (client, server.transmit().to_vec())
    };
    let (_, reply) = answered(&mut ticket);
    for bit in 0..8 * reply.len() {
        let (mut client, mut reply) = answered(&mut ticket);
        reply[bit / 8] ^= 1 << (bit % 8);
        client.receive(&reply);
        let outcome = client.poll(at(0));
        assert!(outcome.is_err() || (bit < 16 && outcome == Ok(None)), "bit {bit}: {outcome:?}");
    }
    // The answer to another request, and the same answer twice.
    let (mut client, _) = answered(&mut ticket);
    client.receive(&reply);
    assert!(matches!(client.poll(at(0)), Err(SessionError::Decrypt { .. })));
    let (mut client, reply) = answered(&mut ticket);
    client.receive(&reply);
    client.receive(&reply);
    assert!(matches!(client.poll(at(0)), Ok(Some(ClientEvent::Reply { id: 1, .. }))));
    assert!(matches!(client.poll(at(0)), Err(SessionError::Decrypt { .. })));
}

#[test]
fn a_connection_carries_requests_of_different_owners_each_as_its_own() {
    let testbed = testbed();
    let door = door(&testbed);
    let subject = Subject::Owner(parse_principal("192.0.2.9/24").unwrap());
    let other = Arc::new(testbed.authority_key.issue_identity(subject, Validity::starting(NOW_S, 1000)).unwrap());
    let (mut a, mut b) = (ticket(&testbed, &door, at(0)), ticket_of(&testbed, &other, &door, at(0)));
    let mut server = Server::at(door, at(0));
    for _ in 0..3 {
        for (ticket, identity) in [(&mut a, &testbed.owner), (&mut b, &other)] {
            server.receive(&request(ticket, at(0)));
            assert!(is_taken(&server.poll(at(0))));
            assert_eq!(server.peer().map(|owner| owner.key()), Some(identity.public()));
            assert_eq!(server.peer().map(Ownership::principal), identity.principal());
        }
    }
}

#[test]
fn tickets_are_given_after_handshakes_only_and_by_doors_that_seal() {
    let testbed = testbed();
    let door = door(&testbed);
    let ticket = ticket(&testbed, &door, at(0));
    let asked = |mut client: Client, mut server: Server| {
        carry(&mut client, &mut server, at(0), usize::MAX).2.unwrap();
        client.send(&Request::Ticket, at(0)).unwrap();
        let (at_server, at_client, _) = carry(&mut client, &mut server, at(0), usize::MAX);
        assert!(at_server.is_empty());
        match &at_client[..] {
            [ClientEvent::Reply { reply: Reply::Rejected(why), .. }] => why.code().to_owned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(asked(Client::resume(ticket.clone(), at(0)), Server::at(door, at(0))), "no-ticket");
    assert_eq!(asked(testbed.client(), testbed.server()), "no-ticket");
    // And a router that seals nothing refuses a sealed request like any other.
    let unsealed = Arc::new(Door::new(testbed.router.clone(), testbed.authority.clone()).unwrap());
    assert_refused(&unsealed, &request(&mut ticket.clone(), at(0)), at(0), SealedFault::Ticket);
}

#[test]
fn a_message_that_is_none_is_refused_under_a_ticket_too() {
    let testbed = testbed();
    let door = door(&testbed);
    let ticket = ticket(&testbed, &door, at(0));
    for (message, part) in [(vec![0xff], "expected"), (crate::message::encode_request(0, &Request::List), "numbered 0")]
    {
        let mut lane = ClientLane::new(ticket.clone());
        lane.ticket.next = u64::from(message[0]);
        let mut bytes = Vec::new();
        lane.request(&message, &mut bytes, at(0)).unwrap();
        let (outcome, server) = given(&door, &bytes, at(0));
        assert!(matches!(outcome, Err(SessionError::BadMessage(what)) if what.contains(part)));
        assert_eq!(server.transmit(), [0, 1, 0]);
    }
    // Lengths that no message has.
    for len in [0u32, 2, MESSAGE_BYTES_MAX as u32 + 1, u32::MAX] {
        let mut bytes = request(&mut ticket.clone(), at(0));
        bytes[LENGTH_BYTES + REQUEST_HEAD_BYTES - 4..][..4].copy_from_slice(&len.to_be_bytes());
        assert_refused(&door, &bytes, at(0), SealedFault::Ticket);
    }
}

#[test]
fn rubbish_that_looks_sealed_costs_its_connection_and_nothing_stays() {
    let testbed = testbed();
    let door = door(&testbed);
    let mut random = Random::new(seed());
    for _ in 0..300 {
        let len = REQUEST_BYTES_MIN + random.below((REQUEST_BYTES_MAX - REQUEST_BYTES_MIN) as u64) as usize;
        let mut bytes = (len as u16).to_be_bytes().to_vec();
        bytes.extend_from_slice(&random.bytes(len));
        bytes[LENGTH_BYTES] = SEALED_VERSION;
        let message_len = (len - REQUEST_HEAD_BYTES - TAG_BYTES) as u32;
        bytes[LENGTH_BYTES + REQUEST_HEAD_BYTES - 4..][..4].copy_from_slice(&message_len.to_be_bytes());
        let mut server = Server::at(door.clone(), at(0));
        assert!(server.room() <= 2050, "before it is known what comes");
        let mut rest = &bytes[..];
        let outcome = loop {
            let taken = server.receive(rest);
            rest = &rest[taken..];
            assert!(server.held_bytes() <= 2 * REQUEST_BYTES_MAX);
            match server.poll(at(0)) {
                Ok(None) if taken > 0 => {}
                outcome => break outcome,
            }
        };
        assert!(matches!(outcome, Err(SessionError::Sealed(_))));
    }
    let counters = door.counters();
    assert_eq!((counters.refused + counters.stale, counters.taken), (300, 0));
}

#[test]
fn who_announces_a_sealed_request_has_the_time_of_a_handshake() {
    let testbed = testbed();
    let door = door(&testbed);
    let mut ticket = ticket(&testbed, &door, at(0));
    let bytes = request(&mut ticket, at(0));
    let (outcome, mut server) = given(&door, &bytes[..100], at(0));
    assert_eq!(outcome, Ok(None));
    assert_eq!(server.deadline_ms(), crate::limits::HANDSHAKE_TIME_MAX_MS);
    let late = at(crate::limits::HANDSHAKE_TIME_MAX_MS + 1);
    assert_eq!(server.poll(late), Err(SessionError::HandshakeTimeout));
}

#[test]
fn a_kept_ticket_is_read_as_it_was_written_or_not_at_all() {
    let testbed = testbed();
    let door = door(&testbed);
    let mut ticket = ticket(&testbed, &door, at(0));
    request(&mut ticket, at(0));
    let bytes = ticket.encode();
    let decoded = Ticket::decode(&bytes, &testbed.authority, NOW_S).unwrap();
    assert_eq!(decoded, ticket);
    assert_eq!(decoded.router().id(), testbed.router.public());
    assert!(!format!("{ticket:?}").contains(&format!("{:?}", ticket.grant.secret)), "the secret is not shown");
    for len in 0..bytes.len() {
        assert!(Ticket::decode(&bytes[..len], &testbed.authority, NOW_S).is_err());
    }
    let stranger = AuthorityKey::generate("testbed").unwrap().authority();
    assert!(matches!(Ticket::decode(&bytes, &stranger, NOW_S), Err(TicketFault::Router(_))));
    let end_s = NOW_S + u64::from(ticket.grant.lifetime_s);
    assert_eq!(Ticket::decode(&bytes, &testbed.authority, end_s), Err(TicketFault::Ended));
    // A clock that was turned back says nothing about how old the ticket is.
    assert!(!ticket.is_alive(NOW_S - 1));
}

#[test]
fn a_certificate_is_verified_once_and_looked_at_every_time() {
    let testbed = testbed();
    let door = door(&testbed);
    let certificate = testbed.owner.certificate();
    let bytes = certificate.encode();
    for _ in 0..2 {
        assert!(door.owner(certificate, &bytes, NOW_S).is_ok());
        assert!(door.owner(certificate, &bytes, NOW_S - 1).is_err(), "not yet valid");
        assert!(door.owner(certificate, &bytes, u64::MAX).is_err(), "expired");
    }
    // What is remembered is these bytes: another signature over the same is looked at.
    let mut forged = certificate.clone();
    forged.signature[0] ^= 1;
    assert_eq!(door.owner(&forged, &forged.encode(), NOW_S), Err(crate::identity::CertificateFault::BadSignature));
    assert!(door.owner(&forged, &forged.encode(), NOW_S).is_err(), "a bad one is not remembered as good");
}
