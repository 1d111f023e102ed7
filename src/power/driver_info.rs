//! A node's `driver_info` for driver `redfish`: Ironic's keys, validated with Ironic's rules and messages.

use std::path::PathBuf;

use reqwest::Url;
use serde_json::Value;
use uuid::Uuid;

use crate::model::{Node, Properties};
use crate::redfish::{AuthType, BmcAccess, CertificateTrust};

/// The path of the service root.
const ROOT: &str = "/redfish/v1";

/// The keys, each with its description for the API.
pub const DRIVER_INFO_PROPERTIES: [(&str, &str); 6] = [
    (
        "redfish_address",
        "The URL of the BMC, such as https://192.0.2.5; without a scheme, https is assumed. A path is that of the service \
         root. Required.",
    ),
    (
        "redfish_system_id",
        "The path of the computer system, such as /redfish/v1/Systems/1. Required if the BMC has several systems. Optional.",
    ),
    (
        "redfish_username",
        "The user at the BMC, who may switch the system and set its boot override. Optional.",
    ),
    ("redfish_password", "The user's password. Optional."),
    (
        "redfish_verify_ca",
        "Whether the certificate of the BMC is verified, or the path of a file or directory with the authorities that \
         are trusted. Default: True. Optional.",
    ),
    (
        "redfish_auth_type",
        "The login: basic, session, or auto (a session, else basic). Default: auto. Optional.",
    ),
];

/// `driver_info` is invalid. The texts are Ironic's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverInfoError {
    /// A required key is missing.
    #[error("Missing the following Redfish properties in node {node} driver_info: ['redfish_address']")]
    Missing {
        /// The node.
        node: Uuid,
    },
    /// The address is no URL of a BMC.
    #[error("Invalid Redfish address {address} set in driver_info/redfish_address on node {node}")]
    Address {
        /// The node.
        node: Uuid,
        /// The address.
        address: String,
    },
    /// A key has an invalid value.
    #[error(
        "Invalid value \"{value}\" set in driver_info/{key} on node {node}. The value should be {expected}"
    )]
    Value {
        /// The node.
        node: Uuid,
        /// The key.
        key: &'static str,
        /// The value, unless it is a secret.
        value: String,
        /// What is expected.
        expected: &'static str,
    },
}

/// Parses a node's `driver_info`. Looks for the file that `redfish_verify_ca` names, and reads nothing.
pub fn parse_driver_info(node: &Node) -> Result<BmcAccess, DriverInfoError> {
    let (info, uuid) = (&node.driver_info, node.uuid);
    let invalid = |key: &'static str, value: &Value, expected: &'static str| DriverInfoError::Value {
        node: uuid,
        key,
        value: cut(value),
        expected,
    };
    let (address, root) = parse_address(info, uuid)?;
    let system = match info.get("redfish_system_id") {
        None => None,
        Some(Value::String(path)) => Some(normalize_path(path)),
        Some(other) => {
            let expected = "a path (string) to the resource that the driver will interact with. For example: \
                            /redfish/v1/Systems/1";
            return Err(invalid("redfish_system_id", other, expected));
        }
    };
    let username = read_text(info, "redfish_username")
        .map_err(|value| invalid("redfish_username", &value, "a string"))?;
    let password = read_text(info, "redfish_password")
        .map_err(|_| invalid("redfish_password", &Value::from("******"), "a string"))?;
    let trust = parse_trust(info)
        .map_err(|value| invalid("redfish_verify_ca", &value, "a Boolean or the path to a file/directory"))?;
    let auth = match info.get("redfish_auth_type") {
        None => AuthType::Auto,
        Some(Value::String(text)) if text == "basic" => AuthType::Basic,
        Some(Value::String(text)) if text == "session" => AuthType::Session,
        Some(Value::String(text)) if text == "auto" => AuthType::Auto,
        Some(other) => {
            return Err(invalid("redfish_auth_type", other, "one of \"basic\", \"session\" or \"auto\"."));
        }
    };
    Ok(BmcAccess {
        address,
        root,
        system,
        username: username.filter(|name| !name.is_empty()),
        password: password.unwrap_or_default().into(),
        trust,
        auth,
    })
}

/// The address without a path, and the path of the service root.
fn parse_address(info: &Properties, node: Uuid) -> Result<(String, String), DriverInfoError> {
    let value = info.get("redfish_address").filter(|value| *value != "");
    let value = value.ok_or(DriverInfoError::Missing { node })?;
    let text = value.as_str().unwrap_or_default();
    // A user in the URL may come with a password.
    let shown = if text.contains('@') { "******".to_owned() } else { cut(value) };
    let error = || DriverInfoError::Address { node, address: shown.clone() };
    // A bare IPv6 address.
    let is_ipv6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    let url = match text {
        _ if is_ipv6 => format!("https://[{text}]"),
        _ if text.contains("://") => text.to_owned(),
        _ => format!("https://{text}"),
    };
    let url = Url::parse(&url).map_err(|_| error())?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && !text.contains(char::is_whitespace);
    if !is_plain {
        return Err(error());
    }
    let root = url.path().trim_end_matches('/');
    let root = if root.is_empty() { ROOT.to_owned() } else { root.to_owned() };
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Ok((format!("{}://{host}{port}", url.scheme()), root))
}

/// The path of a system with each character encoded that a URL does not allow.
fn normalize_path(path: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    /// As Python's `quote`, which Ironic applies. An encoded character is kept.
    const PATH: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'%');
    let path = utf8_percent_encode(path, PATH).to_string();
    if path.starts_with('/') { path } else { format!("/{path}") }
}

