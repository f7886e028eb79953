//! Programs: a plan's output tree made into steps for one combination of purposes that pass.
//!
//! All choices that depend on the purposes are taken when a program is built. A record goes through it twice: once to
//! collect what it will need, so that the tokens of a whole batch are made together, and once to be transformed.

mod cells;
mod collect;
mod transform;

use std::collections::HashMap;
use std::sync::Arc;

pub use cells::{Cell, Centres};
pub use collect::Collecting;
pub use transform::{Counts, Stop, Transforming};

use crate::generalize::{Generalizer, Unfit, noise};
use crate::plan::{Action, Coarser, FieldOut, Out, Place, Rules};
use crate::schema::Kind;
use crate::subjects::Form;
use cells::Replacement;

/// What becomes of a value.
pub struct Step {
    does: Does,
    /// Whether the result is the second branch of a union with null.
    nullable: bool,
    /// Whether something below is to be collected.
    collects: bool,
}

enum Does {
    Withhold,
    Keep,
    /// The value is invalid, whatever it is.
    Misfit(Invalid),
    Tokenize(Tokenize),
    Generalize(Generalizer, Invalid),
    /// The record around has replaced the coordinate.
    Snap(Invalid),
    Record {
        fields: Vec<(usize, Step)>,
        replacements: Vec<Replacement>,
    },
    Array(Box<Step>),
    Map {
        named: HashMap<String, Option<Step>>,
        others: Option<Box<Step>>,
    },
    /// Per branch its new index and what becomes of it.
    Union(Vec<Option<(usize, Step)>>),
}

/// Where a value is invalid, and whether its record is then rejected.
struct Invalid {
    path: Arc<str>,
    rejects: bool,
}

struct Tokenize {
    table: usize,
    kind: Kind,
    form: Option<Form>,
    /// Whether the record says here whom it is about: an id that has no token rejects it.
    subject: bool,
    invalid: Invalid,
}

/// The records for which a program is built.
#[derive(Clone, Copy)]
pub struct Case {
    /// The purposes that pass.
    pub passed: u64,
    /// Whether they are records without a subject.
    pub anonymous: bool,
    /// Whether they are Avro, which marks a field that is gone by null; JSON leaves it out.
    pub avro: bool,
}

/// What one output does with the records of one case.
pub struct Program {
    root: Step,
    avro: bool,
}

impl Program {
    /// Build the program of a whole tree.
    ///
    /// # Errors
    ///
    /// A treatment does not fit its place; [`check`] finds that before.
    pub fn new(root: &Out, case: Case) -> Result<Self, Unfit> {
        Ok(Self { root: Builder { case }.step(root, false)?, avro: case.avro })
    }
}

/// Find what no program of a tree could do.
///
/// # Errors
///
/// A treatment does not fit its place.
pub fn check(out: &Out) -> Result<(), Unfit> {
    match out {
        Out::Leaf { place, rules, pair, .. } => {
            for rule in &rules.rules {
                match &rule.action {
                    Action::Generalize(Coarser::Noise { metres, .. }) if !noise::METRES.contains(metres) => {
                        return Err(Unfit("noise is between 10 and 50,000 metres"));
                    }
                    action if action.is_for_pairs() && pair.is_some() => {}
                    Action::Generalize(coarser) => drop(Generalizer::new(coarser, place)?),
                    Action::Keep | Action::Drop | Action::Tokenize(_) => {}
                }
            }
            Ok(())
        }
        Out::Record { fields, .. } => fields.iter().try_for_each(|field| check(&field.value)),
        Out::Array { items, .. } => check(items),
        Out::Map { named, values, .. } => {
            named.iter().map(|(_, value)| value).chain(values.as_deref()).try_for_each(check)
        }
        Out::Union { branches, .. } => {
            if has_lone_coordinate(branches) {
                return Err(Unfit(
                    "a coordinate becomes a cell in one branch of its union while another stays a number",
                ));
            }
            branches.iter().flatten().try_for_each(check)
        }
    }
}

/// Most purposes whose combinations are tried; more would be a policy nobody could read.
const TRIED_PURPOSES: u32 = 12;

/// Whether for some records one branch of a union becomes a cell while a value of another one leaves.
///
/// The record around replaces the coordinate before it is known which branch it is.
fn has_lone_coordinate(branches: &[Option<Out>]) -> bool {
    let leaves = || {
        branches.iter().flatten().filter_map(|out| match out {
            Out::Leaf { rules, .. } => Some(rules),
            _ => None,
        })
    };
    let all_rules = || leaves().flat_map(|rules| &rules.rules);
    if leaves().count() < 2 || !all_rules().any(|rule| rule.action.is_for_pairs()) {
        return false;
    }
    let purposes = all_rules().fold(0, |mask, rule| mask | rule.when);
    if purposes.count_ones() > TRIED_PURPOSES {
        return true;
    }
    // Each subset of the mask once, from the whole mask down to none.
    let subsets = std::iter::successors(Some(purposes), |passed| passed.checked_sub(1).map(|less| less & purposes));
    subsets.flat_map(|passed| [(passed, false), (passed, true)]).any(|(passed, anonymous)| {
        let mut actions = leaves().filter_map(|rules| rules.action(passed, anonymous)).map(Action::is_for_pairs);
        let first = actions.next();
        actions.any(|other| Some(other) != first)
    })
}

