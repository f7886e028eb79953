//! Treating and encoding a record that leaves, and what else of it leaves: key, timestamp and headers.

use super::decide::{Decided, Key, Pending};
use super::{Outcome, Output, Raw, Sanitized};
use crate::codec::Arena;
use crate::plan::Timestamp;
use crate::prf::{Keyed, Prf};
use crate::program::{Centres, Stop, Transforming};
use crate::subjects::ForeignIds;
use crate::tables::Asked;
use crate::timestamps::{Unit, floor_ms};
use crate::value::Value;

/// What a schema id and its magic byte take before a value.
const FRAME_BYTES: usize = 5;
/// The two lengths of a header, as varints.
const HEADER_BYTES: usize = 10;

/// The answers to what was collected from the records of a slice.
pub(super) struct Finish<'f> {
    pub(super) tables: &'f [Asked<'f>],
    pub(super) prfs: &'f [Prf],
    /// The numbers of all texts that were collected.
    pub(super) numbers: &'f [usize],
    pub(super) foreign: &'f ForeignIds,
    pub(super) centres: &'f Centres,
    pub(super) max_output_bytes: usize,
}

impl Finish<'_> {
    /// Return the outcomes of one record. What leaves it lies in the arena until it is written.
    pub(super) fn record(
        &self,
        raw: &Raw<'_>,
        value: Option<&Value<'_>>,
        decided: Vec<Decided<'_>>,
        arena: &mut Arena,
    ) -> Vec<Outcome> {
        let entries = raw.plan.outputs.iter().zip(decided);
        let finished = entries.map(|(output, entry)| match entry {
            Err(outcome) => outcome,
            Ok(pending) => {
                let outcome = self.sanitized(raw, value, output, &pending, arena).unwrap_or_else(|outcome| outcome);
                arena.reset();
                outcome
            }
        });
        finished.collect()
    }

    fn sanitized(
        &self,
        raw: &Raw<'_>,
        value: Option<&Value<'_>>,
        output: &Output,
        pending: &Pending<'_>,
        arena: &Arena,
    ) -> Result<Outcome, Outcome> {
        let mut sanitized = Sanitized { key: None, value: None, timestamp_ms: -1, headers: Vec::new(), counts: [0; 5] };
        if let (Some(program), Some(value), Some(written)) = (&pending.program, value, &output.value) {
            let Finish { tables, prfs, foreign, centres, .. } = *self;
            let printable = &raw.plan.printable;
            let keyed = Keyed { prfs, person: pending.person };
            let numbers = self.numbers.get(pending.first_text..).unwrap_or_default().iter();
            let mut transforming =
                Transforming { tables, numbers, foreign, centres, printable, keyed, arena, counts: [0; 5] };
            let left = program.transform(value, &mut transforming)?;
            sanitized.counts = transforming.counts;
            let Some(left) = left else {
                // Withheld wins: whether key, timestamp and size would have been right does not matter any more.
                return Ok(Outcome::Withheld(sanitized.counts));
            };
            let mut bytes = Vec::with_capacity(raw.value.map_or(0, <[u8]>::len));
            written.writer.write(&left, &mut bytes).map_err(|_| Outcome::Failed("a value cannot be written"))?;
            sanitized.value = Some(bytes);
        }
        if let Some(key) = &pending.key {
            sanitized.key = Some(self.token(key)?.to_owned());
        }
        sanitized.timestamp_ms = floored(raw.timestamp_ms, output.settings.timestamp)
            .ok_or_else(|| Outcome::Rejected { reason: "event_time_invalid", path: String::new() })?;
        sanitized.headers = kept_headers(raw, output, pending.anonymous);
        if size(&sanitized, raw) > self.max_output_bytes {
            return Err(Outcome::Rejected { reason: "output_too_large", path: String::new() });
        }
        Ok(Outcome::Sanitized(sanitized))
    }

    fn token(&self, key: &Key<'_>) -> Result<&str, Outcome> {
        let table = self.tables.get(key.table).and_then(|table| table.token(key.id));
        let token = table.ok_or(Outcome::Failed("the token of a record key was not asked for"))?;
        token.ok_or_else(|| Outcome::Rejected { reason: "subject_invalid", path: key.place.to_owned() })
    }
}

impl From<Stop> for Outcome {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Rejected { reason, path } => Self::Rejected { reason, path: path.as_ref().to_owned() },
            Stop::Failed(why) => Self::Failed(why),
        }
    }
}

/// Return what stays of a record's timestamp; a record that has none (-1) still has none.
fn floored(timestamp_ms: i64, keep: Timestamp) -> Option<i64> {
    match keep {
        _ if timestamp_ms < 0 => Some(timestamp_ms),
        Timestamp::Keep => Some(timestamp_ms),
        Timestamp::Hour => floor_ms(timestamp_ms, Unit::Hour),
        Timestamp::Day => floor_ms(timestamp_ms, Unit::Day),
    }
}

fn kept_headers(raw: &Raw<'_>, output: &Output, anonymous: bool) -> Vec<usize> {
    let settings = &output.settings;
    let stays = |name: &str| {
        let is = |other: &String| other == name;
        settings.headers.iter().any(is) && !(anonymous && settings.person_headers.iter().any(is))
    };
    let kept = raw.headers.iter().enumerate().filter(|(_, header)| header.name.is_some_and(stays));
    kept.map(|(index, _)| index).collect()
}

/// Return the bytes of a record as the broker counts them: framed value, key and headers.
fn size(sanitized: &Sanitized, raw: &Raw<'_>) -> usize {
    let headers = sanitized.headers.iter().filter_map(|index| raw.headers.get(*index));
    let header_bytes =
        headers.map(|header| HEADER_BYTES + header.name.map_or(0, str::len) + header.value.map_or(0, <[u8]>::len));
    FRAME_BYTES
        + sanitized.value.as_ref().map_or(0, Vec::len)
        + sanitized.key.as_ref().map_or(0, String::len)
        + header_bytes.sum::<usize>()
}
