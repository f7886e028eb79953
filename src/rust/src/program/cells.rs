//! Coordinates of a record as another point, such as the centre of their cell: both at once; see `tokenweir.core.cells`.

use std::collections::HashMap;

use ahash::RandomState;
use bumpalo::collections::Vec as ArenaVec;

use crate::codec::Arena;
use crate::generalize::noise;
use crate::hexagons;
use crate::plan::{Action, Coarser, FieldOut, Out, Rules};
use crate::prf::Keyed;
use crate::value::Value;

/// A position, as the bits of its degrees, and the resolution of its cell.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cell {
    resolution: u8,
    latitude: u64,
    longitude: u64,
}

impl Cell {
    /// Return resolution, latitude and longitude.
    #[must_use]
    pub const fn position(self) -> (u8, f64, f64) {
        (self.resolution, f64::from_bits(self.latitude), f64::from_bits(self.longitude))
    }

    /// Return the rounded centre where H3 need not be asked.
    pub(super) fn certain_centre(self) -> Option<(f64, f64)> {
        let (resolution, latitude, longitude) = self.position();
        hexagons::centre(resolution, latitude, longitude)
    }
}

/// The centres of cells, rounded, as far as they are known; positions may be such that have none.
pub type Centres = HashMap<Cell, Option<(f64, f64)>, RandomState>;

/// Decimals of a cell's centre.
const CENTRE_DECIMALS: usize = 6;

/// Which point coordinates become.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The centre of their cell at this resolution.
    Cell(u8),
    /// One near the place that they are in.
    Noise { metres: u32, prf: usize },
}

/// Replaces the coordinates of a record by those of another point.
pub(super) struct Replacement {
    way: Way,
    latitude: usize,
    longitude: usize,
    /// Which of the two become part of the point.
    indexes: Vec<usize>,
}

impl Replacement {
    /// Whether Python is asked for the point.
    pub(super) const fn asks(&self) -> bool {
        matches!(self.way, Way::Cell(_))
    }
}

/// What stands in place of a coordinate.
#[derive(Clone, Copy)]
pub(super) enum Snapped {
    /// It cannot become a cell.
    NoCell,
    /// It is this, as a JSON number of so many decimals where there is a number of them.
    Degrees { degrees: f64, decimals: Option<usize> },
}

impl Snapped {
    /// Return the value that leaves, if there is one.
    pub(super) fn value(self, arena: &Arena) -> Option<Value<'_>> {
        match self {
            Self::NoCell => None,
            Self::Degrees { degrees, decimals: None } => Some(Value::Real(degrees)),
            Self::Degrees { degrees, decimals: Some(decimals) } => {
                Some(Value::Number(arena.alloc_str(&format!("{degrees:.decimals$}"))))
            }
        }
    }
}

/// Coordinates by the index of their field.
pub(super) type Replaced<'v> = &'v [(usize, Snapped)];

/// Return what replaces the coordinates of a record, for the actions of one case.
pub(super) fn replacements<'o>(
    fields: &'o [FieldOut],
    action_of: impl Fn(&'o Rules) -> Option<&'o Action>,
) -> Vec<Replacement> {
    let mut found: Vec<Replacement> = Vec::new();
    for field in fields {
        for out in scalars(&field.value) {
            let Out::Leaf { rules, pair: Some((latitude, longitude)), .. } = out else { continue };
            let way = match action_of(rules) {
                Some(Action::Generalize(Coarser::Cell(resolution))) => Way::Cell(*resolution),
                Some(Action::Generalize(Coarser::Noise { metres, prf })) => Way::Noise { metres: *metres, prf: *prf },
                _ => continue,
            };
            let same =
                |known: &&mut Replacement| (known.latitude, known.longitude, known.way) == (*latitude, *longitude, way);
            match found.iter_mut().find(same) {
                Some(known) if known.indexes.contains(&field.index) => {}
                Some(known) => known.indexes.push(field.index),
                None => found.push(Replacement {
                    way,
                    latitude: *latitude,
                    longitude: *longitude,
                    indexes: vec![field.index],
                }),
            }
        }
    }
    found
}

