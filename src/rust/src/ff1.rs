//! FF1 of NIST SP 800-38G on exact integers.
//!
//! A value of n numerals is two integers, its *halves*: A of the first u = n / 2 numerals and B of the other v. They
//! stay integers in all ten rounds. What does not change from round to round is computed once: a [`Shape`] for a
//! length, and a base, the CBC-MAC state up to the round number, for a tweak.
//!
//! Security: a pseudorandom permutation under AES for domains of at least 1,000,000 values, which the second draft of
//! SP 800-38G Rev. 1 (February 2025) requires; smaller ones are refused. FF1 has no integrity: a wrong key or tweak
//! decrypts to a plausible value. The time depends on radix and length, which are public; arithmetic beyond 64 bits
//! does not promise constant time.
#![forbid(unsafe_code)]
#![allow(clippy::many_single_char_names, reason = "the letters of the standard")]
#![allow(
    clippy::inline_always,
    reason = "what a closure of AES calls must be compiled into it to use its instructions"
)]

mod lanes;
mod numbers;
mod wide;

use std::fmt;

use aes::cipher::consts::U16;
use aes::cipher::{Array, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use num_bigint::BigUint;

use crate::error::{Error, Result};
use crate::rank::Rank;
use lanes::{LongModulus, Modulus, ShortModulus};
pub(crate) use numbers::Radix;

/// radix^n must reach this (SP 800-38G Rev. 1, second public draft, section 5.1).
pub const MINIMUM_DOMAIN: u64 = 1_000_000;

/// radix^n had to reach this in the text of 2016; only for test vectors.
pub const LENIENT_DOMAIN: u64 = 100;

/// Largest radix (SP 800-38G, section 5: radix in [2 .. 2^16]).
pub const MAXIMUM_RADIX: u32 = 65_536;

/// How many values to hand to [`Cipher::permute`] at a time: as many as any AES unit works on in lock-step.
pub(crate) const BATCH: usize = 64;

const ROUNDS: usize = 10;
const BLOCK: usize = 16;

/// Widest half, in bytes, whose round output is 64 bits (d = 8).
const SHORT_BYTES: usize = 4;
/// Widest half, in bytes, whose round output is one block (d = 16).
const LONG_BYTES: usize = 12;

/// Which way a value goes through the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Algorithm 7 of the standard.
    Encrypt,
    /// Algorithm 8 of the standard.
    Decrypt,
}

/// The two halves of a value. Holds plain data, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Halves {
    /// Halves of at most 12 bytes.
    Small(u128, u128),
    /// Longer ones.
    Big(BigUint, BigUint),
}

/// A value on its way through [`Cipher::permute`], with the base of its tweak.
#[derive(Clone)]
pub(crate) struct Value {
    /// From [`Cipher::base`], for the shape that the value has.
    pub(crate) base: u128,
    /// The value, and afterwards the result.
    pub(crate) halves: Halves,
}

/// What follows from radix, length and tweak length; the letters are those of SP 800-38G, algorithm 7.
pub(crate) struct Shape {
    /// Numerals of the first half.
    pub(crate) u: usize,
    /// Numerals of the second half.
    pub(crate) v: usize,
    b: usize,
    tweak_length: usize,
    state: u128,
    moduli: Moduli,
}

/// radix^u and radix^v in the arithmetic that their size needs.
enum Moduli {
    Short([ShortModulus; 2]),
    Long([LongModulus; 2]),
    Wide([BigUint; 2]),
}

impl Shape {
    /// Say whether this is the shape of values of this many numerals under tweaks of this many bytes.
    pub(crate) fn fits(&self, length: usize, tweak_length: usize) -> bool {
        self.u + self.v == length && self.tweak_length == tweak_length
    }

    /// Return the halves of a rank below radix^length.
    pub(crate) fn halves(&self, rank: &Rank) -> Halves {
        match (&self.moduli, rank) {
            (Moduli::Short([_, v]), Rank::Small(rank)) => v.split(*rank),
            (Moduli::Long([_, v]), Rank::Small(rank)) => v.split(*rank),
            (Moduli::Wide([_, v]), rank) => {
                let rank = rank.big();
                Halves::Big(&rank / v, rank % v)
            }
            (Moduli::Short([_, v]), Rank::Big(rank)) => split_big(rank, v.modulus()),
            (Moduli::Long([_, v]), Rank::Big(rank)) => split_big(rank, v.modulus()),
        }
    }

