//! [`ActionPage`]: the page of one action, with its effects, its fields, and the reason of a refusal.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use super::basis::Basis;
use crate::model::Node;
use crate::operator::OperationRefusal;
use crate::store::InventoryError;
use crate::web::format::to_sentence;
use crate::web::page::{ErrorPage, Page};

/// The page of an action. Secrets are never shown again.
#[derive(Debug, Template)]
#[template(path = "ui/action.html")]
pub(super) struct ActionPage {
    section: &'static str,
    /// The node's label and page.
    label: String,
    link: String,
    heading: String,
    /// What the action does, in sentences.
    texts: Vec<String>,
    /// Where the form is sent.
    path: String,
    /// What the page shows; `None`: the action is the same in every state.
    basis: Option<Basis>,
    fields: Vec<FormField>,
    button: &'static str,
    /// Whether the action destroys something.
    is_destructive: bool,
    refusal: Option<String>,
}

/// A field of an action's form.
#[derive(Debug, Default)]
pub(super) struct FormField {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) kind: FieldKind,
    pub(super) value: String,
    pub(super) hint: &'static str,
    pub(super) is_required: bool,
}

/// The kinds of fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum FieldKind {
    /// One line of text.
    #[default]
    Text,
    /// A secret.
    Secret,
    /// A box to check, with the value `on`.
    Checkbox,
}

impl FormField {
    /// The field for a target's CHAP user.
    pub(super) fn chap_user(value: &str) -> Self {
        Self {
            name: "user",
            label: "CHAP user",
            value: value.to_owned(),
            hint: "Only for a target that requires CHAP.",
            ..Self::default()
        }
    }

    /// The field for a target's CHAP secret.
    pub(super) fn chap_secret() -> Self {
        Self { name: "secret", label: "CHAP secret", kind: FieldKind::Secret, ..Self::default() }
    }

    /// The box that permits a volume of another node.
    pub(super) fn shared() -> Self {
        Self {
            name: "shared",
            label: "The volume may be used by another node too",
            kind: FieldKind::Checkbox,
            ..Self::default()
        }
    }
}

impl ActionPage {
    /// A page for an action of a node, whose form is sent to `path` by a button.
    pub(super) fn new(node: &Node, heading: impl Into<String>, path: String, button: &'static str) -> Self {
        Self {
            section: "action",
            label: node.label(),
            link: node_link(node),
            heading: heading.into(),
            texts: Vec::new(),
            path,
            basis: None,
            fields: Vec::new(),
            button,
            is_destructive: false,
            refusal: None,
        }
    }

    /// Adds a sentence.
    pub(super) fn text(mut self, text: impl Into<String>) -> Self {
        self.texts.push(text.into());
        self
    }

    /// Adds a field.
    pub(super) fn field(mut self, field: FormField) -> Self {
        self.fields.push(field);
        self
    }

    /// Adds what the page shows.
    pub(super) fn basis(self, basis: Basis) -> Self {
        Self { basis: Some(basis), ..self }
    }

    /// Marks the action as one that destroys something.
    pub(super) fn destructive(self) -> Self {
        Self { is_destructive: true, ..self }
    }

    /// The response that asks.
    pub(super) fn ask(self) -> Response {
        Page(StatusCode::OK, self).into_response()
    }

    /// The response after an attempt: the node's page, or this page with the reason of the refusal.
    pub(super) fn finish(self, node: &Node, result: Result<(), OperationRefusal>) -> Response {
        match result {
            Ok(()) => Redirect::to(&node_link(node)).into_response(),
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// The response to a refused attempt.
    pub(super) fn refuse(self, refusal: OperationRefusal) -> Response {
        let status = match &refusal {
            OperationRefusal::Reserved { .. }
            | OperationRefusal::Conflict(_)
            | OperationRefusal::Inventory(
                InventoryError::Duplicate(_)
                | InventoryError::NodeNotFound(_)
                | InventoryError::ClaimEnded(_),
            ) => StatusCode::CONFLICT,
            OperationRefusal::Invalid(_) | OperationRefusal::DriverInfo(_) => StatusCode::BAD_REQUEST,
            OperationRefusal::Protected(_) => StatusCode::FORBIDDEN,
            OperationRefusal::Failed(_) => StatusCode::BAD_GATEWAY,
            OperationRefusal::NotFound => StatusCode::NOT_FOUND,
            OperationRefusal::Inventory(InventoryError::Store(_)) => {
                let OperationRefusal::Inventory(InventoryError::Store(error)) = refusal else {
                    return ErrorPage::internal().into_response();
                };
                return ErrorPage::from(error).into_response();
            }
        };
        self.reject(status, to_sentence(&refusal))
    }

    /// The response if the page that sent the form is out of date.
    pub(super) fn reject_outdated(self) -> Response {
        let reason = "This has changed since the page was made. Please check it again before you go on.";
        self.reject(StatusCode::CONFLICT, reason.to_owned())
    }

    /// The response to values that are refused.
    pub(super) fn reject(self, status: StatusCode, reason: String) -> Response {
        Page(status, Self { refusal: Some(reason), ..self }).into_response()
    }
}

/// The link to the page of a node's machine.
fn node_link(node: &Node) -> String {
    format!("/ui/nodes/{}", node.uuid)
}
