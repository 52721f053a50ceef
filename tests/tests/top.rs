//! The live view, in a real terminal: tmux draws it, presses its keys and prints
//! what is on the screen.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use observer_common::frame::{Frame, Status};
use observer_testing::{connect, frame};
use observer_tests::observer::{Observer, PATIENCE, Setup};
use observer_tests::{need_kernel, observer_binary};

/// A terminal of so many columns and lines; its server is of the test's own
/// and ends with it.
struct Terminal {
    socket: String,
}

impl Terminal {
    fn start(folder: &Path, columns: u16, lines: u16, command: &str) -> Self {
        let terminal = Self {
            socket: folder.join("tmux").display().to_string(),
        };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        // What the shell prints afterwards shows that the view restored the
        // terminal.
        let command = format!("{command}; echo ended with $?; stty -a; cat");
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &lines,
            &command,
        ]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-S", &self.socket])
            .args(arguments)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .output()
            .unwrap_or_else(|error| panic!("tmux: {error}"));
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen shows all of these.
    fn expect(&self, words: &[&str]) -> String {
        self.wait(&format!("{words:?}"), |screen| {
            words.iter().all(|word| screen.contains(word))
        })
    }

    fn wait(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            assert!(began.elapsed() < PATIENCE, "never: {what}\n{screen}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut kill = Command::new("tmux");
        drop(kill.args(["-S", &self.socket, "kill-server"]).output());
    }
}

fn beat(socket: &Path, pid: u32, status: Status, nonce: u64) {
    let agent = connect(socket).expect("it is there");
    let frame = Frame {
        status,
        ..frame(pid, nonce)
    };
    agent.send(&frame.encode()).expect("sends");
}

#[test]
fn agents_attacks_and_an_end_are_seen() {
    need_kernel!();
    let setup = Setup::new(700);
    let control = setup.directory().join("control").display().to_string();
    let folder = tempfile::tempdir().expect("a directory");
    let top = format!(
        "{} top --interval-ms 100 --control {control}",
        observer_binary().display()
    );
    let terminal = Terminal::start(folder.path(), 100, 24, &top);
    // It waits for an observer that is not there yet.
    terminal.expect(&["is an observer running", "q quit"]);
    let observer = setup.arg("--control").arg(&control).start();
    terminal.expect(&[
        "tier btf",
        "none has beaten yet",
        "incidents: none",
        "lost: nothing",
    ]);

    let pid = std::process::id();
    beat(&observer.socket(), pid, Status::Degraded, 41);
    terminal.expect(&[
        "agents 1-1 of 1",
        &pid.to_string(),
        "degraded",
        "41",
        "kernel",
    ]);
    beat(&observer.socket(), 4242, Status::Ok, 1);
    beat(&observer.socket(), 4242, Status::Ok, 2);
    let screen = terminal.expect(&["pid_mismatch", "4242", "2 auth failures"]);
    let attack = screen.lines().find(|line| line.contains("pid_mismatch"));
    let attack: Vec<_> = attack.expect("it is there").split_whitespace().collect();
    assert_eq!(attack.first(), Some(&"2"), "{attack:?}");
    assert!(attack.contains(&pid.to_string().as_str()), "{attack:?}");
    terminal.expect(&["SILENT", "1 silent"]);

    terminal.press("p");
    terminal.expect(&["paused; p goes on"]);
    terminal.press("p");
    terminal.expect(&["q quit"]);
    terminal.tmux(&["resize-window", "-x", "80", "-y", "16"]);
    terminal.expect(&["SILENT", "pid_mismatch", "q quit"]);

    drop(observer.stop());
    terminal.expect(&["trying again"]);
    terminal.press("q");
    let screen = terminal.expect(&["ended with 0", "echo"]);
    assert!(
        !screen.contains("-echo "),
        "the terminal is still raw:\n{screen}"
    );
}

/// What is seen of attacks does not depend on how many agents fit besides.
#[test]
fn a_crowd_of_attacks_stays_on_the_screen() {
    need_kernel!();
    let setup = Setup::new(60_000);
    let control = setup.directory().join("control").display().to_string();
    let observer = setup.arg("--control").arg(&control).start();
    for claimed in 4001..=4012 {
        beat(&observer.socket(), claimed, Status::Ok, 1);
    }
    observer.expect_count("forgeries", 12, |event| event["event"] == "auth_failure");
    let folder = tempfile::tempdir().expect("a directory");
    let top = format!(
        "{} top --interval-ms 100 --control {control}",
        observer_binary().display()
    );
    let terminal = Terminal::start(folder.path(), 100, 24, &top);
    let latest: Vec<String> = (4005..=4012).map(|pid| pid.to_string()).collect();
    let latest: Vec<&str> = latest.iter().map(String::as_str).collect();
    terminal.expect(&latest);
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(70));
        let screen = terminal.screen();
        assert_eq!(screen.matches("pid_mismatch").count(), 8, "{screen}");
    }
    terminal.press("q");
    terminal.expect(&["ended with 0"]);
}

