//! Rotated files are one trail.

use std::process::Command;

use crate::follow::{Change, Seen};

use super::*;

/// Small files, and enough lines for several.
fn rotated(keep: usize) -> Scene {
    let mut scene = Scene::new();
    scene.options.rotate_bytes = 4096;
    scene.options.keep = keep;
    let trail = scene.open();
    for number in 0..40 {
        trail.incident(incident(number));
        let line = trail.on_disk().saturating_add(1);
        wait_for(&trail, line);
    }
    trail.close("test", Duration::from_secs(10)).unwrap();
    let files = scene.files();
    assert!(files.len() > 3.min(keep), "{files:?}");
    scene
}

#[test]
fn the_chain_goes_on_across_files_and_restarts() {
    let scene = rotated(100);
    scene.assert_clean();
    assert_eq!(scene.verify().first_line, Some(1));
    scene.run(3);
    scene.assert_clean();
    let summary = report::summarize(&scene.options.file).unwrap();
    assert_eq!((summary.incidents, summary.unreadable), (43, 0));
}

#[test]
fn a_removed_file_is_missed_wherever_it_was() {
    let scene = rotated(100);
    let files = scene.files();
    for file in &files {
        let aside = scene.path("aside");
        fs::rename(file, &aside).unwrap();
        let verification = scene.verify();
        assert!(!verification.is_clean(), "{}", file.display());
        fs::rename(&aside, file).unwrap();
    }
    scene.assert_clean();
    fs::remove_file(&files[1]).unwrap();
    let faults = scene.faults();
    assert!(
        matches!(faults[..], [(Some(1), Fault::Missing { .. })]),
        "{faults:?}"
    );
}

#[test]
fn swapped_files_are_found() {
    let scene = rotated(100);
    let files = scene.files();
    let aside = scene.path("aside");
    fs::rename(&files[0], &aside).unwrap();
    fs::rename(&files[1], &files[0]).unwrap();
    fs::rename(&aside, &files[1]).unwrap();
    assert!(!scene.verify().is_clean());
}

#[test]
fn retention_accounts_for_what_it_removed_and_for_no_more() {
    let scene = rotated(2);
    assert_eq!(scene.files().len(), 3);
    scene.assert_clean();
    let verification = scene.verify();
    assert!(verification.first_line > Some(1));
    assert_eq!(
        verification.first_line,
        Some(verification.removed_through + 1)
    );
    let oldest = scene.files().remove(0);
    fs::remove_file(oldest).unwrap();
    let faults = scene.faults();
    assert!(
        matches!(faults[..], [(None, Fault::BeginningMissing { .. })]),
        "{faults:?}"
    );
}

/// Who may write to the folder must not keep the auditor waiting.
#[test]
fn a_pipe_in_place_of_a_rotated_file_is_not_waited_for() {
    let scene = rotated(100);
    let made = Command::new("mkfifo")
        .arg(scene.path("trail.00000000000000000002"))
        .status();
    assert!(made.unwrap().success());
    let error = verify(&scene.input()).unwrap_err().to_string();
    assert!(error.contains("no regular file"), "{error}");
    assert!(report::summarize(&scene.options.file).is_err());
    let mut follower = follow::Follower::new(&scene.options.file, true);
    while follower.look().unwrap() != Seen::Nothing {}
}

#[test]
fn a_crash_within_a_rotation_is_completed() {
    let scene = rotated(100);
    // Between the two renames: the old file has its new name, the new one has
    // not.
    let last = scene.lines().last().cloned().unwrap();
    let first = scene.lines()[0].clone();
    let seq = line::Parsed::new(first.as_bytes()).unwrap().seq;
    assert!(last.contains("\"seal\""));
    fs::rename(&scene.options.file, scene.path(&format!("trail.{seq:020}"))).unwrap();
    fs::write(scene.path("trail.next"), "").unwrap();
    scene.run(1);
    scene.assert_clean();
}

