//! URLs without whatever the policy does not name; see `tokenweir.core.generalize.url`.

use std::borrow::Cow;
use std::collections::HashSet;

use super::printable::Printable;

/// What ends a path for one who decodes it first: "/", "\\", ";", "?" and "#" in their encoded form.
const END_OF_PATH: [&str; 5] = ["2f", "5c", "3b", "3f", "23"];
/// What in a value may begin another parameter for one who decodes it: "&", ";", "=" and "?".
const PARAMETER_INSIDE: [&str; 4] = ["26", "3b", "3d", "3f"];
/// The longest scheme, so that nothing can hide in it.
const SCHEME_CHARACTERS: usize = 16;

/// Keeps scheme and host, the first segments of the path and the named query parameters.
pub struct Url {
    segments: usize,
    names: HashSet<String>,
}

impl Url {
    /// Keep so many segments, and these parameters.
    pub fn new(segments: usize, names: &[String]) -> Self {
        Self { segments, names: names.iter().cloned().collect() }
    }

    /// Return what stays of a URL, or none if it is no absolute URL with a host.
    pub fn apply(&self, text: &str, printable: &Printable) -> Option<String> {
        if !text.chars().all(|found| printable.holds(found) && found != ' ' && found != '\\') {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let is_scheme = (1..=SCHEME_CHARACTERS).contains(&scheme.len());
        if !is_scheme || !scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return None;
        }
        let (authority, rest) = split_before(rest, &['/', '?', '#']);
        let host = host_of(authority.split_once('@').map_or(authority, |(_, host)| host))?;
        let (path, rest) = split_before(rest, &['?', '#']);
        let query = rest.strip_prefix('?').map_or("", |query| split_before(query, &['#']).0);
        let mut kept = format!("{}://{}/", scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
        self.append_path(path, &mut kept);
        self.append_query(query, &mut kept);
        Some(kept)
    }

    /// Append the first segments, each without its parameters.
    ///
    /// What follows an encoded separator is another segment, or no path at all, for servers that decode it first.
    fn append_path(&self, path: &str, kept: &mut String) {
        let end = encoded_at(path, &END_OF_PATH).unwrap_or(path.len());
        let path = path.get(..end).unwrap_or_default();
        for (place, segment) in path.strip_prefix('/').unwrap_or_default().split('/').take(self.segments).enumerate() {
            if place > 0 {
                kept.push('/');
            }
            kept.push_str(split_before(segment, &[';']).0);
        }
    }

    /// Append the named parameters as they are written, in their order. A ";" separates them as well.
    fn append_query(&self, query: &str, kept: &mut String) {
        let mut separator = '?';
        for parameter in query.split(['&', ';']) {
            if !parameter.is_empty() && self.stays(parameter) {
                kept.push(separator);
                kept.push_str(parameter);
                separator = '&';
            }
        }
    }

    fn stays(&self, parameter: &str) -> bool {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        self.names.contains(&*unquoted(name))
            && !value.contains(['=', '?'])
            && encoded_at(value, &PARAMETER_INSIDE).is_none()
    }
}

/// Split a text before the first of these characters.
fn split_before<'t>(text: &'t str, characters: &[char]) -> (&'t str, &'t str) {
    text.split_at(text.find(characters).unwrap_or(text.len()))
}

/// Return the host of an authority without a user, if that is one: a name, or an IPv6 address in brackets.
fn host_of(authority: &str) -> Option<&str> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at_checked(end)?;
    let fits = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => !inner.is_empty() && inner.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte)),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)),
    };
    let digits = if port.is_empty() { "" } else { port.strip_prefix(':')? };
    (fits && digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(host)
}

/// Return where the first of these pairs of hexadecimal digits stands after a "%".
fn encoded_at(text: &str, pairs: &[&str]) -> Option<usize> {
    let is_pair = |place: usize| {
        let found = text.as_bytes().get(place + 1..place + 3);
        found.is_some_and(|found| pairs.iter().any(|pair| pair.as_bytes().eq_ignore_ascii_case(found)))
    };
    text.match_indices('%').map(|(place, _)| place).find(|place| is_pair(*place))
}

/// Return a name as `urllib.parse.unquote_plus` does: each run of ASCII is decoded by itself.
fn unquoted(name: &str) -> Cow<'_, str> {
    if !name.contains(['%', '+']) {
        return Cow::Borrowed(name);
    }
    let mut found = String::with_capacity(name.len());
    let mut rest = name;
    while !rest.is_empty() {
        let (ascii, behind) = rest.split_at(rest.find(|next: char| !next.is_ascii()).unwrap_or(rest.len()));
        found.push_str(&String::from_utf8_lossy(&decoded(ascii.as_bytes())));
        let (other, behind) = behind.split_at(behind.find(|next: char| next.is_ascii()).unwrap_or(behind.len()));
        found.push_str(other);
        rest = behind;
    }
    Cow::Owned(found)
}

fn decoded(ascii: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ascii.len());
    let mut place = 0;
    while let Some(byte) = ascii.get(place) {
        let pair = ascii.get(place + 1..place + 3).filter(|pair| pair.iter().all(u8::is_ascii_hexdigit));
        let value = pair.and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        match (byte, value) {
            (b'%', Some(value)) => {
                bytes.push(value);
                place += 2;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(*byte),
        }
        place += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> Option<String> {
        let names = ["page".to_owned(), "a b".to_owned(), "caf\u{e9}".to_owned()];
        let printable = Printable::from_ranges(&[(0x20, 0x7e), (0xa1, 0x10_ffff)]);
        Url::new(2, &names).apply(text, &printable)
    }

    #[test]
    fn only_what_is_named_stays() {
        let stays = [
            ("HTTPS://User:pw@Shop.Example:443/a/b/c?page=2&q=x#f", "https://shop.example/a/b?page=2"),
            ("http://h", "http://h/"),
            ("http://[::1]:80/a;x=1/b", "http://[::1]/a/b"),
            ("http://h/a%2Fb/c", "http://h/a"),
            ("http://h/?a+b=1;page=2&page=3%26x&page=4=5", "http://h/?a+b=1&page=2"),
            ("http://h?caf%C3%A9=1&caf\u{e9}=2", "http://h/?caf%C3%A9=1&caf\u{e9}=2"),
            ("http://h//b/c", "http://h//b"),
        ];
        for (text, expected) in stays {
            assert_eq!(kept(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        let wrong = [
            "",
            "h/a",
            "http:/h",
            "http://",
            "http://a@b@c/",
            "http://h:123456/",
            "http://h:x/",
            "http://[::1/",
            "http://[]/",
            "http://h h/",
            "http://h\\a",
            "http://h/\u{7}",
            "1http://h",
            "abcdefghijklmnopq://h",
            "http://\u{fc}/",
            "http://[::1]x/",
        ];
        for text in wrong {
            assert_eq!(kept(text), None, "{text}");
        }
    }
}
