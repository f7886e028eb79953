//! What leaves of a record, made from the record and the answers to what was collected from it.

use std::sync::Arc;

use bumpalo::collections::Vec as ArenaVec;

use super::cells::{Centres, Replaced, Snapped, replaced};
use super::collect::Text;
use super::{Does, Invalid, Program, Step, Tokenize};
use crate::codec::Arena;
use crate::generalize::Printable;
use crate::prf::Keyed;
use crate::schema::Kind;
use crate::subjects::ForeignIds;
use crate::tables::Asked;
use crate::value::Value;

/// What happened to the values of a record, in the order of `tokenweir.core.outcome.Treated`.
pub type Counts = [u64; 5];

#[derive(Clone, Copy)]
enum Treated {
    Kept,
    Tokenized,
    Generalized,
    Withheld,
    Invalid,
}

/// Why nothing of a record leaves that should have.
pub enum Stop {
    /// A value is invalid, and then the record is rejected.
    Rejected {
        /// The reason, as it stands in dead letters.
        reason: &'static str,
        /// The path of the value.
        path: Arc<str>,
    },
    /// The engine itself failed.
    Failed(&'static str),
}

const NOT_COLLECTED: Stop = Stop::Failed("a value needs an answer that was not asked for");
const NOT_SNAPPED: Stop = Stop::Failed("a coordinate was not replaced by its cell, or something else was");

/// The answers, and the counts of the record that is transformed.
pub struct Transforming<'v> {
    /// Tokens.
    pub tables: &'v [Asked<'v>],
    /// The numbers of the record's texts as they were collected; where one is missing or another's, the text is sought.
    pub numbers: std::slice::Iter<'v, usize>,
    /// Ids that need Python's tables of Unicode.
    pub foreign: &'v ForeignIds,
    /// Centres of cells.
    pub centres: &'v Centres,
    /// Characters that can be printed.
    pub printable: &'v Printable,
    /// Keyed functions, and whom the record is about.
    pub keyed: Keyed<'v>,
    /// Where what leaves lies until it is written.
    pub arena: &'v Arena,
    /// The counts.
    pub counts: Counts,
}

impl Program {
    /// Return what leaves of a record, or none where nothing does.
    ///
    /// # Errors
    ///
    /// The record is rejected, or the engine failed.
    pub fn transform<'v>(
        &'v self,
        value: &Value<'v>,
        transforming: &mut Transforming<'v>,
    ) -> Result<Option<Value<'v>>, Stop> {
        transforming.step(&self.root, value, self.avro)
    }
}

impl<'v> Transforming<'v> {
    fn count(&mut self, treated: Treated) {
        if let Some(count) = self.counts.get_mut(treated as usize) {
            *count += 1;
        }
    }

    fn withheld<T>(&mut self, value: &Value<'_>) -> Option<T> {
        // Of a null there is nothing to withhold; the field is gone all the same.
        if !matches!(value, Value::Null) {
            self.count(Treated::Withheld);
        }
        None
    }

    fn invalid<T>(&mut self, invalid: &Invalid) -> Result<Option<T>, Stop> {
        self.count(Treated::Invalid);
        if invalid.rejects {
            return Err(Stop::Rejected { reason: "value_invalid", path: invalid.path.clone() });
        }
        Ok(None)
    }

