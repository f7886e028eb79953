//! The tokens of one entry in one key domain and epoch, made for a whole slice at once, each distinct text once.
//!
//! Nothing is remembered beyond the slice. To make a token anew takes a fraction of a microsecond, which is less than to
//! find one among many thousands, outside of the processor's caches (measured).

use std::borrow::Cow;
use std::mem;

use ahash::RandomState;
use hashbrown::HashTable;

use crate::codec::Arena;
use crate::locked::Locked;
use crate::tokens::Tokenizer;

/// For so many texts a table keeps its room from one slice to the next.
const ROOM: usize = 4_096;

/// Makes the tokens of an entry.
pub struct Table {
    tokenizer: Locked<Tokenizer>,
    /// Room for the numbers of texts; nothing in it lasts longer than a slice.
    room: HashTable<usize>,
    /// Records choose the texts, so that the hash must not let them choose where those lie.
    hasher: RandomState,
}

impl Table {
    /// Return the table of a token entry.
    #[must_use]
    pub fn new(tokenizer: Tokenizer) -> Self {
        Self { tokenizer: Locked::new(tokenizer), room: HashTable::new(), hasher: RandomState::new() }
    }

    /// Begin a slice. What [`Asked::into_room`] returns belongs to [`Table::keep_room`] afterwards.
    pub fn ask(&mut self) -> Asked<'_> {
        let numbers = mem::take(&mut self.room);
        Asked { tokenizer: &self.tokenizer, hasher: &self.hasher, numbers, texts: Vec::new(), tokens: Vec::new() }
    }

    /// Take the room of a slice that is over.
    pub fn keep_room(&mut self, mut room: HashTable<usize>) {
        if room.capacity() <= 2 * ROOM {
            room.clear();
            self.room = room;
        }
    }
}

/// The texts of a slice, and their tokens.
pub struct Asked<'s> {
    tokenizer: &'s Tokenizer,
    hasher: &'s RandomState,
    /// Numbers of texts, by the texts.
    numbers: HashTable<usize>,
    texts: Vec<&'s str>,
    /// Of each text that was resolved, in order: none where it does not fit the format.
    tokens: Vec<Option<String>>,
}

impl<'s> Asked<'s> {
    /// What makes the tokens.
    #[must_use]
    pub fn tokenizer(&self) -> &'s Tokenizer {
        self.tokenizer
    }

    /// Ask for the token of a text, and return its number; it is there after [`Asked::resolve`].
    pub fn want(&mut self, text: Cow<'s, str>, arena: &'s Arena) -> usize {
        let Self { hasher, numbers, texts, .. } = self;
        let hash = hasher.hash_one(&*text);
        let is_this = |number: &usize| texts.get(*number).is_some_and(|known| **known == *text);
        if let Some(known) = numbers.find(hash, is_this) {
            return *known;
        }
        let number = texts.len();
        texts.push(match text {
            Cow::Borrowed(text) => text,
            Cow::Owned(text) => arena.alloc_str(&text),
        });
        numbers.insert_unique(hash, number, |known| hasher.hash_one(texts.get(*known).copied().unwrap_or_default()));
        number
    }

    /// Make all tokens that were asked for since the last time, together.
    pub fn resolve(&mut self) {
        let wanted = self.texts.get(self.tokens.len()..).unwrap_or_default();
        self.tokens.extend(self.tokenizer.encrypt_many(wanted));
    }

    /// Return the token of a text, as [`Asked::token`], whose number is probably this one.
    #[must_use]
    pub fn token_at(&self, likely: Option<usize>, text: &str) -> Option<Option<&str>> {
        match likely.filter(|number| self.texts.get(*number).is_some_and(|known| *known == text)) {
            Some(number) => Some(self.tokens.get(number)?.as_deref()),
            None => self.token(text),
        }
    }

    /// Return the token of a text: none within where it does not fit, none at all where it was not asked for.
    #[must_use]
    pub fn token(&self, text: &str) -> Option<Option<&str>> {
        let is_this = |number: &usize| self.texts.get(*number).is_some_and(|known| **known == *text);
        let number = self.numbers.find(self.hasher.hash_one(text), is_this)?;
        Some(self.tokens.get(*number)?.as_deref())
    }

    /// Forget everything, and return the room that it took.
    #[must_use]
    pub fn into_room(self) -> HashTable<usize> {
        self.numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Spec;
    use crate::tokens::unicode::Version;

    #[test]
    fn a_table_knows_what_it_was_asked_for_in_a_slice() {
        let spec: Spec = serde_json::from_str(r#"{"format": "digits", "length": 10}"#).unwrap();
        let mut table = Table::new(Tokenizer::from_plan(&spec, &[1; 32], &[2; 32], Version::V15_0).unwrap());
        let arena = Arena::new();
        let mut asked = table.ask();
        for text in ["0123456789", "short", "0123456789"] {
            asked.want(text.into(), &arena);
        }
        assert_eq!(asked.token("0123456789"), None);
        asked.resolve();
        let token = asked.token("0123456789").unwrap().unwrap().to_owned();
        assert_eq!((token.len(), asked.token("short"), asked.token("9876543210")), (10, Some(None), None));
        asked.want("9876543210".to_owned().into(), &arena);
        asked.resolve();
        assert_eq!(asked.token("0123456789"), Some(Some(token.as_str())));
        assert_ne!(asked.token("9876543210"), Some(Some(token.as_str())));
        let room = asked.into_room();
        table.keep_room(room);
        assert_eq!(table.ask().token("0123456789"), None);
    }

    #[test]
    fn many_texts_keep_apart() {
        let spec: Spec = serde_json::from_str(r#"{"format": "digits", "length": 10}"#).unwrap();
        let mut table = Table::new(Tokenizer::from_plan(&spec, &[1; 32], &[2; 32], Version::V15_0).unwrap());
        let arena = Arena::new();
        let mut asked = table.ask();
        for number in 0..10_000 {
            asked.want(format!("{number:010}").into(), &arena);
        }
        asked.resolve();
        let tokens: std::collections::HashSet<_> =
            (0..10_000).map(|number| asked.token(&format!("{number:010}")).unwrap().unwrap()).collect();
        assert_eq!(tokens.len(), 10_000);
    }
}
