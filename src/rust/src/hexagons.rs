//! Centres of H3 cells, wherever rounding makes them certain; elsewhere the H3 library of Python is asked.
//!
//! H3 projects each face of an icosahedron onto the plane that touches it in its centre, and lays a grid of hexagons there
//! whose middle is that centre. A position becomes the centre of its hexagon here by the same geometry, but not by the
//! same floating-point operations, so that last bits may differ, as they do between builds of the library itself. That is
//! of no consequence where a position is farther from the border of its hexagon than both can err, and where the centre,
//! which is rounded to six decimals, is not as near to the middle between two of them. All else is no answer: near the
//! borders of hexagons and faces, near the centres of faces and the poles, where H3 loses digits, and where a hexagon
//! lies on two faces and its centre on the other one.
#![forbid(unsafe_code)]

use std::f64::consts::FRAC_1_SQRT_2;
use std::sync::LazyLock;

/// The finest resolution.
const MAX_RESOLUTION: u8 = 15;
/// Millionths of a degree are what is left of a centre.
const DECIMALS: f64 = 1e6;

/// Distance of neighbouring hexagons of resolution 0 in the plane of a face, from the centre of the sphere: 2 - phi.
const UNIT: f64 = 0.381_966_011_250_105_15;
/// By how much each resolution is finer than the one before.
const SQRT_7: f64 = 2.645_751_311_064_590_7;
/// Odd resolutions are turned by asin(sqrt(3/28)); this is the sine of it, and this the cosine.
const TURN: (f64, f64) = (0.327_326_835_353_988_6, 0.944_911_182_523_068);
const SQRT_3: f64 = 1.732_050_807_568_877_2;

/// In radians, and a hundred times as far as the two can be apart: six tenths of a millimetre on Earth.
const MARGIN: f64 = 1e-10;
/// In millionths of a degree, and ten times as far as the two can be apart within [`MAX_LATITUDE`].
const ROUNDING_MARGIN: f64 = 1e-4;
/// In units of the grid of a face. H3 may take the distance from the centre out of its cosine.
const MIN_FROM_FACE_CENTRE: f64 = 1e-2;
/// In degrees. H3 takes the latitude out of its sine.
const MAX_LATITUDE: f64 = 85.0;
/// In degrees: on the other side is the same meridian with another sign.
const MAX_LONGITUDE: f64 = 179.999;

type Vector = [f64; 3];

/// Six corners of the icosahedron, without those opposite: the centres of H3's pentagons.
const CORNERS: [Vector; 6] = [
    [0.420_152_426_708_710_17, 0.078_145_249_402_783, 0.904_082_550_615_019_2],
    [-0.515_455_959_944_042, -0.381_716_898_287_132_9, 0.767_200_992_517_747_4],
    [-0.414_682_225_320_335_3, 0.655_962_405_434_800_4, 0.630_675_807_891_475_5],
    [0.355_781_402_532_944_27, -0.843_580_002_466_178_5, 0.402_234_226_602_925_46],
    [0.518_836_730_327_364_8, 0.835_420_380_378_235_7, 0.181_331_837_557_262_43],
    [0.995_009_439_436_241_5, -0.091_347_795_276_427_97, 0.040_147_175_877_166_75],
];

/// A face of the icosahedron: its centre, and the axes of its plane, the first of which points to a corner.
struct Face {
    centre: Vector,
    axes: [Vector; 2],
}

static FACES: LazyLock<Vec<Face>> = LazyLock::new(faces);

/// The width of a grid in units of the first one, for each resolution.
static SCALES: LazyLock<[f64; MAX_RESOLUTION as usize + 1]> =
    LazyLock::new(|| std::array::from_fn(|resolution| (0..resolution).fold(1.0, |scale, _| scale * SQRT_7)));

