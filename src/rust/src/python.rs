//! The engine as Python sees it: apart from `lib.rs`, because turning records and outcomes into what they are on the
//! other side is a matter of its own.

mod columns;
mod held;
mod store;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::sync::MutexExt;
use pyo3::types::{PyBytes, PyDict, PyList, PyMappingProxy, PyTuple};

use crate::consent::{Decision, SubjectConsent};
use crate::engine::{Engine, Host, Outcome, Plan, Raw};
use crate::prf::Prf;
use crate::program::{Cell, Counts};
use crate::schema::from_json;
use crate::tokens::unicode::Version;
use crate::tokens::{Spec, Tokenizer};

use columns::{FramedPlans, OutputColumns};
use held::HeldRecord;
pub use store::{PythonEnvironment, PythonLookups, PythonSeal, PythonView};

/// Most mappings of counts that are kept; records with long arrays can have any.
const MAX_COUNTED: usize = 1_000;

/// A plan that is ready to run.
#[pyclass(frozen, name = "Plan", module = "tokenweir._native")]
pub struct PythonPlan {
    plan: Plan,
}

#[pymethods]
impl PythonPlan {
    /// Make a plan ready to run; see `tokenweir.core.nativeplan` for the document.
    #[new]
    fn new(document: &str) -> PyResult<Self> {
        let document = from_json(document).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { plan: Plan::new(document).map_err(PyValueError::new_err)? })
    }

    #[allow(clippy::unused_self, reason = "Python calls it on an object")]
    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a plan that is ready to run is neither pickled nor copied"))
    }
}

/// Sanitizes batches.
#[pyclass(frozen, name = "Engine", module = "tokenweir._native")]
pub struct PythonEngine {
    engine: Mutex<Engine>,
    /// Plans are bound in one thread while the engine is at work in another, which takes these over when it begins.
    added: Mutex<Added>,
    words: Words,
}

/// Token entries and keyed functions in the order of their numbers.
#[derive(Default)]
struct Added {
    count: usize,
    waiting: Vec<Tokenizer>,
    prfs: usize,
    waiting_prfs: Vec<Prf>,
}

#[pymethods]
impl PythonEngine {
    /// Return an engine without token entries.
    #[new]
    fn new(py: Python<'_>, max_output_bytes: usize) -> PyResult<Self> {
        let engine = Mutex::new(Engine::new(max_output_bytes));
        Ok(Self { engine, added: Mutex::default(), words: Words::new(py)? })
    }

    /// Add a token entry with its keys, and return the number that plans have for it.
    fn add_table(&self, py: Python<'_>, spec: &str, key: &[u8], tweak_key: &[u8]) -> PyResult<usize> {
        let spec: Spec = from_json(spec).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let version = py.import("unicodedata")?.getattr("unidata_version")?.extract::<String>()?;
        let tokenizer = Tokenizer::from_plan(&spec, key, tweak_key, Version::of_python(&version))?;
        let mut added = self.added.lock_py_attached(py).map_err(|_| at_work())?;
        added.waiting.push(tokenizer);
        added.count += 1;
        Ok(added.count - 1)
    }

    /// Add a keyed function with its key, and return the number that plans have for it.
    fn add_prf(&self, py: Python<'_>, key: &[u8]) -> PyResult<usize> {
        let prf = Prf::new(key)?;
        let mut added = self.added.lock_py_attached(py).map_err(|_| at_work())?;
        added.waiting_prfs.push(prf);
        added.prfs += 1;
        Ok(added.prfs - 1)
    }