/// Return the leaf of a field, through a union, but not those inside other containers.
fn scalars(out: &Out) -> Vec<&Out> {
    match out {
        Out::Leaf { .. } => vec![out],
        Out::Union { branches, .. } => branches.iter().flatten().flat_map(scalars).collect(),
        _ => Vec::new(),
    }
}

/// Return the coordinates of a record that are replaced, or the cell whose centre must be known first.
///
/// A replacement sees what those before it have replaced.
pub(super) fn replaced<'v>(
    replacements: &[Replacement],
    record: &[Value<'_>],
    centres: &Centres,
    keyed: Keyed<'_>,
    arena: &'v Arena,
) -> Result<Replaced<'v>, Cell> {
    let mut replaced: ArenaVec<'v, (usize, Snapped)> = ArenaVec::new_in(arena);
    for replacement in replacements {
        let latitude = coordinate(replacement.latitude, record, &replaced);
        let longitude = coordinate(replacement.longitude, record, &replaced);
        let (point, decimals) = match replacement.way {
            Way::Cell(resolution) => match cell(resolution, latitude, longitude) {
                Some(cell) => (*centres.get(&cell).ok_or(cell)?, CENTRE_DECIMALS),
                None => (None, CENTRE_DECIMALS),
            },
            Way::Noise { metres, prf } => (near(metres, prf, latitude, longitude, keyed), noise::DECIMALS),
        };
        for index in &replacement.indexes {
            let is_latitude = *index == replacement.latitude;
            let present = if is_latitude { latitude } else { longitude };
            let Some(present) = present else { continue };
            let decimals = present.json.then_some(decimals);
            let snapped = point.map_or(Snapped::NoCell, |(latitude, longitude)| Snapped::Degrees {
                degrees: if is_latitude { latitude } else { longitude },
                decimals,
            });
            replaced.retain(|(known, _)| known != index);
            replaced.push((*index, snapped));
        }
    }
    Ok(replaced.into_bump_slice())
}

/// A coordinate that is there; it has no degrees where it is no number.
#[derive(Clone, Copy)]
struct Coordinate {
    degrees: Option<f64>,
    json: bool,
}

fn coordinate(index: usize, record: &[Value<'_>], replaced: &[(usize, Snapped)]) -> Option<Coordinate> {
    let bare = match record.get(index)? {
        Value::Branch(_, inner) => inner,
        other => other,
    };
    if matches!(bare, Value::Null | Value::Absent) {
        return None;
    }
    let json = matches!(bare, Value::Number(_));
    let snapped = replaced.iter().find(|(known, _)| *known == index).map(|(_, snapped)| *snapped);
    #[allow(clippy::cast_precision_loss, reason = "the nearest double is what Python makes of an integer, too")]
    let degrees = match (snapped, bare) {
        (Some(Snapped::Degrees { degrees, .. }), _) => Some(degrees),
        (None, Value::Real(degrees)) => Some(*degrees),
        (None, Value::Integer(degrees)) => Some(*degrees as f64),
        (None, Value::Number(text)) => text.parse().ok(),
        _ => None,
    };
    Some(Coordinate { degrees, json })
}

/// Return a point near a position of somebody, or none where there is no position.
fn near(
    metres: u32,
    prf: usize,
    latitude: Option<Coordinate>,
    longitude: Option<Coordinate>,
    keyed: Keyed<'_>,
) -> Option<(f64, f64)> {
    let (prf, person) = keyed.pair(prf)?;
    noise::point(latitude?.degrees?, longitude?.degrees?, metres, prf, person)
}

/// Return the cell of a position, or none where there is no position on Earth.
fn cell(resolution: u8, latitude: Option<Coordinate>, longitude: Option<Coordinate>) -> Option<Cell> {
    let latitude = latitude?.degrees.filter(|degrees| (-90.0..=90.0).contains(degrees))?;
    let longitude = longitude?.degrees.filter(|degrees| (-180.0..=180.0).contains(degrees))?;
    Some(Cell { resolution, latitude: latitude.to_bits(), longitude: longitude.to_bits() })
}