/// Return latitude and longitude of the centre of the cell in which a position is, in degrees with six decimals.
///
/// None says nothing but that H3 must be asked. The position lies within 90 and 180 degrees.
#[must_use]
pub fn centre(resolution: u8, latitude: f64, longitude: f64) -> Option<(f64, f64)> {
    let scale = *SCALES.get(usize::from(resolution))?;
    let turned = !resolution.is_multiple_of(2);
    let position = vector(latitude.to_radians(), longitude.to_radians());
    let face = nearest(&position)?;
    let depth = dot(&position, &face.centre);
    let [x, y] = [0, 1].map(|axis| dot(&position, &face.axes[axis]) / depth / UNIT);
    if x.hypot(y) < MIN_FROM_FACE_CENTRE || !is_inside([x, y]) {
        return None;
    }
    let hexagon = turn([x * scale, y * scale], if turned { -TURN.0 } else { 0.0 });
    let middle = middle(hexagon, MARGIN / UNIT * scale)?;
    let [x, y] = turn(middle, if turned { TURN.0 } else { 0.0 }).map(|place| place / scale);
    if !is_inside([x, y]) {
        return None;
    }
    let [x, y] = [x * UNIT, y * UNIT];
    let place = |axis: usize| face.centre[axis] + x * face.axes[0][axis] + y * face.axes[1][axis];
    let [east, north, up] = [place(0), place(1), place(2)];
    let latitude = rounded(up.atan2(east.hypot(north)).to_degrees(), MAX_LATITUDE)?;
    let longitude = rounded(north.atan2(east).to_degrees(), MAX_LONGITUDE)?;
    Some((latitude, longitude))
}

/// Return the face whose centre is the nearest.
fn nearest(position: &Vector) -> Option<&'static Face> {
    let faces = FACES.iter().map(|face| (dot(position, &face.centre), face));
    faces.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, face)| face)
}

/// Whether a place in the plane of a face is surely nearer to the centre of this face than to that of any other.
fn is_inside([x, y]: [f64; 2]) -> bool {
    // The three edges are one unit away; the first axis points to a corner, so one edge lies across its other end.
    let (half, high) = (x / 2.0, y * SQRT_3 / 2.0);
    (half + high).max(half - high).max(-x) < 1.0 - MARGIN / UNIT
}

/// Turn a place by the angle of odd resolutions, whose sine is given: forward, backward or not at all.
fn turn([x, y]: [f64; 2], sine: f64) -> [f64; 2] {
    let cosine = if sine == 0.0 { 1.0 } else { TURN.1 };
    [x * cosine - y * sine, x * sine + y * cosine]
}

/// Return the middle of the hexagon in which a place lies, unless it lies within the margin of its border.
///
/// The middles are the sums of whole multiples of (1, 0) and (1/2, sqrt(3)/2).
fn middle([x, y]: [f64; 2], margin: f64) -> Option<[f64; 2]> {
    let second = y / (SQRT_3 / 2.0);
    let first = x - second / 2.0;
    let third = -first - second;
    let [mut one, mut two, three] = [first, second, third].map(f64::round);
    let [off_one, off_two, off_three] = [(one - first).abs(), (two - second).abs(), (three - third).abs()];
    if off_one > off_two && off_one > off_three {
        one = -two - three;
    } else if off_two > off_three {
        two = -one - three;
    }
    let middle = [one + two / 2.0, two * (SQRT_3 / 2.0)];
    let (half, high) = ((x - middle[0]) / 2.0, (y - middle[1]) * (SQRT_3 / 2.0));
    let farthest = (2.0 * half).abs().max((half + high).abs()).max((half - high).abs());
    (farthest < 0.5 - margin).then_some(middle)
}

/// Return degrees with six decimals, without a negative zero, unless they lie near the middle of two such.
#[allow(clippy::cast_possible_truncation, reason = "at most 180 million")]
#[allow(clippy::cast_precision_loss, reason = "at most 180 million")]
fn rounded(degrees: f64, limit: f64) -> Option<f64> {
    let millionths = degrees * DECIMALS;
    let whole = millionths.round();
    let is_certain = (millionths - whole).abs() < 0.5 - ROUNDING_MARGIN && degrees.abs() < limit;
    // The quotient of two integers is the double that is nearest to these decimals, which is what Python rounds to.
    is_certain.then_some(whole as i64 as f64 / DECIMALS)
}

