//! Requests and replies.
//!
//! A request is `[version, id, body]`, and its reply carries the same id, so that requests may follow each other
//! without waiting. Bodies are arrays whose first item tells them apart. Every message has one encoding and is bounded
//! in every field. A reply with id 0 is about the session itself and ends it.

pub use crate::cbor::Malformed;
pub use crate::directory::SignedDirectory;
pub use crate::payment::{Credit, Quote, QuoteAsk, Tariff};
pub use crate::reach::ReachAnswer;
pub use crate::receipt::{Receipt, ReceiptTerms};
pub use crate::rejection::{Event, Rejection};
pub use crate::revocation::RevocationList;
pub use crate::signed::{Class, Renew, SignedPolicy, Terms, Upload, Withdraw, fresh_nonce};
pub use crate::ticket::TicketGrant;

use crate::cbor::{self, Canonical, Reader, Writer};
use crate::digest::{Digest, Domain};
use crate::limits::{EVENTS_MAX, LIST_LEN_MAX, OBJECT_BYTES_MAX, PART_BYTES_MAX, RECEIPTS_MAX};
use crate::reach::{REACH_DATAGRAM_BYTES, REACH_PADDING_MAX};
use vinet_trusted::lemma::{LEMMA_BYTES_MAX, LEMMA_PROOF_BYTES_MAX};
use vinet_trusted::policy::PrincipalKind;

/// The version of the messages.
pub const MESSAGE_VERSION: u64 = 2;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The router's policy for one kind of principals. Answered by [`Reply::Policy`].
    GetPolicy {
        /// Which kind.
        kind: PrincipalKind,
    },
    /// Installs a program. Answered by [`Reply::Receipt`].
    Upload(Box<Upload>),
    /// The asker's own programs. Answered by [`Reply::List`].
    List,
    /// One of the asker's own programs. Answered by [`Reply::Status`].
    Show {
        /// Its number, from the receipt.
        instance: u64,
    },
    /// Ends one of the asker's own programs. Answered by [`Reply::Withdrawn`].
    Withdraw(Withdraw),
    /// Has the router check a lemma that the asker's later proofs cite. Answered by [`Reply::Lemma`].
    AddLemma(NewLemma),
    /// What a program costs. Answered by [`Reply::Quote`].
    Quote(QuoteAsk),
    /// Gives the amount of a credit to the asker's account. Answered by [`Reply::Receipt`], with the same receipt each
    /// time.
    Deposit(Box<Credit>),
    /// What the asker's account has. Answered by [`Reply::Balance`].
    Balance,
    /// The asker's receipts. Answered by [`Reply::Receipts`].
    Receipts {
        /// Those with a number above this one.
        after: u64,
    },
    /// Lets the lifetime of one of the asker's own programs begin anew. Answered by [`Reply::Receipt`].
    Renew(Renew),
    /// Asks for a datagram ([`crate::reach`]) to the asker's address. Answered by [`Reply::ReachSent`].
    ReachMe {
        /// The UDP port that it is to go to.
        port: u16,
        /// Bytes without meaning that make the request as long as the datagram: [`REACH_DATAGRAM_BYTES`] to
        /// [`REACH_PADDING_MAX`].
        padding: Vec<u8>,
    },
    /// The answer to that datagram. Answered by [`Reply::Reached`].
    Reached(ReachAnswer),
    /// What happened to the asker's programs and account. Answered by [`Reply::Events`].
    Events {
        /// Those with a number above this one.
        after: u64,
    },
    /// A part of an upload that comes in several messages, or in several sessions. Answered by [`Reply::Part`].
    Part(Box<Part>),
    /// Installs the program of an upload that is there in all its parts. Answered as [`Request::Upload`].
    UploadObject {
        /// Its name ([`object_id`]).
        object: [u8; 32],
    },
    /// The directory that the router was given. Answered by [`Reply::Directory`].
    Directory,
    /// A newer list of revoked keys. Answered by [`Reply::Revocations`] with the number of the list that is then in force.
    Revoke(Box<RevocationList>),
    /// A ticket for later requests without a handshake. Answered by [`Reply::Ticket`], by the session itself.
    Ticket,
}

/// A part of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The name of the whole ([`object_id`]).
    pub object: [u8; 32],
    /// The bytes of the whole: 1 to [`OBJECT_BYTES_MAX`].
    pub len: u32,
    /// Where in the whole these bytes stand. They count where they follow on what is there.
    pub offset: u32,
    /// At most [`PART_BYTES_MAX`], and none beyond the whole; no bytes ask how much is there.
    pub bytes: Vec<u8>,
}

