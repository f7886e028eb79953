//! What a JSON document may cost, told from its brackets and commas before anything is made of it.

use crate::codec::Reason;
use crate::schema::Limits;

/// Levels that no limit can raise, because scanning and reading recurse through them.
const MAX_DEPTH: usize = 128;

/// Refuse what is too large, too deep or has too many elements, before anything is made of it.
///
/// An element is an array element or an object's entry; an empty array or object counts as one more.
pub(super) fn check(data: &[u8], limits: &Limits) -> Result<(), Reason> {
    if data.len() > limits.bytes {
        return Err(Reason::TooLarge);
    }
    let depth = limits.depth.min(MAX_DEPTH);
    let opened = count(data, |byte| byte | 0x20 == b'{');
    // Brackets and commas inside strings only make these sums larger, so small sums need no closer look. The byte of
    // `[` is that of `{` without one bit, and no other byte is.
    if opened <= depth && within(opened + count(data, |byte| byte == b','), limits.elements) {
        return Ok(());
    }
    let bare = Brackets::outside_of_strings(data);
    if !within(bare.opened + bare.commas, limits.elements) {
        return Err(Reason::TooManyElements);
    }
    if bare.closed > bare.opened {
        return Err(Reason::Malformed);
    }
    if bare.deepest > depth {
        return Err(Reason::TooDeep);
    }
    Ok(())
}

/// Return how many brackets are inside of each other.
pub(crate) fn deepest(data: &[u8]) -> usize {
    Brackets::outside_of_strings(data).deepest
}

fn count(data: &[u8], sought: impl Fn(u8) -> bool) -> usize {
    // Sums of up to 255 fit into a byte, so that many bytes are compared and added at once.
    let of_block =
        |block: &[u8]| usize::from(block.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(u8::from(sought(byte)))));
    data.chunks(usize::from(u8::MAX)).map(of_block).sum()
}

fn within(elements: usize, limit: u64) -> bool {
    u64::try_from(elements).is_ok_and(|elements| elements <= limit)
}

/// What stands outside of strings, in a document that need not be JSON.
#[derive(Default)]
struct Brackets {
    opened: usize,
    closed: usize,
    commas: usize,
    deepest: usize,
}

impl Brackets {
    fn outside_of_strings(data: &[u8]) -> Self {
        let mut found = Self::default();
        let mut bytes = data.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'[' | b'{' => found.opened += 1,
                b']' | b'}' => found.closed += 1,
                b',' => found.commas += 1,
                b'"' => skip_string(&mut bytes),
                _ => {}
            }
            found.deepest = found.deepest.max(found.opened.saturating_sub(found.closed));
        }
        found
    }
}

/// Go behind the end of a string, which may be that of the document.
fn skip_string<'a>(bytes: &mut impl Iterator<Item = &'a u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
}
