//! Dates and times moved by a whole number of days; see `tokenweir.core.generalize.shift`.

use super::Unfit;
use crate::codec::Arena;
use crate::plan::Place;
use crate::prf::Keyed;
use crate::schema::Kind;
use crate::timestamps::{
    DAY_SECONDS, Unit, checked_ticks, floor_days, format_date, format_date_time, format_date_time_ms, integer_of,
    parse_date, parse_date_time,
};
use crate::value::Value;

/// Characters of an RFC 3339 full-date; every date-time is longer.
const DATE_LENGTH: usize = 10;

/// Moves the times of one place.
pub struct Shift {
    largest: u32,
    prf: usize,
    reading: Reading,
}

enum Reading {
    Ticks { per_second: i64 },
    JsonMilliseconds,
    Days,
    TextDate,
    TextDateTime,
    AnyText,
}

impl Shift {
    /// Compile it for a place.
    pub fn new(largest: u32, prf: usize, place: &Place) -> Result<Self, Unfit> {
        if largest == 0 {
            return Err(Unfit("shift_days needs at least one day"));
        }
        let logical = &*place.logical;
        let reading = match (place.kind, logical) {
            (Kind::Int, "date") => Reading::Days,
            (Kind::String, "date") => Reading::TextDate,
            (Kind::String, "date-time") => Reading::TextDateTime,
            (Kind::String, "") => Reading::AnyText,
            (Kind::Integer, "") => Reading::JsonMilliseconds,
            (Kind::Long, "" | "timestamp-millis" | "local-timestamp-millis") => Reading::Ticks { per_second: 1_000 },
            (Kind::Long, "timestamp-micros" | "local-timestamp-micros") => Reading::Ticks { per_second: 1_000_000 },
            (Kind::Long, "timestamp-nanos" | "local-timestamp-nanos") => Reading::Ticks { per_second: 1_000_000_000 },
            _ => return Err(Unfit("shift_days needs a date, a timestamp, milliseconds or RFC 3339 text")),
        };
        Ok(Self { largest, prf, reading })
    }

    /// Return the value so many days later as whoever the record is about moves by.
    pub fn apply<'v>(&self, value: &Value<'_>, keyed: Keyed<'_>, arena: &'v Arena) -> Option<Value<'v>> {
        let (prf, person) = keyed.pair(self.prf)?;
        let days = personal_days(&prf.of(&[person.kind, person.id]), self.largest);
        let text = |text: String| Value::Text(arena.alloc_str(&text));
        match (&self.reading, value) {
            (Reading::Ticks { per_second }, _) => moved(integer_of(value)?, days, *per_second).map(Value::Integer),
            (Reading::JsonMilliseconds, _) => {
                moved(integer_of(value)?, days, 1_000).map(|moved| Value::Number(arena.alloc_str(&moved.to_string())))
            }
            (Reading::Days, _) => moved_days(integer_of(value)?, days).map(Value::Integer),
            (Reading::TextDate, Value::Text(found)) => moved_date(found, days).map(text),
            (Reading::AnyText, Value::Text(found)) if found.len() == DATE_LENGTH => moved_date(found, days).map(text),
            (Reading::TextDateTime | Reading::AnyText, Value::Text(found)) => {
                let moved = moved(parse_date_time(found)?, days, 1_000)?;
                let format = if moved % 1_000 == 0 { format_date_time } else { format_date_time_ms };
                Some(text(format(moved)))
            }
            _ => None,
        }
    }
}

/// Return one of the whole numbers from `-largest` to `largest` without 0; see `personal_days` of the reference.
fn personal_days(digest: &[u8; 32], largest: u32) -> i64 {
    let largest = i64::from(largest);
    // The remainder of all 256 bits, byte by byte.
    let rank = digest.iter().fold(0, |rank, byte| (rank * 256 + i64::from(*byte)) % (2 * largest));
    if rank < largest { rank - largest } else { rank - largest + 1 }
}

/// Return a time so many days later, if both are in the years 1 to 9999.
fn moved(ticks: i64, days: i64, per_second: i64) -> Option<i64> {
    let by = DAY_SECONDS.checked_mul(per_second)?.checked_mul(days)?;
    checked_ticks(checked_ticks(ticks, per_second)?.checked_add(by)?, per_second)
}

fn moved_days(day: i64, days: i64) -> Option<i64> {
    floor_days(floor_days(day, Unit::Day)?.checked_add(days)?, Unit::Day)
}

fn moved_date(text: &str, days: i64) -> Option<String> {
    moved_days(parse_date(text)?, days).map(format_date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_days_but_none_has_its_rank() {
        let days = |rank: u8| {
            let mut digest = [0; 32];
            digest[31] = rank;
            personal_days(&digest, 3)
        };
        assert_eq!((0..7).map(days).collect::<Vec<_>>(), [-3, -2, -1, 1, 2, 3, -3]);
        // 2^256 - 1 is 3 more than a multiple of 6.
        assert_eq!(personal_days(&[255; 32], 3), 1);
    }

    #[test]
    fn what_leaves_the_calendar_has_no_place() {
        assert_eq!(moved_date("9999-12-31", 1), None);
        assert_eq!(moved_date("0001-01-01", -1), None);
        assert_eq!(moved_date("2024-02-28", 2).as_deref(), Some("2024-03-01"));
        assert_eq!(moved(i64::MAX, 1, 1_000_000_000), None);
        assert_eq!(moved(i64::MIN, -1, 1_000_000_000), None);
        assert_eq!(moved(i64::MAX, 0, 1_000_000_000), Some(i64::MAX));
    }
}
