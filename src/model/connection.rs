//! [`Connection`]: how an initiator reaches one volume, read from the properties that describe it.
//!
//! The keys are those of Cinder's `connection_info.data` for iSCSI (os-brick's `connection_properties`). An operator
//! who uses the `external` storage interface writes the same keys into a volume target by hand, so one reader
//! serves both. It is strict: what it cannot make sense of is a fault with the key's name, never a guess.

use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::{Iqn, Lun, Portal, Properties, SanUri};

/// The most paths that one volume may have here: beyond it, somebody is not describing a volume.
const MAX_PATHS: usize = 32;

/// The paths to one volume, and the credentials they share.
#[derive(Debug, Clone)]
pub struct Connection {
    /// At least one; in the order in which they were given.
    pub paths: Vec<SanUri>,
    /// What the target asks of the initiator, if it asks.
    pub chap: Option<Chap>,
}

/// One-way CHAP credentials (RFC 7143 §12.1.3): the initiator proves itself to the target.
#[derive(Debug, Clone)]
pub struct Chap {
    /// The name the target knows.
    pub username: String,
    /// The secret it shares; shown by no `Debug`.
    pub password: SecretString,
}

impl PartialEq for Chap {
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username && self.password.expose_secret() == other.password.expose_secret()
    }
}

/// A property of a volume target that is missing or makes no sense. Never holds the value: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {fault}")]
pub struct PropertyError {
    /// The key at fault, such as `target_portal`.
    pub key: &'static str,
    /// What is wrong with it.
    pub fault: String,
}

impl PropertyError {
    fn new(key: &'static str, fault: impl ToString) -> Self {
        Self { key, fault: fault.to_string() }
    }
}

impl TryFrom<&Properties> for Connection {
    type Error = PropertyError;

    /// Reads the plural keys if `target_portals` is there, else the singular ones. A plural `target_iqns` or
    /// `target_luns` has one entry per portal; if it is left out, all portals share the singular value.
    fn try_from(properties: &Properties) -> Result<Self, PropertyError> {
        let portals: Vec<Portal> = several(properties, "target_portals", "target_portal")?;
        let targets: Vec<Iqn> = several(properties, "target_iqns", "target_iqn")?;
        let luns: Vec<Lun> = several(properties, "target_luns", "target_lun")?;
        let targets = one_per_portal(targets, portals.len(), "target_iqns")?;
        let luns = one_per_portal(luns, portals.len(), "target_luns")?;
        let paths = portals
            .into_iter()
            .zip(targets)
            .zip(luns)
            .map(|((portal, target), lun)| SanUri { portal, lun, target })
            .collect();
        Ok(Self { paths, chap: chap(properties)? })
    }
}

impl SanUri {
    /// The properties of a connection by this one path, without credentials.
    pub fn properties(&self) -> Map<String, Value> {
        Map::from_iter([
            ("target_portal".to_owned(), self.portal.to_string().into()),
            ("target_iqn".to_owned(), self.target.as_str().into()),
            ("target_lun".to_owned(), self.lun.number().into()),
        ])
    }
}

/// The list under `plural`, or the one value under `singular` as a list of one.
fn several<T>(
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
        Some(Value::Array(items)) => items.iter().map(|item| scalar(plural, item)).collect(),
        Some(_) => Err(PropertyError::new(plural, "expected a list")),
        None => match properties.get(singular) {
            Some(value) => Ok(vec![scalar(singular, value)?]),
            None => Err(PropertyError::new(singular, "missing")),
        },
    }
}

