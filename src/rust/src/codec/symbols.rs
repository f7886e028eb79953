//! The symbols of enums: from their index and to it, and in memory once however many places use them.

use std::collections::HashMap;
use std::sync::Arc;

/// The symbols of one enum.
pub(super) struct Symbols {
    texts: Box<[Box<str>]>,
    /// Indexes of the texts, in the order of the texts.
    sorted: Box<[usize]>,
}

impl Symbols {
    fn new(texts: &[String]) -> Self {
        let mut sorted: Vec<usize> = (0..texts.len()).collect();
        // A text that is there twice is written as the later one, as in a Python dict.
        sorted.sort_by_key(|&index| (&texts[index], usize::MAX - index));
        sorted.dedup_by_key(|&mut index| &texts[index]);
        Self { texts: texts.iter().map(|text| text.as_str().into()).collect(), sorted: sorted.into() }
    }

    /// Return the symbol at an index.
    pub(super) fn at(&self, index: usize) -> Option<&str> {
        self.texts.get(index).map(AsRef::as_ref)
    }

    /// Return the index of a symbol, or None for a text that is none.
    pub(super) fn index_of(&self, text: &str) -> Option<usize> {
        let found = self.sorted.binary_search_by_key(&text, |&index| &self.texts[index]);
        found.ok().map(|place| self.sorted[place])
    }
}

/// Gives equal lists of symbols the same table.
#[derive(Default)]
pub(super) struct Interner<'s> {
    tables: HashMap<&'s [String], Arc<Symbols>>,
}

impl<'s> Interner<'s> {
    pub(super) fn table(&mut self, symbols: &'s [String]) -> Arc<Symbols> {
        self.tables.entry(symbols).or_insert_with(|| Arc::new(Symbols::new(symbols))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_have_their_index_in_any_order() {
        let texts = ["b", "c", "a", ""].map(String::from);
        let symbols = Symbols::new(&texts);
        for (index, text) in texts.iter().enumerate() {
            assert_eq!(symbols.at(index), Some(text.as_str()));
            assert_eq!(symbols.index_of(text), Some(index));
        }
        assert_eq!((symbols.at(4), symbols.index_of("d"), symbols.index_of("aa")), (None, None, None));
    }

    #[test]
    fn equal_lists_share_a_table() {
        let (one, other) = (vec!["a".to_owned()], vec!["a".to_owned()]);
        let mut interner = Interner::default();
        assert!(Arc::ptr_eq(&interner.table(&one), &interner.table(&other)));
    }
}
