//! Numbers as multiples of a step or as the lower bound of their bucket; see `tokenweir.core.generalize.numeric`.

use num_bigint::BigInt;

use super::Unfit;
use super::decimal::{Decimal, LARGEST_EXPONENT};
use crate::codec::Arena;
use crate::plan::Place;
use crate::schema::Kind;
use crate::value::Value;

/// A coarser number that lies in no arena yet.
#[derive(Clone)]
pub enum Coarse {
    Integer(i64),
    Real(f64),
    Json(String),
    Decimal(Vec<u8>),
}

impl Coarse {
    /// Return it as a value.
    pub fn value<'v>(&self, arena: &'v Arena) -> Value<'v> {
        match self {
            Self::Integer(number) => Value::Integer(*number),
            Self::Real(number) => Value::Real(*number),
            Self::Json(text) => Value::Number(arena.alloc_str(text)),
            Self::Decimal(bytes) => Value::Bytes(arena.alloc_slice_copy(bytes)),
        }
    }
}

/// How a kind of number becomes a decimal and back.
enum Form {
    /// An integer of 32 or 64 bits.
    Integer {
        bits: u32,
    },
    Double,
    Float,
    Json,
    /// An Avro decimal: its unscaled number as big-endian two's complement, in so many bytes where its size is fixed.
    Decimal {
        scale: u32,
        limit: BigInt,
        size: Option<usize>,
    },
}

impl Form {
    fn of(place: &Place) -> Result<Self, Unfit> {
        let decimal = place.logical == "decimal";
        match place.kind {
            Kind::Int if place.logical.is_empty() => Ok(Self::Integer { bits: 32 }),
            Kind::Long if place.logical.is_empty() => Ok(Self::Integer { bits: 64 }),
            Kind::Double => Ok(Self::Double),
            Kind::Float => Ok(Self::Float),
            Kind::Integer | Kind::Number => Ok(Self::Json),
            Kind::Bytes | Kind::Fixed if decimal && place.precision.max(place.scale) > LARGEST_EXPONENT => {
                Err(Unfit("round and buckets need a decimal of at most 512 digits"))
            }
            Kind::Bytes | Kind::Fixed if decimal => Ok(Self::Decimal {
                scale: place.scale,
                limit: BigInt::from(10).pow(place.precision),
                size: (place.kind == Kind::Fixed).then_some(place.size),
            }),
            _ => Err(Unfit("round and buckets need a number without another meaning")),
        }
    }

    /// Return how many digits after the point the type can hold, where it cannot hold any number of them.
    fn places(&self, place: &Place) -> Option<u32> {
        match self {
            Self::Integer { .. } => Some(0),
            Self::Json => (place.kind == Kind::Integer).then_some(0),
            Self::Decimal { scale, .. } => Some(*scale),
            Self::Double | Self::Float => None,
        }
    }

    fn read(&self, value: &Value<'_>) -> Option<Decimal> {
        match (self, value) {
            (Self::Integer { .. }, Value::Integer(number)) => Some(Decimal::scaled(BigInt::from(*number), 0)),
            (Self::Double | Self::Float, Value::Real(number)) => Decimal::shortest(*number),
            (Self::Json, Value::Number(text)) => Decimal::parse(text),
            (Self::Decimal { scale, .. }, Value::Bytes(bytes)) if !bytes.is_empty() => {
                Some(Decimal::scaled(BigInt::from_signed_bytes_be(bytes), *scale))
            }
            _ => None,
        }
    }

