//! The trail as the observer uses it: incidents are left here without waiting.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::chain::forget;
use crate::counts::{Counters, Counts, add};
use crate::incident::Incident;
use crate::options::Options;
use crate::queue::{Content, Message, Waker};
use crate::recover::{OpenError, recover};
use crate::trail_line::TrailLine;
use crate::writer::Writer;

/// How often it is tried to send to a full queue at the end.
const SEND_EVERY: Duration = Duration::from_millis(1);

/// A trail that is being written, by a thread of its own.
///
/// Dropped without [`Trail::close`], it ends as if the process had been killed:
/// what was on the disk is there, and the next `start` line records that the
/// end was not in order.
#[derive(Debug)]
pub struct Trail {
    sender: Arc<SyncSender<Message>>,
    counters: Arc<Counters>,
    /// Receives once the writer has ended.
    ended: Receiver<()>,
    name: String,
}

/// The trail did not come to its ordered end.
#[derive(Debug, Error)]
#[error("the audit trail could not be written out in time; its last line on disk is {on_disk}")]
pub struct CloseError {
    /// Number of the last line that is on the disk for certain.
    on_disk: u64,
}

impl Trail {
    /// Opens the trail, or begins it, and writes its `start` line to the disk.
    ///
    /// # Errors
    /// If key or file cannot be used, or the trail does not end as the key
    /// file records: see [`OpenError`].
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        let counters = Arc::new(Counters::default());
        let (sender, receiver) = sync_channel(options.queue);
        let sender = Arc::new(sender);
        let waker = Waker::new(Arc::downgrade(&sender));
        let (report_start, started) = sync_channel(1);
        let (report_end, ended) = sync_channel(1);
        let (options, of_writer) = (options.clone(), Arc::clone(&counters));
        thread::Builder::new()
            .name("audit".into())
            .spawn(move || {
                run_writer(&options, of_writer, waker, &receiver, &report_start);
                // Nobody may be waiting for it any more.
                report_end.send(()).unwrap_or_default();
            })
            .map_err(OpenError::Thread)?;
        let gone = |_| OpenError::Thread(io::Error::other("it ended"));
        let name = started.recv().map_err(gone)??;
        Ok(Self {
            sender,
            counters,
            ended,
            name,
        })
    }

    /// The trail's public name, as `observer audit keygen` printed it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Records an incident. Never waits: one that finds the queue full is
    /// counted as lost.
    pub fn incident(&self, incident: Incident) {
        if !self.try_send(Content::Incident(incident)) {
            add(&self.counters.lost, incident.number());
        }
    }

    /// Records that senders may pass unattested from here on. Never waits:
    /// `false` if the queue is full, and then it is to be tried again.
    #[must_use]
    pub fn attestation_lost(&self, reason: String) -> bool {
        self.line(TrailLine::AttestationLost { reason })
    }

    /// Records that they no longer do; `false` likewise.
    #[must_use]
    pub fn attestation_regained(&self, reason: String) -> bool {
        self.line(TrailLine::AttestationRegained { reason })
    }

    /// Records that a socket cannot be received from here on; `false` likewise.
    #[must_use]
    pub fn receive_lost(&self, reason: String) -> bool {
        self.line(TrailLine::ReceiveLost { reason })
    }

    /// Records that every socket can be again; `false` likewise.
    #[must_use]
    pub fn receive_regained(&self, reason: String) -> bool {
        self.line(TrailLine::ReceiveRegained { reason })
    }

    /// Records that the operator has changed settings of the running observer;
    /// `false` likewise.
    #[must_use]
    pub fn reloaded(&self, changes: String) -> bool {
        self.line(TrailLine::Reloaded { changes })
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counters.counts()
    }

    /// Number of the last line that is on the disk for certain.
    #[must_use]
    pub fn on_disk(&self) -> u64 {
        self.counters.on_disk.load(Ordering::Acquire)
    }

    /// Writes what waits, the `stop` line with this reason, and the last seal.
    /// Waits no longer than `patience`.
    ///
    /// # Errors
    /// If that was not enough.
    pub fn close(self, reason: &str, patience: Duration) -> Result<Counts, CloseError> {
        let began = Instant::now();
        self.send_stop(reason, patience);
        let left = patience.saturating_sub(began.elapsed());
        match self.ended.recv_timeout(left) {
            Ok(()) => Ok(self.counts()),
            Err(_) => Err(CloseError {
                on_disk: self.on_disk(),
            }),
        }
    }

    /// The queue may be full for a moment, and a channel has no sending with a
    /// time limit.
    fn send_stop(&self, reason: &str, patience: Duration) {
        let began = Instant::now();
        let reason = reason.to_owned();
        let line = Box::new(TrailLine::Stop { reason });
        let mut unsent = Some(Message::now(Content::Line(line)));
        while let Some(message) = unsent.take() {
            match self.sender.try_send(message) {
                Err(TrySendError::Full(message)) if began.elapsed() <= patience => {
                    unsent = Some(message);
                    thread::sleep(SEND_EVERY);
                }
                Ok(()) | Err(_) => {}
            }
        }
    }

    fn line(&self, line: TrailLine) -> bool {
        self.try_send(Content::Line(Box::new(line)))
    }

    /// Whether there was room for it.
    fn try_send(&self, content: Content) -> bool {
        self.sender.try_send(Message::now(content)).is_ok()
    }
}

/// The work of the trail's thread, from the key file on: no other thread has
/// a key on its stack. Reports the name of the trail, or why there is none.
fn run_writer(
    options: &Options,
    counters: Arc<Counters>,
    waker: Waker,
    receiver: &Receiver<Message>,
    report_start: &SyncSender<Result<String, OpenError>>,
) {
    let result = open_writer(options, counters, waker);
    forget();
    // Whoever opens the trail waits for this.
    match result {
        Ok(writer) => {
            let name = writer.trail().to_owned();
            report_start.send(Ok(name)).unwrap_or_default();
            writer.run(receiver);
        }
        Err(error) => report_start.send(Err(error)).unwrap_or_default(),
    }
}

#[inline(never)]
fn open_writer(
    options: &Options,
    counters: Arc<Counters>,
    waker: Waker,
) -> Result<Writer, OpenError> {
    let recovered = recover(&options.file, &options.key)?;
    let mut writer = Writer::new(recovered, options, counters, waker);
    writer.start()?;
    Ok(writer)
}
