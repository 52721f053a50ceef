//! When lines are on the disk.

use super::*;

/// A line is on the disk as soon as the policy says, and no earlier for
/// nothing.
#[test]
fn lines_are_on_the_disk_when_the_policy_says() {
    let later = Duration::from_mins(10);
    let second = Duration::from_secs(1);
    for (sync_after, is_synced) in [(Some(second), true), (None, false)] {
        let scene = Scene::new();
        let options = Options {
            sync_after,
            seal_after: later,
            ..scene.options.clone()
        };
        let trail = Trail::open(&options).unwrap();
        assert_eq!(trail.on_disk(), 1, "the start is there at once");
        let began = Instant::now();
        trail.incident(incident(1));
        if is_synced {
            std::thread::sleep(Duration::from_millis(200));
            assert_eq!(trail.on_disk(), 1);
            wait_for(&trail, 2);
            assert!(began.elapsed() < second, "{:?}", began.elapsed());
        } else {
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(trail.on_disk(), 1);
        }
        // Others can read it meanwhile.
        assert_eq!(scene.lines().len(), 2);
        trail.close("test", Duration::from_secs(10)).unwrap();
        scene.assert_clean();
    }
}

/// With the next seal, a seal is what puts the lines on the disk.
#[test]
fn a_seal_is_on_the_disk_at_once() {
    let scene = Scene::new();
    let options = Options {
        sync_after: None,
        seal_after: Duration::from_millis(100),
        ..scene.options.clone()
    };
    let trail = Trail::open(&options).unwrap();
    trail.incident(incident(1));
    wait_for(&trail, 3);
    assert!(scene.lines()[2].contains("\"kind\":\"seal\""));
    trail.close("test", Duration::from_secs(10)).unwrap();
}
