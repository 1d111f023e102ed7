//! [`CloudEntry`]: one entry of clouds.yaml, clouds-public.yaml or secure.yaml, with openstacksdk's spellings and regions.
//!
//! Each setting keeps its place, so that an error names the file and the key as the file spells it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::sources::{AUTH_SETTINGS, CloudSource, Origin, UNSUPPORTED_SETTINGS, WITHOUT_KEYSTONE};
use super::yaml::YamlNode;
use crate::config::Diagnostic;

/// The prefixes of settings for Cinder alone, in openstacksdk's order: the service type and its aliases
/// (<https://service-types.openstack.org/>).
const SERVICE_PREFIXES: [&str; 5] = ["block_storage", "volumev3", "volumev2", "volume", "block_store"];

/// Older spellings of settings. The current one counts, if both are set.
const OLDER_SPELLINGS: [(&str, &str); 4] = [
    ("username", "user_name"),
    ("project_name", "tenant_name"),
    ("project_id", "tenant_id"),
    ("auth_type", "auth_plugin"),
];

/// A setting and its place, such as `/etc/openstack/clouds.yaml: clouds.site.auth.username`.
struct PlacedSetting {
    place: String,
    value: YamlNode,
}

/// The settings of an entry that are not `null`.
#[derive(Default)]
pub(super) struct CloudEntry {
    settings: BTreeMap<String, PlacedSetting>,
    /// The settings in `auth`.
    auth: BTreeMap<String, PlacedSetting>,
}

/// Reads a mapping. As in openstacksdk, `-` in a key stands for `_`.
fn read_mapping(node: YamlNode, place: &str) -> Result<BTreeMap<String, PlacedSetting>, Diagnostic> {
    let pairs = match node {
        YamlNode::Mapping(pairs) => pairs,
        YamlNode::Null => Vec::new(),
        YamlNode::Text(_) | YamlNode::List(_) => return Err(expect("a mapping", &node, place)),
    };
    let place_value = |(key, value): (String, YamlNode)| {
        let place = format!("{place}.{key}");
        (key.replace('-', "_"), PlacedSetting { place, value })
    };
    let set = pairs.into_iter().filter(|(_, value)| match value {
        YamlNode::Null => false,
        YamlNode::Text(text) => !text.is_empty(),
        YamlNode::List(_) | YamlNode::Mapping(_) => true,
    });
    Ok(set.map(place_value).collect())
}

fn expect(expected: &str, node: &YamlNode, place: &str) -> Diagnostic {
    Diagnostic { key: Some(place.into()), message: format!("expected {expected}, not {}", node.kind()) }
}

impl PlacedSetting {
    fn text(&self) -> Result<&str, Diagnostic> {
        match &self.value {
            YamlNode::Text(text) => Ok(text),
            YamlNode::Null | YamlNode::List(_) | YamlNode::Mapping(_) => {
                Err(expect("text", &self.value, &self.place))
            }
        }
    }

    /// The texts of a list, or a single text.
    fn texts(&self) -> Result<Vec<&str>, Diagnostic> {
        let YamlNode::List(items) = &self.value else { return Ok(vec![self.text()?]) };
        let texts: Option<Vec<_>> = items
            .iter()
            .map(|item| match item {
                YamlNode::Text(text) => Some(text.as_str()),
                YamlNode::Null | YamlNode::List(_) | YamlNode::Mapping(_) => None,
            })
            .collect();
        texts.filter(|texts| !texts.is_empty()).ok_or_else(|| Diagnostic {
            key: Some(self.place.clone()),
            message: "expected text or a list of texts".into(),
        })
    }
}

impl CloudEntry {
    /// Reads the entry at a place such as `/etc/openstack/clouds.yaml: clouds.site`.
    pub(super) fn read(node: YamlNode, place: &str) -> Result<Self, Diagnostic> {
        let mut settings = read_mapping(node, place)?;
        let auth = match settings.remove("auth") {
            Some(auth) => read_mapping(auth.value, &auth.place)?,
            None => BTreeMap::new(),
        };
        Ok(Self { settings, auth })
    }

