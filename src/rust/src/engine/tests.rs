use serde_json::{Value as Json, json};

use super::*;
use crate::consent::Decision;
use crate::plan::Document;

const NOW_MS: i64 = 1_795_341_600_000;

/// A host that knows one subject, and lower case as Rust has it.
#[derive(Default)]
struct Asked {
    subjects: Vec<String>,
    ids: usize,
    cells: usize,
    fails: bool,
}

impl Host for Asked {
    type Error = &'static str;

    fn canonical_ids(&mut self, ids: &[(bool, String)]) -> Result<Vec<Option<String>>, Self::Error> {
        self.ids += ids.len();
        Ok(ids.iter().map(|(_, id)| Some(id.to_lowercase())).collect())
    }

    fn centres(&mut self, cells: &[Cell]) -> Result<Vec<Option<(f64, f64)>>, Self::Error> {
        self.cells += cells.len();
        Ok(cells.iter().map(|cell| Some((cell.position().1.round(), 7.5))).collect())
    }

    fn consents(&mut self, subjects: &[(&str, &str)]) -> Result<Vec<Arc<SubjectConsent>>, Self::Error> {
        if self.fails {
            return Err("the store does not answer");
        }
        self.subjects.extend(subjects.iter().map(|(kind, id)| format!("{kind}:{id}")));
        let allow = Decision { denies: false, decided_at_ms: 1, expires_at_ms: None };
        let known = |id: &str| SubjectConsent {
            states: vec![if id == "anna" { vec![("offers".to_owned(), allow)] } else { Vec::new() }],
            ..SubjectConsent::default()
        };
        Ok(subjects.iter().map(|(_, id)| Arc::new(known(id))).collect())
    }
}

fn node(kind: &str, path: &str, fields: &[(&str, Json)]) -> Json {
    let fields: Vec<Json> =
        fields.iter().map(|(name, node)| json!({"name": name, "node": node, "required": true})).collect();
    json!({
        "kind": kind, "path": path, "name": path, "logical": "", "attributes": {}, "symbols": [], "size": 0,
        "fields": fields, "items": null, "branches": [],
    })
}

fn leaf(index: usize, path: &str, kind: &str, action: &Json, pair: &Json) -> Json {
    let place = json!({"kind": kind, "path": path, "logical": "", "size": 0, "precision": 0, "scale": 0});
    let rules = json!({"rules": [{"when": 0, "action": action}], "person": false, "reject_invalid": false});
    let value = json!({"leaf": {"place": place, "rules": rules, "form": null, "subject": false, "pair": pair}});
    json!({"index": index, "always": true, "value": value})
}

/// Records of an id, a text and a position; the position becomes the centre of its cell, the id does not leave.
fn plan() -> Plan {
    let scalars = || {
        [
            ("text", node("string", "text", &[])),
            ("lat", node("double", "lat", &[])),
            ("lon", node("double", "lon", &[])),
        ]
    };
    let source = node("record", "", &[&[("id", node("string", "id", &[]))], scalars().as_slice()].concat());
    let cell = json!({"generalize": {"cell": 5}});
    let fields = [
        leaf(1, "text", "string", &json!("keep"), &json!(null)),
        leaf(2, "lat", "double", &cell, &json!([2, 3])),
        leaf(3, "lon", "double", &cell, &json!([2, 3])),
    ];
    let schema = |root: Json| json!({"root": root, "format": "avro", "types": {}});
    let document = json!({
        "version": 1,
        "source": schema(source),
        "limits": {"depth": 64, "elements": 50_000, "bytes": 1_000_000, "decimal_bytes": 64, "number_characters": 512},
        "purposes": [{
            "name": "offers", "basis": "consent", "basis_by": {}, "retention_ms": 1000, "refuses_minors": true,
            "covers_earlier": false,
        }],
        "subjects": [{
            "type": "customer", "origin": {"value": [[{"field": 0}]]}, "form": "lowercase", "null_values": ["nobody"],
            "place": "id",
        }],
        "anonymous": false,
        "event_time": null,
        "outputs": [{
            "recipients": ["a"], "served": 1, "requires": {"all": true, "mask": 1}, "key": null, "timestamp": "hour",
            "headers": ["trace"], "person_headers": [], "tombstones": false,
            "value": {
                "root": {"record": {"fields": fields, "gate": null}},
                "schema": schema(node("record", "", &scalars())),
            },
        }],
        "printable": [],
    });
    Plan::new(crate::schema::from_json::<Document>(&document.to_string()).unwrap()).unwrap()
}

/// A record at a place near the pole, of which the host is asked.
fn record(id: &str, text: &str) -> Vec<u8> {
    record_at(id, text, [86.4, 13.1])
}

