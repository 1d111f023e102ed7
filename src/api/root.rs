//! `/` and `/v1`: API discovery, the supported microversions and the resources.

use serde_json::{Map, Value, json};

use super::reply::{HandlerResult, Reply};
use super::request::ApiRequest;
use super::version::Microversion;

/// The resources, each with its first microversion.
const RESOURCES: [(&str, u16); 10] = [
    ("nodes", 1),
    ("ports", 1),
    ("chassis", 1),
    ("drivers", 1),
    // The deploy agent's endpoints. They answer with errors: no agent runs on the machines.
    ("lookup", 22),
    ("heartbeat", 22),
    ("portgroups", 23),
    ("volume", 32),
    ("conductors", 49),
    ("allocations", 52),
];

/// `GET /`
pub(super) async fn get_versions(request: ApiRequest) -> HandlerResult {
    let version = version(&request);
    Ok(Reply::Json(json!({
        "name": "OpenStack Ironic API",
        "description": "volboot: boots bare-metal machines from volumes, with the API of OpenStack's bare metal service.",
        "default_version": version,
        "versions": [version],
    })))
}

/// `GET /v1`
pub(super) async fn get_v1(request: ApiRequest) -> HandlerResult {
    let mut body = Map::new();
    body.insert("id".into(), "v1".into());
    body.insert("version".into(), version(&request));
    body.insert(
        "links".into(),
        json!([
            {"rel": "self", "href": request.links.url("")},
            {
                "rel": "describedby",
                "href": "https://docs.openstack.org/ironic/latest/contributor/webapi.html",
                "type": "text/html",
            },
        ]),
    );
    body.insert(
        "media_types".into(),
        json!({"base": "application/json", "type": "application/vnd.openstack.ironic.v1+json"}),
    );
    for (name, since) in RESOURCES {
        if request.require_version(since).is_ok() {
            body.insert(name.into(), request.links.pair(&format!("{name}/")));
        }
    }
    Ok(Reply::Json(body.into()))
}

fn version(request: &ApiRequest) -> Value {
    json!({
        "id": "v1",
        "status": "CURRENT",
        "min_version": Microversion::MIN.to_string(),
        "version": Microversion::MAX.to_string(),
        "links": [{"rel": "self", "href": request.links.url("")}],
    })
}
