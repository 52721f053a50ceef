//! The trail as the observer sees it: a place to leave incidents at, which
//! never makes it wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Options;
use super::chain::forget;
use super::kinds::TrailLine;
use super::recover::{OpenError, recover};
use super::writer::Writer;
use crate::incident::Incident;

/// A trail that is being written, by a thread of its own.
///
/// Dropped without [`Trail::close`], it ends as if the process had been killed:
/// what was on the disk is there, and the next start says so.
#[derive(Debug)]
pub struct Trail {
    sender: Arc<SyncSender<Message>>,
    shared: Arc<Shared>,
    done: Receiver<()>,
    name: String,
}

/// What was counted of a trail since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Incidents that found the queue full.
    pub audit_lost: u64,
    /// Incidents recorded, in full or counted.
    pub audit_incidents: u64,
    /// Lines written.
    pub audit_lines: u64,
    /// Writes and syncs that failed.
    pub audit_failures: u64,
    /// Senders of which /proc could not be read in time, or not all.
    pub audit_unread: u64,
}

/// The trail did not come to its ordered end.
#[derive(Debug, Error)]
#[error("the audit trail could not be written out in time; its last line on disk is {on_disk}")]
pub struct CloseError {
    /// Number of the last line that is surely on the disk.
    on_disk: u64,
}

/// What passes through the queue.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) time: Timestamp,
    pub(super) what: Content,
}

/// Incidents lie in the queue itself, so that leaving one allocates nothing;
/// lines are rare.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large variant is the common one; a box would be an allocation on the hot path"
)]
pub(super) enum Content {
    Incident(Incident),
    Line(Box<TrailLine>),
    /// Evidence was found; it lies elsewhere.
    Evidence,
}

/// Wakes the writer. It does not keep the queue open: that is what tells the
/// writer that nobody is left.
#[derive(Clone, Debug)]
pub(super) struct Bell(Weak<SyncSender<Message>>);

impl Bell {
    /// Wakes nobody.
    #[cfg(test)]
    pub(super) fn of_nobody() -> Self {
        Self(Weak::new())
    }

    /// Where the queue is full, the writer is awake.
    pub(super) fn ring(&self) {
        let Self(sender) = self;
        let message = Message {
            time: Timestamp::now(),
            what: Content::Evidence,
        };
        if let Some(sender) = sender.upgrade() {
            drop(sender.try_send(message));
        }
    }
}

/// What both ends count.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) lost: AtomicU64,
    pub(super) incidents: AtomicU64,
    pub(super) lines: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) unread: AtomicU64,
    pub(super) on_disk: AtomicU64,
}

impl Trail {
    /// Opens the trail, or begins it, and writes its `start` line to the disk.
    ///
    /// # Errors
    /// If key or file cannot be used, or the trail does not end as the key
    /// file says: see [`OpenError`].
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = sync_channel(options.queue);
        let sender = Arc::new(sender);
        let bell = Bell(Arc::downgrade(&sender));
        let (begun, beginning) = sync_channel(1);
        let (finished, done) = sync_channel(1);
        let (options, counts) = (options.clone(), Arc::clone(&shared));
        thread::Builder::new()
            .name("audit".into())
            .spawn(move || {
                keep(&options, counts, bell, &receiver, &begun);
                // Nobody may be waiting for it any more.
                finished.send(()).unwrap_or_default();
            })
            .map_err(OpenError::Thread)?;
        let gone = |_| OpenError::Thread(std::io::Error::other("it ended"));
        let name = beginning.recv().map_err(gone)??;
        Ok(Self {
            sender,
            shared,
            done,
            name,
        })
    }

    /// The trail's public name, as `observer audit keygen` told it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Records an incident. Never waits; if the queue is full the incident is
    /// counted as lost.
    pub fn incident(&self, incident: Incident) {
        if !self.leave(Content::Incident(incident)) {
            self.shared
                .lost
                .fetch_add(incident.number(), Ordering::Relaxed);
        }
    }

    /// Takes down that senders may pass unattested from here on. `false` if
    /// the queue is full: to be said again.
    #[must_use]
    pub fn attestation_lost(&self, reason: String) -> bool {
        self.line(TrailLine::AttestationLost { reason })
    }

    /// Takes down that they no longer do; `false` likewise.
    #[must_use]
    pub fn attestation_regained(&self, reason: String) -> bool {
        self.line(TrailLine::AttestationRegained { reason })
    }

    fn line(&self, line: TrailLine) -> bool {
        self.leave(Content::Line(Box::new(line)))
    }

    /// Whether there was room for it.
    fn leave(&self, what: Content) -> bool {
        let message = Message {
            time: Timestamp::now(),
            what,
        };
        self.sender.try_send(message).is_ok()
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            audit_lost: get(&self.shared.lost),
            audit_incidents: get(&self.shared.incidents),
            audit_lines: get(&self.shared.lines),
            audit_failures: get(&self.shared.failures),
            audit_unread: get(&self.shared.unread),
        }
    }

    /// Number of the last line that is on the disk for certain.
    #[must_use]
    pub fn on_disk(&self) -> u64 {
        self.shared.on_disk.load(Ordering::Acquire)
    }

    /// Writes what waits, the `stop` line and the last seal. Waits no longer
    /// than `patience`.
    ///
    /// # Errors
    /// If that was not enough.
    pub fn close(self, reason: &str, patience: Duration) -> Result<Counts, CloseError> {
        let reason = reason.to_owned();
        let stop = Message {
            time: Timestamp::now(),
            what: Content::Line(Box::new(TrailLine::Stop { reason })),
        };
        let began = std::time::Instant::now();
        let mut stop = Some(stop);
        // The queue may be full for a moment; there is no sending with a time
        // limit.
        while let Some(message) = stop.take() {
            match self.sender.try_send(message) {
                Ok(()) => {}
                Err(_) if began.elapsed() > patience => break,
                Err(error) => {
                    let (std::sync::mpsc::TrySendError::Full(message)
                    | std::sync::mpsc::TrySendError::Disconnected(message)) = error;
                    stop = Some(message);
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
        let left = patience.saturating_sub(began.elapsed());
        match self.done.recv_timeout(left) {
            Ok(()) => Ok(self.counts()),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(CloseError {
                on_disk: self.on_disk(),
            }),
        }
    }
}

/// The work of the trail's thread, from the key file on: no other thread has
/// a key on its stack. Says under which name the trail goes on, or why not.
fn keep(
    options: &Options,
    shared: Arc<Shared>,
    bell: Bell,
    receiver: &Receiver<Message>,
    begun: &SyncSender<Result<String, OpenError>>,
) {
    let result = begin(options, shared, bell);
    forget();
    // Whoever opens the trail waits for this.
    match result {
        Ok(writer) => {
            begun.send(Ok(writer.name().to_owned())).unwrap_or_default();
            writer.run(receiver);
        }
        Err(error) => begun.send(Err(error)).unwrap_or_default(),
    }
}

#[inline(never)]
fn begin(options: &Options, shared: Arc<Shared>, bell: Bell) -> Result<Writer, OpenError> {
    let recovered = recover(&options.file, &options.key)?;
    let mut writer = Writer::new(recovered, options, shared, bell);
    writer.start()?;
    Ok(writer)
}
