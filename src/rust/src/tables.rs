//! The tokens of one entry in one key domain and epoch, made for a whole slice at once, each distinct text once.
//!
//! Nothing is remembered beyond the slice. To make a token anew takes a fraction of a microsecond, which is less than to
//! find one among many thousands, outside of the processor's caches (measured).

use indexmap::IndexSet;

use crate::locked::Locked;
use crate::tokens::Tokenizer;

/// For so many texts a table keeps its room from one slice to the next.
const ROOM: usize = 4_096;

/// Tokens by text.
pub struct Table {
    tokenizer: Locked<Tokenizer>,
    texts: IndexSet<String>,
    /// Of each text that was resolved, in order: none where it does not fit the format.
    tokens: Vec<Option<String>>,
}

impl Table {
    /// Return a table that knows no token yet.
    #[must_use]
    pub fn new(tokenizer: Tokenizer) -> Self {
        Self { tokenizer: Locked::new(tokenizer), texts: IndexSet::new(), tokens: Vec::new() }
    }

    /// What makes the tokens.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Ask for the token of a text; it is there after [`Table::resolve`].
    pub fn want(&mut self, text: &str) {
        if !self.texts.contains(text) {
            self.texts.insert(text.to_owned());
        }
    }

    /// Make all tokens that were asked for since the last time, together.
    pub fn resolve(&mut self) {
        let wanted: Vec<&str> = self.texts.iter().skip(self.tokens.len()).map(String::as_str).collect();
        self.tokens.extend(self.tokenizer.encrypt_many(&wanted));
    }

    /// Return the token of a text: none within where it does not fit, none at all where it was not asked for.
    #[must_use]
    pub fn token(&self, text: &str) -> Option<Option<&str>> {
        let token = self.tokens.get(self.texts.get_index_of(text)?)?;
        Some(token.as_deref())
    }

    /// Forget everything; called after each slice.
    pub fn clear(&mut self) {
        self.texts.clear();
        self.tokens.clear();
        self.texts.shrink_to(ROOM);
        self.tokens.shrink_to(ROOM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Spec;
    use crate::tokens::unicode::Version;

    #[test]
    fn a_table_knows_what_it_was_asked_for_since_it_was_cleared() {
        let spec: Spec = serde_json::from_str(r#"{"format": "digits", "length": 10}"#).unwrap();
        let mut table = Table::new(Tokenizer::from_plan(&spec, &[1; 32], &[2; 32], Version::V15_0).unwrap());
        for text in ["0123456789", "short", "0123456789"] {
            table.want(text);
        }
        assert_eq!(table.token("0123456789"), None);
        table.resolve();
        let token = table.token("0123456789").unwrap().unwrap().to_owned();
        assert_eq!((token.len(), table.token("short"), table.token("9876543210")), (10, Some(None), None));
        table.want("9876543210");
        table.resolve();
        assert_eq!(table.token("0123456789"), Some(Some(token.as_str())));
        assert_ne!(table.token("9876543210"), Some(Some(token.as_str())));
        table.clear();
        assert_eq!(table.token("0123456789"), None);
    }
}