struct Builder {
    case: Case,
}

impl Builder {
    fn action<'o>(&self, rules: &'o Rules) -> Option<&'o Action> {
        rules.action(self.case.passed, self.case.anonymous)
    }

    fn is_shut(&self, gate: Option<&Rules>) -> bool {
        gate.is_some_and(|rules| self.action(rules).is_none())
    }

    /// Return the step of a place; `nullable` wraps what is no union as the second branch of one.
    fn step(&self, out: &Out, nullable: bool) -> Result<Step, Unfit> {
        let shut = match out {
            Out::Leaf { rules, .. } => self.is_shut(Some(rules)),
            Out::Record { gate, .. } | Out::Array { gate, .. } | Out::Map { gate, .. } | Out::Union { gate, .. } => {
                self.is_shut(gate.as_ref())
            }
        };
        if shut {
            return Ok(Step { does: Does::Withhold, nullable: false, collects: false });
        }
        let (does, collects) = match out {
            Out::Leaf { place, rules, form, subject, pair: _ } => self.leaf(place, rules, *form, *subject)?,
            Out::Record { fields, .. } => self.record(fields)?,
            Out::Array { items, .. } => {
                let items = self.step(items, false)?;
                let collects = items.collects;
                (Does::Array(Box::new(items)), collects)
            }
            Out::Map { named, values, keys, dropped, gate: _ } => {
                self.map(named, values.as_deref(), keys.as_ref(), dropped)?
            }
            Out::Union { path, has_null, branches, invalid, gate: _ } => {
                self.union(path, *has_null || nullable, branches, invalid)?
            }
        };
        Ok(Step { does, nullable: nullable && !matches!(out, Out::Union { .. }), collects })
    }

    fn leaf(&self, place: &Place, rules: &Rules, form: Option<Form>, subject: bool) -> Result<(Does, bool), Unfit> {
        let invalid = Invalid { path: place.path.as_str().into(), rejects: rules.reject_invalid };
        Ok(match self.action(rules) {
            None | Some(Action::Drop) => (Does::Withhold, false),
            Some(Action::Keep) => (Does::Keep, false),
            Some(Action::Tokenize(table)) => {
                (Does::Tokenize(Tokenize { table: *table, kind: place.kind, form, subject, invalid }), true)
            }
            Some(action) if action.is_for_pairs() => (Does::Snap(invalid), false),
            Some(Action::Generalize(coarser)) => (Does::Generalize(Generalizer::new(coarser, place)?, invalid), false),
        })
    }

    fn record(&self, fields: &[FieldOut]) -> Result<(Does, bool), Unfit> {
        let steps = fields.iter().map(|field| {
            let step = self.step(&field.value, self.case.avro && !field.always)?;
            Ok((field.index, step))
        });
        let steps = steps.collect::<Result<Vec<_>, Unfit>>()?;
        let replacements = cells::replacements(fields, |rules| self.action(rules));
        let collects = replacements.iter().any(Replacement::asks) || steps.iter().any(|(_, step)| step.collects);
        Ok((Does::Record { fields: steps, replacements }, collects))
    }

    fn map(
        &self,
        named: &[(String, Out)],
        values: Option<&Out>,
        keys: Option<&Rules>,
        dropped: &[String],
    ) -> Result<(Does, bool), Unfit> {
        let mut steps: HashMap<String, Option<Step>> = dropped.iter().map(|name| (name.clone(), None)).collect();
        for (name, value) in named {
            steps.insert(name.clone(), Some(self.step(value, false)?));
        }
        let others = match (values, keys) {
            (Some(values), Some(keys)) if self.action(keys).is_some() => Some(Box::new(self.step(values, false)?)),
            _ => None,
        };
        let collects = steps.values().flatten().chain(others.as_deref()).any(|step| step.collects);
        Ok((Does::Map { named: steps, others }, collects))
    }

    fn union(
        &self,
        path: &str,
        has_null: bool,
        branches: &[Option<Out>],
        invalid: &[usize],
    ) -> Result<(Does, bool), Unfit> {
        let rejects =
            branches.iter().flatten().any(|out| matches!(out, Out::Leaf { rules, .. } if rules.reject_invalid));
        let mut steps = Vec::with_capacity(branches.len());
        let mut position = usize::from(has_null);
        for (index, branch) in branches.iter().enumerate() {
            steps.push(match branch {
                Some(out) => {
                    position += 1;
                    Some((position - 1, self.step(out, false)?))
                }
                None if invalid.contains(&index) => {
                    let does = Does::Misfit(Invalid { path: path.into(), rejects });
                    Some((0, Step { does, nullable: false, collects: false }))
                }
                None => None,
            });
        }
        let collects = steps.iter().flatten().any(|(_, step)| step.collects);
        Ok((Does::Union(steps), collects))
    }
}
