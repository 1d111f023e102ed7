//! `volume-check` of a node: checks the node's volumes as its machine would meet them. Changes nothing.
//!
//! A volboot extension; Ironic has no such path.

use serde_json::{Value, json};

use super::fault::Fault;
use super::node::find_node;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, PathParam};

/// `GET /v1/nodes/{node}/volume-check`
pub(super) async fn get(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    request.query.reject_unknown(&[])?;
    let node = find_node(&request, &ident).await?;
    let report = request.operator.check_volumes(&node).await?.ok_or(Fault::Internal)?;
    let mut document = json!({"node": {"uuid": node.uuid, "name": node.name}});
    if let (Value::Object(document), Ok(Value::Object(report))) =
        (&mut document, serde_json::to_value(&*report))
    {
        document.extend(report);
    }
    Ok(Reply::Json(document))
}
