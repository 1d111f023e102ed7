//! [`BmcClaim`]: the right to send commands to a node's BMC.

use std::fmt;

use super::PowerError;
use crate::store::Claim;

/// The claim on a node's BMC, and that of the operation, if the command is a part of one. Each command requires both.
pub struct BmcClaim<'a> {
    claim: Claim,
    operation: Option<&'a Claim>,
}

impl fmt::Debug for BmcClaim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BmcClaim").field(&self.claim).finish()
    }
}

impl<'a> BmcClaim<'a> {
    pub(super) fn new(claim: Claim) -> Self {
        Self { claim, operation: None }
    }

    /// The claim as a part of an operation, which may have lost its own claim before this one was granted.
    #[must_use]
    pub fn within(self, operation: &'a Claim) -> Self {
        Self { operation: Some(operation), ..self }
    }

    /// Sends a command, unless a claim is lost: another instance may have taken over. A claim that is lost meanwhile ends
    /// the wait, and the command may have been executed.
    pub(super) async fn guard<T>(
        &self,
        command: impl Future<Output = Result<T, PowerError>>,
    ) -> Result<T, PowerError> {
        if self.claims().any(Claim::is_lost) {
            return Err(PowerError::ClaimLost);
        }
        let lost =
            futures_util::future::select_all(self.claims().map(|claim| Box::pin(claim.wait_for_loss())));
        tokio::select! {
            result = command => result,
            _ = lost => Err(PowerError::ClaimLost),
        }
    }

    fn claims(&self) -> impl Iterator<Item = &Claim> {
        std::iter::once(&self.claim).chain(self.operation)
    }
}
