//! Floods, and an honest client among them. The figures are printed; what is asserted depends on counts, not on speed.

use super::*;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicUsize;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use vinet_session::message::{Class, Terms, Upload};

/// A connection from `127.0.0.last`, an address like another host's.
fn from(last: u8, to: SocketAddr) -> io::Result<TcpStream> {
    let socket: OwnedFd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let SocketAddr::V4(to) = to else { panic!("IPv4") };
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::new(127, 0, 0, last, 0))?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::from(to))?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// What somebody does again and again while something else is looked at.
struct Flood {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Flood {
    /// As many threads do `act`, which is told its thread, until the flood is dropped.
    fn start(threads: u8, act: impl Fn(u8) + Clone + Send + 'static) -> Flood {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..threads)
            .map(|thread| {
                let (stop, done, act) = (stop.clone(), done.clone(), act.clone());
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        act(thread);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let flood = Flood { stop, done, threads };
        let start = Instant::now();
        while flood.done() < 20 {
            assert!(start.elapsed() < PATIENCE, "the flood has not begun");
            std::thread::yield_now();
        }
        flood
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || std::thread::panicking());
        }
    }
}

/// An honest client from an address of its own gets in so many times; what it took, by the middle and the worst.
fn honest(server: &Running, times: usize) -> (Duration, Duration) {
    let mut took: Vec<Duration> = (0..times)
        .map(|_| {
            let start = Instant::now();
            let stream = from(200, server.address).unwrap();
            let mut client = BlockingClient::over(stream, &server.user, &server.authority).unwrap();
            assert!(matches!(client.ask(&Request::List).unwrap(), Reply::List(_)));
            start.elapsed()
        })
        .collect();
    took.sort();
    (took[times / 2], took[times - 1])
}

#[test]
fn honest_clients_get_in_through_floods_of_connections_handshakes_and_rubbish() {
    let server = Running::start(limits());
    let address = server.address;
    println!("no flood: honest sessions take {:?} (middle, worst)", honest(&server, 20));
    let hello = [&[0, 32][..], &[9; 32]].concat();
    let mut sealed = vec![0; 2 + 185];
    sealed[..3].copy_from_slice(&[0, 185, 1]);
    sealed[169] = 1;
    let says: [(&str, Vec<u8>); 5] = [
        ("connections", Vec::new()),
        ("handshakes that stop half way", hello),
        ("sealed requests that are none", sealed),
        ("frames that are too long", vec![0xff; 4000]),
        ("frames that are cut", vec![0, 32, 1]),
    ];
    for (what, says) in says {
        let before = server.state.try_iter().last().map_or(0, |state| state.0.accepted);
        let flood = Flood::start(2, move |thread| {
            // Four connections of each of two addresses are always open, or were closed by the router.
            let mut open = [(); 4].map(|()| from(2 + thread, address).ok());
            for stream in open.iter_mut().flatten() {
                let _ = stream.write_all(&says);
            }
        });
        let honest = honest(&server, 20);
        println!("{what}: honest sessions take {honest:?} (middle, worst) beside {} connections", 4 * flood.done());
        drop(flood);
        server.wait(|counters, _, half_open| counters.accepted > before && half_open <= limits().half_open);
    }
}

#[test]
fn sessions_that_ask_without_end_leave_another_its_turn() {
    const ATTACKERS: u8 = 4;
    let server = Running::start(limits());
    let (address, authority) = (server.address, server.authority.clone());
    let owner = server.owner("198.51.100.66");
    let mut honest = server.client().unwrap();
    let connect = move |thread: u8| {
        let stream = from(2 + thread, address).unwrap();
        BlockingClient::over(stream, &owner, &authority).unwrap()
    };
    let clients: Arc<Vec<_>> = Arc::new((0..ATTACKERS).map(|thread| std::sync::Mutex::new(connect(thread))).collect());
    let flood = Flood::start(ATTACKERS, move |thread| {
        let mut client = clients[usize::from(thread)].lock().unwrap();
        // As much as a session may have open at once.
        for _ in 0..REQUESTS_PENDING_MAX {
            client.send(&Request::List).unwrap();
        }
        for _ in 0..REQUESTS_PENDING_MAX {
            client.reply().unwrap();
        }
    });
    let mut others = Vec::new();
    for _ in 0..50 {
        let counted = |server: &Running| loop {
            if let Some(state) = server.state.try_iter().last() {
                return state.0.requests;
            }
            std::thread::yield_now();
        };
        let before = counted(&server);
        honest.ask(&Request::List).unwrap();
        others.push(counted(&server) - before);
    }
    others.sort_unstable();
    println!("between a question and its answer, {} requests of {ATTACKERS} others are served (middle)", others[25]);
    // A turn is 64 requests of each; the middle one in fifty waits for no more than a few of them.
    assert!(others[25] <= 20 * 64 * u64::from(ATTACKERS), "{others:?}");
    drop(flood);
}

/// An upload of about `len` bytes that nobody looks into.
fn upload(owner: &Arc<Identity>, len: usize) -> Request {
    let terms = Terms {
        router: owner.public(),
        policy_id: [0; 32],
        lemma_root: [0; 32],
        program: Vec::new(),
        proof: Some(vec![1; len]),
        principal: owner.principal().unwrap(),
        class: Class::Header,
        complexity: 1,
        cost: 1,
        lifetime_s: 1,
        packet_rate: 1,
        payment: 0,
        quote: None,
        monitor: false,
        nonce: [0; 16],
        expiry_s: 1,
    };
    Request::Upload(Box::new(Upload::sign(terms, owner)))
}

/// Leaves uploads open until it is told to answer them.
struct Holding {
    open: Vec<(SessionId, u32)>,
    may_answer: Arc<AtomicBool>,
}

impl Desk for Holding {
    fn request(
        &mut self,
        from: SessionId,
        id: u32,
        owner: &Ownership,
        request: Request,
        stamp: Stamp,
        now: Now,
    ) -> Option<Reply> {
        if matches!(request, Request::Upload(_)) {
            self.open.push((from, id));
            return None;
        }
        TestDesk.request(from, id, owner, request, stamp, now)
    }
}

impl Later for Holding {
    fn later(&mut self, server: &mut Server, now: Now) {
        if self.may_answer.load(Ordering::Relaxed) {
            for (to, id) in self.open.drain(..) {
                server.reply(to, id, &Reply::Rejected(Rejection::new("no", "not now", None)), now);
            }
        }
    }
}

#[test]
fn requests_that_wait_take_bounded_memory_and_all_are_answered_in_the_end() {
    const LEN: usize = 8_000;
    const EACH: usize = 100;
    let may_answer = Arc::new(AtomicBool::new(false));
    let bounds = Bounds { waiting: 40 * LEN, waiting_per_session: 10 * LEN, held: usize::MAX };
    let server = Running::with(limits(), bounds, Holding { open: Vec::new(), may_answer: may_answer.clone() });
    let request = upload(&server.user, LEN);
    let mut clients: Vec<BlockingClient> = (0..6).map(|_| server.client().unwrap()).collect();
    std::thread::scope(|scope| {
        let sent = Arc::new(AtomicUsize::new(0));
        for client in &mut clients {
            let (request, sent) = (&request, sent.clone());
            scope.spawn(move || {
                for _ in 0..EACH {
                    client.send(request).unwrap();
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                for _ in 0..EACH {
                    client.reply().unwrap();
                }
            });
        }
        // Until the server takes no more.
        server.wait(|counters, _, _| counters.requests >= 20);
        // Who has nothing waiting is served all the same.
        for _ in 0..3 {
            assert!(matches!(server.client().unwrap().ask(&Request::List).unwrap(), Reply::List(_)));
        }
        let (waiting, _) = server.most_bytes();
        println!("{waiting} bytes of requests waited at most; the bound is {}", bounds.waiting);
        assert!(waiting <= bounds.waiting && waiting > 10 * LEN);
        may_answer.store(true, Ordering::Relaxed);
    });
    server.wait(|counters, _, _| counters.requests == 6 * EACH as u64 + 3);
    let (waiting, _) = server.most_bytes();
    assert!(waiting <= bounds.waiting + 2 * LEN);
}

#[test]
fn who_keeps_most_gives_way_and_a_single_upload_goes_through() {
    const LEN: usize = 100_000;
    let may_answer = Arc::new(AtomicBool::new(true));
    let bounds = Bounds { held: 12 * LEN, ..BOUNDS };
    let server = Running::with(limits(), bounds, Holding { open: Vec::new(), may_answer });
    let greedy = server.owner("198.51.100.66");
    // One owner begins an upload in each of many sessions, and ends none.
    let mut slow: Vec<BlockingClient> = (0..24)
        .map(|_| {
            let mut client = BlockingClient::connect(server.address, &greedy, &server.authority).unwrap();
            client.session.send(&upload(&greedy, LEN), Now::read(client.origin)).unwrap();
            let begun = client.session.transmit()[..LEN - 1000].to_vec();
            // The router may have closed it before all is written.
            let _ = client.stream.write_all(&begun);
            client
        })
        .collect();
    server.wait(|counters, _, _| counters.crowded >= 10);
    for _ in 0..5 {
        let mut honest = server.client().unwrap();
        let reply = honest.ask(&upload(&server.user, 5 * LEN)).unwrap();
        assert!(matches!(reply, Reply::Rejected(why) if why.code() == "no"));
    }
    let (_, held) = server.most_bytes();
    println!("sessions kept {held} bytes at most; the bound is {}", bounds.held);
    assert!(held <= bounds.held);
    assert!(slow.iter_mut().map(is_closed_now).filter(|&closed| closed).count() >= 10);
}

/// Whether the router has closed a connection.
fn is_closed_now(client: &mut BlockingClient) -> bool {
    client.stream.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    match client.stream.read(&mut buffer) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}
