//! Working on one slice of a batch: decode, ask, decide, make the tokens of all records together, treat and encode.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;

use super::decide::{Decided, decide};
use super::facts::Facts;
use super::finish::Finish;
use super::{Host, Outcome, Raw};
use crate::codec::Arena;
use crate::consent::SubjectConsent;
use crate::prf::{Keyed, Prf};
use crate::program::{Centres, Collecting};
use crate::schema::Rejection;
use crate::subjects::ForeignIds;
use crate::tables::{Asked, Table};
use crate::tokens::Tokenizer;
use crate::value::Value;

/// A batch is worked on in slices. A slice ends with the record that fills it.
const SLICE_RECORDS: usize = 500;
const SLICE_BYTES: u64 = 1_000_000;
const SLICE_ARENA_BYTES: usize = 16 * 1024 * 1024;
/// For how many bytes of data a value stands here that may have no byte of its own.
const ELEMENT_BYTES: u64 = 10;
/// After so long no further record of a slice is decoded: whoever watches is asked between slices, and some records take
/// a thousand times as long as others, also such that are rejected in the end.
const SLICE_TIME: Duration = Duration::from_millis(200);

/// So many bytes of arena are kept for the next slice. A slice needs more only for records that are all values.
const KEPT_BYTES: usize = 4 * 1024 * 1024;

/// Sanitizes batches.
pub struct Engine {
    tables: Vec<Table>,
    prfs: Vec<Prf>,
    max_output_bytes: usize,
    /// Where the values of a slice lie.
    read: Arena,
    /// Where the values lie that leave one output, until they are written.
    left: Arena,
}

impl Engine {
    /// Return an engine without keys.
    #[must_use]
    pub fn new(max_output_bytes: usize) -> Self {
        Self { tables: Vec::new(), prfs: Vec::new(), max_output_bytes, read: Arena::new(), left: Arena::new() }
    }

    /// Add the table of a token entry and return its number.
    pub fn add_table(&mut self, tokenizer: Tokenizer) -> usize {
        self.tables.push(Table::new(tokenizer));
        self.tables.len() - 1
    }

    /// Add a keyed function and return its number.
    pub fn add_prf(&mut self, prf: Prf) -> usize {
        self.prfs.push(prf);
        self.prfs.len() - 1
    }

    /// Return the outcomes of the first records, at least one and as many as may be decoded at a time.
    ///
    /// # Errors
    ///
    /// The host could not tell what only it can tell. Then there are no outcomes at all.
    pub fn process<H: Host>(
        &mut self,
        records: &[Raw<'_>],
        now_ms: i64,
        host: &mut H,
    ) -> Result<Vec<Vec<Outcome>>, H::Error> {
        let Self { tables, prfs, max_output_bytes, read, left } = self;
        let mut asked: Vec<Asked<'_>> = tables.iter_mut().map(Table::ask).collect();
        let slice =
            Slice { asked: &mut asked, prfs, arena: read, foreign: ForeignIds::default(), centres: Centres::default() };
        let made = slice.process(records, now_ms, *max_output_bytes, left, host);
        let rooms: Vec<_> = asked.into_iter().map(Asked::into_room).collect();
        for (table, room) in tables.iter_mut().zip(rooms) {
            table.keep_room(room);
        }
        for arena in [read, left] {
            if arena.allocated_bytes() > KEPT_BYTES {
                *arena = Arena::new();
            }
            arena.reset();
        }
        made
    }
}

/// What is known of the records of a slice beside themselves.
struct Slice<'a, 's> {
    asked: &'a mut [Asked<'s>],
    prfs: &'s [Prf],
    arena: &'s Arena,
    foreign: ForeignIds,
    centres: Centres,
}

