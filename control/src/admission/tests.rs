mod money;

use super::*;
use proptest::prelude::*;
use vinet_fastpath::flow_table::ProgramCounts;
use vinet_pktops::Lowerings;
use vinet_session::identity::{Authority, AuthorityKey, Subject, Validity};
use vinet_session::message::{Credit, Receipt, Tariff, Terms, Withdraw, fresh_nonce};
use vinet_session::payment::{BankKey, CreditTerms};
use vinet_session::receipt::{self, ReceiptSubject};
use vinet_trusted::packet::Test;
use vinet_trusted::policy::{Costs, Limits, OverBudget, Policy};
use vinet_trusted::program::{ALL_PACKETS, AddrExpr, Field, Instr, Program};

use crate::config::Verify;
use crate::sources::{ClassQuota, QuotaLimits, ShutOffLimits};
use crate::store::{Committer, Done, Options, Store, Transaction};

const NOW: Now = Now { wall_s: 1_800_000_000, mono_ms: 50_000 };

fn later(seconds: u64) -> Now {
    Now { wall_s: NOW.wall_s + seconds, mono_ms: NOW.mono_ms + seconds * 1_000 }
}

/// A table that only remembers, and can be told to fail.
#[derive(Default)]
struct FakeTable {
    installed: BTreeSet<InstallId>,
    refused: BTreeSet<InstallId>,
    /// What is refused until what was retired is freed.
    crowded: BTreeSet<InstallId>,
    stuck: bool,
}

impl ProgramTable for FakeTable {
    fn install_all(&mut self, installs: Vec<Install>) -> Result<(), InstallError> {
        if self.stuck || installs.iter().any(|install| self.crowded.contains(&install.id)) {
            return Err(InstallError::RetiredFull { retired: 1 });
        }
        if installs.iter().any(|install| self.refused.contains(&install.id)) {
            return Err(InstallError::TooManyCells { cells_max: 1 });
        }
        for install in installs {
            assert!(self.installed.insert(install.id), "an instance was used twice");
        }
        Ok(())
    }
    fn withdraw(&mut self, id: InstallId) -> Result<(), InstallError> {
        if self.stuck {
            return Err(InstallError::RetiredFull { retired: 1 });
        }
        assert!(self.installed.remove(&id), "{id:?} is not installed");
        Ok(())
    }
    fn counts(&self, _: InstallId) -> Option<ProgramCounts> {
        None
    }
    fn free_passed(&mut self) {
        self.crowded.clear();
    }
}

fn addr(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().unwrap().into()
}
pub(crate) fn prefix(text: &str) -> Prefix {
    let (a, len) = text.split_once('/').unwrap();
    Prefix::new(addr(a), len.parse().unwrap()).unwrap()
}

pub(crate) fn policy() -> Policy {
    Policy {
        name: "end-user".into(),
        principals: PrincipalKind::EndUser,
        discard: Test::Owns { field: Field::Dst },
        group: Test::Owns { field: Field::Dst },
        scan: Test::Owns { field: Field::Dst },
        generate: Test::False,
        costs: Costs {
            program: 100,
            select: 10,
            select_many: 5,
            partition: 10,
            foreach: 10,
            test: 5,
            set: 5,
            arithmetic: 5,
            turn: 5,
            discard: 5,
            contains: 50,
            contains_per_64_bytes: 10,
            stream: 100,
            content: 50,
            content_per_64_bytes: 10,
            generate: 50,
            generate_per_64_bytes: 10,
        },
        limits: Limits {
            program_bytes_max: 4096,
            proof_bytes_max: 4096,
            lifetime_max_s: 86_400,
            complexity_max: 100_000,
            cost_max: 1 << 40,
            packet_bytes_max: 1514,
            window_packets_max: 32,
            window_us_max: 200,
            generate_port: 7401,
            generate_rate_max: 0,
            stream_flows_max: 16,
            stream_islands_max: 4,
            packet_rate_default: 1_000,
            packet_rate_max: 100_000,
            over_budget: OverBudget::Forward,
        },
    }
}

/// A proof that `program` keeps the policy of these tests.
pub(crate) fn prove(program: &Program, principal: &Principal) -> Option<Vec<u8>> {
    vinet_prover::prove(program, principal, &policy(), &vinet_prover::library(), &[]).ok()
}

