//! What kind of place an address is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address may be dialled. Ordered: the worse of two wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Anybody may, if the name is allowed.
    Public,
    /// Loopback, private and reserved ranges: only where the host was named outright.
    Local,
    /// Link-local, cloud metadata, multicast, unspecified, broadcast: never.
    Never,
}

/// Services of clouds that hand out credentials, outside the link-local range.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];

/// Sorts an address, looking through every form that carries an IPv4 address.
pub(crate) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => reach_v6(v6),
    }
}

/// An IPv4 address in its IPv6 clothes is dialled, and judged, as what it is.
pub(crate) fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

fn reach_v4(v4: Ipv4Addr) -> Reach {
    let [a, b, c, _] = v4.octets();
    let never = a == 0 || v4.is_link_local() || a >= 224 || METADATA_V4.contains(&v4);
    if never {
        return Reach::Never;
    }
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (b == 18 || b == 19);
    let protocol = (a, b, c) == (192, 0, 0);
    // The old 6to4 relay anycast range reaches whoever claims it.
    let relay = (a, b, c) == (192, 88, 99);
    if v4.is_loopback() || v4.is_private() || v4.is_documentation() || shared || benchmark || protocol || relay {
        return Reach::Local;
    }
    Reach::Public
}

fn reach_v6(v6: Ipv6Addr) -> Reach {
    let s = v6.segments();
    let never = v6.is_unspecified()
        || s[0] & 0xffc0 == 0xfe80
        // Site-local, withdrawn in 2004 and still routed by some.
        || s[0] & 0xffc0 == 0xfec0
        || s[0] & 0xff00 == 0xff00
        || METADATA_V6.contains(&v6);
    if never {
        return Reach::Never;
    }
    let own =
        if v6.is_loopback() || s[0] & 0xfe00 == 0xfc00 || s[0] == 0x100 || is_reserved(s) { Reach::Local } else { Reach::Public };
    embedded_v4(v6).into_iter().map(reach_v4).fold(own, Ord::max)
}

/// Documentation ranges, which no server has.
fn is_reserved(s: [u16; 8]) -> bool {
    (s[0] == 0x2001 && s[1] == 0xdb8) || (s[0] == 0x3fff && s[1] < 0x1000)
}

