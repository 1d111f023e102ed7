//! The programs, files and environment of the cloud's services.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Service;

/// The number of back ends in `cinder.conf`.
pub(super) const BACK_ENDS: usize = 3;

/// The result of `tests/lab/cinder/install`, beside this test's build directory, hence private to the checkout. (The
/// demo does not need it. Cargo does not set the directory for the demo, which is not a test.)
pub(super) fn environment() -> PathBuf {
    PathBuf::from(option_env!("CARGO_TARGET_TMPDIR").unwrap_or("target/tmp")).join("../cinder")
}

/// Copies the filled databases and creates the directories.
pub(super) fn lay_out(home: &Path) -> Result<()> {
    let source = environment().join("home");
    ensure!(
        source.join("made-from").exists(),
        "run tests/lab/cinder/install first: {} is missing",
        source.display()
    );
    for folder in ["volumes", "targets", "locks", "rabbit", "token-keys", "credential-keys"] {
        let path = home.join(folder);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        if folder.ends_with("-keys") {
            for key in fs::read_dir(source.join(folder))? {
                let key = key?;
                fs::copy(key.path(), path.join(key.file_name()))?;
            }
        }
    }
    for database in ["keystone.sqlite", "cinder.sqlite"] {
        fs::copy(source.join(database), home.join(database))?;
    }
    Ok(())
}

/// Writes the configuration files of the services.
pub(super) fn write_settings(home: &Path, portals: [Ipv4Addr; 2]) -> Result<()> {
    let environment = environment();
    let environment = environment.canonicalize().context("the environment has just disappeared")?;
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

/// The name and the command line of a service.
pub(super) fn program(home: &Path, service: Service) -> (&'static str, Command) {
    let programs = environment().join("bin");
    let (name, mut command) = match service {
        Service::RabbitMq => ("RabbitMQ", rabbitmq(home)),
        Service::Keystone => {
            // As an environment variable, because Keystone would parse arguments.
            let mut command = Command::new(programs.join("gunicorn"));
            command.env("GUNICORN_CMD_ARGS", format!("--config {}", home.join("gunicorn.py").display()));
            command.env("OS_KEYSTONE_CONFIG_DIR", home).env("OS_KEYSTONE_CONFIG_FILES", "keystone.conf");
            ("Keystone", command)
        }
        Service::CinderApi => ("cinder-api", cinder(&programs.join("cinder-api"), home)),
        Service::CinderScheduler => ("cinder-scheduler", cinder(&programs.join("cinder-scheduler"), home)),
        Service::CinderVolume => ("cinder-volume", cinder(&programs.join("cinder-volume"), home)),
    };
    // The environment may set an HTTP proxy.
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
        // One core is enough, without busy waiting.
        .env("RABBITMQ_SERVER_ERL_ARGS", "+S 1:1 +sbwt none");
    command
}
