//! What the cloud's services are started with: programs, files, and what they are told.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Service;

/// How many back ends `cinder.conf` has.
pub(super) const BACK_ENDS: usize = 3;

/// What `tests/lab/cinder/install` has made: where this test was built, so that it is the checkout's own. (The demo,
/// which has no use for it, is no test and is not told where that is.)
pub(super) fn environment() -> PathBuf {
    PathBuf::from(option_env!("CARGO_TARGET_TMPDIR").unwrap_or("target/tmp")).join("../cinder")
}

/// Copies the filled data bases and makes the folders.
pub(super) fn lay_out(home: &Path) -> Result<()> {
    let filled = environment().join("home");
    ensure!(
        filled.join("made-from").exists(),
        "run tests/lab/cinder/install first: {} is not there",
        filled.display()
    );
    for folder in ["volumes", "targets", "locks", "rabbit", "token-keys", "credential-keys"] {
        let path = home.join(folder);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        if folder.ends_with("-keys") {
            for key in fs::read_dir(filled.join(folder))? {
                let key = key?;
                fs::copy(key.path(), path.join(key.file_name()))?;
            }
        }
    }
    for database in ["keystone.sqlite", "cinder.sqlite"] {
        fs::copy(filled.join(database), home.join(database))?;
    }
    Ok(())
}

/// Writes the files that the services read when they start.
pub(super) fn write_settings(home: &Path, portals: [Ipv4Addr; 2]) -> Result<()> {
    let environment = environment();
    let environment = environment.canonicalize().context("it was there a moment ago")?;
    let write = |name: &str, text: &str| {
        let text = text
            .replace("@HOME@", &home.display().to_string())
            .replace("@VENV@", &environment.display().to_string())
            .replace("@PORTAL@", &portals[0].to_string())
            .replace("@SECOND@", &portals[1].to_string());
        fs::write(home.join(name), text)
    };
    write("keystone.conf", include_str!("keystone.conf"))?;
    write("cinder.conf", include_str!("cinder.conf"))?;
    write("gunicorn.py", include_str!("gunicorn.py"))?;
    write("rabbitmq.conf", include_str!("rabbitmq.conf"))?;
    write("plugins", "[].\n")?;
    write("targets.conf", "default-driver iscsi\ninclude @HOME@/targets/*\n")?;
    Ok(())
}

/// A service's name and how it is started.
pub(super) fn program(home: &Path, service: Service) -> (&'static str, Command) {
    let programs = environment().join("bin");
    let (name, mut command) = match service {
        Service::RabbitMq => ("RabbitMQ", rabbitmq(home)),
        Service::Keystone => {
            // Keystone would read arguments as its own.
            let mut command = Command::new(programs.join("gunicorn"));
            command.env("GUNICORN_CMD_ARGS", format!("--config {}", home.join("gunicorn.py").display()));
            command.env("OS_KEYSTONE_CONFIG_DIR", home).env("OS_KEYSTONE_CONFIG_FILES", "keystone.conf");
            ("Keystone", command)
        }
        Service::CinderApi => ("cinder-api", cinder(&programs.join("cinder-api"), home)),
        Service::CinderScheduler => ("cinder-scheduler", cinder(&programs.join("cinder-scheduler"), home)),
        Service::CinderVolume => ("cinder-volume", cinder(&programs.join("cinder-volume"), home)),
    };
    // Whoever runs the tests may sit behind a proxy.
    command.current_dir(home).env("HOME", home).env("no_proxy", "*").env("PYTHONWARNINGS", "ignore");
    (name, command)
}

fn cinder(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--config-file").arg(home.join("cinder.conf"));
    command.env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/cinder/python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("TGT_IPC_SOCKET", home.with_file_name("tgtd"));
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

fn rabbitmq(home: &Path) -> Command {
    let mut command = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
    command
        .env("RABBITMQ_NODENAME", "lab@localhost")
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_CONFIG_FILE", home.join("rabbitmq.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("plugins"))
        .env("RABBITMQ_MNESIA_BASE", home.join("rabbit"))
        .env("RABBITMQ_LOG_BASE", home.join("rabbit"))
        .env("RABBITMQ_LOGS", "-")
        // One core is enough for it, and it is not to spin on that while it waits.
        .env("RABBITMQ_SERVER_ERL_ARGS", "+S 1:1 +sbwt none");
    command
}