fn vector(latitude: f64, longitude: f64) -> Vector {
    let ((up, level), (north, east)) = (latitude.sin_cos(), longitude.sin_cos());
    [level * east, level * north, up]
}

fn dot(one: &Vector, other: &Vector) -> f64 {
    one[0] * other[0] + one[1] * other[1] + one[2] * other[2]
}

fn cross(one: &Vector, other: &Vector) -> Vector {
    [
        one[1] * other[2] - one[2] * other[1],
        one[2] * other[0] - one[0] * other[2],
        one[0] * other[1] - one[1] * other[0],
    ]
}

fn unit(vector: Vector) -> Vector {
    let length = dot(&vector, &vector).sqrt();
    vector.map(|part| part / length)
}

/// Return the faces: three corners that are each other's neighbours.
fn faces() -> Vec<Face> {
    let corners: Vec<Vector> = CORNERS.iter().flat_map(|corner| [*corner, corner.map(|part| -part)]).collect();
    // Neighbours are 63 degrees apart, and all others more than a right angle.
    let are_neighbours = |one: &Vector, other: &Vector| (0.1..FRAC_1_SQRT_2).contains(&dot(one, other));
    let mut faces = Vec::new();
    for (index, first) in corners.iter().enumerate() {
        let later = corners.get(index + 1..).unwrap_or_default();
        let beside: Vec<&Vector> = later.iter().filter(|corner| are_neighbours(first, corner)).collect();
        for (index, second) in beside.iter().enumerate() {
            for third in beside.iter().skip(index + 1).filter(|third| are_neighbours(second, third)) {
                let centre = unit([0, 1, 2].map(|part| first[part] + second[part] + third[part]));
                let along = dot(first, &centre);
                let axis = unit([0, 1, 2].map(|part| first[part] - along * centre[part]));
                faces.push(Face { axes: [axis, cross(&centre, &axis)], centre });
            }
        }
    }
    faces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_icosahedron_is_regular() {
        assert_eq!(FACES.len(), 20);
        for face in FACES.iter() {
            let beside: Vec<f64> = CORNERS.iter().map(|corner| dot(corner, &face.centre).abs()).collect();
            let near = beside.iter().filter(|cosine| (**cosine - 0.794_654_472_291_766_1).abs() < 2e-15).count();
            assert_eq!(near, 3);
            let [first, second] = &face.axes;
            assert!(
                [dot(first, second), dot(first, &face.centre), dot(second, &face.centre)]
                    .iter()
                    .all(|dot| dot.abs() < 1e-15)
            );
        }
    }

    #[test]
    fn centres_are_those_of_h3() {
        // Computed with version 4.5.0 of the library.
        for (resolution, [latitude, longitude, to_latitude, to_longitude]) in SAMPLES {
            assert_eq!(centre(resolution, latitude, longitude), Some((to_latitude, to_longitude)));
        }
    }

    const SAMPLES: [(u8, [f64; 4]); 7] = [
        (0, [14.22932, 87.04332, 9.897_578, 96.150_734]),
        (3, [36.18449, 159.2821, 36.587_903, 159.088_922]),
        (6, [28.67215, 152.037, 28.687_416, 152.054_312]),
        (7, [-70.3884, -12.37584, -70.385_758, -12.337_036]),
        (9, [62.46312, 53.63084, 62.463_96, 53.633_108]),
        (12, [53.30243, -139.24585, 53.302_375, -139.24585]),
        (15, [-3.54669, -91.23378, -3.546_694, -91.233_778]),
    ];

    #[test]
    fn what_is_not_certain_is_not_told() {
        for (latitude, longitude) in [(90.0, 0.0), (-89.0, 10.0), (85.1, 20.0)] {
            assert_eq!(centre(6, latitude, longitude), None);
        }
        assert_eq!(centre(16, 1.0, 1.0), None);
        let corner = CORNERS[0];
        assert_eq!(centre(9, corner[2].asin().to_degrees(), corner[1].atan2(corner[0]).to_degrees()), None);
    }
}
