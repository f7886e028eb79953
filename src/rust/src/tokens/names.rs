//! Tokens of names and street lines: a name that the key picks from a list. Irreversible, and many have the same.
#![forbid(unsafe_code)]

use super::namelists::{FAMILY, GIVEN, HOUSES, STREETS};
use super::secret::Mac;
use super::spec::List;
use super::unicode::{self, Version};

/// Most characters of a name.
const LONGEST: usize = 256;

/// A name from a frozen list; see the reference engine's `core/tokens/names.py`.
pub(super) struct Names {
    list: List,
    mac: Mac,
    version: Version,
}

/// Say whether a character is a tab or a space separator of Unicode: all of them are the space of a name.
fn is_space(character: char) -> bool {
    matches!(
        character,
        '\t' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
    )
}

impl Names {
    /// Bind the key.
    pub(super) fn new(list: List, mac: Mac, version: Version) -> Self {
        Self { list, mac, version }
    }

    /// Return the token of a name, or None if the text is none.
    pub(super) fn token(&self, text: &str) -> Option<String> {
        if text.chars().count() > LONGEST {
            return None;
        }
        let words: Vec<&str> = text.split(is_space).filter(|word| !word.is_empty()).collect();
        let folded = unicode::folded(&words.join(" "), self.version)?;
        if folded.is_empty() || !folded.chars().all(unicode::is_printable) {
            return None;
        }
        let given = || pick(GIVEN, self.number("given", &folded));
        let family = || pick(FAMILY, self.number("family", &folded));
        Some(match self.list {
            List::Given => given().to_owned(),
            List::Family => family().to_owned(),
            List::Full => format!("{} {}", given(), family()),
            List::Street => {
                let streets = STREETS.len() as u64;
                let line = self.number("street", &folded) % (HOUSES * streets);
                format!("{} {}", line / streets + 1, pick(STREETS, line))
            }
        })
    }

    /// Return the first 64 bits of the MAC of a text.
    fn number(&self, label: &str, text: &str) -> u64 {
        let digest = self.mac.of(&[label.as_bytes(), text.as_bytes(), b""]);
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

fn pick(list: &'static [&'static str], number: u64) -> &'static str {
    let index = usize::try_from(number % list.len() as u64).unwrap_or_default();
    list.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_have_one_token() {
        let names = Names::new(List::Full, Mac::new(&[7; 32]).unwrap(), Version::V15_0);
        let token = names.token("Zo\u{eb} O'Neill").unwrap();
        for spelling in ["zoe\u{308} o'neill", " ZO\u{cb}\u{a0}\t O'NEILL "] {
            assert_eq!(names.token(spelling).as_deref(), Some(token.as_str()));
        }
        assert!(names.token("\u{a0}").is_none() && names.token("").is_none() && names.token("a\u{0}").is_none());
    }
}
