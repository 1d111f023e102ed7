//! [`BrowserGuard`]: CSRF, DNS-rebinding and clickjacking protection for the API and the web pages.
//!
//! A browser may be driven by a hostile page, with its user's network access and passwords. The guard closes three
//! attacks:
//!
//! * *Cross-site requests* (a form, `fetch`, an image). `Sec-Fetch-Site` or `Origin` names the site that a request
//!   comes from (Fetch §3.2, Fetch Metadata). Requests from other sites are rejected, except followed links. An
//!   unsafe method needs one of the two headers.
//! * *DNS rebinding*: another name resolves to our address, so the hostile page and volboot share an origin. Only
//!   `Host` shows the difference. Browsers may use an IP address, `localhost`, the machine's own host name, or a name
//!   from `[api] hosts`. An attacker controls none of those names.
//! * *Clickjacking* (invisible frames) and injected scripts: the response headers forbid both.
//!
//! Programs such as `openstack` and `curl` are exempt. No page controls a program, and its host name comes from the
//! service catalogue. A request counts as a browser's if a single sign says so. `Sec-Fetch-Site` is absent on
//! plain HTTP, `Origin` on a simple GET, and some browsers let a page choose the `User-Agent`. But no page can
//! suppress `Accept-Language`, and no Ironic client sends it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Default response headers; a handler's own values win. The referrer policy is `same-origin`, because `no-referrer`
/// would turn the `Origin` of our own forms into `null`.
const DEFAULT_HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (RESOURCE_POLICY, "same-origin"),
];

/// Rejects dangerous browser requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BrowserGuard {
    /// Host names that a browser may use, in lower case.
    hosts: Arc<[String]>,
}

/// Why a browser's request is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrowserRejection {
    /// The `Host` header is not a trusted name: possible DNS rebinding.
    #[error(
        "Rejected: \"{0}\" is not a trusted host name. Browsers may use volboot's IP address, localhost, the \
         machine's own host name, or a name from [api] hosts."
    )]
    Host(String),
    /// A page of another site sent the request: CSRF.
    #[error("Rejected: the request comes from a page of another site.")]
    CrossSite,
    /// An unsafe method without any header that names the sending page.
    #[error("Rejected: the request has neither an Origin nor a Sec-Fetch-Site header.")]
    NoOrigin,
}

impl BrowserGuard {
    /// `hosts`: the names from `[api] hosts`. The machine's own host name is added.
    pub fn new(hosts: &[String]) -> Self {
        let own_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let all = hosts.iter().chain([&own_name]).map(|name| name.to_ascii_lowercase());
        Self { hosts: all.filter(|name| !name.is_empty()).collect() }
    }

    /// Wraps a router in the guard.
    pub fn wrap(self, router: Router) -> Router {
        // The router becomes a fallback of the guarded one, so the guard also covers unknown paths.
        let layer = from_fn(move |request: Request, next: Next| {
            let guard = self.clone();
            async move { guard.handle(request, next).await }
        });
        Router::new().fallback_service(router).layer(layer)
    }

    async fn handle(&self, request: Request, next: Next) -> Response {
        let mut response = match self.check(request.method(), request.headers()) {
            Ok(()) => next.run(request).await,
            Err(rejection) => {
                let path = request.uri().path();
                tracing::warn!(method = %request.method(), path, reason = %rejection, "browser request rejected");
                (StatusCode::FORBIDDEN, format!("{rejection}\n")).into_response()
            }
        };
        for (name, value) in DEFAULT_HEADERS {
            response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
        }
        response
    }

    /// Accepts programs, and browsers whose request passes the rules.
    fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), BrowserRejection> {
        if !is_browser(headers) {
            return Ok(());
        }
        let host = single_value(headers, &header::HOST).unwrap_or_default();
        if !self.is_trusted_host(host) {
            return Err(BrowserRejection::Host(host.chars().take(255).collect()));
        }
        match (single_value(headers, &FETCH_SITE), single_value(headers, &header::ORIGIN)) {
            (Some("same-origin" | "none"), _) => Ok(()),
            (Some(_), _) if method.is_safe() && is_top_level_navigation(headers) => Ok(()),
            (None, Some(origin)) if is_same_origin(origin, host) => Ok(()),
            (Some(_), _) | (None, Some(_)) => Err(BrowserRejection::CrossSite),
            (None, None) if method.is_safe() => Ok(()),
            (None, None) => Err(BrowserRejection::NoOrigin),
        }
    }

    /// Whether an attacker cannot make this name resolve to our address.
    fn is_trusted_host(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        if authority.as_str().contains('@') {
            return false;
        }
        let name = authority.host().to_ascii_lowercase();
        let is_v6 = |name: &str| name.parse::<Ipv6Addr>().is_ok();
        name.parse::<Ipv4Addr>().is_ok()
            || name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).is_some_and(is_v6)
            || name == "localhost"
            || self.hosts.contains(&name)
    }
}

/// Whether a browser may have sent these headers.
fn is_browser(headers: &HeaderMap) -> bool {
    let browser_headers =
        [FETCH_SITE, FETCH_MODE, FETCH_DEST, header::ORIGIN, header::REFERER, header::ACCEPT_LANGUAGE];
    browser_headers.iter().any(|name| headers.contains_key(name))
        || single_value(headers, &header::USER_AGENT).is_some_and(|agent| agent.contains("Mozilla"))
}

