//! [`Fallback`]: the volume that a node's machine boots from after its own volume failed several times in a row.
//!
//! The node's `extra` has it, as `{"volboot": {"fallback": {…}}}`:
//!
//! | field | meaning |
//! |---|---|
//! | `volume` | a Cinder volume |
//! | `target` | a fixed iSCSI target: a [`SanUri`], or a list of them, one per path |
//! | `name` | the name of the fixed target in messages; else the first target name |
//! | `uefi_loader` | the boot loader's file, where UEFI firmware would not find it by itself |
//! | `with_data` | whether the node's data volumes are hooked beside the fallback |
//! | `shared` | whether another node may name the same volume |
//!
//! No secret is among them, since clients may show `extra` as it is: the CHAP secret of a fixed target has a record of its own.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::{Chap, Connection, LoaderPath, Node, Properties, SanUri, StorageInterface, VolumeTarget};

/// The keys of `extra`.
const EXTENSION: &str = "volboot";
const FALLBACK: &str = "fallback";
/// The most paths of a fixed target, and the longest text of a field.
const MAX_PATHS: usize = 32;
const MAX_TEXT: usize = 255;

/// The fallback of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// The volume.
    pub source: FallbackSource,
    /// The boot loader's file.
    pub loader: Option<LoaderPath>,
    /// Whether the node's data volumes are hooked beside the fallback.
    pub with_data: bool,
    /// Whether another node may name the same volume.
    pub shared: bool,
}

/// The volume of a fallback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FallbackSource {
    /// A Cinder volume, by its id.
    Volume(String),
    /// A fixed iSCSI target.
    Target {
        /// The name in messages, if it is not the target's.
        name: Option<String>,
        /// At least one.
        paths: Vec<SanUri>,
    },
}

/// The CHAP credentials of a fallback with a fixed target.
#[derive(Debug, Clone, PartialEq)]
pub struct FallbackSecret {
    /// The fixed target, as [`FallbackSource::key`] names it: the credentials are for no other one.
    pub target: String,
    /// The credentials.
    pub chap: Chap,
}

/// The fallback in a node's `extra` is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("extra/volboot/fallback{0}")]
pub struct FallbackError(String);

impl FallbackError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl Fallback {
    /// A fallback from a source alone.
    pub fn new(source: FallbackSource) -> Self {
        Self { source, loader: None, with_data: false, shared: false }
    }

    /// Reads the fallback of a node; `None`: the node has none.
    pub fn of(node: &Node) -> Result<Option<Self>, FallbackError> {
        match read_extension(&node.extra) {
            None => Ok(None),
            Some(Value::Object(fields)) => Self::parse(fields).map(Some),
            Some(_) => Err(FallbackError::new(": expected an object")),
        }
    }

    fn parse(fields: &Map<String, Value>) -> Result<Self, FallbackError> {
        let known = ["volume", "target", "name", "uefi_loader", "with_data", "shared"];
        if let Some(unknown) = fields.keys().find(|key| !known.contains(&key.as_str())) {
            // A value under an unknown key may be a secret.
            return Err(FallbackError::new(format!(
                ": the field \"{}\" is unknown; a CHAP secret is set with `volboot fallback` or PUT \
                 /v1/nodes/{{node}}/fallback, and never in extra",
                super::excerpt(unknown)
            )));
        }
        let get = |key: &str| fields.get(key).filter(|value| !value.is_null());
        let text = |key: &str| match get(key) {
            None => Ok(None),
            Some(Value::String(text)) if (1..=MAX_TEXT).contains(&text.len()) => Ok(Some(text.as_str())),
            Some(_) => {
                Err(FallbackError::new(format!("/{key}: expected a text of 1 to {MAX_TEXT} characters")))
            }
        };
        let flag = |key: &str| match get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(FallbackError::new(format!("/{key}: expected true or false"))),
        };
        let name = text("name")?.map(str::to_owned);
        let source = match (text("volume")?, get("target")) {
            (Some(volume), None) if name.is_none() => FallbackSource::Volume(volume.to_owned()),
            (Some(_), None) => return Err(FallbackError::new("/name: only a fixed target has a name")),
            (None, Some(target)) => FallbackSource::Target { name, paths: parse_paths(target)? },
            (Some(_), Some(_)) | (None, None) => {
                return Err(FallbackError::new(": expected one of volume and target"));
            }
        };
        let loader = text("uefi_loader")?.map(str::parse).transpose();
        Ok(Self {
            source,
            loader: loader.map_err(|error| FallbackError::new(format!("/uefi_loader: {error}")))?,
            with_data: flag("with_data")?,
            shared: flag("shared")?,
        })
    }

    /// The fields, as `extra` has them.
    pub fn to_fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        match &self.source {
            FallbackSource::Volume(volume) => {
                fields.insert("volume".into(), volume.as_str().into());
            }
            FallbackSource::Target { name, paths } => {
                let mut texts: Vec<Value> = paths.iter().map(|path| path.to_string().into()).collect();
                let target = if texts.len() == 1 { texts.remove(0) } else { texts.into() };
                fields.insert("target".into(), target);
                if let Some(name) = name {
                    fields.insert("name".into(), name.as_str().into());
                }
            }
        }
        if let Some(loader) = &self.loader {
            fields.insert("uefi_loader".into(), loader.to_string().into());
        }
        for (key, flag) in [("with_data", self.with_data), ("shared", self.shared)] {
            if flag {
                fields.insert(key.into(), flag.into());
            }
        }
        fields
    }

    /// Sets the fallback of a node, or removes it. Other parts of `extra` stay.
    #[must_use]
    pub fn write(fallback: Option<&Self>, node: Node) -> Node {
        let mut extra = node.extra.reveal().clone();
        let mut extension = match extra.remove(EXTENSION) {
            Some(Value::Object(extension)) => extension,
            Some(_) | None => Map::new(),
        };
        match fallback {
            Some(fallback) => drop(extension.insert(FALLBACK.into(), fallback.to_fields().into())),
            None => drop(extension.remove(FALLBACK)),
        }
        if !extension.is_empty() {
            extra.insert(EXTENSION.into(), extension.into());
        }
        Node { extra: extra.into(), ..node }
    }

    /// The volume target that stands for the fallback in a boot: boot index 0, and the node's UUID as its identity, which
    /// no volume target has. `secret` counts for its own target only.
    pub fn volume_target(&self, node: &Node, secret: Option<&FallbackSecret>) -> VolumeTarget {
        let target = VolumeTarget::new(node.uuid, node.uuid, 0, &self.source.name(), node.created_at);
        let mut properties = match &self.source {
            FallbackSource::Volume(_) => Properties::default(),
            FallbackSource::Target { paths, .. } => {
                let chap = secret.filter(|secret| secret.target == self.source.key());
                connection_properties(paths, chap.map(|secret| &secret.chap))
            }
        };
        if let Some(loader) = &self.loader {
            properties = properties.with_text("uefi_loader", &loader.to_string());
        }
        VolumeTarget { properties, ..target }
    }
}

