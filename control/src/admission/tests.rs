use super::*;
use proptest::prelude::*;
use vinet_pktops::Lowerings;
use vinet_session::identity::{Authority, AuthorityKey, Subject, Validity};
use vinet_session::message::{Tariff, fresh_nonce};
use vinet_trusted::packet::Test;
use vinet_trusted::policy::{Costs, Limits, OverBudget};
use vinet_trusted::program::{ALL_PACKETS, AddrExpr, Field, Instr, Program};

use crate::config::Verify;
use crate::judges::judge;

const NOW: Now = Now { wall_s: 1_800_000_000, mono_ms: 50_000 };

fn later(seconds: u64) -> Now {
    Now { wall_s: NOW.wall_s + seconds, mono_ms: NOW.mono_ms + seconds * 1_000 }
}

/// A table that only remembers, and can be told to fail.
#[derive(Default)]
struct FakeTable {
    installed: BTreeSet<InstallId>,
    stuck: bool,
}

impl ProgramTable for FakeTable {
    fn install(&mut self, install: Install) -> Result<(), InstallError> {
        if self.stuck {
            return Err(InstallError::RetiredFull { retired: 1 });
        }
        assert!(self.installed.insert(install.id), "an instance was used twice");
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

/// A testbed: an authority, a router, its register and its table.
struct Bench {
    authority_key: AuthorityKey,
    authority: Authority,
    admission: Admission,
    table: FakeTable,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(1_000_000_000, 1 << 30, 100)
    }
    fn with(cycles: u64, memory: u64, per_owner: usize) -> Bench {
        let authority_key = AuthorityKey::generate("bench").unwrap();
        let subject = Subject::Router { name: "edge1".into(), addrs: vec![addr("192.0.2.1")] };
        let identity = authority_key.issue_identity(subject, Validity::starting(NOW.wall_s - 10, 1 << 30)).unwrap();
        let policies = Policies::sign(vec![policy()], vinet_prover::library().root(), Tariff::FREE, &identity);
        let terrain = Terrain {
            controlled: PrefixSet::new(vec![prefix("192.0.2.0/24"), prefix("10.7.0.0/16")]),
            own: vec![addr("192.0.2.1")],
            workers: 2,
            programs_max: 1_000,
            programs_per_owner_max: per_owner,
        };
        let budget = Budget::new(cycles, memory);
        let lemmas = Lemmas::new(vinet_prover::library(), 8, 4);
        let authority = authority_key.authority();
        let admission = Admission::new(Arc::new(identity), policies, lemmas, terrain, budget, NOW);
        Bench { authority_key, authority, admission, table: FakeTable::default() }
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

    /// All the way: opened, judged, closed.
    fn upload(&mut self, user: &User, terms: Terms, now: Now) -> Reply {
        let upload = Upload::sign(terms, &user.identity);
        match self.admission.open(upload, &user.ownership, true, now) {
            Opened::Answer(reply) => *reply,
            Opened::Judge { terms, policy, lemmas, case } => {
                let verdict = judge(&terms, &policy, &lemmas, Verify::Proof, &Lowerings::default());
                self.admission.close(case, *terms, verdict, now, &mut self.table)
            }
        }
    }

    fn withdraw(&mut self, user: &User, instance: u64, now: Now) -> Reply {
        let router = self.admission.router;
        let nonce = fresh_nonce().unwrap();
        let request = Withdraw::sign(router, instance, nonce, now.wall_s + 60, &user.identity);
        self.admission.withdraw(&request, &user.ownership, now, &mut self.table)
    }

    fn used(&self) -> (u64, u64) {
        (self.admission.budget().cycles_per_second(), self.admission.budget().memory_bytes())
    }

    /// Everything that a rejection must leave as it was.
    fn state(&self) -> (usize, usize, usize, (u64, u64), usize) {
        let a = &self.admission;
        (a.programs.len(), a.by_owner.len(), a.wheel.len(), self.used(), a.receipts.len() + a.pending.len())
    }
}

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
    assert_eq!(bench.state(), (0, 0, 0, (0, 0), 0));
    assert!(bench.table.installed.is_empty());
}

#[test]
fn the_receipts_of_an_owner_make_one_chain() {
    let mut bench = Bench::new();
    let users = [bench.user("198.51.100.7"), bench.user("198.51.100.8")];
    let mut receipts = [Vec::new(), Vec::new()];
    for (round, blocked) in (0u8..).zip(["192.0.2.66/32", "192.0.2.67/32", "192.0.2.68/32"]) {
        for (user, receipts) in users.iter().zip(&mut receipts) {
            let terms = bench.terms(user, &firewall(&[prefix(blocked)], 120), NOW);
            let reply = bench.upload(user, Terms { nonce: [round; 16], ..terms }, NOW);
            let Reply::Receipt(receipt) = reply else { panic!("{reply:?}") };
            receipts.push(receipt);
        }
    }
    let router = bench.authority.router(bench.admission.identity.certificate(), NOW.wall_s).unwrap();
    for (user, receipts) in users.iter().zip(&receipts) {
        assert_eq!(receipt::verify_chain(receipts, &router), Ok(()));
        assert_eq!((receipts.len(), receipts[0].terms().account), (3, user.ownership.key()));
    }
}

#[test]
fn what_is_not_served_is_said() {
    let mut bench = Bench::new();
    let user = bench.user("198.51.100.7");
    let good = bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 30), NOW);
    for terms in [Terms { payment: 1, ..good.clone() }, Terms { monitor: true, ..good }] {
        let reply = bench.upload(&user, Terms { nonce: fresh_nonce().unwrap(), ..terms }, NOW);
        assert_eq!(code(&reply), "not-served");
    }
    assert_eq!(bench.state(), (0, 0, 0, (0, 0), 0));
}

