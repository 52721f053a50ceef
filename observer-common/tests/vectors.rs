//! The codec against the protocol's published vectors.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use observer_common::frame::{DecodeError, FRAME_LEN, Frame, Status};
use serde_json::Value;

const VECTORS: &str = include_str!("../vectors/vlp-frames.json");

#[test]
fn frames() {
    let mut seen = 0;
    for vector in entries("frames") {
        let id = text(&vector, "id");
        let bytes: [u8; FRAME_LEN] = unhex(text(&vector, "wire_hex"))
            .try_into()
            .expect("32 bytes");
        if let Some(error) = vector.get("error") {
            let refused = Frame::decode(&bytes).expect_err(id);
            assert_eq!(refused.name(), error.as_str().unwrap(), "{id}");
        } else {
            let frame = expected(&vector);
            assert_eq!(Frame::decode(&bytes), Ok(frame), "{id}");
            assert_eq!(frame.encode(), bytes, "{id}: encoded");
        }
        seen += 1;
    }
    assert_eq!(seen, 15);
}

/// The checksum of a frame is the crate's plain CRC-32C, the one that the
/// vectors are of.
#[test]
fn checksums() {
    let mut seen = 0;
    for vector in entries("crc32c") {
        let expected = u32::from_str_radix(text(&vector, "crc_hex"), 16).unwrap();
        let input = unhex(text(&vector, "input_hex"));
        assert_eq!(crc32c::crc32c(&input), expected, "{}", text(&vector, "id"));
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[test]
fn the_vectors_reach_every_error() {
    let mut names: Vec<String> = entries("frames")
        .iter()
        .filter_map(|vector| Some(vector.get("error")?.as_str()?.to_owned()))
        .collect();
    names.sort();
    names.dedup();
    let (expected, actual) = (0, 0);
    let nonce = u64::MAX;
    let mut every = [
        DecodeError::BadMagic,
        DecodeError::BadVersion,
        DecodeError::BadCrc { expected, actual },
        DecodeError::BadStatus(0),
        DecodeError::StallOnWire,
        DecodeError::BadPid(0),
        DecodeError::BadTimestamp(0),
        DecodeError::BadNonce {
            nonce,
            status: Status::Ok,
        },
    ]
    .map(|error| error.name());
    every.sort_unstable();
    assert_eq!(names, every);
}

fn expected(vector: &Value) -> Frame {
    let number = |name: &str| {
        vector[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {vector}"))
    };
    Frame {
        status: match text(vector, "status") {
            "ok" => Status::Ok,
            "degraded" => Status::Degraded,
            "critical" => Status::Critical,
            other => panic!("status {other}"),
        },
        pid: number("pid").try_into().unwrap(),
        timestamp: number("timestamp"),
        nonce: number("nonce"),
        payload: number("payload").try_into().unwrap(),
    }
}

fn entries(name: &str) -> Vec<Value> {
    let vectors: Value = serde_json::from_str(VECTORS).expect("JSON");
    vectors[name].as_array().expect("an array").clone()
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name}: {vector}"))
}

fn unhex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}
