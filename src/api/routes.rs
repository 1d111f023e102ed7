//! The table of all routes.

use super::collection::Collection as _;
use super::fault::Fault;
use super::route::Route;
use super::{
    allocations, appliance, bios, boot_once, chassis, conductors, drivers, enroll, events, fallback,
    machines, management, metrics, nodes, portgroups, ports, preview, raid, root, states, traits,
    unsupported, validate, volume_check, volumes,
};
use crate::auth::AccessRole::{Admin, Member};
use crate::model::{Chassis, Node, Port, PortGroup, VolumeConnector, VolumeTarget};

/// All routes, in the order of the table.
pub(super) fn routes() -> Vec<Route> {
    let tables = [
        discovery(),
        nodes(),
        node_subresources(),
        ports(),
        port_groups(),
        volumes(),
        drivers(),
        chassis(),
        allocations::routes(),
        conductors::routes(),
        bios::routes(),
        unsupported(),
        extensions(),
    ];
    tables.into_iter().flatten().collect()
}

fn discovery() -> Vec<Route> {
    vec![
        Route::get("/", "List API versions", root::get_versions),
        Route::get("/v1", "List the API's resources", root::get_v1),
    ]
}

fn nodes() -> Vec<Route> {
    const NODE: &str = "/v1/nodes/{node}";
    const MAINTENANCE: &str = "/v1/nodes/{node}/maintenance";
    vec![
        Route::list::<Node>("/v1/nodes", "List nodes"),
        Route::post("/v1/nodes", "Create a node", nodes::create).creates::<Node>().role(Admin),
        Route::detail::<Node>("/v1/nodes/detail", "List nodes with all their fields"),
        Route::get("/v1/nodes/validate", "Validate a node's interfaces", validate::get_by_query)
            .query(&["node", "node_uuid"])
            .role(Member),
        Route::get(NODE, "Show a node", nodes::get).returns_record::<Node>(),
        Route::patch(NODE, "Change a node", nodes::update).patches::<Node>().query(&["reset_interfaces"]),
        Route::delete(NODE, "Delete a node", nodes::delete).returns_no_content().role(Admin),
        Route::put(MAINTENANCE, "Set a node's maintenance flag", nodes::set_maintenance)
            .body(&["reason"])
            .returns_accepted(),
        Route::delete(MAINTENANCE, "Clear a node's maintenance flag", nodes::clear_maintenance)
            .returns_accepted(),
    ]
}

fn node_subresources() -> Vec<Route> {
    const DEVICE: &str = "/v1/nodes/{node}/management/boot_device";
    const TRAITS: &str = "/v1/nodes/{node}/traits";
    const TRAIT: &str = "/v1/nodes/{node}/traits/{trait}";
    const VIFS: &str = "/v1/nodes/{node}/vifs";
    vec![
        Route::get(TRAITS, "List a node's traits", traits::list).since(37).absent(Fault::needs_version),
        Route::put(TRAITS, "Replace a node's traits", traits::replace)
            .body(&traits::ARGUMENTS)
            .returns_no_content()
            .since(37)
            .absent(|_| Fault::MethodNotAllowed),
        Route::delete(TRAITS, "Remove all traits from a node", traits::clear).returns_no_content().since(37),
        Route::put(TRAIT, "Add a trait to a node", traits::add)
            .returns_no_content()
            .since(37)
            .absent(|_| Fault::MethodNotAllowed),
        Route::delete(TRAIT, "Remove a trait from a node", traits::remove).returns_no_content().since(37),
        Route::get("/v1/nodes/{node}/validate", "Validate a node's interfaces", validate::get).role(Member),
        Route::get("/v1/nodes/{node}/states", "Show a node's states", states::get),
        Route::put("/v1/nodes/{node}/states/power", "Set a node's power state", states::set_power)
            .body(&["target", "timeout"])
            .returns_accepted(),
        Route::put(
            "/v1/nodes/{node}/states/provision",
            "Change a node's provision state",
            states::set_provision,
        )
        .body(&["target", "configdrive", "clean_steps", "rescue_password"])
        .returns_accepted(),
        Route::get(DEVICE, "Show a node's boot device", management::get_boot_device).role(Member),
        Route::put(DEVICE, "Set a node's boot device", management::set_boot_device)
            .body(&["boot_device", "persistent"])
            .returns_no_content(),
        Route::get(
            "/v1/nodes/{node}/management/boot_device/supported",
            "List a node's supported boot devices",
            management::list_boot_devices,
        )
        .role(Member),
        Route::get(VIFS, "List a node's virtual interfaces", management::list_vifs).since(28),
        Route::post(VIFS, "Attach a virtual interface", management::attach_vif)
            .body(&["id"])
            .returns_no_content()
            .since(28),
        Route::delete("/v1/nodes/{node}/vifs/{vif}", "Detach a virtual interface", management::detach_vif)
            .returns_no_content()
            .since(28),
    ]
}

