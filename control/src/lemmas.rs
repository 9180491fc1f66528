//! The lemmas that owners' proofs may cite here.
//!
//! Every owner starts with the router's library and may add lemmas of its own behind it, in a store that nobody else
//! sees: so an index never changes, no owner can take another's place in it, and the same lemmas in the same order have
//! the same root whatever others do. A root that a store has had stays good for as long as the store is kept, because
//! stores only grow. What is kept is bounded for each owner and in all; where all have no more room, the store that was
//! unused for longest gives way, and its owner sends its lemmas again; but never one that an installed program's proof may
//! cite, because that proof is checked again after a restart. So the store on disk keeps lemmas too, with their proofs.

use std::sync::Arc;

use ahash::AHashMap;
use vinet_session::Now;
use vinet_session::identity::parse_principal;
use vinet_session::message::{LemmaPlace, NewLemma, Rejection};
use vinet_trusted::addr::Principal;
use vinet_trusted::lemma::LemmaStore;

use crate::store::{Kind, Put};

/// What one owner added.
#[derive(Debug)]
struct Shelf {
    /// The library, and the owner's lemmas behind it.
    store: Arc<LemmaStore>,
    /// The root after each of the owner's lemmas.
    roots: Vec<[u8; 32]>,
    used_ms: u64,
    /// Installed programs whose proofs may cite it.
    cited: usize,
}

/// A lemma as the store keeps it: the length of the statement, the statement, the proof.
fn encode(lemma: &NewLemma) -> Vec<u8> {
    // A statement has less than 2^32 bytes.
    let len = (lemma.lemma.len() as u32).to_be_bytes();
    [&len[..], &lemma.lemma, &lemma.proof].concat()
}

/// The store's key of an owner's lemma.
fn key(owner: &Principal, number: usize) -> Vec<u8> {
    [owner.to_string().as_bytes(), b"#", &(number as u32).to_be_bytes()].concat()
}

/// The owner of a key, and the lemma of a value, where they can be read.
fn decode(key: &[u8], value: &[u8]) -> Option<(Principal, NewLemma)> {
    let (owner, _) = key.split_at_checked(key.len().checked_sub(5)?)?;
    let owner = parse_principal(std::str::from_utf8(owner).ok()?).ok()?;
    let (len, rest) = value.split_first_chunk()?;
    let (lemma, proof) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    Some((owner, NewLemma { lemma: lemma.to_vec(), proof: proof.to_vec() }))
}

/// The library, and the stores of the owners who added to it.
#[derive(Debug)]
pub struct Lemmas {
    library: Arc<LemmaStore>,
    shelves: AHashMap<Principal, Shelf>,
    /// Owners whose lemma is with the judges.
    pending: AHashMap<Principal, Arc<LemmaStore>>,
    /// Lemmas of all owners.
    kept: usize,
    kept_max: usize,
    per_owner_max: usize,
}

/// What to do with a lemma.
#[derive(Debug)]
pub enum OpenedLemma {
    /// Let the judges add it to this store; then give what they say to [`Lemmas::close`].
    Judge(Arc<LemmaStore>),
    /// It is there already.
    Known(LemmaPlace),
}

impl Lemmas {
    /// No lemmas but those of `library`; room for `kept_max` of owners, `per_owner_max` for each.
    #[must_use]
    pub fn new(library: Arc<LemmaStore>, kept_max: usize, per_owner_max: usize) -> Lemmas {
        let (shelves, pending) = (AHashMap::new(), AHashMap::new());
        Lemmas { library, shelves, pending, kept: 0, kept_max, per_owner_max }
    }

    /// Has other bounds from now on; lemmas above them stay until others need their room.
    pub fn set_limits(&mut self, kept_max: usize, per_owner_max: usize) {
        (self.kept_max, self.per_owner_max) = (kept_max, per_owner_max);
    }

    /// The root of the lemmas that every owner has.
    #[must_use]
    pub fn library_root(&self) -> [u8; 32] {
        self.library.root()
    }

    /// Whether `owner`'s proofs may be about the lemmas with this root.
    #[must_use]
    pub fn knows(&self, owner: &Principal, root: &[u8; 32]) -> bool {
        *root == self.library.root() || self.shelves.get(owner).is_some_and(|shelf| shelf.roots.contains(root))
    }

    /// The lemmas that `owner`'s proofs may cite.
    pub fn store(&mut self, owner: &Principal, now: Now) -> Arc<LemmaStore> {
        match self.shelves.get_mut(owner) {
            None => Arc::clone(&self.library),
            Some(shelf) => {
                shelf.used_ms = now.mono_ms;
                Arc::clone(&shelf.store)
            }
        }
    }

