//! Keys, files, and a router with a ledger that loses replies when it is told to.

use serde_json::Value;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vinet_client::replay::builtin_policy;
use vinet_session::identity::{Authority, Identity, Ownership, PublicKey};
use vinet_session::message::{
    Class, Event, LemmaPlace, NewLemma, Part, ProgramStatus, Quote, QuoteAsk, Receipt, Rejection, Reply, Request,
    SignedPolicy, Tariff, Terms, Upload, fresh_nonce, object_id,
};
use vinet_session::payment::{Bank, QuoteTerms};
use vinet_session::receipt::{ChainHead, Ending, Installed, ReceiptSubject};
use vinet_session::{
    Door, NonceCache, Now, Server, ServerEvent, SignedDirectory, verify_renew, verify_upload, verify_withdraw,
};
use vinet_trusted::addr::PrefixSet;
use vinet_trusted::check::{Checked, check};
use vinet_trusted::gate::Cell;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::policy::{Policy, PrincipalKind};
use vinet_trusted::program::Instr;

/// What the router of these tests says of programs that make packets.
pub(crate) const UNSUPPORTED: &str = "this router's workers make no packets";

/// Keys, a folder for files, and a router that serves one connection after the other.
pub(crate) struct Lab {
    pub(crate) dir: TempDir,
    pub(crate) router: Router,
}

/// A router, and what it has in its books.
pub(crate) struct Router {
    pub(crate) addr: SocketAddr,
    books: Arc<Mutex<Books>>,
}

/// What the tests look at and change.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) installed: Vec<ProgramStatus>,
    pub(crate) uploads: usize,
    pub(crate) tariff: Tariff,
    pub(crate) bank: Option<Bank>,
    pub(crate) directory: Option<SignedDirectory>,
    pub(crate) events: Vec<Event>,
    pub(crate) revocations: u64,
    /// The sources that it controls; any where there are none.
    pub(crate) controlled: Option<PrefixSet>,
    /// How many of the next replies are lost, each with its connection.
    pub(crate) lose: usize,
    /// Handshakes so far.
    pub(crate) handshakes: usize,
    /// Before the next connection it loses what a restart loses of sessions.
    pub(crate) restarts: bool,
    pub(crate) parts: usize,
    pub(crate) chains: HashMap<PublicKey, Vec<Receipt>>,
}

pub(crate) fn vinet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vinet")).args(args).output().expect("vinet runs")
}

