//! Tokens of MAC addresses (IEEE 802, EUI-48); separators and case stay.
#![forbid(unsafe_code)]

use crate::rank::Rank;

use super::encoding;
use super::ranked::{Format, Number, Prepared};
use super::structured::written;

/// The bit of addresses that no manufacturer gave (IEEE 802, section 8.2.2).
const LOCAL: u128 = 1 << 41;
const BELOW: u32 = 40;
const OWN: u32 = 24;
const FREE_BITS: usize = 46;

/// An address of six bytes. The bit for groups is kept; the bit for local administration is set in every token, or kept.
pub(super) struct Macs {
    keep_oui: bool,
    set_local: bool,
}

impl Macs {
    /// Keep the manufacturer or not, and set the bit for local administration or keep it.
    pub(super) fn new(keep_oui: bool, set_local: bool) -> Self {
        Self { keep_oui, set_local }
    }

    fn read<'t>(&self, text: &'t str, is_token: bool) -> Option<Prepared<'t>> {
        let mut bits = bits_of(text)?;
        if self.set_local {
            ((bits & LOCAL != 0) == is_token).then_some(())?;
            bits &= !LOCAL;
        }
        let (rank, length, kept) = if self.keep_oui {
            (bits & ((1 << OWN) - 1), OWN as usize, format!("{:06x}", bits >> OWN))
        } else {
            let rank = bits >> (BELOW + 2) << BELOW | bits & ((1 << BELOW) - 1);
            (rank, FREE_BITS, (bits >> BELOW & 0b11).to_string())
        };
        Some(Prepared { number: Number::Rank(Rank::Small(rank)), length, kept: kept.into(), frame: text })
    }

    fn write(&self, prepared: &Prepared<'_>, number: &Number<'static>, mark: u128) -> String {
        let Number::Rank(Rank::Small(rank)) = number else { return String::new() };
        let kept = u128::from_str_radix(&prepared.kept, 16).unwrap_or_default();
        let bits = if self.keep_oui {
            kept << OWN | rank
        } else {
            rank >> BELOW << (BELOW + 2) | kept << BELOW | rank & ((1 << BELOW) - 1)
        };
        let digits = encoding::cased(format!("{:012x}", bits | mark), prepared.frame);
        written(prepared.frame, digits.into_bytes())
    }
}

/// Return the 48 bits of an address in one of its four forms.
fn bits_of(text: &str) -> Option<u128> {
    // Places of the separators, and what they may be.
    let (places, separators): (&[usize], &[u8]) = match text.len() {
        12 => (&[], b""),
        14 => (&[4, 9], b"."),
        17 => (&[2, 5, 8, 11, 14], b":-"),
        _ => return None,
    };
    let separator = places.first().and_then(|place| text.as_bytes().get(*place));
    separator.is_none_or(|separator| separators.contains(separator)).then_some(())?;
    let mut bits = 0_u128;
    for (place, byte) in text.bytes().enumerate() {
        if places.contains(&place) {
            (Some(&byte) == separator).then_some(())?;
        } else {
            bits = bits << 4 | u128::from(char::from(byte).to_digit(16)?);
        }
    }
    Some(bits)
}

impl Format for Macs {
    fn radix(&self) -> u32 {
        2
    }

    fn prepare<'t>(&self, text: &'t str) -> Option<Prepared<'t>> {
        self.read(text, false)
    }

    fn prepare_token<'t>(&self, token: &'t str) -> Option<Prepared<'t>> {
        self.read(token, true)
    }

    fn render(&self, prepared: &Prepared<'_>, number: Number<'static>) -> String {
        self.write(prepared, &number, if self.set_local { LOCAL } else { 0 })
    }

    fn restore(&self, prepared: &Prepared<'_>, number: Number<'static>) -> String {
        self.write(prepared, &number, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_forms_are_one_address() {
        for text in ["00:1B:44:11:3a:b7", "00-1b-44-11-3a-b7", "001b.4411.3AB7", "001b44113ab7"] {
            assert_eq!(bits_of(text), Some(0x001b_4411_3ab7), "{text}");
        }
        for text in [
            "00:1b-44:11:3a:b7",
            "001b:4411:3ab7",
            "00.1b.44.11.3a.b7",
            "001b44113ab",
            "00:1b:44:11:3a:bg",
            "é01b44113ab",
        ] {
            assert!(bits_of(text).is_none(), "{text}");
        }
    }
}
