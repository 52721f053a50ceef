//! From a frame whose sender is settled to an event.

use std::{io, net::SocketAddr};

use observer_common::{
    frame::{DecodeError, FRAME_LEN, Frame},
    record::Limit,
};
use observer_events::{
    Evidence, Notice, Observation, Report,
    counters::count,
    event::{Attestation, BeatOrigin, Event},
};

use super::{Observer, refused::Refusal, throttled::More};
use crate::{
    attention::Now,
    attest::{Attestors, Reason, Throttled},
    judge::{Channel, Policy, Verdict, judge, may_claim_pid_1},
    tracker::{Outcome, Sighting},
};

/// A frame and all that is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    pub(super) bytes: [u8; FRAME_LEN],
    pub(super) channel: Channel,
    /// The kernel's record of who sent it.
    pub(super) sender: Option<Attestation>,
    /// Where it came from, if by UDP.
    pub(super) source: Option<SocketAddr>,
    /// The sender attached control data.
    pub(super) truncated: bool,
    pub(super) now: Now,
}

impl Delivery {
    fn evidence(&self) -> Evidence {
        Evidence::new(self.sender, self.source, Some(self.bytes))
    }

    /// An event with what is known of this.
    pub(super) fn report(&self, event: Event) -> Report {
        Report::Observation(Observation {
            event,
            evidence: self.evidence(),
        })
    }
}

impl Observer {
    /// Says what a frame whose sender is settled is worth, and puts that in
    /// line.
    pub(super) fn conclude(&mut self, delivery: &Delivery) {
        if let Some(event) = self.find(delivery) {
            self.emit(event, delivery);
        }
    }

    /// What a frame whose sender is settled is worth. There may be something
    /// in line that is to be told before it.
    pub(super) fn find(&mut self, delivery: &Delivery) -> Option<Event> {
        let Delivery {
            sender,
            truncated,
            now,
            ..
        } = *delivery;
        if truncated {
            count(&mut self.counters.ctrl_truncated);
            let error = io::Error::other("the sender attached control data; none of it was taken");
            self.emit(Event::CtrlTruncated(error, now.observer_ns), delivery);
        }
        match decode(&delivery.bytes, sender.as_ref(), &self.policy) {
            Ok(frame) => self.weigh(&frame, delivery),
            Err(error) => {
                self.counters.decode_error(&error);
                Some(Event::Decode(error, now.observer_ns))
            }
        }
    }

    /// Puts an event in line, with what is known of its datagram.
    pub(super) fn emit(&mut self, event: Event, delivery: &Delivery) {
        self.ready.push_back(delivery.report(event));
    }

    fn weigh(&mut self, frame: &Frame, delivery: &Delivery) -> Option<Event> {
        let Delivery {
            channel,
            sender,
            now,
            ..
        } = *delivery;
        Some(match judge(frame, sender.as_ref(), channel, &self.policy) {
            Verdict::Authentic { origin, pid } => {
                return self.track(frame, pid, origin, delivery);
            }
            Verdict::Refused => {
                self.refuse(frame, delivery);
                return None;
            }
            Verdict::AuthFailure(cause) => {
                self.counters.auth_failure(cause);
                Event::AuthFailure {
                    claimed_pid: frame.pid,
                    observer_ns: now.observer_ns,
                    cause,
                }
            }
            Verdict::NamespaceConflict => {
                let expected = self.policy.observer_ns_inode;
                self.namespace_conflict(frame, expected, delivery)
            }
        })
    }

