//! Reads the configuration and the files that it names, at start and at each reload.
//!
//! A read may hang, for example on a dead file server, so a reload calls these functions on threads for blocking
//! work.

use std::path::Path;

use super::tls::Certificates;
use crate::config::{self, Config, ConfigError, Diagnostic};
use crate::images::Images;
use crate::keystone::{self, Cloud, Environment};
use crate::listen::CertificateError;

/// Loads the configuration, and checks the files it names: clouds.yaml, secrets.
pub fn load_config_blocking(file: Option<&Path>) -> Result<Config, ConfigError> {
    Config::load_blocking(file, |config| keystone::check_blocking(config, &Environment::from_process()))
}

/// The content of the files that a configuration names.
pub(super) struct ConfiguredFiles {
    /// `None` if no cloud is configured.
    pub(super) cloud: Option<Cloud>,
    pub(super) certificates: Certificates,
    pub(super) images: Images,
}

/// A file that the configuration names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfiguredFileError {
    /// The configured cloud cannot be used.
    #[error("{}", config::format_diagnostics(.0))]
    Cloud(Vec<Diagnostic>),
    /// A certificate cannot be loaded.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl ConfiguredFiles {
    /// Reads all files.
    pub(super) fn read_blocking(config: &Config) -> Result<Self, ConfiguredFileError> {
        let cloud = Cloud::resolve_blocking(&config.cinder.cloud, &Environment::from_process())
            .map_err(ConfiguredFileError::Cloud)?;
        let certificates = Certificates::read_blocking(config)?;
        let images = Images::find_blocking(&config.tftp.images);
        Ok(Self { cloud, certificates, images })
    }
}
