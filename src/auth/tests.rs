//! Authentication with tokens, against a fake Keystone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::IntoResponse as _;
use futures_util::future::join_all;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::keystone::TokenCache;
use super::{AccessRole, Auth, AuthError};
use crate::config::KeystoneConfig;
use crate::keystone::Validator;
use crate::listen::{HttpLimits, Listener};

/// A fake Keystone. A token spells its own content: `role,role@scope`, where the scope is `system`, `nothing`, or a
/// project's `name:domain`. The token `unavailable` gets a 503, any other token a 401.
struct FakeKeystone {
    url: String,
    requests: Arc<AtomicUsize>,
    /// The highest number of concurrent requests.
    peak: Arc<AtomicUsize>,
}

impl FakeKeystone {
    fn start() -> Self {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("bind succeeds");
        let url = format!("http://{}", listener.local_addr());
        let (requests, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counter, highest, current) =
            (Arc::clone(&requests), Arc::clone(&peak), Arc::new(AtomicUsize::new(0)));
        let router = Router::new().fallback(async move |headers: HeaderMap| {
            counter.fetch_add(1, Ordering::SeqCst);
            highest.fetch_max(current.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            current.fetch_sub(1, Ordering::SeqCst);
            let token = headers["x-subject-token"].to_str().expect("text");
            let Some((roles, scope)) = token.split_once('@') else {
                let is_unavailable = token == "unavailable";
                let status =
                    if is_unavailable { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::UNAUTHORIZED };
                return status.into_response();
            };
            let roles: Vec<_> = roles.split(',').map(|role| json!({ "id": "0", "name": role })).collect();
            let lifetime = jiff::SignedDuration::from_secs(30);
            let mut body = json!({
                "user": { "id": "u1", "name": "ann" },
                "expires_at": jiff::Timestamp::now() + lifetime,
                "roles": roles,
            });
            match scope.split_once(':') {
                Some((name, domain)) => {
                    body["project"] = json!({ "id": "p1", "name": name, "domain": { "id": domain } });
                }
                None if scope == "system" => body["system"] = json!({ "all": true }),
                None => {}
            }
            axum::Json(json!({ "token": body })).into_response()
        });
        tokio::spawn(listener.serve(router, HttpLimits::default(), CancellationToken::new(), Duration::ZERO));
        Self { url, requests, peak }
    }

    fn validator(&self) -> Validator {
        let config = KeystoneConfig { auth_url: Some(self.url.clone()), cacert: None, verify: true };
        Validator::resolve_blocking(&config, None).expect("valid configuration")
    }

    fn tokens(&self, projects: &[&str]) -> TokenCache {
        TokenCache::new(self.validator(), projects.iter().map(ToString::to_string).collect())
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn headers(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(
        "x-auth-token".parse().expect("header name"),
        token.parse().expect("header value"),
    )])
}

#[tokio::test]
async fn roles_grant_access_with_system_scope_and_in_listed_projects() {
    use AccessRole::{Admin, Member, Reader};
    let keystone = FakeKeystone::start();
    for (token, projects, role) in [
        ("admin,member,reader@system", &[][..], Some(Admin)),
        ("member,reader@system", &[], Some(Member)),
        ("reader@system", &[], Some(Reader)),
        ("Reader@system", &[], Some(Reader)),
        ("manager@system", &[], Some(Member)),
        ("service@system", &[], Some(Member)),
        ("swiftoperator@system", &[], None),
        ("admin@service:default", &["service"], Some(Admin)),
        ("service@service:default", &["service"], Some(Member)),
        ("reader@service:default", &["boot", "service"], Some(Reader)),
        ("admin@boot:default", &["service"], None),
        // The administrator of a domain can create a project of any name in it.
        ("admin@service:theirs", &["service"], None),
        ("admin@service:theirs", &["p1"], Some(Admin)),
        ("admin@nothing", &["service"], None),
    ] {
        let result = keystone.tokens(projects).check(&headers(token)).await;
        let result = result.map(|caller| (caller.role, caller.name.clone()));
        assert_eq!(result, role.map(|role| (role, Some("u1".into()))).ok_or(AuthError::NoRole), "{token}");
    }
}

#[tokio::test]
async fn validations_are_cached_but_failures_are_not() {
    let keystone = FakeKeystone::start();
    let tokens = keystone.tokens(&["service"]);
    for _ in 0..3 {
        assert!(tokens.check(&headers("reader@system")).await.is_ok());
        assert_eq!(tokens.check(&headers("admin@boot:default")).await, Err(AuthError::NoRole));
    }
    assert_eq!(keystone.requests(), 2);
    for _ in 0..2 {
        assert_eq!(tokens.check(&headers("nonsense")).await, Err(AuthError::InvalidToken));
        assert_eq!(tokens.check(&headers("unavailable")).await, Err(AuthError::Unavailable));
    }
    assert_eq!(keystone.requests(), 6);
    // An entry expires no later than its token, after 30 s here.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    assert!(tokens.check(&headers("reader@system")).await.is_ok());
    assert_eq!(keystone.requests(), 7);
}

#[tokio::test]
async fn the_cache_is_bounded() {
    let keystone = FakeKeystone::start();
    let tokens = keystone.tokens(&[]);
    for n in 0..1030 {
        assert!(tokens.check(&headers(&format!("reader,{n}@system"))).await.is_ok());
    }
    assert!(tokens.len() <= 1024, "{}", tokens.len());
}

#[tokio::test]
async fn a_request_without_a_token_is_challenged_with_keystone_s_url() {
    let keystone = FakeKeystone::start();
    let auth = Auth::keystone(keystone.validator(), vec![]);
    for headers in [HeaderMap::new(), headers("")] {
        let mut request = http::Request::new(()).into_parts().0;
        request.headers = headers;
        assert_eq!(auth.check(&request).await, Err(AuthError::InvalidToken));
    }
    let challenge = format!("Keystone uri=\"{}/v3\"", keystone.url);
    assert_eq!(auth.challenge(), HeaderValue::from_str(&challenge).ok());
    assert_eq!(keystone.requests(), 0);
}

#[tokio::test]
async fn concurrent_validations_are_limited() {
    let keystone = FakeKeystone::start();
    let tokens = keystone.tokens(&[]);
    let requests: Vec<_> = (0..50).map(|n| headers(&format!("reader,{n}@system"))).collect();
    let results = join_all(requests.iter().map(|headers| tokens.check(headers))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(keystone.requests(), 50);
    let peak = keystone.peak.load(Ordering::SeqCst);
    assert!((2..=8).contains(&peak), "{peak} concurrent requests");
}
