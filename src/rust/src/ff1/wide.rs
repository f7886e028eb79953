//! The rounds of FF1 on halves of any width: several blocks go in, several come out.
#![forbid(unsafe_code)]

use aes::cipher::BlockCipherEncBackend;
use aes::cipher::consts::U16;
use num_bigint::BigUint;

use super::{BLOCK, Direction, ROUNDS, encrypt_block};

/// Run the ten rounds on one value.
#[inline(always)]
pub(super) fn permute<B: BlockCipherEncBackend<BlockSize = U16>>(
    aes: &B,
    b: usize,
    moduli: &[BigUint; 2],
    base: u128,
    halves: (BigUint, BigUint),
    direction: Direction,
) -> (BigUint, BigUint) {
    let (mut left, mut right) = halves;
    // The blocks of Q that hold the round number and the half; what precedes both is in the base.
    let mut tail = vec![0; (b + 1).next_multiple_of(BLOCK)];
    let number_at = tail.len() - 1 - b;
    for count in 0..10_u8 {
        match direction {
            Direction::Encrypt => {
                tail[number_at] = count;
                let modulus = &moduli[usize::from(count & 1)];
                let y = round(aes, b, base, &mut tail, &right);
                let result = (left + y) % modulus;
                (left, right) = (right, result);
            }
            Direction::Decrypt => {
                let number = 9 - count;
                tail[number_at] = number;
                let modulus = &moduli[usize::from(number & 1)];
                let y = round(aes, b, base, &mut tail, &left) % modulus;
                let result = (right + modulus - y) % modulus;
                (left, right) = (result, left);
            }
        }
    }
    (left, right)
}

const _: () = assert!(ROUNDS == 10, "round numbers are one byte here");

/// Return y: NUM(S) for the half that is put at the end of `tail`.
#[inline(always)]
fn round<B: BlockCipherEncBackend<BlockSize = U16>>(
    aes: &B,
    b: usize,
    base: u128,
    tail: &mut [u8],
    half: &BigUint,
) -> BigUint {
    let bytes = half.to_bytes_be();
    let (_, place) = tail.split_at_mut(tail.len() - b);
    let (zeros, digits) = place.split_at_mut(b.saturating_sub(bytes.len()));
    zeros.fill(0);
    digits.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
    // The base is a state already XORed with the head of the first block, so the chain begins with it.
    let mut state = base;
    for block in tail.as_chunks::<BLOCK>().0 {
        state = encrypt_block(aes, state ^ u128::from_be_bytes(*block));
    }
    // S is the first d bytes of R | CIPH(R ^ 1) | CIPH(R ^ 2) and so on: counter blocks on R, not a chain.
    let d = 4 * b.div_ceil(4) + 4;
    let mut s = state.to_be_bytes().to_vec();
    for counter in 1..d.div_ceil(BLOCK) {
        s.extend_from_slice(&encrypt_block(aes, state ^ counter as u128).to_be_bytes());
    }
    s.truncate(d);
    BigUint::from_bytes_be(&s)
}
