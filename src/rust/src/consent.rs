//! Which purposes a record may be used for; see `tokenweir.core.consent.decide`.

use std::collections::HashMap;

use crate::plan::{Basis, Purpose};

/// In place of a purpose: all purposes.
const EVERY_PURPOSE: &str = "*";

/// What a basis needs of the primary subject's decision; of two the larger counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Nothing,
    NoDeny,
    Allow,
}

impl From<Basis> for Need {
    fn from(basis: Basis) -> Self {
        match basis {
            Basis::Consent => Self::Allow,
            Basis::OptOut | Basis::LegitimateInterest => Self::NoDeny,
            Basis::Contract | Basis::LegalObligation | Basis::PublicTask | Basis::VitalInterest => Self::Nothing,
        }
    }
}

/// What was decided about one purpose, and when.
#[derive(Clone, Copy)]
pub struct Decision {
    /// Whether it is a deny; otherwise it is an allow.
    pub denies: bool,
    /// When it was decided.
    pub decided_at_ms: i64,
    /// When an allow ends.
    pub expires_at_ms: Option<i64>,
}

/// Everything that is known of one data subject.
#[derive(Default)]
pub struct SubjectConsent {
    /// Per source its decisions by purpose, by `purpose@recipient` or `*`, in the order of these names.
    pub states: Vec<Vec<(String, Decision)>>,
    /// Whether a state could not be read.
    pub undecodable: bool,
    /// Whether a source says that the subject is a minor.
    pub minor: bool,
    /// What the newest states that have a jurisdiction name.
    pub jurisdictions: Vec<String>,
    /// The `purpose@recipient` pairs that any source denies.
    pub recipient_denials: Vec<String>,
}

impl SubjectConsent {
    /// What holds for everybody while nobody knows whom a record meant that could not be read.
    #[must_use]
    pub fn denied() -> Self {
        Self { states: vec![Vec::new()], undecodable: true, ..Self::default() }
    }
}

/// What a subject's decisions say about one purpose.
#[derive(PartialEq, Eq)]
enum Answer {
    /// An allow, and since when.
    Allow(i64),
    Deny,
    Unknown,
}

/// What a decision depends on beside the subjects.
#[derive(Clone, Copy)]
pub struct Moment<'m> {
    /// When the event happened.
    pub event_time_ms: i64,
    /// The gateway's clock.
    pub now_ms: i64,
    /// Who reads the output.
    pub recipients: &'m [String],
}

/// A purpose, prepared to be asked for every record.
pub struct PurposeRule {
    name: String,
    need: Need,
    need_by: HashMap<String, Need>,
    largest_need: Need,
    retention_ms: i64,
    refuses_minors: bool,
    covers_earlier: bool,
}

impl From<Purpose> for PurposeRule {
    fn from(purpose: Purpose) -> Self {
        let need = purpose.basis.into();
        let need_by: HashMap<String, Need> =
            purpose.basis_by.into_iter().map(|(jurisdiction, basis)| (jurisdiction, basis.into())).collect();
        let largest_need = need_by.values().copied().fold(need, Ord::max);
        Self {
            name: purpose.name,
            need,
            need_by,
            largest_need,
            retention_ms: purpose.retention_ms,
            refuses_minors: purpose.refuses_minors,
            covers_earlier: purpose.covers_earlier,
        }
    }
}

impl PurposeRule {
    fn passes(&self, primary: &SubjectConsent, others: &[&SubjectConsent], moment: Moment<'_>) -> bool {
        if moment.event_time_ms < moment.now_ms.saturating_sub(self.retention_ms) {
            return false;
        }
        let need = self.needed_of(primary);
        if need == Need::Nothing {
            return true;
        }
        match answer(primary, &self.name, moment.now_ms) {
            Answer::Deny => return false,
            Answer::Unknown if need == Need::Allow => return false,
            Answer::Allow(since_ms)
                if need == Need::Allow && !self.covers_earlier && moment.event_time_ms < since_ms =>
            {
                return false;
            }
            _ => {}
        }
        !self.refuses(primary, moment.recipients)
            && !others.iter().any(|other| {
                self.refuses(other, moment.recipients) || answer(other, &self.name, moment.now_ms) == Answer::Deny
            })
    }

    fn needed_of(&self, primary: &SubjectConsent) -> Need {
        if self.need_by.is_empty() {
            return self.need;
        }
        if primary.undecodable {
            // The record that cannot be read may name any jurisdiction.
            return self.largest_need;
        }
        let needs = primary.jurisdictions.iter().map(|name| self.need_by.get(name).copied().unwrap_or(self.need));
        needs.max().unwrap_or(self.need)
    }

    fn refuses(&self, subject: &SubjectConsent, recipients: &[String]) -> bool {
        if subject.minor && self.refuses_minors {
            return true;
        }
        subject.recipient_denials.iter().any(|denial| {
            [&*self.name, EVERY_PURPOSE].iter().any(|purpose| {
                let recipient = denial.strip_prefix(*purpose).and_then(|rest| rest.strip_prefix('@'));
                recipient.is_some_and(|denied| recipients.iter().any(|found| found == denied))
            })
        })
    }
}

