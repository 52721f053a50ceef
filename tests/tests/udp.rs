//! Beats by UDP: attested if a process of this host sent them, labelled for
//! what they are if not.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::process::Command;
use std::thread;
use std::time::Duration;

use aya::programs::ProgramInfo;
use observer_events::Event;
use observer_events::event::BeatOrigin;
use observer_tests::agent::Agent;
use observer_tests::kernel::{self, ATTESTED_IPV4, attested_loopback};
use observer_tests::network::{self, Network};
use observer_tests::observer::{Observer, PATIENCE, Setup, is};
use observer_tests::{is_emulated, need_kernel, observer_binary, procfs};
use rustix::process::Signal;
use serde_json::Value;

const LONG: u64 = 60_000;
const SENDER: &str = env!("CARGO_BIN_EXE_udp");

fn on_loopback() -> Observer {
    listening(attested_loopback())
}

/// An address of this host's own whose senders are attested.
fn one_address() -> &'static str {
    attested_loopback()[0]
}

/// The program that is attached for UDP here.
fn udp_program() -> &'static str {
    if is_network_attested() {
        "udp_btf"
    } else {
        "udp_btf_v6"
    }
}

/// Whether the network of these tests, which is IPv4, is attested.
fn is_network_attested() -> bool {
    kernel::is_at_least(ATTESTED_IPV4)
}

fn listening(addresses: &[&str]) -> Observer {
    at(Setup::new(LONG), addresses).start()
}

fn at(setup: Setup, addresses: &[&str]) -> Setup {
    addresses
        .iter()
        .fold(setup, |setup, address| setup.arg("--udp").arg(address))
}

/// Its senders may send as much as they like.
fn unlimited() -> Setup {
    Setup::new(LONG).arg("--max-beat-rate").arg("0")
}

fn command(mut command: Command, how: &str, to: SocketAddr, numbers: &[u32]) -> Command {
    command.arg(how).arg(to.to_string());
    command.args(numbers.iter().map(u32::to_string));
    command
}

/// How many datagrams a sender may send between two pauses of 2 ms, so that
/// none is lost: a UDP sender is told nothing of a full buffer.
fn burst(usual: u32) -> u32 {
    if is_emulated() { 1 } else { usual }
}

/// A sender, which says its pid first.
fn sender(how: &str, to: SocketAddr, numbers: &[u32]) -> Agent {
    let mut agent = Agent::spawn(command(Command::new(SENDER), how, to, numbers));
    assert_eq!(agent.number(), u64::from(agent.pid()));
    agent
}

fn beats_of(pid: u32) -> impl Fn(&Value) -> bool {
    move |event| is(event, "beat") && event["pid"] == pid
}

fn assert_attested(event: &Value, pid: u32) {
    let sender = &event["sender"];
    assert_eq!(sender["pid"], pid, "{event}");
    assert_eq!(sender["own_pid"], pid);
    assert_eq!(sender["via"], "btf");
    assert_eq!(sender["comm"], "udp");
    assert_eq!(sender["scm_pid"], Value::Null);
    assert_eq!(sender["pid_ns_inode"], procfs::pid_namespace(process::id()));
    let start = sender["start_ns"].as_u64().expect("a start time");
    assert_eq!(start / 10_000_000, procfs::start_ticks(pid), "{event}");
}

#[test]
fn each_way_of_sending_is_attested() {
    need_kernel!();
    let observer = on_loopback();
    for to in observer.udp() {
        for (how, numbers, beats) in [
            ("connected", vec![], 1),
            ("unconnected", vec![], 1),
            ("many-at-once", vec![], 3),
            ("with-options", vec![], 1),
        ] {
            if how == "with-options" && to.is_ipv6() {
                continue;
            }
            let mut agent = sender(how, to, &numbers);
            let found = observer.expect_count(how, beats, beats_of(agent.pid()));
            assert_eq!(found.len(), beats, "{how}");
            for (beat, nonce) in found.iter().zip(1..) {
                assert_eq!(beat["origin"], "kernel_attested", "{how}");
                assert_eq!(beat["nonce"], nonce);
                assert_attested(beat, agent.pid());
            }
            if ["connected", "with-options"].contains(&how) {
                assert_eq!(found[0]["source"], agent.line());
            }
            agent.finish_well();
        }
    }
    let remains = observer.stop();
    assert_eq!(remains.counter("auth_failures"), 0);
    assert_eq!(remains.counter("records_expired"), 0);
}