/// The name of an upload that comes in parts: a digest of its one encoding ([`Upload::encode`]).
#[must_use]
pub fn object_id(bytes: &[u8]) -> [u8; 32] {
    Digest::new(Domain::Object).field(bytes).finish()
}

impl Canonical for Part {
    fn write(&self, w: &mut Writer) {
        w.array(4).bytes(&self.object).uint(u64::from(self.len)).uint(u64::from(self.offset)).bytes(&self.bytes);
    }
    fn read(r: &mut Reader<'_>) -> Result<Part, Malformed> {
        const EXPECTED: &str = "a part: [the whole's digest, its length, an offset, bytes that lie within it]";
        let malformed = r.malformed(EXPECTED);
        r.array(4, EXPECTED)?;
        let part = Part {
            object: r.fixed(EXPECTED)?,
            len: r.uint(OBJECT_BYTES_MAX as u64, EXPECTED)? as u32,
            offset: r.u32(EXPECTED)?,
            bytes: r.bytes(PART_BYTES_MAX, EXPECTED)?.to_vec(),
        };
        let end = u64::from(part.offset) + part.bytes.len() as u64;
        if part.len == 0 || end > u64::from(part.len) { Err(malformed) } else { Ok(part) }
    }
}

/// A lemma for the asker's own store at the router. It is not signed: it binds nobody, and adding it twice is adding it
/// once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLemma {
    /// The bytes of its statement.
    pub lemma: Vec<u8>,
    /// The bytes of its proof, which may cite the lemmas before it.
    pub proof: Vec<u8>,
}

/// Where a lemma stands in the asker's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LemmaPlace {
    /// The index by which proofs cite it.
    pub index: u32,
    /// The root of the store, with it: what an upload names whose proof cites it.
    pub root: [u8; 32],
}

impl Canonical for NewLemma {
    fn write(&self, w: &mut Writer) {
        w.array(2).bytes(&self.lemma).bytes(&self.proof);
    }
    fn read(r: &mut Reader<'_>) -> Result<NewLemma, Malformed> {
        r.array(2, "a lemma: [statement, proof]")?;
        Ok(NewLemma {
            lemma: r.bytes(LEMMA_BYTES_MAX, "the statement of a lemma within its limit")?.to_vec(),
            proof: r.bytes(LEMMA_PROOF_BYTES_MAX, "the proof of a lemma within its limit")?.to_vec(),
        })
    }
}

impl Canonical for LemmaPlace {
    fn write(&self, w: &mut Writer) {
        w.array(2).uint(u64::from(self.index)).bytes(&self.root);
    }
    fn read(r: &mut Reader<'_>) -> Result<LemmaPlace, Malformed> {
        r.array(2, "a lemma's place: [index, root]")?;
        Ok(LemmaPlace { index: r.u32("the index of a lemma")?, root: r.fixed("a lemma root of 32 bytes")? })
    }
}

/// What a router answers. [`Reply::Rejected`] may answer any request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The policy that was asked for.
    Policy(SignedPolicy),
    /// The program is in force.
    Receipt(Receipt),
    /// The asker's programs, at most [`LIST_LEN_MAX`], by rising number.
    List(Vec<ProgramStatus>),
    /// One program.
    Status(ProgramStatus),
    /// The program is no longer in force; what it had done.
    Withdrawn(ProgramStatus),
    /// The lemma is in the asker's store.
    Lemma(LemmaPlace),
    /// A price that holds for a while.
    Quote(Quote),
    /// What the asker's account has.
    Balance {
        /// Credits that can be spent.
        balance: u64,
        /// Credits on hold for uploads under check.
        held: u64,
        /// How many receipts the account's chain has.
        receipts: u64,
    },
    /// Receipts of the asker's chain in their order, at most [`RECEIPTS_MAX`].
    Receipts(Vec<Receipt>),
    /// The datagram is on its way, if its address can be reached.
    ReachSent,
    /// The asker has shown that packets to its address arrive.
    Reached {
        /// The Unix second until which that counts.
        until_s: u64,
    },
    /// Events in their order, at most [`EVENTS_MAX`].
    Events(Vec<Event>),
    /// How much of the upload is there.
    Part {
        /// The bytes from its beginning on.
        have: u32,
    },
    /// The directory that the router was given.
    Directory(Box<SignedDirectory>),
    /// The list of revoked keys that is in force.
    Revocations {
        /// Its number; 0 where there is none.
        number: u64,
    },
    /// The ticket.
    Ticket(Box<TicketGrant>),
    /// Nothing was changed.
    Rejected(Rejection),
}

