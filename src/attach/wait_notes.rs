//! Notes how long a machine waits, for the next instance that it asks: the limits of a wait go on there.

use uuid::Uuid;

use super::Attach;
use super::request::{ResolutionContext, VolumeRequest};
use super::resolution::Resolution;
use crate::store::BootWait;

impl Attach {
    /// How long the machine has waited for this attempt at another instance.
    pub(super) async fn find_earlier_wait(
        &self,
        request: &VolumeRequest<'_>,
        context: &ResolutionContext,
    ) -> Option<BootWait> {
        let node = request.node.uuid;
        if self.flights.knows(node, request.journey) {
            return None;
        }
        self.state.records.read_wait(node, context.attempt.as_ref()?).await.ok().flatten()
    }

    /// Notes now and then how long the machine has waited, for the next instance that it asks.
    pub(super) async fn note_wait(&self, node: Uuid, resolution: &Resolution, is_noted: bool) {
        let records = &self.state.records;
        let result = match resolution {
            Resolution::Wait { .. } => match self.flights.take_wait_to_note(node) {
                Some(wait) => records.write_wait(node, &wait).await,
                None => return,
            },
            Resolution::Ready(_) | Resolution::Refused(_) if is_noted => {
                self.flights.clear_noted(node);
                records.delete_wait(node).await
            }
            Resolution::Ready(_) | Resolution::Refused(_) => return,
        };
        if let Err(error) = result {
            tracing::debug!(%error, %node, "cannot note how long a machine waits");
        }
    }
}
