//! Requests and replies.
//!
//! A request is `[version, id, body]`, and its reply carries the same id, so that requests may follow each other
//! without waiting. Bodies are arrays whose first item tells them apart. Every message has one encoding and is bounded
//! in every field. A reply with id 0 is about the session itself and ends it.

pub use crate::cbor::Malformed;
pub use crate::signed::{Class, Receipt, ReceiptTerms, SignedPolicy, Terms, Upload, Withdraw, fresh_nonce};

use crate::cbor::{self, Canonical, Reader, Writer};
use crate::limits::{CODE_BYTES_MAX, LIST_LEN_MAX, TEXT_BYTES_MAX};
use std::fmt;
use vinet_trusted::lemma::{LEMMA_BYTES_MAX, LEMMA_PROOF_BYTES_MAX};
use vinet_trusted::policy::PrincipalKind;

/// The version of the messages.
pub const MESSAGE_VERSION: u64 = 1;

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
}

impl Canonical for ProgramStatus {
    fn write(&self, w: &mut Writer) {
        w.array(12).uint(self.instance).bytes(&self.program_id).item(&self.class).uint(self.complexity);
        w.uint(self.cost).uint(u64::from(self.packet_rate)).uint(u64::from(self.seconds_left));
        w.uint(self.packets_seen).uint(self.bytes_seen).uint(self.packets_discarded).uint(self.bytes_discarded);
        w.uint(self.packets_over_budget);
    }
    fn read(r: &mut Reader<'_>) -> Result<ProgramStatus, Malformed> {
        r.array(12, "a program's status of 12 items")?;
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
        })
    }
}

/// Why a request was not granted. Its text is one line without control characters, whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    code: String,
    text: String,
    instr: Option<u32>,
}

impl Rejection {
    /// A rejection with a short stable `code` of letters, digits, `-` and `_`, a `text` for people, and the number of the
    /// instruction that it is about. What does not fit is cut or replaced.
    #[must_use]
    pub fn new(code: &str, text: &str, instr: Option<u32>) -> Rejection {
        let code = code.chars().filter(|&c| is_code(c)).take(CODE_BYTES_MAX).collect();
        let mut line = String::new();
        for c in text.chars() {
            let c = if c.is_control() { ' ' } else { c };
            if line.len() + c.len_utf8() > TEXT_BYTES_MAX {
                break;
            }
            line.push(c);
        }
        Rejection { code, text: line, instr }
    }
    /// The short stable name of the reason.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }
    /// The reason in words.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
    /// The number of the instruction that it is about.
    #[must_use]
    pub const fn instr(&self) -> Option<u32> {
        self.instr
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

const fn is_code(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

impl Canonical for Rejection {
    fn write(&self, w: &mut Writer) {
        w.array(3).text(&self.code).text(&self.text);
        match self.instr {
            None => w.null(),
            Some(instr) => w.uint(u64::from(instr)),
        };
    }
    fn read(r: &mut Reader<'_>) -> Result<Rejection, Malformed> {
        const EXPECTED: &str = "a rejection: [code, one line of text, the number of an instruction or null]";
        let malformed = r.malformed(EXPECTED);
        r.array(3, EXPECTED)?;
        let code = r.text(CODE_BYTES_MAX, EXPECTED)?;
        let text = r.text(TEXT_BYTES_MAX, EXPECTED)?;
        if !code.chars().all(is_code) || text.chars().any(char::is_control) {
            return Err(malformed);
        }
        let instr = if r.null() { None } else { Some(r.u32(EXPECTED)?) };
        Ok(Rejection { code: code.to_owned(), text: text.to_owned(), instr })
    }
}

const GET_POLICY: u64 = 0;
const UPLOAD: u64 = 1;
const LIST: u64 = 2;
const SHOW: u64 = 3;
const WITHDRAW: u64 = 4;
const REJECTED: u64 = 5;
const ADD_LEMMA: u64 = 6;

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
        };
    }
    fn read(r: &mut Reader<'_>) -> Result<Request, Malformed> {
        const EXPECTED: &str = "a request: [number, its fields]";
        let malformed = r.malformed(EXPECTED);
        let len = r.array_up_to(2, EXPECTED)?;
        match (r.uint(ADD_LEMMA, EXPECTED)?, len) {
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
            _ => Err(malformed),
        }
    }
}

