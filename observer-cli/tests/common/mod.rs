//! A running observer that nobody attests for, and an agent.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The observer.
pub(crate) fn observer(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_observer"));
    command.args(args);
    command
}

/// An observer; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    log: Receiver<String>,
    said: Vec<String>,
}

impl Running {
    /// Starts the command and waits until it is ready.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (say, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        let mut running = Self {
            child,
            log,
            said: Vec::new(),
        };
        running.wait_for(|line| line == "ready");
        running
    }

    /// All that it said on stderr so far.
    pub(crate) fn said(&mut self) -> &[String] {
        while let Ok(line) = self.log.recv_timeout(Duration::from_millis(50)) {
            self.said.push(line);
        }
        &self.said
    }

    /// The next line on stderr that fits.
    pub(crate) fn wait_for(&mut self, fits: impl Fn(&str) -> bool) -> String {
        loop {
            let Ok(line) = self.log.recv_timeout(PATIENCE) else {
                panic!("{:#?}", self.said);
            };
            self.said.push(line.clone());
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
