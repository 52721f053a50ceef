//! A running observer and what it writes.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::lines::Lines;

/// How long anything may take that has to happen, on an emulated machine too.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Settings of an observer under test.
pub struct Setup {
    command: Command,
    directory: TempDir,
}

/// A running observer; killed by its own pid when dropped.
pub struct Observer {
    child: Child,
    directory: TempDir,
    /// Events and notices, in order.
    reports: Arc<Lines<Value>>,
    log: Arc<Lines<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// What an observer left behind.
pub struct Remains {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its events.
    pub events: Vec<Value>,
    /// All that it wrote to stderr.
    pub log: Vec<String>,
    /// What it logs last: the counters.
    pub counters: Value,
}

impl Setup {
    /// An observer with JSON output on a socket of its own.
    #[must_use]
    pub fn new(threshold_ms: u64) -> Self {
        Self::in_command(Command::new(crate::observer_binary()), threshold_ms)
    }

    /// An observer with JSON output that has its socket and all else from a
    /// configuration file with these settings.
    #[must_use]
    pub fn configured(settings: &str) -> Self {
        let directory = scratch();
        let config = write_config(directory.path(), settings);
        let mut command = Command::new(crate::observer_binary());
        command.args(["run", "--json", "--config"]).arg(config);
        Self { command, directory }
    }

    /// The same, started by another program: `command` is to end where the
    /// observer's own arguments begin.
    #[must_use]
    pub fn in_command(mut command: Command, threshold_ms: u64) -> Self {
        let directory = scratch();
        command
            .args(["run", "--json", "--threshold-ms", &threshold_ms.to_string()])
            .arg("--socket")
            .arg(directory.path().join("s"));
        Self { command, directory }
    }

    /// The same, with a socket whose queue holds one datagram more than
    /// `limit`: `net.unix.max_dgram_qlen` of a network namespace of the
    /// observer's own.
    #[must_use]
    pub fn with_queue_limit(limit: u32, threshold_ms: u64) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sh", "-c"]);
        command.arg(format!(
            "echo {limit} > /proc/sys/net/unix/max_dgram_qlen && exec \"$@\""
        ));
        command.arg("sh").arg(crate::observer_binary());
        Self::in_command(command, threshold_ms)
    }

    /// The scratch directory that its socket is going to be in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// One more flag.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    /// More flags.
    #[must_use]
    pub fn args<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Starts it and waits until it is ready.
    #[must_use]
    pub fn start(self) -> Observer {
        let observer = self.spawn();
        let ready = observer.log.wait(1, |line| line == "ready");
        assert!(ready, "not ready: {:#?}", observer.log.all());
        observer
    }

    /// Starts it with a socket that every user can send to.
    #[must_use]
    pub fn start_for_all(self) -> Observer {
        let observer = self.args(["--socket-mode", "0666"]).start();
        // The scratch directory is its owner's only.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(observer.directory(), open).expect("ours");
        observer
    }

