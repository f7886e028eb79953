//! The document that a plan is made from: what `tokenweir.core.nativeplan` says of a compiled plan, as plain data.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::access::Moves;
use crate::schema::{Kind, Limits, Schema};
use crate::subjects::Form;
use crate::timestamps::Unit;

/// Version of the document that this engine knows.
pub const VERSION: u32 = 1;

/// Everything about the records of one schema of one stream.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The version; an engine refuses one that it does not know.
    pub version: u32,
    /// The schema of the records.
    pub source: Schema,
    /// What one record may cost.
    pub limits: Limits,
    /// The purposes, in the order of the bits of every mask.
    pub purposes: Vec<Purpose>,
    /// Where records say whom they are about.
    pub subjects: Vec<SubjectSource>,
    /// Whether records without a subject may leave.
    pub anonymous: bool,
    /// Where records say when they happened.
    pub event_time: Option<EventTime>,
    /// The outputs.
    pub outputs: Vec<Output>,
    /// The characters that Python would print, first and last of each range, where a treatment needs to know.
    pub printable: Vec<(u32, u32)>,
}

/// What a purpose rests on and how long; see `tokenweir.core.consent.decide.PurposeRule`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purpose {
    /// Its name.
    pub name: String,
    /// Its legal basis.
    pub basis: Basis,
    /// Other bases by jurisdiction.
    pub basis_by: BTreeMap<String, Basis>,
    /// The age from which on an event is too old.
    pub retention_ms: i64,
    /// Whether minors are denied.
    pub refuses_minors: bool,
    /// Whether an allow holds for events before it.
    pub covers_earlier: bool,
}

/// A legal basis.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are those of the policy")]
pub enum Basis {
    Consent,
    OptOut,
    LegitimateInterest,
    Contract,
    LegalObligation,
    PublicTask,
    VitalInterest,
}

/// One place where records say whom they are about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectSource {
    /// The type of subject.
    pub r#type: String,
    /// Where the id stands.
    pub origin: Origin,
    /// How the id is written.
    pub form: Form,
    /// Ids that mean nobody.
    pub null_values: Vec<String>,
    /// The path that a rejection names.
    pub place: String,
}

/// Where an id stands.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// In the value: per place that the path means, the moves to it.
    Value(Vec<Moves>),
    /// In the text key.
    Key,
    /// In the header of this name.
    Header(String),
}

/// The event's own time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventTime {
    /// The path that a rejection names.
    pub path: String,
    /// Per place that the path means, the moves to it.
    pub places: Vec<Moves>,
    /// Ticks in a millisecond of an integer; none for a text of RFC 3339.
    pub ticks_per_ms: Option<i64>,
}

/// One output.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Ids of who reads it.
    pub recipients: Vec<String>,
    /// Mask of the purposes that it serves.
    pub served: u64,
    /// What a record needs to leave.
    pub requires: Requires,
    /// Per subject the rules of the record key; none where the key is always null.
    pub key: Option<Vec<Rules>>,
    /// What stays of the record's timestamp.
    pub timestamp: Timestamp,
    /// Names of the headers that leave.
    pub headers: Vec<String>,
    /// Those that a record without a subject never shows.
    pub person_headers: Vec<String>,
    /// Whether a null value can be forwarded.
    pub tombstones: bool,
    /// What leaves of the value, and the schema that it is written with.
    pub value: Option<OutputValue>,
}

/// What leaves of the value of a record.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputValue {
    /// The tree.
    pub root: Out,
    /// The derived schema.
    pub schema: Schema,
}

/// The purposes that must pass: all of the mask, or one of it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requires {
    /// Whether all must.
    pub all: bool,
    /// The purposes.
    pub mask: u64,
}

impl Requires {
    /// Whether the purposes that pass suffice; without any purpose to require, nothing does.
    #[must_use]
    pub const fn met(self, passed: u64) -> bool {
        let met = passed & self.mask;
        met != 0 && (!self.all || met == self.mask)
    }
}

/// What stays of a record's timestamp.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are those of the policy")]
pub enum Timestamp {
    Keep,
    Hour,
    Day,
}

/// The rules of one class for one audience; the first that matches wins.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The rules, in their order.
    pub rules: Vec<Rule>,
    /// Whether a record without a subject never shows it.
    pub person: bool,
    /// Whether a value that does not fit rejects its record.
    pub reject_invalid: bool,
}

