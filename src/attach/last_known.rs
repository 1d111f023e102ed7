//! Last known connections: with Cinder unavailable, a node boots from the connection of an earlier boot.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::request::VolumeRequest;
use super::resolution::ResolvedVolume;
use crate::model::{Attachment, AttachmentState, Connection, ConnectionSource};
use crate::store::Attachments;

/// The last known connection, if the volume is certainly still this node's; otherwise the reason against its use.
///
/// `outage` is why Cinder cannot be used, if so. `max_age` is the policy for that case; `None` forbids the use.
pub(super) async fn find_last_known(
    records: &Attachments,
    max_age: Option<Duration>,
    request: &VolumeRequest<'_>,
    volume: &str,
    outage: Option<&str>,
) -> Result<ResolvedVolume, String> {
    let started_at = Instant::now();
    let max_age = match (max_age, outage) {
        (None, Some(_)) => return Err("last known connections are disabled (when_cinder_is_away)".into()),
        (max_age, _) => max_age.unwrap_or(Duration::MAX),
    };
    let record = records.get(request.node.uuid, volume).await.ok().flatten();
    let (connection, resolved_at) =
        check_record(record.as_ref(), volume, request.initiator.as_str(), max_age, Timestamp::now())?;
    let source = ConnectionSource::LastKnown { resolved_at, outage: outage.map(str::to_owned) };
    Ok(ResolvedVolume { connection, source, duration: started_at.elapsed(), attachment: None })
}

fn check_record(
    record: Option<&Attachment>,
    volume: &str,
    initiator: &str,
    max_age: Duration,
    now: Timestamp,
) -> Result<(Connection, Timestamp), String> {
    let Some(record @ Attachment { connection: Some(connection), resolved_at: Some(resolved_at), .. }) =
        record
    else {
        return Err(format!("volume {volume} has no last known connection"));
    };
    if record.state != AttachmentState::Attached {
        return Err(format!("volume {volume} is being detached"));
    }
    if record.initiator.as_deref() != Some(initiator) {
        return Err(format!("volume {volume} was attached with another initiator name"));
    }
    if now.duration_since(*resolved_at).unsigned_abs() > max_age {
        return Err(format!("the last known connection of volume {volume} is older than last_known_max_age"));
    }
    let connection = Connection::try_from(connection).map_err(|error| error.to_string())?;
    Ok((connection, *resolved_at))
}
