//! How ids are hidden and entries proven; see `tokenweir.adapters.consentfiles.Seal`.
#![forbid(unsafe_code)]

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{Fault, Result};
use crate::locked::Locked;

const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = 8;

/// Size of the key of a subject's entry.
pub const ID_BYTES: usize = 16;

/// The key of a subject's entry.
pub type EntryKey = [u8; ID_BYTES];

/// Both keys.
pub struct Seal {
    hashes: Locked<Hashes>,
}

/// What the keys make of the state of a hash, which is computed once and wiped on drop.
struct Hashes {
    id: Hmac<Sha256>,
    mac: Hmac<Sha256>,
}

impl Seal {
    /// Bind the keys.
    ///
    /// # Errors
    ///
    /// One of them has fewer than 32 bytes.
    pub fn new(id_key: &[u8], mac_key: &[u8]) -> Result<Self> {
        if id_key.len().min(mac_key.len()) < KEY_BYTES {
            return Err(Fault::Keys);
        }
        let keyed = |key| Hmac::new_from_slice(key).map_err(|_| Fault::Keys);
        Ok(Self { hashes: Locked::new(Hashes { id: keyed(id_key)?, mac: keyed(mac_key)? }) })
    }

    /// Return the key of the entry of a subject, given in its canonical form.
    #[must_use]
    pub fn id_of(&self, canonical: &str) -> EntryKey {
        let mut id = self.hashes.id.clone();
        id.update(canonical.as_bytes());
        let mut key = EntryKey::default();
        key.copy_from_slice(&id.finalize().into_bytes()[..ID_BYTES]);
        key
    }

    /// Return the content of an entry.
    ///
    /// # Errors
    ///
    /// It is not what was stored under this key.
    pub fn open<'e>(&self, key: &[u8], entry: &'e [u8]) -> Result<&'e [u8]> {
        self.content(key, entry)
            .ok_or(Fault::Corrupt("an entry of the consent store does not have the MAC that belongs to it"))
    }

    fn content<'e>(&self, key: &[u8], entry: &'e [u8]) -> Option<&'e [u8]> {
        let (content, found) = entry.split_at_checked(entry.len().checked_sub(MAC_BYTES)?)?;
        let mut mac = self.hashes.mac.clone();
        mac.update(&u16::try_from(key.len()).ok()?.to_be_bytes());
        mac.update(key);
        mac.update(content);
        mac.verify_truncated_left(found).ok()?;
        Some(content)
    }
}
