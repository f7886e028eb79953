//! Schemes: numbers of a fixed layout, some of whose characters are computed from the others.
//!
//! See the reference engine's `core/tokens/scheme.py`; [`super::schemes`] has the schemes themselves.
#![forbid(unsafe_code)]

use crate::rank::Rank;

use super::schemes::VALUES;

/// Classes of the IBAN registry (ISO 13616-1).
#[derive(Clone, Copy)]
pub(super) enum Class {
    /// Digits.
    Digit,
    /// Letters of upper case.
    Letter,
    /// Both.
    Both,
}

/// What stands at some places of a number.
pub(super) enum Part {
    /// So many characters of a class.
    Free(Class, usize),
    /// Decimal numbers of one width within ranges, both ends included.
    Ranges(usize, &'static [(u32, u32)]),
    /// One of some texts of one width.
    Words(&'static [&'static str]),
    /// Characters that a check writes.
    Computed(usize),
}

/// Whose rules the part of a number follows that writes a date.
#[derive(Clone, Copy)]
pub(super) enum Calendar {
    /// `YYMMDD` with the century in the month.
    Pesel,
    /// `YY`, a letter for the month, and the day, 40 higher for women.
    CodiceFiscale,
}

/// A weighted sum of characters whose rest says what stands at a place.
pub(super) struct Check {
    /// First place of what it writes.
    pub(super) at: usize,
    /// Place, weight, and the number of the table of what its character counts.
    pub(super) terms: &'static [(usize, i64, usize)],
    pub(super) modulus: i64,
    /// What stands there for each rest; "" where the other characters belong to no number.
    pub(super) answers: &'static [&'static str],
}

/// The layout of one kind of number.
pub(super) struct Scheme {
    pub(super) name: &'static str,
    pub(super) parts: &'static [Part],
    /// In the order in which they are computed.
    pub(super) checks: &'static [Check],
    /// First place of the bank and the place after its last one.
    pub(super) bank: (usize, usize),
    pub(super) branch: (usize, usize),
    pub(super) calendar: Option<Calendar>,
    /// Whether a million numbers or more are left where nothing, the bank, and bank and branch are kept.
    pub(super) enough: [bool; 3],
}

/// The letters of January to December in an Italian codice fiscale.
const MONTHS: &[u8; 12] = b"ABCDEHLMPRST";
const DAYS: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Return the place of a character in `0-9A-Z`.
pub(super) fn code(byte: u8) -> Option<usize> {
    match byte {
        b'0'..=b'9' => Some(usize::from(byte - b'0')),
        b'A'..=b'Z' => Some(usize::from(byte - b'A') + 10),
        _ => None,
    }
}

impl Class {
    const fn radix(self) -> u32 {
        match self {
            Self::Digit => 10,
            Self::Letter => 26,
            Self::Both => 36,
        }
    }

    fn numeral(self, byte: u8) -> Option<u32> {
        let code = u32::try_from(code(byte)?).ok()?;
        match self {
            Self::Digit => (code < 10).then_some(code),
            Self::Letter => code.checked_sub(10),
            Self::Both => Some(code),
        }
    }

    fn character(self, numeral: u32) -> u8 {
        let numeral = (numeral % self.radix()).to_le_bytes()[0];
        match self {
            Self::Letter => b'A' + numeral,
            _ if numeral < 10 => b'0' + numeral,
            _ => b'A' + (numeral - 10),
        }
    }
}

impl Part {
    /// Characters that it takes.
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Free(_, width) | Self::Ranges(width, _) | Self::Computed(width) => *width,
            Self::Words(words) => words.first().map_or(0, |word| word.len()),
        }
    }

    /// Return the numeral that characters write.
    fn numeral(&self, text: &[u8]) -> Option<u32> {
        match self {
            Self::Free(class, _) => class.numeral(*text.first()?),
            Self::Words(words) => {
                words.iter().position(|word| word.as_bytes() == text).and_then(|at| at.try_into().ok())
            }
            Self::Ranges(_, ranges) => {
                let number = decimal(text)?;
                let mut before = 0;
                for (low, high) in *ranges {
                    if (*low..=*high).contains(&number) {
                        return Some(before + number - low);
                    }
                    before += high - low + 1;
                }
                None
            }
            Self::Computed(_) => None,
        }
    }

    /// Write the characters of a numeral.
    fn write(&self, numeral: u32, place: &mut [u8]) {
        match self {
            Self::Free(class, _) => place.fill(class.character(numeral)),
            Self::Words(words) => {
                if let Some(word) = words.get(numeral as usize) {
                    place.copy_from_slice(word.as_bytes());
                }
            }
            Self::Ranges(_, ranges) => {
                let mut rest = numeral;
                for (low, high) in *ranges {
                    if rest <= high - low {
                        write_decimal(low + rest, place);
                        return;
                    }
                    rest -= high - low + 1;
                }
            }
            Self::Computed(_) => {}
        }
    }
}

