//! `/v1/nodes/{node}/bios`: the BIOS settings of a node. The interface `no-bios` reads none.

use serde_json::json;

use super::fault::Fault;
use super::node::find_node;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, PathParam};
use super::route::Route;

/// The operations on BIOS settings.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/nodes/{node}/bios", "List a node's BIOS settings: none", list).since(40),
        Route::get("/v1/nodes/{node}/bios/{setting}", "Show a BIOS setting: always missing", get).since(40),
    ]
}

/// `GET /v1/nodes/{node}/bios`
pub(super) async fn list(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    // `detail` and `fields` came with 1.74.
    request.query.reject_unknown(&[])?;
    find_node(&request, &ident).await?;
    Ok(Reply::Json(json!({"bios": []})))
}

/// `GET /v1/nodes/{node}/bios/{setting}`
pub(super) async fn get(
    request: ApiRequest,
    PathParam((ident, setting)): PathParam<(String, String)>,
) -> HandlerResult {
    request.query.reject_unknown(&[])?;
    let node = find_node(&request, &ident).await?;
    Err(Fault::NotFound(format!("Node {} doesn't have a BIOS setting '{setting}'", node.uuid)))
}
