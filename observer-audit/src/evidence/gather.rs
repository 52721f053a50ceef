//! Helpers that gather evidence, so that the writer waits for no sender.
//!
//! To read a command line takes the `mmap_lock` of its process, which that
//! process can keep for as long as it likes: it takes a page fault in memory
//! whose content a server of its own is to deliver (FUSE), and has another
//! thread wait for the lock to write. Such a wait ends with a fatal signal
//! only (`mmap_read_lock_killable` in `__access_remote_vm`, `mm/memory.c`), so
//! a thread in it can be neither interrupted nor ended; the end of the whole
//! process is not held up by it.
//!
//! What else is read of a process (`stat`, `exe`) it can hold up on newer
//! kernels, which take its `exec_update_lock` for that (`do_task_stat`,
//! `fs/proc/array.c`; backported to 6.18.40): an `execve` keeps that while it
//! closes files, and a server of its own need not answer that either. And on
//! each kernel whoever reads `stat` of a process that exits may be left with the
//! end of its memory (`mmput`).
//!
//! So helpers read, and whoever is asked for has [`LIMIT`] until the writer
//! goes on with what there is. Processes are looked up before any command line
//! is read. A helper that is stuck is replaced, up to [`MAX_HELD_UP`] of them in
//! either; one process can hold up one, and those of one user
//! [`MAX_OF_USER`](state::MAX_OF_USER), so that no user alone keeps the evidence
//! about others from the trail. Where the bound is reached something is missing
//! and its line says so. One helper is always left for cgroups, which are found
//! by the kernel's own id, and of no process.

mod state;

use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use observer_events::event::Attestation;

use self::state::{Found, MAX_HELD_UP, Request, Stage, State, Task};
use super::cgroup::{Cgroups, Container};
use super::process::Process;
use crate::queue::Waker;

/// How long evidence is waited for. What nothing holds up is there within a
/// millisecond.
pub(crate) const LIMIT: Duration = Duration::from_secs(1);
/// One more, for what no process holds up.
const MAX_HELPERS: usize = 2 * MAX_HELD_UP + 1;
/// Senders that are waited for at most. The trail's budget for lines in full
/// keeps them below that.
const MAX_WAITING: usize = 1024;
/// Cgroups that wait to be looked up at most.
const MAX_CGROUPS: usize = 128;

/// What was found out about a sender.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// The line that the sender is named on.
    pub(crate) line: u64,
    /// The kernel's record of it.
    pub(crate) sender: Attestation,
    /// Found by the kernel's own cgroup id.
    pub(crate) container: Option<Container>,
    /// Read from /proc.
    pub(crate) process: Option<Process>,
    /// How long after the incident that was.
    pub(crate) late: Duration,
    /// Whether it was waited for in vain.
    pub(crate) is_overdue: bool,
}

/// The writer's end. Dropped, it ends the helpers that are not stuck.
#[derive(Debug)]
pub(crate) struct Gathering {
    desk: Arc<Desk>,
}

/// Where writer and helpers meet.
#[derive(Debug)]
struct Desk {
    state: Mutex<State>,
    /// There is work for a helper.
    work: Condvar,
    /// Something was finished.
    finished: Condvar,
    cgroups: Cgroups,
    /// Wakes the writer.
    waker: Waker,
}

impl Gathering {
    pub(crate) fn new(waker: Waker, cgroup_mount: Option<PathBuf>) -> Self {
        Self {
            desk: Arc::new(Desk {
                state: Mutex::default(),
                work: Condvar::new(),
                finished: Condvar::new(),
                cgroups: Cgroups::new(cgroup_mount),
                waker,
            }),
        }
    }

    /// The cgroup with this id, if it was found before. Does not look.
    pub(crate) fn known_cgroup(&self, id: u64) -> Option<Container> {
        self.desk.cgroups.known(id)
    }

    /// Asks for a cgroup that a later line may name.
    pub(crate) fn learn_cgroup(&self, id: u64) {
        if self.known_cgroup(id).is_some() {
            return;
        }
        let mut state = self.desk.lock();
        if state.cgroups.len() < MAX_CGROUPS && !state.cgroups.contains(&id) {
            state.cgroups.push_back(id);
            self.call_helper(&mut state);
        }
    }

    /// Asks for all that can be found out about the sender on this line, of
    /// an incident at that time. `false` if too much is asked for already.
    pub(crate) fn ask(
        &self,
        line: u64,
        time: Timestamp,
        sender: &Attestation,
        now: Instant,
    ) -> bool {
        if sender.pid.is_none() && sender.cgroup_id.is_none() {
            return true;
        }
        if let Some(id) = sender.cgroup_id {
            // Whatever becomes of looking the process up.
            self.learn_cgroup(id);
        }
        let mut state = self.desk.lock();
        if state.requests.len() >= MAX_WAITING {
            return false;
        }
        let id = state.next_id;
        state.next_id = id.wrapping_add(1);
        state.requests.push_back(Request {
            id,
            line,
            sender: *sender,
            time,
            deadline: now.checked_add(LIMIT).unwrap_or(now),
            stage: Stage::New,
            found: Found::default(),
        });
        self.call_helper(&mut state);
        true
    }