/// What a program is and has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramStatus {
    /// Its number at its router.
    pub instance: u64,
    /// The BLAKE3 of its bytes.
    pub program_id: [u8; 32],
    /// Its class.
    pub class: Class,
    /// Its complexity, in cycles per packet.
    pub complexity: u64,
    /// Its cost, in cycles per packet times seconds.
    pub cost: u64,
    /// Its granted packet rate, in packets a second.
    pub packet_rate: u32,
    /// Its time left, in seconds.
    pub seconds_left: u32,
    /// Packets that it was given.
    pub packets_seen: u64,
    /// Their bytes.
    pub bytes_seen: u64,
    /// Packets that it discarded.
    pub packets_discarded: u64,
    /// Their bytes.
    pub bytes_discarded: u64,
    /// Packets beyond its rate, to which the policy's rule for those was applied.
    pub packets_over_budget: u64,
    /// Whether it only counts: what it discarded is then what it would have discarded.
    pub monitor: bool,
}

impl Canonical for ProgramStatus {
    fn write(&self, w: &mut Writer) {
        w.array(13).uint(self.instance).bytes(&self.program_id).item(&self.class).uint(self.complexity);
        w.uint(self.cost).uint(u64::from(self.packet_rate)).uint(u64::from(self.seconds_left));
        w.uint(self.packets_seen).uint(self.bytes_seen).uint(self.packets_discarded).uint(self.bytes_discarded);
        w.uint(self.packets_over_budget).flag(self.monitor);
    }
    fn read(r: &mut Reader<'_>) -> Result<ProgramStatus, Malformed> {
        r.array(13, "a program's status of 13 items")?;
        Ok(ProgramStatus {
            instance: r.u64("the number of a program")?,
            program_id: r.fixed("a program's name of 32 bytes")?,
            class: r.item()?,
            complexity: r.u64("a complexity")?,
            cost: r.u64("a cost")?,
            packet_rate: r.u32("a packet rate")?,
            seconds_left: r.u32("the seconds left")?,
            packets_seen: r.u64("a counter")?,
            bytes_seen: r.u64("a counter")?,
            packets_discarded: r.u64("a counter")?,
            bytes_discarded: r.u64("a counter")?,
            packets_over_budget: r.u64("a counter")?,
            monitor: r.flag("whether the program only counts: 0 or 1")?,
        })
    }
}

const GET_POLICY: u64 = 0;
const UPLOAD: u64 = 1;
const LIST: u64 = 2;
const SHOW: u64 = 3;
const WITHDRAW: u64 = 4;
const REJECTED: u64 = 5;
const ADD_LEMMA: u64 = 6;
const QUOTE: u64 = 7;
const DEPOSIT: u64 = 8;
const BALANCE: u64 = 9;
const RECEIPTS: u64 = 10;
const RENEW: u64 = 11;
const REACH_ME: u64 = 12;
const REACHED: u64 = 13;
const EVENTS: u64 = 14;
const PART: u64 = 15;
const UPLOAD_OBJECT: u64 = 16;
const DIRECTORY: u64 = 17;
const REVOKE: u64 = 18;
const TICKET: u64 = 19;

