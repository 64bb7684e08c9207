//! Types that come as their text, as PostgreSQL writes it, in their send form.

use super::cell::CellFault;
use crate::types::OfText;
use std::net::IpAddr;

/// `PGSQL_AF_INET` and `PGSQL_AF_INET6`.
const FAMILIES: (u8, u8) = (2, 3);

const WRONG: CellFault = CellFault::NotItsText;

/// Writes one field.
pub(super) fn write(of: OfText, text: &str, out: &mut Vec<u8>) -> Result<(), CellFault> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    match of {
        OfText::Inet => address(text, false, out)?,
        OfText::Cidr => address(text, true, out)?,
        OfText::Mac(bytes) => mac(text, bytes, out)?,
        OfText::Bits => bits(text, out)?,
        OfText::TimeTz => time_tz(text, out)?,
        OfText::Lsn => {
            let (high, low) = text.split_once('/').ok_or(WRONG)?;
            for half in [high, low] {
                out.extend_from_slice(&u32::from_str_radix(half, 16).map_err(|_| WRONG)?.to_be_bytes());
            }
        }
        OfText::Xid8 => out.extend_from_slice(&number::<u64>(text)?.to_be_bytes()),
        OfText::Cid => out.extend_from_slice(&number::<u32>(text)?.to_be_bytes()),
        OfText::Tid => {
            let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).ok_or(WRONG)?;
            let (block, offset) = inner.split_once(',').ok_or(WRONG)?;
            out.extend_from_slice(&number::<u32>(block)?.to_be_bytes());
            out.extend_from_slice(&number::<u16>(offset)?.to_be_bytes());
        }
        OfText::Snapshot => snapshot(text, out)?,
        OfText::Numbers(count) => {
            if numbers(text, out)? != count {
                return Err(WRONG);
            }
        }
        OfText::Path => points(text, Some(u8::from(text.starts_with('('))), out)?,
        OfText::Polygon => points(text, None, out)?,
    }
    let length = i32::try_from(out.len() - start - 4).map_err(|_| CellFault::TooLong)?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, CellFault> {
    text.parse().map_err(|_| WRONG)
}

/// A `"char"`: nothing is zero, `\ooo` a byte beyond ASCII.
pub(super) fn char(text: &[u8]) -> Result<u8, CellFault> {
    match text {
        [] => Ok(0),
        [byte @ 0..=0x7f] => Ok(*byte),
        [b'\\', high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7'] => {
            Ok((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'))
        }
        _ => Err(WRONG),
    }
}

/// Family, bits of the net, whether it is a net, length, address.
fn address(text: &str, net: bool, out: &mut Vec<u8>) -> Result<(), CellFault> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let mut put = |family: u8, octets: &[u8]| {
        let all = octets.len() as u8 * 8;
        let bits = bits.map_or(Ok(all), number::<u8>)?;
        if bits > all {
            return Err(WRONG);
        }
        out.extend_from_slice(&[family, bits, u8::from(net), octets.len() as u8]);
        out.extend_from_slice(octets);
        Ok(())
    };
    match number::<IpAddr>(address)? {
        IpAddr::V4(address) => put(FAMILIES.0, &address.octets()),
        IpAddr::V6(address) => put(FAMILIES.1, &address.octets()),
    }
}

fn mac(text: &str, bytes: usize, out: &mut Vec<u8>) -> Result<(), CellFault> {
    let mut count = 0;
    for part in text.split(':') {
        if part.len() != 2 {
            return Err(WRONG);
        }
        out.push(u8::from_str_radix(part, 16).map_err(|_| WRONG)?);
        count += 1;
    }
    if count == bytes { Ok(()) } else { Err(WRONG) }
}

/// The number of bits, then the bits from the highest.
fn bits(text: &str, out: &mut Vec<u8>) -> Result<(), CellFault> {
    let length = i32::try_from(text.len()).map_err(|_| CellFault::TooLong)?;
    out.extend_from_slice(&length.to_be_bytes());
    for eight in text.as_bytes().chunks(8) {
        let mut byte = 0;
        for (at, bit) in eight.iter().enumerate() {
            match bit {
                b'0' => {}
                b'1' => byte |= 0x80 >> at,
                _ => return Err(WRONG),
            }
        }
        out.push(byte);
    }
    Ok(())
}

/// Two digits at the beginning, and what follows.
fn two(text: &str) -> Result<(i64, &str), CellFault> {
    let (head, rest) = text.split_at_checked(2).ok_or(WRONG)?;
    if !head.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(WRONG);
    }
    Ok((number(head)?, rest))
}

/// Microseconds of the day, then the zone's seconds west of Greenwich: `23:59:59.5+05:30`.
fn time_tz(text: &str, out: &mut Vec<u8>) -> Result<(), CellFault> {
    let zone_at = text.rfind(['+', '-']).ok_or(WRONG)?;
    let (time, zone) = text.split_at(zone_at);
    let (hours, rest) = two(time)?;
    let (minutes, rest) = two(rest.strip_prefix(':').ok_or(WRONG)?)?;
    let (seconds, rest) = two(rest.strip_prefix(':').ok_or(WRONG)?)?;
    let mut micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000;
    if let Some(fraction) = rest.strip_prefix('.') {
        if fraction.is_empty() || fraction.len() > 6 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(WRONG);
        }
        micros += number::<i64>(fraction)? * 10_i64.pow(6 - fraction.len() as u32);
    } else if !rest.is_empty() {
        return Err(WRONG);
    }
    let (sign, mut rest) = zone.split_at(1);
    let (mut seconds, mut unit) = (0_i32, 3600);
    loop {
        let (part, after) = two(rest)?;
        seconds += part as i32 * unit;
        unit /= 60;
        match after.strip_prefix(':') {
            Some(after) if unit > 0 => rest = after,
            None if after.is_empty() => break,
            _ => return Err(WRONG),
        }
    }
    out.extend_from_slice(&micros.to_be_bytes());
    out.extend_from_slice(&(if sign == "+" { -seconds } else { seconds }).to_be_bytes());
    Ok(())
}

