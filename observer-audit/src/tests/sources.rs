//! Files of a trail in any order, by any name, and what is none of them.

use super::*;

/// A trail in three files that other programs renamed, oldest last, as logrotate
/// does it: `trail.2`, `trail.1`, `trail`.
fn renamed() -> Scene {
    let scene = Scene::new();
    for _ in 0..2 {
        scene.run(2);
        logrotate(&scene);
    }
    scene.run(2);
    scene
}

/// What logrotate does by default.
pub(super) fn logrotate(scene: &Scene) {
    for (from, to) in [(2, 3), (1, 2)] {
        let from = scene.path(&format!("trail.{from}"));
        if from.exists() {
            fs::rename(from, scene.path(&format!("trail.{to}"))).unwrap();
        }
    }
    fs::rename(&scene.options.file, scene.path("trail.1")).unwrap();
}

impl Scene {
    fn verify_paths(&self, names: &[&str]) -> Verification {
        let files = names.iter().map(|name| self.path(name)).collect();
        let input = Input {
            files,
            ..self.input()
        };
        verify(&input).unwrap()
    }

    fn faults_of(&self, names: &[&str]) -> Vec<Fault> {
        let found = faults(self.verify_paths(names)).into_iter();
        found.map(|(_, fault)| fault).collect()
    }

    /// Puts the trail's files into a folder of their own.
    fn archive(&self) -> PathBuf {
        let archive = self.path("archive");
        fs::create_dir(&archive).unwrap();
        for file in self.files() {
            fs::copy(&file, archive.join(file.file_name().unwrap())).unwrap();
        }
        archive
    }
}

#[test]
fn files_that_logrotate_renamed_are_found_and_sorted() {
    let scene = renamed();
    scene.assert_clean();
    let verification = scene.verify();
    assert_eq!(verification.first_line, Some(1));
    let names = ["trail.2", "trail.1", "trail"].map(|name| scene.path(name));
    assert_eq!(verification.files, names, "oldest first");
    let summary = report::summarize(&scene.options.file).unwrap();
    assert_eq!((summary.incidents, summary.unreadable), (6, 0));
}

#[test]
fn files_may_be_given_in_any_order() {
    let scene = renamed();
    for names in [
        ["trail.2", "trail.1", "trail"],
        ["trail", "trail.1", "trail.2"],
        ["trail.1", "trail", "trail.2"],
        ["trail.1", "trail.2", "trail"],
    ] {
        let verification = scene.verify_paths(&names);
        assert!(verification.is_clean(), "{names:?}: {verification:#?}");
        assert_eq!(verification.files.len(), 3);
        assert!(verification.stopped);
    }
    // Whatever their names are.
    for (from, to) in [("trail.2", "b"), ("trail.1", "c"), ("trail", "a")] {
        fs::rename(scene.path(from), scene.path(to)).unwrap();
    }
    assert!(scene.verify_paths(&["a", "b", "c"]).is_clean());
}

#[test]
fn dated_names_and_folders_do_as_well() {
    let scene = renamed();
    fs::rename(scene.path("trail.2"), scene.path("trail-20261127")).unwrap();
    fs::rename(
        scene.path("trail.1"),
        scene.path("trail-20261128-1795867200"),
    )
    .unwrap();
    scene.assert_clean();
    scene.archive();
    let verification = scene.verify_paths(&["archive"]);
    assert!(verification.is_clean(), "{verification:#?}");
    // Some here, some there, and a folder twice.
    fs::remove_file(scene.path("archive/trail")).unwrap();
    for names in [
        &["trail", "archive"][..],
        &["archive", "trail"],
        &["archive", "archive/../archive", "trail"],
        &["trail", "archive", "archive/trail-20261127"],
    ] {
        let verification = scene.verify_paths(names);
        assert!(verification.is_clean(), "{names:?}: {verification:#?}");
    }
}

/// A folder of a trail may be the observer's own, with its key file.
#[test]
fn keys_in_a_folder_are_no_files_of_the_trail() {
    let scene = renamed();
    fs::copy(&scene.options.key, scene.path("key.next")).unwrap();
    let input = Input {
        files: vec![scene.folder.path().to_owned()],
        ..scene.input()
    };
    let verification = verify(&input).unwrap();
    assert!(verification.is_clean(), "{verification:#?}");
    fs::write(scene.path("notes"), "mine\n").unwrap();
    let found = faults(verify(&input).unwrap());
    assert_eq!(found, [(None, Fault::Foreign)]);
}

#[test]
fn a_file_that_is_not_given_is_missed() {
    let scene = renamed();
    let missing = |names: &[&str]| {
        let faults = scene.faults_of(names);
        assert!(!faults.is_empty(), "{names:?}");
        faults
    };
    let middle = missing(&["trail", "trail.2"]);
    assert!(matches!(middle[..], [Fault::Missing { .. }]), "{middle:?}");
    let first = missing(&["trail.1", "trail"]);
    assert!(
        matches!(first[..], [Fault::BeginningMissing { .. }]),
        "{first:?}"
    );
    // The last one is missed by the key file alone.
    let host_key = Some(scene.options.key.clone());
    let input = Input {
        files: vec![scene.path("trail.1"), scene.path("trail.2")],
        host_key,
        ..scene.input()
    };
    let last = faults(verify(&input).unwrap());
    assert!(matches!(last[..], [(None, Fault::Cut { .. })]), "{last:?}");
    fs::remove_file(scene.path("trail.1")).unwrap();
    assert!(!scene.verify().is_clean());
}