    /// The lemmas of every owner who has some.
    #[must_use]
    pub fn stores(&self) -> AHashMap<Principal, Arc<LemmaStore>> {
        self.shelves.iter().map(|(owner, shelf)| (*owner, Arc::clone(&shelf.store))).collect()
    }

    /// Decides what can be decided about a lemma of `owner` without its proof.
    ///
    /// # Errors
    /// There is no room for it, or another one of the owner is with the judges.
    pub fn open(&mut self, owner: &Principal, lemma: &[u8], now: Now) -> Result<OpenedLemma, Rejection> {
        let store = self.store(owner, now);
        let name = LemmaStore::id_of(lemma);
        if let Some(number) = (0..store.len()).find(|&number| store.id(number) == Some(&name)) {
            return Ok(OpenedLemma::Known(place(number, &store)));
        }
        if self.pending.contains_key(owner) {
            let text = "another lemma of yours is being checked; send the next when its answer is there";
            return Err(Rejection::new("lemma-in-progress", text, None));
        }
        let own = self.shelves.get(owner).map_or(0, |shelf| shelf.roots.len());
        if own >= self.per_owner_max.min(self.kept_max) {
            let text = format!("{owner} has {own} lemmas of its own here, which is the most");
            return Err(Rejection::new("too-many-lemmas", &text, None));
        }
        self.pending.insert(*owner, Arc::clone(&store));
        Ok(OpenedLemma::Judge(store))
    }

    /// Takes in what the judges say about `owner`'s `lemma`: its number, and the store with it. What is to be kept of it,
    /// and of what gave way to it, is added to `puts`.
    ///
    /// # Errors
    /// What they say.
    pub fn close(
        &mut self,
        owner: &Principal,
        lemma: &NewLemma,
        judged: Result<(usize, Arc<LemmaStore>), Rejection>,
        now: Now,
        puts: &mut Vec<Put>,
    ) -> Result<LemmaPlace, Rejection> {
        let before = self.pending.remove(owner);
        let (number, store) = judged?;
        let current = self.shelves.get(owner).map_or(&self.library, |shelf| &shelf.store);
        if before.is_none_or(|before| before.root() != current.root()) {
            let text = "your other lemmas gave way to others' meanwhile; send them again, then this one";
            return Err(Rejection::new("lemmas-dropped", text, None));
        }
        if self.kept >= self.kept_max && !self.make_room(owner, puts) {
            let text = "so many lemmas are cited by installed programs that there is no room for more; ask later";
            return Err(Rejection::new("too-many-lemmas", text, None));
        }
        let shelf = self.shelves.entry(*owner).or_insert_with(|| Shelf {
            store: Arc::clone(&store),
            roots: Vec::new(),
            used_ms: now.mono_ms,
            cited: 0,
        });
        puts.push(Put::Keep { kind: Kind::Lemma, key: key(owner, number), value: encode(lemma) });
        shelf.roots.push(store.root());
        shelf.used_ms = now.mono_ms;
        self.kept += 1;
        let place = place(number, &store);
        shelf.store = store;
        Ok(place)
    }

    /// Forgets that a lemma of `owner` is with the judges, who did not take it.
    pub fn give_up(&mut self, owner: &Principal) {
        self.pending.remove(owner);
    }

    /// Drops the store that was unused for longest, but not `owner`'s, nor one that installed programs cite; says whether
    /// there was one.
    fn make_room(&mut self, owner: &Principal, puts: &mut Vec<Put>) -> bool {
        let others = self.shelves.iter().filter(|(other, shelf)| *other != owner && shelf.cited == 0);
        let Some(oldest) = others.min_by_key(|(_, shelf)| shelf.used_ms).map(|(oldest, _)| *oldest) else {
            return false;
        };
        if let Some(shelf) = self.shelves.remove(&oldest) {
            self.kept -= shelf.roots.len();
            let numbers = self.library.len()..self.library.len() + shelf.roots.len();
            puts.extend(numbers.map(|number| Put::Drop { kind: Kind::Lemma, key: key(&oldest, number) }));
        }
        true
    }

    /// One program more of `owner` is installed whose proof may cite the lemmas with this root.
    pub fn cite(&mut self, owner: &Principal, root: &[u8; 32]) {
        if let Some(shelf) = self.shelves.get_mut(owner).filter(|_| *root != self.library.root()) {
            shelf.cited += 1;
        }
    }
    /// One program less.
    pub fn cite_no_more(&mut self, owner: &Principal, root: &[u8; 32]) {
        if let Some(shelf) = self.shelves.get_mut(owner).filter(|_| *root != self.library.root()) {
            shelf.cited = shelf.cited.saturating_sub(1);
        }
    }