    /// Adds the settings of `other`, which count if both are set.
    pub(super) fn overlay(&mut self, other: Self) {
        self.settings.extend(other.settings);
        self.auth.extend(other.auth);
    }

    /// Adds the defaults of a profile. Its regions count only if the entry names none.
    pub(super) fn inherit(&mut self, mut profile: Self) {
        if ["regions", "region_name"].iter().any(|key| self.settings.contains_key(*key)) {
            profile.settings.remove("regions");
            profile.settings.remove("region_name");
        }
        profile.overlay(std::mem::take(self));
        *self = profile;
    }

    /// The profile that the entry names. `cloud` is its older key.
    pub(super) fn profile(&self) -> Result<Option<String>, Diagnostic> {
        let profile = self.settings.get("profile").or_else(|| self.settings.get("cloud"));
        profile.map(|profile| profile.text().map(str::to_owned)).transpose()
    }

    /// Selects one of the regions, with its own values: the requested one, else the first.
    pub(super) fn select_region(&mut self, requested: Option<&str>) -> Result<(), Diagnostic> {
        let mut regions = self.list_regions()?;
        let names: Vec<_> = regions.iter().map(|(name, _)| name.text()).collect::<Result<_, _>>()?;
        if names.is_empty() {
            return Ok(());
        }
        let at = match requested {
            // A single region is a setting like another, which the configuration may override.
            Some(_) if names.len() == 1 && !self.settings.contains_key("regions") => 0,
            Some(requested) => names.iter().position(|name| *name == requested).ok_or_else(|| {
                let message = format!(
                    "\"{requested}\" is not a region of the cloud; its regions are {}",
                    names.join(", ")
                );
                Diagnostic { key: Some("cinder.region_name".into()), message }
            })?,
            None => 0,
        };
        let (name, values) = regions.swap_remove(at);
        self.overlay(values);
        self.settings.insert("region_name".into(), name);
        Ok(())
    }

    /// The regions, each with its values: `regions`, else `region_name`, a list or text with commas.
    fn list_regions(&mut self) -> Result<Vec<(PlacedSetting, Self)>, Diagnostic> {
        let by_name = |place: &str, name: &str| {
            let value = YamlNode::Text(name.to_owned());
            (PlacedSetting { place: place.to_owned(), value }, Self::default())
        };
        let Some(PlacedSetting { place, value }) = self.settings.get_mut("regions") else {
            let Some(setting) = self.settings.get("region_name") else { return Ok(Vec::new()) };
            let names = setting.texts()?;
            return Ok(names
                .into_iter()
                .flat_map(|name| name.split(','))
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(|name| by_name(&setting.place, name))
                .collect());
        };
        let YamlNode::List(items) = value else { return Err(expect("a list", value, place)) };
        let read = |item: YamlNode| match item {
            YamlNode::Text(name) => Ok(by_name(place, &name)),
            other => {
                let mut region = read_mapping(other, place)?;
                let name = region.remove("name").ok_or_else(|| Diagnostic {
                    key: Some(place.clone()),
                    message: "a region has no name".into(),
                })?;
                let values = match region.remove("values") {
                    Some(values) => Self::read(values.value, &values.place)?,
                    None => Self::default(),
                };
                Ok((name, values))
            }
        };
        std::mem::take(items).into_iter().map(read).collect()
    }

