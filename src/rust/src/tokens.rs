//! Tokens of one entry: the formats of the reference engine's `core/tokens`, bound to their keys.
//!
//! Each format has a module that says which texts are values and how their tokens are written. Three families differ
//! in the keyed function: FF1 on a number ([`ranked`]), HMAC on messages ([`email`], [`names`] and half of [`opaque`])
//! and AES-SIV on the text (the other half); [`addresses`] and [`permutations`] have functions of their own. A text that
//! is no value has no token; nothing says which text that was.
#![forbid(unsafe_code)]

mod addresses;
mod characters;
mod domains;
mod email;
mod encoding;
mod integers;
mod layout;
mod macs;
mod namelists;
mod names;
mod opaque;
mod pan;
mod pattern;
mod permutations;
mod phone;
mod ranked;
mod scheme;
mod schemes;
pub(crate) mod secret;
mod spec;
mod structured;
pub mod unicode;
mod uuids;

use crate::error::{Error, Result};
use addresses::{Addresses, V4Ranks};
use characters::Characters;
use email::Email;
use integers::Integers;
use macs::Macs;
use names::Names;
use opaque::{OpaqueDigest, OpaqueSealed};
use pan::Pan;
use pattern::Pattern;
use permutations::Permutation;
use phone::Phone;
use ranked::Ranked;
use secret::Mac;
pub use spec::Spec;
use spec::{Family, Mode};
use structured::{Iban, National};
use unicode::Version;
use uuids::Uuids;

/// Size of the key of FF1 and of HMAC; AES-SIV takes two.
const KEY_BYTES: usize = 32;

/// A token format with its keys.
enum Bound {
    Characters(Ranked<Characters>),
    Integers(Ranked<Integers>),
    Pattern(Ranked<Pattern>),
    Uuids(Ranked<Uuids>),
    Pan(Ranked<Pan>),
    Phone(Ranked<Phone>),
    Macs(Ranked<Macs>),
    V4(Ranked<V4Ranks>),
    Addresses(Addresses),
    Names(Names),
    Permutation(Permutation),
    Iban(Ranked<Iban>),
    National(Ranked<National>),
    Email(Email),
    OpaqueDigest(OpaqueDigest),
    OpaqueSealed(OpaqueSealed),
}

/// Do something with whichever ranked format there is, or something else.
macro_rules! ranked {
    ($bound:expr, $format:ident => $then:expr, $($other:pat => $otherwise:expr),+ $(,)?) => {
        match $bound {
            Bound::Characters($format) => $then,
            Bound::Integers($format) => $then,
            Bound::Pattern($format) => $then,
            Bound::Uuids($format) => $then,
            Bound::Pan($format) => $then,
            Bound::Phone($format) => $then,
            Bound::Macs($format) => $then,
            Bound::V4($format) => $then,
            Bound::Iban($format) => $then,
            Bound::National($format) => $then,
            $($other => $otherwise),+
        }
    };
}

/// Makes, and where the format allows reverses, the tokens of one entry in one key domain and epoch.
pub struct Tokenizer {
    bound: Bound,
    null_values: Vec<String>,
}

