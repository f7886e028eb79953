//! FF1: any key, radix, alphabet, tweak and value is refused or comes back.

use tokenweir_native::alphabets::Alphabet;
use tokenweir_native::ff1::{Cipher, Direction, LENIENT_DOMAIN, MINIMUM_DOMAIN};
use tokenweir_native::texts::TextCipher;

use crate::input::Input;
use crate::memory;

/// Longer values take time that grows with the square, and nothing else.
const LONGEST: usize = 4_096;

/// Most bytes for a byte of the input.
const BYTE_BYTES: usize = 128;

/// Most bytes for what is there once: the tables of the largest alphabet.
const FIXED_BYTES: usize = 16 * 1024;

/// Encipher and decipher what the input says, as numerals and as texts.
pub fn run(data: &[u8]) {
    let mut input = Input::new(&data[..data.len().min(LONGEST)]);
    let as_text = input.below(2) == 1;
    let floor = input.one_of(&[MINIMUM_DOMAIN, LENIENT_DOMAIN]);
    let key = vec![input.byte(); input.one_of(&[16, 24, 32, 0, 33])];
    let tweak = input.short();
    let most = FIXED_BYTES + BYTE_BYTES * data.len();
    memory::within(most, "FF1", || {
        if as_text { texts(&key, floor, tweak, input) } else { numerals(&key, floor, tweak, input) }
    });
}

fn numerals(key: &[u8], floor: u64, tweak: &[u8], mut input: Input<'_>) {
    let radix = match input.below(3) {
        0 => u32::from(input.byte()),
        1 => 65_536_u32.saturating_sub(input.byte().into()),
        _ => u32::from(input.byte()) * 300,
    };
    let Ok(cipher) = Cipher::new(key, radix, floor) else { return };
    let pairs = input.rest().chunks_exact(2);
    let inside: Vec<u16> = pairs
        .map(|pair| u16::try_from(u32::from(u16::from_le_bytes([pair[0], pair[1]])) % radix).unwrap_or(0))
        .collect();
    let Ok(cipher_text) = cipher.encrypt(&inside, tweak) else { return };
    assert!(cipher_text.iter().all(|numeral| u32::from(*numeral) < radix), "a numeral of another radix");
    assert!(cipher.decrypt(&cipher_text, tweak).as_ref() == Ok(&inside), "another value comes back");
    let mut outside = inside;
    if let (Some(last), Ok(foreign)) = (outside.last_mut(), u16::try_from(radix)) {
        *last = foreign;
        assert!(cipher.encrypt(&outside, tweak).is_err(), "a numeral of another radix is taken");
    }
}

fn texts(key: &[u8], floor: u64, tweak: &[u8], mut input: Input<'_>) {
    let alphabet = match input.below(4) {
        0 => "0123456789".into(),
        1 => "abcdefghijklmnopqrstuvwxyz".into(),
        2 => "\u{e4}\u{f6}\u{fc}xyz\u{1f600}".into(),
        _ => input.text(),
    };
    let Ok(alphabet) = Alphabet::new(&alphabet) else { return };
    let Ok(cipher) = TextCipher::new(key, alphabet, floor) else { return };
    let text = String::from_utf8_lossy(input.rest());
    let texts: Vec<&str> = text.split('\n').collect();
    let mut all = Vec::new();
    for text in &texts {
        if let Ok(hidden) = cipher.permute(text, tweak, Direction::Encrypt) {
            assert!(hidden.chars().count() == text.chars().count(), "another length");
            assert!(cipher.permute(&hidden, tweak, Direction::Decrypt).as_deref() == Ok(text), "another text");
            all.push(hidden);
        }
    }
    let many = cipher.permute_many(&texts, tweak, Direction::Encrypt);
    assert!(many.is_ok() == (all.len() == texts.len()), "many texts are refused where one is");
    if let Ok(many) = many {
        assert!(many.iter().eq(all.iter().map(String::as_str)), "a text depends on those beside it");
    }
}
