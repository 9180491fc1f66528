//! The text form of proofs: what it makes the checker takes, and what is wrong is told where it stands.

use std::sync::Arc;
use vinet_prover::corpus::{self, Kind};
use vinet_prover::script::{self, Automatic, Cause, LemmaNames, Names, ProgramFault, print};
use vinet_prover::{explain, library, write};
use vinet_trusted::addr::{Addr, AddrExpr, Prefix, Principal};
use vinet_trusted::check::{Checked, check};
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::logic::Kernel;
use vinet_trusted::packet::{Field, Number, Ranges, Test};
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{Cond, Expr, Instr, Program};
use vinet_trusted::proof::rule;
use vinet_trusted::term::{Id, Op, Symbol, Terms};
use vinet_trusted::walk::{Duty, Obligation};
use vinet_trusted::wire::{Wire, Writer};

fn nobody(_: &mut Kernel<'_>, _: &Obligation) -> Option<Vec<u8>> {
    None
}

fn end_user() -> (Principal, Arc<Policy>) {
    (corpus::owner(Kind::EndUser), Arc::new(corpus::policy(Kind::EndUser)))
}

/// The proof that `text` makes with the shipped lemmas and nobody's help, checked.
fn checked(program: &Program, text: &str) -> Result<Checked, ProgramFault> {
    let (owner, policy) = end_user();
    let store = library::library();
    let proof = script::prove(program, &owner, &policy, (&store, library::names()), text, &mut nobody)?;
    Ok(check(&program.encode(), &proof, owner, &policy, &store).expect("what the text form makes is a proof"))
}

fn firewall() -> Program {
    corpus::firewall(vec![Prefix::host(Addr::V4(0xcb00_7107))])
}

fn program(body: Vec<Instr>) -> Program {
    Program::new(60, 1, vec![], body).unwrap()
}

fn mine() -> Test {
    Test::In { field: Field::Dst, addrs: AddrExpr { this_ip: true, ..AddrExpr::default() } }
}

fn select(out: u8, arg: u8, test: Test) -> Instr {
    Instr::Select { out, arg, test }
}

fn slot(slot: u8) -> Expr {
    Expr::Slot { slot }
}

fn number(value: i64) -> Expr {
    Expr::Const { value }
}

fn add(a: Expr, b: Expr) -> Expr {
    Expr::Add { a: Box::new(a), b: Box::new(b) }
}

/// i = 0; while not 10 <= i: i = i + 1.
fn counting() -> Program {
    let at_end = Cond::AtMost { a: number(10), b: slot(1) };
    program(vec![
        Instr::Let { out: 1, expr: number(0) },
        Instr::While {
            cond: Cond::Not { cond: Box::new(at_end) },
            max: 60_000,
            body: vec![Instr::Let { out: 1, expr: add(slot(1), number(1)) }],
        },
    ])
}

// ---- Programs ----

#[test]
fn the_obligations_of_a_program_are_listed_with_what_is_given() {
    let (owner, policy) = end_user();
    let tcp = Test::Number { number: Number::Protocol, ranges: Ranges::new(vec![(6, 6)]).unwrap() };
    let both = Test::And { a: Box::new(mine()), b: Box::new(tcp) };
    let program = program(vec![select(1, 0, both), Instr::Discard { arg: 1 }]);
    let listed = script::obligations(&program, &owner, &policy, &LemmaStore::default(), "", &mut nobody).unwrap();
    assert_eq!(listed.len(), 2);
    let text = listed[1].to_string();
    assert_eq!(
        text,
        "obligation 1 (instruction 1): the policy allows every packet of slot 1 to be discarded\n  \
         member: p in $1\n  \
         where p in $1 means: p in $0 and (dst(p) in {192.0.2.2} and protocol(p) in {6})\n  \
         to show: dst(p) in {192.0.2.2}\n"
    );
}

