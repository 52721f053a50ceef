//! Many processes at once: what each may send is little, and what they may send
//! together is bounded too.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use observer_tests::agent::Agent;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::{is_emulated, need_kernel};
use rustix::process::Signal;
use serde_json::Value;

const LONG: u64 = 60_000;
const NOBODY: &str = "65534";

/// With a queue that is no bottleneck, on a socket that everybody may send to.
fn start(threshold_ms: u64, flags: &[&str]) -> Observer {
    let setup = Setup::with_queue_limit(512, threshold_ms);
    let flags = flags.iter().chain(&["--socket-mode", "0666"]);
    opened(flags.fold(setup, |setup, flag| setup.arg(flag)))
}

fn opened(setup: Setup) -> Observer {
    let observer = setup.start();
    // The scratch directory is its owner's only.
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(observer.directory(), open).expect("ours");
    observer
}

/// A crowd that waits for its word.
fn crowd(
    observer: &Observer,
    kind: &str,
    processes: u64,
    count: u64,
    ms: u64,
    user: &str,
) -> Agent {
    let socket = observer.socket().display().to_string();
    let numbers = [processes, count, ms].map(|number| number.to_string());
    let [processes, count, ms] = numbers;
    let arguments = [kind, &socket, &processes, &count, &ms, user];
    let mut crowd = Agent::start(env!("CARGO_BIN_EXE_crowd"), arguments);
    assert_eq!(crowd.number(), u64::from(crowd.pid()));
    crowd
}

/// Has it send; how many sends succeeded, and how many found no room.
fn send(crowd: &mut Agent) -> (u64, u64) {
    crowd.tell("");
    let counts = (crowd.number(), crowd.number());
    crowd.finish_well();
    counts
}

/// An agent that sends beats as it is told.
fn agent(observer: &Observer, user: &str) -> Agent {
    let socket = observer.socket().display().to_string();
    let arguments = ["volleys-as", &socket, user];
    let mut agent = Agent::start(env!("CARGO_BIN_EXE_sender"), arguments);
    assert_eq!(agent.number(), u64::from(agent.pid()));
    agent
}

fn beat(agent: &mut Agent, count: u64) {
    agent.tell(&format!("{} {count}", agent.pid()));
    assert_eq!(agent.line(), "sent");
}

fn beats(events: &[Value], pid: u32) -> u64 {
    let of_pid = |event: &&Value| is(event, "beat") && event["pid"] == pid;
    events.iter().filter(of_pid).count() as u64
}

/// Strangers of one user share a budget, however many they are, and what is
/// dropped of them is counted.
#[test]
fn strangers_of_a_user_share_a_budget() {
    need_kernel!();
    for ingest in ["socket", "ring"] {
        let observer = start(
            LONG,
            &[
                "--max-beat-rate",
                "200",
                "--max-group-rate",
                "1",
                "--ingest",
                ingest,
            ],
        );
        let mut crowd = crowd(&observer, "garbage", 32, 100, LONG, NOBODY);
        let (sent, refused) = send(&mut crowd);
        let remains = observer.stop();
        let counters = &remains.counters;
        let passed = remains.counter("decode_errors");
        assert_eq!(sent + refused, 3200);
        assert_eq!(passed + remains.counter("throttled"), sent, "{counters}");
        // Two at once, and one a second; the queue alone has room for 513.
        assert!((1..100).contains(&passed), "{ingest}: {counters}");
        let told = |line: &String| line.contains("--max-group-rate");
        assert!(remains.log.iter().any(told), "{:#?}", remains.log);
    }
}

/// Strangers of many users in one cgroup share that cgroup's.
#[test]
fn strangers_in_a_cgroup_share_a_budget() {
    need_kernel!();
    let observer = start(LONG, &["--max-beat-rate", "200", "--max-group-rate", "1"]);
    let cgroup = Cgroup::new();
    let mut crowd = crowd(&observer, "garbage", 32, 100, LONG, "70000+");
    cgroup.take(crowd.pid());
    let (sent, _) = send(&mut crowd);
    let remains = observer.stop();
    let counters = &remains.counters;
    let passed = remains.counter("decode_errors");
    assert_eq!(passed + remains.counter("throttled"), sent, "{counters}");
    assert!((1..100).contains(&passed), "{counters}");
}

