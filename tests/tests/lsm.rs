//! Where a security module decides who may send, beats are taken past it with
//! the operator's consent only.

use std::fs;
use std::process::Command;

use observer_tests::observer::Setup;
use observer_tests::{need_kernel, observer_binary};

/// An observer on a host that has `SELinux` switched on, as far as it can
/// read: in a mount namespace whose list of file systems has one more.
fn with_selinux(scratch: &std::path::Path) -> Setup {
    let list = fs::read_to_string("/proc/filesystems").expect("a list");
    let staged = scratch.join("filesystems");
    fs::write(&staged, format!("{list}nodev\tselinuxfs\n")).expect("a file");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--", "sh", "-c"]);
    command.arg("mount --bind \"$0\" /proc/filesystems && exec \"$@\"");
    command.arg(staged).arg(observer_binary());
    Setup::in_command(command, 60_000)
}

#[test]
fn beats_are_taken_past_a_security_module_with_consent_only() {
    const TAKING: [&[&str]; 2] = [&["--ingest", "ring"], &["--refuse", "kernel"]];
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let start = |flags: &[&str]| {
        let setup = with_selinux(scratch.path());
        let setup = flags.iter().fold(setup, |setup, flag| setup.arg(flag));
        setup.try_start()
    };
    for flags in TAKING {
        let remains = start(flags).err().expect("it refuses to start");
        assert_eq!(
            remains.status.code(),
            Some(2),
            "{flags:?}: {:#?}",
            remains.log
        );
        let log = remains.log.join("\n");
        assert!(
            log.contains("SELinux") && log.contains("--over-lsm"),
            "{log}"
        );
        let agreed = [flags, &["--over-lsm"]].concat();
        assert!(start(&agreed).is_ok_and(|observer| observer.stop().status.success()));
    }
    // The module decides about what is not taken past it.
    assert!(start(&[]).is_ok_and(|observer| observer.stop().status.success()));
}
