//! Tokens of small sets: a keyed permutation of the values that the policy lists.
//!
//! No cipher makes a small set safe; see the reference engine's `core/tokens/permutations.py`.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use crate::error::{Error, Result};

use super::secret::Mac;

/// Most values of a list.
const MOST: usize = 65_536;

/// The values of a list, each a token of another or of itself.
pub(super) struct Permutation {
    tokens: HashMap<String, String>,
    values: HashMap<String, String>,
}

impl Permutation {
    /// Put the values in the order of their MACs beside the values in order.
    pub(super) fn new(values: &[String], mac: &Mac) -> Result<Self> {
        let mut ordered = values.to_vec();
        ordered.sort_unstable();
        ordered.dedup();
        if ordered.len() != values.len() || !(2..=MOST).contains(&ordered.len()) {
            return Err(Error::Specification);
        }
        let mut shuffled = ordered.clone();
        shuffled.sort_by_cached_key(|value| mac.of(&[b"value", value.as_bytes(), b""]));
        let tokens = ordered.iter().cloned().zip(shuffled.iter().cloned()).collect();
        Ok(Self { tokens, values: shuffled.into_iter().zip(ordered).collect() })
    }

    /// Return the token of a value.
    pub(super) fn token(&self, text: &str) -> Option<String> {
        self.tokens.get(text).cloned()
    }

    /// Return the value of a token.
    pub(super) fn value(&self, token: &str) -> Option<String> {
        self.values.get(token).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_the_token_of_one() {
        let values: Vec<String> = (0..500).map(|number| format!("{number:05}")).collect();
        let permutation = Permutation::new(&values, &Mac::new(&[7; 32]).unwrap()).unwrap();
        for value in &values {
            assert_eq!(permutation.value(&permutation.token(value).unwrap()).unwrap(), *value);
        }
        assert!(permutation.token("other").is_none());
        let twice = ["a".to_owned(), "a".to_owned()];
        assert!(Permutation::new(&twice, &Mac::new(&[7; 32]).unwrap()).is_err());
    }
}