    /// Takes an authentic frame to its agent, whom the observer sees as `pid`.
    fn track(
        &mut self,
        frame: &Frame,
        pid: u32,
        origin: BeatOrigin,
        delivery: &Delivery,
    ) -> Option<Event> {
        let Delivery { sender, now, .. } = *delivery;
        let pid_ns_inode = sender.as_ref().and_then(|sender| sender.pid_ns_inode);
        let conflict = |observed_origin, slot_origin| Event::OriginConflict {
            claimed_pid: frame.pid,
            observed_origin,
            slot_origin,
            observer_ns: now.observer_ns,
        };
        let known = self.tracker.counts().new_agents;
        let outcome = self.tracker.sight(
            &Sighting {
                pid,
                start_ns: sender.as_ref().and_then(|sender| sender.start_ns),
                pid_ns_inode,
                origin,
                status: frame.status,
                nonce: frame.nonce,
                sender,
            },
            now,
        );
        if self.tracker.take_overflow() {
            self.report_full_table(now);
        }
        let is_new = self.tracker.counts().new_agents != known
            || matches!(outcome, Outcome::Displaced { .. });
        if let Some(sender) = sender.as_ref().filter(|_| is_new) {
            self.attestors.vouch(sender);
        }
        match outcome {
            Outcome::Accepted => {}
            Outcome::Displaced { displaced_origin } => {
                count(&mut self.counters.origin_conflicts);
                // Of the claim that gave way nobody was named.
                let unknown = Delivery {
                    sender: None,
                    source: None,
                    ..*delivery
                };
                self.emit(conflict(displaced_origin, origin), &unknown);
            }
            Outcome::OriginConflict { slot_origin } => {
                count(&mut self.counters.origin_conflicts);
                return Some(conflict(origin, slot_origin));
            }
            Outcome::NamespaceConflict { slot_ns_inode } => {
                return Some(self.namespace_conflict(frame, slot_ns_inode, delivery));
            }
            Outcome::StaleNonce | Outcome::TableFull => return None,
        }
        count(&mut self.counters.beats);
        Some(Event::Beat {
            pid,
            status: frame.status,
            payload: frame.payload,
            nonce: frame.nonce,
            origin,
            pid_ns_inode,
            observer_ns: now.observer_ns,
        })
    }

    /// Logs, at a bounded rate, that the table is full and who fills it.
    fn report_full_table(&mut self, now: Now) {
        if !is_worth_a_word(&mut self.overflow_told_ns, now.observer_ns) {
            return;
        }
        let counts = self.tracker.counts();
        let division = self.tracker.division();
        let largest = division.largest;
        tracing::warn!(
            agents = self.tracker.len(),
            owners = division.owners,
            share = division.share,
            largest_uid = largest.and_then(|holder| holder.owner.uid),
            largest_origin = largest.map(|holder| tracing::field::debug(holder.owner.origin)),
            largest_agents = largest.map(|holder| holder.agents),
            refused_so_far = counts.refused_full,
            live_evicted_so_far = counts.evicted_live,
            "the table of agents is full (--max-agents): who holds more than a share yields places"
        );
    }

    /// Counts a beat of someone who is not to be an agent, and tells the
    /// operator: no event is made of what the policy keeps out, and a sender
    /// must not be able to fill the log.
    fn refuse(&mut self, frame: &Frame, delivery: &Delivery) {
        count(&mut self.counters.refused_senders);
        let now = delivery.now.observer_ns;
        let notice = self.refusals.note(Refusal {
            claimed_pid: frame.pid,
            observer_ns: now,
            evidence: delivery.evidence(),
        });
        self.ready.extend(notice.map(Report::Notice));
        if !is_worth_a_word(&mut self.refusal_told_ns, now) {
            return;
        }
        let Some(sender) = &delivery.sender else {
            tracing::warn!("refused a sender without credentials");
            return;
        };
        tracing::warn!(
            pid = sender.pid,
            uid = sender.uid,
            gid = sender.gid,
            comm = sender.comm.map(tracing::field::debug),
            refused_so_far = self.counters.refused_senders,
            "refused a sender that no --allow-uid or --allow-gid names"
        );
    }

    /// Takes down that the program did not let datagrams of a sender in.
    pub(super) fn tell_throttled(&mut self, told: Throttled) {
        let more = self.throttled.tell(told, self.now.observer_ns);
        self.note_throttled(more.as_ref());
    }

