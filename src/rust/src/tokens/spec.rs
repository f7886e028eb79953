//! What a plan says of a token entry: the plain form of the reference engine's `core/tokens/specs`.
#![forbid(unsafe_code)]

use serde::Deserialize;
use serde_json::value::RawValue;

/// Longest value of the formats with a length.
const MAXIMUM_LENGTH: usize = 1024;

/// Shortest and longest value.
#[derive(Clone, Copy)]
pub struct Length {
    /// Fewest characters.
    pub(super) shortest: usize,
    /// Most characters.
    pub(super) longest: usize,
}

/// Which letters a format has.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Case {
    /// Both cases.
    Mixed,
    /// Only lower case.
    Lower,
    /// Only upper case.
    Upper,
}

/// How an opaque token is written.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// RFC 4648, section 5, without padding.
    Base64url,
    /// Hexadecimal digits in lower case.
    Hex,
}

/// What becomes of the domain of an e-mail address.
#[derive(Clone)]
pub enum MailDomain {
    /// A token below .example.
    Tokenize,
    /// It stays.
    Keep,
    /// Every token has this one.
    Replace(String),
}

/// What of a bank account number is kept.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// The country.
    Country,
    /// Country and bank.
    Bank,
    /// Country, bank and branch.
    Branch,
}

/// The parameters of one token entry.
#[derive(Clone, Deserialize)]
#[serde(try_from = "Fields")]
#[allow(missing_docs, reason = "the reference engine's specs.py says what each parameter means")]
pub enum Spec {
    Digits { length: Length, null_values: Vec<String> },
    Integer { min: i128, max: i128, null_values: Vec<String> },
    Alphanumeric { length: Length, case: Case, null_values: Vec<String> },
    Hex { length: Length, case: Case, null_values: Vec<String> },
    Pattern { pattern: String, null_values: Vec<String> },
    Uuid { version: Option<u8>, keeps_case: bool, null_values: Vec<String> },
    Pan { keep_first: usize, keep_last: usize, luhn: Luhn, null_values: Vec<String> },
    Phone { keep: Option<usize>, null_values: Vec<String> },
    Email { domain: MailDomain, null_values: Vec<String> },
    Imei { keep_tac: bool, luhn: Luhn, null_values: Vec<String> },
    Mac { keep_oui: bool, set_local: bool, null_values: Vec<String> },
    Ip { family: Family, mode: Mode, null_values: Vec<String> },
    Name { list: List, null_values: Vec<String> },
    Permutation { values: Vec<String>, null_values: Vec<String> },
    Iban { keep: Keep, countries: Vec<String>, null_values: Vec<String> },
    National { number: String, null_values: Vec<String> },
    Opaque { reversible: bool, encoding: Encoding, bits: usize, null_values: Vec<String> },
}

/// Which addresses are values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Of 4 bytes.
    V4,
    /// Of 16 bytes.
    V6,
}

/// What permutes addresses.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// FF1, of addresses of 4 bytes only.
    Permutation,
    /// ipcrypt-deterministic.
    Deterministic,
    /// ipcrypt-pfx.
    Prefix,
    /// Crypto-PAn.
    Cryptopan,
}

/// What tokens of names are picked from.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum List {
    /// Given names.
    Given,
    /// Family names.
    Family,
    /// One of each.
    Full,
    /// House numbers and streets.
    Street,
}

/// Whether the tokens of card numbers pass the check of their last digit.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Luhn {
    /// No token does.
    Invalid,
    /// Every token does.
    Valid,
}

impl Spec {
    /// Texts that stand for an absent value.
    #[must_use]
    pub fn null_values(&self) -> &[String] {
        match self {
            Self::Digits { null_values, .. }
            | Self::Integer { null_values, .. }
            | Self::Alphanumeric { null_values, .. }
            | Self::Hex { null_values, .. }
            | Self::Pattern { null_values, .. }
            | Self::Uuid { null_values, .. }
            | Self::Imei { null_values, .. }
            | Self::Mac { null_values, .. }
            | Self::Ip { null_values, .. }
            | Self::Name { null_values, .. }
            | Self::Permutation { null_values, .. }
            | Self::Pan { null_values, .. }
            | Self::Phone { null_values, .. }
            | Self::Email { null_values, .. }
            | Self::Iban { null_values, .. }
            | Self::National { null_values, .. }
            | Self::Opaque { null_values, .. } => null_values,
        }
    }
}

