//! Which file a sender executes: the kernel's record names it by device and
//! inode, also where nobody can look any more.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use observer_events::exe::{Device, ExeId};
use observer_tests::agent::Agent;
use observer_tests::need_kernel;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::senders::{program, start};
use observer_tests::trail::Trail;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A pid that no sender here has.
const CLAIMED: u32 = 5000;

/// An observer with a trail.
struct Scene {
    folder: TempDir,
    trail: Trail,
    observer: Observer,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let trail = Trail::new(folder.path());
        let observer = trail.observer(Setup::new(60_000));
        Self {
            folder,
            trail,
            observer,
        }
    }

    /// A program in a file of its own.
    fn copy(&self, name: &str) -> PathBuf {
        copy_to(self.folder.path(), name)
    }

    /// What the event about a forger says of its executable.
    fn named(&self, pid: u32) -> Value {
        let event = self.observer.expect("a forgery", |event| {
            is(event, "auth_failure") && event["sender"]["pid"] == pid
        });
        event["sender"]["exe"].clone()
    }

    fn end(self) {
        assert!(self.observer.stop().status.success());
        self.trail.assert_clean();
    }
}

fn copy_to(folder: &Path, name: &str) -> PathBuf {
    let copy = folder.join(name);
    fs::copy(program("sender"), &copy).expect("there is room");
    copy
}

/// A forger that has sent.
fn forger(program: &Path, observer: &Observer, scenario: &str) -> Agent {
    let command = Command::new(program);
    start(command, scenario, observer.target(), &[CLAIMED]).0
}

/// A file as `stat` names it.
fn stat(file: &File) -> Value {
    let metadata = file.metadata().expect("it is there");
    let device = Device::from_stat(metadata.dev());
    json!({"device": device, "inode": metadata.ino()})
}

fn stat_of(path: &Path) -> Value {
    stat(&File::open(path).expect("it is there"))
}

/// By the time that the observer gets to run, neither the process is there nor
/// its file.
#[test]
fn a_forger_that_is_gone_is_named_by_its_file() {
    need_kernel!();
    let scene = Scene::new();
    let program = scene.copy("forger");
    let expected = stat_of(&program);
    scene.observer.signal(Signal::STOP);
    let mut forger = forger(&program, &scene.observer, "claim");
    let pid = forger.pid();
    forger.finish_well();
    fs::remove_file(&program).expect("it is there");
    scene.observer.signal(Signal::CONT);
    assert_eq!(scene.named(pid), expected);
    let evidence = scene.trail.evidence(pid.into());
    assert_eq!(evidence["sender"]["exe"], expected, "{evidence}");
    let process = &evidence["process"];
    assert_eq!(process["exe_state"], "gone", "{evidence}");
    assert!(process["exe_id"].is_null(), "{evidence}");
    assert!(process["exe_changed"].is_null(), "{evidence}");
    let report = scene.trail.report(&[]);
    let expected = format!(
        "inode {} on {}",
        expected["inode"],
        expected["device"].as_str().expect("text")
    );
    assert!(report.contains(&expected), "{report}");
    scene.end();
}

#[test]
fn a_file_that_was_removed_is_named_while_it_is_executed() {
    need_kernel!();
    let scene = Scene::new();
    let program = scene.copy("forger");
    let expected = stat_of(&program);
    let command = Command::new(&program);
    let (mut forger, pid) = start(command, "volleys", scene.observer.target(), &[]);
    fs::remove_file(&program).expect("it is there");
    forger.write_line(&format!("{CLAIMED} 1"));
    assert_eq!(forger.line(), "sent");
    assert_eq!(scene.named(pid), expected);
    let evidence = scene.trail.evidence(pid.into());
    let process = &evidence["process"];
    let path = format!("{} (deleted)", program.display());
    assert_eq!(process["exe"], path, "{evidence}");
    assert_eq!(process["exe_id"], expected, "{evidence}");
    assert_eq!(process["exe_changed"], false, "{evidence}");
    forger.finish_well();
    scene.end();
}

