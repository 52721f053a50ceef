//! Files that other programs rename and empty, while an observer writes or while
//! none does.

use super::sources::logrotate;
use super::*;

/// What logrotate's `copytruncate` does.
fn copytruncate(scene: &Scene) {
    fs::copy(&scene.options.file, scene.path("trail.1")).unwrap();
    truncate(scene, 0);
}

fn truncate(scene: &Scene, length: u64) {
    let file = fs::OpenOptions::new().write(true).open(&scene.options.file);
    file.unwrap().set_len(length).unwrap();
}

/// A trail that an observer writes to, with a sealed incident.
fn running(scene: &Scene) -> Trail {
    let trail = scene.open();
    trail.incident(incident(1));
    wait_for(&trail, 3);
    trail
}

fn end(trail: Trail) {
    trail.incident(incident(2));
    trail.close("test", Duration::from_secs(10)).unwrap();
}

#[test]
fn a_trail_that_is_renamed_while_it_is_written_stays_whole() {
    for creates in [false, true] {
        let scene = Scene::new();
        let trail = running(&scene);
        logrotate(&scene);
        if creates {
            fs::write(&scene.options.file, "").unwrap();
        }
        end(trail);
        scene.assert_clean();
        assert_eq!(scene.verify().alterations, 1);
        assert!(scene.text().contains("it was renamed to trail.1"));
        // An empty file that somebody made is nothing to keep.
        let names: Vec<_> = fs::read_dir(scene.folder.path()).unwrap().collect();
        assert_eq!(names.len(), 4, "{names:?}");
        logrotate(&scene);
        scene.run(1);
        scene.assert_clean();
        assert_eq!(scene.files().len(), 3);
    }
}

#[test]
fn a_trail_that_is_emptied_while_it_is_written_goes_on() {
    let scene = Scene::new();
    let trail = running(&scene);
    copytruncate(&scene);
    end(trail);
    let text = scene.text();
    assert!(text.starts_with("{\"seq\":"), "{text}");
    assert!(text.contains("it was emptied"), "{text}");
    scene.assert_clean();
    assert_eq!(scene.verify().alterations, 1);
    // The observer can be started again.
    scene.run(1);
    scene.assert_clean();
}

/// The key file leads to the emptied file at once: an observer that is killed
/// then is started again.
#[test]
fn a_trail_that_is_emptied_within_an_epoch_goes_on_after_a_kill() {
    let mut scene = Scene::new();
    scene.options.seal_after = Duration::from_secs(100);
    let trail = scene.open();
    trail.incident(incident(1));
    wait_for(&trail, 2);
    copytruncate(&scene);
    trail.incident(incident(2));
    // The incident, the line about the file, the seal.
    wait_for(&trail, 5);
    drop(trail);
    while key::KeyFile::open(&scene.options.key).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    scene.run(1);
    scene.assert_clean();
}

#[test]
fn a_trail_that_is_moved_while_no_observer_runs_goes_on() {
    for moves in [logrotate, copytruncate] {
        let scene = Scene::new();
        scene.run(1);
        moves(&scene);
        scene.run(1);
        scene.assert_clean();
        let first = scene.lines().remove(0);
        assert!(first.contains("\"previous\":\"trail.1\""), "{first}");
        scene.run(1);
        scene.assert_clean();
    }
}

/// So does one of an observer that was killed in the middle of an epoch.
#[test]
fn lines_that_were_not_sealed_are_not_written_twice() {
    let mut scene = Scene::new();
    scene.options.seal_after = Duration::from_secs(100);
    let trail = scene.open();
    trail.incident(incident(1));
    wait_for(&trail, 2);
    drop(trail);
    while key::KeyFile::open(&scene.options.key).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    logrotate(&scene);
    scene.run(1);
    scene.assert_clean();
    assert!(
        scene.lines()[0].starts_with("{\"seq\":3,"),
        "{}",
        scene.text()
    );
}

/// A renamed file is not believed for its name.
#[test]
fn a_trail_whose_end_is_missing_is_not_begun_anew() {
    let scene = Scene::new();
    scene.run(1);
    let text = scene.text();
    logrotate(&scene);
    let lines: Vec<&str> = text.lines().collect();
    let cut = lines[..lines.len() - 1].join("\n") + "\n";
    let more = format!("{text}{{\"seq\":");
    let other = Scene::new();
    other.run(1);
    for content in [cut, more, String::new(), other.text()] {
        fs::write(scene.path("trail.1"), content).unwrap();
        let said = Trail::open(&scene.options).unwrap_err().to_string();
        assert!(said.contains("the file is missing"), "{said}");
        assert!(said.contains("none of the 1 renamed files"), "{said}");
        assert!(said.contains("audit repair"), "{said}");
        assert!(!scene.options.file.exists());
    }
}

#[test]
fn a_file_that_is_not_empty_is_not_called_empty() {
    let scene = Scene::new();
    scene.run(1);
    let text = scene.text();
    for (content, expected) in [
        (format!("\n{text}"), "does not begin with a line"),
        (
            text.split_inclusive('\n').take(2).collect(),
            "it begins with line 1",
        ),
        (String::new(), "the file is empty"),
    ] {
        fs::write(&scene.options.file, content).unwrap();
        let said = Trail::open(&scene.options).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
}

/// Files that other programs renamed are not the observer's to account for.
#[test]
fn retention_does_not_account_for_what_others_renamed() {
    let mut scene = Scene::new();
    (scene.options.rotate_bytes, scene.options.keep) = (4096, 1);
    let trail = scene.open();
    let more = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            trail.incident(incident(number));
            let line = trail.on_disk().saturating_add(1);
            wait_for(&trail, line);
        }
    };
    more(0..10);
    logrotate(&scene);
    more(10..40);
    trail.close("test", Duration::from_secs(10)).unwrap();
    let verification = scene.verify();
    // All between the renamed file and the rest is gone, and that shows.
    assert!(verification.removed_through > 0, "{verification:#?}");
    let faults = faults(verification);
    assert!(
        matches!(faults[..], [(Some(1), Fault::Missing { .. })]),
        "{faults:?}"
    );
    // So does a renamed file that others remove.
    fs::remove_file(scene.path("trail.1")).unwrap();
    let faults = scene.faults();
    assert!(
        matches!(faults[..], [(None, Fault::BeginningMissing { .. })]),
        "{faults:?}"
    );
}