    /// Return the rank of halves.
    pub(crate) fn rank(&self, halves: &Halves) -> Rank {
        let v = match &self.moduli {
            Moduli::Short([_, v]) => Rank::Small(v.modulus()),
            Moduli::Long([_, v]) => Rank::Small(v.modulus()),
            Moduli::Wide([_, v]) => Rank::Big(v.clone()),
        };
        match (halves, v) {
            (Halves::Small(a, b), Rank::Small(v)) => {
                match a.checked_mul(v).and_then(|product| product.checked_add(*b)) {
                    Some(rank) => Rank::Small(rank),
                    None => Rank::from(BigUint::from(*a) * v + *b),
                }
            }
            (Halves::Small(a, b), Rank::Big(v)) => Rank::from(v * *a + *b),
            (Halves::Big(a, b), v) => Rank::from(a * v.big() + b),
        }
    }

    /// Say whether values of this shape have [`Halves::Small`].
    pub(crate) fn is_small(&self) -> bool {
        !matches!(self.moduli, Moduli::Wide(_))
    }

    /// Say whether the halves are below 2^32, so that their arithmetic fits 64 bits.
    pub(crate) fn is_short(&self) -> bool {
        matches!(self.moduli, Moduli::Short(_))
    }
}

/// CIPH of the standard: AES, encryption only, with round keys that are wiped on drop.
enum Aes {
    Aes128(aes::Aes128Enc),
    Aes192(aes::Aes192Enc),
    Aes256(aes::Aes256Enc),
}

/// FF1 under one key and one radix.
pub struct Cipher {
    aes: Aes,
    radix: u32,
    arithmetic: Radix,
    floor: u64,
}

impl fmt::Debug for Cipher {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Cipher {{ radix: {} }}", self.radix)
    }
}

impl Cipher {
    /// Bind key and radix; domains below `floor` values will be refused.
    ///
    /// # Errors
    /// [`Error::KeySize`], [`Error::Radix`].
    pub fn new(key: &[u8], radix: u32, floor: u64) -> Result<Self> {
        let aes = match key.len() {
            16 => aes::Aes128Enc::new_from_slice(key).map(Aes::Aes128),
            24 => aes::Aes192Enc::new_from_slice(key).map(Aes::Aes192),
            _ => aes::Aes256Enc::new_from_slice(key).map(Aes::Aes256),
        };
        let aes = aes.map_err(|_| Error::KeySize)?;
        if (2..=MAXIMUM_RADIX).contains(&radix) {
            Ok(Self { aes, radix, arithmetic: Radix::new(radix), floor })
        } else {
            Err(Error::Radix)
        }
    }

    /// The radix.
    #[must_use]
    pub fn radix(&self) -> u32 {
        self.radix
    }

    /// What turns numerals of the radix into numbers and back.
    pub(crate) fn arithmetic(&self) -> &Radix {
        &self.arithmetic
    }

    /// Return the ciphertext of numerals, as many as were given.
    ///
    /// # Errors
    /// [`Error::Domain`], [`Error::Length`], [`Error::Numeral`], [`Error::TweakLength`].
    pub fn encrypt(&self, numerals: &[u16], tweak: &[u8]) -> Result<Vec<u16>> {
        self.permute_numerals(numerals, tweak, Direction::Encrypt)
    }

    /// Return the plaintext of numerals. A wrong key or tweak gives other plausible ones, never an error.
    ///
    /// # Errors
    /// As for [`Cipher::encrypt`].
    pub fn decrypt(&self, numerals: &[u16], tweak: &[u8]) -> Result<Vec<u16>> {
        self.permute_numerals(numerals, tweak, Direction::Decrypt)
    }

    fn permute_numerals(&self, numerals: &[u16], tweak: &[u8], direction: Direction) -> Result<Vec<u16>> {
        self.require_domain(numerals.len())?;
        if numerals.iter().any(|numeral| u32::from(*numeral) >= self.radix) {
            return Err(Error::Numeral { radix: self.radix });
        }
        let shape = self.shape(numerals.len(), tweak.len())?;
        let base = self.base(&shape, tweak)?;
        let mut value = [Value { base, halves: self.arithmetic.halves(numerals, &shape) }];
        self.permute(&shape, &mut value, direction);
        Ok(self.arithmetic.numerals(&value[0].halves, &shape))
    }

