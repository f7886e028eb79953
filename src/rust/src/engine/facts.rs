//! What a record says before any consent is asked: whom it is about, and when it happened.

use std::borrow::Cow;

use bumpalo::collections::Vec as ArenaVec;

use crate::access::first_present;
use crate::codec::Arena;
use crate::plan::{EventTime, Origin, SubjectSource};
use crate::schema::Rejection;
use crate::subjects::ForeignIds;
use crate::timestamps::{checked_ms, integer_of, parse_date_time};
use crate::value::Value;

use super::{Plan, Raw};

/// A subject of a record: its place among those of the plan, its type, and its canonical id.
#[derive(Clone, Copy)]
pub(super) struct Found<'r> {
    pub(super) index: usize,
    pub(super) kind: &'r str,
    pub(super) id: &'r str,
}

/// What a record says. The first subject is the primary one.
pub(super) struct Facts<'r> {
    pub(super) subjects: &'r [Found<'r>],
    pub(super) event_time_ms: i64,
}

impl Plan {
    /// Return what a record says, or none where Python is to be asked about an id first.
    pub(super) fn facts<'r>(
        &'r self,
        raw: &Raw<'r>,
        value: Option<&Value<'r>>,
        foreign: &mut ForeignIds,
        arena: &'r Arena,
    ) -> Result<Option<Facts<'r>>, Rejection> {
        let mut subjects = ArenaVec::new_in(arena);
        for (index, source) in self.subjects.iter().enumerate() {
            let invalid = || Rejection { reason: "subject_invalid", path: source.place.clone() };
            match source.id(raw, value, foreign).ok_or_else(invalid)? {
                Id::Unknown => return Ok(None),
                Id::Nobody => {}
                Id::Is(id) => {
                    let id = match id {
                        Cow::Borrowed(id) => id,
                        Cow::Owned(id) => arena.alloc_str(&id),
                    };
                    subjects.push(Found { index, kind: &source.r#type, id });
                }
            }
        }
        let mut facts = Facts { subjects: subjects.into_bump_slice(), event_time_ms: raw.timestamp_ms };
        // Without a subject nothing depends on the time: such a record is withheld, or leaves without being asked for.
        if let (Some(time), Some(value), false) = (&self.event_time, value, facts.subjects.is_empty()) {
            let invalid = || Rejection { reason: "event_time_invalid", path: time.path.clone() };
            if let Some(found) = first_present(&time.places, value)
                && !matches!(found, Value::Text(text) if text.is_empty())
            {
                facts.event_time_ms = time.read(found).ok_or_else(invalid)?.min(raw.timestamp_ms);
            }
        }
        Ok(Some(facts))
    }
}

enum Id<'r> {
    Nobody,
    Unknown,
    Is(Cow<'r, str>),
}

impl SubjectSource {
    /// Return whom a record names here, or none where that is no id.
    fn id<'r>(&self, raw: &Raw<'r>, value: Option<&Value<'r>>, foreign: &mut ForeignIds) -> Option<Id<'r>> {
        match &self.origin {
            Origin::Value(places) => match value.and_then(|value| first_present(places, value)) {
                Some(found) => self.canonical(found, foreign),
                None => Some(Id::Nobody),
            },
            Origin::Key => self.id_of_bytes(raw.key, foreign),
            Origin::Header(name) => {
                let mut found =
                    raw.headers.iter().filter(|header| header.name == Some(name)).map(|header| header.value);
                let first = found.next().flatten();
                // A header that stands there twice must say the same.
                if found.all(|other| other == first) { self.id_of_bytes(first, foreign) } else { None }
            }
        }
    }

    fn id_of_bytes<'r>(&self, bytes: Option<&'r [u8]>, foreign: &mut ForeignIds) -> Option<Id<'r>> {
        match bytes {
            Some(bytes) => self.canonical(&Value::Text(std::str::from_utf8(bytes).ok()?), foreign),
            None => Some(Id::Nobody),
        }
    }

    fn canonical<'r>(&self, value: &Value<'r>, foreign: &mut ForeignIds) -> Option<Id<'r>> {
        let means_nobody = match value {
            Value::Text(text) => text.is_empty() || self.is_null(text),
            Value::Number(text) => self.is_null(text),
            Value::Bytes(bytes) => bytes.is_empty(),
            _ => false,
        };
        if means_nobody {
            return Some(Id::Nobody);
        }
        Some(match foreign.resolve(self.form, value) {
            None => Id::Unknown,
            Some(None) => return None,
            Some(Some(id)) if self.is_null(&id) => Id::Nobody,
            Some(Some(id)) => Id::Is(id),
        })
    }

    fn is_null(&self, text: &str) -> bool {
        self.null_values.iter().any(|null| null == text)
    }
}

impl EventTime {
    /// Return the milliseconds that a value says, rounded down.
    fn read(&self, value: &Value<'_>) -> Option<i64> {
        let timestamp_ms = match (self.ticks_per_ms, value) {
            (Some(ticks), _) => integer_of(value)?.checked_div_euclid(ticks)?,
            (None, Value::Text(text)) => parse_date_time(text)?,
            (None, _) => return None,
        };
        checked_ms(timestamp_ms)
    }
}
