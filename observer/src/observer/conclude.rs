//! From a frame whose sender is settled to an event.

use std::io;

use observer_common::frame::{FRAME_LEN, Frame};

use super::Observer;
use crate::{
    attention::Now,
    counters::count,
    event::{Attestation, AuthFailureCause, BeatOrigin, Event},
    judge::{Verdict, judge},
    tracker::{Outcome, Sighting},
};

impl Observer {
    /// Says what a frame whose sender is settled is worth.
    pub(super) fn conclude(
        &mut self,
        bytes: &[u8; FRAME_LEN],
        sender: Option<Attestation>,
        truncated: bool,
        now: Now,
    ) {
        if truncated {
            count(&mut self.counters.ctrl_truncated);
            let error = io::Error::other("the sender attached control data; none of it was taken");
            self.ready
                .push_back(Event::CtrlTruncated(error, now.observer_ns, sender));
        }
        let event = match Frame::decode(bytes) {
            Ok(frame) => self.weigh(&frame, sender, now),
            Err(error) => {
                count(&mut self.counters.decode_errors);
                Some(Event::Decode(error, now.observer_ns, sender))
            }
        };
        self.ready.extend(event);
    }

    fn weigh(&mut self, frame: &Frame, sender: Option<Attestation>, now: Now) -> Option<Event> {
        match judge(frame, sender.as_ref(), &self.policy) {
            Verdict::Authentic { origin } => self.track(frame, origin, sender, now),
            Verdict::AuthFailure(cause) => {
                count(&mut self.counters.auth_failures);
                if cause == AuthFailureCause::Unattested {
                    count(&mut self.counters.unattested);
                }
                Some(Event::AuthFailure {
                    claimed_pid: frame.pid,
                    observer_ns: now.observer_ns,
                    cause,
                    sender,
                })
            }
            Verdict::NamespaceConflict => {
                let expected = self.policy.observer_ns_inode;
                Some(self.namespace_conflict(frame, expected, sender, now))
            }
        }
    }

    fn track(
        &mut self,
        frame: &Frame,
        origin: BeatOrigin,
        sender: Option<Attestation>,
        now: Now,
    ) -> Option<Event> {
        let pid_ns_inode = sender.as_ref().and_then(|sender| sender.pid_ns_inode);
        let sighting = Sighting {
            pid: frame.pid,
            start_ns: sender.as_ref().and_then(|sender| sender.start_ns),
            pid_ns_inode,
            origin,
            nonce: frame.nonce,
            sender,
        };
        match self.tracker.sight(&sighting, now) {
            Outcome::Accepted => {
                count(&mut self.counters.beats);
                Some(Event::Beat {
                    pid: frame.pid,
                    status: frame.status,
                    payload: frame.payload,
                    nonce: frame.nonce,
                    origin,
                    pid_ns_inode,
                    observer_ns: now.observer_ns,
                    sender,
                })
            }
            Outcome::OriginConflict { slot_origin } => {
                count(&mut self.counters.origin_conflicts);
                Some(Event::OriginConflict {
                    claimed_pid: frame.pid,
                    observed_origin: origin,
                    slot_origin,
                    observer_ns: now.observer_ns,
                    sender,
                })
            }
            Outcome::NamespaceConflict { slot_ns_inode } => {
                Some(self.namespace_conflict(frame, slot_ns_inode, sender, now))
            }
            Outcome::StaleNonce | Outcome::TableFull => None,
        }
    }

    fn namespace_conflict(
        &mut self,
        frame: &Frame,
        expected: Option<u64>,
        sender: Option<Attestation>,
        now: Now,
    ) -> Event {
        count(&mut self.counters.namespace_conflicts);
        Event::NamespaceConflict {
            claimed_pid: frame.pid,
            observed_ns_inode: sender.as_ref().and_then(|sender| sender.pid_ns_inode),
            observer_ns_inode: expected,
            observer_ns: now.observer_ns,
            sender,
        }
    }
}
