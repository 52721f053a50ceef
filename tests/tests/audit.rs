//! The audit trail on the real kernel: whom it names, and disks that are full or
//! frozen.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use observer_testing::{connect, frame};
use observer_tests::agent::Agent;
use observer_tests::kernel::{self, REFUSES_DESCRIPTORS};
use observer_tests::observer::{Observer, Remains, Setup, is};
use observer_tests::prometheus::{get, metrics_port};
use observer_tests::senders::sender;
use observer_tests::trail::Trail;
use observer_tests::{cgroup, must, need_kernel, observer_binary};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// A file system of its own, unmounted when dropped.
struct Mount {
    at: PathBuf,
    _folder: TempDir,
}

impl Mount {
    /// A place to mount something at.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let at = folder.path().join("disk");
        fs::create_dir(&at).expect("a directory");
        Self {
            at,
            _folder: folder,
        }
    }

    /// In memory, of this many KiB.
    fn tmpfs(kib: u32) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let at = folder.path().join("disk");
        fs::create_dir(&at).expect("a directory");
        let size = format!("size={kib}k");
        must(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", &size, "none"])
                .arg(&at),
        );
        Self {
            at,
            _folder: folder,
        }
    }

    /// A disk that can be frozen.
    fn ext4() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let (image, at) = (folder.path().join("image"), folder.path().join("disk"));
        fs::create_dir(&at).expect("a directory");
        let file = fs::File::create(&image).expect("an image");
        file.set_len(16 << 20).expect("an image");
        must(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        must(
            Command::new("mount")
                .args(["-o", "loop"])
                .arg(&image)
                .arg(&at),
        );
        Self {
            at,
            _folder: folder,
        }
    }
}

/// A frozen disk, thawed when dropped: before the observer that writes to it
/// is waited for.
struct Frozen<'a>(&'a Mount);

impl<'a> Frozen<'a> {
    fn new(disk: &'a Mount) -> Self {
        must(Command::new("fsfreeze").arg("-f").arg(&disk.at));
        Self(disk)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let Self(disk) = self;
        must(Command::new("fsfreeze").arg("-u").arg(&disk.at));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.at).output());
    }
}

fn agent(observer: &Observer) -> UnixDatagram {
    connect(observer.socket()).expect("it is there")
}

/// A hundred forgeries, in the names of 5000 to 5099, and then a beat.
fn forge_many_and_beat(observer: &Observer) {
    let sender = agent(observer);
    for pid in 5000..5100 {
        sender.send(&frame(pid, 1).encode()).expect("sends");
    }
    sender
        .send(&frame(std::process::id(), 1).encode())
        .expect("sends");
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + observer_tests::observer::PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The cgroup of this process, as its path in the unified hierarchy.
fn own_cgroup() -> (String, u64) {
    let text = fs::read_to_string("/proc/self/cgroup").expect("/proc");
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .expect("a unified hierarchy");
    let mount = cgroup_mount().display().to_string();
    let id = fs::metadata(format!("{mount}{path}"))
        .expect("the folder")
        .ino();
    (path.to_owned(), id)
}

/// Where the unified hierarchy is mounted.
fn cgroup_mount() -> PathBuf {
    cgroup::mount("cgroup2", None).expect("a mount")
}

#[test]
fn a_forger_is_named_with_executable_command_line_and_cgroup() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let trail = Trail::new(scratch.path());
    let observer = trail.observer(Setup::new(60_000));
    let bytes = frame(4242, 9).encode();
    agent(&observer).send(&bytes).expect("sends");
    observer.expect("the forgery", |event| is(event, "auth_failure"));
    let remains = observer.stop();
    assert!(remains.status.success());
    trail.assert_clean();
    let lines = trail.lines();
    let line = lines
        .iter()
        .find(|line| line["kind"] == "auth_failure")
        .expect("a line");
    let (cgroup, id) = own_cgroup();
    assert_eq!(line["claim"]["nonce"], 9);
    assert_eq!(line["claim"]["pid"], 4242);
    assert_eq!(line["frame"], hex::encode(bytes));
    assert_eq!(line["sender"]["host_pid"], std::process::id());
    assert_eq!(line["sender"]["cgroup_id"], id);
    let evidence = lines
        .iter()
        .find(|other| other["kind"] == "evidence" && other["line"] == line["seq"])
        .expect("evidence");
    assert_eq!(evidence["sender"], line["sender"]);
    assert_eq!(evidence["container"]["cgroup"], cgroup);
    let exe = std::env::current_exe().expect("a path");
    assert_eq!(evidence["process"]["exe"], exe.display().to_string());
    let command: Vec<String> = std::env::args().collect();
    assert_eq!(evidence["process"]["command"], serde_json::json!(command));
}

