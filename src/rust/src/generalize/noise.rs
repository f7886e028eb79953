//! Positions with planar Laplace noise that repeats; see `tokenweir.core.generalize.noise` for what is done and why.
//!
//! Angles and factors are multiples of 2^-60, distances of 2^-20 m, coordinates of 10^-7 degrees.

use crate::prf::{Person, Prf};

/// Mean distances that the arithmetic has room for.
pub const METRES: std::ops::RangeInclusive<u32> = 10..=50_000;

const MAX_LATITUDE: f64 = 85.0;
const MAX_LONGITUDE: f64 = 180.0;

const PER_DEGREE: f64 = 1e7;
const QUARTER: i64 = 900_000_000;
const HALF_TURN: i64 = 1_800_000_000;
/// Of what is published.
pub const DECIMALS: usize = 5;
const STEP: i64 = 100;
const STEPS_PER_DEGREE: f64 = 1e5;

const BITS: u32 = 60;
const ONE: u128 = 1 << BITS;
/// ln 2 and π/2, times 2^60.
const LN_2: u128 = 799_144_290_325_165_979;
const HALF_PI: u128 = 1_811_004_864_519_280_711;
/// 10^-7 degrees in a metre of a great circle, times 2^40.
const PER_METRE: u128 = 98_881_319_701_087;
const PER_METRE_BITS: u32 = 40;
const DISTANCE_BITS: u32 = 20;

const LOG_BITS: u32 = 32;
const MANTISSA_BITS: u32 = 62;
const PRODUCT_BITS: u128 = 122;

/// Return the point that stands for a position of somebody, or none where the position is none of this grid.
///
/// `metres` is one of [`METRES`], so that no product below passes 128 bits.
#[must_use]
pub fn point(latitude: f64, longitude: f64, metres: u32, prf: &Prf, person: Person<'_>) -> Option<(f64, f64)> {
    let latitude = coordinate(latitude, MAX_LATITUDE)?;
    let longitude = coordinate(longitude, MAX_LONGITUDE)?;
    let place = Place::of(latitude, longitude, metres)?;
    let digest = prf.of(&[person.kind, person.id, &place.row.to_string(), &place.column.to_string()]);
    let (north, east) = place.point_near(&Offset::of(&digest, metres))?;
    Some((degrees(north), degrees(east)))
}

/// Return a coordinate that is surely in its range, in 10^-7 degrees.
fn coordinate(degrees: f64, limit: f64) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation, reason = "the range was checked")]
    (-limit..=limit).contains(&degrees).then(|| (degrees * PER_DEGREE).round_ties_even() as i64)
}

#[allow(clippy::cast_precision_loss, reason = "there are fewer steps than a double can tell apart")]
fn degrees(steps: i64) -> f64 {
    steps as f64 / STEPS_PER_DEGREE
}

/// A square of the grid, and its centre.
struct Place {
    row: i64,
    column: i64,
    latitude: i64,
    longitude: i64,
    cosine: u128,
}

impl Place {
    fn of(latitude: i64, longitude: i64, metres: u32) -> Option<Self> {
        let side = u128::from(metres) * PER_METRE;
        let height = i64::try_from(side >> PER_METRE_BITS).ok().filter(|height| *height > 0)?;
        let row = latitude.div_euclid(height);
        let centre = row * height + height / 2;
        let cosine = cosine_of(u128::from(centre.unsigned_abs()) * HALF_PI / u128::from(QUARTER.unsigned_abs()));
        let width = (side << (BITS - PER_METRE_BITS)).checked_div(cosine)?;
        let width = i64::try_from(width).ok().filter(|width| *width > 0)?;
        let column = wrapped(longitude, HALF_TURN).div_euclid(width);
        Some(Self { row, column, latitude: centre, longitude: column * width + width / 2, cosine })
    }

    /// Return latitude and longitude in steps of what is published.
    fn point_near(&self, offset: &Offset) -> Option<(i64, i64)> {
        let north = i64::try_from((offset.north * PER_METRE) >> (DISTANCE_BITS + PER_METRE_BITS)).ok()?;
        let east = i64::try_from((offset.east * PER_METRE).checked_div(self.cosine)?).ok()?;
        let latitude = snapped(self.latitude + if offset.is_south { -north } else { north });
        let longitude = snapped(self.longitude + if offset.is_west { -east } else { east });
        let limit = QUARTER / STEP;
        Some((latitude.clamp(-limit, limit), wrapped(longitude, HALF_TURN / STEP)))
    }
}

