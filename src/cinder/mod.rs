//! Cinder's attachments (step 7): where a volume is, asked of the service that knows.
//!
//! One method per call of the attachments API, as a bare machine needs them: *reserve* (create without connector, so
//! that the attachment's id is known before anything is exported), *export* (update with the connector), *complete*,
//! *delete*; and what there is to read. Which of them come when, and what is written down in between, is the
//! business of `attach`.
//!
//! Facts this rests on, measured on Cinder 28: only *export* asks the backend, and repeats the export of a target that
//! was lost; reading an attachment repeats what the last export said that was answered. *Export* sets volume and attachment back to
//! `attaching` until *complete*. The answers to *reserve* and *export* show a status that is not yet true, so nobody
//! here looks at it.
//!
//! The one invariant: an error tells whether Cinder *said no* or is *away*, because the two lead to opposite ends.

mod answer;
mod call;
#[cfg(test)]
mod tests;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};

pub use answer::{Attachment, Holder, Volume};
use answer::{AttachmentBody, AttachmentsBody, VolumeBody};
pub use call::{Endpoint, Patience};

use crate::keystone::Session;
use crate::model::Connector;
use crate::telemetry::Metrics;

/// The version asked for: the first with which an attachment can be completed. What needs a later one says so.
/// <https://docs.openstack.org/cinder/latest/contributor/api_microversion_history.html>
const MICROVERSION: &str = "3.44";
/// The first with which an attachment has a mode.
const MODE_MICROVERSION: &str = "3.54";

/// A Cinder. Cheap to clone; every clone uses the same connections and the same token.
#[derive(Debug, Clone)]
pub struct Cinder {
    session: Session,
    http: reqwest::Client,
    endpoint: Endpoint,
    patience: Patience,
    metrics: Metrics,
}

/// A call that did not do what it should. No text in it holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CinderError {
    /// It does not answer, or Keystone does not, or it answers that it cannot work (no connection, a time-out, 5xx, 401
    /// with a new token). What was asked may have been done, or may be done later.
    #[error("{0}")]
    Away(String),
    /// There is no such volume or attachment, or not for this project (404).
    #[error("{0}")]
    Missing(String),
    /// It said no: 400, 403, 409, 413, …
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Cinder's own words.
        message: String,
    },
}

impl Cinder {
    /// A Cinder at an endpoint, asked with a session's tokens.
    pub fn new(
        session: Session,
        http: reqwest::Client,
        endpoint: Endpoint,
        patience: Patience,
        metrics: Metrics,
    ) -> Self {
        Self { session, http, endpoint, patience, metrics }
    }

    /// Whether it answers at all. Reads one volume at the most.
    pub async fn ping(&self) -> Result<(), CinderError> {
        self.read("ping", "volumes?limit=1").await.map(drop)
    }

    /// A volume, and who holds it.
    pub async fn volume(&self, id: &str) -> Result<Volume, CinderError> {
        let answer = self.read("volume", &format!("volumes/{}", segment(id))).await?;
        call::parsed::<VolumeBody>(answer).map(|body| body.volume)
    }

    /// All attachments of a volume that this project may see.
    pub async fn attachments_of(&self, volume: &str) -> Result<Vec<Attachment>, CinderError> {
        let answer =
            self.read("attachments", &format!("attachments/detail?volume_id={}", segment(volume))).await?;
        call::parsed::<AttachmentsBody>(answer).map(|body| body.attachments)
    }

    /// One attachment.
    pub async fn attachment(&self, id: &str) -> Result<Attachment, CinderError> {
        let answer = self.read("attachment", &format!("attachments/{}", segment(id))).await?;
        call::parsed::<AttachmentBody>(answer).map(|body| body.attachment)
    }

    /// Creates an attachment without connector; the volume is reserved then, and nothing is exported yet. Returns its
    /// id.
    pub async fn reserve(&self, volume: &str, read_only: bool) -> Result<String, CinderError> {
        let mut attachment = json!({"volume_uuid": volume});
        let version = if read_only {
            attachment["mode"] = "ro".into();
            MODE_MICROVERSION
        } else {
            MICROVERSION
        };
        let body = json!({"attachment": attachment});
        let answer = self.call("reserve", Method::POST, "attachments", version, Some(body)).await?;
        call::parsed::<AttachmentBody>(answer).map(|body| body.attachment.id)
    }

    /// Gives an attachment its connector: the backend exports the volume, or does so again. Returns how it is
    /// reached.
    pub async fn export(&self, id: &str, connector: &Connector) -> Result<Attachment, CinderError> {
        let body = json!({"attachment": {"connector": connector}});
        let path = format!("attachments/{}", segment(id));
        let answer = self.call("export", Method::PUT, &path, MICROVERSION, Some(body)).await?;
        call::parsed::<AttachmentBody>(answer).map(|body| body.attachment)
    }

    /// Says that the attachment is in use. Saying it twice is no error.
    pub async fn complete(&self, id: &str) -> Result<(), CinderError> {
        let path = format!("attachments/{}/action", segment(id));
        let body = json!({"os-complete": {}});
        self.call("complete", Method::POST, &path, MICROVERSION, Some(body)).await.map(drop)
    }

    /// Deletes an attachment: the backend lets the machine in no longer.
    pub async fn delete(&self, id: &str) -> Result<(), CinderError> {
        let path = format!("attachments/{}", segment(id));
        self.call("delete", Method::DELETE, &path, MICROVERSION, None).await.map(drop)
    }

    async fn read(&self, kind: &'static str, path: &str) -> Result<Value, CinderError> {
        self.call(kind, Method::GET, path, MICROVERSION, None).await
    }
}

/// An id as one segment of a path or value of a query: it may be any text that somebody recorded.
fn segment(id: &str) -> PercentEncode<'_> {
    /// All but what RFC 3986 §2.3 never needs to encode.
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(id, RESERVED)
}
