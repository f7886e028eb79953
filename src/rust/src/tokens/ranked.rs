//! Formats whose values are numbers: FF1 on the number, by cycle walking where the format ends before radix^length.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ahash::RandomState;

use crate::alphabets::Alphabet;
use crate::bylength::ByLength;
use crate::error::Result;
use crate::ff1::{BATCH, Cipher, Direction, Halves, MINIMUM_DOMAIN, Shape, Value};
use crate::rank::Rank;

use super::secret::{Mac, TWEAK_BYTES};

/// How many tweaks are remembered; a full cache is emptied.
const CACHED_TWEAKS: usize = 16_384;

/// The part of a value that is enciphered.
#[derive(Clone)]
pub(super) enum Number<'t> {
    /// Characters of the format's alphabet.
    Text(Cow<'t, str>),
    /// A number.
    Rank(Rank),
}

/// A value that fits its format. Holds plain data, so it has no `Debug`.
pub(super) struct Prepared<'t> {
    /// What is enciphered.
    pub(super) number: Number<'t>,
    /// Its numerals in the radix of the format.
    pub(super) length: usize,
    /// Characters of the value that stay in the token; they go into the tweak.
    pub(super) kept: Cow<'t, str>,
    /// The text that was read, for formats that write their token into it.
    pub(super) frame: &'t str,
}

/// How values of a format are read and its tokens are written.
pub(super) trait Format {
    /// Radix of FF1, one for all values of the format.
    fn radix(&self) -> u32;

    /// What [`Number::Text`] is written in.
    fn alphabet(&self) -> Option<&Alphabet> {
        None
    }

    /// Where valid ranks end before radix^length does.
    fn walk_below(&self) -> Option<&Rank> {
        None
    }

    /// Whether [`Format::is_hole`] says which numbers are valid, and not `walk_below`.
    fn has_holes(&self) -> bool {
        false
    }

    /// Say whether a number stands for nothing and is enciphered again; that of a value never does.
    fn is_hole(&self, _: &Prepared<'_>, _: &Rank) -> bool {
        false
    }

    /// Read a value; None if the text is none.
    fn prepare<'t>(&self, text: &'t str) -> Option<Prepared<'t>>;

    /// Read a token, to reverse it. Where tokens are themselves valid values this is `prepare`.
    fn prepare_token<'t>(&self, token: &'t str) -> Option<Prepared<'t>> {
        self.prepare(token)
    }

    /// Write the token for the enciphered number.
    fn render(&self, prepared: &Prepared<'_>, number: Number<'static>) -> String;

    /// Write the value for the deciphered number of what `prepare_token` read.
    fn restore(&self, prepared: &Prepared<'_>, number: Number<'static>) -> String {
        self.render(prepared, number)
    }
}

/// What was computed for earlier values.
#[derive(Default)]
struct Memory {
    shapes: HashMap<usize, Arc<Shape>>,
    /// Texts choose what is kept, so that the hash must not let them choose where that lies.
    tweaks: HashMap<String, [u8; TWEAK_BYTES], RandomState>,
}

/// A format with its keys.
pub(super) struct Ranked<F> {
    format: F,
    cipher: Cipher,
    tweaks: Mac,
    memory: Mutex<Memory>,
}

impl<F: Format> Ranked<F> {
    /// Bind a format to its keys.
    pub(super) fn new(format: F, key: &[u8], tweak_key: &[u8]) -> Result<Self> {
        let cipher = Cipher::new(key, format.radix(), MINIMUM_DOMAIN)?;
        Ok(Self { format, cipher, tweaks: Mac::new(tweak_key)?, memory: Mutex::default() })
    }

    /// The format without its keys.
    pub(super) fn format(&self) -> &F {
        &self.format
    }

    /// Return the tokens of all texts, in order; None stands where a text is no value.
    pub(super) fn encrypt_many(&self, texts: &[&str]) -> Vec<Option<String>> {
        let prepared: Vec<_> = texts.iter().map(|text| self.format.prepare(text)).collect();
        let mut tokens = vec![None; texts.len()];
        self.permute(&prepared, Direction::Encrypt, |index, value, number| {
            tokens[index] = Some(self.format.render(value, number));
        });
        tokens
    }

    /// Return the value of a token.
    pub(super) fn decrypt(&self, token: &str) -> Option<String> {
        let prepared = [self.format.prepare_token(token)];
        let mut restored = None;
        self.permute(&prepared, Direction::Decrypt, |_, value, number| {
            restored = Some(self.format.restore(value, number));
        });
        restored
    }