/// Cgroups are named by their paths below the mount in which the directory of
/// `--cgroup` lies, those outside of that directory too: their processes may
/// send to the socket.
#[test]
fn a_cgroup_is_named_below_the_mount_of_the_one_that_was_given() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let cgroups = Cgroups::new();
    let trail = Trail::new(scratch.path());
    let setup = Setup::new(60_000).arg("--cgroup");
    let observer = trail.observer(setup.arg(&cgroups.path("named").display().to_string()));
    must(
        Command::new("sh")
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(cgroups.path("forger").join("cgroup.procs"))
            .arg(observer_binary())
            .args(["beat", "--count", "1", "--claim-pid", "4242", "--socket"])
            .arg(observer.socket()),
    );
    observer.expect("the forgery", |event| is(event, "auth_failure"));
    assert!(observer.stop().status.success());
    let lines = trail.lines();
    let mut evidence = lines.iter().filter(|line| line["kind"] == "evidence");
    let evidence = evidence.next().expect("evidence");
    assert_eq!(evidence["container"]["cgroup"], "/forger", "{evidence}");
}

/// A cgroup with two below it, mounted as if it were the root of all.
struct Cgroups {
    own: PathBuf,
    mount: Mount,
}

impl Cgroups {
    fn new() -> Self {
        let name = format!("observer-audit-{}", std::process::id());
        let own = cgroup_mount().join(name);
        let mount = Mount::new();
        for cgroup in ["named", "forger"] {
            fs::create_dir_all(own.join(cgroup)).expect("a cgroup");
        }
        must(Command::new("mount").arg("--bind").arg(&own).arg(&mount.at));
        Self { own, mount }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mount.at.join(name)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for cgroup in ["named", "forger", ""] {
            // A process that has ended leaves its cgroup a moment later.
            wait_until("the cgroup is empty", || {
                fs::remove_dir(self.own.join(cgroup)).is_ok()
            });
        }
    }
}

/// What is no forgery, and an auditor wants to know all the same.
#[test]
fn conflicts_and_attachments_are_recorded() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let trail = Trail::new(scratch.path());
    // Nobody attests who sends by UDP then.
    let setup = Setup::new(60_000).arg("--attest").arg("prefer");
    let setup = setup.arg("--tier").arg("scm").arg("--accept-network-beats");
    let observer = trail.observer(setup.arg("--udp").arg("127.0.0.1:0"));
    let own = std::process::id();
    agent(&observer)
        .send(&frame(own, 1).encode())
        .expect("sends");
    observer.expect("a beat", |event| is(event, "beat"));
    let network = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let conflicting = frame(own, 2).encode();
    network
        .send_to(&conflicting, observer.udp()[0])
        .expect("sends");
    observer.expect("a conflict", |event| is(event, "origin_conflict"));
    let mut attacher = sender(observer.target(), "descriptors", &[1, 1]);
    let is_refused = kernel::is_at_least(REFUSES_DESCRIPTORS);
    if !is_refused {
        observer.expect("an attachment", |event| is(event, "ctrl_truncated"));
    }
    attacher.finish_well();
    assert!(observer.stop().status.success());
    trail.assert_clean();
    let lines = trail.lines();
    let line = |kind: &str| {
        let found = lines.iter().find(|line| line["kind"] == kind);
        found.unwrap_or_else(|| panic!("no {kind} in {lines:#?}"))
    };
    let conflict = line("origin_conflict");
    assert_eq!(conflict["observed_origin"], "network_unverified");
    assert_eq!(conflict["slot_origin"], "kernel_attested");
    assert_eq!(conflict["claimed_pid"], own);
    assert_eq!(conflict["frame"], hex::encode(conflicting));
    let source = network.local_addr().expect("it is bound").to_string();
    assert_eq!(conflict["source"], source);
    if is_refused {
        return;
    }
    let truncated = line("ctrl_truncated");
    assert_eq!(truncated["sender"]["pid"], attacher.pid());
    assert_eq!(truncated["claim"]["pid"], attacher.pid());
}

