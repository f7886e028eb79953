//! What the place of an entry in memory says of its page, as LMDB itself believes whatever stands there.
//!
//! A page says where each of its entries begins. If that is damaged, an entry of another page stands in the place of one
//! of this page: it is genuine, and the one that it hides looks as if it had never been written. But the entries of a
//! page follow each other in the order of keys, so that an entry of another page between two of one is damage.
#![forbid(unsafe_code)]

use std::ops::Bound::{Excluded, Included, Unbounded};

use super::{Entries, Fault, ReadTransaction, Reading, Result, Tree};

/// LMDB's own limit.
const MAX_KEY_BYTES: usize = 511;

/// An entry as it lies in memory.
pub type Stored<'t> = (&'t [u8], &'t [u8]);

/// Reads entries in one transaction, and checks where they lie.
pub struct Pages<'t> {
    entries: Entries,
    transaction: &'t ReadTransaction,
    tree: &'t Tree,
    page_bytes: usize,
}

impl<'t> Pages<'t> {
    /// Prepare.
    pub const fn new(reading: &'t Reading) -> Self {
        let Reading { transaction, entries, tree } = reading;
        Self { entries: *entries, transaction, tree, page_bytes: tree.page_bytes }
    }

    /// Return the value of a key.
    ///
    /// # Errors
    ///
    /// LMDB fails, or the entry lies in a page to which it does not belong.
    pub fn get(&self, key: &[u8]) -> Result<Option<&'t [u8]>> {
        let mut from = self.entries.range(self.transaction, &(Included(key), Unbounded))?;
        let Some(found) = from.next().transpose()?.filter(|(found, _)| *found == key) else {
            return Ok(None);
        };
        self.check_inside(found)?;
        let after = from.next().transpose()?;
        if after.is_none_or(|after| self.page(after) != self.page(found)) {
            let before = self.entries.get_lower_than(self.transaction, key)?;
            self.check_runs(&[before, Some(found), after].into_iter().flatten().collect::<Vec<_>>())?;
        }
        Ok(Some(found.1))
    }

    /// Return the last entry before a key, and the first that is not.
    ///
    /// # Errors
    ///
    /// LMDB fails, or these entries and the next on both sides are out of order or in pages that cannot be theirs, or a
    /// page on the way to them is damaged.
    pub fn neighbours(&self, key: &[u8]) -> Result<(Option<Stored<'t>>, Option<Stored<'t>>)> {
        let mut from = self.entries.range(self.transaction, &(Included(key), Unbounded))?;
        let after = from.next().transpose()?;
        let next = from.next().transpose()?;
        let mut to = self.entries.rev_range(self.transaction, &(Unbounded, Excluded(key)))?;
        let before = to.next().transpose()?;
        let previous = to.next().transpose()?;
        let around = [previous, before, after, next];
        self.check_all(&around.into_iter().flatten().collect::<Vec<_>>())?;
        if self.tree.has(key)? != after.is_some_and(|(found, _)| found == key) {
            return Err(misplaced());
        }
        Ok((before, after))
    }

    /// Return the first entries after a key, at most so many; after an empty key, the first of all.
    ///
    /// # Errors
    ///
    /// LMDB fails, or the entries are out of order or in pages that cannot be theirs.
    pub fn after(&self, key: &[u8], count: usize) -> Result<Vec<Stored<'t>>> {
        let from = if key.is_empty() { Unbounded } else { Excluded(key) };
        let found = self.entries.range(self.transaction, &(from, Unbounded))?.take(count);
        let found: Vec<Stored<'t>> = found.collect::<std::result::Result<_, _>>()?;
        self.check_all(&found)?;
        Ok(found)
    }

    /// Check entries that follow each other.
    fn check_all(&self, entries: &[Stored<'_>]) -> Result<()> {
        for entry in entries {
            self.check_inside(*entry)?;
        }
        if !entries.is_sorted_by(|(one, _), (other, _)| one < other) {
            return Err(Fault::Corrupt("entries of the consent store are out of order"));
        }
        self.check_runs(entries)
    }

    /// Check that an entry does not leave its page; a long value has pages of its own.
    fn check_inside(&self, (key, value): Stored<'_>) -> Result<()> {
        let page = key.as_ptr().addr() / self.page_bytes;
        let key_end = key.as_ptr().addr().saturating_add(key.len());
        let beside = value.as_ptr().addr() == key_end;
        let end = if beside { key_end.saturating_add(value.len()) } else { key_end };
        let inside = end.saturating_sub(1) / self.page_bytes == page;
        if key.len() <= MAX_KEY_BYTES && inside { Ok(()) } else { Err(misplaced()) }
    }

    /// Check that no entry lies in another page than both that surround it, if these lie in one.
    fn check_runs(&self, entries: &[Stored<'_>]) -> Result<()> {
        let pages: Vec<usize> = entries.iter().map(|entry| self.page(*entry)).collect();
        let strays = pages.windows(3).any(|around| matches!(around, [one, two, three] if one == three && one != two));
        if strays { Err(misplaced()) } else { Ok(()) }
    }

    fn page(&self, (key, _): Stored<'_>) -> usize {
        key.as_ptr().addr() / self.page_bytes
    }
}

const fn misplaced() -> Fault {
    Fault::Corrupt("an entry of the consent store lies where it cannot lie")
}
