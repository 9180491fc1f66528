//! What strangers and owners try against a running router: replays, double spending, lies, bombs, revoked keys, stolen
//! certificates; within one process and over restarts.

use super::*;
use vinet_session::limits::PART_BYTES_MAX;
use vinet_session::message::{Credit, Part, ReachAnswer, Receipt, RevocationList, object_id};
use vinet_session::payment::CreditTerms;
use vinet_session::receipt::{ReceiptSubject, verify_chain};

/// An installation costs 10, a rejected check 4.
fn paying() -> Place {
    Place { tariff: Tariff { install: 10, check: 4, ..Tariff::FREE }, ..Place::new() }
}

fn credit(testbed: &Testbed, user: &Identity, serial: u8, amount: u64) -> Request {
    let (router, account) = (testbed.place().router.public(), user.public());
    let terms = CreditTerms { serial: [serial; 16], amount, router, account, expiry_s: wall_s() + 600 };
    Request::Deposit(Box::new(Credit::sign(terms, &testbed.place().bank)))
}

fn balance(client: &mut BlockingClient) -> (u64, u64) {
    match client.ask(&Request::Balance).unwrap() {
        Reply::Balance { balance, held, .. } => (balance, held),
        other => panic!("{other:?}"),
    }
}

fn receipts(client: &mut BlockingClient) -> Vec<Receipt> {
    match client.ask(&Request::Receipts { after: 0 }).unwrap() {
        Reply::Receipts(receipts) => receipts,
        other => panic!("{other:?}"),
    }
}

/// A firewall against one host of the controlled network, paid.
fn paid(client: &mut BlockingClient, user: &Identity, host: u8, payment: u64) -> Upload {
    let program = firewall(&[prefix(&format!("192.0.2.{host}/32"))], 600);
    let terms = upload(client, user, &program, true).terms().clone();
    Upload::sign(Terms { payment, ..terms }, user)
}

fn ask_upload(client: &mut BlockingClient, upload: &Upload) -> Reply {
    client.ask(&Request::Upload(Box::new(upload.clone()))).unwrap()
}

fn code(reply: &Reply) -> &str {
    match reply {
        Reply::Rejected(why) => why.code(),
        other => panic!("{other:?}"),
    }
}

/// Asks until `done` says so of an answer.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_restart_forgets_nothing_and_a_replay_over_it_installs_and_pays_nothing_twice() {
    let mut testbed = paying().open();
    let user = testbed.user("198.51.100.7");
    let mut client = testbed.client(&user);
    let deposit = credit(&testbed, &user, 1, 50);
    let deposited = client.ask(&deposit).unwrap();
    let first = paid(&mut client, &user, 66, 20);
    let second = paid(&mut client, &user, 67, 10);
    let installed = ask_upload(&mut client, &first);
    assert!(matches!(installed, Reply::Receipt(_)), "{installed:?}");
    let Reply::Receipt(receipt) = ask_upload(&mut client, &second) else { panic!("not installed") };
    let gone = receipt.terms().installed().unwrap().instance;
    let nonce = fresh_nonce().unwrap();
    let take_back = Withdraw::sign(client.router().id(), gone, nonce, wall_s() + 60, &user);
    let taken_back = client.ask(&Request::Withdraw(take_back.clone())).unwrap();
    assert!(matches!(taken_back, Reply::Withdrawn(_)), "{taken_back:?}");
    let money = balance(&mut client);
    let chain = receipts(&mut client);
    for _ in 0..2 {
        drop(client);
        testbed = testbed.restart();
        client = testbed.client(&user);
        assert_eq!((list_len(&mut client), balance(&mut client)), (1, money));
        // Each is answered as it was.
        assert_eq!(ask_upload(&mut client, &first), installed);
        assert_eq!(client.ask(&deposit).unwrap(), deposited);
        assert_eq!(client.ask(&Request::Withdraw(take_back.clone())).unwrap(), taken_back);
        assert_eq!((list_len(&mut client), balance(&mut client)), (1, money));
        assert_eq!(receipts(&mut client), chain);
        // The same nonce for something else is a replay.
        let other = Upload::sign(Terms { packet_rate: 7, ..first.terms().clone() }, &user);
        assert_eq!(code(&ask_upload(&mut client, &other)), "replayed");
    }
    assert_eq!(verify_chain(&chain, client.router()), Ok(()));
    let events = client.ask(&Request::Events { after: 0 }).unwrap();
    assert_eq!(events, Reply::Events(Vec::new()), "nothing happened but what was asked for");
    // What comes back can be withdrawn, and its rest goes back.
    let instance = chain[1].terms().installed().unwrap().instance;
    assert!(matches!(withdraw(&mut client, &user, instance), Reply::Withdrawn(_)));
    assert!(balance(&mut client).0 > money.0);
}