/// All parameters of all formats. A parameter that is unknown here is refused: its default is not known either.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    format: String,
    #[serde(default)]
    null_values: Vec<String>,
    length: Option<Box<RawValue>>,
    // Bounds are read from their digits, since JSON numbers of this size would lose some.
    min: Option<Box<RawValue>>,
    max: Option<Box<RawValue>>,
    case: Option<Box<RawValue>>,
    pattern: Option<String>,
    keep_first: Option<usize>,
    keep_last: Option<usize>,
    luhn: Option<Luhn>,
    keep: Option<Box<RawValue>>,
    domain: Option<String>,
    replacement: Option<String>,
    reversible: Option<bool>,
    encoding: Option<Encoding>,
    bits: Option<usize>,
    #[serde(default)]
    countries: Vec<String>,
    number: Option<String>,
    version: Option<Box<RawValue>>,
    local: Option<String>,
    mode: Option<Mode>,
    list: Option<List>,
    values: Option<Vec<String>>,
}

impl TryFrom<Fields> for Spec {
    type Error = &'static str;

    fn try_from(fields: Fields) -> Result<Self, &'static str> {
        fields.spec().ok_or("a token entry that this engine does not know")
    }
}

impl Fields {
    /// Return the parameters of the format; defaults are those of the reference engine.
    fn spec(self) -> Option<Spec> {
        let length = self.length.as_deref().map(RawValue::get).and_then(read_length);
        let null_values = self.null_values;
        Some(match self.format.as_str() {
            "digits" => Spec::Digits { length: length?, null_values },
            "integer" => Spec::Integer { min: whole(self.min)?, max: whole(self.max)?, null_values },
            "alphanumeric" => {
                Spec::Alphanumeric { length: length?, case: case(self.case.as_deref(), Case::Mixed)?, null_values }
            }
            "hex" => Spec::Hex { length: length?, case: case(self.case.as_deref(), Case::Lower)?, null_values },
            "pattern" => Spec::Pattern { pattern: self.pattern?, null_values },
            "uuid" => Spec::Uuid {
                version: match self.version.as_deref().map(RawValue::get) {
                    None | Some("\"keep\"") => None,
                    Some("4") => Some(4),
                    Some("8") => Some(8),
                    _ => return None,
                },
                keeps_case: word(self.case.as_deref(), ["lower", "keep"])?,
                null_values,
            },
            "pan" => Spec::Pan {
                keep_first: self.keep_first.unwrap_or(0),
                keep_last: self.keep_last.unwrap_or(0),
                luhn: self.luhn.unwrap_or(Luhn::Invalid),
                null_values,
            },
            "phone" => Spec::Phone { keep: read(self.keep.as_deref())?, null_values },
            "imei" => Spec::Imei {
                keep_tac: word(self.keep.as_deref(), ["none", "tac"])?,
                luhn: self.luhn.unwrap_or(Luhn::Invalid),
                null_values,
            },
            "mac" => Spec::Mac {
                keep_oui: word(self.keep.as_deref(), ["none", "oui"])?,
                set_local: match self.local.as_deref() {
                    None | Some("set") => true,
                    Some("keep") => false,
                    _ => return None,
                },
                null_values,
            },
            "ipv4" => Spec::Ip { family: Family::V4, mode: self.mode.unwrap_or(Mode::Permutation), null_values },
            "ipv6" => Spec::Ip {
                family: Family::V6,
                mode: self.mode.or(Some(Mode::Deterministic)).filter(|mode| *mode != Mode::Permutation)?,
                null_values,
            },
            "name" => Spec::Name { list: self.list?, null_values },
            "permutation" => Spec::Permutation { values: self.values?, null_values },
            "iban" => Spec::Iban {
                keep: read::<Option<Keep>>(self.keep.as_deref())?.unwrap_or(Keep::Country),
                countries: self.countries,
                null_values,
            },
            "ssn" => Spec::National { number: "us.ssn".to_owned(), null_values },
            "national" => Spec::National { number: self.number.filter(|number| number != "us.ssn")?, null_values },
            "email" => Spec::Email {
                domain: match (self.domain.as_deref(), self.replacement) {
                    (None | Some("tokenize"), None) => MailDomain::Tokenize,
                    (Some("keep"), None) => MailDomain::Keep,
                    (Some("replace"), Some(domain)) => MailDomain::Replace(domain),
                    _ => return None,
                },
                null_values,
            },
            "opaque" => Spec::Opaque {
                reversible: self.reversible.unwrap_or(false),
                encoding: self.encoding.unwrap_or(Encoding::Base64url),
                bits: self.bits.or(Some(128)).filter(|bits| [128, 160, 192, 224, 256].contains(bits))?,
                null_values,
            },
            _ => return None,
        })
    }
}

