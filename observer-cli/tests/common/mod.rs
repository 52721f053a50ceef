//! A running observer without attestation, and an agent.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use observer_testing::connect;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The observer.
pub(crate) fn observer(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_observer"));
    command.args(args);
    command
}

/// A folder with sockets, and with what else the test puts there.
pub(crate) struct Scene(TempDir);

impl Scene {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// An observer on a socket in the folder.
    pub(crate) fn command(&self, flags: &[&str]) -> Command {
        let mut command = observer(&["run", "--attest", "off", "--json"]);
        command
            .args(["--threshold-ms", "300", "--socket", &self.name("socket")])
            .args(flags)
            .stdout(Stdio::null());
        command
    }

    /// An agent of this very process.
    pub(crate) fn agent(&self) -> UnixDatagram {
        connect(self.path("socket")).unwrap()
    }
}

/// An observer; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    log: Receiver<String>,
    logged: Vec<String>,
}

impl Running {
    /// Starts the command and waits until it is ready.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut running = Self::spawn(command);
        running.wait_for(|line| line == "ready");
        running
    }

    /// Starts the command.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (logger, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if logger.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            log,
            logged: Vec::new(),
        }
    }

    /// All that it logged so far.
    pub(crate) fn logged(&mut self) -> &[String] {
        while let Ok(line) = self.log.recv_timeout(Duration::from_millis(50)) {
            self.logged.push(line);
        }
        &self.logged
    }

    /// The next line of the log that fits.
    pub(crate) fn wait_for(&mut self, fits: impl Fn(&str) -> bool) -> String {
        loop {
            let Ok(line) = self.log.recv_timeout(PATIENCE) else {
                panic!("{:#?}", self.logged);
            };
            self.logged.push(line.clone());
            if fits(&line) {
                return line;
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it in order; returns its exit status and its counters.
    pub(crate) fn stop(&mut self) -> (ExitStatus, Value) {
        self.signal(Signal::TERM);
        let counters = self.wait_for(|line| line.starts_with("counters "));
        let counters = serde_json::from_str(counters.strip_prefix("counters ").unwrap()).unwrap();
        (self.child.wait().unwrap(), counters)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
