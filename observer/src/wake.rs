//! What wakes an observer in a tokio runtime: its sockets, its rings, and a
//! deadline.

mod watched;

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

use self::watched::{Ticks, Watched};
use crate::engine::Engine;
use crate::route::{self, Route};

/// What wakes a stream.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    /// Empty until the stream is polled for the first time.
    routes: Vec<RouteWatch>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What wakes it for one route.
#[derive(Debug)]
struct RouteWatch {
    sockets: Vec<Watched>,
    rings: Vec<Watched>,
    /// While the route looks at its ring by the clock.
    ticks: Option<Ticks>,
}

impl Wake {
    /// Has the engine receive once, as soon as there is something to receive or
    /// something is due.
    pub(crate) fn poll_pass(
        &mut self,
        engine: &mut Engine,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.routes.is_empty() {
            self.routes = register(engine)?;
        }
        let now = engine.start_pass();
        let mut is_ready = false;
        for (watch, route) in self.routes.iter_mut().zip(engine.routes.each()) {
            // Each is asked, so that each wakes the stream.
            is_ready |= watch.poll_sockets(cx)?;
            is_ready |= match watch.poll_ring(route.wake(now), cx) {
                Poll::Ready(result) => result.map(|()| true)?,
                Poll::Pending => false,
            };
        }
        if is_ready {
            self.receive_ready(engine);
        } else {
            ready!(self.poll_timer(engine, cx));
            engine.receive();
        }
        Poll::Ready(Ok(()))
    }

    /// Receives from those that are ready.
    fn receive_ready(&mut self, engine: &mut Engine) {
        let now = engine.start_pass();
        for (watch, route) in self.routes.iter_mut().zip(engine.routes.each_mut()) {
            watch.receive_ready(route);
        }
        engine.finish_pass(now);
    }

    /// Ready when something is due. The timer is only ever set earlier: each
    /// beat moves a deadline back, and a timer that goes off early costs less
    /// than one that is set anew for every beat.
    fn poll_timer(&mut self, engine: &Engine, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = engine.until_due() else {
            return Poll::Pending;
        };
        if due.is_zero() {
            return Poll::Ready(());
        }
        let Some(deadline) = Instant::now().checked_add(due) else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.is_elapsed() || timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }
}

impl RouteWatch {
    /// Whether a socket is readable.
    fn poll_sockets(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut any = false;
        for socket in &mut self.sockets {
            any |= socket.poll_readable(cx)?;
        }
        Ok(any)
    }

    /// Ready when a ring is to be looked at.
    fn poll_ring(&mut self, wake: route::Wake, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match wake {
            route::Wake::Now => return Poll::Ready(Ok(())),
            route::Wake::Clock { until, interval } => {
                let ticks = match self.ticks.take() {
                    Some(ticks) => ticks,
                    None => Ticks::start(until, interval)?,
                };
                return self.ticks.insert(ticks).poll_tick(cx);
            }
            route::Wake::Rings => self.ticks = None,
        }
        let mut any = Poll::Pending;
        for ring in &self.rings {
            if let Poll::Ready(result) = ring.poll_notified(cx) {
                any = Poll::Ready(result);
            }
        }
        any
    }

    /// Receives from the sockets that are readable, and asks to be woken again
    /// for each that was seen empty. tokio notes its readiness before the
    /// receive, so a datagram that comes after it is not forgotten.
    fn receive_ready(&mut self, route: &mut dyn Route) {
        for (at, socket) in self.sockets.iter_mut().enumerate() {
            socket.read_if_readable(|| route.receive(at));
        }
    }
}

fn register(engine: &Engine) -> io::Result<Vec<RouteWatch>> {
    let watch = |route: &dyn Route| {
        let sockets = route.sockets().into_iter().map(Watched::new);
        let rings = route.base().attestor.rings().map(Watched::new);
        Ok(RouteWatch {
            sockets: sockets.collect::<io::Result<_>>()?,
            rings: rings.collect::<io::Result<_>>()?,
            ticks: None,
        })
    };
    engine.routes.each().into_iter().map(watch).collect()
}
