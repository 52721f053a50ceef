//! Forgeries by UDP, by processes of a user without rights where those suffice:
//! none is believed.

use std::net::SocketAddr;
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

use observer_testing::{connect, frame};
use observer_tests::attacker::Attacker;
use observer_tests::kernel::{attested_loopback, is_at_least};
use observer_tests::network::Network;
use observer_tests::observer::{Setup, is};
use observer_tests::senders::{attack, sender, start};
use observer_tests::udp::{beats_of, is_ipv4_attested, listening, one_address};
use observer_tests::{is_emulated, need_kernel, observer_binary};
use rustix::net::SendFlags;
use rustix::process::Signal;
use serde_json::Value;

const LONG: u64 = 60_000;

const SENDER: &str = env!("CARGO_BIN_EXE_sender");

const ATTACKER: &str = env!("CARGO_BIN_EXE_udp_attack");

/// What sets up a network namespace of an attacker's own.
const LOOPBACK_UP: &str = "ip link set lo up";

fn port(socket: &str) -> u32 {
    let address: SocketAddr = socket.parse().expect("an address");
    address.port().into()
}

/// Whoever sends to its own `127.0.0.1` sends nothing to ours, and its record
/// serves nobody who sends the same here.
#[test]
fn a_beat_in_another_network_is_no_one_elses_here() {
    need_kernel!();
    let observer = listening(Setup::new(LONG), attested_loopback());
    let attacker = Attacker::new(ATTACKER);
    let victims = Attacker::new(SENDER);
    for to in observer.udp() {
        let away = victims.in_own_network(LOOPBACK_UP);
        let (mut victim, pid) = start(away, "resident", to, &[]);
        let port = port(&victim.line());
        let (mut forger, forger_pid) =
            attack(attacker.unprivileged(), "from-port", to, &[port, pid, 1]);
        let forgery = observer.expect("a forgery", |event| {
            is(event, "auth_failure") && event["sender"]["pid"] == forger_pid
        });
        assert_eq!(forgery["cause"], "pid_mismatch");
        assert_eq!(forgery["claimed_pid"], pid);
        forger.finish_well();
        victim.finish_well();
    }
    assert!(observer.events_where(|event| is(event, "beat")).is_empty());
}

/// A process that shares its socket with a child sends off what the child put
/// there, and it is not believed to be its own.
#[test]
fn a_child_cannot_beat_by_its_parents_next_send() {
    need_kernel!();
    let observer = listening(Setup::new(LONG), attested_loopback());
    let attacker = Attacker::new(ATTACKER);
    let mut targets = observer.udp();
    if let Some(v4) = targets.iter().find(|to| to.is_ipv4()) {
        let mapped = format!("[::ffff:127.0.0.1]:{}", v4.port());
        targets.push(mapped.parse().expect("an address"));
    }
    for to in targets {
        for way in 0..4 {
            let (mut agent, pid) = attack(attacker.unprivileged(), "corked-by-child", to, &[way]);
            observer.expect_count("honest beats", 2, beats_of(pid));
            agent.finish_well();
            let nonces: Vec<u64> = observer
                .events_where(beats_of(pid))
                .iter()
                .map(|beat| beat["nonce"].as_u64().expect("a number"))
                .collect();
            assert_eq!(nonces, [1, 3], "{to} {way}");
            let refused = observer
                .events_where(|event| is(event, "auth_failure") && event["claimed_pid"] == pid);
            let expected = if way < 2 { 2 } else { 1 };
            assert_eq!(refused.len(), expected, "{to} {way}");
            for refusal in refused {
                assert_eq!(refusal["cause"], "corked", "{to} {way}");
                assert_eq!(refusal["sender"]["pid"], pid);
            }
        }
    }
}

/// A raw socket of IPv6 collects as well, whatever it was made for.
#[test]
fn a_child_cannot_beat_by_its_parents_raw_socket() {
    need_kernel!();
    let observer = listening(Setup::new(LONG), &["[::1]:0"]);
    let to = observer.udp()[0];
    let (mut holder, pid) = attack(Command::new(ATTACKER), "raw-corked-by-child", to, &[]);
    let refused = observer.expect("a refusal", |event| is(event, "auth_failure"));
    assert_eq!(refused["claimed_pid"], pid);
    let cause = if is_ipv4_attested() {
        "corked"
    } else {
        "unattested"
    };
    assert_eq!(refused["cause"], cause);
    holder.finish_well();
    assert!(observer.events_where(|event| is(event, "beat")).is_empty());
}

/// On the Unix socket nothing is collected, whatever the sender asks for: each
/// `send` is a datagram of its own (`unix_dgram_sendmsg`, `net/unix/af_unix.c`).
#[test]
fn a_unix_datagram_is_never_collected() {
    need_kernel!();
    let observer = Setup::new(LONG).start();
    let socket = connect(observer.socket()).expect("it is there");
    let own = process::id();
    let beat = frame(own, 1).encode();
    rustix::net::send(&socket, &beat, SendFlags::MORE).expect("sends");
    let beat = observer.expect("a beat", beats_of(own));
    assert_eq!(beat["origin"], "kernel_attested");
}

/// The last segment of a send may be shorter than the others.
#[test]
fn a_short_last_segment_is_seen() {
    need_kernel!();
    let observer = listening(Setup::new(LONG), attested_loopback());
    let attacker = Attacker::new(ATTACKER);
    for to in observer.udp() {
        let victim = process::id();
        let (mut forger, pid) = attack(attacker.unprivileged(), "short-segment", to, &[victim]);
        let refused = observer.expect("a refusal", |event| {
            is(event, "auth_failure") && event["sender"]["pid"] == pid
        });
        assert_eq!(refused["cause"], "corked");
        forger.finish_well();
    }
}

