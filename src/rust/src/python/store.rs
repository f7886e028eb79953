//! The consent store as Python sees it: the parts that `tokenweir.adapters.consentbinding` asks for.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::consent::SubjectConsent;
use crate::store::{Entry, Environment, Lookups, Options, Result, Seal, View};

/// An open environment of LMDB.
#[pyclass(frozen, name = "ConsentEnvironment", module = "tokenweir._native")]
pub struct PythonEnvironment {
    environment: Environment,
}

#[pymethods]
impl PythonEnvironment {
    /// Open the environment in a directory.
    #[new]
    #[allow(clippy::needless_pass_by_value, reason = "what Python gives is extracted into it")]
    fn new(directory: PathBuf, map_bytes: usize, max_readers: u32, reads_only: bool) -> PyResult<Self> {
        Ok(Self { environment: Environment::open(&directory, Options { map_bytes, max_readers, reads_only })? })
    }

    /// Return the store as it is now.
    fn read(&self) -> PyResult<PythonView> {
        Ok(PythonView { view: self.environment.read()? })
    }

    /// Put entries, or remove those without a value: all or none.
    #[allow(clippy::needless_pass_by_value, reason = "what Python gives is extracted into it")]
    fn write(&self, py: Python<'_>, changes: Vec<(PyBackedBytes, Option<PyBackedBytes>)>) -> PyResult<()> {
        let given = || changes.iter().map(|(key, value)| (&**key, value.as_deref()));
        Ok(py.detach(|| self.environment.write(given()))?)
    }

    /// Free the pages that killed readers had pinned; return the number of those readers.
    fn reader_check(&self) -> PyResult<usize> {
        Ok(self.environment.reader_check()?)
    }

    /// Wait until everything that was written is on the disk.
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.environment.sync())?)
    }

    /// Close it and all views of it.
    fn close(&self) -> PyResult<()> {
        Ok(self.environment.close()?)
    }

    #[allow(clippy::unused_self, reason = "Python calls it on an object")]
    fn __reduce__(&self) -> PyResult<()> {
        Err(not_copied())
    }
}

/// The store as it was at one moment.
#[pyclass(frozen, name = "ConsentView", module = "tokenweir._native")]
pub struct PythonView {
    view: View,
}

type PythonEntry<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

#[pymethods]
impl PythonView {
    /// Return the value of a key.
    fn get<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<Bound<'py, PyBytes>>> {
        Ok(self.view.get(key)?.map(|value| PyBytes::new(py, &value)))
    }

    /// Return the last entry before a key, and the first that is not.
    fn neighbours<'py>(
        &self,
        py: Python<'py>,
        key: &[u8],
    ) -> PyResult<(Option<PythonEntry<'py>>, Option<PythonEntry<'py>>)> {
        let (before, after) = self.view.neighbours(key)?;
        Ok((before.map(|entry| python_entry(py, &entry)), after.map(|entry| python_entry(py, &entry))))
    }

    /// Return the first entries after a key, at most so many; after none, the first of all.
    fn entries_after<'py>(&self, py: Python<'py>, key: &[u8], count: usize) -> PyResult<Vec<PythonEntry<'py>>> {
        Ok(self.view.entries_after(key, count)?.iter().map(|entry| python_entry(py, entry)).collect())
    }

    /// Let go of it, so that its pages can be used again.
    fn close(&self) -> PyResult<()> {
        Ok(self.view.close()?)
    }

    #[allow(clippy::unused_self, reason = "Python calls it on an object")]
    fn __reduce__(&self) -> PyResult<()> {
        Err(not_copied())
    }
}

fn python_entry<'py>(py: Python<'py>, (key, value): &Entry) -> PythonEntry<'py> {
    (PyBytes::new(py, key), PyBytes::new(py, value))
}

/// The keys of the store.
#[pyclass(frozen, name = "ConsentSeal", module = "tokenweir._native")]
pub struct PythonSeal {
    seal: Arc<Seal>,
}

#[pymethods]
impl PythonSeal {
    /// Bind the keys.
    #[new]
    fn new(id_key: &[u8], mac_key: &[u8]) -> PyResult<Self> {
        Ok(Self { seal: Arc::new(Seal::new(id_key, mac_key)?) })
    }

    #[allow(clippy::unused_self, reason = "Python calls it on an object")]
    fn __reduce__(&self) -> PyResult<()> {
        Err(not_copied())
    }
}

/// Looks subjects up in one view.
#[pyclass(frozen, name = "ConsentLookups", module = "tokenweir._native")]
pub struct PythonLookups {
    lookups: Lookups,
}

/// A name, whether it denies, since when and until when.
type DecisionRow = (String, bool, i64, Option<i64>);
/// The decisions of each source, whether undecodable, whether a minor, jurisdictions, recipient denials.
type ConsentRow = (Vec<Vec<DecisionRow>>, bool, bool, Vec<String>, Vec<String>);

#[pymethods]
impl PythonLookups {
    /// Prepare for one view; where everybody is denied, nothing of it is read.
    #[new]
    fn new(view: &PythonView, seal: &PythonSeal, denied: bool) -> Self {
        Self { lookups: Lookups::new(view.view.clone(), seal.seal.clone(), denied) }
    }

    /// Return what the engine would be told of subjects, so that tests can hold it against the reference.
    #[allow(clippy::needless_pass_by_value, reason = "what Python gives is extracted into it")]
    fn look_up_rows(&self, subjects: Vec<(String, String)>) -> PyResult<Vec<ConsentRow>> {
        let subjects: Vec<(&str, &str)> = subjects.iter().map(|(kind, id)| (&**kind, &**id)).collect();
        let found = self.lookups.look_up(&subjects)?;
        Ok(found.iter().map(|consent| row(consent)).collect())
    }

    #[allow(clippy::unused_self, reason = "Python calls it on an object")]
    fn __reduce__(&self) -> PyResult<()> {
        Err(not_copied())
    }
}

impl PythonLookups {
    pub(super) fn look_up(&self, subjects: &[(&str, &str)]) -> Result<Vec<Arc<SubjectConsent>>> {
        self.lookups.look_up(subjects)
    }
}

fn row(consent: &SubjectConsent) -> ConsentRow {
    let states = consent.states.iter().map(|decisions| {
        let row = |(name, decision): &(String, crate::consent::Decision)| {
            (name.clone(), decision.denies, decision.decided_at_ms, decision.expires_at_ms)
        };
        decisions.iter().map(row).collect()
    });
    (
        states.collect(),
        consent.undecodable,
        consent.minor,
        consent.jurisdictions.clone(),
        consent.recipient_denials.clone(),
    )
}

fn not_copied() -> PyErr {
    PyTypeError::new_err("a part of the consent store is neither pickled nor copied")
}
