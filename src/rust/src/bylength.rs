//! Values sorted by their length, since those of one length go through FF1 together.
#![forbid(unsafe_code)]

use std::collections::HashMap;

/// Indexes of values by length; lengths stand in the order in which they first came.
#[derive(Default)]
pub(crate) struct ByLength {
    groups: Vec<(usize, Vec<usize>)>,
    group_of: HashMap<usize, usize>,
    last: Option<(usize, usize)>,
}

impl ByLength {
    /// Add a value.
    pub(crate) fn add(&mut self, index: usize, length: usize) {
        // Neighbours mostly have one length, which then costs no look-up.
        let group = match self.last {
            Some((known, group)) if known == length => group,
            _ => *self.group_of.entry(length).or_insert_with(|| {
                self.groups.push((length, Vec::new()));
                self.groups.len() - 1
            }),
        };
        self.last = Some((length, group));
        self.groups[group].1.push(index);
    }

    /// Return each length with its indexes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &[usize])> {
        self.groups.iter().map(|(length, indexes)| (*length, indexes.as_slice()))
    }
}
