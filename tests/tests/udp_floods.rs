//! Floods by UDP, by processes of a user without rights: none costs an honest
//! agent its beats.

use std::net::{Ipv4Addr, SocketAddr};
use std::process;

use observer_tests::agent::Agent;
use observer_tests::attacker::Attacker;
use observer_tests::network::{self, Network};
use observer_tests::observer::{Observer, Remains, Setup, is};
use observer_tests::senders::{attack, sender, start};
use observer_tests::udp::{beats_of, is_ipv4_attested, listening, one_address};
use observer_tests::{is_emulated, need_kernel, observer_binary};

const LONG: u64 = 60_000;

const SENDER: &str = env!("CARGO_BIN_EXE_sender");

const ATTACKER: &str = env!("CARGO_BIN_EXE_udp_attack");

/// The threshold for agents that a flood must not mute. On an emulated machine
/// those that are done have been silent for long when the flood ends.
fn threshold_ms() -> u64 {
    if is_emulated() { LONG } else { 3000 }
}

/// What sets up a network namespace of an attacker's own.
const LOOPBACK_UP: &str = "ip link set lo up";

/// The same with a device by which datagrams leave to an address where nobody
/// is.
fn toward_nobody(own: &str, address: &str) -> String {
    format!(
        "ip link add va type veth peer name vb && ip link set va up && \
         ip link set vb up && ip address add {own} dev va && \
         ip neigh add {address} lladdr 02:00:00:00:00:07 dev va nud permanent"
    )
}

/// Such an address.
const NOBODY_THERE: [u8; 4] = [10, 99, 0, 7];

/// An attacker's own network from which datagrams leave to it.
fn own_network_toward_nobody() -> String {
    toward_nobody("10.99.0.1/24", &Ipv4Addr::from(NOBODY_THERE).to_string())
}

/// Beside a flood, has agents beat and a forger forge: each beat is believed, and
/// no forgery.
fn beats_and_forgeries_beside(
    mut flood: Agent,
    observer: Observer,
    attacker: &Attacker,
    to: SocketAddr,
) -> Remains {
    const BEATS: u32 = 100;
    let mut agents: Vec<_> = (0..5).map(|_| sender(to, "pulse", &[20, BEATS])).collect();
    let victim = process::id();
    let (mut forger, _) = attack(attacker.unprivileged(), "forge", to, &[victim, 200]);
    for agent in &mut agents {
        observer.expect_count("beats", BEATS as usize, beats_of(agent.pid()));
        agent.finish_well();
    }
    println!("{} junk datagrams", flood.line());
    flood.finish_well();
    forger.finish_well();
    let remains = observer.stop();
    assert_eq!(remains.counter("unattested"), 0, "{}", remains.counters);
    assert_eq!(remains.counter("stalls"), 0);
    assert_eq!(remains.counter("pid_mismatch"), 200);
    assert_eq!(remains.counter("beats"), u64::from(5 * BEATS));
    remains
}

/// Junk that never comes near the listener costs nobody here a record.
#[test]
fn junk_in_another_network_costs_nobody_a_beat() {
    need_kernel!();
    let milliseconds = if is_emulated() { 1500 } else { 3000 };
    for flag in ["--udp", "--trust-udp"] {
        let address = one_address();
        let observer = Setup::new(threshold_ms()).arg(flag).arg(address).start();
        let to = observer.udp()[0];
        let attacker = Attacker::new(ATTACKER);
        let away = attacker.in_own_network(LOOPBACK_UP);
        let (flood, _) = start(away, "junk", to, &[milliseconds, 2]);
        let remains = beats_and_forgeries_beside(flood, observer, &attacker, to);
        assert_eq!(remains.counter("ring_full"), 0);
    }
}

/// The same on the way to the listener's own address and port, by a device of
/// the attacker's network: these have records, for which only what comes from
/// there is refused.
#[test]
fn junk_toward_the_listener_costs_nobody_here_a_record() {
    need_kernel!();
    if !is_ipv4_attested() {
        return;
    }
    let setup = Setup::new(threshold_ms()).arg("--trust-udp");
    let observer = setup.arg("0.0.0.0:0").start();
    let port = observer.udp()[0].port();
    let to = SocketAddr::new([127, 0, 0, 1].into(), port);
    let away = SocketAddr::new(NOBODY_THERE.into(), port);
    let attacker = Attacker::new(ATTACKER);
    let milliseconds = if is_emulated() { 1500 } else { 3000 };
    let command = attacker.in_own_network(&own_network_toward_nobody());
    let (flood, _) = start(command, "junk", away, &[milliseconds, 2]);
    let remains = beats_and_forgeries_beside(flood, observer, &attacker, to);
    assert!(remains.counter("others_over_budget") > 0);
}

