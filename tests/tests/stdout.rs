//! A reader of stdout that does not read: what finds room in the queue then. And
//! one that is gone.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use observer_tests::agent::Agent;
use observer_tests::attacker::NOBODY;
use observer_tests::observer::{Observer, PATIENCE, Remains, Setup, is};
use observer_tests::prometheus::{get, metrics_port};
use observer_tests::senders::{self, pulse, sleepers};
use observer_tests::{need_kernel, observer_binary, procfs};
use rustix::fs::{OFlags, fcntl_setfl};
use serde_json::Value;
use tempfile::TempDir;

const THRESHOLD_MS: u64 = 1_500;
/// The user that honest agents are.
const SERVICE: u32 = 4242;
/// Beats that fill what they may of the queue: some 400 bytes each.
const MANY: u32 = 20_000;

/// An observer whose stdout nobody reads for now.
struct Unread {
    observer: Observer,
    stdout: File,
    metrics: u16,
    _folder: TempDir,
}

impl Unread {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("stdout");
        mkfifo(&path, Mode::S_IRWXU).expect("a pipe");
        let stdout = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .expect("opens");
        let mut command = Command::new("sh");
        command.env("STDOUT", &path);
        command.args(["-c", r#"exec "$@" > "$STDOUT""#, "sh"]);
        command.arg(observer_binary());
        let observer = Setup::in_command(command, THRESHOLD_MS)
            .arg("--max-beat-rate")
            .arg("0")
            .arg("--metrics")
            .arg("0")
            .start_for_all();
        Self {
            metrics: metrics_port(&observer),
            observer,
            stdout,
            _folder: folder,
        }
    }

    /// A process of a user that sends what a line asks for.
    fn sender(&self, uid: u32) -> Agent {
        senders::sender(self.observer.target(), "volleys-as", &[uid])
    }

    /// Waits until a metric is at least so much.
    fn wait(&self, metric: &str, least: f64) {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = get(self.metrics, "/metrics").expect("a response").1;
            let sample = text.lines().find_map(|line| line.strip_prefix(metric));
            let value: Option<f64> = sample.and_then(|sample| sample.trim().parse().ok());
            if value.is_some_and(|value| value >= least) {
                return;
            }
            assert!(Instant::now() < end, "{metric} {least}:\n{text}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Reads at last, and stops it.
    fn read(self) -> (Vec<Value>, Remains) {
        self.read_while(|| ())
    }

    /// The same; what is done meanwhile is read, too.
    fn read_while(self, act: impl FnOnce()) -> (Vec<Value>, Remains) {
        fcntl_setfl(&self.stdout, OFlags::empty()).expect("a flag");
        let stdout = self.stdout;
        let reader = thread::spawn(move || {
            let lines = BufReader::new(stdout).lines();
            lines
                .map(|line| serde_json::from_str(&line.expect("text")).expect("JSON"))
                .collect()
        });
        act();
        let remains = self.observer.stop();
        (reader.join().expect("it reads"), remains)
    }
}

fn send(sender: &mut Agent, claimed: u32, count: u32) {
    sender.write_line(&format!("{claimed} {count}"));
    assert_eq!(sender.line(), "sent");
}

fn by(event: &Value, name: &str, uid: u32) -> bool {
    is(event, name) && event["sender"]["uid"] == uid
}

#[test]
fn a_forgers_flood_hides_no_other_forger_and_no_stall() {
    need_kernel!();
    let unread = Unread::start();
    let mut agent = unread.sender(SERVICE);
    let pid = agent.pid();
    send(&mut agent, pid, 1);
    let mut flood = unread.sender(NOBODY);
    let claimed = flood.pid();
    send(&mut flood, pid, MANY);
    send(&mut flood, claimed, MANY);
    unread.wait(r#"observer_lost_total{stage="stdout"}"#, f64::from(MANY));
    let mut forger = unread.sender(SERVICE);
    send(&mut forger, claimed, 1);
    unread.wait(r#"observer_events_total{event="stall"}"#, 2.0);
    for helper in [&mut agent, &mut flood, &mut forger] {
        helper.finish_well();
    }
    let (events, remains) = unread.read();
    assert!(remains.status.success(), "{:#?}", remains.log);
    let count = |name, uid| events.iter().filter(|event| by(event, name, uid)).count();
    assert_eq!(count("auth_failure", SERVICE), 1);
    assert_eq!(count("stall", SERVICE), 1);
    assert!((1000..MANY as usize).contains(&count("auth_failure", NOBODY)));
    assert!((1000..MANY as usize).contains(&count("beat", NOBODY)));
    assert_eq!(remains.counter("auth_failures"), u64::from(MANY) + 1);
}

/// Stalls are few, unless somebody starts processes for it.
#[test]
fn a_crowd_that_stalls_hides_no_other_stall() {
    const CROWD: u32 = 4_000;
    need_kernel!();
    let unread = Unread::start();
    let mut flood = unread.sender(NOBODY);
    let claimed = flood.pid();
    send(&mut flood, claimed, MANY);
    let mut crowd = sleepers(&unread.observer, NOBODY, CROWD.into(), "end");
    let stalls = r#"observer_events_total{event="stall"}"#;
    unread.wait(stalls, f64::from(CROWD) + 1.0);
    let mut agent = unread.sender(SERVICE);
    let pid = agent.pid();
    send(&mut agent, pid, 1);
    unread.wait(stalls, f64::from(CROWD) + 2.0);
    for helper in [&mut agent, &mut flood, &mut crowd] {
        helper.finish_well();
    }
    let (events, remains) = unread.read();
    assert!(remains.status.success(), "{:#?}", remains.log);
    let count = |uid| {
        events
            .iter()
            .filter(|event| by(event, "stall", uid))
            .count()
    };
    assert_eq!(count(SERVICE), 1);
    assert!((500..CROWD as usize).contains(&count(NOBODY)));
}

/// While there is room the observing thread writes by itself. When there is
/// none, another waits for the reader, and no line overtakes another.
#[test]
fn lines_keep_their_order_whoever_writes_them() {
    const PAUSED: u32 = 2_000;
    need_kernel!();
    let unread = Unread::start();
    let mut agent = unread.sender(SERVICE);
    let pid = agent.pid();
    send(&mut agent, pid, PAUSED);
    let beats = r#"observer_events_total{event="beat"}"#;
    unread.wait(beats, f64::from(PAUSED));
    let (events, remains) = unread.read_while(|| {
        for _ in 0..10 {
            send(&mut agent, pid, 1);
            thread::sleep(Duration::from_millis(20));
        }
    });
    agent.finish_well();
    assert_eq!(remains.counter("stdout_lost"), 0);
    let times: Vec<u64> = events
        .iter()
        .filter(|event| is(event, "beat"))
        .map(|beat| beat["observer_ns"].as_u64().expect("a time"))
        .collect();
    assert_eq!(times.len(), PAUSED as usize + 10);
    assert!(times.is_sorted());
}

/// A thread that is woken for each line would cost more than the line.
#[test]
fn a_line_that_finds_room_wakes_no_other_thread() {
    need_kernel!();
    let observer = Setup::new(THRESHOLD_MS * 100).start();
    let mut agent = pulse(&observer, 10, 50);
    observer.expect_count("beats", 50, |event| is(event, "beat"));
    agent.finish_well();
    let mut threads = procfs::wake_ups(observer.pid()).into_iter();
    let thread = threads.find(|(name, _)| name == "stdout");
    let (_, woken) = thread.expect("a thread of the name");
    assert!(woken <= 3, "the other thread was woken {woken} times");
    assert!(observer.stop().status.success());
}

/// Whoever read the events is gone: the observer logs that and ends, rather
/// than observe for nobody.
#[test]
fn a_closed_stdout_ends_the_observer() {
    need_kernel!();
    let directory = tempfile::tempdir().expect("a scratch directory");
    let socket = directory.path().join("s");
    let mut observer = Command::new(observer_binary())
        .args(["run", "--json", "--threshold-ms", "60000", "--socket"])
        .arg(&socket)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(observer.stdout.take());
    let mut log = BufReader::new(observer.stderr.take().expect("stderr is piped"));
    let mut line = String::new();
    while line.trim_end() != "ready" {
        line.clear();
        assert!(log.read_line(&mut line).expect("text") > 0, "not ready");
    }
    let mut agent = Agent::start(
        env!("CARGO_BIN_EXE_pulse"),
        [&socket.display().to_string(), "1", "1"],
    );
    agent.finish_well();
    assert_eq!(agent.number(), 1, "a beat to report");
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = observer.try_wait().expect("it is our child") {
            break status;
        }
        if Instant::now() > end {
            observer.kill().expect("it is our child");
            observer.wait().expect("it is our child");
            panic!("it goes on without a reader");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let mut rest = String::new();
    log.read_to_string(&mut rest).expect("text");
    assert_eq!(status.code(), Some(1), "{rest}");
    assert!(rest.contains("stdout was closed by its reader"), "{rest}");
    assert!(!rest.contains("panicked"), "{rest}");
    assert!(!socket.exists());
}
