//! Who may read and write key and trail, and which key is for what.

use super::*;

#[test]
fn old_keys_are_gone_from_the_host() {
    let scene = Scene::new();
    let first = fs::read_to_string(&scene.options.key).unwrap();
    let old = fs::File::open(&scene.options.key).unwrap();
    scene.run(1);
    let now = fs::read_to_string(&scene.options.key).unwrap();
    let key = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["key"].clone();
    assert_ne!(key(&first), key(&now));
    // The file that the first key was in has been overwritten.
    let left = std::io::read_to_string(old).unwrap();
    assert_eq!(left.trim_matches('\0'), "", "{left:?}");
    assert!(!scene.path("key.next").exists());
}

#[test]
fn files_are_the_owners_only_and_links_are_not_followed() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let scene = Scene::new();
    fs::write(scene.path("elsewhere"), "").unwrap();
    symlink(scene.path("elsewhere"), &scene.options.file).unwrap();
    assert!(matches!(
        Trail::open(&scene.options),
        Err(OpenError::File(_))
    ));
    assert_eq!(fs::read(scene.path("elsewhere")).unwrap(), b"");
    fs::remove_file(&scene.options.file).unwrap();
    scene.run(1);
    for file in ["trail", "key", "verify-key"] {
        let mode = fs::metadata(scene.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{file}");
    }
}

/// Somebody who made the file before the observer did could write to it.
#[test]
fn files_that_others_made_or_may_write_to_are_refused() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let scene = Scene::new();
    let set_mode = |file: &str, mode| {
        fs::set_permissions(scene.path(file), fs::Permissions::from_mode(mode)).unwrap();
    };
    let refusal = |file: &str| {
        let error = Trail::open(&scene.options).unwrap_err().to_string();
        let named = scene.path(file).display().to_string();
        assert!(error.contains(&named), "{error}");
        error
    };
    fs::write(&scene.options.file, "").unwrap();
    for mode in [0o666, 0o620, 0o602] {
        set_mode("trail", mode);
        let said = refusal("trail");
        assert!(said.contains("lets others write to it"), "{said}");
    }
    // An auditor's group may read it.
    set_mode("trail", 0o640);
    scene.run(1);
    set_mode("key", 0o640);
    assert!(refusal("key").contains("lets others use the key"));
    set_mode("key", 0o600);
    scene.run(1);
    if rustix::process::geteuid().is_root() {
        for file in ["trail", "key"] {
            chown(scene.path(file), Some(65534), None).unwrap();
            assert!(refusal(file).contains("belongs to user 65534"));
            chown(scene.path(file), Some(0), None).unwrap();
        }
    }
    scene.assert_clean();
}

#[test]
fn one_trail_has_one_writer() {
    let scene = Scene::new();
    let trail = scene.open();
    wait_for(&trail, 1);
    let second = Trail::open(&scene.options);
    assert!(matches!(second, Err(OpenError::Key(_))), "{second:?}");
    trail.close("test", Duration::from_secs(10)).unwrap();
    scene.assert_clean();
}

#[test]
fn keys_are_not_taken_for_each_other() {
    let scene = Scene::new();
    let options = Options {
        key: scene.path("verify-key"),
        ..scene.options.clone()
    };
    let error = Trail::open(&options).unwrap_err().to_string();
    assert!(error.contains("is a key to verify with"), "{error}");
    assert!(generate(&scene.options.key, &scene.path("another")).is_err());
    assert!(!scene.path("another").exists(), "half a pair was left");
    assert!(generate(&scene.path("new"), &scene.path("new")).is_err());
    assert!(!scene.path("new").exists());
    let other = Scene::new();
    scene.run(1);
    other.run(1);
    let mixed = Input {
        host_key: Some(other.options.key.clone()),
        ..scene.input()
    };
    assert!(verify(&mixed).unwrap_err().to_string().contains("of trail"));
    fs::copy(&other.options.file, &scene.options.file).unwrap();
    assert!(!scene.verify().is_clean());
}