#[test]
fn a_file_that_is_there_twice_is_named() {
    let scene = renamed();
    for name in ["trail", "trail.1", "trail.2"] {
        fs::copy(scene.path(name), scene.path("copy")).unwrap();
        for names in [
            ["trail", "trail.1", "trail.2", "copy"],
            ["copy", "trail.2", "trail.1", "trail"],
        ] {
            let faults = scene.faults_of(&names);
            assert!(
                matches!(&faults[..], [Fault::Copied { .. }]),
                "{name}: {faults:?}"
            );
        }
    }
    // Under a name that logrotate gives.
    fs::copy(scene.path("trail.1"), scene.path("trail.7")).unwrap();
    assert!(matches!(scene.faults()[..], [(None, Fault::Copied { .. })]));
    fs::remove_file(scene.path("trail.7")).unwrap();
    // As a link, or a part of it.
    fs::hard_link(scene.path("trail.1"), scene.path("link")).unwrap();
    assert!(
        !scene
            .verify_paths(&["trail", "trail.1", "trail.2", "link"])
            .is_clean()
    );
    let lines = fs::read_to_string(scene.path("trail.1")).unwrap();
    let tail: Vec<&str> = lines.lines().skip(2).collect();
    fs::write(scene.path("part"), tail.join("\n") + "\n").unwrap();
    let faults = scene.faults_of(&["trail", "trail.1", "trail.2", "part"]);
    assert!(matches!(faults[0], Fault::Misplaced { .. }), "{faults:?}");
    // The same path twice is one file.
    assert!(
        scene
            .verify_paths(&["trail", "trail.1", "trail.2", "trail"])
            .is_clean()
    );
}

#[test]
fn files_of_another_trail_and_no_trail_are_named() {
    let scene = renamed();
    let other = renamed();
    for name in ["trail", "trail.1", "trail.2"] {
        fs::copy(other.path(name), scene.path("other")).unwrap();
        for names in [
            ["trail", "trail.1", "trail.2", "other"],
            ["other", "trail.2", "trail.1", "trail"],
        ] {
            assert_eq!(scene.faults_of(&names), [Fault::Foreign], "{name}");
        }
    }
    // In place of our own, that is missed as well.
    let faults = scene.faults_of(&["trail", "other", "trail.2"]);
    assert_eq!(faults[0], Fault::Foreign);
    assert!(matches!(faults[1..], [Fault::Missing { .. }]), "{faults:?}");
    fs::write(scene.path("trail.9"), "hello\n").unwrap();
    assert_eq!(scene.faults(), [(None, Fault::Foreign)]);
}

#[test]
fn a_compressed_file_is_said_not_to_be_read() {
    let scene = renamed();
    let magics: [(&[u8], &str); 4] = [
        (b"\x1f\x8b\x08", "gzip"),
        (b"BZh91AY", "bzip2"),
        (b"\xfd7zXZ\0\0", "xz"),
        (b"\x28\xb5\x2f\xfd\x04", "zstd"),
    ];
    let aside = fs::read(scene.path("trail.2")).unwrap();
    fs::remove_file(scene.path("trail.2")).unwrap();
    for (magic, format) in magics {
        let name = "trail.2.gz";
        fs::write(scene.path(name), magic).unwrap();
        let faults = scene.faults();
        assert_eq!(faults[0], (None, Fault::Compressed { format }));
        assert!(
            matches!(faults[1].1, Fault::BeginningMissing { .. }),
            "{faults:?}"
        );
        assert_eq!(
            report::summarize(&scene.options.file).unwrap().compressed,
            1
        );
    }
    fs::remove_file(scene.path("trail.2.gz")).unwrap();
    fs::write(scene.path("trail.2"), aside).unwrap();
    scene.assert_clean();
}

/// No forged number moves a file to another place, and none keeps the verifier
/// at work.
#[test]
fn what_is_forged_does_not_sort() {
    let scene = renamed();
    let text = fs::read_to_string(scene.path("trail.1")).unwrap();
    let first = text.lines().next().unwrap();
    let parsed = line::Parsed::new(first.as_bytes()).unwrap();
    for (from, to) in [
        (
            format!("\"seq\":{}", parsed.seq),
            "\"seq\":99999".to_owned(),
        ),
        (
            format!("\"epoch\":{}", parsed.epoch),
            format!("\"epoch\":{}", u64::MAX),
        ),
        (
            format!("\"epoch\":{}", parsed.epoch),
            "\"epoch\":4000".to_owned(),
        ),
    ] {
        let forged = first.replacen(&from, &to, 1);
        assert_ne!(forged, first);
        fs::write(scene.path("trail.1"), text.replacen(first, &forged, 1)).unwrap();
        let verification = scene.verify();
        assert!(!verification.is_clean());
        assert_eq!(verification.files.len(), 3, "{verification:#?}");
        // That line, and no other.
        let lines = verification.findings.iter().map(|found| found.line);
        assert!(
            lines.flatten().all(|line| line <= 2),
            "{:?}",
            verification.findings
        );
    }
}