/// Return the number that digits write; None if they are none.
fn decimal(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0_u32, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

fn write_decimal(mut number: u32, place: &mut [u8]) {
    for byte in place.iter_mut().rev() {
        *byte = b'0' + (number % 10).to_le_bytes()[0];
        number /= 10;
    }
}

impl Check {
    /// Return what this check writes for a number; what stands at its own place does not matter.
    fn answer(&self, text: &[u8]) -> Option<&'static str> {
        let mut total = 0;
        for (place, weight, table) in self.terms {
            total += weight * VALUES.get(*table)?.get(code(*text.get(*place)?)?)?;
        }
        self.answers.get(usize::try_from(total.rem_euclid(self.modulus)).ok()?).copied()
    }
}

impl Scheme {
    /// Characters of a number, without separators.
    pub(super) fn length(&self) -> usize {
        self.parts.iter().map(Part::width).sum()
    }

    /// Write the check digits; false where the other characters have none.
    fn complete(&self, text: &mut [u8]) -> bool {
        self.checks.iter().all(|check| {
            let answer = check.answer(text).filter(|answer| !answer.is_empty());
            let place = answer.and_then(|answer| text.get_mut(check.at..check.at + answer.len()));
            match (answer, place) {
                (Some(answer), Some(place)) => {
                    place.copy_from_slice(answer.as_bytes());
                    true
                }
                _ => false,
            }
        })
    }

    fn has_day(&self, text: &[u8]) -> bool {
        self.calendar.is_none_or(|calendar| calendar.has_day(text).unwrap_or(false))
    }
}

impl Calendar {
    fn has_day(self, text: &[u8]) -> Option<bool> {
        let number = |from: usize, to: usize| decimal(text.get(from..to)?);
        match self {
            Self::Pesel => {
                // Months 1 to 12 plus 20 for each century: 1900 without, 2000, 2100, 2200, and 80 for 1800.
                let month = number(2, 4)?;
                let century = [1900, 2000, 2100, 2200, 1800].get((month / 20) as usize)?;
                Some(has_day(century + number(0, 2)?, month % 20, number(4, 6)?))
            }
            Self::CodiceFiscale => {
                // The century is not said, and 1900 had no 29 February while 2000 had.
                let letter = text.get(8)?;
                let month = u32::try_from(MONTHS.iter().position(|month| month == letter)?).ok()?;
                Some(has_day(2000 + number(6, 8)?, month + 1, number(9, 11)? % 40))
            }
        }
    }
}

/// Say whether the Gregorian calendar has a day.
fn has_day(year: u32, month: u32, day: u32) -> bool {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = month.checked_sub(1).and_then(|index| DAYS.get(index as usize));
    days.is_some_and(|days| (1..=days + u32::from(is_leap && month == 2)).contains(&day))
}

/// A part or, of free characters, one of them, as a digit of the rank.
struct Numeral {
    start: usize,
    width: usize,
    radix: u32,
    part: &'static Part,
}

/// A scheme with what is kept of it.
pub(super) struct Layout {
    pub(super) scheme: &'static Scheme,
    kept: Vec<bool>,
    numerals: Vec<Numeral>,
    size: Rank,
    /// Bits of the largest rank.
    pub(super) bits: usize,
}