impl Tokenizer {
    /// Bind an entry of the plan to its keys. `version` says which characters of Unicode exist for the gateway.
    ///
    /// # Errors
    /// [`Error::Specification`] where parameters or keys do not fit together, or values would be hidden among fewer
    /// than 1,000,000.
    pub fn from_plan(spec: &Spec, key: &[u8], tweak_key: &[u8], version: Version) -> Result<Self> {
        let key_bytes = match spec {
            Spec::Opaque { reversible: true, .. } => 2 * KEY_BYTES,
            Spec::Ip { mode: Mode::Deterministic, .. } => KEY_BYTES / 2,
            _ => KEY_BYTES,
        };
        if key.len() != key_bytes || tweak_key.len() != KEY_BYTES {
            return Err(Error::Specification);
        }
        let mac = || Mac::new(key);
        let bound = match spec {
            Spec::Digits { length, .. } => {
                Bound::Characters(Ranked::new(Characters::digits(*length)?, key, tweak_key)?)
            }
            Spec::Alphanumeric { length, case, .. } => {
                Bound::Characters(Ranked::new(Characters::alphanumeric(*length, *case)?, key, tweak_key)?)
            }
            Spec::Hex { length, case, .. } => {
                Bound::Characters(Ranked::new(Characters::hex(*length, *case)?, key, tweak_key)?)
            }
            Spec::Integer { min, max, .. } => Bound::Integers(Ranked::new(Integers::new(*min, *max)?, key, tweak_key)?),
            Spec::Pattern { pattern, .. } => Bound::Pattern(Ranked::new(Pattern::new(pattern)?, key, tweak_key)?),
            Spec::Uuid { version, keeps_case, .. } => {
                Bound::Uuids(Ranked::new(Uuids::new(*version, *keeps_case), key, tweak_key)?)
            }
            Spec::Pan { keep_first, keep_last, luhn, .. } => {
                Bound::Pan(Ranked::new(Pan::card(*keep_first, *keep_last, *luhn)?, key, tweak_key)?)
            }
            Spec::Imei { keep_tac, luhn, .. } => Bound::Pan(Ranked::new(Pan::imei(*keep_tac, *luhn)?, key, tweak_key)?),
            Spec::Mac { keep_oui, set_local, .. } => {
                Bound::Macs(Ranked::new(Macs::new(*keep_oui, *set_local), key, tweak_key)?)
            }
            Spec::Ip { family: Family::V4, mode: Mode::Permutation, .. } => {
                Bound::V4(Ranked::new(V4Ranks, key, tweak_key)?)
            }
            Spec::Ip { family, mode, .. } => Bound::Addresses(Addresses::new(*family, *mode, key)?),
            Spec::Name { list, .. } => Bound::Names(Names::new(*list, mac()?, version)),
            Spec::Permutation { values, .. } => Bound::Permutation(Permutation::new(values, &mac()?)?),
            Spec::Phone { keep, .. } => Bound::Phone(Ranked::new(Phone::new(*keep)?, key, tweak_key)?),
            Spec::Iban { keep, countries, .. } => {
                Bound::Iban(Ranked::new(Iban::new(*keep, countries)?, key, tweak_key)?)
            }
            Spec::National { number, .. } => Bound::National(Ranked::new(National::new(number)?, key, tweak_key)?),
            Spec::Email { domain, .. } => Bound::Email(Email::new(domain.clone(), mac()?, version)),
            Spec::Opaque { reversible: false, encoding, bits, .. } => {
                Bound::OpaqueDigest(OpaqueDigest::new(*encoding, *bits, mac()?))
            }
            Spec::Opaque { encoding, .. } => Bound::OpaqueSealed(OpaqueSealed::new(*encoding, key, tweak_key)?),
        };
        Ok(Self { bound, null_values: spec.null_values().to_vec() })
    }

    /// Say whether a text stands for an absent value: the caller passes it unchanged and asks for no token.
    #[must_use]
    pub fn is_null(&self, text: &str) -> bool {
        self.null_values.iter().any(|null| null == text)
    }

    /// Return the tokens of all texts, in order; None stands where a text does not fit the format.
    #[must_use]
    pub fn encrypt_many(&self, texts: &[&str]) -> Vec<Option<String>> {
        ranked!(&self.bound, format => format.encrypt_many(texts),
            Bound::Email(format) => texts.iter().map(|text| format.token(text)).collect(),
            Bound::OpaqueDigest(format) => texts.iter().map(|text| format.token(text)).collect(),
            Bound::OpaqueSealed(format) => format.tokens(texts),
            Bound::Addresses(format) => texts.iter().map(|text| format.token(text)).collect(),
            Bound::Names(format) => texts.iter().map(|text| format.token(text)).collect(),
            Bound::Permutation(format) => texts.iter().map(|text| format.token(text)).collect(),
        )
    }

    /// Return the value of a token, or None if this cannot be a token of the entry or tokens cannot be reversed.
    #[must_use]
    pub fn decrypt(&self, token: &str) -> Option<String> {
        ranked!(&self.bound, format => format.decrypt(token),
            Bound::OpaqueSealed(format) => format.value(token),
            Bound::Addresses(format) => format.value(token),
            Bound::Permutation(format) => format.value(token),
            Bound::Email(_) | Bound::Names(_) | Bound::OpaqueDigest(_) => None,
        )
    }

    /// Return the text that stands for a whole number, or None if the number does not fit the format.
    ///
    /// The number is in decimal, so that one of any size loses nothing.
    #[must_use]
    pub fn text_of_integer(&self, number: &str) -> Option<String> {
        match &self.bound {
            Bound::Characters(format) => format.format().text_of_integer(number),
            Bound::Integers(format) => format.format().text_of_integer(number),
            _ => None,
        }
    }

    /// Return the whole number, in decimal, that a token of a number stands for.
    #[must_use]
    pub fn integer_of<'a>(&self, token: &'a str) -> &'a str {
        match &self.bound {
            Bound::Characters(_) => integers::without_zeros(token),
            _ => token,
        }
    }

    /// Return the text that stands for raw bytes, or None if they do not fit the format.
    #[must_use]
    pub fn text_of_bytes(&self, bytes: &[u8]) -> Option<String> {
        match &self.bound {
            Bound::Characters(format) => format.format().text_of_bytes(bytes),
            Bound::Uuids(_) => Uuids::text_of_bytes(bytes),
            _ => None,
        }
    }

    /// Return the raw bytes that a token of bytes stands for.
    #[must_use]
    pub fn bytes_of(&self, token: &str) -> Option<Vec<u8>> {
        match &self.bound {
            Bound::Characters(_) => encoding::from_hex(token),
            Bound::Uuids(_) => encoding::from_hex(&token.replace('-', "")),
            _ => None,
        }
    }
}
