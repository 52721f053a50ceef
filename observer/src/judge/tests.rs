//! Each rule of the judgement, and what must hold for any input.

use observer_common::frame::Frame;
use observer_events::event::{Attestation, AuthFailureCause, BeatOrigin, Status, TaskKind, Via};
use proptest::prelude::*;

use super::{AttestMode, Namespaces, Network, Policy, Senders, Trust, Verdict, may_claim_pid_1};

const OBSERVER_NS: u64 = 4_026_531_836;

const REQUIRE: Policy = policy(AttestMode::Require);

const fn policy(attest: AttestMode) -> Policy {
    Policy {
        attest,
        observer_ns_inode: Some(OBSERVER_NS),
        namespaces: Namespaces::Refuse,
        senders: Senders {
            uids: Vec::new(),
            gids: Vec::new(),
        },
    }
}

/// Judges a frame that came over the Unix socket.
fn judge(frame: &Frame, sender: Option<&Attestation>, policy: &Policy) -> Verdict {
    super::judge(frame, sender, Trust::SocketMode, policy)
}

fn judge_udp(sender: Option<&Attestation>, network: Network, policy: &Policy) -> Verdict {
    super::judge(&frame(42), sender, Trust::Network(network), policy)
}

const fn frame(pid: u32) -> Frame {
    Frame {
        status: Status::Ok,
        pid,
        timestamp: 0,
        nonce: 1,
        payload: 0,
    }
}

/// An honest sender, by the strongest means.
const fn sender(pid: u32) -> Attestation {
    Attestation {
        pid: Some(pid),
        own_pid: Some(pid),
        host_pid: Some(pid),
        tid: Some(pid),
        pid_ns_inode: Some(OBSERVER_NS),
        uid: Some(0),
        gid: Some(0),
        start_ns: Some(1),
        scm_pid: Some(pid),
        task_kind: TaskKind::Thread,
        ..Attestation::unknown(Via::Btf)
    }
}

/// An attested frame of the process that the observer sees as 42.
const AUTHENTIC: Verdict = authentic(BeatOrigin::KernelAttested, 42);

const fn authentic(origin: BeatOrigin, pid: u32) -> Verdict {
    Verdict::Authentic { origin, pid }
}

const MODES: [AttestMode; 3] = [AttestMode::Require, AttestMode::Prefer, AttestMode::Off];

fn failure(cause: AuthFailureCause) -> Verdict {
    Verdict::AuthFailure(cause)
}

#[test]
fn an_honest_frame_is_authentic() {
    assert_eq!(judge(&frame(42), Some(&sender(42)), &REQUIRE), AUTHENTIC);
}

#[test]
fn another_ones_pid_is_a_mismatch() {
    let verdict = judge(&frame(43), Some(&sender(42)), &REQUIRE);
    assert_eq!(verdict, failure(AuthFailureCause::PidMismatch));
}

#[test]
fn forged_credentials_are_found_whatever_the_frame_says() {
    let forger = Attestation {
        scm_pid: Some(43),
        ..sender(42)
    };
    for claimed in [42, 43] {
        let verdict = judge(&frame(claimed), Some(&forger), &REQUIRE);
        assert_eq!(verdict, failure(AuthFailureCause::ForgedCredentials));
    }
}

#[test]
fn an_sqpoll_thread_vouches_for_nobody() {
    let thread = Attestation {
        task_kind: TaskKind::SqPoll,
        ..sender(42)
    };
    let verdict = judge(&frame(42), Some(&thread), &REQUIRE);
    assert_eq!(verdict, failure(AuthFailureCause::Sqpoll));
}

#[test]
fn an_io_worker_sends_for_its_process() {
    let worker = Attestation {
        task_kind: TaskKind::IoWorker,
        ..sender(42)
    };
    assert_eq!(judge(&frame(42), Some(&worker), &REQUIRE), AUTHENTIC);
}

#[test]
fn a_foreign_namespace_comes_before_pids() {
    let visible = Attestation {
        pid_ns_inode: Some(1),
        ..sender(42)
    };
    let invisible = Attestation {
        pid: None,
        pid_ns_inode: Some(1),
        ..sender(42)
    };
    let unknown = Attestation {
        pid_ns_inode: None,
        ..sender(42)
    };
    for foreign in [visible, invisible, unknown] {
        for claimed in [42, 43] {
            let verdict = judge(&frame(claimed), Some(&foreign), &REQUIRE);
            assert_eq!(verdict, Verdict::NamespaceConflict, "{foreign:?}");
        }
    }
}

/// SCM_CREDENTIALS says 0 for a sender that the observer's namespace does not
/// see: never "no credentials".
#[test]
fn credentials_with_pid_0_are_a_foreign_namespace() {
    let invisible = Attestation {
        pid: None,
        pid_ns_inode: None,
        scm_pid: Some(0),
        via: Via::Scm,
        ..sender(42)
    };
    for mode in [AttestMode::Prefer, AttestMode::Off] {
        let verdict = judge(&frame(42), Some(&invisible), &policy(mode));
        assert_eq!(verdict, Verdict::NamespaceConflict);
    }
}

