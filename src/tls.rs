//! The one global that TLS needs: which cryptography it is made with. *ring* everywhere, so that no second TLS library
//! finds its way in.

use std::sync::Once;

static INSTALLED: Once = Once::new();

/// To be called before anything speaks TLS; calls after the first do nothing.
pub fn install_provider() {
    INSTALLED.call_once(|| {
        // It fails only if somebody else was first, who can only have been another caller of this crate's.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