    /// Return the outcomes of the first records, at least one, and why the engine failed on some.
    ///
    /// `batch` is a list of pairs of a plan and a record. What `host` raises comes out as it is. Where there is a
    /// `snapshot` of the consent store, subjects are looked up in its `lookups`, and it is told of that.
    #[pyo3(signature = (batch, now_ms, host, snapshot = None))]
    fn process<'py>(
        &self,
        batch: &Bound<'py, PyList>,
        now_ms: i64,
        host: Py<PyAny>,
        snapshot: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyList>, Vec<&'static str>)> {
        let py = batch.py();
        let held = batch.iter().map(|pair| HeldRecord::new(&pair)).collect::<PyResult<Vec<_>>>()?;
        let outcomes = self.outcomes(py, &held, now_ms, host, snapshot)?;
        let mut faults = Vec::new();
        let rows = PyList::empty(py);
        for (held, row) in held.iter().zip(outcomes) {
            let made = PyList::empty(py);
            for outcome in row {
                made.append(self.words.outcome(py, outcome, held, &mut faults)?)?;
            }
            rows.append(made)?;
        }
        Ok((rows, faults))
    }

    /// Return per output what becomes of the first records, at least one, and why the engine failed on some.
    ///
    /// The records are columns, as in `tokenweir.core.batches`; otherwise this is as `process`.
    #[pyo3(signature = (plans, values, keys, timestamps_ms, headers, frame_bytes, now_ms, host, snapshot = None))]
    #[allow(clippy::too_many_arguments, reason = "the columns of a batch, and what its outcomes depend on")]
    fn run<'py>(
        &self,
        plans: &Bound<'py, PyList>,
        values: &Bound<'py, PyList>,
        keys: &Bound<'py, PyList>,
        timestamps_ms: &Bound<'py, PyList>,
        headers: Option<&Bound<'py, PyList>>,
        frame_bytes: usize,
        now_ms: i64,
        host: Py<PyAny>,
        snapshot: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Vec<OutputColumns<'py>>, Vec<&'static str>)> {
        let py = plans.py();
        let mut framed = FramedPlans::default();
        let held = columns::held(&mut framed, (plans, values, keys, timestamps_ms, headers), frame_bytes)?;
        let outcomes = self.outcomes(py, &held, now_ms, host, snapshot)?;
        columns::columns(py, &framed, &held, outcomes)
    }

    #[allow(clippy::unused_self, reason = "Python calls it on an object")]
    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("an engine holds keys and is neither pickled nor copied"))
    }
}

impl PythonEngine {
    /// Return the outcomes of the first records, at least one. The GIL is released meanwhile.
    fn outcomes(
        &self,
        py: Python<'_>,
        held: &[HeldRecord],
        now_ms: i64,
        host: Py<PyAny>,
        snapshot: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Vec<Outcome>>> {
        let snapshot = snapshot.map(HeldSnapshot::new).transpose()?;
        let mut host = PythonHost { host, snapshot, known: HashMap::new() };
        py.detach(|| {
            let raws: Vec<Raw<'_>> = held.iter().map(HeldRecord::raw).collect();
            let mut engine = self.engine.try_lock().map_err(|_| at_work())?;
            let mut added = self.added.lock().map_err(|_| at_work())?;
            for tokenizer in added.waiting.drain(..) {
                engine.add_table(tokenizer);
            }
            for prf in added.waiting_prfs.drain(..) {
                engine.add_prf(prf);
            }
            drop(added);
            engine.process(&raws, now_ms, &mut host)
        })
    }
}

fn at_work() -> PyErr {
    PyRuntimeError::new_err("the engine is at work in another thread")
}

/// The classes and words of `tokenweir.core.outcome`.
struct Words {
    outcome: Py<PyAny>,
    sanitized: Py<PyAny>,
    withheld: Py<PyAny>,
    rejected: Py<PyAny>,
    reason: Py<PyAny>,
    treated: Vec<Py<PyAny>>,
    /// Mappings of counts that outcomes share: making one asks the slow hash of an enumeration for each of its keys.
    counted: Mutex<HashMap<Counts, Py<PyMappingProxy>>>,
}

impl Words {
    fn new(py: Python<'_>) -> PyResult<Self> {
        let module = py.import("tokenweir.core.outcome")?;
        let fate = module.getattr("Fate")?;
        let treated = module.getattr("Treated")?.try_iter()?.map(|word| word.map(Bound::unbind));
        Ok(Self {
            outcome: module.getattr("Outcome")?.unbind(),
            sanitized: fate.getattr("SANITIZED")?.unbind(),
            withheld: fate.getattr("WITHHELD")?.unbind(),
            rejected: fate.getattr("REJECTED")?.unbind(),
            reason: module.getattr("Reason")?.unbind(),
            treated: treated.collect::<PyResult<_>>()?,
            counted: Mutex::default(),
        })
    }

