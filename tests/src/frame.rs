//! Frames as agents send them.

use observer_common::frame::{FRAME_LEN, Frame, Status};

/// A frame that claims to be of a process.
#[must_use]
pub fn frame(pid: u32, nonce: u64) -> [u8; FRAME_LEN] {
    Frame {
        status: Status::Ok,
        pid,
        timestamp: 0,
        nonce,
        payload: 0,
    }
    .encode()
}
