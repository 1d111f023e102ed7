//! [`CinderEndpoint`]: the URL of Cinder, explicit or from Keystone's catalogue.

use super::CinderError;
use crate::keystone::{Authorization, Interfaces};

/// The service types of Cinder in a catalogue, the current ones first
/// (<https://service-types.openstack.org/>, `block-storage` and its aliases).
const SERVICE_TYPES: [&str; 4] = ["block-storage", "block-store", "volumev3", "volume"];

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

impl CinderEndpoint {
    /// The URL in front of a path, without a trailing slash. The last segment is the project id, which Cinder
    /// requires below microversion 3.67.
    pub(super) fn base_url(&self, authorization: &Authorization) -> Result<String, CinderError> {
        let url = match &self.url {
            Some(url) => Some(url.clone()),
            None => authorization.endpoint(&SERVICE_TYPES, self.region.as_deref(), &self.interfaces),
        };
        let Some(url) = url else {
            let region = self.region.as_deref().map(|region| format!(" in region {region}"));
            return Err(CinderError::Unavailable(format!(
                "Keystone's catalogue has no block-storage endpoint{}",
                region.unwrap_or_default()
            )));
        };
        let url = url.trim_end_matches('/');
        Ok(match authorization.project_id() {
            Some(project) if !url.ends_with(&format!("/{project}")) => format!("{url}/{project}"),
            _ => url.to_owned(),
        })
    }
}