/// A text or a number: the command line of Ironic's client turns `target_lun=1` into a number, scripts quote it.
fn scalar<T>(key: &'static str, value: &Value) -> Result<T, PropertyError>
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

fn one_per_portal<T: Clone>(
    values: Vec<T>,
    portals: usize,
    key: &'static str,
) -> Result<Vec<T>, PropertyError> {
    match values.as_slice() {
        [one] => Ok(vec![one.clone(); portals]),
        many if many.len() == portals => Ok(values),
        many => Err(PropertyError::new(key, format!("{} entries for {portals} portals", many.len()))),
    }
}

fn chap(properties: &Properties) -> Result<Option<Chap>, PropertyError> {
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
    let username = credential(properties, "auth_username")?;
    let password = credential(properties, "auth_password")?;
    match (username, password) {
        (Some(username), Some(password)) => Ok(Some(Chap { username, password: password.into() })),
        (None, None) if method.is_none() => Ok(None),
        (None, _) => Err(PropertyError::new("auth_username", "missing")),
        (_, None) => Err(PropertyError::new("auth_password", "missing")),
    }
}

/// A CHAP name or secret: any text without a NUL, at which iPXE would cut it, of at most 255 bytes
/// (RFC 7143 §12.1.3 bounds a name at that; a secret is shorter).
fn credential(properties: &Properties, key: &'static str) -> Result<Option<String>, PropertyError> {
    match properties.get(key) {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.len() > 255 => {
            Err(PropertyError::new(key, "longer than 255 bytes"))
        }
        Some(Value::String(text)) if text.contains('\0') => Err(PropertyError::new(key, "contains a NUL")),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        // The command line of Ironic's client turns `auth_password=123456789012` into a number.
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(PropertyError::new(key, "expected a text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Connection, PropertyError> {
        Connection::try_from(&serde_json::from_value::<Properties>(value).expect("an object"))
    }

    fn paths(value: Value) -> Vec<String> {
        read(value).expect("a connection").paths.iter().map(ToString::to_string).collect()
    }

    fn with(extra: Value) -> Value {
        let mut all = json!({"target_portal": "192.0.2.1:3260", "target_iqn": "iqn.2010-10.org.openstack:a", "target_lun": 1});
        for (key, value) in extra.as_object().expect("an object") {
            all[key] = value.clone();
        }
        all
    }

    #[test]
    fn one_path() {
        assert_eq!(paths(with(json!({}))), ["iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:a"]);
        assert_eq!(
            paths(with(json!({"target_lun": "10"}))),
            ["iscsi:192.0.2.1::3260:a:iqn.2010-10.org.openstack:a"]
        );
    }

    #[test]
    fn several_paths_each_with_its_own_name_and_unit() {
        let given = with(json!({
            "target_portals": ["192.0.2.1:3260", "[2001:db8::1]:3260"],
            "target_iqns": ["iqn.2010-10.org.openstack:a", "iqn.2010-10.org.openstack:b"],
            "target_luns": [1, 2],
        }));
        let expected = [
            "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:a",
            "iscsi:[2001:db8::1]::3260:2:iqn.2010-10.org.openstack:b",
        ];
        assert_eq!(paths(given), expected);
    }

    #[test]
    fn several_paths_that_share_name_and_unit() {
        let given = with(json!({"target_portals": ["192.0.2.1:3260", "192.0.2.2:3260"]}));
        let expected = [
            "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:a",
            "iscsi:192.0.2.2::3260:1:iqn.2010-10.org.openstack:a",
        ];
        assert_eq!(paths(given), expected);
    }

    #[test]
    fn chap_is_read_when_both_halves_are_there() {
        let given = with(json!({"auth_method": "CHAP", "auth_username": "u", "auth_password": "p#${x} \\"}));
        let expected = Chap { username: "u".into(), password: "p#${x} \\".into() };
        assert_eq!(read(given).expect("a connection").chap, Some(expected));
        let none = with(json!({"auth_method": "None", "auth_username": null, "auth_password": null}));
        assert_eq!(read(none).expect("a connection").chap, None);
        let number = with(json!({"auth_username": "u", "auth_password": 123_456_789_012_u64}));
        assert_eq!(
            read(number).expect("a connection").chap,
            Some(Chap { username: "u".into(), password: "123456789012".into() })
        );
    }

    #[test]
    fn a_fault_names_its_key() {
        for (given, key) in [
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
            assert_eq!(read(with(given.clone())).expect_err("a fault").key, key, "{given}");
        }
    }
}
