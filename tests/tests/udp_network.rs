//! Beats by UDP from other network namespaces, and as from other hosts: labelled
//! for what they are.

use std::net::SocketAddr;
use std::process;

use observer_tests::agent::Agent;
use observer_tests::network::{self, Network};
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::senders::{attack, start};
use observer_tests::udp::{assert_attested, beats_of, is_ipv4_attested, listening};
use observer_tests::{need_kernel, observer_binary};
use serde_json::Value;

const LONG: u64 = 60_000;

const SENDER: &str = env!("CARGO_BIN_EXE_sender");

const ATTACKER: &str = env!("CARGO_BIN_EXE_udp_attack");

/// An observer in a network namespace, with agents in another one that it
/// attests.
fn across(network: &Network, flags: &[&str]) -> Observer {
    let setup = Setup::in_command(network.at_observer(observer_binary()), LONG)
        .arg("--attest-device")
        .arg("observer0");
    setup.args(flags.iter().copied()).start()
}

fn agent_across(network: &Network, how: &str, observer: &Observer, numbers: &[u32]) -> Agent {
    let to = observer.udp()[0];
    let (agent, pid) = start(network.at_agents(SENDER), how, to, numbers);
    assert_eq!(pid, agent.pid());
    agent
}

fn address() -> String {
    format!("{}:0", network::OBSERVER)
}

#[test]
fn a_local_sender_behind_a_network_is_attested() {
    need_kernel!();
    if !is_ipv4_attested() {
        return;
    }
    let network = Network::new();
    let observer = across(&network, &["--udp", &address(), "--accept-network-beats"]);
    for how in ["resident", "unconnected", "many-at-once"] {
        let mut agent = agent_across(&network, how, &observer, &[]);
        let beat = observer.expect(how, beats_of(agent.pid()));
        assert_eq!(beat["origin"], "kernel_attested");
        assert_attested(&beat, agent.pid());
        agent.finish_well();
    }
    let mut forger = agent_across(&network, "raw", &observer, &[process::id()]);
    let forgery = observer.expect("a forgery", |event| is(event, "auth_failure"));
    assert_attested(&forgery, forger.pid());
    assert_eq!(forgery["source"], "10.213.7.77:4242");
    forger.finish_well();
}

/// A packet that no process sent by IP, as far as this host's kernel saw: as
/// one from another host.
#[test]
fn a_datagram_from_the_network_has_the_origin_that_the_operator_chose() {
    need_kernel!();
    if !is_ipv4_attested() {
        return;
    }
    let network = Network::new();
    for (flag, origin) in [
        ("--udp", "network_unverified"),
        ("--trust-udp", "operator_attested_transport"),
    ] {
        let observer = across(&network, &[flag, &address(), "--accept-network-beats"]);
        let mut injector = agent_across(&network, "ethernet", &observer, &[4321, 7]);
        let beat = observer.expect("a beat", |event| is(event, "beat"));
        assert_eq!(beat["pid"], 4321);
        assert_eq!(beat["origin"], origin);
        assert_eq!(beat["sender"], Value::Null);
        assert_eq!(beat["source"], "10.213.7.77:4242");
        injector.finish_well();
        // The kernel's record counts for more than the listener's flag.
        let mut forger = agent_across(&network, "claim", &observer, &[4321]);
        let forgery = observer.expect("a forgery", |event| is(event, "auth_failure"));
        assert_eq!(forgery["sender"]["pid"], forger.pid());
        forger.finish_well();
        let mut agent = agent_across(&network, "resident", &observer, &[]);
        let beat = observer.expect("a beat", beats_of(agent.pid()));
        assert_eq!(beat["origin"], "kernel_attested");
        agent.finish_well();
    }
}

#[test]
fn the_first_origin_keeps_the_agent() {
    need_kernel!();
    if !is_ipv4_attested() {
        return;
    }
    let network = Network::new();
    let observer = across(&network, &["--udp", &address(), "--accept-network-beats"]);
    let conflicts = |observed: &'static str, slot: &'static str| {
        move |event: &Value| {
            is(event, "origin_conflict")
                && event["observed_origin"] == observed
                && event["slot_origin"] == slot
        }
    };
    let mut agent = agent_across(&network, "each-line", &observer, &[]);
    agent.write_line("");
    observer.expect("a beat", beats_of(agent.pid()));
    let mut injector = agent_across(&network, "ethernet", &observer, &[agent.pid(), 99]);
    let conflict = observer.expect(
        "a conflict",
        conflicts("network_unverified", "kernel_attested"),
    );
    assert_eq!(conflict["claimed_pid"], agent.pid());
    injector.finish_well();
    // The slot is not changed: the nonce is still the agent's own.
    agent.write_line("");
    observer.expect_count("beats", 2, beats_of(agent.pid()));
    agent.finish_well();

    let mut late = agent_across(&network, "each-line", &observer, &[]);
    let mut injector = agent_across(&network, "ethernet", &observer, &[late.pid(), 99]);
    observer.expect("a beat", beats_of(late.pid()));
    injector.finish_well();
    late.write_line("");
    let conflict = observer.expect(
        "a conflict",
        conflicts("kernel_attested", "network_unverified"),
    );
    assert_eq!(conflict["sender"]["pid"], late.pid());
    late.finish_well();
}