#[test]
fn a_text_can_prove_all_obligations_of_a_loop() {
    let text = "
        loop 1 { invariant 0 <= $1; variant 10 - $1 <= 10 }
        // 0 <= 0, and 10 - 0 <= 10.
        obligation 0 { evaluate(goal) }
        obligation 1 { evaluate(goal) }
        // 1 <= 10 - i, because not 10 <= i.
        obligation 2 { loops.count-up-positive(given2) }
        obligation 3 { step-not-negative(given1) }
        obligation 4 { count-up-falls(10, $1) }
    ";
    let wrong = checked(&counting(), text).unwrap_err();
    // At the end of the turn $1 is the value that it has then.
    assert!(matches!(&wrong, ProgramFault::Script(error) if matches!(error.cause, Cause::NotThat { .. })), "{wrong}");
    let text = text.replace("count-up-falls(10, $1)", "count-up-falls(10, part(part(goal, 1), 1))");
    let checked = checked(&counting(), &text).unwrap();
    assert_eq!(checked.turns(1), Some(10));
}

#[test]
fn a_text_can_leave_the_rest_to_the_automatic_prover() {
    let (owner, policy) = end_user();
    let (program, store) = (counting(), library::library());
    let text = "loop 1 { invariant 0 <= $1; variant 10 - $1 <= 10 }  obligation 3 { step-not-negative(given1) }";
    let mut automatic = Automatic::new(&program, &owner, &policy, &store, &[]);
    let proof = script::prove(&program, &owner, &policy, (&store, library::names()), text, &mut automatic).unwrap();
    let checked = check(&program.encode(), &proof, owner, &policy, &store).unwrap();
    assert_eq!(checked.turns(1), Some(10));
}

#[test]
fn without_a_text_the_automatic_prover_proves_what_it_can_prove() {
    for program in [firewall(), corpus::spam_filter(), counting()] {
        let (owner, policy) = end_user();
        let store = library::library();
        let mut automatic = Automatic::new(&program, &owner, &policy, &store, &[]);
        let proof = script::prove(&program, &owner, &policy, (&store, library::names()), "", &mut automatic).unwrap();
        check(&program.encode(), &proof, owner, &policy, &store).unwrap();
    }
}

#[test]
fn a_text_can_say_that_a_branch_is_dead_and_what_a_program_costs() {
    // i = 3; if i <= 2 then discard everything.
    let body = vec![
        Instr::Let { out: 1, expr: number(3) },
        Instr::If {
            cond: Cond::AtMost { a: slot(1), b: number(2) },
            then: vec![Instr::Discard { arg: 0 }],
            otherwise: vec![],
        },
    ];
    let program = program(body);
    let text = "branch 1 then-dead  obligation 0 { absurd(given1, evaluate(3 <= 2)) }";
    let plain = checked(&program, text).unwrap().complexity();
    let lavish = format!("{text} program {{ cost 5000 }} obligation 1 {{ evaluate(goal) }}");
    assert!(checked(&program, &lavish).unwrap().complexity() > plain);
    let wrong = text.replace("then-dead", "else-dead");
    assert!(checked(&program, &wrong).is_err());
}

#[test]
fn what_nobody_proves_is_told_as_an_obligation() {
    let (owner, policy) = end_user();
    let program = program(vec![Instr::Discard { arg: 0 }]);
    let store = (&LemmaStore::default(), &LemmaNames::default());
    let fault = script::prove(&program, &owner, &policy, store, "", &mut nobody).unwrap_err();
    let ProgramFault::NotShown(obligation) = fault else { panic!("{fault}") };
    assert_eq!((obligation.number, obligation.instr), (0, 0));
    assert!(matches!(obligation.duty, Duty::Event(..)));
}

#[test]
fn a_fallbacks_proof_is_not_believed() {
    let (owner, policy) = end_user();
    let program = program(vec![Instr::Discard { arg: 0 }]);
    let store = (&LemmaStore::default(), &LemmaNames::default());
    let mut liar = |_: &mut Kernel<'_>, _: &Obligation| Some(vec![rule::CLAIM, 0, rule::DONE]);
    let fault = script::prove(&program, &owner, &policy, store, "", &mut liar).unwrap_err();
    assert!(matches!(fault, ProgramFault::BadProof { number: 0, .. }), "{fault}");
}