/// Who shares a socket can add to what is collected before it is sent.
#[test]
fn a_send_that_was_collected_vouches_for_nobody() {
    need_kernel!();
    let observer = on_loopback();
    for to in observer.udp() {
        let mut agent = sender("corked", to, &[]);
        let refused = observer.expect("a refusal", |event| {
            is(event, "auth_failure") && event["claimed_pid"] == agent.pid()
        });
        assert_eq!(refused["cause"], "corked");
        assert_attested(&refused, agent.pid());
        assert_eq!(refused["source"], agent.line());
        agent.finish_well();
    }
    assert!(observer.events_where(|event| is(event, "beat")).is_empty());
}

/// One send, many frames: the kernel cuts it up after the program saw it. Each
/// is known, and none is a beat.
#[test]
fn no_segment_of_one_send_is_a_beat() {
    const SEGMENTS: u32 = 64;
    need_kernel!();
    let observer = on_loopback();
    for to in observer.udp() {
        let mut agent = sender("segmented", to, &[0, 3]);
        let decoded = observer.expect_count("pid 0", 3, |event| {
            is(event, "decode") && event["sender"]["pid"] == agent.pid()
        });
        assert_attested(&decoded[0], agent.pid());
        agent.finish_well();

        let mut forger = sender("segmented", to, &[process::id(), SEGMENTS]);
        let lies = observer.expect_count("lies", SEGMENTS as usize, |event| {
            is(event, "auth_failure") && event["sender"]["pid"] == forger.pid()
        });
        assert!(lies.iter().all(|lie| lie["cause"] == "corked"));
        forger.finish_well();

        let mut agent = sender("segmented", to, &[4321, 2]);
        let refused = observer.expect_count("frames", 2, |event| {
            is(event, "auth_failure") && event["claimed_pid"] == 4321
        });
        assert!(refused.iter().all(|frame| frame["cause"] == "corked"));
        agent.finish_well();
    }
    assert!(observer.events_where(|event| is(event, "beat")).is_empty());
}

#[test]
fn a_lie_by_udp_names_the_liar() {
    need_kernel!();
    let observer = on_loopback();
    let victim = process::id();
    for to in observer.udp() {
        for how in ["claim", "raw"] {
            // What an old kernel has no record of has no name (`tiers.rs`).
            if how == "raw" && (to.is_ipv6() || !is_network_attested()) {
                continue;
            }
            let mut forger = sender(how, to, &[victim]);
            let lie = observer.expect(how, |event| {
                is(event, "auth_failure") && event["sender"]["pid"] == forger.pid()
            });
            assert_eq!(lie["claimed_pid"], victim);
            assert_eq!(lie["cause"], "pid_mismatch");
            assert_attested(&lie, forger.pid());
            if how == "raw" {
                assert_eq!(lie["source"], "127.0.0.77:4242");
            }
            forger.finish_well();
        }
    }
    assert!(observer.events_where(|event| is(event, "beat")).is_empty());
}

/// The ring's kernel thread sends, in its creator's name.
#[test]
fn an_sqpoll_thread_vouches_for_nobody() {
    need_kernel!();
    let observer = on_loopback();
    let to = observer.udp()[0].to_string();
    let start = |who: &str, how: &str| Agent::start(env!("CARGO_BIN_EXE_uring"), [who, how, &to]);
    let mut child = start("child", "sqpoll");
    let lie = observer.expect("a lie", |event| is(event, "auth_failure"));
    assert_eq!(lie["cause"], "sqpoll");
    assert_eq!(lie["sender"]["host_pid"], child.pid());
    child.finish_well();
    let mut inline = start("self", "inline");
    observer.expect("a beat", beats_of(inline.pid()));
    inline.finish_well();
    assert_eq!(observer.events_where(|event| is(event, "beat")).len(), 1);
}