/// The observer is stopped while the forger executes another program: what
/// `/proc` shows then is not what sent.
#[test]
fn a_forger_that_executes_another_program_is_found_out() {
    need_kernel!();
    let scene = Scene::new();
    let (first, second) = (scene.copy("first"), scene.copy("second"));
    scene.observer.signal(Signal::STOP);
    let mut command = Command::new(&first);
    command.env("NEXT", &second);
    let to = scene.observer.target();
    let (mut forger, pid) = start(command, "claim-then-execute", to, &[CLAIMED]);
    assert_eq!(forger.number(), u64::from(pid), "of the second program");
    scene.observer.signal(Signal::CONT);
    assert_eq!(scene.named(pid), stat_of(&first));
    let evidence = scene.trail.evidence(pid.into());
    let process = &evidence["process"];
    assert_eq!(process["exe"], second.display().to_string(), "{evidence}");
    assert_eq!(process["exe_id"], stat_of(&second), "{evidence}");
    assert_eq!(process["exe_changed"], true, "{evidence}");
    let error = process["error"].as_str().expect("a reason");
    assert!(error.contains("executed another file"), "{evidence}");
    let report = scene.trail.report(&[]);
    assert!(
        !report.contains(process["exe"].as_str().expect("text")),
        "{report}"
    );
    forger.finish_well();
    scene.end();
}

/// The main thread has ended, and with it what it knew of its memory.
#[test]
fn a_thread_that_outlives_its_leader_is_named_by_its_file() {
    need_kernel!();
    let scene = Scene::new();
    let program = scene.copy("forger");
    let command = Command::new(&program);
    let (mut orphan, pid) = start(command, "orphan-thread", scene.observer.target(), &[]);
    orphan.write_line(&format!("{CLAIMED} 1"));
    assert_eq!(orphan.line(), "sent");
    assert_eq!(scene.named(pid), stat_of(&program));
    let evidence = scene.trail.evidence(pid.into());
    assert_eq!(evidence["process"]["exe_changed"], false, "{evidence}");
    orphan.finish_well();
    scene.end();
}

/// A file in memory has a device and an inode like any other. Its mount is not
/// shown anywhere, so that it is the same can be known of its inode only.
#[test]
fn a_file_in_memory_is_named() {
    need_kernel!();
    let scene = Scene::new();
    // Without a flag to close it on `execve`.
    let memory: OwnedFd = memfd_create("forger", MemfdFlags::empty()).expect("it is allowed");
    let mut file = File::from(memory);
    let bytes = fs::read(program("sender")).expect("it is there");
    file.write_all(&bytes).expect("there is room");
    // Nobody may execute what is open for writing.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let file = File::open(path).expect("it is there");
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let expected = stat(&file);
    let mut forger = forger(Path::new(&path), &scene.observer, "claim");
    assert_eq!(scene.named(forger.pid()), expected);
    let evidence = scene.trail.evidence(forger.pid().into());
    let process = &evidence["process"];
    assert_eq!(process["exe"], "/memfd:forger (deleted)", "{evidence}");
    assert!(process["exe_id"].is_null(), "{evidence}");
    assert!(process["exe_changed"].is_null(), "{evidence}");
    forger.finish_well();
    scene.end();
}

/// What a record says of a file on some file system.
struct OnFileSystem {
    named: Value,
    /// By `stat`.
    stat: Value,
    /// By `/proc`, of the open file.
    shown: Value,
}

