//! [`Browsers`]: a browser does what other people's pages tell it, with the network and the passwords of whoever sits
//! before it. What such pages may make it do at the people's doors is nothing; programs are left alone.
//!
//! Three ways lead here from a strange page, and each is closed for the API and the pages alike:
//!
//! * *A request across sites* (a form, `fetch`, an image). Browsers say from where one comes, in `Sec-Fetch-Site` or
//!   `Origin` (Fetch §3.2, Fetch Metadata): whatever comes from elsewhere is refused, but for a link that is followed.
//!   One that would change something must say it.
//! * *Another name for our address* (DNS rebinding): then the strange page and we are one site to the browser, and
//!   only `Host` tells. A browser is answered by an IP address, as `localhost`, by the machine's own name, and by the
//!   names in `[api] hosts`: none of these can a stranger lead here.
//! * *A frame* in which people click on what they do not see, or scripts in what we show: the headers forbid both.
//!
//! `openstack`, `curl` and the like need no such care: nobody's page drives them, and they call volboot by whatever
//! name their catalogue has. So the rules hold for what comes from a browser, and to be one it is enough to look like
//! it. `Sec-Fetch-Site` is not sent to plain http, nor `Origin` with a simple GET, and some browsers let a page choose
//! the `User-Agent`; but no page can keep a browser from sending `Accept-Language`, which no client of Ironic's does.

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

/// What an answer has that says nothing else. `same-origin` and not `no-referrer`: with that, browsers would not say
/// from where our own forms are sent.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (RESOURCE_POLICY, "same-origin"),
];

/// What browsers are answered. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Browsers {
    /// By these names, in lower case.
    hosts: Arc<[String]>,
}

/// Why a browser is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Strange {
    /// It was led here by a name that is not ours.
    #[error(
        "A browser is answered by volboot's IP address, as localhost, by the machine's own name, and by the names in \
         [api] hosts. \"{0}\" is none of them."
    )]
    Host(String),
    /// A page of another site has sent it.
    #[error("A page of another site may not use volboot.")]
    Site,
    /// It does not say which page has sent it.
    #[error("A browser that would change something has to say which page has sent it.")]
    Unsaid,
}

impl Browsers {
    /// `hosts`: the names that are configured. The machine's own is known.
    pub fn new(hosts: &[String]) -> Self {
        let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let all = hosts.iter().chain([&own]).map(|name| name.to_ascii_lowercase());
        Self { hosts: all.filter(|name| !name.is_empty()).collect() }
    }

    /// Puts this before all that is served to people.
    pub fn guard(self, router: Router) -> Router {
        // A router whose fallback is guarded, so that what it does not know is guarded, too.
        let guard = from_fn(move |request: Request, next: Next| {
            let browsers = self.clone();
            async move { browsers.answer(request, next).await }
        });
        Router::new().fallback_service(router).layer(guard)
    }

    async fn answer(&self, request: Request, next: Next) -> Response {
        let mut response = match self.check(request.method(), request.headers()) {
            Ok(()) => next.run(request).await,
            Err(strange) => {
                let path = request.uri().path();
                tracing::warn!(method = %request.method(), path, reason = %strange, "a browser was turned away");
                (StatusCode::FORBIDDEN, format!("{strange}\n")).into_response()
            }
        };
        for (name, value) in HEADERS {
            response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
        }
        response
    }

    /// Whether what sends a request with these headers is a program, or a browser that may.
    fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Strange> {
        if !is_browser(headers) {
            return Ok(());
        }
        let host = text(headers, &header::HOST).unwrap_or_default();
        if !self.is_ours(host) {
            return Err(Strange::Host(host.chars().take(255).collect()));
        }
        match (text(headers, &FETCH_SITE), text(headers, &header::ORIGIN)) {
            (Some("same-origin" | "none"), _) => Ok(()),
            (Some(_), _) if method.is_safe() && is_link(headers) => Ok(()),
            (None, Some(origin)) if is_origin(origin, host) => Ok(()),
            (Some(_), _) | (None, Some(_)) => Err(Strange::Site),
            (None, None) if method.is_safe() => Ok(()),
            (None, None) => Err(Strange::Unsaid),
        }
    }

