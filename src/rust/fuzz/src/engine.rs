//! The engine: any record under a real plan, with consent that the input chooses.
//!
//! Frames are no part of it: they are read in Python, and a record comes here without its own.

use std::sync::Arc;

use tokenweir_native::codec::Arena;
use tokenweir_native::consent::{Decision, SubjectConsent};
use tokenweir_native::engine::{Header, Host, Outcome, Raw};
use tokenweir_native::program::Cell;

use crate::input::Input;
use crate::plans::{PLANS, Real};
use crate::{LONGEST, memory};

const NOW_MS: i64 = 1_795_341_600_000;
const HOUR_MS: i64 = 3_600_000;
const TIMES_MS: [i64; 10] =
    [NOW_MS, NOW_MS - 1, NOW_MS - HOUR_MS, NOW_MS - 100 * 24 * HOUR_MS, 2 * NOW_MS, 0, -1, i64::MAX, i64::MIN, 1];

const MAX_OUTPUT_BYTES: usize = 100_000;

/// Most bytes for a byte of the records and an output: texts in tables, tokens, and what leaves.
const BYTE_BYTES: usize = 320;

/// Most bytes for each element of the limit, and each place of the plan, and an output.
const VALUE_BYTES: usize = 480;

/// Most bytes for what is there once, programs included.
const FIXED_BYTES: usize = 256 * 1024;

/// Sanitize what the input says: a plan, consent, a key, headers, and one or two values.
pub fn run(data: &[u8]) {
    let mut input = Input::new(&data[..data.len().min(LONGEST)]);
    let choice = input.below(PLANS.len());
    let real = &PLANS[choice];
    let consent = input.byte();
    let flags = input.byte();
    let timestamp_ms = input.one_of(&TIMES_MS);
    let key = (flags & 1 != 0).then(|| input.short());
    let headers: Vec<Header<'_>> = (0..flags >> 2 & 3).map(|_| header(&mut input, real)).collect();
    let rest = input.rest();
    let has_value = flags & 2 == 0;
    let (first, second) = rest.split_at(rest.len() / 2);
    let values: &[&[u8]] = if flags & 16 == 0 { &[rest] } else { &[first, second] };
    let raw = |value| Raw { plan: &real.plan, value, key, timestamp_ms, headers: headers.clone() };
    let records: Vec<Raw<'_>> = values.iter().map(|value| raw(has_value.then_some(*value))).collect();

    let together = sanitize(real, &records, consent);
    for (record, row) in records.iter().zip(&together) {
        assert!(row.len() == real.outputs.len(), "an outcome for each output");
        for (outcome, output) in row.iter().zip(&real.outputs) {
            check(outcome, record, output.as_ref());
        }
    }
    if records.len() > 1 {
        for (record, row) in records.iter().zip(&together) {
            let alone = sanitize(real, std::slice::from_ref(record), consent);
            assert!(same(&alone[0], row), "a record depends on those beside it");
        }
    }
}

fn header<'a>(input: &mut Input<'a>, real: &'a Real) -> Header<'a> {
    let choice = usize::from(input.byte());
    let name = match real.headers.get(choice) {
        Some(name) => Some(&**name),
        None if choice == 255 => None,
        None => Some(["session", "device", "other"][choice % 3]),
    };
    Header { name, value: (input.below(8) > 0).then(|| input.short()) }
}

