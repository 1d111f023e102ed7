//! clouds.yaml, as openstacksdk reads it: the cloud of a name, from the first file that is there, under it the profile
//! it names (clouds-public.yaml), over it what secure.yaml adds.
//!
//! Left out on purpose: the profiles that come with openstacksdk, and lists of regions and interfaces.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::said::{Place, Said, Surroundings};
use crate::config::Fault;

/// One cloud of a file. Scalars are taken as the texts they are written as: a password of digits is no number.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Cloud {
    profile: Option<String>,
    auth: BTreeMap<String, Option<String>>,
    auth_type: Option<String>,
    region_name: Option<String>,
    interface: Option<String>,
    endpoint_type: Option<String>,
    cacert: Option<String>,
    verify: Option<bool>,
    insecure: Option<bool>,
    block_storage_endpoint_override: Option<String>,
    volumev3_endpoint_override: Option<String>,
    volume_endpoint_override: Option<String>,
}

#[derive(Default, Deserialize)]
struct File {
    #[serde(default, alias = "public-clouds")]
    clouds: BTreeMap<String, Cloud>,
}

/// The keys of `auth` that mean something here.
const AUTH: [&str; 20] = [
    "auth_url",
    "username",
    "user_id",
    "password",
    "user_domain_name",
    "user_domain_id",
    "project_name",
    "project_id",
    "project_domain_name",
    "project_domain_id",
    "domain_name",
    "domain_id",
    "default_domain",
    "default_domain_id",
    "default_domain_name",
    "application_credential_id",
    "application_credential_name",
    "application_credential_secret",
    // The older spellings of projects, and the endpoint of `auth_type: none`.
    "tenant_name",
    "endpoint",
];

/// What clouds.yaml and the files beside it say of a cloud.
pub(super) fn read(name: &str, surroundings: &Surroundings) -> Result<Said, Fault> {
    let fault = |path: &Path, message: String| Fault { key: Some(path.display().to_string()), message };
    let Some((path, mut file)) = find("clouds", "OS_CLIENT_CONFIG_FILE", surroundings)? else {
        let places: Vec<_> =
            surroundings.directories.iter().map(|directory| directory.display().to_string()).collect();
        let message = format!(
            "there is no clouds.yaml that could tell of cloud \"{name}\": not in {}",
            places.join(", ")
        );
        return Err(Fault { key: None, message });
    };
    let Some(cloud) = file.clouds.remove(name) else {
        let there: Vec<_> = file.clouds.keys().map(|name| format!("\"{name}\"")).collect();
        return Err(fault(&path, format!("there is no cloud \"{name}\", but {}", list(&there))));
    };
    let mut values = BTreeMap::new();
    if let Some(profile) = &cloud.profile {
        let found = find("clouds-public", "OS_CLIENT_VENDOR_FILE", surroundings)?;
        match found.and_then(|(_, mut file)| file.clouds.remove(profile)) {
            Some(profile) => values.extend(profile.values()),
            None => return Err(fault(&path, format!("no clouds-public.yaml has the profile \"{profile}\""))),
        }
    }
    values.extend(cloud.values());
    if let Some((_, mut secure)) = find("secure", "OS_CLIENT_SECURE_FILE", surroundings)? {
        values.extend(secure.clouds.remove(name).unwrap_or_default().values());
    }
    Ok(Said { place: Place::File(path, name.to_owned()), values })
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none at all".into() } else { names.join(", ") }
}

/// The first file of that name, or the one that a variable names.
fn find(stem: &str, variable: &str, surroundings: &Surroundings) -> Result<Option<(PathBuf, File)>, Fault> {
    let named = surroundings.variable(variable).map(PathBuf::from);
    let places = surroundings.directories.iter().flat_map(|directory| {
        ["yaml", "yml", "json"].map(|ending| directory.join(format!("{stem}.{ending}")))
    });
    for path in named.into_iter().chain(places) {
        let fault = |message| Fault { key: Some(path.display().to_string()), message };
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let file = parse(&text).map_err(fault)?;
                return Ok(Some((path, file)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(fault(format!("cannot be read: {error}"))),
        }
    }
    Ok(None)
}

/// The fault tells the place only: the parser's own words come with lines of the file, and those hold secrets.
fn parse(text: &str) -> Result<File, String> {
    let file: Result<Option<File>, _> = serde_saphyr::from_str(text);
    file.map(Option::unwrap_or_default).map_err(|error| match error.location() {
        Some(place) => format!("is no clouds.yaml: see line {}, column {}", place.line(), place.column()),
        None => "is no clouds.yaml".into(),
    })
}

impl Cloud {
    fn values(mut self) -> Vec<(&'static str, String)> {
        let verify = self.verify.or(self.insecure.map(|insecure| !insecure));
        let mut values = vec![
            ("auth_type", self.auth_type),
            ("region_name", self.region_name),
            ("interface", self.interface.or(self.endpoint_type)),
            ("cacert", self.cacert),
            ("verify", verify.map(|verify| verify.to_string())),
            (
                "endpoint_override",
                self.block_storage_endpoint_override
                    .or(self.volumev3_endpoint_override)
                    .or(self.volume_endpoint_override),
            ),
        ];
        for key in AUTH {
            let own = match key {
                "tenant_name" => "project_name",
                "endpoint" => "endpoint_override",
                _ => key,
            };
            values.push((own, self.auth.remove(key).flatten()));
        }
        let said = values.into_iter().filter_map(|(key, value)| Some((key, value?)));
        said.filter(|(_, value)| !value.is_empty()).collect()
    }
}
