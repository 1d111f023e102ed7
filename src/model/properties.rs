//! [`Properties`]: free-form JSON objects in Ironic's records, which may hold secrets.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The replacement for a secret, as in Ironic (oslo.utils `mask_dict_password`, Ironic LP 2154564).
const MASK: &str = "******";

/// A key that contains one of these words, in any case, holds a secret. The list follows oslo.utils'
/// `_SANITIZE_KEYS`, so volboot and Ironic redact the same keys.
const SECRET_WORDS: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "adminpass",
    "admin_pass",
    "sys_pswd",
    "secret",
    "token",
    "private_key",
    "encrypted_key",
];

/// A JSON object such as `properties`, `driver_info`, `instance_info` or `extra`.
///
/// Serialization includes the secrets, for the store. API responses and pages must use [`Properties::to_masked`], as
/// `Debug` does.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Properties(Map<String, Value>);

impl Properties {
    /// The value under a key; `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// The string under a key; `None` if the key is absent or holds another type.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// The whole object, secrets included.
    pub fn reveal(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The object with every secret replaced by `******`, at any depth.
    pub fn to_masked(&self) -> Map<String, Value> {
        self.0.iter().map(|(key, value)| (key.clone(), mask(key, value))).collect()
    }

    /// The object with a string under a key.
    #[must_use]
    pub fn with_text(mut self, key: &str, text: &str) -> Self {
        self.0.insert(key.to_owned(), text.into());
        self
    }

    /// The object without a key.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.0.remove(key);
        self
    }

    /// Notes that a value was given, without the value.
    #[must_use]
    pub fn with_masked(mut self, key: &str) -> Self {
        self.0.insert(key.to_owned(), MASK.into());
        self
    }

    /// Replaces each `******` by the secret of `old` in the same place: a client that writes back the output of
    /// [`Properties::to_masked`] changes nothing.
    pub fn restore_secrets(mut self, old: &Self) -> Self {
        for (key, value) in &mut self.0 {
            unmask(key, value, old.0.get(key));
        }
        self
    }
}

fn is_secret(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| lower.contains(word))
}

fn unmask(key: &str, value: &mut Value, old: Option<&Value>) {
    match (value, old) {
        (Value::Object(inner), Some(Value::Object(old))) => {
            inner.iter_mut().for_each(|(key, value)| unmask(key, value, old.get(key)));
        }
        (Value::Array(items), Some(Value::Array(old))) if !is_secret(key) => {
            items.iter_mut().enumerate().for_each(|(at, item)| unmask(key, item, old.get(at)));
        }
        (value, Some(old)) if is_secret(key) && value == MASK => *value = old.clone(),
        _ => {}
    }
}

fn mask(key: &str, value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Object(inner) => inner.iter().map(|(key, value)| (key.clone(), mask(key, value))).collect(),
        _ if is_secret(key) => MASK.into(),
        // List items inherit the key of the list; objects among them have keys of their own.
        Value::Array(items) => items.iter().map(|item| mask(key, item)).collect(),
        _ => value.clone(),
    }
}

impl From<Map<String, Value>> for Properties {
    fn from(map: Map<String, Value>) -> Self {
        Self(map)
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.to_masked()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn properties(value: Value) -> Properties {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn masks_secrets_at_any_depth_and_nothing_else() {
        let object = properties(json!({
            "target_iqn": "iqn.2010-10.org.openstack:volume-1",
            "target_lun": 1,
            "auth_username": "boot",
            "auth_password": "hunter2",
            "discovery_auth_password": "hunter3",
            "Auth_Password": "hunter4",
            "deep": {"list": [{"ipmi_password": "hunter5"}, "plain"]},
            "tokens": ["hunter6"],
            "password": null,
        }));
        let expected = json!({
            "target_iqn": "iqn.2010-10.org.openstack:volume-1",
            "target_lun": 1,
            "auth_username": "boot",
            "auth_password": "******",
            "discovery_auth_password": "******",
            "Auth_Password": "******",
            "deep": {"list": [{"ipmi_password": "******"}, "plain"]},
            "tokens": "******",
            "password": null,
        });
        assert_eq!(Value::from(object.to_masked()), expected);
        assert!(!format!("{object:?}").contains("hunter"));
    }

    #[test]
    fn restores_secrets_that_a_client_writes_back_masked() {
        let old = properties(json!({
            "auth_password": "hunter2",
            "deep": {"list": [{"token": "hunter3"}, {"token": "hunter4"}]},
            "tokens": ["hunter5"],
            "gone": {"password": "hunter6"},
        }));
        let mut update = Value::from(old.to_masked());
        update["deep"]["list"][1]["token"] = "new".into();
        update["gone"] = Value::Null;
        update["note"] = MASK.into();
        update["other_password"] = MASK.into();
        let expected = json!({
            "auth_password": "hunter2",
            "deep": {"list": [{"token": "hunter3"}, {"token": "new"}]},
            "tokens": ["hunter5"],
            "gone": null,
            "note": MASK,
            "other_password": MASK,
        });
        assert_eq!(properties(update).restore_secrets(&old), properties(expected));
    }

    #[test]
    fn serialization_includes_secrets() {
        let object = json!({"auth_password": "hunter2"});
        assert_eq!(serde_json::to_value(properties(object.clone())).expect("JSON"), object);
    }
}
