//! The provision verbs that a node's state allows: manage, provide, deploy, deploy again, undeploy.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;

use super::group::{ActionGroup, action_path};
use super::page::ActionPage;
use super::{find_node, no_action};
use crate::model::{Node, ProvisionState};
use crate::operator::{Operator, RequestedVerb, Verb, check_unprotected};
use crate::web::SharedState;
use crate::web::format::{Severity, to_sentence};
use crate::web::page::ErrorPage;

/// A verb that the page offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OfferedVerb {
    Manage,
    Provide,
    Deploy,
    Rebuild,
    Undeploy,
}

impl OfferedVerb {
    const ALL: [Self; 5] = [Self::Deploy, Self::Undeploy, Self::Rebuild, Self::Provide, Self::Manage];

    /// Parses the last segment of the path.
    fn parse(name: &str) -> Result<Self, ErrorPage> {
        let mut all = Self::ALL.into_iter();
        all.find(|verb| verb.path().strip_prefix("provision/") == Some(name)).ok_or_else(no_action)
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Manage => "Manage",
            Self::Provide => "Provide",
            Self::Deploy => "Deploy",
            Self::Rebuild => "Deploy again",
            Self::Undeploy => "Undeploy",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Manage => "provision/manage",
            Self::Provide => "provision/provide",
            Self::Deploy => "provision/deploy",
            Self::Rebuild => "provision/rebuild",
            Self::Undeploy => "provision/undeploy",
        }
    }

    /// The verb, and Ironic's name for it.
    const fn verb(self) -> (Verb, &'static str) {
        match self {
            Self::Manage => (Verb::Manage, "manage"),
            Self::Provide => (Verb::Provide, "provide"),
            Self::Deploy => (Verb::Active, "active"),
            Self::Rebuild => (Verb::Rebuild, "rebuild"),
            Self::Undeploy => (Verb::Deleted, "deleted"),
        }
    }

    /// Whether the action's page asks first.
    fn asks(self, node: &Node) -> bool {
        match self {
            Self::Manage | Self::Provide => false,
            // The machine is switched off first.
            Self::Deploy => node.has_bmc(),
            Self::Rebuild | Self::Undeploy => true,
        }
    }

    fn page(self, operator: &Operator, node: &Node) -> ActionPage {
        let heading = format!("{}: {}", self.label(), node.label());
        let page = ActionPage::new(node, heading, action_path(node, self.path()), self.label());
        let has_bmc = node.has_bmc();
        match self {
            Self::Manage if has_bmc => page.text("volboot logs in to the BMC to verify the node's credentials."),
            Self::Manage | Self::Provide => page,
            Self::Deploy | Self::Rebuild if has_bmc => page.destructive().text(
                "The machine is switched off, its volumes are attached, and it is switched on to boot from them.",
            ),
            Self::Deploy | Self::Rebuild => {
                page.text("The machine gets its volumes at its next boot. Switch it on by hand.")
            }
            Self::Undeploy => {
                let page = page.destructive();
                let page = if has_bmc {
                    page.text("The machine is switched off, then its volumes are released.")
                } else {
                    page.text("Switch the machine off first: its volumes are released while it may run.")
                };
                if operator.keep_targets_on_undeploy {
                    page.text("The node keeps its volume targets, and gets no volumes until it is deployed again.")
                } else {
                    page.text("The node's volume targets are deleted. The volumes themselves stay.")
                }
            }
        }
    }
}

pub(super) fn router() -> Router<SharedState> {
    Router::new().route("/ui/nodes/{node}/provision/{verb}", get(ask).post(submit))
}

/// The provision state, and the verbs that it allows.
pub(super) fn group(node: &Node) -> ActionGroup {
    use ProvisionState::{Active, Available, Deleting, Deploying, Enroll, Manageable, Verifying};
    let state = node.provision_state;
    let severity = match state {
        Active => Severity::Success,
        Available | Enroll | Manageable => Severity::Neutral,
        Deleting | Deploying | Verifying => Severity::Info,
        _ if node.target_provision_state.is_some() => Severity::Info,
        _ => Severity::Error,
    };
    let mut group = ActionGroup::new("Deployment").state(severity, state.as_str());
    if let Some(error) = &node.last_error {
        group = group.note(to_sentence(error));
    }
    if let Err(refusal) = check_unprotected(node) {
        group = group.note(to_sentence(&refusal));
    }
    if node.reservation.is_some() {
        return group;
    }
    for offered in OfferedVerb::ALL {
        if offered.verb().0.end_state(state).is_none() {
            continue;
        }
        let path = action_path(node, offered.path());
        group = if offered.asks(node) {
            group.link(offered.label(), path)
        } else {
            group.button(offered.label(), path)
        };
    }
    group
}

/// `GET /ui/nodes/{node}/provision/{verb}`
async fn ask(
    State(operator): State<SharedState>,
    Path((ident, offered)): Path<(String, String)>,
) -> Result<Response, ErrorPage> {
    let offered = OfferedVerb::parse(&offered)?;
    let node = find_node(&operator, &ident).await?;
    Ok(offered.page(&operator, &node).ask())
}

/// `POST /ui/nodes/{node}/provision/{verb}`
async fn submit(
    State(operator): State<SharedState>,
    Path((ident, offered)): Path<(String, String)>,
) -> Result<Response, ErrorPage> {
    let offered = OfferedVerb::parse(&offered)?;
    let node = find_node(&operator, &ident).await?;
    let (verb, name) = offered.verb();
    let requested = RequestedVerb { verb, name, has_drive: false };
    let result = operator.start_verb(&node, requested, Timestamp::now()).await;
    Ok(offered.page(&operator, &node).finish(&node, result))
}
