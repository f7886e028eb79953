//! The engine: raw records in, one outcome per record and output out; see `tokenweir.core.engine`.
//!
//! Whatever is wrong with a record ends as an outcome with a reason; nothing that a record holds can end as a panic.
//! What only Python can tell, consent first of all, is asked of a [`Host`] for a whole slice at once.

mod decide;
mod facts;
mod finish;
mod slice;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ahash::RandomState;
pub use slice::Engine;

use crate::codec::{Format, Reader, Writer};
use crate::consent::{PurposeRule, SubjectConsent};
use crate::generalize::{Printable, Unfit};
use crate::plan::{self, Action, Document, EventTime, Out, OutputValue, SubjectSource, VERSION};
use crate::program::{Case, Cell, Counts, Program, check};

/// Combinations of purposes for which programs are kept per output; more would be a policy nobody could read.
const MAX_PROGRAMS: usize = 256;
/// Most purposes of one stream, one bit for each.
const MAX_PURPOSES: usize = 64;

/// A header of a record. Only a name that is valid Unicode is told.
#[derive(Clone, Copy)]
pub struct Header<'r> {
    /// Its name.
    pub name: Option<&'r str>,
    /// Its value.
    pub value: Option<&'r [u8]>,
}

/// A raw record, without its frame.
pub struct Raw<'r> {
    /// The plan of its schema.
    pub plan: &'r Plan,
    /// The datum.
    pub value: Option<&'r [u8]>,
    /// The key.
    pub key: Option<&'r [u8]>,
    /// The Kafka timestamp.
    pub timestamp_ms: i64,
    /// The headers.
    pub headers: Vec<Header<'r>>,
}

/// What became of a record in one output.
pub enum Outcome {
    /// It leaves.
    Sanitized(Sanitized),
    /// Nothing of it leaves, although these values would have been treated so.
    Withheld(Counts),
    /// It is rejected.
    Rejected {
        /// The reason, as it stands in dead letters.
        reason: &'static str,
        /// The path of the place.
        path: String,
    },
    /// The engine failed on it, for this reason.
    Failed(&'static str),
}

/// A record that leaves.
pub struct Sanitized {
    /// The token of its primary subject.
    pub key: Option<String>,
    /// The datum, none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// What stays of its timestamp.
    pub timestamp_ms: i64,
    /// Which of its headers stay.
    pub headers: Vec<usize>,
    /// How its values were treated.
    pub counts: Counts,
}

/// What only Python can tell.
pub trait Host {
    /// Why it could not be told.
    type Error;

    /// Return the canonical forms of ids that need tables of Unicode, each with whether it is to be in lower case.
    ///
    /// # Errors
    ///
    /// The host failed.
    fn canonical_ids(&mut self, ids: &[(bool, String)]) -> Result<Vec<Option<String>>, Self::Error>;

    /// Return the centres of cells.
    ///
    /// # Errors
    ///
    /// The host failed.
    fn centres(&mut self, cells: &[Cell]) -> Result<Vec<Option<(f64, f64)>>, Self::Error>;

    /// Return what is known of subjects, each a type and a canonical id.
    ///
    /// # Errors
    ///
    /// Consent cannot be asked.
    fn consents(&mut self, subjects: &[(&str, &str)]) -> Result<Vec<Arc<SubjectConsent>>, Self::Error>;
}

/// A plan that is ready to run.
pub struct Plan {
    reader: Reader,
    avro: bool,
    purposes: Vec<PurposeRule>,
    subjects: Vec<SubjectSource>,
    anonymous: bool,
    event_time: Option<EventTime>,
    outputs: Vec<Output>,
    printable: Printable,
}

/// One output with its writer and its programs.
struct Output {
    settings: plan::Output,
    value: Option<Written>,
}

struct Written {
    root: Out,
    writer: Writer,
    programs: Mutex<HashMap<(u64, bool), Arc<Program>, RandomState>>,
}

impl Plan {
    /// Make a plan ready to run.
    ///
    /// # Errors
    ///
    /// The document has something that this engine cannot do; the text says what.
    pub fn new(document: Document) -> Result<Self, String> {
        if document.version != VERSION {
            return Err(format!("the native engine knows version {VERSION} of plans, not {}", document.version));
        }
        if document.purposes.len() > MAX_PURPOSES {
            return Err(format!("the native engine knows at most {MAX_PURPOSES} purposes of a stream"));
        }
        let outputs = document.outputs.into_iter().map(Output::new).collect::<Result<_, _>>()?;
        Ok(Self {
            reader: Reader::new(&document.source, document.limits).map_err(|error| error.to_string())?,
            avro: Format::of(&document.source).map_err(|error| error.to_string())? == Format::Avro,
            purposes: document.purposes.into_iter().map(PurposeRule::from).collect(),
            subjects: document.subjects,
            anonymous: document.anonymous,
            event_time: document.event_time,
            outputs,
            printable: Printable::from_ranges(&document.printable),
        })
    }

    /// Number of outputs.
    #[must_use]
    pub fn width(&self) -> usize {
        self.outputs.len()
    }

    /// Whether anything is asked of consent for a record of somebody.
    fn asks(&self, raw: &Raw<'_>) -> bool {
        self.outputs.iter().any(|output| raw.value.is_some() || output.settings.tombstones)
    }
}

impl Output {
    fn new(mut settings: plan::Output) -> Result<Self, String> {
        let value = match settings.value.take() {
            None => None,
            Some(OutputValue { root, schema }) => {
                check(&root).map_err(|Unfit(message)| message.to_owned())?;
                let writer = Writer::new(&schema).map_err(|error| error.to_string())?;
                Some(Written { root, writer, programs: Mutex::default() })
            }
        };
        Ok(Self { settings, value })
    }

    /// Return the table whose token of the subject is the record key, or none for a null key.
    fn key_table(&self, subject: usize, passed: u64) -> Option<usize> {
        match self.settings.key.as_ref()?.get(subject).and_then(|rules| rules.action(passed, false))? {
            Action::Tokenize(table) => Some(*table),
            _ => None,
        }
    }
}

impl Written {
    /// Return the program for the records of one case.
    fn program(&self, case: Case) -> Result<Arc<Program>, Unfit> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (case.passed, case.anonymous);
        if let Some(program) = programs.get(&key) {
            return Ok(program.clone());
        }
        if programs.len() >= MAX_PROGRAMS {
            programs.clear();
        }
        let program = Arc::new(Program::new(&self.root, case)?);
        programs.insert(key, program.clone());
        Ok(program)
    }
}