#[test]
fn twelve_thousand_datagrams_of_four_processes() {
    const EACH: u32 = 3000;
    need_kernel!();
    let observer = at(unlimited(), attested_loopback()).start();
    let listeners = observer.udp();
    let mut agents: Vec<Agent> = (0..4)
        .map(|index| {
            let listener = listeners[index % listeners.len()];
            sender("paced", listener, &[EACH, burst(5)])
        })
        .collect();
    let total = 4 * EACH as usize;
    let beats = observer.expect_count("beats", total, |event| is(event, "beat"));
    for agent in &mut agents {
        let own: Vec<&Value> = beats
            .iter()
            .filter(|beat| beat["pid"] == agent.pid())
            .collect();
        assert_eq!(own.len(), EACH as usize);
        for (beat, nonce) in own.iter().zip(1..) {
            assert_eq!(beat["nonce"], nonce);
            assert_eq!(beat["sender"]["host_pid"], agent.pid());
            assert_eq!(beat["origin"], "kernel_attested");
        }
        agent.finish_well();
    }
    let remains = observer.stop();
    assert_eq!(remains.counter("datagrams"), total as u64);
    assert_eq!(remains.counter("records"), total as u64);
    assert_eq!(remains.counter("auth_failures"), 0);
}

#[test]
fn a_sender_that_exits_at_once_is_known() {
    need_kernel!();
    let observer = on_loopback();
    let to = observer.udp()[0];
    for count in 1..=100 {
        let mut agent = sender("connected", to, &[]);
        let pid = agent.pid();
        agent.finish_well();
        let beats = observer.expect_count("beats", count, |event| is(event, "beat"));
        assert_eq!(beats[count - 1]["sender"]["pid"], pid);
    }
}

/// A record whose datagram found the receive buffer full is an attempt, and
/// never a beat.
#[test]
fn what_the_full_buffer_dropped_is_no_beat() {
    const SENT: u64 = 5000;
    need_kernel!();
    let observer = at(unlimited(), &[one_address()]).start();
    let to = observer.udp()[0];
    observer.signal(Signal::STOP);
    let mut agent = sender("paced", to, &[5000, 1000]);
    agent.finish_well();
    observer.signal(Signal::CONT);
    observer.expect("a beat", |event| is(event, "beat"));
    // Longer than a record waits for its datagram; then something to receive.
    thread::sleep(Duration::from_millis(2500));
    let mut last = sender("connected", to, &[]);
    observer.expect("the last", beats_of(last.pid()));
    last.finish_well();
    let remains = observer.stop();
    let beats = remains.counter("beats") - 1;
    let dropped = remains.counter("udp_dropped");
    println!("{beats} received, {dropped} dropped");
    assert!(dropped > 0 && beats > 0);
    assert_eq!(beats + dropped, SENT);
    assert_eq!(remains.counter("records_expired"), dropped);
    assert_eq!(remains.counter("auth_failures"), 0);
}

/// An observer that takes its time for each event lets the queue of datagrams
/// grow long. A record waits for its datagram however long that takes.
#[test]
fn a_slow_observer_costs_no_beat_its_record() {
    const SENT: u32 = 1500;
    need_kernel!();
    let folder = tempfile::tempdir().expect("a folder");
    let mut observer = observer::Observer::builder()
        .socket(folder.path().join("s"))
        .threshold(Duration::from_millis(LONG))
        .udp(one_address().parse().expect("an address"))
        .max_beat_rate(0)
        .bind()
        .expect("root may");
    let to = observer.udp_listeners().next().expect("one");
    let mut agent = sender("paced", to, &[SENT, burst(100)]);
    let mut events = 0;
    while events < SENT {
        let Some(event) = observer.poll() else {
            observer.wait(Some(PATIENCE)).expect("it can wait");
            continue;
        };
        let is_attested = matches!(
            event,
            Event::Beat { pid, origin: BeatOrigin::KernelAttested, .. } if pid == agent.pid()
        );
        assert!(is_attested, "after {events} beats: {event:?}");
        events += 1;
        // In all, longer than a record waits where the queue is short.
        thread::sleep(Duration::from_millis(2));
    }
    agent.finish_well();
}