/// Packets made by hand, which takes a right over the network namespace.
#[test]
fn a_hand_made_packet_is_named_or_dropped() {
    need_kernel!();
    let observer = listening(Setup::new(LONG), attested_loopback());
    let victim = process::id();
    for to in observer.udp() {
        let how = if to.is_ipv6() {
            "hand-made"
        } else {
            "fragments"
        };
        let (mut forger, pid) = attack(Command::new(ATTACKER), how, to, &[victim]);
        if to.is_ipv4() {
            forger.finish_well();
            continue;
        }
        let refused = observer.expect("a refusal", |event| is(event, "auth_failure"));
        // An IPv6 socket of another kind than UDP cannot be looked into there.
        if is_ipv4_attested() {
            assert_eq!(refused["cause"], "corked");
            assert_eq!(refused["sender"]["pid"], pid);
        } else {
            assert_eq!(refused["cause"], "unattested");
        }
        forger.finish_well();
    }
    let fragments = observer.udp().iter().filter(|to| to.is_ipv4()).count();
    let remains = observer.stop();
    assert_eq!(remains.counter("beats"), 0);
    assert_eq!(remains.counter("datagrams"), 1, "{}", remains.counters);
    assert_eq!(remains.counter("udp_hidden"), fragments as u64);
}

/// A segment routing header takes no privilege, where the administrator
/// switched segment routing on.
#[test]
fn a_routed_datagram_does_not_arrive() {
    need_kernel!();
    let network = Network::new();
    let switch = "for i in all lo; do echo 1 > /proc/sys/net/ipv6/conf/$i/seg6_enabled || exit; \
                  done; exec \"$@\"";
    let mut command = network.at_observer("sh");
    command.args(["-c", switch, "sh"]).arg(observer_binary());
    let observer = listening(Setup::in_command(command, LONG), &["[::1]:0"]);
    let to = observer.udp()[0];
    let (mut forger, _) = attack(
        network.at_observer(ATTACKER),
        "routed",
        to,
        &[process::id()],
    );
    forger.finish_well();
    let (mut agent, pid) = start(network.at_observer(SENDER), "resident", to, &[]);
    observer.expect("a beat", beats_of(pid));
    agent.finish_well();
    let remains = observer.stop();
    assert_eq!(remains.counter("udp_hidden"), 1, "{}", remains.counters);
    assert_eq!(remains.counter("datagrams"), 1);
}

/// Pages that are changed once the kernel has seen them.
#[test]
fn a_page_that_changes_on_the_way_is_not_believed() {
    need_kernel!();
    let addresses = attested_loopback()
        .iter()
        .flat_map(|at| ["--trust-udp", at]);
    let observer = Setup::new(LONG).args(addresses).start();
    let attacker = Attacker::new(ATTACKER);
    let victim = process::id();
    for to in observer.udp() {
        // They wait until all pages have been changed.
        observer.signal(Signal::STOP);
        let (mut forger, _) = attack(attacker.unprivileged(), "changed", to, &[victim]);
        observer.signal(Signal::CONT);
        if are_pages_sent() {
            observer.expect("a refusal", |event| is(event, "auth_failure"));
        }
        forger.finish_well();
    }
    let remains = observer.stop();
    let is_believed = |event: &Value| is(event, "beat") && event["pid"] == victim;
    assert!(!remains.events.iter().any(is_believed));
    if are_pages_sent() {
        assert_eq!(remains.counter("beats"), 0, "{}", remains.counters);
        assert!(remains.counter("unattested") > 0, "{}", remains.counters);
    }
}

/// Whether a datagram is sent from the pages that are spliced into its socket,
/// and not from a copy (`MSG_SPLICE_PAGES`, Linux 6.5).
fn are_pages_sent() -> bool {
    is_at_least((6, 5))
}

/// Who takes over a port does not take over a beat that was sent from it and
/// found the queue full: not without tokens, and not with them.
#[test]
fn a_lost_beat_serves_nobody_else() {
    need_kernel!();
    if is_emulated() {
        return;
    }
    for flag in [None, Some("--udp-tokens")] {
        let setup = Setup::new(LONG).arg("--max-beat-rate").arg("0").args(flag);
        let observer = listening(setup, &[one_address()]);
        let to = observer.udp()[0];
        observer.signal(Signal::STOP);
        let (mut filler, _) = attack(Command::new(ATTACKER), "unseen", to, &[5000, 500]);
        let mut agent = sender(to, "resident", &[]);
        let pid = agent.pid();
        let port = port(&agent.line());
        agent.finish_well();
        observer.signal(Signal::CONT);
        observer.expect("a beat", |event| is(event, "beat"));
        thread::sleep(Duration::from_millis(200));
        let (mut forger, forger_pid) =
            attack(Command::new(ATTACKER), "from-port", to, &[port, pid, 1]);
        let forgery = observer.expect("a forgery", |event| {
            is(event, "auth_failure") && event["claimed_pid"] == pid
        });
        assert_eq!(forgery["cause"], "pid_mismatch");
        assert_eq!(forgery["sender"]["pid"], forger_pid);
        assert!(observer.events_where(beats_of(pid)).is_empty());
        forger.finish_well();
        filler.finish_well();
    }
}
