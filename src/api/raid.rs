//! RAID: the properties of logical disks, and the refusal of a configuration, as with Ironic's `no-raid` interface.

use serde_json::{Map, Value};

use super::drivers::require_driver;
use super::fault::{Fault, python_type};
use super::node::find_node;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, JsonBody, PathParam};

/// The properties of a logical disk in Ironic's schema. Ironic lists them for every driver, with RAID or without.
const DISK_PROPERTIES: [(&str, &str); 10] = [
    ("raid_level", "RAID level: JBOD, 0, 1, 2, 5, 6, 1+0, 5+0 or 6+0. Required."),
    ("size_gb", "Size in GiB as an integer, or MAX for the rest of the space. Required."),
    ("volume_name", "Name of the volume; generated if absent. Optional."),
    ("is_root_volume", "Whether the disk is the root volume; by default false. Optional."),
    ("share_physical_disks", "Whether logical disks may share physical disks; by default false. Optional."),
    ("disk_type", "Type of the physical disks: hdd or ssd. Optional."),
    ("interface_type", "Interface of the physical disks: sata, scsi or sas. Optional."),
    ("number_of_physical_disks", "Number of physical disks; by default the level's minimum. Optional."),
    ("controller", "RAID controller; the driver selects one if absent. Optional."),
    ("physical_disks", "Physical disks; the driver selects them if absent. Optional."),
];

/// `GET /v1/drivers/{driver}/raid/logical_disk_properties`
pub(super) async fn get_logical_disk_properties(
    request: ApiRequest,
    PathParam(name): PathParam<String>,
) -> HandlerResult {
    request.require_version(12)?;
    request.query.reject_unknown(&[])?;
    require_driver(&request, &name)?;
    let properties = DISK_PROPERTIES.map(|(name, text)| (name.to_owned(), Value::from(text)));
    Ok(Reply::Json(Value::Object(Map::from_iter(properties))))
}

/// `PUT /v1/nodes/{node}/states/raid`: only the removal of the target configuration, which is always empty. Others are
/// refused with 404, as in Ironic.
pub(super) async fn set_target_config(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    JsonBody(config): JsonBody,
) -> HandlerResult {
    let node = find_node(&request, &ident).await?;
    request.require_version(12)?;
    match config {
        Value::Object(config) if config.is_empty() => Ok(Reply::NoContent),
        Value::Object(_) => Err(Fault::NotFound(Fault::unsupported(&node.driver, "raid").to_string())),
        other => Err(Fault::Invalid(format!(
            "Expected types dict for target_raid_config, got {}",
            python_type(&other)
        ))),
    }
}
