//! `tls-server-end-point` of RFC 5929: the leaf certificate's hash, by the hash of its own signature.

use sha2::{Digest, Sha256, Sha384, Sha512};

/// One DER element: its tag, its content and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 || rest.len() < count {
            return None;
        }
        let (digits, rest) = rest.split_at(count);
        (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
    };
    (length <= rest.len()).then(|| (tag, &rest[..length], &rest[length..]))
}

const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;

enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// The hash, or `None` where the signature has no single one (Ed25519) or the certificate can't be read.
pub(crate) fn endpoint_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    Some(match signature_hash(certificate)? {
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

fn signature_hash(certificate: &[u8]) -> Option<Hash> {
    let (SEQUENCE, outer, _) = element(certificate)? else { return None };
    let (SEQUENCE, _, after_tbs) = element(outer)? else { return None };
    let (SEQUENCE, algorithm, _) = element(after_tbs)? else { return None };
    let (OBJECT_ID, id, parameters) = element(algorithm)? else { return None };
    match id {
        // PKCS #1: 1.2.840.113549.1.1.x
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, kind] => match kind {
            // MD5 and SHA-1 give way to SHA-256.
            4 | 5 | 11 => Some(Hash::Sha256),
            12 => Some(Hash::Sha384),
            13 => Some(Hash::Sha512),
            10 => pss_hash(parameters),
            _ => None,
        },
        // ECDSA: 1.2.840.10045.4.1 with SHA-1, .4.3.x with SHA-2.
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] => Some(Hash::Sha256),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, kind] => match kind {
            2 => Some(Hash::Sha256),
            3 => Some(Hash::Sha384),
            4 => Some(Hash::Sha512),
            _ => None,
        },
        _ => None,
    }
}

/// RSASSA-PSS names its hash in `[0]`; without it the default is SHA-1.
fn pss_hash(parameters: &[u8]) -> Option<Hash> {
    let (SEQUENCE, fields, _) = element(parameters)? else { return None };
    if fields.is_empty() {
        return Some(Hash::Sha256);
    }
    let (tag, first, _) = element(fields)?;
    if tag != 0xa0 {
        return Some(Hash::Sha256);
    }
    let (SEQUENCE, algorithm, _) = element(first)? else { return None };
    let (OBJECT_ID, id, _) = element(algorithm)? else { return None };
    match id {
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, kind] => match kind {
            1 => Some(Hash::Sha256),
            2 => Some(Hash::Sha384),
            3 => Some(Hash::Sha512),
            _ => None,
        },
        [0x2b, 0x0e, 0x03, 0x02, 0x1a] => Some(Hash::Sha256),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag, u8::try_from(content.len()).expect("short")];
        out.extend_from_slice(content);
        out
    }

    fn certificate(id: &[u8], parameters: &[u8]) -> Vec<u8> {
        let algorithm = [der(OBJECT_ID, id), parameters.to_vec()].concat();
        der(SEQUENCE, &[der(SEQUENCE, &[]), der(SEQUENCE, &algorithm), der(3, &[0])].concat())
    }

    #[test]
    fn the_hash_follows_the_signature() {
        let rsa = |kind| certificate(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, kind], &[5, 0]);
        for (kind, length) in [(4, 32), (5, 32), (11, 32), (12, 48), (13, 64)] {
            assert_eq!(endpoint_hash(&rsa(kind)).map(|hash| hash.len()), Some(length), "{kind}");
        }
        let ecdsa = certificate(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 3], &[]);
        assert_eq!(endpoint_hash(&ecdsa).map(|hash| hash.len()), Some(48));
        let ed25519 = certificate(&[0x2b, 0x65, 0x70], &[]);
        assert_eq!(endpoint_hash(&ed25519), None);
        let sha512 = der(OBJECT_ID, &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 3]);
        let pss = der(SEQUENCE, &der(0xa0, &der(SEQUENCE, &sha512)));
        let pss = certificate(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 10], &pss);
        assert_eq!(endpoint_hash(&pss).map(|hash| hash.len()), Some(64));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = certificate(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 11], &[5, 0]);
        for end in 0..whole.len() {
            let _ = endpoint_hash(&whole[..end]);
        }
        assert_eq!(endpoint_hash(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(endpoint_hash(&[0x30, 0x80]), None);
    }
}