/// The paper's firewall against `blocked`.
pub(crate) fn firewall(blocked: &[Prefix], lifetime_s: u32) -> Program {
    let select = |out, arg, field, addrs| Instr::Select { out, arg, test: Test::In { field, addrs } };
    let this_ip = AddrExpr { this_ip: true, this_subnet: false, prefixes: PrefixSet::default() };
    let sources = AddrExpr { this_ip: false, this_subnet: false, prefixes: PrefixSet::new(blocked.to_vec()) };
    let body =
        vec![select(1, ALL_PACKETS, Field::Dst, this_ip), select(2, 1, Field::Src, sources), Instr::Discard { arg: 2 }];
    Program::new(lifetime_s, 1, Vec::new(), body).unwrap()
}

/// A testbed: an authority, a bank, a router, its register, its table, and a store that believes nothing.
struct Bench {
    authority_key: AuthorityKey,
    authority: Authority,
    bank: BankKey,
    admission: Admission,
    table: FakeTable,
    lowerings: Lowerings,
    store: Committer<()>,
}

/// What a bench promises, and what it takes for it.
struct Deal {
    cycles: u64,
    memory: u64,
    per_owner: usize,
    tariff: Tariff,
    quota: u32,
}

impl Default for Deal {
    fn default() -> Deal {
        Deal { cycles: 1_000_000_000, memory: 1 << 30, per_owner: 100, tariff: Tariff::FREE, quota: 1_000 }
    }
}

impl Bench {
    fn new() -> Bench {
        Bench::with(Deal::default())
    }
    fn with(deal: Deal) -> Bench {
        let Deal { cycles, memory, per_owner, tariff, quota } = deal;
        let authority_key = AuthorityKey::generate("bench").unwrap();
        let subject = Subject::Router { name: "edge1".into(), addrs: vec![addr("192.0.2.1")] };
        let identity = authority_key.issue_identity(subject, Validity::starting(NOW.wall_s - 10, 1 << 30)).unwrap();
        let policies = Policies::sign(vec![policy()], vinet_prover::library().root(), tariff, &identity);
        let terrain = Terrain {
            controlled: PrefixSet::new(vec![prefix("192.0.2.0/24"), prefix("10.7.0.0/16")]),
            own: vec![addr("192.0.2.1")],
            workers: 2,
            programs_max: 1_000,
            programs_per_owner_max: per_owner,
        };
        let quota = ClassQuota { per_address: quota, per_prefix: quota, any_source: quota };
        let quotas = QuotaLimits { header: quota, content: quota };
        let shut_off = ShutOffLimits { owners: 0, back_below: 1, time_s: 60, respite_s: 60, sources_max: 8 };
        let bank = BankKey::generate("bank").unwrap();
        let books = Books {
            lemmas: Lemmas::new(vinet_prover::library(), 8, 4),
            budget: Budget::new(cycles, memory),
            ledger: Ledger::new(),
            payment: Payment { tariff, bank: Some(bank.bank()) },
            reach: Reach::new(false, 60, identity.public(), terrain.own.clone(), NOW),
            sources: Sources::new(quotas, shut_off),
        };
        let (store, _) = Store::in_memory(&identity.public(), Options::default()).unwrap();
        Bench {
            authority: authority_key.authority(),
            authority_key,
            bank,
            admission: Admission::new(Arc::new(identity), policies, books, terrain, NOW),
            table: FakeTable::default(),
            lowerings: Lowerings::default(),
            store: store.start(|| ()).unwrap(),
        }
    }

    fn user(&self, address: &str) -> User {
        let subject = Subject::Owner(Principal::EndUser(addr(address)));
        let identity =
            self.authority_key.issue_identity(subject, Validity::starting(NOW.wall_s - 10, 1 << 20)).unwrap();
        let ownership = self.authority.owner(identity.certificate(), NOW.wall_s).unwrap();
        User { identity, ownership }
    }

    /// Terms as an honest client makes them.
    fn terms(&self, user: &User, program: &Program, now: Now) -> Terms {
        let policy = Arc::new(policy());
        let principal = user.ownership.principal();
        let proof = prove(program, &principal).unwrap_or_default();
        let checked =
            vinet_trusted::check::check(&program.encode(), &proof, principal, &policy, &vinet_prover::library());
        let (complexity, cost) = checked.map_or((1, 1), |checked| (checked.complexity(), checked.cost()));
        Terms {
            router: self.admission.router,
            policy_id: policy.id(),
            lemma_root: vinet_prover::library().root(),
            program: program.encode(),
            proof: Some(proof),
            principal,
            class: Class::of(program),
            complexity,
            cost,
            lifetime_s: program.lifetime_s(),
            packet_rate: 1_000,
            payment: 0,
            quote: None,
            monitor: false,
            nonce: fresh_nonce().unwrap(),
            expiry_s: now.wall_s + 60,
        }
    }

