//! An observer as a stream in a tokio runtime.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use observer_events::Report;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::observer::{MOST_PASSES, Observer};
use crate::poller::Poller;

/// A poller that a runtime waits for.
#[derive(Debug)]
pub(crate) struct Registered(AsyncFd<OwnedFd>);

impl Registered {
    fn new(poller: &Poller) -> io::Result<Self> {
        let source = poller.as_fd().try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` is open, stays so and stays the same until it is
        // dropped, and the `AsyncFd` owns it.
        let registered = unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) };
        registered.map(Self).map_err(|error| error.into_parts().1)
    }

    /// Ready once something has come, each time anew.
    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self(source) = self;
        source
            .poll_read_ready(cx)
            .map_ok(|mut guard| guard.clear_ready())
    }
}

impl Observer {
    /// Ready once there may be something to observe.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.prepare_wait(None)? {
            return Poll::Ready(Ok(()));
        }
        let registered = match self.registered.take() {
            Some(registered) => registered,
            None => Registered::new(&self.poller)?,
        };
        let event = self.registered.insert(registered).poll_event(cx);
        event.map(|event| event.and_then(|()| self.take_events()))
    }
}

/// The stream never ends. A wait that fails is an
/// [`Event::Io`](observer_events::Event::Io) in it.
///
/// # Panics
/// Outside of a tokio runtime that drives I/O.
impl Stream for Observer {
    type Item = Report;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Report>> {
        let observer = self.get_mut();
        for _ in 0..MOST_PASSES {
            if let Some(report) = observer.next_at_hand() {
                return Poll::Ready(Some(report));
            }
            if observer.is_pass_due {
                break;
            }
            match observer.poll_wait(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Some(observer.engine.io_error(error)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        // Other tasks have their turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