pub(crate) fn vinet_in(lab: &Lab, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vinet")).args(args).current_dir(lab.dir.path()).output().expect("vinet runs")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
pub(crate) fn succeeds(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
pub(crate) fn object(output: &Output) -> Value {
    let printed = text(&output.stdout);
    serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e}: {printed}{}", text(&output.stderr)))
}

/// The objects of a command that succeeds, one a line.
#[track_caller]
pub(crate) fn objects(output: &Output) -> Vec<Value> {
    succeeds(output).lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

fn keys(dir: &Path) {
    let ca = dir.to_str().expect("a plain path");
    succeeds(&vinet(&["ca", "init", "--out", ca]));
    let me = format!("{ca}/me.key");
    succeeds(&vinet(&["ca", "issue", "--ca", ca, "--principal", "192.0.2.2", "--out", &me]));
    let router = format!("{ca}/router.key");
    succeeds(&vinet(&["ca", "router", "--ca", ca, "--name", "edge1", "--address", "127.0.0.1", "--out", &router]));
}

impl Lab {
    pub(crate) fn new() -> Lab {
        let dir = tempfile::tempdir().expect("a temporary folder");
        keys(dir.path());
        let router = Router::start(dir.path(), "router.key");
        Lab { dir, router }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vinet"));
        command.args(args).current_dir(self.dir.path()).env("VINET_STATE", self.path("state"));
        command.env("VINET_IDENTITY", self.path("me.key")).env("VINET_AUTHORITY", self.path("authority.pub"));
        command
    }

    pub(crate) fn run_at(&self, router: &str, args: &[&str]) -> Output {
        self.command(args).args(["--router", router]).output().expect("vinet runs")
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.run_at(&self.router.addr.to_string(), args)
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.router.books()
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).expect("a file in a temporary folder");
    }
}

impl Router {
    /// A router with the identity in the file `name` of `dir`.
    pub(crate) fn start(dir: &Path, name: &str) -> Router {
        let identity = Arc::new(Identity::load(&dir.join(name)).expect("the router's identity"));
        let authority = Arc::new(Authority::load(&dir.join("authority.pub")).expect("the authority"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("its address");
        let books = Arc::new(Mutex::new(Books::default()));
        let state = State {
            identity,
            authority,
            policy: Arc::new(builtin_policy(PrincipalKind::EndUser, 32)),
            books: Arc::clone(&books),
            nonces: NonceCache::new(100, 100),
            lemmas: LemmaStore::clone(&vinet_prover::library()),
            roots: vec![vinet_prover::library().root()],
            answers: HashMap::new(),
            object: ([0; 32], Vec::new()),
        };
        std::thread::spawn(move || state.serve(&listener));
        Router { addr, books }
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("no panic")
    }
}

struct State {
    identity: Arc<Identity>,
    authority: Arc<Authority>,
    policy: Arc<Policy>,
    books: Arc<Mutex<Books>>,
    nonces: NonceCache,
    /// The library, and the owner's lemmas behind it.
    lemmas: LemmaStore,
    /// The roots that it has had.
    roots: Vec<[u8; 32]>,
    /// The receipts of requests that may be asked again: by their nonce or serial number.
    answers: HashMap<[u8; 16], Receipt>,
    /// The upload that comes in parts: its name, and what is there of it.
    object: ([u8; 32], Vec<u8>),
}

fn rejected(code: &str, text: &str) -> Reply {
    Reply::Rejected(Rejection::new(code, text, None))
}

/// Where a program is about a source that the router does not control.
fn elsewhere(checked: Checked, controlled: Option<&PrefixSet>) -> Option<String> {
    let controlled = controlled?;
    let executable = vinet_pktops::Executable::lower(Arc::new(checked)).expect("a program that can be run");
    let strange = executable.cells().iter().map(Cell::src).find(|src| src.len() > 0 && !controlled.overlaps(*src))?;
    Some(format!("the source {strange} is not controlled by this router"))
}

impl State {
    fn serve(mut self, listener: &TcpListener) {
        let origin = Instant::now();
        let (identity, authority) = (Arc::clone(&self.identity), Arc::clone(&self.authority));
        let door = || {
            let door = Door::new(Arc::clone(&identity), Arc::clone(&authority)).expect("a router's identity");
            Arc::new(door.with_sealing(Now::read(origin)).expect("random bytes"))
        };
        let mut open = door();
        for stream in listener.incoming().flatten() {
            if std::mem::take(&mut self.books.lock().expect("no panic").restarts) {
                open = door();
            }
            let server = Server::at(Arc::clone(&open), Now::read(origin));
            // A client that goes away in the middle ends its own session only.
            let _ = self.session(server, stream, origin);
        }
    }

    fn session(
        &mut self,
        mut server: Server,
        mut stream: TcpStream,
        origin: Instant,
    ) -> Result<(), Box<dyn std::error::Error>> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut buffer = [0; 4096];
        loop {
            loop {
                match server.poll(Now::read(origin)) {
                    Ok(None) => break,
                    Ok(Some(ServerEvent::Established(_))) => self.books.lock().expect("no panic").handshakes += 1,
                    Ok(Some(ServerEvent::Request { id, request })) => {
                        let owner = *server.peer().expect("an established session has an owner");
                        let reply = self.reply(&owner, request);
                        let lost = {
                            let mut books = self.books.lock().expect("no panic");
                            let lost = books.lose > 0;
                            books.lose = books.lose.saturating_sub(1);
                            lost
                        };
                        if lost {
                            return Ok(());
                        }
                        server.reply(id, &reply, Now::read(origin))?;
                    }
                    Err(error) => {
                        stream.write_all(server.transmit())?;
                        return Err(error.into());
                    }
                }
            }
            stream.write_all(server.transmit())?;
            server.transmitted(server.transmit().len());
            let room = server.room().min(buffer.len());
            let read = stream.read(&mut buffer[..room])?;
            if read == 0 {
                return Ok(());
            }
            server.receive(&buffer[..read]);
        }
    }

    fn reply(&mut self, owner: &Ownership, request: Request) -> Reply {
        let now_s = Now::read(Instant::now()).wall_s;
        let id = self.identity.public();
        let books = Arc::clone(&self.books);
        let mut books = books.lock().expect("no panic");
        match request {
            Request::GetPolicy { kind: PrincipalKind::EndUser } => {
                let root = vinet_prover::library().root();
                Reply::Policy(SignedPolicy::sign(&self.policy, root, books.tariff, &self.identity))
            }
            Request::GetPolicy { .. } => rejected("no-policy", "no policy for these"),
            Request::AddLemma(NewLemma { lemma, proof }) => match self.lemmas.add(&lemma, &proof) {
                Ok(number) => {
                    self.roots.push(self.lemmas.root());
                    Reply::Lemma(LemmaPlace { index: number as u32, root: self.lemmas.root() })
                }
                Err(error) => rejected("lemma-rejected", &error.to_string()),
            },
            Request::Upload(upload) => self.upload(&mut books, owner, *upload, now_s),
            Request::Part(part) => self.part(&mut books, *part),
            Request::UploadObject { object } if object != self.object.0 => {
                rejected("unknown-object", "no such upload is here")
            }
            Request::UploadObject { object } => {
                assert_eq!(object_id(&self.object.1), object, "all of it is there");
                let upload = Upload::decode(&self.object.1).expect("an upload");
                self.upload(&mut books, owner, upload, now_s)
            }
            Request::Ticket => unreachable!("the session answers that itself"),
            Request::List => Reply::List(books.installed.clone()),
            Request::Show { instance } => find(&mut books, instance, false),
            Request::Withdraw(withdraw) => match verify_withdraw(&withdraw, owner, &id, now_s, &mut self.nonces) {
                Ok(instance) => {
                    let reply = find(&mut books, instance, true);
                    let why = Ending::Withdrawn;
                    self.receipt(&mut books, owner, 0, 0, ReceiptSubject::Ended { instance, why }, now_s);
                    reply
                }
                Err(fault) => Reply::Rejected(fault.into()),
            },
            Request::Quote(ask) => self.quote(&books, owner, ask, now_s),
            Request::Balance => {
                let chain = books.chains.get(&owner.key());
                let balance = chain.and_then(|chain| chain.last()).map_or(0, |receipt| receipt.terms().balance);
                Reply::Balance { balance, held: 0, receipts: chain.map_or(0, Vec::len) as u64 }
            }
            // Two a time, so that a client has to come again.
            Request::Receipts { after } => Reply::Receipts(
                books
                    .chains
                    .get(&owner.key())
                    .map_or(&[][..], Vec::as_slice)
                    .iter()
                    .skip(after as usize)
                    .take(2)
                    .cloned()
                    .collect(),
            ),
            Request::Deposit(credit) => {
                let serial = credit.terms().serial;
                if let Some(receipt) = self.answers.get(&serial) {
                    return Reply::Receipt(receipt.clone());
                }
                let Some(bank) = books.bank.clone() else { return rejected("no-bank", "no bank here") };
                let amount = match credit.accept(&bank, &id, &owner.key(), now_s) {
                    Ok(terms) => terms.amount,
                    Err(fault) => return Reply::Rejected(fault.into()),
                };
                let subject = ReceiptSubject::Deposited { serial };
                let receipt = self.receipt(&mut books, owner, 0, amount, subject, now_s).expect("money that comes in");
                self.answers.insert(serial, receipt.clone());
                Reply::Receipt(receipt)
            }
            Request::Renew(renew) => {
                if let Some(receipt) = self.answers.get(&renew.nonce()) {
                    return Reply::Receipt(receipt.clone());
                }
                let instance = match verify_renew(&renew, owner, &id, now_s, &mut self.nonces) {
                    Ok(instance) => instance,
                    Err(fault) => return Reply::Rejected(fault.into()),
                };
                let Some(status) = books.installed.iter_mut().find(|status| status.instance == instance) else {
                    return rejected("not-found", "there is no such program of yours");
                };
                let lifetime_s = status.cost / status.complexity;
                status.seconds_left = lifetime_s as u32;
                let subject = ReceiptSubject::Renewed { instance, ends_s: now_s + lifetime_s, nonce: renew.nonce() };
                match self.receipt(&mut books, owner, renew.payment(), 0, subject, now_s) {
                    Some(receipt) => {
                        self.answers.insert(renew.nonce(), receipt.clone());
                        Reply::Receipt(receipt)
                    }
                    None => rejected("no-money", "the account has less"),
                }
            }
            Request::Events { after } => {
                Reply::Events(books.events.iter().filter(|event| event.number > after).cloned().collect())
            }
            Request::Directory => match &books.directory {
                Some(directory) => Reply::Directory(Box::new(directory.clone())),
                None => rejected("no-directory", "no directory here"),
            },
            Request::Revoke(list) => match list.verify(&self.authority) {
                Ok(list) => {
                    books.revocations = books.revocations.max(list.number());
                    Reply::Revocations { number: books.revocations }
                }
                Err(fault) => Reply::Rejected(fault.into()),
            },
            Request::ReachMe { .. } | Request::Reached(_) => rejected("not-served", "this router does not answer this"),
        }
    }

    fn part(&mut self, books: &mut Books, part: Part) -> Reply {
        books.parts += 1;
        if part.object != self.object.0 {
            self.object = (part.object, Vec::new());
        }
        let have = &mut self.object.1;
        if have.len() == part.offset as usize {
            have.extend_from_slice(&part.bytes);
        }
        Reply::Part { have: have.len() as u32 }
    }

    fn quote(&self, books: &Books, owner: &Ownership, ask: QuoteAsk, now_s: u64) -> Reply {
        let lifetime_s = u64::from(ask.lifetime_s);
        let price = books.tariff.price(ask.complexity, ask.packet_rate, ask.state_bytes, lifetime_s);
        let terms = QuoteTerms {
            principal: owner.principal(),
            class: ask.class,
            complexity: ask.complexity,
            packet_rate: ask.packet_rate,
            state_bytes: ask.state_bytes,
            lifetime_s: ask.lifetime_s,
            price: price.expect("a price that can be written"),
            expiry_s: now_s + 300,
            nonce: fresh_nonce().expect("random bytes"),
        };
        Reply::Quote(Quote::sign(terms, &self.identity))
    }

    /// The next receipt of the owner's chain; none where the account has too little.
    fn receipt(
        &self,
        books: &mut Books,
        owner: &Ownership,
        paid: u64,
        given_back: u64,
        subject: ReceiptSubject,
        now_s: u64,
    ) -> Option<Receipt> {
        let chain = books.chains.entry(owner.key()).or_default();
        let mut head = ChainHead::start(owner.key());
        chain.iter().for_each(|receipt| head.push(receipt).expect("a chain"));
        let receipt = Receipt::sign(head.next(now_s, paid, given_back, subject)?, &self.identity);
        chain.push(receipt.clone());
        Some(receipt)
    }

    fn upload(&mut self, books: &mut Books, owner: &Ownership, upload: Upload, now_s: u64) -> Reply {
        books.uploads += 1;
        if let Some(receipt) = self.answers.get(&upload.terms().nonce) {
            return Reply::Receipt(receipt.clone());
        }
        let roots = &self.roots;
        let knows_lemmas = |root: &[u8; 32]| roots.contains(root);
        let (policy, id) = (self.policy.id(), self.identity.public());
        let verified = verify_upload(upload, owner, &id, &policy, knows_lemmas, now_s, &mut self.nonces);
        let terms = match verified {
            Ok(authentic) => authentic.into_terms(),
            Err(fault) => return Reply::Rejected(fault.into()),
        };
        let checked = match self.check(&terms) {
            Ok(checked) => checked,
            Err(rejection) => return Reply::Rejected(rejection),
        };
        let price = books.tariff.price(
            checked.complexity(),
            terms.packet_rate,
            checked.state_bytes(),
            u64::from(terms.lifetime_s),
        );
        if terms.quote.is_none() && price.is_none_or(|price| terms.payment < price) {
            return rejected("price", "the payment is below the price");
        }
        let status = ProgramStatus {
            instance: books.installed.len() as u64 + 7,
            program_id: checked.program_id(),
            class: Class::of(checked.program()),
            complexity: checked.complexity(),
            cost: checked.cost(),
            packet_rate: terms.packet_rate,
            seconds_left: terms.lifetime_s,
            packets_seen: 10,
            bytes_seen: 1000,
            packets_discarded: 4,
            bytes_discarded: 400,
            packets_over_budget: 0,
            monitor: terms.monitor,
        };
        if let Some(strange) = elsewhere(checked, books.controlled.as_ref()) {
            return rejected("source-not-controlled", &strange);
        }
        let subject = ReceiptSubject::Installed(Box::new(Installed {
            instance: status.instance,
            program_id: status.program_id,
            principal: terms.principal,
            policy_id: terms.policy_id,
            class: status.class,
            complexity: status.complexity,
            cost: status.cost,
            packet_rate: status.packet_rate,
            installed_s: now_s,
            ends_s: now_s + u64::from(terms.lifetime_s),
            nonce: terms.nonce,
            monitor: terms.monitor,
        }));
        let Some(receipt) = self.receipt(books, owner, terms.payment, 0, subject, now_s) else {
            return rejected("no-money", "the account has less");
        };
        books.installed.push(status);
        self.answers.insert(terms.nonce, receipt.clone());
        Reply::Receipt(receipt)
    }

    fn check(&self, terms: &Terms) -> Result<Checked, Rejection> {
        let proof = terms.proof.clone().unwrap_or_else(|| {
            let program = vinet_trusted::program::Program::decode(&terms.program).expect("a program");
            vinet_prover::analyse(&program, &terms.principal, &self.policy, &self.lemmas).unwrap_or_default()
        });
        let checked = check(&terms.program, &proof, terms.principal, &self.policy, &self.lemmas).map_err(|reject| {
            let instr = reject.instr().map(|instr| instr as u32);
            Rejection::new(reject.code(), &reject.to_string(), instr)
        })?;
        assert_eq!((checked.complexity(), checked.cost()), (terms.complexity, terms.cost), "as declared");
        let body = checked.program().body();
        match body.iter().position(|instr| matches!(instr, Instr::Generate { .. })) {
            None => Ok(checked),
            Some(at) => Err(Rejection::new("generate-unsupported", UNSUPPORTED, Some(at as u32))),
        }
    }
}

fn find(books: &mut Books, instance: u64, withdraw: bool) -> Reply {
    match books.installed.iter().position(|status| status.instance == instance) {
        Some(at) if withdraw => Reply::Withdrawn(books.installed.remove(at)),
        Some(at) => Reply::Status(books.installed[at].clone()),
        None => rejected("not-found", "there is no such program of yours"),
    }
}
