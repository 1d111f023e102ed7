//! Paths of machines' requests: what is forgiven, and what a rejected request gets.

use super::*;

async fn router_with_image() -> Router {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("snponly.efi"), "iPXE").expect("writes");
    let images = Images::find_blocking(&[directory.path().into()]);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let inventory = Inventory::new(Arc::clone(&store));
    enroll(&inventory, 1).await;
    router_of(store, inventory, images)
}

async fn get(router: &Router, uri: &str) -> (StatusCode, String) {
    let (status, _, body) = request_from(router, "10.0.0.1:1", Method::GET, uri).await;
    (status, body)
}

#[tokio::test]
async fn name_that_tftp_forgives_is_forgiven() {
    let router = router_with_image().await;
    for path in ["/boot.ipxe", "//boot.ipxe", "/BOOT.IPXE", "/tftpboot/boot.ipxe", "/boot.ipxe%ff"] {
        let script = get_script(&router, path).await;
        assert!(script.contains(" boot/${netX/mac:hexhyp}?"), "{path}: {script}");
    }
    for path in [
        "/images/snponly.efi",
        "/images//snponly.efi",
        "/Images/SNPONLY.EFI",
        "/snponly.efi",
        "/tftpboot/snponly.efi",
        "/snponly.efi.0",
    ] {
        assert_eq!(get(&router, path).await, (StatusCode::OK, "iPXE".into()), "{path}");
    }
    // iPXE resolves the script's relative URLs against the script's own.
    for path in ["//boot/52-54-00-00-00-01", "/tftpboot/boot/52-54-00-00-00-01", "/BOOT/52-54-00-00-00-01"] {
        assert!(get_script(&router, path).await.contains("volboot: web-1: try"), "{path}");
        assert_eq!(get(&router, &format!("{path}/event?step=hooked")).await.0, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn autoexec_ipxe_beside_the_image_and_in_the_root() {
    let router = boot_router().await;
    for (path, base) in [
        ("/boot.ipxe", " "),
        ("/autoexec.ipxe", " http://192.168.0.1:8080/"),
        ("/images/autoexec.ipxe", " http://192.168.0.1:8080/"),
    ] {
        let (status, script) = get(&router, path).await;
        assert_eq!(status, StatusCode::OK);
        assert!(script.contains(&format!("{base}boot/${{netX/mac:hexhyp}}?")), "{path}: {script}");
    }
}

#[tokio::test]
async fn rejected_boot_request_gets_a_script_with_the_reason() {
    let router = boot_router().await;
    let long = format!("/boot/52-54-00-00-00-01?x={}", "y".repeat(3000));
    for (uri, expected) in [
        ("/boot/52-54-00", "cannot parse the path: expected a MAC address such as 52:54:00:12:34:56"),
        ("/boot/%fea", "cannot parse the path: expected a MAC address such as 52:54:00:12:34:56"),
        (
            "/boot/52-54-00-00-00-01/x",
            "cannot parse the path: expected a MAC address such as 52:54:00:12:34:56",
        ),
        (
            "/boot/?macs=,,,",
            "the request names no network card; give this machine an iPXE binary with a driver for its card",
        ),
        (
            "/boot",
            "the request names no network card; give this machine an iPXE binary with a driver for its card",
        ),
        (
            "/boot/$%7BnetX/mac:hexhyp%7D?macs=$%7Bnet0/mac%7D",
            "the URL has a setting that iPXE did not expand; let iPXE fetch /boot.ipxe instead",
        ),
        (&long, "the query is longer than 2048 bytes; let iPXE fetch /boot.ipxe instead"),
    ] {
        assert_eq!(reason(&router, uri).await, expected, "{uri}");
    }
}

#[tokio::test]
async fn rejected_boot_report_gets_status_400() {
    let router = boot_router().await;
    for (uri, text) in [
        (
            "/boot/x/event",
            "volboot: cannot parse the path: expected a MAC address such as 52:54:00:12:34:56\n",
        ),
        (
            "/boot//event",
            "volboot: the request names no network card; give this machine an iPXE binary with a driver for its card\n",
        ),
    ] {
        assert_eq!(get(&router, uri).await, (StatusCode::BAD_REQUEST, text.to_owned()), "{uri}");
    }
}

#[tokio::test]
async fn infiniband_card_is_a_port_like_another() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let inventory = Inventory::new(Arc::clone(&store));
    enroll(&inventory, 1).await;
    let (node, port) = (Uuid::from_u128(1), Uuid::from_u128(100));
    let address = "7c:fe:90:29:26:52".parse().expect("a MAC");
    inventory.create(&Port::new(port, node, address, Timestamp::UNIX_EPOCH)).await.expect("creates");
    let router = router_over(store, inventory);
    let guid = "7c-fe-90-03-00-29-26-52";
    for card in [guid, &format!("20-{guid}"), &format!("80-00-02-08-fe-80-00-00-00-00-00-00-{guid}")] {
        let script = get_script(&router, &format!("/boot/{card}?macs={card}")).await;
        assert!(script.contains("volboot: web-1: try"), "{card}: {script}");
        assert!(script.contains("7c-fe-90-29-26-52/event?step="), "{card}: {script}");
        assert_eq!(get(&router, &format!("/boot/{card}/event?step=up")).await.0, StatusCode::OK, "{card}");
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_rejected() {
    let router = boot_router().await;
    for path in ["/", "/v1/nodes", "/images/shadow", "/images/bootx64.efi", "/../boot.ipxe"] {
        let (status, body) = get(&router, path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(body.starts_with("volboot: no such path; machines read /boot.ipxe"), "{path}: {body}");
    }
    let (status, body) = get(&router, "/images/snponly.efi").await;
    let text = "volboot: this host lacks snponly.efi; `volboot images` names its package\n";
    assert_eq!((status, body.as_str()), (StatusCode::NOT_FOUND, text));
    let (status, ..) = request_from(&router, "10.0.0.1:1", Method::POST, "/boot.ipxe").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}
