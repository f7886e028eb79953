//! Consent: whatever is known of subjects, another refusal lets nothing more pass.

use std::collections::BTreeMap;

use tokenweir_native::consent::{Decision, Moment, PurposeRule, SubjectConsent, passing};
use tokenweir_native::plan::{Basis, Purpose};

use crate::input::Input;

const PURPOSES: [&str; 3] = ["offers", "billing", "*"];
const DECIDED: [&str; 6] = ["offers", "billing", "*", "offers@a", "*@b", "a"];
const RECIPIENTS: [&str; 3] = ["a", "b", ""];
const JURISDICTIONS: [&str; 3] = ["US-CA", "DE", ""];
const BASES: [Basis; 7] = [
    Basis::Consent,
    Basis::OptOut,
    Basis::LegitimateInterest,
    Basis::Contract,
    Basis::LegalObligation,
    Basis::PublicTask,
    Basis::VitalInterest,
];

/// Ask which purposes pass, then refuse in every way there is and ask again.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let purposes: Vec<Purpose> = (0..=input.below(4)).map(|_| purpose(&mut input)).collect();
    let needless: u64 = bits(&purposes, |purpose| {
        let nothing = |basis: &Basis| !matches!(basis, Basis::Consent | Basis::OptOut | Basis::LegitimateInterest);
        nothing(&purpose.basis) && purpose.basis_by.values().all(nothing)
    });
    let asking: u64 = bits(&purposes, |purpose| {
        purpose.basis == Basis::Consent && purpose.basis_by.values().all(|basis| *basis == Basis::Consent)
    });
    let rules: Vec<PurposeRule> = purposes.into_iter().map(PurposeRule::from).collect();
    let recipients: Vec<String> = (0..input.below(3)).map(|_| input.one_of(&RECIPIENTS).to_owned()).collect();
    let moment = Moment { event_time_ms: time(&mut input), now_ms: time(&mut input), recipients: &recipients };
    let primary = subject(&mut input);
    let others: Vec<SubjectConsent> = (0..input.below(3)).map(|_| subject(&mut input)).collect();
    let others: Vec<&SubjectConsent> = others.iter().collect();

    let passed = passing(&rules, &primary, &others, moment);
    assert!(passed < 1 << rules.len(), "a purpose that there is not");
    let nobody = SubjectConsent::default();
    assert!(passing(&rules, &nobody, &[], moment) & asking == 0, "consent of somebody who gave none");

    // An undecodable state refuses all that can be refused, whoever it is of.
    let undecodable = SubjectConsent { undecodable: true, ..SubjectConsent::default() };
    assert!(passing(&rules, &undecodable, &others, moment) & !needless == 0, "what cannot be read refuses");
    for refusal in [undecodable, denial("*"), denial("offers")] {
        let more: Vec<&SubjectConsent> = others.iter().copied().chain([&refusal]).collect();
        assert!(passing(&rules, &primary, &more, moment) & !passed == 0, "a refusal of another lets more pass");
    }
    let denied = |name: &str| {
        let mut denied = copy(&primary);
        denied.states.extend(denial(name).states);
        denied
    };
    let refusals = [
        denied("*"),
        denied("offers"),
        SubjectConsent { minor: true, ..copy(&primary) },
        SubjectConsent { recipient_denials: vec!["*@a".into(), "offers@b".into()], ..copy(&primary) },
    ];
    let without_denials = SubjectConsent { recipient_denials: vec![], ..copy(&primary) };
    for (refused, reference) in refusals.iter().zip([&primary, &primary, &primary, &without_denials]) {
        let before = passing(&rules, reference, &others, moment);
        assert!(passing(&rules, refused, &others, moment) & !before == 0, "a refusal lets more pass");
    }
    let later = Moment { now_ms: moment.now_ms.saturating_add(1), ..moment };
    assert!(passing(&rules, &primary, &others, later) & asking & !passed == 0 || has_expiry(&primary, &others), "time");
}

fn bits(purposes: &[Purpose], has: impl Fn(&Purpose) -> bool) -> u64 {
    purposes.iter().zip(0..).filter(|(purpose, _)| has(purpose)).map(|(_, bit)| 1 << bit).sum()
}

/// Where an allow ends, an older decision counts again, also another allow.
fn has_expiry(primary: &SubjectConsent, others: &[&SubjectConsent]) -> bool {
    let mut states = others.iter().flat_map(|other| &other.states).chain(&primary.states);
    states.any(|state| state.iter().any(|(_, decision)| decision.expires_at_ms.is_some()))
}

fn purpose(input: &mut Input<'_>) -> Purpose {
    Purpose {
        name: input.one_of(&PURPOSES).to_owned(),
        basis: input.one_of(&BASES),
        basis_by: (0..input.below(3)).map(|_| (input.one_of(&JURISDICTIONS).into(), input.one_of(&BASES))).collect(),
        retention_ms: time(input),
        refuses_minors: input.below(2) == 1,
        covers_earlier: input.below(2) == 1,
    }
}

fn time(input: &mut Input<'_>) -> i64 {
    match input.byte() {
        255 => input.number(),
        254 => i64::MAX,
        253 => i64::MIN,
        small => i64::from(small) - 10,
    }
}

fn subject(input: &mut Input<'_>) -> SubjectConsent {
    let flags = input.byte();
    let mut state = || -> Vec<(String, Decision)> {
        let decisions: BTreeMap<String, Decision> = (0..input.below(4))
            .map(|_| {
                let name = input.one_of(&DECIDED).to_owned();
                let denies = input.below(2) == 1;
                let decided_at_ms = time(input);
                let expires_at_ms = (input.below(4) == 3).then(|| time(input));
                (name, Decision { denies, decided_at_ms, expires_at_ms })
            })
            .collect();
        decisions.into_iter().collect()
    };
    SubjectConsent {
        states: (0..flags & 3).map(|_| state()).collect(),
        undecodable: flags >> 2 == 1,
        minor: flags & 8 != 0,
        jurisdictions: (0..flags >> 4 & 3).map(|_| input.one_of(&JURISDICTIONS).into()).collect(),
        recipient_denials: (0..flags >> 6).map(|_| input.one_of(&DECIDED).into()).collect(),
    }
}

fn denial(name: &str) -> SubjectConsent {
    let decision = Decision { denies: true, decided_at_ms: i64::MAX, expires_at_ms: None };
    SubjectConsent { states: vec![[(name.to_owned(), decision)].into()], ..SubjectConsent::default() }
}

fn copy(consent: &SubjectConsent) -> SubjectConsent {
    SubjectConsent {
        states: consent.states.clone(),
        undecodable: consent.undecodable,
        minor: consent.minor,
        jurisdictions: consent.jurisdictions.clone(),
        recipient_denials: consent.recipient_denials.clone(),
    }
}
