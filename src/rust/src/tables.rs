//! The tokens of one entry in one key domain and epoch, made for a whole batch at once and remembered within a bound.

use std::collections::HashMap;

use crate::tokens::Tokenizer;

/// How many texts a table remembers from one batch to the next.
const LIMIT: usize = 65_536;

/// How many bytes these texts have together: those of some formats may be as long as a record.
const LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// What is known of a text.
enum Known {
    /// Its token is asked for.
    Wanted,
    /// It does not fit the format.
    Misfit,
    /// It has this token.
    Token(String),
}

/// Tokens by text.
pub struct Table {
    tokenizer: Tokenizer,
    known: HashMap<String, Known>,
    /// Bytes of the texts that are known.
    bytes: usize,
    wanted: Vec<String>,
}

impl Table {
    /// Return a table that knows no token yet.
    #[must_use]
    pub fn new(tokenizer: Tokenizer) -> Self {
        Self { tokenizer, known: HashMap::new(), bytes: 0, wanted: Vec::new() }
    }

    /// What makes the tokens.
    #[must_use]
    pub const fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Ask for the token of a text; it is there after [`Table::resolve`].
    pub fn want(&mut self, text: &str) {
        if !self.known.contains_key(text) {
            self.known.insert(text.to_owned(), Known::Wanted);
            self.bytes += text.len();
            self.wanted.push(text.to_owned());
        }
    }

    /// Make all tokens that were asked for, together.
    pub fn resolve(&mut self) {
        let wanted = std::mem::take(&mut self.wanted);
        let texts: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let tokens = self.tokenizer.encrypt_many(&texts);
        for (text, token) in texts.into_iter().zip(tokens) {
            if let Some(known) = self.known.get_mut(text) {
                *known = token.map_or(Known::Misfit, Known::Token);
            }
        }
    }

    /// Return the token of a text: none within where it does not fit, none at all where it was not asked for.
    #[must_use]
    pub fn token(&self, text: &str) -> Option<Option<&str>> {
        match self.known.get(text)? {
            Known::Wanted => None,
            Known::Misfit => Some(None),
            Known::Token(token) => Some(Some(token)),
        }
    }

    /// Forget everything once the table has outgrown its bound; called between batches.
    pub fn trim(&mut self) {
        if self.known.len() > LIMIT || self.bytes > LIMIT_BYTES {
            self.known.clear();
            self.bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Spec;
    use crate::tokens::unicode::Version;

    #[test]
    fn long_texts_are_forgotten_sooner_than_short_ones() {
        let spec: Spec = serde_json::from_str(r#"{"format": "opaque"}"#).unwrap();
        let mut table = Table::new(Tokenizer::from_plan(&spec, &[1; 32], &[2; 32], Version::V15_0).unwrap());
        let mut remembers = |count: usize, length: usize| {
            let texts: Vec<String> = (0..count).map(|number| format!("{number:08}{}", "x".repeat(length))).collect();
            for text in &texts {
                table.want(text);
            }
            table.resolve();
            let made = texts.iter().all(|text| table.token(text).is_some());
            table.trim();
            made && texts.iter().all(|text| table.token(text).is_some())
        };
        assert!(remembers(1_000, 0));
        assert!(!remembers(17, 1 << 20));
        assert!(remembers(1_000, 0));
        assert!(!remembers(LIMIT + 1, 0));
    }
}
