//! Batches as columns: records in and outcomes out without an object of Python for each, but for the bytes that leave.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};

use super::PythonPlan;
use super::held::{HeldRecord, bytes_of, headers_of};
use crate::engine::{Outcome, Sanitized};
use crate::program::Counts;

/// Plan, value, key, timestamp and headers of each record; no headers where no record has any.
pub(super) type RecordColumns<'a, 'py> = (
    &'a Bound<'py, PyList>,
    &'a Bound<'py, PyList>,
    &'a Bound<'py, PyList>,
    &'a Bound<'py, PyList>,
    Option<&'a Bound<'py, PyList>>,
);

/// What becomes of records in one output; see `OutputBatch` in `tokenweir.core.batches`.
pub(super) type OutputColumns<'py> = (
    Bound<'py, PyBytes>,
    Vec<Option<Bound<'py, PyBytes>>>,
    Vec<Option<Bound<'py, PyBytes>>>,
    Vec<i64>,
    Vec<(usize, Vec<Py<PyAny>>)>,
    Vec<(usize, &'static str, String)>,
    [u64; 5],
);

/// The plans of a batch, each once, and what the values of their outputs begin with.
#[derive(Default)]
pub(super) struct FramedPlans {
    plans: Vec<FramedPlan>,
    /// The place in the list of the plan of each record.
    of_records: Vec<usize>,
}

struct FramedPlan {
    framed: Py<PyAny>,
    plan: Py<PythonPlan>,
    prefixes: Vec<PyBackedBytes>,
}

impl FramedPlans {
    /// Note the plan of the next record. Nearly always it is that of the last one, or one of a few.
    fn next(&mut self, framed: &Bound<'_, PyAny>) -> PyResult<Py<PythonPlan>> {
        let py = framed.py();
        let is = |known: &FramedPlan| known.framed.is(framed);
        let last = self.of_records.last().copied().filter(|place| self.plans.get(*place).is_some_and(is));
        let place = if let Some(place) = last.or_else(|| self.plans.iter().position(is)) {
            place
        } else {
            let bound = framed.getattr(intern!(py, "bound"))?;
            self.plans.push(FramedPlan {
                framed: framed.clone().unbind(),
                plan: bound.getattr(intern!(py, "compiled"))?.cast_into::<PythonPlan>()?.unbind(),
                prefixes: framed.getattr(intern!(py, "prefixes"))?.extract()?,
            });
            self.plans.len() - 1
        };
        self.of_records.push(place);
        self.plans.get(place).map(|known| known.plan.clone_ref(py)).ok_or_else(unequal)
    }

    /// Return what the values of a record begin with, by output.
    fn prefixes(&self, record: usize) -> &[PyBackedBytes] {
        let place = self.of_records.get(record).copied().unwrap_or_default();
        self.plans.get(place).map_or(&[], |known| &known.prefixes)
    }
}

fn unequal() -> PyErr {
    PyValueError::new_err("the columns of a batch are of unequal length")
}

/// Take the records of a batch.
pub(super) fn held(
    plans: &mut FramedPlans,
    (framed, values, keys, timestamps_ms, headers): RecordColumns<'_, '_>,
    frame_bytes: usize,
) -> PyResult<Vec<HeldRecord>> {
    let records = framed.len();
    let lengths = [values.len(), keys.len(), timestamps_ms.len(), headers.map_or(records, PyListMethods::len)];
    if lengths.iter().any(|length| *length != records) {
        return Err(unequal());
    }
    let mut held = Vec::with_capacity(records);
    for (index, ((framed, value), (key, timestamp_ms))) in
        framed.iter().zip(values.iter()).zip(keys.iter().zip(timestamps_ms.iter())).enumerate()
    {
        held.push(HeldRecord {
            plan: plans.next(&framed)?,
            value: bytes_of(&value)?,
            frame_bytes,
            key: bytes_of(&key)?,
            timestamp_ms: timestamp_ms.extract()?,
            headers: headers.map_or_else(|| Ok(Vec::new()), |headers| headers_of(&headers.get_item(index)?))?,
        });
    }
    Ok(held)
}