    /// Refuse lengths that FF1 does not protect.
    ///
    /// # Errors
    /// [`Error::Domain`] where radix^length is below the floor or length below 2, [`Error::Length`] above 2^32 - 1.
    pub(crate) fn require_domain(&self, length: usize) -> Result<()> {
        let mut values = 1_u64;
        for _ in 0..length {
            values = values.saturating_mul(u64::from(self.radix));
            if values >= self.floor {
                break;
            }
        }
        if length < 2 || values < self.floor {
            return Err(Error::Domain { length, radix: self.radix, floor: self.floor });
        }
        if u32::try_from(length).is_ok() { Ok(()) } else { Err(Error::Length) }
    }

    /// Return the shape of values of this many numerals under tweaks of this many bytes.
    ///
    /// # Errors
    /// As for [`Cipher::require_domain`]; [`Error::TweakLength`].
    pub(crate) fn shape(&self, length: usize, tweak_length: usize) -> Result<Shape> {
        self.require_domain(length)?;
        let (n, t) = (u32::try_from(length), u32::try_from(tweak_length));
        let (Ok(n), Ok(t)) = (n, t) else { return Err(Error::TweakLength) };
        let (u, v) = (length / 2, length - length / 2);
        let (moduli, b) = self.moduli(n / 2, n - n / 2);
        let [_, r0, r1, r2] = self.radix.to_be_bytes();
        let [.., u_byte] = n.wrapping_div(2).to_be_bytes();
        let mut p = [0; BLOCK];
        p[..8].copy_from_slice(&[1, 2, 1, r0, r1, r2, 10, u_byte]);
        p[8..12].copy_from_slice(&n.to_be_bytes());
        p[12..].copy_from_slice(&t.to_be_bytes());
        Ok(Shape { u, v, b, tweak_length, state: self.block(u128::from_be_bytes(p)), moduli })
    }

    /// Return radix^u and radix^v, and b, the bytes of a half; exact, where a logarithm would be off by one for some.
    fn moduli(&self, u: u32, v: u32) -> (Moduli, usize) {
        if let (Some(mu), Some(mv)) = (self.radix.checked_pow(u), self.radix.checked_pow(v)) {
            let moduli = [mu, mv].map(|modulus| ShortModulus::new(modulus.into()));
            return (Moduli::Short(moduli), bytes(u128::from(mv) - 1));
        }
        let radix = u128::from(self.radix);
        if let (Some(mu), Some(mv)) = (radix.checked_pow(u), radix.checked_pow(v)) {
            let b = bytes(mv - 1);
            if b <= SHORT_BYTES {
                // Only 2^32 itself, which does not fit its own number of bits.
                return (
                    Moduli::Short([mu, mv].map(|modulus| ShortModulus::new(u64::try_from(modulus).unwrap_or(2)))),
                    b,
                );
            }
            if b <= LONG_BYTES {
                return (Moduli::Long([LongModulus::new(mu), LongModulus::new(mv)]), b);
            }
        }
        let (mu, mv) = (BigUint::from(radix).pow(u), BigUint::from(radix).pow(v));
        let b = usize::try_from((&mv - 1_u32).bits().div_ceil(8)).unwrap_or(usize::MAX);
        (Moduli::Wide([mu, mv]), b)
    }

    /// Return the CBC-MAC state before the round number, XORed with what precedes that number in its own block.
    ///
    /// # Errors
    /// [`Error::TweakLength`] where the shape is for tweaks of another length.
    pub(crate) fn base(&self, shape: &Shape, tweak: &[u8]) -> Result<u128> {
        if tweak.len() != shape.tweak_length {
            return Err(Error::TweakLength);
        }
        // T and the padding end where the round number and the half begin, at the end of a block.
        let end = (tweak.len() + 1 + shape.b).next_multiple_of(BLOCK) - 1 - shape.b;
        let whole = end / BLOCK;
        let mut state = shape.state;
        let mut rest = tweak;
        for _ in 0..whole {
            let (block, tail) = rest.split_at(rest.len().min(BLOCK));
            state = self.block(state ^ padded(block));
            rest = tail;
        }
        Ok(state ^ padded(rest))
    }

    /// Run the ten rounds on values of one shape.
    pub(crate) fn permute(&self, shape: &Shape, values: &mut [Value], direction: Direction) {
        let rounds = Rounds { shape, values, direction };
        match &self.aes {
            Aes::Aes128(aes) => aes.encrypt_with_backend(rounds),
            Aes::Aes192(aes) => aes.encrypt_with_backend(rounds),
            Aes::Aes256(aes) => aes.encrypt_with_backend(rounds),
        }
    }

