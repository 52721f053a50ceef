//! Helpers that gather evidence, so that the writer waits for no sender.
//!
//! To read a command line takes the `mmap_lock` of its process. The process can
//! keep that lock for as long as it likes: one thread takes a page fault in
//! memory whose content a FUSE server of its own is to deliver, and another
//! waits for the lock to write. Waiting for it ends only with a fatal signal
//! (`mmap_read_lock_killable` in `__access_remote_vm`, `mm/memory.c`), so a
//! thread that waits can be neither interrupted nor ended. It does not delay the
//! end of the observer's whole process.
//!
//! On newer kernels a process can also hold up whoever reads its `stat` and
//! `exe`, because that takes its `exec_update_lock` (`do_task_stat`,
//! `fs/proc/array.c`; backported to 6.18.40): an `execve` keeps that lock while
//! it closes files, and a FUSE server need not answer the close. On every kernel
//! whoever reads `stat` of a process that exits may have to free its memory
//! (`mmput`).
//!
//! So helpers read, and after [`LIMIT`] the writer continues with what they have
//! found. All processes are looked up before any command line is read. A helper
//! that is held up is replaced, up to [`MAX_HELD_UP`] times for lookups and as
//! often for command lines. One process can hold up one helper of each, and the
//! processes of one user [`MAX_OF_USER`](lookups::MAX_OF_USER), so that no user
//! alone keeps the evidence about others from the trail. Where a bound is
//! reached, evidence is incomplete, and its line says what is missing. One
//! helper is always left for cgroups: they are found by the kernel's own id, and
//! no process can hold that up.

mod lookups;

use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use observer_events::event::Attestation;

use crate::evidence::boot_clock::BootClock;
use crate::evidence::cgroup::{Cgroups, Container};
use crate::evidence::process::Process;
use crate::queue::Waker;

pub(crate) use self::lookups::Evidence;
use self::lookups::{Found, Lookup, Lookups, MAX_HELD_UP, Stage, Task};

/// How long evidence is waited for. Where nothing holds a helper up, it is there
/// within a millisecond.
pub(crate) const LIMIT: Duration = Duration::from_secs(1);
/// One more than processes can hold up.
const MAX_HELPERS: usize = 2 * MAX_HELD_UP + 1;
/// Open lookups at most. The limit of lines in full keeps them below that.
const MAX_OPEN: usize = 1024;
/// Cgroups that wait to be found at most.
const MAX_CGROUPS: usize = 128;

/// The writer's end. Dropped, it ends the helpers that are not held up.
#[derive(Debug)]
pub(crate) struct Gathering {
    pool: Arc<Pool>,
}

/// What writer and helpers share.
#[derive(Debug)]
struct Pool {
    lookups: Mutex<Lookups>,
    /// Notified when there is a task for a helper.
    work: Condvar,
    /// Notified when a lookup is done.
    done: Condvar,
    cgroups: Cgroups,
    clock: BootClock,
    /// Wakes the writer.
    waker: Waker,
}

impl Gathering {
    pub(crate) fn new(waker: Waker, cgroup_mount: Option<PathBuf>) -> Self {
        Self {
            pool: Arc::new(Pool {
                lookups: Mutex::default(),
                work: Condvar::new(),
                done: Condvar::new(),
                cgroups: Cgroups::new(cgroup_mount),
                clock: BootClock::own(),
                waker,
            }),
        }
    }

    /// The cgroup with this id, if it was found before.
    pub(crate) fn known_cgroup(&self, id: u64) -> Option<Container> {
        self.pool.cgroups.known(id)
    }

    /// Has a cgroup found that a later line may name.
    pub(crate) fn find_cgroup(&self, id: u64) {
        if self.known_cgroup(id).is_some() {
            return;
        }
        let mut lookups = self.pool.lock();
        if lookups.cgroups.len() < MAX_CGROUPS && !lookups.cgroups.contains(&id) {
            lookups.cgroups.push_back(id);
            call_helper(&self.pool, &mut lookups);
        }
    }

