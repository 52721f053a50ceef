//! What was found: events, and datagrams that are no events.

use std::fmt;

use observer_events::counters::Counters;

use super::families::{Families, by};

pub(super) fn encode(families: &mut Families<'_>, counters: &Counters) -> fmt::Result {
    events(families, counters)?;
    refused(families, counters)?;
    datagrams(families, counters)
}

/// Events, and of some why.
fn events(families: &mut Families<'_>, counters: &Counters) -> fmt::Result {
    families.counters(
        "events",
        "What the observer found, by kind",
        by(
            "event",
            [
                ("beat", counters.beats),
                ("stall", counters.stalls),
                ("decode", counters.decode_errors),
                ("auth_failure", counters.auth_failures),
                ("origin_conflict", counters.origin_conflicts),
                ("namespace_conflict", counters.namespace_conflicts),
                ("io", counters.io_errors),
                ("ctrl_truncated", counters.ctrl_truncated),
            ],
        ),
    )?;
    families.counters(
        "auth_failures",
        "Claims that did not hold, by what was wrong",
        by(
            "cause",
            [
                ("pid_mismatch", counters.pid_mismatch),
                ("forged_credentials", counters.forged_credentials),
                ("sqpoll", counters.sqpoll),
                ("unattested", counters.unattested),
                ("corked", counters.corked),
            ],
        ),
    )?;
    families.counters(
        "decode_errors",
        "Datagrams of 32 bytes that are no frame, by what was wrong",
        by(
            "error",
            [
                ("BadMagic", counters.bad_magic),
                ("BadVersion", counters.bad_version),
                ("BadCrc", counters.bad_crc),
                ("BadStatus", counters.bad_status),
                ("StallOnWire", counters.stall_on_wire),
                ("BadPid", counters.bad_pid),
                ("BadTimestamp", counters.bad_timestamp),
                ("BadNonce", counters.bad_nonce),
            ],
        ),
    )
}

/// Datagrams that were refused or throttled, and beats that changed nothing.
fn refused(families: &mut Families<'_>, counters: &Counters) -> fmt::Result {
    families.counter(
        "refused_senders",
        "Beats of senders that neither --allow-uid nor --allow-gid names",
        counters.refused_senders,
    )?;
    families.counter(
        "throttled",
        "Datagrams beyond a budget, or beyond a share of a ring that fills up; dropped in the kernel",
        counters.throttled,
    )?;
    families.counter(
        "descriptors_refused",
        "Datagrams that were refused because descriptors were attached",
        counters.descriptors_refused,
    )?;
    families.counter(
        "displaced_claims",
        "Unverified agents that were replaced by a kernel-attested one with the same pid",
        counters.displaced,
    )?;
    families.counter(
        "stale_beats",
        "Beats whose nonce was not above the last one: replays, reordering",
        counters.stale_nonces,
    )
}

/// How datagrams came in.
fn datagrams(families: &mut Families<'_>, counters: &Counters) -> fmt::Result {
    families.counter(
        "datagrams",
        "Datagrams received from the sockets",
        counters.datagrams,
    )?;
    families.counter(
        "receive_failures",
        "Receives that failed, reported as an io event or not",
        counters.receive_failures,
    )?;
    families.counter(
        "taken",
        "Datagrams that the eBPF program took off the socket, and the ring delivered",
        counters.taken,
    )?;
    families.counter(
        "passed_on",
        "Datagrams that a ring that fills up left to the socket to deliver",
        counters.passed_on,
    )?;
    families.counter(
        "wrong_length",
        "Datagrams that were not 32 bytes long",
        counters.wrong_length,
    )
}
