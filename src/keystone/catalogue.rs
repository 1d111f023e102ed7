//! The service catalogue that Keystone returns with a token: the endpoints of each OpenStack service.

use std::str::FromStr;

use serde::Deserialize;

/// The endpoint interface of a service. The site's network decides which one volboot can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interface {
    /// For all clients.
    #[default]
    Public,
    /// For services of the cloud.
    Internal,
    /// For operators of the cloud.
    Admin,
}

impl Interface {
    fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Interface {
    type Err = String;

    /// Accepts the spelling of Keystone v2 too: `publicURL`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix("URL").unwrap_or(text) {
            "public" => Ok(Self::Public),
            "internal" => Ok(Self::Internal),
            "admin" => Ok(Self::Admin),
            _ => Err(format!("\"{text}\" is not \"public\", \"internal\" or \"admin\"")),
        }
    }
}

/// Endpoint interfaces in order of preference. The first that a service has is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interfaces(Vec<Interface>);

impl Default for Interfaces {
    fn default() -> Self {
        Self(vec![Interface::default()])
    }
}

impl From<Interface> for Interfaces {
    fn from(interface: Interface) -> Self {
        Self(vec![interface])
    }
}

impl FromStr for Interfaces {
    type Err = String;

    /// Accepts a list with commas.
    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(|interface| interface.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

/// All services that a token gives access to.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Catalogue(Vec<Service>);

#[derive(Debug, Deserialize)]
struct Service {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    endpoints: Vec<CatalogueEndpoint>,
}

#[derive(Debug, Deserialize)]
struct CatalogueEndpoint {
    interface: String,
    region_id: Option<String>,
    /// The older name of `region_id`; Keystone still sends it.
    region: Option<String>,
    url: String,
}

impl CatalogueEndpoint {
    fn is_in(&self, region: &str) -> bool {
        self.region_id.as_deref().or(self.region.as_deref()) == Some(region)
    }
}

impl Catalogue {
    /// The URL of the first of these types that exists at one of these interfaces and, if given, in this region. It has
    /// no trailing slash.
    pub(super) fn endpoint(
        &self,
        types: &[&str],
        region: Option<&str>,
        interfaces: &Interfaces,
    ) -> Option<&str> {
        let combinations =
            types.iter().flat_map(|kind| interfaces.0.iter().map(move |interface| (*kind, *interface)));
        combinations.into_iter().find_map(|(kind, interface)| {
            let services = self.0.iter().filter(|service| service.kind == kind);
            let endpoint = services.flat_map(|service| &service.endpoints).find(|endpoint| {
                endpoint.interface.strip_suffix("URL").unwrap_or(&endpoint.interface) == interface.as_str()
                    && region.is_none_or(|region| endpoint.is_in(region))
            });
            endpoint.map(|endpoint| endpoint.url.trim_end_matches('/'))
        })
    }
}
