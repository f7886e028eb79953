//! Working on one slice of a batch: decode, ask, decide, make the tokens of all records together, treat and encode.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::decide::{Decided, decide};
use super::facts::Facts;
use super::finish::Finish;
use super::{Host, Outcome, Raw};
use crate::codec::Unescaped;
use crate::consent::SubjectConsent;
use crate::prf::{Keyed, Prf};
use crate::program::{Centres, Collecting};
use crate::schema::Rejection;
use crate::subjects::ForeignIds;
use crate::tables::Table;
use crate::tokens::Tokenizer;
use crate::value::Value;

/// A batch is worked on in slices. A slice ends with the record that fills it.
const SLICE_RECORDS: usize = 500;
const SLICE_BYTES: u64 = 1_000_000;
/// For how many bytes of data a value stands here that may have no byte of its own.
const ELEMENT_BYTES: u64 = 10;
/// After so long no further record of a slice is decoded: whoever watches is asked between slices, and some records take
/// a thousand times as long as others, also such that are rejected in the end.
const SLICE_TIME: Duration = Duration::from_millis(200);

/// Sanitizes batches.
pub struct Engine {
    tables: Vec<Table>,
    prfs: Vec<Prf>,
    max_output_bytes: usize,
}

impl Engine {
    /// Return an engine without keys.
    #[must_use]
    pub const fn new(max_output_bytes: usize) -> Self {
        Self { tables: Vec::new(), prfs: Vec::new(), max_output_bytes }
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
        let unescaped = Unescaped::new();
        let values = read_slice(records, &unescaped);
        let mut foreign = ForeignIds::default();
        let facts = all_facts(records, &values, &mut foreign, host)?;
        let consents = ask_for_consent(records, &facts, host)?;
        let decided: Vec<Vec<Decided>> = records
            .iter()
            .zip(&facts)
            .zip(&consents)
            .map(|((raw, facts), consents)| decide(raw, facts, consents, now_ms))
            .collect();
        let mut centres = Centres::new();
        self.answer(&values, &decided, &mut foreign, &mut centres, host)?;
        let finish = Finish {
            tables: &self.tables,
            prfs: &self.prfs,
            foreign: &foreign,
            centres: &centres,
            max_output_bytes: self.max_output_bytes,
        };
        let records = records.iter().zip(&values).zip(decided);
        let outcomes = records.map(|((raw, value), entries)| finish.record(raw, present(value), entries)).collect();
        for table in &mut self.tables {
            table.clear();
        }
        Ok(outcomes)
    }

    /// Make the tokens of all records that leave, and ask for what else they need.
    fn answer<H: Host>(
        &mut self,
        values: &[ReadValue<'_>],
        decided: &[Vec<Decided>],
        foreign: &mut ForeignIds,
        centres: &mut Centres,
        host: &mut H,
    ) -> Result<(), H::Error> {
        loop {
            let tables = &mut self.tables;
            let prfs = &self.prfs;
            let keyed = Keyed { prfs, person: None };
            let mut collecting = Collecting { tables, foreign, centres, keyed, cells: Vec::new(), again: false };
            for (value, entries) in values.iter().zip(decided) {
                for pending in entries.iter().flatten() {
                    if let (Some(program), Some(value)) = (&pending.program, present(value)) {
                        collecting.keyed.person = pending.person.as_ref();
                        program.collect(value, &mut collecting);
                    }
                }
            }
            let Collecting { cells, again, .. } = collecting;
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
            if let Some(table) = self.tables.get_mut(key.table) {
                table.want(&key.id);
            }
        }
        for table in &mut self.tables {
            table.resolve();
        }
        Ok(())
    }
}

type ReadValue<'r> = Result<Option<Value<'r>>, Rejection>;

/// Decode the first records, at least one and as many as may be decoded at a time.
fn read_slice<'r>(records: &'r [Raw<'r>], unescaped: &'r Unescaped) -> Vec<ReadValue<'r>> {
    let mut values = Vec::with_capacity(records.len().min(SLICE_RECORDS));
    let mut size = 0_u64;
    let begun = Instant::now();
    for raw in records.iter().take(SLICE_RECORDS) {
        values.push(match raw.value {
            None => Ok(None),
            Some(bytes) => raw.plan.reader.read(bytes, unescaped).map(|(value, elements)| {
                let bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                size = size.saturating_add(bytes).saturating_add(elements.saturating_mul(ELEMENT_BYTES));
                Some(value)
            }),
        });
        if size >= SLICE_BYTES || begun.elapsed() > SLICE_TIME {
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

/// Find out what the records say, asking the host about ids as often as it takes.
fn all_facts<'r, H: Host>(
    records: &[Raw<'r>],
    values: &[ReadValue<'_>],
    foreign: &mut ForeignIds,
    host: &mut H,
) -> Result<Vec<Result<Facts<'r>, Rejection>>, H::Error> {
    let mut found: Vec<Option<Result<Facts<'r>, Rejection>>> = Vec::new();
    found.resize_with(values.len(), || None);
    loop {
        for ((raw, value), facts) in records.iter().zip(values).zip(&mut found) {
            if facts.is_none() {
                *facts = match value {
                    Ok(value) => raw.plan.facts(raw, value.as_ref(), foreign).transpose(),
                    Err(rejection) => Some(Err(rejection.clone())),
                };
            }
        }
        if found.iter().all(Option::is_some) {
            return Ok(found.into_iter().flatten().collect());
        }
        ask_about_ids(foreign, host)?;
    }
}

/// Ask once about each subject of a record that depends on it, and return per record what is known of its subjects.
fn ask_for_consent<H: Host>(
    records: &[Raw<'_>],
    facts: &[Result<Facts<'_>, Rejection>],
    host: &mut H,
) -> Result<Vec<Vec<Arc<SubjectConsent>>>, H::Error> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    let mut numbers: Vec<Vec<usize>> = Vec::with_capacity(facts.len());
    for (raw, facts) in records.iter().zip(facts) {
        let subjects = match facts {
            Ok(facts) if raw.plan.asks(raw) => &*facts.subjects,
            _ => &[],
        };
        let numbered = subjects.iter().map(|found| {
            let subject = (found.kind, &*found.id);
            *places.entry(subject).or_insert_with(|| {
                wanted.push(subject);
                wanted.len() - 1
            })
        });
        numbers.push(numbered.collect());
    }
    let answers = if wanted.is_empty() { Vec::new() } else { host.consents(&wanted)? };
    let known = |numbers: Vec<usize>| numbers.into_iter().filter_map(|number| answers.get(number).cloned()).collect();
    Ok(numbers.into_iter().map(known).collect())
}

fn present<'v, 'r>(value: &'v ReadValue<'r>) -> Option<&'v Value<'r>> {
    value.as_ref().ok().and_then(Option::as_ref)
}
