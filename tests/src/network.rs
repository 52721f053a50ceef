//! Two network namespaces, connected by a pair of devices, that the test makes.
//!
//! Each namespace lives as long as a process in it, and so ends with the test:
//! nothing has a name that could be left behind.

use std::ffi::OsStr;
use std::process::Command;

use crate::agent::Agent;

/// Address of the observer's end.
pub const OBSERVER: &str = "10.213.7.1";

/// Address of the agents' end.
pub const AGENTS: &str = "10.213.7.2";

/// The observer's end and the agents' end, which has the interface `agents0`.
pub struct Network {
    observer: Agent,
    agents: Agent,
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Network {
    /// Makes both namespaces and connects them.
    #[must_use]
    pub fn new() -> Self {
        let network = Self {
            observer: holder(),
            agents: holder(),
        };
        let peer = network.agents.pid().to_string();
        network.observer_ip(&[
            "link",
            "add",
            "observer0",
            "type",
            "veth",
            "peer",
            "name",
            "agents0",
            "netns",
            &peer,
        ]);
        for (end, interface, address) in [
            (&network.observer, "observer0", "10.213.7.1/24"),
            (&network.agents, "agents0", "10.213.7.2/24"),
        ] {
            ip(end, &["link", "set", "lo", "up"]);
            ip(end, &["address", "add", address, "dev", interface]);
            ip(end, &["link", "set", interface, "up"]);
        }
        network
    }

    /// Runs `ip` in the observer's namespace.
    pub fn observer_ip(&self, arguments: &[&str]) {
        ip(&self.observer, arguments);
    }

    /// Runs `ip` in the agents' namespace.
    pub fn agents_ip(&self, arguments: &[&str]) {
        ip(&self.agents, arguments);
    }

    /// A command that will run in the observer's namespace.
    #[must_use]
    pub fn at_observer(&self, program: impl AsRef<OsStr>) -> Command {
        within(&self.observer, program)
    }

    /// A command that will run in the agents' namespace.
    #[must_use]
    pub fn at_agents(&self, program: impl AsRef<OsStr>) -> Command {
        within(&self.agents, program)
    }
}

/// A process in a network namespace of its own, which ends when its stdin is
/// closed.
fn holder() -> Agent {
    let mut command = Command::new("unshare");
    command.args(["--net", "--", "sh", "-c", "echo there; exec cat"]);
    let mut holder = Agent::spawn(command);
    assert_eq!(holder.line(), "there");
    holder
}

fn within(holder: &Agent, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/proc/{}/ns/net", holder.pid()))
        .arg("--")
        .arg(program);
    command
}

fn ip(holder: &Agent, arguments: &[&str]) {
    let mut command = within(holder, "ip");
    command.args(arguments);
    let status = command.status().expect("nsenter");
    assert!(status.success(), "{command:?}: {status}");
}
