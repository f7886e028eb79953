//! Coarser values of the same type; see `tokenweir.core.generalize`. Cells and noise work on pairs; `program::cells` applies them.

mod address;
mod decimal;
mod instant;
pub mod noise;
mod numeric;
mod printable;
mod shift;
mod url;
mod user_agent;

use std::collections::HashMap;

pub use printable::Printable;

use crate::codec::Arena;
use crate::plan::{Coarser, Place};
use crate::prf::Keyed;
use crate::schema::Kind;
use crate::value::Value;

/// Why a way to generalize cannot work at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit(pub &'static str);

/// A way to generalize, compiled for one place; the same value always gives the same result.
pub enum Generalizer {
    /// A time becomes the start of its unit.
    Floor(instant::Floor),
    /// A number becomes a multiple.
    Round(numeric::Round),
    /// A number becomes a bound.
    Buckets(numeric::Buckets),
    /// So many characters of a text stay.
    Prefix(usize),
    /// So many bits of an IP address stay.
    Network(u8),
    /// A text becomes another one.
    Table {
        /// What each becomes.
        table: HashMap<String, String>,
        /// What all others become.
        default: Option<String>,
    },
    /// Parts of a URL stay.
    Url(url::Url),
    /// A User-Agent header becomes a family.
    UserAgent(user_agent::Families),
    /// A time moves by some days.
    Shift(shift::Shift),
}

impl Generalizer {
    /// Compile it for a place.
    ///
    /// # Errors
    ///
    /// The place does not hold what it works on, or cannot hold its results.
    pub fn new(spec: &Coarser, place: &Place) -> Result<Self, Unfit> {
        let needs = |kinds: &[Kind]| {
            if kinds.contains(&place.kind) { Ok(()) } else { Err(Unfit("the place holds no text")) }
        };
        match spec {
            Coarser::Cell(_) | Coarser::Noise { .. } => Err(Unfit("cell and noise work on a pair of coordinates")),
            Coarser::Time(unit) => instant::Floor::new(*unit, place).map(Self::Floor),
            Coarser::Round(step) => numeric::Round::new(step, place).map(Self::Round),
            Coarser::Buckets(bounds) => numeric::Buckets::new(bounds, place).map(Self::Buckets),
            Coarser::Prefix(characters) => needs(&[Kind::String]).map(|()| Self::Prefix(*characters)),
            Coarser::Network(bits) => needs(&[Kind::String]).map(|()| Self::Network(*bits)),
            Coarser::Map { table, default } => {
                needs(&[Kind::String, Kind::Enum])?;
                let table = table.iter().map(|(from, to)| (from.clone(), to.clone())).collect();
                Ok(Self::Table { table, default: default.clone() })
            }
            Coarser::Url { path, query } => {
                needs(&[Kind::String])?;
                Ok(Self::Url(url::Url::new(*path, query)))
            }
            Coarser::UserAgent { rules, default } => {
                needs(&[Kind::String])?;
                Ok(Self::UserAgent(user_agent::Families::new(rules, default)))
            }
            Coarser::Shift { days, prf } => shift::Shift::new(*days, *prf, place).map(Self::Shift),
        }
    }

    /// Return the coarser value, or none if the value does not fit. An empty text and null are for the caller.
    #[must_use]
    pub fn apply<'v>(
        &'v self,
        value: &Value<'v>,
        printable: &Printable,
        keyed: Keyed<'_>,
        arena: &'v Arena,
    ) -> Option<Value<'v>> {
        let new = |text: String| Value::Text(arena.alloc_str(&text));
        match (self, value) {
            (Self::Floor(floor), _) => floor.apply(value, arena),
            (Self::Round(round), _) => round.apply(value).map(|coarse| coarse.value(arena)),
            (Self::Buckets(buckets), _) => buckets.apply(value).map(|coarse| coarse.value(arena)),
            (Self::Prefix(characters), Value::Text(text)) => {
                // A text that has no further character would stay whole.
                let (end, _) = text.char_indices().nth(*characters)?;
                text.get(..end).map(Value::Text)
            }
            (Self::Network(bits), Value::Text(text)) => address::network(text, *bits).map(new),
            (Self::Table { table, default }, Value::Text(text)) => {
                table.get(*text).or(default.as_ref()).map(|found| Value::Text(found))
            }
            (Self::Url(url), Value::Text(text)) => url.apply(text, printable).map(new),
            (Self::UserAgent(families), Value::Text(text)) => Some(Value::Text(families.of(text))),
            (Self::Shift(shift), _) => shift.apply(value, keyed, arena),
            _ => None,
        }
    }
}
