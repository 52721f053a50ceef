//! A reader of stdout that does not read: what finds room in the queue then.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use observer_tests::agent::Agent;
use observer_tests::attacker::NOBODY;
use observer_tests::observer::{Observer, PATIENCE, Remains, Setup, is};
use observer_tests::prometheus::{get, metrics_port};
use observer_tests::{need_kernel, observer_binary};
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
            .arg("--socket-mode")
            .arg("0666")
            .arg("--metrics")
            .arg("0")
            .start();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(observer.directory(), open).expect("ours");
        Self {
            metrics: metrics_port(&observer),
            observer,
            stdout,
            _folder: folder,
        }
    }

    /// A process of a user that sends what it is asked to.
    fn sender(&self, uid: u32) -> Agent {
        let socket = self.observer.socket().display().to_string();
        let arguments = ["volleys-as".to_owned(), socket, uid.to_string()];
        let mut sender = Agent::start(env!("CARGO_BIN_EXE_sender"), arguments);
        assert_eq!(sender.number(), u64::from(sender.pid()));
        sender
    }

    /// Waits until a metric is at least so much.
    fn wait(&self, metric: &str, least: f64) {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = get(self.metrics, "/metrics").expect("it answers").1;
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
        fcntl_setfl(&self.stdout, OFlags::empty()).expect("a flag");
        let stdout = self.stdout;
        let reader = thread::spawn(move || {
            let lines = BufReader::new(stdout).lines();
            lines
                .map(|line| serde_json::from_str(&line.expect("text")).expect("JSON"))
                .collect()
        });
        let remains = self.observer.stop();
        (reader.join().expect("it reads"), remains)
    }
}

fn send(sender: &mut Agent, claimed: u32, count: u32) {
    sender.tell(&format!("{claimed} {count}"));
    assert_eq!(sender.line(), "sent");
}

fn by(event: &Value, name: &str, uid: u32) -> bool {
    is(event, name) && event["sender"]["uid"] == uid
}

#[test]
fn a_forgers_flood_hides_no_other_forger_and_no_silence() {
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

/// Silences are few, unless somebody starts processes for it.
#[test]
fn a_crowd_that_falls_silent_hides_no_other_silence() {
    const CROWD: u32 = 4_000;
    need_kernel!();
    let unread = Unread::start();
    let mut flood = unread.sender(NOBODY);
    let claimed = flood.pid();
    send(&mut flood, claimed, MANY);
    let socket = unread.observer.socket().display().to_string();
    let arguments = [socket, NOBODY.to_string(), CROWD.to_string(), "end".into()];
    let mut crowd = Agent::start(env!("CARGO_BIN_EXE_sleepers"), arguments);
    assert_eq!(crowd.number(), u64::from(CROWD));
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
