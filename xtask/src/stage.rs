//! The processes of the demo. Each ends with its handle, by its own pid.

use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::workspace::{Workspace, from_here};
use crate::{process, say};

/// Silence after which the observer reports an agent.
pub(crate) const THRESHOLD: Duration = Duration::from_millis(1200);
/// Between two beats of an agent.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);

/// For the observer to start.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the demo plays.
pub(crate) struct Stage {
    program: PathBuf,
    socket: PathBuf,
}

impl Stage {
    pub(crate) fn new(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.target().join("run");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        // Not that of `cargo xtask run`, which may be running.
        let socket = from_here(&folder.join(format!("demo-{}.sock", std::process::id())));
        Ok(Self {
            program: workspace.observer(),
            socket,
        })
    }

    /// Starts the observer and waits until it can receive.
    pub(crate) fn observer(&self) -> Result<Observer> {
        let mut command = self.command("run");
        command
            .arg("--threshold-ms")
            .arg(THRESHOLD.as_millis().to_string());
        command.stderr(Stdio::piped());
        let mut actor = Actor::spawn(&mut command)?;
        let stderr = actor
            .child
            .stderr
            .take()
            .context("the observer has no stderr")?;
        let (sender, ready) = mpsc::channel();
        let reader = thread::spawn(move || pass_on(stderr, &sender));
        let mut observer = Observer {
            actor,
            reader: Some(reader),
        };
        if ready.recv_timeout(PATIENCE).is_err() {
            observer.stop()?;
            bail!("the observer did not get ready; run `target/release/observer doctor`");
        }
        Ok(observer)
    }

    pub(crate) fn agent(&self, args: &[&str]) -> Result<Actor> {
        Actor::spawn(&mut self.beat(args))
    }

    /// An agent that has nothing to say for itself.
    pub(crate) fn forger(&self, args: &[&str]) -> Result<Actor> {
        Actor::spawn(self.beat(args).stderr(Stdio::null()))
    }

    fn beat(&self, args: &[&str]) -> Command {
        let mut command = self.command("beat");
        command
            .arg("--interval-ms")
            .arg(INTERVAL.as_millis().to_string())
            .args(args);
        command
    }

    fn command(&self, verb: &str) -> Command {
        let Self { program, socket } = self;
        let mut command = Command::new(program);
        command
            .arg(verb)
            .arg("--socket")
            .arg(socket)
            .stdin(Stdio::null());
        command
    }
}

/// The observer's log goes on to our stderr; its line `ready` is a message.
fn pass_on(stderr: impl Read, ready: &Sender<()>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        say::line(&line);
        if line == "ready" && ready.send(()).is_err() {
            return;
        }
    }
}

/// A process that ends when this is dropped, whatever state it is in.
pub(crate) struct Actor {
    child: Child,
}

impl Actor {
    fn spawn(command: &mut Command) -> Result<Self> {
        let child = command
            .spawn()
            .with_context(|| process::cannot_start(command))?;
        Ok(Self { child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("cannot signal pid {}", self.pid()))
    }

    /// Waits for its end.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        if !status.success() {
            bail!("pid {} failed ({status})", self.pid());
        }
        Ok(())
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Fails if it has ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The observer, and the thread that reads its log.
pub(crate) struct Observer {
    actor: Actor,
    reader: Option<JoinHandle<()>>,
}

impl Observer {
    /// Lets it stop on its own terms.
    pub(crate) fn stop(&mut self) -> Result<()> {
        // Not an error if it has ended already: its status tells.
        drop(self.actor.signal(Signal::TERM));
        let outcome = self.actor.finish().context("the observer");
        if let Some(reader) = self.reader.take() {
            reader
                .join()
                .ok()
                .context("the reader of the observer's log died")?;
        }
        outcome
    }
}
