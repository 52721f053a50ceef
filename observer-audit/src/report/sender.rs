//! Who really sent, as far as a summary keeps it apart.

use std::fmt;

use serde::Serialize;

use super::line::SenderFields;
use super::text::plain;

/// Who really sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Sender {
    /// In the initial pid namespace; `None`: unknown, or several.
    pub host_pid: Option<u32>,
    /// As the observer sees it.
    pub pid: Option<u32>,
    /// When it started, nanoseconds since boot; with the pid it names a process.
    pub start_ns: Option<u64>,
    /// Real user id.
    pub uid: Option<u32>,
    /// In which boot of the host, counted from 1 in this trail: pids mean
    /// nothing beyond a boot.
    pub boot: u32,
    /// Its path in the cgroup hierarchy, where only that and the user are
    /// known.
    pub cgroup: Option<String>,
}

impl Sender {
    pub(super) fn new(fields: &SenderFields, boot: u32, cgroup: Option<String>) -> Self {
        Self {
            host_pid: fields.host_pid,
            pid: fields.pid,
            start_ns: fields.start_ns,
            uid: fields.uid,
            boot,
            cgroup,
        }
    }
}

/// A process by its pid, several by their cgroup; and the user.
impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host_pid.or(self.pid), &self.cgroup) {
            (Some(pid), _) => write!(f, "pid {pid}")?,
            (None, Some(cgroup)) => write!(f, "several in {}", plain(cgroup))?,
            (None, None) => f.write_str("unknown")?,
        }
        match self.uid {
            Some(uid) => write!(f, " uid {uid}"),
            None => Ok(()),
        }
    }
}
