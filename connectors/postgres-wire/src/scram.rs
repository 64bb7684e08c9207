//! SCRAM-SHA-256, the client's side: it proves that it knows the password without telling it, and has the server prove the same.
//!
//! Source: RFC 5802, RFC 7677, and "SASL Authentication" in PostgreSQL's manual, by which the user's name is left out. The key is
//! stretched by thousands of hashes, which is most of a login's time in WebAssembly: it is taken in once and its state copied,
//! which halves them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The mechanism's name, and that of the same with channel binding.
pub(crate) const SCRAM: &str = "SCRAM-SHA-256";
pub(crate) const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// PostgreSQL's default is 4,096; more than this only burns our time.
const MAX_ITERATIONS: u32 = 1_000_000;
/// Bytes of chance in our part of the nonce: as many as libpq takes.
const NONCE: usize = 18;

/// The exchange went wrong, or the server could not prove itself: in a few words, for a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

const MALFORMED: Broken = Broken("the server's challenge is malformed");
const UNPROVED: Broken = Broken("the server did not prove that it knows the password");

/// Whether the exchange is bound to the encrypted connection that it goes over.
pub(crate) enum Binding {
    /// There is nothing to bind it to.
    Unsupported,
    /// The server does not offer it. Whoever took its offer out on the way is found out by these words.
    Unrequested,
    /// To the hash of the server's certificate.
    EndPoint(Vec<u8>),
}

/// An exchange that has begun.
pub(crate) struct Exchange {
    header: &'static str,
    bound: String,
    nonce: String,
    bare: String,
}

/// What the server has to answer in the end.
pub(crate) struct Expected {
    mac: Hmac<Sha256>,
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("a MAC takes a key of any length")
}

fn signed(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = mac(key);
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// A password as both sides hash it. One that can't be prepared is taken as it is, as PostgreSQL does.
fn normalized(password: &[u8]) -> Vec<u8> {
    let prepared = std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
    prepared.map_or_else(|| password.to_vec(), |text| text.into_owned().into_bytes())
}

/// PBKDF2 with one block.
fn stretched(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let keyed = mac(password);
    let mut first = keyed.clone();
    first.update(salt);
    first.update(&[0, 0, 0, 1]);
    let mut round = first.finalize().into_bytes();
    let mut sum: [u8; 32] = round.into();
    for _ in 1..iterations {
        let mut next = keyed.clone();
        next.update(&round);
        round = next.finalize().into_bytes();
        sum.iter_mut().zip(round).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

impl Exchange {
    /// Begins one.
    pub(crate) fn new(binding: Binding) -> Self {
        // In Base64 there is no comma, which a nonce must not have.
        Self::with_nonce(binding, "", STANDARD.encode(rand::random::<[u8; NONCE]>()))
    }

    fn with_nonce(binding: Binding, user: &str, nonce: String) -> Self {
        let (header, end_point) = match binding {
            Binding::Unsupported => ("n,,", Vec::new()),
            Binding::Unrequested => ("y,,", Vec::new()),
            Binding::EndPoint(hash) => ("p=tls-server-end-point,,", hash),
        };
        let bound = STANDARD.encode([header.as_bytes(), &end_point].concat());
        let bare = format!("n={user},r={nonce}");
        Self { header, bound, nonce, bare }
    }

    /// What is sent first.
    pub(crate) fn first(&self) -> String {
        format!("{}{}", self.header, self.bare)
    }

    /// The answer to the server's challenge, and what the server must say to it.
    pub(crate) fn answer(self, password: &[u8], challenge: &[u8]) -> Result<(String, Expected), Broken> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| MALFORMED)?;
        let mut parts = challenge.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name)).ok_or(MALFORMED);
        let (nonce, salt, iterations) = (part("r=")?, part("s=")?, part("i=")?);
        if nonce.strip_prefix(self.nonce.as_str()).is_none_or(str::is_empty) {
            return Err(Broken("the server's nonce does not begin with ours"));
        }
        let salt = STANDARD.decode(salt).map_err(|_| MALFORMED)?;
        let iterations: u32 = iterations.parse().map_err(|_| MALFORMED)?;
        if !(1..=MAX_ITERATIONS).contains(&iterations) {
            return Err(Broken("the server asks for an unreasonable number of iterations"));
        }
        let unproved = format!("c={},r={nonce}", self.bound);
        let said = format!("{},{challenge},{unproved}", self.bare);
        let salted = stretched(&normalized(password), &salt, iterations);
        let mut proof = signed(&salted, b"Client Key");
        let stored = Sha256::digest(proof);
        proof.iter_mut().zip(signed(&stored, said.as_bytes())).for_each(|(proof, byte)| *proof ^= byte);
        let mut mac = mac(&signed(&salted, b"Server Key"));
        mac.update(said.as_bytes());
        Ok((format!("{unproved},p={}", STANDARD.encode(proof)), Expected { mac }))
    }
}

