//! Senders as processes of their own.
//!
//! A helper binary is started with arguments, prints facts as lines on
//! stdout, and does one more thing for each line that it is sent on stdin.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A running helper; killed by its own pid when dropped.
pub struct Agent {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Agent {
    /// Starts a helper binary of this package, named by
    /// `env!("CARGO_BIN_EXE_<name>")`.
    pub fn start<S: AsRef<OsStr>>(
        binary: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut command = Command::new(binary.into());
        command.args(arguments);
        Self::spawn(command)
    }

    /// Starts any command as a helper.
    #[must_use]
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Self {
            child,
            input,
            output,
        }
    }

    /// Its pid, as the test sees it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is our child");
    }

    /// Writes a line to its stdin: it does the next thing.
    pub fn write_line(&mut self, line: &str) {
        let input = self.input.as_mut().expect("stdin is open");
        writeln!(input, "{line}").expect("the helper reads");
    }

    /// The next line that it prints; panics at its end.
    pub fn line(&mut self) -> String {
        let line = self.next_line();
        line.unwrap_or_else(|| panic!("the helper ended: {:?}", self.child.wait()))
    }

    /// The next line as a number.
    pub fn number(&mut self) -> u64 {
        let line = self.line();
        line.parse()
            .unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// The next line; `None` at its end.
    pub fn next_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let length = self.output.read_line(&mut line).expect("text");
        (length > 0).then(|| line.trim_end().to_owned())
    }

    /// Closes its stdin and waits for its end.
    pub fn finish(&mut self) -> ExitStatus {
        self.input = None;
        self.child.wait().expect("it is our child")
    }

    /// Like [`Agent::finish`], and it must have done well.
    pub fn finish_well(&mut self) {
        let status = self.finish();
        assert!(status.success(), "the helper failed: {status}");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
