//! A small HTTP/1.1 server for a few pages: GET and HEAD, one request a connection.
//!
//! Whoever connects can hold one of [`CONNECTIONS_MAX`] places for [`TIME_MAX`] with at most [`REQUEST_LEN_MAX`] bytes,
//! and gives way to newcomers when all are taken: the connection that is oldest, since an honest client has sent its
//! request and got its page within a turn. No body is read, nothing is kept open for a second request.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::log;

/// Connections at once.
pub(super) const CONNECTIONS_MAX: usize = 16;
/// Bytes of the longest request.
pub(super) const REQUEST_LEN_MAX: usize = 4096;
/// Fields in the head of a request.
const HEADERS_MAX: usize = 64;
/// How long a connection lasts at most.
pub(super) const TIME_MAX: Duration = Duration::from_secs(5);
/// Connections accepted in one turn.
const ACCEPTED_PER_TURN: usize = 64;

const TOKEN_WAKE: Token = Token(CONNECTIONS_MAX);
const TOKEN_LISTENER: Token = Token(CONNECTIONS_MAX + 1);

/// What is answered.
pub(super) struct Page {
    status: u16,
    content_type: &'static str,
    body: Arc<str>,
}

impl Page {
    /// A page that was asked for.
    pub(super) fn ok(content_type: &'static str, body: Arc<str>) -> Page {
        Page { status: 200, content_type, body }
    }
    /// A few words.
    pub(super) fn text(status: u16, words: &str) -> Page {
        Page { status, content_type: "text/plain; charset=utf-8", body: words.into() }
    }

    fn bytes(&self, with_body: bool) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            _ => "Service Unavailable",
        };
        let allow = if self.status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
        let mut bytes = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len()
        )
        .into_bytes();
        if with_body {
            bytes.extend_from_slice(self.body.as_bytes());
        }
        bytes
    }
}

/// Ends a running server from another thread.
pub(super) struct Stopper {
    stop: Arc<AtomicBool>,
    waker: Waker,
}

impl Stopper {
    /// Has [`Server::run`] return soon.
    pub(super) fn stop(&self) {
        // Release, with the Acquire in the loop: what was done before the stop is seen by who stops.
        self.stop.store(true, Ordering::Release);
        let _ = self.waker.wake();
    }
}

struct Connection {
    stream: TcpStream,
    since: Instant,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
}

/// The listening socket and its connections.
pub(super) struct Server {
    poll: Poll,
    listener: TcpListener,
    stop: Arc<AtomicBool>,
    connections: [Option<Connection>; CONNECTIONS_MAX],
}

impl Server {
    /// # Errors
    /// The address cannot be had.
    pub(super) fn listen(address: SocketAddr) -> io::Result<Server> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, TOKEN_LISTENER, Interest::READABLE)?;
        Ok(Server { poll, listener, stop: Arc::new(AtomicBool::new(false)), connections: Default::default() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket cannot tell.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// A handle to end it; there can be one.
    ///
    /// # Errors
    /// The loop cannot be woken.
    pub(super) fn stopper(&self) -> io::Result<Stopper> {
        Ok(Stopper { stop: Arc::clone(&self.stop), waker: Waker::new(self.poll.registry(), TOKEN_WAKE)? })
    }

    /// Serves `page` of the path until it is stopped.
    pub(super) fn run(&mut self, mut page: impl FnMut(&str) -> Page) {
        let mut events = Events::with_capacity(2 * CONNECTIONS_MAX);
        while !self.stop.load(Ordering::Acquire) {
            match self.poll.poll(&mut events, self.time_left()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return log::error("metrics", format_args!("no metrics any more: {error}")),
            }
            for event in &events {
                match event.token() {
                    TOKEN_LISTENER => self.accept(),
                    TOKEN_WAKE => {}
                    Token(index) => self.serve(index, &mut page),
                }
            }
            self.end_overdue();
        }
    }

    /// The time until the first connection is overdue.
    fn time_left(&self) -> Option<Duration> {
        let first = self.connections.iter().flatten().map(|connection| connection.since).min()?;
        Some((first + TIME_MAX).saturating_duration_since(Instant::now()))
    }

    fn end_overdue(&mut self) {
        for index in 0..CONNECTIONS_MAX {
            if self.connections[index].as_ref().is_some_and(|connection| connection.since.elapsed() >= TIME_MAX) {
                self.close(index);
            }
        }
    }

    fn close(&mut self, index: usize) {
        if let Some(mut connection) = self.connections[index].take() {
            // The socket is closed just after; a failure to stop watching it changes nothing.
            let _ = self.poll.registry().deregister(&mut connection.stream);
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTED_PER_TURN {
            match self.listener.accept() {
                Ok((stream, _)) => self.take(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A connection that was given up while it waited; or no descriptors, and then there will be some again.
                Err(_) => {}
            }
        }
        // More may wait, and the edge is used up: registering anew gives another.
        let _ = self.poll.registry().reregister(&mut self.listener, TOKEN_LISTENER, Interest::READABLE);
    }

    fn take(&mut self, mut stream: TcpStream) {
        let since = |connection: &Option<Connection>| connection.as_ref().map(|connection| connection.since);
        // An empty place, which is `None` and comes first, or the oldest.
        let Some((index, _)) = self.connections.iter().enumerate().min_by_key(|(_, place)| since(place)) else {
            return;
        };
        self.close(index);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut stream, Token(index), interest).is_ok() {
            let (input, output) = (Vec::new(), Vec::new());
            self.connections[index] = Some(Connection { stream, since: Instant::now(), input, output, written: 0 });
        }
    }

    fn serve(&mut self, index: usize, page: &mut impl FnMut(&str) -> Page) {
        if let Some(connection) = &mut self.connections[index]
            && !connection.go_on(page)
        {
            self.close(index);
        }
    }
}

impl Connection {
    /// Reads the request and writes the page; `false` where there is nothing more to do.
    fn go_on(&mut self, page: &mut impl FnMut(&str) -> Page) -> bool {
        while self.output.is_empty() {
            let mut buffer = [0u8; REQUEST_LEN_MAX];
            match self.stream.read(&mut buffer[self.input.len()..]) {
                // Nothing more comes, and what came was no request.
                Ok(0) => return false,
                Ok(len) => {
                    let start = self.input.len();
                    self.input.extend_from_slice(&buffer[start..start + len]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return false,
            }
            self.output = match answer(&self.input, page) {
                Some(bytes) => bytes,
                None => continue,
            };
        }
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(0) => return false,
                Ok(len) => self.written += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        false
    }
}

/// The answer to what was read so far; `None` where the request is not whole yet.
fn answer(input: &[u8], page: &mut impl FnMut(&str) -> Page) -> Option<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let refused = match request.parse(input) {
        Ok(httparse::Status::Complete(_)) => None,
        Ok(httparse::Status::Partial) if input.len() < REQUEST_LEN_MAX => return None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            Some(Page::text(431, "the request is too long\n"))
        }
        Err(_) => Some(Page::text(400, "this is no HTTP request\n")),
    };
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let page = match (refused, method) {
        (Some(page), _) => page,
        (None, "GET" | "HEAD") => page(target.split('?').next().unwrap_or_default()),
        (None, _) => Page::text(405, "only GET and HEAD\n"),
    };
    Some(page.bytes(method != "HEAD"))
}