impl Layout {
    /// Keep what lies in ranges of places.
    pub(super) fn new(scheme: &'static Scheme, ranges: &[(usize, usize)]) -> Self {
        let is_kept = |place: usize| ranges.iter().any(|(start, end)| (*start..*end).contains(&place));
        let kept: Vec<bool> = (0..scheme.length()).map(is_kept).collect();
        let mut numerals = Vec::new();
        let mut start = 0;
        for part in scheme.parts {
            let width = part.width();
            let whole = |radix| Numeral { start, width, radix, part };
            match part {
                Part::Free(class, _) => {
                    let free = (start..start + width).filter(|place| !is_kept(*place));
                    numerals.extend(free.map(|start| Numeral { start, width: 1, radix: class.radix(), part }));
                }
                Part::Ranges(_, ranges) => numerals.push(whole(ranges.iter().map(|(low, high)| high - low + 1).sum())),
                Part::Words(words) => numerals.push(whole(u32::try_from(words.len()).unwrap_or(u32::MAX))),
                Part::Computed(_) => {}
            }
            start += width;
        }
        let size = numerals.iter().fold(Rank::Small(1), |size, numeral| size.pushed_wide(numeral.radix, 0));
        let bits = usize::try_from((size.big() - 1_u32).bits()).unwrap_or(usize::MAX);
        Self { scheme, kept, numerals, size, bits }
    }

    /// Return the characters of a number that are kept.
    pub(super) fn kept_of(&self, text: &[u8]) -> String {
        text.iter().zip(&self.kept).filter(|(_, kept)| **kept).map(|(byte, _)| char::from(*byte)).collect()
    }

    /// Return the rank of a number; None if the text is none.
    pub(super) fn rank(&self, text: &[u8]) -> Option<Rank> {
        if text.len() != self.kept.len() {
            return None;
        }
        let mut start = 0;
        for part in self.scheme.parts {
            let place = text.get(start..start + part.width())?;
            if let Part::Free(class, _) = part {
                place.iter().all(|byte| class.numeral(*byte).is_some()).then_some(())?;
            }
            start += part.width();
        }
        let mut completed = text.to_vec();
        if !self.scheme.has_day(text) || !self.scheme.complete(&mut completed) || completed != text {
            return None;
        }
        self.numerals.iter().try_fold(Rank::Small(0), |rank, numeral| {
            let place = text.get(numeral.start..numeral.start + numeral.width)?;
            Some(rank.pushed_wide(numeral.radix, numeral.part.numeral(place)?))
        })
    }

    /// Return the number of a rank; None where there is none.
    pub(super) fn compose(&self, rank: &Rank, kept: &[u8]) -> Option<Vec<u8>> {
        if *rank >= self.size {
            return None;
        }
        let mut given = kept.iter().copied();
        let base = self.kept.iter().map(|is_kept| if *is_kept { given.next() } else { Some(b'0') });
        let mut text = base.collect::<Option<Vec<u8>>>()?;
        let mut rank = rank.clone();
        for numeral in self.numerals.iter().rev() {
            let digit;
            (rank, digit) = rank.popped_wide(numeral.radix);
            numeral.part.write(digit, text.get_mut(numeral.start..numeral.start + numeral.width)?);
        }
        (self.scheme.has_day(&text) && self.scheme.complete(&mut text)).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::schemes::{IBANS, NATIONAL};
    use super::*;

    fn national(name: &str) -> Layout {
        Layout::new(NATIONAL.iter().find(|scheme| scheme.name == name).unwrap(), &[])
    }

    #[test]
    fn published_numbers_fit_and_come_back() {
        // The examples of python-stdnum.
        for (name, text) in [
            ("us.ssn", "536904399"),
            ("br.cpf", "39053344705"),
            ("ca.sin", "123456782"),
            ("es.dni", "54362315K"),
            ("es.nie", "X2482300W"),
            ("fr.nir", "295109912611193"),
            ("fr.nir", "253072B07300470"),
            ("gb.nhs", "9434765870"),
            ("gb.nino", "AB123456C"),
            ("it.codice_fiscale", "RCCMNL83S18D969H"),
            ("nl.bsn", "111222333"),
            ("pl.pesel", "44051401359"),
        ] {
            let layout = national(name);
            let rank = layout.rank(text.as_bytes()).unwrap();
            assert_eq!(layout.compose(&rank, b"").unwrap(), text.as_bytes(), "{name}");
        }
    }

    #[test]
    fn days_that_no_calendar_has_are_none() {
        assert!(has_day(2000, 2, 29) && !has_day(1900, 2, 29) && !has_day(2001, 2, 29));
        assert!(!has_day(2001, 0, 1) && !has_day(2001, 13, 1) && !has_day(2001, 4, 31) && !has_day(2001, 4, 0));
    }

    #[test]
    fn every_country_has_its_layout_in_order() {
        assert!(IBANS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(IBANS.iter().all(|scheme| scheme.enough[0] && scheme.length() <= 30));
    }
}
