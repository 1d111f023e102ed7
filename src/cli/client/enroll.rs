//! `volboot enroll`: the options, and the body of the API request.

use std::error::Error;

use clap::Args;
use serde_json::{Value, json};

use super::ApiOptions;

/// The environment variable with the password for `--chap-user`.
const PASSWORD: &str = "VOLBOOT_CHAP_PASSWORD";

#[derive(Debug, Args)]
pub(in crate::cli) struct EnrollOptions {
    /// Name of the node
    name: String,
    /// MAC address of the node's boot card
    #[arg(long)]
    mac: String,
    /// Initiator name (IQN) of the node
    #[arg(long)]
    iqn: String,
    #[command(flatten)]
    source: VolumeSource,
    /// CHAP user name at the target; the password is read from VOLBOOT_CHAP_PASSWORD
    #[arg(long, value_name = "NAME", requires = "target")]
    chap_user: Option<String>,
    #[command(flatten)]
    api: ApiOptions,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct VolumeSource {
    /// Boot volume in Cinder
    #[arg(long, value_name = "UUID")]
    volume: Option<String>,
    /// Boot volume at an iSCSI target: iscsi:ADDRESS::PORT:LUN:NAME
    #[arg(long, value_name = "URI")]
    target: Option<String>,
}

impl EnrollOptions {
    /// The options of the API.
    pub(super) fn api(&self) -> &ApiOptions {
        &self.api
    }

    /// Builds the body of `POST /v1/enrollments`.
    pub(super) fn to_body(&self) -> Result<Value, Box<dyn Error>> {
        let mut body = json!({"name": self.name, "mac": self.mac, "iqn": self.iqn});
        let VolumeSource { volume, target } = &self.source;
        for (name, value) in [("volume", volume), ("target", target), ("auth_username", &self.chap_user)] {
            if let Some(value) = value {
                body[name] = value.clone().into();
            }
        }
        if self.chap_user.is_some() {
            let password = std::env::var(PASSWORD).map_err(|_| format!("{PASSWORD} is not set"))?;
            body["auth_password"] = password.into();
        }
        Ok(body)
    }
}
