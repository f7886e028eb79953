//! Both codecs by their public face: known bytes, refusals with their places, and values that do not fit.

use serde_json::{Value as Json, json};

use super::*;
use crate::schema::from_json;

const LIMITS: Limits =
    Limits { depth: 64, elements: 50_000, bytes: 8 * 1024 * 1024, decimal_bytes: 64, number_characters: 512 };

/// Complete a node that is written with what is not empty in it.
fn completed(node: &Json) -> Json {
    let mut whole = json!({
        "kind": "null", "path": "", "name": "", "logical": "", "attributes": {}, "symbols": [], "size": 0, "fields": [],
        "items": null, "branches": [],
    });
    for (key, value) in node.as_object().unwrap() {
        whole[key] = match key.as_str() {
            "items" => completed(value),
            "branches" => value.as_array().unwrap().iter().map(completed).collect(),
            "fields" => {
                let field = |field: &Json| {
                    let required = field.get("required").is_none_or(|required| *required == true);
                    json!({"name": field["name"], "node": completed(&field["node"]), "required": required})
                };
                value.as_array().unwrap().iter().map(field).collect()
            }
            _ => value.clone(),
        };
    }
    whole
}

fn schema(format: &str, root: &Json) -> Schema {
    let root = completed(root);
    let types = if root["name"] == "" { json!({}) } else { json!({root["name"].as_str().unwrap(): root}) };
    from_json(&json!({"root": root, "format": format, "types": types}).to_string()).unwrap()
}

fn avro(root: &Json) -> Schema {
    schema("avro", root)
}

/// Return what reading and writing gives, or the reason and the path.
fn again(schema: &Schema, limits: Limits, data: &[u8]) -> Result<Vec<u8>, (&'static str, String)> {
    let (reader, writer) = (Reader::new(schema, limits).unwrap(), Writer::new(schema).unwrap());
    let arena = Arena::new();
    let (value, _) = reader.read(data, &arena).map_err(|rejection| (rejection.reason, rejection.path))?;
    let mut out = Vec::new();
    writer.write(&value, &mut out).unwrap();
    Ok(out)
}

fn refused(reason: &'static str, path: &str) -> Result<Vec<u8>, (&'static str, String)> {
    Err((reason, path.to_owned()))
}

fn optional(kind: &str) -> Json {
    json!({"kind": "union", "branches": [{"kind": "null"}, {"kind": kind}]})
}

