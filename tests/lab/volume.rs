//! Volumes: disk images with a boot loader that prints the volume's name.
//!
//! The boot loader is GRUB with an embedded configuration. It prints the volume's name and lists the disks. It
//! may read a file from a data volume, and then switches the machine off. The name is stored on this volume only, and
//! so proves which disk was booted.
//!
//! Traps:
//! * No mount and no loop device is necessary: partitions are written into the file (`sfdisk`, and mtools with an
//!   offset).
//! * GRUB runs its embedded configuration in the rescue parser: plain commands only, no `if`.
//! * SeaBIOS shows a character on the serial line only with the next one, so the last ones before `halt` are lost. The
//!   boot loader prints extra text at the end.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use anyhow::{Context, Result, ensure};

use super::Lab;
use super::machine::Firmware;

/// The boot loader's output before it switches the machine off.
pub(crate) const HALT_LINE: &str = "volboot-lab: switching off";

const GRUB: &str = "/usr/lib/grub";
/// A folder of the build directory, filled by `tests/lab/install`: Debian has these modules for arm64 hosts only.
const GRUB_ARM64: &str = "grub-arm64";
const MODULES: [&str; 9] =
    ["cat", "echo", "fat", "halt", "ls", "reboot", "search", "search_fs_file", "sleep"];
const DISK_SIZE: u64 = 48 << 20;
/// The EFI system partition of a UEFI volume: at 1 MiB, 32 MiB long.
const ESP_START: u64 = 2048;
const ESP_SECTORS: u64 = 65_536;

/// An image file, and the name that its boot loader prints.
pub(crate) struct Volume {
    name: String,
    image: PathBuf,
}

/// The description of a bootable volume.
pub(crate) struct Recipe<'a> {
    /// The volume's name.
    pub(crate) name: &'a str,
    /// The machine's firmware.
    pub(crate) firmware: Firmware,
    /// UEFI: the only path of the boot loader.
    pub(crate) loader: &'a str,
    /// The volume whose file the boot loader reads.
    pub(crate) data_volume: Option<&'a Volume>,
    /// Whether the machine restarts after a few seconds, as after a panic, and is not switched off.
    pub(crate) restarts: bool,
    /// Whether the boot loader switches the machine off at the end.
    pub(crate) halts: bool,
}

impl<'a> Recipe<'a> {
    /// A volume with the boot loader at the firmware's default path (UEFI specification, §3.5.1.1).
    pub(crate) fn new(name: &'a str, firmware: Firmware) -> Self {
        let loader = match firmware {
            Firmware::Bios | Firmware::Uefi => r"\EFI\BOOT\BOOTX64.EFI",
            Firmware::UefiArm64 => r"\EFI\BOOT\BOOTAA64.EFI",
        };
        Self { name, firmware, loader, data_volume: None, halts: true, restarts: false }
    }
}

impl Volume {
    /// Creates a bootable volume.
    pub(crate) fn bootable(lab: &Lab, recipe: &Recipe<'_>) -> Result<Self> {
        let volume = Self::blank(lab, recipe.name)?;
        let mut script = vec![format!("echo \"{}\"", volume.boot_line()), "ls".to_owned()];
        if let Some(other) = recipe.data_volume.map(Self::file) {
            script.push(format!("search --no-floppy --file --set=other /{other}"));
            script.push(format!("cat ($other)/{other}"));
        }
        if recipe.restarts {
            // SeaBIOS shows a character with the next one.
            script.push("echo \"volboot-lab: restarting ...\"".to_owned());
            script.push("sleep 3".to_owned());
            script.push("reboot".to_owned());
        } else {
            script.push(format!("echo \"{HALT_LINE} ...\""));
            if recipe.halts {
                script.push("halt".to_owned());
            }
        }
        script.push(String::new());
        let config = lab.path().join(format!("{}.cfg", recipe.name));
        fs::write(&config, script.join("\n"))?;
        match recipe.firmware {
            Firmware::Bios => volume.install_bios_loader(&config)?,
            Firmware::Uefi => volume.install_uefi_loader("x86_64-efi", &config, recipe.loader)?,
            Firmware::UefiArm64 => volume.install_uefi_loader("arm64-efi", &config, recipe.loader)?,
        }
        Ok(volume)
    }

    /// Creates a data volume: a file system with one file that contains the volume's name.
    pub(crate) fn data(lab: &Lab, name: &str) -> Result<Self> {
        let volume = Self::blank(lab, name)?;
        let content = lab.path().join(volume.file());
        fs::write(&content, volume.data_line() + "\n")?;
        let image = &volume.image;
        run(Command::new("mformat").arg("-i").arg(image).arg("::"))?;
        run(Command::new("mcopy").arg("-i").arg(image).arg(&content).arg("::"))?;
        Ok(volume)
    }