impl Canonical for Reply {
    fn write(&self, w: &mut Writer) {
        w.array(2);
        match self {
            Reply::Policy(policy) => w.uint(GET_POLICY).item(policy),
            Reply::Receipt(receipt) => w.uint(UPLOAD).item(receipt),
            Reply::List(list) => {
                w.uint(LIST).array(list.len());
                list.iter().fold(w, |w, status| w.item(status))
            }
            Reply::Status(status) => w.uint(SHOW).item(status),
            Reply::Withdrawn(status) => w.uint(WITHDRAW).item(status),
            Reply::Lemma(place) => w.uint(ADD_LEMMA).item(place),
            Reply::Rejected(rejection) => w.uint(REJECTED).item(rejection),
        };
    }
    fn read(r: &mut Reader<'_>) -> Result<Reply, Malformed> {
        const EXPECTED: &str = "a reply: [number, its content]";
        r.array(2, EXPECTED)?;
        Ok(match r.uint(ADD_LEMMA, EXPECTED)? {
            GET_POLICY => Reply::Policy(r.item()?),
            UPLOAD => Reply::Receipt(r.item()?),
            LIST => {
                let count = r.array_up_to(LIST_LEN_MAX, "a list within its limit")?;
                let mut list = Vec::new();
                for _ in 0..count {
                    list.push(r.item()?);
                }
                Reply::List(list)
            }
            SHOW => Reply::Status(r.item()?),
            WITHDRAW => Reply::Withdrawn(r.item()?),
            REJECTED => Reply::Rejected(r.item()?),
            _ => Reply::Lemma(r.item()?),
        })
    }
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
        let version = r.malformed("version 1 of the messages");
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
mod tests {
    use super::*;
    use crate::testing::{Random, Testbed, seed};
    use vinet_trusted::addr::{Addr, Principal};

    fn array<const N: usize>(random: &mut Random) -> [u8; N] {
        random.bytes(N).try_into().unwrap()
    }

    /// A number whose length in CBOR is as often one as another.
    fn number(random: &mut Random) -> u64 {
        random.next() >> random.below(64)
    }

    fn principal(random: &mut Random) -> Principal {
        match random.below(3) {
            0 => Principal::EndUser(Addr::V4(random.next() as u32)),
            1 => Principal::EndUser(Addr::V6(u128::from(random.next()))),
            _ => Principal::edge_router(Addr::V4(random.next() as u32), random.below(33) as u8).unwrap(),
        }
    }

    fn class(random: &mut Random) -> Class {
        if random.below(2) == 0 { Class::Header } else { Class::Content }
    }

    fn status(random: &mut Random) -> ProgramStatus {
        ProgramStatus {
            instance: number(random),
            program_id: array(random),
            class: class(random),
            complexity: number(random),
            cost: number(random),
            packet_rate: number(random) as u32,
            seconds_left: number(random) as u32,
            packets_seen: number(random),
            bytes_seen: number(random),
            packets_discarded: number(random),
            bytes_discarded: number(random),
            packets_over_budget: number(random),
        }
    }

    fn request(random: &mut Random, testbed: &Testbed) -> Request {
        match random.below(6) {
            0 => Request::GetPolicy {
                kind: if random.below(2) == 0 { PrincipalKind::EndUser } else { PrincipalKind::EdgeRouter },
            },
            1 => {
                let proof_len = random.below(300) as usize;
                let program_len = random.below(300) as usize;
                let terms = Terms {
                    router: testbed.router.public(),
                    policy_id: array(random),
                    lemma_root: array(random),
                    program: random.bytes(program_len),
                    proof: (random.below(3) > 0).then(|| random.bytes(proof_len)),
                    principal: principal(random),
                    class: class(random),
                    complexity: number(random),
                    cost: number(random),
                    lifetime_s: number(random) as u32,
                    packet_rate: number(random) as u32,
                    nonce: array(random),
                    expiry_s: number(random),
                };
                Request::Upload(Box::new(Upload::sign(terms, &testbed.owner)))
            }
            2 => Request::List,
            3 => Request::Show { instance: number(random) },
            4 => {
                let (lemma_len, proof_len) = (random.below(300) as usize, random.below(300) as usize);
                Request::AddLemma(NewLemma { lemma: random.bytes(lemma_len), proof: random.bytes(proof_len) })
            }
            _ => {
                let (instance, expiry_s) = (number(random), number(random));
                let router = testbed.router.public();
                Request::Withdraw(Withdraw::sign(router, instance, array(random), expiry_s, &testbed.owner))
            }
        }
    }