    /// The settings under the keys of [`CLOUD_KEYS`](crate::config::CLOUD_KEYS).
    pub(super) fn into_source(self, path: PathBuf, cloud: &str) -> Result<CloudSource, Diagnostic> {
        let mut values = BTreeMap::new();
        let mut places = BTreeMap::new();
        let mut set = |key, place: &str, value: String| {
            places.insert(key, place.to_owned());
            values.insert(key, value);
        };
        for key in AUTH_SETTINGS.iter().map(|(key, _)| *key).chain(["auth_type", "cacert"]) {
            if let Some(setting) = self.find(key) {
                set(key, &setting.place, setting.text()?.to_owned());
            }
        }
        for (key, _) in UNSUPPORTED_SETTINGS {
            if let Some(setting) = self.find(key) {
                set(key, &setting.place, "set".into());
            }
        }
        if let Some(setting) = self.find_for_cinder(&["region_name"]) {
            set("region_name", &setting.place, setting.text()?.to_owned());
        }
        if let Some(setting) = self.find_for_cinder(&["interface", "endpoint_type"]) {
            set("interface", &setting.place, setting.texts()?.join(","));
        }
        if let Some(setting) = self.find_endpoint()? {
            set("endpoint_override", &setting.place, setting.text()?.to_owned());
        }
        if let Some(setting) = self.settings.get("verify") {
            match parse_bool(setting.text()?) {
                Some(verify) => set("verify", &setting.place, verify.to_string()),
                // As in requests, a path is a CA bundle; cacert counts, if both are set.
                None if self.settings.contains_key("cacert") => {}
                None => set("cacert", &setting.place, setting.text()?.to_owned()),
            }
        }
        if let Some(setting) = self.settings.get("insecure") {
            let insecure = parse_bool(setting.text()?).ok_or_else(|| Diagnostic {
                key: Some(setting.place.clone()),
                message: "expected true or false".into(),
            })?;
            if insecure {
                set("verify", &setting.place, "false".into());
            }
        }
        if let (Some(region), Some(url)) = (values.get("region_name").cloned(), values.get_mut("auth_url")) {
            *url = url.replace("{region_name}", &region);
        }
        Ok(CloudSource { origin: Origin::File { path, cloud: cloud.to_owned(), places }, values })
    }

    /// A setting by its name or an older spelling. As in openstacksdk, settings of the user and the plugin count in
    /// `auth` first, those of project and domain outside of it first.
    fn find(&self, key: &str) -> Option<&PlacedSetting> {
        let older = OLDER_SPELLINGS.iter().find(|(name, _)| *name == key).map(|(_, older)| *older);
        let (outside, auth) = (&self.settings, &self.auth);
        let is_scope = key.starts_with("project_") || key.contains("domain_");
        let mut spellings = [Some(key), older].into_iter().flatten();
        if is_scope {
            return spellings.find_map(|key| outside.get(key).or_else(|| auth.get(key)));
        }
        [auth, outside].into_iter().find_map(|section| spellings.clone().find_map(|key| section.get(key)))
    }

    /// A setting for Cinder alone, else the one for all services.
    fn find_for_cinder(&self, keys: &[&str]) -> Option<&PlacedSetting> {
        self.find_prefixed(keys).or_else(|| keys.iter().find_map(|key| self.settings.get(*key)))
    }

    fn find_prefixed(&self, keys: &[&str]) -> Option<&PlacedSetting> {
        SERVICE_PREFIXES
            .iter()
            .flat_map(|prefix| keys.iter().map(move |key| format!("{prefix}_{key}")))
            .find_map(|key| self.settings.get(&key))
    }

    /// The URL of Cinder. `endpoint` in `auth` belongs to a cloud without Keystone.
    fn find_endpoint(&self) -> Result<Option<&PlacedSetting>, Diagnostic> {
        let prefixed =
            self.find_prefixed(&["endpoint_override"]).or_else(|| self.find_prefixed(&["endpoint"]));
        let auth_type = self.find("auth_type").map(PlacedSetting::text).transpose()?;
        let has_keystone = auth_type.is_none_or(|auth_type| !WITHOUT_KEYSTONE.contains(&auth_type));
        Ok(prefixed.or_else(|| self.auth.get("endpoint").filter(|_| !has_keystone)))
    }
}

/// A boolean in a spelling of YAML 1.1, as PyYAML reads it.
fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}
