//! What is refused, and left as it is.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::super::file::SocketFile;
use super::super::path::Directory;
use super::super::{BindError, FileKind, SocketOptions};
use super::{
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

/// Any user may lock a directory that it may read.
#[test]
fn a_locked_directory_is_nobodys_business() {
    let scratch = scratch();
    set_mode(scratch.path(), 0o755);
    let lock = unprivileged(|| File::open(scratch.path()).expect("a directory"));
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("locks");
    let path = scratch.path().join("s");
    drop(bind(&path).expect("binds"));
    assert_eq!(fs::read_dir(scratch.path()).expect("a list").count(), 0);
}

#[test]
fn a_lock_that_is_kept_is_no_hang_and_one_left_behind_is_taken_over() {
    let scratch = scratch();
    let (path, file) = (scratch.path().join("s"), scratch.path().join(".s.lock"));
    let lock = File::create(&file).expect("a file");
    set_mode(&file, 0o600);
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("locks");
    assert!(matches!(bind(&path), Err(BindError::Locked(refused)) if refused == file));
    drop(lock);
    let _socket = bind(&path).expect("binds");
    assert!(!file.exists());
}

#[test]
fn a_lock_that_others_can_open_is_refused_and_left_alone() {
    let scratch = scratch();
    let (path, file) = (scratch.path().join("s"), scratch.path().join(".s.lock"));
    let refused = || {
        let refused = bind(&path).expect_err("refused");
        assert!(matches!(refused, BindError::NotOurLock(..)), "{refused}");
        let named = file.display().to_string();
        assert!(refused.to_string().contains(&named), "{refused}");
        fs::symlink_metadata(&file).expect("it is still there");
    };
    // Somebody's data; one that is open to others; a link to one; a folder.
    fs::write(&file, "precious").expect("a file");
    set_mode(&file, 0o600);
    refused();
    File::create(&file).expect("a file");
    set_mode(&file, 0o644);
    refused();
    set_mode(&file, 0o600);
    fs::rename(&file, scratch.path().join("elsewhere")).expect("renames");
    symlink(scratch.path().join("elsewhere"), &file).expect("a link");
    refused();
    fs::remove_file(&file).expect("removes");
    fs::create_dir(&file).expect("a directory");
    refused();
    if rustix::process::geteuid().is_root() {
        fs::remove_dir(&file).expect("removes");
        File::create(&file).expect("a file");
        set_mode(&file, 0o600);
        std::os::unix::fs::chown(&file, Some(65534), None).expect("root may");
        refused();
    }
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
