//! Tokens with a form of their own: a keyed hash, or a deterministic ciphertext that the key holder can open.
#![forbid(unsafe_code)]

use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

use super::secret::{Mac, TWEAK_BYTES};
use super::spec::Encoding;
use super::{KEY_BYTES, encoding};

const SIV_BYTES: usize = 16;

fn written(bytes: &[u8], encoding: Encoding) -> String {
    match encoding {
        Encoding::Hex => encoding::hex(bytes),
        Encoding::Base64url => encoding::base64url(bytes),
    }
}

/// HMAC-SHA-256 of the text, truncated to 128 bits or more.
pub(super) struct OpaqueDigest {
    encoding: Encoding,
    bytes: usize,
    mac: Mac,
}

impl OpaqueDigest {
    /// Write tokens of so many bits.
    pub(super) fn new(encoding: Encoding, bits: usize, mac: Mac) -> Self {
        Self { encoding, bytes: bits / 8, mac }
    }

    /// Return the token of a text; only the empty text has none.
    pub(super) fn token(&self, text: &str) -> Option<String> {
        if text.is_empty() {
            return None;
        }
        let digest = self.mac.of(&[b"text", text.as_bytes(), b""]);
        Some(written(digest.get(..self.bytes)?, self.encoding))
    }
}

/// AES-SIV of the text (RFC 5297): reversible, authenticated, 16 bytes longer than the text.
pub(super) struct OpaqueSealed {
    encoding: Encoding,
    // The cipher itself changes with each text, so that threads could not share it.
    key: Zeroizing<[u8; 2 * KEY_BYTES]>,
    associated: [u8; TWEAK_BYTES],
}

impl OpaqueSealed {
    /// Bind the keys; the tweak is the associated data.
    pub(super) fn new(encoding: Encoding, key: &[u8], tweak_key: &[u8]) -> Result<Self> {
        let key = Zeroizing::new(key.try_into().map_err(|_| Error::Specification)?);
        Ok(Self { encoding, key, associated: Mac::new(tweak_key)?.tweak("") })
    }

    fn cipher(&self) -> Option<Aes256Siv> {
        Aes256Siv::new_from_slice(&*self.key).ok()
    }

    /// Return the tokens of texts; only the empty text has none.
    pub(super) fn tokens(&self, texts: &[&str]) -> Vec<Option<String>> {
        let mut cipher = self.cipher();
        let mut token = |text: &str| {
            let sealed = cipher.as_mut()?.encrypt([self.associated], text.as_bytes()).ok()?;
            Some(written(&sealed, self.encoding)).filter(|_| !text.is_empty())
        };
        texts.iter().map(|text| token(text)).collect()
    }

    /// Return the text of a token.
    pub(super) fn value(&self, token: &str) -> Option<String> {
        let sealed = match self.encoding {
            Encoding::Hex => encoding::from_hex(token),
            Encoding::Base64url => encoding::from_base64url(token),
        }?;
        // Only the one spelling that this format writes is a token: no upper case, no loose last bits.
        if sealed.len() <= SIV_BYTES || written(&sealed, self.encoding) != token {
            return None;
        }
        String::from_utf8(self.cipher()?.decrypt([self.associated], &sealed).ok()?).ok()
    }
}
