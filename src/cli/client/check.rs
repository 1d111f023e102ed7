//! `volboot check`: the options, the exit code, and `--apply`.

use std::error::Error;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::failure::CommandFailure;
use super::http::{Client, RequestFailure, encode_segment};
use super::{ApiOptions, print, run, tables};

/// The property that `--apply` sets: of the boot target if that has one, else of the node.
const LOADER: &str = "uefi_loader";

#[derive(Debug, Args)]
pub(in crate::cli) struct CheckOptions {
    /// Name or UUID of a node
    node: String,
    /// Set `uefi_loader` where the boot volume needs it, and check again
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    api: ApiOptions,
}

/// Checks the volumes of a node. Success: the boot volume boots on some firmware.
pub(in crate::cli) fn check(options: &CheckOptions) -> Result<ExitCode, Box<dyn Error>> {
    let report =
        run(check_volumes(options)).map_err(|error| match error.downcast_ref::<RequestFailure>() {
            Some(failure) if failure.refusal().is_none() => {
                CommandFailure::NotReached(error.to_string()).into()
            }
            _ => error,
        })?;
    print(&options.api, &report, tables::volume_check)?;
    Ok(if report["boots"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn check_volumes(options: &CheckOptions) -> Result<Value, Box<dyn Error>> {
    let client = Client::new(&options.api.api)?;
    let node = format!("/v1/nodes/{}", encode_segment(&options.node));
    let path = format!("{node}/volume-check");
    let report = client.get(&path).await?;
    let volumes = report["volumes"].as_array();
    let boot = volumes.into_iter().flatten().find(|volume| volume["role"] == "boot");
    match boot.map(|volume| &volume[LOADER]) {
        Some(loader @ Value::String(_)) if options.apply => {
            let record = find_loader_record(&client, &node).await?;
            let change = json!([{"op": "add", "path": format!("/properties/{LOADER}"), "value": loader}]);
            client.patch(&record, &change).await?;
            client.get(&path).await
        }
        _ => Ok(report),
    }
}

/// The path of the record whose `uefi_loader` counts.
async fn find_loader_record(client: &Client, node: &str) -> Result<String, Box<dyn Error>> {
    let targets = client.get_all(&format!("{node}/volume/targets?detail=True"), "targets").await?;
    let boot = targets.iter().find(|target| target["boot_index"] == 0 || target["boot_index"] == "0");
    Ok(match boot {
        Some(target) if !target["properties"][LOADER].is_null() => {
            format!("/v1/volume/targets/{}", encode_segment(target["uuid"].as_str().unwrap_or_default()))
        }
        _ => node.to_owned(),
    })
}
