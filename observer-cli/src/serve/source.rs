//! Where the status comes from: the observing thread, at a bounded rate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use observer::Waker;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

use super::Request;
use crate::daemon_status::DaemonStatus;

/// Scrapes within this time get the same numbers: a scraper in a loop, which
/// every local user may run, costs the observing thread no more than ten
/// requests a second.
const FRESH: Duration = Duration::from_millis(100);
/// How long the observing thread may take to respond.
const PATIENCE: Duration = Duration::from_secs(5);

/// Requests the status of the observing thread.
#[derive(Clone)]
pub(super) struct Source {
    requests: mpsc::Sender<Request>,
    /// Wakes that thread.
    waker: Waker,
    last: Arc<Mutex<Option<(Instant, DaemonStatus)>>>,
}

impl Source {
    pub(super) fn new(requests: mpsc::Sender<Request>, waker: Waker) -> Self {
        Self {
            requests,
            waker,
            last: Arc::default(),
        }
    }

    /// The status without agents, not older than [`FRESH`];
    /// `None` if the observing thread does not respond.
    pub(super) async fn summary(&self) -> Option<DaemonStatus> {
        let mut last = self.last.lock().await;
        if let Some((when, status)) = &*last
            && when.elapsed() < FRESH
        {
            return Some(status.clone());
        }
        let status = self.status(0).await?;
        *last = Some((Instant::now(), status.clone()));
        Some(status)
    }

    /// The status as it is now, with so many agents at most.
    pub(super) async fn status(&self, rows: usize) -> Option<DaemonStatus> {
        let (response, status) = oneshot::channel();
        self.requests.try_send(Request { rows, response }).ok()?;
        self.waker.wake();
        timeout(PATIENCE, status).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody responds: a request that is not in the queue was not made.
    #[tokio::test]
    async fn a_full_queue_is_no_wait() {
        let (sender, mut requests) = mpsc::channel(1);
        let source = Source::new(sender, Waker::new().unwrap());
        let other = source.clone();
        let first = tokio::spawn(async move { other.status(7).await.is_some() });
        tokio::task::yield_now().await;
        assert!(source.status(8).await.is_none(), "there was room for one");
        let request = requests.recv().await.unwrap();
        assert_eq!(request.rows, 7);
        drop(request);
        assert!(!first.await.unwrap());
    }
}
