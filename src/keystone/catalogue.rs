//! The catalogue that comes with a token: which service is where.

use std::str::FromStr;

use serde::Deserialize;

/// Which of a service's doors is used: the operator's network decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interface {
    /// For everybody.
    #[default]
    Public,
    /// For what belongs to the cloud.
    Internal,
    /// For its operators.
    Admin,
}

impl Interface {
    fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Interface {
    type Err = String;

    /// Also the spelling of Keystone v2, `publicURL`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix("URL").unwrap_or(text) {
            "public" => Ok(Self::Public),
            "internal" => Ok(Self::Internal),
            "admin" => Ok(Self::Admin),
            _ => Err(format!("\"{text}\" is not \"public\", \"internal\" or \"admin\"")),
        }
    }
}

/// All services that a token leads to.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Catalogue(Vec<Service>);

#[derive(Debug, Deserialize)]
struct Service {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    interface: String,
    region_id: Option<String>,
    /// What the region was called in Keystone's first days: the same, and still sent.
    region: Option<String>,
    url: String,
}

impl Endpoint {
    fn is_in(&self, region: &str) -> bool {
        self.region_id.as_deref().or(self.region.as_deref()) == Some(region)
    }
}

impl Catalogue {
    /// The first of these types that is there, at this interface, in this region if one is named. No slash at its end.
    pub(super) fn endpoint(
        &self,
        types: &[&str],
        region: Option<&str>,
        interface: Interface,
    ) -> Option<&str> {
        types.iter().find_map(|kind| {
            let services = self.0.iter().filter(|service| service.kind == *kind);
            let endpoint = services.flat_map(|service| &service.endpoints).find(|endpoint| {
                endpoint.interface.strip_suffix("URL").unwrap_or(&endpoint.interface) == interface.name()
                    && region.is_none_or(|region| endpoint.is_in(region))
            });
            endpoint.map(|endpoint| endpoint.url.trim_end_matches('/'))
        })
    }
}
