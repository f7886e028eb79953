//! What e-mail tokens need to know of Unicode, in the version that the gateway's Python has.
//!
//! A character that Python does not know yet is no part of an address, so both engines must agree on which those are.
//! The tables of the crates are newer than Python's; what an older version has of them never changed.
#![forbid(unsafe_code)]

use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::UnicodeNormalization;

/// A version of Unicode, as far as versions differ here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Unicode 14.0, of Python 3.11.
    V14_0,
    /// Unicode 15.0, of Python 3.12.
    V15_0,
    /// Unicode 15.1, of Python 3.13.
    V15_1,
    /// Unicode 16.0, of Python 3.14; the newest that is known here.
    V16_0,
}

impl Version {
    /// Read what Python calls `unicodedata.unidata_version`.
    #[must_use]
    pub fn of_python(unidata_version: &str) -> Self {
        let mut parts = unidata_version.split('.').map(|part| part.parse().unwrap_or(0));
        match (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) {
            (0..=14, _) => Self::V14_0,
            (15, 0) => Self::V15_0,
            (15, _) => Self::V15_1,
            _ => Self::V16_0,
        }
    }
}

/// Return NFC, lower case, NFC; None if the text has a character that is not assigned.
pub(super) fn folded(text: &str, version: Version) -> Option<String> {
    if !text.chars().all(|character| is_assigned(character, version)) {
        return None;
    }
    let lower = text.nfc().collect::<String>().to_lowercase();
    Some(lower.nfc().collect())
}

/// Say whether a character has something to print: what Python's `str.isprintable` asks.
pub(super) fn is_printable(character: char) -> bool {
    use GeneralCategory as Category;
    character == ' '
        || !matches!(
            get_general_category(character),
            Category::Control
                | Category::Format
                | Category::Surrogate
                | Category::PrivateUse
                | Category::Unassigned
                | Category::LineSeparator
                | Category::ParagraphSeparator
                | Category::SpaceSeparator
        )
}

/// Say whether a character is a letter, a mark or a number.
pub(super) fn is_of_a_name(character: char) -> bool {
    use GeneralCategory as Category;
    matches!(
        get_general_category(character),
        Category::LowercaseLetter
            | Category::ModifierLetter
            | Category::OtherLetter
            | Category::TitlecaseLetter
            | Category::UppercaseLetter
            | Category::EnclosingMark
            | Category::NonspacingMark
            | Category::SpacingMark
            | Category::DecimalNumber
            | Category::LetterNumber
            | Category::OtherNumber
    )
}

fn is_assigned(character: char, version: Version) -> bool {
    let place = ADDED.partition_point(|(_, last, _)| *last < character);
    let is_newer = ADDED.get(place).is_some_and(|(first, _, since)| *first <= character && *since > version);
    !is_newer && get_general_category(character) != GeneralCategory::Unassigned
}

