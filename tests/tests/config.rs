//! The configuration file: who may have written it, what is refused, and that it
//! is read again while agents beat.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use observer_tests::attacker::NOBODY;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::privilege::Binary;
use observer_tests::privilege::Privilege::{self, Root};
use observer_tests::senders::{pulse, sender};
use observer_tests::trail::Trail;
use observer_tests::{need_kernel, observer_binary};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// A folder that everybody can look into, with a file `observer.toml`.
struct Config {
    folder: TempDir,
    binary: Binary,
}

impl Config {
    fn new(content: &str) -> Self {
        let config = Self {
            folder: tempfile::tempdir().expect("a folder"),
            binary: Binary::new(),
        };
        set_mode(config.folder.path(), 0o755);
        fs::write(config.file(), content).expect("there is room");
        config
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("observer.toml")
    }

    /// `observer check-config --json`, with these rights.
    fn check(&self, privilege: Privilege, file: &Path) -> Result<Value, String> {
        let mut command = self.binary.command(privilege);
        outcome(command.args(["check-config", "--json"]).arg(file))
    }
}

/// What it writes, or why it does not, which must be exit code 2.
fn outcome(command: &mut Command) -> Result<Value, String> {
    let output = command.output().expect("it can be started");
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).expect("JSON"));
    }
    let reason = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{reason}");
    Err(reason)
}

fn set_owner(path: &Path, uid: u32) {
    chown(path, Some(uid), None).expect("root may");
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

/// Waits until so much time has gone by in which nothing may happen.
fn let_pass(time: Duration) {
    thread::sleep(time);
}

const LONG: &str = "threshold = \"60s\"";

/// A flag beats the environment, and that beats the file.
#[test]
fn what_beats_what() {
    let config = Config::new("socket = \"/run/s\"\nthreshold = \"5s\"\nlog = \"warn\"\n");
    let settings = |variable: &str, flags: &[&str]| {
        let mut command = Command::new(observer_binary());
        command.args(["check-config", "--json"]).arg(config.file());
        command.arg("--").args(flags).env("OBSERVER_LOG", variable);
        outcome(&mut command).expect("a good file")["settings"].take()
    };
    let found = settings("", &[]);
    assert_eq!(found["threshold_ms"]["value"], 5000);
    assert_eq!(found["threshold_ms"]["set_by"], "file");
    assert_eq!(found["threshold_ms"]["line"], 2);
    assert_eq!(found["log"]["value"], "warn");
    assert_eq!(found["events"]["set_by"], "default");
    let found = settings("debug", &[]);
    assert_eq!(found["log"]["value"], "debug");
    assert_eq!(found["log"]["set_by"], "environment");
    assert_eq!(found["log"]["variable"], "OBSERVER_LOG");
    let found = settings("debug", &["--log", "error", "--threshold-ms", "7"]);
    assert_eq!(found["log"]["value"], "error");
    assert_eq!(found["log"]["set_by"], "flag");
    assert_eq!(found["threshold_ms"]["value"], 7);
}

/// With the path as given, line, column, and the nearest key.
#[test]
fn what_is_wrong_is_refused_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("s");
    fs::write(
        folder.path().join("c.toml"),
        format!("socket = {socket:?}\n\n  treshold = \"5s\"\n"),
    )
    .expect("there is room");
    for path in ["c.toml", "./c.toml", "../c.toml"] {
        let inner = folder.path().join("inner");
        drop(fs::create_dir(&inner));
        let here = if path.starts_with("..") {
            &inner
        } else {
            folder.path()
        };
        let mut run = Command::new(observer_binary());
        run.args(["run", "--config", path]).current_dir(here);
        let reason = outcome(&mut run).expect_err("a wrong key");
        let expected =
            format!("error: {path}:3:3: unknown key `treshold`; the nearest is `threshold`");
        assert_eq!(reason.trim_end(), expected);
        assert!(!socket.exists(), "it started");
    }
}