/// Return what becomes of the first records per output, and why the engine failed on some.
pub(super) fn columns<'py>(
    py: Python<'py>,
    plans: &FramedPlans,
    held: &[HeldRecord],
    outcomes: Vec<Vec<Outcome>>,
) -> PyResult<(Vec<OutputColumns<'py>>, Vec<&'static str>)> {
    let mut faults = Vec::new();
    let mut outputs: Vec<Column<'py>> = plans.prefixes(0).iter().map(|_| Column::new(outcomes.len())).collect();
    for (record, (held, row)) in held.iter().zip(outcomes).enumerate() {
        let prefixes = plans.prefixes(record);
        if row.len() != outputs.len() || prefixes.len() != outputs.len() {
            return Err(PyValueError::new_err("the plans of a batch have different outputs"));
        }
        for ((output, prefix), outcome) in outputs.iter_mut().zip(prefixes).zip(row) {
            output.add(py, record, held, prefix, outcome, &mut faults)?;
        }
    }
    Ok((outputs.into_iter().map(|output| output.done(py)).collect(), faults))
}

/// What becomes of the records in one output.
struct Column<'py> {
    fates: Vec<u8>,
    values: Vec<Option<Bound<'py, PyBytes>>>,
    keys: Vec<Option<Bound<'py, PyBytes>>>,
    timestamps_ms: Vec<i64>,
    headers: Vec<(usize, Vec<Py<PyAny>>)>,
    rejected: Vec<(usize, &'static str, String)>,
    treated: [u64; 5],
}

/// The places of the fates in `tokenweir.core.batches.FATES`.
const SANITIZED: u8 = 0;
const WITHHELD: u8 = 1;
const REJECTED: u8 = 2;

impl<'py> Column<'py> {
    fn new(records: usize) -> Self {
        Self {
            fates: Vec::with_capacity(records),
            values: Vec::with_capacity(records),
            keys: Vec::with_capacity(records),
            timestamps_ms: Vec::with_capacity(records),
            headers: Vec::new(),
            rejected: Vec::new(),
            treated: [0; 5],
        }
    }

    fn add(
        &mut self,
        py: Python<'py>,
        record: usize,
        held: &HeldRecord,
        prefix: &[u8],
        outcome: Outcome,
        faults: &mut Vec<&'static str>,
    ) -> PyResult<()> {
        match outcome {
            Outcome::Sanitized(sanitized) => {
                self.fates.push(SANITIZED);
                self.sanitized(py, held, prefix, &sanitized)?;
            }
            Outcome::Withheld(counts) => {
                self.fates.push(WITHHELD);
                self.count(counts);
            }
            Outcome::Rejected { reason, path } => {
                self.fates.push(REJECTED);
                self.rejected.push((record, reason, path));
            }
            Outcome::Failed(why) => {
                faults.push(why);
                self.fates.push(REJECTED);
                self.rejected.push((record, "engine_error", String::new()));
            }
        }
        Ok(())
    }

    fn sanitized(&mut self, py: Python<'py>, held: &HeldRecord, prefix: &[u8], sanitized: &Sanitized) -> PyResult<()> {
        if !sanitized.headers.is_empty() {
            let kept = sanitized.headers.iter().filter_map(|index| held.headers.get(*index));
            self.headers.push((self.values.len(), kept.map(|header| header.pair.clone_ref(py)).collect()));
        }
        let value = sanitized.value.as_ref().map(|datum| {
            PyBytes::new_with(py, prefix.len() + datum.len(), |bytes| {
                let (frame, rest) = bytes.split_at_mut(prefix.len());
                frame.copy_from_slice(prefix);
                rest.copy_from_slice(datum);
                Ok(())
            })
        });
        self.values.push(value.transpose()?);
        self.keys.push(sanitized.key.as_ref().map(|key| PyBytes::new(py, key.as_bytes())));
        self.timestamps_ms.push(sanitized.timestamp_ms);
        self.count(sanitized.counts);
        Ok(())
    }

    fn count(&mut self, counts: Counts) {
        for (total, count) in self.treated.iter_mut().zip(counts) {
            *total = total.saturating_add(count);
        }
    }

    fn done(self, py: Python<'py>) -> OutputColumns<'py> {
        let fates = PyBytes::new(py, &self.fates);
        (fates, self.values, self.keys, self.timestamps_ms, self.headers, self.rejected, self.treated)
    }
}