    fn open(&mut self, user: &User, terms: &Terms, now: Now) -> Opened {
        self.admission.open(Upload::sign(terms.clone(), &user.identity), &user.ownership, now)
    }

    /// The rejection that is known without the judges.
    fn rejected_at_once(&mut self, user: &User, terms: &Terms) -> Reply {
        match self.open(user, terms, NOW) {
            Opened::Rejected(why) => Reply::Rejected(why),
            other => panic!("{other:?}"),
        }
    }

    /// What the store says: everything that is to be durable has to make sense to it.
    fn kept(&mut self) -> Done {
        loop {
            match self.store.committed() {
                Some(((), result)) => return result.expect("what admission says is consistent"),
                None => std::thread::yield_now(),
            }
        }
    }
    fn keep(&mut self, transaction: Transaction) {
        self.store.submit(transaction, ()).expect("there is room");
        assert_eq!(self.kept(), Done::Committed);
    }
    fn settle(&mut self, mut outcome: Outcome) -> Option<Reply> {
        if let Some(transaction) = outcome.transaction() {
            self.keep(transaction);
        }
        self.admission.settle(outcome, Ok(()))
    }
    fn again(&mut self, user: &User, answer: Answer) -> Reply {
        match answer {
            Answer::Bytes(bytes) => crate::requests::reply_of(&bytes),
            Answer::Receipt(number) => Reply::Receipt(self.receipts(user, number - 1).remove(0)),
        }
    }
    fn receipts(&mut self, user: &User, after: u64) -> Vec<Receipt> {
        self.store.receipts(user.ownership.key(), after, 1_000, ()).unwrap();
        match self.kept() {
            Done::Receipts(receipts) => receipts,
            Done::Committed => panic!("receipts were asked for"),
        }
    }

    /// Opened, judged, decided, admitted, kept.
    fn decide(&mut self, user: &User, terms: Terms, now: Now) -> Result<Decided, Box<Reply>> {
        let (question, case) = match self.open(user, &terms, now) {
            Opened::Rejected(why) => return Err(Box::new(Reply::Rejected(why))),
            Opened::Again(answer) => return Err(Box::new(self.again(user, answer))),
            Opened::Judge { question, case } => (question, case),
        };
        let signed = question.claim.verify().map_err(Rejection::from);
        let verdict = signed.and_then(|()| question.judge(Verify::Proof, &self.lowerings));
        let candidate = self.admission.decide(*case, question.upload, verdict, now);
        match candidate.and_then(|candidate| self.admission.admit(*candidate, now)) {
            Ok((decided, transaction)) => {
                self.keep(transaction);
                Ok(decided)
            }
            Err(outcome) => Err(Box::new(self.settle(*outcome).expect("somebody asked"))),
        }
    }

    /// All the way: and published.
    fn upload(&mut self, user: &User, terms: Terms, now: Now) -> Reply {
        match self.decide(user, terms, now) {
            Ok(decided) => self.publish(vec![decided], now).remove(0),
            Err(reply) => *reply,
        }
    }

    fn publish(&mut self, decided: Vec<Decided>, now: Now) -> Vec<Reply> {
        let decided = decided.into_iter().map(|decided| ((), decided)).collect();
        let published = self.admission.publish(decided, now, &mut self.table);
        let answer = |((), published)| match published {
            Ok(reply) => reply,
            Err(outcome) => self.settle(outcome).expect("somebody asked"),
        };
        published.into_iter().map(answer).collect()
    }

    fn withdraw(&mut self, user: &User, instance: u64, now: Now) -> Reply {
        let router = self.admission.router;
        let nonce = fresh_nonce().unwrap();
        let request = Withdraw::sign(router, instance, nonce, now.wall_s + 60, &user.identity);
        self.send_withdraw(user, &request, now)
    }

