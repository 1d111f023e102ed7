//! `volboot enroll`: a node with all it needs to boot, in one step or not at all.

use std::error::Error;

use clap::Args;
use serde_json::{Value, json};

use super::Asked;

/// Where the password for `--chap-user` is.
const PASSWORD: &str = "VOLBOOT_CHAP_PASSWORD";

#[derive(Debug, Args)]
pub(crate) struct Enroll {
    /// The node's name
    name: String,
    /// The MAC address of the card it boots through
    #[arg(long)]
    mac: String,
    /// The name it logs in with at its storage
    #[arg(long)]
    iqn: String,
    #[command(flatten)]
    boots_from: BootsFrom,
    /// The name that the target asks for (CHAP); the password is taken from VOLBOOT_CHAP_PASSWORD
    #[arg(long, value_name = "NAME", requires = "target")]
    chap_user: Option<String>,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct BootsFrom {
    /// The volume it boots from, by its id in Cinder
    #[arg(long, value_name = "UUID")]
    volume: Option<String>,
    /// The volume it boots from, by where it is: iscsi:ADDRESS::PORT:LUN:IQN
    #[arg(long, value_name = "URI")]
    target: Option<String>,
}

impl Enroll {
    pub(super) fn asked(&self) -> &Asked {
        &self.asked
    }

    pub(super) fn body(&self) -> Result<Value, Box<dyn Error>> {
        let mut body = json!({"name": self.name, "mac": self.mac, "iqn": self.iqn});
        let BootsFrom { volume, target } = &self.boots_from;
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
