use super::*;

const LIMITS: Limits =
    Limits { depth: 64, elements: 50_000, bytes: 8 * 1024 * 1024, decimal_bytes: 64, number_characters: 512 };

fn refusal(data: &[u8]) -> Option<Reason> {
    parse(data, &LIMITS, &Arena::new()).err()
}

/// Return the texts of an array of texts.
fn texts(data: &str) -> Vec<String> {
    let arena = Arena::new();
    let document = parse(data.as_bytes(), &LIMITS, &arena).unwrap();
    (1..document.tokens.len()).map(|at| document.text(at).to_owned()).collect()
}

#[test]
fn a_document_is_a_flat_list() {
    let arena = Arena::new();
    let document = parse(b" \t\r\n{\"a\" : [ 1.10 , true,null ] , \"b\":{}} \n", &LIMITS, &arena).unwrap();
    let expected = [
        Token::Object { count: 2, end: 8 },
        Token::Text("a"),
        Token::Array { count: 3, end: 6 },
        Token::Number("1.10"),
        Token::Boolean(true),
        Token::Null,
        Token::Text("b"),
        Token::Object { count: 0, end: 8 },
    ];
    assert_eq!(document.tokens, expected);
}

#[test]
fn escapes_are_read() {
    let texts = texts(r#"["é\n\/\"\\\b\f\r\t", "\u00e9x", "\ud83d\uDE00", "\\ud83d", "\u0000\uffff", "plain"]"#);
    assert_eq!(texts, ["é\n/\"\\\u{8}\u{c}\r\t", "éx", "😀", "\\ud83d", "\0\u{ffff}", "plain"]);
}

#[test]
fn what_parsers_disagree_about_is_refused() {
    let nines = "9".repeat(309);
    let long = "1".repeat(513);
    let cases: [(&[u8], Reason); 40] = [
        (b"{\"a\":1,\"a\":2}", Reason::DuplicateKey),
        (b"{\"x\":{\"a\":1,\"\\u0061\":2}}", Reason::DuplicateKey),
        (b"{\"\\ud800\":1,\"\\ud800\":2}", Reason::DuplicateKey),
        (b"{\"\\ud800\":1,\"\\ud801\":2}", Reason::InvalidUtf8),
        (b"{\"a\":1,\"a\":2", Reason::Malformed),
        (b"{\"a\":1,\"a\":NaN}", Reason::NonFinite),
        (b"[{\"a\":1,\"a\":2},NaN]", Reason::DuplicateKey),
        (b"NaN", Reason::NonFinite),
        (b"{\"a\":Infinity}", Reason::NonFinite),
        (b"[-Infinity]", Reason::NonFinite),
        (b"Infinit", Reason::Malformed),
        (b"-Inf", Reason::Malformed),
        (b"1e400", Reason::NonFinite),
        (nines.as_bytes(), Reason::NonFinite),
        (long.as_bytes(), Reason::TooLarge),
        (b"\"\xff\"", Reason::InvalidUtf8),
        (b"{\xff", Reason::InvalidUtf8),
        (b"\"\xed\xa0\x80\"", Reason::InvalidUtf8),
        (b"\"\\ud800\"", Reason::InvalidUtf8),
        (b"\"\\ude00\\ud83d\"", Reason::InvalidUtf8),
        (b"\"\\ud83d\\ud83d\\ude00\"", Reason::InvalidUtf8),
        (b"\"\\ud83d\" \"\\ude00\"", Reason::TrailingBytes),
        (b"\xef\xbb\xbf{}", Reason::Malformed),
        (b"{}{}", Reason::TrailingBytes),
        (b"{}\xc2\xa0", Reason::TrailingBytes),
        (b"1 \x00", Reason::TrailingBytes),
        (b"01", Reason::TrailingBytes),
        (b"", Reason::Malformed),
        (b"  ", Reason::Malformed),
        (b"\x0c1", Reason::Malformed),
        (b"[1,]", Reason::Malformed),
        (b"{\"a\":1,}", Reason::Malformed),
        (b"{a:1}", Reason::Malformed),
        (b"[01]", Reason::Malformed),
        (b"\"a\nb\"", Reason::Malformed),
        (b"\"\\x41\"", Reason::Malformed),
        (b"\"\\u12g4\"", Reason::Malformed),
        (b"\"\\ud83d\\u12\"", Reason::Malformed),
        (b"\"abc", Reason::Malformed),
        (b"\"abc\\", Reason::Malformed),
    ];
    for (data, reason) in cases {
        assert_eq!(refusal(data), Some(reason), "{}", String::from_utf8_lossy(data));
    }
}

#[test]
fn depth_ends_at_the_limit_however_deep_the_document_is() {
    for depth in [1, 2, 63, 64] {
        assert_eq!(refusal("[".repeat(depth).as_bytes()), Some(Reason::Malformed));
        assert_eq!(refusal(format!("{}{}", "[".repeat(depth), "]".repeat(depth)).as_bytes()), None);
    }
    for depth in [65, 1_000, 1_000_000] {
        let reason = if depth > 50_000 { Reason::TooManyElements } else { Reason::TooDeep };
        assert_eq!(refusal("[".repeat(depth).as_bytes()), Some(reason));
        assert_eq!(refusal("{\"a\":".repeat(depth).as_bytes()), Some(reason));
    }
    let boundless = Limits { depth: usize::MAX, elements: u64::MAX, ..LIMITS };
    assert_eq!(parse("[".repeat(1_000_000).as_bytes(), &boundless, &Arena::new()).err(), Some(Reason::TooDeep));
    let brackets_in_a_string = format!("[{},\"{}\\\"{}\"]", vec!["[]"; 100].join(","), "[{".repeat(500), "[".repeat(9));
    assert_eq!(refusal(brackets_in_a_string.as_bytes()), None);
}

#[test]
fn elements_count_together() {
    let limits = Limits { elements: 10, ..LIMITS };
    let parsed = |data: &str| parse(data.as_bytes(), &limits, &Arena::new()).map(|_| ());
    assert_eq!(parsed(&format!("[{}]", ["0"; 10].join(","))), Ok(()));
    assert_eq!(parsed(&format!("[{}]", ["0"; 11].join(","))), Err(Reason::TooManyElements));
    assert_eq!(parsed("{\"a\":[1,2,3,4,5],\"b\":[1,2,3,4,5]}"), Err(Reason::TooManyElements));
    assert_eq!(parsed(&format!("[\"{}\"]", ",".repeat(1000))), Ok(()));
    assert_eq!(parsed(&format!("[{}", "]".repeat(100))), Err(Reason::TrailingBytes));
    assert_eq!(parsed(&format!("{},,,,,,,,\"[[[[\"", "]".repeat(100))), Err(Reason::Malformed));
}

#[test]
fn many_keys_are_compared_as_few_are() {
    for count in 1..30 {
        let keys: Vec<String> = (0..count).map(|key| format!("\"key{key}\":{key}")).collect();
        let unequal = format!("{{{},\"\\u006bey\":0}}", keys.join(","));
        let equal = format!("{{{},\"\\u006bey0\":0}}", keys.join(","));
        assert_eq!(refusal(unequal.as_bytes()), None);
        assert_eq!(refusal(equal.as_bytes()), Some(Reason::DuplicateKey));
    }
}