fn sanitize(real: &Real, records: &[Raw<'_>], consent: u8) -> Vec<Vec<Outcome>> {
    let bytes: usize = records.iter().filter_map(|raw| Some(raw.value?.len() + raw.key.map_or(0, <[u8]>::len))).sum();
    let elements = usize::try_from(real.limits.elements).unwrap_or(usize::MAX);
    let each = BYTE_BYTES * bytes + VALUE_BYTES * (records.len() * elements + real.places);
    let mut engine = real.engine(MAX_OUTPUT_BYTES);
    let mut outcomes = Vec::new();
    while outcomes.len() < records.len() {
        let left = &records[outcomes.len()..];
        let made = memory::within(FIXED_BYTES + each * (1 + real.outputs.len()), "an engine", || {
            let Ok(made) = engine.process(left, NOW_MS, &mut Scripted { consent });
            made
        });
        assert!((1..=left.len()).contains(&made.len()), "the first records, at least one");
        outcomes.extend(made);
    }
    outcomes
}

type Codecs = (tokenweir_native::codec::Reader, tokenweir_native::codec::Writer);

fn check(outcome: &Outcome, record: &Raw<'_>, output: Option<&Codecs>) {
    match outcome {
        Outcome::Failed(why) => panic!("the engine failed: {why}"),
        Outcome::Withheld(_) => {}
        Outcome::Rejected { reason, .. } => assert!(!reason.is_empty(), "a reason"),
        Outcome::Sanitized(left) => {
            assert!(left.timestamp_ms <= record.timestamp_ms, "a timestamp gets coarser");
            assert!(left.headers.iter().all(|index| *index < record.headers.len()), "headers of the record");
            assert!(left.value.is_some() == record.value.is_some(), "a tombstone stays one");
            let Some(value) = &left.value else {
                assert!(left.key.is_some(), "a tombstone without a key says nothing");
                return;
            };
            assert!(value.len() <= MAX_OUTPUT_BYTES, "too large for the output");
            let Some((reader, writer)) = output else { panic!("a value without a schema") };
            let arena = Arena::new();
            let read = reader.read(value, &arena).unwrap_or_else(|found| panic!("what leaves is {}", found.reason)).0;
            let mut written = Vec::new();
            writer.write(&read, &mut written).unwrap_or_else(|error| panic!("{error}"));
            assert!(written == *value, "what leaves has the one canonical encoding");
        }
    }
}

fn same(left: &[Outcome], right: &[Outcome]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).all(|pair| match pair {
            (Outcome::Sanitized(left), Outcome::Sanitized(right)) => {
                (&left.key, &left.value, left.timestamp_ms, &left.headers, left.counts)
                    == (&right.key, &right.value, right.timestamp_ms, &right.headers, right.counts)
            }
            (Outcome::Withheld(left), Outcome::Withheld(right)) => left == right,
            (Outcome::Rejected { reason, path }, Outcome::Rejected { reason: other, path: place }) => {
                (reason, path) == (other, place)
            }
            _ => false,
        })
}

/// Answers as one byte of the input says, the same to the same question.
pub struct Scripted {
    /// The byte.
    pub consent: u8,
}

impl Host for Scripted {
    type Error = std::convert::Infallible;

    fn canonical_ids(&mut self, ids: &[(bool, String)]) -> Result<Vec<Option<String>>, Self::Error> {
        let form = |(lower, id): &(bool, String)| {
            let known = self.consent & 64 == 0 && id.chars().count() < 256;
            known.then(|| if *lower { id.to_lowercase() } else { id.clone() })
        };
        Ok(ids.iter().map(form).collect())
    }

    fn centres(&mut self, cells: &[Cell]) -> Result<Vec<Option<(f64, f64)>>, Self::Error> {
        let centre = |cell: &Cell| {
            let (_, latitude, longitude) = cell.position();
            (self.consent & 128 == 0).then(|| (latitude.round(), longitude.round()))
        };
        Ok(cells.iter().map(centre).collect())
    }

    fn consents(&mut self, subjects: &[(&str, &str)]) -> Result<Vec<Arc<SubjectConsent>>, Self::Error> {
        let decided = |denies, decided_at_ms, expires_at_ms| SubjectConsent {
            states: vec![vec![("*".to_owned(), Decision { denies, decided_at_ms, expires_at_ms })]],
            ..SubjectConsent::default()
        };
        let allowed = || decided(false, 0, None);
        let known = |(_, id): &(&str, &str)| match usize::from(self.consent % 32).wrapping_add(id.len() / 4) % 8 {
            0 | 1 => allowed(),
            2 => decided(true, NOW_MS, None),
            3 => SubjectConsent::default(),
            4 => SubjectConsent { undecodable: true, ..allowed() },
            5 => SubjectConsent { minor: true, jurisdictions: vec!["US-CA".into()], ..allowed() },
            6 => SubjectConsent { recipient_denials: vec!["*@a".into()], ..allowed() },
            _ => decided(false, NOW_MS - 1, Some(NOW_MS)),
        };
        Ok(subjects.iter().map(|subject| Arc::new(known(subject))).collect())
    }
}
