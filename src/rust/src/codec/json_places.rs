//! The places of a JSON Schema as [`super::json_reader`] reads them: choices, names and branches made ready.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::codec::SchemaError;
use crate::codec::json_names::Names;
use crate::codec::json_numbers::Decimal;
use crate::codec::symbols::{Interner, Symbols};
use crate::codec::types::Types;
use crate::schema::{Kind, Node, Schema};

/// Return the place of the whole record, and those of the types that repeat inside themselves.
pub(super) fn compile(schema: &Schema) -> Result<(Place, Box<[Place]>), SchemaError> {
    let mut compiler = Compiler { types: Types::of(schema), symbols: Interner::default() };
    let root = compiler.place(&schema.root)?;
    let mut types = Vec::new();
    while let Some(node) = compiler.types.get(types.len()) {
        types.push(compiler.place(node)?);
    }
    Ok((root, types.into()))
}

/// Return how many nodes a tree has.
pub(super) fn count(node: &Node) -> u64 {
    let fields = node.fields.iter().map(|field| count(&field.node));
    let items = node.items.iter().map(|items| count(items));
    let branches = node.branches.iter().map(count);
    1 + fields.chain(items).chain(branches).sum::<u64>()
}

/// One place of the schema: what stands there, and the path that a refusal names.
pub(super) struct Place {
    pub(super) path: Box<str>,
    pub(super) content: Content,
}

pub(super) enum Content {
    Null,
    Boolean { allowed: [bool; 2] },
    Number { integral: bool, allowed: Option<Box<[Decimal]>> },
    Text,
    Enum(Arc<Symbols>),
    Record(Box<Record>),
    Array(Box<Place>),
    Map(Box<Place>),
    Union(Box<Union>),
    Reference(usize),
    Anything,
}

pub(super) struct Record {
    pub(super) names: Names,
    pub(super) fields: Box<[Place]>,
    /// Indexes of the fields that the record cannot do without.
    pub(super) required: Box<[usize]>,
}

pub(super) struct Union {
    pub(super) nullable: bool,
    pub(super) branches: Box<[Place]>,
    /// The branches that a value of each [`Shape`] may be of, without that of null.
    pub(super) candidates: [Box<[usize]>; SHAPES],
}

/// The types that a parsed JSON value may have.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Null,
    Boolean,
    Number,
    Text,
    Array,
    Object,
}

const SHAPES: usize = 6;

/// The references that were followed to find shapes, each with whether its type is done: it is not looked at again.
type Followed<'s> = HashMap<&'s str, bool>;

struct Compiler<'s> {
    types: Types<'s>,
    symbols: Interner<'s>,
}

impl<'s> Compiler<'s> {
    fn place(&mut self, node: &'s Node) -> Result<Place, SchemaError> {
        let content = match node.kind {
            Kind::Null => Content::Null,
            Kind::Boolean => Content::Boolean { allowed: allowed_booleans(node) },
            Kind::Integer | Kind::Number => {
                Content::Number { integral: node.kind == Kind::Integer, allowed: allowed_numbers(node)? }
            }
            Kind::String => Content::Text,
            Kind::Enum => Content::Enum(self.symbols.table(&node.symbols)),
            Kind::Record => Content::Record(Box::new(self.record(node)?)),
            Kind::Array => Content::Array(self.items(node)?),
            Kind::Map => Content::Map(self.items(node)?),
            Kind::Union => Content::Union(Box::new(self.union(node)?)),
            Kind::Reference => Content::Reference(self.types.number(node)?),
            Kind::Any => Content::Anything,
            Kind::Int | Kind::Long | Kind::Float | Kind::Double | Kind::Bytes | Kind::Fixed => {
                return Err(SchemaError::at(node, "what is here is nothing that JSON has"));
            }
        };
        Ok(Place { path: node.path.as_str().into(), content })
    }

    fn record(&mut self, node: &'s Node) -> Result<Record, SchemaError> {
        let required = node.fields.iter().enumerate().filter(|(_, field)| field.required).map(|(index, _)| index);
        Ok(Record {
            names: Names::new(node.fields.iter().map(|field| field.name.as_str())),
            fields: node.fields.iter().map(|field| self.place(&field.node)).collect::<Result<_, _>>()?,
            required: required.collect(),
        })
    }

    fn items(&mut self, node: &'s Node) -> Result<Box<Place>, SchemaError> {
        let missing = || SchemaError::at(node, "an array or map without items");
        Ok(Box::new(self.place(node.items.as_deref().ok_or_else(missing)?)?))
    }

    fn union(&mut self, node: &'s Node) -> Result<Union, SchemaError> {
        let mut candidates: [Vec<usize>; SHAPES] = Default::default();
        for (index, branch) in node.branches.iter().enumerate().filter(|(_, branch)| branch.kind != Kind::Null) {
            let mut shapes = [false; SHAPES];
            self.add_shapes(branch, &mut shapes, &mut Followed::default())?;
            for (found, _) in candidates.iter_mut().zip(shapes).filter(|(_, has)| *has) {
                found.push(index);
            }
        }
        Ok(Union {
            nullable: node.branches.iter().any(|branch| branch.kind == Kind::Null),
            branches: node.branches.iter().map(|branch| self.place(branch)).collect::<Result<_, _>>()?,
            candidates: candidates.map(Into::into),
        })
    }

    /// Add the shapes that a parsed JSON value of a node may have.
    fn add_shapes(
        &self,
        node: &'s Node,
        shapes: &mut [bool; SHAPES],
        followed: &mut Followed<'s>,
    ) -> Result<(), SchemaError> {
        let shape = match node.kind {
            Kind::Any => {
                *shapes = [true; SHAPES];
                return Ok(());
            }
            Kind::Reference => {
                match followed.insert(&node.name, false) {
                    Some(false) => return Err(SchemaError::at(node, "a union contains itself")),
                    Some(true) => {}
                    None => self.add_shapes(self.types.known(node)?, shapes, followed)?,
                }
                followed.insert(&node.name, true);
                return Ok(());
            }
            Kind::Union => {
                return node.branches.iter().try_for_each(|branch| self.add_shapes(branch, shapes, followed));
            }
            Kind::Null => Shape::Null,
            Kind::Boolean => Shape::Boolean,
            Kind::Integer | Kind::Number => Shape::Number,
            Kind::String | Kind::Enum => Shape::Text,
            Kind::Array => Shape::Array,
            // What JSON does not have is refused where it is compiled.
            _ => Shape::Object,
        };
        shapes[shape as usize] = true;
        Ok(())
    }
}

/// Return whether false and true may stand at a place.
fn allowed_booleans(node: &Node) -> [bool; 2] {
    let choices = node.attributes.get("enum").and_then(Json::as_array);
    [false, true].map(|value| choices.is_none_or(|choices| choices.contains(&Json::Bool(value))))
}

/// Return the numbers that may stand at a place, or None for all.
fn allowed_numbers(node: &Node) -> Result<Option<Box<[Decimal]>>, SchemaError> {
    let Some(choices) = node.attributes.get("enum").and_then(Json::as_array) else { return Ok(None) };
    let no_number = || SchemaError::at(node, "an enum of numbers has what is no number");
    let allowed = choices.iter().map(|choice| choice.as_str().and_then(Decimal::parse).ok_or_else(no_number));
    Ok(Some(allowed.collect::<Result<_, _>>()?))
}
