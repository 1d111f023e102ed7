//! Whom a session believes to be Keystone: who can show a certificate of the authority that was named, and nobody else.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use super::super::KeystoneError;
use super::{Fake, answer, cloud_at};
use crate::listen::{Certificate, Plain, Tls};
use crate::tls::install_provider;

/// An authority of the site's own, and what it has issued.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    files: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("is right");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("is made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("is made");
        let files = tempfile::tempdir().expect("a directory");
        std::fs::write(files.path().join("ca"), issuer.pem()).expect("is written");
        Self { issuer, files }
    }

    /// The file that says whom to trust.
    fn file(&self) -> PathBuf {
        self.files.path().join("ca")
    }

    /// A Keystone with a certificate for this name.
    fn keystone(&self, name: &str) -> Fake {
        install_provider();
        let key = KeyPair::generate().expect("is made");
        let params = CertificateParams::new([name.to_owned()]).expect("is right");
        let issued = params.signed_by(&key, &self.issuer).expect("is made");
        let (certificate, key_file) = (self.files.path().join("certificate"), self.files.path().join("key"));
        std::fs::write(&certificate, issued.pem()).expect("is written");
        std::fs::write(&key_file, key.serialize_pem()).expect("is written");
        let certificate = Certificate::read_blocking(&certificate, &key_file).expect("is right");
        Fake::start_with_tls([answer("token-password")], Tls::new(Some(certificate), Plain::Refused))
    }
}

#[tokio::test]
async fn the_sites_own_authority_is_trusted_and_no_other() {
    let (site, other) = (Authority::new(), Authority::new());
    let cacert = |authority: &Authority| format!("cacert = {:?}", authority.file().display().to_string());
    for (name, said, trusted) in [
        ("127.0.0.1", cacert(&site), true),
        ("127.0.0.1", cacert(&other), false),
        // The system's authorities do not know it.
        ("127.0.0.1", String::new(), false),
        ("192.0.2.1", cacert(&site), false),
        ("192.0.2.1", "verify = false".into(), true),
    ] {
        let keystone = site.keystone(name);
        let outcome = cloud_at(&keystone.url, &said).session().authorization().await;
        match outcome {
            Ok(_) => assert!(trusted, "{name} with {said:?} was trusted"),
            Err(KeystoneError::Away(reason)) => {
                assert!(!trusted && reason.contains("certificate"), "{name} with {said:?}: {reason}");
            }
            Err(error) => panic!("{name} with {said:?}: {error}"),
        }
        assert_eq!(keystone.asked(), usize::from(trusted), "no secret is sent to who is not trusted");
    }
}
