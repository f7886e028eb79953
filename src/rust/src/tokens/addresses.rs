//! Tokens of IP addresses: permutations of all addresses, some of which preserve prefixes.
//!
//! The ciphers are ipcrypt-deterministic and ipcrypt-pfx (draft-denis-ipcrypt), and Crypto-PAn; the reference engine's
//! `core/ipcrypt.py` says what they promise.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, Ipv6Addr};

use aes::Aes128;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::rank::Rank;

use super::ranked::{Format, Number, Prepared};
use super::spec::{Family, Mode};

/// An IPv4 address in the form of IPv6 (RFC 4291, section 2.5.5.2) without the address.
const MAPPED: u128 = 0xffff << 32;

/// IPv4 addresses as numbers below 2^32.
pub(super) struct V4Ranks;

impl Format for V4Ranks {
    fn radix(&self) -> u32 {
        2
    }

    fn prepare<'t>(&self, text: &'t str) -> Option<Prepared<'t>> {
        let rank = u128::from(u32::from(text.parse::<Ipv4Addr>().ok()?));
        Some(Prepared { number: Number::Rank(Rank::Small(rank)), length: 32, kept: "".into(), frame: text })
    }

    fn render(&self, _: &Prepared<'_>, number: Number<'static>) -> String {
        match number {
            Number::Rank(Rank::Small(rank)) => {
                u32::try_from(rank).map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from).to_string()
            }

            _ => String::new(),
        }
    }
}

/// An address as a number and its bits.
type Address = (u128, u32);

#[allow(clippy::large_enum_variant, reason = "keys stand inside of what is locked, not beside it")]
enum Cipher {
    Deterministic(Aes128),
    Prefix([Aes128; 2]),
    CryptoPan(Aes128, Zeroizing<u128>),
}

/// Addresses that a cipher of addresses turns into others.
pub(super) struct Addresses {
    reads_v4: bool,
    writes_v4: bool,
    cipher: Cipher,
}

fn aes(key: &[u8]) -> Result<Aes128> {
    Aes128::new_from_slice(key).map_err(|_| Error::Specification)
}

fn block(aes: &Aes128, number: u128) -> u128 {
    let mut block = Array::from(number.to_be_bytes());
    aes.encrypt_block(&mut block);
    u128::from_be_bytes(block.into())
}

impl Cipher {
    fn new(mode: Mode, key: &[u8]) -> Result<Self> {
        let (first, second) = key.split_at_checked(16).ok_or(Error::Specification)?;
        match mode {
            Mode::Permutation => Err(Error::Specification),
            Mode::Deterministic => Ok(Self::Deterministic(aes(key)?)),
            // With equal halves every address would be encrypted to itself.
            Mode::Prefix if first == second => Err(Error::Specification),
            Mode::Prefix => Ok(Self::Prefix([aes(first)?, aes(second)?])),
            Mode::Cryptopan => {
                let cipher = aes(first)?;
                let pad = Zeroizing::new(u128::from_be_bytes(second.try_into().map_err(|_| Error::Specification)?));
                let pad = Zeroizing::new(block(&cipher, *pad));
                Ok(Self::CryptoPan(cipher, pad))
            }
        }
    }

    /// Return the bit that changes the one after a prefix of so many bits.
    fn bit(&self, prefix: u128, length: u32, bits: u32) -> u128 {
        match self {
            Self::Deterministic(_) => 0,
            Self::Prefix(ciphers) => {
                // A prefix is written after a single 1; that of IPv4 begins with the 96 bits of its form of IPv6.
                let above = if bits == 32 { 1 << 96 | 0xffff } else { 1 };
                let written = above << length | prefix;
                let [first, second] = ciphers;
                (block(first, written) ^ block(second, written)) & 1
            }
            Self::CryptoPan(cipher, pad) => {
                // A prefix is followed by the padding from its own place on.
                let written = if length == 0 { **pad } else { prefix << (128 - length) | **pad << length >> length };
                block(cipher, written) >> 127
            }
        }
    }

