//! Bytes of any kind, as a hostile sender or a confused kernel may hand them
//! in: nothing panics, and what is taken for a frame is one.
//!
//! Runs on stable Rust, for a second each; `OBSERVER_FUZZ_SECONDS=600` makes it
//! ten minutes. A failure prints the seed that repeats it.

use arbtest::arbitrary::Unstructured;
use arbtest::arbtest;
use observer_common::frame::{FRAME_LEN, Frame};
use observer_common::record::{Program, Record, TaskKind};
use zerocopy::{FromBytes, IntoBytes};

const LEN: usize = size_of::<Record>();

#[test]
fn frame() {
    fuzz(|input| {
        let bytes: [u8; FRAME_LEN] = input.arbitrary()?;
        let bytes = if input.arbitrary()? {
            sign(bytes)
        } else {
            bytes
        };
        match Frame::decode(&bytes) {
            Ok(frame) => assert_eq!(frame.encode(), bytes),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        Ok(())
    });
}

#[test]
fn record() {
    fuzz(|input| {
        let any_length = input.arbitrary()?;
        let len = if any_length {
            input.int_in_range(0..=2 * LEN)?
        } else {
            LEN
        };
        let mut bytes = vec![0; len];
        input.fill_buffer(&mut bytes)?;
        match Record::read_from_bytes(&bytes) {
            Ok(record) => {
                assert_eq!(record.as_bytes(), bytes);
                read(&record);
            }
            Err(_) => assert_ne!(len, LEN),
        }
        Ok(())
    });
}

fn fuzz(target: impl FnMut(&mut Unstructured<'_>) -> arbtest::arbitrary::Result<()>) {
    let seconds = std::env::var("OBSERVER_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    arbtest(target).budget_ms(seconds.unwrap_or(1_u64).saturating_mul(1000));
}

/// Does with a record what userspace does.
fn read(record: &Record) {
    let Record {
        program,
        task_kind,
        frame,
        ..
    } = *record;
    assert_eq!(
        Program::try_from(program).map_or_else(|refused| refused, |it| it as u8),
        program
    );
    assert_eq!(
        TaskKind::try_from(task_kind).map_or_else(|refused| refused, |it| it as u8),
        task_kind
    );
    if let Ok(decoded) = Frame::decode(&frame) {
        assert_eq!(decoded.encode(), frame);
    }
}

/// Bytes that get past magic, version and checksum, to the checks behind.
fn sign(mut bytes: [u8; FRAME_LEN]) -> [u8; FRAME_LEN] {
    bytes[..3].copy_from_slice(b"VA\x02");
    bytes[3] %= 5;
    let (covered, crc) = bytes.split_at_mut(FRAME_LEN - 4);
    crc.copy_from_slice(&crc32c::crc32c(covered).to_le_bytes());
    bytes
}
