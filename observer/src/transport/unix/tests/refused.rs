//! What is refused, and left as it is.

use std::{
    fs::{self, File},
    os::unix::{
        fs::symlink,
        net::{UnixDatagram, UnixListener},
    },
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::fs::FlockOperation;

use super::{
    super::{BindError, FileKind, SocketOptions, file::SocketFile, path::Directory},
    bind, bind_with, leave_stale, mode_of, options, scratch, sender, set_mode, unprivileged,
};

#[test]
fn a_live_socket_is_refused_even_with_a_full_queue() {
    let scratch = scratch();
    let path = scratch.path().join("s");
    let live = UnixDatagram::bind(&path).expect("binds");
    let sender = sender(&path);
    sender.set_nonblocking(true).expect("a flag");
    while sender.send(&[0]).is_ok() {}
    assert!(matches!(bind(&path), Err(BindError::InUse(refused)) if refused == path));
    drop(live);
}

#[test]
fn what_is_no_socket_is_refused_and_left_alone() {
    let scratch = scratch();
    let [file, directory, link, target] =
        ["file", "directory", "link", "target"].map(|name| scratch.path().join(name));
    File::create(&file).expect("a file");
    fs::create_dir(&directory).expect("a directory");
    leave_stale(&target);
    symlink(&target, &link).expect("a link");
    for path in [&file, &directory, &link] {
        let refused = bind(path).expect_err("refused");
        assert!(matches!(refused, BindError::NotASocket { .. }), "{refused}");
        assert!(refused.to_string().contains(&path.display().to_string()));
        assert!(fs::symlink_metadata(path).is_ok(), "{path:?} is gone");
    }
    assert!(target.exists());
}

#[test]
fn bad_paths_are_refused_with_a_reason() {
    let scratch = scratch();
    let missing = bind(&scratch.path().join("missing/s"));
    assert!(matches!(missing, Err(BindError::NoDirectory(_))));
    let long = bind(&scratch.path().join("x".repeat(108)));
    assert!(matches!(long, Err(BindError::PathTooLong { length, .. }) if length > 107));
    for path in ["", "/", "..", "s/", "s/.", "/tmp/nul\0", "\0abstract"] {
        let refused = bind(Path::new(path)).expect_err("refused");
        assert!(
            matches!(refused, BindError::BadPath(_)),
            "{path:?}: {refused}"
        );
    }
}

#[test]
fn a_live_socket_of_another_type_is_refused() {
    let scratch = scratch();
    let path = scratch.path().join("s");
    let _live = UnixListener::bind(&path).expect("binds");
    assert!(matches!(bind(&path), Err(BindError::InUse(_))));
    assert!(path.exists());
}

#[test]
fn a_socket_that_may_not_be_probed_is_left_alone() {
    let scratch = scratch();
    let path = scratch.path().join("s");
    set_mode(scratch.path(), 0o777);
    leave_stale(&path);
    set_mode(&path, 0);
    let refused = unprivileged(|| bind(&path));
    assert!(matches!(refused, Err(BindError::NotOurs(_))), "{refused:?}");
    assert!(path.exists());
}

#[test]
fn a_directory_without_write_permission_is_named() {
    let scratch = scratch();
    set_mode(scratch.path(), 0o555);
    let path = scratch.path().join("s");
    let refused = unprivileged(|| bind(&path)).expect_err("refused");
    let message = refused.to_string();
    assert!(message.contains(&path.display().to_string()), "{message}");
    assert!(message.contains("run as a user who may"), "{message}");
}

#[test]
fn a_directory_that_stays_locked_is_no_hang() {
    let scratch = scratch();
    let lock = File::open(scratch.path()).expect("a directory");
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("locks");
    let refused = bind(&scratch.path().join("s"));
    assert!(matches!(refused, Err(BindError::DirectoryLocked(_))));
    drop(lock);
    bind(&scratch.path().join("s")).expect("binds");
}

#[test]
fn a_failed_bind_leaves_nothing_and_does_not_wait_for_its_own_lock() {
    let scratch = scratch();
    set_mode(scratch.path(), 0o777);
    let path = scratch.path().join("s");
    let foreign = SocketOptions {
        group: Some(54321),
        ..options(&path)
    };
    let began = Instant::now();
    let refused = unprivileged(|| bind_with(&foreign));
    assert!(
        matches!(refused, Err(BindError::System { .. })),
        "{refused:?}"
    );
    assert!(!path.exists());
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn the_group_that_means_no_change_is_refused() {
    let scratch = scratch();
    let asked = SocketOptions {
        group: Some(u32::MAX),
        ..options(scratch.path().join("s"))
    };
    assert!(matches!(bind_with(&asked), Err(BindError::System { .. })));
}

#[test]
fn a_link_in_the_files_place_is_not_followed() {
    let scratch = scratch();
    let [path, victim] = ["s", "victim"].map(|name| scratch.path().join(name));
    File::create(&victim).expect("a file");
    set_mode(&victim, 0o640);
    symlink(&victim, &path).expect("a link");
    let directory = Arc::new(Directory::open(scratch.path()).expect("a directory"));
    let asked = SocketOptions {
        mode: 0o666,
        ..options(&path)
    };
    let refused = SocketFile::take(&directory, "s".as_ref(), &asked);
    assert!(matches!(
        refused,
        Err(BindError::NotASocket {
            kind: FileKind::Symlink,
            ..
        })
    ));
    assert_eq!(mode_of(&victim), 0o640);
}
