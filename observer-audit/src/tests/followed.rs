//! Followers of a file that other programs move, empty and remove.

use crate::follow::{Change, Follower, Seen};

use super::*;

/// What a follower has seen until it sees nothing new: numbers of lines, and
/// changes.
fn look(follower: &mut Follower) -> (Vec<u64>, Vec<Change>) {
    let (mut lines, mut changes) = (Vec::new(), Vec::new());
    let mut was_nothing = false;
    loop {
        match follower.look().unwrap() {
            Seen::Line(line) => lines.extend(line::first_seq(line)),
            Seen::Change(change) => changes.push(change),
            // A file that ends is one look without a line.
            Seen::Nothing if was_nothing => return (lines, changes),
            Seen::Nothing => was_nothing = true,
        }
    }
}

/// A trail whose runs are of one epoch each, so that their lines can be counted.
fn in_one_epoch() -> Scene {
    let mut scene = Scene::new();
    scene.options.seal_after = Duration::from_secs(100);
    scene
}

fn seqs(from: u64, through: u64) -> Vec<u64> {
    (from..=through).collect()
}

#[test]
fn a_file_that_is_not_there_is_waited_for_and_that_is_said_once() {
    let scene = in_one_epoch();
    let mut follower = Follower::new(&scene.options.file, true);
    assert_eq!(look(&mut follower), (vec![], vec![Change::Absent]));
    assert_eq!(look(&mut follower), (vec![], vec![]));
    scene.run(1);
    assert_eq!(look(&mut follower), (seqs(1, 4), vec![]));
}

#[test]
fn a_rename_by_others_is_said() {
    let scene = in_one_epoch();
    scene.run(1);
    let mut follower = Follower::new(&scene.options.file, true);
    assert_eq!(look(&mut follower), (seqs(1, 4), vec![]));
    fs::rename(&scene.options.file, scene.path("trail.1")).unwrap();
    let to = "trail.1".into();
    let renamed = vec![Change::Renamed { to }, Change::Absent];
    assert_eq!(look(&mut follower), (vec![], renamed));
    scene.run(1);
    let (lines, changes) = look(&mut follower);
    assert_eq!((lines[0], changes), (5, vec![]));
    // An empty file that logrotate makes is none that could be lost.
    fs::rename(&scene.options.file, scene.path("trail.2")).unwrap();
    fs::write(&scene.options.file, "").unwrap();
    let to = "trail.2".into();
    assert_eq!(look(&mut follower).1, [Change::Renamed { to }]);
    fs::remove_file(&scene.options.file).unwrap();
    assert_eq!(look(&mut follower).1, [Change::Absent]);
    scene.run(1);
    assert_eq!(look(&mut follower).1, []);
    fs::remove_file(&scene.options.file).unwrap();
    assert_eq!(look(&mut follower).1, [Change::Removed, Change::Absent]);
}

#[test]
fn a_cut_by_others_is_said_and_what_comes_then_is_shown() {
    let scene = Scene::new();
    let trail = scene.open();
    trail.incident(incident(1));
    wait_for(&trail, 3);
    let mut follower = Follower::new(&scene.options.file, true);
    assert_eq!(look(&mut follower), (seqs(1, 3), vec![]));
    let text = scene.text();
    fs::write(&scene.options.file, "").unwrap();
    let (lines, changes) = look(&mut follower);
    let read = text.len() as u64;
    assert_eq!(
        (lines, changes),
        (vec![], vec![Change::Truncated { read, now: 0 }])
    );
    trail.incident(incident(2));
    trail.close("test", Duration::from_secs(10)).unwrap();
    let (lines, changes) = look(&mut follower);
    assert_eq!((lines[0], changes), (4, vec![]));
    let next = lines.len() as u64 + 4;
    // In the middle of it: what was shown is not shown again.
    let text = scene.text();
    let file = fs::OpenOptions::new().write(true).open(&scene.options.file);
    file.unwrap().set_len(text.len() as u64 / 2).unwrap();
    let (lines, changes) = look(&mut follower);
    assert!(lines.is_empty(), "{lines:?}");
    assert!(matches!(changes[..], [Change::Truncated { .. }]));
    // Emptied and filled again before anybody looked.
    let more = text.replace(
        &format!("\"seq\":{}", next - 1),
        &format!("\"seq\":{}", next + 9),
    );
    fs::write(&scene.options.file, "x\n".repeat(200) + &more).unwrap();
    let (lines, changes) = look(&mut follower);
    assert_eq!(lines.last(), Some(&(next + 9)));
    assert!(
        matches!(
            changes[..],
            [Change::Truncated { .. }, Change::Missing { .. }]
        ),
        "{changes:?}"
    );
}

#[test]
fn lines_that_were_not_seen_are_said() {
    let scene = in_one_epoch();
    scene.run(3);
    let lines = scene.lines();
    let mut follower = Follower::new(&scene.options.file, true);
    scene.write(&[&lines[..2], &lines[4..]].concat());
    let (seen, changes) = look(&mut follower);
    assert_eq!(seen, [seqs(1, 2), seqs(5, 6)].concat());
    let missing = Change::Missing {
        from: 3,
        through: 4,
    };
    assert_eq!(changes, [missing]);
}
