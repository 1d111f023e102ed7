//! Tests of TLS on both listeners: plain HTTP, hot reload of certificates, and invalid certificates.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::daemon::{Daemon, LIMIT, site, volboot};

const NAME: &str = "boot.example.org";

/// Issues a certificate, and writes it to the configured path.
fn issue(site: &Path) -> CertificateDer<'static> {
    let issued = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).expect("generates");
    std::fs::write(site.join("key.pem"), issued.signing_key.serialize_pem()).expect("writes");
    std::fs::write(site.join("certificate.pem"), issued.cert.pem()).expect("writes");
    issued.cert.der().clone()
}

/// Adds the certificate to a section of the configuration.
fn configure_tls(site: &Path, section: &str) {
    let path = site.join("volboot.toml");
    let text = std::fs::read_to_string(&path).expect("is text");
    let keys = format!(
        "[{section}]\ncertificate = \"{0}/certificate.pem\"\nkey = \"{0}/key.pem\"\n",
        site.display()
    );
    let header = format!("[{section}]\n");
    assert!(text.contains(&header));
    std::fs::write(path, text.replace(&header, &keys)).expect("writes");
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Sends a request, and reads the whole response.
fn exchange(mut stream: impl Read + Write, path: &str) -> io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {NAME}:1\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Sends a request over TLS, and trusts only `certificate`.
fn get_https(address: SocketAddr, certificate: &CertificateDer<'static>, path: &str) -> io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("is a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("are known")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = NAME.try_into().expect("a name");
    let client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    exchange(StreamOwned::new(client, connect(address)?), path)
}

/// Sends a request without TLS.
fn get_http(address: SocketAddr, path: &str) -> String {
    connect(address).and_then(|stream| exchange(stream, path)).expect("responds")
}

#[test]
fn boot_listener_serves_both_protocols_and_operator_listener_only_tls() {
    let site = site("");
    let certificate = issue(site.path());
    configure_tls(site.path(), "http");
    configure_tls(site.path(), "api");
    let mut daemon = Daemon::start(site.path());

    assert!(get_http(daemon.http, "/boot.ipxe").contains("#!ipxe"));
    let script = get_https(daemon.http, &certificate, "/boot.ipxe").expect("responds");
    assert!(
        script.contains(" boot/${netX/mac:hexhyp}"),
        "expected a relative URL, which keeps the scheme: {script}"
    );
    let autoexec = get_https(daemon.http, &certificate, "/images/autoexec.ipxe").expect("responds");
    assert!(
        autoexec.contains(&format!(" https://{NAME}:1/boot/")),
        "expected the host of the request: {autoexec}"
    );

    let root = get_https(daemon.api, &certificate, "/").expect("responds");
    assert!(root.contains(&format!("https://{NAME}:1/v1/")), "{root}");
    let refusal = get_http(daemon.api, "/v1/nodes");
    assert!(refusal.starts_with("HTTP/1.1 400 ") && refusal.contains("https://"), "{refusal}");
    daemon.stop();
}

#[test]
fn cluster_listener_requires_a_proof_and_with_a_certificate_tls() {
    let site = site("[cluster]\nname = \"boot-1\"\nlisten = \"127.0.0.1:0\"\n");
    let mut daemon = Daemon::start(site.path());
    let address = daemon.cluster.expect("a cluster listener");
    let refusal = get_http(address, "/internal/events");
    assert!(refusal.contains("no proof of the cluster's secret") || refusal.contains(" 503 "), "{refusal}");
    let status =
        volboot(&["status", "--json", "--api", &format!("http://{}", daemon.api)]).output().expect("runs");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(
        (&status["name"], &status["instances"][0]["self"]),
        (&"boot-1".into(), &true.into()),
        "{status}"
    );
    assert_eq!(status["instances"][0]["url"], format!("http://{address}"));
    let certificate = issue(site.path());
    configure_tls(site.path(), "cluster");
    daemon.hang_up();
    daemon.wait_for_log("configuration reloaded");
    assert!(get_https(address, &certificate, "/internal/events").expect("responds").contains(" 401 "));
    let refusal = get_http(address, "/internal/events");
    assert!(refusal.starts_with("HTTP/1.1 400 ") && refusal.contains("https://"), "{refusal}");
    daemon.stop();
}

#[test]
fn failed_handshake_is_logged_with_a_rate_limit() {
    let site = site("");
    issue(site.path());
    configure_tls(site.path(), "http");
    let mut daemon = Daemon::start(site.path());
    // A connection without a handshake is not logged.
    drop(TcpStream::connect(daemon.http).expect("connects"));
    let another = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).expect("generates");
    assert!(get_https(daemon.http, another.cert.der(), "/boot.ipxe").is_err());
    let line = daemon.wait_for_log("TLS handshake failed");
    assert_eq!(
        (&line["level"], line["error"].to_string().contains("fatal alert")),
        (&"WARN".into(), true),
        "{line}"
    );
    for _ in 0..20 {
        assert!(get_https(daemon.http, another.cert.der(), "/boot.ipxe").is_err());
    }
    daemon.hang_up();
    let mut lines = 0;
    loop {
        match daemon.next_line()["message"].as_str() {
            Some("TLS handshake failed") => lines += 1,
            Some("configuration reloaded") => break,
            _ => {}
        }
    }
    assert!(lines < 20, "every failed handshake was logged");
    daemon.stop();
}