    /// Starts it, and reports how it ended if it does not get ready.
    ///
    /// # Errors
    /// With what it left behind.
    pub fn try_start(self) -> Result<Observer, Remains> {
        let mut observer = self.spawn();
        loop {
            if observer.log.has(|line| line == "ready") {
                return Ok(observer);
            }
            if observer
                .child
                .try_wait()
                .expect("it is our child")
                .is_some()
            {
                return Err(observer.remains());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn spawn(mut self) -> Observer {
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{:?}: {error}", self.command));
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (reports, reports_reader) = Lines::read(stdout, parse);
        let (log, log_reader) = Lines::read(stderr, str::to_owned);
        Observer {
            child,
            directory: self.directory,
            reports,
            log,
            readers: vec![reports_reader, log_reader],
        }
    }
}

impl Observer {
    /// An observer with a threshold and nothing else.
    #[must_use]
    pub fn start(threshold_ms: u64) -> Self {
        Setup::new(threshold_ms).start()
    }

    /// The socket to send to.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// The same as text, as an argument of a sender's.
    #[must_use]
    pub fn target(&self) -> String {
        self.socket().display().to_string()
    }

    /// The UDP listeners, as its log has them.
    #[must_use]
    pub fn udp(&self) -> Vec<SocketAddr> {
        let listener = |line: &String| {
            let (_, listener) = line.split_once(": udp ")?;
            listener.split_once(", tier")?.0.parse().ok()
        };
        self.log.all().iter().filter_map(listener).collect()
    }

    /// A scratch directory that goes with the observer.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes its configuration file anew, and has it read that.
    pub fn reconfigure(&self, settings: &str) {
        write_config(self.directory(), settings);
        self.signal(Signal::HUP);
    }

    /// Waits until so many lines of the log have this in them; panics if they do
    /// not come.
    pub fn expect_log(&self, count: usize, text: &str) {
        let is_there = self.log.wait(count, |line| line.contains(text));
        assert!(is_there, "{text}: {:#?}", self.log.all());
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it wrote to stderr so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.all()
    }

    /// All events so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let mut reports = self.reports.all();
        reports.retain(is_event);
        reports
    }

    /// All notices so far.
    #[must_use]
    pub fn notices(&self) -> Vec<Value> {
        let mut reports = self.reports.all();
        reports.retain(|report| !is_event(report));
        reports
    }

    /// The last event so far.
    #[must_use]
    pub fn last_event(&self) -> Option<Value> {
        self.reports.last(is_event)
    }

    /// The events so far that fit.
    pub fn events_where(&self, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.events().into_iter().filter(fits).collect()
    }

    /// Waits for the first event that fits; panics if none comes.
    pub fn expect(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.expect_count(what, 1, fits).swap_remove(0)
    }

    /// Waits until at least `count` events fit; panics if they do not come.
    pub fn expect_count(
        &self,
        what: &str,
        count: usize,
        fits: impl Fn(&Value) -> bool,
    ) -> Vec<Value> {
        let enough = self
            .reports
            .wait(count, |report| is_event(report) && fits(report));
        let found = self.events_where(&fits);
        if !enough {
            self.signal(Signal::TERM);
            self.log.wait(1, |line| line.starts_with("counters "));
            panic!(
                "{what}: {} of {count} came; log: {:#?}; all events: {:#?}",
                found.len(),
                self.log.all(),
                self.events()
            );
        }
        found
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it is our child");
    }

    /// Stops it the way an operator does, and collects what it wrote.
    #[must_use]
    pub fn stop(self) -> Remains {
        self.signal(Signal::TERM);
        self.remains()
    }

    /// What it leaves behind when it has ended.
    fn remains(mut self) -> Remains {
        let status = self.wait();
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader does not panic");
        }
        let log = self.log.all();
        let counters = log
            .iter()
            .find_map(|line| line.strip_prefix("counters "))
            .map_or(Value::Null, parse);
        Remains {
            status,
            events: self.events(),
            log,
            counters,
        }
    }

    /// Stops it, and looks at what it left in its directory.
    pub fn stop_keeping<T>(mut self, look: impl FnOnce() -> T) -> (Option<i32>, T) {
        self.signal(Signal::TERM);
        let status = self.wait();
        (status.code(), look())
    }

    fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not stop: {:#?}", self.log.all());
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Remains {
    /// One of the counters.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        self.counters[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no counter {name}: {}", self.counters))
    }
}

fn scratch() -> TempDir {
    tempfile::Builder::new()
        .prefix("observer-test-")
        .tempdir()
        .expect("a scratch directory")
}

/// Puts a file in the place of the one before, as editors do.
fn write_config(directory: &Path, settings: &str) -> PathBuf {
    let [file, new] = ["observer.toml", "observer.toml.new"].map(|name| directory.join(name));
    let socket = directory.join("s").display().to_string();
    fs::write(&new, format!("socket = {socket:?}\n{settings}\n")).expect("there is room");
    fs::rename(&new, &file).expect("it is ours");
    file
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

/// Is it no notice?
fn is_event(report: &Value) -> bool {
    assert!(report["event"].is_string() != report["notice"].is_string());
    report["event"].is_string()
}

/// Is it an event of this name?
#[must_use]
pub fn is(event: &Value, name: &str) -> bool {
    event["event"] == name
}