    fn send_withdraw(&mut self, user: &User, request: &Withdraw, now: Now) -> Reply {
        match self.admission.open_withdraw(request, &user.ownership, now) {
            Ok((claim, open)) => {
                let verdict = claim.verify().map_err(Rejection::from);
                let outcome = self.admission.withdraw(open, verdict, now, &mut self.table);
                self.settle(outcome).expect("somebody asked")
            }
            Err(Ok(answer)) => self.again(user, answer),
            Err(Err(why)) => Reply::Rejected(why),
        }
    }

    /// Ends what has run out; gives the instances.
    fn expire(&mut self, now: Now) -> Vec<u64> {
        let reaped = self.admission.reap(usize::MAX, now, &mut self.table);
        let end = |(ended, outcome): (Ended, Outcome)| {
            assert_eq!(self.settle(outcome), None);
            ended.instance
        };
        reaped.into_iter().map(end).collect()
    }

    fn used(&self) -> (u64, u64) {
        (self.admission.budget().cycles_per_second(), self.admission.budget().memory_bytes())
    }

    /// Everything that a rejection must leave as it was.
    fn state(&self) -> State {
        let a = &self.admission;
        a.ledger.audit().unwrap();
        let (holds, _) = a.ledger.open_holds();
        (a.programs.len(), a.by_owner.len(), a.wheel.len(), self.used(), a.budget.groups() + holds)
    }
}

type State = (usize, usize, usize, (u64, u64), usize);

/// A register with nothing in it.
const EMPTY: State = (0, 0, 0, (0, 0), 0);

struct User {
    identity: Identity,
    ownership: Ownership,
}

fn code(reply: &Reply) -> &str {
    match reply {
        Reply::Rejected(rejection) => rejection.code(),
        other => panic!("expected a rejection: {other:?}"),
    }
}
fn text(reply: &Reply) -> &str {
    match reply {
        Reply::Rejected(rejection) => rejection.text(),
        other => panic!("expected a rejection: {other:?}"),
    }
}
fn instance(reply: &Reply) -> u64 {
    match reply {
        Reply::Receipt(receipt) => receipt.terms().installed().expect("an installed program").instance,
        other => panic!("expected a receipt: {other:?}"),
    }
}

#[test]
fn a_lawful_program_is_installed_listed_shown_and_withdrawn() {
    let mut bench = Bench::new();
    let user = bench.user("198.51.100.7");
    let terms = bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 120), NOW);
    let complexity = terms.complexity;
    let reply = bench.upload(&user, terms, NOW);
    let Reply::Receipt(receipt) = &reply else { panic!("{reply:?}") };
    let router = bench.authority.router(bench.admission.identity.certificate(), NOW.wall_s).unwrap();
    assert_eq!(receipt.verify(&router).unwrap().installed().unwrap().ends_s, NOW.wall_s + 120);
    assert_eq!(bench.used().0, complexity * 1_000);
    assert!(bench.table.installed.contains(&InstallId(1)));

    let owner = user.ownership.principal();
    let Reply::List(list) = bench.admission.list(&owner, later(20), &bench.table) else { panic!() };
    assert_eq!((list.len(), list[0].instance, list[0].seconds_left), (1, 1, 100));
    let stranger = bench.user("198.51.100.8");
    assert_eq!(code(&bench.withdraw(&stranger, 1, NOW)), "not-found");
    let other = stranger.ownership.principal();
    assert_eq!(code(&bench.admission.show(1, &other, NOW, &bench.table)), "not-found");
    assert!(matches!(bench.withdraw(&user, 1, NOW), Reply::Withdrawn(status) if status.instance == 1));
    assert_eq!(code(&bench.withdraw(&user, 1, NOW)), "not-found");
    assert_eq!(bench.state(), EMPTY);
    assert!(bench.table.installed.is_empty());
}

#[test]
fn a_lifetime_ends_by_itself_and_not_early() {
    let mut bench = Bench::new();
    let user = bench.user("198.51.100.7");
    let terms = bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 30), NOW);
    bench.upload(&user, terms, NOW);
    assert!(bench.expire(later(29)).is_empty());
    // A table that cannot let go now keeps the program and its capacity; it is tried again.
    bench.table.stuck = true;
    assert!(bench.expire(later(30)).is_empty());
    assert_eq!((bench.used().0 > 0, bench.admission.doomed()), (true, 1));
    bench.table.stuck = false;
    assert_eq!(bench.expire(later(30)), [1]);
    assert_eq!(bench.state(), EMPTY);
    let events = bench.admission.events().after(&user.ownership.principal(), 0);
    assert_eq!((events.len(), events[0].code()), (1, "expired"));
}