    /// Whether no stranger can lead this name here.
    fn is_ours(&self, host: &str) -> bool {
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

/// Whether a browser may have sent this.
fn is_browser(headers: &HeaderMap) -> bool {
    let signs =
        [FETCH_SITE, FETCH_MODE, FETCH_DEST, header::ORIGIN, header::REFERER, header::ACCEPT_LANGUAGE];
    signs.iter().any(|sign| headers.contains_key(sign))
        || text(headers, &header::USER_AGENT).is_some_and(|agent| agent.contains("Mozilla"))
}

/// Whether somebody follows a link, in a window and not in a frame.
fn is_link(headers: &HeaderMap) -> bool {
    text(headers, &FETCH_MODE) == Some("navigate") && text(headers, &FETCH_DEST) == Some("document")
}

/// Whether a page of this origin (RFC 6454 §6.2) is ours. A proxy may have taken its TLS away.
fn is_origin(origin: &str, host: &str) -> bool {
    let origin = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
}

/// A header that is there once. One that is there more than once says nothing that could be relied on.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
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

    fn checked(method: &Method, host: &str, headers: &[(&'static str, &str)]) -> Result<(), Strange> {
        let mut all = HeaderMap::new();
        all.insert(header::HOST, host.parse().expect("a value"));
        for (name, value) in headers {
            all.append(*name, value.parse().expect("a value"));
        }
        Browsers::new(&["Boot.Example".into()]).check(method, &all)
    }

    #[test]
    fn a_program_calls_us_as_it_likes() {
        let openstack =
            ("user-agent", "openstacksdk/4.0.0 keystoneauth1/5.8.0 python-requests/2.32.3 CPython/3.11.2");
        for headers in [&[openstack][..], &[("user-agent", "curl/7.88.1")], &[]] {
            for method in [Method::GET, Method::POST, Method::PATCH, Method::DELETE] {
                assert_eq!(checked(&method, "provisioner.example:6385", headers), Ok(()), "{headers:?}");
            }
        }
    }

    #[test]
    fn a_browser_is_answered_by_addresses_and_names_that_no_stranger_can_lead_here() {
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
            assert_eq!(checked(&Method::GET, host, &[CHROMIUM]), Ok(()), "{host}");
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
            let refused = checked(&Method::GET, host, &[CHROMIUM]);
            assert!(matches!(refused, Err(Strange::Host(_))), "{host}: {refused:?}");
        }
    }

    #[test]
    fn a_page_cannot_make_its_browser_look_like_a_program() {
        for sign in
            ["accept-language", "origin", "referer", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"]
        {
            let refused = checked(&Method::GET, "evil.example", &[("user-agent", "curl/7.88.1"), (sign, "")]);
            assert_eq!(refused, Err(Strange::Host("evil.example".into())), "{sign}");
        }
    }

    #[test]
    fn what_comes_from_another_site_is_refused_but_for_a_link() {
        let host = "192.0.2.1:6385";
        let link = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        let frame = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
        let image = [("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
        for site in ["cross-site", "same-site", "something-new", ""] {
            let from = |more: [(&'static str, &'static str); 2]| {
                [CHROMIUM, ("sec-fetch-site", site), more[0], more[1]]
            };
            assert_eq!(checked(&Method::GET, host, &from(link)), Ok(()), "{site}");
            assert_eq!(checked(&Method::POST, host, &from(link)), Err(Strange::Site), "{site}");
            assert_eq!(checked(&Method::GET, host, &from(frame)), Err(Strange::Site), "{site}");
            assert_eq!(checked(&Method::GET, host, &from(image)), Err(Strange::Site), "{site}");
        }
        for site in ["same-origin", "none"] {
            assert_eq!(checked(&Method::POST, host, &[CHROMIUM, ("sec-fetch-site", site)]), Ok(()), "{site}");
        }
        let twice = [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")];
        assert_eq!(checked(&Method::GET, host, &twice), Err(Strange::Site));
    }

    #[test]
    fn where_only_the_origin_is_said_it_has_to_be_ours() {
        let host = "192.0.2.1:6385";
        for origin in ["http://192.0.2.1:6385", "https://192.0.2.1:6385"] {
            assert_eq!(checked(&Method::POST, host, &[CHROMIUM, ("origin", origin)]), Ok(()), "{origin}");
        }
        for origin in
            ["http://192.0.2.1:8080", "http://192.0.2.1", "http://evil.example", "null", "", "192.0.2.1:6385"]
        {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let refused = checked(&method, host, &[CHROMIUM, ("origin", origin)]);
                assert_eq!(refused, Err(Strange::Site), "{method} {origin}");
            }
        }
        assert_eq!(checked(&Method::GET, host, &[CHROMIUM]), Ok(()));
        assert_eq!(checked(&Method::POST, host, &[CHROMIUM]), Err(Strange::Unsaid));
    }
}
