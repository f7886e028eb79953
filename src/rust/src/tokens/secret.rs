//! HMAC-SHA-256 under one key, over messages that no other list of parts can make.
#![forbid(unsafe_code)]

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;

use crate::error::{Error, Result};

/// Size of a tweak; at most 11 bytes keep FF1 on 16 digits at one AES block per round.
pub(super) const TWEAK_BYTES: usize = 8;

/// A keyed MAC; what the key makes of its state is computed once and wiped on drop.
pub(crate) struct Mac {
    keyed: Hmac<Sha256>,
}

impl Mac {
    /// Bind a key.
    pub(crate) fn new(key: &[u8]) -> Result<Self> {
        Hmac::new_from_slice(key).map(|keyed| Self { keyed }).map_err(|_| Error::Specification)
    }

    /// Return the MAC of LP(parts): each part after its length in four bytes, big-endian.
    ///
    /// A part of 2^32 bytes or more has no such length; its MAC would be that of a shorter one, so callers bound them.
    pub(crate) fn of(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.keyed.clone();
        for part in parts {
            mac.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Return the tweak of values that keep these characters. No entry has a salt yet, so its part is empty.
    pub(super) fn tweak(&self, kept: &str) -> [u8; TWEAK_BYTES] {
        let mut tweak = [0; TWEAK_BYTES];
        tweak.copy_from_slice(&self.of(&[kept.as_bytes(), b""])[..TWEAK_BYTES]);
        tweak
    }
}