impl Canonical for Request {
    fn write(&self, w: &mut Writer) {
        match self {
            Request::GetPolicy { kind } => w.array(2).uint(GET_POLICY).uint(match kind {
                PrincipalKind::EndUser => 0,
                PrincipalKind::EdgeRouter => 1,
            }),
            Request::Upload(upload) => w.array(2).uint(UPLOAD).item(&**upload),
            Request::List => w.array(1).uint(LIST),
            Request::Show { instance } => w.array(2).uint(SHOW).uint(*instance),
            Request::Withdraw(withdraw) => w.array(2).uint(WITHDRAW).item(withdraw),
            Request::AddLemma(lemma) => w.array(2).uint(ADD_LEMMA).item(lemma),
            Request::Quote(ask) => w.array(2).uint(QUOTE).item(ask),
            Request::Deposit(credit) => w.array(2).uint(DEPOSIT).item(&**credit),
            Request::Balance => w.array(1).uint(BALANCE),
            Request::Receipts { after } => w.array(2).uint(RECEIPTS).uint(*after),
            Request::Renew(renew) => w.array(2).uint(RENEW).item(renew),
            Request::ReachMe { port, padding } => w.array(3).uint(REACH_ME).uint(u64::from(*port)).bytes(padding),
            Request::Reached(answer) => w.array(2).uint(REACHED).item(answer),
            Request::Events { after } => w.array(2).uint(EVENTS).uint(*after),
            Request::Part(part) => w.array(2).uint(PART).item(&**part),
            Request::UploadObject { object } => w.array(2).uint(UPLOAD_OBJECT).bytes(object),
            Request::Directory => w.array(1).uint(DIRECTORY),
            Request::Revoke(list) => w.array(2).uint(REVOKE).item(&**list),
            Request::Ticket => w.array(1).uint(TICKET),
        };
    }
    fn read(r: &mut Reader<'_>) -> Result<Request, Malformed> {
        const EXPECTED: &str = "a request: [number, its fields]";
        let malformed = r.malformed(EXPECTED);
        let len = r.array_up_to(3, EXPECTED)?;
        match (r.uint(TICKET, EXPECTED)?, len) {
            (GET_POLICY, 2) => Ok(Request::GetPolicy {
                kind: match r.uint(1, "a kind of principals: 0 (end users) or 1 (edge routers)")? {
                    0 => PrincipalKind::EndUser,
                    _ => PrincipalKind::EdgeRouter,
                },
            }),
            (UPLOAD, 2) => Ok(Request::Upload(Box::new(r.item()?))),
            (LIST, 1) => Ok(Request::List),
            (SHOW, 2) => Ok(Request::Show { instance: r.u64("the number of a program")? }),
            (WITHDRAW, 2) => Ok(Request::Withdraw(r.item()?)),
            (ADD_LEMMA, 2) => Ok(Request::AddLemma(r.item()?)),
            (QUOTE, 2) => Ok(Request::Quote(r.item()?)),
            (DEPOSIT, 2) => Ok(Request::Deposit(Box::new(r.item()?))),
            (BALANCE, 1) => Ok(Request::Balance),
            (RECEIPTS, 2) => Ok(Request::Receipts { after: r.u64("the number of a receipt")? }),
            (RENEW, 2) => Ok(Request::Renew(r.item()?)),
            (REACH_ME, 3) => {
                const PADDING: &str = "padding that makes the request as long as the datagram";
                let port = r.u16("a port")?;
                let malformed = r.malformed(PADDING);
                let padding = r.bytes(REACH_PADDING_MAX, PADDING)?.to_vec();
                if padding.len() < REACH_DATAGRAM_BYTES {
                    Err(malformed)
                } else {
                    Ok(Request::ReachMe { port, padding })
                }
            }
            (REACHED, 2) => Ok(Request::Reached(r.item()?)),
            (EVENTS, 2) => Ok(Request::Events { after: r.u64("the number of an event")? }),
            (PART, 2) => Ok(Request::Part(Box::new(r.item()?))),
            (UPLOAD_OBJECT, 2) => Ok(Request::UploadObject { object: r.fixed("the digest of an upload of 32 bytes")? }),
            (DIRECTORY, 1) => Ok(Request::Directory),
            (REVOKE, 2) => Ok(Request::Revoke(Box::new(r.item()?))),
            (TICKET, 1) => Ok(Request::Ticket),
            _ => Err(malformed),
        }
    }
}

