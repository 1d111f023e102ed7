//! `volboot images`: lists the iPXE binaries of this host, and the missing ones.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::json;

use super::ConfigFile;
use crate::config::Config;
use crate::images::{Image, Images};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    file: ConfigFile,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Searches the same directories as `serve`, and prints the result.
pub(super) fn list(options: &Options) -> Result<(), Box<dyn Error>> {
    let config = Config::load_blocking(options.file.config.as_deref(), |_| Vec::new())?;
    let images = Images::find_blocking(&config.tftp.images);
    if options.json {
        println!("{:#}", to_json(&images));
    } else {
        print!("{}", to_text(&images, &config.tftp.images));
    }
    Ok(())
}

fn to_json(images: &Images) -> serde_json::Value {
    let available = images.available().iter().map(|image| {
        json!({
            "name": image.name,
            "firmware": image.firmware,
            "architectures": image.architectures(),
            "path": image.path,
            "size": image.content.len(),
            "version": image.version(),
            "sha256": image.sha256(),
        })
    });
    let missing = images.missing().iter().map(
        |missing| json!({ "name": missing.name, "firmware": missing.firmware, "packages": missing.packages }),
    );
    json!({ "available": available.collect::<Vec<_>>(), "missing": missing.collect::<Vec<_>>() })
}

fn to_text(images: &Images, directories: &[PathBuf]) -> String {
    let mut text = String::new();
    if !images.available().is_empty() {
        let row = |image: &Image| {
            [
                image.name.to_owned(),
                image.firmware.to_owned(),
                image.architectures().iter().map(u16::to_string).collect::<Vec<_>>().join(" "),
                image.version().unwrap_or_else(|| "compressed".to_owned()),
                image.content.len().to_string(),
                image.path.display().to_string(),
                image.sha256(),
            ]
        };
        let header = ["name", "firmware", "option 93", "version", "bytes", "file", "sha256"];
        text += &format_table(&header, images.available().iter().map(row));
    }
    if !images.missing().is_empty() {
        let directories: Vec<_> = directories.iter().map(|dir| dir.display().to_string()).collect();
        text += &format!("\nNot found in {}:\n", directories.join(", "));
        let header = ["name", "firmware", "packages"];
        let row = |missing: &crate::images::MissingImage| {
            [missing.name, missing.firmware, missing.packages].map(str::to_owned)
        };
        text += &format_table(&header, images.missing().iter().map(row));
    }
    text
}

fn format_table<const N: usize>(header: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}