    /// Return an outcome of a record; where the engine failed, `faults` is told why.
    fn outcome<'py>(
        &self,
        py: Python<'py>,
        outcome: Outcome,
        held: &HeldRecord,
        faults: &mut Vec<&'static str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let class = self.outcome.bind(py);
        let none = py.None();
        match outcome {
            Outcome::Sanitized(record) => {
                let key = record.key.map(|key| PyBytes::new(py, key.as_bytes()));
                let value = record.value.map(|value| PyBytes::new(py, &value));
                let headers = record.headers.iter().filter_map(|index| held.headers.get(*index));
                let headers = PyList::new(py, headers.map(|header| &header.pair).collect::<Vec<_>>())?;
                let treated = self.counts(py, record.counts)?;
                class.call1((&self.sanitized, key, value, record.timestamp_ms, headers, none, "", treated))
            }
            Outcome::Withheld(counts) => {
                let treated = self.counts(py, counts)?;
                class.call1((&self.withheld, &none, &none, -1, PyList::empty(py), &none, "", treated))
            }
            Outcome::Rejected { reason, path } => self.rejected(py, reason, &path),
            Outcome::Failed(why) => {
                faults.push(why);
                self.rejected(py, "engine_error", "")
            }
        }
    }

    fn rejected<'py>(&self, py: Python<'py>, reason: &str, path: &str) -> PyResult<Bound<'py, PyAny>> {
        let none = py.None();
        let reason = self.reason.bind(py).call1((reason,))?;
        let class = self.outcome.bind(py);
        class.call1((&self.rejected, &none, &none, -1, PyList::empty(py), reason, path, PyDict::new(py)))
    }

    fn counts<'py>(&self, py: Python<'py>, counts: Counts) -> PyResult<Bound<'py, PyMappingProxy>> {
        let mut counted = self.counted.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = counted.get(&counts) {
            return Ok(known.bind(py).clone());
        }
        let treated = PyDict::new(py);
        for (word, count) in self.treated.iter().zip(counts).filter(|(_, count)| *count > 0) {
            treated.set_item(word, count)?;
        }
        if counted.len() >= MAX_COUNTED {
            counted.clear();
        }
        let shared = PyMappingProxy::new(py, treated.as_mapping());
        counted.insert(counts, shared.clone().unbind());
        Ok(shared)
    }
}

/// A snapshot of the consent store in which subjects are looked up here.
struct HeldSnapshot {
    snapshot: Py<PyAny>,
    lookups: Py<PythonLookups>,
}

impl HeldSnapshot {
    fn new(snapshot: &Bound<'_, PyAny>) -> PyResult<Self> {
        let lookups = snapshot.getattr(intern!(snapshot.py(), "lookups"))?.cast_into::<PythonLookups>()?;
        Ok(Self { snapshot: snapshot.clone().unbind(), lookups: lookups.unbind() })
    }

    /// Look subjects up without the GIL. The snapshot says to the writer that LMDB runs, and tells it of damage.
    fn look_up(&self, subjects: &[(&str, &str)]) -> PyResult<Vec<Arc<SubjectConsent>>> {
        Python::attach(|py| self.snapshot.call_method0(py, intern!(py, "enter")))?;
        let found = self.lookups.get().look_up(subjects);
        Python::attach(|py| {
            self.snapshot.call_method0(py, intern!(py, "leave"))?;
            found.map_err(|fault| {
                let told = self.snapshot.call_method1(py, intern!(py, "damage"), (PyErr::from(fault).into_value(py),));
                told.map_or_else(|error| error, |error| PyErr::from_value(error.into_bound(py)))
            })
        })
    }
}

