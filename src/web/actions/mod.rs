//! The actions on a node that the page of its machine offers. Each has a file with its controls, form and handlers.
//!
//! | file | action |
//! |---|---|
//! | `boot_once` | set a one-time boot, cancel it |
//! | `power` | boot, power on and off, reboot |
//! | `deployment` | the provision verbs: manage, provide, deploy, rebuild, undeploy |
//! | `maintenance` | set maintenance with a reason, clear it |
//! | `fallback` | set and remove the fallback, promote it, retry the own volume |
//! | `delete` | delete the node |
//! | `volumes` | add, change and remove a volume |
//!
//! `group`, `page` and `basis` are what they share: an [`ActionGroup`] is a row of controls on the machine's page, and an
//! [`ActionPage`](page::ActionPage) asks for values or a confirmation. A control that destroys nothing and needs no value is a button that
//! acts at once; all others are links to the action's page. A successful action redirects to the machine's page. A
//! refused one shows the action's page again, with the reason. A [`Basis`](basis::Basis) keeps a page that is out of date from an action that it
//! would not offer any more. The rules are those of [`crate::operator`].
//!
//! A new action is a file with `group` and `router`, named in [`list_groups`] and [`router`].

mod basis;
mod boot_once;
mod delete;
mod deployment;
mod fallback;
mod group;
mod maintenance;
mod page;
mod power;
mod volumes;

use axum::Router;
use jiff::Timestamp;

use super::SharedState;
use super::page::ErrorPage;
use crate::model::{BootOnce, Node};
use crate::operator::{FallbackStatus, Operator};
pub(super) use group::ActionGroup;
pub(super) use volumes::{link_to_addition, link_to_change, link_to_removal};

/// The routes of all actions.
pub(super) fn router() -> Router<SharedState> {
    Router::new()
        .merge(power::router())
        .merge(boot_once::router())
        .merge(fallback::router())
        .merge(deployment::router())
        .merge(maintenance::router())
        .merge(volumes::router())
        .merge(delete::router())
}

/// The controls of a node with its one-time boot and its fallback, as rows of its machine's page.
pub(super) fn list_groups(
    node: &Node,
    once: Option<&BootOnce>,
    fallback: &FallbackStatus,
    now: Timestamp,
) -> Vec<ActionGroup> {
    vec![
        power::group(node),
        boot_once::group(node, once, now),
        fallback::group(node, fallback, now),
        deployment::group(node),
        maintenance::group(node),
        delete::group(node),
    ]
}

/// The page for an action that does not exist.
fn no_action() -> ErrorPage {
    ErrorPage::not_found("There is no such action.")
}

/// Finds the node of an action's path.
async fn find_node(operator: &Operator, ident: &str) -> Result<Node, ErrorPage> {
    let node = operator.find_node(ident).await?;
    node.ok_or_else(|| ErrorPage::not_found(format!("There is no node \"{ident}\".")))
}
