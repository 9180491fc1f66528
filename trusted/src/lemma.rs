//! Lemmas: general theorems, each checked once and used in many proofs.
//!
//! A lemma says: whatever its symbols stand for, from its premises follows its conclusion. It speaks of no program,
//! policy or owner. Its name is the BLAKE3 of a domain, the version of the rules and its bytes, so no lemma can take the
//! place of another; its proof may cite only lemmas that were in the store before it. Holding a [`LemmaStore`] proves
//! that every lemma in it was shown by the rules.

use crate::check::RULES_VERSION;
use crate::logic::{Fault, Kernel};
use crate::proof::{ProofFault, Steps};
use crate::term::{Id, Node, Op, Sort, Symbol, Terms, sort};
use crate::wire::{Reader, Wire, WireError, Writer};
use alloc::vec::Vec;

/// The most bytes of a lemma.
pub const LEMMA_BYTES_MAX: usize = 1024;
/// The most bytes of a lemma's proof.
pub const LEMMA_PROOF_BYTES_MAX: usize = 16 * 1024;
/// The most lemmas of a store.
pub const LEMMAS_MAX: usize = 1024;
/// The most premises, and the most symbols, of a lemma.
pub const LEMMA_PARTS_MAX: usize = 16;

#[derive(Clone, Debug)]
struct Lemma {
    id: [u8; 32],
    /// The number of its first symbol in the store.
    first_symbol: usize,
    symbols: usize,
    premises: Vec<Id>,
    conclusion: Id,
}

/// Lemmas that were shown, in the order in which they came.
#[derive(Clone, Debug)]
pub struct LemmaStore {
    terms: Terms,
    lemmas: Vec<Lemma>,
    root: [u8; 32],
}

/// Why something is no lemma, or is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LemmaError {
    /// The lemma or its proof is too long.
    TooLong,
    /// The bytes are no lemma.
    Wire(WireError),
    /// The lemma says something that cannot be said.
    Statement(ProofFault),
    /// The proof does not show it.
    NotShown {
        /// The position in the proof, in bytes.
        at: usize,
        /// Why.
        fault: ProofFault,
    },
    /// The store has [`LEMMAS_MAX`] lemmas, or no room for the terms of another one.
    Full,
}

impl From<WireError> for LemmaError {
    fn from(error: WireError) -> Self {
        LemmaError::Wire(error)
    }
}

impl core::fmt::Display for LemmaError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            LemmaError::TooLong => {
                write!(f, "a lemma has {LEMMA_BYTES_MAX} bytes at most, its proof {LEMMA_PROOF_BYTES_MAX}")
            }
            LemmaError::Wire(e) => write!(f, "not a lemma: {e}"),
            LemmaError::Statement(e) => write!(f, "not a lemma: {e}"),
            LemmaError::NotShown { at, fault } => write!(f, "the proof does not show it: at byte {at} {fault}"),
            LemmaError::Full => write!(f, "there is no room for another lemma"),
        }
    }
}

impl Wire for Symbol {
    fn write(&self, w: &mut Writer) {
        self.args.write(w);
        w.byte(self.result);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let (args, result) = (Vec::<Sort>::read(r)?, r.byte()?);
        if args.len() > 3 || args.contains(&sort::BOOL) || args.iter().chain([&result]).any(|s| *s > sort::LAST) {
            return Err(WireError::BadSet);
        }
        Ok(Symbol { args, result })
    }
}

impl Default for LemmaStore {
    fn default() -> Self {
        LemmaStore { terms: Terms::new(usize::MAX), lemmas: Vec::new(), root: [0; 32] }
    }
}