#[test]
fn a_fallback_cannot_change_what_the_checker_will_see() {
    let (owner, policy) = end_user();
    let program = program(vec![select(1, 0, mine()), Instr::Discard { arg: 1 }]);
    let store = (&LemmaStore::default(), &LemmaNames::default());
    let mut meddler = |kernel: &mut Kernel<'_>, _: &Obligation| {
        kernel.pick(vinet_trusted::term::sort::PACKET).unwrap();
        kernel.terms.addr(Addr::V4(7)).unwrap();
        Some(vec![rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT, rule::DONE])
    };
    // The next proof picks a constant, which has a number.
    let text = "obligation 1 {
        let some = exists(cite(0, member), exists a : Addr . a in {192.0.2.2}, dst(p));
        pick-witness a, h for some { cite(0, member) }
    }";
    let proof = script::prove(&program, &owner, &policy, store, text, &mut meddler).unwrap();
    check(&program.encode(), &proof, owner, &policy, store.0).unwrap();
}

#[test]
fn one_place_is_spoken_of_once() {
    let text = "obligation 0 { right(unfold(member)) } obligation 0 { truth }";
    let ProgramFault::Script(error) = checked(&firewall(), text).unwrap_err() else { panic!("it is the text's fault") };
    assert_eq!(error.with_place(text), "1:51: `obligation 0` is there already");
}

// ---- Elaboration ----

fn lemma(text: &str) -> Result<Vec<u8>, script::ScriptError> {
    let mut store = LemmaStore::clone(&library::library());
    let mut names = library::names().clone();
    Ok(script::lemmas(text, &mut store, &mut names)?.remove(0).proof)
}

#[test]
fn what_is_used_often_is_copied_where_that_is_shorter() {
    // Each use would take five steps; a copy takes two bytes.
    let text = "lemma l (P Q R S : Prop) given h: ((P and Q) and R) and S
        shows ((P and P) and (P and P)) and ((P and P) and (P and P))
        proof { let a = left(left(left(h))); let b = both(a, a); let c = both(b, b); both(c, c) }";
    let proof = lemma(text).unwrap();
    assert!(proof.contains(&rule::COPY));
    assert!(proof.len() <= 16, "{proof:02x?}");
    // One step is not worth keeping.
    let short = "lemma l (P Q : Prop) given h: P and Q shows P and P proof { let a = left(h); both(a, a) }";
    let proof = lemma(short).unwrap();
    assert_eq!(proof, [rule::CLAIM, 1, rule::LEFT, rule::COPY, 0, rule::BOTH, rule::DONE]);
}

#[test]
fn what_is_not_used_is_not_written() {
    let text = "lemma l (P Q : Prop) given h: P and Q shows P
        proof { let unused = assume Q { right(h) }; pick-any x : Packet { reflexivity(x) }; left(h) }";
    assert_eq!(lemma(text).unwrap(), [rule::CLAIM, 1, rule::LEFT, rule::DONE]);
}

#[test]
fn a_deduction_is_known_by_what_it_says() {
    let text = "lemma l (P Q R : Prop) given h: P -> Q, k: Q -> R shows P -> R
        proof { assume P { mp(h, [P]); mp(k, [Q]) } }";
    lemma(text).unwrap();
    // Outside of the block it is not.
    let text = "lemma l (P Q R : Prop) given h: P -> Q, k: Q -> R shows P -> R
        proof { assume P { mp(h, [P]) }; mp(k, [Q]) }";
    assert!(matches!(lemma(text).unwrap_err().cause, Cause::NotKnown(_)));
}

#[test]
fn methods_have_parameters_and_see_nothing_else() {
    let text = "
        method twice(h : thm, P : Prop) { let a = mp(h, [P]); both(a, a) }
        lemma l (P Q : Prop) given h: P -> Q, k: P shows Q and Q proof { twice(h, P) }";
    // What is known around the call is not known inside.
    assert!(matches!(lemma(text).unwrap_err().cause, Cause::NotKnown(_)));
    let text = text.replace("P : Prop)", "k : thm)").replace("[P]", "k").replace("twice(h, P)", "twice(h, k)");
    lemma(&text).unwrap();
}

