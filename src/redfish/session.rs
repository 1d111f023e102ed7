//! Login: a Redfish session (DSP0266 §13.3.4), or HTTP basic authentication.

use secrecy::ExposeSecret;
use serde_json::json;

use super::AuthType;
use super::bmc::Bmc;
use super::error::BmcFault;
use super::login::Login;
use super::message::BmcMessage;
use super::quirks::Quirk;

/// The path of the sessions below the service root, where the root names none.
const SESSIONS: &str = "/SessionService/Sessions";

impl Bmc {
    /// Logs in as the settings say.
    pub(super) async fn log_in(&self) -> Result<Login, BmcFault> {
        if self.access.username.is_none() {
            return Ok(Login::Anonymous);
        }
        match self.access.auth {
            AuthType::Basic => Ok(Login::Basic),
            AuthType::Session => self.open_session().await,
            AuthType::Auto => match self.open_session().await {
                Ok(login) => Ok(login),
                Err(fault) if is_transport(&fault) => Err(fault),
                Err(fault) => {
                    if matches!(&fault, BmcFault::LoginRefused { detail, .. } if detail.starts_with("503")) {
                        Quirk::SessionsTaken.note(&self.access.address);
                    }
                    Ok(Login::Basic)
                }
            },
        }
    }

    async fn open_session(&self) -> Result<Login, BmcFault> {
        let path = format!("{}{SESSIONS}", self.access.root);
        let body = json!({
            "UserName": self.access.username.as_deref().unwrap_or_default(),
            "Password": self.access.password.expose_secret(),
        });
        let request = format!("POST {path}");
        let response = self.send(reqwest::Method::POST, &path, Some(&body), &Login::Anonymous, None).await?;
        if !response.status.is_success() {
            return Err(self.refuse_login(response.status.as_u16(), &response.body));
        }
        let token = response.header("x-auth-token").filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| BmcFault::invalid(&request, "no X-Auth-Token"))?;
        let session = response.header("location").and_then(|location| self.local_path(location));
        Ok(Login::Session(token.to_owned().into(), session))
    }

    /// The fault of a refused login.
    pub(super) fn refuse_login(&self, status: u16, body: &[u8]) -> BmcFault {
        let BmcMessage { text, .. } = BmcMessage::read(body);
        let detail = if text.is_empty() { status.to_string() } else { format!("{status}: {text}") };
        BmcFault::LoginRefused { user: self.access.username.clone(), detail }
    }
}

/// Whether there was no response, so that another kind of login fails too.
fn is_transport(fault: &BmcFault) -> bool {
    matches!(
        fault,
        BmcFault::Unreachable(_)
            | BmcFault::Untrusted(_)
            | BmcFault::TimedOut(_)
            | BmcFault::Interrupted(_)
            | BmcFault::Redirected(_)
            | BmcFault::Unusable(_)
    )
}
