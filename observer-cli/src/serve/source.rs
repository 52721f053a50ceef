//! Where answers come from: the observing thread, asked at a bounded rate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::daemon_status::DaemonStatus;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

use super::Question;

/// Scrapes that come within this time get the same numbers: whoever scrapes
/// in a loop, as every local user may, costs the observing thread no more
/// than ten questions a second.
const FRESH: Duration = Duration::from_millis(100);
/// How long the observing thread may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the observing thread.
#[derive(Clone)]
pub(super) struct Source {
    questions: mpsc::Sender<Question>,
    last: Arc<Mutex<Option<(Instant, DaemonStatus)>>>,
}

impl Source {
    pub(super) fn new(questions: mpsc::Sender<Question>) -> Self {
        Self {
            questions,
            last: Arc::default(),
        }
    }

    /// The status without agents, not older than [`FRESH`];
    /// `None` if the observing thread does not answer.
    pub(super) async fn summary(&self) -> Option<DaemonStatus> {
        let mut last = self.last.lock().await;
        if let Some((when, status)) = &*last
            && when.elapsed() < FRESH
        {
            return Some(status.clone());
        }
        let status = self.ask(0).await?;
        *last = Some((Instant::now(), status.clone()));
        Some(status)
    }

    /// The status as it is now, with so many agents at most.
    pub(super) async fn ask(&self, rows: usize) -> Option<DaemonStatus> {
        let (reply, answer) = oneshot::channel();
        self.questions.try_send(Question { rows, reply }).ok()?;
        timeout(PATIENCE, answer).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody answers, so that what is counted is what was asked.
    #[tokio::test]
    async fn a_full_queue_is_no_wait() {
        let (sender, mut questions) = mpsc::channel(1);
        let source = Source::new(sender);
        let other = source.clone();
        let first = tokio::spawn(async move { other.ask(7).await.is_some() });
        tokio::task::yield_now().await;
        assert!(source.ask(8).await.is_none(), "there was room for one");
        let question = questions.recv().await.unwrap();
        assert_eq!(question.rows, 7);
        drop(question);
        assert!(!first.await.unwrap());
    }
}