/// Characters that versions after 14.0 added: first, last, version (Unicode Character Database, DerivedAge.txt).
const ADDED: &[(char, char, Version)] = &[
    ('\u{0897}', '\u{0897}', Version::V16_0),
    ('\u{0cf3}', '\u{0cf3}', Version::V15_0),
    ('\u{0ece}', '\u{0ece}', Version::V15_0),
    ('\u{1b4e}', '\u{1b4f}', Version::V16_0),
    ('\u{1b7f}', '\u{1b7f}', Version::V16_0),
    ('\u{1c89}', '\u{1c8a}', Version::V16_0),
    ('\u{2427}', '\u{2429}', Version::V16_0),
    ('\u{2ffc}', '\u{2fff}', Version::V15_1),
    ('\u{31e4}', '\u{31e5}', Version::V16_0),
    ('\u{31ef}', '\u{31ef}', Version::V15_1),
    ('\u{a7cb}', '\u{a7cd}', Version::V16_0),
    ('\u{a7da}', '\u{a7dc}', Version::V16_0),
    ('\u{105c0}', '\u{105f3}', Version::V16_0),
    ('\u{10d40}', '\u{10d65}', Version::V16_0),
    ('\u{10d69}', '\u{10d85}', Version::V16_0),
    ('\u{10d8e}', '\u{10d8f}', Version::V16_0),
    ('\u{10ec2}', '\u{10ec4}', Version::V16_0),
    ('\u{10efc}', '\u{10efc}', Version::V16_0),
    ('\u{10efd}', '\u{10eff}', Version::V15_0),
    ('\u{1123f}', '\u{11241}', Version::V15_0),
    ('\u{11380}', '\u{11389}', Version::V16_0),
    ('\u{1138b}', '\u{1138b}', Version::V16_0),
    ('\u{1138e}', '\u{1138e}', Version::V16_0),
    ('\u{11390}', '\u{113b5}', Version::V16_0),
    ('\u{113b7}', '\u{113c0}', Version::V16_0),
    ('\u{113c2}', '\u{113c2}', Version::V16_0),
    ('\u{113c5}', '\u{113c5}', Version::V16_0),
    ('\u{113c7}', '\u{113ca}', Version::V16_0),
    ('\u{113cc}', '\u{113d5}', Version::V16_0),
    ('\u{113d7}', '\u{113d8}', Version::V16_0),
    ('\u{113e1}', '\u{113e2}', Version::V16_0),
    ('\u{116d0}', '\u{116e3}', Version::V16_0),
    ('\u{11b00}', '\u{11b09}', Version::V15_0),
    ('\u{11bc0}', '\u{11be1}', Version::V16_0),
    ('\u{11bf0}', '\u{11bf9}', Version::V16_0),
    ('\u{11f00}', '\u{11f10}', Version::V15_0),
    ('\u{11f12}', '\u{11f3a}', Version::V15_0),
    ('\u{11f3e}', '\u{11f59}', Version::V15_0),
    ('\u{11f5a}', '\u{11f5a}', Version::V16_0),
    ('\u{1342f}', '\u{1342f}', Version::V15_0),
    ('\u{13439}', '\u{13455}', Version::V15_0),
    ('\u{13460}', '\u{143fa}', Version::V16_0),
    ('\u{16100}', '\u{16139}', Version::V16_0),
    ('\u{16d40}', '\u{16d79}', Version::V16_0),
    ('\u{18cff}', '\u{18cff}', Version::V16_0),
    ('\u{1b132}', '\u{1b132}', Version::V15_0),
    ('\u{1b155}', '\u{1b155}', Version::V15_0),
    ('\u{1cc00}', '\u{1ccf9}', Version::V16_0),
    ('\u{1cd00}', '\u{1ceb3}', Version::V16_0),
    ('\u{1d2c0}', '\u{1d2d3}', Version::V15_0),
    ('\u{1df25}', '\u{1df2a}', Version::V15_0),
    ('\u{1e030}', '\u{1e06d}', Version::V15_0),
    ('\u{1e08f}', '\u{1e08f}', Version::V15_0),
    ('\u{1e4d0}', '\u{1e4f9}', Version::V15_0),
    ('\u{1e5d0}', '\u{1e5fa}', Version::V16_0),
    ('\u{1e5ff}', '\u{1e5ff}', Version::V16_0),
    ('\u{1f6dc}', '\u{1f6dc}', Version::V15_0),
    ('\u{1f774}', '\u{1f776}', Version::V15_0),
    ('\u{1f77b}', '\u{1f77f}', Version::V15_0),
    ('\u{1f7d9}', '\u{1f7d9}', Version::V15_0),
    ('\u{1f8b2}', '\u{1f8bb}', Version::V16_0),
    ('\u{1f8c0}', '\u{1f8c1}', Version::V16_0),
    ('\u{1fa75}', '\u{1fa77}', Version::V15_0),
    ('\u{1fa87}', '\u{1fa88}', Version::V15_0),
    ('\u{1fa89}', '\u{1fa89}', Version::V16_0),
    ('\u{1fa8f}', '\u{1fa8f}', Version::V16_0),
    ('\u{1faad}', '\u{1faaf}', Version::V15_0),
    ('\u{1fabb}', '\u{1fabd}', Version::V15_0),
    ('\u{1fabe}', '\u{1fabe}', Version::V16_0),
    ('\u{1fabf}', '\u{1fabf}', Version::V15_0),
    ('\u{1fac6}', '\u{1fac6}', Version::V16_0),
    ('\u{1face}', '\u{1facf}', Version::V15_0),
    ('\u{1fada}', '\u{1fadb}', Version::V15_0),
    ('\u{1fadc}', '\u{1fadc}', Version::V16_0),
    ('\u{1fadf}', '\u{1fadf}', Version::V16_0),
    ('\u{1fae8}', '\u{1fae8}', Version::V15_0),
    ('\u{1fae9}', '\u{1fae9}', Version::V16_0),
    ('\u{1faf7}', '\u{1faf8}', Version::V15_0),
    ('\u{1fbcb}', '\u{1fbef}', Version::V16_0),
    ('\u{2b739}', '\u{2b739}', Version::V15_0),
    ('\u{2ebf0}', '\u{2ee5d}', Version::V15_1),
    ('\u{31350}', '\u{323af}', Version::V15_0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_versions_only_add() {
        assert!(ADDED.windows(2).all(|pair| pair[0].1 < pair[1].0));
        // U+1FAE8 is of 15.0, U+2FFC of 15.1, U+1C89 of 16.0.
        for (character, since) in [
            ('a', Version::V14_0),
            ('\u{1fae8}', Version::V15_0),
            ('\u{2ffc}', Version::V15_1),
            ('\u{1c89}', Version::V16_0),
        ] {
            for version in [Version::V14_0, Version::V15_0, Version::V15_1, Version::V16_0] {
                assert_eq!(is_assigned(character, version), version >= since);
            }
        }
        assert!(!is_assigned('\u{378}', Version::V16_0));
    }

    #[test]
    fn versions_are_read() {
        for (text, version) in [
            ("14.0.0", Version::V14_0),
            ("15.0.0", Version::V15_0),
            ("15.1.0", Version::V15_1),
            ("16.0.0", Version::V16_0),
            ("17.0.0", Version::V16_0),
        ] {
            assert_eq!(Version::of_python(text), version);
        }
    }
}
