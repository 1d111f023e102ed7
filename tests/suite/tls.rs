//! TLS at both doors: who is answered, with which certificate, and what becomes of one that cannot be used.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::daemon::{Daemon, LIMIT, site, volboot};

const NAME: &str = "boot.example.org";

/// A new certificate, written where the configuration looks for it.
fn issue(site: &Path) -> CertificateDer<'static> {
    let issued = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).expect("is made");
    std::fs::write(site.join("key.pem"), issued.signing_key.serialize_pem()).expect("is written");
    std::fs::write(site.join("certificate.pem"), issued.cert.pem()).expect("is written");
    issued.cert.der().clone()
}

/// Makes the section `door` of what `site` wrote name the certificate.
fn secure(site: &Path, door: &str) {
    let path = site.join("volboot.toml");
    let text = std::fs::read_to_string(&path).expect("text");
    let keys =
        format!("[{door}]\ncertificate = \"{0}/certificate.pem\"\nkey = \"{0}/key.pem\"\n", site.display());
    let header = format!("[{door}]\n");
    assert!(text.contains(&header));
    std::fs::write(path, text.replace(&header, &keys)).expect("is written");
}

fn connect(door: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(door)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// All of the answer to a request.
fn exchange(mut stream: impl Read + Write, path: &str) -> io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {NAME}:1\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Asks by TLS, trusting nothing but `certificate`.
fn ask(door: SocketAddr, certificate: &CertificateDer<'static>, path: &str) -> io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("is a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("are known")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = NAME.try_into().expect("a name");
    let client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    exchange(StreamOwned::new(client, connect(door)?), path)
}

/// Asks without TLS.
fn ask_plainly(door: SocketAddr, path: &str) -> String {
    connect(door).and_then(|stream| exchange(stream, path)).expect("is answered")
}

#[test]
fn machines_are_answered_with_tls_and_without_and_people_only_with_it() {
    let site = site("");
    let certificate = issue(site.path());
    secure(site.path(), "http");
    secure(site.path(), "api");
    let mut daemon = Daemon::start(site.path());

    assert!(ask_plainly(daemon.http, "/boot.ipxe").contains("#!ipxe"));
    let script = ask(daemon.http, &certificate, "/boot.ipxe").expect("is answered");
    assert!(script.contains(" boot/${netX/mac:hexhyp}"), "relative, so by TLS as well: {script}");
    let autoexec = ask(daemon.http, &certificate, "/images/autoexec.ipxe").expect("is answered");
    assert!(autoexec.contains(&format!(" https://{}/boot/", daemon.http)), "{autoexec}");

    let root = ask(daemon.api, &certificate, "/").expect("is answered");
    assert!(root.contains(&format!("https://{NAME}:1/v1/")), "{root}");
    let told = ask_plainly(daemon.api, "/v1/nodes");
    assert!(told.starts_with("HTTP/1.1 400 ") && told.contains("https://"), "{told}");
    daemon.stop();
}

#[test]
fn who_does_not_trust_the_certificate_is_in_the_log_and_once_if_it_tries_again_and_again() {
    let site = site("");
    issue(site.path());
    secure(site.path(), "http");
    let mut daemon = Daemon::start(site.path());
    // Who only connects wants no TLS, and is not told of.
    drop(TcpStream::connect(daemon.http).expect("connects"));
    let another = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).expect("is made");
    assert!(ask(daemon.http, another.cert.der(), "/boot.ipxe").is_err());
    let told = daemon.line("no TLS came about");
    assert_eq!(
        (&told["level"], told["error"].to_string().contains("fatal alert")),
        (&"WARN".into(), true),
        "{told}"
    );
    for _ in 0..20 {
        assert!(ask(daemon.http, another.cert.der(), "/boot.ipxe").is_err());
    }
    daemon.hang_up();
    let mut lines = 0;
    loop {
        match daemon.next_line()["message"].as_str() {
            Some("no TLS came about") => lines += 1,
            Some("reloaded") => break,
            _ => {}
        }
    }
    assert!(lines < 20, "each of them was told of");
    daemon.stop();
}

#[test]
fn a_door_without_a_certificate_speaks_no_tls() {
    let site = site("");
    let certificate = issue(site.path());
    let mut daemon = Daemon::start(site.path());
    assert!(ask(daemon.http, &certificate, "/healthz").is_err());
    assert!(ask_plainly(daemon.http, "/healthz").ends_with("ok\n"));
    daemon.stop();
}

#[test]
fn a_renewed_certificate_is_shown_without_being_told_of() {
    let site = site("");
    let first = issue(site.path());
    secure(site.path(), "http");
    let mut daemon = Daemon::start(site.path());
    assert!(ask(daemon.http, &first, "/healthz").expect("is answered").ends_with("ok\n"));

    std::fs::write(site.path().join("certificate.pem"), "no certificate").expect("is written");
    let line =
        daemon.line("the certificate has changed and cannot be used: the one before it is still shown");
    assert_eq!(line["level"], "ERROR");
    assert!(
        line["error"].as_str().is_some_and(|error| error.contains("there is no certificate in it")),
        "{line}"
    );
    assert!(ask(daemon.http, &first, "/healthz").expect("is answered").ends_with("ok\n"));

    let second = issue(site.path());
    daemon.line("a renewed certificate is shown");
    assert!(ask(daemon.http, &second, "/healthz").expect("is answered").ends_with("ok\n"));
    assert!(ask(daemon.http, &first, "/healthz").is_err(), "the old one is gone");
    daemon.stop();
}

#[test]
fn a_reload_shows_another_certificate_unless_it_cannot_be_used() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    let first = issue(site.path());
    secure(site.path(), "api");
    daemon.hang_up();
    daemon.line("reloaded");
    assert!(ask(daemon.api, &first, "/healthz").is_ok());

    // A key of another certificate: nothing of the new configuration holds.
    let other = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).expect("is made");
    std::fs::write(site.path().join("key.pem"), other.signing_key.serialize_pem()).expect("is written");
    daemon.hang_up();
    let line = daemon.line("not reloaded: the previous configuration holds");
    let error = line["error"].as_str().expect("text");
    assert!(error.contains("certificate.pem and ") && error.contains("key.pem cannot be used"), "{error}");
    assert!(ask(daemon.api, &first, "/healthz").is_ok());
    daemon.stop();
}

#[test]
fn volboot_does_not_start_without_the_certificate_it_was_told_to_show() {
    let site = site("");
    secure(site.path(), "http");
    let config = site.path().join("volboot.toml");
    let output = volboot(&["serve", "--config", config.to_str().expect("text")]).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("certificate.pem: No such file"), "{said}");
}