/// Whether the user follows a link in a window, not in a frame.
fn is_top_level_navigation(headers: &HeaderMap) -> bool {
    single_value(headers, &FETCH_MODE) == Some("navigate")
        && single_value(headers, &FETCH_DEST) == Some("document")
}

/// Whether an origin (RFC 6454 §6.2) is our own. The scheme may differ: a proxy may terminate TLS.
fn is_same_origin(origin: &str, host: &str) -> bool {
    let origin = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
}

/// The value of a header that occurs once. A repeated header cannot be trusted and counts as empty.
fn single_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.to_str().unwrap_or_default()),
        (Some(_), Some(_)) => Some(""),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROMIUM: (&str, &str) = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/150.0");

    fn check(method: &Method, host: &str, headers: &[(&'static str, &str)]) -> Result<(), BrowserRejection> {
        let mut all = HeaderMap::new();
        all.insert(header::HOST, host.parse().expect("a value"));
        for (name, value) in headers {
            all.append(*name, value.parse().expect("a value"));
        }
        BrowserGuard::new(&["Boot.Example".into()]).check(method, &all)
    }

    #[test]
    fn programs_may_use_any_host_name() {
        let openstack =
            ("user-agent", "openstacksdk/4.0.0 keystoneauth1/5.8.0 python-requests/2.32.3 CPython/3.11.2");
        for headers in [&[openstack][..], &[("user-agent", "curl/7.88.1")], &[]] {
            for method in [Method::GET, Method::POST, Method::PATCH, Method::DELETE] {
                assert_eq!(check(&method, "provisioner.example:6385", headers), Ok(()), "{headers:?}");
            }
        }
    }

    #[test]
    fn browsers_may_use_only_trusted_host_names() {
        for host in [
            "192.0.2.1:6385",
            "192.0.2.1",
            "[2001:db8::1]:6385",
            "localhost:6385",
            "LOCALHOST",
            "boot.example:6385",
            "boot.EXAMPLE",
            rustix::system::uname().nodename().to_str().expect("text"),
        ] {
            assert_eq!(check(&Method::GET, host, &[CHROMIUM]), Ok(()), "{host}");
        }
        for host in [
            "evil.example:6385",
            "192.0.2.1.evil.example",
            "localhost.evil.example",
            "boot.example.evil.example",
            "boot.example@evil.example",
            "evil.example@boot.example",
            "[evil]",
            "[::1",
            "",
            " ",
        ] {
            let result = check(&Method::GET, host, &[CHROMIUM]);
            assert!(matches!(result, Err(BrowserRejection::Host(_))), "{host}: {result:?}");
        }
    }

    #[test]
    fn a_page_cannot_disguise_its_browser_as_a_program() {
        for header in
            ["accept-language", "origin", "referer", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"]
        {
            let result = check(&Method::GET, "evil.example", &[("user-agent", "curl/7.88.1"), (header, "")]);
            assert_eq!(result, Err(BrowserRejection::Host("evil.example".into())), "{header}");
        }
    }

    #[test]
    fn cross_site_requests_are_rejected_except_links() {
        let host = "192.0.2.1:6385";
        let link = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        let frame = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
        let image = [("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
        for site in ["cross-site", "same-site", "something-new", ""] {
            let from = |more: [(&'static str, &'static str); 2]| {
                [CHROMIUM, ("sec-fetch-site", site), more[0], more[1]]
            };
            assert_eq!(check(&Method::GET, host, &from(link)), Ok(()), "{site}");
            assert_eq!(check(&Method::POST, host, &from(link)), Err(BrowserRejection::CrossSite), "{site}");
            assert_eq!(check(&Method::GET, host, &from(frame)), Err(BrowserRejection::CrossSite), "{site}");
            assert_eq!(check(&Method::GET, host, &from(image)), Err(BrowserRejection::CrossSite), "{site}");
        }
        for site in ["same-origin", "none"] {
            assert_eq!(check(&Method::POST, host, &[CHROMIUM, ("sec-fetch-site", site)]), Ok(()), "{site}");
        }
        let repeated = [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")];
        assert_eq!(check(&Method::GET, host, &repeated), Err(BrowserRejection::CrossSite));
    }

    #[test]
    fn without_fetch_metadata_the_origin_must_match() {
        let host = "192.0.2.1:6385";
        for origin in ["http://192.0.2.1:6385", "https://192.0.2.1:6385"] {
            assert_eq!(check(&Method::POST, host, &[CHROMIUM, ("origin", origin)]), Ok(()), "{origin}");
        }
        for origin in
            ["http://192.0.2.1:8080", "http://192.0.2.1", "http://evil.example", "null", "", "192.0.2.1:6385"]
        {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let result = check(&method, host, &[CHROMIUM, ("origin", origin)]);
                assert_eq!(result, Err(BrowserRejection::CrossSite), "{method} {origin}");
            }
        }
        assert_eq!(check(&Method::GET, host, &[CHROMIUM]), Ok(()));
        assert_eq!(check(&Method::POST, host, &[CHROMIUM]), Err(BrowserRejection::NoOrigin));
    }
}
