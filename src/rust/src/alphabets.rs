//! Alphabets: text to numerals and back; the place of a character is its numeral.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use crate::digits;
use crate::error::{Error, Result};
use crate::ff1::{Halves, MAXIMUM_RADIX, Radix, Shape};

/// The decimal digits.
pub const DIGITS: &str = "0123456789";
/// Hexadecimal digits in lower case.
pub const LOWER_HEX: &str = "0123456789abcdef";
/// Hexadecimal digits in upper case.
pub const UPPER_HEX: &str = "0123456789ABCDEF";
/// The letters in lower case.
pub const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
/// The letters in upper case.
pub const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Stands in the table of ASCII characters for one that is not in the alphabet; no numeral is as large.
const FOREIGN: u32 = u32::MAX;

/// An ordered set of characters.
pub struct Alphabet {
    characters: Vec<char>,
    ascii: [u32; 128],
    others: HashMap<char, u32>,
    is_digits: bool,
}

impl Alphabet {
    /// Index the characters. Whether those outside ASCII have a stable form is for the caller to know.
    ///
    /// # Errors
    /// [`Error::AlphabetSize`], [`Error::AlphabetTwice`].
    pub fn new(text: &str) -> Result<Self> {
        let characters: Vec<char> = text.chars().collect();
        let radix = u32::try_from(characters.len()).unwrap_or(u32::MAX);
        if !(2..=MAXIMUM_RADIX).contains(&radix) {
            return Err(Error::AlphabetSize(characters.len()));
        }
        let mut ascii = [FOREIGN; 128];
        let mut others = HashMap::new();
        for (numeral, character) in (0_u32..).zip(&characters) {
            let before = match ascii.get_mut(*character as usize) {
                Some(place) => std::mem::replace(place, numeral),
                None => others.insert(*character, numeral).unwrap_or(FOREIGN),
            };
            if before != FOREIGN {
                return Err(Error::AlphabetTwice);
            }
        }
        Ok(Self { is_digits: text == DIGITS, characters, ascii, others })
    }

    /// How many characters there are.
    #[must_use]
    pub fn radix(&self) -> u32 {
        u32::try_from(self.characters.len()).unwrap_or(MAXIMUM_RADIX)
    }

    /// Return the length of a text in characters, or None if one is not in the alphabet.
    #[must_use]
    pub fn covered_length(&self, text: &str) -> Option<usize> {
        if self.is_digits {
            return digits::are_digits(text.as_bytes()).then_some(text.len());
        }
        if self.others.is_empty() {
            let known = |byte: &u8| self.ascii.get(usize::from(*byte)).is_some_and(|numeral| *numeral != FOREIGN);
            return text.as_bytes().iter().all(known).then_some(text.len());
        }
        text.chars().try_fold(0, |length, character| self.numeral(character).map(|_| length + 1))
    }

    fn numeral(&self, character: char) -> Option<u16> {
        let numeral = match self.ascii.get(character as usize) {
            Some(numeral) => *numeral,
            None => self.others.get(&character).copied().unwrap_or(FOREIGN),
        };
        u16::try_from(numeral).ok()
    }

    /// Return the halves of a text that is covered and as long as the shape says.
    pub(crate) fn halves(&self, text: &str, radix: &Radix, shape: &Shape) -> Halves {
        let bytes = text.as_bytes();
        if !self.others.is_empty() {
            let numerals: Vec<u16> = text.chars().filter_map(|character| self.numeral(character)).collect();
            return radix.halves(&numerals, shape);
        }
        let (first, second) = bytes.split_at(shape.u.min(bytes.len()));
        if self.is_digits && shape.is_short() {
            return Halves::Small(digits::number(first).into(), digits::number(second).into());
        }
        radix.halves_by(first, second, |byte| u64::from(self.ascii[usize::from(byte & 0x7f)]), shape)
    }

    /// Append the text of halves in UTF-8.
    #[allow(clippy::cast_possible_truncation, reason = "short halves are below 2^32, and ASCII below 128")]
    pub(crate) fn write(&self, halves: &Halves, radix: &Radix, shape: &Shape, text: &mut Vec<u8>) {
        if !self.others.is_empty() {
            let mut bytes = [0; 4];
            for numeral in radix.numerals(halves, shape) {
                let character = self.characters.get(usize::from(numeral)).copied().unwrap_or_default();
                text.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
            }
            return;
        }
        let start = text.len();
        text.resize(start + shape.u + shape.v, 0);
        let (first, second) = text[start..].split_at_mut(shape.u);
        if let (true, Halves::Small(a, b), true) = (self.is_digits, halves, shape.is_short()) {
            digits::write(*a as u64, first);
            digits::write(*b as u64, second);
        } else {
            radix.write_by(halves, first, second, |numeral| self.characters[usize::from(numeral)] as u8);
        }
    }
}
