//! Records of Python that the engine works on without the GIL.

use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyString, PyTuple};

use super::PythonPlan;
use crate::engine::{Header, Raw};

/// A record that stays alive and unchanged while another thread runs Python.
pub(super) struct HeldRecord {
    pub(super) plan: Py<PythonPlan>,
    pub(super) value: Option<PyBackedBytes>,
    /// Bytes of the value before its datum.
    pub(super) frame_bytes: usize,
    pub(super) key: Option<PyBackedBytes>,
    pub(super) timestamp_ms: i64,
    pub(super) headers: Vec<HeldHeader>,
}

pub(super) struct HeldHeader {
    pub(super) pair: Py<PyAny>,
    name: Option<PyBackedStr>,
    value: Option<PyBackedBytes>,
}

impl HeldRecord {
    /// Take a pair of a plan and a record: value, key, timestamp and headers.
    pub(super) fn new(pair: &Bound<'_, PyAny>) -> PyResult<Self> {
        let pair = pair.cast::<PyTuple>()?;
        let record = pair.get_item(1)?.cast_into::<PyTuple>()?;
        Ok(Self {
            plan: pair.get_item(0)?.cast_into::<PythonPlan>()?.unbind(),
            value: bytes_of(&record.get_item(0)?)?,
            frame_bytes: 0,
            key: bytes_of(&record.get_item(1)?)?,
            timestamp_ms: record.get_item(2)?.extract()?,
            headers: headers_of(&record.get_item(3)?)?,
        })
    }

    /// Return it as the engine takes it.
    pub(super) fn raw(&self) -> Raw<'_> {
        Raw {
            plan: &self.plan.get().plan,
            // The caller has made sure that a value is no shorter than its frame.
            value: self.value.as_deref().map(|value| value.get(self.frame_bytes..).unwrap_or_default()),
            key: self.key.as_deref(),
            timestamp_ms: self.timestamp_ms,
            headers: self
                .headers
                .iter()
                .map(|header| Header { name: header.name.as_deref(), value: header.value.as_deref() })
                .collect(),
        }
    }
}

impl HeldHeader {
    fn new(pair: &Bound<'_, PyAny>) -> PyResult<Self> {
        let name = pair.get_item(0)?.cast_into::<PyString>()?;
        // A name with a surrogate is not UTF-8, and no policy can name it.
        let name = PyBackedStr::try_from(name).ok();
        Ok(Self { pair: pair.clone().unbind(), name, value: bytes_of(&pair.get_item(1)?)? })
    }
}

pub(super) fn headers_of(given: &Bound<'_, PyAny>) -> PyResult<Vec<HeldHeader>> {
    if given.len()? == 0 {
        return Ok(Vec::new());
    }
    given.try_iter()?.map(|header| HeldHeader::new(&header?)).collect()
}

pub(super) fn bytes_of(given: &Bound<'_, PyAny>) -> PyResult<Option<PyBackedBytes>> {
    if given.is_none() { Ok(None) } else { Ok(Some(PyBackedBytes::from(given.clone().cast_into::<PyBytes>()?))) }
}
