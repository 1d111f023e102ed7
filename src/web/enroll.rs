//! `/ui/machines/{machine}/enroll`: enrolls an unknown machine as a new node.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use jiff::Timestamp;

use super::enroll_form::{EnrollForm, SubmittedForm};
use super::page::{ErrorPage, Page};
use super::{SharedState, machine, machines};
use crate::operator::EnrollError;
use crate::store::InventoryError;
use crate::timeline::MachineId;

/// `POST /ui/machines/{machine}/enroll`
pub(super) async fn submit(
    State(operator): State<SharedState>,
    Path(id): Path<String>,
    axum::Form(submitted): axum::Form<SubmittedForm>,
) -> Result<Response, ErrorPage> {
    let id = machine::parse_machine_id(&id)?;
    let MachineId::Mac(mac) = id else {
        let text = "A machine can be enrolled only if its MAC address is known.";
        return Err(ErrorPage::not_found(text));
    };
    match operator.enroll(submitted.to_request(mac), Timestamp::now()).await {
        Ok(_) => Ok(Redirect::to(&machines::machine_link(id)).into_response()),
        Err(EnrollError::Refused(refusals)) => {
            let form = EnrollForm::refused(submitted, &refusals);
            let page = machine::build_page(&operator, id, form).await?;
            Ok(Page(StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
        Err(EnrollError::Inventory(InventoryError::Store(error))) => Err(error.into()),
        Err(EnrollError::Inventory(
            InventoryError::Duplicate(_) | InventoryError::NodeNotFound(_) | InventoryError::ClaimEnded(_),
        )) => Err(ErrorPage::internal()),
    }
}
