//! What is known of many subjects in one view; each as `tokenweir.adapters.consentreader.ConsentSnapshot.lookup` does.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ahash::RandomState;

use super::pages::Pages;
use super::seal::EntryKey;
use super::{Fault, Result, Seal, View, available, entry};
use crate::consent::SubjectConsent;

/// Looks subjects up in one view, and remembers them: in one view, no answer changes.
pub struct Lookups {
    view: View,
    seal: Arc<Seal>,
    /// Whether everybody is denied, because nobody knows whom a record meant that could not be read.
    denied: bool,
    unknown: Arc<SubjectConsent>,
    known: Mutex<HashMap<EntryKey, Arc<SubjectConsent>, RandomState>>,
}

impl Lookups {
    /// Prepare for one view; where everybody is denied, nothing of it is read.
    #[must_use]
    pub fn new(view: View, seal: Arc<Seal>, denied: bool) -> Self {
        Self { view, seal, denied, unknown: Arc::default(), known: Mutex::default() }
    }

    /// Return what is known of subjects, each a type and a canonical id.
    ///
    /// They are looked up in the order in which they lie in the store.
    ///
    /// # Errors
    ///
    /// The view is closed, or something is damaged; then nothing is known of anybody.
    pub fn look_up(&self, subjects: &[(&str, &str)]) -> Result<Vec<Arc<SubjectConsent>>> {
        if self.denied {
            let denied = Arc::new(SubjectConsent::denied());
            return Ok(vec![denied; subjects.len()]);
        }
        let mut canonical = String::new();
        let keys: Vec<EntryKey> = subjects
            .iter()
            .map(|(kind, id)| {
                canonical.clear();
                push_escaped(&mut canonical, kind);
                canonical.push(':');
                push_escaped(&mut canonical, id);
                self.seal.id_of(&canonical)
            })
            .collect();
        self.view.with(|pages| {
            let mut known = available(&self.known)?;
            known.reserve(keys.len());
            let mut wanted: Vec<&EntryKey> = keys.iter().filter(|key| !known.contains_key(*key)).collect();
            wanted.sort_unstable();
            wanted.dedup();
            for key in wanted {
                let found = self.find(pages, key)?;
                known.insert(*key, found);
            }
            Ok(keys.iter().filter_map(|key| known.get(key).cloned()).collect())
        })
    }

    fn find(&self, pages: &Pages<'_>, key: &EntryKey) -> Result<Arc<SubjectConsent>> {
        let Some(found) = pages.get(key)? else {
            self.prove_absent(pages, key)?;
            return Ok(self.unknown.clone());
        };
        let consent = entry::decode(self.seal.open(key, found)?);
        consent.map(Arc::new).ok_or(Fault::Corrupt("an entry of the consent store has the format of another version"))
    }

    /// Check that the two entries between which this key would stand are genuine and in order.
    ///
    /// Unknown is an answer that some legal bases take for yes. A key that was damaged on a page leads the search
    /// astray, and then its neighbours there are out of order, or one of them has no valid MAC; what else leads it
    /// astray is found by [`Pages::neighbours`].
    fn prove_absent(&self, pages: &Pages<'_>, key: &EntryKey) -> Result<()> {
        let key = key.as_slice();
        let (before, after) = pages.neighbours(key)?;
        if before.is_some_and(|(found, _)| found >= key) || after.is_some_and(|(found, _)| found <= key) {
            return Err(Fault::Corrupt("entries of the consent store are out of order"));
        }
        for (found, content) in before.into_iter().chain(after) {
            self.seal.open(found, content)?;
        }
        Ok(())
    }
}

/// Add a text in which everything outside of `[A-Za-z0-9._~@+-]` is percent-encoded.
fn push_escaped(out: &mut String, text: &str) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"._~@+-".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(DIGITS[usize::from(byte >> 4)]);
            out.push(DIGITS[usize::from(byte & 15)]);
        }
    }
}
