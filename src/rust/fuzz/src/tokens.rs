//! Tokens: any text in any format is refused or has a token, which leads back where the format can be reversed.

use tokenweir_native::tokens::Tokenizer;

use crate::input::Input;
use crate::plans::tokenizer;
use crate::{LONGEST, memory};

/// Entries of every format, at the edges of their parameters.
const SPECS: [&str; 52] = [
    r#"{"format":"digits","length":10}"#,
    r#"{"format":"digits","length":"6..1024"}"#,
    r#"{"format":"digits","length":"19..40","null_values":["none"]}"#,
    r#"{"format":"integer","min":0,"max":999999}"#,
    r#"{"format":"integer","min":-2147483648,"max":2147483647}"#,
    r#"{"format":"integer","min":-100000000000000000000000000000000000000,"max":100000000000000000000000000000000000000}"#,
    r#"{"format":"alphanumeric","length":"4..64"}"#,
    r#"{"format":"alphanumeric","length":"4..1024","case":"lower"}"#,
    r#"{"format":"alphanumeric","length":12,"case":"upper"}"#,
    r#"{"format":"hex","length":"5..1024"}"#,
    r#"{"format":"hex","length":32,"case":"upper"}"#,
    r#"{"format":"pattern","pattern":"AB-(\\d{6})-([A-Z]{2})"}"#,
    r#"{"format":"pattern","pattern":"([ -~]{128}[a-z]{100})x{28}"}"#,
    r#"{"format":"pattern","pattern":"([01]{20})"}"#,
    r#"{"format":"uuid"}"#,
    r#"{"format":"pan"}"#,
    r#"{"format":"pan","keep_last":4}"#,
    r#"{"format":"pan","luhn":"valid"}"#,
    r#"{"format":"pan","keep_last":4,"luhn":"valid"}"#,
    r#"{"format":"phone"}"#,
    r#"{"format":"phone","keep":2}"#,
    r#"{"format":"email"}"#,
    r#"{"format":"email","domain":"keep"}"#,
    r#"{"format":"email","domain":"replace","replacement":"tokens.example"}"#,
    r#"{"format":"opaque"}"#,
    r#"{"format":"opaque","encoding":"hex","bits":256}"#,
    r#"{"format":"opaque","reversible":true}"#,
    r#"{"format":"opaque","reversible":true,"encoding":"hex"}"#,
    r#"{"format":"iban"}"#,
    r#"{"format":"iban","keep":"branch"}"#,
    r#"{"format":"ssn"}"#,
    r#"{"format":"national","number":"fr.nir"}"#,
    r#"{"format":"national","number":"nl.bsn"}"#,
    r#"{"format":"national","number":"pl.pesel"}"#,
    r#"{"format":"uuid","case":"keep"}"#,
    r#"{"format":"uuid","version":8}"#,
    r#"{"format":"pan","keep_first":6}"#,
    r#"{"format":"pan","keep_first":8,"luhn":"valid"}"#,
    r#"{"format":"imei"}"#,
    r#"{"format":"imei","keep":"tac"}"#,
    r#"{"format":"mac"}"#,
    r#"{"format":"mac","keep":"oui","local":"keep"}"#,
    r#"{"format":"ipv4"}"#,
    r#"{"format":"ipv4","mode":"prefix"}"#,
    r#"{"format":"ipv4","mode":"cryptopan"}"#,
    r#"{"format":"ipv4","mode":"deterministic"}"#,
    r#"{"format":"ipv6"}"#,
    r#"{"format":"ipv6","mode":"prefix"}"#,
    r#"{"format":"ipv6","mode":"cryptopan"}"#,
    r#"{"format":"name","list":"full"}"#,
    r#"{"format":"name","list":"street"}"#,
    r#"{"format":"permutation","values":["gold","silver","bronze"]}"#,
];

/// Most bytes for a byte of a text.
const BYTE_BYTES: usize = 256;

/// Most bytes for what is there once: tables of an alphabet, and of FF1 for each length.
const FIXED_BYTES: usize = 128 * 1024;

/// Make tokens of the lines of the input under an entry: one of those above, or what the first line says.
pub fn run(data: &[u8]) {
    let mut input = Input::new(&data[..data.len().min(LONGEST)]);
    let choice = usize::from(input.byte());
    let text = String::from_utf8_lossy(input.rest());
    let (spec, texts) = match SPECS.get(choice) {
        Some(spec) => (*spec, &*text),
        None => text.split_once('\n').unwrap_or((&text, "")),
    };
    let most = FIXED_BYTES + BYTE_BYTES * data.len();
    let Some(tokenizer) = memory::within(most, "a tokenizer", || tokenizer(spec)) else { return };
    let texts: Vec<&str> = texts.split('\n').collect();
    let tokens = memory::within(most, "tokens", || tokenizer.encrypt_many(&texts));
    assert!(tokens.len() == texts.len(), "a token or none for each text");
    let format = Texts { are_emails: spec.contains(r#""email""#), have_forms: spec.contains(r#""ipv6""#) };
    for (text, token) in texts.iter().zip(&tokens) {
        check(&tokenizer, text, token.as_deref(), &format);
    }
}

/// What is known of the values of an entry.
struct Texts {
    are_emails: bool,
    /// Whether a value may be written in ways that differ in more than case and signs.
    have_forms: bool,
}

fn check(tokenizer: &Tokenizer, text: &str, token: Option<&str>, format: &Texts) {
    let encrypt = |text: &str| tokenizer.encrypt_many(&[text]).pop().flatten();
    assert!(encrypt(text).as_deref() == token, "a token depends on the texts beside its own");
    if let Some(token) = token {
        assert!(!token.is_empty() && !token.contains('\0'), "a token is a text");
        if let Some(value) = tokenizer.decrypt(token) {
            let unsigned = |text: &str| text.trim_start_matches(['-', '0']).to_ascii_lowercase();
            assert!(format.have_forms || unsigned(&value) == unsigned(text), "a token leads back to another value");
            assert!(encrypt(&value).as_deref() == Some(token), "a value has another token than its own form");
        }
        if format.are_emails && text.is_ascii() {
            assert!(encrypt(&text.to_ascii_uppercase()).as_deref() == Some(token), "case decides about an address");
        }
        // What is known of tokens of numbers and bytes holds for those of texts as well.
        let integer = tokenizer.integer_of(token);
        assert!(token.ends_with(integer), "a number has the digits of its token");
        if let (Some(written), Some(bytes)) = (tokenizer.text_of_integer(integer), tokenizer.bytes_of(token)) {
            assert!(tokenizer.bytes_of(&written) == Some(bytes), "a number has the bytes of its token");
        }
    }
    if let Some(value) = tokenizer.decrypt(text) {
        let token = encrypt(&value);
        assert!(token.is_some(), "a token leads to what is no value");
        assert!(tokenizer.decrypt(&token.unwrap_or_default()) == Some(value), "two values of one token");
    }
    if let Some(written) = tokenizer.text_of_integer(text) {
        assert!(encrypt(&written).is_some(), "a number has no token");
    }
    if let Some(written) = tokenizer.text_of_bytes(text.as_bytes()) {
        assert!(tokenizer.bytes_of(&written).as_deref() == Some(text.as_bytes()), "other bytes come back");
        assert!(encrypt(&written).is_some(), "bytes have no token");
    }
}
