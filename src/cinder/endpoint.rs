//! [`CinderEndpoint`]: the URL of Cinder, explicit or from Keystone's catalogue.

use std::fmt;

use super::CinderError;
use crate::keystone::{Authorization, Interfaces};

/// The service types of Cinder in a catalogue, the current ones first
/// (<https://service-types.openstack.org/>, `block-storage` and its aliases).
const SERVICE_TYPES: [&str; 4] = ["block-storage", "block-store", "volumev3", "volume"];

/// The number of endpoints that an error message lists.
const MAX_ENDPOINTS: usize = 6;

/// Where Cinder is: an explicit URL, or a selection from the catalogue.
#[derive(Debug, Clone, Default)]
pub struct CinderEndpoint {
    /// The URL; overrides the catalogue.
    pub url: Option<String>,
    /// The region in the catalogue, if there are several.
    pub region: Option<String>,
    /// The interfaces in the catalogue.
    pub interfaces: Interfaces,
}

/// The URL of an endpoint, and its source.
#[derive(Debug)]
pub(super) struct EndpointUrl {
    /// The URL, without the project and without a trailing slash: as the source has it, or discovered there.
    pub(super) url: String,
    /// The source, for error messages: a key of the configuration, or a selection from the catalogue.
    source: String,
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.url, self.source)
    }
}

impl EndpointUrl {
    /// This endpoint with a discovered URL. Error messages name both.
    pub(super) fn with_discovered(self, url: String) -> Self {
        let source = format!("discovered at {}, {}", self.url, self.source);
        if url == self.url { self } else { Self { url, source } }
    }
}

impl CinderEndpoint {
    /// Selects the URL for the authorization's project.
    pub(super) fn select(&self, authorization: &Authorization) -> Result<EndpointUrl, CinderError> {
        let (url, source) = match &self.url {
            Some(url) => (url.clone(), "endpoint_override".to_owned()),
            None => self.find_in_catalogue(authorization)?,
        };
        let url = url.trim_end_matches('/');
        let project = authorization.project_id().map(|project| format!("/{project}"));
        let url = project.and_then(|project| url.strip_suffix(&project)).unwrap_or(url);
        Ok(EndpointUrl { url: url.to_owned(), source })
    }

    fn find_in_catalogue(&self, authorization: &Authorization) -> Result<(String, String), CinderError> {
        let (region, interfaces) = (self.region.as_deref(), &self.interfaces);
        let in_region = region.map(|region| format!(" in region {region}")).unwrap_or_default();
        let Some(url) = authorization.endpoint(&SERVICE_TYPES, region, interfaces) else {
            let mut others = authorization.describe_endpoints(&SERVICE_TYPES);
            others.truncate(MAX_ENDPOINTS);
            let others = if others.is_empty() { "none".into() } else { others.join(", ") };
            return Err(CinderError::Unavailable(format!(
                "Keystone's catalogue has no {interfaces} block-storage endpoint{in_region}; it has: {others}"
            )));
        };
        Ok((url, format!("{interfaces} endpoint{in_region}")))
    }
}

#[cfg(test)]
impl EndpointUrl {
    pub(super) fn at(url: &str) -> Self {
        Self { url: url.into(), source: "endpoint_override".into() }
    }
}
