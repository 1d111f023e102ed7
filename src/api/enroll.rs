//! `POST /v1/enrollments`: enrolls a machine as a new node.
//!
//! A volboot extension; with Ironic's API the same takes four requests, any of which may fail.

use serde_json::json;

use super::fault::Fault;
use super::field::parse_mac;
use super::node::name_fault;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, Arguments};
use super::resource::{ApiResource, FieldSelection, show};
use crate::model::Node;
use crate::operator::{EnrollError, EnrollmentRequest, Refusal, VolumeText};
use crate::store::InventoryError;

/// The arguments in the body.
pub(super) const ARGUMENTS: [&str; 8] =
    ["name", "mac", "iqn", "volume", "target", "auth_username", "auth_password", "driver"];

/// `POST /v1/enrollments`
pub(super) async fn create(request: ApiRequest, arguments: Arguments) -> HandlerResult {
    arguments.reject_unknown(&ARGUMENTS)?;
    let name = arguments.required_text("name")?;
    let mac = parse_mac("mac", arguments.required_text("mac")?)?;
    let iqn = arguments.required_text("iqn")?;
    let volume = match (arguments.text("volume")?, arguments.text("target")?) {
        (Some(volume), None) => VolumeText::Cinder(volume),
        (None, Some(target)) => VolumeText::Target(target),
        _ => return Err(Fault::Invalid("Exactly one of volume and target is required".into())),
    };
    let enrollment = EnrollmentRequest {
        name,
        mac,
        iqn,
        volume,
        chap_user: arguments.text("auth_username")?.unwrap_or_default(),
        chap_secret: arguments.text("auth_password")?.unwrap_or_default().into(),
        driver: arguments.text("driver")?,
    };
    let new = match request.operator.enroll(enrollment, request.now).await {
        Ok(records) => records,
        Err(EnrollError::Inventory(error)) => return Err(error.into()),
        Err(EnrollError::Refused(refusals)) => {
            let mut faults = refusals.into_iter().map(|refusal| refusal_fault(refusal, name, volume));
            return Err(faults.next().unwrap_or(Fault::Internal));
        }
    };
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

fn refusal_fault(refusal: Refusal, name: &str, volume: VolumeText<'_>) -> Fault {
    let (VolumeText::Cinder(volume) | VolumeText::Target(volume)) = volume;
    Fault::Invalid(match refusal {
        Refusal::Name(error) => return name_fault(error, name, "Cannot create node with invalid name"),
        Refusal::Interface(error) => return error.into(),
        Refusal::Duplicate(key) => return InventoryError::Duplicate(key).into(),
        Refusal::VolumeInUse(user) => return Fault::Conflict(format!("Volume {volume} is in use: {user}.")),
        Refusal::Iqn(error) => format!("iqn: {error}"),
        Refusal::VolumeId => format!("Expected UUID for volume: {volume}"),
        Refusal::TargetUri => format!(
            "target: expected iscsi:ADDRESS::PORT:LUN:NAME (RFC 4173; an IPv6 address in brackets), as in \
             iscsi:192.0.2.2::3260:1:iqn.2010-10.org.example:root, not {volume}"
        ),
        Refusal::MissingChapUser | Refusal::MissingChapSecret => {
            "auth_username and auth_password must be set together".into()
        }
        Refusal::ChapForCinder => {
            "auth_username and auth_password require a target; Cinder provides the credentials of its volumes"
                .into()
        }
    })
}