#[test]
fn a_repeated_upload_gets_the_same_receipt_and_installs_nothing() {
    let mut bench = Bench::new();
    let user = bench.user("198.51.100.7");
    let terms = bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 30), NOW);
    let first = bench.upload(&user, terms.clone(), NOW);
    let before = bench.state();
    let again = bench.upload(&user, terms.clone(), later(1));
    assert_eq!(format!("{first:?}"), format!("{again:?}"));
    assert_eq!(bench.state(), before);
    // The same nonce for something else is a replay.
    let reply = bench.upload(&user, Terms { packet_rate: 7, ..terms }, NOW);
    assert_eq!(code(&reply), "replayed");
    assert_eq!(bench.state(), before);
}

#[test]
fn an_upload_that_is_being_checked_is_not_checked_twice() {
    let mut bench = Bench::new();
    let user = bench.user("198.51.100.7");
    let terms = bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 30), NOW);
    let Opened::Judge { case, .. } = bench.open(&user, &terms, NOW) else { panic!() };
    assert_eq!(code(&bench.rejected_at_once(&user, &terms)), "in-progress");
    let outcome = bench.admission.drop_case(*case, rejected("busy", "later"));
    assert_eq!(code(&bench.settle(outcome).unwrap()), "busy");
    assert_eq!(bench.state(), EMPTY);
    // It came to nothing, so the very same may be sent again.
    instance(&bench.upload(&user, terms, NOW));
}

#[test]
fn every_lie_and_every_excess_is_rejected_by_name_and_changes_nothing() {
    let mut bench = Bench::with(Deal { per_owner: 1, ..Deal::default() });
    let user = bench.user("198.51.100.7");
    let other = bench.user("198.51.100.8");
    let good = bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 30), NOW);
    let foreign = bench.terms(&user, &firewall(&[prefix("203.0.113.9/32")], 30), NOW);
    let foreign6 = bench.terms(&user, &firewall(&[prefix("2001:db8::/32")], 30), NOW);
    let cases = [
        (Terms { complexity: good.complexity + 1, ..good.clone() }, "complexity-differs", "is derived"),
        (Terms { cost: 5, ..good.clone() }, "cost-differs", "Cost of 5 is declared"),
        (Terms { lifetime_s: 31, ..good.clone() }, "lifetime-differs", "31 is declared, 30 is derived"),
        (Terms { class: Class::Content, ..good.clone() }, "class-differs", "Content"),
        (Terms { packet_rate: 0, ..good.clone() }, "packet-rate", "1 to 100000"),
        (Terms { packet_rate: 100_001, ..good.clone() }, "packet-rate", "100001"),
        (Terms { proof: None, ..good.clone() }, "proof-missing", "vinet prove"),
        (Terms { proof: Some(vec![0; 4097]), ..good.clone() }, "proof-too-long", "4097 bytes; the policy allows 4096"),
        (Terms { program: vec![0; 4097], ..good.clone() }, "program-too-long", "4097"),
        (Terms { lemma_root: [9; 32], ..good.clone() }, "stale-manifest", "send them again"),
        (Terms { policy_id: [9; 32], ..good.clone() }, "stale-policy", ""),
        (Terms { expiry_s: NOW.wall_s - 1, ..good.clone() }, "expired", ""),
        (Terms { principal: other.ownership.principal(), ..good.clone() }, "wrong-principal", ""),
        (foreign, "source-not-controlled", "it controls 10.7.0.0/16, 192.0.2.0/24"),
    ];
    let before = bench.state();
    for (terms, expected, words) in cases {
        let reply = bench.upload(&user, Terms { nonce: fresh_nonce().unwrap(), ..terms }, NOW);
        assert_eq!(code(&reply), expected, "{reply:?}");
        assert!(text(&reply).contains(words), "{reply:?}");
        assert_eq!(bench.state(), before, "{expected}");
    }
    // Nothing to the owner can come from another family, so this program has no cell at all, and no effect.
    instance(&bench.upload(&user, foreign6, NOW));
    assert_eq!(code(&bench.upload(&user, good, NOW)), "too-many-programs");
}