#[test]
fn a_program_whose_policy_changed_meanwhile_ends_with_its_rest_and_an_event() {
    let testbed = paying().open();
    let user = testbed.user("198.51.100.7");
    let mut client = testbed.client(&user);
    client.ask(&credit(&testbed, &user, 1, 50)).unwrap();
    let order = paid(&mut client, &user, 66, 50);
    assert!(matches!(ask_upload(&mut client, &order), Reply::Receipt(_)));
    assert_eq!(balance(&mut client), (0, 0));
    drop(client);
    let mut place = testbed.close();
    place.cost_program += 1;
    let testbed = place.open();
    let mut client = testbed.client(&user);
    assert_eq!(list_len(&mut client), 0);
    until("the rest goes back", || balance(&mut client).0 >= 49);
    let chain = receipts(&mut client);
    assert_eq!(verify_chain(&chain, client.router()), Ok(()));
    assert!(matches!(chain.last().unwrap().terms().subject, ReceiptSubject::Ended { .. }));
    let Reply::Events(events) = client.ask(&Request::Events { after: 0 }).unwrap() else { panic!("no events") };
    assert_eq!((events.len(), events[0].code()), (1, "displaced"));
}

#[test]
fn nobody_spends_twice_in_parallel() {
    let testbed = paying().open();
    let user = testbed.user("198.51.100.7");
    let mut clients: Vec<BlockingClient> = (0..4).map(|_| testbed.client(&user)).collect();
    // The same credit by four sessions at once.
    let deposit = credit(&testbed, &user, 1, 15);
    let ids: Vec<u32> = clients.iter_mut().map(|client| client.send(&deposit).unwrap()).collect();
    let replies: Vec<Reply> = clients.iter_mut().map(|client| client.reply().unwrap().1).collect();
    assert_eq!(ids.len(), 4);
    assert!(matches!(replies[0], Reply::Receipt(_)) && replies.iter().all(|reply| *reply == replies[0]), "{replies:?}");
    assert_eq!(balance(&mut clients[0]), (15, 0));
    // Four programs by four sessions at once, with money for one.
    let orders: Vec<Upload> = (0..4).map(|host| paid(&mut clients[0], &user, 66 + host, 10)).collect();
    for (client, order) in clients.iter_mut().zip(orders) {
        client.send(&Request::Upload(Box::new(order))).unwrap();
    }
    let replies: Vec<Reply> = clients.iter_mut().map(|client| client.reply().unwrap().1).collect();
    let paid = replies.iter().filter(|reply| matches!(reply, Reply::Receipt(_))).count();
    let poor = replies.iter().filter(|reply| matches!(reply, Reply::Rejected(why) if why.code() == "no-money")).count();
    assert_eq!((paid, poor), (1, 3), "{replies:?}");
    assert_eq!((balance(&mut clients[0]), list_len(&mut clients[0])), ((5, 0), 1));
}

#[test]
fn liars_and_bombs_pay_for_their_checks_and_the_honest_get_in_beside_them() {
    let testbed = paying().open();
    let (liar, honest) = (testbed.user("198.51.100.7"), testbed.user("198.51.100.8"));
    let (mut liars, mut honests) = (testbed.client(&liar), testbed.client(&honest));
    liars.ask(&credit(&testbed, &liar, 1, 100)).unwrap();
    honests.ask(&credit(&testbed, &honest, 2, 100)).unwrap();
    let good = paid(&mut liars, &liar, 66, 10);
    let lie = Terms { cost: good.terms().cost + 1, nonce: [1; 16], ..good.terms().clone() };
    let reply = ask_upload(&mut liars, &Upload::sign(lie, &liar));
    let Reply::Rejected(why) = &reply else { panic!("{reply:?}") };
    let (declared, derived) = (good.terms().cost + 1, good.terms().cost);
    assert_eq!(why.code(), "cost-differs");
    assert!(why.text().contains(&declared.to_string()) && why.text().contains(&derived.to_string()), "{}", why.text());
    assert_eq!(balance(&mut liars), (96, 0));
    // As many bombs as there is money for, all at once, and an honest program in between.
    for nonce in 2..22u8 {
        let bomb = Terms { proof: Some(vec![nonce; 4096]), nonce: [nonce; 16], ..good.terms().clone() };
        liars.send(&Request::Upload(Box::new(Upload::sign(bomb, &liar)))).unwrap();
    }
    let order = paid(&mut honests, &honest, 66, 10);
    assert!(matches!(ask_upload(&mut honests, &order), Reply::Receipt(_)));
    for _ in 2..22 {
        let (_, reply) = liars.reply().unwrap();
        assert!(matches!(reply, Reply::Rejected(_)), "{reply:?}");
    }
    // Money that is on hold for one bomb does not pay for another.
    let (rest, held) = balance(&mut liars);
    assert!(rest < 96 && rest % 4 == 0 && held == 0, "{rest}");
    assert_eq!(verify_chain(&receipts(&mut liars), liars.router()), Ok(()));
}