    fn block(&self, block: u128) -> u128 {
        let mut bytes = Array(block.to_be_bytes());
        match &self.aes {
            Aes::Aes128(aes) => aes.encrypt_block(&mut bytes),
            Aes::Aes192(aes) => aes.encrypt_block(&mut bytes),
            Aes::Aes256(aes) => aes.encrypt_block(&mut bytes),
        }
        u128::from_be_bytes(bytes.0)
    }
}

/// Return the halves of a rank of more than 128 bits, each of which has fewer.
fn split_big(rank: &BigUint, modulus: u128) -> Halves {
    let small = |half: BigUint| u128::try_from(half).unwrap_or_default();
    Halves::Small(small(rank / modulus), small(rank % modulus))
}

/// Return how many bytes a number takes, at least one.
fn bytes(number: u128) -> usize {
    number.checked_ilog2().map_or(1, |log| log as usize / 8 + 1)
}

/// Return at most 16 bytes as the leading ones of a block.
fn padded(bytes: &[u8]) -> u128 {
    let mut block = [0; BLOCK];
    block.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u128::from_be_bytes(block)
}

/// The rounds of many values, handed to AES whole: so they are compiled together with the instructions of whichever
/// processor runs them, instead of crossing a call for every block.
struct Rounds<'a> {
    shape: &'a Shape,
    values: &'a mut [Value],
    direction: Direction,
}

impl BlockSizeUser for Rounds<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Rounds<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, aes: &B) {
        let b = self.shape.b;
        match &self.shape.moduli {
            Moduli::Short(moduli) => lanes::permute(aes, b, moduli, self.values, self.direction),
            Moduli::Long(moduli) => lanes::permute(aes, b, moduli, self.values, self.direction),
            Moduli::Wide(moduli) => {
                for value in self.values {
                    if let Halves::Big(a, c) = &value.halves {
                        let (a, c) = wide::permute(aes, b, moduli, value.base, (a.clone(), c.clone()), self.direction);
                        value.halves = Halves::Big(a, c);
                    }
                }
            }
        }
    }
}

/// CIPH of one block.
#[inline(always)]
fn encrypt_block<B: BlockCipherEncBackend<BlockSize = U16>>(aes: &B, block: u128) -> u128 {
    let mut bytes = Array(block.to_be_bytes());
    aes.encrypt_block((&mut bytes).into());
    u128::from_be_bytes(bytes.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_shown() {
        let cipher = Cipher::new(&[0xab; 32], 10, MINIMUM_DOMAIN).unwrap();
        assert_eq!(format!("{cipher:?}"), "Cipher { radix: 10 }");
    }

    #[test]
    fn floors_and_sizes_are_refused() {
        let refused = |key: &[u8], radix| Cipher::new(key, radix, MINIMUM_DOMAIN).err();
        assert_eq!(refused(&[0; 31], 10), Some(Error::KeySize));
        assert_eq!(refused(&[0; 32], 1), Some(Error::Radix));
        assert_eq!(refused(&[0; 32], 65_537), Some(Error::Radix));
        let cipher = Cipher::new(&[0; 32], 10, MINIMUM_DOMAIN).unwrap();
        let domain = Error::Domain { length: 5, radix: 10, floor: MINIMUM_DOMAIN };
        assert_eq!(cipher.encrypt(&[0; 5], b""), Err(domain));
        assert_eq!(cipher.encrypt(&[0, 0, 0, 0, 0, 10], b""), Err(Error::Numeral { radix: 10 }));
        assert_eq!(domain.to_string(), "5 numerals of radix 10 are below 1,000,000 values");
    }

    #[test]
    fn halves_of_exactly_32_and_96_bits_come_back() {
        // radix^v is a power of two that fills its bytes: the edges between the three kinds of arithmetic.
        let cipher = Cipher::new(&[7; 16], 2, MINIMUM_DOMAIN).unwrap();
        for length in [63, 64, 65, 127, 128, 129, 191, 192, 193, 194, 255, 256, 257] {
            let numerals = vec![1; length];
            let encrypted = cipher.encrypt(&numerals, b"tweak").unwrap();
            assert_ne!(encrypted, numerals);
            assert_eq!(cipher.decrypt(&encrypted, b"tweak").unwrap(), numerals);
        }
    }
}