/// IPv4 addresses that a translator or tunnel would reach through this one.
fn embedded_v4(v6: Ipv6Addr) -> Vec<Ipv4Addr> {
    let s = v6.segments();
    let o = v6.octets();
    let from = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    let last = from(s[6], s[7]);
    if s[..5] == [0; 5] && s[5] == 0xffff {
        return vec![last];
    }
    // `::a.b.c.d`, but not `::1`, which is loopback and judged as such.
    if s[..6] == [0; 6] {
        return if v6.is_loopback() { Vec::new() } else { vec![last] };
    }
    // `::ffff:0:a.b.c.d` of stateless translation.
    if s[..4] == [0; 4] && s[4] == 0xffff && s[5] == 0 {
        return vec![last];
    }
    // NAT64: the well-known prefix, and the local one, which RFC 6052 lets carry the address in four places.
    if s[0] == 0x64 && s[1] == 0xff9b {
        if s[2..6] == [0; 4] {
            return vec![last];
        }
        return vec![
            Ipv4Addr::new(o[6], o[7], o[9], o[10]),
            Ipv4Addr::new(o[7], o[9], o[10], o[11]),
            Ipv4Addr::new(o[9], o[10], o[11], o[12]),
            last,
        ];
    }
    // 6to4.
    if s[0] == 0x2002 {
        return vec![from(s[1], s[2])];
    }
    // Teredo: the server as it is, the client inverted.
    if s[0] == 0x2001 && s[1] == 0 {
        return vec![from(s[2], s[3]), from(!s[6], !s[7])];
    }
    // ISATAP carries the address behind `5efe` whatever the prefix.
    if (s[4] == 0 || s[4] == 0x200) && s[5] == 0x5efe {
        return vec![last];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address_is_sorted() {
        let table: &[(&str, Reach)] = &[
            ("8.8.8.8", Reach::Public),
            ("1.1.1.1", Reach::Public),
            ("169.253.255.255", Reach::Public),
            ("172.15.0.1", Reach::Public),
            ("172.32.0.1", Reach::Public),
            ("100.63.255.255", Reach::Public),
            ("100.128.0.1", Reach::Public),
            ("223.255.255.255", Reach::Public),
            ("2606:4700:4700::1111", Reach::Public),
            ("2001:4860:4860::8888", Reach::Public),
            ("::ffff:8.8.8.8", Reach::Public),
            ("64:ff9b::8.8.8.8", Reach::Public),
            ("2002:808:808::1", Reach::Public),
            ("127.0.0.1", Reach::Local),
            ("127.255.255.254", Reach::Local),
            ("10.0.0.1", Reach::Local),
            ("10.255.255.255", Reach::Local),
            ("172.16.0.1", Reach::Local),
            ("172.31.255.255", Reach::Local),
            ("192.168.0.1", Reach::Local),
            ("100.64.0.1", Reach::Local),
            ("100.127.255.255", Reach::Local),
            ("198.18.0.1", Reach::Local),
            ("198.19.255.255", Reach::Local),
            ("192.0.0.8", Reach::Local),
            ("192.0.2.1", Reach::Local),
            ("198.51.100.7", Reach::Local),
            ("203.0.113.9", Reach::Local),
            ("192.88.99.1", Reach::Local),
            ("::1", Reach::Local),
            ("fc00::1", Reach::Local),
            ("fd12:3456::1", Reach::Local),
            ("fdff:ffff::1", Reach::Local),
            ("100::1", Reach::Local),
            ("2001:db8::1", Reach::Local),
            ("3fff::1", Reach::Local),
            ("::ffff:127.0.0.1", Reach::Local),
            ("::ffff:10.1.2.3", Reach::Local),
            ("::127.0.0.1", Reach::Local),
            ("::10.0.0.1", Reach::Local),
            ("64:ff9b::127.0.0.1", Reach::Local),
            ("64:ff9b::10.0.0.1", Reach::Local),
            ("2002:7f00:1::1", Reach::Local),
            ("2002:a00:1::1", Reach::Local),
            ("2002:c0a8:101::", Reach::Local),
            ("2001:0:808:808::f5ff:fffe", Reach::Local),
            ("0.0.0.0", Reach::Never),
            ("0.1.2.3", Reach::Never),
            ("169.254.0.1", Reach::Never),
            ("169.254.169.254", Reach::Never),
            ("169.254.170.2", Reach::Never),
            ("169.254.255.255", Reach::Never),
            ("100.100.100.200", Reach::Never),
            ("168.63.129.16", Reach::Never),
            ("192.0.0.192", Reach::Never),
            ("224.0.0.1", Reach::Never),
            ("239.255.255.250", Reach::Never),
            ("240.0.0.1", Reach::Never),
            ("255.255.255.255", Reach::Never),
            ("::", Reach::Never),
            ("fe80::1", Reach::Never),
            ("febf::1", Reach::Never),
            ("fec0::1", Reach::Never),
            ("ff02::1", Reach::Never),
            ("fd00:ec2::254", Reach::Never),
            ("fd20:ce::254", Reach::Never),
            ("fd00:c1::a9fe:a9fe", Reach::Never),
            ("::ffff:169.254.169.254", Reach::Never),
            ("::ffff:0.0.0.0", Reach::Never),
            ("::ffff:0:169.254.169.254", Reach::Never),
            ("::169.254.169.254", Reach::Never),
            ("64:ff9b::169.254.169.254", Reach::Never),
            ("64:ff9b:1::169.254.169.254", Reach::Never),
            ("64:ff9b:1:a9fe:a9:fe00::", Reach::Never),
            ("2002:a9fe:a9fe::1", Reach::Never),
            ("2002:e000:1::1", Reach::Never),
            ("2001:0:a9fe:a9fe::1", Reach::Never),
            ("2001:0:808:808::5601:5601", Reach::Never),
            ("2001:470::5efe:169.254.169.254", Reach::Never),
        ];
        assert!(table.len() >= 60, "{}", table.len());
        for (text, expected) in table {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(reach(address), *expected, "{text}");
        }
    }
}
