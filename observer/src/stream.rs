//! The observer as a stream of events in a tokio runtime.

mod bell;

use std::{
    future::Future as _,
    io,
    net::UdpSocket as StdUdpSocket,
    os::{fd::OwnedFd, unix::net::UnixDatagram as StdUnixDatagram},
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use observer_events::Report;
use tokio::{
    io::Interest,
    net::{UdpSocket, UnixDatagram},
    time::{Instant, Sleep, sleep_until},
};

use self::bell::{Bell, Clock};
use crate::observer::{MAX_INLETS, Observer};

/// How many batches without an event are worked off before other tasks of
/// the runtime get their turn.
const BUDGET: usize = 16;

/// What wakes the stream: the sockets, the ring, and a deadline.
#[derive(Default)]
pub(crate) struct Wake {
    /// Empty until the stream is polled for the first time.
    sockets: Vec<Watched>,
    /// Says that the ring has something, where it announces that.
    bell: Option<Bell>,
    /// Say that the rings of UDP fill up.
    udp_bells: Vec<Bell>,
    /// Says that it is time to look at the ring, where it does not.
    clock: Option<Clock>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// A socket of the observer's, known to the runtime by a descriptor of its
/// own.
enum Watched {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

/// The stream never ends. A receive that fails is an [`Event::Io`](observer_events::Event::Io) in it.
///
/// # Panics
/// Outside of a tokio runtime that drives I/O and time.
impl Stream for Observer {
    type Item = Report;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Report>> {
        let observer = self.get_mut();
        for _ in 0..BUDGET {
            if let Some(report) = observer.next_at_hand() {
                return Poll::Ready(Some(report));
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
    /// Receives once, as soon as a socket is readable, the ring has something,
    /// or something is due.
    fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.wake.sockets.is_empty()
            && let Err(error) = self.register()
        {
            return Poll::Ready(Err(error));
        }
        let mut ready = [false; MAX_INLETS];
        for (ready, socket) in ready.iter_mut().zip(&self.wake.sockets) {
            match socket.poll_recv_ready(cx) {
                Poll::Ready(Ok(())) => *ready = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        let ring = match self.poll_ring(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => false,
        };
        let udp_ring = match self.poll_udp_rings(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => false,
        };
        if ring || udp_ring || ready.contains(&true) {
            self.receive_ready(&ready);
        } else if self.poll_timer(cx).is_ready() {
            self.receive();
        } else {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the ring is to be looked at.
    ///
    /// The order matters where it announces what it has: the program is asked
    /// to, the ring was empty after that, and only then is the announcement
    /// waited for.
    fn poll_ring(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_ring_read_in_part() {
            return Poll::Ready(Ok(()));
        }
        if let Some(until) = self.until_look() {
            let interval = self.look_interval();
            if self.wake.clock.is_none() {
                match Clock::start(until, interval) {
                    Ok(clock) => self.wake.clock = Some(clock),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            return match &self.wake.clock {
                Some(clock) => clock.poll_tick(cx),
                None => Poll::Pending,
            };
        }
        self.wake.clock = None;
        let Some(bell) = &self.wake.bell else {
            return Poll::Pending;
        };
        if !self.arm_wakeup() {
            return Poll::Ready(Ok(()));
        }
        bell.poll_rung(cx)
    }

    /// Ready when a ring of UDP fills up.
    fn poll_udp_rings(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut result = Poll::Pending;
        for bell in &self.wake.udp_bells {
            match bell.poll_rung(cx) {
                Poll::Pending => {}
                Poll::Ready(rung) => result = Poll::Ready(rung),
            }
        }
        result
    }

    /// Receives from those that are ready, and asks to be woken again for
    /// each that was seen empty. tokio notes its readiness before the
    /// receive, so a datagram that comes after it is not forgotten.
    fn receive_ready(&mut self, ready: &[bool; MAX_INLETS]) {
        let sockets = std::mem::take(&mut self.wake.sockets);
        let mut pass = self.start_pass();
        for (at, socket) in sockets.iter().enumerate() {
            if ready.get(at) == Some(&true) {
                socket.try_read(|| self.read(&mut pass, at));
            }
        }
        self.wake.sockets = sockets;
        self.finish_pass(&pass);
    }

    fn register(&mut self) -> io::Result<()> {
        let sockets: io::Result<_> = self
            .sockets()
            .map(|(socket, is_udp)| {
                let socket = socket.try_clone_to_owned()?;
                Watched::new(socket, is_udp)
            })
            .collect();
        let bell = self.bell().map(Bell::new).transpose()?;
        let udp_bells: io::Result<_> = self.udp_rings().map(Bell::new).collect();
        self.wake.sockets = sockets?;
        self.wake.bell = bell;
        self.wake.udp_bells = udp_bells?;
        Ok(())
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

impl Watched {
    fn new(socket: OwnedFd, is_udp: bool) -> io::Result<Self> {
        if is_udp {
            UdpSocket::from_std(StdUdpSocket::from(socket)).map(Self::Udp)
        } else {
            UnixDatagram::from_std(StdUnixDatagram::from(socket)).map(Self::Unix)
        }
    }

    fn poll_recv_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(socket) => socket.poll_recv_ready(cx),
            Self::Udp(socket) => socket.poll_recv_ready(cx),
        }
    }

    /// Reads; `read` says whether nothing is left.
    fn try_read(&self, read: impl FnOnce() -> bool) {
        let attempt = || {
            if read() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        };
        // An error is the "would block" above, or that another poll of the
        // socket has taken its readiness meanwhile.
        let _is_empty = match self {
            Self::Unix(socket) => socket.try_io(Interest::READABLE, attempt),
            Self::Udp(socket) => socket.try_io(Interest::READABLE, attempt),
        }
        .is_err();
    }
}
