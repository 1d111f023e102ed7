//! `/` and `/v1`: where clients begin, and learn the versions and what there is.

use serde_json::{Map, Value, json};

use super::call::Call;
use super::reply::{Answer, Reply};
use super::version::Version;

/// `GET /`
pub(super) async fn versions(call: Call) -> Answer {
    let version = version(&call);
    Ok(Reply::Shown(json!({
        "name": "OpenStack Ironic API",
        "description": "volboot: bare machines that boot from volumes, by the API of OpenStack's bare metal service.",
        "default_version": version,
        "versions": [version],
    })))
}

/// `GET /v1`
pub(super) async fn v1(call: Call) -> Answer {
    let mut body = Map::new();
    body.insert("id".into(), "v1".into());
    body.insert("version".into(), version(&call));
    body.insert(
        "links".into(),
        json!([
            {"rel": "self", "href": call.links.to("")},
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
    let resources =
        [("nodes", 1), ("ports", 1), ("chassis", 1), ("drivers", 1), ("portgroups", 23), ("volume", 32)];
    for (name, since) in resources {
        if call.needs(since).is_ok() {
            body.insert(name.into(), call.links.pair(&format!("{name}/")));
        }
    }
    Ok(Reply::Shown(body.into()))
}

fn version(call: &Call) -> Value {
    json!({
        "id": "v1",
        "status": "CURRENT",
        "min_version": Version::MIN.to_string(),
        "version": Version::MAX.to_string(),
        "links": [{"rel": "self", "href": call.links.to("")}],
    })
}
