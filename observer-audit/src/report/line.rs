//! A line of a trail, as a reader without a key parses it.

use observer_events::exe::ExeId;
use serde::Deserialize;

use super::text::bounded;

/// One line of a trail, as far as it can be shown without a key.
#[derive(Debug, Deserialize)]
pub struct Line {
    pub(super) seq: u64,
    pub(super) time: String,
    pub(super) kind: String,
    /// The line that evidence is about.
    #[serde(rename = "line")]
    pub(super) about: Option<u64>,
    pub(super) cause: Option<String>,
    pub(super) claimed_pid: Option<u32>,
    pub(super) sender: Option<SenderFields>,
    pub(super) container: Option<ContainerFields>,
    pub(super) process: Option<ProcessFields>,
    #[serde(default)]
    pub(super) count: u64,
    pub(super) of: Option<String>,
    pub(super) alike: Option<String>,
    pub(super) first: Option<String>,
    pub(super) last: Option<String>,
    sample: Option<Box<SampleFields>>,
    pub(super) boot_id: Option<String>,
    pub(super) reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SampleFields {
    cause: Option<String>,
    claimed_pid: Option<u32>,
    sender: Option<SenderFields>,
    container: Option<ContainerFields>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct SenderFields {
    pub(super) pid: Option<u32>,
    pub(super) host_pid: Option<u32>,
    pub(super) start_ns: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) comm: Option<String>,
    pub(super) exe: Option<ExeId>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ContainerFields {
    pub(super) cgroup: Option<String>,
    pub(super) unit: Option<String>,
    pub(super) id: Option<String>,
}

impl ContainerFields {
    /// The container's id, or else its unit or its path.
    pub(super) fn name(&self) -> Option<String> {
        let name = self
            .id
            .as_deref()
            .or(self.unit.as_deref())
            .or(self.cgroup.as_deref());
        name.map(bounded)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct ProcessFields {
    pub(super) exe: Option<String>,
    exe_changed: Option<bool>,
}

impl ProcessFields {
    /// What it executed when it sent, as far as anybody knows.
    pub(super) fn exe_of_sender(&self) -> Option<&str> {
        let exe = self.exe.as_deref();
        exe.filter(|_| self.exe_changed != Some(true))
    }
}

impl Line {
    /// Reads a line without its line feed. `None` if it is not of the
    /// observer's form.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut line: Self = serde_json::from_slice(text).ok()?;
        // What a `repeat` line has of its incidents is in the sample.
        if let Some(sample) = line.sample.take() {
            let SampleFields {
                cause,
                claimed_pid,
                sender,
                container,
            } = *sample;
            (line.cause, line.claimed_pid) = (cause, claimed_pid);
            (line.sender, line.container) = (sender, container);
        }
        Some(line)
    }
}