/// Neither a file nor a folder on the way that somebody else could have changed.
#[test]
fn nobody_else_can_have_written_it() {
    need_kernel!();
    let config = Config::new(&format!("socket = \"/run/s\"\n{LONG}\n"));
    let (file, folder) = (config.file(), config.folder.path());
    let accepted = |privilege| {
        let settings = config.check(privilege, &file);
        assert!(settings.is_ok(), "{privilege:?}: {settings:?}");
    };
    let refused = |privilege, what: &str| {
        let reason = config.check(privilege, &file).expect_err(what);
        let begin = format!("error: {}: ", file.display());
        assert!(
            reason.starts_with(&begin) && reason.contains(what),
            "{reason}"
        );
    };
    // Root's is for everybody, and a user's own for that user.
    accepted(Root);
    accepted(Privilege::NONE);
    set_owner(&file, NOBODY);
    accepted(Privilege::NONE);
    refused(Root, "belongs to uid 65534");
    set_owner(&file, 4242);
    refused(Privilege::NONE, "belongs to uid 4242");
    set_owner(&file, 0);
    for (path, modes) in [(file.as_path(), [0o664, 0o646]), (folder, [0o775, 0o757])] {
        let before = path.metadata().expect("it is there").permissions();
        for mode in modes {
            set_mode(path, mode);
            refused(Root, &format!("has mode {mode:04o}"));
        }
        fs::set_permissions(path, before).expect("it is ours");
    }
    set_owner(folder, 4242);
    refused(Root, "belongs to uid 4242");
    set_owner(folder, 0);
    // In a sticky folder a file is its owner's, whoever may write there.
    set_mode(folder, 0o1777);
    accepted(Root);
    // A link there may be somebody else's.
    let link = folder.join("link");
    symlink(&file, &link).expect("a link");
    config.check(Root, &link).expect("root's link");
    lchown(&link, Some(4242), None).expect("root may");
    let reason = config.check(Root, &link).expect_err("somebody's link");
    assert!(reason.contains("belongs to uid 4242"), "{reason}");
    // What another process says of itself in there is root's to the kernel.
    let reason = config.check(Root, Path::new("/proc/1/cmdline"));
    let reason = reason.expect_err("a file of /proc");
    assert!(reason.contains("a file of /proc"), "{reason}");
}

#[test]
fn it_starts_with_all_of_it_from_the_file() {
    need_kernel!();
    let observer = Setup::configured(&format!("{LONG}\nsocket_mode = 0o600")).start();
    let mut agent = sender(observer.target(), "resident", &[]);
    observer.expect("a beat", |event| is(event, "beat"));
    agent.finish_well();
    let remains = observer.stop();
    assert!(remains.status.success());
    let start = &remains.log[0];
    assert!(start.contains("threshold 60000 ms"), "{start}");
}

/// All of it changes, or nothing; what needs a restart is named; and nobody
/// stalls by it.
#[test]
fn it_is_read_again_while_agents_beat() {
    need_kernel!();
    let observer = Setup::configured(LONG).start();
    let mut agent = pulse(&observer, 20, 0);
    let quiet = sender(observer.target(), "resident", &[]);
    observer.expect_count("both", 2, |event| is(event, "beat") && event["nonce"] == 1);
    // Longer than the threshold that comes.
    let_pass(Duration::from_secs(4));
    let bad = "threshold = \"1ms\"\nallow_uid = [4242]\nlog = \"debug\"\nbogus = 1";
    observer.reconfigure(bad);
    observer.expect_log(1, "nothing is changed");
    observer.expect_log(1, "observer.toml:5:1: unknown key `bogus`");
    let before = observer.events().len();
    let_pass(Duration::from_millis(200));
    let events = observer.events();
    assert!(events.len() > before, "its agents are allowed to beat");
    assert!(
        events.iter().all(|event| is(event, "beat")),
        "nobody stalls"
    );

    let changed = Instant::now();
    observer.reconfigure("threshold = \"3s\"\nmax_agents = 7");
    observer.expect_log(1, "changed: threshold_ms from 60000 to 3000");
    observer.expect_log(
        1,
        "not changed before a restart: max_agents from 16384 to 7",
    );
    let stall = observer.expect("a stall", |event| is(event, "stall"));
    assert!(changed.elapsed() >= Duration::from_secs(3), "{stall}");
    assert_eq!(stall["pid"], quiet.pid());
    agent.finish_well();
    observer.expect("the other's stall", |event| {
        is(event, "stall") && event["pid"] == agent.pid()
    });
    assert_eq!(observer.stop().counter("stalls"), 2);
}

