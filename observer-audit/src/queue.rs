//! What passes through the queue from the observer to the writer.

use std::sync::Weak;
use std::sync::mpsc::SyncSender;

use jiff::Timestamp;

use crate::incident::Incident;
use crate::trail_line::TrailLine;

/// Something for the writer, and when it was put into the queue.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) time: Timestamp,
    pub(crate) content: Content,
}

/// What the writer is to do.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large variant is the common one; a box would be an allocation on the hot path"
)]
pub(crate) enum Content {
    /// Record an incident. It is stored in the queue itself.
    Incident(Incident),
    /// Add a line; rare enough for a box.
    Line(Box<TrailLine>),
    /// Collect the evidence that was found.
    Evidence,
}

impl Message {
    /// A message of this moment.
    pub(crate) fn now(content: Content) -> Self {
        Self {
            time: Timestamp::now(),
            content,
        }
    }
}

/// Wakes the writer. It does not keep the queue open: the writer ends once no
/// [`Trail`](crate::Trail) holds the other end.
#[derive(Clone, Debug)]
pub(crate) struct Waker(Weak<SyncSender<Message>>);

impl Waker {
    pub(crate) fn new(sender: Weak<SyncSender<Message>>) -> Self {
        Self(sender)
    }

    /// Wakes the writer for evidence. Where the queue is full, it is awake.
    pub(crate) fn wake(&self) {
        let Self(sender) = self;
        if let Some(sender) = sender.upgrade() {
            drop(sender.try_send(Message::now(Content::Evidence)));
        }
    }
}
