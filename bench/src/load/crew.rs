//! A loader and its processes, as the benchmark sees them.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::{Outcome, Spec};
use crate::receiver::die_with_parent;

/// Killed by its own pid when dropped, and all of its processes with it.
pub struct Crew {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Crew {
    /// Starts all processes, and waits until each has beaten once.
    pub fn muster(spec: &Spec) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command
            .arg("load")
            .arg(serde_json::to_string(spec)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        die_with_parent(&mut command);
        let mut child = command.spawn().context("cannot start the loader")?;
        let output = BufReader::new(child.stdout.take().context("stdout is piped")?);
        let mut crew = Self { child, output };
        crew.expect("ready")?;
        Ok(crew)
    }

    /// Lets them all begin.
    pub fn start(&mut self) -> Result<()> {
        self.write_line("go")?;
        self.expect("done")
    }

    /// Ends the flood.
    pub fn calm(&mut self) -> Result<()> {
        self.write_line("calm")?;
        self.expect("done")
    }

    /// Lets nobody send any more; all live on.
    pub fn stop(&mut self) -> Result<Outcome> {
        self.write_line("stop")?;
        let outcome = self.line()?;
        serde_json::from_str(&outcome).context("the loader failed")
    }

    /// Lets all end, and waits for that.
    pub fn leave(mut self) -> Result<()> {
        self.write_line("leave")?;
        self.expect("done")
    }

    fn write_line(&mut self, line: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().context("stdin is piped")?;
        Ok(writeln!(input, "{line}")?)
    }

    fn expect(&mut self, expected: &str) -> Result<()> {
        let line = self.line()?;
        ensure!(line == expected, "the loader failed: {line:?}");
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
