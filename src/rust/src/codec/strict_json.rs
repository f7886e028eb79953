//! JSON as RFC 8259 defines it and nothing more, as a flat list of tokens: what parsers disagree about is an error.
//!
//! The grammar and the order in which faults are met are those of `tokenweir.core.strictjson`, that is of the C scanner
//! of `CPython` with hooks for numbers, constants and objects.

use std::str;

use crate::codec::json_text::plain_length;
use crate::codec::{Arena, Reason, json_numbers, json_size};
use crate::schema::Limits;

/// An object of more entries than this has its keys sorted to find two that are equal.
const FEW_KEYS: usize = 12;

/// One value, or a key of an object, which stands before its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Null,
    Boolean(bool),
    Number(&'a str),
    /// A text that stands in the document as it is.
    Text(&'a str),
    /// A text that was written with escapes, as a range of the document's unescaped texts.
    Unescaped {
        start: usize,
        end: usize,
    },
    /// So many elements up to the token `end`.
    Array {
        count: usize,
        end: usize,
    },
    /// So many keys and values up to the token `end`.
    Object {
        count: usize,
        end: usize,
    },
}

/// A parsed document. The first token is the whole.
#[derive(Debug)]
pub(super) struct Document<'a> {
    pub(super) tokens: Vec<Token<'a>>,
    unescaped: &'a str,
}

impl<'a> Document<'a> {
    /// Return the place of the token behind a value or key.
    pub(super) fn behind(&self, at: usize) -> usize {
        match self.tokens[at] {
            Token::Array { end, .. } | Token::Object { end, .. } => end,
            _ => at + 1,
        }
    }

    /// Return the text at a place.
    pub(super) fn text(&self, at: usize) -> &'a str {
        match self.tokens[at] {
            Token::Text(text) => text,
            Token::Unescaped { start, end } => &self.unescaped[start..end],
            _ => "",
        }
    }
}

/// Return the one JSON value that the bytes are.
pub(super) fn parse<'a>(data: &'a [u8], limits: &Limits, arena: &'a Arena) -> Result<Document<'a>, Reason> {
    json_size::check(data, limits)?;
    let text = str::from_utf8(data).map_err(|_| Reason::InvalidUtf8)?;
    let mut scanner = Scanner {
        text,
        position: 0,
        longest: limits.number_characters,
        tokens: Vec::with_capacity(32),
        unescaped: Vec::new(),
        lone_surrogate: false,
        keys: Vec::new(),
    };
    scanner.skip_space();
    scanner.value()?;
    scanner.skip_space();
    if scanner.position != data.len() {
        return Err(Reason::TrailingBytes);
    }
    if scanner.lone_surrogate {
        return Err(Reason::InvalidUtf8);
    }
    let texts = str::from_utf8(&scanner.unescaped).map_err(|_| Reason::InvalidUtf8)?;
    let unescaped = arena.alloc_str(texts);
    Ok(Document { tokens: scanner.tokens, unescaped })
}