#[test]
fn without_a_record_the_policy_decides() {
    let scm = Attestation {
        pid_ns_inode: None,
        start_ns: None,
        via: Via::Scm,
        task_kind: TaskKind::Unknown,
        ..sender(42)
    };
    let unattested = failure(AuthFailureCause::Unattested);
    assert_eq!(judge(&frame(42), Some(&scm), &REQUIRE), unattested);
    assert_eq!(judge(&frame(42), None, &REQUIRE), unattested);
    for mode in [AttestMode::Prefer, AttestMode::Off] {
        let policy = policy(mode);
        assert_eq!(judge(&frame(42), Some(&scm), &policy), AUTHENTIC);
        let mismatch = failure(AuthFailureCause::PidMismatch);
        assert_eq!(judge(&frame(43), Some(&scm), &policy), mismatch);
        let bare = authentic(BeatOrigin::SocketModeOnly, 42);
        assert_eq!(judge(&frame(42), None, &policy), bare);
    }
}

#[test]
fn a_local_sender_by_udp_is_judged_as_one_on_the_socket() {
    let local = Attestation {
        scm_pid: None,
        ..sender(42)
    };
    let forger = Attestation {
        pid: Some(43),
        ..local
    };
    for network in [Network::Refused, Network::Unverified, Network::Trusted] {
        assert_eq!(judge_udp(Some(&local), network, &REQUIRE), AUTHENTIC);
        let mismatch = failure(AuthFailureCause::PidMismatch);
        assert_eq!(judge_udp(Some(&forger), network, &REQUIRE), mismatch);
    }
}

#[test]
fn what_no_local_process_sent_is_worth_what_the_operator_said() {
    for mode in MODES {
        let trusted = authentic(BeatOrigin::OperatorAttestedTransport, 42);
        assert_eq!(judge_udp(None, Network::Trusted, &policy(mode)), trusted);
        let unverified = authentic(BeatOrigin::NetworkUnverified, 42);
        assert_eq!(
            judge_udp(None, Network::Unverified, &policy(mode)),
            unverified
        );
        let refused = match mode {
            AttestMode::Require => failure(AuthFailureCause::Unattested),
            AttestMode::Prefer | AttestMode::Off => unverified,
        };
        assert_eq!(judge_udp(None, Network::Refused, &policy(mode)), refused);
    }
}

/// An agent that the observer sees as 42, as 7 in a namespace of its own.
const CONTAINED: Attestation = Attestation {
    own_pid: Some(7),
    pid_ns_inode: Some(1),
    ..sender(42)
};

fn translating() -> Policy {
    Policy {
        namespaces: Namespaces::Translate,
        ..REQUIRE
    }
}

#[test]
fn a_translated_agent_claims_its_own_pid() {
    let policy = translating();
    assert_eq!(judge(&frame(7), Some(&CONTAINED), &policy), AUTHENTIC);
    for claimed in [42, 8] {
        let mismatch = failure(AuthFailureCause::PidMismatch);
        assert_eq!(judge(&frame(claimed), Some(&CONTAINED), &policy), mismatch);
    }
    let forger = Attestation {
        scm_pid: Some(7),
        ..CONTAINED
    };
    let verdict = judge(&frame(7), Some(&forger), &policy);
    assert_eq!(verdict, failure(AuthFailureCause::ForgedCredentials));
}

#[test]
fn outside_of_the_observers_namespace_nothing_is_translated() {
    let outside = Attestation {
        pid: None,
        ..CONTAINED
    };
    let unknown = Attestation {
        pid_ns_inode: None,
        ..CONTAINED
    };
    let nameless = Attestation {
        own_pid: None,
        ..CONTAINED
    };
    for sender in [outside, unknown, nameless] {
        for claimed in [7, 42] {
            let verdict = judge(&frame(claimed), Some(&sender), &translating());
            assert_eq!(verdict, Verdict::NamespaceConflict, "{sender:?}");
        }
    }
    let lost = Policy {
        observer_ns_inode: None,
        ..translating()
    };
    let verdict = judge(&frame(7), Some(&CONTAINED), &lost);
    assert_eq!(verdict, Verdict::NamespaceConflict);
}

#[test]
fn pid_1_is_for_the_first_process_of_a_translated_namespace() {
    let first = Attestation {
        own_pid: Some(1),
        ..CONTAINED
    };
    let invisible = Attestation { pid: None, ..first };
    assert!(may_claim_pid_1(Some(&first), &translating()));
    assert_eq!(judge(&frame(1), Some(&first), &translating()), AUTHENTIC);
    assert!(!may_claim_pid_1(Some(&first), &REQUIRE));
    for other in [None, Some(&CONTAINED), Some(&invisible)] {
        assert!(!may_claim_pid_1(other, &translating()), "{other:?}");
    }
}

