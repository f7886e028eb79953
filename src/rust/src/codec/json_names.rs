//! The names of a record's properties, found without hashing: mostly the next one is the one that comes next.

/// Names, each with its index.
pub(super) struct Names {
    texts: Box<[Box<str>]>,
    /// Indexes of the texts, in the order of their lengths and then of their bytes.
    sorted: Box<[usize]>,
}

impl Names {
    pub(super) fn new<'s>(names: impl Iterator<Item = &'s str>) -> Self {
        let texts: Box<[Box<str>]> = names.map(Into::into).collect();
        let mut sorted: Vec<usize> = (0..texts.len()).collect();
        sorted.sort_by_key(|&index| order(&texts[index]));
        Self { texts, sorted: sorted.into() }
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Return the name at an index.
    pub(super) fn at(&self, index: usize) -> &str {
        &self.texts[index]
    }

    /// Return the index of a name, which is looked for at `likely` first.
    pub(super) fn find(&self, name: &str, likely: usize) -> Option<usize> {
        if self.texts.get(likely).is_some_and(|text| **text == *name) {
            return Some(likely);
        }
        let found = self.sorted.binary_search_by(|&index| order(&self.texts[index]).cmp(&order(name)));
        found.ok().map(|place| self.sorted[place])
    }
}

/// Lengths differ more often than first letters do, and are compared faster.
fn order(name: &str) -> (usize, &str) {
    (name.len(), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_wherever_they_are_expected() {
        let texts = ["id", "email", "", "é", "ids", "di"];
        let names = Names::new(texts.into_iter());
        for likely in 0..8 {
            for (index, text) in texts.into_iter().enumerate() {
                assert_eq!(names.find(text, likely), Some(index));
            }
            assert_eq!(names.find("emai", likely), None);
        }
        assert_eq!(names.len(), 6);
    }
}
