//! A broken trail is continued on demand, and stays broken.

use super::*;

impl Scene {
    fn repair(&self) -> Option<Repair> {
        repair(&self.options.file, &self.options.key).unwrap()
    }

    /// Contents of all files beside the keys.
    fn contents(&self) -> Vec<Vec<u8>> {
        let files = self.files().into_iter();
        files.map(|file| fs::read(file).unwrap()).collect()
    }
}

/// Makes of a trail's text what is left of it; `None`: no file.
type Damage = fn(&str) -> Option<String>;

/// What can have happened to a trail's only file.
fn damages() -> [(&'static str, Damage); 6] {
    [
        ("missing", |_| None),
        ("empty", |_| Some(String::new())),
        ("blank line", |text| Some(format!("\n{text}"))),
        ("cut", |text| Some(text[..text.len() / 2].to_owned())),
        ("cut at a line", |text| {
            Some(text.split_inclusive('\n').take(2).collect())
        }),
        ("edited", |text| {
            // The last digit of the last MAC.
            let text = text.strip_suffix("\"}\n")?;
            let digit = text.chars().last()?;
            let other = if digit == '0' { '1' } else { '0' };
            Some(format!("{}{other}\"}}\n", text.strip_suffix(digit)?))
        }),
    ]
}

#[test]
fn a_broken_trail_goes_on_and_is_never_clean_without_its_lines() {
    for (name, damage) in damages() {
        let scene = Scene::new();
        scene.run(2);
        let good = scene.text();
        match damage(&good) {
            Some(text) => fs::write(&scene.options.file, text).unwrap(),
            None => fs::remove_file(&scene.options.file).unwrap(),
        }
        assert!(Trail::open(&scene.options).is_err(), "{name}");
        let before = scene.contents();
        let repair = scene
            .repair()
            .unwrap_or_else(|| panic!("{name}: not repaired"));
        // Nothing is deleted.
        let after = scene.contents();
        for content in before.iter().filter(|content| !content.is_empty()) {
            assert!(after.contains(content), "{name}");
        }
        let mark = scene.lines().remove(0);
        assert!(mark.contains("\"kind\":\"continuation\""), "{name}: {mark}");
        assert!(
            mark.contains(&repair.found.replace('"', "\\\"")),
            "{name}: {mark}"
        );
        if let Some(kept) = &repair.kept {
            assert!(
                mark.contains(&format!("\"kept\":\"{kept}\"")),
                "{name}: {mark}"
            );
            assert!(scene.path(kept).exists());
        }
        // It goes on, and there is nothing more to repair.
        assert_eq!(scene.repair(), None, "{name}");
        scene.run(1);
        scene.run(1);
        for verification in [scene.verify(), scene.verify_with_host_key()] {
            assert!(!verification.is_clean(), "{name}: {verification:#?}");
            assert_eq!(verification.continuations, 1, "{name}");
        }
        // Nor without what was put aside.
        if let Some(kept) = &repair.kept {
            fs::rename(scene.path(kept), scene.path("aside")).unwrap();
            assert!(!scene.verify().is_clean(), "{name}");
        }
    }
}

/// Lines that were found again are as good as any, and the mark stays.
#[test]
fn a_trail_whose_files_come_back_is_whole() {
    let scene = Scene::new();
    scene.run(2);
    fs::rename(&scene.options.file, scene.path("archived")).unwrap();
    scene.repair().unwrap();
    scene.run(1);
    assert!(!scene.verify().is_clean());
    fs::rename(scene.path("archived"), scene.path("trail.1")).unwrap();
    scene.assert_clean();
    assert_eq!(scene.verify().continuations, 1);
}

/// An edited line that nobody sealed is lost, and no removal of its remains
/// makes that unseen.
#[test]
fn an_edited_last_line_is_missed_for_ever() {
    let mut scene = Scene::new();
    scene.options.seal_after = Duration::from_secs(100);
    let trail = scene.open();
    trail.incident(incident(1));
    trail.incident(incident(2));
    wait_for(&trail, 3);
    drop(trail);
    while key::KeyFile::open(&scene.options.key).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut lines = scene.lines();
    lines[2] = lines[2].replace("4242", "4243");
    scene.write(&lines);
    let repair = scene.repair().unwrap();
    assert_eq!(repair.line, 3, "after the last line that verifies");
    scene.run(1);
    let kept = scene.path(&repair.kept.unwrap());
    let text: String = lines[..2].iter().flat_map(|line| [line, "\n"]).collect();
    fs::write(kept, text).unwrap();
    let faults = scene.faults();
    assert!(
        matches!(faults[..], [(Some(1), Fault::Continued { seq: 3, .. })]),
        "{faults:?}"
    );
}

/// No number is used twice: lines of the open epoch are looked for in all files.
#[test]
fn lines_of_the_open_epoch_keep_their_numbers() {
    let mut scene = Scene::new();
    scene.options.seal_after = Duration::from_secs(100);
    let trail = scene.open();
    for number in 0..5 {
        trail.incident(incident(number));
    }
    wait_for(&trail, 6);
    drop(trail);
    while key::KeyFile::open(&scene.options.key).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut lines = scene.lines();
    lines.remove(2);
    scene.write(&lines);
    let repair = scene.repair().unwrap();
    assert_eq!(repair.line, 7);
    scene.run(1);
    let missing = Fault::Missing {
        from: 3,
        through: 3,
    };
    assert_eq!(scene.faults(), [(Some(3), missing)]);
}

#[test]
fn what_is_not_broken_or_no_trail_is_left_alone() {
    let scene = Scene::new();
    assert_eq!(scene.repair(), None, "a trail that has not begun");
    assert!(!scene.options.file.exists());
    let trail = scene.open();
    wait_for(&trail, 1);
    let used = repair(&scene.options.file, &scene.options.key);
    assert!(matches!(used, Err(OpenError::Key(_))), "{used:?}");
    trail.close("test", Duration::from_secs(10)).unwrap();
    let (text, key) = (scene.text(), fs::read(&scene.options.key).unwrap());
    assert_eq!(scene.repair(), None);
    assert_eq!(
        (scene.text(), fs::read(&scene.options.key).unwrap()),
        (text, key)
    );
    fs::write(scene.path("precious"), "mine\n").unwrap();
    let other = repair(&scene.path("precious"), &scene.options.key);
    assert!(matches!(other, Err(OpenError::NoTrail(_))), "{other:?}");
    assert_eq!(fs::read(scene.path("precious")).unwrap(), b"mine\n");
    scene.assert_clean();
}

/// A repair that was interrupted can be repeated.
#[test]
fn a_repair_can_be_repeated() {
    let scene = Scene::new();
    scene.run(1);
    let broken = format!("\n{}", scene.text());
    fs::write(scene.path("trail.broken-7"), broken).unwrap();
    fs::write(&scene.options.file, "").unwrap();
    fs::write(scene.path("trail.next"), "").unwrap();
    assert!(scene.repair().is_some());
    scene.run(1);
    let mark = scene.lines().remove(0);
    assert!(mark.contains("\"files\":[\"trail.broken-7\"]"), "{mark}");
    assert!(!scene.verify().is_clean());
    // The next one replaces no file that is there.
    let line = scene.verify().last_line.unwrap() + 1;
    let taken = format!("trail.broken-{line}");
    fs::write(scene.path(&taken), "taken").unwrap();
    fs::write(&scene.options.file, format!("\n{}", scene.text())).unwrap();
    let repair = scene.repair().unwrap();
    assert_eq!(repair.kept, Some(format!("{taken}-2")));
    assert_eq!(fs::read(scene.path(&taken)).unwrap(), b"taken");
    scene.run(1);
}