    /// Reports how many were dropped or refused of senders that have not been
    /// reported for a while, or of all senders.
    pub(super) fn settle(&mut self, all: bool) {
        let now = self.now.observer_ns;
        while let Some(notice) = self.refusals.settle(now, all) {
            self.ready.push_back(Report::Notice(notice));
        }
        loop {
            let Attestors { unix, udp } = &self.attestors;
            let more = self
                .throttled
                .settle(now, all, |payer, reason| unix.dropped(payer, reason))
                .or_else(|| {
                    self.udp_throttled
                        .settle(now, all, |payer, reason| udp.dropped(payer, reason))
                });
            if more.is_none() {
                return;
            }
            self.note_throttled(more.as_ref());
        }
    }

    pub(super) fn note_throttled(&mut self, more: Option<&More>) {
        let Some(more) = more else { return };
        let now = self.now.observer_ns;
        self.ready.push_back(Report::Notice(throttled(more, now)));
        let Throttled {
            sender,
            reason,
            limit,
            ..
        } = &more.sender;
        let (told_ns, what) = match reason {
            Reason::Flood => (&mut self.throttling_told_ns, over(*limit)),
            Reason::Descriptors => (
                &mut self.descriptors_told_ns,
                "refused datagrams with descriptors attached",
            ),
        };
        if !is_worth_a_word(told_ns, now) {
            return;
        }
        tracing::warn!(
            pid = sender.pid,
            host_pid = sender.host_pid,
            uid = sender.uid,
            comm = sender.comm.map(tracing::field::debug),
            dropped = more.count,
            "{what}"
        );
    }

    fn namespace_conflict(
        &mut self,
        frame: &Frame,
        expected: Option<u64>,
        delivery: &Delivery,
    ) -> Event {
        let Delivery { sender, now, .. } = *delivery;
        count(&mut self.counters.namespace_conflicts);
        Event::NamespaceConflict {
            claimed_pid: frame.pid,
            observed_ns_inode: sender.as_ref().and_then(|sender| sender.pid_ns_inode),
            observer_ns_inode: expected,
            observer_ns: now.observer_ns,
        }
    }
}

/// What was dropped of a sender, with the last of it.
fn throttled(more: &More, observer_ns: u64) -> Notice {
    let Throttled {
        frame,
        sender,
        reason,
        ..
    } = more.sender;
    let count = more.count;
    let frame = (frame != [0; FRAME_LEN]).then_some(frame);
    let evidence = Evidence::new(Some(sender), None, frame);
    match reason {
        Reason::Flood => Notice::ThrottledSender {
            count,
            observer_ns,
            evidence,
        },
        Reason::Descriptors => Notice::DescriptorsRefused {
            count,
            observer_ns,
            evidence,
        },
    }
}

/// What a sender did too much of.
fn over(limit: Limit) -> &'static str {
    match limit {
        Limit::Process => "a sender is over --max-beat-rate",
        Limit::User => "its user's senders that are no agents are over --max-group-rate",
        Limit::Cgroup => "its cgroup's senders that are no agents are over --max-group-rate",
        Limit::Ring => "a sender is over its share of the ring, which fills up",
    }
}

/// Whether the log has been silent for long enough on a matter that senders
/// could fill it with.
fn is_worth_a_word(told_ns: &mut Option<u64>, now: u64) -> bool {
    let due = told_ns.is_none_or(|told| now.saturating_sub(told) >= PAUSE_NS);
    if due {
        *told_ns = Some(now);
    }
    due
}

/// At most one word about refused senders in this time, nanoseconds, one about
/// senders that send too much, and one about descriptors.
const PAUSE_NS: u64 = 1_000_000_000;

/// Pid 1 is reserved by VLP, and honest where the policy translates it.
fn decode(
    bytes: &[u8; FRAME_LEN],
    sender: Option<&Attestation>,
    policy: &Policy,
) -> Result<Frame, DecodeError> {
    match Frame::decode(bytes) {
        Err(DecodeError::BadPid(1)) if may_claim_pid_1(sender, policy) => {
            Frame::decode_in_container(bytes)
        }
        result => result,
    }
}
