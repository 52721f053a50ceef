//! The record as userspace reads it: from bytes of exactly its length, and
//! its numbers through checks.

use observer_common::record::{Program, Record, TaskKind};
use zerocopy::{FromBytes, IntoBytes};

const LEN: usize = size_of::<Record>();

#[test]
fn bytes_and_record_are_the_same() {
    let bytes: [u8; LEN] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    let record = Record::read_from_bytes(&bytes).expect("the length fits");
    assert_eq!(record.as_bytes(), bytes);
    assert_eq!(record.time_ns, u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7]));
    assert_eq!(
        (record.program, record.task_kind, record.level),
        (52, 53, 54)
    );
    assert_eq!(record.comm[0], 56);
    assert_eq!((record.frame[0], record.frame[31]), (72, 103));
    assert_eq!(record.source_address[0], 104);
    assert_eq!(record.source_port, u16::from_ne_bytes([120, 121]));
}

#[test]
fn no_other_length_is_a_record() {
    let bytes = [0; LEN * 2];
    for len in 0..=bytes.len() {
        assert_eq!(
            Record::read_from_bytes(&bytes[..len]).is_ok(),
            len == LEN,
            "{len} bytes"
        );
    }
}

#[test]
fn unknown_numbers_are_refused() {
    for number in 0..=u8::MAX {
        match Program::try_from(number) {
            Ok(program) => assert_eq!(program as u8, number),
            Err(refused) => assert_eq!(refused, number),
        }
        match TaskKind::try_from(number) {
            Ok(kind) => assert_eq!(kind as u8, number),
            Err(refused) => assert_eq!(refused, number),
        }
    }
    assert_eq!(
        (0..=u8::MAX)
            .filter(|&number| Program::try_from(number).is_ok())
            .count(),
        3
    );
    assert_eq!(
        (0..=u8::MAX)
            .filter(|&number| TaskKind::try_from(number).is_ok())
            .count(),
        4
    );
}