    /// When [`Gathering::collect`] has something even if no helper finishes.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let state = self.desk.lock();
        state.requests.front().map(|request| request.deadline)
    }

    /// What was finished, and what is overdue.
    pub(crate) fn collect(&self, now: Instant) -> Vec<Evidence> {
        let ripe = self.desk.lock().take(|request| request.deadline <= now);
        self.with_cgroups(ripe)
    }

    /// With what was found of their cgroups though not of themselves.
    fn with_cgroups(&self, mut evidence: Vec<Evidence>) -> Vec<Evidence> {
        for evidence in &mut evidence {
            if evidence.container.is_none() {
                let id = evidence.sender.cgroup_id;
                evidence.container = id.and_then(|id| self.known_cgroup(id));
            }
        }
        evidence
    }

    /// All that is left, because the end has come. Waits for what may still
    /// come within its time, and no longer than `patience`.
    pub(crate) fn finish(&self, patience: Duration) -> Vec<Evidence> {
        let end = Instant::now().checked_add(patience);
        let mut state = self.desk.lock();
        while let Some(wait) = end.and_then(|end| state.time_left(end)) {
            let (next, _) = self
                .desk
                .finished
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
        }
        let rest = state.take(|_| true);
        drop(state);
        self.with_cgroups(rest)
    }

    /// Sees to it that somebody works.
    fn call_helper(&self, state: &mut State) {
        call_helper(&self.desk, state);
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        let Self { desk } = self;
        desk.lock().is_over = true;
        desk.work.notify_all();
    }
}

/// Wakes a helper, or starts one if all are busy: any of them may be stuck.
fn call_helper(desk: &Arc<Desk>, state: &mut State) {
    if state.idle > 0 {
        desk.work.notify_one();
        return;
    }
    if state.helpers >= MAX_HELPERS {
        return;
    }
    let helper = Arc::clone(desk);
    let started = thread::Builder::new()
        .name("evidence".into())
        .spawn(move || help(&helper));
    match started {
        Ok(_) => state.helpers = state.helpers.saturating_add(1),
        Err(error) if !mem::replace(&mut state.is_warned, true) => {
            tracing::warn!("no thread to gather evidence with: {error}");
        }
        Err(_) => {}
    }
}

/// A helper's work, until there is none and another waits for more.
fn help(desk: &Arc<Desk>) {
    let mut state = desk.lock();
    while !state.is_over {
        if let Some(task) = state.next_task() {
            if !matches!(task, Task::FindCgroup(_)) && state.has_task() {
                // This one may be stuck in a moment.
                call_helper(desk, &mut state);
            }
            drop(state);
            state = desk.carry_out(task);
        } else if state.idle > 0 {
            break;
        } else {
            state.idle = state.idle.saturating_add(1);
            state = desk
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.idle = state.idle.saturating_sub(1);
        }
    }
    state.helpers = state.helpers.saturating_sub(1);
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry_out(&self, task: Task) -> MutexGuard<'_, State> {
        match task {
            Task::FindCgroup(id) => {
                self.cgroups.find(id, None);
                self.lock()
            }
            Task::Look(id, sender) => {
                let found = self.look(&sender);
                self.conclude(id, found, false)
            }
            Task::ReadCommand(id, sender, mut found) => {
                if let Some(process) = &mut found.process {
                    process.read_command(&sender);
                }
                found.at = Some(Timestamp::now());
                self.conclude(id, *found, true)
            }
        }
    }

    fn look(&self, sender: &Attestation) -> Found {
        let process = Process::look(sender);
        let hint = process.as_ref().and_then(Process::cgroup_hint);
        let cgroup = sender.cgroup_id;
        Found {
            container: cgroup.and_then(|id| self.cgroups.find(id, hint)),
            process,
            at: Some(Timestamp::now()),
        }
    }

    /// Files what was found, if anybody still waits for it.
    fn conclude(&self, id: u64, found: Found, is_read: bool) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let State {
            requests,
            looking,
            reading,
            ..
        } = &mut *state;
        if is_read {
            reading.leave(id);
        } else {
            looking.leave(id);
        }
        if let Some(request) = requests.iter_mut().find(|request| request.id == id) {
            let is_there = found.process.as_ref().is_some_and(Process::is_there);
            request.stage = if is_there && !is_read {
                Stage::Looked
            } else {
                Stage::Done
            };
            request.found = found;
            if request.stage == Stage::Done {
                self.finished.notify_all();
                self.waker.wake();
            }
        }
        state
    }
}

#[cfg(test)]
mod tests;
