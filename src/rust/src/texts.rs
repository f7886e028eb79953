//! FF1 on texts of one alphabet, many at once.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Mutex;

use crate::alphabets::Alphabet;
use crate::bylength::ByLength;
use crate::error::{Error, Result};
use crate::ff1::{BATCH, Cipher, Direction, Halves, Shape, Value};

/// Texts that lie one after the other in one string.
pub struct Texts {
    joined: String,
    places: Vec<Range<usize>>,
}

impl Texts {
    /// Return the texts in order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.places.iter().map(|place| self.joined.get(place.clone()).unwrap_or_default())
    }
}

/// FF1 under one key on texts of one alphabet.
pub struct TextCipher {
    cipher: Cipher,
    alphabet: Alphabet,
    /// The shape of the last single text; most have one length.
    recent: Mutex<Option<Shape>>,
}

impl TextCipher {
    /// Bind a key and an alphabet; domains below `floor` values will be refused.
    ///
    /// # Errors
    /// [`Error::KeySize`].
    pub fn new(key: &[u8], alphabet: Alphabet, floor: u64) -> Result<Self> {
        Ok(Self { cipher: Cipher::new(key, alphabet.radix(), floor)?, alphabet, recent: Mutex::new(None) })
    }

    /// The radix.
    #[must_use]
    pub fn radix(&self) -> u32 {
        self.cipher.radix()
    }

    /// Refuse texts that are not written in the alphabet.
    ///
    /// # Errors
    /// [`Error::Foreign`] with the index of the first.
    pub fn require_covered(&self, texts: &[&str]) -> Result<()> {
        match texts.iter().position(|text| self.alphabet.covered_length(text).is_none()) {
            Some(index) => Err(Error::Foreign { index }),
            None => Ok(()),
        }
    }

    /// Encrypt or decrypt one text.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::Domain`], [`Error::Length`], [`Error::TweakLength`].
    pub fn permute(&self, text: &str, tweak: &[u8], direction: Direction) -> Result<String> {
        let length = self.alphabet.covered_length(text).ok_or(Error::Foreign { index: 0 })?;
        // Where another thread has the shape at this moment, it is computed again, which takes less than waiting.
        let mut recent = self.recent.try_lock().ok();
        let kept = recent.as_deref_mut().and_then(Option::take).filter(|shape| shape.fits(length, tweak.len()));
        let shape = kept.map_or_else(|| self.cipher.shape(length, tweak.len()), Ok)?;
        let base = self.cipher.base(&shape, tweak)?;
        let mut value = [Value { base, halves: self.alphabet.halves(text, self.cipher.arithmetic(), &shape) }];
        self.cipher.permute(&shape, &mut value, direction);
        let mut bytes = Vec::with_capacity(text.len());
        self.alphabet.write(&value[0].halves, self.cipher.arithmetic(), &shape, &mut bytes);
        if let Some(place) = recent.as_deref_mut() {
            *place = Some(shape);
        }
        Ok(String::from_utf8(bytes).unwrap_or_default())
    }

    /// Encrypt or decrypt texts, whose lengths may differ.
    ///
    /// # Errors
    /// As for [`TextCipher::permute`], if one text is refused.
    pub fn permute_many(&self, texts: &[&str], tweak: &[u8], direction: Direction) -> Result<Texts> {
        let mut groups = ByLength::default();
        for (index, text) in texts.iter().enumerate() {
            groups.add(index, self.alphabet.covered_length(text).ok_or(Error::Foreign { index })?);
        }
        let mut joined = Vec::with_capacity(texts.iter().map(|text| text.len()).sum());
        let mut places = vec![0..0; texts.len()];
        for (length, indexes) in groups.iter() {
            let shape = self.cipher.shape(length, tweak.len())?;
            let base = self.cipher.base(&shape, tweak)?;
            self.permute_equal(&shape, base, texts, indexes, direction, |index, halves| {
                let start = joined.len();
                self.alphabet.write(halves, self.cipher.arithmetic(), &shape, &mut joined);
                places[index] = start..joined.len();
            });
        }
        Ok(Texts { joined: String::from_utf8(joined).unwrap_or_default(), places })
    }

    /// Permute the texts with these indexes, which have one length, and hand over each result.
    fn permute_equal(
        &self,
        shape: &Shape,
        base: u128,
        texts: &[&str],
        indexes: &[usize],
        direction: Direction,
        mut done: impl FnMut(usize, &Halves),
    ) {
        let mut values = vec![Value { base, halves: Halves::Small(0, 0) }; indexes.len().min(BATCH)];
        for part in indexes.chunks(BATCH) {
            let lanes = &mut values[..part.len()];
            for (lane, index) in lanes.iter_mut().zip(part) {
                lane.halves = self.alphabet.halves(texts[*index], self.cipher.arithmetic(), shape);
            }
            self.cipher.permute(shape, lanes, direction);
            for (lane, index) in lanes.iter().zip(part) {
                done(*index, &lane.halves);
            }
        }
    }
}
