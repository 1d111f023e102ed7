//! `POST /v1/enrollments`: creates a node with its port, connector and boot volume atomically.
//!
//! A volboot extension; with Ironic's API the same takes four requests, any of which may fail.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::fault::Fault;
use super::field::{FieldValues, Purpose, parse_mac};
use super::node::{apply_values, check_name, new_node};
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, Arguments};
use super::resource::{ApiResource, FieldSelection, show};
use super::version::Microversion;
use crate::model::{Iqn, Node, Port, SanUri, VolumeConnector, VolumeTarget};
use crate::store::Enrollment;

/// The arguments in the body.
pub(super) const ARGUMENTS: [&str; 8] =
    ["name", "mac", "iqn", "volume", "target", "auth_username", "auth_password", "driver"];
/// The default driver; machines are switched on and off by hand.
const DRIVER: &str = "manual-management";

/// `POST /v1/enrollments`
pub(super) async fn create(request: ApiRequest, arguments: Arguments) -> HandlerResult {
    arguments.reject_unknown(&ARGUMENTS)?;
    let name = arguments.required_text("name")?;
    check_name(name, Microversion::MAX, "Cannot create node with invalid name")?;
    let address = parse_mac("mac", arguments.required_text("mac")?)?;
    let iqn = arguments.required_text("iqn")?;
    iqn.parse::<Iqn>().map_err(|error| Fault::Invalid(format!("iqn: {error}")))?;
    let (volume, storage, properties) = read_volume(&arguments)?;
    let values = json!({
        "name": name,
        "driver": arguments.text("driver")?.unwrap_or(DRIVER),
        "storage_interface": storage,
        "properties": {"capabilities": "iscsi_boot:True"},
    });
    let values = FieldValues::validate(Node::FIELDS, Purpose::Creation, "node", values)?;
    let node = apply_values(new_node(&values, &request), &values, &request.state)?;
    let now = request.now;
    let new = Enrollment {
        port: Port::new(Uuid::new_v4(), node.uuid, address, now),
        connector: VolumeConnector::new(Uuid::new_v4(), node.uuid, "iqn", iqn, now),
        target: VolumeTarget {
            properties: properties.into(),
            ..VolumeTarget::new(Uuid::new_v4(), node.uuid, 0, &volume, now)
        },
        node,
    };
    request.state.inventory.enroll(&new).await?;
    let all = &FieldSelection::All;
    Ok(Reply::Created {
        location: request.links.url(&format!("{}/{}", Node::PATH, new.node.uuid)),
        body: json!({
            "node": show(&new.node, &request, all),
            "port": show(&new.port, &request, all),
            "connector": show(&new.connector, &request, all),
            "target": show(&new.target, &request, all),
        }),
    })
}

/// Reads the volume's id, the storage interface that locates it, and the target's properties.
fn read_volume(arguments: &Arguments) -> Result<(String, &'static str, Map<String, Value>), Fault> {
    match (arguments.text("volume")?, arguments.text("target")?) {
        (Some(volume), None) => {
            let volume: Uuid =
                volume.parse().map_err(|_| Fault::Invalid(format!("Expected UUID for volume: {volume}")))?;
            Ok((volume.to_string(), "cinder", Map::new()))
        }
        (None, Some(target)) => {
            let mut properties = parse_san_path(target).ok_or_else(|| {
                Fault::Invalid(format!(
                    "target: expected iscsi:ADDRESS::PORT:LUN:IQN (RFC 4173), as in \
                     iscsi:192.0.2.2::3260:1:iqn.2010-10.org.example:root, not {target}"
                ))
            })?;
            for name in ["auth_username", "auth_password"] {
                if let Some(text) = arguments.text(name)? {
                    properties.insert(name.into(), text.into());
                }
            }
            if properties.contains_key("auth_username") != properties.contains_key("auth_password") {
                return Err(Fault::Invalid("auth_username and auth_password must be set together".into()));
            }
            let id = properties["target_iqn"].as_str().unwrap_or_default().to_owned();
            Ok((id, "external", properties))
        }
        _ => Err(Fault::Invalid("Exactly one of volume and target is required".into())),
    }
}

/// Converts an iSCSI SAN URI (RFC 4173 §5) to target properties, such as
/// `iscsi:192.0.2.2::3260:1:iqn.2010-10.org.example:root`. Boot scripts use the same format; its LUN is hexadecimal.
fn parse_san_path(text: &str) -> Option<Map<String, Value>> {
    text.parse().ok().map(|path: SanUri| path.properties())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn san_uris_are_parsed_to_target_properties() {
        let iqn = "iqn.2010-10.org.example:root";
        for (text, portal, lun) in [
            ("iscsi:192.0.2.2::3260:1", "192.0.2.2:3260", 1),
            ("iscsi:192.0.2.2:6:3261:a", "192.0.2.2:3261", 10),
            ("iscsi:192.0.2.2:::", "192.0.2.2:3260", 0),
            ("iscsi:[2001:db8::1]::3260:ff", "[2001:db8::1]:3260", 255),
            ("iscsi:san.example.org::1:2", "san.example.org:1", 2),
        ] {
            let expected = json!({"target_portal": portal, "target_iqn": iqn, "target_lun": lun});
            assert_eq!(parse_san_path(&format!("{text}:{iqn}")).map(Value::Object), Some(expected), "{text}");
        }
        for text in [
            "",
            "iscsi:",
            "iscsi:a:b",
            "iscsi:192.0.2.2::3260:1",
            "iscsi:192.0.2.2::3260:x:iqn.2010-10.org:a",
        ] {
            assert_eq!(parse_san_path(text), None, "{text}");
        }
    }
}
