//! [`Version`]: Ironic's microversions, and how client and server agree on one.
//!
//! A client names the version it was written for; every answer names the one it was given by, and the range that
//! could be had. Client libraries build on exactly this (python-ironicclient `common/http.py`, keystoneauth
//! `discover`): they ask for their newest, are told 406, read the range from the headers, and ask again.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::fault::Fault;

/// A version of the API: the second number of `1.N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u16);

/// Ironic's own header, in requests and answers.
const IRONIC: HeaderName = HeaderName::from_static("x-openstack-ironic-api-version");
const IRONIC_MINIMUM: HeaderName = HeaderName::from_static("x-openstack-ironic-api-minimum-version");
const IRONIC_MAXIMUM: HeaderName = HeaderName::from_static("x-openstack-ironic-api-maximum-version");
/// The header of the OpenStack API guidelines: `baremetal 1.33`, in requests only.
const STANDARD: HeaderName = HeaderName::from_static("openstack-api-version");

impl Version {
    /// What a client gets that names none.
    pub(super) const MIN: Self = Self(1);
    /// The last version of Ironic's Pike release: boot from volume, complete.
    pub(super) const MAX: Self = Self(33);

    /// The version a request asks for.
    pub(super) fn negotiated(headers: &HeaderMap) -> Result<Self, Fault> {
        let asked = standard(headers).or_else(|| text(headers.get(IRONIC)));
        let Some(asked) = asked else { return Ok(Self::MIN) };
        if asked.eq_ignore_ascii_case("latest") {
            return Ok(Self::MAX);
        }
        let numbers = asked.split_once('.').and_then(|(major, minor)| {
            Some((major.trim().parse::<u32>().ok()?, minor.trim().parse::<u32>().ok()?))
        });
        match numbers {
            None => {
                Err(Fault::NotAcceptable("Invalid value for X-OpenStack-Ironic-API-Version header".into()))
            }
            Some((1, minor)) if (u32::from(Self::MIN.0)..=u32::from(Self::MAX.0)).contains(&minor) => {
                Ok(Self(minor as u16))
            }
            Some((1, _)) => Err(Fault::NotAcceptable(format!(
                "Version {asked} was requested but the minor version is not supported by this service. \
                 The supported version range is: [{}, {}].",
                Self::MIN,
                Self::MAX
            ))),
            Some(_) => Err(Fault::NotAcceptable(format!(
                "Mutually exclusive versions requested. Version {asked} requested but not supported by this \
                 service. The supported version range is: [{}, {}].",
                Self::MIN,
                Self::MAX
            ))),
        }
    }

    /// Writes the version headers of an answer. `used` is unknown where the two could not agree.
    pub(super) fn announce(used: Option<Self>, headers: &mut HeaderMap) {
        headers.insert(IRONIC_MINIMUM, Self::MIN.header());
        headers.insert(IRONIC_MAXIMUM, Self::MAX.header());
        if let Some(used) = used {
            headers.insert(IRONIC, used.header());
        }
    }

    fn header(self) -> HeaderValue {
        HeaderValue::from_str(&self.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// What the standard header says of this service, among others that may stand beside it. The last one counts.
fn standard(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(STANDARD).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .filter_map(|entry| entry.trim().split_once(' '))
        .filter(|(service, _)| service.eq_ignore_ascii_case("baremetal"))
        .map(|(_, version)| version.trim())
        .next_back()
}

/// A header that is no text asks for something that cannot be: it must not pass for a request without one.
fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value.map(|value| value.to_str().unwrap_or("?").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&HeaderName, &str)]) -> Result<u16, String> {
        let headers = headers.iter().map(|(name, value)| ((*name).clone(), value.parse().expect("a value")));
        match Version::negotiated(&headers.collect()) {
            Ok(version) => Ok(version.0),
            Err(fault) => Err(fault.to_string()),
        }
    }

    #[test]
    fn a_client_gets_what_it_asks_for_by_either_header() {
        assert_eq!(asked(&[]), Ok(1));
        assert_eq!(asked(&[(&IRONIC, "1.33")]), Ok(33));
        assert_eq!(asked(&[(&IRONIC, " 1.8 ")]), Ok(8));
        assert_eq!(asked(&[(&IRONIC, "Latest")]), Ok(33));
        assert_eq!(asked(&[(&STANDARD, "baremetal 1.20")]), Ok(20));
        assert_eq!(asked(&[(&STANDARD, "compute 2.1, baremetal latest")]), Ok(33));
        assert_eq!(asked(&[(&STANDARD, "compute 2.1"), (&IRONIC, "1.5")]), Ok(5));
        assert_eq!(asked(&[(&STANDARD, "baremetal 1.20"), (&IRONIC, "1.5")]), Ok(20));
    }

    #[test]
    fn what_cannot_be_had_is_refused_and_the_range_named() {
        for nonsense in ["", "1", "1.2.3", "abc", "1.x", "-1.2", "1.99999999999"] {
            assert_eq!(
                asked(&[(&IRONIC, nonsense)]),
                Err("Invalid value for X-OpenStack-Ironic-API-Version header".into()),
                "{nonsense}"
            );
        }
        for beyond in ["1.34", "1.115", "1.0", "2.1"] {
            let refusal = asked(&[(&IRONIC, beyond)]).expect_err("a refusal");
            assert!(refusal.contains("[1.1, 1.33]"), "{refusal}");
        }
    }
}