#[test]
fn what_is_no_frame_takes_no_room() {
    need_kernel!();
    let observer = listening(&[one_address()]);
    let to = observer.udp()[0];
    let mut agent = sender("lengths", to, &[100]);
    observer.expect("no frame", |event| is(event, "decode"));
    agent.finish_well();
    let mut last = sender("connected", to, &[]);
    observer.expect("the last", beats_of(last.pid()));
    last.finish_well();
    let remains = observer.stop();
    assert_eq!(remains.counter("wrong_length"), 100);
    assert_eq!(remains.counter("datagrams"), 2);
    assert_eq!(remains.counter("udp_dropped"), 0);
}

/// Three ways in, all busy at once: each beat that is received has its event.
#[test]
fn busy_listeners_are_all_served() {
    const EACH: u32 = 2000;
    need_kernel!();
    let observer = at(unlimited(), attested_loopback()).start();
    let listeners = observer.udp();
    let mut agents: Vec<Agent> = listeners
        .iter()
        .map(|&to| sender("paced", to, &[EACH, burst(20)]))
        .collect();
    let flood = [
        "blocking".to_owned(),
        observer.socket().display().to_string(),
        EACH.to_string(),
    ];
    agents.push(Agent::start(env!("CARGO_BIN_EXE_flood"), flood));
    let total = agents.len() * EACH as usize;
    observer.expect_count("beats", total, |event| is(event, "beat"));
    for agent in &mut agents {
        let own = observer.events_where(beats_of(agent.pid()));
        assert_eq!(own.len(), EACH as usize);
        agent.finish_well();
    }
    let remains = observer.stop();
    assert_eq!(remains.counter("datagrams"), total as u64);
    assert_eq!(remains.counter("beats"), total as u64);
}

/// The timer of several sockets is as good as that of one.
#[test]
fn a_silence_by_udp_is_told_once_and_on_time() {
    const THRESHOLD_MS: u64 = 300;
    need_kernel!();
    let observer = Setup::new(THRESHOLD_MS)
        .arg("--udp")
        .arg(one_address())
        .start();
    let mut agent = sender("connected", observer.udp()[0], &[]);
    let stall = observer.expect("a stall", |event| is(event, "stall"));
    assert_eq!(stall["pid"], agent.pid());
    assert_eq!(stall["sender"]["comm"], "udp");
    let at = |field: &str| stall[field].as_u64().expect("a time");
    let late = at("observer_ns") - at("last_ns") - THRESHOLD_MS * 1_000_000;
    println!("late by {late} ns");
    assert!(late < 50_000_000, "late by {late} ns");
    thread::sleep(Duration::from_millis(2 * THRESHOLD_MS));
    assert_eq!(observer.events_where(|event| is(event, "stall")).len(), 1);
    agent.finish_well();
}

#[test]
fn a_stopped_observer_blames_no_agent_by_udp() {
    need_kernel!();
    for threshold_ms in [500, 1000] {
        let observer = Setup::new(threshold_ms)
            .arg("--udp")
            .arg(one_address())
            .start();
        let to = observer.udp()[0];
        let mut agents: Vec<Agent> = (0..20).map(|_| sender("pulse", to, &[100, 50])).collect();
        for agent in &agents {
            observer.expect_count("beats", 3, beats_of(agent.pid()));
        }
        observer.signal(Signal::STOP);
        thread::sleep(Duration::from_secs(2));
        observer.signal(Signal::CONT);
        thread::sleep(Duration::from_millis(500));
        let stalls = observer.events_where(|event| is(event, "stall"));
        assert!(stalls.is_empty(), "{stalls:?}");
        for agent in &mut agents {
            observer.expect_count("beats", 40, beats_of(agent.pid()));
            agent.finish_well();
        }
    }
}