fn ports() -> Vec<Route> {
    const PORT: &str = "/v1/ports/{port}";
    const OF_NODE: &str = "/v1/nodes/{node}/ports";
    vec![
        Route::list::<Port>("/v1/ports", "List ports"),
        Route::post("/v1/ports", "Create a port", ports::create).creates::<Port>().role(Admin),
        Route::detail::<Port>("/v1/ports/detail", "List ports with all their fields"),
        Route::get(PORT, "Show a port", ports::get).returns_record::<Port>(),
        Route::patch(PORT, "Change a port", ports::update).patches::<Port>(),
        Route::delete(PORT, "Delete a port", ports::delete).returns_no_content().role(Admin),
        Route::list_of::<Node, Port>(OF_NODE, "List a node's ports"),
        Route::post(OF_NODE, "Not supported: create ports at /v1/ports", volumes::reject_malformed_uri),
        Route::detail_of::<Node, Port>(
            "/v1/nodes/{node}/ports/detail",
            "List a node's ports with all their fields",
        ),
    ]
}

fn port_groups() -> Vec<Route> {
    const GROUP: &str = "/v1/portgroups/{portgroup}";
    vec![
        Route::list::<PortGroup>("/v1/portgroups", "List port groups").since(23),
        Route::post("/v1/portgroups", "Create a port group", portgroups::create)
            .creates::<PortGroup>()
            .role(Admin)
            .since(23),
        Route::detail::<PortGroup>("/v1/portgroups/detail", "List port groups with all their fields")
            .since(23),
        Route::get(GROUP, "Show a port group", portgroups::get).returns_record::<PortGroup>().since(23),
        Route::patch(GROUP, "Change a port group", portgroups::update).patches::<PortGroup>().since(23),
        Route::delete(GROUP, "Delete a port group", portgroups::delete)
            .returns_no_content()
            .role(Admin)
            .since(23),
        Route::list_of::<PortGroup, Port>("/v1/portgroups/{portgroup}/ports", "List a group's ports")
            .since(24),
        Route::detail_of::<PortGroup, Port>(
            "/v1/portgroups/{portgroup}/ports/detail",
            "List a group's ports with all their fields",
        )
        .since(24),
        Route::list_of::<Node, PortGroup>("/v1/nodes/{node}/portgroups", "List a node's port groups")
            .since(24),
        Route::detail_of::<Node, PortGroup>(
            "/v1/nodes/{node}/portgroups/detail",
            "List a node's port groups with all their fields",
        )
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
        Route::get("/v1/volume", "Show links to volume records", volumes::index),
        Route::get(
            "/v1/nodes/{node}/volume",
            "Show links to a node's volume records",
            volumes::index_of_node,
        ),
        Route::list::<VolumeConnector>(CONNECTORS, "List volume connectors"),
        Route::post(CONNECTORS, "Create a volume connector", volumes::create::<VolumeConnector>)
            .creates::<VolumeConnector>(),
        Route::get(CONNECTOR, "Show a volume connector", volumes::get::<VolumeConnector>)
            .returns_record::<VolumeConnector>(),
        Route::patch(CONNECTOR, "Change a volume connector", volumes::update::<VolumeConnector>)
            .patches::<VolumeConnector>(),
        Route::delete(CONNECTOR, "Delete a volume connector", volumes::delete::<VolumeConnector>)
            .returns_no_content(),
        Route::list_of::<Node, VolumeConnector>(CONNECTORS_OF_NODE, "List a node's connectors"),
        Route::post(
            CONNECTORS_OF_NODE,
            "Not supported: create connectors at /v1/volume/connectors",
            volumes::reject_malformed_uri,
        ),
        Route::list::<VolumeTarget>(TARGETS, "List volume targets"),
        Route::post(TARGETS, "Create a volume target", volumes::create::<VolumeTarget>)
            .creates::<VolumeTarget>(),
        Route::get(TARGET, "Show a volume target", volumes::get::<VolumeTarget>)
            .returns_record::<VolumeTarget>(),
        Route::patch(TARGET, "Change a volume target", volumes::update::<VolumeTarget>)
            .patches::<VolumeTarget>(),
        Route::delete(TARGET, "Delete a volume target", volumes::delete::<VolumeTarget>).returns_no_content(),
        Route::list_of::<Node, VolumeTarget>(TARGETS_OF_NODE, "List a node's targets"),
        Route::post(
            TARGETS_OF_NODE,
            "Not supported: create targets at /v1/volume/targets",
            volumes::reject_malformed_uri,
        ),
    ];
    routes.into_iter().map(|route| route.since(32)).collect()
}

