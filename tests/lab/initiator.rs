//! An iSCSI initiator without a machine: logs in, reads the disk's capacity, and logs out.

use std::process::Command;

use anyhow::{Context, Result};

use super::target::Account;

/// Logs in to a target as `initiator`; returns libiscsi's output, with [`LOGIN_OK`] after a successful login.
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

/// Part of the output after a successful login.
pub(crate) const LOGIN_OK: &str = "LOGICAL BLOCK LENGTH";
