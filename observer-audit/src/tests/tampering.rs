//! Every kind of edit is found, and where it is.

use super::*;

/// Start, five incidents, stop and seal in one epoch.
fn scene() -> (Scene, Vec<String>) {
    let mut scene = Scene::new();
    scene.options.seal_after = Duration::from_secs(100);
    scene.run(5);
    scene.assert_clean();
    let lines = scene.lines();
    assert_eq!(lines.len(), 8, "{lines:#?}");
    (scene, lines)
}

#[test]
fn any_flipped_byte_of_any_line_is_found_there() {
    let (scene, lines) = scene();
    for (index, line) in lines.iter().enumerate() {
        for at in (0..line.len()).step_by(7).chain([line.len() - 1]) {
            let mut bytes = line.clone().into_bytes();
            bytes[at] ^= 1;
            if bytes[at] == b'\n' {
                continue;
            }
            let mut edited = lines.clone();
            // Every byte here is ASCII, and stays so.
            edited[index] = String::from_utf8(bytes).unwrap();
            scene.write(&edited);
            let faults = scene.faults();
            let there = Some(index as u64 + 1);
            assert!(
                faults.iter().any(|(line, _)| *line == there),
                "line {index}, byte {at}: {faults:?}"
            );
        }
    }
}

#[test]
fn an_edited_line_is_named_and_no_other() {
    let (scene, mut lines) = scene();
    lines[2] = lines[2].replace("\"claimed_pid\":4242", "\"claimed_pid\":4243");
    scene.write(&lines);
    assert_eq!(scene.faults(), [(Some(3), Fault::Edited { seq: 3 })]);
}

/// The first line of an epoch is the one whose key has to be derived first.
#[test]
fn an_edited_line_is_named_whatever_epoch_it_is_of() {
    let scene = Scene::new();
    scene.run_in_epochs(3);
    scene.run(1);
    scene.assert_clean();
    let lines = scene.lines();
    let epochs = line::Parsed::new(lines.last().unwrap().as_bytes()).unwrap();
    assert!(epochs.epoch >= 4, "{lines:#?}");
    for (index, line) in lines.iter().enumerate() {
        let mut edited = lines.clone();
        edited[index] = line.replace("\"time\":\"2", "\"time\":\"1");
        scene.write(&edited);
        let seq = index as u64 + 1;
        let faults = scene.faults();
        assert_eq!(faults[0], (Some(seq), Fault::Edited { seq }), "{faults:?}");
        // Without its `stop`, or the seal of that, the end is open.
        let rest = &faults[1..];
        let is_open = |fault: &(Option<u64>, Fault)| matches!(fault.1, Fault::OpenEnd { .. });
        assert!(rest.iter().all(is_open), "{faults:?}");
        assert!(rest.is_empty() || index + 2 >= lines.len(), "{faults:?}");
    }
}

#[test]
fn a_removed_line_is_named_and_no_other() {
    let (scene, lines) = scene();
    for index in 1..lines.len() - 2 {
        let mut cut = lines.clone();
        cut.remove(index);
        scene.write(&cut);
        let seq = index as u64 + 1;
        let missing = Fault::Missing {
            from: seq,
            through: seq,
        };
        assert_eq!(scene.faults(), [(Some(seq), missing)]);
    }
}

#[test]
fn a_removed_first_line_is_missed() {
    let (scene, mut lines) = scene();
    lines.remove(0);
    scene.write(&lines);
    assert_eq!(
        scene.faults(),
        [(None, Fault::BeginningMissing { through: 1 })]
    );
}

#[test]
fn an_inserted_line_is_found() {
    let (scene, lines) = scene();
    // A copy of an older line; of a later one; one of the forger's own.
    for (from, to) in [(1, 4), (4, 1)] {
        let mut more = lines.clone();
        more.insert(to, lines[from].clone());
        scene.write(&more);
        let faults = scene.faults();
        assert!(
            faults.iter().any(|(line, _)| *line == Some(to as u64 + 1)),
            "{from} to {to}: {faults:?}"
        );
    }
    let mut more = lines.clone();
    more.insert(3, lines[3].replace("4242", "1"));
    scene.write(&more);
    assert_eq!(scene.faults(), [(Some(4), Fault::Edited { seq: 4 })]);
    let mut more = lines.clone();
    more.insert(3, "hello".into());
    scene.write(&more);
    assert_eq!(scene.faults()[0], (Some(4), Fault::Malformed));
}