/// From when to when senders may have passed without a record.
#[test]
fn attestation_is_lost_and_regained() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let trail = Trail::new(scratch.path());
    // Without limits one sender may fill the ring.
    let limits = ["--max-beat-rate", "0", "--max-group-rate", "0"];
    let setup = Setup::new(60_000)
        .args(limits)
        .args(["--ring-bytes", "4096"]);
    let observer = trail.observer(setup);
    // Attempts leave records too, which nobody reads meanwhile.
    observer.signal(Signal::STOP);
    let sender = agent(&observer);
    sender.set_nonblocking(true).expect("sets");
    for nonce in 1..=200 {
        // The queue is full before the ring is.
        drop(sender.send(&frame(std::process::id(), nonce).encode()));
    }
    observer.signal(Signal::CONT);
    wait_until("attestation is not regained", || {
        let text = fs::read_to_string(trail.path("trail")).unwrap_or_default();
        text.contains("attestation_regained")
    });
    // The trail may be faster than stdout.
    wait_until("no notice of it", || {
        let mut notices = observer.notices().into_iter();
        notices.any(|notice| notice["notice"] == "attestation_regained")
    });
    let notices = observer.notices();
    let remains = observer.stop();
    assert!(remains.status.success(), "{:#?}", remains.log);
    let mut names = notices.iter().map(|notice| &notice["notice"]);
    assert!(
        names.any(|name| name == "attestation_lost")
            && names.any(|name| name == "attestation_regained"),
        "{notices:#?}"
    );
    let lost = remains.counter("ring_full");
    assert!(lost > 0, "{}", remains.counters);
    let lines = trail.lines();
    let mut of_attestation = lines.iter().filter(|line| {
        let kind = line["kind"].as_str().expect("text");
        kind.starts_with("attestation_")
    });
    let first = of_attestation.next().expect("a line");
    assert_eq!(first["kind"], "attestation_lost");
    let reason = first["reason"].as_str().expect("text");
    assert!(
        reason.contains(&format!("{lost} in all for a full ring")),
        "{reason}"
    );
    assert_eq!(
        of_attestation.next().expect("another")["kind"],
        "attestation_regained"
    );
    assert_eq!(of_attestation.next(), None);
    trail.assert_clean();
}

#[test]
fn a_full_disk_is_survived() {
    need_kernel!();
    let disk = Mount::tmpfs(256);
    let trail = Trail::new(&disk.at);
    let observer = trail.observer(Setup::new(60_000));
    // Fills what is left of it.
    let ballast = disk.at.join("ballast");
    let full = fs::write(&ballast, vec![1; 1 << 20]);
    assert!(full.is_err(), "the disk is not full");
    forge_many_and_beat(&observer);
    observer.expect("a beat on a full disk", |event| is(event, "beat"));
    thread::sleep(Duration::from_millis(500));
    fs::remove_file(&ballast).expect("there is room again");
    wait_until("the trail does not come back", || {
        let text = fs::read_to_string(trail.path("trail")).unwrap_or_default();
        text.contains("\"claimed_pid\":5099")
    });
    let remains = observer.stop();
    assert!(remains.status.success(), "{:#?}", remains.log);
    assert!(remains.counter("audit_failures") > 0);
    assert_eq!(remains.counter("audit_lost"), 0);
    assert!(
        remains
            .log
            .iter()
            .any(|line| line.contains("No space left")),
        "{:#?}",
        remains.log
    );
    trail.assert_clean();
    let of_us = trail.lines();
    let of_us = of_us.iter().filter(|line| line["kind"] == "auth_failure");
    assert_eq!(of_us.count(), 100);
}

/// A limit on files (`RLIMIT_FSIZE`, as of `ulimit -f` or a service manager) is
/// as a full disk is: it is told and counted, nobody waits for it, and once it is
/// lifted from outside nothing is missing.
#[test]
fn a_trail_that_may_not_grow_is_survived() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let trail = Trail::new(scratch.path());
    let mut command = Command::new("prlimit");
    command.arg("--fsize=8192:unlimited").arg(observer_binary());
    let setup = Setup::in_command(command, 60_000).args(["--metrics", "0"]);
    let observer = trail.observer(setup);
    forge_many_and_beat(&observer);
    observer.expect("a beat beside it", |event| is(event, "beat"));
    wait_until("nobody is told", || {
        let log = observer.log();
        log.iter()
            .any(|line| line.contains("not being written") && line.contains("File too large"))
    });
    let port = metrics_port(&observer);
    let (_, metrics) = get(port, "/metrics").expect("a response");
    let failures = metrics.lines().find_map(|line| {
        let count = line.strip_prefix("observer_audit_failures_total ")?;
        count.parse::<u64>().ok()
    });
    assert!(failures > Some(0), "{metrics}");
    let length = fs::metadata(trail.path("trail")).expect("a trail").len();
    assert!(length <= 8192, "{length}");
    must(
        Command::new("prlimit")
            .args(["--fsize=unlimited", "--pid"])
            .arg(observer.pid().to_string()),
    );
    wait_until("the trail does not come back", || {
        let text = fs::read_to_string(trail.path("trail")).unwrap_or_default();
        text.contains("\"claimed_pid\":5099")
    });
    let remains = observer.stop();
    assert!(remains.status.success(), "{:#?}", remains.log);
    assert_eq!(remains.counter("audit_lost"), 0);
    trail.assert_clean();
    let of_us = trail.lines();
    let of_us = of_us.iter().filter(|line| line["kind"] == "auth_failure");
    assert_eq!(of_us.count(), 100);
}

