//! Numerals to numbers and back: NUM and STR of NIST SP 800-38G, algorithms 1 and 3, for any length.
#![forbid(unsafe_code)]

use num_bigint::BigUint;

use super::{Halves, Shape};

/// Longest numeral string that is converted in machine words: 2^16 to the power of 8 is 2^128.
const WORDS: usize = 8;

/// A radix, and what makes arithmetic with it fast.
pub(crate) struct Radix {
    base: u64,
    /// ceil(2^64 / radix): the upper half of a product with it is the quotient, exactly for dividends below 2^48.
    reciprocal: u64,
    /// The most numerals that always fit 32 bits, and the radix to this power.
    chunk: usize,
    chunk_power: u64,
}

impl Radix {
    /// Prepare a radix from 2 to 65536.
    pub(super) fn new(radix: u32) -> Self {
        let radix = u64::from(radix.max(2));
        let (mut chunk, mut chunk_power) = (1, radix);
        while chunk_power * radix <= 1 << 32 {
            chunk_power *= radix;
            chunk += 1;
        }
        Self { base: radix, reciprocal: (u64::MAX / radix).wrapping_add(1), chunk, chunk_power }
    }

    /// Return the halves of numerals, as many as the shape has and each below the radix.
    pub(crate) fn halves(&self, numerals: &[u16], shape: &Shape) -> Halves {
        let (first, second) = numerals.split_at(shape.u.min(numerals.len()));
        self.halves_by(first, second, u64::from, shape)
    }

    /// Return the halves of two strings of places, with a function from a place to its numeral.
    pub(crate) fn halves_by<T: Copy>(
        &self,
        first: &[T],
        second: &[T],
        numeral: impl Fn(T) -> u64 + Copy,
        shape: &Shape,
    ) -> Halves {
        if shape.is_short() {
            let number = |places: &[T]| u128::from(self.short_number(places, numeral));
            Halves::Small(number(first), number(second))
        } else if shape.is_small() {
            Halves::Small(self.small_number(first, numeral), self.small_number(second, numeral))
        } else {
            Halves::Big(self.number(first, numeral), self.number(second, numeral))
        }
    }

    /// Write the numerals of halves, as many as the shape has.
    pub(crate) fn numerals(&self, halves: &Halves, shape: &Shape) -> Vec<u16> {
        let mut numerals = vec![0; shape.u + shape.v];
        let (first, second) = numerals.split_at_mut(shape.u);
        self.write_by(halves, first, second, |numeral| numeral);
        numerals
    }

    /// Write halves into two strings of places, with a function from a numeral to what stands in its place.
    pub(crate) fn write_by<T>(
        &self,
        halves: &Halves,
        first: &mut [T],
        second: &mut [T],
        place: impl Fn(u16) -> T + Copy,
    ) {
        match halves {
            Halves::Small(a, b) => {
                self.write_small(*a, first, place);
                self.write_small(*b, second, place);
            }
            Halves::Big(a, b) => {
                self.write(a, first, place);
                self.write(b, second, place);
            }
        }
    }

    fn short_number<T: Copy>(&self, places: &[T], numeral: impl Fn(T) -> u64) -> u64 {
        places.iter().fold(0, |number, place| number * self.base + numeral(*place))
    }

    fn small_number<T: Copy>(&self, places: &[T], numeral: impl Fn(T) -> u64 + Copy) -> u128 {
        let (head, chunks) = places.split_at(places.len() % self.chunk);
        chunks.chunks_exact(self.chunk).fold(u128::from(self.short_number(head, numeral)), |number, chunk| {
            number * u128::from(self.chunk_power) + u128::from(self.short_number(chunk, numeral))
        })
    }

    fn number<T: Copy>(&self, places: &[T], numeral: impl Fn(T) -> u64 + Copy) -> BigUint {
        if places.len() <= WORDS {
            return BigUint::from(self.small_number(places, numeral));
        }
        let (high, low) = places.split_at(places.len() / 2);
        self.number(high, numeral) * self.power(low.len()) + self.number(low, numeral)
    }

    #[allow(clippy::cast_possible_truncation, reason = "a rest is below the radix, and the radix at most 2^16")]
    fn write_chunk<T>(&self, mut number: u64, places: &mut [T], place: impl Fn(u16) -> T) {
        for to in places.iter_mut().rev() {
            let quotient = ((u128::from(number) * u128::from(self.reciprocal)) >> 64) as u64;
            *to = place((number - quotient * self.base) as u16);
            number = quotient;
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "a rest is below the power, and the power at most 2^32")]
    fn write_small<T>(&self, mut number: u128, places: &mut [T], place: impl Fn(u16) -> T + Copy) {
        for chunk in places.rchunks_mut(self.chunk) {
            if let Ok(short) = u64::try_from(number) {
                // A division of 64 bits is many times faster than one of 128.
                self.write_chunk(short % self.chunk_power, chunk, place);
                number = u128::from(short / self.chunk_power);
            } else {
                self.write_chunk((number % u128::from(self.chunk_power)) as u64, chunk, place);
                number /= u128::from(self.chunk_power);
            }
        }
    }

    fn write<T>(&self, number: &BigUint, places: &mut [T], place: impl Fn(u16) -> T + Copy) {
        if let (Ok(small), true) = (u128::try_from(number), places.len() <= WORDS) {
            return self.write_small(small, places, place);
        }
        let (high, low) = places.split_at_mut(places.len() / 2);
        let modulus = self.power(low.len());
        self.write(&(number / &modulus), high, place);
        self.write(&(number % &modulus), low, place);
    }

    fn power(&self, exponent: usize) -> BigUint {
        BigUint::from(self.base).pow(u32::try_from(exponent).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_divided_exactly() {
        for radix in (2..=65_536).step_by(7).chain([10, 255, 256, 257, 65_535, 65_536]) {
            let arithmetic = Radix::new(radix);
            for number in [0, 1, u64::from(radix) - 1, u64::from(radix), arithmetic.chunk_power - 1, 0xffff_ffff] {
                let number = number.min(arithmetic.chunk_power - 1);
                let mut numerals = vec![0_u16; arithmetic.chunk];
                arithmetic.write_chunk(number, &mut numerals, |numeral| numeral);
                assert!(numerals.iter().all(|numeral| u32::from(*numeral) < radix));
                assert_eq!(arithmetic.short_number(&numerals, u64::from), number, "radix {radix}");
            }
        }
    }

    #[test]
    fn long_numbers_are_written_as_they_are_read() {
        for (radix, length) in [(2, 96), (10, 28), (62, 16), (65_536, 6), (3, 400), (65_536, 130)] {
            let arithmetic = Radix::new(radix);
            let numerals: Vec<u16> = (0..length).map(|at| u16::try_from(at * at * 7 % radix).unwrap()).collect();
            let mut written = vec![0; numerals.len()];
            arithmetic.write(&arithmetic.number(&numerals, u64::from), &mut written, |numeral| numeral);
            assert_eq!(written, numerals);
        }
    }
}
