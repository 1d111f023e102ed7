//! Volumes: images that a machine can boot from, and that say so.
//!
//! The boot loader is GRUB with a configuration built in. It prints one line that names its volume, lists the
//! disks it sees, reads a file from another volume where it is told to, and switches the machine off. What it
//! prints can only come from that volume, so it proves which disk was booted.
//!
//! Traps it copes with:
//! * Nothing is mounted and no loop device is used: partitions are written into the file (`sfdisk`, and
//!   mtools with an offset).
//! * GRUB's embedded configuration is run by its rescue parser: plain commands only, no `if`.
//! * SeaBIOS shows a character on the serial line only when the next one comes, so the last before `halt` are
//!   lost: the loader says something more at the end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use anyhow::{Context, Result, ensure};

use super::Lab;
use super::machine::Firmware;

/// What a boot loader says before it switches the machine off.
pub(crate) const LAST_WORDS: &str = "volboot-lab: switching off";

const GRUB: &str = "/usr/lib/grub";
/// In the build directory, where `tests/lab/install` puts it: Debian has it for arm64 hosts only.
const GRUB_ARM64: &str = "grub-arm64";
const MODULES: [&str; 7] = ["cat", "echo", "fat", "halt", "ls", "search", "search_fs_file"];
const DISK_SIZE: u64 = 48 << 20;
/// The EFI system partition of a UEFI volume: from 1 MiB on, 32 MiB.
const ESP_START: u64 = 2048;
const ESP_SECTORS: u64 = 65_536;

/// An image file and the name its boot loader says.
pub(crate) struct Volume {
    name: String,
    image: PathBuf,
}

/// How to make a bootable volume.
pub(crate) struct Recipe<'a> {
    /// The volume's name.
    pub(crate) name: &'a str,
    /// For which firmware.
    pub(crate) firmware: Firmware,
    /// UEFI: where the boot loader is, and nowhere else.
    pub(crate) loader: &'a str,
    /// The volume whose file the boot loader is to read.
    pub(crate) reads: Option<&'a Volume>,
}

impl<'a> Recipe<'a> {
    /// A volume that boots by itself, from the place where firmware looks when nothing tells it another name (UEFI
    /// specification, §3.5.1.1).
    pub(crate) fn new(name: &'a str, firmware: Firmware) -> Self {
        let loader = match firmware {
            Firmware::Bios | Firmware::Uefi => r"\EFI\BOOT\BOOTX64.EFI",
            Firmware::UefiArm64 => r"\EFI\BOOT\BOOTAA64.EFI",
        };
        Self { name, firmware, loader, reads: None }
    }
}

impl Volume {
    /// A volume that a machine with that firmware can boot.
    pub(crate) fn bootable(lab: &Lab, recipe: &Recipe<'_>) -> Result<Self> {
        let volume = Self::blank(lab, recipe.name)?;
        let mut script = vec![format!("echo \"{}\"", volume.boot_line()), "ls".to_owned()];
        if let Some(other) = recipe.reads.map(Self::file) {
            script.push(format!("search --no-floppy --file --set=other /{other}"));
            script.push(format!("cat ($other)/{other}"));
        }
        script.push(format!("echo \"{LAST_WORDS} ...\""));
        script.push("halt\n".to_owned());
        let config = lab.path().join(format!("{}.cfg", recipe.name));
        fs::write(&config, script.join("\n"))?;
        match recipe.firmware {
            Firmware::Bios => volume.install_bios_loader(&config)?,
            Firmware::Uefi => volume.install_uefi_loader("x86_64-efi", &config, recipe.loader)?,
            Firmware::UefiArm64 => volume.install_uefi_loader("arm64-efi", &config, recipe.loader)?,
        }
        Ok(volume)
    }

    /// A volume with a file system and one file that says whose it is.
    pub(crate) fn data(lab: &Lab, name: &str) -> Result<Self> {
        let volume = Self::blank(lab, name)?;
        let content = lab.path().join(volume.file());
        fs::write(&content, volume.data_line() + "\n")?;
        let image = &volume.image;
        run(Command::new("mformat").arg("-i").arg(image).arg("::"))?;
        run(Command::new("mcopy").arg("-i").arg(image).arg(&content).arg("::"))?;
        Ok(volume)
    }

    /// The image, for whoever exports it.
    pub(crate) fn image(&self) -> &Path {
        &self.image
    }

    /// What its boot loader says first.
    pub(crate) fn boot_line(&self) -> String {
        format!("volboot-lab: volume {} booted", self.name)
    }

    /// What is read from it where it is a data volume.
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

    /// GRUB's boot sector, and its core right behind it, where the boot sector looks unless told otherwise.
    fn install_bios_loader(&self, config: &Path) -> Result<()> {
        let core = config.with_extension("core");
        run(grub_image("i386-pc", config, &core).arg("biosdisk"))?;
        let boot_sector = fs::File::open(format!("{GRUB}/i386-pc/boot.img"))?;
        let mut loader = io::Read::chain(boot_sector, fs::File::open(core)?);
        io::copy(&mut loader, &mut fs::File::options().write(true).open(&self.image)?)?;
        Ok(())
    }

    /// A GPT with an EFI system partition, and in it the boot loader at `path`.
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
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", said.trim());
    Ok(())
}