#[test]
fn swapped_lines_are_found() {
    let (scene, mut lines) = scene();
    lines.swap(2, 3);
    scene.write(&lines);
    let faults = scene.faults();
    assert_eq!(faults[0].0, Some(3), "{faults:?}");
    assert!(
        faults.iter().any(|(line, _)| *line == Some(4)),
        "{faults:?}"
    );
}

#[test]
fn a_cut_tail_is_found() {
    let (scene, lines) = scene();
    for left in 1..lines.len() {
        scene.write(&lines[..left]);
        let last = left as u64;
        assert_eq!(scene.faults(), [(None, Fault::OpenEnd { last })]);
        let through = lines.len() as u64;
        assert_eq!(
            faults(scene.verify_with_host_key()),
            [(None, Fault::Cut { last, through })]
        );
    }
    let text = lines.join("\n");
    fs::write(&scene.options.file, &text[..text.len() - 10]).unwrap();
    let faults = scene.faults();
    assert!(matches!(faults[0].1, Fault::Torn { .. }), "{faults:?}");
}

/// An observer that has stopped in order writes no more.
#[test]
fn bytes_after_an_ordered_stop_are_found() {
    let (scene, lines) = scene();
    let text = scene.text();
    let verification = |more: &[u8], running| {
        fs::write(&scene.options.file, [text.as_bytes(), more].concat()).unwrap();
        verify(&Input {
            host_key: Some(scene.options.key.clone()),
            running,
            ..scene.input()
        })
        .unwrap()
    };
    let last = line::Parsed::new(lines.last().unwrap().as_bytes()).unwrap();
    let next = format!(
        "{{\"seq\":9,\"epoch\":1,\"prev\":\"{}\",\"time\":\"2",
        last.mac
    );
    for more in [b"x", &b"\0\0\0"[..], b"{\"seq\":9,", next.as_bytes()] {
        let bytes = more.len() as u64;
        let torn = [(Some(9), Fault::Torn { bytes })];
        assert_eq!(faults(verification(more, false)), torn);
        // If it runs again, this may be its next line; nothing else may.
        let verification = verification(more, true);
        if more == b"x" {
            assert_eq!(faults(verification), torn);
        } else {
            assert!(verification.is_clean(), "{verification:#?}");
            assert_eq!(verification.unfinished_bytes, bytes);
        }
    }
    for more in [
        "{\"seq\":8,",
        &next.replace('1', "2"),
        &format!("{next}\0x"),
    ] {
        let verification = verification(more.as_bytes(), true);
        // After its beginning a line may say anything.
        assert_eq!(
            verification.is_clean(),
            more.ends_with('x'),
            "{verification:#?}"
        );
    }
}

#[test]
fn a_tail_cut_back_to_an_older_stop_shows_by_the_key_file() {
    let scene = Scene::new();
    scene.run(2);
    let (trail, key) = (scene.text(), fs::read(&scene.options.key).unwrap());
    scene.run(2);
    // One epoch back is what a crash between seal and key leaves.
    scene.run(2);
    let (longer, newer) = (scene.text(), fs::read(&scene.options.key).unwrap());
    fs::write(&scene.options.file, &trail).unwrap();
    // Said in the documentation: without the key file this cannot be seen.
    assert!(scene.verify().is_clean());
    let verification = scene.verify_with_host_key();
    assert!(
        matches!(verification.findings[0].fault, Fault::Cut { .. }),
        "{verification:?}"
    );
    // Nor does the observer continue there.
    assert!(matches!(
        Trail::open(&scene.options),
        Err(OpenError::Tampered { .. })
    ));
    // A copy of the older key file, as in a backup, fits it: that cannot be
    // seen, and the documentation says so.
    fs::write(&scene.options.key, &key).unwrap();
    assert!(scene.verify_with_host_key().is_clean());
    // Nor does such a copy fit the longer trail,
    fs::write(&scene.options.file, longer).unwrap();
    let verification = scene.verify_with_host_key();
    assert!(
        matches!(verification.findings[0].fault, Fault::KeyFileOld { .. }),
        "{verification:?}"
    );
    // and one made up from the newer key does not fit the shorter one.
    fs::write(&scene.options.file, &trail).unwrap();
    let mut state: serde_json::Value = serde_json::from_slice(&newer).unwrap();
    state["epoch"] = serde_json::json!(1);
    state["next_seq"] = serde_json::json!(trail.lines().count() + 1);
    let last = trail.lines().last().unwrap();
    let link = line::Parsed::new(last.as_bytes()).unwrap().mac;
    state["prev"] = serde_json::json!(link.to_string());
    fs::write(&scene.options.key, state.to_string()).unwrap();
    let verification = scene.verify_with_host_key();
    assert_eq!(verification.findings[0].fault, Fault::KeyFileForged);
}