impl FallbackSource {
    /// The volume of a volume target, as it would be a fallback. `None`: the storage interface has no volumes, or the target
    /// has no readable connection.
    pub fn of_target(interface: &StorageInterface, target: &VolumeTarget) -> Option<Self> {
        match interface {
            StorageInterface::Cinder => Some(Self::Volume(target.volume_id.clone())),
            StorageInterface::External => {
                let paths = Connection::from_record(&target.properties).ok()?.paths;
                Some(Self::Target { name: None, paths })
            }
            StorageInterface::Noop | StorageInterface::Other(_) => None,
        }
    }

    /// The volume's name in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Volume(volume) => volume.clone(),
            Self::Target { name: Some(name), .. } => name.clone(),
            Self::Target { name: None, paths } => {
                paths.first().map(|path| path.target.as_str().to_owned()).unwrap_or_default()
            }
        }
    }

    /// The identity of the volume: its id, or all paths.
    pub fn key(&self) -> String {
        match self {
            Self::Volume(volume) => format!("volume {volume}"),
            Self::Target { paths, .. } => paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        }
    }

    /// The Cinder volume.
    pub fn cinder_volume(&self) -> Option<&str> {
        match self {
            Self::Volume(volume) => Some(volume),
            Self::Target { .. } => None,
        }
    }
}

/// The value under `extra/volboot/fallback`.
fn read_extension(extra: &Properties) -> Option<&Value> {
    extra.get(EXTENSION)?.get(FALLBACK).filter(|value| !value.is_null())
}

fn parse_paths(target: &Value) -> Result<Vec<SanUri>, FallbackError> {
    let parse = |value: &Value| {
        let text = value.as_str().unwrap_or_default();
        text.parse::<SanUri>().map_err(|error| FallbackError::new(format!("/target: {error}")))
    };
    match target {
        Value::Array(items) if (1..=MAX_PATHS).contains(&items.len()) => items.iter().map(parse).collect(),
        Value::Array(_) => Err(FallbackError::new(format!("/target: expected 1 to {MAX_PATHS} paths"))),
        value => Ok(vec![parse(value)?]),
    }
}

/// The connection properties of a fixed target with these paths.
pub(super) fn connection_properties(paths: &[SanUri], chap: Option<&Chap>) -> Properties {
    let mut properties = match paths {
        [path] => path.properties(),
        paths => Map::from_iter([
            (
                "target_portals".to_owned(),
                paths.iter().map(|path| path.portal.to_string()).collect::<Vec<_>>().into(),
            ),
            (
                "target_iqns".to_owned(),
                paths.iter().map(|path| path.target.as_str()).collect::<Vec<_>>().into(),
            ),
            ("target_luns".to_owned(), paths.iter().map(|path| path.lun.number()).collect::<Vec<_>>().into()),
        ]),
    };
    if let Some(chap) = chap {
        properties.insert("auth_method".into(), "CHAP".into());
        properties.insert("auth_username".into(), chap.username.as_str().into());
        properties.insert("auth_password".into(), chap.password.expose_secret().into());
    }
    properties.into()
}