impl<'s> Slice<'_, 's> {
    fn process<H: Host>(
        mut self,
        records: &'s [Raw<'s>],
        now_ms: i64,
        max_output_bytes: usize,
        left: &mut Arena,
        host: &mut H,
    ) -> Result<Vec<Vec<Outcome>>, H::Error> {
        let values = read_slice(records, self.arena);
        let facts = self.all_facts(records, &values, host)?;
        let consents = AllConsents::asked(records, &facts, host)?;
        let mut decided: Vec<Vec<Decided<'_>>> = records
            .iter()
            .zip(&facts)
            .enumerate()
            .map(|(index, (raw, facts))| decide(raw, facts, consents.of(index), now_ms))
            .collect();
        let numbers = self.answer(&values, &mut decided, host)?;
        let Self { asked, prfs, foreign, centres, .. } = &self;
        let finish = Finish { tables: asked, prfs, numbers: &numbers, foreign, centres, max_output_bytes };
        let records = records.iter().zip(&values).zip(decided);
        Ok(records.map(|((raw, value), entries)| finish.record(raw, present(value), entries, left)).collect())
    }

    /// Make the tokens of all records that leave, ask for what else they need, and return the numbers of their texts.
    fn answer<H: Host>(
        &mut self,
        values: &[ReadValue<'s>],
        decided: &mut [Vec<Decided<'s>>],
        host: &mut H,
    ) -> Result<Vec<usize>, H::Error> {
        let mut numbers = Vec::new();
        loop {
            numbers.clear();
            let Self { asked, prfs, arena, foreign, centres } = &mut *self;
            let keyed = Keyed { prfs, person: None };
            let mut collecting =
                Collecting { tables: asked, numbers, arena, foreign, centres, keyed, cells: Vec::new(), again: false };
            for (value, entries) in values.iter().zip(&mut *decided) {
                for pending in entries.iter_mut().flatten() {
                    pending.first_text = collecting.numbers.len();
                    if let (Some(program), Some(value)) = (&pending.program, present(value)) {
                        collecting.keyed.person = pending.person;
                        program.collect(value, &mut collecting);
                    }
                }
            }
            let Collecting { cells, again, numbers: collected, .. } = collecting;
            numbers = collected;
            ask_about_ids(foreign, host)?;
            if !cells.is_empty() {
                let answers = host.centres(&cells)?;
                centres.extend(cells.into_iter().zip(answers));
            }
            if !again {
                break;
            }
        }
        for key in decided.iter().flatten().flatten().filter_map(|pending| pending.key.as_ref()) {
            if let Some(table) = self.asked.get_mut(key.table) {
                table.want(key.id.into(), self.arena);
            }
        }
        for table in &mut *self.asked {
            table.resolve();
        }
        Ok(numbers)
    }

    /// Find out what the records say, asking the host about ids as often as it takes.
    fn all_facts<H: Host>(
        &mut self,
        records: &'s [Raw<'s>],
        values: &[ReadValue<'s>],
        host: &mut H,
    ) -> Result<Vec<Result<Facts<'s>, Rejection>>, H::Error> {
        let mut found: Vec<Option<Result<Facts<'s>, Rejection>>> = Vec::new();
        found.resize_with(values.len(), || None);
        loop {
            let mut is_whole = true;
            for ((raw, value), facts) in records.iter().zip(values).zip(&mut found) {
                if facts.is_none() {
                    *facts = match value {
                        Ok(value) => raw.plan.facts(raw, value.as_ref(), &mut self.foreign, self.arena).transpose(),
                        Err(rejection) => Some(Err(rejection.clone())),
                    };
                    is_whole &= facts.is_some();
                }
            }
            if is_whole {
                return Ok(found.into_iter().flatten().collect());
            }
            ask_about_ids(&mut self.foreign, host)?;
        }
    }
}

type ReadValue<'r> = Result<Option<Value<'r>>, Rejection>;

