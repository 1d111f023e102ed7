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
//! * The list of attachments is empty for an administrator of another project, unless it has `all_tenants`.
//!
//! Invariant: an error says whether Cinder *refused* or is *unavailable*, because the two have opposite consequences.

mod call;
mod discovery;
mod endpoint;
mod error;
mod response;
#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
mod types;

use reqwest::Method;
use serde_json::{Value, json};

pub use call::Timeouts;
use call::{ApiCall, ApiClient};
use discovery::VersionDiscovery;
pub use endpoint::CinderEndpoint;
pub use error::CinderError;
#[cfg(test)]
pub(crate) use server::CinderServer;
use types::{AttachmentBody, AttachmentsBody, VolumeBody};
pub use types::{CinderAttachment, CinderVolume, VolumeHolder};

use crate::keystone::Session;
use crate::model::ConnectorProperties;
use crate::telemetry::Metrics;

/// The first microversion with an attachment mode.
const MODE_MICROVERSION: &str = "3.54";

/// A client for one Cinder. Cheap to clone; clones share connections and token.
#[derive(Debug, Clone)]
pub struct Cinder(ApiClient);

impl Cinder {
    /// A client for the Cinder at `endpoint`, with tokens from `session`.
    pub fn new(
        session: Session,
        http: reqwest::Client,
        endpoint: CinderEndpoint,
        timeouts: Timeouts,
        metrics: Metrics,
    ) -> Self {
        let discovery = VersionDiscovery::default();
        Self(ApiClient {
            session,
            http,
            endpoint,
            discovery,
            timeouts,
            metrics,
            #[cfg(test)]
            server: None,
        })
    }

    /// Checks that Cinder answers. Reads at most one volume.
    pub async fn ping(&self) -> Result<(), CinderError> {
        let call = ApiCall::get("ping", &["volumes"]).with_query(&[("limit", "1")]);
        self.0.call::<Value>(call).await.map(drop)
    }

    /// A volume and its holders.
    pub async fn volume(&self, id: &str) -> Result<CinderVolume, CinderError> {
        let segments = ["volumes", id];
        let call = ApiCall::get("volume", &segments);
        self.0.call::<VolumeBody>(call).await.map(|body| body.volume)
    }

    /// All attachments of a volume that this user can see: an administrator sees those of other projects' volumes too.
    pub async fn list_attachments(&self, volume: &str) -> Result<Vec<CinderAttachment>, CinderError> {
        let query = [("volume_id", volume), ("all_tenants", "1")];
        let list = async |query| {
            let call = ApiCall::get("attachments", &["attachments", "detail"]).with_query(query);
            self.0.call::<AttachmentsBody>(call).await.map(|body| body.attachments)
        };
        match list(&query).await {
            // A Cinder before 18 refuses the filter to other users than administrators.
            Err(CinderError::Refused { status: 400, .. }) => list(&query[..1]).await,
            result => result,
        }
    }

    /// One attachment.
    pub async fn attachment(&self, id: &str) -> Result<CinderAttachment, CinderError> {
        let segments = ["attachments", id];
        let call = ApiCall::get("attachment", &segments);
        self.0.call::<AttachmentBody>(call).await.map(|body| body.attachment)
    }

    /// Creates an attachment without a connector and returns its id. The volume is then reserved, but not exported.
    pub async fn reserve(&self, volume: &str, read_only: bool) -> Result<String, CinderError> {
        let mut attachment = json!({"volume_uuid": volume});
        let mut call = ApiCall::new("reserve", Method::POST, &["attachments"]);
        if read_only {
            attachment["mode"] = "ro".into();
            call = call.with_microversion(MODE_MICROVERSION);
        }
        let call = call.with_body(json!({"attachment": attachment}));
        self.0.call::<AttachmentBody>(call).await.map(|body| body.attachment.id)
    }

    /// Updates an attachment with its connector, which makes the backend export the volume (again). Returns the
    /// attachment with its connection.
    pub async fn export(
        &self,
        id: &str,
        connector: &ConnectorProperties,
    ) -> Result<CinderAttachment, CinderError> {
        let body = json!({"attachment": {"connector": connector}});
        let segments = ["attachments", id];
        let call = ApiCall::new("export", Method::PUT, &segments).with_body(body);
        self.0.call::<AttachmentBody>(call).await.map(|body| body.attachment)
    }

    /// Marks the attachment as in use (`os-complete`). Idempotent.
    pub async fn complete(&self, id: &str) -> Result<(), CinderError> {
        let body = json!({"os-complete": {}});
        let segments = ["attachments", id, "action"];
        let call = ApiCall::new("complete", Method::POST, &segments).with_body(body);
        self.0.call::<Value>(call).await.map(drop)
    }

    /// Deletes an attachment; the backend then no longer admits the machine.
    pub async fn delete(&self, id: &str) -> Result<(), CinderError> {
        let segments = ["attachments", id];
        self.0.call::<Value>(ApiCall::new("delete", Method::DELETE, &segments)).await.map(drop)
    }
}