/// An agent pays from its own budget: who floods as its user does not mute it,
/// and nobody of another user.
#[test]
fn an_agent_is_not_muted_by_its_users_strangers() {
    need_kernel!();
    for ingest in ["socket", "ring"] {
        let observer = start(
            LONG,
            &[
                "--max-beat-rate",
                "200",
                "--max-group-rate",
                "1",
                "--ingest",
                ingest,
            ],
        );
        let cgroup = Cgroup::new();
        let mut agents = [NOBODY, "4242"].map(|user| agent(&observer, user));
        let [known, _] = &mut agents;
        beat(known, 1);
        observer.expect("a first beat", |event| is(event, "beat"));
        let mut crowd = crowd(&observer, "garbage", 16, 50, LONG, NOBODY);
        cgroup.take(crowd.pid());
        send(&mut crowd);
        let [known, other] = &mut agents;
        beat(known, 100);
        beat(other, 1);
        let remains = observer.stop();
        assert_eq!(
            beats(&remains.events, known.pid()),
            101,
            "{ingest}: {}",
            remains.counters
        );
        assert_eq!(
            beats(&remains.events, other.pid()),
            1,
            "{ingest}: {}",
            remains.counters
        );
        for agent in &mut agents {
            agent.finish_well();
        }
    }
}

/// While the observer gets no CPU, one sender fills a part of the ring, and
/// leaves room to others.
#[test]
fn nobody_fills_the_ring_alone() {
    need_kernel!();
    let observer = start(LONG, &["--ingest", "ring", "--ring-bytes", "65536"]);
    let mut agent = agent(&observer, "4242");
    observer.signal(Signal::STOP);
    let mut crowd = crowd(&observer, "garbage", 4, 400, LONG, NOBODY);
    send(&mut crowd);
    beat(&mut agent, 3);
    observer.signal(Signal::CONT);
    observer.expect_count("beats", 3, |event| is(event, "beat"));
    agent.finish_well();
    let remains = observer.stop();
    assert_eq!(remains.counter("ring_full"), 0, "{}", remains.counters);
    // Of 455 records that it has room for, a half are never taken by anyone.
    assert!(
        remains.counter("decode_errors") < 228,
        "{}",
        remains.counters
    );
}

/// A crowd floods, mostly with sends that fail, while others of the same user
/// beat: each of their beats that the kernel took is told, and none of them is
/// said to be silent.
#[test]
fn a_crowd_costs_no_beat_that_the_kernel_took() {
    const AGENTS: usize = 20;
    need_kernel!();
    if is_emulated() {
        return;
    }
    for (kind, ingest) in [
        ("garbage", "socket"),
        ("honest", "socket"),
        ("honest", "ring"),
    ] {
        let setup = Setup::with_queue_limit(10, 2000).arg("--socket-mode");
        let setup = setup.arg("0666").arg("--events").arg("notable");
        let observer = opened(setup.arg("--ingest").arg(ingest));
        let mut agents: Vec<Agent> = (0..AGENTS).map(|_| pulse(&observer)).collect();
        // Until all have been accepted: before, they share the crowd's budget.
        thread::sleep(Duration::from_secs(1));
        let mut crowd = crowd(&observer, kind, 128, u64::MAX, 4000, NOBODY);
        let (sent, refused) = send(&mut crowd);
        let mut taken = 0;
        for agent in &mut agents {
            assert!(agent.finish().success());
            taken += agent.number();
        }
        let remains = observer.stop();
        let counters = &remains.counters;
        let case = format!("{kind}, {ingest}: {sent} sent, {refused} found no room; {counters}");
        println!("{case}");
        if kind == "garbage" {
            // Every frame is an agent's.
            assert_eq!(remains.counter("unattested"), 0, "{case}");
            assert_eq!(remains.counter("beats"), taken, "{case}");
            assert_eq!(remains.counter("stalls"), 0, "{case}");
        }
        for pid in agents.iter().map(Agent::pid) {
            // The crowd's own agents hold the queue's eleven places by right: who
            // finds none for so long is silent.
            let is_silenced = kind == "honest" && ingest == "socket";
            let told = remains
                .events
                .iter()
                .filter(|event| event["claimed_pid"] == pid || event["pid"] == pid && !is_silenced);
            let told: Vec<&Value> = told.collect();
            assert!(told.is_empty(), "{told:#?} {case}");
        }
        assert!(refused > 0 || ingest == "ring", "{case}");
    }
}

/// An agent as the user of the crowd.
fn pulse(observer: &Observer) -> Agent {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    command.arg(env!("CARGO_BIN_EXE_pulse"));
    command.arg(observer.socket()).args(["50", "0"]);
    Agent::spawn(command)
}

/// A cgroup of the test's own.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("text");
        let root = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (at, kind) = (words.next()?, words.next()?);
            (kind == "cgroup2").then(|| Path::new(at).to_owned())
        });
        let name = format!("observer-test-{}", std::process::id());
        let folder = root.expect("a mount of cgroup2").join(name);
        fs::create_dir(&folder).expect("root may");
        Self(folder)
    }

    fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("root may");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It can be removed once the kernel has buried the last process.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
