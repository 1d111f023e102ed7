//! Certificates of the HTTP listeners: loaded at start and at each reload.

use crate::config::{Config, TlsConfig};
use crate::listen::{Certificate, CertificateError, Tls};

/// The configured certificates, loaded.
pub(super) struct Certificates {
    http: Option<Certificate>,
    api: Option<Certificate>,
    cluster: Option<Certificate>,
}

impl Certificates {
    /// Reads the configured files.
    pub(super) fn read_blocking(config: &Config) -> Result<Self, CertificateError> {
        let load = |tls: &TlsConfig| match (&tls.certificate, &tls.key) {
            (Some(certificate), Some(key)) => Certificate::read_blocking(certificate, key).map(Some),
            _ => Ok(None),
        };
        Ok(Self {
            http: load(&config.http.tls)?,
            api: load(&config.api.tls)?,
            cluster: load(&config.cluster.tls)?,
        })
    }
}

/// The TLS configurations of the listeners, which take their certificates.
pub(super) struct ListenerTls {
    pub(super) http: Tls,
    pub(super) api: Tls,
    pub(super) cluster: Option<Tls>,
}

impl ListenerTls {
    /// Replaces the certificates; new connections use them.
    pub(super) fn set_certificates(&self, Certificates { http, api, cluster }: Certificates) {
        self.http.set_certificate(http);
        self.api.set_certificate(api);
        if let Some(tls) = &self.cluster {
            tls.set_certificate(cluster);
        }
    }
}
