//! The codec against the public one, varta-vlp: the same result for every
//! input.

#![expect(clippy::panic, reason = "a test may panic")]

use observer_common::frame::{DecodeError, FRAME_LEN, Frame, Status};
use proptest::prelude::*;

/// Offset of the checksum.
const CRC: usize = FRAME_LEN - 4;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn random_bytes(bytes: [u8; FRAME_LEN]) {
        agree(&bytes)?;
    }

    /// Past magic, version and checksum, so that the ranges are reached.
    #[test]
    fn bytes_with_an_honest_checksum(mut bytes: [u8; FRAME_LEN], status in 0..6_u8, pid in pid()) {
        bytes[..4].copy_from_slice(&[b'V', b'A', 2, status]);
        bytes[4..8].copy_from_slice(&pid.to_le_bytes());
        sign(&mut bytes);
        agree(&bytes)?;
    }

    #[test]
    fn frames(frame in frame()) {
        let bytes = frame.encode();
        prop_assert_eq!(bytes, encode_by_reference(&frame));
        agree(&bytes)?;
    }

    #[test]
    fn mutated_frames(frame in frame(), at in 0..FRAME_LEN, byte: u8, resign: bool) {
        let mut bytes = frame.encode();
        bytes[at] = byte;
        if resign {
            sign(&mut bytes);
        }
        agree(&bytes)?;
    }

    #[test]
    fn what_is_encoded_is_decoded(frame in valid_frame()) {
        prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }

    /// In a container pid 1 is a pid like any other; nothing else differs.
    #[test]
    fn pid_1_is_honest_in_a_container(frame in frame()) {
        let bytes = frame.encode();
        let expected = match Frame::decode(&bytes) {
            Err(DecodeError::BadPid(1)) => {
                let other = Frame { pid: 2, ..frame };
                Frame::decode(&other.encode()).map(|_| frame)
            }
            result => result,
        };
        prop_assert_eq!(Frame::decode_in_container(&bytes), expected);
    }

    /// A CRC finds every single error; magic and version are compared first.
    #[test]
    fn no_flipped_bit_passes(frame in valid_frame()) {
        for bit in 0..FRAME_LEN * 8 {
            let mut bytes = frame.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Frame::decode(&bytes).is_err(), "bit {}", bit);
        }
    }
}

fn agree(bytes: &[u8; FRAME_LEN]) -> Result<(), TestCaseError> {
    prop_assert_eq!(Frame::decode(bytes), decode_by_reference(bytes));
    Ok(())
}

fn decode_by_reference(bytes: &[u8; FRAME_LEN]) -> Result<Frame, DecodeError> {
    use varta_vlp::DecodeError as Theirs;
    let varta_vlp::Frame {
        status,
        pid,
        timestamp,
        nonce,
        payload,
        ..
    } = varta_vlp::Frame::decode(bytes).map_err(|error| match error {
        Theirs::BadMagic => DecodeError::BadMagic,
        Theirs::BadVersion => DecodeError::BadVersion,
        Theirs::BadCrc { expected, actual } => DecodeError::BadCrc { expected, actual },
        Theirs::BadStatus(byte) => DecodeError::BadStatus(byte),
        Theirs::StallOnWire => DecodeError::StallOnWire,
        Theirs::BadPid(pid) => DecodeError::BadPid(pid),
        Theirs::BadTimestamp(timestamp) => DecodeError::BadTimestamp(timestamp),
        Theirs::BadNonce { nonce, status } => DecodeError::BadNonce {
            nonce,
            status: ours(status),
        },
    })?;
    Ok(Frame {
        status: ours(status),
        pid,
        timestamp,
        nonce,
        payload,
    })
}

fn encode_by_reference(frame: &Frame) -> [u8; FRAME_LEN] {
    let Frame {
        status,
        pid,
        timestamp,
        nonce,
        payload,
    } = *frame;
    let status = match status {
        Status::Ok => varta_vlp::Status::Ok,
        Status::Degraded => varta_vlp::Status::Degraded,
        Status::Critical => varta_vlp::Status::Critical,
    };
    let mut bytes = [0; FRAME_LEN];
    varta_vlp::Frame::new(status, pid, timestamp, nonce, payload).encode(&mut bytes);
    bytes
}

fn ours(status: varta_vlp::Status) -> Status {
    match status {
        varta_vlp::Status::Ok => Status::Ok,
        varta_vlp::Status::Degraded => Status::Degraded,
        varta_vlp::Status::Critical => Status::Critical,
        varta_vlp::Status::Stall => panic!("the reference let a stall pass"),
    }
}

fn sign(bytes: &mut [u8; FRAME_LEN]) {
    let crc = crc32c::crc32c(&bytes[..CRC]);
    bytes[CRC..].copy_from_slice(&crc.to_le_bytes());
}

/// Frames of all kinds, those at the edges often.
fn frame() -> impl Strategy<Value = Frame> {
    let status = prop_oneof![
        Just(Status::Ok),
        Just(Status::Degraded),
        Just(Status::Critical)
    ];
    (status, pid(), edge(), edge(), any::<u32>()).prop_map(
        |(status, pid, timestamp, nonce, payload)| Frame {
            status,
            pid,
            timestamp,
            nonce,
            payload,
        },
    )
}

fn valid_frame() -> impl Strategy<Value = Frame> {
    frame().prop_map(|frame| Frame {
        pid: frame.pid.max(2),
        timestamp: frame.timestamp.min(u64::MAX - 1),
        status: if frame.nonce == u64::MAX {
            Status::Critical
        } else {
            frame.status
        },
        ..frame
    })
}

fn pid() -> impl Strategy<Value = u32> {
    prop_oneof![0..4_u32, any::<u32>()]
}

fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![3 => any::<u64>(), 1 => 0..3_u64, 1 => u64::MAX - 2..=u64::MAX]
}
