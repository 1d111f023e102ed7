//! The filters of lists of nodes.

use super::chassis::find_chassis;
use super::collection::{Collection, Scope};
use super::fault::Fault;
use super::list::RecordFilter;
use super::request::ApiRequest;
use crate::model::{Node, ProvisionState};

/// The causes for which Ironic's conductors set maintenance (`ironic/common/faults.py`).
const FAULTS: [&str; 4] = ["power failure", "clean failure", "rescue abort failure", "service failure"];

impl Collection for Node {
    const FILTERS: &'static [&'static str] = &[
        "associated",
        "chassis_uuid",
        "conductor",
        "conductor_group",
        "description_contains",
        "driver",
        "fault",
        "instance_uuid",
        "maintenance",
        "owner",
        "provision_state",
        "resource_class",
    ];

    const FILTER_VERSIONS: &'static [(&'static str, u16)] = &[
        ("provision_state", 9),
        ("driver", 16),
        ("resource_class", 21),
        ("fault", 42),
        ("conductor_group", 46),
        ("conductor", 49),
        ("owner", 50),
        // Newer than the last supported microversion.
        ("retired", 61),
        ("lessee", 65),
        ("project", 65),
        ("shard", 82),
        ("sharded", 82),
        ("parent_node", 83),
        ("include_children", 83),
        ("instance_name", 104),
    ];

    async fn build_filter(request: &ApiRequest, scope: Scope) -> Result<RecordFilter<Self>, Fault> {
        let query = &request.query;
        let associated = query.flag("associated")?;
        let maintenance = query.flag("maintenance")?;
        let chassis = match query.uuid("chassis_uuid")? {
            Some(uuid) if scope.chassis.is_none() => Some(find_chassis(request, uuid).await?.uuid),
            _ => scope.chassis,
        };
        let instance = query.uuid("instance_uuid")?;
        let driver = query.text("driver")?.map(str::to_owned);
        let class = query.text("resource_class")?.map(str::to_owned);
        let state = match query.text("provision_state")? {
            None => None,
            Some(name) => match ProvisionState::ALL.iter().find(|state| state.as_str() == name) {
                Some(state) => Some(*state),
                None => return Err(Fault::Invalid(format!("Provision state \"{name}\" is not valid"))),
            },
        };
        let group = query.text("conductor_group")?.map(str::to_lowercase);
        let conductor = request.operator.conductor.clone();
        // As in Ironic, an empty name selects all nodes.
        let hostname = query.text("conductor")?.filter(|name| !name.is_empty());
        let is_conductor = hostname.map(|name| conductor.hostname == name);
        let owner = query.text("owner")?.map(str::to_owned);
        let described = query.text("description_contains")?.map(str::to_lowercase);
        let has_fault = query.text("fault")?.map(check_fault).transpose()?.is_some();
        let filter = RecordFilter::new(None, move |node: &Self| {
            let contains = |part: &String| {
                node.description.as_ref().is_some_and(|text| text.to_lowercase().contains(part))
            };
            associated.is_none_or(|associated| node.instance_uuid.is_some() == associated)
                && maintenance.is_none_or(|maintenance| node.maintenance == maintenance)
                && chassis.is_none_or(|chassis| node.chassis_uuid == Some(chassis))
                && instance.is_none_or(|instance| node.instance_uuid == Some(instance))
                && driver.as_ref().is_none_or(|driver| node.driver == *driver)
                && class.as_ref().is_none_or(|class| node.resource_class.as_ref() == Some(class))
                && state.is_none_or(|state| node.provision_state == state)
                && group.as_ref().is_none_or(|group| node.conductor_group.as_str() == group)
                && is_conductor.is_none_or(|is_ours| is_ours && conductor.manages(node))
                && owner.as_ref().is_none_or(|owner| node.owner.as_ref() == Some(owner))
                && described.as_ref().is_none_or(contains)
                // No node has a fault: only Ironic's conductors find any.
                && !has_fault
        });
        Ok(filter.unique(instance.is_some()))
    }
}

/// Checks that a fault to filter by is one of Ironic's.
fn check_fault(fault: &str) -> Result<(), Fault> {
    if FAULTS.contains(&fault) {
        return Ok(());
    }
    let faults = FAULTS.join(", ");
    Err(Fault::Invalid(format!("Unrecognized fault \"{fault}\" is specified, allowed faults are {faults}")))
}
