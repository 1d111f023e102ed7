//! An initiator that is no machine: it logs in, asks how large the disk is, and leaves.

use std::process::Command;

use anyhow::{Context, Result};

use super::target::Account;

/// Logs in to a target as `initiator` and gives what came of it, in libiscsi's words; it has room for blocks if it
/// was let in ([`LET_IN`]).
pub(crate) fn log_in(
    initiator: &str,
    portal: &str,
    target: &str,
    lun: u64,
    account: Option<&Account>,
) -> Result<String> {
    let mut command = Command::new("iscsi-readcapacity16");
    if let Some(Account { username, password }) = account {
        command.env("LIBISCSI_CHAP_USERNAME", username).env("LIBISCSI_CHAP_PASSWORD", password);
    }
    let url = format!("iscsi://{portal}/{target}/{lun}");
    let output = command.args(["--initiator-name", initiator, &url]).output();
    let output = output.context("cannot run iscsi-readcapacity16 (package libiscsi-bin)")?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// What is said to who was let in.
pub(crate) const LET_IN: &str = "LOGICAL BLOCK LENGTH";