/// Reads a text. Clients send a password of digits as a number.
fn read_text(info: &Properties, key: &str) -> Result<Option<String>, Value> {
    match info.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(other.clone()),
    }
}

fn parse_trust(info: &Properties) -> Result<CertificateTrust, Value> {
    let of_flag = |verify: bool| {
        if verify { CertificateTrust::System } else { CertificateTrust::Unverified }
    };
    let text = match info.get("redfish_verify_ca") {
        None => return Ok(CertificateTrust::System),
        Some(Value::Bool(verify)) => return Ok(of_flag(*verify)),
        Some(Value::String(text)) => text,
        Some(other) => return Err(other.clone()),
    };
    let path = PathBuf::from(text);
    if path.is_absolute() && path.exists() {
        return Ok(CertificateTrust::Bundle(path));
    }
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Ok(of_flag(true)),
        "0" | "f" | "false" | "off" | "n" | "no" => Ok(of_flag(false)),
        _ => Err(Value::from(text.as_str())),
    }
}

/// A value for a message.
fn cut(value: &Value) -> String {
    const MAX_LENGTH: usize = 200;
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().filter(|c| !c.is_control()).take(MAX_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::*;
    use crate::model::StorageInterface;

    fn parse(info: Value) -> Result<BmcAccess, String> {
        let node = Node::new(Uuid::nil(), "redfish", StorageInterface::Noop, Timestamp::UNIX_EPOCH);
        let driver_info = serde_json::from_value(info).expect("an object");
        parse_driver_info(&Node { driver_info, ..node }).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_are_read_as_ironic_reads_them() {
        for (text, address, root) in [
            ("https://192.0.2.5", "https://192.0.2.5", ROOT),
            ("https://bmc.example/", "https://bmc.example", ROOT),
            ("bmc.example", "https://bmc.example", ROOT),
            ("192.0.2.5:8443", "https://192.0.2.5:8443", ROOT),
            ("http://127.0.0.1:8000/redfish/v1/", "http://127.0.0.1:8000", ROOT),
            ("https://bmc.example/proxy/7", "https://bmc.example", "/proxy/7"),
            ("2001:db8::5", "https://[2001:db8::5]", ROOT),
            ("[2001:db8::5]:443", "https://[2001:db8::5]", ROOT),
        ] {
            let access = parse(json!({"redfish_address": text})).expect("is valid");
            assert_eq!((access.address.as_str(), access.root.as_str()), (address, root), "{text}");
        }
        for address in ["ftp://bmc", "https://", "bmc example", "https://bmc/?a=1", "https://bmc/#x"] {
            let expected = format!(
                "Invalid Redfish address {address} set in driver_info/redfish_address on node {}",
                Uuid::nil()
            );
            assert_eq!(parse(json!({"redfish_address": address})), Err(expected));
        }
        let with_password =
            parse(json!({"redfish_address": "https://root:calvin@bmc"})).expect_err("is invalid");
        assert!(!with_password.contains("calvin"), "{with_password}");
    }

    #[test]
    fn each_invalid_value_is_named() {
        let with = |key: &str, value: Value| {
            let mut info = json!({"redfish_address": "https://bmc"});
            info[key] = value;
            parse(info)
        };
        assert_eq!(
            parse(json!({"redfish_username": "root"})).expect_err("is invalid"),
            format!(
                "Missing the following Redfish properties in node {} driver_info: ['redfish_address']",
                Uuid::nil()
            )
        );
        for (key, value, text) in [
            ("redfish_system_id", json!(1), "Invalid value \"1\" set in driver_info/redfish_system_id"),
            (
                "redfish_verify_ca",
                json!("/nowhere/ca.pem"),
                "should be a Boolean or the path to a file/directory",
            ),
            ("redfish_verify_ca", json!(1), "should be a Boolean or the path to a file/directory"),
            ("redfish_auth_type", json!("digest"), "should be one of \"basic\", \"session\" or \"auto\"."),
            ("redfish_username", json!([]), "should be a string"),
        ] {
            let error = with(key, value.clone()).expect_err("is invalid");
            assert!(error.contains(text), "{error}");
        }
        let secret = with("redfish_password", json!(["hunter2"])).expect_err("is invalid");
        assert!(!secret.contains("hunter2"), "{secret}");
    }

    #[test]
    fn values_are_read() {
        let access = parse(json!({
            "redfish_address": "https://bmc", "redfish_system_id": "/redfish/v1/Systems/a b",
            "redfish_username": "root", "redfish_password": 12345, "redfish_verify_ca": "False",
            "redfish_auth_type": "session",
        }))
        .expect("is valid");
        assert_eq!(access.system.as_deref(), Some("/redfish/v1/Systems/a%20b"));
        assert_eq!(access.username.as_deref(), Some("root"));
        assert_eq!(access.password.expose_secret(), "12345");
        assert_eq!((access.trust.clone(), access.auth), (CertificateTrust::Unverified, AuthType::Session));
        assert!(!format!("{access:?}").contains("12345"));
        let directory = tempfile::tempdir().expect("a directory");
        let access = parse(json!({"redfish_address": "bmc", "redfish_verify_ca": directory.path()}))
            .expect("is valid");
        assert_eq!(access.trust, CertificateTrust::Bundle(directory.path().to_owned()));
    }
}