/// However it ends, nothing of it stays attached to the host.
#[test]
fn a_killed_observer_leaves_no_program_behind() {
    need_kernel!();
    let observer = on_loopback();
    let programs = kernel::programs_of(observer.pid());
    let ids: Vec<u32> = programs.iter().map(ProgramInfo::id).collect();
    assert!(
        programs
            .iter()
            .any(|program| program.name_as_str() == Some(udp_program()))
    );
    observer.signal(Signal::KILL);
    drop(observer);
    // The kernel frees programs a little later (`bpf_prog_put`).
    for _ in 0..1000 {
        if !kernel::programs().any(|program| ids.contains(&program.id())) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("of {ids:?} some are still there");
}

/// A cgroup that goes with the test.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc");
        let root = mounts
            .lines()
            .find(|line| line.contains(" - cgroup2 "))
            .and_then(|line| line.split(' ').nth(4))
            .expect("a cgroup2 mount");
        let name = format!("observer-test-{}", process::id());
        let path = Path::new(root).join(name);
        fs::create_dir(&path).expect("a cgroup");
        Self(path)
    }

    /// A program that will start in it. A socket belongs to the cgroup that
    /// its process was in when it was made (`cgroup_sk_alloc`,
    /// `kernel/cgroup/cgroup.c`).
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let enter = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", self.0.display());
        let mut shell = Command::new("sh");
        shell.args(["-c", &enter, "sh"]).arg(program);
        shell
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Fails only if a process is still in it.
        drop(fs::remove_dir(&self.0));
    }
}

#[test]
fn a_sender_in_another_cgroup_is_attested() {
    need_kernel!();
    let observer = on_loopback();
    let cgroup = Cgroup::new();
    let inside = cgroup.command(SENDER);
    let mut agent = Agent::spawn(command(inside, "connected", observer.udp()[0], &[]));
    let beat = observer.expect("a beat", beats_of(agent.pid()));
    let inode = fs::metadata(&cgroup.0).expect("it is there").ino();
    assert_eq!(beat["sender"]["cgroup_id"], inode);
    assert_attested(&beat, agent.pid());
    agent.finish_well();
}

/// Only a cgroup's processes are seen where one is named; what others send is
/// not attested, and so refused.
#[test]
fn who_is_outside_of_the_named_cgroup_is_not_believed() {
    need_kernel!();
    let cgroup = Cgroup::new();
    // The observer has to be in it, to prove the program to itself.
    let observer = Setup::in_command(cgroup.command(observer_binary()), LONG)
        .arg("--udp")
        .arg(one_address())
        .arg("--cgroup")
        .arg(&cgroup.0.display().to_string())
        .start();
    let mut agent = sender("each-line", observer.udp()[0], &[]);
    agent.tell("");
    let refused = observer.expect("a refusal", |event| is(event, "auth_failure"));
    assert_eq!(refused["cause"], "unattested");
    assert_eq!(refused["sender"], Value::Null);
    assert_eq!(refused["source"], agent.line());
    agent.finish_well();
    let inside = cgroup.command(SENDER);
    let mut agent = Agent::spawn(command(inside, "connected", observer.udp()[0], &[]));
    observer.expect("a beat", beats_of(agent.pid()));
    agent.finish_well();
    drop(observer);
}

/// An observer in a network namespace, with agents in another one that it
/// attests.
fn across(network: &Network, flags: &[&str]) -> Observer {
    let setup = Setup::in_command(network.at_observer(observer_binary()), LONG)
        .arg("--attest-device")
        .arg("observer0");
    flags
        .iter()
        .fold(setup, |setup, flag| setup.arg(flag))
        .start()
}

fn agent_across(network: &Network, how: &str, observer: &Observer, numbers: &[u32]) -> Agent {
    let to = observer.udp()[0];
    let mut agent = Agent::spawn(command(network.at_agents(SENDER), how, to, numbers));
    assert_eq!(agent.number(), u64::from(agent.pid()));
    agent
}

fn address() -> String {
    format!("{}:0", network::OBSERVER)
}

