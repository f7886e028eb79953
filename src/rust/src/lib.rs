//! The native engine of tokenweir: what the reference engine does in Python, on raw bytes and without the GIL.
//!
//! This file, `error` and `python` are the only ones that know Python; everything else is plain Rust.

pub mod access;
pub mod alphabets;
mod bylength;
pub mod codec;
pub mod consent;
mod digits;
pub mod engine;
pub mod error;
pub mod ff1;
pub mod generalize;
pub mod hexagons;
mod locked;
pub mod plan;
pub mod prf;
pub mod program;
#[cfg(feature = "python")]
mod python;
mod rank;
pub mod schema;
pub mod store;
pub mod subjects;
pub mod tables;
pub mod texts;
pub mod timestamps;
pub mod tokens;
pub mod value;

/// `tokenweir._native`, the module that Python sees.
#[cfg(feature = "python")]
#[pyo3::pymodule]
mod _native {
    use std::fmt::Display;

    use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
    use pyo3::prelude::*;
    use pyo3::pybacked::PyBackedStr;
    use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyInt, PyList, PyMemoryView, PyString, PyTuple};

    use crate::alphabets::Alphabet;
    use crate::codec::{Arena, Reader, Writer};
    use crate::error::Error;
    use crate::ff1::{Cipher, Direction, LENIENT_DOMAIN, MINIMUM_DOMAIN};
    use crate::hexagons::centre;
    use crate::schema::{Schema, from_json};
    use crate::texts::TextCipher;
    use crate::tokens::Spec;
    use crate::tokens::unicode::Version;
    use crate::value::Value;

    #[pymodule_export]
    use crate::python::{PythonEngine, PythonEnvironment, PythonLookups, PythonPlan, PythonSeal, PythonView};

    /// Version of the sources that the module was built from.
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "the name that Python has for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// How many texts are worked on at a time.
    const PART: usize = 1024;

    /// Calls with fewer texts are over before another thread could make use of the GIL.
    const RELEASES_GIL: usize = 64;

    /// Whether the floor of 1,000,000 values holds; like any condition of Python, of whatever type.
    #[derive(Clone, Copy)]
    struct Strict(bool);

    impl FromPyObject<'_, '_> for Strict {
        type Error = PyErr;

        fn extract(given: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
            given.is_truthy().map(Self)
        }
    }

    impl Strict {
        fn floor(self) -> u64 {
            if self.0 { MINIMUM_DOMAIN } else { LENIENT_DOMAIN }
        }
    }

    /// FF1 on sequences of numerals under one key and one radix.
    #[pyclass(frozen, module = "tokenweir.ff1")]
    struct FF1 {
        cipher: Cipher,
    }

    #[pymethods]
    impl FF1 {
        #[new]
        #[pyo3(signature = (key, radix, *, strict = Strict(true)), text_signature = "(key, radix, *, strict=True)")]
        fn new(key: &Bound<'_, PyAny>, radix: &Bound<'_, PyAny>, strict: Strict) -> PyResult<Self> {
            let key = key_of(key)?;
            let radix = match radix.cast::<PyInt>() {
                Ok(number) if !radix.is_instance_of::<PyBool>() => number.extract().unwrap_or_default(),
                _ => 0,
            };
            Ok(Self { cipher: Cipher::new(key.as_bytes(), radix, strict.floor())? })
        }

        /// Return FF1 on texts of this alphabet; the place of a character is its numeral.
        #[staticmethod]
        #[pyo3(signature = (key, alphabet, *, strict = Strict(true)), text_signature = "(key, alphabet, *, strict=True)")]
        fn over(key: &Bound<'_, PyAny>, alphabet: &Bound<'_, PyAny>, strict: Strict) -> PyResult<TextFF1> {
            let alphabet = alphabet_of(alphabet)?;
            let key = key_of(key)?;
            Ok(TextFF1 { cipher: TextCipher::new(key.as_bytes(), alphabet, strict.floor())? })
        }

        /// Return the ciphertext, as many numerals as were given.
        fn encrypt(&self, numerals: &Bound<'_, PyAny>, tweak: &Bound<'_, PyAny>) -> PyResult<Vec<u16>> {
            let numerals = self.checked(numerals)?;
            Ok(self.cipher.encrypt(&numerals, tweak_of(tweak)?.as_bytes())?)
        }

        /// Return the plaintext. A wrong key or tweak gives another plausible value, never an error.
        fn decrypt(&self, numerals: &Bound<'_, PyAny>, tweak: &Bound<'_, PyAny>) -> PyResult<Vec<u16>> {
            let numerals = self.checked(numerals)?;
            Ok(self.cipher.decrypt(&numerals, tweak_of(tweak)?.as_bytes())?)
        }

        fn __repr__(&self) -> String {
            format!("<FF1 radix={}>", self.cipher.radix())
        }

        #[allow(clippy::unused_self, reason = "Python calls it on an object")]
        fn __reduce__(&self) -> PyResult<()> {
            Err(not_copied())
        }
    }

    impl FF1 {
        /// Return the numerals of a sequence, all of them below the radix.
        fn checked(&self, numerals: &Bound<'_, PyAny>) -> PyResult<Vec<u16>> {
            let length = numerals.len()?;
            let radix = self.cipher.radix();
            self.cipher.require_domain(length)?;
            let mut checked = Vec::with_capacity(length);
            let mut all_fit = true;
            for item in numerals.try_iter()? {
                match item?.extract::<u16>() {
                    Ok(numeral) => checked.push(numeral),
                    Err(error) if error.is_instance_of::<PyOverflowError>(numerals.py()) => all_fit = false,
                    Err(error) if error.is_instance_of::<PyTypeError>(numerals.py()) => {
                        return Err(Error::NumeralType.into());
                    }
                    Err(error) => return Err(error),
                }
            }
            if !all_fit || checked.len() != length {
                return Err(Error::Numeral { radix }.into());
            }
            Ok(checked)
        }
    }

    /// FF1 on texts of one alphabet; made by `FF1.over`.
    #[pyclass(frozen, module = "tokenweir.ff1")]
    struct TextFF1 {
        cipher: TextCipher,
    }

    #[pymethods]
    impl TextFF1 {
        /// Return the ciphertext, as long as the text and in the same alphabet.
        fn encrypt_text<'py>(
            &self,
            text: &Bound<'py, PyAny>,
            tweak: &Bound<'py, PyAny>,
        ) -> PyResult<Bound<'py, PyString>> {
            self.one(text, tweak, Direction::Encrypt)
        }

        /// Return the plaintext. A wrong key or tweak gives another plausible text, never an error.
        fn decrypt_text<'py>(
            &self,
            text: &Bound<'py, PyAny>,
            tweak: &Bound<'py, PyAny>,
        ) -> PyResult<Bound<'py, PyString>> {
            self.one(text, tweak, Direction::Decrypt)
        }

        /// Return the ciphertexts of all texts, in order; much faster than one call per text.
        fn encrypt_many<'py>(
            &self,
            texts: &Bound<'py, PyAny>,
            tweak: &Bound<'py, PyAny>,
        ) -> PyResult<Bound<'py, PyList>> {
            self.many(texts, tweak, Direction::Encrypt)
        }

        /// Return the plaintexts of all texts, in order.
        fn decrypt_many<'py>(
            &self,
            texts: &Bound<'py, PyAny>,
            tweak: &Bound<'py, PyAny>,
        ) -> PyResult<Bound<'py, PyList>> {
            self.many(texts, tweak, Direction::Decrypt)
        }

        fn __repr__(&self) -> String {
            format!("<TextFF1 radix={}>", self.cipher.radix())
        }

        #[allow(clippy::unused_self, reason = "Python calls it on an object")]
        fn __reduce__(&self) -> PyResult<()> {
            Err(not_copied())
        }
    }

    impl TextFF1 {
        /// Return the tweak. As in the reference engine, a foreign character is told before a tweak that is none.
        fn tweak_for<'py>(&self, texts: &[&str], tweak: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
            let tweak = tweak_of(tweak);
            if tweak.is_err() {
                self.cipher.require_covered(texts)?;
            }
            tweak
        }

        fn one<'py>(
            &self,
            text: &Bound<'py, PyAny>,
            tweak: &Bound<'py, PyAny>,
            direction: Direction,
        ) -> PyResult<Bound<'py, PyString>> {
            let text = text.cast::<PyString>().map_err(|_| Error::TextType)?;
            // Only a text with a surrogate is not UTF-8, and no alphabet has one.
            let text = text.to_str().map_err(|_| Error::Foreign { index: 0 })?;
            let tweak = self.tweak_for(&[text], tweak)?;
            let permuted = self.cipher.permute(text, tweak.as_bytes(), direction)?;
            Ok(PyString::new(tweak.py(), &permuted))
        }

        fn many<'py>(
            &self,
            texts: &Bound<'py, PyAny>,
            tweak: &Bound<'py, PyAny>,
            direction: Direction,
        ) -> PyResult<Bound<'py, PyList>> {
            if texts.is_instance_of::<PyString>() {
                return Err(Error::ListType.into());
            }
            // A tuple cannot change while other threads run.
            let texts = match texts.py().get_type::<PyTuple>().call1((texts,)) {
                Ok(tuple) => tuple.cast_into::<PyTuple>()?,
                Err(error) if error.is_instance_of::<PyTypeError>(texts.py()) => return Err(Error::TextType.into()),
                Err(error) => return Err(error),
            };
            self.parts(&texts, tweak, direction).map_err(|error| self.first_refusal(&texts).unwrap_or(error))
        }

        /// Permute a part after the other, so that what a part needs stays in the cache.
        fn parts<'py>(
            &self,
            texts: &Bound<'py, PyTuple>,
            tweak: &Bound<'py, PyAny>,
            direction: Direction,
        ) -> PyResult<Bound<'py, PyList>> {
            let py = texts.py();
            let tweak = tweak_of(tweak)?;
            let tweak = tweak.as_bytes();
            let mut done: Vec<Bound<'py, PyString>> = Vec::with_capacity(texts.len());
            let mut held: Vec<PyBackedStr> = Vec::with_capacity(texts.len().min(PART));
            let mut items = texts.iter_borrowed();
            while done.len() < texts.len() {
                held.clear();
                for item in items.by_ref().take(PART) {
                    held.push(item.extract()?);
                }
                let part: Vec<&str> = held.iter().map(|text| &**text).collect();
                let permuted = if part.len() < RELEASES_GIL {
                    self.cipher.permute_many(&part, tweak, direction)
                } else {
                    py.detach(|| self.cipher.permute_many(&part, tweak, direction))
                }?;
                done.extend(permuted.iter().map(|text| PyString::new(py, text)));
            }
            PyList::new(py, done)
        }

        /// Return the refusal that the reference engine tells first: of what is no text, then of what is foreign.
        fn first_refusal(&self, texts: &Bound<'_, PyTuple>) -> Option<PyErr> {
            if texts.iter_borrowed().any(|item| !item.is_instance_of::<PyString>()) {
                return Some(Error::TextType.into());
            }
            // Only a text with a surrogate is not UTF-8, and no alphabet has one.
            let covered = |item: Borrowed<'_, '_, PyAny>| {
                item.extract::<PyBackedStr>().is_ok_and(|text| self.cipher.require_covered(&[&text]).is_ok())
            };
            let index = texts.iter_borrowed().position(|item| !covered(item))?;
            Some(Error::Foreign { index }.into())
        }
    }

    /// Makes, and where the format allows reverses, the tokens of one entry; the parameters are JSON, as in a plan.
    #[pyclass(frozen, module = "tokenweir._native")]
    struct Tokenizer {
        tokenizer: crate::tokens::Tokenizer,
    }

    #[pymethods]
    impl Tokenizer {
        #[new]
        fn new(py: Python<'_>, spec: &str, key: &[u8], tweak_key: &[u8]) -> PyResult<Self> {
            let spec: Spec = serde_json::from_str(spec).map_err(|_| Error::Specification)?;
            let version: String = py.import("unicodedata")?.getattr("unidata_version")?.extract()?;
            let version = Version::of_python(&version);
            Ok(Self { tokenizer: crate::tokens::Tokenizer::from_plan(&spec, key, tweak_key, version)? })
        }

        /// Return the tokens of all texts, in order; None stands where a text does not fit the format.
        fn encrypt_many(&self, texts: &Bound<'_, PyAny>) -> PyResult<Vec<Option<String>>> {
            let held: Vec<PyBackedStr> = texts.extract()?;
            let parts: Vec<&str> = held.iter().map(|text| &**text).collect();
            Ok(texts.py().detach(|| self.tokenizer.encrypt_many(&parts)))
        }

        /// Return the value of a token, or None if this cannot be a token of the entry.
        fn decrypt(&self, token: &str) -> Option<String> {
            self.tokenizer.decrypt(token)
        }

        /// Return the text that stands for a whole number, given in decimal, or None if it does not fit the format.
        fn text_of_integer(&self, number: &str) -> Option<String> {
            self.tokenizer.text_of_integer(number)
        }

        /// Return the whole number, in decimal, that a token of a number stands for.
        fn integer_of(&self, token: &str) -> String {
            self.tokenizer.integer_of(token).to_owned()
        }

        /// Return the text that stands for raw bytes, or None if they do not fit the format.
        fn text_of_bytes(&self, value: &[u8]) -> Option<String> {
            self.tokenizer.text_of_bytes(value)
        }

        /// Return the raw bytes that a token of bytes stands for.
        fn bytes_of<'py>(&self, py: Python<'py>, token: &str) -> Option<Bound<'py, PyBytes>> {
            self.tokenizer.bytes_of(token).map(|bytes| PyBytes::new(py, &bytes))
        }

        #[allow(clippy::unused_self, reason = "Python calls it on an object")]
        fn __reduce__(&self) -> PyResult<()> {
            Err(PyTypeError::new_err("a tokenizer holds keys and is neither pickled nor copied"))
        }
    }

    /// Return the alphabet of a string.
    fn alphabet_of(given: &Bound<'_, PyAny>) -> PyResult<Alphabet> {
        let text = given.cast::<PyString>().map_err(|_| Error::AlphabetType)?;
        if !text.to_str().is_ok_and(str::is_ascii) {
            // Which characters have a stable form is told by Python's tables of Unicode, the same for both engines.
            given.py().import("tokenweir.core.alphabets")?.getattr("Alphabet")?.call1((text,))?;
        }
        Ok(Alphabet::new(text.to_str()?)?)
    }

    fn key_of<'py>(given: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        if given.is_instance_of::<PyMemoryView>() {
            Err(Error::KeySize.into())
        } else {
            bytes_of(given, Error::KeySize)
        }
    }

    fn tweak_of<'py>(given: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        bytes_of(given, Error::TweakType)
    }

    /// Return bytes, or what has them; `bytes(8)` from a stray number would be eight zeros.
    fn bytes_of<'py>(given: &Bound<'py, PyAny>, refusal: Error) -> PyResult<Bound<'py, PyBytes>> {
        if let Ok(bytes) = given.cast::<PyBytes>() {
            return Ok(bytes.clone());
        }
        if given.is_instance_of::<PyByteArray>() || given.is_instance_of::<PyMemoryView>() {
            return Ok(given.py().get_type::<PyBytes>().call1((given,))?.cast_into()?);
        }
        Err(refusal.into())
    }

    fn not_copied() -> PyErr {
        PyTypeError::new_err("an FF1 key is neither pickled nor copied")
    }

    /// The reader and the writer of one schema, so that tests can hold them against the reference.
    #[pyclass(frozen, module = "tokenweir._native")]
    struct Codec {
        reader: Reader,
        writer: Writer,
    }

    #[pymethods]
    impl Codec {
        #[new]
        #[pyo3(signature = (schema, limits, /), text_signature = "(schema, limits, /)")]
        fn new(schema: &str, limits: &str) -> PyResult<Self> {
            let wrong = |error: &dyn Display| PyValueError::new_err(error.to_string());
            let schema: Schema = from_json(schema).map_err(|error| wrong(&error))?;
            let limits = from_json(limits).map_err(|error| wrong(&error))?;
            let reader = Reader::new(&schema, limits).map_err(|error| wrong(&error))?;
            let writer = Writer::new(&schema).map_err(|error| wrong(&error))?;
            Ok(Self { reader, writer })
        }

        /// Return the value of a record and its elements, or the reason and the path of its rejection.
        #[pyo3(signature = (data, /), text_signature = "($self, data, /)")]
        fn read<'py>(&self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyTuple>> {
            match self.reader.read(data, &Arena::new()) {
                Ok((value, elements)) => (Values::new(py)?.value(&value)?, elements).into_pyobject(py),
                Err(rejection) => (rejection.reason, rejection.path).into_pyobject(py),
            }
        }

        /// Return the bytes of a record that was read and written, and its elements, or reason and path as `read`.
        #[pyo3(signature = (data, /), text_signature = "($self, data, /)")]
        fn roundtrip<'py>(&self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyTuple>> {
            match self.reader.read(data, &Arena::new()) {
                Ok((value, elements)) => {
                    let mut out = Vec::with_capacity(data.len());
                    self.writer.write(&value, &mut out).map_err(|misfit| PyValueError::new_err(misfit.to_string()))?;
                    (PyBytes::new(py, &out), elements).into_pyobject(py)
                }
                Err(rejection) => (rejection.reason, rejection.path).into_pyobject(py),
            }
        }
    }

    /// Return the centres of cells as far as they are certain without H3, so that tests can hold them against it.
    ///
    /// A position is a resolution, a latitude and a longitude, within 90 and 180 degrees.
    #[pyfunction]
    #[pyo3(signature = (positions, /), text_signature = "(positions, /)")]
    #[allow(clippy::needless_pass_by_value, reason = "what Python gives is converted to it")]
    fn cell_centres(positions: Vec<(u8, f64, f64)>) -> Vec<Option<(f64, f64)>> {
        positions.iter().map(|(resolution, latitude, longitude)| centre(*resolution, *latitude, *longitude)).collect()
    }

    /// Makes values of the reference engine, as `tokenweir.core.schema` says how they look.
    struct Values<'py> {
        py: Python<'py>,
        absent: Bound<'py, PyAny>,
        number: Bound<'py, PyAny>,
    }

    impl<'py> Values<'py> {
        fn new(py: Python<'py>) -> PyResult<Self> {
            let schema = py.import("tokenweir.core.schema")?;
            Ok(Self { py, absent: schema.getattr("ABSENT")?, number: schema.getattr("JsonNumber")? })
        }

        fn value(&self, value: &Value<'_>) -> PyResult<Bound<'py, PyAny>> {
            let py = self.py;
            Ok(match value {
                Value::Null => py.None().into_bound(py),
                Value::Absent => self.absent.clone(),
                &Value::Boolean(value) => PyBool::new(py, value).to_owned().into_any(),
                Value::Integer(number) => number.into_pyobject(py)?.into_any(),
                Value::Real(number) => number.into_pyobject(py)?.into_any(),
                Value::Number(text) => self.number.call1((*text,))?,
                Value::Text(text) => PyString::new(py, text).into_any(),
                Value::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
                Value::Record(values) | Value::Array(values) => {
                    let values: PyResult<Vec<_>> = values.iter().map(|value| self.value(value)).collect();
                    PyList::new(py, values?)?.into_any()
                }
                Value::Map(entries) => {
                    let found = PyDict::new(py);
                    for (key, value) in *entries {
                        found.set_item(key, self.value(value)?)?;
                    }
                    found.into_any()
                }
                Value::Branch(index, value) => (*index, self.value(value)?).into_pyobject(py)?.into_any(),
            })
        }
    }
}
