//! 11: TLS and authentication: wrong and expired certificates, expired tokens, changed passwords, lost roles.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use volboot::config::EtcdConfig;
use volboot::store::{Freshness, Store};

use crate::etcd::{Etcd, Options};
use crate::{is_stale, open, put, read, run, wait_until, wait_until_fresh};

const LONG: Duration = Duration::from_secs(30);
/// The years in which certificates end.
const VALID: i32 = 2100;
const EXPIRED: i32 = 2020;
/// The time to live of a token.
const TOKEN: Duration = Duration::from_secs(1);

/// A CA, and the folder of all its certificates.
struct Authority {
    ca: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    /// Creates a CA, and a certificate of it for the members.
    fn create(folder: &Path) -> Self {
        let mut ca = CertificateParams::new(Vec::new()).expect("valid");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("a key")).expect("a CA");
        std::fs::write(folder.join("ca.pem"), ca.pem()).expect("writes");
        let authority = Self { ca, folder: folder.to_owned() };
        authority.issue("server", VALID);
        authority
    }

    /// Replaces the certificate and key with this name; they are valid until this year.
    fn issue(&self, name: &str, year: i32) {
        let names = (11..14).map(|host| format!("10.97.0.{host}")).collect::<Vec<_>>();
        let key = KeyPair::generate().expect("a key");
        let mut certificate = CertificateParams::new(names).expect("valid");
        certificate.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = certificate.signed_by(&key, &self.ca).expect("signs");
        let write = |file: String, text: String| {
            // At once: a member reads both files at each connection.
            let new = self.folder.join("new");
            std::fs::write(&new, text).expect("writes");
            std::fs::rename(new, self.folder.join(file)).expect("moves");
        };
        write(format!("{name}.key"), key.serialize_pem());
        write(format!("{name}.pem"), certificate.pem());
    }
}

async fn wait_for_reason(store: &dyn Store, text: &str) {
    let mut last = None;
    let is_named = async || {
        let Freshness::Stale { reason, .. } = store.freshness() else { return false };
        let is_named = reason.to_lowercase().contains(text);
        last = Some(reason);
        is_named
    };
    let deadline = tokio::time::timeout(LONG, wait_until(LONG * 2, text, is_named)).await;
    assert!(deadline.is_ok(), "{text} is not named: {last:?}");
}

#[test]
fn tls_needs_the_right_authority() {
    let folder = tempfile::tempdir().expect("a directory");
    Authority::create(folder.path());
    let tls = Some(folder.path().to_owned());
    run(Options { tls, ..Options::default() }, move |etcd| async move {
        let store = open(etcd.config("/volboot/"), &etcd.directory("1")).await;
        put(&*store, "a", "1").await.expect("writes");
        assert_eq!(read(&*store, "a").await.expect("reads").as_deref(), Some("1"));
        let other = etcd.directory("other");
        Authority::create(&other);
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

#[test]
fn certificates_are_renewed_while_all_runs() {
    let folder = tempfile::tempdir().expect("a directory");
    let authority = Authority::create(folder.path());
    authority.issue("client", VALID);
    let tls = Some(folder.path().to_owned());
    run(Options { tls, ..Options::default() }, move |mut etcd| async move {
        let config = etcd.config("/volboot/");
        let running = open(config.clone(), &etcd.directory("1")).await;
        put(&*running, "a", "1").await.expect("writes");
        // The members' certificate has expired: connections go on, and new ones are refused.
        authority.issue("server", EXPIRED);
        let new = open(config.clone(), &etcd.directory("2")).await;
        wait_for_reason(&*new, "expired").await;
        put(&*running, "a", "2").await.expect("writes");
        authority.issue("server", VALID);
        wait_until_fresh(&*new).await;
        assert_eq!(read(&*new, "a").await.expect("reads").as_deref(), Some("2"));
        // The instance's own has expired.
        authority.issue("client", EXPIRED);
        let refused = open(config, &etcd.directory("3")).await;
        wait_for_reason(&*refused, "certificate").await;
        authority.issue("client", VALID);
        wait_until_fresh(&*refused).await;
        // All connect anew, with the renewed certificates.
        (0..3).for_each(|member| etcd.kill(member));
        wait_until(LONG, "the outage is known", async || is_stale(&*running)).await;
        (0..3).for_each(|member| etcd.restart_without_wait(member));
        wait_until_fresh(&*running).await;
        put(&*running, "a", "3").await.expect("writes");
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

/// A configuration with the user.
fn with_user(etcd: &Etcd, password: &Path) -> EtcdConfig {
    let mut config = etcd.config("/volboot/");
    (config.username, config.password_file) = (Some("volboot".into()), Some(password.to_owned()));
    config
}

#[test]
fn an_expired_token_is_replaced() {
    let arguments = vec!["--auth-token-ttl".into(), TOKEN.as_secs().to_string()];
    run(Options { arguments, ..Options::default() }, |mut etcd| async move {
        enable_authentication(&etcd);
        let password = etcd.directory("secrets").join("password");
        std::fs::write(&password, "first\n").expect("writes");
        let store = open(with_user(&etcd, &password), &etcd.directory("1")).await;
        put(&*store, "a", "1").await.expect("writes");
        let claim = store.cluster().claim("w", b"").await.expect("responds").expect("is free");
        // A member renews a token at each use, and the other members see none.
        tokio::time::sleep(3 * TOKEN).await;
        put(&*store, "a", "2").await.expect("writes");
        etcd.kill(0);
        let writes = async || put(&*store, "a", "3").await.is_ok();
        wait_until(LONG, "another member gives a token", writes).await;
        wait_until_fresh(&*store).await;
        assert_eq!(read(&*store, "a").await.expect("reads").as_deref(), Some("3"));
        assert!(store.cluster().claim("w", b"").await.expect("responds").is_none(), "the session goes on");
        drop(claim);
    });
}

#[test]
fn a_user_with_a_role_on_the_prefix_is_enough() {
    run(Options::default(), |etcd| async move {
        enable_authentication(&etcd);
        let folder = etcd.directory("secrets");
        let password = folder.join("password");
        std::fs::write(&password, "first\n").expect("writes");
        let config = with_user(&etcd, &password);
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
        // On a busy host, a time-out may come in between.
        let is_named = async || {
            let Freshness::Stale { reason, .. } = refused.freshness() else { panic!("is stale") };
            reason.contains("invalid user ID or password")
        };
        wait_until(LONG, "the wrong password is named", is_named).await;
    });
}