#[test]
fn lists_of_users_and_groups_keep_others_out() {
    let policy = Policy {
        senders: Senders {
            uids: vec![1000],
            gids: vec![100, 101],
        },
        ..REQUIRE
    };
    let with_ids = |uid, gid| Attestation {
        uid,
        gid,
        ..sender(42)
    };
    for (uid, gid) in [(1000, 5), (5, 100), (5, 101), (1000, 100)] {
        let sender = with_ids(Some(uid), Some(gid));
        assert_eq!(judge(&frame(42), Some(&sender), &policy), AUTHENTIC);
    }
    for (uid, gid) in [(Some(0), Some(0)), (Some(100), Some(1000)), (None, None)] {
        let sender = with_ids(uid, gid);
        let verdict = judge(&frame(42), Some(&sender), &policy);
        assert_eq!(verdict, Verdict::Refused, "{uid:?} {gid:?}");
        // A forgery is one, whoever sends it.
        let mismatch = failure(AuthFailureCause::PidMismatch);
        assert_eq!(judge(&frame(43), Some(&sender), &policy), mismatch);
    }
    let anyone = Policy {
        attest: AttestMode::Off,
        ..policy
    };
    assert_eq!(judge(&frame(42), None, &anyone), Verdict::Refused);
}

fn any_sender() -> impl Strategy<Value = Attestation> {
    let pid = || prop::option::of(2..5u32);
    let namespace = prop::option::of(OBSERVER_NS..OBSERVER_NS + 2);
    let via = prop::sample::select(vec![Via::Btf, Via::Helper, Via::Scm]);
    let kind = prop::sample::select(vec![
        TaskKind::Unknown,
        TaskKind::Thread,
        TaskKind::IoWorker,
        TaskKind::SqPoll,
    ]);
    let uid = prop::option::of(0..2u32);
    (pid(), pid(), pid(), namespace, via, kind, uid).prop_map(
        |(pid, own_pid, scm_pid, pid_ns_inode, via, task_kind, uid)| Attestation {
            pid,
            own_pid,
            pid_ns_inode,
            uid,
            scm_pid,
            via,
            task_kind,
            ..sender(2)
        },
    )
}

fn any_trust() -> impl Strategy<Value = Trust> {
    prop::sample::select(vec![
        Trust::SocketMode,
        Trust::Network(Network::Refused),
        Trust::Network(Network::Unverified),
        Trust::Network(Network::Trusted),
    ])
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let namespaces = vec![Namespaces::Refuse, Namespaces::Translate];
    (
        prop::sample::select(MODES.to_vec()),
        prop::sample::select(namespaces),
        prop::collection::vec(0..2u32, 0..2),
    )
        .prop_map(|(attest, namespaces, uids)| Policy {
            namespaces,
            senders: Senders {
                uids,
                gids: Vec::new(),
            },
            ..policy(attest)
        })
}

proptest! {
    /// No frame is attested unless everything that the kernel said agrees
    /// with it, whatever the policy.
    #[test]
    fn attested_means_that_all_evidence_agrees(
        claimed in 2..5u32,
        sender in prop::option::of(any_sender()),
        trust in any_trust(),
        policy in any_policy(),
    ) {
        let verdict = super::judge(&frame(claimed), sender.as_ref(), trust, &policy);
        let Verdict::Authentic { origin, pid } = verdict else {
            return Ok(());
        };
        if origin == BeatOrigin::KernelAttested {
            let sender = sender.expect("someone was named");
            let neighbour = sender.pid_ns_inode.is_none_or(|inode| inode == OBSERVER_NS);
            prop_assert_eq!(sender.pid, Some(pid));
            prop_assert_eq!(if neighbour { sender.pid } else { sender.own_pid }, Some(claimed));
            prop_assert!(neighbour || policy.namespaces == Namespaces::Translate);
            prop_assert!(sender.scm_pid.is_none_or(|scm_pid| scm_pid == pid));
            prop_assert!(sender.via != Via::Btf || sender.pid_ns_inode.is_some());
            prop_assert_ne!(sender.task_kind, TaskKind::SqPoll);
            prop_assert!(policy.senders.is_everyone()
                || sender.uid.is_some_and(|uid| policy.senders.uids.contains(&uid)));
            prop_assert!(policy.attest != AttestMode::Require
                || trust != Trust::SocketMode
                || sender.via != Via::Scm);
        } else {
            prop_assert!(sender.is_none());
            prop_assert_eq!(pid, claimed);
            let bare = origin == BeatOrigin::SocketModeOnly;
            prop_assert_eq!(bare, trust == Trust::SocketMode);
            prop_assert!(policy.attest != AttestMode::Require
                || matches!(trust, Trust::Network(Network::Unverified | Network::Trusted)));
        }
    }
}
