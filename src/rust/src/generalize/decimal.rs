//! Exact decimal numbers of any size, as far as generalizing needs them.

use std::cmp::Ordering;

use num_bigint::{BigInt, Sign};

/// Beyond this exponent exact arithmetic would write out a number of that many digits.
pub const LARGEST_EXPONENT: u32 = 512;

/// The number `coefficient` · 10^`exponent`.
#[derive(Clone, Debug)]
pub struct Decimal {
    coefficient: BigInt,
    exponent: i64,
}

impl Decimal {
    /// Return an integer divided by 10^`places`.
    pub fn scaled(coefficient: BigInt, places: u32) -> Self {
        Self { coefficient, exponent: -i64::from(places) }
    }

    /// Return the number that a decimal text writes, or none if it is none or of a size that arithmetic cannot bear.
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        let significant = digits.trim_start_matches('-').trim_start_matches('0').len().max(1);
        let adjusted = exponent.checked_add(i64::try_from(significant).ok()?)?.checked_sub(1)?;
        if exponent.checked_abs()? > LARGEST_EXPONENT.into() || adjusted > LARGEST_EXPONENT.into() {
            return None;
        }
        Some(Self { coefficient: BigInt::parse_bytes(digits.as_bytes(), 10)?, exponent })
    }

    /// Return the shortest decimal that is read as this binary number.
    pub fn shortest(number: f64) -> Option<Self> {
        Self::parse(&format!("{number:e}"))
    }

    /// Return the coefficients of two numbers for one exponent, and that exponent.
    fn aligned(&self, other: &Self) -> (BigInt, BigInt, i64) {
        let exponent = self.exponent.min(other.exponent);
        (self.coefficient_for(exponent), other.coefficient_for(exponent), exponent)
    }

    /// Return the coefficient for an exponent that is not above the number's own.
    fn coefficient_for(&self, exponent: i64) -> BigInt {
        let places = u32::try_from(self.exponent.saturating_sub(exponent)).unwrap_or(0);
        &self.coefficient * BigInt::from(10).pow(places)
    }

    /// Return the nearest multiple of a positive step; the even one of two that are equally near.
    pub fn nearest_multiple(&self, step: &Self) -> Option<Self> {
        let (number, step, exponent) = self.aligned(step);
        if step.sign() != Sign::Plus {
            return None;
        }
        let mut count = &number / &step;
        let rest = &number % &step;
        let twice: BigInt = BigInt::from(rest.magnitude().clone()) * 2;
        let away = match twice.cmp(&step) {
            Ordering::Less => false,
            Ordering::Equal => count.bit(0),
            Ordering::Greater => true,
        };
        if away {
            count += if number.sign() == Sign::Minus { -1 } else { 1 };
        }
        Some(Self { coefficient: count * step, exponent })
    }

    /// Return the number times 10^`places`, or none if that is no integer.
    pub fn integer(&self, places: u32) -> Option<BigInt> {
        let shift = self.exponent.checked_add(i64::from(places))?;
        let power = BigInt::from(10).pow(u32::try_from(shift.unsigned_abs()).ok()?);
        if shift >= 0 {
            return Some(&self.coefficient * power);
        }
        ((&self.coefficient % &power).sign() == Sign::NoSign).then(|| &self.coefficient / power)
    }

    /// Return the nearest number of double precision; never a negative zero.
    pub fn to_double(&self) -> Option<f64> {
        let text = format!("{}e{}", self.coefficient, self.exponent);
        text.parse::<f64>().ok().map(|number| number + 0.0)
    }

    /// Return the number in full, without exponent, needless zeros or a negative zero.
    pub fn plain(&self) -> String {
        let sign = if self.coefficient.sign() == Sign::Minus { "-" } else { "" };
        let digits = self.coefficient.magnitude().to_string();
        let places = usize::try_from(self.exponent.unsigned_abs()).unwrap_or(0);
        if self.coefficient.sign() == Sign::NoSign {
            return "0".into();
        }
        if self.exponent >= 0 {
            return format!("{sign}{digits}{}", "0".repeat(places));
        }
        let padded = format!("{digits:0>width$}", width = places + 1);
        let (whole, fraction) = padded.split_at(padded.len() - places);
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let (left, right, _) = self.aligned(other);
        left.cmp(&right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn texts_are_read_and_written_exactly() {
        let written = [("1.10", "1.1"), ("-0.0", "0"), ("1E+3", "1000"), ("-5e-3", "-0.005"), ("100", "100")];
        for (text, plain) in written {
            assert_eq!(number(text).plain(), plain);
        }
        for wrong in ["", "-", "1e600", "1e-513", "0e600", "1e99999999999999999999", "x", "1e"] {
            assert!(Decimal::parse(wrong).is_none(), "{wrong}");
        }
        assert!(Decimal::parse(&"9".repeat(512)).is_some());
    }

    #[test]
    fn multiples_are_the_nearest_and_even_ones() {
        let rounded = |value: &str, step: &str| number(value).nearest_multiple(&number(step)).unwrap().plain();
        assert_eq!(rounded("2.5", "1"), "2");
        assert_eq!(rounded("3.5", "1"), "4");
        assert_eq!(rounded("-2.5", "1"), "-2");
        assert_eq!(rounded("-3.5", "1"), "-4");
        assert_eq!(rounded("-0.4", "1"), "0");
        assert_eq!(rounded("0.3", "0.1"), "0.3");
        assert_eq!(rounded("12345678901234567890.7", "10"), "12345678901234567890");
    }

    #[test]
    fn numbers_compare_by_their_value() {
        assert!(number("0.30") == number("3e-1"));
        assert!(number("1e3") > number("999.9"));
        assert!(Decimal::shortest(0.1).unwrap() == number("0.1"));
        assert!(Decimal::shortest(5e-324).unwrap() == number("5e-324"));
        assert_eq!(number("1e-1").to_double(), Some(0.1));
        assert_eq!(number("1.5").integer(1), Some(15.into()));
        assert_eq!(number("1.5").integer(0), None);
    }
}
