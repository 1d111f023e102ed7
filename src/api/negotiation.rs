//! The negotiation of a request's microversion.
//!
//! A client requests the microversion that it was written for. Every response names the negotiated version and the
//! supported range. Client libraries depend on this (python-ironicclient `common/http.py`, keystoneauth `discover`):
//! they request their newest version, receive 406, read the range from the headers, and retry.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::fault::Fault;
use super::version::{IRONIC_VERSION, Microversion};

/// The header of the OpenStack API guidelines: `baremetal 1.52`, in requests only.
const OPENSTACK_VERSION: HeaderName = HeaderName::from_static("openstack-api-version");

/// Reads the requested version from the headers and checks that it is supported.
pub(super) fn negotiate(headers: &HeaderMap) -> Result<Microversion, Fault> {
    let requested = read_standard_header(headers).or_else(|| header_text(headers.get(IRONIC_VERSION)));
    let Some(requested) = requested else { return Ok(Microversion::MIN) };
    if requested.eq_ignore_ascii_case("latest") {
        return Ok(Microversion::MAX);
    }
    let numbers = requested.split_once('.').and_then(|(major, minor)| {
        Some((major.trim().parse::<u32>().ok()?, minor.trim().parse::<u32>().ok()?))
    });
    match numbers {
        None => Err(Fault::NotAcceptable("Invalid value for X-OpenStack-Ironic-API-Version header".into())),
        Some((1, minor))
            if (u32::from(Microversion::MIN.0)..=u32::from(Microversion::MAX.0)).contains(&minor) =>
        {
            Ok(Microversion(minor as u16))
        }
        Some((1, _)) => Err(Fault::NotAcceptable(format!(
            "Version {requested} was requested but the minor version is not supported by this service. \
             The supported version range is: [{}, {}].",
            Microversion::MIN,
            Microversion::MAX
        ))),
        Some(_) => Err(Fault::NotAcceptable(format!(
            "Mutually exclusive versions requested. Version {requested} requested but not supported by this \
             service. The supported version range is: [{}, {}].",
            Microversion::MIN,
            Microversion::MAX
        ))),
    }
}

/// The version that the standard header requests for this service. The header may list several services; the last
/// entry for `baremetal` applies.
fn read_standard_header(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(OPENSTACK_VERSION).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .filter_map(|entry| entry.trim().split_once(' '))
        .filter(|(service, _)| service.eq_ignore_ascii_case("baremetal"))
        .map(|(_, version)| version.trim())
        .next_back()
}

/// The text of a header. A value that is not text yields `?`, which is rejected: the request did send a version.
fn header_text(value: Option<&HeaderValue>) -> Option<&str> {
    value.map(|value| value.to_str().unwrap_or("?").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(headers: &[(&HeaderName, &str)]) -> Result<u16, String> {
        let headers = headers.iter().map(|(name, value)| ((*name).clone(), value.parse().expect("a value")));
        match super::negotiate(&headers.collect()) {
            Ok(version) => Ok(version.0),
            Err(fault) => Err(fault.to_string()),
        }
    }

    #[test]
    fn either_header_selects_the_version() {
        assert_eq!(negotiate(&[]), Ok(1));
        assert_eq!(negotiate(&[(&IRONIC_VERSION, "1.33")]), Ok(33));
        assert_eq!(negotiate(&[(&IRONIC_VERSION, " 1.8 ")]), Ok(8));
        assert_eq!(negotiate(&[(&IRONIC_VERSION, "Latest")]), Ok(Microversion::MAX.0));
        assert_eq!(negotiate(&[(&OPENSTACK_VERSION, "baremetal 1.20")]), Ok(20));
        assert_eq!(
            negotiate(&[(&OPENSTACK_VERSION, "compute 2.1, baremetal latest")]),
            Ok(Microversion::MAX.0)
        );
        assert_eq!(negotiate(&[(&OPENSTACK_VERSION, "compute 2.1"), (&IRONIC_VERSION, "1.5")]), Ok(5));
        assert_eq!(negotiate(&[(&OPENSTACK_VERSION, "baremetal 1.20"), (&IRONIC_VERSION, "1.5")]), Ok(20));
    }

    #[test]
    fn unsupported_versions_are_rejected_with_the_supported_range() {
        for malformed in ["", "1", "1.2.3", "abc", "1.x", "-1.2", "1.99999999999"] {
            assert_eq!(
                negotiate(&[(&IRONIC_VERSION, malformed)]),
                Err("Invalid value for X-OpenStack-Ironic-API-Version header".into()),
                "{malformed}"
            );
        }
        let next = format!("1.{}", Microversion::MAX.0 + 1);
        for unsupported in [next.as_str(), "1.115", "1.0", "2.1"] {
            let refusal = negotiate(&[(&IRONIC_VERSION, unsupported)]).expect_err("a refusal");
            assert!(refusal.contains(&format!("[1.1, {}]", Microversion::MAX)), "{refusal}");
        }
    }
}
