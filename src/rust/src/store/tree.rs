//! The way from the root of the store to one of its leaves, read from the file and not believed.
//!
//! LMDB goes wherever a page sends it. One bit in a page of branches leads to the leaf of other keys, and one in a header
//! hides entries: all that is found then is genuine and in order, and a person who is not found looks unknown. So the
//! way to where a key would stand is gone a second time. A page must be the one that its parent names, its nodes must
//! fill it without a gap, and its keys must lie in order between those that its parent has for it.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::{Fault, Result};

// Sizes and places are those of `mdb.c`, in the data format 1 of LMDB.
const _: () = assert!(cfg!(all(target_endian = "little", target_pointer_width = "64")), "pages are laid out otherwise");
const HEADER_BYTES: usize = 16;
const FLAGS_AT: usize = 10;
const LOWER_AT: usize = 12;
const UPPER_AT: usize = 14;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const NODE_BYTES: usize = 8;
const NODE_IS_BIG: u16 = 1;
const META_ROOT_AT: usize = 128;
const META_TRANSACTION_AT: usize = 144;
const META_BYTES: usize = 152;
/// The root of a tree without entries.
const NO_PAGE: u64 = u64::MAX;
/// LMDB's own limits.
const MAX_DEPTH: usize = 32;
const MAX_PAGE_BYTES: usize = 1 << 15;
/// So many pages of branches are kept, each of which leads to a hundred others or so.
const MAX_KNOWN_BRANCHES: usize = 256;

/// The tree of all entries, as one transaction sees it.
pub struct Tree {
    file: Arc<File>,
    root: u64,
    /// Pages of branches that were found sound. What becomes of them in the file later does not mislead this tree.
    branches: RefCell<HashMap<u64, Arc<Page>>>,
    /// Size of a page.
    pub page_bytes: usize,
}

impl Tree {
    /// Open the file in which the trees lie. LMDB has its locks on another one, so that closing this one frees none.
    ///
    /// # Errors
    ///
    /// The system does not give it.
    pub fn file(directory: &Path) -> Result<Arc<File>> {
        Ok(Arc::new(File::open(directory.join("data.mdb")).map_err(heed::Error::Io)?))
    }

    /// Return the tree of a transaction, or none where two later ones have taken the place in which its root stood.
    ///
    /// # Errors
    ///
    /// The file does not have it, or pages have a size that they cannot have.
    pub fn of(file: &Arc<File>, transaction: u64, page_bytes: usize) -> Result<Option<Self>> {
        if !page_bytes.is_power_of_two() || page_bytes > MAX_PAGE_BYTES {
            return Err(damaged());
        }
        for page in 0..2 {
            let read = || -> Result<[u8; META_BYTES]> {
                let mut meta = [0; META_BYTES];
                file.read_exact_at(&mut meta, page * page_bytes as u64).map_err(|_| damaged())?;
                Ok(meta)
            };
            let meta = read()?;
            if u64_at(&meta, META_TRANSACTION_AT) == Some(transaction) {
                // A writer that is just taking this place writes the root before the transaction.
                if read()? != meta {
                    return Ok(None);
                }
                let root = u64_at(&meta, META_ROOT_AT).ok_or_else(damaged)?;
                return Ok(Some(Self { file: file.clone(), root, branches: RefCell::default(), page_bytes }));
            }
        }
        Ok(None)
    }

    /// Return whether there is an entry of this key.
    ///
    /// # Errors
    ///
    /// A page on the way is damaged, or is not the one that belongs there, or cannot be read.
    pub fn has(&self, key: &[u8]) -> Result<bool> {
        if self.root == NO_PAGE {
            return Ok(false);
        }
        let (mut low, mut high) = (Vec::new(), None::<Vec<u8>>);
        let mut number = self.root;
        for _ in 0..MAX_DEPTH {
            let page = self.page(number)?;
            let keys = page.keyed();
            let inside = keys.first().is_some_and(|first| low.as_slice() <= page.key(first))
                && keys.last().is_some_and(|last| high.as_ref().is_none_or(|high| page.key(last) < high.as_slice()));
            if !inside {
                return Err(damaged());
            }
            if page.is_leaf {
                return Ok(keys.binary_search_by(|node| page.key(node).cmp(key)).is_ok());
            }
            let child = keys.partition_point(|node| page.key(node) <= key);
            if let Some(next) = keys.get(child) {
                high = Some(page.key(next).to_vec());
            }
            if let Some(this) = child.checked_sub(1).and_then(|this| keys.get(this)) {
                low = page.key(this).to_vec();
            }
            number = page.nodes.get(child).ok_or_else(damaged)?.child;
        }
        Err(damaged())
    }

