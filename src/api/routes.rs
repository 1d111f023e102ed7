//! The table of all that is served.

use super::route::Route;
use super::{
    absent, appliance, chassis, drivers, enroll, events, machines, management, metrics, nodes, portgroups,
    ports, preview, root, states, validate, volumes,
};
use crate::auth::Right::{Manage, Use};
use crate::model::{Chassis, Node, Port, PortGroup, VolumeConnector, VolumeTarget};

/// Everything that is served.
pub(super) fn routes() -> Vec<Route> {
    let tables = [
        roots(),
        nodes(),
        node_parts(),
        ports(),
        port_groups(),
        volumes(),
        drivers(),
        chassis(),
        absent(),
        own(),
    ];
    tables.into_iter().flatten().collect()
}

fn roots() -> Vec<Route> {
    vec![
        Route::get("/", "Tell the versions of the API", root::versions),
        Route::get("/v1", "Tell what the API has", root::v1),
    ]
}

fn nodes() -> Vec<Route> {
    const NODE: &str = "/v1/nodes/{node}";
    const MAINTENANCE: &str = "/v1/nodes/{node}/maintenance";
    vec![
        Route::get("/v1/nodes", "List nodes", nodes::list).lists::<Node>(&nodes::FILTERS),
        Route::post("/v1/nodes", "Create a node", nodes::create).creates::<Node>().right(Manage),
        Route::get("/v1/nodes/detail", "List nodes with all their fields", nodes::detail)
            .lists::<Node>(&nodes::FILTERS),
        Route::get("/v1/nodes/validate", "Tell what a node lacks", validate::get_by_query)
            .asked(&["node", "node_uuid"])
            .right(Use),
        Route::get(NODE, "Show a node", nodes::get).shows::<Node>(),
        Route::patch(NODE, "Change a node", nodes::update).changes::<Node>(),
        Route::delete(NODE, "Delete a node", nodes::delete).done().right(Manage),
        Route::put(MAINTENANCE, "Take a node into maintenance", nodes::set_maintenance)
            .told(&["reason"])
            .accepted(),
        Route::delete(MAINTENANCE, "End a node's maintenance", nodes::clear_maintenance).accepted(),
    ]
}

fn node_parts() -> Vec<Route> {
    const DEVICE: &str = "/v1/nodes/{node}/management/boot_device";
    const VIFS: &str = "/v1/nodes/{node}/vifs";
    vec![
        Route::get("/v1/nodes/{node}/validate", "Tell what a node lacks", validate::get).right(Use),
        Route::get("/v1/nodes/{node}/states", "Show a node's states", states::get),
        Route::put("/v1/nodes/{node}/states/power", "Record that a node is on or off", states::power)
            .told(&["target", "timeout"])
            .accepted(),
        Route::put("/v1/nodes/{node}/states/provision", "Take a node to another state", states::provision)
            .told(&["target", "configdrive", "clean_steps"])
            .accepted(),
        Route::get(DEVICE, "Show from what a node boots", management::boot_device).right(Use),
        Route::put(DEVICE, "Set from what a node boots", management::set_boot_device)
            .told(&["boot_device", "persistent"])
            .done(),
        Route::get(
            "/v1/nodes/{node}/management/boot_device/supported",
            "List from what a node can boot",
            management::supported_boot_devices,
        )
        .right(Use),
        Route::get(VIFS, "List a node's virtual interfaces", management::vifs).since(28),
        Route::post(VIFS, "Attach a virtual interface", management::attach_vif)
            .told(&["id"])
            .done()
            .since(28),
        Route::delete("/v1/nodes/{node}/vifs/{vif}", "Detach a virtual interface", management::detach_vif)
            .done()
            .since(28),
    ]
}

fn ports() -> Vec<Route> {
    const PORT: &str = "/v1/ports/{port}";
    const OF_NODE: &str = "/v1/nodes/{node}/ports";
    vec![
        Route::get("/v1/ports", "List ports", ports::list).lists::<Port>(&ports::FILTERS),
        Route::post("/v1/ports", "Create a port", ports::create).creates::<Port>().right(Manage),
        Route::get("/v1/ports/detail", "List ports with all their fields", ports::detail)
            .lists::<Port>(&ports::FILTERS),
        Route::get(PORT, "Show a port", ports::get).shows::<Port>(),
        Route::patch(PORT, "Change a port", ports::update).changes::<Port>(),
        Route::delete(PORT, "Delete a port", ports::delete).done().right(Manage),
        Route::get(OF_NODE, "List a node's ports", ports::list_of_node).lists::<Port>(&[]),
        Route::post(OF_NODE, "Nothing: ports are created elsewhere", volumes::malformed),
        Route::get(
            "/v1/nodes/{node}/ports/detail",
            "List a node's ports with all their fields",
            ports::detail_of_node,
        )
        .lists::<Port>(&[]),
    ]
}

