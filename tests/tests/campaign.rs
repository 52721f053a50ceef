//! Five attackers and three victims: the report of the trail is compared, field
//! by field, with what was done.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::RangeInclusive;
use std::process::Command;

use jiff::Timestamp;
use observer_common::frame::{FRAME_LEN, Frame};
use observer_events::exe::ExeId;
use observer_tests::agent::Agent;
use observer_tests::kernel::attested_loopback;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::senders::sender;
use observer_tests::trail::Trail;
use observer_tests::{need_kernel, observer_binary, procfs};
use serde_json::{Value, json};

const SENDER: &str = env!("CARGO_BIN_EXE_sender");
/// A user that no list names.
const STRANGER: u32 = 4243;

/// An attacker, and what the report must have of it.
struct Attacker {
    agent: Agent,
    /// As the observer sees it.
    pid: u32,
    uid: u32,
    /// Where it sends from, if by UDP.
    source: Option<String>,
    /// How often it did what.
    kinds: BTreeMap<&'static str, u64>,
    /// As whom.
    victims: BTreeMap<u32, u64>,
    /// When.
    during: RangeInclusive<Timestamp>,
}

impl Attacker {
    fn of_user(agent: Agent, uid: u32) -> Self {
        let pid = agent.pid();
        Self::new(agent, pid, uid)
    }

    fn new(agent: Agent, pid: u32, uid: u32) -> Self {
        let now = Timestamp::now();
        Self {
            agent,
            pid,
            uid,
            source: None,
            kinds: BTreeMap::new(),
            victims: BTreeMap::new(),
            during: now..=now,
        }
    }

    /// A process that sends to the socket.
    fn by_socket(observer: &Observer) -> Self {
        let agent = sender(observer.target(), "volleys", &[]);
        Self::of_user(agent, 0)
    }

    /// One that forges `SCM_CREDENTIALS` as well.
    fn by_credentials(observer: &Observer, pid: u32) -> Self {
        let agent = sender(observer.target(), "forging-volleys", &[pid]);
        Self::of_user(agent, 0)
    }

    /// One of another user.
    fn of_stranger(observer: &Observer) -> Self {
        let agent = sender(observer.target(), "volleys-as", &[STRANGER]);
        Self::of_user(agent, STRANGER)
    }

    /// One that is the first process of a pid namespace.
    fn in_namespace(observer: &Observer) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--", SENDER, "volleys"]);
        command.arg(observer.socket());
        let mut agent = Agent::spawn(command);
        assert_eq!(agent.number(), 1, "it is in no namespace of its own");
        let pid = procfs::child(agent.pid());
        Self::new(agent, pid, 0)
    }

    /// One that sends by UDP.
    fn by_udp(observer: &Observer) -> Self {
        let mut agent = sender(observer.udp()[0], "volleys", &[]);
        let source = agent.line();
        Self {
            source: Some(source),
            ..Self::of_user(agent, 0)
        }
    }

    /// Its name, as the kernel has it.
    fn comm() -> &'static str {
        SENDER.rsplit('/').next().expect("a name")
    }

    /// Has it send, and notes what the report must have of it.
    fn attacks(&mut self, kind: &'static str, victim: u32, count: u64, command: &str) {
        let first_ever = self.kinds.is_empty();
        let began = Timestamp::now();
        self.agent.write_line(command);
        assert_eq!(self.agent.line(), "sent");
        *self.kinds.entry(kind).or_default() += count;
        if kind != "refused_sender" {
            *self.victims.entry(victim).or_default() += count;
        }
        let start = if first_ever {
            began
        } else {
            *self.during.start()
        };
        self.during = start..=Timestamp::now();
    }

    /// Lets the report's times be as late as the observer's last look.
    fn until(&mut self, end: Timestamp) {
        self.during = *self.during.start()..=end;
    }

    fn count(&self) -> u64 {
        self.kinds.values().sum()
    }

    /// What the report must have, its times aside.
    fn expected(&self, container: &Value) -> Value {
        let file = File::open(SENDER).expect("it is there");
        json!({
            "host_pid": self.pid,
            "pid": self.pid,
            "uid": self.uid,
            "boot": 1,
            "cgroup": null,
            "comm": Self::comm(),
            "exe": SENDER,
            "exe_id": ExeId::of_file(&file).expect("/proc is there"),
            "container": container,
            "count": self.count(),
            "kinds": self.kinds,
            "victims": self.victims,
            "more_victims": 0,
        })
    }
}