#[test]
fn methods_that_call_each_other_for_ever_are_ended() {
    let text = "
        method again(h : thm) { again(h) }
        lemma l (P : Prop) given h: P shows P proof { again(h) }";
    assert_eq!(lemma(text).unwrap_err().cause, Cause::TooManySteps);
    let text = "
        method a(h : thm) { both(h, h); both(h, h) }
        method b(h : thm) { a(h); a(h); a(h); a(h); a(h); a(h); a(h); a(h); a(h); a(h); a(h); a(h) }
        method c(h : thm) { b(h); b(h); b(h); b(h); b(h); b(h); b(h); b(h); b(h); b(h); b(h); b(h) }
        method d(h : thm) { c(h); c(h); c(h); c(h); c(h); c(h); c(h); c(h); c(h); c(h); c(h); c(h) }
        method e(h : thm) { d(h); d(h); d(h); d(h); d(h); d(h); d(h); d(h); d(h); d(h); d(h); d(h) }
        lemma l (P : Prop) given h: P shows P proof { e(h); h }";
    assert_eq!(lemma(text).unwrap_err().cause, Cause::TooManySteps);
}

#[test]
fn deep_and_long_texts_are_refused_and_nothing_breaks() {
    let nested = format!("lemma l (P : Prop) given h: {}P shows P proof {{ h }}", "(".repeat(5000));
    assert_eq!(lemma(&nested).unwrap_err().cause, Cause::TooDeep);
    let denied = format!("lemma l (P : Prop) given h: {} P shows P proof {{ h }}", "not ".repeat(5000));
    assert_eq!(lemma(&denied).unwrap_err().cause, Cause::TooDeep);
    let chained = format!("lemma l (P : Prop) given h: P {} shows P proof {{ h }}", "and P ".repeat(5000));
    assert_eq!(lemma(&chained).unwrap_err().cause, Cause::TooDeep);
    let blocks = format!("lemma l (P : Prop) given h: P shows P proof {}", "{".repeat(5000));
    assert_eq!(lemma(&blocks).unwrap_err().cause, Cause::TooDeep);
    let long = "x".repeat(script::TEXT_BYTES_MAX + 1);
    assert_eq!(lemma(&long).unwrap_err().cause, Cause::TextTooLong);
}

#[test]
fn errors_tell_the_place_what_was_expected_and_what_is_near() {
    let cases = [
        (
            "lemma l (P : Prop) given h: P shows P proof { lft(h) }",
            "1:47",
            "there is no theorem, rule, method or lemma `lft`; near it: left",
        ),
        (
            "lemma l (P : Prop)\n  given h: P\n  shows Q proof { h }",
            "3:9",
            "there is no term or formula `Q`; near it: P",
        ),
        (
            "lemma l (P : Prop) given h: P shows P\nproof { left(h) }",
            "2:9",
            "`left` does not apply: its premises or arguments have another form\n  premise: P",
        ),
        ("lemma l (S : Packets) shows S proof { truth }", "1:29", "expected a formula, found Packets"),
        (
            "lemma l (S : Packets, a : Addr) shows a in S proof { truth }",
            "1:39",
            "`in` does not go with Addr and Packets",
        ),
        (
            "lemma l (S : Paket) shows true proof { truth }",
            "1:14",
            "there is no sort `Paket`; near it: Packet, Packets",
        ),
        ("lemma l (P : Prop) given h: P shows P and P proof { h }", "1:51", "to show:  P and P\n  shown is: P"),
        (
            "lemma l (P : Prop) given h: P shows P proof { mp(h) }",
            "1:47",
            "`mp` takes 2 theorems and 0 more, not 1 arguments",
        ),
        (
            "lemma l (P : Prop) given h: P shows P proof { h ",
            "1:49",
            "expected an operator, `;` or `}`, found the end of the text",
        ),
        ("lemma l (P : Prop) given h: P show P", "1:31", "expected `given`, `,` or `shows`, found `show`"),
        (
            "lemma l (a b : Int) shows a <= b proof { arith(a <= b) }",
            "1:42",
            "`linear` does not apply: the inequalities do not add up to a contradiction\n  premise: not a <= b",
        ),
        (
            "lemma l (S : Packets) shows src(S) = src(S) proof { reflexivity(src(S)) }",
            "1:29",
            "`src` does not go with Packets",
        ),
        (
            "lemma l (p : Packet) shows scr(p) = scr(p) proof { truth }",
            "1:28",
            "there is no function `scr`; near it: src",
        ),
        (
            "lemma l (p : Packet) shows dst(p) in {192.0.2.0/24} proof { truth }",
            "1:38",
            "neither the program nor the policy speaks of the set {192.0.2.0/24}",
        ),
    ];
    for (text, place, message) in cases {
        let error = lemma(text).unwrap_err();
        assert_eq!(error.with_place(text), format!("{place}: {message}"), "{text}");
    }
}

