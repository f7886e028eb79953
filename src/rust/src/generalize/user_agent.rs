//! User-Agent headers as the family of the browser; see `tokenweir.core.generalize.user_agent`, which has the rules.

/// The rules in their order: a family, and the texts that must all occur, in lower case.
pub struct Families {
    rules: Vec<(String, Vec<String>)>,
    default: String,
}

impl Families {
    /// Take the rules, and the family of what none of them knows.
    pub fn new(rules: &[(String, Vec<String>)], default: &str) -> Self {
        Self { rules: rules.to_vec(), default: default.to_owned() }
    }

    /// Return the family of a header.
    pub fn of(&self, header: &str) -> &str {
        let lowered = header.to_ascii_lowercase();
        let rule = self.rules.iter().find(|(_, marks)| marks.iter().all(|mark| lowered.contains(mark)));
        rule.map_or(&self.default, |(family, _)| family)
    }
}