/// An honest agent that beats until it is dropped.
fn victim(flag: &str, place: &str) -> Agent {
    let mut command = Command::new(observer_binary());
    command.args(["beat", "--interval-ms", "50", flag, place]);
    Agent::spawn(command)
}

/// Takes `first`, `last` and `start_ns` out, and checks them.
fn check_times(entry: &mut Value, during: &RangeInclusive<Timestamp>) {
    let fields = entry.as_object_mut().expect("an object");
    let mut time = |name: &str| -> Timestamp {
        let time = fields.remove(name).expect("a time");
        time.as_str().expect("text").parse().expect("RFC 3339")
    };
    let (first, last) = (time("first"), time("last"));
    assert!(during.contains(&first), "{first} is not in {during:?}");
    assert!(during.contains(&last), "{last} is not in {during:?}");
    assert!(first <= last, "{entry}");
}

fn check_start(entry: &mut Value, pid: u32) {
    const TICK_NS: u64 = 10_000_000;
    let start = entry["start_ns"].as_u64().expect("a start time");
    assert_eq!(start / TICK_NS, procfs::start_ticks(pid));
    entry.as_object_mut().expect("an object").remove("start_ns");
}

/// The container as the report names it: this test's own.
fn container(line: &Value) -> Value {
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("it is there");
    let own = own.lines().find_map(|line| line.strip_prefix("0::"));
    let container = &line["container"];
    assert_eq!(container["cgroup"].as_str(), own, "{line}");
    let names = ["id", "unit", "cgroup"].map(|name| &container[name]);
    let name = names.into_iter().find(|name| name.is_string());
    name.cloned().unwrap_or_default()
}

#[test]
fn the_report_has_what_was_done() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let trail = Trail::new(scratch.path());
    let setup = Setup::new(60_000).arg("--udp").arg(attested_loopback()[0]);
    let observer = trail.observer(setup.arg("--allow-uid").arg("0"));
    let udp = observer.udp()[0].to_string();
    let socket = observer.target();
    let victims = [
        victim("--socket", &socket),
        victim("--socket", &socket),
        victim("--udp", &udp),
    ];
    let [one, two, three] = [0, 1, 2].map(|at: usize| victims[at].pid());
    for pid in [one, two, three] {
        observer.expect("its first beat", |event| {
            is(event, "beat") && event["pid"] == pid
        });
    }

    let mut mass = Attacker::by_socket(&observer);
    let mut credentials = Attacker::by_credentials(&observer, one);
    let mut network = Attacker::by_udp(&observer);
    let mut namespace = Attacker::in_namespace(&observer);
    let mut stranger = Attacker::of_stranger(&observer);
    mass.attacks("pid_mismatch", one, 500, &format!("{one} 500"));
    mass.attacks("pid_mismatch", two, 3, &format!("{two} 3"));
    credentials.attacks("forged_credentials", one, 40, &format!("{one} 40"));
    network.attacks("pid_mismatch", three, 60, &format!("{three} 60"));
    namespace.attacks("namespace_conflict", two, 5, &format!("{two} 5"));
    let own = stranger.pid;
    stranger.attacks("refused_sender", own, 7, &format!("{own} 7"));
    let mut attackers = [mass, network, credentials, stranger, namespace];

    observer.expect_count("forgeries", 603, |event| is(event, "auth_failure"));
    observer.expect_count("conflicts", 5, |event| is(event, "namespace_conflict"));
    let remains = observer.stop();
    let end = Timestamp::now();
    assert!(remains.status.success(), "{:#?}", remains.log);
    assert_eq!(remains.counter("refused_senders"), 7);
    assert_eq!(remains.counter("audit_incidents"), 615);
    assert_eq!(remains.counter("audit_lost"), 0);
    // The victims' own beats came through all the while.
    assert_eq!(remains.counter("stalls"), 0);
    assert_eq!(remains.counter("new_agents"), 3);
    assert_eq!(remains.counter("auth_failures"), 603);

    trail.assert_clean();
    let lines = trail.lines();
    let evidence = |line: &&Value| line["kind"] == "evidence";
    let container = container(lines.iter().find(evidence).expect("a line"));
    let mut report: Value = serde_json::from_str(&trail.report(&["--json"])).expect("JSON");
    for attacker in &mut attackers {
        attacker.until(end);
    }
    check_attackers(&mut report, &attackers, &container);
    check_victims(&mut report, &attackers, [one, two, three]);
    let expected = json!({
        "lines": lines.len(), "unreadable": 0, "compressed": 0, "incidents": 615, "lost": 0, "not_listed": 0,
        "attackers": [], "victims": [],
    });
    assert_eq!(report, expected);
    check_text(&trail.report(&[]), &attackers);
    check_evidence(&lines, &attackers);
}