/// Asks an object of Python, with the GIL for that time.
struct PythonHost {
    host: Py<PyAny>,
    snapshot: Option<HeldSnapshot>,
    /// What was converted before, by its address; the object is kept, so that no other can have it.
    known: HashMap<usize, (Py<PyAny>, Arc<SubjectConsent>)>,
}

impl PythonHost {
    fn ask<'py, Answer, Question>(&self, py: Python<'py>, method: &str, questions: Question) -> PyResult<Vec<Answer>>
    where
        Answer: FromPyObjectOwned<'py, Error = PyErr>,
        Question: IntoPyObject<'py>,
    {
        self.host.bind(py).call_method1(method, (questions,))?.extract()
    }
}

impl Host for PythonHost {
    type Error = PyErr;

    fn canonical_ids(&mut self, ids: &[(bool, String)]) -> PyResult<Vec<Option<String>>> {
        Python::attach(|py| self.ask(py, "canonical_ids", ids))
    }

    fn centres(&mut self, cells: &[Cell]) -> PyResult<Vec<Option<(f64, f64)>>> {
        let positions: Vec<(u8, f64, f64)> = cells.iter().map(|cell| cell.position()).collect();
        Python::attach(|py| self.ask(py, "centres", positions))
    }

    fn consents(&mut self, subjects: &[(&str, &str)]) -> PyResult<Vec<Arc<SubjectConsent>>> {
        if let Some(snapshot) = &self.snapshot {
            return snapshot.look_up(subjects);
        }
        Python::attach(|py| {
            let found = self.host.bind(py).call_method1(intern!(py, "consents"), (subjects,))?;
            let found = found.try_iter()?.map(|consent| self.consent(&consent?));
            found.collect()
        })
    }
}

impl PythonHost {
    /// Convert a `SubjectConsent`. Many subjects share one, such as that of whom nothing is known.
    fn consent(&mut self, consent: &Bound<'_, PyAny>) -> PyResult<Arc<SubjectConsent>> {
        let address = consent.as_ptr().addr();
        if let Some((_, known)) = self.known.get(&address) {
            return Ok(known.clone());
        }
        let py = consent.py();
        let states = consent.getattr(intern!(py, "states"))?.call_method0(intern!(py, "values"))?;
        let states = states.try_iter()?.map(|state| decisions(&state?.getattr(intern!(py, "decisions"))?));
        let converted = Arc::new(SubjectConsent {
            states: states.collect::<PyResult<_>>()?,
            undecodable: consent.getattr(intern!(py, "undecodable"))?.extract()?,
            minor: consent.getattr(intern!(py, "minor"))?.extract()?,
            jurisdictions: consent.getattr(intern!(py, "jurisdictions"))?.extract()?,
            recipient_denials: texts(&consent.getattr(intern!(py, "recipient_denials"))?)?,
        });
        self.known.insert(address, (consent.clone().unbind(), converted.clone()));
        Ok(converted)
    }
}

fn texts(given: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    given.try_iter()?.map(|text| text?.extract()).collect()
}

/// Convert the decisions of one source: per name the decision, and when it was made and when it ends.
fn decisions(given: &Bound<'_, PyAny>) -> PyResult<Vec<(String, Decision)>> {
    let entries = given.call_method0(intern!(given.py(), "items"))?;
    let converted = entries.try_iter()?.map(|entry| {
        let (name, decision): (String, Bound<'_, PyTuple>) = entry?.extract()?;
        let denies = decision.get_item(0)?.extract::<PyBackedStr>()? == *"deny";
        let decided_at_ms = decision.get_item(1)?.extract()?;
        Ok((name, Decision { denies, decided_at_ms, expires_at_ms: decision.get_item(2)?.extract()? }))
    });
    let mut converted = converted.collect::<PyResult<Vec<(String, Decision)>>>()?;
    converted.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(converted)
}
