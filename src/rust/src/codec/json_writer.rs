//! Values as JSON: compact UTF-8, properties in the order of the schema, numbers as the text that they are.

use crate::codec::json_text::write_string;
use crate::codec::types::Types;
use crate::codec::{Misfit, SchemaError, json_numbers};
use crate::schema::{Kind, Node, Schema};
use crate::value::Value;

/// Writes the records of one schema.
pub(super) struct Writer {
    root: Content,
    types: Box<[Content]>,
}

enum Content {
    Null,
    Boolean,
    Number,
    Text,
    Record(Box<[Property]>),
    Array(Box<Content>),
    Map(Box<Content>),
    Union {
        nullable: bool,
        branches: Box<[Content]>,
    },
    Reference(usize),
    /// What the schema does not describe can only be absent.
    Nothing,
}

struct Property {
    /// Its name as a JSON string, with the colon.
    name: Box<[u8]>,
    content: Content,
    /// Whether a record cannot do without it.
    required: bool,
}

impl Writer {
    pub(super) fn new(schema: &Schema) -> Result<Self, SchemaError> {
        let mut types = Types::of(schema);
        let root = compile(&schema.root, &mut types)?;
        let mut compiled = Vec::new();
        while let Some(node) = types.get(compiled.len()) {
            if node.kind == Kind::Reference {
                return Err(SchemaError::at(node, "a recursive type is itself a reference"));
            }
            compiled.push(compile(node, &mut types)?);
        }
        Ok(Self { root, types: compiled.into() })
    }

    pub(super) fn write(&self, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        self.content(&self.root, value, out)
    }

    fn content(&self, content: &Content, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        match (content, value) {
            (Content::Null | Content::Union { nullable: true, .. }, Value::Null) => out.extend_from_slice(b"null"),
            (Content::Boolean, Value::Boolean(true)) => out.extend_from_slice(b"true"),
            (Content::Boolean, Value::Boolean(false)) => out.extend_from_slice(b"false"),
            (Content::Number, Value::Number(number)) if json_numbers::is_number(number) => {
                out.extend_from_slice(number.as_bytes());
            }
            (Content::Text, Value::Text(text)) => write_string(text, out),
            (Content::Record(properties), Value::Record(values)) if properties.len() == values.len() => {
                let mut separator = b'{';
                for (property, value) in properties.iter().zip(*values) {
                    if !matches!(value, Value::Absent) {
                        out.push(separator);
                        separator = b',';
                        out.extend_from_slice(&property.name);
                        self.content(&property.content, value, out)?;
                    } else if property.required {
                        return Err(Misfit);
                    }
                }
                close(separator, *b"{}", out);
            }
            (Content::Array(items), Value::Array(values)) => {
                let mut separator = b'[';
                for value in values.iter().filter(|value| !matches!(value, Value::Absent)) {
                    out.push(separator);
                    separator = b',';
                    self.content(items, value, out)?;
                }
                close(separator, *b"[]", out);
            }
            (Content::Map(items), Value::Map(entries)) => {
                let mut separator = b'{';
                for (key, value) in entries.iter().filter(|(_, value)| !matches!(value, Value::Absent)) {
                    out.push(separator);
                    separator = b',';
                    write_string(key, out);
                    out.push(b':');
                    self.content(items, value, out)?;
                }
                close(separator, *b"{}", out);
            }
            (Content::Union { branches, .. }, Value::Branch(index, value)) => {
                self.content(branches.get(*index).ok_or(Misfit)?, value, out)?;
            }
            (&Content::Reference(number), value) => self.content(&self.types[number], value, out)?,
            _ => return Err(Misfit),
        }
        Ok(())
    }
}

/// Write the closing bracket, and the opening one if that is still what would stand before the first element.
fn close(separator: u8, [opening, closing]: [u8; 2], out: &mut Vec<u8>) {
    if separator == opening {
        out.push(opening);
    }
    out.push(closing);
}

fn compile<'s>(node: &'s Node, types: &mut Types<'s>) -> Result<Content, SchemaError> {
    Ok(match node.kind {
        Kind::Null => Content::Null,
        Kind::Boolean => Content::Boolean,
        Kind::Integer | Kind::Number => Content::Number,
        // An enum restricts what is read. What leaves may have been treated, and is a text all the same.
        Kind::String | Kind::Enum => Content::Text,
        Kind::Record => {
            let properties = node.fields.iter().map(|field| {
                let mut name = Vec::new();
                write_string(&field.name, &mut name);
                name.push(b':');
                // What is not described is read as absent, also where it must be there.
                let required = field.required && field.node.kind != Kind::Any;
                Ok(Property { name: name.into(), content: compile(&field.node, types)?, required })
            });
            Content::Record(properties.collect::<Result<_, _>>()?)
        }
        Kind::Array => Content::Array(compile_items(node, types)?),
        Kind::Map => Content::Map(compile_items(node, types)?),
        Kind::Union => Content::Union {
            nullable: node.branches.iter().any(|branch| branch.kind == Kind::Null),
            branches: node.branches.iter().map(|branch| compile(branch, types)).collect::<Result<_, _>>()?,
        },
        Kind::Reference => Content::Reference(types.number(node)?),
        Kind::Any => Content::Nothing,
        Kind::Int | Kind::Long | Kind::Float | Kind::Double | Kind::Bytes | Kind::Fixed => {
            return Err(SchemaError::at(node, "what is here is nothing that JSON has"));
        }
    })
}

fn compile_items<'s>(node: &'s Node, types: &mut Types<'s>) -> Result<Box<Content>, SchemaError> {
    let missing = || SchemaError::at(node, "an array or map without items");
    Ok(Box::new(compile(node.items.as_deref().ok_or_else(missing)?, types)?))
}
