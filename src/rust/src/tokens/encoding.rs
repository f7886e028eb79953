//! Bytes as text: hexadecimal, and base 32 and base64url of RFC 4648 without padding.
#![forbid(unsafe_code)]

const BASE_32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const BASE_64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const BASE_16: &[u8; 16] = b"0123456789abcdef";

/// Return base 32 in lower case.
pub(super) fn base32(bytes: &[u8]) -> String {
    grouped(bytes, 5, BASE_32)
}

/// Return base64url.
pub(super) fn base64url(bytes: &[u8]) -> String {
    grouped(bytes, 6, BASE_64)
}

/// Return hexadecimal digits in lower case.
pub(super) fn hex(bytes: &[u8]) -> String {
    grouped(bytes, 4, BASE_16)
}

/// Write groups of so many bits, at most eight, the last one filled with zeros.
#[allow(clippy::cast_possible_truncation, reason = "a group has at most eight bits")]
fn grouped(bytes: &[u8], bits: u32, characters: &[u8]) -> String {
    let mut text = Vec::with_capacity((bytes.len() * 8).div_ceil(bits as usize));
    let mask = (1_u64 << bits) - 1;
    let character = |group: u64| characters.get((group & mask) as usize).copied().unwrap_or_default();
    // So many bytes are a whole number of groups, whatever the size of a group, and fit a word with room.
    let mut words = bytes.chunks_exact(bits as usize);
    for word in &mut words {
        let held = word.iter().fold(0, |held, byte| held << 8 | u64::from(*byte));
        text.extend((0..8).rev().map(|group| character(held >> (group * bits))));
    }
    let (mut held, mut count) = (0_u64, 0);
    for byte in words.remainder() {
        held = held << 8 | u64::from(*byte);
        count += 8;
        while count >= bits {
            count -= bits;
            text.push(character(held >> count));
        }
    }
    if count > 0 {
        text.push(character(held << (bits - count)));
    }
    String::from_utf8(text).unwrap_or_default()
}

/// Return the bytes that hexadecimal digits of either case write.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    ungrouped(text.to_ascii_lowercase().as_bytes(), 4, BASE_16).filter(|_| text.len().is_multiple_of(2))
}

/// Return the bytes that base64url writes; left-over bits are not looked at.
pub(super) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    ungrouped(text.as_bytes(), 6, BASE_64)
}

fn ungrouped(text: &[u8], bits: u32, characters: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut held, mut count) = (0_u32, 0);
    for character in text {
        let group = characters.iter().position(|known| known == character)?;
        held = (held << bits | u32::try_from(group).ok()?) & 0xffff;
        count += bits;
        if count >= 8 {
            count -= 8;
            bytes.push((held >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

/// Return hexadecimal digits in upper case if another text has letters, and all of them are upper case.
pub(super) fn cased(digits: String, like: &str) -> String {
    let is_upper = like.bytes().any(|byte| byte.is_ascii_uppercase());
    if is_upper && !like.bytes().any(|byte| byte.is_ascii_lowercase()) { digits.to_ascii_uppercase() } else { digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4648_section_10() {
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
        assert_eq!(base32(b"foob"), "mzxw6yq");
        assert_eq!(base64url(b"fooba"), "Zm9vYmE");
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
        assert_eq!(hex(b"foobar"), "666f6f626172");
    }

    #[test]
    fn bytes_are_read_as_they_are_written() {
        for length in 0..40_u8 {
            let bytes: Vec<u8> = (0..length).map(|at| at.wrapping_mul(151).wrapping_add(length)).collect();
            assert_eq!(from_hex(&hex(&bytes)), Some(bytes.clone()));
            assert_eq!(from_base64url(&base64url(&bytes)), Some(bytes));
        }
        assert_eq!(from_hex("abc"), None);
        assert_eq!(from_hex("0g"), None);
        assert_eq!(from_base64url("a+b/"), None);
    }
}
