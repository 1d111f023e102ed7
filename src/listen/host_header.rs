//! The `Host` header of a request (RFC 9112, section 3.2).

use axum::http::header::HOST;
use axum::http::{Request, Version};

/// Why a request must be answered with 400. A proxy in front of volboot and volboot itself could otherwise take such a
/// request for different hosts.
pub(super) fn check_host<B>(request: &Request<B>) -> Result<(), &'static str> {
    let hosts = request.headers().get_all(HOST).iter().count();
    match hosts {
        0 if request.version() >= Version::HTTP_11 => Err("volboot: the request has no Host header\n"),
        0 | 1 => Ok(()),
        _ => Err("volboot: the request has more than one Host header\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_is_required_since_http_1_1() {
        let check = |version, hosts: &[&str]| {
            let request = Request::builder().version(version);
            let request = hosts.iter().fold(request, |request, host| request.header(HOST, *host));
            check_host(&request.body(()).expect("a request")).is_ok()
        };
        assert!(check(Version::HTTP_11, &["a"]) && check(Version::HTTP_11, &[""]));
        assert!(check(Version::HTTP_10, &[]) && check(Version::HTTP_10, &["a"]));
        assert!(!check(Version::HTTP_11, &[]));
        assert!(!check(Version::HTTP_11, &["a", "a"]) && !check(Version::HTTP_10, &["a", "b"]));
    }
}