/// The number of running transactions, the bounds, the transactions: `10:20:11,14`.
fn snapshot(text: &str, out: &mut Vec<u8>) -> Result<(), CellFault> {
    let mut parts = text.splitn(3, ':');
    let mut next = || parts.next().ok_or(WRONG);
    let (low, high, running) = (number::<u64>(next()?)?, number::<u64>(next()?)?, next()?);
    let running: Vec<u64> =
        if running.is_empty() { Vec::new() } else { running.split(',').map(number).collect::<Result<_, _>>()? };
    let count = i32::try_from(running.len()).map_err(|_| CellFault::TooLong)?;
    out.extend_from_slice(&count.to_be_bytes());
    for xid in [low, high].into_iter().chain(running) {
        out.extend_from_slice(&xid.to_be_bytes());
    }
    Ok(())
}

/// The numbers of a geometric value, whatever its brackets; gives their count.
fn numbers(text: &str, out: &mut Vec<u8>) -> Result<usize, CellFault> {
    let mut count = 0;
    for part in text.split(',') {
        let part = part.trim_matches(['(', ')', '[', ']', '{', '}', '<', '>']);
        out.extend_from_slice(&number::<f64>(part)?.to_be_bytes());
        count += 1;
    }
    Ok(count)
}

/// Whether it is closed (a path), the number of points, the points.
fn points(text: &str, closed: Option<u8>, out: &mut Vec<u8>) -> Result<(), CellFault> {
    out.extend(closed);
    let count_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let count = numbers(text, out)?;
    if count % 2 != 0 {
        return Err(WRONG);
    }
    let count = i32::try_from(count / 2).map_err(|_| CellFault::TooLong)?;
    out[count_at..count_at + 4].copy_from_slice(&count.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(of: OfText, text: &str) -> String {
        let mut out = Vec::new();
        write(of, text, &mut out).unwrap();
        assert_eq!(i32::from_be_bytes(out[..4].try_into().unwrap()) as usize, out.len() - 4);
        out[4..].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Expected values are those of PostgreSQL 15: `SELECT encode(inet_send('10.1.2.3/24'), 'hex')` and so on.
    #[test]
    fn texts_become_what_the_server_sends() {
        for (of, text, expected) in [
            (OfText::Inet, "10.1.2.3/24", "021800040a010203"),
            (OfText::Inet, "::ffff:1.2.3.4/128", "0380001000000000000000000000ffff01020304"),
            (OfText::Cidr, "10.0.0.0/8", "020801040a000000"),
            (OfText::Mac(6), "08:00:2b:01:02:03", "08002b010203"),
            (OfText::Bits, "", "00000000"),
            (OfText::Bits, "101", "00000003a0"),
            (OfText::Bits, "111111111", "00000009ff80"),
            (OfText::TimeTz, "24:00:00-15:59:59", "000000141dd760000000e0ff"),
            (OfText::TimeTz, "12:00:00.5+05:30", "0000000a0ef35120ffffb2a8"),
            (OfText::TimeTz, "00:00:00.000001+00", "000000000000000100000000"),
            (OfText::Lsn, "16/B374D848", "00000016b374d848"),
            (OfText::Tid, "(4294967295,65535)", "ffffffffffff"),
            (OfText::Snapshot, "10:20:11", "00000001000000000000000a0000000000000014000000000000000b"),
            (OfText::Snapshot, "10:10:", "00000000000000000000000a000000000000000a"),
            (OfText::Numbers(2), "(NaN,-0)", "7ff80000000000008000000000000000"),
            (OfText::Numbers(3), "<(1,2),1e+300>", "3ff000000000000040000000000000007e37e43c8800759c"),
            (OfText::Path, "[(0,0)]", "000000000100000000000000000000000000000000"),
            (OfText::Polygon, "((1,2))", "000000013ff00000000000004000000000000000"),
        ] {
            assert_eq!(hex(of, text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_of_the_type_is_refused() {
        for (of, text) in [
            (OfText::Inet, "10.0.0.1/33"),
            (OfText::Inet, "x"),
            (OfText::Mac(6), "08:00:2b:01:02"),
            (OfText::Bits, "102"),
            (OfText::TimeTz, "12:00:00"),
            (OfText::TimeTz, "12:00:00.+00"),
            (OfText::TimeTz, "é2:00:00+00"),
            (OfText::TimeTz, "12:00:00+00:00:00:00"),
            (OfText::Lsn, "16"),
            (OfText::Tid, "(1,70000)"),
            (OfText::Numbers(2), "(1,2,3)"),
            (OfText::Polygon, "((1,2),3)"),
        ] {
            assert_eq!(write(of, text, &mut Vec::new()), Err(WRONG), "{text}");
        }
    }

    #[test]
    fn a_char_is_a_byte() {
        for (text, byte) in [(&b""[..], 0), (b"a", b'a'), (b"\\", b'\\'), (b"\\200", 0x80), (b"\\377", 0xff)] {
            assert_eq!(char(text), Ok(byte));
        }
        for text in [&b"ab"[..], b"\xc3\xa9", b"\\400", b"\\37"] {
            assert_eq!(char(text), Err(WRONG));
        }
    }
}