#[test]
fn a_request_signed_by_another_key_is_rejected() {
    let mut bench = Bench::new();
    let user = bench.user("198.51.100.7");
    let thief = bench.user("198.51.100.8");
    let terms = bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 30), NOW);
    let upload = Upload::sign(terms, &thief.identity);
    let Opened::Judge { question, case } = bench.admission.open(upload, &user.ownership, NOW) else { panic!() };
    let verdict = question.claim.verify().map_err(Rejection::from).map(|()| unreachable!("another key signed it"));
    let outcome = bench.admission.decide(*case, question.upload, verdict, NOW).unwrap_err();
    assert_eq!(code(&bench.settle(*outcome).unwrap()), "bad-signature");
    assert_eq!(bench.state(), EMPTY);
}

#[test]
fn a_forged_proof_is_rejected_and_names_the_instruction() {
    let mut bench = Bench::new();
    let user = bench.user("198.51.100.7");
    // Discards packets to anybody: nothing proves it.
    let everything = Program::new(30, 1, Vec::new(), vec![Instr::Discard { arg: ALL_PACKETS }]).unwrap();
    let mut terms = bench.terms(&user, &everything, NOW);
    let honest = bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 30), NOW);
    for proof in [Vec::new(), vec![0], vec![0xff; 64], honest.proof.clone().unwrap()] {
        terms.proof = Some(proof);
        terms.nonce = fresh_nonce().unwrap();
        let reply = bench.upload(&user, terms.clone(), NOW);
        assert!(matches!(reply, Reply::Rejected(_)), "{reply:?}");
        assert_eq!(bench.state(), EMPTY);
    }
    // With the router's own analysis no proof is needed, and this one finds none either.
    let lowerings = Lowerings::default();
    let judge = |terms: &Terms, verify| {
        let upload = Box::new(Upload::sign(terms.clone(), &user.identity));
        let claim = upload.claim(user.ownership.key());
        let (policy, lemmas) = (Arc::new(policy()), vinet_prover::library());
        Question { claim, upload, policy, lemmas, now_s: NOW.wall_s }.judge(verify, &lowerings)
    };
    terms.proof = None;
    let why = judge(&terms, Verify::Static).unwrap_err();
    assert_eq!(why.code(), "not-analysed", "{}", why.text());
    let unproven = Terms { proof: None, ..honest.clone() };
    for verify in [Verify::Either, Verify::Static] {
        assert!(judge(&unproven, verify).unwrap().proof.is_some(), "what was checked is kept");
    }
    assert!(judge(&honest, Verify::Either).unwrap().proof.is_none(), "it is in the upload");
}

#[test]
fn an_any_source_program_and_a_wide_prefix_are_about_the_controlled_sources() {
    let mut bench = Bench::new();
    let user = bench.user("198.51.100.7");
    for sources in ["0.0.0.0/0", "10.0.0.0/8", "10.7.3.0/24"] {
        let terms = bench.terms(&user, &firewall(&[prefix(sources)], 30), NOW);
        instance(&bench.upload(&user, terms, NOW));
    }
}

#[test]
fn load_above_the_capacity_is_rejected_and_names_what_is_free() {
    let mut bench = Bench::with(Deal { cycles: 100_000, ..Deal::default() });
    let user = bench.user("198.51.100.7");
    let terms = bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 30), NOW);
    let reply = bench.upload(&user, Terms { packet_rate: 100_000, ..terms.clone() }, NOW);
    assert_eq!(code(&reply), "no-capacity");
    assert!(text(&reply).contains("only 100000 are free"), "{reply:?}");
    assert_eq!(bench.state(), EMPTY);
    let fits = u32::try_from(100_000 / terms.complexity).unwrap();
    instance(&bench.upload(&user, Terms { packet_rate: fits, nonce: [3; 16], ..terms }, NOW));
}

#[test]
fn a_table_that_cannot_take_a_program_leaves_no_trace() {
    let mut bench = Bench::new();
    let user = bench.user("198.51.100.7");
    bench.table.stuck = true;
    let terms = bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 30), NOW);
    assert_eq!(code(&bench.upload(&user, terms, NOW)), "table");
    assert_eq!(bench.state(), EMPTY);
    // The store had it already, so its end is among the receipts.
    let receipts = bench.receipts(&user, 0);
    let router = bench.authority.router(bench.admission.identity.certificate(), NOW.wall_s).unwrap();
    assert_eq!((receipts.len(), receipt::verify_chain(&receipts, &router)), (2, Ok(())));
    let ended = ReceiptSubject::Ended { instance: 1, why: Ending::Displaced };
    assert_eq!(receipts[1].terms().subject, ended);
}

