//! Numbers for the types that repeat inside themselves, so that nothing is looked up by name when a record is read.

use std::collections::{BTreeMap, HashMap};

use crate::codec::SchemaError;
use crate::schema::{Node, Schema};

/// The types that references have named so far, in the order in which they were first named.
///
/// They are compiled one after the other and not where they are met: that would recurse through all of them at once.
pub(super) struct Types<'s> {
    known: &'s BTreeMap<String, Node>,
    numbers: HashMap<&'s str, usize>,
    named: Vec<&'s Node>,
}

impl<'s> Types<'s> {
    pub(super) fn of(schema: &'s Schema) -> Self {
        Self { known: &schema.types, numbers: HashMap::new(), named: Vec::new() }
    }

    /// Return the number of the type that a reference names.
    pub(super) fn number(&mut self, reference: &'s Node) -> Result<usize, SchemaError> {
        if let Some(&number) = self.numbers.get(reference.name.as_str()) {
            return Ok(number);
        }
        let node = self.known(reference)?;
        let number = self.named.len();
        self.numbers.insert(&reference.name, number);
        self.named.push(node);
        Ok(number)
    }

    /// Return the type that a reference names, whether it has a number or not.
    pub(super) fn known(&self, reference: &Node) -> Result<&'s Node, SchemaError> {
        let unknown = || SchemaError::at(reference, "a recursive type is not among the types of the schema");
        self.known.get(&reference.name).ok_or_else(unknown)
    }

    /// Return the type of a number, if so many have been named.
    pub(super) fn get(&self, number: usize) -> Option<&'s Node> {
        self.named.get(number).copied()
    }
}