/// Read a parameter that is of another type in another format; what is missing is like null.
fn read<'j, T: Deserialize<'j>>(raw: Option<&'j RawValue>) -> Option<T> {
    serde_json::from_str(raw.map_or("null", RawValue::get)).ok()
}

/// Read which letters a format has.
fn case(raw: Option<&RawValue>, default: Case) -> Option<Case> {
    read::<Option<Case>>(raw).map(|case| case.unwrap_or(default))
}

/// Read one of two words, the first of which is the default, and say whether it is the second.
fn word(raw: Option<&RawValue>, words: [&str; 2]) -> Option<bool> {
    let word = read::<Option<String>>(raw)?;
    let at = word.map_or(Some(0), |word| words.iter().position(|known| *known == word));
    at.map(|at| at == 1)
}

fn whole(raw: Option<Box<RawValue>>) -> Option<i128> {
    raw?.get().parse().ok()
}

/// Read a length, a number or a range such as `"6..20"`.
fn read_length(raw: &str) -> Option<Length> {
    let (shortest, longest) = match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(range) => range.split_once("..")?,
        None => (raw, raw),
    };
    let (shortest, longest) = (shortest.parse().ok()?, longest.parse().ok()?);
    (1..=longest).contains(&shortest).then_some(Length { shortest, longest }).filter(|_| longest <= MAXIMUM_LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Option<Spec> {
        serde_json::from_str(json).ok()
    }

    #[test]
    fn bounds_keep_all_their_digits() {
        let spec = parse(r#"{"format":"integer","min":-99999999999999999999999999999999999999,"max":7}"#);
        assert!(matches!(
            spec,
            Some(Spec::Integer { min: -99_999_999_999_999_999_999_999_999_999_999_999_999, max: 7, .. })
        ));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for json in [
            r#"{"format":"rot13"}"#,
            r#"{"format":"uuid","flavour":"mild"}"#,
            r#"{"format":"digits"}"#,
            r#"{"format":"digits","length":0}"#,
            r#"{"format":"digits","length":"9..8"}"#,
            r#"{"format":"digits","length":1025}"#,
            r#"{"format":"integer","min":1.5,"max":7}"#,
            r#"{"format":"uuid","version":7}"#,
            r#"{"format":"uuid","case":"upper"}"#,
            r#"{"format":"mac","keep":"bank"}"#,
            r#"{"format":"mac","local":"unset"}"#,
            r#"{"format":"ipv6","mode":"permutation"}"#,
            r#"{"format":"name"}"#,
            r#"{"format":"permutation"}"#,
            r#"{"format":"email","domain":"replace"}"#,
            r#"{"format":"opaque","bits":64}"#,
            r#"{"format":"phone","keep":"bank"}"#,
            r#"{"format":"iban","keep":3}"#,
            r#"{"format":"national"}"#,
            r#"{"format":"national","number":"us.ssn"}"#,
        ] {
            assert!(parse(json).is_none(), "{json}");
        }
    }
}
