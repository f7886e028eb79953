//! JSON strings: which characters stand in them as they are, and how the others are written.

/// Return how many bytes from the first on are neither a quote, a backslash nor a control character.
///
/// Eight bytes are looked at together. In each of the three differences a byte that is sought sets its highest bit, and
/// so may bytes behind it, by a borrow, but none before it: the first one counts.
pub(super) fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHEST: u64 = ONES << 7;
    let (words, rest) = bytes.as_chunks();
    for (place, &word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(word);
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        let found = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        if found & HIGHEST != 0 {
            return place * 8 + (found & HIGHEST).trailing_zeros() as usize / 8;
        }
    }
    let whole = bytes.len() - rest.len();
    whole + rest.iter().position(|&byte| !is_plain(byte)).unwrap_or(rest.len())
}

fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
}

/// Append a text as a JSON string, with the escapes that `json.encoder.encode_basestring` makes.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, escaped) = rest.split_at(plain_length(rest));
        out.extend_from_slice(plain);
        let Some((&byte, behind)) = escaped.split_first() else { break };
        write_escape(byte, out);
        rest = behind;
    }
    out.push(b'"');
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        b'"' | b'\\' => byte,
        _ => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.extend([byte >> 4, byte & 0xf].map(|digit| DIGITS[usize::from(digit)]));
            return;
        }
    };
    out.extend([b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_is_not_plain_is_found_wherever_it_stands() {
        for sought in 0..=u8::MAX {
            for filler in [b'!', b'#', b'[', b']', 0x20, 0x7f, 0x80, 0xff] {
                for place in 0..20 {
                    let mut bytes = [filler; 24];
                    bytes[place] = sought;
                    bytes[23] = 0;
                    let expected = if is_plain(sought) { 23 } else { place };
                    assert_eq!(plain_length(&bytes), expected, "{sought} after {filler}");
                    assert_eq!(plain_length(&bytes[..=place]), if is_plain(sought) { place + 1 } else { place });
                }
            }
        }
        assert_eq!(plain_length(b""), 0);
    }

    #[test]
    fn strings_are_escaped_as_the_standard_library_of_python_does() {
        let mut out = Vec::new();
        write_string("é\"\\/\n\r\t\u{8}\u{c}\u{0}\u{1f}\u{7f}\u{2028}😀", &mut out);
        assert_eq!(out, "\"é\\\"\\\\/\\n\\r\\t\\b\\f\\u0000\\u001f\u{7f}\u{2028}😀\"".as_bytes());
    }
}
