//! Tokens of bounded whole numbers: the distance from the lower bound is enciphered by cycle walking.
#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use crate::ff1::MINIMUM_DOMAIN;
use crate::rank::{Rank, superset};

use super::ranked::{Format, Number, Prepared};

/// The most digits that every number within the bounds of a specification can have, leading zeros counted.
const MOST_DIGITS: usize = 39;

/// Largest distance of a bound from zero.
const FARTHEST: i128 = 10_i128.pow(38);

/// A whole number between two bounds; the token is one too.
///
/// Leading zeros and the sign of zero are not part of a number: `0042` and `42` have the same token.
pub(super) struct Integers {
    minimum: i128,
    size: u128,
    limit: Rank,
    radix: u32,
    length: usize,
}

impl Integers {
    /// Take the bounds, themselves included.
    pub(super) fn new(minimum: i128, maximum: i128) -> Result<Self> {
        let are_near = [minimum, maximum].iter().all(|bound| (-FARTHEST..=FARTHEST).contains(bound));
        if !are_near || minimum >= maximum {
            return Err(Error::Specification);
        }
        let size = maximum.abs_diff(minimum) + 1;
        if size < u128::from(MINIMUM_DOMAIN) {
            return Err(Error::Specification);
        }
        let (radix, length) = superset(&size.into());
        Ok(Self { minimum, size, limit: Rank::Small(size), radix, length })
    }

    /// Return the distance of a number from the lower bound, or None if it is out of bounds.
    fn rank(&self, number: &str) -> Option<u128> {
        let number = number.parse::<i128>().ok().filter(|number| *number >= self.minimum)?;
        Some(number.abs_diff(self.minimum)).filter(|rank| *rank < self.size)
    }

    /// Return the number in decimal.
    pub(super) fn text_of_integer(&self, number: &str) -> Option<String> {
        self.rank(number).map(|_| number.parse::<i128>().unwrap_or_default().to_string())
    }
}

impl Format for Integers {
    fn radix(&self) -> u32 {
        self.radix
    }

    fn walk_below(&self) -> Option<&Rank> {
        Some(&self.limit)
    }

    fn prepare<'t>(&self, text: &'t str) -> Option<Prepared<'t>> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if !(1..=MOST_DIGITS).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = Number::Rank(Rank::Small(self.rank(text)?));
        Some(Prepared { number, length: self.length, kept: "".into(), frame: text })
    }

    fn render(&self, _: &Prepared<'_>, number: Number<'static>) -> String {
        match number {
            Number::Rank(Rank::Small(rank)) => self.minimum.saturating_add_unsigned(rank).to_string(),
            _ => String::new(),
        }
    }
}

/// Return decimal digits without the zeros before the number that they write.
pub(super) fn without_zeros(digits: &str) -> &str {
    let number = digits.trim_start_matches('0');
    if number.is_empty() && !digits.is_empty() { "0" } else { number }
}