#[test]
fn a_frozen_disk_delays_no_beat() {
    need_kernel!();
    let disk = Mount::ext4();
    let trail = Trail::new(&disk.at);
    // One process sends more than its budget allows.
    let setup = Setup::new(60_000).arg("--max-beat-rate").arg("0");
    let observer = trail.observer(setup);
    let sender = agent(&observer);
    let frozen = Frozen::new(&disk);
    let slowest = beat_and_forge(&sender);
    // Reported while the disk is still frozen.
    observer.expect_count("beats", 30, |event| is(event, "beat"));
    drop(frozen);
    let Remains {
        status,
        log,
        counters,
        ..
    } = observer.stop();
    assert!(status.success(), "{log:#?}");
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    // There was more to record than the queue takes while nothing could be
    // written.
    let count = |name: &str| counters[name].as_u64().expect("a counter");
    assert!(count("audit_lost") > 0, "{counters}");
    assert_eq!(count("audit_lost") + count("audit_incidents"), 30_000);
    trail.assert_clean();
    let lines = trail.lines();
    let lost = lines.iter().filter(|line| line["kind"] == "lost");
    let lost: u64 = lost.filter_map(|line| line["count"].as_u64()).sum();
    assert_eq!(lost, count("audit_lost"));
}

/// Sends many forgeries with a beat now and then. The longest that a send
/// took: it blocks while the observer does not receive.
fn beat_and_forge(sender: &UnixDatagram) -> Duration {
    let mut slowest = Duration::ZERO;
    let mut send = |frame: [u8; 32]| {
        let began = Instant::now();
        sender.send(&frame).expect("sends");
        slowest = slowest.max(began.elapsed());
    };
    for nonce in 1..=30 {
        for number in 0..1000 {
            let claimed = 1_000_000 + u32::try_from(nonce).expect("small") * 1000 + number;
            send(frame(claimed, 1).encode());
        }
        send(frame(std::process::id(), nonce).encode());
    }
    slowest
}

/// What logrotate does to a file, by its default (with `create`) and with
/// `copytruncate`.
fn rotations() -> [fn(&Trail); 2] {
    let rename: fn(&Trail) = |trail| {
        shift(trail);
        fs::rename(trail.path("trail"), trail.path("trail.1")).expect("renames");
        fs::write(trail.path("trail"), "").expect("writes");
    };
    let copytruncate: fn(&Trail) = |trail| {
        shift(trail);
        fs::copy(trail.path("trail"), trail.path("trail.1")).expect("copies");
        let file = fs::OpenOptions::new().write(true).open(trail.path("trail"));
        file.expect("opens").set_len(0).expect("cuts");
    };
    [rename, copytruncate]
}

fn shift(trail: &Trail) {
    for (from, to) in [("trail.2", "trail.3"), ("trail.1", "trail.2")] {
        if trail.path(from).exists() {
            fs::rename(trail.path(from), trail.path(to)).expect("renames");
        }
    }
}

fn forge(observer: &Observer, claimed: u32) {
    let bytes = frame(claimed, 1).encode();
    agent(observer).send(&bytes).expect("sends");
    let of_it = |event: &Value| event["claimed_pid"] == claimed;
    observer.expect("the forgery", of_it);
}

/// Waits until the trail has a line about a forgery and the evidence of it, which
/// comes on a line of its own and may come after a seal; and all of it is sealed.
/// What is written between the two steps of `copytruncate` is lost.
fn wait_for_seal(trail: &Trail, claimed: u32) {
    wait_until("no sealed evidence", || {
        let lines = trail.complete_lines();
        let forgery = lines.iter().find(|line| line["claimed_pid"] == claimed);
        let is_evidence =
            |line: &Value, seq: &Value| line["kind"] == "evidence" && line["line"] == *seq;
        forgery.is_some_and(|forgery| lines.iter().any(|line| is_evidence(line, &forgery["seq"])))
            && lines.last().is_some_and(|line| line["kind"] == "seal")
    });
}

