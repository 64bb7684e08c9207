use crate::net::{serve, tls_config};
use crate::support::*;
use rapidbyte_config::connector_config::TlsFiles;
use rapidbyte_runtime::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::json;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    Authority { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
}

impl Authority {
    fn issue(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        (CertificateParams::new(names).expect("names").signed_by(&key, &self.issuer).expect("signed"), key)
    }
}

/// An echo server behind TLS; `clients` signs the certificates it asks for.
fn server(own: &Authority, names: &[&str], clients: Option<&Authority>) -> u16 {
    let (certificate, key) = own.issue(names);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(clients.der.clone()).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().expect("a verifier");
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).expect("a certificate");
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let config = Arc::new(config);
    serve(move |mut socket| {
        let mut session = rustls::ServerConnection::new(Arc::clone(&config)).expect("a session");
        let mut stream = rustls::Stream::new(&mut session, &mut socket);
        let mut buffer = [0; 64];
        while let Ok(count) = stream.read(&mut buffer) {
            if count == 0 || stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    })
    .0
}

struct Files {
    _dir: tempfile::TempDir,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

fn files(ca: &Authority, client: &Authority) -> Files {
    let dir = tempfile::tempdir().expect("a directory");
    let (certificate, key) = client.issue(&["client"]);
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let (ca, cert, key) = (write("ca.pem", &ca.pem), write("cert.pem", &certificate.pem()), write("key.pem", &key.serialize_pem()));
    Files { _dir: dir, ca, cert, key }
}

fn tls(port: u16, name: &str, verify: &str, files: TlsFiles) -> InstanceOptions {
    let mut options = options(tls_config("127.0.0.1", port, name, verify));
    options.grants.network = NetworkGrant { files, ..hosts(&["127.0.0.1"]) };
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn each_degree_of_checking_takes_and_refuses_what_it_should() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let port = server(&ours, &["db.test"], None);
    let files = files(&ours, &ours);
    let other = self::files(&theirs, &theirs);
    let with = |ca: &Files| TlsFiles { ca: Some(ca.ca.clone()), cert: None, key: None };
    for (verify, name, ca, fine) in [
        ("none", "db.test", None, true),
        ("none", "wrong.test", None, true),
        ("none", "wrong.test", Some(&files), true),
        ("none", "db.test", Some(&other), false),
        ("ca", "db.test", Some(&files), true),
        ("ca", "wrong.test", Some(&files), true),
        ("ca", "db.test", None, false),
        ("ca", "db.test", Some(&other), false),
        ("full", "db.test", Some(&files), true),
        ("full", "wrong.test", Some(&files), false),
        ("full", "db.test", None, false),
        ("full", "db.test", Some(&other), false),
    ] {
        let options = tls(port, name, verify, ca.map(with).unwrap_or_default());
        let said = told(&options).await;
        if fine {
            let words: Vec<_> = said.split(' ').collect();
            assert_eq!(words[..3], ["ping", "TLSv1_3", "postgresql"], "{verify} {name}: {said}");
            assert_eq!(words[3].len(), 64, "the endpoint's SHA-256");
        } else {
            assert!(said.starts_with("NetCode::Tls"), "{verify} {name}: {said}");
            // A public authority gives anybody a certificate: without a check of the name that proves nothing.
            assert_eq!(said.contains("none is named"), (verify, ca.is_some()) == ("ca", false), "{verify} {name}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_by_the_host() {
    let (ours, clients) = (authority("ours"), authority("clients"));
    let port = server(&ours, &["db.test"], Some(&clients));
    let files = files(&ours, &clients);
    let shown = TlsFiles { ca: Some(files.ca.clone()), cert: Some(files.cert.clone()), key: Some(files.key.clone()) };
    assert!(told(&tls(port, "db.test", "full", shown)).await.starts_with("ping"));
    let hidden = TlsFiles { ca: Some(files.ca.clone()), cert: None, key: None };
    let said = told(&tls(port, "db.test", "full", hidden)).await;
    assert!(!said.starts_with("ping"), "{said}");
    let another = self::files(&ours, &clients);
    for broken in [
        TlsFiles { cert: Some(files.cert.clone()), ..TlsFiles::default() },
        TlsFiles { cert: Some(files.cert.clone()), key: Some(another.key.clone()), ..TlsFiles::default() },
        TlsFiles { ca: Some(files.key.clone()), ..TlsFiles::default() },
        TlsFiles { ca: Some(PathBuf::from("/nowhere/ca.pem")), ..TlsFiles::default() },
    ] {
        match read(&tls(port, "db.test", "full", broken)).await {
            Err(GuestError::Host(error)) => assert_eq!(error.kind(), HostErrorKind::Grant),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_that_waits_before_the_handshake_is_refused() {
    let (port, _thread) = serve(|mut socket| {
        socket.write_all(b"injected").expect("sent");
        std::thread::sleep(Duration::from_secs(2));
    });
    for mode in ["tls-unread", "tls-unread-blind"] {
        let mut options =
            options(json!({ "mode": mode, "host": "127.0.0.1", "port": port, "server_name": "db.test", "verify": "none" }));
        options.grants.network = hosts(&["127.0.0.1"]);
        let said = told(&options).await;
        assert!(said.contains("plaintext that was not read"), "{mode}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_shake_hands_is_an_error_in_time() {
    let (port, _thread) = serve(|mut socket| {
        let _ = socket.read(&mut [0; 1024]);
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let said = told(&tls(port, "db.test", "none", TlsFiles::default())).await;
    assert!(said.starts_with("NetCode::Tls"), "{said}");
    let said = told(&tls(port, "not a name", "none", TlsFiles::default())).await;
    assert!(said.starts_with("NetCode::Tls"), "{said}");
}
