//! The rounds of FF1 on halves that fit a machine word or two, many values in lock-step to hide the latency of AES.
#![forbid(unsafe_code)]

use aes::cipher::array::ArraySize;
use aes::cipher::consts::{U8, U16};
use aes::cipher::typenum::Unsigned;
use aes::cipher::{Array, BlockCipherEncBackend};

use super::{Direction, Halves, ROUNDS, Value, encrypt_block};

/// Values in lock-step where there are too few for the AES unit's own number.
type Few = U8;

/// Arithmetic modulo radix^m in the integers that it fits.
pub(super) trait Modulus {
    /// An integer that holds a half, and the sum of two.
    type Half: Copy + Default;

    /// Return the number itself.
    fn modulus(&self) -> u128;
    /// Return the halves of a rank: its quotient and its rest.
    fn split(&self, rank: u128) -> Halves {
        Halves::Small(rank / self.modulus(), rank % self.modulus())
    }
    /// Return a half that is known to fit.
    fn half(value: u128) -> Self::Half;
    /// Return a half as it is stored.
    fn stored(half: Self::Half) -> u128;
    /// Return y, the number that the leading d bytes of a block write, modulo this.
    fn reduced(&self, block: u128, b: usize) -> Self::Half;
    /// Return the sum of two numbers below the modulus, modulo this.
    fn sum(&self, left: Self::Half, right: Self::Half) -> Self::Half;
    /// Return the difference of two numbers below the modulus, modulo this.
    fn difference(&self, left: Self::Half, right: Self::Half) -> Self::Half;
}

/// A modulus of at most 2^32, where d is 8 bytes.
pub(super) struct ShortModulus {
    modulus: u64,
    /// floor((2^64 - 1) / modulus), for a division by multiplication.
    reciprocal: u64,
}

impl ShortModulus {
    /// Prepare a modulus from 2 to 2^32.
    pub(super) fn new(modulus: u64) -> Self {
        let modulus = modulus.max(2);
        Self { modulus, reciprocal: u64::MAX / modulus }
    }
}

impl Modulus for ShortModulus {
    type Half = u64;

    fn modulus(&self) -> u128 {
        self.modulus.into()
    }

    fn split(&self, rank: u128) -> Halves {
        // A division of 64 bits is many times faster than one of 128.
        match u64::try_from(rank) {
            Ok(short) => Halves::Small((short / self.modulus).into(), (short % self.modulus).into()),
            Err(_) => Halves::Small(rank / self.modulus(), rank % self.modulus()),
        }
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "a short half is below 2^32")]
    fn half(value: u128) -> u64 {
        value as u64
    }

    #[inline(always)]
    fn stored(half: u64) -> u128 {
        u128::from(half)
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "the upper 64 bits of 128 are 64")]
    fn reduced(&self, block: u128, _: usize) -> u64 {
        let y = (block >> 64) as u64;
        // The reciprocal is too small by at most one and y is below 2^64, so the quotient is right or one too small.
        let quotient = ((u128::from(y) * u128::from(self.reciprocal)) >> 64) as u64;
        let rest = y.wrapping_sub(quotient.wrapping_mul(self.modulus));
        if rest >= self.modulus { rest - self.modulus } else { rest }
    }

    #[inline(always)]
    fn sum(&self, left: u64, right: u64) -> u64 {
        let sum = left + right;
        if sum >= self.modulus { sum - self.modulus } else { sum }
    }

    #[inline(always)]
    fn difference(&self, left: u64, right: u64) -> u64 {
        if left >= right { left - right } else { left + self.modulus - right }
    }
}

/// A modulus of at most 2^96, where d is 12 or 16 bytes.
pub(super) struct LongModulus {
    modulus: u128,
    is_power_of_two: bool,
}

impl LongModulus {
    /// Prepare a modulus from 2 to 2^96.
    pub(super) fn new(modulus: u128) -> Self {
        Self { modulus, is_power_of_two: modulus.is_power_of_two() }
    }
}

impl Modulus for LongModulus {
    type Half = u128;

    fn modulus(&self) -> u128 {
        self.modulus
    }

    fn split(&self, rank: u128) -> Halves {
        if self.is_power_of_two {
            Halves::Small(rank >> self.modulus.ilog2(), rank & (self.modulus - 1))
        } else {
            Halves::Small(rank / self.modulus, rank % self.modulus)
        }
    }

    #[inline(always)]
    fn half(value: u128) -> u128 {
        value
    }

    #[inline(always)]
    fn stored(half: u128) -> u128 {
        half
    }

    #[inline(always)]
    fn reduced(&self, block: u128, b: usize) -> u128 {
        let y = if b <= 8 { block >> 32 } else { block };
        if self.is_power_of_two { y & (self.modulus - 1) } else { y % self.modulus }
    }

    #[inline(always)]
    fn sum(&self, left: u128, right: u128) -> u128 {
        let sum = left + right;
        if sum >= self.modulus { sum - self.modulus } else { sum }
    }

    #[inline(always)]
    fn difference(&self, left: u128, right: u128) -> u128 {
        if left >= right { left - right } else { left + self.modulus - right }
    }
}

