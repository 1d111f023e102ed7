//! Reads clouds.yaml as openstacksdk does (`openstack/config/loader.py`).
//!
//! The first file that exists has the named cloud; only its entry is interpreted. The profile that it names
//! (clouds-public.yaml) supplies defaults; secure.yaml overrides.
//!
//! Left out on purpose: the profiles that openstacksdk ships.

use std::path::PathBuf;

use super::cloud_entry::CloudEntry;
use super::sources::{CloudSource, Environment};
use super::yaml::YamlNode;
use crate::config::Diagnostic;

/// A file, and its top-level mapping.
struct CloudsFile {
    path: PathBuf,
    sections: Vec<(String, YamlNode)>,
}

/// Reads a cloud from clouds.yaml, clouds-public.yaml and secure.yaml. Of several regions, it reads `region`, else the
/// first.
pub(super) fn read(
    name: &str,
    region: Option<&str>,
    environment: &Environment,
) -> Result<CloudSource, Diagnostic> {
    let Some(mut file) = find_file("clouds", "OS_CLIENT_CONFIG_FILE", environment)? else {
        let directories: Vec<_> =
            environment.directories.iter().map(|directory| directory.display().to_string()).collect();
        let message =
            format!("cannot find a clouds.yaml for cloud \"{name}\"; searched in {}", directories.join(", "));
        return Err(Diagnostic { key: None, message });
    };
    let names = file.list_names("clouds");
    let entry = file.take_entry("clouds", name)?;
    let secrets = match find_file("secure", "OS_CLIENT_SECURE_FILE", environment)? {
        Some(mut secure) => secure.take_entry("clouds", name)?,
        None => None,
    };
    if entry.is_none() && secrets.is_none() {
        return Err(file.error(format!("has no cloud \"{name}\"; its clouds are {names}")));
    }
    let mut cloud = entry.unwrap_or_default();
    cloud.overlay(secrets.unwrap_or_default());
    if let Some(profile) = cloud.profile()? {
        cloud.inherit(read_profile(&profile, &file, environment)?);
    }
    cloud.select_region(region)?;
    cloud.into_source(file.path, name)
}

/// The entry of a profile in clouds-public.yaml.
fn read_profile(
    profile: &str,
    clouds: &CloudsFile,
    environment: &Environment,
) -> Result<CloudEntry, Diagnostic> {
    let mut entry = None;
    if let Some(mut public) = find_file("clouds-public", "OS_CLIENT_VENDOR_FILE", environment)? {
        entry = public.take_entry("public-clouds", profile)?;
        if entry.is_none() {
            entry = public.take_entry("clouds", profile)?;
        }
    }
    entry.ok_or_else(|| {
        clouds.error(format!(
            "cannot find profile \"{profile}\" in a clouds-public.yaml. volboot has none of openstacksdk's profiles: \
             write the profile's settings, such as auth_url, into the entry instead"
        ))
    })
}

/// The file that `variable` names, else the first `stem` with a suffix in the directories.
fn find_file(
    stem: &str,
    variable: &str,
    environment: &Environment,
) -> Result<Option<CloudsFile>, Diagnostic> {
    let from_variable = environment.variable(variable).map(PathBuf::from);
    let candidates = environment.directories.iter().flat_map(|directory| {
        ["yaml", "yml", "json"].map(|suffix| directory.join(format!("{stem}.{suffix}")))
    });
    for path in from_variable.into_iter().chain(candidates) {
        match std::fs::read_to_string(&path) {
            Ok(text) => return CloudsFile::parse(path, &text).map(Some),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => {
                let key = Some(path.display().to_string());
                return Err(Diagnostic { key, message: format!("cannot read the file: {cause}") });
            }
        }
    }
    Ok(None)
}

impl CloudsFile {
    fn parse(path: PathBuf, text: &str) -> Result<Self, Diagnostic> {
        let mut file = Self { path, sections: Vec::new() };
        match YamlNode::parse(text) {
            Ok(YamlNode::Mapping(sections)) => file.sections = sections,
            Ok(YamlNode::Null) => {}
            Ok(other) => {
                let message = format!("is not a valid clouds.yaml: expected a mapping, not {}", other.kind());
                return Err(file.error(message));
            }
            Err(position) => return Err(file.error(format!("is not a valid clouds.yaml: {position}"))),
        }
        Ok(file)
    }

    /// Takes the entry of a cloud out of a section of the file. Other entries are not interpreted.
    fn take_entry(&mut self, section: &str, name: &str) -> Result<Option<CloudEntry>, Diagnostic> {
        let path = self.path.display().to_string();
        let clouds = match self.sections.iter_mut().rfind(|(key, _)| key == section) {
            Some((_, YamlNode::Mapping(clouds))) => clouds,
            None | Some((_, YamlNode::Null)) => return Ok(None),
            Some((_, other)) => {
                let message = format!("expected a mapping of clouds, not {}", other.kind());
                return Err(Diagnostic { key: Some(format!("{path}: {section}")), message });
            }
        };
        let Some(at) = clouds.iter().rposition(|(key, _)| key == name) else { return Ok(None) };
        let (_, entry) = clouds.swap_remove(at);
        CloudEntry::read(entry, &format!("{path}: {section}.{name}")).map(Some)
    }

    /// The names of a section's entries, for error messages.
    fn list_names(&self, section: &str) -> String {
        let names = self.sections.iter().rfind(|(key, _)| key == section).map(|(_, clouds)| match clouds {
            YamlNode::Mapping(clouds) => clouds.iter().map(|(name, _)| format!("\"{name}\"")).collect(),
            YamlNode::Null | YamlNode::Text(_) | YamlNode::List(_) => Vec::new(),
        });
        let mut names = names.unwrap_or_default();
        names.sort_unstable();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    }

    fn error(&self, message: String) -> Diagnostic {
        Diagnostic { key: Some(self.path.display().to_string()), message }
    }
}
