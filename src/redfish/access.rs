//! [`BmcAccess`]: address and credentials of a BMC.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

/// The login of a client at the BMC (`redfish_auth_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthType {
    /// HTTP basic authentication with every request.
    Basic,
    /// A Redfish session.
    Session,
    /// A Redfish session, or basic authentication if the BMC opens none.
    Auto,
}

/// The certificates that a BMC may show (`redfish_verify_ca`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateTrust {
    /// Those of the system's authorities.
    System,
    /// Any certificate.
    Unverified,
    /// Those of the authorities in this PEM file, or in the PEM files of this directory.
    Bundle(PathBuf),
}

/// Address and credentials of a BMC, and the path of the system.
#[derive(Clone)]
pub struct BmcAccess {
    /// Scheme and authority, as in `https://192.0.2.5`.
    pub address: String,
    /// The path of the service root, without a trailing slash.
    pub root: String,
    /// The path of the computer system. `None`: the only one of the BMC.
    pub system: Option<String>,
    /// The user; `None`: no login.
    pub username: Option<String>,
    /// The user's password.
    pub password: SecretString,
    /// The certificates that the BMC may show.
    pub trust: CertificateTrust,
    /// The kind of login.
    pub auth: AuthType,
}

impl PartialEq for BmcAccess {
    fn eq(&self, other: &Self) -> bool {
        let parts = |access: &Self| {
            let Self { address, root, system, username, trust, auth, .. } = access.clone();
            (address, root, system, username, trust, auth)
        };
        parts(self) == parts(other) && self.password.expose_secret() == other.password.expose_secret()
    }
}

impl fmt::Debug for BmcAccess {
    /// Leaves out the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BmcAccess")
            .field("address", &self.address)
            .field("system", &self.system)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
