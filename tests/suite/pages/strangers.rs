//! Who may look at the pages, and what browsers are kept from: other people's pages, and those without a right.

use super::*;
use crate::api::auth::keystone;

#[tokio::test]
async fn every_answer_keeps_browsers_from_what_they_must_not_do() {
    let site = Site::guarded(Auth::Anybody);
    for path in ["/ui", "/ui/", "/ui/appliance", "/ui/nothing", "/ui/style.css", "/ui/live.js", "/elsewhere"]
    {
        let answer = site.get(path).await;
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none';") && policy.ends_with("frame-ancestors 'none'"),
            "{path}"
        );
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{path}");
        // The policy would forbid it, so it would be a mistake.
        assert!(!answer.body.contains("style=") && !answer.body.contains(" onclick="), "{path}");
    }
}

#[tokio::test]
async fn what_strange_pages_send_is_turned_away() {
    let site = Site::new();
    site.tell(mac(1), answered(None, None, "unknown", "no node has a port with the address")).await;
    let rebound = site.ask("GET", "/ui/", &[("host", "evil.example:6385")], "").await;
    assert_eq!(rebound.status, 403);
    assert!(
        rebound.body.contains("[api] hosts") && rebound.body.contains("evil.example"),
        "{}",
        rebound.body
    );
    let enrol = "/ui/machines/52:54:00:00:00:01/enrol";
    let form = "name=web-1&iqn=iqn.2017-08.org.openstack.web-1&volume=0b1d4a52-6d5f-4d21-9a7e-0e8a4d0a6a11";
    let kind = ("content-type", "application/x-www-form-urlencoded");
    for strange in [
        &[kind][..],
        &[kind, ("origin", "null")],
        &[kind, ("origin", "http://evil.example")],
        &[kind, ("origin", "http://192.0.2.1:6385"), ("sec-fetch-site", "cross-site")],
    ] {
        assert_eq!(site.ask("POST", enrol, strange, form).await.status, 403, "{strange:?}");
    }
    assert_eq!(site.inventory.ports(&[mac(1)]).await.expect("reads"), []);
    let link =
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    assert_eq!(site.ask("GET", "/ui/", &link, "").await.status, 200);
    assert_eq!(site.post(enrol, form).await.status, 303);
}

#[tokio::test]
async fn pages_are_behind_the_same_door_as_the_api() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("ann:{}\n", bcrypt::hash("secret", 4).expect("hashes")))
        .expect("is written");
    let site = Site::guarded(Auth::http_basic(file.path()).expect("opens"));
    for path in ["/ui/", "/ui/appliance", "/ui/machines/52:54:00:00:00:01", "/ui/nothing"] {
        let nobody = site.get(path).await;
        assert_eq!(
            (nobody.status, nobody.header("www-authenticate")),
            (401, "Basic realm=\"Baremetal API\"")
        );
        assert!(nobody.body.contains("htpasswd"), "{}", nobody.body);
    }
    assert_eq!(site.ask("GET", "/ui/", &[("authorization", "Basic YW5uOnNlY3JldA==")], "").await.status, 200);
    assert_eq!(site.get("/ui/style.css").await.status, 200);
}

#[tokio::test]
async fn with_keystone_a_browser_is_told_that_it_has_no_token() {
    let site = Site::guarded(keystone());
    site.tell(mac(1), answered(None, None, "unknown", "no node has a port with the address")).await;
    let nobody = site.get("/ui/").await;
    assert_eq!(nobody.status, 401);
    assert!(nobody.header("www-authenticate").starts_with("Keystone uri="));
    assert!(nobody.body.contains("a browser has none"), "{}", nobody.body);
    assert_eq!(site.ask("GET", "/ui/", &[("x-auth-token", "reader")], "").await.status, 200);
    let own = ("origin", "http://192.0.2.1:6385");
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let enrol = "/ui/machines/52:54:00:00:00:01/enrol";
    for (token, status) in [("reader", 403), ("member", 403), ("admin", 422)] {
        let headers = [own, kind, ("x-auth-token", token)];
        assert_eq!(site.ask("POST", enrol, &headers, "name=x").await.status, status, "{token}");
    }
}
