//! Numbers of mixed radix that stay in 128 bits as long as they fit.
#![forbid(unsafe_code)]

use std::cmp::Ordering;

use num_bigint::BigUint;

/// A number from zero up. Holds plain data, so it has no `Debug`.
#[derive(Clone)]
pub(crate) enum Rank {
    /// A number below 2^128.
    Small(u128),
    /// Any number.
    Big(BigUint),
}

impl Rank {
    /// Return this number with one more digit on the right.
    pub(crate) fn pushed(self, base: u8, digit: u8) -> Self {
        match self {
            Self::Small(number) => {
                match number.checked_mul(base.into()).and_then(|product| product.checked_add(digit.into())) {
                    Some(longer) => Self::Small(longer),
                    None => Self::Big(BigUint::from(number) * base + digit),
                }
            }
            Self::Big(number) => Self::Big(number * base + digit),
        }
    }

    /// Return this number with one more digit of a base up to 2^32 on the right.
    pub(crate) fn pushed_wide(self, base: u32, digit: u32) -> Self {
        match self {
            Self::Small(number) => {
                match number.checked_mul(base.into()).and_then(|product| product.checked_add(digit.into())) {
                    Some(longer) => Self::Small(longer),
                    None => Self::Big(BigUint::from(number) * base + digit),
                }
            }
            Self::Big(number) => Self::Big(number * base + digit),
        }
    }

    /// Return this number without its last digit of a base up to 2^32, and that digit.
    pub(crate) fn popped_wide(self, base: u32) -> (Self, u32) {
        let base = base.max(1);
        match self {
            Self::Small(number) => {
                let digit = u32::try_from(number % u128::from(base)).unwrap_or_default();
                (Self::Small(number / u128::from(base)), digit)
            }
            Self::Big(number) => {
                let digit = u32::try_from(&number % base).unwrap_or_default();
                (Self::from(number / base), digit)
            }
        }
    }

    /// Return the product with a small number.
    pub(crate) fn times(self, factor: u8) -> Self {
        self.pushed(factor, 0)
    }

    /// Return this number without its last digit, and that digit.
    #[allow(clippy::cast_possible_truncation, reason = "a rest is below its divisor, and the divisor below 256")]
    pub(crate) fn popped(self, base: u8) -> (Self, u8) {
        let base = base.max(1);
        match self {
            Self::Small(number) => match u64::try_from(number) {
                Ok(short) => (Self::Small((short / u64::from(base)).into()), (short % u64::from(base)) as u8),
                Err(_) => (Self::Small(number / u128::from(base)), (number % u128::from(base)) as u8),
            },
            Self::Big(number) => {
                let digit = u8::try_from(&number % base).unwrap_or_default();
                (Self::from(number / base), digit)
            }
        }
    }

    /// Return the number as one of any size.
    pub(crate) fn big(&self) -> BigUint {
        match self {
            Self::Small(number) => BigUint::from(*number),
            Self::Big(number) => number.clone(),
        }
    }
}

impl From<BigUint> for Rank {
    fn from(number: BigUint) -> Self {
        u128::try_from(&number).map_or(Self::Big(number), Self::Small)
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Rank {}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Small(left), Self::Small(right)) => left.cmp(right),
            _ => self.big().cmp(&other.big()),
        }
    }
}

/// Return the radix and length whose power is the closest above `size`, for cycle walking.
///
/// A radix near the root of the size makes walks rare: radix^length exceeds the size by less than 2 % where the size
/// is a million or more. An even length keeps the two halves of FF1 equal.
pub(crate) fn superset(size: &BigUint) -> (u32, usize) {
    let mut length = 2;
    loop {
        let floor = size.nth_root(length);
        let root = if floor.pow(length) < *size { floor + 1_u32 } else { floor };
        match u32::try_from(root) {
            Ok(radix) if radix <= crate::ff1::MAXIMUM_RADIX => return (radix.max(2), length as usize),
            _ => length += 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_back_in_reverse() {
        let digits: Vec<u8> = (0..60_u8).map(|at| at.wrapping_mul(7) % 95).collect();
        let mut rank = digits.iter().fold(Rank::Small(0), |rank, digit| rank.pushed(95, *digit));
        assert!(matches!(rank, Rank::Big(_)));
        for digit in digits.iter().rev() {
            let last;
            (rank, last) = rank.popped(95);
            assert_eq!(last, *digit);
        }
        assert!(matches!(rank, Rank::Small(0)));
        assert!(rank == Rank::Big(BigUint::ZERO));
    }

    #[test]
    fn wide_digits_come_back_in_reverse() {
        let digits: Vec<u32> = (0..40_u32).map(|at| at.wrapping_mul(7_919) % 9_999).collect();
        let mut rank = digits.iter().fold(Rank::Small(0), |rank, digit| rank.pushed_wide(9_999, *digit));
        assert!(matches!(rank, Rank::Big(_)));
        for digit in digits.iter().rev() {
            let last;
            (rank, last) = rank.popped_wide(9_999);
            assert_eq!(last, *digit);
        }
        assert!(matches!(rank, Rank::Small(0)));
    }

    #[test]
    fn supersets_are_the_smallest_powers() {
        for size in [1_000_000_u64, 999_999_999, 1 << 32, (1 << 32) + 1, u64::MAX] {
            let (radix, length) = superset(&size.into());
            let exponent = u32::try_from(length).unwrap();
            assert!(u128::from(radix).pow(exponent) >= size.into());
            assert!(u128::from(radix - 1).pow(exponent) < size.into());
        }
        assert_eq!(superset(&(1_u64 << 32).into()), (65_536, 2));
        assert_eq!(superset(&((1_u64 << 32) + 1).into()), (257, 4));
    }
}
