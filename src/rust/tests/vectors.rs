//! FF1 against the samples of NIST and the cases of ACVP, the same files that the Python tests read.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::fs::File;
use std::path::Path;

use serde_json::Value;
use tokenweir_native::alphabets::Alphabet;
use tokenweir_native::ff1::{Cipher, Direction, LENIENT_DOMAIN, MINIMUM_DOMAIN};
use tokenweir_native::texts::TextCipher;

fn document(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors").join(name);
    serde_json::from_reader(File::open(path).unwrap()).unwrap()
}

fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap()
}

fn bytes(case: &Value, name: &str) -> Vec<u8> {
    let digits = text(case, name);
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// Check a case in both directions: as text, as numerals, and in lists that fill some lanes, all lanes and more.
fn check(case: &Value, alphabet: &str, floor: u64) {
    let (key, tweak) = (bytes(case, "key"), bytes(case, "tweak"));
    let (plain, cipher) = (text(case, "pt"), text(case, "ct"));
    let texts = TextCipher::new(&key, Alphabet::new(alphabet).unwrap(), floor).unwrap();

    for (from, to, direction) in [(plain, cipher, Direction::Encrypt), (cipher, plain, Direction::Decrypt)] {
        assert_eq!(texts.permute(from, &tweak, direction).unwrap(), to, "{case}");
        for count in [1, 3, 8, 11] {
            let many = texts.permute_many(&vec![from; count], &tweak, direction).unwrap();
            assert_eq!(many.iter().collect::<Vec<_>>(), vec![to; count], "{case}");
        }
    }

    let numerals = |text: &str| -> Vec<u16> {
        text.chars()
            .map(|found| u16::try_from(alphabet.chars().position(|one| one == found).unwrap()).unwrap())
            .collect()
    };
    let radix = u32::try_from(alphabet.chars().count()).unwrap();
    let permutation = Cipher::new(&key, radix, floor).unwrap();
    assert_eq!(permutation.encrypt(&numerals(plain), &tweak).unwrap(), numerals(cipher));
    assert_eq!(permutation.decrypt(&numerals(cipher), &tweak).unwrap(), numerals(plain));
}

#[test]
fn nist_samples() {
    let samples = document("nist/FF1samples.json");
    let samples = samples["tests"].as_array().unwrap();
    assert_eq!(samples.len(), 9);
    for sample in samples {
        check(sample, text(sample, "alphabet"), MINIMUM_DOMAIN);
    }
}

#[test]
fn acvp_cases() {
    let groups = document("acvp/ACVP-AES-FF1-1.0-internalProjection.json");
    let mut count = 0;
    for group in groups["testGroups"].as_array().unwrap() {
        for case in group["tests"].as_array().unwrap() {
            // Some domains are below a million, as the text of 2016 allowed.
            check(case, text(group, "alphabet"), LENIENT_DOMAIN);
            count += 1;
        }
    }
    assert_eq!(count, 750);
}
