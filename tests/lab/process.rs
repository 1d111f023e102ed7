//! A process of the lab: started inside, its output kept, waited for with a deadline, and surely ended.
//!
//! Traps it copes with:
//! * A test that is killed runs no destructor. Every process is started through `setpriv --pdeathsig KILL`,
//!   so the kernel kills it when the *thread* that started it ends: the lab's own.
//! * Ctrl-C in a terminal goes to the whole foreground group and would kill a demo's machine before the demo
//!   can say anything: each process has a group of its own.
//! * A pipe that nobody reads stops its writer: a thread reads always, whether or not somebody waits.
//! * Servers that start others leave them behind when they are killed. Such a family gets a process namespace of its
//!   own, which the kernel empties when its first process ends.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::console::Console;

/// How much of its output a failure shows.
const TAIL: usize = 30;

/// Is told each line as it is completed.
pub(crate) type Listener = Box<dyn FnMut(&str) + Send>;

/// A running process and all it has printed, standard output and standard error together.
pub(crate) struct Process {
    name: String,
    child: Child,
    console: Arc<Mutex<Console>>,
    /// One message for each piece of output; closed when the process has closed its output.
    news: Receiver<()>,
    /// How much of the output was already waited for.
    seen: usize,
}

/// A pattern that was waited for and came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Its place in the list of patterns.
    pub(crate) which: usize,
    /// When it was printed.
    pub(crate) at: Instant,
}

impl Process {
    /// Starts `program`, calling it `name` in what is said about it.
    pub(crate) fn start(name: &str, program: &mut Command, listener: Option<Listener>) -> Result<Self> {
        let (reader, writer) = io::pipe()?;
        let child = behind(&["setpriv", "--pdeathsig", "KILL", "--"], program)
            .stdin(std::process::Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let console = Arc::new(Mutex::new(Console::default()));
        let (bell, news) = channel();
        let reading = Reading { console: Arc::clone(&console), bell, listener };
        thread::Builder::new().name(format!("{name} output")).spawn(move || reading.follow(reader))?;
        Ok(Self { name: name.to_owned(), child, console, news, seen: 0 })
    }

    /// The same for a program that starts others, which shall all end with it.
    pub(crate) fn start_family(name: &str, program: &Command) -> Result<Self> {
        let namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
        Self::start(name, &mut behind(&namespace, program), None)
    }

    /// Waits until one of `patterns` is printed after the one waited for before.
    pub(crate) fn wait_for(&mut self, patterns: &[&str], within: Duration) -> Result<Seen> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(seen) = self.look_for(patterns) {
                return Ok(seen);
            }
            let ending = match self.news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(()) => continue,
                Err(RecvTimeoutError::Timeout) => format!("within {} s", within.as_secs()),
                // The last piece may have come between the look and the wait.
                Err(RecvTimeoutError::Disconnected) => match self.look_for(patterns) {
                    Some(seen) => return Ok(seen),
                    None => "before it ended".to_owned(),
                },
            };
            bail!("{} did not say {patterns:?} {ending}. It said at last:\n{}", self.name, self.tail());
        }
    }

    /// When `pattern` was first printed, if it was.
    pub(crate) fn when(&self, pattern: &str) -> Option<Instant> {
        self.with_console(|console| console.find(pattern, 0)).map(|(_, at)| at)
    }

    /// Asks the process to end and waits until it has.
    pub(crate) fn stop(&mut self, within: Duration) -> Result<ExitStatus> {
        kill(self.pid(), Signal::SIGTERM).with_context(|| format!("cannot signal {}", self.name))?;
        let deadline = Instant::now() + within;
        while let Ok(()) = self.news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {}
        match self.child.try_wait()? {
            Some(status) => Ok(status),
            // Its output is closed, or the time is over: only the former may still take a moment.
            None if Instant::now() < deadline => Ok(self.child.wait()?),
            None => bail!("{} did not end within {} s of SIGTERM", self.name, within.as_secs()),
        }
    }

    /// Ends it at once, and all that it has started, and waits until that has happened.
    pub(crate) fn kill(&mut self, within: Duration) -> Result<()> {
        self.child.kill()?;
        self.ended(within)
    }

    /// Waits until it has ended, and all that it has started.
    pub(crate) fn ended(&mut self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            // Whoever is left of a family still has the output open.
            match self.news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!("{} has not ended", self.name),
            }
        }
        self.child.wait()?;
        Ok(())
    }

    /// Has it stand still, or go on.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<()> {
        // All that it has started is in its group, unless it left it.
        killpg(self.pid(), if frozen { Signal::SIGSTOP } else { Signal::SIGCONT })?;
        Ok(())
    }

    /// The last lines it has printed.
    pub(crate) fn tail(&self) -> String {
        self.with_console(|console| console.tail(TAIL))
    }

    fn look_for(&mut self, patterns: &[&str]) -> Option<Seen> {
        let found = self.with_console(|console| {
            let found = |(which, pattern): (usize, &&str)| {
                console.find(pattern, self.seen).map(|(end, at)| (end, Seen { which, at }))
            };
            patterns.iter().enumerate().filter_map(found).min_by_key(|&(end, _)| end)
        });
        let (end, seen) = found?;
        self.seen = end;
        Some(seen)
    }

    fn with_console<T>(&self, look: impl FnOnce(&Console) -> T) -> T {
        look(&self.console.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Its number.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already, which is what is wanted.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// The thread that empties the pipe.
struct Reading {
    console: Arc<Mutex<Console>>,
    bell: Sender<()>,
    listener: Option<Listener>,
}

impl Reading {
    fn follow(mut self, mut pipe: impl Read) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            let now = Instant::now();
            let lines = self
                .console
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .absorb(&buffer[..length], now)
                .to_vec();
            if let Some(listener) = &mut self.listener {
                for line in &lines {
                    listener(line);
                }
            }
            // Nobody waits any more when the process is being dropped; its output is still read to the end.
            let _unheard = self.bell.send(());
        }
    }
}

/// The same program with the same environment, started by `wrapper`.
fn behind(wrapper: &[&str], program: &Command) -> Command {
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
