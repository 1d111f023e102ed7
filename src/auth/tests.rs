//! Tokens at the door, against a Keystone that the test plays.

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

use super::keystone::Tokens;
use super::{Auth, Denied, Right};
use crate::config::KeystoneConfig;
use crate::keystone::Validator;
use crate::listen::{Limits, Listener};

/// A Keystone to which a token says itself what it stands for: `role,role@reach`, where a reach is `system`,
/// `nothing`, or a project's `name:domain`. `away` is answered by 503, anything else is not known.
struct Fake {
    url: String,
    asked: Arc<AtomicUsize>,
    /// The most that were being answered at once.
    most: Arc<AtomicUsize>,
}

impl Fake {
    fn start() -> Self {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
        let url = format!("http://{}", listener.local_addr());
        let asked = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let (counted, now, highest) = (Arc::clone(&asked), AtomicUsize::new(0), Arc::clone(&most));
        let now = Arc::new(now);
        let router = Router::new().fallback(async move |headers: HeaderMap| {
            counted.fetch_add(1, Ordering::SeqCst);
            highest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            now.fetch_sub(1, Ordering::SeqCst);
            let token = headers["x-subject-token"].to_str().expect("text");
            let Some((roles, reach)) = token.split_once('@') else {
                let away = token == "away";
                let status = if away { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::UNAUTHORIZED };
                return status.into_response();
            };
            let roles: Vec<_> = roles.split(',').map(|role| json!({ "id": "0", "name": role })).collect();
            let life = jiff::SignedDuration::from_secs(30);
            let mut body = json!({
                "user": { "id": "u1", "name": "ann" },
                "expires_at": jiff::Timestamp::now() + life,
                "roles": roles,
            });
            match reach.split_once(':') {
                Some((name, domain)) => {
                    body["project"] = json!({ "id": "p1", "name": name, "domain": { "id": domain } });
                }
                None if reach == "system" => body["system"] = json!({ "all": true }),
                None => {}
            }
            axum::Json(json!({ "token": body })).into_response()
        });
        tokio::spawn(listener.serve(router, Limits::default(), CancellationToken::new(), Duration::ZERO));
        Self { url, asked, most }
    }

    fn validator(&self) -> Validator {
        let config = KeystoneConfig { auth_url: Some(self.url.clone()), cacert: None, verify: true };
        Validator::resolve(&config, None).expect("is right")
    }

    fn tokens(&self, projects: &[&str]) -> Tokens {
        Tokens::new(self.validator(), projects.iter().map(ToString::to_string).collect())
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn headers(token: &str) -> HeaderMap {
    HeaderMap::from_iter([("x-auth-token".parse().expect("a name"), token.parse().expect("a value"))])
}

#[tokio::test]
async fn a_role_counts_for_the_system_and_in_the_listed_projects() {
    use Right::{Manage, See, Use};
    let keystone = Fake::start();
    for (token, projects, right) in [
        ("admin,member,reader@system", &[][..], Some(Manage)),
        ("member,reader@system", &[], Some(Use)),
        ("reader@system", &[], Some(See)),
        ("Reader@system", &[], Some(See)),
        ("manager@system", &[], Some(Use)),
        ("service@system", &[], Some(Use)),
        ("swiftoperator@system", &[], None),
        ("admin@service:default", &["service"], Some(Manage)),
        ("service@service:default", &["service"], Some(Use)),
        ("reader@service:default", &["boot", "service"], Some(See)),
        ("admin@boot:default", &["service"], None),
        // Whoever manages a domain can make a project of any name in it.
        ("admin@service:theirs", &["service"], None),
        ("admin@service:theirs", &["p1"], Some(Manage)),
        ("admin@nothing", &["service"], None),
    ] {
        let found = keystone.tokens(projects).check(&headers(token)).await;
        let found = found.map(|caller| (caller.right, caller.name.clone()));
        assert_eq!(found, right.map(|right| (right, Some("u1".into()))).ok_or(Denied::NoRole), "{token}");
    }
}

#[tokio::test]
async fn what_keystone_said_is_remembered_for_a_while_but_not_that_it_knew_nothing() {
    let keystone = Fake::start();
    let tokens = keystone.tokens(&["service"]);
    for _ in 0..3 {
        assert!(tokens.check(&headers("reader@system")).await.is_ok());
        assert_eq!(tokens.check(&headers("admin@boot:default")).await, Err(Denied::NoRole));
    }
    assert_eq!(keystone.asked(), 2);
    for _ in 0..2 {
        assert_eq!(tokens.check(&headers("nonsense")).await, Err(Denied::NoToken));
        assert_eq!(tokens.check(&headers("away")).await, Err(Denied::Away));
    }
    assert_eq!(keystone.asked(), 6);
    // No longer than the token lives, which here is half a minute.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    assert!(tokens.check(&headers("reader@system")).await.is_ok());
    assert_eq!(keystone.asked(), 7);
}

#[tokio::test]
async fn so_many_tokens_are_remembered_and_no_more() {
    let keystone = Fake::start();
    let tokens = keystone.tokens(&[]);
    for some in 0..1030 {
        assert!(tokens.check(&headers(&format!("reader,{some}@system"))).await.is_ok());
    }
    assert!(tokens.remembered() <= 1024, "{}", tokens.remembered());
}

#[tokio::test]
async fn who_sends_no_token_is_told_where_to_get_one() {
    let keystone = Fake::start();
    let auth = Auth::keystone(keystone.validator(), vec![]);
    for none in [HeaderMap::new(), headers("")] {
        assert_eq!(auth.check(&none).await, Err(Denied::NoToken));
    }
    let challenge = format!("Keystone uri=\"{}/v3\"", keystone.url);
    assert_eq!(auth.challenge(), HeaderValue::from_str(&challenge).ok());
    assert_eq!(keystone.asked(), 0);
}

#[tokio::test]
async fn many_at_once_do_not_storm_keystone() {
    let keystone = Fake::start();
    let tokens = keystone.tokens(&[]);
    let all: Vec<_> = (0..50).map(|some| headers(&format!("reader,{some}@system"))).collect();
    let all = join_all(all.iter().map(|headers| tokens.check(headers))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(keystone.asked(), 50);
    let most = keystone.most.load(Ordering::SeqCst);
    assert!((2..=8).contains(&most), "{most} at once");
}
