//! What is read from texts and numbers at a place, and made coarser: times, addresses, URLs, numbers and ids.

use std::sync::LazyLock;

use tokenweir_native::codec::Arena;
use tokenweir_native::generalize::{Generalizer, Printable, noise};
use tokenweir_native::plan::{Coarser, Place};
use tokenweir_native::prf::{Keyed, Person, Prf};
use tokenweir_native::schema::Kind;
use tokenweir_native::subjects::{Form, Id};
use tokenweir_native::timestamps::{
    Unit, checked_ms, floor_days, floor_ms, format_date, format_date_time, integer_of, parse_date, parse_date_time,
};
use tokenweir_native::value::Value;

use crate::input::Input;
use crate::plans::prf;
use crate::{LONGEST, memory};

const KINDS: [Kind; 10] = [
    Kind::Int,
    Kind::Long,
    Kind::Float,
    Kind::Double,
    Kind::Integer,
    Kind::Number,
    Kind::Bytes,
    Kind::Fixed,
    Kind::String,
    Kind::Enum,
];
const LOGICAL: [&str; 6] = ["", "date", "timestamp-millis", "timestamp-micros", "decimal", "date-time"];
const UNITS: [Unit; 4] = [Unit::Hour, Unit::Day, Unit::Month, Unit::Year];

/// Most bytes for a byte of the input.
const BYTE_BYTES: usize = 64;

/// Most bytes for what is there once: numbers of up to 512 digits in exact arithmetic, and tables.
const FIXED_BYTES: usize = 32 * 1024;

/// Make a value coarser twice, and read it as an id and as a time.
pub fn run(data: &[u8]) {
    let mut input = Input::new(&data[..data.len().min(LONGEST)]);
    let place = place(&mut input);
    let spec = coarser(&mut input);
    let form = [Form::Digits(input.below(65)), Form::Uuid, Form::Text, Form::Lowercase][input.below(4)];
    let choice = input.byte();
    let arena = Arena::new();
    let value = value(choice, place.kind, input, &arena);
    memory::within(FIXED_BYTES + BYTE_BYTES * data.len(), "a coarser value", || {
        check_coarser(&spec, &place, &value);
        check_id(form, &value);
        if let Value::Text(text) = &value {
            check_times(text);
        }
        if let Value::Real(degrees) = value {
            check_noise(degrees, degrees * 2.0);
        }
        if let Some(number) = integer_of(&value) {
            check_floors(number);
        }
    });
}

fn place(input: &mut Input<'_>) -> Place {
    let number = |input: &mut Input<'_>| match input.byte() {
        255 => u32::MAX,
        small => u32::from(small),
    };
    Place {
        kind: input.one_of(&KINDS),
        path: String::new(),
        logical: input.one_of(&LOGICAL).to_owned(),
        size: input.below(20),
        precision: number(input),
        scale: number(input),
    }
}

fn coarser(input: &mut Input<'_>) -> Coarser {
    match input.below(9) {
        0 => Coarser::Time(input.one_of(&UNITS)),
        1 => Coarser::Round(input.text().into_owned()),
        2 => Coarser::Buckets((0..=input.below(3)).map(|_| input.text().into_owned()).collect()),
        3 => Coarser::Prefix(input.below(20)),
        4 => Coarser::Network(input.byte()),
        5 => Coarser::Map {
            table: [(input.text().into_owned(), input.text().into_owned())].into(),
            default: (input.below(2) == 1).then(|| "other".into()),
        },
        6 => Coarser::Shift { days: u32::from(input.byte()) * 143, prf: input.below(2) },
        7 => Coarser::UserAgent {
            rules: vec![
                ("First".into(), vec![input.text().into_owned()]),
                ("Second".into(), vec!["a".into(), "b".into()]),
            ],
            default: "Other".into(),
        },
        _ => Coarser::Url { path: input.below(4), query: vec!["page".into(), "a b".into(), input.text().into_owned()] },
    }
}

fn value<'a>(choice: u8, kind: Kind, mut input: Input<'a>, arena: &'a Arena) -> Value<'a> {
    let bytes = |input: &mut Input<'_>| input.number().to_le_bytes();
    let half = |input: &mut Input<'_>| bytes(input).first_chunk().copied().unwrap_or_default();
    match (choice % 8, kind) {
        (0, _) => Value::Null,
        (_, Kind::Int) => Value::Integer(i32::from_le_bytes(half(&mut input)).into()),
        (_, Kind::Long) => Value::Integer(input.number()),
        (_, Kind::Float) => real(f32::from_le_bytes(half(&mut input)).into()),
        (_, Kind::Double) => real(f64::from_le_bytes(bytes(&mut input))),
        (_, Kind::Integer | Kind::Number) => number(input, arena),
        (_, Kind::Bytes | Kind::Fixed) => Value::Bytes(input.rest()),
        _ => Value::Text(arena.alloc_str(&String::from_utf8_lossy(input.rest()))),
    }
}

