//! Tokens of telephone numbers (ITU-T E.164): the country code and some leading digits are kept, the rest enciphered.
#![forbid(unsafe_code)]

use crate::alphabets::Alphabet;
use crate::error::Result;

use super::ranked::{Format, Number, Prepared};

const LEAST_FREE: usize = 6;
const DEFAULT_KEEP: usize = 3;

/// Return how many of the digits after the + are the country code.
///
/// Zones 1 and 7 have one digit, these pairs are codes of two, and all others, assigned or spare, have three. The table
/// is frozen (see the reference engine's phone.py): a change of it would change tokens.
fn country_code_length(digits: &[u8]) -> usize {
    match digits {
        [b'1' | b'7', ..] => 1,
        [b'2', b'0' | b'7', ..]
        | [b'3', b'0'..=b'4' | b'6' | b'9', ..]
        | [b'4', b'0' | b'1' | b'3'..=b'9', ..]
        | [b'5', b'1'..=b'8', ..]
        | [b'6', b'0'..=b'6', ..]
        | [b'8', b'1' | b'2' | b'4' | b'6', ..]
        | [b'9', b'0'..=b'5' | b'8', ..] => 2,
        _ => 3,
    }
}

/// A number such as `+4930901820`, without separators. At least six digits are always enciphered: 1,000,000 values.
pub(super) struct Phone {
    keep: Option<usize>,
    alphabet: Alphabet,
}

impl Phone {
    /// Keep so many digits after the country code, by default as many as leave enough, up to three.
    pub(super) fn new(keep: Option<usize>) -> Result<Self> {
        Ok(Self { keep, alphabet: Alphabet::new(crate::alphabets::DIGITS)? })
    }
}

impl Format for Phone {
    fn radix(&self) -> u32 {
        10
    }

    fn alphabet(&self) -> Option<&Alphabet> {
        Some(&self.alphabet)
    }

    fn prepare<'t>(&self, text: &'t str) -> Option<Prepared<'t>> {
        let digits = text.strip_prefix('+')?.as_bytes();
        let are_right = (7..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
        if !are_right || digits.starts_with(b"0") {
            return None;
        }
        let code = country_code_length(digits);
        let most = (digits.len() - code).checked_sub(LEAST_FREE)?;
        let keep = self.keep.unwrap_or(DEFAULT_KEEP.min(most));
        if keep > most {
            return None;
        }
        let (kept, free) = text.split_at_checked(1 + code + keep)?;
        Some(Prepared { number: Number::Text(free.into()), length: free.len(), kept: kept.into(), frame: text })
    }

    fn render(&self, prepared: &Prepared<'_>, number: Number<'static>) -> String {
        match number {
            Number::Text(digits) => format!("{}{digits}", prepared.kept),
            Number::Rank(_) => String::new(),
        }
    }
}
