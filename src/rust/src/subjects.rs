//! The one canonical form of a data subject's id; see `tokenweir.core.subjects`.
//!
//! Normalization and lower case depend on the tables of Unicode, and those of Python are another version in each of its
//! releases. So only what no version decides differently is decided here; the rest is asked of Python.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::value::Value;

/// The longest text id, in characters.
const MAX_TEXT_CHARACTERS: usize = 256;

/// The longest id of digits, as in a policy: a short number is padded to its length.
const MAX_DIGITS: usize = 64;

/// Below this character all are in normalization form C, whatever surrounds them; it is the first combining mark.
const FIRST_COMBINING: char = '\u{300}';

/// How the ids of a type of subject are written.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Exactly this many decimal digits, up to 64.
    Digits(#[serde(deserialize_with = "bounded")] usize),
    /// A UUID in lower case.
    Uuid,
    /// Any visible text.
    Text,
    /// Any visible text, in lower case.
    Lowercase,
}

fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let count = usize::deserialize(deserializer)?;
    if count <= MAX_DIGITS { Ok(count) } else { Err(D::Error::custom("an id of too many digits")) }
}

/// What a value is as an id.
#[derive(Debug, PartialEq, Eq)]
pub enum Id<'v> {
    /// The canonical id.
    Canonical(Cow<'v, str>),
    /// It does not fit its form.
    Invalid,
    /// A text that Python must put into this form.
    Foreign(&'v str),
}

impl Form {
    /// Return the canonical id that a value stands for.
    #[must_use]
    pub fn read<'v>(self, value: &Value<'v>) -> Id<'v> {
        let found = match (self, value) {
            (Self::Digits(count), Value::Integer(number)) => padded(count, *number),
            (Self::Digits(count), Value::Number(text)) => padded_text(count, text),
            (Self::Digits(count), Value::Text(text)) => has_digits(count, text).then_some(Cow::Borrowed(*text)),
            (Self::Uuid, Value::Bytes(bytes)) => uuid_of_bytes(bytes).map(Cow::Owned),
            (Self::Uuid, Value::Text(text)) => uuid_of_text(text),
            (Self::Text | Self::Lowercase, Value::Text(text)) => return self.read_text(text),
            _ => None,
        };
        found.map_or(Id::Invalid, Id::Canonical)
    }

    fn read_text(self, text: &str) -> Id<'_> {
        let decided =
            if self == Self::Text { text.chars().all(|found| found < FIRST_COMBINING) } else { text.is_ascii() };
        if !decided {
            return Id::Foreign(text);
        }
        if !(1..=MAX_TEXT_CHARACTERS).contains(&text.chars().count()) || text.chars().any(char::is_control) {
            return Id::Invalid;
        }
        if self == Self::Lowercase && text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Id::Canonical(Cow::Owned(text.to_ascii_lowercase()));
        }
        Id::Canonical(Cow::Borrowed(text))
    }
}

/// What Python said of foreign texts, and which it has still to be asked about.
#[derive(Default)]
pub struct ForeignIds {
    answers: HashMap<(bool, String), Option<String>>,
    wanted: Vec<(bool, String)>,
}

impl ForeignIds {
    /// Return the canonical id of a value: none within where it does not fit, none at all where Python is to be asked.
    pub fn resolve<'v>(&mut self, form: Form, value: &Value<'v>) -> Option<Option<Cow<'v, str>>> {
        match form.read(value) {
            Id::Canonical(id) => Some(Some(id)),
            Id::Invalid => Some(None),
            Id::Foreign(text) => {
                let key = (form == Form::Lowercase, text.to_owned());
                if let Some(answer) = self.answers.get(&key) {
                    return Some(answer.clone().map(Cow::Owned));
                }
                self.wanted.push(key);
                None
            }
        }
    }

    /// Return the canonical id of a value that [`ForeignIds::resolve`] has seen before.
    #[must_use]
    pub fn known<'v>(&self, form: Form, value: &Value<'v>) -> Option<Cow<'v, str>> {
        match form.read(value) {
            Id::Canonical(id) => Some(id),
            Id::Invalid => None,
            Id::Foreign(text) => {
                self.answers.get(&(form == Form::Lowercase, text.to_owned())).cloned().flatten().map(Cow::Owned)
            }
        }
    }

    /// Take the texts to ask about, each with whether it is to be in lower case.
    pub fn take_wanted(&mut self) -> Vec<(bool, String)> {
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// Remember the answers to what was taken, in its order.
    pub fn answer(&mut self, wanted: Vec<(bool, String)>, answers: Vec<Option<String>>) {
        self.answers.extend(wanted.into_iter().zip(answers));
    }
}

fn padded(count: usize, number: i64) -> Option<Cow<'static, str>> {
    if number < 0 { None } else { padded_text(count, &number.to_string()) }
}

