//! What a crash can leave behind, and how the trail is continued.

use std::io::Write as _;

use super::*;

/// A trail that was left without an ordered stop, in its first epoch.
fn crashed() -> Scene {
    let scene = Scene::new();
    let trail = Trail::open(&Options {
        seal_after: Duration::from_secs(100),
        ..scene.options.clone()
    })
    .unwrap();
    trail.incident(incident(1));
    wait_for(&trail, 2);
    drop(trail);
    // Its thread lets the files go a moment later.
    while key::KeyFile::open(&scene.options.key).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    scene
}

#[test]
fn a_trail_that_was_not_stopped_goes_on_and_says_so() {
    let scene = crashed();
    assert_eq!(scene.faults(), [(None, Fault::OpenEnd { last: 2 })]);
    let with_key = scene.verify_with_host_key();
    assert!(with_key.is_clean() && !with_key.stopped, "{with_key:#?}");
    scene.run(1);
    scene.assert_clean();
    assert!(scene.lines()[2].contains("\"clean\":false"));
}

#[test]
fn a_torn_line_is_cut_off_and_reported() {
    let scene = crashed();
    let whole = scene.lines();
    for torn in [&b"{\"seq\":3,\"ep"[..], b"{", &[0; 5000], b"\xff\n\xff"] {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(&scene.options.file)
            .unwrap();
        file.write_all(torn).unwrap();
        assert!(!scene.verify().is_clean());
        scene.run(0);
        scene.assert_clean();
        let text = scene.text();
        assert!(
            text.contains(&format!("\"removed_bytes\":{}", torn.len())),
            "{text}"
        );
        assert_eq!(scene.lines()[..2], whole[..2]);
    }
    assert_eq!(scene.verify().repairs, 4);
}

/// A path that was mistyped must cost nobody a file.
#[test]
fn a_file_that_is_no_trail_is_left_alone() {
    let scene = Scene::new();
    let key = fs::read(&scene.options.key).unwrap();
    for content in [
        &b"precious"[..],
        b"precious\nlines\n",
        b"{\"seq\":2,",
        &key,
        b"{}",
    ] {
        fs::write(&scene.options.file, content).unwrap();
        let said = Trail::open(&scene.options).unwrap_err().to_string();
        assert!(said.contains("is no audit trail"), "{said}");
        assert_eq!(fs::read(&scene.options.file).unwrap(), content);
    }
    let same = Options {
        file: scene.options.key.clone(),
        ..scene.options.clone()
    };
    assert!(Trail::open(&same).is_err());
    assert_eq!(fs::read(&scene.options.key).unwrap(), key);
}

/// A crash while the first line was written leaves such.
#[test]
fn a_first_line_that_was_torn_is_cut_off() {
    for content in [&b"{\"seq\":1,\"ep"[..], b"{\"s", &[0; 5000]] {
        let scene = Scene::new();
        fs::write(&scene.options.file, content).unwrap();
        scene.run(1);
        scene.assert_clean();
        assert_eq!(scene.verify().repairs, 1);
    }
}

#[test]
fn a_last_line_torn_at_any_byte_is_repaired() {
    let scene = crashed();
    let (text, key) = (scene.text(), fs::read(&scene.options.key).unwrap());
    let last = text.lines().last().unwrap().len();
    for missing in (1..=last).step_by(13) {
        fs::write(&scene.options.file, &text[..text.len() - missing]).unwrap();
        fs::write(&scene.options.key, &key).unwrap();
        scene.run(0);
        scene.assert_clean();
        assert_eq!(scene.verify().repairs, 1, "{missing}");
    }
}

#[test]
fn a_crash_between_seal_and_key_is_completed() {
    let scene = Scene::new();
    scene.run(1);
    let before = fs::read(&scene.options.key).unwrap();
    scene.run(0);
    // The seal is written, the key file is still the one before it, and its
    // successor may lie beside it.
    fs::copy(&scene.options.key, scene.path("key.next")).unwrap();
    fs::write(&scene.options.key, before).unwrap();
    let verification = scene.verify_with_host_key();
    assert!(verification.is_clean(), "{verification:#?}");
    scene.run(1);
    scene.assert_clean();
    assert!(!scene.path("key.next").exists());
}

#[test]
fn a_missing_or_emptied_trail_is_not_begun_anew() {
    let scene = Scene::new();
    scene.run(1);
    fs::write(&scene.options.file, "").unwrap();
    let said = Trail::open(&scene.options).unwrap_err().to_string();
    assert!(said.contains("the file is empty"), "{said}");
    fs::remove_file(&scene.options.file).unwrap();
    let said = Trail::open(&scene.options).unwrap_err().to_string();
    assert!(said.contains("the file is missing"), "{said}");
    // What was looked for and not found is not put there.
    assert!(!scene.options.file.exists());
}
