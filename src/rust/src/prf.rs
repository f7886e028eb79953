//! What differs from person to person: values of a keyed function; see `tokenweir.core.generalize.keyed`.

use crate::error::Result;
use crate::locked::Locked;
use crate::tokens::secret::Mac;

/// HMAC-SHA-256 under one key, a pseudorandom function of what it is asked about. Its memory is locked and wiped.
pub struct Prf {
    mac: Locked<Mac>,
}

impl Prf {
    /// Bind a key.
    ///
    /// # Errors
    ///
    /// The key has no size that HMAC takes.
    pub fn new(key: &[u8]) -> Result<Self> {
        Ok(Self { mac: Locked::new(Mac::new(key)?) })
    }

    /// Return the 32 bytes for a list of texts; no other list gives the same message.
    #[must_use]
    pub fn of(&self, parts: &[&str]) -> [u8; 32] {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        self.mac.of(&parts)
    }
}

/// Whom a record is about: its primary subject.
#[derive(Clone, Copy)]
pub struct Person<'p> {
    /// The type.
    pub kind: &'p str,
    /// The canonical id.
    pub id: &'p str,
}

/// The keyed functions of an engine, by their number, and whom the record at hand is about.
#[derive(Clone, Copy)]
pub struct Keyed<'k> {
    /// The functions.
    pub prfs: &'k [Prf],
    /// The person; without one every value that needs one is invalid.
    pub person: Option<Person<'k>>,
}

impl<'k> Keyed<'k> {
    /// Return a function and the person, if there are both.
    #[must_use]
    pub fn pair(self, number: usize) -> Option<(&'k Prf, Person<'k>)> {
        Some((self.prfs.get(number)?, self.person?))
    }
}
