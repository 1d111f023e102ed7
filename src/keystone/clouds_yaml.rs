//! Reads clouds.yaml as openstacksdk does.
//!
//! The first file that exists has the named cloud. The profile that it names (clouds-public.yaml) supplies defaults;
//! secure.yaml overrides.
//!
//! Left out on purpose: the profiles that openstacksdk ships, and lists of regions and interfaces.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::sources::{AUTH_SETTINGS, CloudSource, Environment, Origin};
use crate::config::Diagnostic;

/// One cloud of a file. Scalars are read as text: a password of digits is not a number.
#[derive(Default, Deserialize)]
#[serde(default)]
struct CloudEntry {
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
struct CloudsFile {
    #[serde(default, alias = "public-clouds")]
    clouds: BTreeMap<String, CloudEntry>,
}

/// Reads a cloud from clouds.yaml, clouds-public.yaml and secure.yaml.
pub(super) fn read(name: &str, environment: &Environment) -> Result<CloudSource, Diagnostic> {
    let error = |path: &Path, message: String| Diagnostic { key: Some(path.display().to_string()), message };
    let Some((path, mut file)) = find_file("clouds", "OS_CLIENT_CONFIG_FILE", environment)? else {
        let directories: Vec<_> =
            environment.directories.iter().map(|directory| directory.display().to_string()).collect();
        let message =
            format!("cannot find a clouds.yaml for cloud \"{name}\"; searched in {}", directories.join(", "));
        return Err(Diagnostic { key: None, message });
    };
    let Some(cloud) = file.clouds.remove(name) else {
        let names: Vec<_> = file.clouds.keys().map(|name| format!("\"{name}\"")).collect();
        let message = format!("has no cloud \"{name}\"; its clouds are {}", join_names(&names));
        return Err(error(&path, message));
    };
    let mut values = BTreeMap::new();
    if let Some(profile) = &cloud.profile {
        let public = find_file("clouds-public", "OS_CLIENT_VENDOR_FILE", environment)?;
        let Some(entry) = public.and_then(|(_, mut file)| file.clouds.remove(profile)) else {
            let message = format!("cannot find profile \"{profile}\" in a clouds-public.yaml");
            return Err(error(&path, message));
        };
        values.extend(entry.into_values());
    }
    values.extend(cloud.into_values());
    if let Some((_, mut secure)) = find_file("secure", "OS_CLIENT_SECURE_FILE", environment)? {
        values.extend(secure.clouds.remove(name).unwrap_or_default().into_values());
    }
    Ok(CloudSource { origin: Origin::File(path, name.to_owned()), values })
}

fn join_names(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// The file that `variable` names, else the first `stem` with a suffix in the directories.
fn find_file(
    stem: &str,
    variable: &str,
    environment: &Environment,
) -> Result<Option<(PathBuf, CloudsFile)>, Diagnostic> {
    let from_variable = environment.variable(variable).map(PathBuf::from);
    let candidates = environment.directories.iter().flat_map(|directory| {
        ["yaml", "yml", "json"].map(|suffix| directory.join(format!("{stem}.{suffix}")))
    });
    for path in from_variable.into_iter().chain(candidates) {
        let error = |message| Diagnostic { key: Some(path.display().to_string()), message };
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let file = parse(&text).map_err(error)?;
                return Ok(Some((path, file)));
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => return Err(error(format!("cannot read the file: {cause}"))),
        }
    }
    Ok(None)
}

/// The error has only the position: the parser's own message quotes lines of the file, which may hold secrets.
fn parse(text: &str) -> Result<CloudsFile, String> {
    let file: Result<Option<CloudsFile>, _> = serde_saphyr::from_str(text);
    file.map(Option::unwrap_or_default).map_err(|error| match error.location() {
        Some(at) => format!("is not a valid clouds.yaml: line {}, column {}", at.line(), at.column()),
        None => "is not a valid clouds.yaml".into(),
    })
}

impl CloudEntry {
    /// The values under the keys of [`CLOUD_KEYS`](crate::config::CLOUD_KEYS).
    fn into_values(mut self) -> Vec<(&'static str, String)> {
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
        // The last two are the older name of a project, and the endpoint of `auth_type: none`.
        let same_names = AUTH_SETTINGS.iter().map(|(key, _)| (*key, *key));
        let other_names = [("project_name", "tenant_name"), ("endpoint_override", "endpoint")];
        for (key, auth_key) in same_names.chain(other_names) {
            values.push((key, self.auth.remove(auth_key).flatten()));
        }
        let set = values.into_iter().filter_map(|(key, value)| Some((key, value?)));
        set.filter(|(_, value)| !value.is_empty()).collect()
    }
}