fn drivers() -> Vec<Route> {
    vec![
        Route::get("/v1/drivers", "List drivers", drivers::list).query(&["type", "detail"]),
        Route::get("/v1/drivers/properties", "List a driver's properties", drivers::properties_by_query)
            .query(&["driver_name"]),
        Route::get("/v1/drivers/{driver}", "Show a driver", drivers::get),
        Route::get("/v1/drivers/{driver}/properties", "List a driver's properties", drivers::properties),
    ]
}

fn chassis() -> Vec<Route> {
    const CHASSIS: &str = "/v1/chassis/{chassis}";
    vec![
        Route::list::<Chassis>("/v1/chassis", "List chassis"),
        Route::post("/v1/chassis", "Create a chassis", chassis::create).creates::<Chassis>().role(Admin),
        Route::detail::<Chassis>("/v1/chassis/detail", "List chassis with all their fields"),
        Route::get(CHASSIS, "Show a chassis", chassis::get).returns_record::<Chassis>(),
        Route::patch(CHASSIS, "Change a chassis", chassis::update).patches::<Chassis>(),
        Route::delete(CHASSIS, "Delete a chassis", chassis::delete).returns_no_content().role(Admin),
        Route::list_of::<Chassis, Node>("/v1/chassis/{chassis}/nodes", "List a chassis's nodes")
            .query(Node::FILTERS),
        Route::detail_of::<Chassis, Node>(
            "/v1/chassis/{chassis}/nodes/detail",
            "List a chassis's nodes with all their fields",
        )
        .query(Node::FILTERS),
    ]
}