    /// Has the sender on this line looked up, which is of an incident at that
    /// time. `false` if too many lookups are open already.
    pub(crate) fn look_up(
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
            // Even if looking the process up fails.
            self.find_cgroup(id);
        }
        let mut lookups = self.pool.lock();
        if lookups.open.len() >= MAX_OPEN {
            return false;
        }
        let id = lookups.next_id;
        lookups.next_id = id.wrapping_add(1);
        lookups.open.push_back(Lookup {
            id,
            line,
            sender: *sender,
            time,
            deadline: now.checked_add(LIMIT).unwrap_or(now),
            stage: Stage::New,
            found: Found::default(),
        });
        call_helper(&self.pool, &mut lookups);
        true
    }

    /// When the next lookup is overdue.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let lookups = self.pool.lock();
        lookups.open.front().map(|lookup| lookup.deadline)
    }

    /// Takes the evidence of lookups that are done or overdue.
    pub(crate) fn collect(&self, now: Instant) -> Vec<Evidence> {
        let is_overdue = |lookup: &Lookup| lookup.deadline <= now;
        let evidence = self.pool.lock().take_evidence(is_overdue);
        self.with_cgroups(evidence)
    }

    /// Adds cgroups that were found meanwhile, though their lookups did not get
    /// to it.
    fn with_cgroups(&self, mut evidence: Vec<Evidence>) -> Vec<Evidence> {
        for evidence in &mut evidence {
            if evidence.container.is_none() {
                let id = evidence.sender.cgroup_id;
                evidence.container = id.and_then(|id| self.known_cgroup(id));
            }
        }
        evidence
    }

    /// Takes all evidence, for the end. Waits for lookups that are not overdue
    /// yet, and no longer than `patience`.
    pub(crate) fn finish(&self, patience: Duration) -> Vec<Evidence> {
        let end = Instant::now().checked_add(patience);
        let mut lookups = self.pool.lock();
        while let Some(wait) = end.and_then(|end| lookups.time_left(end)) {
            let (next, _) = self
                .pool
                .done
                .wait_timeout(lookups, wait)
                .unwrap_or_else(PoisonError::into_inner);
            lookups = next;
        }
        let rest = lookups.take_evidence(|_| true);
        drop(lookups);
        self.with_cgroups(rest)
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        let Self { pool } = self;
        pool.lock().has_ended = true;
        pool.work.notify_all();
    }
}

/// Wakes a helper, or starts one if all are busy: any of them may be held up.
fn call_helper(pool: &Arc<Pool>, lookups: &mut Lookups) {
    if lookups.idle_helpers > 0 {
        pool.work.notify_one();
        return;
    }
    if lookups.helpers >= MAX_HELPERS {
        return;
    }
    let of_helper = Arc::clone(pool);
    let started = thread::Builder::new()
        .name("evidence".into())
        .spawn(move || help(&of_helper));
    match started {
        Ok(_) => lookups.helpers = lookups.helpers.saturating_add(1),
        Err(error) if !mem::replace(&mut lookups.has_warned, true) => {
            tracing::warn!("cannot start a thread that gathers evidence: {error}");
        }
        Err(_) => {}
    }
}

/// A helper's work, until there is none and another one is idle already.
fn help(pool: &Arc<Pool>) {
    let mut lookups = pool.lock();
    while !lookups.has_ended {
        if let Some(task) = lookups.take_task() {
            if !matches!(task, Task::FindCgroup(_)) && lookups.has_task() {
                // This one may be held up in a moment.
                call_helper(pool, &mut lookups);
            }
            drop(lookups);
            lookups = pool.carry_out(task);
        } else if lookups.idle_helpers > 0 {
            break;
        } else {
            lookups.idle_helpers = lookups.idle_helpers.saturating_add(1);
            lookups = pool
                .work
                .wait(lookups)
                .unwrap_or_else(PoisonError::into_inner);
            lookups.idle_helpers = lookups.idle_helpers.saturating_sub(1);
        }
    }
    lookups.helpers = lookups.helpers.saturating_sub(1);
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Lookups> {
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry_out(&self, task: Task) -> MutexGuard<'_, Lookups> {
        match task {
            Task::FindCgroup(id) => {
                self.cgroups.find(id, None);
                self.lock()
            }
            Task::LookUp(id, sender) => {
                let found = self.look_up(&sender);
                self.set_found(id, found, false)
            }
            Task::ReadCommand(id, sender, mut found) => {
                if let Some(process) = &mut found.process {
                    process.read_command(&sender, self.clock);
                }
                found.time = Some(Timestamp::now());
                self.set_found(id, *found, true)
            }
        }
    }

    fn look_up(&self, sender: &Attestation) -> Found {
        let process = Process::look_up(sender, self.clock);
        let hint = process.as_ref().and_then(Process::cgroup_hint);
        let cgroup = sender.cgroup_id;
        Found {
            container: cgroup.and_then(|id| self.cgroups.find(id, hint)),
            process,
            time: Some(Timestamp::now()),
        }
    }

    /// Keeps what was found, if its lookup is still open.
    fn set_found(&self, id: u64, found: Found, is_read: bool) -> MutexGuard<'_, Lookups> {
        let mut lookups = self.lock();
        let Lookups {
            open,
            looking,
            reading,
            ..
        } = &mut *lookups;
        if is_read {
            reading.end(id);
        } else {
            looking.end(id);
        }
        if let Some(lookup) = open.iter_mut().find(|lookup| lookup.id == id) {
            let is_running = found.process.as_ref().is_some_and(Process::is_running);
            lookup.stage = if is_running && !is_read {
                Stage::Looked
            } else {
                Stage::Done
            };
            lookup.found = found;
            if lookup.stage == Stage::Done {
                self.done.notify_all();
                self.waker.wake();
            }
        }
        lookups
    }
}

#[cfg(test)]
mod tests;
