//! IPv4 by longest prefix: a table over the first 16 bits, and blocks over the next 8 and the last 8.

/// This bit of an entry says that the rest is the number of a block.
const BLOCK: u32 = 1 << 31;

/// Every entry holds the hop of the longest prefix that covers all its addresses, or leads to a block of longer ones.
pub(super) struct Trie {
    root: Box<[u32; 1 << 16]>,
    blocks: Vec<[u32; 256]>,
}

impl Trie {
    pub(super) fn new() -> Trie {
        Trie { root: Box::new([super::NO_ROUTE; 1 << 16]), blocks: Vec::new() }
    }

    /// Sends the prefix to `hop`. Prefixes must come in rising length: a later one writes over an earlier one.
    pub(super) fn insert(&mut self, addr: u32, len: u8, hop: u32) {
        let first = (addr >> 16) as usize;
        if len <= 16 {
            self.root[first..first + (1 << (16 - len))].fill(hop);
            return;
        }
        let block = Self::descend(&mut self.root[first], &mut self.blocks);
        let second = (addr >> 8 & 0xff) as usize;
        if len <= 24 {
            self.blocks[block][second..second + (1 << (24 - len))].fill(hop);
            return;
        }
        let mut entry = self.blocks[block][second];
        let last_block = Self::descend(&mut entry, &mut self.blocks);
        self.blocks[block][second] = entry;
        let third = (addr & 0xff) as usize;
        self.blocks[last_block][third..third + (1 << (32 - len))].fill(hop);
    }

    /// The block that `entry` leads to; one is made that inherits its hop where it leads to none.
    fn descend(entry: &mut u32, blocks: &mut Vec<[u32; 256]>) -> usize {
        if *entry & BLOCK == 0 {
            blocks.push([*entry; 256]);
            *entry = BLOCK | (blocks.len() - 1) as u32;
        }
        (*entry & !BLOCK) as usize
    }

    /// Changes the hops of all addresses in the /16s from `first` to `last`.
    pub(super) fn change(&mut self, first: u16, last: u16, change: impl Fn(u32) -> u32 + Copy) {
        fn all(entries: &mut [u32], blocks: &mut [[u32; 256]], change: impl Fn(u32) -> u32 + Copy) {
            for entry in entries {
                if *entry & BLOCK == 0 {
                    *entry = change(*entry);
                } else {
                    // A block belongs to one entry, so nothing in it is changed twice.
                    let mut block = blocks[(*entry & !BLOCK) as usize];
                    all(&mut block, blocks, change);
                    blocks[(*entry & !BLOCK) as usize] = block;
                }
            }
        }
        all(&mut self.root[usize::from(first)..=usize::from(last)], &mut self.blocks, change);
    }

    #[inline]
    pub(super) fn look_up(&self, addr: u32) -> u32 {
        let mut entry = self.root[(addr >> 16) as usize];
        if entry & BLOCK != 0 {
            entry = self.blocks[(entry & !BLOCK) as usize][(addr >> 8 & 0xff) as usize];
            if entry & BLOCK != 0 {
                entry = self.blocks[(entry & !BLOCK) as usize][(addr & 0xff) as usize];
            }
        }
        entry
    }
}
