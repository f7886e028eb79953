//! Prints nanoseconds of CPU per value of 16 digits under AES-256, text in and text out, in alternating rounds, as JSON.

use std::hint::black_box;
use std::time::Instant;

use fpe::ff1::{FF1, FlexibleNumeralString};
use tokenweir_native::alphabets::{Alphabet, DIGITS};
use tokenweir_native::ff1::{Direction, MINIMUM_DOMAIN};
use tokenweir_native::texts::TextCipher;

const ROUNDS: usize = 9;
const VALUES: u64 = 1_000;
const TWEAK: [u8; 8] = [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77];

/// Return the CPU time of this thread where Linux tells it, the time since `begin` elsewhere.
fn nanoseconds(begin: Instant) -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let cpu = told.and_then(|text| text.split(' ').next().and_then(|first| first.parse().ok()));
    cpu.unwrap_or_else(|| begin.elapsed().as_nanos() as f64)
}

fn main() {
    let key: Vec<u8> = (0..32).collect();
    let alphabet = Alphabet::new(DIGITS).expect("ten digits");
    let ours = TextCipher::new(&key, alphabet, MINIMUM_DOMAIN).expect("a key of 32 bytes");
    let theirs = FF1::<aes::Aes256>::new(&key, 10).expect("a radix of 10");
    let of_crate = |text: &str| -> String {
        let numerals: Vec<u16> = text.bytes().map(|byte| u16::from(byte - b'0')).collect();
        let permuted = theirs.encrypt(&TWEAK, &FlexibleNumeralString::from(numerals)).expect("16 digits");
        Vec::from(permuted).iter().map(|numeral| char::from(b'0' + *numeral as u8)).collect()
    };
    let single = |text: &str| ours.permute(text, &TWEAK, Direction::Encrypt).expect("16 digits");
    assert_eq!(of_crate("4111111111111111"), "7077618758372845");
    assert_eq!(single("4111111111111111"), "7077618758372845");

    let texts: Vec<String> =
        (1..=VALUES).map(|value| format!("{:016}", value * 7_919_000_007 % 10_u64.pow(16))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let batch = || drop(black_box(ours.permute_many(&texts, &TWEAK, Direction::Encrypt)));
    let singles = || texts.iter().for_each(|text| drop(black_box(single(text))));
    let crates = || texts.iter().for_each(|text| drop(black_box(of_crate(text))));

    // How often each is repeated makes it last about a tenth of a second: the CPU time is told in steps of milliseconds.
    let contenders: [(&str, u64, &dyn Fn()); 3] =
        [("tokenweir, batches", 1_500, &batch), ("tokenweir, single calls", 300, &singles), ("fpe 0.7", 40, &crates)];
    let begin = Instant::now();
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for ((_, repeats, contender), measured) in contenders.iter().zip(&mut times) {
            contender();
            let started = nanoseconds(begin);
            for _ in 0..*repeats {
                contender();
            }
            measured.push((nanoseconds(begin) - started) / (repeats * VALUES) as f64);
        }
    }
    let rows: Vec<String> =
        contenders.iter().zip(&times).map(|((name, ..), measured)| format!("\"{name}\": {measured:?}")).collect();
    println!("{{{}}}", rows.join(", "));
}
