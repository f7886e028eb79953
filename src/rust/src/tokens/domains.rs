//! Internet domain names: the strict reading that e-mail tokens need.
#![forbid(unsafe_code)]

use super::unicode::{self, Version};

const MAXIMUM_DOMAIN: usize = 253;
const MAXIMUM_LABEL: usize = 63;

/// Return the lower-case ASCII form of a domain, or None if it is not one.
///
/// Labels with other characters become their A-label: NFC, lower case, then Punycode (RFC 3492), which is what
/// IDNA 2008 (RFC 5891) does with a label that is valid. Whether a label may be registered is not asked: two
/// spellings of one name must give one token, and names that do not exist harm nobody here.
pub(super) fn ascii_domain(domain: &str, version: Version) -> Option<String> {
    let host = if domain.is_ascii() {
        domain.to_ascii_lowercase()
    } else {
        let labels: Option<Vec<String>> = domain.split('.').map(|label| ascii_label(label, version)).collect();
        labels?.join(".")
    };
    is_ascii_domain(&host).then_some(host)
}

/// Say whether this is a host name of at least two labels in lower case (RFC 1035 section 2.3.1, RFC 1123).
fn is_ascii_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=MAXIMUM_LABEL).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.len() <= MAXIMUM_DOMAIN && domain.contains('.') && domain.split('.').all(is_label)
}

/// Return the A-label of a label, or None where it has characters that no domain name has.
fn ascii_label(label: &str, version: Version) -> Option<String> {
    if label.is_ascii() {
        return Some(label.to_ascii_lowercase());
    }
    let folded = unicode::folded(label, version)?;
    if folded.is_ascii() {
        // Lower case turns a few letters, such as the Kelvin sign, into ASCII.
        return Some(folded);
    }
    if !folded.chars().all(|character| character == '-' || unicode::is_of_a_name(character)) {
        return None;
    }
    // A label that is longer than the longest in characters is too long in any encoding; Punycode takes the square.
    (folded.chars().count() <= MAXIMUM_LABEL).then(|| punycode(&folded)).flatten().map(|code| format!("xn--{code}"))
}

/// Return the Punycode of a text (RFC 3492, section 6.3).
fn punycode(text: &str) -> Option<String> {
    let mut code: String = text.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(code.len()).ok()?;
    if basic > 0 {
        code.push('-');
    }
    let (mut n, mut delta, mut bias, mut handled) = (128_u32, 0_u32, 72_u32, basic);
    let total = u32::try_from(text.chars().count()).ok()?;
    while handled < total {
        let next = text.chars().map(u32::from).filter(|point| *point >= n).min()?;
        delta = (next - n).checked_mul(handled + 1)?.checked_add(delta)?;
        n = next;
        for point in text.chars().map(u32::from) {
            if point < n {
                delta = delta.checked_add(1)?;
            }
            if point == n {
                write_delta(delta, bias, &mut code);
                bias = adapted(delta, handled + 1, handled == basic);
                delta = 0;
                handled += 1;
            }
        }
        delta = delta.checked_add(1)?;
        n = n.checked_add(1)?;
    }
    Some(code)
}

/// Write a delta as a variable-length integer.
fn write_delta(delta: u32, bias: u32, code: &mut String) {
    let mut rest = delta;
    for place in 1_u32.. {
        let threshold = (36 * place).saturating_sub(bias).clamp(1, 26);
        if rest < threshold {
            break;
        }
        code.push(digit(threshold + (rest - threshold) % (36 - threshold)));
        rest = (rest - threshold) / (36 - threshold);
    }
    code.push(digit(rest));
}

fn digit(number: u32) -> char {
    match number {
        0..26 => char::from(b'a' + (number % 26) as u8),
        _ => char::from(b'0' + (number.saturating_sub(26) % 10) as u8),
    }
}

/// Return the next bias (RFC 3492, section 6.1).
fn adapted(delta: u32, count: u32, is_first: bool) -> u32 {
    let mut rest = delta / if is_first { 700 } else { 2 };
    rest += rest / count.max(1);
    let mut shift = 0;
    while rest > 455 {
        rest /= 35;
        shift += 36;
    }
    shift + 36 * rest / (rest + 38)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_rfc_3492() {
        // Section 7.1, (A) Arabic, (D) Czech, (L) Japanese with digits and a hyphen.
        for (text, code) in [
            ("ليهمابتكلموشعربي؟", "egbpdaj6bu4bxfgehfvwxn"),
            ("pročprostěnemluvíčesky", "proprostnemluvesky-uyb24dma41a"),
            ("3年b組金八先生", "3b-ww4c5e180e575a65lsy2b"),
        ] {
            assert_eq!(punycode(text).unwrap(), code);
        }
        assert_eq!(punycode("bücher").unwrap(), "bcher-kva");
    }
}
