//! Claims: at most one operation per node at a time.
//!
//! One process claims in memory ([`LocalClaims`]). Several processes on one store claim through the store, with another
//! [`NodeClaims`].

use std::collections::HashSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

/// The result of a claim: `None` if another worker has the node.
pub type ClaimFuture<'a> = Pin<Box<dyn Future<Output = Option<NodeClaim>> + Send + 'a>>;

/// Grants claims on nodes.
pub trait NodeClaims: fmt::Debug + Send + Sync {
    /// Claims a node, without waiting for another worker.
    fn claim(&self, node: Uuid) -> ClaimFuture<'_>;
}

/// The exclusive right to work on a node. Ends when dropped.
pub struct NodeClaim {
    release: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl NodeClaim {
    /// A claim that ends with a call of `release`.
    pub fn new(release: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { release: Some(Box::new(release)) }
    }
}

impl fmt::Debug for NodeClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeClaim")
    }
}

impl Drop for NodeClaim {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release();
        }
    }
}

/// Claims within one process.
#[derive(Debug, Default)]
pub struct LocalClaims {
    nodes: Arc<Mutex<HashSet<Uuid>>>,
}

impl NodeClaims for LocalClaims {
    fn claim(&self, node: Uuid) -> ClaimFuture<'_> {
        Box::pin(async move {
            let nodes = Arc::clone(&self.nodes);
            let is_free = nodes.lock().insert(node);
            is_free.then(|| {
                NodeClaim::new(move || {
                    nodes.lock().remove(&node);
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_has_one_claim_at_a_time() {
        let claims = LocalClaims::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let claim = claims.claim(one).await.expect("is free");
        assert!(claims.claim(one).await.is_none());
        assert!(claims.claim(other).await.is_some());
        drop(claim);
        assert!(claims.claim(one).await.is_some());
    }
}
