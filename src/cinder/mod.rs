//! Client for the attachments API of Cinder.
//!
//! Each method is one API call, as a bare machine needs it. *Reserve* creates an attachment without a connector, so
//! that its id is known before any export. *Export* updates it with the connector. Then come *complete* and *delete*,
//! and the reads. The order of the calls, and the records written between them, are the business of `attach`.
//!
//! Facts measured on Cinder 28:
//! * Only *export* reaches the backend; it also restores the export of a target that was lost.
//! * GET returns the connection of the last PUT that was answered.
//! * *Export* sets volume and attachment back to `attaching` until *complete*.
//! * The responses to *reserve* and *export* show an outdated status, so this client ignores it.
//!
//! Invariant: an error says whether Cinder *refused* or is *unavailable*, because the two have opposite consequences.

mod call;
#[cfg(test)]
mod tests;
mod types;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};

pub use call::{CinderEndpoint, Timeouts};
use types::{AttachmentBody, AttachmentsBody, VolumeBody};
pub use types::{CinderAttachment, CinderVolume, VolumeHolder};

use crate::keystone::Session;
use crate::model::ConnectorProperties;
use crate::telemetry::Metrics;

/// The requested microversion: the first that can complete an attachment. Calls that need a later version request it.
/// <https://docs.openstack.org/cinder/latest/contributor/api_microversion_history.html>
const MICROVERSION: &str = "3.44";
/// The first microversion with an attachment mode.
const MODE_MICROVERSION: &str = "3.54";

/// A client for one Cinder. Cheap to clone; clones share connections and token.
#[derive(Debug, Clone)]
pub struct Cinder {
    session: Session,
    http: reqwest::Client,
    endpoint: CinderEndpoint,
    timeouts: Timeouts,
    metrics: Metrics,
}

/// A failed call. The texts hold no secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CinderError {
    /// Cinder or Keystone does not answer, or cannot work: no connection, a time-out, 5xx, 401 with a new token.
    /// The request may have taken effect, or may do so later.
    #[error("{0}")]
    Unavailable(String),
    /// The volume or attachment does not exist, or not for this project (404).
    #[error("{0}")]
    NotFound(String),
    /// Cinder refused: 400, 403, 409, 413, …
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Cinder's message.
        message: String,
    },
}

impl Cinder {
    /// A client for the Cinder at `endpoint`, with tokens from `session`.
    pub fn new(
        session: Session,
        http: reqwest::Client,
        endpoint: CinderEndpoint,
        timeouts: Timeouts,
        metrics: Metrics,
    ) -> Self {
        Self { session, http, endpoint, timeouts, metrics }
    }

    /// Checks that Cinder answers. Reads at most one volume.
    pub async fn ping(&self) -> Result<(), CinderError> {
        self.read("ping", "volumes?limit=1").await.map(drop)
    }

    /// A volume and its holders.
    pub async fn volume(&self, id: &str) -> Result<CinderVolume, CinderError> {
        let response = self.read("volume", &format!("volumes/{}", encode_segment(id))).await?;
        call::parse::<VolumeBody>(response).map(|body| body.volume)
    }

    /// All attachments of a volume that this project can see.
    pub async fn list_attachments(&self, volume: &str) -> Result<Vec<CinderAttachment>, CinderError> {
        let path = format!("attachments/detail?volume_id={}", encode_segment(volume));
        let response = self.read("attachments", &path).await?;
        call::parse::<AttachmentsBody>(response).map(|body| body.attachments)
    }

    /// One attachment.
    pub async fn attachment(&self, id: &str) -> Result<CinderAttachment, CinderError> {
        let response = self.read("attachment", &format!("attachments/{}", encode_segment(id))).await?;
        call::parse::<AttachmentBody>(response).map(|body| body.attachment)
    }

    /// Creates an attachment without a connector and returns its id. The volume is then reserved, but not exported.
    pub async fn reserve(&self, volume: &str, read_only: bool) -> Result<String, CinderError> {
        let mut attachment = json!({"volume_uuid": volume});
        let version = if read_only {
            attachment["mode"] = "ro".into();
            MODE_MICROVERSION
        } else {
            MICROVERSION
        };
        let body = json!({"attachment": attachment});
        let response = self.call("reserve", Method::POST, "attachments", version, Some(body)).await?;
        call::parse::<AttachmentBody>(response).map(|body| body.attachment.id)
    }

    /// Updates an attachment with its connector, which makes the backend export the volume (again). Returns the
    /// attachment with its connection.
    pub async fn export(
        &self,
        id: &str,
        connector: &ConnectorProperties,
    ) -> Result<CinderAttachment, CinderError> {
        let body = json!({"attachment": {"connector": connector}});
        let path = format!("attachments/{}", encode_segment(id));
        let response = self.call("export", Method::PUT, &path, MICROVERSION, Some(body)).await?;
        call::parse::<AttachmentBody>(response).map(|body| body.attachment)
    }

    /// Marks the attachment as in use (`os-complete`). Idempotent.
    pub async fn complete(&self, id: &str) -> Result<(), CinderError> {
        let path = format!("attachments/{}/action", encode_segment(id));
        let body = json!({"os-complete": {}});
        self.call("complete", Method::POST, &path, MICROVERSION, Some(body)).await.map(drop)
    }

    /// Deletes an attachment; the backend then no longer admits the machine.
    pub async fn delete(&self, id: &str) -> Result<(), CinderError> {
        let path = format!("attachments/{}", encode_segment(id));
        self.call("delete", Method::DELETE, &path, MICROVERSION, None).await.map(drop)
    }

    async fn read(&self, kind: &'static str, path: &str) -> Result<Value, CinderError> {
        self.call(kind, Method::GET, path, MICROVERSION, None).await
    }
}

/// Encodes an id as a path segment or query value. An operator can record any text as an id.
fn encode_segment(id: &str) -> PercentEncode<'_> {
    /// Everything except the unreserved characters of RFC 3986 §2.3.
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(id, RESERVED)
}
