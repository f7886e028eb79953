//! Tokens of plain characters: digits, letters and digits, hexadecimal digits. The token is as long as the value.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use crate::alphabets::{Alphabet, DIGITS, LOWER, LOWER_HEX, UPPER, UPPER_HEX};
use crate::error::{Error, Result};

use super::encoding;
use super::integers::without_zeros;
use super::ranked::{Format, Number, Prepared};
use super::spec::{Case, Length};

/// What is read besides the characters of the alphabet, or instead of text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Plain,
    Digits,
    LowerHex,
    UpperHex,
}

/// Text over one alphabet whose length lies within bounds; the length is public and part of FF1's input.
pub(super) struct Characters {
    alphabet: Alphabet,
    length: Length,
    reading: Reading,
}

impl Characters {
    /// Decimal digits. With one fixed length they also go on integers, padded with zeros on the left.
    pub(super) fn digits(length: Length) -> Result<Self> {
        Self::new(DIGITS, length, Reading::Digits)
    }

    /// ASCII letters and digits, of both cases or of one.
    pub(super) fn alphanumeric(length: Length, case: Case) -> Result<Self> {
        let characters = match case {
            Case::Mixed => format!("{DIGITS}{UPPER}{LOWER}"),
            Case::Lower => format!("{DIGITS}{LOWER}"),
            Case::Upper => format!("{DIGITS}{UPPER}"),
        };
        Self::new(&characters, length, Reading::Plain)
    }

    /// Hexadecimal digits: either case is read, one is written, so that the case of a producer breaks no join.
    pub(super) fn hex(length: Length, case: Case) -> Result<Self> {
        match case {
            Case::Lower => Self::new(LOWER_HEX, length, Reading::LowerHex),
            Case::Upper => Self::new(UPPER_HEX, length, Reading::UpperHex),
            Case::Mixed => Err(Error::Specification),
        }
    }

    fn new(characters: &str, length: Length, reading: Reading) -> Result<Self> {
        let alphabet = Alphabet::new(characters)?;
        let exponent = u32::try_from(length.shortest).map_err(|_| Error::Specification)?;
        if u64::from(alphabet.radix()).saturating_pow(exponent) < crate::ff1::MINIMUM_DOMAIN {
            return Err(Error::Specification);
        }
        Ok(Self { alphabet, length, reading })
    }

    fn allows(&self, length: usize) -> bool {
        (self.length.shortest..=self.length.longest).contains(&length)
    }

    /// Return a whole number with leading zeros.
    pub(super) fn text_of_integer(&self, number: &str) -> Option<String> {
        let length = self.length.longest;
        if self.reading != Reading::Digits || self.length.shortest != length {
            return None;
        }
        let negative = number.starts_with('-');
        let digits = without_zeros(number.strip_prefix('-').unwrap_or(number));
        let fits = digits.len() <= length && digits.bytes().all(|byte| byte.is_ascii_digit());
        (fits && (!negative || digits == "0")).then(|| format!("{digits:0>length$}"))
    }

    /// Return two digits per byte.
    pub(super) fn text_of_bytes(&self, bytes: &[u8]) -> Option<String> {
        let is_hex = matches!(self.reading, Reading::LowerHex | Reading::UpperHex);
        (is_hex && self.allows(2 * bytes.len())).then(|| encoding::hex(bytes))
    }
}

impl Format for Characters {
    fn radix(&self) -> u32 {
        self.alphabet.radix()
    }

    fn alphabet(&self) -> Option<&Alphabet> {
        Some(&self.alphabet)
    }

    fn prepare<'t>(&self, text: &'t str) -> Option<Prepared<'t>> {
        // Only ASCII is folded: lower case of a few other letters would be ASCII.
        let folded: Cow<'t, str> = match self.reading {
            Reading::LowerHex if text.bytes().any(|byte| byte.is_ascii_uppercase()) => text.to_ascii_lowercase().into(),
            Reading::UpperHex if text.bytes().any(|byte| byte.is_ascii_lowercase()) => text.to_ascii_uppercase().into(),
            _ => text.into(),
        };
        let length = self.alphabet.covered_length(&folded).filter(|length| self.allows(*length))?;
        Some(Prepared { number: Number::Text(folded), length, kept: "".into(), frame: text })
    }

    fn render(&self, _: &Prepared<'_>, number: Number<'static>) -> String {
        match number {
            Number::Text(text) => text.into_owned(),
            Number::Rank(_) => String::new(),
        }
    }
}
