//! Boot, power on, power off and reboot. A machine without a BMC is switched by hand, and its state recorded here.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;
use serde::Deserialize;

use super::group::{ActionGroup, action_path};
use super::page::{ActionPage, FieldKind, FormField};
use super::{find_node, no_action};
use crate::model::{Node, PowerState};
use crate::operator::{check_unreserved, find_power_obstacle};
use crate::web::SharedState;
use crate::web::format::{Severity, to_sentence};
use crate::web::page::ErrorPage;

/// What an operator does with the power of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PowerControl {
    Boot,
    On,
    Off,
    Reboot,
}

/// The form of a control.
#[derive(Debug, Default, Deserialize)]
struct PowerForm {
    /// Non-empty: the operating system takes part.
    #[serde(default)]
    soft: String,
}

impl PowerControl {
    /// Parses the last segment of the path.
    fn parse(name: &str) -> Result<Self, ErrorPage> {
        let mut all = [Self::Boot, Self::On, Self::Off, Self::Reboot].into_iter();
        all.find(|control| control.path().strip_prefix("power/") == Some(name)).ok_or_else(no_action)
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Boot => "Boot",
            Self::On => "Power on",
            Self::Off => "Power off",
            Self::Reboot => "Reboot",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Boot => "power/boot",
            Self::On => "power/on",
            Self::Off => "power/off",
            Self::Reboot => "power/reboot",
        }
    }

    /// Ironic's name of the power change.
    const fn target(self, is_soft: bool) -> &'static str {
        match (self, is_soft) {
            (Self::On, _) => "power on",
            (Self::Off, false) => "power off",
            (Self::Off, true) => "soft power off",
            (Self::Boot | Self::Reboot, false) => "rebooting",
            (Self::Boot | Self::Reboot, true) => "soft rebooting",
        }
    }

    /// Whether a running machine loses what it does. Without a BMC, the change is only recorded.
    fn is_destructive(self, node: &Node) -> bool {
        self != Self::On && node.has_bmc() && node.recorded_power_state() != Some(PowerState::Off)
    }

    fn page(self, node: &Node) -> ActionPage {
        let label = node.label();
        let path = action_path(node, self.path());
        if !node.has_bmc() {
            let page = ActionPage::new(node, format!("Record: {}", self.target(false)), path, "Record");
            return page.text(
                "Nothing is switched: volboot records the state that you have switched the machine to.",
            );
        }
        let page = ActionPage::new(node, format!("{}: {label}", self.label()), path, self.label());
        if !self.is_destructive(node) {
            return page;
        }
        let page = page.destructive();
        match self {
            Self::Boot => page.text(
                "The machine is switched off at once, and boots from the network. What runs on it is lost, and \
                 open files may be damaged.",
            ),
            Self::On => page,
            Self::Off | Self::Reboot => page
                .text("Unless the operating system takes part, what runs on the machine is lost, and open files \
                       may be damaged.")
                .field(FormField {
                    name: "soft",
                    label: "Let the operating system shut down first",
                    kind: FieldKind::Checkbox,
                    ..FormField::default()
                }),
        }
    }
}

pub(super) fn router() -> Router<SharedState> {
    Router::new().route("/ui/nodes/{node}/power/{control}", get(ask).post(submit))
}

/// The power state, and the controls that make sense in it.
pub(super) fn group(node: &Node) -> ActionGroup {
    let state = node.recorded_power_state();
    let group = ActionGroup::new("Power");
    let mut group = match state {
        Some(PowerState::On) => group.state(Severity::Success, "on"),
        Some(PowerState::Off) => group.state(Severity::Neutral, "off"),
        None => group.state(Severity::Neutral, "unknown"),
    };
    if let Some(target) = node.target_power_state.filter(|_| node.reservation.is_some()) {
        return group.note(format!("Switching: {} is next.", target.as_str()));
    }
    if let Err(refusal) = check_unreserved(node) {
        return group.note(to_sentence(&refusal));
    }
    let controls: &[PowerControl] = match (node.has_bmc(), state) {
        (true, Some(PowerState::Off)) => &[PowerControl::Boot, PowerControl::On],
        (true, Some(_)) => &[PowerControl::Boot, PowerControl::Reboot, PowerControl::Off],
        (true, None) => &[PowerControl::Boot, PowerControl::On, PowerControl::Off],
        (false, Some(PowerState::Off)) => &[PowerControl::On],
        (false, Some(_)) => &[PowerControl::Off],
        (false, None) => &[PowerControl::On, PowerControl::Off],
    };
    if let Some(obstacle) = find_power_obstacle(node) {
        group = group.note(to_sentence(&obstacle));
        if node.has_bmc() {
            return group;
        }
        for control in controls {
            let label = if *control == PowerControl::On { "Record: on" } else { "Record: off" };
            group = group.button(label, action_path(node, control.path()));
        }
        return group;
    }
    for control in controls {
        let path = action_path(node, control.path());
        group = if control.is_destructive(node) {
            group.link(control.label(), path)
        } else {
            group.button(control.label(), path)
        };
    }
    group
}

/// `GET /ui/nodes/{node}/power/{control}`
async fn ask(
    State(operator): State<SharedState>,
    Path((ident, control)): Path<(String, String)>,
) -> Result<Response, ErrorPage> {
    let control = PowerControl::parse(&control)?;
    let node = find_node(&operator, &ident).await?;
    Ok(control.page(&node).ask())
}

/// `POST /ui/nodes/{node}/power/{control}`
async fn submit(
    State(operator): State<SharedState>,
    Path((ident, control)): Path<(String, String)>,
    axum::Form(form): axum::Form<PowerForm>,
) -> Result<Response, ErrorPage> {
    let control = PowerControl::parse(&control)?;
    let node = find_node(&operator, &ident).await?;
    let now = Timestamp::now();
    let result = if control == PowerControl::Boot {
        operator.start_boot(&node, now).await
    } else {
        let target = control.target(!form.soft.is_empty());
        operator.set_power(&node, &node.label(), target, None, now).await
    };
    Ok(control.page(&node).finish(&node, result))
}
