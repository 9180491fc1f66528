//! `vinet lemma list`: the lemmas that proofs may cite, each with its name and what it says.

use super::LemmaFiles;
use super::answer::{self, Outcome};
use super::script::Lemmas;
use serde_json::json;
use vinet_client::lang::source_map::hex;
use vinet_prover::script::{Names, print};
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::term::{Sort, Symbol, sort};

pub(super) fn list(files: &LemmaFiles, json: bool) -> Outcome {
    let lemmas = Lemmas::of(&files.files)?;
    let store = &*lemmas.store;
    for number in 0..store.len() {
        let (Some(id), Some(statement)) = (store.id(number), Statement::of(store, number)) else { continue };
        let name = lemmas.names.name(number).unwrap_or("-");
        if json {
            answer::print_json(&json!({
                "index": number,
                "name": name,
                "id": hex(id),
                "symbols": statement.symbols,
                "premises": statement.premises,
                "conclusion": statement.conclusion,
            }))?;
        } else {
            answer::print(&format_args!("{number:>4}  {name}  {}\n{}", hex(id), statement.words()))?;
        }
    }
    if json { Ok(()) } else { answer::print(&format_args!("root  {}", hex(&store.root()))) }
}

/// What a lemma says, in the text form. A store keeps no names of symbols; they get letters by their sorts.
struct Statement {
    symbols: Vec<String>,
    premises: Vec<String>,
    conclusion: String,
}

impl Statement {
    fn of(store: &LemmaStore, number: usize) -> Option<Statement> {
        let terms = store.terms();
        let (own, premises, conclusion) = store.statement(number)?;
        let mut names = Names { symbols: vec![String::new(); own.start], ..Names::default() };
        let mut symbols = Vec::new();
        for symbol in terms.symbols.get(own)? {
            let letters = letters(symbol);
            // The letters first, then the same with numbers.
            let numbered = (1..).flat_map(|n: usize| letters.chars().map(move |letter| format!("{letter}{n}")));
            let all = letters.chars().map(String::from).chain(numbered);
            let name = all.into_iter().find(|name| !names.symbols.contains(name))?;
            symbols.push(declaration(&name, symbol, &names));
            names.symbols.push(name);
        }
        let premises = premises.iter().map(|premise| print(terms, *premise, &names)).collect();
        Some(Statement { symbols, premises, conclusion: print(terms, conclusion, &names) })
    }

    fn words(&self) -> String {
        let mut words = String::new();
        if !self.symbols.is_empty() {
            words += &format!("      for {}\n", self.symbols.join(", "));
        }
        self.premises.iter().for_each(|premise| words += &format!("      given {premise}\n"));
        words + &format!("      shows {}", self.conclusion)
    }
}

/// `F : Packet -> Prop`.
fn declaration(name: &str, symbol: &Symbol, names: &Names) -> String {
    let sort = |sort: &Sort| names.sort(*sort);
    match symbol.args.as_slice() {
        [] => format!("{name} : {}", sort(&symbol.result)),
        args => {
            let args: Vec<String> = args.iter().map(sort).collect();
            format!("{name} : {} -> {}", args.join(" "), sort(&symbol.result))
        }
    }
}

/// What symbols of a sort are called.
fn letters(symbol: &Symbol) -> &'static str {
    if !symbol.args.is_empty() {
        return "FGHJK";
    }
    match symbol.result {
        sort::BOOL => "PQRSTU",
        sort::ADDR => "abcd",
        sort::ADDRS | sort::NUMBERS => "XYZW",
        sort::INT => "mnijk",
        sort::CONTENT => "c",
        sort::PACKET => "pqr",
        sort::PACKETS => "ABCDE",
        sort::GROUPS => "G",
        sort::LIST => "LMN",
        _ => "stuvw",
    }
}