struct Scanner<'a> {
    text: &'a str,
    /// Always the beginning of a character.
    position: usize,
    /// Most characters of a number.
    longest: usize,
    tokens: Vec<Token<'a>>,
    /// Texts without their escapes, in UTF-8 where a lone surrogate has the three bytes that it would have.
    unescaped: Vec<u8>,
    lone_surrogate: bool,
    /// Where the keys of the objects that are open stand among the tokens.
    keys: Vec<usize>,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.position..]
    }

    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.next() {
            self.position += 1;
        }
    }

    /// Scan the value that begins here.
    fn value(&mut self) -> Result<(), Reason> {
        let rest = self.rest();
        match rest.first() {
            Some(b'"') => self.string(),
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'n') if rest.starts_with(b"null") => self.constant(Token::Null, 4),
            Some(b't') if rest.starts_with(b"true") => self.constant(Token::Boolean(true), 4),
            Some(b'f') if rest.starts_with(b"false") => self.constant(Token::Boolean(false), 5),
            Some(b'N') if rest.starts_with(b"NaN") => Err(Reason::NonFinite),
            Some(b'I') if rest.starts_with(b"Infinity") => Err(Reason::NonFinite),
            Some(b'-') if rest.starts_with(b"-Infinity") => Err(Reason::NonFinite),
            _ => self.number(),
        }
    }

    #[allow(clippy::unnecessary_wraps, reason = "a constant is scanned as any other value")]
    fn constant(&mut self, token: Token<'a>, length: usize) -> Result<(), Reason> {
        self.tokens.push(token);
        self.position += length;
        Ok(())
    }

    fn number(&mut self) -> Result<(), Reason> {
        let length = json_numbers::length(self.rest()).ok_or(Reason::Malformed)?;
        let number = &self.text[self.position..self.position + length];
        if length > self.longest {
            return Err(Reason::TooLarge);
        }
        if !json_numbers::is_finite(number) {
            return Err(Reason::NonFinite);
        }
        self.constant(Token::Number(number), length)
    }

    fn array(&mut self) -> Result<(), Reason> {
        self.position += 1;
        let place = self.tokens.len();
        self.tokens.push(Token::Array { count: 0, end: 0 });
        let mut count = 0;
        self.skip_space();
        if self.next() != Some(b']') {
            loop {
                self.value()?;
                count += 1;
                if !self.goes_on(b']')? {
                    break;
                }
            }
        }
        self.position += 1;
        self.tokens[place] = Token::Array { count, end: self.tokens.len() };
        Ok(())
    }

    fn object(&mut self) -> Result<(), Reason> {
        self.position += 1;
        let place = self.tokens.len();
        self.tokens.push(Token::Object { count: 0, end: 0 });
        let first_key = self.keys.len();
        self.skip_space();
        if self.next() != Some(b'}') {
            loop {
                self.key()?;
                self.value()?;
                if !self.goes_on(b'}')? {
                    break;
                }
            }
        }
        self.position += 1;
        if self.has_equal_keys(first_key) {
            return Err(Reason::DuplicateKey);
        }
        self.tokens[place] = Token::Object { count: self.keys.len() - first_key, end: self.tokens.len() };
        self.keys.truncate(first_key);
        Ok(())
    }

    /// Scan the key that must begin here, and the colon.
    fn key(&mut self) -> Result<(), Reason> {
        if self.next() != Some(b'"') {
            return Err(Reason::Malformed);
        }
        self.keys.push(self.tokens.len());
        self.string()?;
        self.skip_space();
        if self.next() != Some(b':') {
            return Err(Reason::Malformed);
        }
        self.position += 1;
        self.skip_space();
        Ok(())
    }

    /// Scan the comma after an element or entry; return whether there is one, and not the closing bracket.
    fn goes_on(&mut self, closing: u8) -> Result<bool, Reason> {
        self.skip_space();
        match self.next() {
            Some(byte) if byte == closing => Ok(false),
            Some(b',') => {
                self.position += 1;
                self.skip_space();
                Ok(true)
            }
            _ => Err(Reason::Malformed),
        }
    }

    /// Return whether two of the keys from `first` on are equal.
    fn has_equal_keys(&self, first: usize) -> bool {
        let keys = &self.keys[first..];
        let text = |&place: &usize| self.text_bytes(self.tokens[place]);
        if keys.len() <= FEW_KEYS {
            return keys.iter().enumerate().any(|(index, key)| keys[..index].iter().any(|one| text(one) == text(key)));
        }
        let mut texts: Vec<&[u8]> = keys.iter().map(text).collect();
        texts.sort_unstable();
        texts.windows(2).any(|pair| pair[0] == pair[1])
    }

    fn text_bytes(&self, token: Token<'a>) -> &[u8] {
        match token {
            Token::Text(text) => text.as_bytes(),
            Token::Unescaped { start, end } => &self.unescaped[start..end],
            _ => &[],
        }
    }

    /// Scan the string that begins here.
    fn string(&mut self) -> Result<(), Reason> {
        self.position += 1;
        let start = self.position;
        self.position += plain_length(self.rest());
        let token = match self.next() {
            Some(b'"') => Token::Text(&self.text[start..self.position]),
            Some(b'\\') => self.unescape(start)?,
            // A control character, or the end of the document.
            _ => return Err(Reason::Malformed),
        };
        self.tokens.push(token);
        self.position += 1;
        Ok(())
    }

    /// Scan a string from its first escape, which is here, to its closing quote.
    fn unescape(&mut self, text_start: usize) -> Result<Token<'a>, Reason> {
        let start = self.unescaped.len();
        let mut plain_start = text_start;
        loop {
            self.unescaped.extend_from_slice(&self.text.as_bytes()[plain_start..self.position]);
            match self.next() {
                Some(b'"') => return Ok(Token::Unescaped { start, end: self.unescaped.len() }),
                Some(b'\\') => self.escape()?,
                _ => return Err(Reason::Malformed),
            }
            plain_start = self.position;
            self.position += plain_length(self.rest());
        }
    }

    /// Scan the escape that begins here.
    fn escape(&mut self) -> Result<(), Reason> {
        let byte = match self.text.as_bytes().get(self.position + 1) {
            Some(&byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(Reason::Malformed),
        };
        self.unescaped.push(byte);
        self.position += 2;
        Ok(())
    }

    fn unicode_escape(&mut self) -> Result<(), Reason> {
        let mut unit = self.code_unit()?;
        if (0xd800..0xdc00).contains(&unit) && self.rest().starts_with(b"\\u") {
            let behind_first = self.position;
            let second = self.code_unit()?;
            if (0xdc00..0xe000).contains(&second) {
                unit = 0x1_0000 + ((unit - 0xd800) << 10) + (second - 0xdc00);
            } else {
                self.position = behind_first;
            }
        }
        if let Some(character) = char::from_u32(unit) {
            self.unescaped.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            // What equal keys look like still counts: an object that has one twice is refused for that.
            self.lone_surrogate = true;
            let [.., high, low] = unit.to_be_bytes();
            self.unescaped.extend([0xed, 0x80 | (high << 2 & 0x3f) | low >> 6, 0x80 | low & 0x3f]);
        }
        Ok(())
    }

    /// Scan the escape of a UTF-16 code unit that begins here.
    fn code_unit(&mut self) -> Result<u32, Reason> {
        let digits = self.rest().get(2..6).ok_or(Reason::Malformed)?;
        let mut unit = 0;
        for &digit in digits {
            unit = unit << 4 | char::from(digit).to_digit(16).ok_or(Reason::Malformed)?;
        }
        self.position += 6;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests;
