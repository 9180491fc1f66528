//! Sealed requests over sockets, and what the desk is told of any request.

use super::*;
use std::sync::Mutex;
use vinet_session::Ticket;

/// Notes the stamps.
struct Noting(Arc<Mutex<Vec<Stamp>>>);

impl Desk for Noting {
    fn request(
        &mut self,
        from: SessionId,
        id: u32,
        owner: &Ownership,
        request: Request,
        stamp: Stamp,
        now: Now,
    ) -> Option<Reply> {
        self.0.lock().unwrap().push(stamp);
        TestDesk.request(from, id, owner, request, stamp, now)
    }
}

impl Later for Noting {}

impl BlockingClient {
    pub(super) fn ticket(&mut self) -> Ticket {
        let Reply::Ticket(grant) = self.ask(&Request::Ticket).unwrap() else { panic!("no ticket") };
        self.session.keep(&grant, Now::read(self.origin)).unwrap()
    }

    pub(super) fn resume(to: SocketAddr, ticket: Ticket) -> BlockingClient {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let origin = Instant::now();
        BlockingClient {
            stream,
            session: vinet_session::Client::resume(ticket, Now::read(origin)),
            origin,
            router: None,
        }
    }

    fn counted(&self) -> Ticket {
        self.session.ticket().unwrap().clone()
    }
}

#[test]
fn who_has_a_ticket_asks_on_any_connection() {
    let server = Running::start(limits());
    let mut ticket = server.client().unwrap().ticket();
    for instance in 0..5 {
        let to = if instance % 2 == 0 { server.address } else { server.other };
        let mut client = BlockingClient::resume(to, ticket);
        assert!(matches!(client.ask(&Request::List).unwrap(), Reply::List(_)));
        let ids: Vec<u32> = (0..20).map(|_| client.send(&Request::Show { instance }).unwrap()).collect();
        for id in ids {
            let (answered, reply) = client.reply().unwrap();
            assert!(matches!(reply, Reply::Rejected(why) if why.text() == instance.to_string()) && answered == id);
        }
        ticket = client.counted();
    }
    server.wait(|counters, len, half_open| {
        counters.sealed == 5 * 21 && counters.tickets == 1 && counters.established == 6 && len == half_open
    });
}

#[test]
fn a_ticket_that_does_not_stand_ends_its_connection_and_the_handshake_is_open() {
    let server = Running::start(limits());
    let other = Running::start(limits());
    // Of another router.
    let foreign = other.client().unwrap().ticket();
    let mut client = BlockingClient::resume(server.address, foreign);
    let refused = client.ask(&Request::List).unwrap_err();
    assert!(refused.to_string().contains("a handshake gives another"), "{refused}");
    // Repeated.
    let ticket = server.client().unwrap().ticket();
    let [mut first, mut second] = [(); 2].map(|()| BlockingClient::resume(server.address, ticket.clone()));
    assert!(first.ask(&Request::List).is_ok());
    assert!(second.ask(&Request::List).is_err());
    server.wait(|counters, _, _| counters.sealed_refused == 1 && counters.sealed_replayed == 1 && counters.faults == 2);
    assert!(matches!(server.client().unwrap().ask(&Request::List).unwrap(), Reply::List(_)));
}

#[test]
fn the_desk_is_told_where_and_when_a_request_came_in() {
    let stamps = Arc::new(Mutex::new(Vec::new()));
    let server = Running::with(limits(), BOUNDS, Noting(stamps.clone()));
    let mut expected = Vec::new();
    let mut ticket = server.client().unwrap().ticket();
    for round in 0..12u16 {
        let interface = round % 2;
        let to = if interface == 0 { server.address } else { server.other };
        if round % 3 == 0 {
            let mut client = BlockingClient::resume(to, ticket);
            client.ask(&Request::List).unwrap();
            ticket = client.counted();
        } else {
            BlockingClient::connect(to, &server.user, &server.authority).unwrap().ask(&Request::List).unwrap();
        }
        expected.push(interface);
    }
    let stamps = stamps.lock().unwrap();
    assert_eq!(stamps.iter().map(|stamp| stamp.interface).collect::<Vec<_>>(), expected);
    assert!(stamps.is_sorted_by_key(|stamp| stamp.at_us));
    assert!(stamps.last().unwrap().at_us > stamps[0].at_us, "it goes on");
}