impl FallbackSecret {
    /// The stored form, with the secret.
    pub fn to_record(&self) -> Value {
        let Chap { username, password } = &self.chap;
        json!({"target": self.target, "auth_username": username, "auth_password": password.expose_secret()})
    }

    /// Reads the stored form.
    pub fn from_record(record: &Value) -> Option<Self> {
        let text = |key: &str| record.get(key).and_then(Value::as_str).map(str::to_owned);
        let password = SecretString::from(text("auth_password")?);
        Some(Self { target: text("target")?, chap: Chap { username: text("auth_username")?, password } })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    const URI: &str = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:spare";

    fn node(extra: &Value) -> Node {
        let node = Node::new(Uuid::from_u128(1), "d", StorageInterface::External, Timestamp::UNIX_EPOCH);
        Node { extra: serde_json::from_value(extra.clone()).expect("an object"), ..node }
    }

    fn with_fallback(fallback: &Value) -> Node {
        node(&json!({"rack": 7, "volboot": {"fallback": fallback, "window": "off"}}))
    }

    #[test]
    fn every_fallback_is_read_as_it_is_written() {
        for fields in [
            json!({"volume": "spare"}),
            json!({"volume": "spare", "with_data": true, "shared": true}),
            json!({"target": URI, "name": "old root", "uefi_loader": "\\EFI\\debian\\shimx64.efi"}),
            json!({"target": [URI, "iscsi:192.0.2.2::3261:4000:iqn.2010-10.org.example:spare"]}),
        ] {
            let node = with_fallback(&fields);
            let fallback = Fallback::of(&node).expect("valid").expect("a fallback");
            assert_eq!(Value::Object(fallback.to_fields()), fields);
            let without = Fallback::write(None, node.clone());
            assert_eq!(Fallback::of(&without), Ok(None));
            assert_eq!(
                Value::Object(without.extra.reveal().clone()),
                json!({"rack": 7, "volboot": {"window": "off"}})
            );
            assert_eq!(Fallback::write(Some(&fallback), without), node);
        }
        assert_eq!(Fallback::of(&node(&json!({"volboot": {"fallback": null}}))), Ok(None));
        let bare = node(&json!({}));
        let set = Fallback::write(Some(&Fallback::new(FallbackSource::Volume("v".into()))), bare.clone());
        assert_eq!(Fallback::write(None, set), bare);
    }

    #[test]
    fn an_invalid_fallback_names_the_field_and_no_value() {
        for (fields, expected) in [
            (json!("spare"), ": expected an object"),
            (json!({}), ": expected one of volume and target"),
            (json!({"volume": "a", "target": URI}), ": expected one of"),
            (json!({"volume": ""}), "/volume: expected a text"),
            (json!({"volume": 7}), "/volume: expected a text"),
            (json!({"volume": "a", "name": "b"}), "/name: only a fixed target"),
            (json!({"target": "iscsi:nowhere"}), "/target: expected iscsi:SERVER"),
            (json!({"target": []}), "/target: expected 1 to 32 paths"),
            (json!({"volume": "a", "with_data": "yes"}), "/with_data: expected true or false"),
            (json!({"volume": "a", "uefi_loader": "a b"}), "/uefi_loader: expected the path"),
            (
                json!({"target": URI, "auth_password": "a-long-secret"}),
                "the field \"auth_password\" is unknown",
            ),
        ] {
            let error = Fallback::of(&with_fallback(&fields)).expect_err("invalid").to_string();
            assert!(error.starts_with("extra/volboot/fallback") && error.contains(expected), "{error}");
            assert!(!error.contains("a-long-secret"), "{error}");
        }
    }

    #[test]
    fn credentials_count_for_their_own_target_only() {
        let node = with_fallback(&json!({"target": URI}));
        let fallback = Fallback::of(&node).expect("valid").expect("a fallback");
        let chap = Chap { username: "ann".into(), password: "a-long-secret".into() };
        let secret = FallbackSecret { target: fallback.source.key(), chap };
        assert_eq!(FallbackSecret::from_record(&secret.to_record()), Some(secret.clone()));
        let target = fallback.volume_target(&node, Some(&secret));
        let connection = Connection::from_record(&target.properties).expect("a connection");
        assert_eq!(connection.paths[0].to_string(), URI);
        assert_eq!(connection.chap.as_ref(), Some(&secret.chap));
        assert_eq!((target.uuid, target.boot_index), (node.uuid, 0));
        let other = FallbackSecret { target: "iscsi:elsewhere".into(), ..secret };
        let target = fallback.volume_target(&node, Some(&other));
        assert_eq!(Connection::from_record(&target.properties).expect("a connection").chap, None);
        assert!(!format!("{other:?}").contains("a-long-secret"));
    }

    #[test]
    fn several_paths_keep_their_portals_names_and_luns() {
        let uris = [URI, "iscsi:[2001:db8::1]::3261:4100:iqn.2010-10.org.example:b"];
        let paths: Vec<SanUri> = uris.iter().map(|uri| uri.parse().expect("a path")).collect();
        let connection = Connection::from_record(&connection_properties(&paths, None)).expect("a connection");
        assert_eq!(connection.paths, paths);
    }
}