#[test]
fn of_programs_that_are_published_together_one_at_fault_stops_no_other() {
    let mut bench = Bench::new();
    let user = bench.user("198.51.100.7");
    let mut decide = || {
        let terms = bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 30), NOW);
        bench.decide(&user, terms, NOW).unwrap()
    };
    let decided = vec![decide(), decide(), decide()];
    // What is not in force is not shown, and cannot be withdrawn.
    assert_eq!(code(&bench.withdraw(&user, 1, NOW)), "not-found");
    bench.table.refused.insert(InstallId(2));
    let replies = bench.publish(decided, NOW);
    assert_eq!((instance(&replies[0]), code(&replies[1]), instance(&replies[2])), (1, "table", 3));
    assert_eq!(bench.table.installed, BTreeSet::from([InstallId(1), InstallId(3)]));
    assert_eq!(bench.state().0, 2);
}

#[test]
fn owners_of_one_program_are_counted_once_and_the_first_ones_end_stops_no_other() {
    let mut bench = Bench::new();
    let users = ["198.51.100.7", "198.51.100.8", "198.51.100.9"].map(|address| bench.user(address));
    let program = firewall(&[prefix("192.0.2.66/32")], 300);
    let mut instances = Vec::new();
    let mut load = 0;
    for (user, packet_rate) in users.iter().zip([1_000, 3_000, 2_000]) {
        let terms = Terms { packet_rate, ..bench.terms(user, &program, NOW) };
        load = load.max(terms.complexity * u64::from(packet_rate));
        instances.push(instance(&bench.upload(user, terms, NOW)));
        assert_eq!((bench.used().0, bench.admission.budget.groups()), (load, 1));
    }
    let other = bench.terms(&users[0], &firewall(&[prefix("192.0.2.67/32")], 300), NOW);
    let others = other.complexity * 1_000;
    instance(&bench.upload(&users[0], other, NOW));
    assert_eq!(bench.used().0, load + others);
    // The first goes, then the one with the most.
    assert!(matches!(bench.withdraw(&users[0], instances[0], NOW), Reply::Withdrawn(_)));
    assert_eq!(bench.used().0, load + others);
    assert!(bench.table.installed.contains(&InstallId(instances[1])));
    assert!(matches!(bench.withdraw(&users[1], instances[1], NOW), Reply::Withdrawn(_)));
    assert_eq!(bench.used().0, load / 3 * 2 + others);
    assert!(bench.table.installed.contains(&InstallId(instances[2])));
    assert_eq!(bench.expire(later(301)).len(), 2);
    assert_eq!(bench.state(), EMPTY);
}

#[test]
fn a_withdrawal_counts_once_and_its_copies_get_its_answer() {
    let mut bench = Bench::new();
    let user = bench.user("198.51.100.7");
    let terms = bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 30), NOW);
    let number = instance(&bench.upload(&user, terms, NOW));
    let router = bench.admission.router;
    let thief = bench.user("198.51.100.8");
    let forged = Withdraw::sign(router, number, [1; 16], NOW.wall_s + 60, &thief.identity);
    assert_eq!(code(&bench.send_withdraw(&user, &forged, NOW)), "bad-signature");
    let request = Withdraw::sign(router, number, [2; 16], NOW.wall_s + 60, &user.identity);
    let first = bench.send_withdraw(&user, &request, NOW);
    assert!(matches!(first, Reply::Withdrawn(_)), "{first:?}");
    assert_eq!(bench.send_withdraw(&user, &request, later(5)), first);
    let late = Withdraw::sign(router, number, [3; 16], NOW.wall_s - 1, &user.identity);
    assert_eq!(code(&bench.send_withdraw(&user, &late, NOW)), "expired");
    let elsewhere = Withdraw::sign(user.identity.public(), number, [4; 16], NOW.wall_s + 60, &user.identity);
    assert_eq!(code(&bench.send_withdraw(&user, &elsewhere, NOW)), "wrong-router");
}

#[test]
fn the_routers_own_address_has_no_owner() {
    let mut bench = Bench::new();
    let user = bench.user("192.0.2.1");
    let terms = bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 30), NOW);
    assert_eq!(code(&bench.upload(&user, terms, NOW)), "own-address");
}

