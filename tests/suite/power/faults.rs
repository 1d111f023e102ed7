//! Each fault of a BMC ends in one line that names it.

use std::sync::Arc;

use tokio::net::TcpListener;
use volboot::redfish::{BmcAccess, BootSource, CertificateTrust, OverrideRequest, PowerCommand};

use super::{access, connect};
use crate::fake_bmc::{BmcCall, BmcTrouble, FakeBmc, SYSTEM};

/// The line for a read with these settings.
async fn read_error(access: BmcAccess) -> String {
    let address = access.address.clone();
    let error = connect(access).await.read_system().await.expect_err("fails").to_string();
    assert!(!error.contains('\n') && !error.contains("calvin"), "{error}");
    error.replace(&address, "ADDRESS")
}

#[tokio::test]
async fn refused_login() {
    let bmc = FakeBmc::start();
    let wrong = BmcAccess { password: "wrong".to_owned().into(), ..access(&bmc) };
    assert_eq!(
        read_error(wrong).await,
        "BMC ADDRESS refused the login of user root: 401: This is Base.1.8.NoValidSession."
    );
    bmc.fail(BmcCall::Read, 9, BmcTrouble::Status(403, "Base.1.8.InsufficientPrivilege"));
    assert_eq!(
        read_error(access(&bmc)).await,
        "BMC ADDRESS refused the login of user root: 403: This is Base.1.8.InsufficientPrivilege."
    );
}

#[tokio::test]
async fn untrusted_certificate() {
    volboot::tls::install_provider();
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = format!("https://{}", listener.local_addr().expect("is bound"));
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepts");
            let _ = acceptor.accept(stream).await;
        }
    });
    let settings = BmcAccess { address: address.clone(), ..access(&FakeBmc::start()) };
    let error = read_error(settings.clone()).await;
    assert!(error.starts_with("BMC ADDRESS is not trusted: invalid peer certificate"), "{error}");
    assert!(error.ends_with("redfish_verify_ca names the authority of its certificate"), "{error}");
    // The server knows no HTTP; the certificate counts.
    let site = tempfile::tempdir().expect("a directory");
    let ca = site.path().join("ca.pem");
    std::fs::write(&ca, certified.cert.pem()).expect("is written");
    for trust in [
        CertificateTrust::Unverified,
        CertificateTrust::Bundle(ca),
        CertificateTrust::Bundle(site.path().into()),
    ] {
        let error = read_error(BmcAccess { trust: trust.clone(), ..settings.clone() }).await;
        assert!(error.contains("broke off the connection"), "{trust:?}: {error}");
    }
    server.abort();
    let trust = CertificateTrust::Bundle("/nowhere/ca.pem".into());
    let missing = volboot::redfish::Bmc::new(
        BmcAccess { trust, ..settings },
        crate::operator::POWER_LIMITS.calls,
        Arc::new(tokio::sync::Semaphore::new(1)),
    );
    let error = missing.await.expect_err("has no authority").to_string().replace(&address, "ADDRESS");
    assert_eq!(
        error,
        "BMC ADDRESS cannot be asked: cannot use redfish_verify_ca /nowhere/ca.pem: No such file or directory (os error 2)"
    );
}

#[tokio::test]
async fn no_answer() {
    let bmc = FakeBmc::start();
    bmc.fail(BmcCall::Systems, 1, BmcTrouble::Hang);
    assert_eq!(read_error(access(&bmc)).await, "BMC ADDRESS did not answer within 3 s");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = format!("http://{}", listener.local_addr().expect("is bound"));
    drop(listener);
    let closed = BmcAccess { address, ..access(&bmc) };
    assert_eq!(read_error(closed).await, "BMC ADDRESS cannot be reached: Connection refused (os error 111)");
}

#[tokio::test]
async fn missing_system() {
    let bmc = FakeBmc::start();
    let missing = BmcAccess { system: Some("/redfish/v1/Systems/9".into()), ..access(&bmc) };
    assert_eq!(read_error(missing).await, "BMC ADDRESS has no system /redfish/v1/Systems/9 (404)");
    let other_root = BmcAccess { root: "/nowhere".into(), ..access(&bmc) };
    assert_eq!(read_error(other_root).await, "BMC ADDRESS has no systems at /nowhere/Systems (404)");
}

#[tokio::test]
async fn garbage() {
    let bmc = FakeBmc::start();
    for (body, cause) in [
        ("<html>".to_owned(), "no JSON: expected value at line 1 column 1"),
        ("[]".to_owned(), "no JSON object"),
        ("{}".to_owned(), "no ComputerSystem"),
        ("x".repeat(2 << 20), "the body exceeds 1024 KiB"),
    ] {
        bmc.fail(BmcCall::Read, 1, BmcTrouble::Body(body));
        let expected = format!("BMC ADDRESS gave no valid Redfish answer to GET {SYSTEM}: {cause}");
        assert_eq!(read_error(access(&bmc)).await, expected);
    }
}

#[tokio::test]
async fn redirects_lead_to_the_same_host_only() {
    let (bmc, other) = (FakeBmc::start(), FakeBmc::start());
    bmc.fail(BmcCall::Read, 1, BmcTrouble::Redirect(format!("{}{SYSTEM}", other.url())));
    let expected = format!("BMC ADDRESS redirects GET {SYSTEM} to another host");
    assert_eq!(read_error(access(&bmc)).await, expected);
    assert!(other.script(|state| state.calls.is_empty()), "no credentials leave the host");
    bmc.fail(BmcCall::Read, 1, BmcTrouble::Redirect(SYSTEM.into()));
    connect(access(&bmc)).await.read_system().await.expect("the same host");
}

#[tokio::test]
async fn refusals_show_the_message_of_the_bmc() {
    let bmc = FakeBmc::start();
    let client = connect(access(&bmc)).await;
    let system = client.read_system_for_reset().await.expect("a system");
    let show = |error: volboot::redfish::RedfishError| error.to_string().replace(&bmc.url(), "ADDRESS");
    // A BMC that stays in conflict, or unavailable.
    for (status, id) in
        [(409, "Base.1.8.ActionParameterValueConflict"), (503, "Base.1.8.ServiceTemporarilyUnavailable")]
    {
        bmc.fail(BmcCall::Reset, 12, BmcTrouble::Status(status, id));
        let error = client.reset(&system, PowerCommand::On).await.expect_err("is refused");
        let request = format!("POST {SYSTEM}/Actions/ComputerSystem.Reset");
        assert_eq!(show(error), format!("BMC ADDRESS refused {request} with {status}: This is {id}."));
        assert_eq!(bmc.take_commands().len(), 12);
    }
    bmc.script(|state| state.forgets = 9);
    let pxe = OverrideRequest { source: BootSource::Pxe, persistent: false, mode: None };
    let error = client.set_boot_override(&system, pxe).await.expect_err("is ignored");
    let expected = "BMC ADDRESS ignored the boot override: asked for Pxe Once, it has None Disabled UEFI";
    assert_eq!(show(error), expected);
    bmc.script(|state| state.targets = vec!["None", "Hdd"]);
    let system = client.read_system().await.expect("a system");
    let error = client.set_boot_override(&system, pxe).await.expect_err("is not offered");
    assert_eq!(show(error), "BMC ADDRESS cannot boot the system from Pxe: it offers None, Hdd");
}
