//! TLS towards servers, on the host: roots, client certificate and the three degrees of checking.

use crate::error::{HostError, HostErrorKind};
use rapidbyte_config::connector_config::TlsFiles;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::path::Path;
use std::sync::Arc;

/// A file with certificates or a key is not larger than this.
const MAX_FILE: u64 = 1 << 20;

/// How far the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verify {
    Nothing,
    Chain,
    ChainAndName,
}

/// What every connection of an instance encrypts with. Files are read when the first one asks.
pub(crate) struct TlsConfigs {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    /// Whether the authorities were named and are not those the world trusts.
    named: bool,
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl TlsConfigs {
    /// Reads the files.
    pub(crate) fn new(files: &TlsFiles) -> Result<Self, HostError> {
        let roots = match &files.ca {
            None => RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            // Those and no others: under a check of the chain alone, anybody's certificate from a public authority would do.
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path, "CA")? {
                    roots.add(certificate).map_err(|error| unreadable(path, "CA", error))?;
                }
                roots
            }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = match (&files.cert, &files.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert, "client certificate")?;
                let pem = read(key, "client key")?;
                let secret = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unreadable(key, "client key", error))?;
                CertifiedKey::from_der(chain.clone(), secret.clone_key(), &provider).map_err(|error| match error {
                    Error::InconsistentKeys(_) => HostError::new(
                        HostErrorKind::Grant,
                        format!("the client key `{}` is not that of the certificate `{}`", key.display(), cert.display()),
                    )
                    .with_hint("name the key that the certificate was made for"),
                    other => unreadable(key, "client key", other),
                })?;
                Some((chain, secret))
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(HostError::new(HostErrorKind::Grant, "a client certificate and its key belong together")
                    .with_hint("give both files, or neither"));
            }
        };
        Ok(Self { provider, roots: Arc::new(roots), named: files.ca.is_some(), client })
    }

    /// Whether a check of the chain alone would say nothing: a public authority gives a certificate to anybody.
    pub(crate) fn proves_nothing(&self, verify: Verify) -> bool {
        verify == Verify::Chain && !self.named
    }

    /// The degree of checking for one that a guest asks for. Whoever names an authority wants it to be checked against, as libpq
    /// does under `sslmode=require`.
    fn degree(&self, asked: Verify) -> Verify {
        match asked {
            Verify::Nothing if self.named => Verify::Chain,
            asked => asked,
        }
    }

    /// The configuration for one handshake.
    pub(crate) fn client_config(&self, verify: Verify, alpn: Vec<Vec<u8>>) -> Result<ClientConfig, Error> {
        let verifier: Arc<dyn ServerCertVerifier> = match self.degree(verify) {
            Verify::Nothing => Arc::new(AnyCertificate(Arc::clone(&self.provider))),
            Verify::Chain => Arc::new(AnyName(self.web_pki()?)),
            Verify::ChainAndName => self.web_pki()?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.client {
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key())?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn;
        // A session of one configuration must not be resumed under another degree of checking.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    fn web_pki(&self) -> Result<Arc<WebPkiServerVerifier>, Error> {
        WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))
    }
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>, HostError> {
    let size = std::fs::metadata(path).map_err(|error| unreadable(path, what, error))?.len();
    if size > MAX_FILE {
        return Err(HostError::new(HostErrorKind::Grant, format!("the {what} file `{}` has {size} bytes", path.display())));
    }
    std::fs::read(path).map_err(|error| unreadable(path, what, error))
}

fn certificates(path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, HostError> {
    let pem = read(path, what)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| unreadable(path, what, error))?;
    if found.is_empty() {
        return Err(HostError::new(HostErrorKind::Grant, format!("the {what} file `{}` holds no certificate", path.display()))
            .with_hint("a PEM file with `-----BEGIN CERTIFICATE-----` is expected"));
    }
    Ok(found)
}

fn unreadable(path: &Path, what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> HostError {
    HostError::new(HostErrorKind::Grant, format!("the {what} file `{}` can't be used", path.display())).because(error)
}

/// Takes any certificate, and still proves that the server holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Checks the chain and lets the name be another.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The verifier checks the chain first and the name last, so a complaint about the name means the chain is good.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    #[test]
    fn a_named_authority_is_checked_against_and_is_the_only_one() {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, certificate.pem()).expect("written");
        let named = TlsConfigs::new(&TlsFiles { ca: Some(path), cert: None, key: None }).expect("a file with a certificate");
        let public = TlsConfigs::new(&TlsFiles::default()).expect("no files");
        assert_eq!(named.roots.len(), 1);
        assert!(public.roots.len() > 1);
        for (asked, of_named, of_public) in [
            (Verify::Nothing, Verify::Chain, Verify::Nothing),
            (Verify::Chain, Verify::Chain, Verify::Chain),
            (Verify::ChainAndName, Verify::ChainAndName, Verify::ChainAndName),
        ] {
            assert_eq!((named.degree(asked), public.degree(asked)), (of_named, of_public));
        }
    }
}