/// Decode the first records, at least one and as many as may be decoded at a time.
fn read_slice<'r>(records: &'r [Raw<'r>], arena: &'r Arena) -> Vec<ReadValue<'r>> {
    let mut values = Vec::with_capacity(records.len().min(SLICE_RECORDS));
    let mut size = 0_u64;
    let begun = Instant::now();
    for raw in records.iter().take(SLICE_RECORDS) {
        values.push(match raw.value {
            None => Ok(None),
            Some(bytes) => raw.plan.reader.read(bytes, arena).map(|(value, elements)| {
                let bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                size = size.saturating_add(bytes).saturating_add(elements.saturating_mul(ELEMENT_BYTES));
                Some(value)
            }),
        });
        // What a record took that was rejected, or of attempts at branches, lies in the arena as well.
        if size >= SLICE_BYTES || arena.allocated_bytes() >= SLICE_ARENA_BYTES || begun.elapsed() > SLICE_TIME {
            break;
        }
    }
    values
}

fn ask_about_ids<H: Host>(foreign: &mut ForeignIds, host: &mut H) -> Result<(), H::Error> {
    let wanted = foreign.take_wanted();
    if !wanted.is_empty() {
        let answers = host.canonical_ids(&wanted)?;
        foreign.answer(wanted, answers);
    }
    Ok(())
}

/// What is known of the subjects of a slice, each of which was asked about once.
struct AllConsents {
    answers: Vec<Arc<SubjectConsent>>,
    /// The numbers of the answers about the subjects of all records, and where those of each record end.
    numbers: Vec<usize>,
    ends: Vec<usize>,
}

impl AllConsents {
    /// Ask about each subject of a record that depends on it.
    fn asked<H: Host>(
        records: &[Raw<'_>],
        facts: &[Result<Facts<'_>, Rejection>],
        host: &mut H,
    ) -> Result<Self, H::Error> {
        let mut wanted: Vec<(&str, &str)> = Vec::with_capacity(facts.len());
        // Records choose the ids, so that the hash must not let them choose where those lie.
        let mut places: HashMap<(&str, &str), usize, RandomState> =
            HashMap::with_capacity_and_hasher(facts.len(), RandomState::new());
        let mut numbers = Vec::with_capacity(facts.len());
        let mut ends = Vec::with_capacity(facts.len());
        for (raw, facts) in records.iter().zip(facts) {
            if let Ok(facts) = facts
                && raw.plan.asks(raw)
            {
                numbers.extend(facts.subjects.iter().map(|found| {
                    let subject = (found.kind, found.id);
                    *places.entry(subject).or_insert_with(|| {
                        wanted.push(subject);
                        wanted.len() - 1
                    })
                }));
            }
            ends.push(numbers.len());
        }
        let answers = if wanted.is_empty() { Vec::new() } else { host.consents(&wanted)? };
        Ok(Self { answers, numbers, ends })
    }

    /// Return what is known of the subjects of a record.
    fn of(&self, record: usize) -> Consents<'_> {
        let end = |record: usize| self.ends.get(record).copied().unwrap_or_default();
        let start = record.checked_sub(1).map_or(0, end);
        Consents { answers: &self.answers, numbers: self.numbers.get(start..end(record)).unwrap_or_default() }
    }
}

/// What is known of the subjects of a record, in their order.
#[derive(Clone, Copy)]
pub(super) struct Consents<'c> {
    answers: &'c [Arc<SubjectConsent>],
    numbers: &'c [usize],
}

impl<'c> Consents<'c> {
    /// Return what is known of the first one.
    pub(super) fn primary(self) -> Option<&'c SubjectConsent> {
        self.all().next()
    }

    /// Return what is known of all but the first one.
    pub(super) fn others(self) -> impl Iterator<Item = &'c SubjectConsent> {
        self.all().skip(1)
    }

    fn all(self) -> impl Iterator<Item = &'c SubjectConsent> {
        self.numbers.iter().filter_map(|number| self.answers.get(*number).map(|answer| &**answer))
    }
}

fn present<'v, 'r>(value: &'v ReadValue<'r>) -> Option<&'v Value<'r>> {
    value.as_ref().ok().and_then(Option::as_ref)
}
