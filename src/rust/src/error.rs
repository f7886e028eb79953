//! Every refusal of the engine, and the one place where a refusal becomes a Python exception.

use std::fmt;

/// Why an input is refused. No variant carries a value, a tweak or a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A key that AES does not take.
    KeySize,
    /// A radix that is not an integer from 2 to 65536.
    Radix,
    /// A tweak that is not a string of bytes.
    TweakType,
    /// A tweak of 2^32 bytes or more.
    TweakLength,
    /// Too few numerals for the radix.
    Domain {
        /// Numerals of the value.
        length: usize,
        /// The radix.
        radix: u32,
        /// Fewest values that the caller allows.
        floor: u64,
    },
    /// More than 2^32 - 1 numerals.
    Length,
    /// A numeral that is not below the radix.
    Numeral {
        /// The radix.
        radix: u32,
    },
    /// A numeral that is no integer.
    NumeralType,
    /// An alphabet that is not a string.
    AlphabetType,
    /// An alphabet of fewer than 2 or more than 65536 characters.
    AlphabetSize(usize),
    /// An alphabet with a character twice.
    AlphabetTwice,
    /// Something that is not a text where a text is expected.
    TextType,
    /// One text where a list of texts is expected.
    ListType,
    /// A text with a character outside the alphabet.
    Foreign {
        /// Place of the text in its list.
        index: usize,
    },
    /// The parameters of a token entry, or its keys, do not fit together.
    Specification,
}

/// The result of everything that can be refused.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::KeySize => out.write_str("an FF1 key is 16, 24 or 32 bytes"),
            Self::Radix => out.write_str("an FF1 radix is an integer from 2 to 65536"),
            Self::TweakType => out.write_str("a tweak is a string of bytes"),
            Self::TweakLength => out.write_str("a tweak is a string of fewer than 2^32 bytes"),
            Self::Domain { length, radix, floor } => {
                write!(out, "{length} numerals of radix {radix} are below {} values", grouped(floor))
            }
            Self::Length => out.write_str("a value has at most 2^32 - 1 numerals"),
            Self::Numeral { radix } => {
                let largest = radix.saturating_sub(1);
                write!(out, "a numeral of radix {radix} is an integer from 0 to {largest}")
            }
            Self::NumeralType => out.write_str("a numeral is an integer"),
            Self::AlphabetType => out.write_str("an alphabet is a string of characters"),
            Self::AlphabetSize(size) => write!(out, "an alphabet has 2 to 65536 characters, not {size}"),
            Self::AlphabetTwice => out.write_str("an alphabet must not have a character twice"),
            Self::TextType => out.write_str("a value that is not a text"),
            Self::ListType => out.write_str("encrypt_many and decrypt_many take a list of texts, not one text"),
            Self::Foreign { index } => write!(out, "text {index} has a character outside the alphabet"),
            Self::Specification => out.write_str("a token entry whose parameters or keys do not fit together"),
        }
    }
}

impl std::error::Error for Error {}

/// Return a number with commas between its groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(feature = "python")]
mod python {
    use pyo3::exceptions::PyValueError;
    use pyo3::prelude::*;
    use pyo3::types::PyType;

    use super::Error;
    use crate::store::Fault;

    impl Error {
        /// Return module and name of the Python class that stands for this refusal.
        fn class(self) -> Option<(&'static str, &'static str)> {
            const FF1: &str = "tokenweir.core.ff1";
            const ALPHABETS: &str = "tokenweir.core.alphabets";
            match self {
                Self::KeySize => Some((FF1, "KeySizeError")),
                Self::Radix => Some((FF1, "RadixError")),
                Self::TweakType | Self::TweakLength => Some((FF1, "TweakError")),
                Self::Domain { .. } | Self::Length => Some((FF1, "DomainError")),
                Self::Numeral { .. } | Self::NumeralType => Some((FF1, "NumeralError")),
                Self::AlphabetType
                | Self::AlphabetSize(_)
                | Self::AlphabetTwice
                | Self::TextType
                | Self::ListType
                | Self::Foreign { .. } => Some((ALPHABETS, "AlphabetError")),
                Self::Specification => None,
            }
        }
    }

    impl From<Error> for PyErr {
        fn from(error: Error) -> Self {
            match error.class() {
                Some(class) => raised(class, error.to_string()),
                None => PyValueError::new_err(error.to_string()),
            }
        }
    }

    impl From<Fault> for PyErr {
        fn from(fault: Fault) -> Self {
            const BINDING: &str = "tokenweir.adapters.consentbinding";
            if fault == Fault::Keys {
                return PyValueError::new_err(fault.to_string());
            }
            let name = if fault.is_damage() { "StoreCorruptError" } else { "StoreUnavailableError" };
            raised((BINDING, name), fault.to_string())
        }
    }

    /// Return an exception of a class, given by its module and its name.
    fn raised((module, name): (&str, &str), text: String) -> PyErr {
        Python::attach(|py| {
            let class = py.import(module).and_then(|found| found.getattr(name));
            match class.and_then(|found| found.cast_into::<PyType>().map_err(PyErr::from)) {
                Ok(class) => PyErr::from_type(class, text),
                Err(missing) => missing,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three_digits() {
        let texts = [0, 100, 1_000, 1_000_000, 12_345_678].map(grouped);
        assert_eq!(texts, ["0", "100", "1,000", "1,000,000", "12,345,678"]);
    }
}