/// Return a non-negative integer with leading zeros.
fn padded_text<'v>(count: usize, text: &str) -> Option<Cow<'v, str>> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    (plain && !text.is_empty() && text.len() <= count).then(|| Cow::Owned(format!("{text:0>count$}")))
}

fn has_digits(count: usize, text: &str) -> bool {
    text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn uuid_of_text(text: &str) -> Option<Cow<'_, str>> {
    let fits = text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if !fits {
        return None;
    }
    let upper = text.bytes().any(|byte| byte.is_ascii_uppercase());
    Some(if upper { Cow::Owned(text.to_ascii_lowercase()) } else { Cow::Borrowed(text) })
}

/// Return the text form of the 16 bytes of a UUID.
#[must_use]
pub fn uuid_of_bytes(bytes: &[u8]) -> Option<String> {
    let number = u128::from_be_bytes(bytes.try_into().ok()?);
    let digits = format!("{number:032x}");
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    Some(format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value<'_> {
        Value::Text(text)
    }

    fn canonical(form: Form, value: &Value<'_>) -> Option<String> {
        match form.read(value) {
            Id::Canonical(id) => Some(id.into_owned()),
            _ => None,
        }
    }

    #[test]
    fn digits_are_padded_only_where_they_are_a_number() {
        let form = Form::Digits(4);
        assert_eq!(canonical(form, &Value::Integer(7)), Some("0007".into()));
        assert_eq!(canonical(form, &Value::Number("70")), Some("0070".into()));
        assert_eq!(canonical(form, &text("0007")), Some("0007".into()));
        for wrong in [Value::Integer(-1), Value::Integer(10_000), text("7"), text("\u{664}007"), Value::Boolean(true)] {
            assert_eq!(canonical(form, &wrong), None);
        }
        for wrong in ["07", "7.0", "-0", "10000", "1e1"] {
            assert_eq!(canonical(form, &Value::Number(wrong)), None);
        }
    }

    #[test]
    fn ids_have_no_more_digits_than_a_policy_allows() {
        let read = |json| serde_json::from_str::<Form>(json).ok();
        assert_eq!(read(r#"{"digits": 64}"#), Some(Form::Digits(64)));
        assert_eq!((read(r#"{"digits": 65}"#), read(r#"{"digits": 18446744073709551615}"#)), (None, None));
    }

    #[test]
    fn uuids_are_read_in_text_and_in_bytes() {
        let id = "0f0e0d0c-0b0a-4908-8706-050403020100";
        let bytes: Vec<u8> = vec![15, 14, 13, 12, 11, 10, 0x49, 8, 0x87, 6, 5, 4, 3, 2, 1, 0];
        assert_eq!(canonical(Form::Uuid, &text(&id.to_uppercase())), Some(id.into()));
        assert_eq!(canonical(Form::Uuid, &Value::Bytes(&bytes)), Some(id.into()));
        assert_eq!(canonical(Form::Uuid, &Value::Bytes(b"short")), None);
        assert_eq!(canonical(Form::Uuid, &text("0f0e0d0c0b0a49088706050403020100")), None);
    }

    #[test]
    fn only_texts_that_every_unicode_treats_alike_are_decided_here() {
        assert_eq!(Form::Text.read(&text("M\u{fc}ller")), Id::Canonical("M\u{fc}ller".into()));
        assert_eq!(Form::Text.read(&text("Mu\u{308}ller")), Id::Foreign("Mu\u{308}ller"));
        assert_eq!(Form::Lowercase.read(&text("M\u{fc}ller")), Id::Foreign("M\u{fc}ller"));
        assert_eq!(Form::Lowercase.read(&text("Anna")), Id::Canonical("anna".into()));
        for wrong in ["", "a\u{85}b", "tab\t", &"x".repeat(257)] {
            assert_eq!(Form::Text.read(&text(wrong)), Id::Invalid);
        }
        assert_eq!(Form::Text.read(&Value::Integer(1)), Id::Invalid);
    }

    #[test]
    fn a_foreign_text_is_asked_about_once() {
        let mut foreign = ForeignIds::default();
        let value = text("\u{41a}");
        assert_eq!(foreign.resolve(Form::Lowercase, &value), None);
        assert_eq!(foreign.resolve(Form::Lowercase, &value), None);
        let wanted = foreign.take_wanted();
        assert_eq!(wanted.len(), 1);
        foreign.answer(wanted, vec![Some("\u{43a}".into())]);
        assert_eq!(foreign.resolve(Form::Lowercase, &value), Some(Some("\u{43a}".into())));
        assert_eq!(foreign.known(Form::Lowercase, &value), Some("\u{43a}".into()));
        assert!(foreign.take_wanted().is_empty());
    }
}
