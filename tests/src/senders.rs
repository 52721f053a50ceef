//! The helper binaries that send, as tests start them.

use std::env;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::Command;

use crate::agent::Agent;
use crate::observer::Observer;

/// A helper binary of this package. Cargo puts it beside the folder of the
/// tests.
///
/// # Panics
/// If the running test is in no such folder.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test runs");
    let folder = test.ancestors().nth(2).expect("it is in a folder");
    folder.join(name)
}

/// `sender SCENARIO TO NUMBER...` (`src/bin/sender`), once it has printed its
/// pid.
#[must_use]
pub fn sender(to: impl Display, scenario: &str, numbers: &[u32]) -> Agent {
    let (sender, pid) = start(Command::new(program("sender")), scenario, to, numbers);
    assert_eq!(pid, sender.pid());
    sender
}

/// Starts a helper that prints its pid first, by a command that its arguments
/// are added to: it may be in a namespace, where its pid is another.
///
/// # Panics
/// If it prints no pid.
#[must_use]
pub fn start(
    mut command: Command,
    scenario: &str,
    to: impl Display,
    numbers: &[u32],
) -> (Agent, u32) {
    command.arg(scenario).arg(to.to_string());
    command.args(numbers.iter().map(u32::to_string));
    let mut helper = Agent::spawn(command);
    let pid = helper.number();
    (helper, u32::try_from(pid).expect("a pid"))
}

/// Starts an attacker (`src/bin/udp_attack`), and returns once all of its work is
/// done.
#[must_use]
pub fn attack(command: Command, how: &str, to: impl Display, numbers: &[u32]) -> (Agent, u32) {
    let (mut attacker, pid) = start(command, how, to, numbers);
    while attacker.line() != "done" {}
    (attacker, pid)
}

/// An agent on the public client: `pulse` (`src/bin/pulse.rs`).
#[must_use]
pub fn pulse(observer: &Observer, interval_ms: u64, count: u64) -> Agent {
    let numbers = [interval_ms, count].map(|number| number.to_string());
    let [interval_ms, count] = numbers;
    Agent::start(program("pulse"), [observer.target(), interval_ms, count])
}

/// A flooder with settings `NAME=VALUE ...` (`src/bin/flood.rs`), once it has
/// printed its pid.
#[must_use]
pub fn flood(observer: &Observer, kind: &str, settings: &str) -> Agent {
    let (kind, target) = (kind.to_owned(), observer.target());
    let settings = settings.split_whitespace().map(str::to_owned);
    let arguments = [kind, target].into_iter().chain(settings);
    let mut flood = Agent::start(program("flood"), arguments);
    assert_eq!(flood.number(), u64::from(flood.pid()));
    flood
}

/// So many processes of a user, each of which beats once: `sleepers`
/// (`src/bin/sleepers.rs`), once all have.
#[must_use]
pub fn sleepers(observer: &Observer, uid: u32, count: u64, then: &str) -> Agent {
    let numbers = [uid.to_string(), count.to_string()];
    let [uid, number] = numbers;
    let arguments = [observer.target(), uid, number, then.to_owned()];
    let mut sleepers = Agent::start(program("sleepers"), arguments);
    assert_eq!(sleepers.number(), count);
    sleepers
}

/// A process that sends through `io_uring` (`src/bin/uring.rs`).
#[must_use]
pub fn uring(to: impl Display, who: &str, how: &str) -> Agent {
    Agent::start(program("uring"), [who, how, &to.to_string()])
}