#[test]
fn a_lifetime_ends_by_itself_and_not_early() {
    let mut bench = Bench::new();
    let user = bench.user("198.51.100.7");
    let terms = bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 30), NOW);
    bench.upload(&user, terms, NOW);
    assert!(bench.admission.expire(later(29), &mut bench.table).is_empty());
    // A table that cannot let go now keeps the program and its capacity; a second later it is tried again.
    bench.table.stuck = true;
    assert!(bench.admission.expire(later(30), &mut bench.table).is_empty());
    assert_ne!(bench.used().0, 0);
    bench.table.stuck = false;
    let ended = bench.admission.expire(later(32), &mut bench.table);
    assert_eq!(ended, [Ended { instance: 1, owner: user.ownership.principal() }]);
    assert_eq!(bench.state(), (0, 0, 0, (0, 0), 0));
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
    let open = |bench: &mut Bench| {
        bench.admission.open(Upload::sign(terms.clone(), &user.identity), &user.ownership, true, NOW)
    };
    let Opened::Judge { case, .. } = open(&mut bench) else { panic!() };
    let Opened::Answer(reply) = open(&mut bench) else { panic!() };
    assert_eq!(code(&reply), "in-progress");
    let reply = bench.admission.drop_case(case, rejected("busy", "later"));
    assert_eq!(code(&reply), "busy");
    assert_eq!(bench.state(), (0, 0, 0, (0, 0), 0));
}