impl LemmaStore {
    /// How many lemmas there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lemmas.len()
    }
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lemmas.is_empty()
    }
    /// What names the lemmas and their order: the BLAKE3 of the root before and the last lemma's name; zeros where
    /// there is none.
    #[must_use]
    pub const fn root(&self) -> [u8; 32] {
        self.root
    }
    /// The name of the lemma with this number.
    #[must_use]
    pub fn id(&self, number: usize) -> Option<&[u8; 32]> {
        self.lemmas.get(number).map(|lemma| &lemma.id)
    }
    /// The name that a lemma with these bytes has.
    #[must_use]
    pub fn id_of(lemma: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"vinet lemma").update(&RULES_VERSION.to_le_bytes()).update(lemma);
        *hasher.finalize().as_bytes()
    }
    /// The terms that lemmas are written in; see [`LemmaStore::statement`].
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }
    /// What the lemma with this number says: the numbers of its symbols, its premises and its conclusion.
    #[must_use]
    pub fn statement(&self, number: usize) -> Option<(core::ops::Range<usize>, &[Id], Id)> {
        let lemma = self.lemmas.get(number)?;
        Some((lemma.first_symbol..lemma.first_symbol + lemma.symbols, &lemma.premises, lemma.conclusion))
    }

    /// Checks a lemma and takes it in. One that is there already keeps its number, whatever the proof.
    ///
    /// # Errors
    /// [`LemmaError`]; the store is as before then.
    pub fn add(&mut self, lemma: &[u8], proof: &[u8]) -> Result<usize, LemmaError> {
        if lemma.len() > LEMMA_BYTES_MAX || proof.len() > LEMMA_PROOF_BYTES_MAX {
            return Err(LemmaError::TooLong);
        }
        let id = LemmaStore::id_of(lemma);
        if let Some(number) = self.lemmas.iter().position(|known| known.id == id) {
            return Ok(number);
        }
        if self.lemmas.len() == LEMMAS_MAX {
            return Err(LemmaError::Full);
        }
        let work = crate::check::work_for(lemma.len() + proof.len());
        let mut kernel = Kernel::new(Terms::new(work), self);
        let (premises, conclusion) = statement(lemma, &mut kernel.terms)?;
        premises.iter().for_each(|premise| kernel.know(*premise));
        let mut steps = Steps::new(Reader::new(proof, usize::MAX, usize::MAX));
        let shown = steps.show(&mut kernel, None, conclusion).and_then(|()| steps.end());
        shown.map_err(|fault| LemmaError::NotShown { at: steps.position(), fault })?;
        // Now for good: the same statement among the store's own terms.
        let mut terms = self.terms.clone();
        let first_symbol = terms.symbols.len();
        let (premises, conclusion) = statement(lemma, &mut terms).map_err(|_| LemmaError::Full)?;
        let symbols = terms.symbols.len() - first_symbol;
        self.terms = terms;
        self.lemmas.push(Lemma { id, first_symbol, symbols, premises, conclusion });
        self.root = *blake3::Hasher::new().update(&self.root).update(&id).finalize().as_bytes();
        Ok(self.lemmas.len() - 1)
    }

    /// How many premises the lemma with this number has.
    #[must_use]
    pub fn premises(&self, number: usize) -> Option<usize> {
        self.lemmas.get(number).map(|lemma| lemma.premises.len())
    }

    /// What the lemma concludes where its premises are these formulas of `terms`. What its symbols stand for is found by
    /// matching the premises in order; `more` gives, in order, those that are open then.
    pub(crate) fn apply(&self, number: usize, premises: &[Id], more: &[Id], terms: &mut Terms) -> Result<Id, Fault> {
        let lemma = self.lemmas.get(number).ok_or(Fault::NoSuchLemma)?;
        let mut matching =
            Matching { store: &self.terms, first: lemma.first_symbol, bound: alloc::vec![None; lemma.symbols] };
        if premises.len() != lemma.premises.len() {
            return Err(Fault::LemmaDoesNotMatch);
        }
        for (pattern, premise) in lemma.premises.iter().zip(premises) {
            matching.fit(*pattern, *premise, terms)?;
        }
        let mut more = more.iter();
        for number in 0..lemma.symbols {
            if matching.bound[number].is_none() {
                matching.bind(number, *more.next().ok_or(Fault::LemmaDoesNotMatch)?, terms)?;
            }
        }
        if more.next().is_some() {
            return Err(Fault::LemmaDoesNotMatch);
        }
        matching.copy(lemma.conclusion, terms)
    }

    /// How many of the lemma's symbols its premises leave open.
    #[must_use]
    pub fn open(&self, number: usize) -> Option<usize> {
        let lemma = self.lemmas.get(number)?;
        let mut seen = alloc::vec![false; lemma.symbols];
        lemma.premises.iter().for_each(|premise| self.mark(*premise, lemma.first_symbol, &mut seen));
        Some(seen.iter().filter(|seen| !**seen).count())
    }
    fn mark(&self, id: Id, first: usize, seen: &mut [bool]) {
        let node = self.terms.get(id);
        if node.op == Op::Symbol {
            seen[node.args[0] as usize - first] = true;
        }
        self.terms.children(node).for_each(|i| self.mark(node.args[i], first, seen));
    }
}

