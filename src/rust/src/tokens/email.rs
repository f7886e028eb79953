//! Tokens of e-mail addresses: irreversible, still addresses to every validator.
#![forbid(unsafe_code)]

use super::domains::ascii_domain;
use super::encoding;
use super::secret::Mac;
use super::spec::MailDomain;
use super::unicode::{self, Version};

/// Base-32 characters of a token: 130 bits.
const TOKEN_CHARACTERS: usize = 26;
const MAXIMUM_LOCAL_OCTETS: usize = 64;
const MAXIMUM_ADDRESS: usize = 254;

/// What a local part may not have: quoted parts, comments and white space, so that one mailbox has one spelling.
const FORBIDDEN: &[char] = &['"', '(', ')', ',', ':', ';', '<', '>', '@', '[', '\\', ']'];

/// An address `local@domain`; the local part becomes 26 characters of `a-z2-7`.
///
/// Before hashing the address is brought to one form: lower case throughout, NFC, and the domain in ASCII.
pub(super) struct Email {
    domain: MailDomain,
    mac: Mac,
    version: Version,
}

impl Email {
    /// Bind the key.
    pub(super) fn new(domain: MailDomain, mac: Mac, version: Version) -> Self {
        Self { domain, mac, version }
    }

    /// Return the token of an address, or None if the text is none.
    pub(super) fn token(&self, text: &str) -> Option<String> {
        let (local, domain) = text.rsplit_once('@')?;
        let local = self.local(local).filter(|_| text.chars().count() <= MAXIMUM_ADDRESS)?;
        let host = ascii_domain(domain, self.version)?;
        let token = self.part("address", &[&*local, "@", &*host].concat());
        Some(match &self.domain {
            MailDomain::Keep => [&*token, "@", &*host].concat(),
            MailDomain::Replace(replacement) => format!("{token}@{replacement}"),
            // .example is reserved (RFC 2606) and, unlike .invalid, passes the validators that receivers use.
            MailDomain::Tokenize => format!("{token}@{}.example", self.part("domain", &host)),
        })
    }

    /// Return the one form of a local part, or None if it has what an address may not have.
    fn local(&self, local: &str) -> Option<String> {
        let is_free =
            |character: char| !character.is_ascii_control() && character != ' ' && !FORBIDDEN.contains(&character);
        if local.is_empty() || !local.chars().all(is_free) {
            return None;
        }
        let form = if local.is_ascii() { local.to_ascii_lowercase() } else { unicode::folded(local, self.version)? };
        let is_printable = form.chars().all(unicode::is_printable);
        (is_printable && form.len() <= MAXIMUM_LOCAL_OCTETS).then_some(form)
    }

    /// Return the first 130 bits of the MAC of a text.
    fn part(&self, label: &str, text: &str) -> String {
        let mut characters = encoding::base32(&self.mac.of(&[label.as_bytes(), text.as_bytes(), b""]));
        characters.truncate(TOKEN_CHARACTERS);
        characters
    }
}