/// No codec lets through what is not finite.
fn real(number: f64) -> Value<'static> {
    Value::Real(if number.is_finite() { number } else { 0.0 })
}

/// Return a number as the reader of JSON lets it through.
fn number<'a>(input: Input<'a>, arena: &'a Arena) -> Value<'a> {
    let text = String::from_utf8_lossy(input.rest());
    let is_number = serde_json::from_str::<&serde_json::value::RawValue>(&text)
        .is_ok_and(|raw| raw.get().starts_with(|first: char| first == '-' || first.is_ascii_digit()));
    Value::Number(if is_number { arena.alloc_str(text.trim()) } else { "-0.5e1" })
}

/// One keyed function under a key that is no secret.
static PRFS: LazyLock<[Prf; 1]> = LazyLock::new(|| [prf(0)]);
const PERSON: Person<'_> = Person { kind: "customer", id: "0000000007" };

/// A person's days, and the point of a person at a place, are the same again; nobody has any.
fn check_keyed(generalizer: &Generalizer, value: &Value<'_>, printable: &Printable) {
    let keyed = Keyed { prfs: &*PRFS, person: Some(PERSON) };
    let nobody = Keyed { person: None, ..keyed };
    let arena = Arena::new();
    assert!(generalizer.apply(value, printable, nobody, &arena).is_none(), "nobody's time moved");
    if let Some(moved) = generalizer.apply(value, printable, keyed, &arena) {
        assert!(generalizer.apply(value, printable, keyed, &arena).as_ref() == Some(&moved), "other days");
        assert!(&moved != value, "a time stayed");
    }
}

/// A point is on the globe, has five decimals, and is that of the whole place.
fn check_noise(latitude: f64, longitude: f64) {
    for metres in [*noise::METRES.start(), 500, *noise::METRES.end()] {
        if let Some((north, east)) = noise::point(latitude, longitude, metres, &PRFS[0], PERSON) {
            assert!(north.abs() <= 90.0 && (-180.0..180.0).contains(&east), "a point is not on the globe");
            let steps = [north, east].map(|degrees| ((degrees * 1e5).round() / 1e5).to_bits());
            assert!(steps == [north, east].map(f64::to_bits), "a point has more decimals");
        }
    }
}

fn check_coarser(spec: &Coarser, place: &Place, value: &Value<'_>) {
    let Ok(generalizer) = Generalizer::new(spec, place) else { return };
    let printable = Printable::from_ranges(&[(0x20, 0x7e), (0xa1, 0x10_ffff)]);
    let keyed = Keyed { prfs: &*PRFS, person: Some(PERSON) };
    if matches!(spec, Coarser::Shift { .. }) {
        check_keyed(&generalizer, value, &printable);
    }
    let arena = Arena::new();
    let Some(once) = generalizer.apply(value, &printable, keyed, &arena) else { return };
    let fits = match place.kind {
        Kind::Int => matches!(once, Value::Integer(number) if i32::try_from(number).is_ok()),
        Kind::Long => matches!(once, Value::Integer(_)),
        Kind::Float | Kind::Double => matches!(once, Value::Real(number) if number.is_finite()),
        Kind::Integer | Kind::Number => matches!(once, Value::Number(_)),
        Kind::Bytes => matches!(once, Value::Bytes(_)),
        Kind::Fixed => matches!(&once, Value::Bytes(bytes) if bytes.len() == place.size),
        _ => matches!(once, Value::Text(_)),
    };
    assert!(fits, "a coarser value is of another type");
    // A prefix has no further character that could go, a table may send a result on, and a time moves on.
    if !matches!(spec, Coarser::Prefix(_) | Coarser::Map { .. } | Coarser::UserAgent { .. } | Coarser::Shift { .. }) {
        let twice = generalizer.apply(&once, &printable, keyed, &arena);
        assert!(twice.is_none_or(|twice| twice == once), "what is coarse becomes coarser");
    }
}

fn check_id(form: Form, value: &Value<'_>) {
    let Id::Canonical(id) = form.read(value) else { return };
    let again = Value::Text(&id);
    assert!(form.read(&again) == Id::Canonical(id.clone()), "a canonical id has another form");
}

fn check_times(text: &str) {
    if let Some(days) = parse_date(text) {
        assert!(format_date(days) == text, "another date");
    }
    if let Some(time_ms) = parse_date_time(text)
        && checked_ms(time_ms).is_some()
    {
        let again = parse_date_time(&format_date_time(time_ms));
        assert!(again == Some(time_ms.div_euclid(1000) * 1000), "another time");
        check_floors(time_ms);
    }
}

fn check_floors(time_ms: i64) {
    for unit in UNITS {
        if let Some(start) = floor_ms(time_ms, unit) {
            assert!(start <= time_ms && floor_ms(start, unit).is_none_or(|again| again == start), "a start is one");
        }
        if let Some(start) = floor_days(time_ms, unit) {
            assert!(start <= time_ms && floor_days(start, unit) == Some(start), "a first day is one");
        }
    }
}
