//! 11: TLS and authentication: wrong certificates, changed passwords, lost roles.

use std::path::Path;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use volboot::store::{Freshness, Store};

use crate::etcd::{Etcd, Options};
use crate::{is_stale, open, put, read, run, wait_until, wait_until_fresh};

const LONG: Duration = Duration::from_secs(30);

/// Writes a CA, and a certificate of it for the members.
fn create_certificates(folder: &Path) {
    let mut ca = CertificateParams::new(Vec::new()).expect("valid");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("a key")).expect("a CA");
    let names = (11..14).map(|host| format!("10.97.0.{host}")).collect::<Vec<_>>();
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(names).expect("valid").signed_by(&key, &ca).expect("signs");
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).expect("writes");
    write("ca.pem", ca.pem());
    write("server.pem", server.pem());
    write("server.key", key.serialize_pem());
}

#[test]
fn tls_needs_the_right_authority() {
    let folder = tempfile::tempdir().expect("a directory");
    create_certificates(folder.path());
    let tls = Some(folder.path().to_owned());
    run(Options { tls, ..Options::default() }, move |etcd| async move {
        let store = open(etcd.config("/volboot/"), &etcd.directory("1")).await;
        put(&*store, "a", "1").await.expect("writes");
        assert_eq!(read(&*store, "a").await.expect("reads").as_deref(), Some("1"));
        let other = etcd.directory("other");
        create_certificates(&other);
        let mut config = etcd.config("/volboot/");
        config.cacert = Some(other.join("ca.pem"));
        let distrustful = open(config, &etcd.directory("2")).await;
        let Freshness::Stale { reason, .. } = distrustful.freshness() else { panic!("is stale") };
        assert!(reason.to_lowercase().contains("certificate"), "{reason}");
        // The authority's file is read again at each new connection.
        std::fs::copy(folder.path().join("ca.pem"), other.join("ca.pem")).expect("copies");
        wait_until_fresh(&*distrustful).await;
        assert_eq!(read(&*distrustful, "a").await.expect("reads").as_deref(), Some("1"));
    });
}

/// Enables authentication, with a user whose role covers the prefix.
fn enable_authentication(etcd: &Etcd) {
    for command in [
        "user add root:root",
        "role add root",
        "user grant-role root root",
        "user add volboot:first",
        "role add volboot",
        "role grant-permission --prefix=true volboot readwrite /volboot/",
        "user grant-role volboot volboot",
        "auth enable",
    ] {
        etcd.ctl(&command.split(' ').collect::<Vec<_>>());
    }
}

fn as_root(etcd: &Etcd, command: &str) {
    let arguments = [vec!["--user", "root:root"], command.split(' ').collect()].concat();
    etcd.ctl(&arguments);
}

#[test]
fn a_user_with_a_role_on_the_prefix_is_enough() {
    run(Options::default(), |etcd| async move {
        enable_authentication(&etcd);
        let folder = etcd.directory("secrets");
        let password = folder.join("password");
        std::fs::write(&password, "first\n").expect("writes");
        let mut config = etcd.config("/volboot/");
        (config.username, config.password_file) = (Some("volboot".into()), Some(password.clone()));
        let store = open(config.clone(), &etcd.directory("1")).await;
        put(&*store, "a", "1").await.expect("writes");
        assert_eq!(read(&*store, "a").await.expect("reads").as_deref(), Some("1"));
        let claim = store.cluster().claim("w", b"").await.expect("responds").expect("is free");
        drop(claim);
        // Every change of users makes the token old: a new one is asked for.
        std::fs::write(&password, "second\n").expect("writes");
        etcd.ctl_with_input(
            &["--user", "root:root", "user", "passwd", "volboot", "--interactive=false"],
            "second",
        );
        let writes = async || put(&*store, "a", "2").await.is_ok();
        wait_until(LONG, "the new password is used", writes).await;
        wait_until_fresh(&*store).await;
        // Without its role, the user reads nothing; with it again, all goes on.
        as_root(&etcd, "user revoke-role volboot volboot");
        wait_until(LONG, "the loss is known", async || is_stale(&*store)).await;
        let Freshness::Stale { reason, .. } = store.freshness() else { panic!("is stale") };
        assert!(reason.contains("permission denied"), "{reason}");
        assert!(put(&*store, "a", "3").await.is_err());
        as_root(&etcd, "user grant-role volboot volboot");
        wait_until_fresh(&*store).await;
        put(&*store, "a", "4").await.expect("writes");
        assert_eq!(read(&*store, "a").await.expect("reads").as_deref(), Some("4"));
        // A wrong password is named.
        std::fs::write(&password, "wrong\n").expect("writes");
        let refused = open(config, &etcd.directory("2")).await;
        let Freshness::Stale { reason, .. } = refused.freshness() else { panic!("is stale") };
        assert!(reason.contains("invalid user ID or password"), "{reason}");
    });
}