    /// Takes in what the store kept, in the order of keys, and checks it again; gives what it need not keep any longer.
    pub fn restore(&mut self, kept: Vec<(Vec<u8>, Vec<u8>)>, now: Now) -> Vec<Put> {
        let mut puts = Vec::new();
        for (key, value) in kept {
            let added = decode(&key, &value).and_then(|(owner, lemma)| {
                let before = self.store(&owner, now);
                let mut with = LemmaStore::clone(&before);
                let number = with.add(&lemma.lemma, &lemma.proof).ok()?;
                self.pending.insert(owner, before);
                let known = self.close(&owner, &lemma, Ok((number, Arc::new(with))), now, &mut Vec::new());
                known.ok()
            });
            if added.is_none() {
                // The rules changed, or the library: a program that cites it will not come back either.
                puts.push(Put::Drop { kind: Kind::Lemma, key });
            }
        }
        puts
    }

    /// How many lemmas of owners are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept
    }
}

fn place(number: usize, store: &LemmaStore) -> LemmaPlace {
    // A store has far fewer lemmas than 2^32.
    LemmaPlace { index: u32::try_from(number).unwrap_or(u32::MAX), root: store.root() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_trusted::addr::Addr;
    use vinet_trusted::proof::rule;
    use vinet_trusted::term::Op;

    fn at(mono_ms: u64) -> Now {
        Now { wall_s: 1_800_000_000, mono_ms }
    }
    fn owner(number: u32) -> Principal {
        Principal::EndUser(Addr::V4(number))
    }
    /// A lemma for each number, with its proof: no symbols, no premises, and as the conclusion so many truths at once.
    fn lemma(number: usize) -> (Vec<u8>, Vec<u8>) {
        let lemma = [vec![0, 0], [Op::And as u8, Op::True as u8].repeat(number), vec![Op::True as u8]].concat();
        let proof = [vec![rule::TRUTH; number + 1], vec![rule::BOTH; number], vec![rule::DONE]].concat();
        (lemma, proof)
    }

    /// As the core does it: opened, judged, closed.
    fn add(lemmas: &mut Lemmas, owner: &Principal, number: usize, now: Now) -> Result<LemmaPlace, Rejection> {
        let (lemma, proof) = lemma(number);
        match lemmas.open(owner, &lemma, now)? {
            OpenedLemma::Known(place) => Ok(place),
            OpenedLemma::Judge(store) => {
                let mut with = LemmaStore::clone(&store);
                let number = with.add(&lemma, &proof).expect("a lemma that is shown");
                lemmas.close(owner, &NewLemma { lemma, proof }, Ok((number, Arc::new(with))), now, &mut Vec::new())
            }
        }
    }

    /// One that is closed without having been added.
    fn none() -> NewLemma {
        NewLemma { lemma: Vec::new(), proof: Vec::new() }
    }

    #[test]
    fn each_owner_has_a_store_of_its_own_whose_roots_stay_good() {
        let mut lemmas = Lemmas::new(Arc::default(), 8, 4);
        let library = lemmas.library_root();
        let first = add(&mut lemmas, &owner(1), 1, at(0)).unwrap();
        let second = add(&mut lemmas, &owner(1), 2, at(1)).unwrap();
        assert_eq!((first.index, second.index), (0, 1));
        for root in [library, first.root, second.root] {
            assert!(lemmas.knows(&owner(1), &root));
        }
        assert_eq!(lemmas.store(&owner(1), at(2)).root(), second.root);
        // Another owner has neither, and gets the first index for what it adds first.
        assert!(lemmas.knows(&owner(2), &library) && !lemmas.knows(&owner(2), &first.root));
        assert_eq!(add(&mut lemmas, &owner(2), 2, at(3)).unwrap().index, 0);
        assert_eq!(add(&mut lemmas, &owner(2), 1, at(3)).unwrap().index, 1);
        assert_ne!(lemmas.store(&owner(2), at(4)).root(), second.root);
        // The same lemma again keeps its index, and needs no judge.
        let again = lemmas.open(&owner(1), &lemma(1).0, at(5)).unwrap();
        assert!(matches!(again, OpenedLemma::Known(place) if place == LemmaPlace { index: 0, root: second.root }));
        assert_eq!(lemmas.kept(), 4);
    }

    #[test]
    fn an_owner_has_so_many_and_one_at_a_time() {
        let mut lemmas = Lemmas::new(Arc::default(), 8, 2);
        let OpenedLemma::Judge(_) = lemmas.open(&owner(1), &lemma(1).0, at(0)).unwrap() else { panic!("known") };
        assert_eq!(lemmas.open(&owner(1), &lemma(2).0, at(0)).unwrap_err().code(), "lemma-in-progress");
        let rejected = Rejection::new("lemma-rejected", "", None);
        assert_eq!(lemmas.close(&owner(1), &none(), Err(rejected.clone()), at(0), &mut Vec::new()), Err(rejected));
        assert_eq!(lemmas.kept(), 0);
        add(&mut lemmas, &owner(1), 1, at(1)).unwrap();
        add(&mut lemmas, &owner(1), 2, at(1)).unwrap();
        assert_eq!(add(&mut lemmas, &owner(1), 3, at(1)).unwrap_err().code(), "too-many-lemmas");
        assert_eq!(add(&mut lemmas, &owner(1), 2, at(1)).unwrap().index, 1);
        add(&mut lemmas, &owner(2), 3, at(1)).unwrap();
    }

    #[test]
    fn what_was_unused_for_longest_gives_way() {
        let mut lemmas = Lemmas::new(Arc::default(), 3, 3);
        let old = add(&mut lemmas, &owner(1), 1, at(0)).unwrap();
        let used = add(&mut lemmas, &owner(2), 1, at(1)).unwrap();
        add(&mut lemmas, &owner(3), 1, at(2)).unwrap();
        lemmas.store(&owner(1), at(3));
        add(&mut lemmas, &owner(3), 2, at(4)).unwrap();
        assert!(lemmas.knows(&owner(1), &old.root) && !lemmas.knows(&owner(2), &used.root));
        assert_eq!(lemmas.kept(), 3);
        // What was with the judges meanwhile was about a store that is gone.
        let (next, proof) = lemma(3);
        let OpenedLemma::Judge(store) = lemmas.open(&owner(1), &next, at(5)).unwrap() else { panic!("known") };
        lemmas.store(&owner(3), at(6));
        add(&mut lemmas, &owner(2), 1, at(7)).unwrap();
        assert!(!lemmas.knows(&owner(1), &old.root));
        let mut with = LemmaStore::clone(&store);
        let number = with.add(&next, &proof).unwrap();
        let closed = lemmas.close(&owner(1), &none(), Ok((number, Arc::new(with))), at(8), &mut Vec::new());
        assert_eq!(closed.unwrap_err().code(), "lemmas-dropped");
    }

    /// What a store holds after `puts`.
    fn keep(kept: &mut std::collections::BTreeMap<Vec<u8>, Vec<u8>>, puts: Vec<Put>) {
        for put in puts {
            match put {
                Put::Keep { kind: Kind::Lemma, key, value } => drop(kept.insert(key, value)),
                Put::Drop { kind: Kind::Lemma, key } => assert!(kept.remove(&key).is_some()),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_installed_programs_cite_gives_way_to_nothing_and_comes_back_after_a_restart() {
        let mut kept = std::collections::BTreeMap::new();
        let mut lemmas = Lemmas::new(Arc::default(), 2, 2);
        let mut add = |lemmas: &mut Lemmas, who: u32, number: usize, now| {
            let (lemma, proof) = lemma(number);
            let OpenedLemma::Judge(store) = lemmas.open(&owner(who), &lemma, now)? else { panic!("known") };
            let mut with = LemmaStore::clone(&store);
            let judged = Ok((with.add(&lemma, &proof).unwrap(), Arc::new(with)));
            let mut puts = Vec::new();
            let place = lemmas.close(&owner(who), &NewLemma { lemma, proof }, judged, now, &mut puts);
            keep(&mut kept, puts);
            place
        };
        let first = add(&mut lemmas, 1, 1, at(0)).unwrap();
        add(&mut lemmas, 2, 1, at(1)).unwrap();
        lemmas.cite(&owner(1), &first.root);
        lemmas.cite(&owner(2), &lemmas.library_root());
        // The second gives way, though it was used later.
        add(&mut lemmas, 3, 2, at(2)).unwrap();
        assert!(lemmas.knows(&owner(1), &first.root));
        let third = lemmas.store(&owner(3), at(2)).root();
        lemmas.cite(&owner(3), &third);
        assert_eq!(add(&mut lemmas, 4, 1, at(3)).unwrap_err().code(), "too-many-lemmas");
        lemmas.cite_no_more(&owner(1), &first.root);
        add(&mut lemmas, 4, 1, at(4)).unwrap();
        assert!(!lemmas.knows(&owner(1), &first.root));

        let mut again = Lemmas::new(Arc::default(), 2, 2);
        let mut wrong = kept.clone();
        wrong.insert(key(&owner(9), 0), vec![0; 9]);
        assert_eq!(again.restore(wrong.into_iter().collect(), at(0)).len(), 1);
        assert!(again.knows(&owner(3), &third) && again.knows(&owner(4), &first.root) && again.kept() == 2);
    }
}
