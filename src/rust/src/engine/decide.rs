//! What each output gets of a record, as its subjects and the policy say, before anything of it is treated.

use std::sync::Arc;

use super::facts::{Facts, Found};
use super::slice::Consents;
use super::{Outcome, Output, Raw};
use crate::consent::{Moment, SubjectConsent, passing};
use crate::plan::Origin;
use crate::prf::Person;
use crate::program::{Case, Program};
use crate::schema::Rejection;

/// A record that leaves one output, between the decision and its encoding; a tombstone has no program.
pub(super) struct Pending<'r> {
    pub(super) program: Option<Arc<Program>>,
    pub(super) key: Option<Key<'r>>,
    pub(super) anonymous: bool,
    /// Whom the record is about, where that is known.
    pub(super) person: Option<Person<'r>>,
    /// Which of the texts that are collected is its first.
    pub(super) first_text: usize,
}

/// The record key: the token of an id.
pub(super) struct Key<'r> {
    pub(super) table: usize,
    pub(super) id: &'r str,
    /// Where the id stands.
    pub(super) place: &'r str,
}

/// What one output gets.
pub(super) type Decided<'r> = Result<Pending<'r>, Outcome>;

/// Decide for all outputs. `consents` has what is known of the record's subjects, in their order.
pub(super) fn decide<'r>(
    raw: &Raw<'r>,
    facts: &Result<Facts<'r>, Rejection>,
    consents: Consents<'_>,
    now_ms: i64,
) -> Vec<Decided<'r>> {
    let outputs = raw.plan.outputs.iter();
    match facts {
        Err(Rejection { reason, path }) => {
            outputs.map(|_| Err(Outcome::Rejected { reason, path: path.clone() })).collect()
        }
        Ok(facts) => outputs.map(|output| decide_output(raw, output, facts, consents, now_ms)).collect(),
    }
}

fn decide_output<'r>(
    raw: &Raw<'r>,
    output: &Output,
    facts: &Facts<'r>,
    consents: Consents<'_>,
    now_ms: i64,
) -> Decided<'r> {
    let somebody = facts.subjects.first().zip(consents.primary());
    if raw.value.is_none() && (!output.settings.tombstones || facts.subjects.is_empty()) {
        return Err(Outcome::Rejected { reason: "tombstone", path: String::new() });
    }
    if facts.subjects.is_empty() {
        if !raw.plan.anonymous {
            return Err(WITHHELD);
        }
        return pend(output, Case { passed: 0, anonymous: true, avro: raw.plan.avro }, None, None);
    }
    let Some((subject, primary)) = somebody else {
        return Err(Outcome::Failed("what is known of a subject is missing"));
    };
    let others: Vec<&SubjectConsent> = consents.others().collect();
    let moment = Moment {
        // No event is from the future: where a producer says so, it must not outlive retention or predate consent.
        event_time_ms: facts.event_time_ms.min(now_ms),
        now_ms,
        recipients: &output.settings.recipients,
    };
    let passed = output.settings.served & passing(&raw.plan.purposes, primary, &others, moment);
    if !output.settings.requires.met(passed) {
        return Err(WITHHELD);
    }
    let source = raw.plan.subjects.get(subject.index);
    let key = output.key_table(subject.index, passed).map(|table| Key {
        table,
        id: subject.id,
        place: source.map(|source| &*source.place).unwrap_or_default(),
    });
    if raw.value.is_some() {
        return pend(output, Case { passed, anonymous: false, avro: raw.plan.avro }, key, Some(subject));
    }
    if key.is_none() || !source.is_some_and(|source| matches!(source.origin, Origin::Key)) {
        return Err(WITHHELD);
    }
    Ok(Pending { program: None, key, anonymous: false, person: None, first_text: 0 })
}

const WITHHELD: Outcome = Outcome::Withheld([0; 5]);

/// Choose the program of a record that leaves; where nothing of its schema can, it is withheld.
fn pend<'r>(output: &Output, case: Case, key: Option<Key<'r>>, subject: Option<&Found<'r>>) -> Decided<'r> {
    let Some(written) = &output.value else {
        return Err(WITHHELD);
    };
    let program = written.program(case).map_err(|unfit| Outcome::Failed(unfit.0))?;
    let person = subject.map(|found| Person { kind: found.kind, id: found.id });
    Ok(Pending { program: Some(program), key, anonymous: case.anonymous, person, first_text: 0 })
}