#[test]
fn picked_constants_do_not_escape() {
    // For some x is not for all x.
    let text = "lemma l (S : Packets) given some: exists x : Packet . x in S shows forall x : Packet . x in S
        proof { pick-any y : Packet { pick-witness x, h for some { h } } }";
    assert!(matches!(lemma(text).unwrap_err().cause, Cause::RuleFails { .. }));
    let text = "lemma l (S T : Packets) given h: forall x : Packet . x in S -> x in T shows forall x : Packet . x in T
        proof { pick-any y : Packet { assume k : y in S { pick-any z : Packet { mp(spec(h, y), k) } } } }";
    assert!(lemma(text).is_err());
}

#[test]
fn places_that_a_program_has_not_are_told() {
    for text in ["obligation 9 { truth }", "loop 0 { cost 3 }", "branch 0 then-dead"] {
        let (owner, policy) = end_user();
        let program = firewall();
        let store = library::library();
        let mut automatic = Automatic::new(&program, &owner, &policy, &store, &[]);
        let names = library::names();
        let fault = script::prove(&program, &owner, &policy, (&store, names), text, &mut automatic).unwrap_err();
        let ProgramFault::Script(error) = fault else { panic!("{text}: {fault}") };
        assert!(matches!(error.cause, Cause::NoSuchPlace { .. }), "{text}: {error}");
    }
}

/// Texts that are almost right are read to the end or refused; nothing panics.
#[test]
fn broken_texts_are_refused_and_nothing_breaks() {
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    let mut pick = |below: usize| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        (chance % below as u64) as usize
    };
    let mut refused = 0;
    for (_, module) in library::MODULES {
        let words: Vec<&str> = module.split_inclusive([' ', '(', ')', '{', '}', ',', '\n']).collect();
        for _ in 0..60 {
            let mut broken = words.clone();
            for _ in 0..=pick(3) {
                let (a, b) = (pick(broken.len()), pick(broken.len()));
                match pick(3) {
                    0 => drop(broken.remove(a)),
                    1 => broken.swap(a, b),
                    _ => broken[a] = broken[b],
                }
            }
            let text: String = broken.concat();
            let (mut store, mut names) = (LemmaStore::default(), LemmaNames::default());
            refused += usize::from(script::lemmas(&text, &mut store, &mut names).is_err());
        }
    }
    assert!(refused > 200, "{refused}");
}

// ---- What is printed can be read ----

fn moved(from: &Terms, id: Id, first: u32, to: &mut Terms) -> Id {
    let mut node = from.get(id);
    for i in from.children(node) {
        node.args[i] = moved(from, node.args[i], first, to);
    }
    if node.op == Op::Symbol {
        node.args[0] -= first;
    }
    to.make(node.op, node.args).unwrap()
}

#[test]
fn every_statement_of_the_library_is_read_as_it_is_printed() {
    let store = library::library();
    for number in 0..store.len() {
        let (symbols, premises, conclusion) = store.statement(number).unwrap();
        let mut terms = Terms::new(usize::MAX);
        let declared: Vec<Symbol> = store.terms().symbols[symbols.clone()].to_vec();
        terms.symbols.clone_from(&declared);
        let names = Names { symbols: (0..declared.len()).map(|i| format!("S{i}")).collect(), ..Names::default() };
        for formula in premises.iter().chain([&conclusion]) {
            let formula = moved(store.terms(), *formula, symbols.start as u32, &mut terms);
            let printed = print(&terms, formula, &names);
            let parameters: Vec<String> = declared
                .iter()
                .enumerate()
                .map(|(i, symbol)| format!("S{i} : {}", names.sort(symbol.result)))
                .collect();
            let text = format!("lemma l ({}) given h: {printed} shows {printed} proof {{ h }}", parameters.join(", "));
            let mut own = LemmaStore::default();
            let lemmas = script::lemmas(&text, &mut own, &mut LemmaNames::default());
            let lemma = lemmas.map_err(|error| format!("{text}\n{}", error.with_place(&text))).unwrap().remove(0);
            let mut w = Writer::new();
            declared.write(&mut w);
            w.integer(1);
            write::term(&terms, formula, &mut w);
            write::term(&terms, formula, &mut w);
            assert_eq!(lemma.lemma, w.finish(), "{printed}");
        }
    }
}