/// Who sends more than it may to the listener itself is dropped where it sends.
#[test]
fn a_flood_by_lo_costs_nobody_a_record() {
    const BEATS: u32 = 100;
    need_kernel!();
    // Less than a flood of a machine that is emulated, and twice what an agent
    // here sends.
    let setup = Setup::new(threshold_ms()).args(["--max-beat-rate", "100"]);
    let observer = listening(setup, &[one_address()]);
    let to = observer.udp()[0];
    let attacker = Attacker::new(ATTACKER);
    let milliseconds = if is_emulated() { 1500 } else { 3000 };
    let (mut flood, _) = start(attacker.unprivileged(), "junk", to, &[milliseconds, 4]);
    let mut agents: Vec<_> = (0..5).map(|_| sender(to, "pulse", &[20, BEATS])).collect();
    for agent in &mut agents {
        // What finds the socket's queue full is no fault of the record's.
        observer.expect_count("beats", BEATS as usize / 2, beats_of(agent.pid()));
        agent.finish_well();
    }
    println!("{} junk datagrams", flood.line());
    flood.finish_well();
    let remains = observer.stop();
    assert_eq!(remains.counter("unattested"), 0, "{}", remains.counters);
    assert_eq!(remains.counter("udp_unrecorded"), 0);
    assert_eq!(remains.counter("stalls"), 0);
    assert!(remains.counter("throttled") > 0);
}

/// Strangers of one user share a budget by UDP too; an agent has its own once a
/// beat of it has been accepted.
#[test]
fn strangers_by_lo_share_a_budget() {
    const BEATS: u32 = 10;
    need_kernel!();
    let limits = ["--max-beat-rate", "200", "--max-group-rate", "1"];
    let observer = listening(Setup::new(LONG).args(limits), &[one_address()]);
    let to = observer.udp()[0];
    let senders = Attacker::new(SENDER);
    let (mut agent, pid) = start(senders.unprivileged(), "pulse", to, &[200, BEATS]);
    observer.expect("a first beat", beats_of(pid));
    let attacker = Attacker::new(ATTACKER);
    let (mut flood, _) = start(attacker.unprivileged(), "junk", to, &[1000, 4]);
    flood.line();
    flood.finish_well();
    // A stranger would have had two at once, and one in the next second.
    observer.expect_count("beats", BEATS as usize / 2, beats_of(pid));
    agent.finish_well();
    let remains = observer.stop();
    let counters = &remains.counters;
    assert!(remains.counter("throttled") > 0, "{counters}");
    assert!(remains.counter("decode_errors") < 100, "{counters}");
    let is_named = |line: &String| line.contains("--max-group-rate");
    assert!(remains.log.iter().any(is_named), "{:#?}", remains.log);
}

/// Who sends from another network namespace uses up nothing of what strangers
/// of the same user share in this one.
#[test]
fn strangers_elsewhere_use_up_no_budget_here() {
    need_kernel!();
    if !is_ipv4_attested() {
        return;
    }
    let flags = ["--trust-udp", "0.0.0.0:0", "--max-group-rate", "1"];
    let observer = Setup::new(LONG).args(flags).start();
    let port = observer.udp()[0].port();
    let away = SocketAddr::new(NOBODY_THERE.into(), port);
    let attacker = Attacker::new(ATTACKER);
    let (mut flood, _) = attack(
        attacker.in_own_network(&own_network_toward_nobody()),
        "unseen",
        away,
        &[500, 20],
    );
    let to = SocketAddr::new([127, 0, 0, 1].into(), port);
    let senders = Attacker::new(SENDER);
    let (mut agent, pid) = start(senders.unprivileged(), "pulse", to, &[10, 3]);
    observer.expect("a beat", beats_of(pid));
    agent.finish_well();
    flood.finish_well();
    let remains = observer.stop();
    // They share one of their own.
    let over = remains.counter("others_over_budget");
    assert!(over > 400, "{}", remains.counters);
}

