//! Attacks by UDP, by processes of a user without rights: none is believed, and
//! none costs an honest agent its beats.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

use observer_tests::agent::Agent;
use observer_tests::attacker::Attacker;
use observer_tests::frame::frame;
use observer_tests::kernel::{ATTESTED_IPV4, attested_loopback, is_at_least};
use observer_tests::network::{self, Network};
use observer_tests::observer::{Observer, Remains, Setup, is};
use observer_tests::{is_emulated, need_kernel, observer_binary};
use rustix::net::SendFlags;
use rustix::process::Signal;
use serde_json::Value;

const LONG: u64 = 60_000;
const SENDER: &str = env!("CARGO_BIN_EXE_udp");
const ATTACKER: &str = env!("CARGO_BIN_EXE_udp_attack");

/// How long an agent may be silent that a flood must not mute. On an emulated
/// machine those that are done are long silent before the flood is.
fn threshold_ms() -> u64 {
    if is_emulated() { LONG } else { 3000 }
}

/// What sets a network namespace of an attacker's own up.
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

fn listening(setup: Setup, addresses: &[&str]) -> Observer {
    addresses
        .iter()
        .fold(setup, |setup, address| setup.arg("--udp").arg(address))
        .start()
}

fn with_arguments(mut command: Command, how: &str, to: SocketAddr, numbers: &[u32]) -> Command {
    command.arg(how).arg(to.to_string());
    command.args(numbers.iter().map(u32::to_string));
    command
}

/// Starts a sender or an attacker, which says its pid first.
fn start(command: Command, how: &str, to: SocketAddr, numbers: &[u32]) -> (Agent, u32) {
    let mut agent = Agent::spawn(with_arguments(command, how, to, numbers));
    let pid = agent.number();
    (agent, u32::try_from(pid).expect("a pid"))
}

fn sender(how: &str, to: SocketAddr, numbers: &[u32]) -> (Agent, u32) {
    start(Command::new(SENDER), how, to, numbers)
}

/// Lets an attacker do all of its work.
fn attack(command: Command, how: &str, to: SocketAddr, numbers: &[u32]) -> (Agent, u32) {
    let (mut attacker, pid) = start(command, how, to, numbers);
    while attacker.line() != "done" {}
    (attacker, pid)
}

fn beats_of(pid: u32) -> impl Fn(&Value) -> bool {
    move |event| is(event, "beat") && event["pid"] == pid
}

fn port(socket: &str) -> u32 {
    let address: SocketAddr = socket.parse().expect("an address");
    address.port().into()
}

/// Whoever sends to its own `127.0.0.1` sends nothing to ours, and vouches for
/// nobody who sends the same here.
#[test]
fn a_beat_in_another_network_is_no_one_elses_here() {
    need_kernel!();
    let observer = listening(Setup::new(LONG), attested_loopback());
    let attacker = Attacker::new(ATTACKER);
    let victims = Attacker::new(SENDER);
    for to in observer.udp() {
        let away = victims.in_own_network(LOOPBACK_UP);
        let (mut victim, pid) = start(away, "connected", to, &[]);
        let port = port(&victim.line());
        let (mut forger, forger_pid) =
            attack(attacker.unprivileged(), "from-port", to, &[port, pid, 1]);
        let lie = observer.expect("a lie", |event| {
            is(event, "auth_failure") && event["sender"]["pid"] == forger_pid
        });
        assert_eq!(lie["cause"], "pid_mismatch");
        assert_eq!(lie["claimed_pid"], pid);
        forger.finish_well();
        victim.finish_well();
    }
    assert!(observer.events_where(|event| is(event, "beat")).is_empty());
}

/// A beat to another host's port of the same number, played back from there.
#[test]
fn a_beat_to_another_host_is_no_beat_here() {
    need_kernel!();
    if !is_at_least(ATTESTED_IPV4) {
        return;
    }
    let network = Network::new();
    let setup = Setup::in_command(network.at_observer(observer_binary()), LONG)
        .arg("--accept-network-beats");
    let observer = listening(setup, &["0.0.0.0:0"]);
    let port = observer.udp()[0].port();
    let far = SocketAddr::new(network::AGENTS.parse().expect("an address"), port);
    let (mut agent, pid) = start(network.at_observer(SENDER), "connected", far, &[]);
    agent.line();
    let here = SocketAddr::new(network::OBSERVER.parse().expect("an address"), port);
    let (mut player, _) = start(network.at_agents(SENDER), "packet", here, &[pid, 1]);
    let beat = observer.expect("a beat", beats_of(pid));
    assert_eq!(beat["origin"], "network_unverified");
    assert_eq!(beat["sender"], Value::Null);
    player.finish_well();
    agent.finish_well();
}

