//! What values and schemas hold, counted independently of those that made them.

use tokenweir_native::schema::{Kind, Node, Schema};
use tokenweir_native::value::Value;

/// Return how many values there are in a value, itself and absent ones included. A branch is one with what it holds.
#[must_use]
pub fn count(value: &Value<'_>) -> u64 {
    match value {
        Value::Record(values) | Value::Array(values) => 1 + values.iter().map(count).sum::<u64>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, value)| count(value)).sum::<u64>(),
        Value::Branch(_, value) => count(value),
        _ => 1,
    }
}

/// Return how many records, arrays and maps are inside of each other.
#[must_use]
pub fn depth(value: &Value<'_>) -> usize {
    match value {
        Value::Record(values) | Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|(_, value)| depth(value)).max().unwrap_or(0),
        Value::Branch(_, value) => depth(value),
        _ => 0,
    }
}

fn children(node: &Node) -> impl Iterator<Item = &Node> {
    let fields = node.fields.iter().map(|field| &field.node);
    fields.chain(node.items.as_deref()).chain(&node.branches)
}

/// Return how many places a schema has.
#[must_use]
pub fn places(schema: &Schema) -> usize {
    fn below(node: &Node) -> usize {
        1 + children(node).map(below).sum::<usize>()
    }
    below(&schema.root) + schema.types.values().map(below).sum::<usize>()
}

/// Return how many records, arrays and maps of a schema are inside of each other, without what repeats.
#[must_use]
pub fn levels(schema: &Schema) -> usize {
    fn below(node: &Node) -> usize {
        let own = usize::from(matches!(node.kind, Kind::Record | Kind::Array | Kind::Map));
        own + children(node).map(below).max().unwrap_or(0)
    }
    below(&schema.root).max(schema.types.values().map(below).max().unwrap_or(0))
}

/// Whether every value of a JSON schema is told by its text: nothing is left out, and no branch is tried in vain.
#[must_use]
pub fn is_exact(schema: &Schema) -> bool {
    fn exact(node: &Node) -> bool {
        let branches = node.branches.iter().filter(|branch| branch.kind != Kind::Null).count();
        node.kind != Kind::Any && branches < 2 && children(node).all(exact)
    }
    exact(&schema.root) && schema.types.values().all(exact)
}