fn unsupported() -> Vec<Route> {
    const CONSOLE: &str = "/v1/nodes/{node}/states/console";
    const NODE_METHOD: &str = "/v1/nodes/{node}/vendor_passthru/{method}";
    const DRIVER_METHOD: &str = "/v1/drivers/{driver}/vendor_passthru/{method}";
    let summary = "Not supported: no vendor methods";
    vec![
        Route::get(CONSOLE, "Show the console state: always disabled", unsupported::get_console).role(Member),
        Route::put(CONSOLE, "Not supported: no console", unsupported::set_console),
        Route::put(
            "/v1/nodes/{node}/states/raid",
            "Remove the target RAID configuration; others are not supported",
            raid::set_target_config,
        )
        .body(&["logical_disks"])
        .returns_no_content(),
        Route::put(
            "/v1/nodes/{node}/management/inject_nmi",
            "Not supported: no NMI",
            unsupported::inject_nmi,
        )
        .since(29),
        Route::get(
            "/v1/nodes/{node}/vendor_passthru/methods",
            "List vendor methods",
            unsupported::list_node_methods,
        )
        .role(Admin),
        Route::get(NODE_METHOD, summary, unsupported::call_node_method).role(Admin),
        Route::post(NODE_METHOD, summary, unsupported::call_node_method).role(Admin),
        Route::put(NODE_METHOD, summary, unsupported::call_node_method).role(Admin),
        Route::delete(NODE_METHOD, summary, unsupported::call_node_method).role(Admin),
        Route::get(
            "/v1/drivers/{driver}/vendor_passthru/methods",
            "List vendor methods",
            unsupported::list_driver_methods,
        )
        .role(Admin),
        Route::get(DRIVER_METHOD, summary, unsupported::call_driver_method).role(Admin),
        Route::post(DRIVER_METHOD, summary, unsupported::call_driver_method).role(Admin),
        Route::put(DRIVER_METHOD, summary, unsupported::call_driver_method).role(Admin),
        Route::delete(DRIVER_METHOD, summary, unsupported::call_driver_method).role(Admin),
        Route::get(
            "/v1/drivers/{driver}/raid/logical_disk_properties",
            "List the properties of logical disks",
            raid::get_logical_disk_properties,
        ),
        Route::get("/v1/lookup", "Not supported: no deploy agent", unsupported::lookup).since(22),
        Route::post("/v1/heartbeat/{node}", "Not supported: no deploy agent", unsupported::heartbeat)
            .body(&["callback_url", "agent_version"])
            .since(22),
    ]
}

/// volboot's extensions, absent from Ironic.
fn extensions() -> Vec<Route> {
    const FALLBACK: &str = "/v1/nodes/{node}/fallback";
    const ONCE: &str = "/v1/nodes/{node}/boot-once";
    let routes = vec![
        Route::get("/v1/machines", "List machines, the most recent event first", machines::list)
            .query(&machines::ARGUMENTS),
        Route::get("/v1/machines/{machine}", "Show a machine and its timeline", machines::get),
        Route::get("/v1/nodes/{node}/boot-history", "Show a node's boot history", machines::boot_history),
        Route::get("/v1/nodes/{node}/boot-preview", "Preview a node's boot script", preview::get)
            .query(&["platform"]),
        Route::get(ONCE, "Show a node's one-time boot", boot_once::get),
        Route::put(ONCE, "Set a node's one-time boot", boot_once::set).body(&boot_once::ARGUMENTS),
        Route::delete(ONCE, "Cancel a node's one-time boot", boot_once::cancel).returns_no_content(),
        Route::get("/v1/nodes/{node}/volume-check", "Check a node's volumes", volume_check::get).role(Member),
        Route::get(FALLBACK, "Show a node's fallback", fallback::get),
        Route::put(FALLBACK, "Set a node's fallback", fallback::put).body(&fallback::ARGUMENTS),
        Route::delete(FALLBACK, "Remove a node's fallback", fallback::delete).returns_no_content(),
        Route::post(
            "/v1/nodes/{node}/fallback/promote",
            "Exchange a node's boot volume and its fallback",
            fallback::promote,
        ),
        Route::post(
            "/v1/nodes/{node}/fallback/retry",
            "Boot a node from its own volume again",
            fallback::retry,
        ),
        Route::get("/v1/events", "Stream events", events::subscribe)
            .query(&["machine", "node"])
            .content_type("text/event-stream"),
        Route::get("/v1/appliance", "Show volboot's status", appliance::get),
        Route::put("/v1/appliance/log", "Change the log filter until the next reload", appliance::set_log)
            .body(&["filter"])
            .role(Admin)
            .returns_no_content(),
        Route::post(
            "/v1/enrollments",
            "Create a node with port, connector and target atomically",
            enroll::create,
        )
        .body(&enroll::ARGUMENTS)
        .role(Admin)
        .returns_created(),
        Route::get("/v1/metrics", "Export metrics, also at /metrics", metrics::get)
            .content_type("application/openmetrics-text"),
    ];
    routes.into_iter().map(Route::extension).collect()
}
