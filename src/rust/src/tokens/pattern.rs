//! Tokens of a layout: what stands in groups is one mixed-radix number, enciphered by cycle walking.
#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use crate::ff1::MINIMUM_DOMAIN;
use crate::rank::{Rank, superset};

use super::layout::{self, Position};
use super::ranked::{Format, Number, Prepared};

/// Stands in the table of ASCII characters for one that a position does not have.
const FOREIGN: u8 = u8::MAX;

/// A position with the numeral of each ASCII character.
struct Place {
    position: Position,
    numerals: [u8; 128],
    base: u8,
}

/// A text of fixed layout; all groups together are one value, the rest is kept and goes into the tweak.
pub(super) struct Pattern {
    places: Vec<Place>,
    size: Rank,
    radix: u32,
    length: usize,
}

impl Pattern {
    /// Read the pattern.
    pub(super) fn new(pattern: &str) -> Result<Self> {
        let positions = layout::parse(pattern).ok_or(Error::Specification)?;
        let places: Vec<Place> = positions.into_iter().map(Place::new).collect();
        let bases = places.iter().filter(|place| place.position.tokenized).map(|place| place.base);
        let size = bases.fold(Rank::Small(1), Rank::times);
        if size < Rank::Small(MINIMUM_DOMAIN.into()) {
            return Err(Error::Specification);
        }
        let (radix, length) = superset(&size.big());
        Ok(Self { places, size, radix, length })
    }
}

impl Place {
    fn new(position: Position) -> Self {
        let mut numerals = [FOREIGN; 128];
        let mut base = 0;
        for byte in &position.characters {
            numerals[usize::from(byte & 0x7f)] = base;
            base += 1;
        }
        Self { position, numerals, base }
    }

    fn numeral(&self, byte: u8) -> Option<u8> {
        self.numerals.get(usize::from(byte)).copied().filter(|numeral| *numeral != FOREIGN)
    }
}

impl Format for Pattern {
    fn radix(&self) -> u32 {
        self.radix
    }

    fn walk_below(&self) -> Option<&Rank> {
        Some(&self.size)
    }

    fn prepare<'t>(&self, text: &'t str) -> Option<Prepared<'t>> {
        // A text with characters outside ASCII has more bytes than places, or a byte that no place has.
        if text.len() != self.places.len() {
            return None;
        }
        let mut rank = Rank::Small(0);
        let mut kept = String::new();
        for (byte, place) in text.bytes().zip(&self.places) {
            let numeral = place.numeral(byte)?;
            if place.position.tokenized {
                rank = rank.pushed(place.base, numeral);
            } else {
                kept.push(byte.into());
            }
        }
        Some(Prepared { number: Number::Rank(rank), length: self.length, kept: kept.into(), frame: text })
    }

    fn render(&self, prepared: &Prepared<'_>, number: Number<'static>) -> String {
        let Number::Rank(mut rank) = number else { return String::new() };
        let mut token = prepared.frame.as_bytes().to_vec();
        for (byte, place) in token.iter_mut().zip(&self.places).rev() {
            if place.position.tokenized {
                let numeral;
                (rank, numeral) = rank.popped(place.base);
                *byte = place.position.characters.get(usize::from(numeral)).copied().unwrap_or_default();
            }
        }
        String::from_utf8(token).unwrap_or_default()
    }
}