fn record_at(id: &str, text: &str, position: [f64; 2]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [id, text] {
        bytes.push(u8::try_from(part.len() * 2).unwrap());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes.extend(position.iter().flat_map(|degrees| degrees.to_le_bytes()));
    bytes
}

fn raw<'r>(plan: &'r Plan, value: Option<&'r [u8]>) -> Raw<'r> {
    let headers = [("trace", b"1".as_slice()), ("other", b"2"), ("trace", b"3")];
    let headers = headers.map(|(name, value)| Header { name: Some(name), value: Some(value) });
    Raw { plan, value, key: None, timestamp_ms: NOW_MS + 5, headers: headers.into() }
}

fn outcomes(values: &[Option<&[u8]>], host: &mut Asked) -> Result<Vec<Outcome>, &'static str> {
    let plan = plan();
    let raws: Vec<Raw<'_>> = values.iter().map(|value| raw(&plan, *value)).collect();
    let made = Engine::new(1_000).process(&raws, NOW_MS, host)?;
    Ok(made.into_iter().flatten().collect())
}

fn one(value: Option<&[u8]>, host: &mut Asked) -> Outcome {
    outcomes(&[value], host).unwrap().pop().unwrap()
}

#[test]
fn what_is_allowed_leaves_as_the_plan_says() {
    let mut host = Asked::default();
    let Outcome::Sanitized(left) = one(Some(&record("Anna", "hello")), &mut host) else {
        panic!("the record does not leave");
    };
    let mut expected = b"\x0ahello".to_vec();
    expected.extend([86.0_f64, 7.5].iter().flat_map(|degrees| degrees.to_le_bytes()));
    assert_eq!(left.value, Some(expected));
    assert_eq!((left.key, left.timestamp_ms, left.headers), (None, NOW_MS, vec![0, 2]));
    assert_eq!(left.counts, [1, 0, 2, 0, 0]);
    assert_eq!((host.subjects, host.ids, host.cells), (vec!["customer:anna".to_owned()], 0, 1));
}

#[test]
fn a_host_is_asked_about_no_cell_whose_centre_is_certain() {
    let mut host = Asked::default();
    let Outcome::Sanitized(left) = one(Some(&record_at("Anna", "", [52.4, 13.1])), &mut host) else {
        panic!("the record does not leave");
    };
    let mut expected = b"\0".to_vec();
    expected.extend([52.407_334_f64, 13.169_716].iter().flat_map(|degrees| degrees.to_le_bytes()));
    assert_eq!((left.value, host.cells), (Some(expected), 0));
}

#[test]
fn what_is_not_allowed_or_about_nobody_is_withheld() {
    let mut host = Asked::default();
    for id in ["Berta", "", "nobody"] {
        assert!(matches!(one(Some(&record(id, "x")), &mut host), Outcome::Withheld([0, 0, 0, 0, 0])), "{id}");
    }
    assert_eq!(host.subjects, ["customer:berta"]);
}

#[test]
fn a_subject_is_asked_about_once_in_a_slice() {
    let mut host = Asked::default();
    let values = [record("Anna", "x"), record("\u{c4}nna", "y"), record("anna", "z"), record("\u{c4}nna", "")];
    let values: Vec<Option<&[u8]>> = values.iter().map(|value| Some(value.as_slice())).collect();
    let fates = outcomes(&values, &mut host).unwrap();
    assert_eq!(
        fates.iter().map(|fate| matches!(fate, Outcome::Sanitized(_))).collect::<Vec<_>>(),
        [true, false, true, false]
    );
    assert_eq!(host.subjects, ["customer:anna", "customer:\u{e4}nna"]);
    assert_eq!(host.ids, 1);
}

#[test]
fn whatever_is_wrong_with_a_record_is_an_outcome() {
    let reason = |value: Option<&[u8]>| match one(value, &mut Asked::default()) {
        Outcome::Rejected { reason, path } => (reason, path),
        _ => ("", String::new()),
    };
    let good = record("Anna", "hello");
    assert_eq!(reason(None), ("tombstone", String::new()));
    assert_eq!(reason(Some(good.get(..good.len() - 1).unwrap())).0, "malformed");
    assert_eq!(reason(Some(&record("a\tb", "x"))), ("subject_invalid", "id".into()));
    for end in 0..good.len() {
        assert_ne!(reason(good.get(..end)).0, "", "{end}");
    }
    let mut long = record("Anna", "");
    long.splice(5..6, [0xd0, 0x0f].into_iter().chain([b'x'; 1000]));
    assert_eq!(reason(Some(&long)), ("output_too_large", String::new()));
}

#[test]
fn no_outcomes_at_all_where_consent_cannot_be_asked() {
    let value = record("Anna", "x");
    let mut host = Asked { fails: true, ..Asked::default() };
    assert_eq!(outcomes(&[None, Some(&value)], &mut host).err(), Some("the store does not answer"));
}
