//! Rules of IP addresses and ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::place::{Errors, Place};

pub const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address, also with leading zeros, which old objects have.
pub fn parse_leniently(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let octets: Vec<&str> = text.split('.').collect();
    let is_number = |octet: &&str| {
        !octet.is_empty() && octet.len() <= 8 && octet.bytes().all(|byte| byte.is_ascii_digit())
    };
    if octets.len() != 4 || !octets.iter().all(is_number) {
        return None;
    }
    let numbers: Option<Vec<u8>> = octets.iter().map(|octet| octet.parse().ok()).collect();
    let numbers: [u8; 4] = numbers?.try_into().ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(numbers)))
}

fn parse_range_leniently(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = text.split_once('/')?;
    let address = parse_leniently(address)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let is_number = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
    let bits: u32 = bits.parse().ok().filter(|bits| is_number && *bits <= most)?;
    Some((address, bits))
}

/// An address of a field that has always been lenient.
pub fn lenient_address(place: &Place<'_>, errors: &mut Errors) {
    if parse_leniently(place.text()).is_none() {
        errors.push(place.invalid_text(ADDRESS));
    }
}

/// An address without leading zeros, written in the one canonical way.
pub fn strict_address(place: &Place<'_>, errors: &mut Errors) {
    let text = place.text();
    let Some(address) = parse_leniently(text) else {
        errors.push(place.invalid_text(ADDRESS));
        return;
    };
    let mapped = matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some());
    if text.parse::<IpAddr>().is_err() {
        errors.push(place.invalid_text("must not have leading 0s"));
    } else if mapped {
        errors.push(place.invalid_text("must not be an IPv4-mapped IPv6 address"));
    } else if address.to_string() != text {
        errors.push(place.invalid_text(format!("must be in canonical form (\"{address}\")")));
    }
}

/// A range of a field that has always been lenient.
pub fn lenient_range(place: &Place<'_>, errors: &mut Errors) {
    if parse_range_leniently(place.text()).is_none() {
        errors.push(place.invalid_text(RANGE));
    }
}

/// The first address of a range.
fn masked(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(four) & mask))
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(six) & mask))
        }
    }
}

/// A range without leading zeros or further bits, written in the one canonical way.
pub fn strict_range(place: &Place<'_>, errors: &mut Errors) {
    let text = place.text();
    let Some((address, bits)) = parse_range_leniently(text) else {
        errors.push(place.invalid_text(RANGE));
        return;
    };
    let (host, length) = text.split_once('/').unwrap_or((text, ""));
    let zeros = host.parse::<IpAddr>().is_err() || (length.len() > 1 && length.starts_with('0'));
    let mapped = matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some());
    if zeros {
        errors.push(place.invalid_text("must not have leading 0s in IP or prefix length"));
    } else if mapped {
        errors.push(place.invalid_text("must not have an IPv4-mapped IPv6 address"));
    } else if masked(address, bits) != address {
        errors.push(place.invalid_text("must not have bits set beyond the prefix length"));
    } else if format!("{address}/{bits}") != text {
        let why = format!("must be in canonical form (\"{address}/{bits}\")");
        errors.push(place.invalid_text(why));
    }
}

/// Whether one range lies in another (both readable).
pub fn lies_within(inner: &str, outer: &str) -> bool {
    match (parse_range_leniently(inner), parse_range_leniently(outer)) {
        (Some((inner, inner_bits)), Some((outer, bits))) => {
            inner.is_ipv4() == outer.is_ipv4()
                && inner_bits > bits
                && masked(inner, bits) == masked(outer, bits)
        }
        _ => true,
    }
}

/// Addresses that no other machine can reach as one of an endpoint.
pub fn reachable(place: &Place<'_>, errors: &mut Errors) {
    let Some(address) = parse_leniently(place.text()) else { return };
    if address.is_unspecified() {
        let why = format!("may not be unspecified ({address})");
        errors.push(place.invalid_text(why));
    }
    if address.is_loopback() {
        errors.push(place.invalid_text("may not be in the loopback range (127.0.0.0/8, ::1/128)"));
    }
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(four) => (four.is_link_local(), four.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(six) => {
            let first = six.segments()[0];
            (first & 0xffc0 == 0xfe80, first & 0xff0f == 0xff02)
        }
    };
    if link_local {
        let why = "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
        errors.push(place.invalid_text(why));
    }
    if link_local_multicast {
        let why = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        errors.push(place.invalid_text(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_ranges() {
        type Case = (fn(&Place<'_>, &mut Errors), &'static str, usize);
        let cases: &[Case] = &[
            (lenient_address, "010.0.0.1", 0),
            (lenient_address, "x", 1),
            (strict_address, "10.0.0.1", 0),
            (strict_address, "010.0.0.1", 1),
            (strict_address, "::ffff:1.2.3.4", 1),
            (strict_address, "2001:DB8::1", 1),
            (strict_range, "10.0.0.0/8", 0),
            (strict_range, "10.0.0.1/8", 1),
            (strict_range, "10.0.0.0/33", 1),
            (strict_range, "2001:db8::/064", 1),
            (lenient_range, "10.0.0.1/8", 0),
            (reachable, "127.0.0.1", 1),
            (reachable, "0.0.0.0", 1),
            (reachable, "169.254.1.1", 1),
            (reachable, "ff02::1", 1),
            (reachable, "10.0.0.1", 0),
        ];
        for (rule, text, expected) in cases {
            let value = (*text).into();
            let mut errors = Errors::new();
            rule(&Place::at("f", &value), &mut errors);
            assert_eq!(errors.len(), *expected, "{text}: {errors:?}");
        }
        assert!(lies_within("10.1.0.0/16", "10.0.0.0/8"));
        assert!(!lies_within("11.0.0.0/16", "10.0.0.0/8"));
    }
}