#[test]
fn a_revoked_key_is_out_at_once_and_stays_out() {
    let testbed = paying().open();
    let (user, other) = (testbed.user("198.51.100.7"), testbed.user("198.51.100.8"));
    let (mut client, mut others) = (testbed.client(&user), testbed.client(&other));
    client.ask(&credit(&testbed, &user, 1, 100)).unwrap();
    let order = paid(&mut client, &user, 66, 10);
    assert!(matches!(ask_upload(&mut client, &order), Reply::Receipt(_)));
    let list = |number, keys| {
        let list = RevocationList::sign(number, wall_s(), keys, &testbed.place().key).unwrap();
        Request::Revoke(Box::new(list))
    };
    let forged = RevocationList::sign(9, wall_s(), vec![other.public()], &AuthorityKey::generate("x").unwrap());
    let reply = others.ask(&Request::Revoke(Box::new(forged.unwrap()))).unwrap();
    assert!(matches!(reply, Reply::Rejected(_)), "{reply:?}");
    // Anybody may bring the authority's list, and an older one changes nothing.
    assert_eq!(others.ask(&list(2, vec![user.public()])).unwrap(), Reply::Revocations { number: 2 });
    assert_eq!(others.ask(&list(1, vec![])).unwrap(), Reply::Revocations { number: 2 });
    assert!(client.ask(&Request::List).is_err(), "its session is closed");
    until("its program ends", || testbed.operator(Command::Counters)["admission"]["revoked"] == 1);
    assert!(is_refused(&testbed, &user));
    drop((client, others));
    let testbed = testbed.restart();
    assert!(is_refused(&testbed, &user));
    assert_eq!(testbed.operator(Command::Counters)["programs"], 0);
    assert_eq!(list_len(&mut testbed.client(&other)), 0);
}

/// Whether an owner is refused, by the end of the handshake or at its first request.
fn is_refused(testbed: &Testbed, user: &Arc<Identity>) -> bool {
    match BlockingClient::connect(testbed.address, user, &testbed.authority) {
        Ok(mut client) => client.ask(&Request::List).is_err(),
        Err(_) => true,
    }
}

#[test]
fn a_stolen_certificate_without_the_address_installs_nothing() {
    let testbed = Place { reach: "required", ..Place::new() }.open();
    let thief = testbed.user("198.51.100.7");
    let mut client = testbed.client(&thief);
    let order = paid(&mut client, &thief, 66, 0);
    assert_eq!(code(&ask_upload(&mut client, &order)), "not-reached");
    let asked = client.ask(&Request::ReachMe { port: 4000, padding: vec![0; 512] }).unwrap();
    assert_eq!(asked, Reply::ReachSent, "it goes to the address, where the thief is not");
    let router = client.router().id();
    for nonce in [[0; 32], [7; 32]] {
        let answer = ReachAnswer::sign(&router, &thief.principal().unwrap(), nonce, &thief);
        assert_eq!(code(&client.ask(&Request::Reached(answer)).unwrap()), "not-reached");
    }
    assert_eq!(code(&ask_upload(&mut client, &order)), "not-reached");
    assert_eq!(list_len(&mut client), 0);
}

#[test]
fn an_upload_in_parts_goes_on_in_another_session_and_counts_once() {
    let testbed = paying().open();
    let user = testbed.user("198.51.100.7");
    let mut client = testbed.client(&user);
    client.ask(&credit(&testbed, &user, 1, 100)).unwrap();
    let order = paid(&mut client, &user, 66, 10);
    let whole = order.encode();
    let object = object_id(&whole);
    let part = |offset: usize, bytes: &[u8]| {
        assert!(bytes.len() <= PART_BYTES_MAX);
        let (len, offset) = (whole.len() as u32, offset as u32);
        Request::Part(Box::new(Part { object, len, offset, bytes: bytes.to_vec() }))
    };
    let half = whole.len() / 2;
    assert_eq!(client.ask(&part(0, &whole[..half])).unwrap(), Reply::Part { have: half as u32 });
    assert_eq!(code(&client.ask(&Request::UploadObject { object }).unwrap()), "incomplete-object");
    drop(client);
    let mut client = testbed.client(&user);
    assert_eq!(client.ask(&part(0, &[])).unwrap(), Reply::Part { have: half as u32 });
    assert_eq!(client.ask(&part(half, &whole[half..])).unwrap(), Reply::Part { have: whole.len() as u32 });
    let installed = client.ask(&Request::UploadObject { object }).unwrap();
    assert!(matches!(installed, Reply::Receipt(_)), "{installed:?}");
    assert_eq!(client.ask(&Request::UploadObject { object }).unwrap(), installed);
    assert_eq!(ask_upload(&mut client, &order), installed, "the same upload in one piece");
    assert_eq!((list_len(&mut client), balance(&mut client)), (1, (90, 0)));
}
