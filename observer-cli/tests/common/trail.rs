//! An observer that keeps an audit trail.

use std::process::Stdio;

use crate::common::{Running, Scene, observer};

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A folder with the keys of a trail.
pub(crate) fn scene_with_keys() -> Scene {
    let scene = Scene::new();
    let (key, verify_key) = (scene.name("key"), scene.name("verify-key"));
    let output = observer(&["audit", "keygen"])
        .args(["--audit-key", &key, "--verify-key", &verify_key])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("trail "));
    scene
}

/// Starts an observer that keeps the trail.
pub(crate) fn start(scene: &Scene, flags: &[&str], stdout: Stdio) -> Running {
    let mut command = scene.command(flags);
    command
        .args(["--audit", &scene.name("trail")])
        .args(["--audit-key", &scene.name("key")])
        .env("OBSERVER_LOG", "info,observer_audit=debug")
        .stdout(stdout);
    Running::start(&mut command)
}

/// What `audit verify` prints, and its exit code.
pub(crate) fn verdict(scene: &Scene, more: &[&str]) -> (Option<i32>, String) {
    let (trail, key) = (scene.name("trail"), scene.name("verify-key"));
    let output = observer(&["audit", "verify", &trail, "--key", &key])
        .args(more)
        .output()
        .unwrap();
    (
        output.status.code(),
        text(&output.stdout) + &text(&output.stderr),
    )
}
