//! What a sender runs, read from /proc after the fact.
//!
//! The kernel's record names one process; /proc shows whichever has that pid
//! now. So /proc is believed only where the start time is the record's, and
//! nothing is missing without a reason.

use observer_events::event::Attestation;
use observer_events::exe::ExeId;
use serde::Serialize;

use super::boot_clock::BootClock;
use super::executable::{Exe, ExePlace};
use super::procfs::{Folder, Missing};

/// How much of a command line is kept, in bytes; the process chooses how long
/// it is.
const MAX_COMMAND: usize = 2048;

/// What /proc shows of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Process {
    /// Marks that it may have changed since the datagram was sent.
    read: &'static str,
    exe: Option<String>,
    exe_state: State,
    /// Device and inode of `exe`.
    exe_id: Option<ExeId>,
    /// Whether the process executes another file than when it sent; `None`: it
    /// cannot be told.
    exe_changed: Option<bool>,
    command: Option<Vec<String>>,
    command_state: State,
    /// Whether the command line is longer.
    command_cut: bool,
    /// Why something is missing, in words.
    error: Option<String>,
    /// Its cgroup as /proc shows it: where to look first for the kernel's id.
    #[serde(skip)]
    cgroup_hint: Option<String>,
    /// Whether /proc still has that very process.
    #[serde(skip)]
    is_running: bool,
}

/// How much there is of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// All of it.
    Whole,
    /// Its beginning.
    Cut,
    /// There is nothing: the process has emptied it.
    Empty,
    /// The process had ended.
    Gone,
    /// The observer may not read it.
    Denied,
    /// It was not read, for another reason.
    Unread,
}

impl Process {
    /// A process of which nothing was read, for this reason.
    pub(crate) fn unread(error: impl Into<String>) -> Self {
        let mut process = Self::new();
        process.note_failure(error);
        process
    }

    fn new() -> Self {
        Self {
            read: "after_the_fact",
            exe: None,
            exe_state: State::Unread,
            exe_id: None,
            exe_changed: None,
            command: None,
            command_state: State::Unread,
            command_cut: false,
            error: None,
            cgroup_hint: None,
            is_running: false,
        }
    }

    /// Reads all that /proc shows without the process's `mmap_lock`
    /// (`do_task_stat`, `fs/proc/array.c`; `proc_exe_link`, `fs/proc/base.c`;
    /// `proc_cgroup_show`, `kernel/cgroup/cgroup.c`; run on 6.18 with the lock
    /// held: `tests/tests/evidence.rs`). `None` where the kernel named no process
    /// that the observer can see.
    ///
    /// It may have to wait for other locks: see [`gather`](super::gather).
    pub(crate) fn look_up(sender: &Attestation, clock: BootClock) -> Option<Self> {
        let mut process = Self::new();
        match Folder::open(sender.pid?, sender.start_ns, clock) {
            Ok(folder) => process.describe(&folder, sender.exe),
            Err(missing) => {
                process.exe_state = process.note_missing(missing);
                process.command_state = process.exe_state;
            }
        }
        Some(process)
    }

    fn describe(&mut self, folder: &Folder, sent_by: Option<ExeId>) {
        // What an ending process loses first.
        match folder.exe() {
            Ok(exe) => self.set_exe(exe, sent_by),
            Err(missing) => self.exe_state = self.note_missing(missing),
        }
        self.cgroup_hint = folder.cgroup();
        self.is_running = self.exe_state != State::Gone;
        if !self.is_running {
            self.command_state = State::Gone;
        }
    }

    fn set_exe(&mut self, exe: Exe, sent_by: Option<ExeId>) {
        let Exe { path, place } = exe;
        (self.exe, self.exe_state) = (Some(path), State::Whole);
        self.exe_id = place.and_then(ExePlace::id);
        self.exe_changed = place
            .zip(sent_by)
            .and_then(|(now, then)| now.is_other(then));
        if self.exe_changed == Some(true) {
            self.note_failure("exe: the process executed another file when it sent");
        }
    }

    /// Adds the command line. The process chooses how long that takes.
    pub(crate) fn read_command(&mut self, sender: &Attestation, clock: BootClock) {
        let Some(pid) = sender.pid else {
            return;
        };
        let result = Folder::open(pid, sender.start_ns, clock).and_then(|folder| {
            let command = folder.command(MAX_COMMAND.saturating_add(1))?;
            Ok((command, folder.exe().map(|exe| exe.path)))
        });
        match result {
            Ok((command, exe)) => {
                self.set_command(command.as_deref());
                if exe.is_ok_and(|exe| self.exe.as_ref().is_some_and(|before| *before != exe)) {
                    self.note_failure(
                        "cmdline: of the program that the process executed after exe was read",
                    );
                }
            }
            Err(missing) => self.command_state = self.note_missing(missing),
        }
    }

    /// Notes why something is missing; the first failure is kept.
    pub(crate) fn note_failure(&mut self, error: impl Into<String>) {
        self.error.get_or_insert(error.into());
    }

    fn note_missing(&mut self, missing: Missing) -> State {
        let (state, error) = match missing {
            Missing::Gone => (State::Gone, "the process has ended".into()),
            Missing::Reused => (State::Gone, "the pid is another process's now".into()),
            Missing::Denied(error) => (State::Denied, error),
            Missing::Unknown(error) => (State::Unread, error),
        };
        self.note_failure(error);
        state
    }

    /// Whether there is a process whose command line could be read.
    pub(crate) fn is_running(&self) -> bool {
        self.is_running
    }

    /// Its path in the unified hierarchy, as /proc shows it.
    pub(crate) fn cgroup_hint(&self) -> Option<&str> {
        self.cgroup_hint.as_deref()
    }

    fn set_command(&mut self, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else {
            self.command_state = State::Empty;
            return;
        };
        self.command_cut = bytes.len() > MAX_COMMAND;
        self.command_state = if self.command_cut {
            State::Cut
        } else {
            State::Whole
        };
        let kept = bytes.get(..MAX_COMMAND).unwrap_or(bytes);
        let kept = kept.strip_suffix(b"\0").unwrap_or(kept);
        let words = kept.split(|&byte| byte == 0);
        self.command = Some(
            words
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect(),
        );
    }
}

#[cfg(test)]
mod tests;
