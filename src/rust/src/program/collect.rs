//! What a record will need of others before it can be transformed: tokens, centres of cells, and forms of ids.

use super::cells::Replacement;
use super::{Cell, Centres, Does, Program, Step, Tokenize, cells};
use crate::codec::Arena;
use crate::prf::Keyed;
use crate::schema::Kind;
use crate::subjects::ForeignIds;
use crate::tables::Asked;
use crate::tokens::Tokenizer;
use crate::value::Value;
use std::borrow::Cow;

/// What is collected from the records of a slice.
pub struct Collecting<'c, 's> {
    /// Where tokens are asked for.
    pub tables: &'c mut [Asked<'s>],
    /// The numbers of the texts that were asked for, in the order in which the transformation comes to them.
    pub numbers: Vec<usize>,
    /// Where texts lie that do not stand in a record.
    pub arena: &'s Arena,
    /// Where ids are asked about that need Python's tables of Unicode.
    pub foreign: &'c mut ForeignIds,
    /// The centres that are known.
    pub centres: &'c mut Centres,
    /// Keyed functions, and whom the record is about: a cell may be that of a point.
    pub keyed: Keyed<'c>,
    /// The cells whose centres H3 must be asked for.
    pub cells: Vec<Cell>,
    /// Whether the answers can lead to further questions.
    pub again: bool,
}

impl Program {
    /// Ask for what a record needs.
    pub fn collect<'s>(&self, value: &Value<'s>, collecting: &mut Collecting<'_, 's>) {
        if self.root.collects {
            self.root.collect(value, collecting);
        }
    }
}

impl Step {
    fn collect<'s>(&self, value: &Value<'s>, collecting: &mut Collecting<'_, 's>) {
        match (&self.does, value) {
            // Null and what is absent needs nothing.
            (_, Value::Null | Value::Absent) => {}
            (Does::Tokenize(tokenize), _) => tokenize.collect(value, collecting),
            (Does::Record { fields, replacements }, Value::Record(record)) => {
                if replacements.iter().any(Replacement::asks) {
                    collecting.cells(replacements, record);
                }
                for (index, step) in fields.iter().filter(|(_, step)| step.collects) {
                    if let Some(item) = record.get(*index) {
                        step.collect(item, collecting);
                    }
                }
            }
            (Does::Array(items), Value::Array(values)) if items.collects => {
                for item in *values {
                    items.collect(item, collecting);
                }
            }
            (Does::Map { named, others }, Value::Map(entries)) => {
                for (key, item) in *entries {
                    let step = named.get(*key).map_or(others.as_deref(), Option::as_ref);
                    if let Some(step) = step.filter(|step| step.collects) {
                        step.collect(item, collecting);
                    }
                }
            }
            (Does::Union(branches), Value::Branch(index, inner)) => {
                if let Some(Some((_, step))) =
                    branches.get(*index).filter(|branch| branch.as_ref().is_some_and(|(_, step)| step.collects))
                {
                    step.collect(inner, collecting);
                }
            }
            _ => {}
        }
    }
}

impl Collecting<'_, '_> {
    /// Find the centres of the cells of a record, as far as H3 need not be asked.
    fn cells(&mut self, replacements: &[Replacement], record: &[Value<'_>]) {
        while let Err(cell) = cells::replaced(replacements, record, self.centres, self.keyed, self.arena) {
            let Some(centre) = cell.certain_centre() else {
                self.cells.push(cell);
                self.again |= replacements.len() > 1;
                return;
            };
            self.centres.insert(cell, Some(centre));
        }
    }
}

/// The text of a value that is to become a token.
pub(super) enum Text<'v> {
    /// It is empty or means nobody: the value passes.
    Passes,
    /// The value does not fit.
    Misfit,
    /// Python has to be asked.
    Unknown,
    /// This is it.
    Is(Cow<'v, str>),
}

impl Tokenize {
    fn collect<'s>(&self, value: &Value<'s>, collecting: &mut Collecting<'_, 's>) {
        let Some(table) = collecting.tables.get_mut(self.table) else { return };
        let foreign = &mut *collecting.foreign;
        match self.text_of(value, table.tokenizer(), |form| foreign.resolve(form, value)) {
            Text::Passes | Text::Misfit => {}
            Text::Unknown => collecting.again = true,
            Text::Is(text) => collecting.numbers.push(table.want(text, collecting.arena)),
        }
    }

    /// Return the text that is tokenized; `canonical` reads the value as an id.
    pub(super) fn text_of<'v>(
        &self,
        value: &Value<'v>,
        tokenizer: &Tokenizer,
        canonical: impl FnOnce(crate::subjects::Form) -> Option<Option<Cow<'v, str>>>,
    ) -> Text<'v> {
        if matches!(value, Value::Text(text) if text.is_empty() || tokenizer.is_null(text)) {
            return Text::Passes;
        }
        let text = match (self.form, self.kind, value) {
            (Some(form), _, _) => match canonical(form) {
                Some(id) => id,
                None => return Text::Unknown,
            },
            (None, Kind::Int | Kind::Long | Kind::Integer, Value::Integer(number)) => {
                tokenizer.text_of_integer(&number.to_string()).map(Cow::Owned)
            }
            (None, Kind::Integer, Value::Number(number)) => {
                integer(number).and_then(|number| tokenizer.text_of_integer(number)).map(Cow::Owned)
            }
            (None, Kind::Fixed, Value::Bytes(bytes)) => tokenizer.text_of_bytes(bytes).map(Cow::Owned),
            (None, _, Value::Text(text)) => Some(Cow::Borrowed(*text)),
            _ => None,
        };
        match text {
            None => Text::Misfit,
            Some(text) if text.is_empty() || tokenizer.is_null(&text) => Text::Passes,
            Some(text) => Text::Is(text),
        }
    }
}

/// Return a JSON number that is written as an integer; a negative zero is zero.
fn integer(number: &str) -> Option<&str> {
    let digits = number.strip_prefix('-').unwrap_or(number);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(if digits == "0" { digits } else { number })
}