#[test]
fn a_certificate_that_ran_out_during_the_session_installs_nothing() {
    let mut bench = Bench::new();
    let user = bench.user("198.51.100.7");
    let now = later(1 << 21);
    let terms = bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 30), now);
    assert_eq!(code(&bench.upload(&user, terms, now)), "certificate-expired");
}

#[test]
fn a_kind_of_principal_without_a_policy_is_told_so() {
    let bench = Bench::new();
    assert_eq!(code(&bench.admission.policy(PrincipalKind::EdgeRouter)), "no-policy");
    assert!(matches!(bench.admission.policy(PrincipalKind::EndUser), Reply::Policy(_)));
}

#[test]
fn what_comes_back_waits_for_the_workers_and_only_what_the_table_does_not_take_stays_away() {
    let mut bench = Bench::new();
    let principal = bench.user("203.0.113.7").ownership.principal();
    let program = firewall(&[prefix("10.7.0.1/32")], 60);
    let proof = prove(&program, &principal).unwrap();
    let policy = Arc::new(policy());
    let checked =
        vinet_trusted::check::check(&program.encode(), &proof, principal, &policy, &vinet_prover::library()).unwrap();
    let executable = Arc::new(bench.lowerings.lower(Arc::new(checked)).unwrap());
    let installs = |ids: [u64; 3]| {
        let install = |id| Install {
            id: InstallId(id),
            executable: Arc::clone(&executable),
            packet_rate: 1_000,
            over_budget: policy.limits.over_budget,
            generate_key: [0; 32],
            monitor: false,
        };
        ids.map(install).to_vec()
    };
    bench.table.crowded.insert(InstallId(2));
    bench.table.refused.insert(InstallId(5));
    assert_eq!(bench.admission.publish_restored(installs([1, 2, 3]), &mut bench.table), []);
    assert_eq!(bench.admission.publish_restored(installs([4, 5, 6]), &mut bench.table), [InstallId(5)]);
    assert_eq!(bench.table.installed, [1, 2, 3, 4, 6].map(InstallId).into());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
    #[test]
    fn capacity_comes_back_exactly(steps in prop::collection::vec((0u8..4, 0u8..4, any::<u16>()), 50..400)) {
        let mut bench = Bench::with(Deal { cycles: 3_000_000, per_owner: 16, ..Deal::default() });
        let users = ["198.51.100.7", "198.51.100.8", "198.51.100.9", "198.51.100.10"].map(|a| bench.user(a));
        let mut seconds = 0;
        for (what, who, value) in steps {
            let (user, now) = (&users[usize::from(who)], later(seconds));
            match what {
                0 | 1 => {
                    let program = firewall(&[prefix("192.0.2.66/32")], 1 + u32::from(value) % 90);
                    let terms = bench.terms(user, &program, now);
                    let reply = bench.upload(user, Terms { packet_rate: 1 + u32::from(value), ..terms }, now);
                    if let Reply::Rejected(why) = &reply {
                        prop_assert!(["no-capacity", "too-many-programs"].contains(&why.code()), "{reply:?}");
                    }
                }
                2 => {
                    let known = bench.admission.programs.keys().copied().nth(usize::from(value) % 16);
                    if let Some(instance) = known {
                        let reply = bench.withdraw(user, instance, now);
                        prop_assert!(matches!(reply, Reply::Withdrawn(_)) || code(&reply) == "not-found");
                    }
                }
                _ => {
                    seconds += u64::from(value) % 20;
                    bench.expire(later(seconds));
                }
            }
            let a = &bench.admission;
            let mut counted: BTreeMap<_, u64> = BTreeMap::new();
            for hold in a.programs.values().map(|i| &i.hold) {
                let most = counted.entry(hold.group()).or_default();
                *most = (*most).max(hold.load().cycles_per_second);
            }
            prop_assert_eq!(bench.used().0, counted.values().sum::<u64>());
            prop_assert_eq!(a.budget.groups(), counted.len());
            prop_assert_eq!(a.programs.len(), a.wheel.len());
            prop_assert_eq!(a.programs.len(), bench.table.installed.len());
            prop_assert_eq!(a.programs.len(), a.by_owner.values().map(BTreeSet::len).sum::<usize>());
        }
        bench.expire(later(seconds + 100));
        prop_assert_eq!(bench.state(), EMPTY);
    }
}
