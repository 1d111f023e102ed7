//! Reads a response of Cinder: its content, or the error that its status and message stand for.

use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::CinderError;
use super::endpoint::EndpointUrl;
use crate::keystone::{ServiceResponse, StatusClass};

/// The limit for a message that is passed on to operators.
const MAX_MESSAGE_CHARS: usize = 300;
/// The limit for the name of a connector property, such as `do_local_attach`.
const MAX_PROPERTY_NAME: usize = 32;
/// The properties that a connector may have: those of os-brick 7.1 (`get_connector_properties` of `initiator/connector.py`
/// and of `initiator/connectors/*.py`), and those that Nova and Cinder's drivers add.
const CONNECTOR_PROPERTIES: [&str; 20] = [
    "do_local_attach",
    "enforce_multipath",
    "found_dsc",
    "host",
    "host_ips",
    "initiator",
    "instance",
    "ip",
    "mountpoint",
    "multipath",
    "nqn",
    "nvme_hostid",
    "nvme_native_multipath",
    "os_type",
    "platform",
    "remote_target_ip",
    "sdc_guid",
    "uuid",
    "wwnns",
    "wwpns",
];

/// The content of a successful response; no content is read as [`Value::Null`].
pub(super) fn parse_response<T: DeserializeOwned>(
    response: &ServiceResponse,
    endpoint: &EndpointUrl,
) -> Result<T, CinderError> {
    let invalid = |_| CinderError::not_cinder(endpoint, "");
    let status = response.status;
    let body = serde_json::from_slice::<Value>(&response.body);
    match StatusClass::from(status) {
        StatusClass::Success if response.body.is_empty() => {
            serde_json::from_value(Value::Null).map_err(invalid)
        }
        StatusClass::Success => body.and_then(serde_json::from_value).map_err(invalid),
        StatusClass::Refused if status == StatusCode::NOT_FOUND => match body {
            // Only Cinder's own 404 concerns a volume; an unknown path does not.
            Ok(body) if body.get("itemNotFound").is_some() => {
                Err(CinderError::NotFound(extract_message(&body)))
            }
            _ => Err(CinderError::not_cinder(endpoint, " (404)")),
        },
        StatusClass::Refused => Err(CinderError::Refused {
            status: status.as_u16(),
            message: body.map(|body| extract_message(&body)).unwrap_or_default(),
        }),
        // Cinder's own failure; without this key, the 500 is from a server in front of Cinder.
        StatusClass::Temporary | StatusClass::Unexpected
            if status == StatusCode::INTERNAL_SERVER_ERROR
                && body.as_ref().is_ok_and(|body| body.get("computeFault").is_some()) =>
        {
            let message = body.map(|body| extract_message(&body)).unwrap_or_default();
            Err(CinderError::Failed { missing_property: find_missing_property(&message) })
        }
        // These concern the request, not the volume.
        StatusClass::Temporary | StatusClass::Unexpected => {
            Err(CinderError::Unavailable(format!("Cinder returned {status}")))
        }
    }
}

/// The connector property that a driver misses, from the message of a 500. The rest of the message may quote a command of
/// the driver with its secrets, so it goes no further.
///
/// Cinder writes `Connector doesn't have required information: ip` for `InvalidConnectorException`, and `Driver initialize
/// connection failed (error: 'ip')` for the `KeyError` of a driver (`cinder/exception.py`, `cinder/volume/manager.py`).
/// A `KeyError` may concern any mapping of the driver, so it counts only with one of [`CONNECTOR_PROPERTIES`].
fn find_missing_property(message: &str) -> Option<String> {
    let after = |mark| message.split_once(mark).map(|(_, rest)| rest);
    let Some(start) = after("required information: ") else {
        let (key, end) = after("(error: '")?.split_once('\'')?;
        return (end.starts_with(')') && CONNECTOR_PROPERTIES.contains(&key)).then(|| key.to_owned());
    };
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let name = &start[..start.find(|c| !is_name(c)).unwrap_or(start.len())];
    (1..=MAX_PROPERTY_NAME).contains(&name.len()).then(|| name.to_owned())
}

/// The message of an error response, on one line. Cinder sends `{"badRequest": {"message": …}}`, middleware in front
/// of it `{"message": …}`.
fn extract_message(body: &Value) -> String {
    let inner = body.as_object().and_then(|body| body.values().find_map(|value| value.get("message")));
    let text = inner.or(body.get("message")).and_then(Value::as_str).unwrap_or("no reason was given");
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.trim_end_matches('.').chars().take(MAX_MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_connector_property_is_found_in_the_message() {
        let driver = "Bad or unexpected response from the storage volume backend API: Driver initialize connection failed";
        for (message, expected) in [
            (format!("Unable to update attachment.({driver} (error: 'ip').)"), Some("ip")),
            ("Unable to create attachment for volume (Invalid input received: Connector doesn't have required information: wwpns)".into(), Some("wwpns")),
            ("Connector doesn't have required information: wwpns or wwnns".into(), Some("wwpns")),
            (format!("{driver} (error: 'wwpns')"), Some("wwpns")),
            (format!("{driver} (error: 'provider_location')"), None),
            (format!("{driver} (error: 'target_portal')"), None),
            (format!("{driver} (error: 'ip address')"), None),
            (format!("{driver} (error: 'ip"), None),
            (format!("{driver} (error: 'str' object has no attribute 'get')"), None),
            (format!("{driver} (error: Command: cinder-rtstool create /dev/a iqn.b user chapsecret)"), None),
            (format!("{driver} (error: 'Robert'); DROP TABLE')"), None),
            (format!("Connector doesn't have required information: {}", "x".repeat(33)), None),
            ("Unable to create attachment for volume".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(find_missing_property(&message).as_deref(), expected, "{message}");
        }
    }
}
