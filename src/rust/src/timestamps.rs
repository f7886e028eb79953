//! Times: reading them, and cutting them down to calendar units in UTC; see `tokenweir.core.timestamps`.
//!
//! Every number counts from 1970-01-01T00:00:00Z without leap seconds.

use serde::Deserialize;

use crate::value::Value;

/// Seconds of a day.
pub const DAY_SECONDS: i64 = 86_400;
/// Days from 0001-01-01 to 1970-01-01.
const FIRST_DAY: i64 = -719_162;
/// Days from 1970-01-01 to 9999-12-31.
const LAST_DAY: i64 = 2_932_896;

/// A unit of the calendar.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are those of the policy")]
pub enum Unit {
    Hour,
    Day,
    Month,
    Year,
}

/// Return an Avro int or long, or a JSON number that is written as a plain integer, as an integer of 64 bits.
#[must_use]
pub fn integer_of(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        Value::Number(text) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let plain = digits.len() <= 19 && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain && (digits.len() == 1 || !digits.starts_with('0')) { text.parse().ok() } else { None }
        }
        _ => None,
    }
}

/// Return the time itself if it lies in the years 1 to 9999.
#[must_use]
pub fn checked_ms(timestamp_ms: i64) -> Option<i64> {
    floor_days(timestamp_ms.div_euclid(DAY_SECONDS * 1000), Unit::Day).map(|_| timestamp_ms)
}

/// Return the day on which the month or year of a day begins; a day or hour leaves it as it is.
///
/// None if the day is not in the years 1 to 9999.
#[must_use]
pub fn floor_days(days: i64, unit: Unit) -> Option<i64> {
    if !(FIRST_DAY..=LAST_DAY).contains(&days) {
        return None;
    }
    let (year, month, _) = civil(days);
    match unit {
        Unit::Hour | Unit::Day => Some(days),
        Unit::Month => Some(days_of(year, month, 1)),
        Unit::Year => Some(days_of(year, 1, 1)),
    }
}

/// Return the start of the unit that a time is in, in the ticks that it came in.
///
/// None if the time is not in the years 1 to 9999, or its start is below what 64 bits hold.
#[must_use]
pub fn floor_ticks(ticks: i64, per_second: i64, unit: Unit) -> Option<i64> {
    let day_ticks = DAY_SECONDS.checked_mul(per_second)?;
    let days = floor_days(ticks.div_euclid(day_ticks), unit)?;
    if unit == Unit::Hour {
        let hour_ticks = per_second.checked_mul(3_600)?;
        return ticks.div_euclid(hour_ticks).checked_mul(hour_ticks);
    }
    days.checked_mul(day_ticks)
}

/// Return a time that was computed, in its ticks, if it is in the years 1 to 9999.
#[must_use]
pub fn checked_ticks(ticks: i64, per_second: i64) -> Option<i64> {
    floor_days(ticks.div_euclid(DAY_SECONDS.checked_mul(per_second)?), Unit::Day).map(|_| ticks)
}

/// Return the start of the unit that a time in milliseconds is in; see [`floor_ticks`].
#[must_use]
pub fn floor_ms(timestamp_ms: i64, unit: Unit) -> Option<i64> {
    floor_ticks(timestamp_ms, 1000, unit)
}

/// Return an RFC 3339 full-date as days, or none if it is no day of the calendar.
#[must_use]
pub fn parse_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() == 10 { date_at_start(bytes) } else { None }
}

/// Return an RFC 3339 date-time as milliseconds, rounded down, or none if it is none.
///
/// A leap second, which has no number of its own, is the last millisecond of the second before it.
#[must_use]
pub fn parse_date_time(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let days = date_at_start(bytes)?;
    let (separator, clock) = bytes.get(10..)?.split_first()?;
    if !matches!(separator, b'T' | b't') || clock.get(2) != Some(&b':') || clock.get(5) != Some(&b':') {
        return None;
    }
    let hour = number(clock.get(..2)?).filter(|hour| *hour < 24)?;
    let minute = number(clock.get(3..5)?).filter(|minute| *minute < 60)?;
    let second = number(clock.get(6..8)?).filter(|second| *second <= 60)?;
    let (fraction_ms, zone) = fraction(clock.get(8..)?)?;
    let minutes = hour * 60 + minute - offset_minutes(zone)?;
    let seconds = days * DAY_SECONDS + minutes * 60;
    if second < 60 {
        return Some((seconds + second) * 1000 + fraction_ms);
    }
    // RFC 3339, section 5.7: leap seconds come at the end of a UTC day only.
    (minutes.rem_euclid(1440) == 1439).then_some((seconds + 59) * 1000 + 999)
}