/// Has a forger send from a copy below `folder`, which `prepare` mounts
/// something at, in a mount namespace of its own. `None` if this kernel cannot.
fn on(prepare: impl FnOnce(&Path) -> Option<()> + Send) -> Option<OnFileSystem> {
    let scene = Scene::new();
    let place = scene.folder.path().join("place");
    fs::create_dir(&place).expect("a directory");
    let started = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("root may");
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("root may");
            prepare(&place)?;
            let program = place.join("program");
            if !program.exists() {
                copy_to(&place, "program");
            }
            let file = File::open(&program).expect("it is there");
            let shown = ExeId::of_file(&file).expect("/proc is there");
            let forger = forger(&program, &scene.observer, "claim");
            Some((forger, stat(&file), json!(shown)))
        });
        thread.join().expect("it does not panic")
    });
    let (mut forger, stat, shown) = started?;
    let named = scene.named(forger.pid());
    let evidence = scene.trail.evidence(forger.pid().into());
    let process = &evidence["process"];
    assert_eq!(process["exe_id"], named, "{evidence}");
    assert_eq!(process["exe_changed"], false, "{evidence}");
    forger.finish_well();
    scene.end();
    Some(OnFileSystem { named, stat, shown })
}

fn mount_at(place: &Path, kind: &str, source: &Path, options: &str) -> Option<()> {
    let mounted = mount(
        Some(source),
        place,
        Some(kind),
        MsFlags::empty(),
        Some(options),
    );
    mounted.ok()
}

fn tmpfs(place: &Path) -> Option<()> {
    mount_at(place, "tmpfs", Path::new("tmpfs"), "")
}

/// A new file system in a file, on a loop device that goes away with its mount.
fn on_loop(place: &Path, command: &[&str]) -> Option<()> {
    let image = place.with_extension("image");
    let file = File::create(&image).expect("there is room");
    file.set_len(256 << 20).expect("there is room");
    let [program, flags @ ..] = command else {
        return None;
    };
    let made = Command::new(program)
        .args(flags)
        .arg(&image)
        .output()
        .ok()?;
    made.status.success().then_some(())?;
    let mut mount = Command::new("mount");
    let mounted = mount.args(["-o", "loop"]).args([&image, place]).output();
    mounted.ok()?.status.success().then_some(())
}

/// The program is in the lower layer, on another file system than the upper
/// one or on the same.
fn overlay(place: &Path, is_same: bool) -> Option<()> {
    let layers = place.with_extension("layers");
    let lower = layers.join(if is_same { "upper/lower" } else { "lower" });
    fs::create_dir_all(layers.join("upper")).expect("a directory");
    tmpfs(&layers.join("upper"))?;
    let [upper, work] = ["upper/upper", "upper/work"].map(|name| layers.join(name));
    for folder in [&lower, &upper, &work] {
        fs::create_dir_all(folder).expect("a directory");
    }
    if !is_same {
        tmpfs(&lower)?;
    }
    copy_to(&lower, "program");
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    mount_at(place, "overlay", Path::new("overlay"), &options)
}

/// What is recorded is what `/proc` shows of the open file, on each file system,
/// in whatever mount namespace. What `stat` says may be something else.
#[test]
fn each_file_system_is_named_as_the_kernel_numbers_it() {
    type Prepare = fn(&Path) -> Option<()>;
    need_kernel!();
    let cases: [(&str, Prepare); 5] = [
        ("tmpfs", tmpfs),
        ("ext4", |place| on_loop(place, &["mkfs.ext4", "-q"])),
        ("btrfs", |place| on_loop(place, &["mkfs.btrfs", "-q"])),
        ("overlay, one file system", |place| overlay(place, true)),
        ("overlay, two file systems", |place| overlay(place, false)),
    ];
    for (name, prepare) in cases {
        let Some(OnFileSystem { named, stat, shown }) = on(prepare) else {
            assert_ne!(name, "tmpfs");
            println!("{name}: cannot be mounted here");
            continue;
        };
        assert_eq!(named, shown, "{name}");
        let of_stat = |what: &str| {
            if named[what] == stat[what] {
                "the same"
            } else {
                "another"
            }
        };
        let (device, inode) = (of_stat("device"), of_stat("inode"));
        println!("{name}: device by stat: {device}, inode: {inode}");
        if ["tmpfs", "ext4"].contains(&name) {
            assert_eq!(named, stat, "{name}");
        }
    }
}