#[test]
fn a_file_taken_away_while_it_is_written_is_reported_and_another_begun() {
    let scene = Scene::new();
    let trail = scene.open();
    trail.incident(incident(1));
    wait_for(&trail, 3);
    fs::rename(&scene.options.file, scene.path("stolen")).unwrap();
    fs::write(&scene.options.file, "foreign").unwrap();
    trail.incident(incident(2));
    trail.close("test", Duration::from_secs(10)).unwrap();
    let text = scene.text();
    assert!(text.contains("\"kind\":\"altered\""), "{text}");
    assert!(text.contains("\"kind\":\"stop\""), "{text}");
    // Nothing of what was there then is destroyed.
    let names: Vec<_> = fs::read_dir(scene.folder.path()).unwrap().collect();
    let foreign = names.iter().flatten().find(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().contains("foreign")
    });
    assert_eq!(
        fs::read_to_string(foreign.unwrap().path()).unwrap(),
        "foreign"
    );
    // The new file alone does not do, and with the stolen one all is there.
    assert!(!scene.verify().is_clean());
    fs::rename(
        scene.path("stolen"),
        scene.path("trail.00000000000000000001"),
    )
    .unwrap();
    scene.assert_clean();
    scene.run(1);
    scene.assert_clean();
}

/// Nothing but the seal is to be written then, and a seal is the last line of
/// its epoch.
#[test]
fn a_file_taken_away_before_a_seal_is_reported_after_it() {
    let mut scene = Scene::new();
    scene.options.seal_after = Duration::from_millis(500);
    let trail = scene.open();
    trail.incident(incident(1));
    wait_for(&trail, 2);
    let aside = scene.path("trail.00000000000000000001");
    fs::rename(&scene.options.file, aside).unwrap();
    wait_for(&trail, 4);
    trail.close("test", Duration::from_secs(10)).unwrap();
    let lines = scene.lines();
    assert!(lines[0].contains("\"kind\":\"seal\""), "{lines:#?}");
    assert!(lines[1].contains("\"kind\":\"altered\""), "{lines:#?}");
    scene.assert_clean();
    scene.run(1);
    scene.assert_clean();
}

#[test]
fn follow_misses_no_file_when_it_is_slow() {
    let mut scene = Scene::new();
    scene.options.rotate_bytes = 4096;
    scene.run(1);
    let mut follower = follow::Follower::new(&scene.options.file, true);
    assert!(matches!(follower.look().unwrap(), Seen::Line(_)));
    let trail = scene.open();
    for number in 0..40 {
        trail.incident(incident(number));
        let line = trail.on_disk().saturating_add(1);
        wait_for(&trail, line);
    }
    trail.close("test", Duration::from_secs(10)).unwrap();
    assert!(scene.files().len() > 3);
    let mut seen = vec![1];
    let expected: Vec<u64> = (1..=scene.verify().last_line.unwrap()).collect();
    // A file that ends is one look without a line.
    for _ in 0..expected.len() * 2 {
        match follower.look().unwrap() {
            Seen::Line(line) => seen.push(line::Parsed::new(line).unwrap().seq),
            Seen::Change(change) => panic!("{change}"),
            Seen::Nothing => {}
        }
    }
    assert_eq!(seen, expected);
}

#[test]
fn follow_reads_on_across_a_rotation() {
    let mut scene = Scene::new();
    scene.options.rotate_bytes = 4096;
    let trail = scene.open();
    let mut follower = follow::Follower::new(&scene.options.file, true);
    let mut seen = Vec::new();
    let began = Instant::now();
    let mut sent = 0;
    while seen.len() < 60 {
        assert!(began.elapsed() < Duration::from_mins(1), "{}", seen.len());
        match follower.look().unwrap() {
            Seen::Line(line) => {
                seen.push(line::Parsed::new(line).unwrap().seq);
                continue;
            }
            // Between the two renames of a rotation there is no file.
            Seen::Change(change) => assert_eq!(change, Change::Absent),
            Seen::Nothing => {}
        }
        trail.incident(incident(sent));
        sent += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    trail.close("test", Duration::from_secs(10)).unwrap();
    let expected: Vec<u64> = (1..=60).collect();
    assert_eq!(seen, expected);
    assert!(scene.files().len() > 1);
}
