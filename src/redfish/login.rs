//! [`Login`]: the authorization of requests to a BMC.

use secrecy::SecretString;

/// The authorization of requests.
#[derive(Debug, Clone)]
pub(super) enum Login {
    /// The BMC has no user for volboot.
    Anonymous,
    /// User and password with every request.
    Basic,
    /// The token of a session, and the session's path for the logout.
    Session(SecretString, Option<String>),
}
