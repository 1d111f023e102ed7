//! [`Chap`]: the CHAP credentials of a volume's target.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{Properties, PropertyError};

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

impl Chap {
    /// Reads the credentials from connection properties. `None`: the target requires none.
    pub(super) fn read(properties: &Properties) -> Result<Option<Self>, PropertyError> {
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

    fn read(value: Value) -> Result<Option<Chap>, PropertyError> {
        Chap::read(&serde_json::from_value(value).expect("an object"))
    }

    #[test]
    fn credentials_are_read_if_name_and_secret_are_present() {
        let properties = json!({"auth_method": "CHAP", "auth_username": "u", "auth_password": "p#${x} \\"});
        let expected = Chap { username: "u".into(), password: "p#${x} \\".into() };
        assert_eq!(read(properties), Ok(Some(expected)));
        assert_eq!(read(json!({})), Ok(None));
        let none = json!({"auth_method": "None", "auth_username": null, "auth_password": null});
        assert_eq!(read(none), Ok(None));
        let number = json!({"auth_username": "u", "auth_password": 123_456_789_012_u64});
        let expected = Chap { username: "u".into(), password: "123456789012".into() };
        assert_eq!(read(number), Ok(Some(expected)));
    }

    #[test]
    fn an_error_names_its_key() {
        for (properties, key) in [
            (json!({"auth_method": "CHAP"}), "auth_username"),
            (json!({"auth_username": "u"}), "auth_password"),
            (json!({"auth_password": "p"}), "auth_username"),
            (json!({"auth_method": "SRP"}), "auth_method"),
            (json!({"auth_username": "u\0", "auth_password": "p"}), "auth_username"),
            (json!({"auth_username": "u", "auth_password": "p".repeat(256)}), "auth_password"),
        ] {
            assert_eq!(read(properties.clone()).expect_err("an error").key, key, "{properties}");
        }
    }
}
