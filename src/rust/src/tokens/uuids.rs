//! Tokens of UUIDs (RFC 9562): 122 bits are enciphered, version and variant are kept or chosen.
#![forbid(unsafe_code)]

use std::sync::LazyLock;

use crate::rank::Rank;

use super::encoding;
use super::ranked::{Format, Number, Prepared};

const FREE_BITS: usize = 122;
const LENGTH: usize = 36;
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
/// How many digits stand before each hyphen.
const PARTS: [usize; 4] = [8, 4, 4, 4];

/// Versions in hexadecimal with variants, by their six bits: what tokens keep.
static KEPT: LazyLock<[String; 64]> =
    LazyLock::new(|| std::array::from_fn(|bits| format!("{:x}{}", bits >> 2, bits & 3)));

// Most significant bit first: 48 bits, 4 bits of version, 12 bits, 2 bits of variant, 62 bits (RFC 9562, section 4).
const LAST: u128 = (1 << 62) - 1;
const MIDDLE: u128 = (1 << 12) - 1;

/// A UUID in text or as 16 bytes. Either case is read, and makes the same token up to its case.
///
/// With a chosen version the token does not tell which the value had, so it cannot be reversed.
pub(super) struct Uuids {
    version: Option<u128>,
    keeps_case: bool,
}

impl Uuids {
    /// Keep the version or choose one, keep the case or write lower case.
    pub(super) fn new(version: Option<u8>, keeps_case: bool) -> Self {
        Self { version: version.map(u128::from), keeps_case }
    }

    /// Return the text form of 16 bytes in network order.
    pub(super) fn text_of_bytes(bytes: &[u8]) -> Option<String> {
        Some(written(u128::from_be_bytes(bytes.try_into().ok()?)))
    }
}

impl Format for Uuids {
    fn radix(&self) -> u32 {
        2
    }

    #[allow(clippy::cast_possible_truncation, reason = "six bits")]
    fn prepare<'t>(&self, text: &'t str) -> Option<Prepared<'t>> {
        if text.len() != LENGTH {
            return None;
        }
        let mut bits = 0_u128;
        for (place, byte) in text.bytes().enumerate() {
            if HYPHENS.contains(&place) {
                (byte == b'-').then_some(())?;
            } else {
                bits = bits << 4 | u128::from(char::from(byte).to_digit(16)?);
            }
        }
        let (version, variant) = (bits >> 76 & 0xf, bits >> 62 & 0b11);
        let rank = ((bits >> 80) << 12 | bits >> 64 & MIDDLE) << 62 | bits & LAST;
        Some(Prepared {
            number: Number::Rank(Rank::Small(rank)),
            length: FREE_BITS,
            kept: KEPT[(version << 2 | variant) as usize & 63].as_str().into(),
            frame: text,
        })
    }

    fn prepare_token<'t>(&self, token: &'t str) -> Option<Prepared<'t>> {
        if self.version.is_some() { None } else { self.prepare(token) }
    }

    fn render(&self, prepared: &Prepared<'_>, number: Number<'static>) -> String {
        let Number::Rank(Rank::Small(rank)) = number else { return String::new() };
        let mut kept = prepared.kept.chars().map(|digit| u128::from(digit.to_digit(16).unwrap_or_default()));
        let (version, variant) = (kept.next().unwrap_or_default(), kept.next().unwrap_or_default());
        let (version, variant) = self.version.map_or((version, variant), |version| (version, 0b10));
        let middle = rank >> 62 & MIDDLE;
        let token = written((rank >> 74) << 80 | version << 76 | middle << 64 | variant << 62 | rank & LAST);
        if self.keeps_case { encoding::cased(token, prepared.frame) } else { token }
    }
}

fn written(bits: u128) -> String {
    let digits = encoding::hex(&bits.to_be_bytes());
    let mut text = String::with_capacity(LENGTH);
    let mut rest = &*digits;
    for length in PARTS {
        let (part, behind) = rest.split_at(length.min(rest.len()));
        text.push_str(part);
        text.push('-');
        rest = behind;
    }
    text.push_str(rest);
    text
}