#[test]
fn who_takes_the_host_cannot_rewrite_what_was_sealed() {
    let scene = Scene::new();
    scene.run(2);
    // All that the intruder finds: the trail, and the key file as it is now.
    let state = key::KeyState::load(&scene.options.key, key::Use::Seal).unwrap();
    let lines = scene.lines();
    let mut forged = lines.clone();
    let parsed = line::Parsed::new(lines[1].as_bytes()).unwrap();
    let mut text = Vec::new();
    line::write(
        &mut text,
        parsed.position(),
        jiff::Timestamp::now(),
        &serde_json::json!({"kind": "auth_failure", "claimed_pid": 1}),
        &state.key.lines(),
    );
    forged[1] = String::from_utf8(text).unwrap().trim_end().to_owned();
    scene.write(&forged);
    let faults = scene.faults();
    assert_eq!(faults[0], (Some(2), Fault::Edited { seq: 2 }), "{faults:?}");
}

#[test]
fn a_line_remade_under_its_own_key_does_not_fit_the_next() {
    let (scene, mut lines) = scene();
    // Whoever holds the first key can make any line, but then has to make all
    // that follow.
    let key = key::KeyState::load(&scene.path("verify-key"), key::Use::Verify)
        .unwrap()
        .key;
    let parsed = line::Parsed::new(lines[1].as_bytes()).unwrap();
    let mut text = Vec::new();
    let content = serde_json::json!({"kind": "auth_failure", "claimed_pid": 1});
    line::write(
        &mut text,
        parsed.position(),
        jiff::Timestamp::now(),
        &content,
        &key.lines(),
    );
    lines[1] = String::from_utf8(text).unwrap().trim_end().to_owned();
    scene.write(&lines);
    assert_eq!(scene.faults(), [(Some(3), Fault::Unlinked { seq: 3 })]);
}

#[test]
fn a_line_after_the_seal_of_its_epoch_is_found() {
    let (scene, mut lines) = scene();
    let key = key::KeyState::load(&scene.path("verify-key"), key::Use::Verify)
        .unwrap()
        .key;
    let seal = line::Parsed::new(lines[7].as_bytes()).unwrap();
    let at = seal.position().after(seal.mac);
    let mut text = Vec::new();
    let content = serde_json::json!({"kind": "stop"});
    line::write(
        &mut text,
        at,
        jiff::Timestamp::now(),
        &content,
        &key.lines(),
    );
    lines.push(String::from_utf8(text).unwrap().trim_end().to_owned());
    scene.write(&lines);
    let wrong = Fault::WrongEpoch {
        seq: 9,
        epoch: 0,
        expected: 1,
    };
    assert_eq!(scene.faults()[0], (Some(9), wrong));
}

#[test]
fn an_observer_does_not_go_on_after_an_edit_of_the_open_epoch() {
    let scene = Scene::new();
    let trail = Trail::open(&Options {
        seal_after: Duration::from_secs(100),
        ..scene.options.clone()
    })
    .unwrap();
    trail.incident(incident(1));
    trail.incident(incident(2));
    wait_for(&trail, 3);
    drop(trail);
    let mut lines = scene.lines();
    lines[1] = lines[1].replace("4242", "4243");
    scene.write(&lines);
    // The writer may take a moment to let the key file go.
    std::thread::sleep(Duration::from_millis(200));
    let result = Trail::open(&scene.options);
    assert!(
        matches!(result, Err(OpenError::Tampered { .. })),
        "{result:?}"
    );
}

#[test]
fn a_file_that_is_cut_while_it_is_written_is_reported() {
    let scene = Scene::new();
    let trail = scene.open();
    trail.incident(incident(1));
    wait_for(&trail, 3);
    let text = scene.text();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&scene.options.file)
        .unwrap();
    file.set_len(text.len() as u64 - 30).unwrap();
    trail.incident(incident(2));
    trail.close("test", Duration::from_secs(10)).unwrap();
    assert!(
        scene.text().contains("\"kind\":\"altered\""),
        "{}",
        scene.text()
    );
    assert!(!scene.verify().is_clean());
}