    /// Permute the numbers of all values and hand over each result.
    fn permute<'t>(
        &self,
        prepared: &[Option<Prepared<'t>>],
        direction: Direction,
        mut done: impl FnMut(usize, &Prepared<'t>, Number<'static>),
    ) {
        // Where another thread is at work on this entry, what it remembers is computed again instead of waited for.
        let mut own = Memory::default();
        let mut shared = self.memory.try_lock().ok();
        let memory = shared.as_deref_mut().unwrap_or(&mut own);

        let mut groups = ByLength::default();
        for (index, value) in prepared.iter().enumerate() {
            if let Some(value) = value {
                groups.add(index, value.length);
            }
        }
        for (length, indexes) in groups.iter() {
            let Ok(shape) = self.shape(length, memory) else { continue };
            for part in indexes.chunks(BATCH) {
                let values = part.iter().filter_map(|index| prepared[*index].as_ref());
                let mut lanes: Vec<Value> = values.filter_map(|value| self.value(value, &shape, memory)).collect();
                self.cipher.permute(&shape, &mut lanes, direction);
                if self.format.has_holes() {
                    self.walk_holes(&shape, &mut lanes, direction, part, prepared);
                } else {
                    self.walk(&shape, &mut lanes, direction);
                }
                for (index, lane) in part.iter().zip(&lanes) {
                    if let Some(value) = &prepared[*index] {
                        done(*index, value, self.number(&value.number, &lane.halves, &shape));
                    }
                }
            }
        }
    }

    /// Encipher what is out of range again. It ends: the orbit of a valid rank leads back to it if to no other before.
    fn walk(&self, shape: &Shape, lanes: &mut [Value], direction: Direction) {
        let Some(limit) = self.format.walk_below() else { return };
        self.again(shape, lanes, direction, |_, lane| shape.rank(&lane.halves) >= *limit);
    }

    /// As `walk`, where it depends on the value which numbers are valid.
    fn walk_holes(
        &self,
        shape: &Shape,
        lanes: &mut [Value],
        direction: Direction,
        part: &[usize],
        prepared: &[Option<Prepared<'_>>],
    ) {
        self.again(shape, lanes, direction, |at, lane| {
            let value = part.get(at).and_then(|index| prepared[*index].as_ref());
            value.is_some_and(|value| self.format.is_hole(value, &shape.rank(&lane.halves)))
        });
    }

    fn again(
        &self,
        shape: &Shape,
        lanes: &mut [Value],
        direction: Direction,
        is_outside: impl Fn(usize, &Value) -> bool,
    ) {
        let mut outside: Vec<usize> = (0..lanes.len()).filter(|index| is_outside(*index, &lanes[*index])).collect();
        while !outside.is_empty() {
            let mut again: Vec<Value> = outside.iter().map(|index| lanes[*index].clone()).collect();
            self.cipher.permute(shape, &mut again, direction);
            for (index, value) in outside.iter().zip(again) {
                lanes[*index] = value;
            }
            outside.retain(|index| is_outside(*index, &lanes[*index]));
        }
    }

    fn shape(&self, length: usize, memory: &mut Memory) -> Result<Arc<Shape>> {
        if let Some(shape) = memory.shapes.get(&length) {
            return Ok(Arc::clone(shape));
        }
        let shape = Arc::new(self.cipher.shape(length, TWEAK_BYTES)?);
        memory.shapes.insert(length, Arc::clone(&shape));
        Ok(shape)
    }

    fn tweak(&self, kept: &str, memory: &mut Memory) -> [u8; TWEAK_BYTES] {
        if let Some(tweak) = memory.tweaks.get(kept) {
            return *tweak;
        }
        if memory.tweaks.len() >= CACHED_TWEAKS {
            memory.tweaks.clear();
        }
        let tweak = self.tweaks.tweak(kept);
        memory.tweaks.insert(kept.to_owned(), tweak);
        tweak
    }

    fn value(&self, prepared: &Prepared<'_>, shape: &Shape, memory: &mut Memory) -> Option<Value> {
        let tweak = self.tweak(&prepared.kept, memory);
        let halves = match &prepared.number {
            Number::Text(text) => self.format.alphabet()?.halves(text, self.cipher.arithmetic(), shape),
            Number::Rank(rank) => shape.halves(rank),
        };
        Some(Value { base: self.cipher.base(shape, &tweak).ok()?, halves })
    }

    /// Return halves in the form that the value had.
    fn number(&self, form: &Number<'_>, halves: &Halves, shape: &Shape) -> Number<'static> {
        match (form, self.format.alphabet()) {
            (Number::Text(_), Some(alphabet)) => {
                let mut bytes = Vec::with_capacity(shape.u + shape.v);
                alphabet.write(halves, self.cipher.arithmetic(), shape, &mut bytes);
                Number::Text(String::from_utf8(bytes).unwrap_or_default().into())
            }
            _ => Number::Rank(shape.rank(halves)),
        }
    }
}