    fn reply(random: &mut Random, testbed: &Testbed) -> Reply {
        match random.below(6) {
            0 => {
                let terms = ReceiptTerms {
                    instance: number(random),
                    program_id: array(random),
                    principal: principal(random),
                    policy_id: array(random),
                    class: class(random),
                    complexity: number(random),
                    cost: number(random),
                    packet_rate: number(random) as u32,
                    installed_s: number(random),
                    ends_s: number(random),
                    nonce: array(random),
                };
                Reply::Receipt(Receipt::sign(terms, &testbed.router))
            }
            1 => Reply::List((0..random.below(30)).map(|_| status(random)).collect()),
            2 => Reply::Status(status(random)),
            3 => Reply::Withdrawn(status(random)),
            4 => Reply::Lemma(LemmaPlace { index: number(random) as u32, root: array(random) }),
            _ => {
                let instr = (random.below(2) == 0).then(|| number(random) as u32);
                let (code_len, text_len) = (random.below(80) as usize, random.below(2000) as usize);
                let code = String::from_utf8_lossy(&random.bytes(code_len)).into_owned();
                let text = String::from_utf8_lossy(&random.bytes(text_len)).into_owned();
                Reply::Rejected(Rejection::new(&code, &text, instr))
            }
        }
    }

    #[test]
    fn messages_are_read_as_they_were_written_and_only_in_that_form() {
        let testbed = Testbed::new();
        let seed = seed();
        let mut random = Random::new(seed);
        for round in 0..1500 {
            let id = number(&mut random) as u32;
            let request = request(&mut random, &testbed);
            let reply = reply(&mut random, &testbed);
            let bytes = encode_request(id, &request);
            assert_eq!(decode_request(&bytes), Ok((id, request)), "seed {seed}, round {round}");
            damage(&mut random, bytes, |b| decode_request(b).ok().map(|(id, request)| encode_request(id, &request)));
            let bytes = encode_reply(id, &reply);
            assert_eq!(decode_reply(&bytes), Ok((id, reply)), "seed {seed}, round {round}");
            damage(&mut random, bytes, |b| decode_reply(b).ok().map(|(id, reply)| encode_reply(id, &reply)));
        }
    }

    /// Whatever is made of the bytes, what can be read is what would be written.
    fn damage(random: &mut Random, bytes: Vec<u8>, read: impl Fn(&[u8]) -> Option<Vec<u8>>) {
        for _ in 0..8 {
            let mut changed = bytes.clone();
            let at = random.below(changed.len() as u64) as usize;
            match random.below(4) {
                0 => changed[at] = random.next() as u8,
                1 => changed.truncate(at),
                2 => changed.insert(at, random.next() as u8),
                _ => drop(changed.remove(at)),
            }
            if let Some(again) = read(&changed) {
                assert_eq!(again, changed);
            }
        }
    }

    #[test]
    fn lengths_that_lie_cost_nothing() {
        // Arrays and strings that announce more than there is, at every place where one may stand.
        for body in [&[0x9b, 0xff][..], &[0x82, 0x02, 0x9b, 0xff], &[0x82, 0x01, 0x9b, 0xff]] {
            let mut bytes = vec![0x83, 0x01, 0x01];
            bytes.extend_from_slice(body);
            bytes.extend_from_slice(&[0xff; 7]);
            assert!(decode_request(&bytes).is_err() && decode_reply(&bytes).is_err());
        }
        assert!(decode_reply(&[0x83, 0x01, 0x01, 0x82, 0x02, 0x19, 0x10, 0x01]).is_err());
        // Nesting deeper than any message.
        assert!(decode_request(&vec![0x81; 1_000_000]).is_err());
    }

    #[test]
    fn a_full_list_fits_into_a_message() {
        let most = ProgramStatus {
            instance: u64::MAX,
            program_id: [0xff; 32],
            class: Class::Content,
            complexity: u64::MAX,
            cost: u64::MAX,
            packet_rate: u32::MAX,
            seconds_left: u32::MAX,
            packets_seen: u64::MAX,
            bytes_seen: u64::MAX,
            packets_discarded: u64::MAX,
            bytes_discarded: u64::MAX,
            packets_over_budget: u64::MAX,
        };
        let list = vec![most; LIST_LEN_MAX];
        assert!(encode_reply(u32::MAX, &Reply::List(list)).len() <= crate::limits::MESSAGE_BYTES_MAX);
    }

    #[test]
    fn rejections_are_one_plain_line() {
        let rejection =
            Rejection::new("a b\n\u{1b}[31mc_d-e", &format!("one\r\ntwo\u{1b}[0m{}", "é".repeat(2000)), None);
        assert_eq!(rejection.code(), "ab31mc_d-e");
        assert!(rejection.text().starts_with("one  two [0m") && rejection.text().len() <= TEXT_BYTES_MAX);
        assert!(!rejection.text().chars().any(char::is_control));
        // A router that sends control characters is refused.
        let mut w = Writer::new();
        w.array(3).uint(1).uint(1).array(2).uint(REJECTED).array(3).text("no").text("a\nb").null();
        assert!(decode_reply(&w.finish()).is_err());
    }
}
