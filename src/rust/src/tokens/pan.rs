//! Tokens of payment card numbers: the Luhn residue is chosen, never enciphered, so tokens stay one to one.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use crate::alphabets::Alphabet;
use crate::digits;
use crate::error::Result;

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

/// A card number; its separators keep their places.
///
/// One digit balances the Luhn sum and is recomputed: the check digit, or the digit before the last four where those
/// are kept. The digits before it are enciphered. Values must have a residue of 0; tokens have 0 or, by default, 1,
/// which no card has.
pub(super) struct Pan {
    keep: usize,
    residue: u32,
    alphabet: Alphabet,
}

impl Pan {
    /// Keep so many of the last digits.
    pub(super) fn new(keep: usize, luhn: Luhn) -> Result<Self> {
        let residue = u32::from(luhn == Luhn::Invalid);
        Ok(Self { keep, residue, alphabet: Alphabet::new(crate::alphabets::DIGITS)? })
    }

    fn read<'t>(&self, text: &'t str, residue: u32) -> Option<Prepared<'t>> {
        let digits = digits_of(text)?;
        if !(12..=19).contains(&digits.len()) || luhn_residue(digits.bytes()) != residue {
            return None;
        }
        let length = digits.len() - 1 - self.keep;
        let (free, kept) = match digits {
            Cow::Borrowed(digits) => (digits.get(..length)?.into(), digits.get(length + 1..)?.into()),
            Cow::Owned(digits) => {
                (digits.get(..length)?.to_owned().into(), digits.get(length + 1..)?.to_owned().into())
            }
        };
        Some(Prepared { number: Number::Text(free), length, kept, frame: text })
    }

    fn write(prepared: &Prepared<'_>, number: &Number<'static>, residue: u32) -> String {
        let Number::Text(free) = number else { return String::new() };
        // The balancing digit stands at an even distance (0 or 4) from the end, where the Luhn sum does not double.
        let zero = b"0".iter().copied();
        let unbalanced = luhn_residue(free.bytes().chain(zero).chain(prepared.kept.bytes()));
        let balance = char::from_digit((10 + residue - unbalanced) % 10, 10).unwrap_or_default();
        if free.len() + 1 + prepared.kept.len() == prepared.frame.len() {
            return [&**free, &*balance.encode_utf8(&mut [0; 4]), &*prepared.kept].concat();
        }
        let mut digits = free.chars().chain([balance]).chain(prepared.kept.chars());
        let place = |place: char| if place.is_ascii_digit() { digits.next().unwrap_or_default() } else { place };
        prepared.frame.chars().map(place).collect()
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
        Self::write(prepared, &number, self.residue)
    }

    fn restore(&self, prepared: &Prepared<'_>, number: Number<'static>) -> String {
        Self::write(prepared, &number, 0)
    }
}
