//! IPv6 by longest prefix: a trie over bytes that skips the bytes no route tells apart.

/// This bit of an entry says that the rest is the number of a node.
const NODE: u32 = 1 << 31;

/// One byte of the address, `depth` bits in. All routes below it agree on the bits before.
struct Node {
    /// The bits on which they agree.
    key: u128,
    mask: u128,
    depth: u8,
    /// The hop of an address that differs in those bits.
    outside: u32,
    entries: [u32; 256],
}

/// Every entry of a node holds the hop of the longest prefix that covers all its addresses, or leads to a node.
pub(super) struct Trie {
    nodes: Vec<Node>,
    /// An entry: the hop of everything, or the first node.
    root: u32,
}

/// An address, a length, a hop.
type Route = (u128, u8, u32);

impl Trie {
    /// The trie of `routes`, which come in rising length; of equal prefixes the last counts.
    pub(super) fn build(mut routes: Vec<Route>) -> Trie {
        let mut trie = Trie { nodes: Vec::new(), root: super::NO_ROUTE };
        let mut outside = super::NO_ROUTE;
        routes.retain(|&(_, len, hop)| {
            if len == 0 {
                outside = hop;
            }
            len > 0
        });
        trie.root = trie.entry(routes, outside);
        trie
    }

    /// The entry for `routes`, all below one entry whose own hop is `outside`.
    fn entry(&mut self, routes: Vec<Route>, outside: u32) -> u32 {
        let Some(&(first, _, _)) = routes.first() else { return outside };
        // The bits on which all agree, of those that all have; the node's byte starts before the end of the shortest.
        let agreed =
            routes.iter().map(|&(addr, len, _)| ((addr ^ first).leading_zeros() as u8).min(len - 1)).min().unwrap_or(0);
        let depth = agreed / 8 * 8;
        let mask = if depth == 0 { 0 } else { u128::MAX << (128 - depth) };
        let number = self.nodes.len();
        self.nodes.push(Node { key: first & mask, mask, depth, outside, entries: [outside; 256] });
        let mut below: Vec<Vec<Route>> = vec![Vec::new(); 256];
        for (addr, len, hop) in routes {
            let byte = byte(addr, depth);
            if len <= depth + 8 {
                self.nodes[number].entries[byte..byte + (1 << (depth + 8 - len))].fill(hop);
            } else {
                below[byte].push((addr, len, hop));
            }
        }
        for (byte, routes) in below.into_iter().enumerate() {
            if !routes.is_empty() {
                let outside = self.nodes[number].entries[byte];
                self.nodes[number].entries[byte] = self.entry(routes, outside);
            }
        }
        NODE | number as u32
    }

    #[inline]
    pub(super) fn look_up(&self, addr: u128) -> u32 {
        let mut entry = self.root;
        while entry & NODE != 0 {
            let node = &self.nodes[(entry & !NODE) as usize];
            if (addr ^ node.key) & node.mask != 0 {
                return node.outside;
            }
            entry = node.entries[byte(addr, node.depth)];
        }
        entry
    }
}

#[inline]
fn byte(addr: u128, depth: u8) -> usize {
    (addr >> (120 - depth) & 0xff) as usize
}