/// How far, and where to.
struct Offset {
    north: u128,
    east: u128,
    is_south: bool,
    is_west: bool,
}

impl Offset {
    fn of(digest: &[u8; 32], metres: u32) -> Self {
        let mut words =
            digest.chunks_exact(8).map(|word| word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        let [first, second, third] = std::array::from_fn(|_| words.next().unwrap_or_default());
        let product = u128::from((first >> 4) * 2 + 1) * u128::from((second >> 4) * 2 + 1);
        let bits = (PRODUCT_BITS << LOG_BITS) - log2_of(product);
        let distance = (bits * LN_2 * u128::from(metres)) >> (LOG_BITS + BITS + 1 - DISTANCE_BITS);
        let angle = (u128::from(third & ((1 << MANTISSA_BITS) - 1)) * HALF_PI) >> MANTISSA_BITS;
        Self {
            north: (distance * cosine_of(angle)) >> BITS,
            east: (distance * cosine_of(HALF_PI - angle)) >> BITS,
            is_south: third >> 63 != 0,
            is_west: (third >> 62) & 1 != 0,
        }
    }
}

/// Return the binary logarithm of a positive number below 2^122, times 2^32.
fn log2_of(number: u128) -> u128 {
    let whole = number.ilog2();
    let mut mantissa =
        if whole > MANTISSA_BITS { number >> (whole - MANTISSA_BITS) } else { number << (MANTISSA_BITS - whole) };
    let mut fraction = 0;
    for _ in 0..LOG_BITS {
        mantissa = (mantissa * mantissa) >> MANTISSA_BITS;
        let beyond = mantissa >> (MANTISSA_BITS + 1);
        mantissa >>= beyond;
        fraction = fraction << 1 | beyond;
    }
    u128::from(whole) << LOG_BITS | fraction
}

/// Return the cosine of an angle between 0 and π/2.
fn cosine_of(angle: u128) -> u128 {
    let square = (angle * angle) >> BITS;
    let inside = (1..=10_u128).rev().map(|half| 2 * half * (2 * half - 1));
    inside.fold(ONE, |cosine, divisor| ONE.saturating_sub(((cosine * square) >> BITS) / divisor))
}

/// Return a coordinate as the nearest number of steps.
const fn snapped(coordinate: i64) -> i64 {
    (coordinate + STEP / 2).div_euclid(STEP)
}

/// Return the same longitude from -180 degrees, included, to 180 degrees, excluded.
const fn wrapped(longitude: i64, half_turn: i64) -> i64 {
    (longitude + half_turn).rem_euclid(2 * half_turn) - half_turn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_noise_stays_within_its_integers() {
        let mut far = [0; 32];
        for (sign, third) in [(0_u8, 0_u8), (1, 0x3f), (2, 0x80), (3, 0xff)] {
            far[16..24].fill(third);
            far[16] = (far[16] & 0x3f) | sign << 6;
            for latitude in [-85.0, -0.0, 84.999_999_9, 85.0] {
                for metres in [10, 50_000] {
                    let place = Place::of(coordinate(latitude, 85.0).unwrap(), HALF_TURN, metres).unwrap();
                    let (north, east) = place.point_near(&Offset::of(&far, metres)).unwrap();
                    assert!((-9_000_000..=9_000_000).contains(&north) && (-18_000_000..18_000_000).contains(&east));
                }
            }
        }
    }

    #[test]
    fn what_is_no_position_of_the_grid_has_no_point() {
        let prf = Prf::new(&[7; 32]).unwrap();
        let person = Person { kind: "customer", id: "1" };
        for (latitude, longitude) in [(85.1, 0.0), (0.0, -180.1), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
            assert!(point(latitude, longitude, 500, &prf, person).is_none());
        }
        assert!(point(0.0, 0.0, 0, &prf, person).is_none());
        assert!(point(85.0, 180.0, 500, &prf, person).is_some());
    }
}