#[test]
fn a_trail_that_logrotate_rotates_stays_whole_and_goes_on() {
    need_kernel!();
    for rotate in rotations() {
        let scratch = tempfile::tempdir().expect("a directory");
        let trail = Trail::new(scratch.path());
        let observer = trail.observer(Setup::new(60_000));
        for claimed in [5000, 5001] {
            forge(&observer, claimed);
            wait_for_seal(&trail, claimed);
            rotate(&trail);
        }
        forge(&observer, 5002);
        let remains = observer.stop();
        assert!(remains.status.success(), "{:#?}", remains.log);
        trail.assert_clean();
        // While no observer runs, too.
        for claimed in [5003, 5004] {
            let observer = trail.observer(Setup::new(60_000));
            forge(&observer, claimed);
            assert!(observer.stop().status.success());
            trail.assert_clean();
            rotate(&trail);
        }
        let report: Value = serde_json::from_str(&trail.report(&["--json"])).expect("JSON");
        // The oldest of five files is removed, as logrotate removes it.
        assert!(report["incidents"].as_u64() >= Some(4), "{report}");
    }
}

#[test]
fn a_trail_that_was_emptied_is_repaired_on_demand_and_never_clean() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let trail = Trail::new(scratch.path());
    let observer = trail.observer(Setup::new(60_000));
    forge(&observer, 5000);
    assert!(observer.stop().status.success());
    trail.assert_clean();
    fs::write(trail.path("trail"), "").expect("writes");
    let refused = Setup::new(60_000)
        .args(["--audit", &trail.path("trail").display().to_string()])
        .args(["--audit-key", &trail.path("key").display().to_string()])
        .try_start();
    let Err(Remains { log, status, .. }) = refused else {
        panic!("it starts");
    };
    assert_eq!(status.code(), Some(1));
    let log = log.join("\n");
    assert!(
        log.contains("the file is empty") && log.contains("audit repair"),
        "{log}"
    );
    let audit = |verb: &str, key: &str| {
        let mut command = Command::new(observer_binary());
        command.args(["audit", verb]).arg(trail.path("trail"));
        let output = command.arg(key).arg(trail.path(match verb {
            "repair" => "key",
            _ => "verify-key",
        }));
        let output = output.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    let (code, said) = audit("repair", "--audit-key");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("found: the file is empty"), "{said}");
    let (code, said) = audit("repair", "--audit-key");
    assert!(
        code == Some(0) && said.contains("nothing to repair"),
        "{said}"
    );
    let observer = trail.observer(Setup::new(60_000));
    forge(&observer, 5001);
    assert!(observer.stop().status.success());
    let (code, said) = audit("verify", "--key");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("are missing, and no retention"), "{said}");
    assert!(
        said.contains("1 time that `observer audit repair`"),
        "{said}"
    );
}

#[test]
fn a_follower_says_what_others_do_to_the_file() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let trail = Trail::new(scratch.path());
    let path = |name: &str| trail.path(name).display().to_string();
    let script = format!(
        "exec {} audit follow --json {} 2>{}",
        observer_binary().display(),
        path("trail"),
        path("said")
    );
    let mut follower = Agent::start("sh", ["-c", &script]);
    let said = |what: &str| {
        wait_until(what, || {
            let text = fs::read_to_string(path("said")).unwrap_or_default();
            text.contains(what)
        });
    };
    said("waiting for it");
    let observer = trail.observer(Setup::new(60_000));
    let [rename, copytruncate] = rotations();
    let mut lines = Vec::new();
    for (claimed, rotate, what) in [
        (5000, rename, "renamed to trail.1, and not by the observer"),
        (
            5001,
            copytruncate,
            "the file was cut, and not by the observer",
        ),
    ] {
        forge(&observer, claimed);
        loop {
            let line = follower.line();
            let is_it = line.contains(&format!("\"claimed_pid\":{claimed},"));
            lines.push(line);
            if is_it {
                break;
            }
        }
        wait_for_seal(&trail, claimed);
        rotate(&trail);
        said(what);
    }
    assert!(observer.stop().status.success());
    follower.signal(Signal::TERM);
    follower.finish();
    let text = fs::read_to_string(path("said")).expect("text");
    assert!(!text.contains("not seen"), "{text}");
}