    /// Creates a volume with this content from its first byte on.
    pub(crate) fn with_content(lab: &Lab, name: &str, content: &[u8]) -> Result<Self> {
        let volume = Self::blank(lab, name)?;
        volume.write(0, content)?;
        Ok(volume)
    }

    /// Adds a partition behind the EFI system partition, with this file system.
    pub(crate) fn add_partition(&self, file_system: &[u8]) -> Result<()> {
        let (start, sectors) = (ESP_START + ESP_SECTORS, file_system.len().div_ceil(512));
        let table = self.image.with_extension("append");
        fs::write(&table, format!("start={start}, size={sectors}, type=L\n"))?;
        let mut sfdisk = Command::new("sfdisk");
        run(sfdisk.args(["--quiet", "--append"]).arg(&self.image).stdin(fs::File::open(table)?))?;
        self.write(start * 512, file_system)
    }

    fn write(&self, offset: u64, content: &[u8]) -> Result<()> {
        Ok(fs::File::options().write(true).open(&self.image)?.write_all_at(content, offset)?)
    }

    /// The path of the image.
    pub(crate) fn image(&self) -> &Path {
        &self.image
    }

    /// The boot loader's first line.
    pub(crate) fn boot_line(&self) -> String {
        format!("volboot-lab: volume {} booted", self.name)
    }

    /// The content of a data volume's file.
    pub(crate) fn data_line(&self) -> String {
        format!("volboot-lab: volume {} read", self.name)
    }

    fn blank(lab: &Lab, name: &str) -> Result<Self> {
        let image = lab.path().join(format!("{name}.img"));
        fs::File::create_new(&image)?.set_len(DISK_SIZE)?;
        Ok(Self { name: name.to_owned(), image })
    }

    fn file(&self) -> String {
        format!("{}.txt", self.name)
    }

    /// Writes GRUB's boot sector and, directly after it, its core: the boot sector's default.
    fn install_bios_loader(&self, config: &Path) -> Result<()> {
        let core = config.with_extension("core");
        run(grub_image("i386-pc", config, &core).arg("biosdisk"))?;
        let boot_sector = fs::File::open(format!("{GRUB}/i386-pc/boot.img"))?;
        let mut loader = io::Read::chain(boot_sector, fs::File::open(core)?);
        io::copy(&mut loader, &mut fs::File::options().write(true).open(&self.image)?)?;
        Ok(())
    }

    /// Writes a GPT with an EFI system partition, and the boot loader at `path` in it.
    fn install_uefi_loader(&self, format: &str, config: &Path, path: &str) -> Result<()> {
        let loader = config.with_extension("efi");
        run(grub_image(format, config, &loader).arg("part_gpt"))?;

        let table = config.with_extension("sfdisk");
        fs::write(&table, format!("label: gpt\nstart={ESP_START}, size={ESP_SECTORS}, type=U\n"))?;
        run(Command::new("sfdisk").arg("--quiet").arg(&self.image).stdin(fs::File::open(table)?))?;

        let partition = format!("{}@@{}", self.image.display(), ESP_START * 512);
        run(Command::new("mformat").args(["-i", &partition, "-T", &ESP_SECTORS.to_string(), "::"]))?;
        let path = path.replace('\\', "/");
        for (end, _) in path.match_indices('/').skip(1) {
            run(Command::new("mmd").args(["-i", &partition, &format!("::{}", &path[..end])]))?;
        }
        run(Command::new("mcopy").args(["-i", &partition]).arg(&loader).arg(format!("::{path}")))
    }
}

fn grub_image(format: &str, config: &Path, image: &Path) -> Command {
    let mut command = Command::new("grub-mkimage");
    command
        .args(["--format", format, "--prefix", "/"])
        .arg("--directory")
        .arg(modules(format))
        .arg("--config")
        .arg(config)
        .arg("--output")
        .arg(image);
    command.args(MODULES);
    command
}

fn modules(format: &str) -> PathBuf {
    match format {
        "arm64-efi" => {
            Path::new(option_env!("CARGO_TARGET_TMPDIR").unwrap_or("target/tmp")).with_file_name(GRUB_ARM64)
        }
        _ => Path::new(GRUB).join(format),
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output =
        command.output().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", stderr.trim());
    Ok(())
}
