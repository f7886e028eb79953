//! The language of `pattern`: a strict, fixed-length part of regular expressions, read without backtracking.
//!
//! ```text
//! layout     = ( group | item )+
//! group      = "(" item+ ")"
//! item       = character [ "{" n "}" ]
//! character  = literal | "\d" | "\" punctuation | "[" ( range | "\d" | literal )+ "]"
//! ```
//!
//! Policies are checked, with reasons, before they become plans; so here a pattern is read or it is not.
#![forbid(unsafe_code)]

/// Longest layout, after repetition.
const MAXIMUM_POSITIONS: usize = 256;

const SPECIAL: &[u8] = b"\\()[]{}.*+?|^$";

/// One character of a layout.
#[derive(Clone)]
pub(super) struct Position {
    /// The characters that may stand here, by code point and each once.
    pub(super) characters: Vec<u8>,
    /// Whether it stands in a group.
    pub(super) tokenized: bool,
}

/// Read a pattern; None if it does not follow the language, has no group, or is too long.
pub(super) fn parse(pattern: &str) -> Option<Vec<Position>> {
    let mut parser = Parser { rest: pattern.as_bytes() };
    let mut positions = Vec::new();
    let (mut in_group, mut group_is_empty) = (false, false);
    while let Some(byte) = parser.peek() {
        match byte {
            b'(' if !in_group => {
                parser.advance();
                (in_group, group_is_empty) = (true, true);
            }
            b')' if in_group && !group_is_empty => {
                parser.advance();
                in_group = false;
            }
            b'(' | b')' => return None,
            _ => {
                let position = Position { characters: parser.character()?, tokenized: in_group };
                let count = parser.repetition()?;
                if positions.len() + count > MAXIMUM_POSITIONS {
                    return None;
                }
                positions.extend(std::iter::repeat_n(position, count));
                group_is_empty = false;
            }
        }
    }
    let has_group = positions.iter().any(|position| position.tokenized);
    (has_group && !in_group).then_some(positions)
}

/// Reads a pattern from left to right, one character of look-ahead.
struct Parser<'p> {
    rest: &'p [u8],
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn advance(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    /// Read what may stand at one position.
    fn character(&mut self) -> Option<Vec<u8>> {
        match self.peek()? {
            b'[' => self.class(),
            b'\\' => self.escape(),
            _ => self.literal(SPECIAL).map(|byte| vec![byte]),
        }
    }

    /// Read `[...]` and return its characters.
    fn class(&mut self) -> Option<Vec<u8>> {
        self.advance();
        let mut members = [false; 128];
        let mut add =
            |low: u8, high: u8| members.iter_mut().take(high as usize + 1).skip(low as usize).for_each(|is| *is = true);
        let mut is_first = true;
        loop {
            let low = match self.peek()? {
                b']' => break,
                // A class cannot be negated.
                b'^' if is_first => return None,
                b'\\' => {
                    let escaped = self.escape()?;
                    let [low] = escaped[..] else {
                        add(b'0', b'9');
                        is_first = false;
                        continue;
                    };
                    low
                }
                _ => self.literal(b"\\[]")?,
            };
            is_first = false;
            add(low, low);
            if self.peek() == Some(b'-') && self.rest.get(1) != Some(&b']') {
                self.advance();
                let high = match self.peek()? {
                    b'\\' => match self.escape()?.as_slice() {
                        [high] => *high,
                        _ => return None,
                    },
                    _ => self.literal(b"\\[]")?,
                };
                if high < low {
                    return None;
                }
                add(low, high);
            }
        }
        self.advance();
        let characters: Vec<u8> = (0..128).filter(|byte| members[usize::from(*byte)]).collect();
        (!characters.is_empty()).then_some(characters)
    }

    /// Read `\d` or an escaped punctuation character.
    fn escape(&mut self) -> Option<Vec<u8>> {
        self.advance();
        match self.peek()? {
            b'd' => {
                self.advance();
                Some((b'0'..=b'9').collect())
            }
            byte if byte.is_ascii_alphanumeric() => None,
            _ => self.literal(b"").map(|byte| vec![byte]),
        }
    }

    /// Read one character that stands for itself.
    fn literal(&mut self, special: &[u8]) -> Option<u8> {
        let byte = self.peek().filter(|byte| (b' '..=b'~').contains(byte) && !special.contains(byte))?;
        self.advance();
        Some(byte)
    }

    /// Read `{n}` if it stands here.
    fn repetition(&mut self) -> Option<usize> {
        if self.peek() != Some(b'{') {
            return Some(1);
        }
        let end = self.rest.iter().position(|byte| *byte == b'}')?;
        let digits = self.rest.get(1..end)?;
        if !(1..=3).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let count = digits.iter().fold(0, |count, digit| count * 10 + usize::from(digit & 15));
        self.rest = self.rest.get(end + 1..)?;
        (1..=MAXIMUM_POSITIONS).contains(&count).then_some(count)
    }
}
