//! The certificates of both HTTP doors: read with a configuration, shown with it, renewed by themselves.

use crate::config::{Config, TlsConfig};
use crate::listen::{Certificate, CertificateError, Plain, Tls};

/// What a configuration names, read.
pub(super) struct Certificates {
    http: Option<Certificate>,
    api: Option<Certificate>,
}

impl Certificates {
    /// Reads the files that a configuration names.
    pub(super) fn read_blocking(config: &Config) -> Result<Self, CertificateError> {
        let read = |tls: &TlsConfig| match (&tls.certificate, &tls.key) {
            (Some(certificate), Some(key)) => Certificate::read_blocking(certificate, key).map(Some),
            _ => Ok(None),
        };
        Ok(Self { http: read(&config.http.tls)?, api: read(&config.api.tls)? })
    }
}

/// What both doors show now.
#[derive(Clone)]
pub(super) struct DoorsTls {
    pub(super) http: Tls,
    pub(super) api: Tls,
}

impl DoorsTls {
    /// Machines are answered with and without TLS. People bring passwords, and come with TLS where there is any.
    pub(super) fn new(Certificates { http, api }: Certificates) -> Self {
        Self { http: Tls::new(http, Plain::Answered), api: Tls::new(api, Plain::Refused) }
    }

    /// Shows others to whoever connects from now on.
    pub(super) fn show(&self, Certificates { http, api }: Certificates) {
        self.http.show(http);
        self.api.show(api);
    }
}
