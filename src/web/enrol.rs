//! Enrolment by a click: a machine that nobody knew becomes a node with its card, its name in the storage network, and
//! the volume it boots from, in one step or none.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;

use super::Shared;
use super::draw::{Page, Trouble};
use super::{machine, machines};
use crate::model::{Chap, Enrolment, Iqn, Mac, Source};
use crate::store::{InventoryError, Unique};
use crate::timeline::Key;

/// The authority of the initiator names that are proposed: the one that Ironic's documents use.
const AUTHORITY: &str = "iqn.2017-08.org.openstack.";

/// What is sent to enrol a machine. Fields that a browser leaves out are empty.
#[derive(Deserialize)]
pub(super) struct Sent {
    #[serde(default)]
    name: String,
    #[serde(default)]
    iqn: String,
    #[serde(default)]
    volume: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    secret: SecretString,
}

/// The form, with what is wrong with what was sent. The secret has to be given again: no page shows one.
#[derive(Debug, Default)]
pub(super) struct Form {
    pub(super) name: String,
    pub(super) iqn: String,
    pub(super) volume: String,
    pub(super) user: String,
    pub(super) faults: Vec<Fault>,
}

/// What is wrong with a field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) field: &'static str,
    pub(super) text: String,
}

impl Form {
    /// One to be filled in.
    pub(super) fn empty(key: Key) -> Self {
        let iqn = match key {
            Key::Mac(mac) => format!("{AUTHORITY}{}", mac.to_string().replace(':', "-")),
            Key::Address(_) => String::new(),
        };
        Self { iqn, ..Self::default() }
    }

    /// What is wrong with a field, if something is.
    pub(super) fn fault(&self, field: &str) -> Option<&str> {
        self.faults.iter().find(|fault| fault.field == field).map(|fault| fault.text.as_str())
    }
}

/// `POST /ui/machines/{machine}/enrol`
pub(super) async fn enrol(
    State(state): State<Shared>,
    Path(id): Path<String>,
    axum::Form(sent): axum::Form<Sent>,
) -> Result<Response, Trouble> {
    let key = machine::key(&id)?;
    let Key::Mac(mac) = key else {
        return Err(Trouble::not_found("Only a machine whose card is known can be enrolled."));
    };
    let faults = match enrolment(mac, &sent) {
        Ok(enrolment) => match state.inventory.enrol(&enrolment.records(Timestamp::now())).await {
            Ok(()) => return Ok(Redirect::to(&machines::link(key)).into_response()),
            Err(InventoryError::Duplicate(taken)) => vec![duplicate(&taken)],
            Err(InventoryError::Store(error)) => return Err(error.into()),
            Err(InventoryError::NoNode(_)) => return Err(Trouble::broken()),
        },
        Err(faults) => faults,
    };
    let Sent { name, iqn, volume, user, secret: _ } = sent;
    let form = Form { name, iqn, volume, user, faults };
    let page = machine::draw(&state, key, form).await?;
    Ok(Page(StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
}

/// What was meant, or all that is wrong with it.
fn enrolment(mac: Mac, sent: &Sent) -> Result<Enrolment, Vec<Fault>> {
    use secrecy::ExposeSecret as _;
    let mut faults = Vec::new();
    let mut fault = |field, text: String| faults.push(Fault { field, text });
    let name = sent.name.trim();
    if !Enrolment::is_name(name) {
        fault("name", "A name has letters, digits, and - . _ ~, and is no UUID.".to_owned());
    }
    let initiator = sent.iqn.trim().parse::<Iqn>().map_err(|error| fault("iqn", sentence(&error))).ok();
    let volume = sent.volume.trim().parse::<Source>().map_err(|error| fault("volume", sentence(&error))).ok();
    let secret = sent.secret.expose_secret();
    let chap = match (sent.user.trim(), secret.is_empty()) {
        ("", true) => None,
        ("", false) => {
            fault("user", "The secret is whose?".to_owned());
            None
        }
        (_, true) => {
            fault("secret", "The user's secret is missing.".to_owned());
            None
        }
        (user, false) => Some(Chap { username: user.to_owned(), password: sent.secret.clone() }),
    };
    if let (Some(Source::Cinder(_)), Some(_)) = (&volume, &chap) {
        fault("user", "Cinder says by itself who may log in: leave user and secret empty.".to_owned());
    }
    match (initiator, volume) {
        (Some(initiator), Some(volume)) if faults.is_empty() => {
            Ok(Enrolment { name: name.to_owned(), macs: vec![mac], initiator, volume, chap })
        }
        _ => Err(faults),
    }
}

/// A fault, as it stands by itself.
fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

/// Another has it already.
fn duplicate(taken: &Unique) -> Fault {
    let field = match taken {
        Unique::Connector(..) => "iqn",
        Unique::Address(_) => "machine",
        _ => "name",
    };
    Fault { field, text: format!("Another node has {taken}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(name: &str, iqn: &str, volume: &str, user: &str, secret: &str) -> Sent {
        Sent {
            name: name.into(),
            iqn: iqn.into(),
            volume: volume.into(),
            user: user.into(),
            secret: secret.to_owned().into(),
        }
    }

    const IQN: &str = "iqn.2017-08.org.openstack.web-1";
    const TARGET: &str = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:disk-1";
    const VOLUME: &str = "0b1d4a52-6d5f-4d21-9a7e-0e8a4d0a6a11";

    #[test]
    fn what_is_wrong_is_told_at_its_field_all_at_once() {
        let fields = |sent: Sent| {
            let faults = enrolment(Mac::new([2, 0, 0, 0, 0, 1]), &sent).expect_err("faults");
            faults.into_iter().map(|fault| fault.field).collect::<Vec<_>>()
        };
        assert_eq!(fields(sent("", "", "", "", "")), ["name", "iqn", "volume"]);
        assert_eq!(fields(sent(VOLUME, IQN, TARGET, "", "")), ["name"]);
        assert_eq!(fields(sent("web 1", IQN, TARGET, "", "secret")), ["name", "user"]);
        assert_eq!(fields(sent("web-1", IQN, TARGET, "ann", "")), ["secret"]);
        assert_eq!(fields(sent("web-1", IQN, VOLUME, "ann", "secret")), ["user"]);
    }

    #[test]
    fn what_is_right_is_taken_without_the_space_around_it() {
        let meant = enrolment(
            Mac::new([2, 0, 0, 0, 0, 1]),
            &sent(" web-1 ", &format!(" {IQN}"), &format!("{TARGET}\n"), " ann ", " secret "),
        )
        .expect("is right");
        assert_eq!((meant.name.as_str(), meant.initiator.as_str()), ("web-1", IQN));
        let chap = meant.chap.expect("credentials");
        assert_eq!(chap.username, "ann");
        // A secret may begin or end with a space.
        assert_eq!(secrecy::ExposeSecret::expose_secret(&chap.password), " secret ");
    }
}
