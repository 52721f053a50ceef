//! Whether all sockets can be received from.
//!
//! While one cannot, nobody's silence means anything: no stall is judged, and
//! the clock that silence is measured by stands still. That is told when it
//! begins and when it ends.

use std::mem;

use observer_events::{Notice, Report};

use super::Engine;
use crate::clock::Now;
use crate::route::Route;

impl Engine {
    /// Notes in a pass, after what was received in it, whether a socket is deaf;
    /// returns whether one has been since the pass before.
    pub(super) fn note_deafness(&mut self, now: Now) -> bool {
        let is_deaf = self.routes.each().any(Route::is_deaf);
        let was_deaf = mem::replace(&mut self.is_deaf, is_deaf);
        let observer_ns = now.observer_ns;
        let notice = match (was_deaf, is_deaf) {
            (false, true) => Some(Notice::ReceiveLost {
                reason: self.why_deaf(),
                observer_ns,
            }),
            (true, false) => Some(Notice::ReceiveRegained {
                reason: "every socket can be received from again".into(),
                observer_ns,
            }),
            (false, false) | (true, true) => None,
        };
        self.ready.extend(notice.map(Report::Notice));
        was_deaf
    }

    fn why_deaf(&self) -> String {
        let deaf: Vec<String> = self.routes.each().filter_map(Route::why_deaf).collect();
        deaf.join(", ")
    }
}