    fn write(&self, number: &Decimal) -> Option<Coarse> {
        match self {
            Self::Integer { bits } => {
                let integer = i64::try_from(number.integer(0)?).ok()?;
                (*bits == 64 || i32::try_from(integer).is_ok()).then_some(Coarse::Integer(integer))
            }
            Self::Double => number.to_double().filter(|found| found.is_finite()).map(Coarse::Real),
            // The nearest single-precision number, so that the value here is the one that will be written.
            Self::Float => number.to_double().map(single).filter(|found| found.is_finite()).map(Coarse::Real),
            Self::Json => Some(Coarse::Json(number.plain())),
            Self::Decimal { scale, limit, size } => {
                let unscaled = number.integer(*scale)?;
                if *limit <= BigInt::from(unscaled.magnitude().clone()) {
                    return None;
                }
                let shortest = unscaled.to_signed_bytes_be();
                let bytes = match size {
                    None => shortest,
                    Some(size) => {
                        let sign = if unscaled < BigInt::ZERO { 0xff } else { 0 };
                        let mut bytes = vec![sign; size.checked_sub(shortest.len())?];
                        bytes.extend(shortest);
                        bytes
                    }
                };
                Some(Coarse::Decimal(bytes))
            }
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "it is what single precision is about")]
fn single(number: f64) -> f64 {
    f64::from(number as f32) + 0.0
}

/// The nearest multiple of a step; the even one of two that are equally near.
pub struct Round {
    form: Form,
    step: Decimal,
}

impl Round {
    /// Compile it for a place.
    pub fn new(step: &str, place: &Place) -> Result<Self, Unfit> {
        let form = Form::of(place)?;
        let step = checked(step, &form, place)?;
        Ok(Self { form, step })
    }

    /// Return the coarser value.
    pub fn apply(&self, value: &Value<'_>) -> Option<Coarse> {
        self.form.write(&self.form.read(value)?.nearest_multiple(&self.step)?)
    }
}

/// The lower bound of the bucket; the first bucket is open below.
pub struct Buckets {
    form: Form,
    bounds: Vec<(Decimal, Coarse)>,
}

impl Buckets {
    /// Compile them for a place.
    pub fn new(bounds: &[String], place: &Place) -> Result<Self, Unfit> {
        let form = Form::of(place)?;
        let compiled = bounds.iter().map(|bound| {
            let bound = checked(bound, &form, place)?;
            let unfit = Unfit("a bound does not fit the type of the field");
            let result = form.write(&bound).ok_or(unfit)?;
            // What the type makes of a bound, not the bound itself, decides: a float holds no 0.7.
            Ok((form.read(&result.value(&Arena::new())).ok_or(unfit)?, result))
        });
        let bounds = compiled.collect::<Result<Vec<_>, Unfit>>()?;
        if bounds.is_empty() || !bounds.is_sorted_by(|left, right| left.0 < right.0) {
            return Err(Unfit("two bounds are the same number in the type of the field"));
        }
        Ok(Self { form, bounds })
    }

    /// Return the coarser value.
    pub fn apply(&self, value: &Value<'_>) -> Option<Coarse> {
        let number = self.form.read(value)?;
        let above = self.bounds.partition_point(|(bound, _)| *bound <= number);
        self.bounds.get(above.saturating_sub(1)).map(|(_, result)| result.clone())
    }
}

/// Read a number of the policy; it has no more digits after the point than the type.
fn checked(text: &str, form: &Form, place: &Place) -> Result<Decimal, Unfit> {
    let number = Decimal::parse(text).ok_or(Unfit("a number of the policy cannot be read"))?;
    match form.places(place) {
        Some(places) if number.integer(places).is_none() => {
            Err(Unfit("the type of the field does not hold the digits after the decimal point"))
        }
        _ => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_has_no_more_digits_than_arithmetic_bears() {
        let place = |precision, scale| Place {
            kind: Kind::Bytes,
            path: String::new(),
            logical: "decimal".into(),
            size: 0,
            precision,
            scale,
        };
        assert!(Round::new("1", &place(512, 512)).is_ok());
        for (precision, scale) in [(513, 0), (u32::MAX, 0), (u32::MAX, u32::MAX), (9, 513)] {
            assert!(Round::new("1", &place(precision, scale)).is_err());
            assert!(Buckets::new(&["1".into()], &place(precision, scale)).is_err());
        }
    }
}
