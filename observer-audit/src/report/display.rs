//! A line of a trail as text.

use std::fmt;

use super::incidents::CORKED;
use super::line::{Line, ProcessFields};
use super::sender::Sender;
use super::text::plain;

/// For `observer audit follow`: number, time, what, and who.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = self.of.as_deref().unwrap_or(&self.kind);
        write!(f, "{:>8}  {}  {}", self.seq, plain(&self.time), plain(of))?;
        if self.of.is_some() {
            write!(f, " x{} more", self.count)?;
        } else if self.count > 0 {
            write!(f, " {}", self.count)?;
        }
        if let Some(line) = self.about {
            write!(f, " for line {line}")?;
        }
        for text in [&self.cause, &self.reason].into_iter().flatten() {
            write!(f, "  {}", plain(text))?;
        }
        if let Some(pid) = self.claimed_pid {
            write!(f, "  claims {pid}")?;
        }
        if let Some(sender) = &self.sender {
            let verb = if self.cause.as_deref() == Some(CORKED) {
                "sent off by"
            } else {
                "really"
            };
            write!(f, ", {verb} {}", Sender::new(sender, 0, None))?;
            if let Some(comm) = &sender.comm {
                write!(f, " ({})", plain(comm))?;
            }
            if let Some(exe) = &sender.exe {
                write!(f, ", executing {exe}")?;
            }
        }
        for text in [
            self.process.as_ref().and_then(ProcessFields::exe_of_sender),
            self.container
                .as_ref()
                .and_then(|container| container.cgroup.as_deref()),
        ] {
            write!(
                f,
                "{}",
                text.map(|text| format!("  {}", plain(text)))
                    .unwrap_or_default()
            )?;
        }
        Ok(())
    }
}
