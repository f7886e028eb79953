//! IP addresses as the first address of their network; see `tokenweir.core.generalize.address`.

/// Networks of IPv6 addresses that hold an IPv4 address: their value and bits, and the number of bits from which on the
/// IPv4 address would stay whole: 6to4 (RFC 3056), and NAT64 with a local prefix (RFC 8215).
const EMBEDDED: [(u128, u32, u8); 2] = [(0x2002 << 112, 16, 48), (0x0064_ff9b_0001 << 80, 48, 88)];

/// What stands before an IPv4 address that is mapped into IPv6 (RFC 4291, section 2.5.5.2).
const MAPPED: u128 = 0xffff;

/// Return the address of the network of the first bits, IPv6 in the form of RFC 5952.
///
/// None if the text is no address, has a zone, or would stay as it is because it, or the IPv4 address in it, has no
/// more bits.
pub fn network(text: &str, bits: u8) -> Option<String> {
    if let Some(address) = parse_v4(text) {
        let hidden = 32_u32.checked_sub(u32::from(bits)).filter(|hidden| *hidden > 0)?;
        return Some(format_v4(address & u32::MAX.checked_shl(hidden).unwrap_or(0)));
    }
    let address = parse_v6(text)?;
    let hidden = 128_u32.checked_sub(u32::from(bits)).filter(|hidden| *hidden > 0)?;
    if EMBEDDED.iter().any(|(network, length, whole)| bits >= *whole && (address ^ network) >> (128 - length) == 0) {
        return None;
    }
    let network = address & u128::MAX.checked_shl(hidden).unwrap_or(0);
    match (network >> 32 == MAPPED, u32::try_from(network & u128::from(u32::MAX))) {
        (true, Ok(mapped)) => Some(format!("::ffff:{}", format_v4(mapped))),
        _ => Some(format_v6(network)),
    }
}

fn parse_v4(text: &str) -> Option<u32> {
    let mut address = 0;
    let mut count = 0;
    for octet in text.split('.') {
        let plain = octet.len() <= 3 && octet.bytes().all(|byte| byte.is_ascii_digit());
        if !plain || (octet.len() > 1 && octet.starts_with('0')) {
            return None;
        }
        address = address << 8 | u32::from(octet.parse::<u8>().ok()?);
        count += 1;
        if count > 4 {
            return None;
        }
    }
    (count == 4).then_some(address)
}

fn parse_v6(text: &str) -> Option<u128> {
    // The last 32 bits may be written as an IPv4 address; two groups stand for it.
    let (groups, last) = match text.rsplit_once(':') {
        Some((front, last)) if last.contains('.') => (format!("{front}:0:0"), u128::from(parse_v4(last)?)),
        _ => (text.to_owned(), 0),
    };
    let address = match groups.split_once("::") {
        None => {
            let (count, address) = parse_groups(&groups)?;
            (count == 8).then_some(address)?
        }
        Some((front, back)) => {
            let (before, high) = if front.is_empty() { (0, 0) } else { parse_groups(front)? };
            let (behind, low) = if back.is_empty() { (0, 0) } else { parse_groups(back)? };
            let missing = 8_u32.checked_sub(before + behind).filter(|missing| *missing > 0)?;
            high.checked_shl(16 * (missing + behind)).unwrap_or(0) | low
        }
    };
    Some(address | last)
}

/// Return how many groups of up to four hexadecimal digits stand there, and the number that they write.
fn parse_groups(text: &str) -> Option<(u32, u128)> {
    let mut address = 0_u128;
    let mut count = 0;
    for group in text.split(':') {
        if !(1..=4).contains(&group.len()) || !group.bytes().all(|byte| byte.is_ascii_hexdigit()) || count == 8 {
            return None;
        }
        address = address << 16 | u128::from(u16::from_str_radix(group, 16).ok()?);
        count += 1;
    }
    Some((count, address))
}

fn format_v4(address: u32) -> String {
    let [first, second, third, fourth] = address.to_be_bytes();
    format!("{first}.{second}.{third}.{fourth}")
}

/// Write the groups with the first of the longest runs of zeros left out (RFC 5952, section 4).
fn format_v6(address: u128) -> String {
    let groups: Vec<String> = (0..8).rev().map(|place| format!("{:x}", address >> (16 * place) & 0xffff)).collect();
    let run_at = |start: usize| groups.iter().skip(start).take_while(|group| *group == "0").count();
    let (start, length) = (0..8)
        .map(|start| (start, run_at(start)))
        .fold((0, 0), |longest, run| if run.1 > longest.1 { run } else { longest });
    if length < 2 {
        return groups.join(":");
    }
    let joined = |part: Option<&[String]>| part.map(|part| part.join(":")).unwrap_or_default();
    format!("{}::{}", joined(groups.get(..start)), joined(groups.get(start + length..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_keep_the_first_bits() {
        let networks = [
            ("192.168.77.9", 16, "192.168.0.0"),
            ("255.255.255.255", 1, "128.0.0.0"),
            ("2001:db8:1:2:3:4:5:6", 48, "2001:db8:1::"),
            ("2001:DB8::1", 127, "2001:db8::"),
            ("1:2:3:4:5:6:7::", 112, "1:2:3:4:5:6:7:0"),
            ("::ffff:1.2.3.4", 112, "::ffff:1.2.0.0"),
            ("0:0:1::", 64, "0:0:1::"),
            ("1:0:0:2:0:0:0:3", 127, "1:0:0:2::2"),
            ("2002:c000:0204::1", 47, "2002:c000:204::"),
        ];
        for (text, bits, expected) in networks {
            assert_eq!(network(text, bits).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_or_would_stay_whole_is_refused() {
        let wrong = [
            "",
            ":",
            "::%1",
            "fe80::1%eth0",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.04",
            "1.2.3.256",
            "1..2.3",
            "1::2::3",
            ":::",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8:9",
            "1:2:3:4:5:6:7:8::",
            "12345::",
            "g::",
            ":1::",
            "1::2:",
            "::1.2.3",
            "1.2.3.4:5::",
            "::1.2.3.4/8",
            "\u{661}.1.1.1",
        ];
        for text in wrong {
            assert_eq!(network(text, 8), None, "{text}");
        }
        assert_eq!(network("1.2.3.4", 32), None);
        assert_eq!(network("::1", 128), None);
        assert_eq!(network("2002:c000:0204::1", 48), None);
        assert_eq!(network("64:ff9b:1::1", 88), None);
    }
}
