//! The service catalogue that Keystone returns with a token: the endpoints of each OpenStack service.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::client;

/// The longest URL that is taken from a catalogue.
const MAX_URL_BYTES: usize = 1024;

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

impl fmt::Display for Interfaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(|interface| interface.as_str()).collect::<Vec<_>>().join(" or "))
    }
}

/// All endpoints that a token gives access to.
#[derive(Debug, Default)]
pub(super) struct Catalogue(Vec<CatalogueEndpoint>);

#[derive(Debug)]
struct CatalogueEndpoint {
    /// The type of the service.
    kind: String,
    interface: Interface,
    region: Option<String>,
    /// The URL without a trailing slash.
    url: String,
}

impl CatalogueEndpoint {
    /// Reads an endpoint of a service of this type; `None` without a usable URL or interface.
    fn read(kind: &str, value: &Value) -> Option<Self> {
        let text = |key: &str| value[key].as_str().filter(|text| !text.is_empty());
        Some(Self {
            kind: kind.to_owned(),
            interface: text("interface")?.parse().ok()?,
            // `region` is the older name of `region_id`; Keystone sends both.
            region: text("region_id").or(text("region")).map(str::to_owned),
            url: text("url").filter(|url| url.len() <= MAX_URL_BYTES).and_then(client::parse_url)?,
        })
    }
}

impl Catalogue {
    /// Reads Keystone's catalogue. As in keystoneauth, services without a type and endpoints without a URL are skipped:
    /// they do not concern the other services.
    pub(super) fn read(catalogue: &Value) -> Self {
        let endpoints = |service: &Value| -> Vec<CatalogueEndpoint> {
            let Some(kind) = service["type"].as_str() else { return Vec::new() };
            let endpoints = service["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
            endpoints.iter().filter_map(|endpoint| CatalogueEndpoint::read(kind, endpoint)).collect()
        };
        Self(catalogue.as_array().into_iter().flatten().flat_map(endpoints).collect())
    }

    /// The URL of the first of these types that exists at one of these interfaces and, if given, in this region. It has
    /// no trailing slash.
    pub(super) fn endpoint(
        &self,
        types: &[&str],
        region: Option<&str>,
        interfaces: &Interfaces,
    ) -> Option<&str> {
        let mut combinations =
            types.iter().flat_map(|kind| interfaces.0.iter().map(move |interface| (*kind, *interface)));
        combinations.find_map(|(kind, interface)| {
            let endpoint = self.0.iter().find(|endpoint| {
                endpoint.kind == kind
                    && endpoint.interface == interface
                    && (region.is_none() || endpoint.region.as_deref() == region)
            });
            endpoint.map(|endpoint| endpoint.url.as_str())
        })
    }

    /// Interface and region of each endpoint of these types, for error messages.
    pub(super) fn describe(&self, types: &[&str]) -> Vec<String> {
        let endpoints = self.0.iter().filter(|endpoint| types.contains(&endpoint.kind.as_str()));
        let mut all: Vec<_> = endpoints
            .map(|endpoint| match &endpoint.region {
                Some(region) => format!("{} in {region}", endpoint.interface.as_str()),
                None => endpoint.interface.as_str().to_owned(),
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}