/// Return which purposes one record may be used for: bit `i` stands for `rules[i]`.
#[must_use]
pub fn passing(rules: &[PurposeRule], primary: &SubjectConsent, others: &[&SubjectConsent], moment: Moment<'_>) -> u64 {
    let bits = (0..u64::BITS).map(|bit| 1_u64 << bit);
    let passed = rules.iter().zip(bits).filter(|(rule, _)| rule.passes(primary, others, moment));
    passed.fold(0, |mask, (_, bit)| mask | bit)
}

fn answer(consent: &SubjectConsent, purpose: &str, now_ms: i64) -> Answer {
    if consent.undecodable {
        return Answer::Deny;
    }
    let mut newest: Option<(i64, bool)> = None;
    for decisions in &consent.states {
        for name in [purpose, EVERY_PURPOSE] {
            let place = decisions.binary_search_by(|(found, _)| found.as_str().cmp(name));
            let Some((_, decision)) = place.ok().and_then(|place| decisions.get(place)) else { continue };
            let at_ms = decision.decided_at_ms;
            if decision.denies {
                if newest.is_none_or(|(newest_ms, _)| at_ms >= newest_ms) {
                    newest = Some((at_ms, false));
                }
            } else if decision.expires_at_ms.is_none_or(|end_ms| now_ms < end_ms)
                && newest.is_none_or(|(newest_ms, _)| at_ms > newest_ms)
            {
                newest = Some((at_ms, true));
            }
        }
    }
    match newest {
        None => Answer::Unknown,
        Some((since_ms, true)) => Answer::Allow(since_ms),
        Some((_, false)) => Answer::Deny,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_000_000;

    fn rule(basis: Basis) -> PurposeRule {
        Purpose {
            name: "offers".into(),
            basis,
            basis_by: [("US-CA".into(), Basis::OptOut)].into(),
            retention_ms: 500,
            refuses_minors: true,
            covers_earlier: false,
        }
        .into()
    }

    fn consent(decisions: &[(&str, bool, i64)]) -> SubjectConsent {
        let decision = |denies, decided_at_ms| Decision { denies, decided_at_ms, expires_at_ms: None };
        let state = decisions.iter().map(|(name, denies, at_ms)| ((*name).into(), decision(*denies, *at_ms)));
        let mut state: Vec<(String, Decision)> = state.collect();
        state.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        SubjectConsent { states: vec![state], ..SubjectConsent::default() }
    }

    fn passes(basis: Basis, primary: &SubjectConsent, others: &[&SubjectConsent], event_time_ms: i64) -> bool {
        let recipients = ["acme".to_owned()];
        let moment = Moment { event_time_ms, now_ms: NOW_MS, recipients: &recipients };
        passing(&[rule(basis)], primary, others, moment) == 1
    }

    #[test]
    fn consent_needs_an_allow_that_is_older_than_the_event() {
        let allowed = consent(&[("offers", false, NOW_MS - 100)]);
        assert!(passes(Basis::Consent, &allowed, &[], NOW_MS));
        assert!(!passes(Basis::Consent, &allowed, &[], NOW_MS - 101));
        assert!(!passes(Basis::Consent, &SubjectConsent::default(), &[], NOW_MS));
        assert!(!passes(Basis::Contract, &allowed, &[], NOW_MS - 501));
        assert!(passes(Basis::OptOut, &SubjectConsent::default(), &[], NOW_MS));
        assert!(!passes(Basis::OptOut, &consent(&[("*", true, 1)]), &[], NOW_MS));
    }

    #[test]
    fn the_newest_decision_wins_and_a_deny_wins_a_tie() {
        assert!(!passes(Basis::Consent, &consent(&[("offers", false, 5), ("*", true, 5)]), &[], NOW_MS));
        assert!(passes(Basis::Consent, &consent(&[("offers", false, 6), ("*", true, 5)]), &[], NOW_MS));
    }

    #[test]
    fn other_subjects_minors_and_recipients_can_only_deny() {
        let allowed = || consent(&[("offers", false, 5)]);
        let unknown = SubjectConsent::default();
        let denied = consent(&[("offers", true, 5)]);
        assert!(passes(Basis::Consent, &allowed(), &[&unknown], NOW_MS));
        assert!(!passes(Basis::Consent, &allowed(), &[&denied], NOW_MS));
        let minor = SubjectConsent { minor: true, ..allowed() };
        assert!(!passes(Basis::Consent, &minor, &[], NOW_MS));
        let away = |pair: &str| SubjectConsent { recipient_denials: vec![pair.into()], ..allowed() };
        assert!(!passes(Basis::Consent, &away("*@acme"), &[], NOW_MS));
        assert!(passes(Basis::Consent, &away("offers@other"), &[], NOW_MS));
        let undecodable = SubjectConsent { undecodable: true, ..allowed() };
        assert!(!passes(Basis::Consent, &undecodable, &[], NOW_MS));
        assert!(passes(Basis::Contract, &allowed(), &[&denied], NOW_MS));
    }

    #[test]
    fn the_jurisdiction_chooses_the_basis() {
        let californian = SubjectConsent { jurisdictions: vec!["US-CA".into()], ..SubjectConsent::default() };
        assert!(passes(Basis::Consent, &californian, &[], NOW_MS));
        let two = SubjectConsent { jurisdictions: vec!["US-CA".into(), "DE".into()], ..SubjectConsent::default() };
        assert!(!passes(Basis::Consent, &two, &[], NOW_MS));
    }
}