/// However often it is read again.
#[test]
fn nobody_stalls_by_signals() {
    need_kernel!();
    let observer = Setup::configured("threshold = \"5s\"").start();
    let mut agent = pulse(&observer, 20, 0);
    observer.expect("a beat", |event| is(event, "beat"));
    let end = Instant::now() + Duration::from_secs(3);
    for round in (0..2).cycle() {
        observer.reconfigure(&format!("threshold = \"{}ms\"", 5000 + round));
        if Instant::now() > end {
            break;
        }
    }
    agent.finish_well();
    let remains = observer.stop();
    assert_eq!(remains.counter("stalls"), 0);
    assert!(remains.counter("beats") > 50);
    let changes = remains
        .log
        .iter()
        .filter(|line| line.contains("changed: threshold"));
    assert!(changes.count() > 2, "{:#?}", remains.log);
}

/// An agent that no longer may be one is no agent that has stalled.
#[test]
fn senders_are_allowed_and_refused_anew() {
    need_kernel!();
    let observer = Setup::configured("threshold = \"5s\"").start_for_all();
    let mut agent = pulse(&observer, 20, 0);
    observer.expect("a beat", |event| is(event, "beat"));
    observer.reconfigure("threshold = \"5s\"\nallow_uid = 4242");
    observer.expect_log(1, "allow_uid from unset to 4242");
    observer.expect_log(1, "are forgotten: 1");
    observer.expect_log(1, "refused a sender");
    let mut wanted = sender(observer.target(), "resident-as", &[4242]);
    let of_wanted = |event: &Value| is(event, "beat") && event["sender"]["uid"] == 4242;
    observer.expect("a beat of the other", of_wanted);
    wanted.finish_well();
    observer.expect("its stall", |event| is(event, "stall"));
    let beats = observer.events().len();
    observer.reconfigure("threshold = \"5s\"");
    observer.expect_log(1, "allow_uid from 4242 to unset");
    observer.expect_count("more beats", beats + 1, |_| true);
    agent.finish_well();
    let stalls = observer.events_where(|event| is(event, "stall"));
    assert_eq!(stalls.len(), 1, "{stalls:?}");
}

#[test]
fn the_log_and_the_trail_have_the_change() {
    need_kernel!();
    let folder = tempfile::tempdir().expect("a folder");
    let trail = Trail::new(folder.path());
    let observer = trail.observer(Setup::configured(LONG));
    observer.reconfigure("threshold = \"50s\"\nlog = \"error\"");
    observer.expect_log(
        1,
        "changed: threshold_ms from 60000 to 50000, log from info to error",
    );
    observer.expect_log(1, "reloaded");
    observer.reconfigure("threshold = \"40s\"\nlog = \"error\"");
    observer.expect_log(2, "reloaded");
    observer.reconfigure("threshold = \"40s\"\nbogus = 1");
    observer.expect_log(1, "bogus");
    let remains = observer.stop();
    let logged = remains.log.iter().any(|line| line.contains("to 40000"));
    assert!(!logged, "{:#?}", remains.log);
    let lines = trail.lines();
    let changes: Vec<&Value> = lines
        .iter()
        .filter(|line| line["kind"] == "reloaded")
        .map(|line| &line["changes"])
        .collect();
    assert_eq!(
        changes[0],
        "threshold_ms from 60000 to 50000, log from info to error"
    );
    trail.assert_clean();
}

/// How it ended is written whatever the log leaves out.
#[test]
fn a_log_that_is_off_hides_no_refusal() {
    need_kernel!();
    let off = format!("{LONG}\nlog = \"off\"");
    let observer = Setup::configured(&off).start();
    observer.reconfigure(&format!("{off}\nbogus = 1"));
    observer.expect_log(1, "SIGHUP: nothing is changed: ");
    observer.expect_log(1, "observer.toml:4:1: unknown key `bogus`");
    observer.reconfigure(&off);
    observer.expect_log(1, "reloaded");
    assert!(observer.stop().status.success());
}

/// Of the signals that end other processes those that are not meant for it.
#[test]
fn other_signals_do_nothing() {
    need_kernel!();
    let observer = Observer::start(60_000);
    for signal in [
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::HUP,
        Signal::IO,
    ] {
        observer.signal(signal);
    }
    observer.expect_log(1, "started without --config");
    let mut agent = sender(observer.target(), "resident", &[]);
    observer.expect("a beat", |event| is(event, "beat"));
    agent.finish_well();
    assert!(observer.stop().status.success());
}
