//! [`Properties`]: the free-form JSON objects of Ironic's records, which may hold secrets.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a masked value looks like, to Ironic's clients too (oslo.utils `mask_dict_password`, Ironic LP 2154564).
const MASK: &str = "******";

/// Words that make a key's value a secret wherever they stand in the key, in any case (after oslo.utils
/// `_SANITIZE_KEYS`, so that the same keys are hidden here as in Ironic).
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
/// Serialising gives everything, because the store must keep it; [`Properties::masked`] is what may leave by an
/// API answer or a page, and `Debug` shows no more than that.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Properties(Map<String, Value>);

impl Properties {
    /// The value under a key, if there is one that says something: `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// The text under a key; `None` if there is none or it is no text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// The whole object, secrets included.
    pub fn reveal(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The object with every secret replaced by `******`, at any depth.
    pub fn masked(&self) -> Map<String, Value> {
        self.0.iter().map(|(key, value)| (key.clone(), mask(key, value))).collect()
    }

    /// The object, but with the secrets of `old` wherever `******` stands in their place: whoever writes back what
    /// [`Properties::masked`] showed has not changed it.
    pub fn keeping_secrets_of(mut self, old: &Self) -> Self {
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
        // A list keeps its key's meaning, and may hold objects with keys of their own.
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
        f.debug_map().entries(self.masked()).finish()
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
    fn secrets_are_masked_at_any_depth_and_the_rest_is_left() {
        let given = properties(json!({
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
        assert_eq!(Value::from(given.masked()), expected);
        assert!(!format!("{given:?}").contains("hunter"));
    }

    #[test]
    fn a_secret_that_is_written_back_masked_stays_what_it_was() {
        let old = properties(json!({
            "auth_password": "hunter2",
            "deep": {"list": [{"token": "hunter3"}, {"token": "hunter4"}]},
            "tokens": ["hunter5"],
            "gone": {"password": "hunter6"},
        }));
        let mut written = Value::from(old.masked());
        written["deep"]["list"][1]["token"] = "new".into();
        written["gone"] = Value::Null;
        written["note"] = MASK.into();
        written["other_password"] = MASK.into();
        let expected = json!({
            "auth_password": "hunter2",
            "deep": {"list": [{"token": "hunter3"}, {"token": "new"}]},
            "tokens": ["hunter5"],
            "gone": null,
            "note": MASK,
            "other_password": MASK,
        });
        assert_eq!(properties(written).keeping_secrets_of(&old), properties(expected));
    }

    #[test]
    fn what_is_stored_is_whole() {
        let given = json!({"auth_password": "hunter2"});
        assert_eq!(serde_json::to_value(properties(given.clone())).expect("JSON"), given);
    }
}
