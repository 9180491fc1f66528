//! Randomness for tests, from a printed seed.

/// A small generator (splitmix64); the same seed gives the same test.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// The seed of this run: VINET_TEST_SEED, or a new one. It is printed, and a failing test shows it.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("VINET_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("random bytes");
        u64::from_le_bytes(bytes)
    });
    println!("VINET_TEST_SEED={seed}");
    seed
}

use crate::ends::{Client, Now, Server};
use crate::identity::{Authority, AuthorityKey, Identity, Subject, Validity, parse_principal};
use crate::signed::{Class, Terms};
use std::sync::Arc;
use vinet_trusted::addr::Addr;

/// The root of the lemmas that the routers of tests hold.
pub(crate) const LEMMA_ROOT: [u8; 32] = [0x33; 32];
/// The second at which tests play.
pub(crate) const NOW_S: u64 = 1_800_000_000;

pub(crate) fn at_ms(mono_ms: u64) -> Now {
    Now { wall_s: NOW_S, mono_ms }
}

/// An authority with an owner and a router.
pub(crate) struct Testbed {
    pub(crate) authority_key: AuthorityKey,
    pub(crate) authority: Arc<Authority>,
    pub(crate) owner: Arc<Identity>,
    pub(crate) router: Arc<Identity>,
}

impl Testbed {
    pub(crate) fn new() -> Testbed {
        let authority_key = AuthorityKey::generate("testbed").unwrap();
        let valid = Validity::starting(NOW_S - 10, 100);
        let subject = Subject::Owner(parse_principal("192.0.2.7").unwrap());
        let owner = Arc::new(authority_key.issue_identity(subject, valid).unwrap());
        let router = Arc::new(authority_key.issue_identity(router_named("edge-1"), valid).unwrap());
        Testbed { authority: Arc::new(authority_key.authority()), authority_key, owner, router }
    }
    /// What the owner's upload says, good for a minute.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            router: self.router.public(),
            policy_id: [7; 32],
            lemma_root: LEMMA_ROOT,
            program: b"program".to_vec(),
            proof: Some(b"proof".to_vec()),
            principal: self.owner.principal().unwrap(),
            class: Class::Header,
            complexity: 100,
            cost: 1000,
            lifetime_s: 10,
            packet_rate: 5,
            payment: 0,
            quote: None,
            monitor: false,
            nonce: [9; 16],
            expiry_s: NOW_S + 60,
        }
    }
    pub(crate) fn client(&self) -> Client {
        Client::new(self.owner.clone(), self.authority.clone(), Some("edge-1".into()), at_ms(0)).unwrap()
    }
    pub(crate) fn server(&self) -> Server {
        Server::new(self.router.clone(), self.authority.clone(), at_ms(0)).unwrap()
    }
    /// The owner's secret key with someone else's certificate, and so on: what a thief has.
    pub(crate) fn mixed(secret: &Identity, certificate: &Identity) -> Arc<Identity> {
        Arc::new(Identity { secret: secret.secret.clone(), certificate: certificate.certificate.clone() })
    }
}

/// Changes every bit of `bytes` in turn and asks `stands`, which answers false for everything but the bytes themselves.
pub(crate) fn every_bit(bytes: &[u8], stands: impl Fn(&[u8]) -> bool) {
    assert!(stands(bytes), "the whole does not stand");
    for bit in 0..8 * bytes.len() {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!stands(&changed), "bit {bit} can be changed");
    }
}

pub(crate) fn router_named(name: &str) -> Subject {
    Subject::Router { name: name.into(), addrs: vec![Addr::V4(0xc633_6401)] }
}
