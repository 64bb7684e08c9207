//! The only plaintext that may leave under `tls: required`: a request to encrypt.

/// PostgreSQL's SSLRequest: its length, then 1234.5679.
const POSTGRES_SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The capability bit by which a MySQL client asks for TLS.
const MYSQL_CLIENT_SSL: u8 = 0x08;

/// Whether these bytes ask the server to encrypt and say nothing else.
pub(crate) fn is_tls_request(bytes: &[u8]) -> bool {
    bytes == POSTGRES_SSL_REQUEST || is_mysql_request(bytes)
}

/// A packet of 32 bytes, number 1: flags, longest packet, character set, 23 bytes of zero.
fn is_mysql_request(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes[..4] == [32, 0, 0, 1]
        && bytes[5] & MYSQL_CLIENT_SSL != 0
        && bytes[13..].iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_requests_are_recognised() {
        assert!(is_tls_request(&[0, 0, 0, 8, 4, 210, 22, 47]));
        assert!(!is_tls_request(&[0, 0, 0, 8, 4, 210, 22, 46]), "a cancel request");
        assert!(!is_tls_request(&[0, 0, 0, 8, 4, 210, 22, 47, 0]));
        assert!(!is_tls_request(&[]));
        let mut mysql = [0; 36];
        mysql[0] = 32;
        mysql[3] = 1;
        mysql[5] = 0x0a;
        mysql[12] = 45;
        assert!(is_tls_request(&mysql));
        mysql[20] = b'u';
        assert!(!is_tls_request(&mysql), "a user name in the filler");
        mysql[20] = 0;
        mysql[5] = 0x02;
        assert!(!is_tls_request(&mysql), "no request for TLS");
    }
}
