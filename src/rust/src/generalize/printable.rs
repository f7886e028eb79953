//! Which characters can be printed, as the tables of Python's Unicode have it.

/// Ranges of characters, first and last, in ascending order.
///
/// They come from `str.isprintable` of the Python that runs, since each of its releases has another version of Unicode.
#[derive(Default)]
pub struct Printable(Vec<(u32, u32)>);

impl Printable {
    /// Take ranges in ascending order.
    #[must_use]
    pub fn from_ranges(ranges: &[(u32, u32)]) -> Self {
        Self(ranges.to_vec())
    }

    /// Whether a character can be printed.
    #[must_use]
    pub fn holds(&self, character: char) -> bool {
        let code = u32::from(character);
        let behind = self.0.partition_point(|(first, _)| *first <= code);
        behind.checked_sub(1).and_then(|place| self.0.get(place)).is_some_and(|(_, last)| code <= *last)
    }
}