impl Canonical for Reply {
    fn write(&self, w: &mut Writer) {
        match self {
            Reply::Policy(policy) => w.array(2).uint(GET_POLICY).item(policy),
            Reply::Receipt(receipt) => w.array(2).uint(UPLOAD).item(receipt),
            Reply::List(list) => write_list(w, LIST, list),
            Reply::Status(status) => w.array(2).uint(SHOW).item(status),
            Reply::Withdrawn(status) => w.array(2).uint(WITHDRAW).item(status),
            Reply::Lemma(place) => w.array(2).uint(ADD_LEMMA).item(place),
            Reply::Rejected(rejection) => w.array(2).uint(REJECTED).item(rejection),
            Reply::Quote(quote) => w.array(2).uint(QUOTE).item(quote),
            Reply::Balance { balance, held, receipts } => {
                w.array(4).uint(BALANCE).uint(*balance).uint(*held).uint(*receipts)
            }
            Reply::Receipts(receipts) => write_list(w, RECEIPTS, receipts),
            Reply::ReachSent => w.array(1).uint(REACH_ME),
            Reply::Reached { until_s } => w.array(2).uint(REACHED).uint(*until_s),
            Reply::Events(events) => write_list(w, EVENTS, events),
            Reply::Part { have } => w.array(2).uint(PART).uint(u64::from(*have)),
            Reply::Directory(directory) => w.array(2).uint(DIRECTORY).item(&**directory),
            Reply::Revocations { number } => w.array(2).uint(REVOKE).uint(*number),
            Reply::Ticket(grant) => w.array(2).uint(TICKET).item(&**grant),
        };
    }
    fn read(r: &mut Reader<'_>) -> Result<Reply, Malformed> {
        const EXPECTED: &str = "a reply: [number, its content]";
        let malformed = r.malformed(EXPECTED);
        let len = r.array_up_to(4, EXPECTED)?;
        Ok(match (r.uint(TICKET, EXPECTED)?, len) {
            (GET_POLICY, 2) => Reply::Policy(r.item()?),
            (UPLOAD, 2) => Reply::Receipt(r.item()?),
            (LIST, 2) => Reply::List(read_list(r, LIST_LEN_MAX)?),
            (SHOW, 2) => Reply::Status(r.item()?),
            (WITHDRAW, 2) => Reply::Withdrawn(r.item()?),
            (REJECTED, 2) => Reply::Rejected(r.item()?),
            (ADD_LEMMA, 2) => Reply::Lemma(r.item()?),
            (QUOTE, 2) => Reply::Quote(r.item()?),
            (BALANCE, 4) => Reply::Balance {
                balance: r.u64("an amount")?,
                held: r.u64("an amount")?,
                receipts: r.u64("how many receipts there are")?,
            },
            (RECEIPTS, 2) => Reply::Receipts(read_list(r, RECEIPTS_MAX)?),
            (REACH_ME, 1) => Reply::ReachSent,
            (REACHED, 2) => Reply::Reached { until_s: r.u64("the second until which it counts")? },
            (EVENTS, 2) => Reply::Events(read_list(r, EVENTS_MAX)?),
            (PART, 2) => Reply::Part { have: r.u32("how much is there")? },
            (DIRECTORY, 2) => Reply::Directory(Box::new(r.item()?)),
            (REVOKE, 2) => Reply::Revocations { number: r.u64("the number of a list")? },
            (TICKET, 2) => Reply::Ticket(Box::new(r.item()?)),
            _ => return Err(malformed),
        })
    }
}

fn write_list<'w, T: Canonical>(w: &'w mut Writer, number: u64, list: &[T]) -> &'w mut Writer {
    w.array(2).uint(number).array(list.len());
    list.iter().fold(w, |w, item| w.item(item))
}

fn read_list<T: Canonical>(r: &mut Reader<'_>, len_max: usize) -> Result<Vec<T>, Malformed> {
    let count = r.array_up_to(len_max, "a list within its limit")?;
    let mut list = Vec::new();
    for _ in 0..count {
        list.push(r.item()?);
    }
    Ok(list)
}

/// A message as it is read.
struct Envelope<T> {
    id: u32,
    body: T,
}

impl<T: Canonical> Canonical for Envelope<T> {
    fn write(&self, w: &mut Writer) {
        write_message(w, self.id, &self.body);
    }
    fn read(r: &mut Reader<'_>) -> Result<Envelope<T>, Malformed> {
        r.array(3, "a message: [version, id, body]")?;
        let version = r.malformed("version 2 of the messages");
        if r.u64("the version of a message")? != MESSAGE_VERSION {
            return Err(version);
        }
        Ok(Envelope { id: r.u32("the id of a message")?, body: r.item()? })
    }
}

fn write_message<T: Canonical>(w: &mut Writer, id: u32, body: &T) {
    w.array(3).uint(MESSAGE_VERSION).uint(u64::from(id)).item(body);
}

fn encode<T: Canonical>(id: u32, body: &T) -> Vec<u8> {
    let mut w = Writer::new();
    write_message(&mut w, id, body);
    w.finish()
}

/// The bytes of a request.
#[must_use]
pub fn encode_request(id: u32, request: &Request) -> Vec<u8> {
    encode(id, request)
}

/// The bytes of a reply.
#[must_use]
pub fn encode_reply(id: u32, reply: &Reply) -> Vec<u8> {
    encode(id, reply)
}

/// The request of these bytes and its id.
///
/// # Errors
/// [`Malformed`].
pub fn decode_request(bytes: &[u8]) -> Result<(u32, Request), Malformed> {
    cbor::from_bytes(bytes).map(|Envelope { id, body }| (id, body))
}

/// The reply of these bytes and its id.
///
/// # Errors
/// [`Malformed`].
pub fn decode_reply(bytes: &[u8]) -> Result<(u32, Reply), Malformed> {
    cbor::from_bytes(bytes).map(|Envelope { id, body }| (id, body))
}

#[cfg(test)]
mod tests;
