//! Certificates for tests, made by the `openssl` program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A certificate authority of our own, for an hour.
#[derive(Debug)]
pub struct Authority {
    dir: TempDir,
}

impl Authority {
    /// Makes one.
    ///
    /// # Panics
    /// When `openssl` is missing or fails.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("rapidbyte-ca-").tempdir().expect("a temporary directory can be made");
        let authority = Self { dir };
        openssl(
            authority.dir.path(),
            &[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
                "-subj",
                &format!("/CN={name}"),
                "-addext",
                "basicConstraints=critical,CA:TRUE",
                "-addext",
                "keyUsage=critical,keyCertSign",
                "-keyout",
                "ca.key",
                "-out",
                "ca.pem",
            ],
        );
        authority
    }

    /// Its certificate.
    pub fn certificate(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Signs a certificate for names (`DNS:localhost`, `IP:127.0.0.1`); returns the files of certificate and key.
    ///
    /// # Panics
    /// When `openssl` fails.
    #[track_caller]
    pub fn issue(&self, file: &str, common_name: &str, names: &str) -> (PathBuf, PathBuf) {
        let dir = self.dir.path();
        let extensions = format!("{file}.ext");
        fs::write(dir.join(&extensions), format!("subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n"))
            .expect("written");
        let (key, request, certificate) = (format!("{file}.key"), format!("{file}.csr"), format!("{file}.pem"));
        openssl(
            dir,
            &[
                "req",
                "-new",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-subj",
                &format!("/CN={common_name}"),
                "-keyout",
                &key,
                "-out",
                &request,
            ],
        );
        openssl(
            dir,
            &[
                "x509",
                "-req",
                "-in",
                &request,
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                &extensions,
                "-out",
                &certificate,
            ],
        );
        (dir.join(certificate), dir.join(key))
    }
}

#[track_caller]
fn openssl(dir: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(dir).output().expect("the `openssl` program is installed");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
