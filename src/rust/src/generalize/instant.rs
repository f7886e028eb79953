//! Times and dates cut down to the start of their unit in UTC; see `tokenweir.core.generalize.instant`.

use super::Unfit;
use crate::codec::Arena;
use crate::plan::Place;
use crate::schema::Kind;
use crate::timestamps::{
    Unit, floor_days, floor_ms, floor_ticks, format_date, format_date_time, integer_of, parse_date, parse_date_time,
};
use crate::value::Value;

/// A floor for the times of one place.
pub struct Floor {
    unit: Unit,
    reading: Reading,
}

enum Reading {
    Ticks { per_second: i64 },
    JsonMilliseconds,
    Days,
    TextDate,
    TextDateTime,
}

impl Floor {
    /// Compile it for a place.
    pub fn new(unit: Unit, place: &Place) -> Result<Self, Unfit> {
        let logical = &*place.logical;
        let reading = match place.kind {
            Kind::Int | Kind::String if logical == "date" => {
                if matches!(unit, Unit::Hour | Unit::Day) {
                    return Err(Unfit("a date does not get coarser by its hour or day"));
                }
                if place.kind == Kind::String { Reading::TextDate } else { Reading::Days }
            }
            Kind::String if matches!(logical, "" | "date-time") => Reading::TextDateTime,
            Kind::Long => match logical.strip_prefix("local-").unwrap_or(logical) {
                "timestamp-millis" => Reading::Ticks { per_second: 1_000 },
                "timestamp-micros" => Reading::Ticks { per_second: 1_000_000 },
                "timestamp-nanos" => Reading::Ticks { per_second: 1_000_000_000 },
                "" if logical.is_empty() => Reading::Ticks { per_second: 1_000 },
                _ => return Err(Unfit("time needs a timestamp")),
            },
            Kind::Integer if logical.is_empty() => Reading::JsonMilliseconds,
            _ => return Err(Unfit("time needs a timestamp, a date, milliseconds or RFC 3339 text")),
        };
        Ok(Self { unit, reading })
    }

    /// Return the coarser value.
    pub fn apply<'v>(&self, value: &Value<'_>, arena: &'v Arena) -> Option<Value<'v>> {
        let unit = self.unit;
        let text = |text: String| Value::Text(arena.alloc_str(&text));
        match (&self.reading, value) {
            (Reading::Ticks { per_second }, _) => {
                floor_ticks(integer_of(value)?, *per_second, unit).map(Value::Integer)
            }
            (Reading::JsonMilliseconds, _) => {
                floor_ms(integer_of(value)?, unit).map(|floor| Value::Number(arena.alloc_str(&floor.to_string())))
            }
            (Reading::Days, _) => floor_days(integer_of(value)?, unit).map(Value::Integer),
            (Reading::TextDate, Value::Text(found)) => floor_days(parse_date(found)?, unit).map(format_date).map(text),
            (Reading::TextDateTime, Value::Text(found)) => {
                floor_ms(parse_date_time(found)?, unit).map(format_date_time).map(text)
            }
            _ => None,
        }
    }
}