#[test]
fn a_local_sender_behind_a_network_is_attested() {
    need_kernel!();
    if !is_network_attested() {
        return;
    }
    let network = Network::new();
    let observer = across(&network, &["--udp", &address(), "--accept-network-beats"]);
    for how in ["connected", "unconnected", "many-at-once"] {
        let mut agent = agent_across(&network, how, &observer, &[]);
        let beat = observer.expect(how, beats_of(agent.pid()));
        assert_eq!(beat["origin"], "kernel_attested");
        assert_attested(&beat, agent.pid());
        agent.finish_well();
    }
    let mut forger = agent_across(&network, "raw", &observer, &[process::id()]);
    let lie = observer.expect("a lie", |event| is(event, "auth_failure"));
    assert_attested(&lie, forger.pid());
    assert_eq!(lie["source"], "10.213.7.77:4242");
    forger.finish_well();
}

/// A packet that no process sent by IP, as far as this host's kernel saw: as
/// one from another host.
#[test]
fn a_datagram_from_the_network_is_worth_what_the_operator_says() {
    need_kernel!();
    if !is_network_attested() {
        return;
    }
    let network = Network::new();
    for (flag, origin) in [
        ("--udp", "network_unverified"),
        ("--trust-udp", "operator_attested_transport"),
    ] {
        let observer = across(&network, &[flag, &address(), "--accept-network-beats"]);
        let mut injector = agent_across(&network, "packet", &observer, &[4321, 7]);
        let beat = observer.expect("a beat", |event| is(event, "beat"));
        assert_eq!(beat["pid"], 4321);
        assert_eq!(beat["origin"], origin);
        assert_eq!(beat["sender"], Value::Null);
        assert_eq!(beat["source"], "10.213.7.77:4242");
        injector.finish_well();
        // The kernel's word stands above the listener's.
        let mut forger = agent_across(&network, "claim", &observer, &[4321]);
        let lie = observer.expect("a lie", |event| is(event, "auth_failure"));
        assert_eq!(lie["sender"]["pid"], forger.pid());
        forger.finish_well();
        let mut agent = agent_across(&network, "connected", &observer, &[]);
        let beat = observer.expect("a beat", beats_of(agent.pid()));
        assert_eq!(beat["origin"], "kernel_attested");
        agent.finish_well();
    }
}

#[test]
fn the_first_origin_keeps_the_agent() {
    need_kernel!();
    if !is_network_attested() {
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
    agent.tell("");
    observer.expect("a beat", beats_of(agent.pid()));
    let mut injector = agent_across(&network, "packet", &observer, &[agent.pid(), 99]);
    let conflict = observer.expect(
        "a conflict",
        conflicts("network_unverified", "kernel_attested"),
    );
    assert_eq!(conflict["claimed_pid"], agent.pid());
    injector.finish_well();
    // The slot is not changed: the nonce is still the agent's own.
    agent.tell("");
    observer.expect_count("beats", 2, beats_of(agent.pid()));
    agent.finish_well();

    let mut late = agent_across(&network, "each-line", &observer, &[]);
    let mut injector = agent_across(&network, "packet", &observer, &[late.pid(), 99]);
    observer.expect("a beat", beats_of(late.pid()));
    injector.finish_well();
    late.tell("");
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
    if !is_network_attested() {
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
    let mut injector = agent_across(&network, "packet", &observer, &[agent.pid(), 99]);
    observer.expect("a beat", beats_of(agent.pid()));
    agent.tell("");
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

/// `--attest off` knows nobody, and says so.
#[test]
fn without_attestation_all_of_it_is_the_network() {
    need_kernel!();
    let observer = Setup::new(LONG)
        .arg("--attest")
        .arg("off")
        .arg("--udp")
        .arg("127.0.0.1:0")
        .start();
    let mut agent = sender("claim", observer.udp()[0], &[4321]);
    let beat = observer.expect("a beat", |event| is(event, "beat"));
    assert_eq!(beat["origin"], "network_unverified");
    assert_eq!(beat["sender"], Value::Null);
    agent.finish_well();
}