/// Records of what reaches nobody wake the observer before their ring is full.
#[test]
fn a_ring_that_fills_up_wakes_the_observer() {
    need_kernel!();
    if !is_ipv4_attested() {
        return;
    }
    let network = Network::new();
    let setup = Setup::in_command(network.at_observer(observer_binary()), LONG)
        .arg("--trust-udp")
        .arg("0.0.0.0:0")
        .arg("--max-beat-rate")
        .arg("0")
        .arg("--ring-bytes")
        .arg("65536");
    let observer = setup.start();
    let port = observer.udp()[0].port();
    // No host has the address: nothing that is sent there arrives.
    let nowhere = SocketAddr::new([10, 213, 7, 200].into(), port);
    let burst = if is_emulated() { 5 } else { 20 };
    let command = network.at_agents(ATTACKER);
    let (mut attacker, _) = attack(command, "unseen", nowhere, &[3000, burst]);
    attacker.finish_well();
    let remains = observer.stop();
    assert!(remains.counter("records") > 2000, "{}", remains.counters);
    assert_eq!(remains.counter("ring_full"), 0);
}

/// A sender over its budget has no record. While records are lost, what comes over
/// a declared device without one is not taken for the network's.
#[test]
fn over_its_budget_a_container_is_not_the_network() {
    const SENT: u32 = 300;
    need_kernel!();
    if !is_ipv4_attested() {
        return;
    }
    let network = Network::new();
    let address = format!("{}:0", network::OBSERVER);
    for (flags, beats) in [
        (
            &["--accept-network-beats", "--udp"][..],
            "network_unverified",
        ),
        (&["--trust-udp"], "operator_attested_transport"),
    ] {
        let setup = Setup::in_command(network.at_observer(observer_binary()), LONG)
            .args(flags.iter().copied())
            .args([address.as_str(), "--attest-device", "observer0"])
            .args(["--max-beat-rate", "50"]);
        let observer = setup.start();
        let to = observer.udp()[0];
        let command = network.at_agents(ATTACKER);
        let (mut container, _) = attack(command, "unseen", to, &[SENT, 5]);
        observer.expect_count("refusals", 100, |event| is(event, "auth_failure"));
        container.finish_well();
        let remains = observer.stop();
        let weaker = remains
            .events
            .iter()
            .filter(|event| event["origin"] == beats);
        assert_eq!(weaker.count(), 0);
        assert_eq!(
            remains.counter("beats") + remains.counter("unattested"),
            u64::from(SENT),
            "{}",
            remains.counters
        );
        assert!(remains.counter("beats") >= 100);
        assert_eq!(
            remains.counter("others_over_budget"),
            remains.counter("unattested")
        );
    }
}

/// Whoever sends toward the listener from a network of its own costs no agent
/// behind a declared device its record.
#[test]
fn junk_elsewhere_costs_no_container_its_record() {
    const AGENTS: usize = 5;
    const BEATS: u32 = 100;
    need_kernel!();
    if !is_ipv4_attested() {
        return;
    }
    let network = Network::new();
    let setup = Setup::in_command(network.at_observer(observer_binary()), threshold_ms())
        .args(["--trust-udp", &format!("{}:0", network::OBSERVER)])
        .args(["--attest-device", "observer0"]);
    let observer = setup.start();
    let to = observer.udp()[0];
    let pulse = || start(network.at_agents(SENDER), "pulse", to, &[20, BEATS]);
    let mut agents: Vec<_> = (0..AGENTS).map(|_| pulse()).collect();
    for (_, pid) in &agents {
        observer.expect("a first beat", beats_of(*pid));
    }
    let attacker = Attacker::new(ATTACKER);
    let own = toward_nobody("10.213.7.9/24", network::OBSERVER);
    let milliseconds = if is_emulated() { 1500 } else { 3000 };
    let command = attacker.in_own_network(&own);
    let (mut flood, _) = start(command, "junk", to, &[milliseconds, 4]);
    println!("{} junk datagrams", flood.line());
    flood.finish_well();
    for (agent, pid) in &mut agents {
        observer.expect_count("beats", BEATS as usize, beats_of(*pid));
        agent.finish_well();
    }
    let remains = observer.stop();
    let counters = &remains.counters;
    assert_eq!(remains.counter("unattested"), 0, "{counters}");
    assert_eq!(remains.counter("stalls"), 0, "{counters}");
    let mut beats = remains.events.iter().filter(|event| is(event, "beat"));
    assert!(beats.all(|beat| beat["origin"] == "kernel_attested"));
    assert!(remains.counter("others_over_budget") > 0, "{counters}");
}
