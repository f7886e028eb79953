//! Reading the value at a path out of a decoded record.

use serde::Deserialize;

use crate::value::Value;

/// One step deeper into a value; see `tokenweir.core.access.Move`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Move {
    /// To the field of a record with this index.
    Field(usize),
    /// To the value of a union if it has this branch.
    Branch(usize),
    /// To the entry of a map with this key.
    Key(String),
}

/// The moves to one place.
pub type Moves = Vec<Move>;

/// Return what the first place has that has something; null and absent are nothing.
#[must_use]
pub fn first_present<'v, 'a>(places: &[Moves], value: &'v Value<'a>) -> Option<&'v Value<'a>> {
    places.iter().find_map(|moves| present(moves, value))
}

fn present<'v, 'a>(moves: &[Move], mut value: &'v Value<'a>) -> Option<&'v Value<'a>> {
    for step in moves {
        value = match (step, value) {
            (Move::Field(index), Value::Record(fields)) => fields.get(*index)?,
            (Move::Branch(wanted), Value::Branch(index, inner)) if wanted == index => inner,
            (Move::Key(wanted), Value::Map(entries)) => &entries.iter().find(|(key, _)| *key == wanted)?.1,
            _ => return None,
        };
    }
    (!matches!(value, Value::Null | Value::Absent)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(json: &str) -> Vec<Moves> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn moves_lead_through_records_unions_and_maps() {
        let text = || Value::Text("x");
        let entries = [("k", text())];
        let map = Value::Map(&entries);
        let fields = [Value::Null, Value::Branch(1, &map)];
        let record = Value::Record(&fields);
        let found = |json| first_present(&places(json), &record) == Some(&text());
        assert!(found(r#"[[{"field": 1}, {"branch": 1}, {"key": "k"}]]"#));
        assert!(found(r#"[[{"field": 0}], [{"field": 1}, {"branch": 1}, {"key": "k"}]]"#));
        assert!(!found(r#"[[{"field": 1}, {"branch": 0}, {"key": "k"}]]"#));
        assert!(!found(r#"[[{"field": 1}, {"branch": 1}, {"key": "other"}]]"#));
        assert!(!found(r#"[[{"field": 0}, {"branch": 1}]]"#));
        assert!(!found(r#"[[{"field": 7}]]"#));
    }
}