    fn page(&self, number: u64) -> Result<Arc<Page>> {
        if let Some(known) = self.branches.borrow().get(&number) {
            return Ok(known.clone());
        }
        let at = number.checked_mul(self.page_bytes as u64).ok_or_else(damaged)?;
        let mut bytes = vec![0; self.page_bytes];
        self.file.read_exact_at(&mut bytes, at).map_err(|_| damaged())?;
        let page = Arc::new(Page::checked(bytes, number).ok_or_else(damaged)?);
        let mut branches = self.branches.borrow_mut();
        if !page.is_leaf && branches.len() < MAX_KNOWN_BRANCHES {
            branches.insert(number, page.clone());
        }
        Ok(page)
    }
}

/// A page that is sound in itself.
struct Page {
    bytes: Vec<u8>,
    is_leaf: bool,
    nodes: Vec<Node>,
}

impl Page {
    /// Return a page; none if it is not of this number, or is damaged.
    fn checked(bytes: Vec<u8>, number: u64) -> Option<Self> {
        let is_leaf = match u16_at(&bytes, FLAGS_AT)? {
            BRANCH => false,
            LEAF => true,
            _ => return None,
        };
        let (lower, upper) = (usize::from(u16_at(&bytes, LOWER_AT)?), usize::from(u16_at(&bytes, UPPER_AT)?));
        let (places, odd) = bytes.get(HEADER_BYTES..lower)?.as_chunks();
        if u64_at(&bytes, 0)? != number || lower > upper || !odd.is_empty() {
            return None;
        }
        let places = places.iter().map(|place| usize::from(u16::from_le_bytes(*place)));
        let nodes = places.map(|at| Node::read(&bytes, at, is_leaf)).collect::<Option<Vec<_>>>()?;
        let page = Self { bytes, is_leaf, nodes };
        let in_order = page.keyed().is_sorted_by(|one, other| page.key(one) < page.key(other));
        (in_order && page.is_filled_from(upper)?).then_some(page)
    }

    /// Whether its nodes lie one behind the other up to its end.
    fn is_filled_from(&self, upper: usize) -> Option<bool> {
        let mut ends = vec![0; self.bytes.len()];
        for node in &self.nodes {
            *ends.get_mut(node.at)? = u16::try_from(node.end).ok()?;
        }
        let mut at = upper;
        for _ in &self.nodes {
            at = ends.get(at).copied().map(usize::from).filter(|end| *end > at)?;
        }
        Some(at == self.bytes.len())
    }

    /// Return the nodes whose keys count: the first one of a page of branches does not.
    fn keyed(&self) -> &[Node] {
        self.nodes.get(usize::from(!self.is_leaf)..).unwrap_or_default()
    }

    fn key(&self, node: &Node) -> &[u8] {
        self.bytes.get(node.at + NODE_BYTES..).and_then(|rest| rest.get(..node.key_bytes)).unwrap_or_default()
    }
}

/// A node that lies in its page as a whole.
#[derive(Clone, Copy)]
struct Node {
    at: usize,
    end: usize,
    key_bytes: usize,
    /// The page that a node of a page of branches names.
    child: u64,
}

impl Node {
    fn read(page: &[u8], at: usize, is_leaf: bool) -> Option<Self> {
        let low = u64::from(u16_at(page, at)?) | u64::from(u16_at(page, at + 2)?) << 16;
        let flags = u16_at(page, at + 4)?;
        let key_bytes = usize::from(u16_at(page, at + 6)?);
        let value_bytes = match (is_leaf, flags) {
            (false, _) => 0,
            (true, 0) => usize::try_from(low).ok()?,
            // Its value lies in pages of its own, and here is their number.
            (true, NODE_IS_BIG) => size_of::<u64>(),
            (true, _) => return None,
        };
        let end = (at + NODE_BYTES + key_bytes).checked_add(value_bytes)?.checked_next_multiple_of(2)?;
        (end <= page.len()).then_some(Self { at, end, key_bytes, child: low | u64::from(flags) << 32 })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

const fn damaged() -> Fault {
    Fault::Corrupt("a page of the consent store is not the one that belongs there")
}