/// Run the ten rounds on values whose halves are [`Halves::Small`].
#[inline(always)]
pub(super) fn permute<B: BlockCipherEncBackend<BlockSize = U16>, M: Modulus>(
    aes: &B,
    b: usize,
    moduli: &[M; 2],
    values: &mut [Value],
    direction: Direction,
) {
    let at_once = B::ParBlocksSize::USIZE.max(1);
    let whole = values.len() - values.len() % at_once;
    let (batches, rest) = values.split_at_mut(whole);
    for batch in batches.chunks_exact_mut(at_once) {
        in_lock_step::<B::ParBlocksSize, M>(b, moduli, batch, direction, |blocks| {
            aes.encrypt_par_blocks(blocks.into());
        });
    }
    for few in rest.chunks_mut(Few::USIZE) {
        if let [value] = few {
            alone(aes, b, moduli, value, direction);
        } else {
            // Lanes without a value compute on zeros, which costs less than a loop of a length that is not known.
            in_lock_step::<Few, M>(b, moduli, few, direction, |blocks| {
                for block in blocks {
                    aes.encrypt_block(block.into());
                }
            });
        }
    }
}

/// Return the round numbers in the order of the direction.
#[inline(always)]
fn order(direction: Direction) -> impl Iterator<Item = usize> {
    (0..ROUNDS).map(move |round| if direction == Direction::Encrypt { round } else { ROUNDS - 1 - round })
}

/// Return the half that takes the result of the first round and the half that goes into it.
#[inline(always)]
fn opened<M: Modulus>(halves: &Halves, direction: Direction) -> (M::Half, M::Half) {
    let Halves::Small(a, b) = halves else { return Default::default() };
    match direction {
        Direction::Encrypt => (M::half(*a), M::half(*b)),
        Direction::Decrypt => (M::half(*b), M::half(*a)),
    }
}

/// Undo [`opened`] after the last round.
#[inline(always)]
fn closed<M: Modulus>(moved: M::Half, fixed: M::Half, direction: Direction) -> Halves {
    match direction {
        Direction::Encrypt => Halves::Small(M::stored(moved), M::stored(fixed)),
        Direction::Decrypt => Halves::Small(M::stored(fixed), M::stored(moved)),
    }
}

/// Return what takes the place of `moved` after a round whose function gave this block.
#[inline(always)]
fn stepped<M: Modulus>(modulus: &M, moved: M::Half, block: u128, b: usize, direction: Direction) -> M::Half {
    let y = modulus.reduced(block, b);
    match direction {
        Direction::Encrypt => modulus.sum(moved, y),
        Direction::Decrypt => modulus.difference(moved, y),
    }
}

#[inline(always)]
fn alone<B: BlockCipherEncBackend<BlockSize = U16>, M: Modulus>(
    aes: &B,
    b: usize,
    moduli: &[M; 2],
    value: &mut Value,
    direction: Direction,
) {
    let (mut moved, mut fixed) = opened::<M>(&value.halves, direction);
    for round in order(direction) {
        let block = encrypt_block(aes, value.base ^ ((round as u128) << (8 * b)) ^ M::stored(fixed));
        (moved, fixed) = (fixed, stepped(&moduli[round & 1], moved, block, b, direction));
    }
    value.halves = closed::<M>(moved, fixed, direction);
}

#[inline(always)]
fn in_lock_step<N: ArraySize, M: Modulus>(
    b: usize,
    moduli: &[M; 2],
    values: &mut [Value],
    direction: Direction,
    encrypt: impl Fn(&mut Array<Array<u8, U16>, N>),
) {
    let mut bases = Array::<u128, N>::from_fn(|_| 0);
    let mut moved = Array::<M::Half, N>::from_fn(|_| M::Half::default());
    let mut fixed = Array::<M::Half, N>::from_fn(|_| M::Half::default());
    for (lane, value) in values.iter().enumerate().take(N::USIZE) {
        bases[lane] = value.base;
        (moved[lane], fixed[lane]) = opened::<M>(&value.halves, direction);
    }
    let one_round = |round: usize, moved: &mut Array<M::Half, N>, fixed: &Array<M::Half, N>| {
        let number = (round as u128) << (8 * b);
        let mut blocks = Array::from_fn(|lane| Array((bases[lane] ^ number ^ M::stored(fixed[lane])).to_be_bytes()));
        encrypt(&mut blocks);
        let modulus = &moduli[round & 1];
        for lane in 0..N::USIZE {
            let block = u128::from_be_bytes(blocks[lane].0);
            moved[lane] = stepped(modulus, moved[lane], block, b, direction);
        }
    };
    // Two rounds at a time change both halves, so that none has to be moved from one place to the other.
    for pair in 0..ROUNDS / 2 {
        let (first, second) = match direction {
            Direction::Encrypt => (2 * pair, 2 * pair + 1),
            Direction::Decrypt => (ROUNDS - 1 - 2 * pair, ROUNDS - 2 - 2 * pair),
        };
        one_round(first, &mut moved, &fixed);
        one_round(second, &mut fixed, &moved);
    }
    for (lane, value) in values.iter_mut().enumerate().take(N::USIZE) {
        value.halves = closed::<M>(moved[lane], fixed[lane], direction);
    }
}