fn check_attackers(report: &mut Value, attackers: &[Attacker], container: &Value) {
    let entries = report["attackers"].as_array_mut().expect("a list");
    assert_eq!(entries.len(), attackers.len(), "{entries:#?}");
    for (entry, attacker) in entries.iter_mut().zip(attackers) {
        check_times(entry, &attacker.during);
        check_start(entry, attacker.pid);
        assert_eq!(*entry, attacker.expected(container));
    }
    entries.clear();
}

fn check_victims(report: &mut Value, attackers: &[Attacker], [one, two, three]: [u32; 3]) {
    let begin = attackers
        .iter()
        .map(|attacker| *attacker.during.start())
        .min();
    let end = attackers
        .iter()
        .map(|attacker| *attacker.during.end())
        .max();
    let during = begin.expect("some")..=end.expect("some");
    let entries = report["victims"].as_array_mut().expect("a list");
    for victim in entries.iter_mut() {
        check_times(victim, &during);
    }
    let expected = json!([
        {"pid": one, "boot": 1, "count": 540, "attackers": 2,
         "kinds": {"pid_mismatch": 500, "forged_credentials": 40}},
        {"pid": three, "boot": 1, "count": 60, "attackers": 1, "kinds": {"pid_mismatch": 60}},
        {"pid": two, "boot": 1, "count": 8, "attackers": 2,
         "kinds": {"pid_mismatch": 3, "namespace_conflict": 5}},
        {"pid": null, "boot": 1, "count": 7, "attackers": 1, "kinds": {"refused_sender": 7}},
    ]);
    assert_eq!(Value::from(std::mem::take(entries)), expected);
}

/// The report for people names everyone, too.
fn check_text(text: &str, attackers: &[Attacker]) {
    for attacker in attackers {
        let name = format!("pid {} uid {}", attacker.pid, attacker.uid);
        let line = text.lines().find(|line| line.contains(&name));
        let line = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
        for (kind, count) in &attacker.kinds {
            assert!(line.contains(&format!("{kind} {count}")), "{line}");
        }
        for victim in attacker.victims.keys() {
            assert!(line.contains(&victim.to_string()), "{line}");
            assert!(
                text.lines()
                    .any(|line| line.contains(&format!("pid {victim} "))),
                "{text}"
            );
        }
    }
}

/// Each attack has a line in full, with the datagram itself and the kernel's
/// record of who sent it.
fn check_evidence(all: &[Value], attackers: &[Attacker]) {
    for attacker in attackers {
        let mut lines = all
            .iter()
            .filter(|line| line["frame"].is_string() && line["sender"]["pid"] == attacker.pid);
        let line = lines.next().expect("a line in full");
        let bytes = hex::decode(line["frame"].as_str().expect("text")).expect("hex");
        let bytes: [u8; FRAME_LEN] = bytes.try_into().expect("a whole frame");
        let frame = Frame::decode(&bytes).expect("a frame");
        assert_eq!(line["claim"]["pid"], frame.pid);
        assert_eq!(line["claimed_pid"], frame.pid);
        let sender = &line["sender"];
        assert_eq!(sender["pid_ns_inode"], procfs::pid_namespace(attacker.pid));
        assert_eq!(
            sender["own_pid"],
            *procfs::pids(attacker.pid).last().expect("one")
        );
        assert_eq!(sender["uid"], attacker.uid);
        assert_eq!(line["source"].as_str(), attacker.source.as_deref());
        check_process(all, line);
    }
}

/// What the attacker runs is on a line of its own.
fn check_process(lines: &[Value], line: &Value) {
    let evidence = lines
        .iter()
        .find(|other| other["kind"] == "evidence" && other["line"] == line["seq"])
        .expect("evidence");
    assert_eq!(evidence["sender"], line["sender"]);
    assert_eq!(evidence["process"]["exe"], SENDER);
    assert_eq!(evidence["process"]["exe_id"], line["sender"]["exe"]);
    assert_eq!(evidence["process"]["exe_changed"], false);
    assert_eq!(evidence["process"]["command"][0], SENDER);
}
