//! The observer as a stream of events in a tokio runtime.

use std::{
    future::Future as _,
    io,
    os::{fd::AsFd as _, unix::net::UnixDatagram as StdUnixDatagram},
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::{
    io::Interest,
    net::UnixDatagram,
    time::{Instant, Sleep, sleep_until},
};

use crate::{event::Event, observer::Observer};

/// How many batches without an event are worked off before other tasks of
/// the runtime get their turn.
const BUDGET: usize = 16;

/// What wakes the stream: the socket, and a deadline.
#[derive(Default)]
pub(crate) struct Wake {
    socket: Option<UnixDatagram>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// The stream never ends. A receive that fails is an [`Event::Io`] in it.
///
/// # Panics
/// Outside of a tokio runtime that drives I/O and time.
impl Stream for Observer {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let observer = self.get_mut();
        for _ in 0..BUDGET {
            if let Some(event) = observer.next_at_hand() {
                return Poll::Ready(Some(event));
            }
            match observer.poll_pass(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(observer.io_error(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Observer {
    /// Receives once, as soon as the socket is readable or something is due.
    fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = match self.wake.socket.take() {
            Some(socket) => socket,
            None => match self.register() {
                Ok(socket) => socket,
                Err(error) => return Poll::Ready(Err(error)),
            },
        };
        let readable = socket
            .poll_recv_ready(cx)
            .map_ok(|()| self.receive_ready(&socket));
        self.wake.socket = Some(socket);
        if readable.is_ready() || self.poll_timer(cx).is_pending() {
            return readable;
        }
        self.receive();
        Poll::Ready(Ok(()))
    }

    /// Receives, and asks to be woken again once the queue was seen empty.
    /// tokio notes its readiness before the receive, so a datagram that comes
    /// after it is not forgotten.
    fn receive_ready(&mut self, socket: &UnixDatagram) {
        let result = socket.try_io(Interest::READABLE, || {
            self.receive();
            if self.is_drained() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        debug_assert!(result.is_ok() || self.is_drained());
    }

    fn register(&self) -> io::Result<UnixDatagram> {
        let socket = self.as_fd().try_clone_to_owned()?;
        UnixDatagram::from_std(StdUnixDatagram::from(socket))
    }

    /// Ready when something is due. The timer is only ever set earlier: each
    /// beat moves a deadline back, and a timer that goes off early costs less
    /// than one that is set anew for every beat.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.until_due() else {
            return Poll::Pending;
        };
        if due.is_zero() {
            return Poll::Ready(());
        }
        let Some(deadline) = Instant::now().checked_add(due) else {
            return Poll::Pending;
        };
        let timer = self
            .wake
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.is_elapsed() || timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }
}