    fn branch(&self, index: usize, value: Value<'v>) -> Value<'v> {
        Value::Branch(index, self.arena.alloc(value))
    }

    fn kept(&mut self, value: &Value<'v>) -> Value<'v> {
        self.count(Treated::Kept);
        *value
    }

    fn step(&mut self, step: &'v Step, value: &Value<'v>, avro: bool) -> Result<Option<Value<'v>>, Stop> {
        let left = match (&step.does, value) {
            (Does::Withhold, _) => self.withheld(value),
            // An empty text has nothing that could get coarser.
            (Does::Keep, _) | (Does::Generalize(..), Value::Text("")) => Some(self.kept(value)),
            (Does::Misfit(invalid), _) => self.invalid(invalid)?,
            (Does::Tokenize(tokenize), _) => self.token(tokenize, value)?,
            (Does::Generalize(generalizer, invalid), _) => {
                match generalizer.apply(value, self.printable, self.keyed, self.arena) {
                    None => self.invalid(invalid)?,
                    coarse => {
                        self.count(Treated::Generalized);
                        coarse
                    }
                }
            }
            (Does::Snap(_), _) => return Err(NOT_SNAPPED),
            (Does::Record { fields, replacements }, Value::Record(record)) => {
                let replaced =
                    replaced(replacements, record, self.centres, self.keyed, self.arena).map_err(|_| NOT_COLLECTED)?;
                self.record(fields, record, replaced, avro)?
            }
            (Does::Array(items), Value::Array(values)) => {
                let mut result = ArenaVec::with_capacity_in(values.len(), self.arena);
                for item in *values {
                    result.extend(self.step(items, item, avro)?);
                }
                (!result.is_empty() || values.is_empty()).then(|| Value::Array(result.into_bump_slice()))
            }
            (Does::Map { named, others }, Value::Map(entries)) => {
                let mut result = ArenaVec::new_in(self.arena);
                for (key, item) in *entries {
                    if let Some(step) = named.get(*key).map_or(others.as_deref(), Option::as_ref)
                        && let Some(item) = self.step(step, item, avro)?
                    {
                        result.push((*key, item));
                    }
                }
                (!result.is_empty() || entries.is_empty()).then(|| Value::Map(result.into_bump_slice()))
            }
            (Does::Union(_), Value::Null) => Some(Value::Null),
            (Does::Union(branches), Value::Branch(index, inner)) => match branches.get(*index) {
                Some(Some((position, step))) => self.step(step, inner, avro)?.map(|left| self.branch(*position, left)),
                _ => None,
            },
            _ => return Err(Stop::Failed("a value is not what its place says")),
        };
        Ok(if step.nullable { left.map(|left| self.branch(1, left)) } else { left })
    }

    fn record(
        &mut self,
        fields: &'v [(usize, Step)],
        record: &[Value<'v>],
        replaced: Replaced<'_>,
        avro: bool,
    ) -> Result<Option<Value<'v>>, Stop> {
        let gone = if avro { Value::Null } else { Value::Absent };
        let mut left = false;
        let result = self.arena.alloc_slice_fill_copy(fields.len(), Value::Absent);
        for ((index, step), place) in fields.iter().zip(result.iter_mut()) {
            let item = record.get(*index).ok_or(Stop::Failed("a record has not the fields of its schema"))?;
            if matches!(item, Value::Absent) {
                continue;
            }
            let item = match replaced.iter().find(|(place, _)| place == index) {
                None => self.step(step, item, avro)?,
                Some((_, snapped)) => self.snapped(step, item, *snapped)?,
            };
            left |= item.is_some();
            *place = item.unwrap_or(gone);
        }
        // An object without any property was empty before, and what is empty passes.
        let leaves = left || record.iter().all(|item| matches!(item, Value::Absent));
        Ok(leaves.then_some(Value::Record(result)))
    }

    /// Treat a coordinate that was replaced.
    fn snapped(&mut self, step: &Step, value: &Value<'_>, snapped: Snapped) -> Result<Option<Value<'v>>, Stop> {
        let left = match (&step.does, value) {
            (Does::Union(branches), Value::Branch(index, inner)) => match branches.get(*index) {
                Some(Some((position, step))) => {
                    self.snapped(step, inner, snapped)?.map(|left| self.branch(*position, left))
                }
                _ => None,
            },
            (Does::Withhold, _) => self.withheld(value),
            (Does::Misfit(invalid), _) => self.invalid(invalid)?,
            (Does::Snap(invalid), _) => match snapped.value(self.arena) {
                None => self.invalid(invalid)?,
                centre => {
                    self.count(Treated::Generalized);
                    centre
                }
            },
            _ => return Err(NOT_SNAPPED),
        };
        Ok(if step.nullable { left.map(|left| self.branch(1, left)) } else { left })
    }

    fn token(&mut self, tokenize: &'v Tokenize, value: &Value<'v>) -> Result<Option<Value<'v>>, Stop> {
        let tables = self.tables;
        let table = tables.get(tokenize.table).ok_or(NOT_COLLECTED)?;
        let foreign = self.foreign;
        let text = match tokenize.text_of(value, table.tokenizer(), |form| Some(foreign.known(form, value))) {
            Text::Passes => return Ok(Some(self.kept(value))),
            Text::Unknown => return Err(NOT_COLLECTED),
            Text::Misfit => return self.misfit(tokenize),
            Text::Is(text) => text,
        };
        let Some(token) = table.token_at(self.numbers.next().copied(), &text).ok_or(NOT_COLLECTED)? else {
            return self.misfit(tokenize);
        };
        self.count(Treated::Tokenized);
        let tokenizer = table.tokenizer();
        let value = match tokenize.kind {
            Kind::Int | Kind::Long => tokenizer.integer_of(token).parse().ok().map(Value::Integer),
            Kind::Integer => Some(Value::Number(tokenizer.integer_of(token))),
            Kind::Fixed => tokenizer.bytes_of(token).map(|bytes| Value::Bytes(self.arena.alloc_slice_copy(&bytes))),
            _ => Some(Value::Text(token)),
        };
        value.map(Some).ok_or(Stop::Failed("a token does not have the type of its place"))
    }

    fn misfit(&mut self, tokenize: &Tokenize) -> Result<Option<Value<'v>>, Stop> {
        if tokenize.subject {
            return Err(Stop::Rejected { reason: "subject_invalid", path: tokenize.invalid.path.clone() });
        }
        self.invalid(&tokenize.invalid)
    }
}