    fn encrypt(&self, (number, bits): Address) -> Address {
        if let Self::Deterministic(cipher) = self {
            return (block(cipher, if bits == 32 { MAPPED | number } else { number }), 128);
        }
        let mut mask = 0;
        for length in 0..bits {
            let prefix = number.checked_shr(bits - length).unwrap_or(0);
            mask = mask << 1 | self.bit(prefix, length, bits);
        }
        (number ^ mask, bits)
    }

    fn decrypt(&self, (number, bits): Address) -> Address {
        if let Self::Deterministic(cipher) = self {
            let mut block = Array::from(number.to_be_bytes());
            cipher.decrypt_block(&mut block);
            let plain = u128::from_be_bytes(block.into());
            return if plain >> 32 == MAPPED >> 32 { (plain & 0xffff_ffff, 32) } else { (plain, 128) };
        }
        let mut prefix = 0;
        for length in 0..bits {
            prefix = prefix << 1 | (number >> (bits - 1 - length) & 1 ^ self.bit(prefix, length, bits));
        }
        (prefix, bits)
    }
}

impl Addresses {
    /// Bind the key.
    pub(super) fn new(family: Family, mode: Mode, key: &[u8]) -> Result<Self> {
        let reads_v4 = family == Family::V4;
        Ok(Self { reads_v4, writes_v4: reads_v4 && mode != Mode::Deterministic, cipher: Cipher::new(mode, key)? })
    }

    /// Return the token of an address, or None if the text is none.
    pub(super) fn token(&self, text: &str) -> Option<String> {
        Some(written(self.cipher.encrypt(read(text, self.reads_v4)?)))
    }

    /// Return the address of a token.
    pub(super) fn value(&self, token: &str) -> Option<String> {
        let (number, bits) = self.cipher.decrypt(read(token, self.writes_v4)?);
        ((bits == 32) == self.reads_v4).then(|| written((number, bits)))
    }
}

fn read(text: &str, is_v4: bool) -> Option<Address> {
    if is_v4 {
        return Some((u32::from(text.parse::<Ipv4Addr>().ok()?).into(), 32));
    }
    let address = text.parse::<Ipv6Addr>().ok()?;
    address.to_ipv4_mapped().is_none().then(|| (address.into(), 128))
}

/// Return the text of an address (RFC 5952).
fn written((number, bits): Address) -> String {
    match u32::try_from(number) {
        Ok(number) if bits == 32 => Ipv4Addr::from(number).to_string(),
        _ => Ipv6Addr::from(number).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::encoding::from_hex;
    use super::*;

    fn held(family: Family, mode: Mode, key: &str, pairs: &[(&str, &str)]) {
        let addresses = Addresses::new(family, mode, &from_hex(key).unwrap()).unwrap();
        for (value, token) in pairs {
            assert_eq!(addresses.token(value).as_deref(), Some(*token));
            assert_eq!(addresses.value(token).as_deref(), Some(*value));
        }
    }

    #[test]
    fn vectors_of_the_draft() {
        let key = "0123456789abcdeffedcba9876543210";
        held(Family::V4, Mode::Deterministic, key, &[("0.0.0.0", "bde9:6789:d353:824c:d7c6:f58a:6bd2:26eb")]);
        let key = "0123456789abcdeffedcba98765432101032547698badcfeefcdab8967452301";
        held(Family::V4, Mode::Prefix, key, &[("0.0.0.0", "151.82.155.134")]);
        let key = "0123456789abcdeffedcba98765432101032547698badcfeefcdab8967452301";
        held(Family::V6, Mode::Prefix, key, &[("2001:db8::1", "c180:5dd4:2587:3524:30ab:fa65:6ab6:f88")]);
        let key = "1522178d33a4cf80130a5b1649907d10d8988f837979652762574c2d2a842202";
        held(Family::V4, Mode::Cryptopan, key, &[("128.11.68.132", "135.242.180.132")]);
        let key = "1522178d33a4cf80130a5b1649907d10d8988f837979652762574c2d2a842202";
        held(Family::V6, Mode::Cryptopan, key, &[("::1", "78ff:f001:9fc0:20df:8380:b1f1:704:ed")]);
    }

    #[test]
    fn equal_halves_are_refused() {
        assert!(Addresses::new(Family::V4, Mode::Prefix, &[7; 32]).is_err());
        assert!(Addresses::new(Family::V4, Mode::Cryptopan, &[7; 32]).is_ok());
    }
}