impl Expected {
    /// Whether the server has proved that it knows the password too.
    pub(crate) fn check(self, last: &[u8]) -> Result<(), Broken> {
        let text = std::str::from_utf8(last).map_err(|_| UNPROVED)?;
        let signature = text.split(',').next().and_then(|part| part.strip_prefix("v=")).ok_or(UNPROVED)?;
        let signature = STANDARD.decode(signature).map_err(|_| UNPROVED)?;
        self.mac.verify_slice(&signature).map_err(|_| UNPROVED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn exchange(binding: Binding) -> Exchange {
        Exchange::with_nonce(binding, "user", NONCE.to_owned())
    }

    #[test]
    fn the_example_of_rfc_7677_is_answered() {
        let begun = exchange(Binding::Unsupported);
        assert_eq!(begun.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (answer, expected) = begun.answer(b"pencil", CHALLENGE.as_bytes()).unwrap();
        let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(answer, format!("c=biws,r={NONCE}%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p={proof}"));
        assert_eq!(expected.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
    }

    #[test]
    fn a_server_that_proves_nothing_is_refused() {
        for last in ["v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=", "v=", "v=AAAA", "e=invalid-proof", "", "\u{fffd}"] {
            let (_, expected) = exchange(Binding::Unsupported).answer(b"pencil", CHALLENGE.as_bytes()).unwrap();
            assert_eq!(expected.check(last.as_bytes()), Err(UNPROVED), "{last}");
        }
    }

    #[test]
    fn challenges_that_are_none_are_refused() {
        let salt = "s=W22ZaJ0SNY7soEsUEjb6gQ==";
        for (challenge, why) in [
            (format!("r={NONCE},{salt},i=4096"), "nonce"),
            (format!("r=another{NONCE},{salt},i=4096"), "nonce"),
            (format!("r={NONCE}x,{salt},i=0"), "iterations"),
            (format!("r={NONCE}x,{salt},i=2000000000"), "iterations"),
            (format!("r={NONCE}x,{salt},i=x"), "malformed"),
            (format!("r={NONCE}x,{salt}"), "malformed"),
            (format!("r={NONCE}x,s=?,i=4096"), "malformed"),
            (format!("m=ext,r={NONCE}x,{salt},i=4096"), "malformed"),
            (String::new(), "malformed"),
        ] {
            let Err(Broken(said)) = exchange(Binding::Unsupported).answer(b"pencil", challenge.as_bytes()) else {
                panic!("`{challenge}` is answered");
            };
            assert!(said.contains(why), "{challenge}: {said}");
        }
        assert!(exchange(Binding::Unsupported).answer(b"pencil", b"\xff").is_err());
    }

    #[test]
    fn what_it_is_bound_to_is_part_of_the_answer() {
        let answer = |binding| exchange(binding).answer(b"pencil", CHALLENGE.as_bytes()).unwrap().0;
        assert!(answer(Binding::Unrequested).starts_with("c=eSws,"));
        let bound = exchange(Binding::EndPoint(vec![1, 2, 3]));
        assert!(bound.first().starts_with("p=tls-server-end-point,,n="));
        let encoded = STANDARD.encode(b"p=tls-server-end-point,,\x01\x02\x03");
        assert!(bound.answer(b"pencil", CHALLENGE.as_bytes()).unwrap().0.starts_with(&format!("c={encoded},")));
    }

    #[test]
    fn nonces_differ_and_have_no_comma() {
        let nonces: Vec<String> = (0..100).map(|_| Exchange::new(Binding::Unsupported).nonce).collect();
        assert!(nonces.iter().all(|nonce| nonce.len() == 24 && !nonce.contains(',')));
        assert_eq!(nonces.iter().collect::<std::collections::HashSet<_>>().len(), 100);
    }

    #[test]
    fn passwords_are_prepared_where_they_can_be() {
        // The ligature is its letters; a lone byte is not text.
        assert_eq!(normalized("\u{fb01}n".as_bytes()), b"fin");
        assert_eq!(normalized(b"\xff"), b"\xff");
    }
}
