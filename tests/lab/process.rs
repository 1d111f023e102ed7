//! [`Process`]: a process of the lab, with collected output, waits with time-outs, and a guaranteed end.
//!
//! Traps:
//! * A killed test runs no destructor. Every process starts through `setpriv --pdeathsig KILL`, so the kernel kills it
//!   when its parent *thread* ends, which is the lab's.
//! * Ctrl-C in a terminal reaches the whole foreground process group, and would kill a demo's machine before the demo
//!   can report it. So each process has a group of its own.
//! * A full pipe blocks its writer, so a thread reads the output all the time.
//! * A killed server leaves its child processes behind. Servers with children get a PID namespace of their own, which
//!   the kernel empties when its first process ends.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use parking_lot::Mutex;

use super::console::Console;

/// The lines of output in an error.
const TAIL_LINES: usize = 30;

/// Called with each complete line.
pub(crate) type LineHandler = Box<dyn FnMut(&str) + Send>;

/// A running process and its output, standard output and standard error together.
pub(crate) struct Process {
    name: String,
    child: Child,
    console: Arc<Mutex<Console>>,
    /// One message for each piece of output; closed when the process has closed its output.
    output_events: Receiver<()>,
    /// The end of the last match in the output.
    position: usize,
}

/// A match of one of several patterns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Match {
    /// The index in the list of patterns.
    pub(crate) index: usize,
    /// The time of the output.
    pub(crate) at: Instant,
}

impl Process {
    /// Starts `program`, with `name` as its name in errors.
    pub(crate) fn start(
        name: &str,
        program: &mut Command,
        line_handler: Option<LineHandler>,
    ) -> Result<Self> {
        let (reader, writer) = io::pipe()?;
        let child = wrap_command(&["setpriv", "--pdeathsig", "KILL", "--"], program)
            .stdin(std::process::Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let console = Arc::new(Mutex::new(Console::default()));
        let (notifier, output_events) = channel();
        let output_reader = OutputReader { console: Arc::clone(&console), notifier, line_handler };
        thread::Builder::new().name(format!("{name} output")).spawn(move || output_reader.run(reader))?;
        Ok(Self { name: name.to_owned(), child, console, output_events, position: 0 })
    }

    /// Starts a program in a PID namespace of its own, for an end without remaining child processes.
    pub(crate) fn start_with_children(name: &str, program: &Command) -> Result<Self> {
        let namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
        Self::start(name, &mut wrap_command(&namespace, program), None)
    }

    /// Waits for one of `patterns` in the output, after the previous match.
    pub(crate) fn wait_for(&mut self, patterns: &[&str], within: Duration) -> Result<Match> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(found) = self.find_match(patterns) {
                return Ok(found);
            }
            let problem =
                match self.output_events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(()) => continue,
                    Err(RecvTimeoutError::Timeout) => format!("within {} s", within.as_secs()),
                    // The last piece may have arrived between the search and the wait.
                    Err(RecvTimeoutError::Disconnected) => match self.find_match(patterns) {
                        Some(found) => return Ok(found),
                        None => "before its exit".to_owned(),
                    },
                };
            bail!("{} did not print {patterns:?} {problem}. Last output:\n{}", self.name, self.tail());
        }
    }

    /// The time of the first `pattern` in the output.
    pub(crate) fn find_time(&self, pattern: &str) -> Option<Instant> {
        self.with_console(|console| console.find(pattern, 0)).map(|(_, at)| at)
    }

    /// Sends SIGTERM, and waits for the exit.
    pub(crate) fn stop(&mut self, within: Duration) -> Result<ExitStatus> {
        kill(self.pid(), Signal::SIGTERM).with_context(|| format!("cannot signal {}", self.name))?;
        let deadline = Instant::now() + within;
        while let Ok(()) = self.output_events.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
        }
        match self.child.try_wait()? {
            Some(status) => Ok(status),
            // Either the output is closed and the exit follows at once, or the time-out has passed.
            None if Instant::now() < deadline => Ok(self.child.wait()?),
            None => bail!("{} did not exit within {} s of SIGTERM", self.name, within.as_secs()),
        }
    }

    /// Sends SIGKILL, and waits for the exit of the process and its children.
    pub(crate) fn kill(&mut self, within: Duration) -> Result<()> {
        self.child.kill()?;
        self.wait_for_exit(within)
    }

    /// Waits for the exit of the process and its children.
    pub(crate) fn wait_for_exit(&mut self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            // A remaining child process still holds the output open.
            match self.output_events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!("{} has not exited", self.name),
            }
        }
        self.child.wait()?;
        Ok(())
    }

    /// Suspends or resumes the process.
    pub(crate) fn set_suspended(&self, suspended: bool) -> Result<()> {
        // Child processes are in the same group, unless they have left it.
        killpg(self.pid(), if suspended { Signal::SIGSTOP } else { Signal::SIGCONT })?;
        Ok(())
    }

    /// The last lines of output.
    pub(crate) fn tail(&self) -> String {
        self.with_console(|console| console.tail(TAIL_LINES))
    }

    fn find_match(&mut self, patterns: &[&str]) -> Option<Match> {
        let first = self.with_console(|console| {
            let find = |(which, pattern): (usize, &&str)| {
                console.find(pattern, self.position).map(|(end, at)| (end, Match { index: which, at }))
            };
            patterns.iter().enumerate().filter_map(find).min_by_key(|&(end, _)| end)
        });
        let (end, found) = first?;
        self.position = end;
        Some(found)
    }

    fn with_console<T>(&self, read: impl FnOnce(&Console) -> T) -> T {
        read(&self.console.lock())
    }

    /// The process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that the process has exited already.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// The thread that reads the pipe.
struct OutputReader {
    console: Arc<Mutex<Console>>,
    notifier: Sender<()>,
    line_handler: Option<LineHandler>,
}

impl OutputReader {
    fn run(mut self, mut pipe: impl Read) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            let now = Instant::now();
            let lines = self.console.lock().absorb(&buffer[..length], now).to_vec();
            if let Some(handle_line) = &mut self.line_handler {
                for line in &lines {
                    handle_line(line);
                }
            }
            // The receiver is gone while the process is being dropped; the output is still read to the end.
            let _ = self.notifier.send(());
        }
    }
}

/// Wraps `program`: the same arguments and environment, started by `wrapper`.
fn wrap_command(wrapper: &[&str], program: &Command) -> Command {
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(directory) = program.get_current_dir() {
        command.current_dir(directory);
    }
    command
}