impl Rules {
    /// Return the action for a record for which these purposes pass, or none where it is withheld.
    ///
    /// What depends on a person is withheld from a record about nobody.
    #[must_use]
    pub fn action(&self, passed: u64, anonymous: bool) -> Option<&Action> {
        if anonymous && self.person {
            return None;
        }
        let rule = self.rules.iter().find(|rule| passed & rule.when == rule.when)?;
        let is_withheld = matches!(rule.action, Action::Drop) || (anonymous && rule.action.is_keyed());
        if is_withheld { None } else { Some(&rule.action) }
    }
}

/// An action and the purposes that must all pass for it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The purposes.
    pub when: u64,
    /// The action.
    pub action: Action,
}

/// What is done to a value.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It leaves as it is.
    Keep,
    /// It does not leave.
    Drop,
    /// It leaves as its token of the engine's table with this number.
    Tokenize(usize),
    /// It leaves coarser.
    Generalize(Coarser),
}

impl Action {
    /// Whether it depends on whom the record is about.
    #[must_use]
    pub const fn is_keyed(&self) -> bool {
        matches!(self, Self::Generalize(Coarser::Shift { .. } | Coarser::Noise { .. }))
    }

    /// Whether it works on both members of a pair of coordinates at once.
    #[must_use]
    pub const fn is_for_pairs(&self) -> bool {
        matches!(self, Self::Generalize(Coarser::Cell(_) | Coarser::Noise { .. }))
    }
}

/// A way to make a value coarser. Numbers are exact decimals in text.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coarser {
    /// A pair of coordinates becomes the centre of its cell, at this resolution.
    Cell(u8),
    /// A time becomes the start of its unit.
    Time(Unit),
    /// A number becomes the nearest multiple of a step.
    Round(String),
    /// A number becomes the lower bound of its bucket.
    Buckets(Vec<String>),
    /// This many characters stay.
    Prefix(usize),
    /// This many bits of an IP address stay.
    Network(u8),
    /// A text becomes another one.
    Map {
        /// What each text becomes.
        table: BTreeMap<String, String>,
        /// What all others become.
        default: Option<String>,
    },
    /// A User-Agent header becomes a family.
    UserAgent {
        /// In their order: a family, and the texts that must all occur, in lower case.
        rules: Vec<(String, Vec<String>)>,
        /// What all others become.
        default: String,
    },
    /// A time moves by as many days, at most, as whoever the record is about moves by.
    Shift {
        /// The most days.
        days: u32,
        /// The number of the engine's keyed function.
        prf: usize,
    },
    /// A pair of coordinates becomes a point near the place that it is in.
    Noise {
        /// Mean distance, and length of the sides of a place.
        metres: u32,
        /// The number of the engine's keyed function.
        prf: usize,
    },
    /// Scheme and host stay, with this many segments of the path and these parameters.
    Url {
        /// Segments.
        path: usize,
        /// Names of parameters.
        query: Vec<String>,
    },
}

/// What is known of a place, without what is below it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// What stands there.
    pub kind: Kind,
    /// Its path.
    pub path: String,
    /// The logical type or format.
    pub logical: String,
    /// Of a fixed, in bytes.
    pub size: usize,
    /// Digits of a decimal.
    pub precision: u32,
    /// Digits of a decimal after the point.
    pub scale: u32,
}

/// What becomes of a place.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Out {
    /// A scalar.
    Leaf {
        /// The place.
        place: Place,
        /// Its rules.
        rules: Rules,
        /// How its ids are written.
        form: Option<Form>,
        /// Whether the record says here whom it is about.
        subject: bool,
        /// Indexes of latitude and longitude.
        pair: Option<(usize, usize)>,
    },
    /// A record.
    Record {
        /// The fields that may leave.
        fields: Vec<FieldOut>,
        /// The rules of the whole.
        gate: Option<Rules>,
    },
    /// An array.
    Array {
        /// Its elements.
        items: Box<Out>,
        /// The rules of the whole.
        gate: Option<Rules>,
    },
    /// A map.
    Map {
        /// The entries that are named.
        named: Vec<(String, Out)>,
        /// All others.
        values: Option<Box<Out>>,
        /// The rules of their keys.
        keys: Option<Rules>,
        /// The entries of which nothing leaves.
        dropped: Vec<String>,
        /// The rules of the whole.
        gate: Option<Rules>,
    },
    /// A union.
    Union {
        /// Its path.
        path: String,
        /// Whether null is one of its branches.
        has_null: bool,
        /// Per branch what becomes of it.
        branches: Vec<Option<Out>>,
        /// The branches whose values are invalid.
        invalid: Vec<usize>,
        /// The rules of the whole.
        gate: Option<Rules>,
    },
}

/// A field of a record that may leave.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldOut {
    /// Its place among the fields of the source.
    pub index: usize,
    /// Whether it is never null or absent.
    pub always: bool,
    /// What becomes of it.
    pub value: Out,
}
