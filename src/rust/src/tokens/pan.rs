//! Tokens of payment card numbers and IMEIs: the Luhn residue is chosen, never enciphered, so they stay one to one.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::ops::{Range, RangeInclusive};

use crate::alphabets::Alphabet;
use crate::digits;
use crate::error::{Error, Result};

use super::ranked::{Format, Number, Prepared};
use super::spec::Luhn;

/// The sum of the digits of twice a digit (ISO/IEC 7812-1, annex B).
const DOUBLED: [u8; 10] = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9];

/// Return the Luhn sum modulo 10; 0 for a number whose check digit is right (ISO/IEC 7812-1, annex B).
fn luhn_residue(digits: impl DoubleEndedIterator<Item = u8>) -> u32 {
    let counted = digits.rev().enumerate().map(|(place, digit)| {
        let number = (digit & 15) % 10;
        u32::from(if place.is_multiple_of(2) { number } else { DOUBLED[usize::from(number)] })
    });
    counted.sum::<u32>() % 10
}

/// Fewest digits that are enciphered.
const LEAST_FREE: usize = 6;

/// A number with a Luhn digit; its separators keep their places.
///
/// One digit balances the Luhn sum and is recomputed: the check digit, or the digit before the last four where those
/// are kept. The digits before it are enciphered, but for the first ones that are kept. Values must have a residue of
/// 0; tokens have 0 or, by default, 1, which no card and no IMEI has.
pub(super) struct Pan {
    lengths: RangeInclusive<usize>,
    keep_first: usize,
    keep_last: usize,
    residue: u32,
    alphabet: Alphabet,
}

impl Pan {
    /// A card number of which so many of the first or of the last digits are kept.
    pub(super) fn card(keep_first: usize, keep_last: usize, luhn: Luhn) -> Result<Self> {
        let is_known = matches!((keep_first, keep_last), (0, 0 | 4) | (6 | 8, 0));
        if is_known { Self::new(12..=19, keep_first, keep_last, luhn) } else { Err(Error::Specification) }
    }

    /// An IMEI whose type allocation code is kept or not.
    pub(super) fn imei(keep_tac: bool, luhn: Luhn) -> Result<Self> {
        Self::new(15..=15, if keep_tac { 8 } else { 0 }, 0, luhn)
    }

    fn new(lengths: RangeInclusive<usize>, keep_first: usize, keep_last: usize, luhn: Luhn) -> Result<Self> {
        let residue = u32::from(luhn == Luhn::Invalid);
        Ok(Self { lengths, keep_first, keep_last, residue, alphabet: Alphabet::new(crate::alphabets::DIGITS)? })
    }

    fn read<'t>(&self, text: &'t str, residue: u32) -> Option<Prepared<'t>> {
        let digits = digits_of(text)?;
        if !self.lengths.contains(&digits.len()) || luhn_residue(digits.bytes()) != residue {
            return None;
        }
        let balance = digits.len().checked_sub(1 + self.keep_last)?;
        let free = self.keep_first..balance;
        if free.len() < LEAST_FREE {
            return None;
        }
        // Digits are kept at one of the ends, at most.
        let kept = if self.keep_first > 0 { 0..self.keep_first } else { balance + 1..digits.len() };
        let (length, number) = (free.len(), Number::Text(part(&digits, free)?));
        Some(Prepared { number, length, kept: part(&digits, kept)?, frame: text })
    }

    fn write(&self, prepared: &Prepared<'_>, number: &Number<'static>, residue: u32) -> String {
        let Number::Text(free) = number else { return String::new() };
        let (first, last) = prepared.kept.split_at_checked(self.keep_first).unwrap_or_default();
        // The balancing digit stands at an even distance (0 or 4) from the end, where the Luhn sum does not double.
        let zero = b"0".iter().copied();
        let unbalanced = luhn_residue(first.bytes().chain(free.bytes()).chain(zero).chain(last.bytes()));
        let balance = char::from_digit((10 + residue - unbalanced) % 10, 10).unwrap_or_default();
        if prepared.kept.len() + free.len() + 1 == prepared.frame.len() {
            return [first, &**free, &*balance.encode_utf8(&mut [0; 4]), last].concat();
        }
        let mut digits = first.chars().chain(free.chars()).chain([balance]).chain(last.chars());
        let place = |place: char| if place.is_ascii_digit() { digits.next().unwrap_or_default() } else { place };
        prepared.frame.chars().map(place).collect()
    }
}

fn part<'t>(digits: &Cow<'t, str>, range: Range<usize>) -> Option<Cow<'t, str>> {
    match digits {
        Cow::Borrowed(digits) => digits.get(range).map(Cow::Borrowed),
        Cow::Owned(digits) => digits.get(range).map(|part| Cow::Owned(part.to_owned())),
    }
}

/// Return the digits of a text that has nothing else but single separators between them.
fn digits_of(text: &str) -> Option<Cow<'_, str>> {
    if digits::are_digits(text.as_bytes()) {
        return Some(text.into());
    }
    let mut digits = String::with_capacity(text.len());
    let mut after_digit = false;
    for character in text.chars() {
        match character {
            '0'..='9' => digits.push(character),
            ' ' | '-' if after_digit => {}
            _ => return None,
        }
        after_digit = character.is_ascii_digit();
    }
    after_digit.then(|| digits.into())
}

impl Format for Pan {
    fn radix(&self) -> u32 {
        10
    }

    fn alphabet(&self) -> Option<&Alphabet> {
        Some(&self.alphabet)
    }

    fn prepare<'t>(&self, text: &'t str) -> Option<Prepared<'t>> {
        self.read(text, 0)
    }

    fn prepare_token<'t>(&self, token: &'t str) -> Option<Prepared<'t>> {
        self.read(token, self.residue)
    }

    fn render(&self, prepared: &Prepared<'_>, number: Number<'static>) -> String {
        self.write(prepared, &number, self.residue)
    }

    fn restore(&self, prepared: &Prepared<'_>, number: Number<'static>) -> String {
        self.write(prepared, &number, 0)
    }
}
