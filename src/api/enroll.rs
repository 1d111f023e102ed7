//! `POST /v1/enrollments`: a node with its port, its connector and its boot volume, in one step or not at all.
//!
//! An extension of ours: Ironic takes four requests, of which any may fail.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::call::{Arguments, Call};
use super::fault::Fault;
use super::field::{Given, Purpose, mac};
use super::node::{check_name, fresh, written};
use super::reply::{Answer, Reply};
use super::shown::{Choice, Shown, show};
use super::version::Version;
use crate::model::{Iqn, Node, Port, SanUri, VolumeConnector, VolumeTarget};
use crate::store::Enrolment;

/// What it is told.
pub(super) const ARGUMENTS: [&str; 8] =
    ["name", "mac", "iqn", "volume", "target", "auth_username", "auth_password", "driver"];
/// A machine that is switched on and off by hand.
const DRIVER: &str = "manual-management";

/// `POST /v1/enrollments`
pub(super) async fn create(call: Call, told: Arguments) -> Answer {
    told.only(&ARGUMENTS)?;
    let name = told.required_text("name")?;
    check_name(name, Version::MAX, "Cannot create node with invalid name")?;
    let address = mac("mac", told.required_text("mac")?)?;
    let iqn = told.required_text("iqn")?;
    iqn.parse::<Iqn>().map_err(|error| Fault::Invalid(format!("iqn: {error}")))?;
    let (volume, storage, properties) = volume(&told)?;
    let given = json!({
        "name": name,
        "driver": told.text("driver")?.unwrap_or(DRIVER),
        "storage_interface": storage,
        "properties": {"capabilities": "iscsi_boot:True"},
    });
    let given = Given::checked(Node::FIELDS, Purpose::Creation, "node", given)?;
    let node = written(fresh(&given, &call), &given, &call.state)?;
    let now = call.now;
    let new = Enrolment {
        port: Port::new(Uuid::new_v4(), node.uuid, address, now),
        connector: VolumeConnector::new(Uuid::new_v4(), node.uuid, "iqn", iqn, now),
        target: VolumeTarget {
            properties: properties.into(),
            ..VolumeTarget::new(Uuid::new_v4(), node.uuid, 0, &volume, now)
        },
        node,
    };
    call.state.inventory.enrol(&new).await?;
    let all = &Choice::All;
    Ok(Reply::Created {
        location: call.links.to(&format!("{}/{}", Node::PATH, new.node.uuid)),
        body: json!({
            "node": show(&new.node, &call, all),
            "port": show(&new.port, &call, all),
            "connector": show(&new.connector, &call, all),
            "target": show(&new.target, &call, all),
        }),
    })
}

/// The volume's id, the storage interface that finds it, and the target's properties.
fn volume(told: &Arguments) -> Result<(String, &'static str, Map<String, Value>), Fault> {
    match (told.text("volume")?, told.text("target")?) {
        (Some(volume), None) => {
            let volume: Uuid =
                volume.parse().map_err(|_| Fault::Invalid(format!("Expected UUID for volume: {volume}")))?;
            Ok((volume.to_string(), "cinder", Map::new()))
        }
        (None, Some(target)) => {
            let mut properties = reached(target).ok_or_else(|| {
                Fault::Invalid(format!(
                    "target: expected iscsi:ADDRESS::PORT:LUN:IQN (RFC 4173), as in \
                     iscsi:192.0.2.2::3260:1:iqn.2010-10.org.example:root, not {target}"
                ))
            })?;
            for name in ["auth_username", "auth_password"] {
                if let Some(text) = told.text(name)? {
                    properties.insert(name.into(), text.into());
                }
            }
            if properties.contains_key("auth_username") != properties.contains_key("auth_password") {
                return Err(Fault::Invalid("auth_username and auth_password go together".into()));
            }
            let id = properties["target_iqn"].as_str().unwrap_or_default().to_owned();
            Ok((id, "external", properties))
        }
        _ => Err(Fault::Invalid("Exactly one of volume and target must be given".into())),
    }
}

/// What a path such as `iscsi:192.0.2.2::3260:1:iqn.2010-10.org.example:root` leads to: the inverse of how scripts
/// write it (RFC 4173 §5). The LUN is hexadecimal there.
fn reached(text: &str) -> Option<Map<String, Value>> {
    text.parse().ok().map(|path: SanUri| path.properties())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_scripts_write_it() {
        let iqn = "iqn.2010-10.org.example:root";
        for (text, portal, lun) in [
            ("iscsi:192.0.2.2::3260:1", "192.0.2.2:3260", 1),
            ("iscsi:192.0.2.2:6:3261:a", "192.0.2.2:3261", 10),
            ("iscsi:192.0.2.2:::", "192.0.2.2:3260", 0),
            ("iscsi:[2001:db8::1]::3260:ff", "[2001:db8::1]:3260", 255),
            ("iscsi:san.example.org::1:2", "san.example.org:1", 2),
        ] {
            let expected = json!({"target_portal": portal, "target_iqn": iqn, "target_lun": lun});
            assert_eq!(reached(&format!("{text}:{iqn}")).map(Value::Object), Some(expected), "{text}");
        }
        for text in [
            "",
            "iscsi:",
            "iscsi:a:b",
            "iscsi:192.0.2.2::3260:1",
            "iscsi:192.0.2.2::3260:x:iqn.2010-10.org:a",
        ] {
            assert_eq!(reached(text), None, "{text}");
        }
    }
}