#[test]
fn one_owner_cannot_fill_the_judges_and_who_finds_them_busy_may_ask_again() {
    let mut bench = Bench::new();
    let users = ["198.51.100.7", "198.51.100.8"].map(|address| bench.user(address));
    let program = firewall(&[prefix("192.0.2.66/32")], 30);
    let open = |bench: &mut Bench, user: &User, terms: &Terms, free| {
        bench.admission.open(Upload::sign(terms.clone(), &user.identity), &user.ownership, free, NOW)
    };
    let mut cases = Vec::new();
    for _ in 0..CASES_PER_OWNER_MAX {
        let terms = bench.terms(&users[0], &program, NOW);
        let Opened::Judge { case, .. } = open(&mut bench, &users[0], &terms, true) else { panic!() };
        cases.push(case);
    }
    let one_more = bench.terms(&users[0], &program, NOW);
    let Opened::Answer(reply) = open(&mut bench, &users[0], &one_more, true) else { panic!() };
    assert_eq!(code(&reply), "busy");
    let others = bench.terms(&users[1], &program, NOW);
    let Opened::Answer(reply) = open(&mut bench, &users[1], &others, false) else { panic!() };
    assert_eq!(code(&reply), "busy");
    // The very same upload is good a moment later: its nonce was not used up.
    let Opened::Judge { case, .. } = open(&mut bench, &users[1], &others, true) else { panic!() };
    cases.push(case);
    let first = cases.swap_remove(0);
    bench.admission.drop_case(first, rejected("busy", "later"));
    let Opened::Judge { case, .. } = open(&mut bench, &users[0], &one_more, true) else { panic!() };
    cases.push(case);
    for case in cases {
        bench.admission.drop_case(case, rejected("busy", "later"));
    }
    assert_eq!((bench.state(), bench.admission.pending_of.len()), ((0, 0, 0, (0, 0), 0), 0));
}

#[test]
fn every_lie_and_every_excess_is_rejected_by_name_and_changes_nothing() {
    let mut bench = Bench::with(1_000_000_000, 1 << 30, 1);
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
    let Opened::Answer(reply) = bench.admission.open(upload, &user.ownership, true, NOW) else { panic!() };
    assert_eq!(code(&reply), "bad-signature");
    assert_eq!(bench.state(), (0, 0, 0, (0, 0), 0));
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
        assert_eq!(bench.state(), (0, 0, 0, (0, 0), 0));
    }
    // With the router's own analysis no proof is needed, and this one finds none either.
    let policy = Arc::new(policy());
    terms.proof = None;
    let lowerings = Lowerings::default();
    let why = judge(&terms, &policy, &vinet_prover::library(), Verify::Static, &lowerings).unwrap_err();
    assert_eq!(why.code(), "not-analysed", "{}", why.text());
    let mut unproven = honest;
    unproven.proof = None;
    judge(&unproven, &policy, &vinet_prover::library(), Verify::Either, &lowerings).unwrap();
    judge(&unproven, &policy, &vinet_prover::library(), Verify::Static, &lowerings).unwrap();
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
    let mut bench = Bench::with(100_000, 1 << 30, 100);
    let user = bench.user("198.51.100.7");
    let terms = bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 30), NOW);
    let reply = bench.upload(&user, Terms { packet_rate: 100_000, ..terms.clone() }, NOW);
    assert_eq!(code(&reply), "no-capacity");
    assert!(text(&reply).contains("only 100000 are free"), "{reply:?}");
    assert_eq!(bench.state(), (0, 0, 0, (0, 0), 0));
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
    assert_eq!(bench.state(), (0, 0, 0, (0, 0), 0));
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
    #[test]
    fn capacity_comes_back_exactly(steps in prop::collection::vec((0u8..4, 0u8..4, any::<u16>()), 50..400)) {
        let mut bench = Bench::with(3_000_000, 1 << 30, 16);
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
                    bench.admission.expire(later(seconds), &mut bench.table);
                }
            }
            let a = &bench.admission;
            let cycles: u64 = a.programs.values().map(|i| i.hold.cycles_per_second()).sum();
            prop_assert_eq!(bench.used().0, cycles);
            prop_assert_eq!(a.programs.len(), a.wheel.len());
            prop_assert_eq!(a.programs.len(), a.receipts.len());
            prop_assert_eq!(a.programs.len(), bench.table.installed.len());
            prop_assert_eq!(a.programs.len(), a.by_owner.values().map(BTreeSet::len).sum::<usize>());
        }
        bench.admission.expire(later(seconds + 100), &mut bench.table);
        prop_assert_eq!(bench.state(), (0, 0, 0, (0, 0), 0));
    }
}
