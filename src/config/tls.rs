//! `certificate` and `key`: TLS for a listener.

use std::path::PathBuf;

use super::parse_path;
use super::read::Section;

/// `certificate` and `key` within a section: both or neither. The files are watched for changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// `certificate`: a PEM file with the certificate chain, the listener's own certificate first.
    pub certificate: Option<PathBuf>,
    /// `key`: a PEM file with the private key.
    pub key: Option<PathBuf>,
}

/// Reads both keys of a section.
pub(super) fn read_tls(section: &mut Section) -> TlsConfig {
    TlsConfig {
        certificate: section.value("certificate", None, |text| parse_path(text).map(Some)),
        key: section.value("key", None, |text| parse_path(text).map(Some)),
    }
}
