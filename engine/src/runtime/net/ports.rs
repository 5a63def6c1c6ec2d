//! Whether a TCP port is free.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Fails when something else listens on `address`; gives it back, with a free port for port 0.
///
/// The listeners of this process share their port among the cores, and the kernel would let a
/// second process of the same user join them in silence. So the kernel's list of listeners is
/// asked. A trial bind would not tell: it also fails while connections of a process that has ended
/// are remembered, which is no reason not to start.
pub fn check_free(address: SocketAddr) -> io::Result<SocketAddr> {
    if address.port() == 0 {
        return std::net::TcpListener::bind(address)?.local_addr();
    }
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        // Without IPv6 the second one is missing.
        let Ok(lines) = std::fs::read_to_string(table) else { continue };
        if lines.lines().filter_map(listener_of).any(|listener| overlap(listener, address)) {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
    }
    Ok(address)
}

/// The address of a line of the kernel's socket table, if it is a listener's.
fn listener_of(line: &str) -> Option<SocketAddr> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (ip, port) = fields.next()?.split_once(':')?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    // Words of 32 bits in the byte order of the machine, each printed as a number.
    let words: Option<Vec<[u8; 4]>> = (0..ip.len() / 8)
        .map(|word| u32::from_str_radix(ip.get(word * 8..word * 8 + 8)?, 16).ok())
        .map(|word| word.map(u32::to_ne_bytes))
        .collect();
    let ip: IpAddr = match words?.concat()[..] {
        [a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
        ref bytes => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    };
    Some(SocketAddr::new(ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

/// Whether two listeners would get connections to the same address.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let all = |ip: IpAddr, of: IpAddr| {
        // A listener on `::` mostly takes IPv4 connections, too.
        ip.is_unspecified() && (ip.is_ipv6() || of.is_ipv4())
    };
    let (left, right) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && (left == right || all(left, right) || all(right, left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_found_in_the_kernels_table() {
        let line = |local: &str, state: &str| {
            format!("   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0")
        };
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        for (local, state, expected) in [
            ("0100007F:094B", "0A", Some("127.0.0.1:2379")),
            ("00000000:192B", "0A", Some("0.0.0.0:6443")),
            ("0100007F:094B", "06", None),
            ("0100007F:094B", "01", None),
            ("00000000000000000000000000000000:094B", "0A", Some("[::]:2379")),
            ("00000000000000000000000001000000:094B", "0A", Some("[::1]:2379")),
            ("0000000000000000FFFF00000100007F:094B", "0A", Some("127.0.0.1:2379")),
            ("nonsense", "0A", None),
            ("XY:ZZ", "0A", None),
        ] {
            assert_eq!(listener_of(&line(local, state)), expected.map(address), "{local} {state}");
        }
        assert_eq!(listener_of(""), None);
    }

    #[test]
    fn listeners_overlap() {
        for (one, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.2:1", true),
            ("[::]:1", "127.0.0.2:1", true),
            ("[::]:1", "[::1]:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
        ] {
            let parse = |text: &str| text.parse().expect("an address");
            assert_eq!(overlap(parse(one), parse(other)), expected, "{one} {other}");
            assert_eq!(overlap(parse(other), parse(one)), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_port_is_free_until_somebody_listens() {
        let free = check_free(SocketAddr::from(([127, 0, 0, 1], 0))).expect("some port is free");
        assert_eq!(check_free(free).expect("still free"), free);
        let _listener = std::net::TcpListener::bind(free).expect("it is free");
        let refused = check_free(free).expect_err("taken");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}