#[test]
fn listener_without_certificate_serves_plain_http() {
    let site = site("");
    let certificate = issue(site.path());
    let mut daemon = Daemon::start(site.path());
    assert!(get_https(daemon.http, &certificate, "/healthz").is_err());
    assert!(get_http(daemon.http, "/healthz").ends_with("ok\n"));
    daemon.stop();
}

#[test]
fn renewed_certificate_is_loaded_without_a_reload() {
    let site = site("");
    let first = issue(site.path());
    configure_tls(site.path(), "http");
    let mut daemon = Daemon::start(site.path());
    assert!(get_https(daemon.http, &first, "/healthz").expect("responds").ends_with("ok\n"));

    std::fs::write(site.path().join("certificate.pem"), "no certificate").expect("writes");
    let line = daemon.wait_for_log("cannot reload the certificate: the previous certificate stays in use");
    assert_eq!(line["level"], "ERROR");
    assert!(
        line["error"].as_str().is_some_and(|error| error.contains("cannot find a certificate in ")),
        "{line}"
    );
    assert!(get_https(daemon.http, &first, "/healthz").expect("responds").ends_with("ok\n"));

    let second = issue(site.path());
    daemon.wait_for_log("certificate reloaded");
    assert!(get_https(daemon.http, &second, "/healthz").expect("responds").ends_with("ok\n"));
    assert!(get_https(daemon.http, &first, "/healthz").is_err(), "the previous certificate is still in use");
    daemon.stop();
}

#[test]
fn reload_loads_another_certificate_if_it_is_valid() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    let first = issue(site.path());
    configure_tls(site.path(), "api");
    daemon.hang_up();
    daemon.wait_for_log("configuration reloaded");
    assert!(get_https(daemon.api, &first, "/healthz").is_ok());

    // The key belongs to another certificate: the reload changes nothing.
    let other = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).expect("generates");
    std::fs::write(site.path().join("key.pem"), other.signing_key.serialize_pem()).expect("writes");
    daemon.hang_up();
    let line = daemon.wait_for_log("reload failed; the previous configuration stays in effect");
    let error = line["error"].as_str().expect("is text");
    assert!(error.contains("cannot use certificate ") && error.contains("key.pem: "), "{error}");
    assert!(get_https(daemon.api, &first, "/healthz").is_ok());
    daemon.stop();
}

#[test]
fn start_fails_without_the_configured_certificate() {
    let site = site("");
    configure_tls(site.path(), "http");
    let config = site.path().join("volboot.toml");
    let output = volboot(&["serve", "--config", config.to_str().expect("is text")]).output().expect("runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("certificate.pem: No such file"), "{stderr}");
}