/// Beside a flood, lets agents beat and a forger lie: each beat is believed, and
/// no lie.
fn beats_and_forgeries_beside(
    mut flood: Agent,
    observer: Observer,
    attacker: &Attacker,
    to: SocketAddr,
) -> Remains {
    const BEATS: u32 = 100;
    let mut agents: Vec<_> = (0..5).map(|_| sender("pulse", to, &[20, BEATS])).collect();
    let victim = process::id();
    let (mut forger, _) = attack(attacker.unprivileged(), "forge", to, &[victim, 200]);
    for (agent, pid) in &mut agents {
        observer.expect_count("beats", BEATS as usize, beats_of(*pid));
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
        let address = attested_loopback()[0];
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
/// the attacker's network: these are recorded, and refuse nothing but what
/// comes from there.
#[test]
fn junk_toward_the_listener_costs_nobody_here_a_record() {
    need_kernel!();
    if !is_at_least(ATTESTED_IPV4) {
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
    let observer = listening(Setup::new(threshold_ms()), &attested_loopback()[..1]);
    let to = observer.udp()[0];
    let attacker = Attacker::new(ATTACKER);
    let milliseconds = if is_emulated() { 1500 } else { 3000 };
    let (mut flood, _) = start(attacker.unprivileged(), "junk", to, &[milliseconds, 4]);
    let mut agents: Vec<_> = (0..5).map(|_| sender("pulse", to, &[20, BEATS])).collect();
    for (agent, pid) in &mut agents {
        // What finds the socket's queue full is no fault of the record's.
        observer.expect_count("beats", BEATS as usize / 2, beats_of(*pid));
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

/// Strangers of one user share a budget by UDP too; an agent of theirs pays from
/// its own alone once a beat of it has been accepted.
#[test]
fn strangers_by_lo_share_a_budget() {
    const BEATS: u32 = 10;
    need_kernel!();
    let limits = ["--max-beat-rate", "200", "--max-group-rate", "1"];
    let observer = listening(Setup::new(LONG).args(limits), &attested_loopback()[..1]);
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
    let told = |line: &String| line.contains("--max-group-rate");
    assert!(remains.log.iter().any(told), "{:#?}", remains.log);
}

/// Who sends from another network namespace uses up nothing of what strangers
/// of the same user share in this one.
#[test]
fn strangers_elsewhere_use_up_no_budget_here() {
    need_kernel!();
    if !is_at_least(ATTESTED_IPV4) {
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
    if !is_at_least(ATTESTED_IPV4) {
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

/// A container of this host is no network that the operator vouched for, and is
/// attested over a device that the operator named.
#[test]
fn a_container_is_attested_over_a_declared_device_only() {
    need_kernel!();
    if !is_at_least(ATTESTED_IPV4) {
        return;
    }
    let network = Network::new();
    let address = format!("{}:0", network::OBSERVER);
    let run = |flags: &[&str]| {
        let setup = Setup::in_command(network.at_observer(observer_binary()), LONG)
            .arg("--trust-udp")
            .arg(&address);
        flags
            .iter()
            .fold(setup, |setup, flag| setup.arg(flag))
            .start()
    };
    let observer = run(&[]);
    let to = observer.udp()[0];
    let (mut agent, pid) = start(network.at_agents(SENDER), "connected", to, &[]);
    let refused = observer.expect("a refusal", |event| is(event, "auth_failure"));
    assert_eq!(refused["cause"], "unattested");
    assert_eq!(refused["claimed_pid"], pid);
    assert_eq!(refused["sender"]["pid"], pid);
    agent.finish_well();
    // What comes from no process of this host is the network's.
    let (mut player, _) = start(network.at_agents(SENDER), "packet", to, &[4321, 7]);
    let beat = observer.expect("a beat", |event| is(event, "beat"));
    assert_eq!(beat["origin"], "operator_attested_transport");
    player.finish_well();
    drop(observer);

    let observer = run(&["--attest-device", "observer0"]);
    let to = observer.udp()[0];
    let (mut agent, pid) = start(network.at_agents(SENDER), "connected", to, &[]);
    let beat = observer.expect("a beat", beats_of(pid));
    assert_eq!(beat["origin"], "kernel_attested");
    agent.finish_well();
    // The listener's own namespace needs no device.
    let (mut agent, pid) = start(network.at_observer(SENDER), "connected", to, &[]);
    let beat = observer.expect("a beat", beats_of(pid));
    assert_eq!(beat["origin"], "kernel_attested");
    agent.finish_well();
}

/// While records are lost, and that of a sender over its budget is, what comes
/// over a declared device without one is not the network's.
#[test]
fn over_its_budget_a_container_is_not_the_network() {
    const SENT: u32 = 300;
    need_kernel!();
    if !is_at_least(ATTESTED_IPV4) {
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

/// Whoever sends toward the listener from a network of its own costs no agent its
/// record that the listener is to name over a declared device.
#[test]
fn junk_elsewhere_costs_no_container_its_record() {
    const AGENTS: usize = 5;
    const BEATS: u32 = 100;
    need_kernel!();
    if !is_at_least(ATTESTED_IPV4) {
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

/// Over a declared device too a record serves what came from where it left:
/// one that was sent and got lost is not there for whoever replays it.
#[test]
fn a_lost_beat_of_a_container_serves_no_replay() {
    need_kernel!();
    if !is_at_least(ATTESTED_IPV4) {
        return;
    }
    let network = Network::new();
    let address = format!("{}:0", network::OBSERVER);
    for (flag, origin) in [
        (None, "network_unverified"),
        (Some("--attest-translated"), "kernel_attested"),
    ] {
        let setup = Setup::in_command(network.at_observer(observer_binary()), LONG)
            .args(["--udp", &address, "--accept-network-beats"])
            .args(["--attest-device", "observer0"])
            .args(flag);
        let observer = setup.start();
        let to = observer.udp()[0];
        // The datagram goes to a machine that there is not.
        let lose = |change: &[&str]| network.agents_ip(&[&["neigh"], change].concat());
        let entry = [
            network::OBSERVER,
            "lladdr",
            "02:00:00:00:00:99",
            "dev",
            "agents0",
        ];
        lose(&[&["replace"], &entry[..], &["nud", "permanent"]].concat());
        let (mut agent, pid) = start(network.at_agents(SENDER), "connected", to, &[]);
        agent.line();
        lose(&["del", network::OBSERVER, "dev", "agents0"]);
        let (mut player, _) = start(network.at_agents(SENDER), "packet", to, &[pid, 1]);
        let beat = observer.expect("a beat", beats_of(pid));
        assert_eq!(beat["origin"], origin);
        player.finish_well();
        agent.finish_well();
    }
}

/// Whose socket a child shares sends off what the child put there, and is not
/// believed to have said it.
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
    let cause = if is_at_least(ATTESTED_IPV4) {
        "corked"
    } else {
        "unattested"
    };
    assert_eq!(refused["cause"], cause);
    holder.finish_well();
    assert!(observer.events_where(|event| is(event, "beat")).is_empty());
}

/// What this host sends to itself by a way that is no `lo` is not the word of a
/// network that the operator vouches for.
#[test]
fn this_host_is_no_trusted_network() {
    need_kernel!();
    if !is_at_least(ATTESTED_IPV4) {
        return;
    }
    let network = Network::new();
    // Two interfaces on one link: IPv6 takes its own addresses from it.
    for arguments in [
        &["link", "add", "one", "type", "veth", "peer", "name", "two"][..],
        &["address", "add", "fd00:7::1/64", "dev", "one", "nodad"],
        &["address", "add", "fd00:8::2/64", "dev", "two", "nodad"],
        &["link", "set", "one", "up"],
        &["link", "set", "two", "up"],
        &["route", "add", "default", "dev", "observer0"],
    ] {
        network.observer_ip(arguments);
    }
    for (flags, origin) in [
        (
            &["--trust-udp", "0.0.0.0:0", "--trust-udp", "[::]:0"][..],
            None,
        ),
        (
            &[
                "--udp",
                "0.0.0.0:0",
                "--udp",
                "[::]:0",
                "--accept-network-beats",
            ],
            Some("network_unverified"),
        ),
    ] {
        let setup = Setup::in_command(network.at_observer(observer_binary()), LONG);
        let observer = setup.args(flags.iter().copied()).start();
        let ports: Vec<u16> = observer.udp().iter().map(SocketAddr::port).collect();
        let [v4, v6] = ports[..] else {
            panic!("{ports:?}");
        };
        for to in [
            format!("10.213.7.255:{v4}"),
            format!("255.255.255.255:{v4}"),
            format!("224.0.0.1:{v4}"),
            format!("[ff02::1%{}]:{v6}", interface(&network, "one")),
        ] {
            let to: SocketAddr = to.parse().expect("an address");
            let command = network.at_observer(ATTACKER);
            let (mut forger, _) = attack(command, "broadcast", to, &[4321]);
            forger.finish_well();
        }
        let honest = SocketAddr::new([127, 0, 0, 1].into(), v4);
        let (mut agent, pid) = start(network.at_observer(SENDER), "connected", honest, &[]);
        observer.expect("a beat", beats_of(pid));
        agent.finish_well();
        let remains = observer.stop();
        let origins: Vec<&Value> = remains
            .events
            .iter()
            .filter(|event| is(event, "beat") && event["pid"] == 4321)
            .map(|beat| &beat["origin"])
            .collect();
        match origin {
            None => assert!(origins.is_empty(), "{origins:?}"),
            Some(origin) => assert!(origins.iter().all(|&found| found == origin)),
        }
    }
}

/// Index of an interface in the observer's namespace.
fn interface(network: &Network, name: &str) -> u32 {
    let mut command = network.at_observer("cat");
    command.arg("/proc/self/net/if_inet6");
    let output = command.output().expect("cat");
    let table = String::from_utf8(output.stdout).expect("text");
    let line = table.lines().find(|line| line.ends_with(name));
    let fields = line.unwrap_or_else(|| panic!("no {name}: {table}"));
    let index = fields.split_whitespace().nth(1).expect("an index");
    u32::from_str_radix(index, 16).expect("a number")
}

/// On the Unix socket nothing is collected, whatever the sender asks for: each
/// `send` is a datagram of its own (`unix_dgram_sendmsg`, `net/unix/af_unix.c`).
#[test]
fn a_unix_datagram_is_never_collected() {
    need_kernel!();
    let observer = Setup::new(LONG).start();
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.connect(observer.socket()).expect("it is there");
    let own = process::id();
    rustix::net::send(&socket, &frame(own, 1), SendFlags::MORE).expect("sends");
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
        let how = if to.is_ipv6() { "jumbo" } else { "fragments" };
        let (mut forger, pid) = attack(Command::new(ATTACKER), how, to, &[victim]);
        if to.is_ipv4() {
            forger.finish_well();
            continue;
        }
        let refused = observer.expect("a refusal", |event| is(event, "auth_failure"));
        // An IPv6 socket of another kind than UDP cannot be looked into there.
        if is_at_least(ATTESTED_IPV4) {
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
    let (mut agent, pid) = start(network.at_observer(SENDER), "connected", to, &[]);
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
        let observer = listening(setup, &attested_loopback()[..1]);
        let to = observer.udp()[0];
        observer.signal(Signal::STOP);
        let (mut filler, _) = attack(Command::new(ATTACKER), "unseen", to, &[5000, 500]);
        let (mut agent, pid) = sender("connected", to, &[]);
        let port = port(&agent.line());
        agent.finish_well();
        observer.signal(Signal::CONT);
        observer.expect("a beat", |event| is(event, "beat"));
        thread::sleep(Duration::from_millis(200));
        let (mut forger, forger_pid) =
            attack(Command::new(ATTACKER), "from-port", to, &[port, pid, 1]);
        let lie = observer.expect("a lie", |event| {
            is(event, "auth_failure") && event["claimed_pid"] == pid
        });
        assert_eq!(lie["cause"], "pid_mismatch");
        assert_eq!(lie["sender"]["pid"], forger_pid);
        assert!(observer.events_where(beats_of(pid)).is_empty());
        forger.finish_well();
        filler.finish_well();
    }
}
