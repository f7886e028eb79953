//! Decimal digits to machine words and back, eight at a time; at most 18 digits, whose numbers stay below 2^63.
#![forbid(unsafe_code)]

/// Say whether all bytes are ASCII digits.
#[inline]
pub(crate) fn are_digits(text: &[u8]) -> bool {
    text.iter().fold(true, |all, byte| all & byte.is_ascii_digit())
}

/// Return the number that at most 18 ASCII digits write.
#[inline]
pub(crate) fn number(digits: &[u8]) -> u64 {
    let (eights, rest) = digits.as_chunks::<8>();
    let high = eights.iter().fold(0_u64, |value, chunk| value.wrapping_mul(100_000_000).wrapping_add(eight(*chunk)));
    rest.iter().fold(high, |value, digit| value.wrapping_mul(10).wrapping_add(u64::from(digit & 15)))
}

/// Return the number that eight digits write: neighbours are joined to pairs, pairs to fours, fours to eight.
#[inline]
fn eight(digits: [u8; 8]) -> u64 {
    let ones = u64::from_le_bytes(digits) & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (ones.wrapping_mul(10).wrapping_add(ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff
}

const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0_u8;
    while number < 100 {
        pairs[number as usize] = [b'0' + number / 10, b'0' + number % 10];
        number += 1;
    }
    pairs
};

/// Write the last digits of a number, as many as there is place for.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "a rest of a division by 10 or 100")]
pub(crate) fn write(mut number: u64, place: &mut [u8]) {
    let (first, pairs) = place.as_rchunks_mut::<2>();
    for pair in pairs.iter_mut().rev() {
        *pair = PAIRS[(number % 100) as usize];
        number /= 100;
    }
    if let [digit] = first {
        *digit = b'0' + (number % 10) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_numbers_are_inverse() {
        for length in 0..=18 {
            for seed in [0_u64, 1, 9, 12_345_678, 987_654_321_012_345_678, 999_999_999_999_999_999] {
                let expected = seed % 10_u64.pow(u32::try_from(length).unwrap());
                let mut place = vec![b'x'; length];
                write(seed, &mut place);
                assert!(are_digits(&place));
                assert_eq!(number(&place), expected);
                if length > 0 {
                    assert_eq!(String::from_utf8(place).unwrap(), format!("{expected:0length$}"));
                }
            }
        }
    }

    #[test]
    fn other_bytes_are_no_digits() {
        for byte in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit()) {
            assert!(!are_digits(&[b'0', byte, b'1']));
        }
    }
}