#[test]
fn known_avro_encodings_come_back() {
    let longs = json!({"kind": "array", "items": {"kind": "long"}});
    let cases: [(Json, &[u8]); 14] = [
        (json!({"kind": "null"}), b""),
        (json!({"kind": "boolean"}), b"\x01"),
        (json!({"kind": "long"}), b"\x7f"),
        (json!({"kind": "long"}), b"\x80\x01"),
        (json!({"kind": "long"}), b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        (json!({"kind": "int"}), b"\xfe\xff\xff\xff\x0f"),
        (json!({"kind": "float"}), b"\xff\xff\x7f\x7f"),
        (json!({"kind": "double"}), b"\x00\x00\x00\x00\x00\x00\xf8\xbf"),
        (json!({"kind": "string"}), b"\x08\xf0\x9f\x98\x80"),
        (json!({"kind": "fixed", "size": 2}), b"\xab\xcd"),
        (json!({"kind": "enum", "symbols": ["A", "B"]}), b"\x02"),
        (longs, b"\x04\x06\x36\x00"),
        (json!({"kind": "map", "items": {"kind": "long"}}), b"\x04\x02b\x02\x02a\x02\x00"),
        (optional("string"), b"\x02\x02a"),
    ];
    for (root, data) in cases {
        assert_eq!(again(&avro(&root), LIMITS, data), Ok(data.to_vec()), "{root}");
    }
}

#[test]
fn other_avro_encodings_become_canonical() {
    let longs = avro(&json!({"kind": "array", "items": {"kind": "long"}}));
    for data in [&b"\x02\x06\x02\x36\x00"[..], b"\x03\x04\x06\x36\x00", b"\x01\x02\x06\x02\x36\x80\x00"] {
        assert_eq!(again(&longs, LIMITS, data), Ok(b"\x04\x06\x36\x00".to_vec()));
    }
    assert_eq!(again(&avro(&json!({"kind": "int"})), LIMITS, b"\x82\x00"), Ok(b"\x02".to_vec()));
    assert_eq!(again(&avro(&optional("null")), LIMITS, b"\x80\x00"), Ok(b"\x00".to_vec()));
}

#[test]
fn avro_refusals_name_their_place() {
    let longs = json!({"kind": "array", "path": "a", "items": {"kind": "long", "path": "a[*]"}});
    let map = json!({"kind": "map", "path": "m", "items": {"kind": "long", "path": "m{*}"}});
    let decimal = json!({"kind": "bytes", "logical": "decimal"});
    let cases: [(&Json, &[u8], &str, &str); 20] = [
        (&json!({"kind": "boolean"}), b"\x02", "malformed", ""),
        (&json!({"kind": "int"}), b"\x80\x80\x80\x80\x10", "out_of_range", ""),
        (&json!({"kind": "long"}), b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "malformed", ""),
        (&json!({"kind": "long"}), b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", "out_of_range", ""),
        (&json!({"kind": "long"}), b"\x80\x80", "malformed", ""),
        (&json!({"kind": "float"}), b"\x00\x00\x80\x7f", "non_finite", ""),
        (&json!({"kind": "double"}), b"\x00\x00\x00\x00\x00\x00\xf8\x7f", "non_finite", ""),
        (&json!({"kind": "string"}), b"\x01", "malformed", ""),
        (&json!({"kind": "string"}), b"\x02\xff", "invalid_utf8", ""),
        (&json!({"kind": "null"}), b"\x00", "trailing_bytes", ""),
        (&json!({"kind": "enum", "symbols": ["A"]}), b"\x02", "out_of_range", ""),
        (&optional("string"), b"\x01", "out_of_range", ""),
        (&longs, b"\x04\x06", "malformed", "a[*]"),
        (&longs, b"\x03\x02\x06\x36\x00", "malformed", "a"),
        (&longs, b"\x03\xfe\x07\x06\x36\x00", "malformed", "a"),
        (&longs, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00", "too_many_elements", "a"),
        (&map, b"\x02\x02a\x02\x02\x02a\x04\x00", "duplicate_key", "m"),
        (&map, b"\x02\x02a", "malformed", "m{*}"),
        (&decimal, &[&b"\x82\x01"[..], &[0; 65]].concat(), "too_large", ""),
        (&decimal, b"\x82\x01", "malformed", ""),
    ];
    for (root, data, reason, path) in cases {
        assert_eq!(again(&avro(root), LIMITS, data), refused(reason, path), "{root} {data:x?}");
    }
    let short = Limits { bytes: 4, ..LIMITS };
    assert_eq!(again(&avro(&json!({"kind": "string"})), short, &[0xff; 5]), refused("too_large", ""));
}

#[test]
fn recursive_avro_data_is_as_deep_as_the_limit() {
    let again_in =
        json!({"kind": "union", "branches": [{"kind": "null"}, {"kind": "reference", "name": "T", "path": "t"}]});
    let tree = avro(&json!({"kind": "record", "name": "T", "fields": [{"name": "t", "node": again_in}]}));
    let data = |depth: usize| [vec![2; depth], vec![0]].concat();
    assert_eq!(again(&tree, LIMITS, &data(63)), Ok(data(63)));
    for depth in [64, 1_000_000] {
        assert_eq!(again(&tree, LIMITS, &data(depth)), refused("too_deep", "t"));
    }
    let few = Limits { elements: 7, ..LIMITS };
    assert_eq!(Reader::new(&tree, few).unwrap().read(&data(3), &Arena::new()).map(|(_, elements)| elements), Ok(6));
    assert_eq!(again(&tree, few, &data(4)), refused("too_many_elements", "t"));
}

#[test]
fn endless_types_are_refused_or_end() {
    let record = json!({"kind": "record", "name": "R",
        "fields": [{"name": "again", "node": {"kind": "reference", "name": "R", "path": "again"}}]});
    assert_eq!(again(&avro(&record), LIMITS, b""), refused("too_deep", "again"));
    let union = json!({"kind": "union", "name": "U", "branches": [{"kind": "reference", "name": "U"}]});
    assert!(Reader::new(&avro(&union), LIMITS).is_err());
    assert!(Reader::new(&schema("json", &union), LIMITS).is_err());
    let inside = json!({"kind": "union", "branches": [{"kind": "union", "branches": [{"kind": "string"}]}]});
    assert!(Reader::new(&avro(&inside), LIMITS).is_err());
    assert!(Reader::new(&schema("json", &inside), LIMITS).is_ok());
    let itself = json!({"kind": "reference", "name": "X"});
    assert!(Writer::new(&avro(&itself)).is_err());
    assert!(Writer::new(&schema("json", &itself)).is_err());
    let endless = Reader::new(&schema("json", &itself), LIMITS).unwrap();
    assert_eq!(endless.read(b"1", &Arena::new()).err().map(|rejection| rejection.reason), Some("too_deep"));
}

/// The schema of a record with everything that JSON has.
fn order() -> Schema {
    schema(
        "json",
        &json!({"kind": "record", "fields": [
            {"name": "id", "node": {"kind": "string", "path": "id"}},
            {"name": "total", "required": false, "node": {"kind": "number", "path": "total"}},
            {"name": "n", "required": false,
             "node": {"kind": "integer", "path": "n", "attributes": {"enum": [1, 2.5, "100000000000000000000000000"]}}},
            {"name": "state", "required": false, "node": {"kind": "enum", "path": "state", "symbols": ["open", "sent"]}},
            {"name": "paid", "required": false, "node": {"kind": "boolean", "path": "paid", "attributes": {"enum": [true]}}},
            {"name": "labels", "required": false,
             "node": {"kind": "map", "path": "labels", "items": {"kind": "string", "path": "labels{*}"}}},
            {"name": "tags", "required": false,
             "node": {"kind": "array", "path": "tags", "items": {"kind": "any", "path": "tags[*]"}}},
            {"name": "contact", "required": false, "node": {"kind": "union", "path": "contact", "branches": [
                {"kind": "null", "path": "contact<null>"},
                {"kind": "record", "path": "contact<A>",
                 "fields": [{"name": "a", "node": {"kind": "string", "path": "contact<A>.a"}}]},
                {"kind": "record", "path": "contact<B>",
                 "fields": [{"name": "b", "node": {"kind": "string", "path": "contact<B>.b"}}]},
                {"kind": "string", "path": "contact<string>"},
            ]}},
        ]}),
    )
}

#[test]
fn json_is_written_compactly_in_the_order_of_the_schema() {
    let data = r#"{"undeclared": [1], "contact": {"b": "\u0062"}, "tags": [1, "x"], "labels": {"b": "2", "a": "\ud83d\ude00"},
        "paid": true, "state": "sent", "n": 10e-1, "total": 1.10, "id": "\u00e9\"\u0001"}"#;
    let written = r#"{"id":"é\"\u0001","total":1.10,"n":10e-1,"state":"sent","paid":true,"labels":{"b":"2","a":"😀"},"tags":[],"contact":{"b":"b"}}"#;
    assert_eq!(again(&order(), LIMITS, data.as_bytes()), Ok(written.as_bytes().to_vec()));
    assert_eq!(again(&order(), LIMITS, br#"{"contact":null,"id":""}"#), Ok(br#"{"id":"","contact":null}"#.to_vec()));
}

#[test]
fn json_refusals_name_their_place() {
    let cases = [
        ("{}", "schema_mismatch", "id"),
        ("[]", "schema_mismatch", ""),
        (r#"{"id":1}"#, "schema_mismatch", "id"),
        (r#"{"id":"","n":1.5}"#, "schema_mismatch", "n"),
        (r#"{"id":"","n":2}"#, "schema_mismatch", "n"),
        (r#"{"id":"","n":100000000000000000000000001}"#, "schema_mismatch", "n"),
        (r#"{"id":"","state":"lost"}"#, "schema_mismatch", "state"),
        (r#"{"id":"","paid":false}"#, "schema_mismatch", "paid"),
        (r#"{"id":"","labels":{"x":1}}"#, "schema_mismatch", "labels{*}"),
        (r#"{"id":"","contact":{}}"#, "schema_mismatch", "contact"),
        (r#"{"id":"","contact":7}"#, "schema_mismatch", "contact"),
        (r#"{"total":"","id":7}"#, "schema_mismatch", "total"),
        (r#"{"total":"","x":NaN}"#, "non_finite", ""),
        (r#"{"total":"","x":"\ud800"}"#, "invalid_utf8", ""),
    ];
    for (data, reason, path) in cases {
        assert_eq!(again(&order(), LIMITS, data.as_bytes()), refused(reason, path), "{data}");
    }
    assert!(again(&order(), LIMITS, br#"{"id":"","n":1e26}"#).is_ok());
}

#[test]
fn values_that_do_not_fit_are_not_written() {
    let text = |text| Value::Text(text);
    let branch = |index, value| Value::Branch(index, &*Box::leak(Box::new(value)));
    let cases: [(&str, Json, Value<'_>); 20] = [
        ("avro", json!({"kind": "null"}), Value::Absent),
        ("avro", json!({"kind": "boolean"}), Value::Integer(1)),
        ("avro", json!({"kind": "int"}), Value::Integer(1 << 31)),
        ("avro", json!({"kind": "float"}), Value::Real(1e300)),
        ("avro", json!({"kind": "double"}), Value::Real(f64::INFINITY)),
        ("avro", json!({"kind": "fixed", "size": 2}), Value::Bytes(b"abc")),
        ("avro", json!({"kind": "enum", "symbols": ["A"]}), text("B")),
        ("avro", json!({"kind": "record"}), Value::Record(&[Value::Null])),
        (
            "avro",
            json!({"kind": "array", "items": {"kind": "string"}}),
            Value::Array(&[Value::Text("a"), Value::Absent]),
        ),
        ("avro", optional("string"), text("a")),
        ("avro", optional("string"), branch(0, Value::Null)),
        ("avro", optional("string"), branch(2, text("a"))),
        ("json", json!({"kind": "number"}), Value::Integer(1)),
        ("json", json!({"kind": "number"}), Value::Number("1\n")),
        ("json", json!({"kind": "string"}), Value::Null),
        ("json", json!({"kind": "any"}), text("a")),
        ("json", optional("string"), branch(1, Value::Absent)),
        ("json", optional("string"), branch(2, text("a"))),
        ("json", json!({"kind": "record", "fields": [{"name": "a", "node": {"kind": "string"}}]}), Value::Record(&[])),
        (
            "json",
            json!({"kind": "record", "fields": [{"name": "a", "node": {"kind": "string"}}]}),
            Value::Record(&[Value::Absent]),
        ),
    ];
    for (format, root, value) in cases {
        let mut out = b"before".to_vec();
        assert_eq!(Writer::new(&schema(format, &root)).unwrap().write(&value, &mut out), Err(Misfit), "{root}");
        assert_eq!(out, b"before");
    }
}

#[test]
fn what_is_absent_is_left_out() {
    let root = json!({"kind": "record", "fields": [
        {"name": "a", "node": {"kind": "array", "items": {"kind": "string"}}},
        {"name": "m", "node": {"kind": "map", "items": {"kind": "string"}}},
        {"name": "u", "required": true, "node": {"kind": "any"}},
    ]});
    let fields = [
        Value::Array(&[Value::Absent, Value::Text("x"), Value::Absent]),
        Value::Map(&[("k", Value::Absent), ("l", Value::Text("z"))]),
        Value::Absent,
    ];
    let value = Value::Record(&fields);
    let mut out = Vec::new();
    Writer::new(&schema("json", &root)).unwrap().write(&value, &mut out).unwrap();
    assert_eq!(out, br#"{"a":["x"],"m":{"l":"z"}}"#);
}

#[test]
fn trees_of_another_format_have_no_codec() {
    for (format, kind) in [("avro", "number"), ("avro", "any"), ("json", "long"), ("json", "bytes"), ("xml", "null")] {
        let schema = schema(format, &json!({"kind": kind}));
        assert!(Reader::new(&schema, LIMITS).is_err() && Writer::new(&schema).is_err());
    }
    for kind in ["array", "map"] {
        let error =
            Reader::new(&avro(&json!({"kind": kind, "path": "a"})), LIMITS).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("an array or map without a type for what it holds at a"));
    }
}

#[test]
fn trying_branches_takes_an_effort_that_ends() {
    let link = |kind: &str| {
        json!({"kind": "record", "path": kind, "fields": [
            {"name": "next", "required": false, "node": {"kind": "reference", "name": "Link"}},
            {"name": "v", "node": {"kind": kind}},
        ]})
    };
    let root = json!({"kind": "union", "name": "Link", "branches": [link("string"), link("boolean"), link("null")]});
    let data = |depth: usize| format!("{}{{\"v\":1}}{}", "{\"next\":".repeat(depth), ",\"v\":1}".repeat(depth));
    let reason = |depth| again(&schema("json", &root), LIMITS, data(depth).as_bytes()).err().map(|(reason, _)| reason);
    assert_eq!(reason(2), Some("schema_mismatch"));
    assert_eq!(reason(60), Some("too_many_elements"));
}

#[test]
fn each_attempt_at_a_branch_counts_also_where_nothing_is_made() {
    let branches: Vec<Json> = (0..20).map(|number| json!({"kind": "enum", "symbols": [number.to_string()]})).collect();
    let items = json!({"kind": "union", "path": "[*]", "branches": branches});
    let reader = schema("json", &json!({"kind": "array", "items": items}));
    let few = Limits { elements: 100, ..LIMITS };
    let data = |count: usize| format!("[{}]", vec!["\"19\""; count].join(","));
    assert!(again(&reader, few, data(50).as_bytes()).is_ok());
    assert_eq!(again(&reader, few, data(99).as_bytes()), refused("too_many_elements", "[*]"));
}

#[test]
fn absent_fields_are_counted_since_no_byte_is_there_for_them() {
    let fields: Vec<Json> = (0..2_000)
        .map(|number| json!({"name": format!("f{number}"), "required": false, "node": {"kind": "string"}}))
        .collect();
    let rows = schema("json", &json!({"kind": "array", "items": {"kind": "record", "fields": fields}}));
    let reader = Reader::new(&rows, LIMITS).unwrap();
    let absent = |data: &str| reader.read(data.as_bytes(), &Arena::new()).map(|(_, absent)| absent);
    assert_eq!(absent(r#"[{}, {"f3": "", "other": 1}, {"f3": ""}]"#), Ok(2_000 + 1_998 + 1_999));
    assert_eq!(absent("[]"), Ok(0));
}

#[test]
fn the_shapes_of_a_type_are_found_once() {
    // Each type is a union of the next one twice, so that following all references would take 2^60 steps.
    let link = |number: usize| {
        let next = json!({"kind": "reference", "name": format!("T{}", number + 1)});
        let branches = if number == 60 { json!([]) } else { json!([next, next]) };
        completed(&json!({"kind": "union", "branches": branches}))
    };
    let types: serde_json::Map<String, Json> = (0..=60).map(|number| (format!("T{number}"), link(number))).collect();
    let document = json!({"root": link(0), "format": "json", "types": types});
    let schema: Schema = from_json(&document.to_string()).unwrap();
    assert!(Reader::new(&schema, LIMITS).is_ok());
}

#[test]
fn required_properties_are_found_in_objects_of_any_size() {
    let names = ["n5", "n0", "n39", "missing"];
    let fields: Vec<Json> = names.map(|name| json!({"name": name, "node": {"kind": "string", "path": name}})).into();
    let root = json!({"kind": "record", "fields": fields});
    let object = |count: usize, more: &str| {
        let entries: Vec<String> = (0..count).map(|number| format!("\"\\u006e{number}\":\"{number}\"")).collect();
        format!("{{{}{more}}}", entries.join(","))
    };
    for (count, missing) in [(1, "n5"), (6, "n39"), (16, "n39"), (17, "n39"), (39, "n39"), (40, "missing")] {
        let found = again(&schema("json", &root), LIMITS, object(count, "").as_bytes());
        assert_eq!(found, refused("schema_mismatch", missing), "{count}");
    }
    let whole = again(&schema("json", &root), LIMITS, object(40, ",\"missing\":\"\"").as_bytes());
    assert_eq!(whole, Ok(br#"{"n5":"5","n0":"0","n39":"39","missing":""}"#.to_vec()));
}