/// Return days as an RFC 3339 full-date.
#[must_use]
pub fn format_date(days: i64) -> String {
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Return milliseconds as an RFC 3339 date-time in UTC with whole seconds.
#[must_use]
pub fn format_date_time(timestamp_ms: i64) -> String {
    let seconds = timestamp_ms.div_euclid(1000);
    let date = format_date(seconds.div_euclid(DAY_SECONDS));
    let of_day = seconds.rem_euclid(DAY_SECONDS);
    format!("{date}T{:02}:{:02}:{:02}Z", of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

/// Return milliseconds as an RFC 3339 date-time in UTC with milliseconds.
#[must_use]
pub fn format_date_time_ms(timestamp_ms: i64) -> String {
    let whole = format_date_time(timestamp_ms);
    format!("{}.{:03}Z", whole.trim_end_matches('Z'), timestamp_ms.rem_euclid(1000))
}

/// Return the number that ASCII digits write.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0_i64, |total, digit| {
        digit.is_ascii_digit().then(|| total.checked_mul(10)?.checked_add(i64::from(digit - b'0')))?
    })
}

fn date_at_start(bytes: &[u8]) -> Option<i64> {
    if bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
        return None;
    }
    let year = number(bytes.get(..4)?).filter(|year| *year > 0)?;
    let month = number(bytes.get(5..7)?).filter(|month| (1..=12).contains(month))?;
    let day = number(bytes.get(8..10)?).filter(|day| *day > 0)?;
    let days = days_of(year, month, day);
    // A day that the month does not have would be one of the next month.
    (civil(days) == (year, month, day)).then_some(days)
}

/// Return the milliseconds of a fraction of up to 32 digits, if there is one, and what follows.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', rest)) = bytes.split_first() else {
        return Some((0, bytes));
    };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=32).contains(&count) {
        return None;
    }
    let (digits, zone) = rest.split_at_checked(count)?;
    let first = number(digits.get(..count.min(3))?)?;
    let scale = [100, 10, 1].get(count.min(3) - 1)?;
    Some((first * scale, zone))
}

/// Return the minutes that a zone is ahead of UTC.
fn offset_minutes(zone: &[u8]) -> Option<i64> {
    let (sign, rest) = match zone.split_first()? {
        (b'Z' | b'z', []) => return Some(0),
        (b'+', rest) => (1, rest),
        (b'-', rest) => (-1, rest),
        _ => return None,
    };
    if rest.len() != 5 || rest.get(2) != Some(&b':') {
        return None;
    }
    let hours = number(rest.get(..2)?).filter(|hours| *hours < 24)?;
    let minutes = number(rest.get(3..)?).filter(|minutes| *minutes < 60)?;
    Some(sign * (hours * 60 + minutes))
}

/// Days of the 400 years after which the Gregorian calendar repeats.
const ERA_DAYS: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

/// Return the days since 1970 of a day of the proleptic Gregorian calendar.
///
/// Years are counted from March, so that the leap day is their last.
const fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    year.div_euclid(400) * ERA_DAYS + days - EPOCH_DAYS
}

/// Return year, month and day of a number of days since 1970; the reverse of [`days_of`].
const fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + EPOCH_DAYS;
    let of_era = shifted.rem_euclid(ERA_DAYS);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + shifted.div_euclid(ERA_DAYS) * 400;
    (if month > 2 { year } else { year + 1 }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_the_calendar_has_its_number() {
        assert_eq!((civil(FIRST_DAY), civil(LAST_DAY)), ((1, 1, 1), (9999, 12, 31)));
        for days in FIRST_DAY..=LAST_DAY {
            let (year, month, day) = civil(days);
            assert_eq!(days_of(year, month, day), days);
        }
    }

    #[test]
    fn date_times_are_those_of_rfc_3339() {
        assert_eq!(parse_date_time("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_date_time("1970-01-01t01:00:00.0019+01:00"), Some(1));
        assert_eq!(parse_date_time("1990-12-31T15:59:60-08:00"), parse_date_time("1990-12-31T23:59:59.999Z"));
        for text in [
            "1970-01-01T00:00:00",
            "1970-01-01 00:00:00Z",
            "1970-02-29T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:60Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00+0100",
            "1970-01-01T00:00:00Zx",
            "",
            "1970-01-01",
            "1970-01-01T00:00:00\u{e9}",
        ] {
            assert_eq!(parse_date_time(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_cut_down_and_never_pass_their_range() {
        let text = |unit| format_date_time(floor_ms(1_795_341_612_345, unit).unwrap());
        assert_eq!(text(Unit::Hour), "2026-11-22T10:00:00Z");
        assert_eq!(text(Unit::Day), "2026-11-22T00:00:00Z");
        assert_eq!(text(Unit::Month), "2026-11-01T00:00:00Z");
        assert_eq!(text(Unit::Year), "2026-01-01T00:00:00Z");
        assert_eq!(floor_ms(-1, Unit::Day), Some(-86_400_000));
        assert_eq!((floor_ms(i64::MAX, Unit::Day), floor_ms(i64::MIN, Unit::Hour)), (None, None));
        assert_eq!(floor_ticks(i64::MIN, 1_000_000_000, Unit::Day), None);
        assert_eq!(parse_date("2024-02-29").map(format_date), Some("2024-02-29".into()));
    }
}
