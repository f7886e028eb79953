//! JSON numbers as their text: where one ends, whether it is finite or an integer, and which exact value it has.

/// The largest double has 309 digits before the point, so that fewer without an exponent are always finite.
const FINITE_DIGITS: usize = 308;

/// The largest exponent of the first digit of a `Decimal`, `decimal.MAX_EMAX` in Python on machines of 64 bits.
const MAX_EXPONENT: i128 = 999_999_999_999_999_999;

/// The smallest exponent of the last digit of a `Decimal`, `decimal.MIN_ETINY`.
const MIN_EXPONENT: i128 = -1_999_999_999_999_999_997;

/// Return the length of the number with which these bytes begin, as far as one goes (RFC 8259, section 6).
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let sign = usize::from(bytes.first() == Some(&b'-'));
    let mut end = sign + if bytes.get(sign) == Some(&b'0') { 1 } else { digits(&bytes[sign..]) };
    if end == sign {
        return None;
    }
    if bytes.get(end) == Some(&b'.') {
        let fraction = digits(&bytes[end + 1..]);
        if fraction > 0 {
            end += 1 + fraction;
        }
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let start = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = bytes.get(start..).map_or(0, digits);
        if exponent > 0 {
            end = start + exponent;
        }
    }
    Some(end)
}

/// Return how many digits stand at the beginning.
fn digits(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len())
}

/// Return whether a text is a number and nothing more.
pub(super) fn is_number(text: &str) -> bool {
    length(text.as_bytes()) == Some(text.len())
}

/// Return whether the double nearest to a number is finite.
pub(super) fn is_finite(number: &str) -> bool {
    let short = number.len() <= FINITE_DIGITS && !number.bytes().any(|byte| matches!(byte, b'e' | b'E'));
    short || number.parse().is_ok_and(f64::is_finite)
}

/// Return whether a number has no fraction, as `-5`, `5.0` and `5e3` have none, and is one that `Decimal` takes.
pub(super) fn is_integer(number: &str) -> bool {
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    plain || Decimal::parse(number).is_some_and(|value| value.exponent >= 0)
}

/// The exact value of a number: plus or minus its digits times ten to the power of its exponent.
///
/// The digits neither begin nor end with a zero, so that equal values are equal here. Zero has none of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    digits: Box<[u8]>,
    exponent: i128,
}

impl Decimal {
    /// Return the value of a number, or None where its exponent is one that no `Decimal` of Python has.
    pub(super) fn parse(number: &str) -> Option<Self> {
        let (negative, unsigned) = number.strip_prefix('-').map_or((false, number), |unsigned| (true, unsigned));
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let last = saturated(exponent)? - i128::try_from(fraction.len()).ok()?;
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).skip_while(|&digit| digit == b'0').collect();
        // The limits are those of the number as it is written; only then do equal values become the same.
        let first = last + i128::try_from(digits.len().max(1)).ok()? - 1;
        if first > MAX_EXPONENT || last < MIN_EXPONENT {
            return None;
        }
        let written = digits.len();
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        if digits.is_empty() {
            return Some(Self { negative: false, digits: Box::default(), exponent: 0 });
        }
        let exponent = last + i128::try_from(written - digits.len()).ok()?;
        Some(Self { negative, digits: digits.into(), exponent })
    }
}

/// Return the value of an exponent, or one that is as far beyond every limit.
fn saturated(exponent: &str) -> Option<i128> {
    let unsigned = exponent.trim_start_matches(['+', '-']).trim_start_matches('0');
    // Nineteen digits are beyond all limits, and their sum with the length of a text is far from the end of the type.
    let magnitude = if unsigned.len() > 19 { i128::from(u64::MAX) } else { format!("0{unsigned}").parse().ok()? };
    Some(if exponent.starts_with('-') { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_ends_where_the_scanner_of_python_ends_it() {
        let cases = [
            ("0", 1),
            ("-0", 2),
            ("01", 1),
            ("1.", 1),
            ("1.5.5", 3),
            ("1e", 1),
            ("1e+", 1),
            ("1e5", 3),
            ("1E-05x", 5),
            ("1.e5", 1),
            ("-12.50e+7,", 9),
            ("0e0", 3),
        ];
        for (text, end) in cases {
            assert_eq!(length(text.as_bytes()), Some(end), "{text}");
        }
        for text in ["", "-", "+1", ".5", "-.5", "x", "--1", "e5", "٣"] {
            assert_eq!(length(text.as_bytes()), None, "{text}");
        }
        assert!(is_number("-0.10E+05"));
        assert!(!["", "1 ", "1\n", "NaN", "01", "1e", "+1"].into_iter().any(is_number));
    }

    #[test]
    fn finite_numbers() {
        let largest = format!("17976931348623157{}", "0".repeat(292));
        let nines = "9".repeat(308);
        for text in
            ["1e308", "-1.7976931348623157e308", "1e-400", "0e999", "0e99999999999999999999999", &nines, &largest]
        {
            assert!(is_finite(text), "{text}");
        }
        let ten = format!("1{}", "0".repeat(309));
        for text in ["1e309", "-1e309", "17976931348623159e292", "1e99999999999999999999", &ten] {
            assert!(!is_finite(text), "{text}");
        }
    }

    #[test]
    fn integers() {
        for text in ["5", "-5", "0", "5.0", "-5.000", "5e3", "1.5e1", "50e-1", "0e0", "0.0", "-0", "0e-9", "120e-1"] {
            assert!(is_integer(text), "{text}");
        }
        for text in ["0.5", "-5.01", "5e-1", "15e-1", "1e-400", "1e-999999999999999999999", "121e-1"] {
            assert!(!is_integer(text), "{text}");
        }
    }

    #[test]
    fn equal_values_are_equal_however_they_are_written() {
        let equal =
            [["1", "1.0"], ["10e-1", "1"], ["2.50", "25e-1"], ["-0", "0.0e7"], ["1200", "12E+2"], ["-1", "-1e0"]];
        for [one, other] in equal {
            assert_eq!(Decimal::parse(one), Decimal::parse(other), "{one} {other}");
        }
        for [one, other] in [["1", "-1"], ["1", "10"], ["0.1", "0.10000000000000000000000001"]] {
            assert_ne!(Decimal::parse(one), Decimal::parse(other), "{one} {other}");
        }
    }

    #[test]
    fn exponents_have_the_limits_of_the_decimals_of_python() {
        let fits = [
            "1e999999999999999999",
            "0e999999999999999999",
            "0.00e1000000000000000001",
            "1e-1999999999999999997",
            "0e-1999999999999999997",
            "0.1e1000000000000000000",
            "0e-0000000000000000000000000000001",
        ];
        for text in fits {
            assert!(Decimal::parse(text).is_some(), "{text}");
        }
        let refused = [
            "1e1000000000000000000",
            "10e999999999999999999",
            "0e1000000000000000000",
            "1e-1999999999999999998",
            "0e-1999999999999999998",
            "1.0e-1999999999999999997",
            "1e99999999999999999999999999999999999999999",
            "0e-99999999999999999999999999999999999999999",
        ];
        for text in refused {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }
}
