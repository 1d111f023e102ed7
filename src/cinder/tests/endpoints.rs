//! Tests of endpoints: the selection in the catalogue, the discovery of the version, and the URL in error messages.

use axum::routing::{get, post};
use futures_util::future::join_all;

use super::super::endpoint::EndpointUrl;
use super::*;
use crate::keystone::{IdOrName, Interface, Interfaces, Qualified, TransportError};

/// The list of versions at the root of a Cinder behind a proxy, which names the host behind the proxy.
const VERSIONS: &str = r#"{"versions": [{"id": "v3.0", "status": "CURRENT", "version": "3.71", "min_version": "3.0",
    "links": [{"rel": "self", "href": "http://10.9.9.9:8776/volume/v3/"}]}]}"#;

/// The number of requests to the root of a [`serve_site`].
type RootRequests = Arc<Mutex<u32>>;

/// Serves a Cinder below `/volume`, and a Keystone whose catalogue `{URL}` is replaced with the server's URL.
fn serve_site(catalogue: &'static str) -> (String, RootRequests, DropGuard) {
    let root_requests = RootRequests::default();
    let counter = Arc::clone(&root_requests);
    let root = move || {
        *counter.lock() += 1;
        async { (StatusCode::MULTIPLE_CHOICES, VERSIONS) }
    };
    let authenticate = move |request: Request| async move {
        let host = request.headers()["host"].to_str().expect("text").to_owned();
        let catalogue = catalogue.replace("{URL}", &format!("http://{host}"));
        let token = format!(
            r#"{{"token": {{"expires_at": "2999-01-01T00:00:00.000000", "issued_at": null,
                "project": {{"id": "{PROJECT}"}}, "catalog": {catalogue}}}}}"#
        );
        (StatusCode::CREATED, [("x-subject-token", "TOKEN")], token)
    };
    let router = Router::new()
        .route("/volume/", get(root))
        .route(&format!("/volume/v3/{PROJECT}/volumes"), get(async || r#"{"volumes": []}"#))
        .route("/v3/auth/tokens", post(authenticate));
    let (url, stop) = serve(router);
    (url, root_requests, stop)
}

/// A Cinder in the catalogue of [`serve_site`].
fn cinder_in_catalogue(url: &str, region: Option<&str>, interfaces: Interfaces) -> Cinder {
    let qualified =
        || Qualified { identity: IdOrName::Id("1".into()), domain: IdOrName::Id("default".into()) };
    let credentials = Credentials::Password {
        auth_url: format!("{url}/v3"),
        user: qualified(),
        password: "x".into(),
        project: qualified(),
    };
    let http = reqwest::Client::new();
    let endpoint = CinderEndpoint { url: None, region: region.map(str::to_owned), interfaces };
    Cinder::new(Session::new(credentials, http.clone()), http, endpoint, Timeouts::default(), Metrics::new())
}

const ODD_CATALOGUE: &str = r#"[
    {"name": "no type", "endpoints": [{"interface": "public", "url": "{URL}/wrong"}]},
    {"type": "image", "endpoints": null}, null,
    {"type": "volumev3", "endpoints": [
        {"interface": "public", "region_id": "one", "url": null},
        {"interface": "public", "region_id": "one"},
        {"interface": null, "region_id": "one", "url": "{URL}/wrong"},
        {"interface": "public", "region_id": "one", "url": "not a URL"},
        {"interface": "internal", "region_id": "", "region": "one", "url": "{URL}/volume/"},
        {"interface": "public", "region_id": "two", "url": "{URL}/elsewhere"}]}]"#;

#[tokio::test]
async fn odd_entries_of_a_catalogue_are_skipped_and_the_version_is_discovered_once() {
    let (url, root_requests, _stop) = serve_site(ODD_CATALOGUE);
    let interfaces: Interfaces = "public,internal".parse().expect("is valid");
    let cinder = cinder_in_catalogue(&url, Some("one"), interfaces);
    for _ in 0..3 {
        cinder.ping().await.expect("finds Cinder");
    }
    assert_eq!(*root_requests.lock(), 1);
}

#[tokio::test]
async fn a_missing_endpoint_is_reported_with_those_that_exist() {
    let (url, _, _stop) = serve_site(ODD_CATALOGUE);
    let cinder = cinder_in_catalogue(&url, Some("three"), Interface::Public.into());
    assert_eq!(
        cinder.ping().await.expect_err("has no endpoint"),
        CinderError::Unavailable(
            "Keystone's catalogue has no public block-storage endpoint in region three; it has: internal in one, public \
             in two"
                .into()
        )
    );
    let (url, _, _stop) = serve_site("[]");
    let error =
        cinder_in_catalogue(&url, None, Interfaces::default()).ping().await.expect_err("has no endpoint");
    let expected = "Keystone's catalogue has no public block-storage endpoint; it has: none";
    assert_eq!(error, CinderError::Unavailable(expected.into()));
}

