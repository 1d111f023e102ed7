//! Tests of certificate verification: a session trusts only the configured authority.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use super::super::KeystoneError;
use super::{ReplayKeystone, cloud_at, response};
use crate::listen::{Certificate, PlainHttp, Tls};
use crate::tls::install_provider;

/// A certificate authority of a site, and its files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    files: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("is valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("generates");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("generates");
        let files = tempfile::tempdir().expect("creates a directory");
        std::fs::write(files.path().join("ca"), issuer.pem()).expect("writes");
        Self { issuer, files }
    }

    /// The CA bundle.
    fn bundle(&self) -> PathBuf {
        self.files.path().join("ca")
    }

    /// Starts a Keystone with a certificate for this name.
    fn keystone(&self, name: &str) -> ReplayKeystone {
        install_provider();
        let key = KeyPair::generate().expect("generates");
        let params = CertificateParams::new([name.to_owned()]).expect("is valid");
        let issued = params.signed_by(&key, &self.issuer).expect("generates");
        let (certificate, key_file) = (self.files.path().join("certificate"), self.files.path().join("key"));
        std::fs::write(&certificate, issued.pem()).expect("writes");
        std::fs::write(&key_file, key.serialize_pem()).expect("writes");
        let certificate = Certificate::read_blocking(&certificate, &key_file).expect("is valid");
        ReplayKeystone::start_with_tls(
            [response("token-password")],
            Tls::new(Some(certificate), PlainHttp::Refused),
        )
    }
}

#[tokio::test]
async fn only_the_configured_authority_is_trusted() {
    let (site, other) = (Authority::new(), Authority::new());
    let cacert = |authority: &Authority| format!("cacert = {:?}", authority.bundle().display().to_string());
    for (name, settings, trusted) in [
        ("127.0.0.1", cacert(&site), true),
        ("127.0.0.1", cacert(&other), false),
        // The authorities of the system did not issue the certificate.
        ("127.0.0.1", String::new(), false),
        ("192.0.2.1", cacert(&site), false),
        ("192.0.2.1", "verify = false".into(), true),
    ] {
        let keystone = site.keystone(name);
        let result = cloud_at(&keystone.url, &settings).session().authorization().await;
        match result {
            Ok(_) => assert!(trusted, "{name} with {settings:?} was trusted"),
            Err(KeystoneError::Unavailable(reason)) => {
                assert!(!trusted && reason.contains("certificate"), "{name} with {settings:?}: {reason}");
            }
            Err(error) => panic!("{name} with {settings:?}: {error}"),
        }
        assert_eq!(keystone.request_count(), usize::from(trusted), "an untrusted server gets no secret");
    }
}
