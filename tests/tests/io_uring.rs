//! io_uring: the kernel sends for a process, or for whoever maps its ring.

use observer_tests::observer::{Observer, is};
use observer_tests::senders::uring;
use observer_tests::{kernel, need_kernel};

const LONG: u64 = 60_000;

/// A send that a process submitted is its own, whoever carries it out, even if
/// the thread that submitted it is gone.
#[test]
fn a_process_sends_for_itself() {
    need_kernel!();
    for (who, how, kind) in [
        ("self", "inline", "thread"),
        ("self", "async", "io_worker"),
        ("thread", "inline", "thread"),
        ("thread", "async", "io_worker"),
    ] {
        let observer = Observer::start(LONG);
        let mut agent = uring(observer.target(), who, how);
        if kind == "io_worker" && !kernel::sees_submitters() {
            let failure = observer.expect(how, |event| is(event, "auth_failure"));
            assert_eq!(failure["cause"], "sqpoll", "{who} {how}");
            agent.finish_well();
            continue;
        }
        let beat = observer.expect(how, |event| is(event, "beat"));
        assert_eq!(beat["pid"], agent.pid(), "{who} {how}");
        assert_eq!(beat["sender"]["pid"], agent.pid(), "{who} {how}");
        assert_eq!(beat["sender"]["task_kind"], kind, "{who} {how}");
        agent.finish_well();
    }
}

/// Who sends through an SQPOLL thread cannot be known, so nobody is believed who
/// does; nor who sends through a worker of that thread, nor when either has the
/// name of an innocent one.
#[test]
fn an_sqpoll_ring_attests_nobody() {
    need_kernel!();
    for how in ["sqpoll", "sqpoll-async", "sqpoll-renamed"] {
        let observer = Observer::start(LONG);
        let mut agent = uring(observer.target(), "self", how);
        let failure = observer.expect(how, |event| is(event, "auth_failure"));
        assert_eq!(failure["cause"], "sqpoll", "{how}");
        assert_eq!(failure["claimed_pid"], agent.pid(), "{how}");
        assert_eq!(failure["sender"]["pid"], agent.pid(), "{how}");
        agent.finish_well();
        assert_eq!(observer.stop().counter("beats"), 0, "{how}");
    }
}

/// A child that inherited the ring sends as its parent through the parent's
/// kernel thread, without any privilege. The parent does nothing at all.
#[test]
fn an_inherited_sqpoll_ring_does_not_forge_a_beat() {
    need_kernel!();
    for how in ["sqpoll", "sqpoll-async"] {
        let observer = Observer::start(LONG);
        let mut parent = uring(observer.target(), "child", how);
        let failure = observer.expect(how, |event| is(event, "auth_failure"));
        assert_eq!(failure["cause"], "sqpoll", "{how}");
        assert_eq!(failure["claimed_pid"], parent.pid(), "{how}");
        // All that the kernel knows is whose thread it was.
        assert_eq!(failure["sender"]["pid"], parent.pid(), "{how}");
        parent.finish_well();
        assert_eq!(observer.stop().counter("beats"), 0, "{how}");
    }
}

/// Without SQPOLL the child's own task sends, and is named.
#[test]
fn an_inherited_ring_names_the_child() {
    need_kernel!();
    let observer = Observer::start(LONG);
    for how in ["inline", "async"] {
        if how == "async" && !kernel::sees_submitters() {
            continue;
        }
        let mut parent = uring(observer.target(), "child", how);
        assert_eq!(parent.number(), u64::from(parent.pid()));
        let child = parent.number();
        let failure = observer.expect(how, |event| {
            is(event, "auth_failure") && event["claimed_pid"] == parent.pid()
        });
        assert_eq!(failure["cause"], "pid_mismatch", "{how}");
        assert_eq!(failure["sender"]["pid"], child, "{how}");
        parent.finish_well();

        let mut parent = uring(observer.target(), "child-honest", how);
        assert_eq!(parent.number(), u64::from(parent.pid()));
        let child = parent.number();
        observer.expect(how, |event| is(event, "beat") && event["pid"] == child);
        parent.finish_well();
    }
}
