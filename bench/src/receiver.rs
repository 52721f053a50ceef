//! A running receiver.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::arena::Arena;
use crate::floor::{STOP, Tally};
use crate::outcome::{Figures, float};
use crate::output::{Reader, Reported};
use crate::subject::{Programs, Reports, Subject, Terms, export_file};
use crate::usage::{Usage, rss_kib};

/// For it to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// For what has been sent to be received: many times what a full queue takes.
const DRAIN: Duration = Duration::from_millis(100);

/// Killed by its own pid when dropped; its files go with it.
pub struct Receiver {
    subject: Subject,
    reports: Reports,
    child: Child,
    reader: Option<Reader>,
    socket: PathBuf,
    scratch: TempDir,
}

/// What it left behind.
#[derive(Debug, Default)]
pub struct Remains {
    /// Beats that it accepted, or datagrams that it received; `None` if it
    /// does not report that.
    pub accepted: Option<u64>,
    /// How long each beat took to its event, in nanoseconds.
    pub latencies_ns: Vec<u64>,
    /// Its events, if they were read.
    pub reported: Reported,
    /// The observer's counters.
    pub counters: Value,
}

/// Of those, what explains a result; kept with each round.
const EXPLAINING_COUNTERS: [&str; 8] = [
    "taken",
    "throttled",
    "ring_full",
    "parked",
    "records_expired",
    "records_displaced",
    "stdout_lost",
    "absences",
];

impl Remains {
    /// Counters of this build that are figures.
    pub fn counted(&self) -> Figures {
        let count = |name| Some((name, float(self.counters[name].as_u64()?)));
        EXPLAINING_COUNTERS.into_iter().filter_map(count).collect()
    }
}

impl Receiver {
    /// Starts it in the arena, and waits until it can receive.
    pub fn start(
        arena: &Arena,
        programs: &Programs,
        subject: Subject,
        terms: Terms,
    ) -> Result<Self> {
        let scratch = TempDir::new_in(arena.scratch())?;
        let socket = arena.socket();
        // varta-watch does not start on one that was left behind.
        drop(fs::remove_file(&socket));
        let mut command = programs.command(subject, terms, &socket, scratch.path())?;
        let is_piped = terms.reports != Reports::Nobody || subject.is_floor();
        let stdout = if is_piped {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        command.stdin(Stdio::null()).stdout(stdout);
        command.stderr(File::create(scratch.path().join("stderr"))?);
        die_with_parent(&mut command);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        let mut receiver = Self {
            subject,
            reports: terms.reports,
            child,
            reader: None,
            socket,
            scratch,
        };
        // The one line of a floor that writes no others is read at its end.
        let is_read = terms.reports != Reports::Nobody;
        let stdout = receiver.child.stdout.take_if(|_| is_read);
        receiver.reader = stdout.map(Reader::start).transpose()?;
        receiver.wait_until_ready()?;
        Ok(receiver)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !self.is_ready()? {
            let status = self.child.try_wait()?;
            if status.is_some() || Instant::now() > end {
                bail!("{}: {status:?}: {}", self.subject.name(), self.log()?);
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn is_ready(&self) -> Result<bool> {
        if self.subject.is_observer() {
            return Ok(self.log()?.lines().any(|line| line == "ready"));
        }
        Ok(UnixDatagram::unbound()?.connect(&self.socket).is_ok())
    }

    fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.scratch.path().join("stderr"))?)
    }

    /// Where it receives.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// If senders failed, the reason is most often a receiver that did.
    pub fn explain<T>(&mut self, result: Result<T>) -> Result<T> {
        let Err(error) = result else {
            return result;
        };
        thread::sleep(DRAIN);
        let (status, name) = (self.child.try_wait()?, self.subject.name());
        let state = status.map_or("still runs".into(), |status| format!("ended ({status})"));
        let log = self.log()?;
        Err(error.context(format!("{name} {state}; its log: {log}")))
    }

    /// What it used so far.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid())
    }

    /// The same, once it has received what has been sent.
    pub fn usage_after_drain(&self) -> Result<Usage> {
        thread::sleep(DRAIN);
        self.usage()
    }

    pub fn rss_kib(&self) -> Result<u64> {
        rss_kib(self.pid())
    }

    /// Lets it stop on its own terms.
    pub fn stop(mut self) -> Result<Remains> {
        if self.subject.is_floor() {
            return self.stop_floor();
        }
        kill(Pid::from_raw(self.pid().try_into()?), Signal::SIGTERM)?;
        self.wait()?;
        let mut remains = Remains::default();
        if let Some(reader) = self.reader.take() {
            remains.reported = reader.join()?;
        }
        if self.subject.is_observer() {
            let log = self.log()?;
            let counters = log.lines().find_map(|line| line.strip_prefix("counters "));
            remains.counters = serde_json::from_str(counters.context("no counters")?)?;
            remains.accepted = remains.counters["beats"].as_u64();
        } else if self.reports == Reports::Notable {
            remains.reported.read(&export_file(self.scratch.path()))?;
        }
        if !self.subject.is_observer() && self.reports != Reports::Nobody {
            remains.accepted = Some(remains.reported.beats);
        }
        remains.latencies_ns = std::mem::take(&mut remains.reported.latencies_ns);
        Ok(remains)
    }

    fn stop_floor(mut self) -> Result<Remains> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.send_to(STOP, &self.socket)?;
        if let Some(reader) = self.reader.take() {
            self.wait()?;
            let reported = reader.join()?;
            return Ok(Remains {
                accepted: Some(reported.beats),
                latencies_ns: reported.latencies_ns,
                ..Remains::default()
            });
        }
        let mut line = String::new();
        let mut stdout = self.child.stdout.take().context("stdout is piped")?;
        stdout.read_to_string(&mut line)?;
        self.wait()?;
        let tally: Tally = serde_json::from_str(&line)?;
        Ok(Remains {
            accepted: Some(tally.received),
            ..Remains::default()
        })
    }

    fn wait(&mut self) -> Result<()> {
        let (name, status) = (self.subject.name(), wait(&mut self.child)?);
        ensure!(status.success(), "{name}: {status}: {}", self.log()?);
        Ok(())
    }
}

/// Waits for the end of a process that has to end, and not for ever.
pub fn wait(child: &mut Child) -> Result<ExitStatus> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        ensure!(Instant::now() < end, "pid {} does not stop", child.id());
        thread::sleep(Duration::from_millis(2));
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for. Its reader ends
        // with it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Lets the kernel kill a child whose parent is killed, and lets the child get
/// the signals that its parent waits for in a thread.
pub fn die_with_parent(command: &mut Command) {
    let set_up = || {
        set_pdeathsig(Signal::SIGKILL)?;
        Ok(SigSet::empty().thread_set_mask()?)
    };
    // SAFETY: two system calls, and nothing that a fork may have locked.
    unsafe { command.pre_exec(set_up) };
}