fn port_groups() -> Vec<Route> {
    const GROUP: &str = "/v1/portgroups/{portgroup}";
    const OF_NODE: &str = "/v1/nodes/{node}/portgroups";
    vec![
        Route::get("/v1/portgroups", "List port groups", portgroups::list)
            .lists::<PortGroup>(&portgroups::FILTERS)
            .since(23),
        Route::post("/v1/portgroups", "Create a port group", portgroups::create)
            .creates::<PortGroup>()
            .right(Manage)
            .since(23),
        Route::get("/v1/portgroups/detail", "List port groups with all their fields", portgroups::detail)
            .lists::<PortGroup>(&portgroups::FILTERS)
            .since(23),
        Route::get(GROUP, "Show a port group", portgroups::get).shows::<PortGroup>().since(23),
        Route::patch(GROUP, "Change a port group", portgroups::update).changes::<PortGroup>().since(23),
        Route::delete(GROUP, "Delete a port group", portgroups::delete).done().right(Manage).since(23),
        Route::get("/v1/portgroups/{portgroup}/ports", "List a group's ports", ports::list_of_group)
            .lists::<Port>(&[])
            .since(24),
        Route::get(
            "/v1/portgroups/{portgroup}/ports/detail",
            "List a group's ports with all their fields",
            ports::detail_of_group,
        )
        .lists::<Port>(&[])
        .since(24),
        Route::get(OF_NODE, "List a node's port groups", portgroups::list_of_node)
            .lists::<PortGroup>(&[])
            .since(24),
        Route::get(
            "/v1/nodes/{node}/portgroups/detail",
            "List a node's port groups with all their fields",
            portgroups::detail_of_node,
        )
        .lists::<PortGroup>(&[])
        .since(24),
    ]
}

fn volumes() -> Vec<Route> {
    const CONNECTORS: &str = "/v1/volume/connectors";
    const CONNECTOR: &str = "/v1/volume/connectors/{connector}";
    const CONNECTORS_OF_NODE: &str = "/v1/nodes/{node}/volume/connectors";
    const TARGETS: &str = "/v1/volume/targets";
    const TARGET: &str = "/v1/volume/targets/{target}";
    const TARGETS_OF_NODE: &str = "/v1/nodes/{node}/volume/targets";
    let routes = vec![
        Route::get("/v1/volume", "Tell where volume records are", volumes::index),
        Route::get(
            "/v1/nodes/{node}/volume",
            "Tell where a node's volume records are",
            volumes::index_of_node,
        ),
        Route::get(CONNECTORS, "List volume connectors", volumes::list::<VolumeConnector>)
            .lists::<VolumeConnector>(&["node"]),
        Route::post(CONNECTORS, "Create a volume connector", volumes::create::<VolumeConnector>)
            .creates::<VolumeConnector>(),
        Route::get(CONNECTOR, "Show a volume connector", volumes::get::<VolumeConnector>)
            .shows::<VolumeConnector>(),
        Route::patch(CONNECTOR, "Change a volume connector", volumes::update::<VolumeConnector>)
            .changes::<VolumeConnector>(),
        Route::delete(CONNECTOR, "Delete a volume connector", volumes::delete::<VolumeConnector>).done(),
        Route::get(CONNECTORS_OF_NODE, "List a node's connectors", volumes::list_of_node::<VolumeConnector>)
            .lists::<VolumeConnector>(&[]),
        Route::post(CONNECTORS_OF_NODE, "Nothing: connectors are created elsewhere", volumes::malformed),
        Route::get(TARGETS, "List volume targets", volumes::list::<VolumeTarget>)
            .lists::<VolumeTarget>(&["node"]),
        Route::post(TARGETS, "Create a volume target", volumes::create::<VolumeTarget>)
            .creates::<VolumeTarget>(),
        Route::get(TARGET, "Show a volume target", volumes::get::<VolumeTarget>).shows::<VolumeTarget>(),
        Route::patch(TARGET, "Change a volume target", volumes::update::<VolumeTarget>)
            .changes::<VolumeTarget>(),
        Route::delete(TARGET, "Delete a volume target", volumes::delete::<VolumeTarget>).done(),
        Route::get(TARGETS_OF_NODE, "List a node's targets", volumes::list_of_node::<VolumeTarget>)
            .lists::<VolumeTarget>(&[]),
        Route::post(TARGETS_OF_NODE, "Nothing: targets are created elsewhere", volumes::malformed),
    ];
    routes.into_iter().map(|route| route.since(32)).collect()
}

fn drivers() -> Vec<Route> {
    vec![
        Route::get("/v1/drivers", "List drivers", drivers::list).asked(&["type", "detail"]),
        Route::get("/v1/drivers/properties", "Tell what a driver must be told", drivers::properties_by_query)
            .asked(&["driver_name"]),
        Route::get("/v1/drivers/{driver}", "Show a driver", drivers::get),
        Route::get("/v1/drivers/{driver}/properties", "Tell what a driver must be told", drivers::properties),
    ]
}

