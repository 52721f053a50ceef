//! Files that hold anything.

use crate::chain::MAX_EPOCH;
use crate::reader::MAX_LINE;

use super::*;

/// Whatever is done to the bytes of a trail or of its keys, nothing panics,
/// and no other text than the one that was written is clean.
#[test]
fn no_damage_passes_and_none_panics() {
    let scene = Scene::new();
    scene.run_in_epochs(3);
    let good = scene.text().into_bytes();
    let key = fs::read(&scene.options.key).unwrap();
    arbtest::arbtest(|u| {
        let text = damaged(&good, u)?;
        fs::write(&scene.options.file, &text).unwrap();
        assert_eq!(scene.verify().is_clean(), text == good, "{text:?}");
        report::summarize(&scene.options.file).unwrap();
        for line in text.split(|&byte| byte == b'\n') {
            let shown = report::Line::parse(line).map(|line| line.to_string());
            assert!(
                shown.is_none_or(|shown| shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)))
            );
        }
        fs::write(&scene.options.key, damaged(&key, u)?).unwrap();
        // Good or bad, and what the trail is, is another question.
        drop(verify(&Input {
            host_key: Some(scene.options.key.clone()),
            ..scene.input()
        }));
        if let Ok(trail) = Trail::open(&scene.options) {
            trail.close("test", Duration::from_secs(10)).unwrap();
        }
        fs::write(&scene.options.key, &key).unwrap();
        Ok(())
    })
    .budget_ms(2000);
}

/// Some bytes changed, put in, cut out or moved.
fn damaged(
    good: &[u8],
    u: &mut arbtest::arbitrary::Unstructured<'_>,
) -> arbtest::arbitrary::Result<Vec<u8>> {
    let mut bytes = good.to_vec();
    for _ in 0..u.int_in_range(0..=3)? {
        let from = u.choose_index(bytes.len().max(1))?.min(bytes.len());
        let to = bytes
            .len()
            .min(from.saturating_add(u.int_in_range(0..=600)?));
        match u.int_in_range(0..=3)? {
            0 => drop(bytes.drain(from..to)),
            1 => {
                let part = bytes[from..to].to_vec();
                let at = u.choose_index(bytes.len().max(1))?.min(bytes.len());
                bytes.splice(at..at, part);
            }
            2 => {
                let other = u.arbitrary::<[u8; 4]>()?;
                bytes.splice(from..to.min(from.saturating_add(4)), other);
            }
            _ => bytes.truncate(from),
        }
    }
    Ok(bytes)
}

#[test]
fn hostile_files_are_read_with_bounded_memory_and_no_panic() {
    let scene = Scene::new();
    scene.run(2);
    let good = scene.text();
    let huge = "x".repeat(3 * MAX_LINE);
    let line = |seq: u64, epoch: u64| {
        let zeros = "0".repeat(64);
        format!(
            "{{\"seq\":{seq},\"epoch\":{epoch},\"prev\":\"{zeros}\",\"time\":\"\",\"kind\":\"seal\",\"mac\":\"{zeros}\"}}"
        )
    };
    let texts = [
        String::new(),
        "\n\n\n".into(),
        huge.clone(),
        format!("{huge}\n{good}"),
        format!("{}\n{good}", line(u64::MAX, u64::MAX)),
        format!("{}\n{good}", line(1, MAX_EPOCH + 1)),
        format!("{good}{}\n", line(u64::MAX, 1)),
        good.replace("\"seq\":2", "\"seq\":99999999999999999999999"),
        good.replace("\"seq\":2", "\"seq\":"),
        good.replace("\"mac\"", "\"\u{1b}[2J\""),
    ];
    for text in texts {
        fs::write(&scene.options.file, &text).unwrap();
        let verification = scene.verify();
        assert!(!verification.is_clean(), "{text:.100}");
        report::summarize(&scene.options.file).unwrap();
    }
}