// ---- Explanations ----

#[test]
fn a_proof_is_explained_step_by_step_with_the_lines_of_the_source() {
    let (owner, policy) = end_user();
    let program = program(vec![select(1, 0, mine()), Instr::Discard { arg: 1 }]);
    let text = "obligation 0 { right(unfold(member)) } obligation 1 { cite(0, member) }";
    let store = library::library();
    let proof = script::prove(&program, &owner, &policy, (&store, library::names()), text, &mut nobody).unwrap();
    let line = |instr: usize| Some(2 + instr);
    let told = explain::proof(&program.encode(), &proof, &owner, &policy, &store, &line).unwrap();
    let squeezed = told.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "obligation 0, line 2 (instruction 0): the policy allows every packet of slot 1 to be grouped",
        "given member: p in $1",
        "to show: dst(p) in {192.0.2.2}",
        "1. p in $1 given: the member",
        "2. p in $0 and dst(p) in {192.0.2.2} by unfold of 1",
        "3. dst(p) in {192.0.2.2} by right of 2",
        "obligation 1, line 3 (instruction 1): the policy allows every packet of slot 1 to be discarded",
        "2. dst(p) in {192.0.2.2} shown as obligation 0 of 1",
    ] {
        assert!(squeezed.contains(expected), "{expected}\n{told}");
    }
    // A broken proof is told as far as it goes.
    let broken = explain::proof(&program.encode(), &proof[..proof.len() - 1], &owner, &policy, &store, &line);
    let Err(explain::ExplainError::Step { so_far, at, .. }) = broken else { panic!("{broken:?}") };
    assert!(so_far.contains("obligation 1") && at == proof.len() - 1);
}

#[test]
fn notes_lemmas_and_assumptions_are_told() {
    let (owner, policy) = end_user();
    let store = library::library();
    let text = "
        loop 1 { invariant 0 <= $1; variant 10 - $1 <= 10 }
        obligation 0 { evaluate(goal) }
        obligation 1 { arith(10 - 0 <= 10) }
        obligation 2 { count-up-positive(given2) }
        obligation 3 { arith(goal, given1) }
        obligation 4 { count-up-falls(10, part(part(goal, 1), 1)) }";
    let program = counting();
    let proof = script::prove(&program, &owner, &policy, (&store, library::names()), text, &mut nobody).unwrap();
    let told = explain::proof(&program.encode(), &proof, &owner, &policy, &store, &|_| None).unwrap();
    for expected in [
        "instruction 1, declared of the loop: always 0 <= $1",
        "declared of the loop: 10 - $1 falls from 10 at most",
        "by lemma loops.count-up-positive of",
        "by lemma loops.count-up-falls with 10",
        "assumption 1",
        "by the sum of",
        "by discharge of assumption 1",
        "the loop at instruction 1 has 10 turns at most",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}

/// Whatever the automatic prover makes for the paper's programs, explanation follows it to the end.
#[test]
fn the_automatic_provers_proofs_are_explained() {
    let (owner, policy) = end_user();
    let store = library::library();
    for program in [firewall(), corpus::spam_filter(), counting()] {
        let proof = vinet_prover::prove(&program, &owner, &policy, &store, &[]).unwrap();
        check(&program.encode(), &proof, owner, &policy, &store).unwrap();
        let told = explain::proof(&program.encode(), &proof, &owner, &policy, &store, &|_| None).unwrap();
        assert!(told.contains("complexity: "));
    }
}
