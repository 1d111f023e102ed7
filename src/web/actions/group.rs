//! [`ActionGroup`]: a row of controls on a machine's page, beside the state that they change.

use super::basis::Basis;
use crate::model::Node;
use crate::web::format::Severity;

/// The controls of one subject, with its state.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::web) struct ActionGroup {
    pub(in crate::web) heading: &'static str,
    /// The state, with its colour.
    pub(in crate::web) state: Option<(Severity, String)>,
    /// Why there are no controls, what is under way, or what went wrong.
    pub(in crate::web) notes: Vec<String>,
    pub(in crate::web) controls: Vec<Control>,
}

/// A control of an action.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::web) struct Control {
    pub(in crate::web) label: &'static str,
    /// The path of the action.
    pub(in crate::web) path: String,
    /// Whether the action's page comes first: it asks for values or a confirmation.
    pub(in crate::web) asks: bool,
    /// What the control was made for; `None`: the action is the same in every state.
    pub(in crate::web) basis: Option<Basis>,
}

impl ActionGroup {
    pub(super) fn new(heading: &'static str) -> Self {
        Self { heading, state: None, notes: Vec::new(), controls: Vec::new() }
    }

    pub(super) fn state(self, severity: Severity, text: impl Into<String>) -> Self {
        Self { state: Some((severity, text.into())), ..self }
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds a button that acts at once.
    pub(super) fn button(mut self, label: &'static str, path: String) -> Self {
        self.controls.push(Control { label, path, asks: false, basis: None });
        self
    }

    /// Adds a button that acts at once, on what the page shows.
    pub(super) fn button_for(mut self, label: &'static str, path: String, basis: Basis) -> Self {
        self.controls.push(Control { label, path, asks: false, basis: Some(basis) });
        self
    }

    /// Adds a link to the action's page.
    pub(super) fn link(mut self, label: &'static str, path: String) -> Self {
        self.controls.push(Control { label, path, asks: true, basis: None });
        self
    }
}

/// The path of an action of a node.
pub(super) fn action_path(node: &Node, action: &str) -> String {
    format!("/ui/nodes/{}/{action}", node.uuid)
}