fn chassis() -> Vec<Route> {
    const CHASSIS: &str = "/v1/chassis/{chassis}";
    vec![
        Route::get("/v1/chassis", "List chassis", chassis::list).lists::<Chassis>(&[]),
        Route::post("/v1/chassis", "Create a chassis", chassis::create).creates::<Chassis>().right(Manage),
        Route::get("/v1/chassis/detail", "List chassis with all their fields", chassis::detail)
            .lists::<Chassis>(&[]),
        Route::get(CHASSIS, "Show a chassis", chassis::get).shows::<Chassis>(),
        Route::patch(CHASSIS, "Change a chassis", chassis::update).changes::<Chassis>(),
        Route::delete(CHASSIS, "Delete a chassis", chassis::delete).done().right(Manage),
        Route::get("/v1/chassis/{chassis}/nodes", "List a chassis's nodes", nodes::list_of_chassis)
            .lists::<Node>(&nodes::FILTERS),
        Route::get(
            "/v1/chassis/{chassis}/nodes/detail",
            "List a chassis's nodes with all their fields",
            nodes::detail_of_chassis,
        )
        .lists::<Node>(&nodes::FILTERS),
    ]
}

fn absent() -> Vec<Route> {
    const CONSOLE: &str = "/v1/nodes/{node}/states/console";
    const NODE_METHOD: &str = "/v1/nodes/{node}/vendor_passthru/{method}";
    const DRIVER_METHOD: &str = "/v1/drivers/{driver}/vendor_passthru/{method}";
    let nothing = "Nothing: there are no vendor methods";
    vec![
        Route::get(CONSOLE, "Tell that there is no console", absent::console).right(Use),
        Route::put(CONSOLE, "Nothing: there is no console", absent::set_console),
        Route::put("/v1/nodes/{node}/states/raid", "Nothing: there is no RAID", absent::set_raid),
        Route::put("/v1/nodes/{node}/management/inject_nmi", "Nothing: no interrupts", absent::inject_nmi)
            .since(29),
        Route::get("/v1/nodes/{node}/vendor_passthru/methods", "List vendor methods", absent::node_methods)
            .right(Manage),
        Route::get(NODE_METHOD, nothing, absent::node_method).right(Manage),
        Route::post(NODE_METHOD, nothing, absent::node_method).right(Manage),
        Route::put(NODE_METHOD, nothing, absent::node_method).right(Manage),
        Route::delete(NODE_METHOD, nothing, absent::node_method).right(Manage),
        Route::get(
            "/v1/drivers/{driver}/vendor_passthru/methods",
            "List vendor methods",
            absent::driver_methods,
        )
        .right(Manage),
        Route::get(DRIVER_METHOD, nothing, absent::driver_method).right(Manage),
        Route::post(DRIVER_METHOD, nothing, absent::driver_method).right(Manage),
        Route::put(DRIVER_METHOD, nothing, absent::driver_method).right(Manage),
        Route::delete(DRIVER_METHOD, nothing, absent::driver_method).right(Manage),
        Route::get(
            "/v1/drivers/{driver}/raid/logical_disk_properties",
            "Nothing: there is no RAID",
            absent::logical_disk_properties,
        ),
        Route::get("/v1/lookup", "Nothing: no agent runs on machines", absent::lookup).since(22),
        Route::post("/v1/heartbeat/{node}", "Nothing: no agent runs on machines", absent::heartbeat)
            .since(22),
    ]
}

/// What Ironic does not have.
fn own() -> Vec<Route> {
    let routes = vec![
        Route::get("/v1/machines", "List machines by their last boots", machines::list)
            .asked(&machines::ARGUMENTS),
        Route::get("/v1/machines/{machine}", "Tell what happened to a machine", machines::get),
        Route::get("/v1/nodes/{node}/boot-history", "Tell how a node's machine booted", machines::of_node),
        Route::get("/v1/nodes/{node}/boot-preview", "Show what a node's machine would be told", preview::get)
            .asked(&["platform"]),
        Route::get("/v1/events", "Follow what happens", events::follow)
            .asked(&["machine", "node"])
            .gives("text/event-stream"),
        Route::get("/v1/appliance", "Tell how volboot itself is", appliance::get),
        Route::put("/v1/appliance/log", "Log something else until the next reload", appliance::set_log)
            .told(&["filter"])
            .right(Manage)
            .done(),
        Route::post("/v1/enrollments", "Create a node with all it needs to boot, or nothing", enroll::create)
            .told(&enroll::ARGUMENTS)
            .right(Manage)
            .made(),
        Route::get("/v1/metrics", "Tell what is counted, also at /metrics", metrics::get)
            .gives("application/openmetrics-text"),
    ];
    routes.into_iter().map(Route::own).collect()
}