/// The premises and the conclusion of the lemma with these bytes, whose symbols become the next ones of `terms`.
fn statement(lemma: &[u8], terms: &mut Terms) -> Result<(Vec<Id>, Id), LemmaError> {
    let mut r = Reader::new(lemma, usize::MAX, usize::MAX);
    let symbols = Vec::<Symbol>::read(&mut r)?;
    let premises = r.integer(LEMMA_PARTS_MAX as u64)?;
    if symbols.len() > LEMMA_PARTS_MAX {
        return Err(LemmaError::Wire(WireError::BadSet));
    }
    let first = terms.symbols.len();
    terms.symbols.extend(symbols);
    let mut steps = Steps::new(r);
    let mut formula = || steps.statement(terms, first).map_err(LemmaError::Statement);
    let premises = (0..premises).map(|_| formula()).collect::<Result<Vec<Id>, LemmaError>>()?;
    let conclusion = formula()?;
    steps.end().map_err(LemmaError::Statement)?;
    Ok((premises, conclusion))
}

/// What a lemma's symbols stand for, as far as it is known.
struct Matching<'s> {
    store: &'s Terms,
    first: usize,
    bound: Vec<Option<Id>>,
}

impl Matching<'_> {
    fn bind(&mut self, number: usize, value: Id, terms: &Terms) -> Result<(), Fault> {
        let symbol = &self.store.symbols[self.first + number];
        // A function or predicate stands for itself alone: such a lemma is a theorem to be read, not to be used.
        let fits = symbol.args.is_empty() && terms.sort(value) == symbol.result && terms.is_closed(value);
        if !fits || self.bound[number].is_some_and(|known| known != value) {
            return Err(Fault::LemmaDoesNotMatch);
        }
        self.bound[number] = Some(value);
        Ok(())
    }
    fn fit(&mut self, pattern: Id, id: Id, terms: &mut Terms) -> Result<(), Fault> {
        terms.work(1)?;
        let (wanted, node) = (self.store.get(pattern), terms.get(id));
        if wanted.op == Op::Symbol {
            return self.bind(wanted.args[0] as usize - self.first, id, terms);
        }
        let children = self.store.children(wanted);
        let numbers = |node: Node| (0..4).filter(|i| !children.contains(i)).map(move |i| node.args[i]);
        if wanted.op != node.op || !numbers(wanted).eq(numbers(node)) {
            return Err(Fault::LemmaDoesNotMatch);
        }
        children.clone().try_for_each(|i| self.fit(wanted.args[i], node.args[i], terms))
    }
    fn copy(&self, pattern: Id, terms: &mut Terms) -> Result<Id, Fault> {
        terms.work(1)?;
        let mut node = self.store.get(pattern);
        if node.op == Op::Symbol {
            return self.bound[node.args[0] as usize - self.first].ok_or(Fault::LemmaDoesNotMatch);
        }
        for i in self.store.children(node) {
            node.args[i] = self.copy(node.args[i], terms)?;
        }
        Ok(terms.make(node.op, node.args)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::{refer, rule};
    use crate::term::TermFault;
    use alloc::{string::ToString, vec};

    const DOUBLED: [u8; 3] = [rule::COPY, 0, rule::BOTH];
    const TRUTH: [u8; 2] = [rule::TRUTH, rule::DONE];

    /// A lemma of these symbols, written as they are in its bytes, and of its premises and its conclusion.
    fn lemma(symbols: &[&[u8]], parts: &[&[u8]]) -> Vec<u8> {
        [&[symbols.len() as u8][..], &symbols.concat(), &[parts.len() as u8 - 1], &parts.concat()].concat()
    }

    /// A true formula of so many bytes, an odd number: True, or a balanced conjunction.
    fn formula(len: usize) -> Vec<u8> {
        match len {
            1 => vec![Op::True as u8],
            _ => {
                let left = ((len - 1) / 2) | 1;
                [vec![Op::And as u8], formula(left), formula(len - 1 - left)].concat()
            }
        }
    }

    /// "5 = 5" and the like, each another one, and the proof of it.
    fn numbered(n: u8, high: u8) -> (Vec<u8>, Vec<u8>) {
        let int = [Op::Int as u8, n | 0x80, high];
        let same = [&[Op::Eq as u8][..], &int, &int].concat();
        (lemma(&[], &[&same]), [&[rule::REFLEXIVITY][..], &int, &[rule::DONE]].concat())
    }

    #[test]
    fn lemmas_and_proofs_are_as_long_as_they_may_be_and_no_longer() {
        // True or (not so much): 1,024 bytes, two of them before the formula.
        let rest = [&[Op::Not as u8][..], &formula(LEMMA_BYTES_MAX - 5)].concat();
        let most = lemma(&[], &[&[&[Op::Or as u8, Op::True as u8][..], &rest].concat()]);
        let proof = [rule::TRUTH, rule::EITHER_LEFT, refer::PART, 1, refer::GOAL, rule::DONE];
        assert_eq!(most.len(), LEMMA_BYTES_MAX);
        let mut store = LemmaStore::default();
        assert_eq!(store.add(&most, &proof), Ok(0));
        assert_eq!(store.add(&[&most[..], &[0]].concat(), &proof), Err(LemmaError::TooLong));
        let truth = lemma(&[], &[&[Op::True as u8]]);
        let steps = [rule::TRUTH, rule::BOTH, rule::LEFT].repeat((LEMMA_PROOF_BYTES_MAX - 4) / 3);
        let proof = [&[rule::ASSUME, Op::True as u8, rule::TRUTH][..], &steps, &[rule::DONE]].concat();
        assert_eq!((proof.len(), LEMMA_PROOF_BYTES_MAX), (16_384, 16_384));
        assert_eq!(store.add(&truth, &[&proof[..], &[0]].concat()), Err(LemmaError::TooLong));
        assert_eq!(store.add(&truth, &proof), Ok(1));
    }

    #[test]
    fn a_lemma_has_as_many_parts_as_it_may_have_and_no_more() {
        let mut store = LemmaStore::default();
        let (symbol, truth) = ([0, sort::BOOL], [Op::True as u8]);
        let symbols = |count: usize| lemma(&vec![&symbol[..]; count], &[&truth]);
        assert_eq!(store.add(&symbols(LEMMA_PARTS_MAX), &TRUTH), Ok(0));
        assert_eq!(store.add(&symbols(LEMMA_PARTS_MAX + 1), &TRUTH), Err(LemmaError::Wire(WireError::BadSet)));
        let parts = |count: usize| lemma(&[], &vec![&truth[..]; count]);
        assert_eq!(store.add(&parts(LEMMA_PARTS_MAX + 1), &TRUTH), Ok(1));
        assert!(matches!(store.add(&parts(LEMMA_PARTS_MAX + 2), &TRUTH), Err(LemmaError::Wire(_))));
        for (symbol, is_one) in [
            (&[3, sort::INT, sort::LAST, sort::INT, sort::LAST][..], true),
            (&[4, 3, 3, 3, 3, sort::INT], false),
            (&[1, sort::BOOL, sort::INT], false),
            (&[1, sort::LAST + 1, sort::INT], false),
            (&[0, sort::LAST + 1], false),
            (&[2, sort::INT, sort::INT, sort::BOOL], true),
        ] {
            let added = store.add(&lemma(&[symbol], &[&truth]), &TRUTH);
            assert_eq!(added.is_ok(), is_one, "{symbol:?}");
            let mut r = Reader::new(symbol, usize::MAX, usize::MAX);
            let read = Symbol::read(&mut r);
            assert_eq!(read.is_ok(), is_one);
            if let Ok(read) = read {
                let mut w = Writer::new();
                read.write(&mut w);
                assert_eq!(w.finish(), symbol);
            }
        }
    }

    #[test]
    fn a_proof_is_worked_through_no_further_than_its_bytes_allow() {
        // An equation of 2^13 leaves, looked through: more than two thousand bytes allow, less than three times that.
        let bomb = [&[rule::PICK, sort::INT, rule::REFLEXIVITY, Op::Const as u8, 1][..], &DOUBLED.repeat(12)].concat();
        let proof = [&bomb[..], &[rule::GENERALISE, 1], &[0; 2000]].concat();
        let truth = lemma(&[], &[&[Op::True as u8]]);
        let refused = LemmaStore::default().add(&truth, &proof);
        let Err(LemmaError::NotShown { fault, at }) = refused else { panic!("{refused:?}") };
        assert_eq!((fault, at), (ProofFault::Step(Fault::Term(TermFault::TooMuchWork)), bomb.len() + 2));
    }

    #[test]
    fn a_full_store_takes_no_more() {
        let mut store = LemmaStore::default();
        for i in 0..LEMMAS_MAX {
            let (lemma, proof) = numbered((i % 128) as u8, 1 + (i / 128) as u8);
            assert_eq!(store.add(&lemma, &proof), Ok(i));
        }
        let (another, proof) = numbered(0, 99);
        assert_eq!(store.add(&another, &proof), Err(LemmaError::Full));
        let (first, _) = numbered(0, 1);
        assert_eq!((store.add(&first, &[]), store.len()), (Ok(0), LEMMAS_MAX), "what is there is known");
    }

    #[test]
    fn a_store_says_what_is_in_it() {
        let mut store = LemmaStore::default();
        assert_eq!((store.is_empty(), store.len(), store.root(), store.id(0)), (true, 0, [0; 32], None));
        assert_eq!((store.premises(0), store.open(0), store.statement(0)), (None, None, None));
        // p gives p or q; then (of three symbols) a = b and b = c give a = c.
        let (p, q) = ([Op::Symbol as u8, 0], [Op::Symbol as u8, 1]);
        let either = [&[Op::Or as u8][..], &p, &q].concat();
        let first = lemma(&[&[0, sort::BOOL], &[0, sort::BOOL]], &[&p, &either]);
        let shown = [rule::CLAIM, 1, rule::EITHER_LEFT, refer::PART, 1, refer::GOAL, rule::DONE];
        assert_eq!(store.add(&first, &shown), Ok(0));
        let r = [Op::Symbol as u8, 2];
        let [ab, bc, ac] = [[p, q], [q, r], [p, r]].map(|[a, b]| [&[Op::Eq as u8][..], &a, &b].concat());
        let second = lemma(&[&[0, sort::INT][..]; 3], &[&ab, &bc, &ac]);
        let shown = [rule::CLAIM, 1, rule::CLAIM, 2, rule::TRANSITIVITY, rule::DONE];
        assert_eq!(store.add(&second, &shown), Ok(1));
        assert_eq!((store.is_empty(), store.len(), store.premises(0), store.premises(1)), (false, 2, Some(1), Some(2)));
        assert_eq!((store.open(0), store.open(1)), (Some(1), Some(0)));
        let ids = [LemmaStore::id_of(&first), LemmaStore::id_of(&second)];
        assert_eq!((store.id(0), store.id(1), store.id(2)), (Some(&ids[0]), Some(&ids[1]), None));
        let chain =
            |root: [u8; 32], id: &[u8; 32]| *blake3::Hasher::new().update(&root).update(id).finalize().as_bytes();
        assert_eq!(store.root(), ids.iter().fold([0; 32], chain));
        let (symbols, premises, conclusion) = store.statement(1).expect("there");
        let t = store.terms();
        let said = |id: Id| {
            let node = t.get(id);
            (node.op, [0, 1].map(|i| t.get(node.args[i])).map(|part| (part.op, part.args[0])))
        };
        let same = |a: u32, b: u32| (Op::Eq, [(Op::Symbol, 2 + a), (Op::Symbol, 2 + b)]);
        assert_eq!((symbols, premises.len()), (2..5, 2));
        assert_eq!((said(premises[0]), said(premises[1]), said(conclusion)), (same(0, 1), same(1, 2), same(0, 2)));
        // Used: what its symbols stand for is found, what is open is given, and nothing else.
        let mut t = Terms::new(usize::MAX);
        let [x, y, z] = [7, 8, 9].map(|n| t.int(n).expect("room"));
        let [xy, yz, xz] = [(x, y), (y, z), (x, z)].map(|(a, b)| t.node(Op::Eq, a, b).expect("integers"));
        let refused = Err(Fault::LemmaDoesNotMatch);
        assert_eq!(store.apply(1, &[xy, yz], &[], &mut t), Ok(xz));
        assert_eq!(store.apply(1, &[xy, xz], &[], &mut t), refused, "y is not x");
        assert_eq!(store.apply(1, &[xy], &[], &mut t), refused);
        assert_eq!(store.apply(1, &[xy, yz, yz], &[], &mut t), refused);
        assert_eq!(store.apply(1, &[xy, yz], &[x], &mut t), refused, "nothing is open");
        assert_eq!(store.apply(2, &[], &[], &mut t), Err(Fault::NoSuchLemma));
        let or = t.node(Op::Or, xy, yz).expect("formulas");
        assert_eq!(store.apply(0, &[xy], &[yz], &mut t), Ok(or));
        assert_eq!(store.apply(0, &[xy], &[], &mut t), refused);
        assert_eq!(store.apply(0, &[xy], &[x], &mut t), refused, "an integer is no formula");
        let bound = t.node(Op::Var, 0, u32::from(sort::INT)).expect("a variable");
        let open = t.node(Op::Eq, bound, x).expect("integers");
        assert_eq!(store.apply(0, &[xy], &[open], &mut t), refused, "it is not closed");
        // Another operation does not match, whatever is below it; nor does another literal under the same one.
        let le = t.node(Op::Le, x, y).expect("integers");
        assert_eq!(store.apply(1, &[le, yz], &[], &mut t), refused, "it is no equation");
        let natural = [&[Op::Le as u8, Op::Int as u8, 0][..], &p].concat();
        let third = lemma(&[&[0, sort::INT]], &[&natural, &natural]);
        assert_eq!(store.add(&third, &[rule::CLAIM, 1, rule::DONE]), Ok(2));
        let [zero, one] = [0, 1].map(|n| t.int(n).expect("room"));
        let [natural, positive] = [zero, one].map(|low| t.node(Op::Le, low, x).expect("integers"));
        assert_eq!(store.apply(2, &[natural], &[], &mut t), Ok(natural));
        assert_eq!(store.apply(2, &[positive], &[], &mut t), refused, "1 is not 0");
    }

    #[test]
    fn what_is_wrong_with_a_lemma_is_said() {
        for (error, said) in [
            (LemmaError::TooLong, "1024 bytes at most, its proof 16384"),
            (LemmaError::from(WireError::BadSet), "not a lemma: "),
            (LemmaError::Statement(ProofFault::TooDeep), "not a lemma: a formula is nested"),
            (LemmaError::NotShown { at: 17, fault: ProofFault::Trailing }, "at byte 17 it goes on"),
            (LemmaError::Full, "no room"),
        ] {
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