/// Many agents: only as many are requested as fit, and keys lead to the rest.
#[test]
fn keys_lead_to_every_agent() {
    need_kernel!();
    let (_observer, control) = crowd();
    let folder = tempfile::tempdir().expect("a directory");
    let top = format!(
        "{} top --interval-ms 100 --control {control}",
        observer_binary().display()
    );
    let terminal = Terminal::start(folder.path(), 100, 24, &top);
    terminal.expect(&["agents 1-", "of 200", "1001"]);
    terminal.press("Down");
    terminal.expect(&["agents 2-", "1002"]);
    terminal.press("PageDown");
    terminal.wait("the next page", |screen| !screen.contains("agents 2-"));
    for _ in 0..40 {
        terminal.press("PageDown");
    }
    terminal.expect(&["-200 of 200", "1200"]);
    terminal.press("g");
    terminal.expect(&["agents 1-", "1001"]);
    terminal.press("C-c");
    terminal.expect(&["ended with 0"]);
}

/// Neither a terminal that grows nor a page that is turned waits for the next
/// interval, which may be a minute away.
#[test]
fn agents_that_come_into_view_are_there_at_once() {
    need_kernel!();
    let (_observer, control) = crowd();
    let folder = tempfile::tempdir().expect("a directory");
    let top = format!(
        "{} top --interval-ms 60000 --control {control}",
        observer_binary().display()
    );
    let terminal = Terminal::start(folder.path(), 100, 24, &top);
    terminal.expect(&["agents 1-", "of 200", "1001"]);
    let began = Instant::now();
    // More than were requested before it was known how many fit.
    terminal.tmux(&["resize-window", "-x", "100", "-y", "110"]);
    terminal.expect(&["1001", "1090"]);
    terminal.press("PageDown");
    terminal.press("PageDown");
    terminal.expect(&["-200 of 200", "1200"]);
    assert!(began.elapsed() < PATIENCE / 2);
    terminal.press("q");
    terminal.expect(&["ended with 0"]);
}

/// An observer that knows 200 agents, and its control socket.
fn crowd() -> (Observer, String) {
    let setup = Setup::new(60_000).arg("--attest").arg("off");
    let control = setup.directory().join("control").display().to_string();
    let port = free_port();
    let observer = setup
        .arg("--control")
        .arg(&control)
        .arg("--udp")
        .arg(&format!("127.0.0.1:{port}"))
        .arg("--accept-network-beats")
        .start();
    let agent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    // Nobody attests them, so that one process can be all of these.
    for pid in 1001..=1200 {
        agent
            .send_to(&frame(pid, 1).encode(), ("127.0.0.1", port))
            .expect("sends");
    }
    observer.expect_count("beats", 200, |event| event["event"] == "beat");
    (observer, control)
}

fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.local_addr().expect("it is bound").port()
}
