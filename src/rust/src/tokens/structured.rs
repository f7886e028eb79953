//! Tokens of numbers that follow a scheme: IBANs, social security numbers, national numbers.
#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use crate::rank::Rank;

use super::ranked::{Format, Number, Prepared};
use super::scheme::{Layout, code};
use super::schemes::{IBANS, NATIONAL};
use super::spec::Keep;

/// Longer texts, separators included, are not looked at.
const LONGEST: usize = 80;

/// Return the characters of a number in upper case without its single separators; None if the text is none.
fn compact(text: &str) -> Option<Vec<u8>> {
    if text.len() > LONGEST {
        return None;
    }
    let mut characters = Vec::with_capacity(text.len());
    let mut after_character = false;
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => characters.push(byte.to_ascii_uppercase()),
            b' ' | b'-' | b'.' | b'/' if after_character => {}
            _ => return None,
        }
        after_character = byte.is_ascii_alphanumeric();
    }
    after_character.then_some(characters)
}

/// Write a number with the separators of a value.
pub(super) fn written(frame: &str, number: impl IntoIterator<Item = u8>) -> String {
    let mut characters = number.into_iter().map(char::from);
    let place = |place: char| if place.is_ascii_alphanumeric() { characters.next().unwrap_or_default() } else { place };
    frame.chars().map(place).collect()
}

/// Numbers of one scheme, all characters of which are enciphered.
pub(super) struct National {
    layout: Layout,
}

impl National {
    /// Take a kind by its name.
    pub(super) fn new(name: &str) -> Result<Self> {
        let scheme = NATIONAL.iter().find(|scheme| scheme.name == name && scheme.enough[0]);
        Ok(Self { layout: Layout::new(scheme.ok_or(Error::Specification)?, &[]) })
    }
}

impl Format for National {
    fn radix(&self) -> u32 {
        2
    }

    fn has_holes(&self) -> bool {
        true
    }

    fn is_hole(&self, _: &Prepared<'_>, rank: &Rank) -> bool {
        self.layout.compose(rank, b"").is_none()
    }

    fn prepare<'t>(&self, text: &'t str) -> Option<Prepared<'t>> {
        let number = Number::Rank(self.layout.rank(&compact(text)?)?);
        Some(Prepared { number, length: self.layout.bits, kept: "".into(), frame: text })
    }

    fn render(&self, prepared: &Prepared<'_>, number: Number<'static>) -> String {
        let Number::Rank(rank) = number else { return String::new() };
        written(prepared.frame, self.layout.compose(&rank, b"").unwrap_or_default())
    }
}

/// IBANs. The country is kept, with it the layout; the check digits follow from the rest.
pub(super) struct Iban {
    layouts: Vec<Layout>,
}

impl Iban {
    /// Take the countries named, or all that leave enough accounts.
    pub(super) fn new(keep: Keep, countries: &[String]) -> Result<Self> {
        let known = |country: &String| IBANS.iter().any(|scheme| scheme.name == country);
        let is_chosen = |name: &str| countries.is_empty() || countries.iter().any(|country| country == name);
        let mut layouts = Vec::new();
        for scheme in IBANS.iter().filter(|scheme| is_chosen(scheme.name)) {
            let (enough, ranges): (bool, &[_]) = match keep {
                Keep::Country => (scheme.enough[0], &[]),
                Keep::Bank => (scheme.enough[1], &[scheme.bank]),
                Keep::Branch => (scheme.enough[2], &[scheme.bank, scheme.branch]),
            };
            if enough {
                layouts.push(Layout::new(scheme, ranges));
            } else if !countries.is_empty() {
                return Err(Error::Specification);
            }
        }
        if countries.iter().all(known) { Ok(Self { layouts }) } else { Err(Error::Specification) }
    }

    fn layout(&self, country: &[u8]) -> Option<&Layout> {
        self.layouts.iter().find(|layout| layout.scheme.name.as_bytes() == country)
    }

    fn composed(&self, kept: &str, rank: &Rank) -> Option<Vec<u8>> {
        let (country, kept) = kept.as_bytes().split_at_checked(2)?;
        self.layout(country)?.compose(rank, kept)
    }
}

/// Return the check digits of an IBAN (ISO 7064, mod 97-10; ISO 13616-1, section 5).
fn check_digits(country: &[u8], body: &[u8]) -> Option<[u8; 2]> {
    let mut rest = 0;
    for byte in body.iter().chain(country).chain(b"00") {
        let code = code(*byte)?;
        rest = (rest * if code < 10 { 10 } else { 100 } + code) % 97;
    }
    let digits = u8::try_from(98 - rest).ok()?;
    Some([b'0' + digits / 10, b'0' + digits % 10])
}

impl Format for Iban {
    fn radix(&self) -> u32 {
        2
    }

    fn has_holes(&self) -> bool {
        true
    }

    fn is_hole(&self, prepared: &Prepared<'_>, rank: &Rank) -> bool {
        self.composed(&prepared.kept, rank).is_none()
    }

    fn prepare<'t>(&self, text: &'t str) -> Option<Prepared<'t>> {
        let compact = compact(text)?;
        let (country, rest) = compact.split_at_checked(2)?;
        let (digits, body) = rest.split_at_checked(2)?;
        let layout = self.layout(country)?;
        if check_digits(country, body)?.as_slice() != digits {
            return None;
        }
        let number = Number::Rank(layout.rank(body)?);
        let kept = format!("{}{}", layout.scheme.name, layout.kept_of(body));
        Some(Prepared { number, length: layout.bits, kept: kept.into(), frame: text })
    }

    fn render(&self, prepared: &Prepared<'_>, number: Number<'static>) -> String {
        let Number::Rank(rank) = number else { return String::new() };
        let country = prepared.kept.as_bytes().iter().take(2).copied().collect::<Vec<u8>>();
        let body = self.composed(&prepared.kept, &rank).unwrap_or_default();
        let digits = check_digits(&country, &body).unwrap_or_default();
        written(prepared.frame, country.into_iter().chain(digits).chain(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_of_published_ibans() {
        // Examples of the SWIFT IBAN registry.
        for iban in ["DE89370400440532013000", "GB29NWBK60161331926819", "MT84MALT011000012345MTLCAST001S"] {
            let (country, rest) = iban.as_bytes().split_at(2);
            assert_eq!(check_digits(country, &rest[2..]).unwrap(), rest[..2]);
            assert!(Iban::new(Keep::Branch, &[]).unwrap().prepare(iban).is_some());
        }
    }

    #[test]
    fn countries_without_enough_accounts_are_refused() {
        assert!(Iban::new(Keep::Bank, &["NO".to_owned()]).is_err());
        assert!(Iban::new(Keep::Country, &["NO".to_owned()]).is_ok());
        assert!(Iban::new(Keep::Country, &["ZZ".to_owned()]).is_err());
        assert!(Iban::new(Keep::Bank, &[]).unwrap().prepare("NO9386011117947").is_none());
    }
}
