//! The live view in a terminal that goes away. None of this needs privilege or
//! an eBPF object.

#![cfg(feature = "top")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// By its next draw it would end anyhow; until then it would be busy.
const INTERVAL_MS: &str = "60000";
const PATIENCE: Duration = Duration::from_secs(20);

/// Both ends of a new terminal, which is no process's controlling one: whoever
/// uses it gets no signal when it goes.
fn terminal() -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let name = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    let slave = OpenOptions::new().read(true).write(true).open(name);
    (master.into(), slave.unwrap())
}

fn has_ended(child: &mut Child) -> bool {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    false
}

#[test]
fn the_view_ends_with_its_terminal() {
    let (mut master, slave) = terminal();
    let mut top = Command::new(env!("CARGO_BIN_EXE_observer"))
        .args(["top", "--control", "/nowhere", "--interval-ms", INTERVAL_MS])
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave)
        .spawn()
        .unwrap();
    // It draws.
    assert!(master.read(&mut [0; 64]).unwrap() > 0);
    thread::sleep(Duration::from_millis(300));
    drop(master);
    assert!(has_ended(&mut top));
}
