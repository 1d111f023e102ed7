//! Installs the process-wide TLS crypto provider: *ring*, so that no second TLS library is linked.

use std::sync::Once;

static INSTALLED: Once = Once::new();

/// Installs the provider. Must be called before any use of TLS; later calls have no effect.
pub fn install_provider() {
    INSTALLED.call_once(|| {
        // Installation fails only if a provider is installed already, which other code of this crate must have done.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
