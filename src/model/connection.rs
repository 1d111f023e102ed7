//! [`Connection`]: the iSCSI paths to one volume, parsed from connection properties.
//!
//! The keys are those of Cinder's `connection_info.data` for iSCSI (os-brick's `connection_properties`). With the
//! `external` storage interface, operators write the same keys into a volume target by hand, so one parser serves
//! both. The parser is strict: an invalid value is an error with the key's name, never a guess.

use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::{Iqn, Lun, Portal, Properties, SanUri};

/// The most paths of one volume: a longer list describes no real volume.
const MAX_PATHS: usize = 32;

/// The paths to one volume, and their common credentials.
#[derive(Debug, Clone)]
pub struct Connection {
    /// At least one path, in the order of the properties.
    pub paths: Vec<SanUri>,
    /// The target's CHAP credentials, if any.
    pub chap: Option<Chap>,
}

/// One-way CHAP credentials (RFC 7143 §12.1.3): the initiator proves itself to the target.
#[derive(Debug, Clone)]
pub struct Chap {
    /// The CHAP name.
    pub username: String,
    /// The shared secret; `Debug` does not print it.
    pub password: SecretString,
}

impl PartialEq for Chap {
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username && self.password.expose_secret() == other.password.expose_secret()
    }
}

/// A missing or invalid connection property. The error never holds the value, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {fault}")]
pub struct PropertyError {
    /// The property's key, such as `target_portal`.
    pub key: &'static str,
    /// Why the value is invalid.
    pub fault: String,
}

impl PropertyError {
    fn new(key: &'static str, fault: impl ToString) -> Self {
        Self { key, fault: fault.to_string() }
    }
}

impl TryFrom<&Properties> for Connection {
    type Error = PropertyError;

    /// Reads the plural keys if present, else the singular ones. `target_iqns` and `target_luns` have one entry per
    /// portal; without them, all portals share the singular value.
    fn try_from(properties: &Properties) -> Result<Self, PropertyError> {
        let portals: Vec<Portal> = read_list(properties, "target_portals", "target_portal")?;
        let targets: Vec<Iqn> = read_list(properties, "target_iqns", "target_iqn")?;
        let luns: Vec<Lun> = read_list(properties, "target_luns", "target_lun")?;
        let targets = expand_per_portal(targets, portals.len(), "target_iqns")?;
        let luns = expand_per_portal(luns, portals.len(), "target_luns")?;
        let paths = portals
            .into_iter()
            .zip(targets)
            .zip(luns)
            .map(|((portal, target), lun)| SanUri { portal, lun, target })
            .collect();
        Ok(Self { paths, chap: read_chap(properties)? })
    }
}

impl SanUri {
    /// The connection properties of this single path, without credentials.
    pub fn properties(&self) -> Map<String, Value> {
        Map::from_iter([
            ("target_portal".to_owned(), self.portal.to_string().into()),
            ("target_iqn".to_owned(), self.target.as_str().into()),
            ("target_lun".to_owned(), self.lun.number().into()),
        ])
    }
}

/// Reads the list under `plural`, or the value under `singular` as a list with one entry.
fn read_list<T>(
    properties: &Properties,
    plural: &'static str,
    singular: &'static str,
) -> Result<Vec<T>, PropertyError>
where
    T: FromStr,
    T::Err: ToString,
{
    match properties.get(plural) {
        Some(Value::Array(items)) if items.is_empty() => Err(PropertyError::new(plural, "the list is empty")),
        Some(Value::Array(items)) if items.len() > MAX_PATHS => {
            Err(PropertyError::new(plural, format!("more than {MAX_PATHS} entries")))
        }
        Some(Value::Array(items)) => items.iter().map(|item| parse_scalar(plural, item)).collect(),
        Some(_) => Err(PropertyError::new(plural, "expected a list")),
        None => match properties.get(singular) {
            Some(value) => Ok(vec![parse_scalar(singular, value)?]),
            None => Err(PropertyError::new(singular, "missing")),
        },
    }
}

/// Parses a text or a number: the CLI of Ironic's client turns `target_lun=1` into a number, scripts quote the value.
fn parse_scalar<T>(key: &'static str, value: &Value) -> Result<T, PropertyError>
where
    T: FromStr,
    T::Err: ToString,
{
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(PropertyError::new(key, "expected a text or a number")),
    };
    text.trim().parse().map_err(|error: T::Err| PropertyError::new(key, error))
}

/// Repeats a single value for each portal; a list must have one entry per portal.
fn expand_per_portal<T: Clone>(
    values: Vec<T>,
    portals: usize,
    key: &'static str,
) -> Result<Vec<T>, PropertyError> {
    match values.as_slice() {
        [value] => Ok(vec![value.clone(); portals]),
        list if list.len() == portals => Ok(values),
        list => Err(PropertyError::new(key, format!("{} entries for {portals} portals", list.len()))),
    }
}

fn read_chap(properties: &Properties) -> Result<Option<Chap>, PropertyError> {
    let method = match properties.get("auth_method") {
        None => None,
        Some(Value::String(method)) => Some(method.as_str()),
        Some(_) => return Err(PropertyError::new("auth_method", "expected a text")),
    };
    match method {
        None => {}
        Some(method) if method.eq_ignore_ascii_case("chap") => {}
        Some(method) if method.is_empty() || method.eq_ignore_ascii_case("none") => return Ok(None),
        Some(_) => return Err(PropertyError::new("auth_method", "only CHAP is known")),
    }
    let username = read_credential(properties, "auth_username")?;
    let password = read_credential(properties, "auth_password")?;
    match (username, password) {
        (Some(username), Some(password)) => Ok(Some(Chap { username, password: password.into() })),
        (None, None) if method.is_none() => Ok(None),
        (None, _) => Err(PropertyError::new("auth_username", "missing")),
        (_, None) => Err(PropertyError::new("auth_password", "missing")),
    }
}

