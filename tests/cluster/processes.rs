//! Child processes, ended by the kernel with the thread of a test, and commands.

use std::process::{Child, Command, Stdio};

use nix::unistd::Pid;

/// A child process. The process ends when this value is dropped, and when the thread that started the process ends.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command, output: Stdio) -> Self {
        Self(start(command, output))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A tracer that is killed leaves the traced process running.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a process that ends with this thread.
pub(crate) fn start(command: &mut Command, output: Stdio) -> Child {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    wrapped.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn().expect("the process starts")
}

pub(crate) fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process id"))
}

pub(crate) fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}

pub(crate) fn run(command: &mut Command) {
    output(command);
}

pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().expect("the command (package iproute2, util-linux, etcd-client) runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
