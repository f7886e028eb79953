//! The bytes in which the store keeps one data subject's consent; see `tokenweir.core.consent.stored`.
#![forbid(unsafe_code)]

use crate::consent::{Decision, SubjectConsent};

const FORMAT: u8 = 1;
const STATE_UNDECODABLE: u8 = 1;
const STATE_MINOR: u8 = 2;
const STATE_JURISDICTION: u8 = 4;
const STATE_FLAGS: u8 = 7;
const DECISION_ALLOW: u8 = 1;
const DECISION_EXPIRES: u8 = 2;
const DECISION_FLAGS: u8 = 3;

/// Return what is known of a subject, or none where the bytes are not exactly what is written for some consent.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<SubjectConsent> {
    let mut rest = Rest(bytes);
    if rest.byte()? != FORMAT {
        return None;
    }
    let sources = u32::from_be_bytes(rest.array()?);
    let mut consent = SubjectConsent::default();
    let mut newest_ms = 0;
    let mut previous = None;
    for _ in 0..sources {
        let source = rest.text()?;
        let flags = rest.byte()?;
        let decided_at_ms = rest.time()?;
        if flags > STATE_FLAGS || previous.is_some_and(|previous| source <= previous) {
            return None;
        }
        previous = Some(source);
        consent.undecodable |= flags & STATE_UNDECODABLE != 0;
        consent.minor |= flags & STATE_MINOR != 0;
        if flags & STATE_JURISDICTION != 0 {
            let name = rest.text()?.to_owned();
            if consent.jurisdictions.is_empty() || decided_at_ms > newest_ms {
                consent.jurisdictions = vec![name];
                newest_ms = decided_at_ms;
            } else if decided_at_ms == newest_ms {
                consent.jurisdictions.push(name);
            }
        }
        let decisions = rest.decisions()?;
        for (name, _) in decisions.iter().filter(|(name, _)| name.contains('@')) {
            if !consent.recipient_denials.contains(name) {
                consent.recipient_denials.push(name.clone());
            }
        }
        consent.states.push(decisions);
    }
    rest.0.is_empty().then_some(consent)
}

/// What has not been read yet.
struct Rest<'c>(&'c [u8]);

impl<'c> Rest<'c> {
    fn take(&mut self, count: usize) -> Option<&'c [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn time(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn text(&mut self) -> Option<&'c str> {
        let count = self.byte()?.into();
        std::str::from_utf8(self.take(count)?).ok()
    }

    fn decisions(&mut self) -> Option<Vec<(String, Decision)>> {
        let count = u16::from_be_bytes(self.array()?);
        let mut decisions: Vec<(String, Decision)> = Vec::new();
        for _ in 0..count {
            let name = self.text()?;
            let flags = self.byte()?;
            let decided_at_ms = self.time()?;
            let expires_at_ms = if flags & DECISION_EXPIRES == 0 { None } else { Some(self.time()?) };
            let in_order = decisions.last().map_or("", |(previous, _)| previous) < name;
            if flags > DECISION_FLAGS || !in_order {
                return None;
            }
            let denies = flags & DECISION_ALLOW == 0;
            decisions.push((name.to_owned(), Decision { denies, decided_at_ms, expires_at_ms }));
        }
        Some(decisions)
    }
}
