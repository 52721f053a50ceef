//! An observer that is the first process of a pid namespace, as in a container.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use observer_tests::observer::{PATIENCE, Setup};
use observer_tests::{need_kernel, observer_binary, procfs};

/// Whoever loses its parent becomes its child, and must not stay as a zombie.
#[test]
fn the_first_process_waits_for_orphans() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let end_of_orphan = scratch.path().join("end");
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--", "sh", "-c"]);
    command.env("END", &end_of_orphan);
    command.arg(r#"(until [ -e "$END" ]; do sleep 0.1; done) & exec "$@""#);
    command.arg("sh");
    command.arg(observer_binary());
    let observer = Setup::in_command(command, 60_000).start();
    let first = procfs::child(observer.pid());
    assert_eq!(
        procfs::children(first).len(),
        1,
        "a child that it did not start"
    );
    fs::write(end_of_orphan, "").expect("writes");
    let end = Instant::now() + PATIENCE;
    while !procfs::children(first).is_empty() {
        assert!(Instant::now() < end, "it is a zombie");
        thread::sleep(Duration::from_millis(20));
    }
}