/// Reads a CHAP name or secret: text of at most 255 bytes (the limit of RFC 7143 §12.1.3 for names; secrets are
/// shorter). A NUL is refused, because iPXE would cut the text there.
fn read_credential(properties: &Properties, key: &'static str) -> Result<Option<String>, PropertyError> {
    match properties.get(key) {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.len() > 255 => {
            Err(PropertyError::new(key, "longer than 255 bytes"))
        }
        Some(Value::String(text)) if text.contains('\0') => Err(PropertyError::new(key, "contains a NUL")),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        // The CLI of Ironic's client turns `auth_password=123456789012` into a number.
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(PropertyError::new(key, "expected a text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: Value) -> Result<Connection, PropertyError> {
        Connection::try_from(&serde_json::from_value::<Properties>(value).expect("an object"))
    }

    fn paths(value: Value) -> Vec<String> {
        parse(value).expect("a connection").paths.iter().map(ToString::to_string).collect()
    }

    fn with_properties(extra: Value) -> Value {
        let mut all = json!({"target_portal": "192.0.2.1:3260", "target_iqn": "iqn.2010-10.org.openstack:a", "target_lun": 1});
        for (key, value) in extra.as_object().expect("an object") {
            all[key] = value.clone();
        }
        all
    }

    #[test]
    fn parses_a_single_path() {
        assert_eq!(
            paths(with_properties(json!({}))),
            ["iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:a"]
        );
        assert_eq!(
            paths(with_properties(json!({"target_lun": "10"}))),
            ["iscsi:192.0.2.1::3260:a:iqn.2010-10.org.openstack:a"]
        );
    }

    #[test]
    fn parses_several_paths_with_separate_names_and_luns() {
        let properties = with_properties(json!({
            "target_portals": ["192.0.2.1:3260", "[2001:db8::1]:3260"],
            "target_iqns": ["iqn.2010-10.org.openstack:a", "iqn.2010-10.org.openstack:b"],
            "target_luns": [1, 2],
        }));
        let expected = [
            "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:a",
            "iscsi:[2001:db8::1]::3260:2:iqn.2010-10.org.openstack:b",
        ];
        assert_eq!(paths(properties), expected);
    }

    #[test]
    fn parses_several_paths_with_common_name_and_lun() {
        let properties = with_properties(json!({"target_portals": ["192.0.2.1:3260", "192.0.2.2:3260"]}));
        let expected = [
            "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:a",
            "iscsi:192.0.2.2::3260:1:iqn.2010-10.org.openstack:a",
        ];
        assert_eq!(paths(properties), expected);
    }

    #[test]
    fn parses_chap_if_name_and_secret_are_present() {
        let properties = with_properties(
            json!({"auth_method": "CHAP", "auth_username": "u", "auth_password": "p#${x} \\"}),
        );
        let expected = Chap { username: "u".into(), password: "p#${x} \\".into() };
        assert_eq!(parse(properties).expect("a connection").chap, Some(expected));
        let none =
            with_properties(json!({"auth_method": "None", "auth_username": null, "auth_password": null}));
        assert_eq!(parse(none).expect("a connection").chap, None);
        let number = with_properties(json!({"auth_username": "u", "auth_password": 123_456_789_012_u64}));
        assert_eq!(
            parse(number).expect("a connection").chap,
            Some(Chap { username: "u".into(), password: "123456789012".into() })
        );
    }

    #[test]
    fn an_error_names_its_key() {
        for (properties, key) in [
            (json!({"target_portal": null}), "target_portal"),
            (json!({"target_portal": "nowhere:"}), "target_portal"),
            (json!({"target_iqn": "disk 1"}), "target_iqn"),
            (json!({"target_iqn": null}), "target_iqn"),
            (json!({"target_lun": -1}), "target_lun"),
            (json!({"target_lun": 1.5}), "target_lun"),
            (json!({"target_lun": true}), "target_lun"),
            (json!({"target_portals": []}), "target_portals"),
            (json!({"target_portals": "192.0.2.1"}), "target_portals"),
            (json!({"target_portals": vec!["192.0.2.1"; 33]}), "target_portals"),
            (
                json!({"target_portals": ["192.0.2.1", "192.0.2.2", "192.0.2.3"], "target_luns": [1, 2]}),
                "target_luns",
            ),
            (json!({"target_iqns": ["iqn.2010-10.a:b", "iqn.2010-10.a:c"]}), "target_iqns"),
            (json!({"auth_method": "CHAP"}), "auth_username"),
            (json!({"auth_username": "u"}), "auth_password"),
            (json!({"auth_password": "p"}), "auth_username"),
            (json!({"auth_method": "SRP"}), "auth_method"),
            (json!({"auth_username": "u\0", "auth_password": "p"}), "auth_username"),
            (json!({"auth_username": "u", "auth_password": "p".repeat(256)}), "auth_password"),
        ] {
            assert_eq!(
                parse(with_properties(properties.clone())).expect_err("an error").key,
                key,
                "{properties}"
            );
        }
    }
}