#[test]
fn the_strongest_origin_takes_the_agent() {
    need_kernel!();
    if !is_ipv4_attested() {
        return;
    }
    let network = Network::new();
    let observer = across(
        &network,
        &[
            "--udp",
            &address(),
            "--accept-network-beats",
            "--origin-policy",
            "strongest",
        ],
    );
    let mut agent = agent_across(&network, "each-line", &observer, &[]);
    let mut injector = agent_across(&network, "ethernet", &observer, &[agent.pid(), 99]);
    observer.expect("a beat", beats_of(agent.pid()));
    agent.write_line("");
    let beats = observer.expect_count("beats", 2, beats_of(agent.pid()));
    assert_eq!(beats[0]["origin"], "network_unverified");
    assert_eq!(beats[1]["origin"], "kernel_attested");
    assert_eq!(beats[1]["nonce"], 1);
    let conflict = observer.expect("a conflict", |event| is(event, "origin_conflict"));
    assert_eq!(conflict["claimed_pid"], agent.pid());
    assert_eq!(conflict["observed_origin"], "network_unverified");
    assert_eq!(conflict["slot_origin"], "kernel_attested");
    injector.finish_well();
    agent.finish_well();
    assert_eq!(observer.stop().counter("displaced"), 1);
}

/// A beat to another host's port of the same number, played back from there.
#[test]
fn a_beat_to_another_host_is_no_beat_here() {
    need_kernel!();
    if !is_ipv4_attested() {
        return;
    }
    let network = Network::new();
    let setup = Setup::in_command(network.at_observer(observer_binary()), LONG)
        .arg("--accept-network-beats");
    let observer = listening(setup, &["0.0.0.0:0"]);
    let port = observer.udp()[0].port();
    let far = SocketAddr::new(network::AGENTS.parse().expect("an address"), port);
    let (mut agent, pid) = start(network.at_observer(SENDER), "resident", far, &[]);
    agent.line();
    let here = SocketAddr::new(network::OBSERVER.parse().expect("an address"), port);
    let (mut player, _) = start(network.at_agents(SENDER), "ethernet", here, &[pid, 1]);
    let beat = observer.expect("a beat", beats_of(pid));
    assert_eq!(beat["origin"], "network_unverified");
    assert_eq!(beat["sender"], Value::Null);
    player.finish_well();
    agent.finish_well();
}

/// A container of this host is no network that the operator vouched for, and is
/// attested over a device that the operator named.
#[test]
fn a_container_is_attested_over_a_declared_device_only() {
    need_kernel!();
    if !is_ipv4_attested() {
        return;
    }
    let network = Network::new();
    let address = address();
    let run = |flags: &[&str]| {
        let setup = Setup::in_command(network.at_observer(observer_binary()), LONG)
            .arg("--trust-udp")
            .arg(&address);
        setup.args(flags.iter().copied()).start()
    };
    let observer = run(&[]);
    let to = observer.udp()[0];
    let (mut agent, pid) = start(network.at_agents(SENDER), "resident", to, &[]);
    let refused = observer.expect("a refusal", |event| is(event, "auth_failure"));
    assert_eq!(refused["cause"], "unattested");
    assert_eq!(refused["claimed_pid"], pid);
    assert_eq!(refused["sender"]["pid"], pid);
    agent.finish_well();
    // What comes from no process of this host is the network's.
    let (mut player, _) = start(network.at_agents(SENDER), "ethernet", to, &[4321, 7]);
    let beat = observer.expect("a beat", |event| is(event, "beat"));
    assert_eq!(beat["origin"], "operator_attested_transport");
    player.finish_well();
    drop(observer);

    let observer = run(&["--attest-device", "observer0"]);
    let to = observer.udp()[0];
    let (mut agent, pid) = start(network.at_agents(SENDER), "resident", to, &[]);
    let beat = observer.expect("a beat", beats_of(pid));
    assert_eq!(beat["origin"], "kernel_attested");
    agent.finish_well();
    // The listener's own namespace needs no device.
    let (mut agent, pid) = start(network.at_observer(SENDER), "resident", to, &[]);
    let beat = observer.expect("a beat", beats_of(pid));
    assert_eq!(beat["origin"], "kernel_attested");
    agent.finish_well();
}

/// Over a declared device too a record serves what came from where it left:
/// one that was sent and got lost is not there for whoever replays it.
#[test]
fn a_lost_beat_of_a_container_serves_no_replay() {
    need_kernel!();
    if !is_ipv4_attested() {
        return;
    }
    let network = Network::new();
    let address = address();
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
        let (mut agent, pid) = start(network.at_agents(SENDER), "resident", to, &[]);
        agent.line();
        lose(&["del", network::OBSERVER, "dev", "agents0"]);
        let (mut player, _) = start(network.at_agents(SENDER), "ethernet", to, &[pid, 1]);
        let beat = observer.expect("a beat", beats_of(pid));
        assert_eq!(beat["origin"], origin);
        player.finish_well();
        agent.finish_well();
    }
}

/// What this host sends to itself by another device than `lo` does not come from
/// a network that the operator vouches for.
#[test]
fn this_host_is_no_trusted_network() {
    need_kernel!();
    if !is_ipv4_attested() {
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
        let (mut agent, pid) = start(network.at_observer(SENDER), "resident", honest, &[]);
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