#[tokio::test]
async fn another_server_is_reported_with_its_url_and_source() {
    let (url, _, _stop) = serve_site(ODD_CATALOGUE);
    let cinder = cinder_in_catalogue(&url, Some("two"), Interfaces::default());
    let expected =
        format!("the server at {url}/elsewhere (public endpoint in region two) is not Cinder (404)");
    assert_eq!(cinder.ping().await.expect_err("is not Cinder"), CinderError::Unavailable(expected));
}

#[tokio::test]
async fn an_overridden_endpoint_may_have_each_form() {
    let (url, root_requests, _stop) = serve_site("[]");
    for path in ["/volume", "/volume/", "/volume/v2", "/volume/v1/", "/volume/v3", "/volume/v3/"] {
        for project in ["", PROJECT] {
            let separator = if path.ends_with('/') || project.is_empty() { "" } else { "/" };
            let cinder = cinder_at(&format!("{url}{path}{separator}{project}"));
            cinder.ping().await.unwrap_or_else(|error| panic!("{path} {project}: {error}"));
        }
    }
    assert_eq!(*root_requests.lock(), 8, "a URL with v3 needs no discovery");
}

/// A server that counts the requests to its root, and answers them with this status and list.
fn serve_root(status: StatusCode, versions: &'static str) -> (String, RootRequests, DropGuard) {
    let root_requests = RootRequests::default();
    let counter = Arc::clone(&root_requests);
    let root = move || {
        *counter.lock() += 1;
        async move { (status, versions) }
    };
    let volumes = get(async || r#"{"volumes": []}"#);
    let router = Router::new().route("/", get(root)).route(&format!("/{PROJECT}/volumes"), volumes);
    let (url, stop) = serve(router);
    (url, root_requests, stop)
}

#[tokio::test]
async fn concurrent_calls_share_one_discovery_and_its_answer() {
    let unavailable = CinderError::Unavailable("Cinder returned 503 Service Unavailable".into());
    for (status, versions, expected) in [
        (StatusCode::NOT_FOUND, "", Ok(())),
        (StatusCode::UNAUTHORIZED, "", Ok(())),
        (StatusCode::OK, r#"{"versions": [{"id": "v2.0", "links": []}]}"#, Ok(())),
        (StatusCode::SERVICE_UNAVAILABLE, "", Err(unavailable)),
    ] {
        let (url, root_requests, _stop) = serve_root(status, versions);
        let cinder = cinder_at(&url);
        let pings = (0..16).map(|_| cinder.ping());
        for result in join_all(pings).await {
            assert_eq!(result, expected, "{status}");
        }
        assert_eq!(*root_requests.lock(), 1, "{status}");
        // No version is an answer, an outage is none.
        assert_eq!(cinder.ping().await, expected, "{status}");
        assert_eq!(*root_requests.lock(), if expected.is_ok() { 1 } else { 2 }, "{status}");
    }
}

#[tokio::test]
async fn an_error_at_a_discovered_url_names_this_url() {
    const ELSEWHERE: &str =
        r#"{"versions": [{"id": "v3.0", "links": [{"rel": "self", "href": "/elsewhere/v3/"}]}]}"#;
    let (url, _, _stop) = serve_root(StatusCode::MULTIPLE_CHOICES, ELSEWHERE);
    let expected = format!(
        "the server at {url}/elsewhere/v3 (discovered at {url}, endpoint_override) is not Cinder (404)"
    );
    assert_eq!(cinder_at(&url).ping().await, Err(CinderError::Unavailable(expected)));
}

#[test]
fn transport_errors_are_outages() {
    let endpoint = EndpointUrl::at("http://c/v3");
    for (error, text) in [
        (TransportError::TimedOut, "Cinder at http://c/v3 (endpoint_override) did not answer in time"),
        (
            TransportError::NotConnected("cause".into()),
            "Cinder cannot be reached at http://c/v3 (endpoint_override): cause",
        ),
        (
            TransportError::Interrupted("cause".into()),
            "the connection to Cinder at http://c/v3 (endpoint_override) broke off: cause",
        ),
        (TransportError::BodyTooLarge, "the server at http://c/v3 (endpoint_override) is not Cinder"),
    ] {
        assert_eq!(CinderError::from_transport(error, &endpoint), CinderError::Unavailable(text.into()));
    }
}

#[tokio::test]
async fn a_refused_connection_is_an_outage() {
    crate::tls::install_provider();
    // No process listens on port 1 of loopback. Both the discovery and the call itself are refused.
    for path in ["", "/v3"] {
        let error =
            cinder_at(&format!("http://127.0.0.1:1{path}")).ping().await.expect_err("the port is closed");
        let expected = format!(
            "Cinder cannot be reached at http://127.0.0.1:1{path} (endpoint_override): Connection refused (os error 111)"
        );
        assert_eq!(error, CinderError::Unavailable(expected));
    }
}
