//! What flooders send.

use std::str::FromStr;

use observer_common::frame::FRAME_LEN;
use serde::{Deserialize, Serialize};

use crate::frame;

/// A kind of flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flood {
    /// One byte.
    Byte,
    /// As many bytes as a frame has, which are none. They end with the
    /// flooder's pid: no two flooders send the same.
    Garbage,
    /// The same with a number in it: no two datagrams are the same.
    Noise,
    /// The same frame over and over.
    Stale,
    /// Frames in another's name, with ever new nonces.
    Spoofed,
    /// Frames in the flooder's own name, with ever new nonces.
    Honest,
}

/// A nonce that begins no session, as 0 and 1 do.
const STALE_NONCE: u64 = 2;

/// The bytes of one datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    bytes: [u8; FRAME_LEN],
    length: usize,
}

impl Flood {
    /// The datagram of a number, sent by `own` in the name of `victim` if it
    /// has to be another's.
    #[must_use]
    pub fn datagram(self, own: u32, victim: u32, number: u64) -> Datagram {
        let (bytes, length) = match self {
            Self::Byte => ([0xa5; FRAME_LEN], 1),
            Self::Garbage => (garbage(own, None), FRAME_LEN),
            Self::Noise => (garbage(own, Some(number)), FRAME_LEN),
            Self::Stale => (frame(own, STALE_NONCE).encode(), FRAME_LEN),
            Self::Spoofed => (frame(victim, number).encode(), FRAME_LEN),
            Self::Honest => (frame(own, number).encode(), FRAME_LEN),
        };
        Datagram { bytes, length }
    }
}

/// What begins as no frame does.
fn garbage(own: u32, number: Option<u64>) -> [u8; FRAME_LEN] {
    const FILLING: [u8; 20] = [0xa5; 20];
    let number = number.map_or([0xa5; 8], u64::to_le_bytes);
    let mut bytes = [0; FRAME_LEN];
    let parts = FILLING.into_iter().chain(number).chain(own.to_le_bytes());
    for (byte, value) in bytes.iter_mut().zip(parts) {
        *byte = value;
    }
    bytes
}

impl Datagram {
    /// What to send.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl FromStr for Flood {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "byte" => Ok(Self::Byte),
            "garbage" => Ok(Self::Garbage),
            "noise" => Ok(Self::Noise),
            "stale" => Ok(Self::Stale),
            "spoofed" => Ok(Self::Spoofed),
            "honest" => Ok(Self::Honest),
            _ => Err(format!("there is no flood {name:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use observer_common::frame::Frame;

    use super::*;

    #[test]
    fn what_has_to_be_a_frame_is_one() {
        for (flood, claimed) in [
            (Flood::Byte, None),
            (Flood::Garbage, None),
            (Flood::Noise, None),
            (Flood::Stale, Some(7)),
            (Flood::Spoofed, Some(8)),
            (Flood::Honest, Some(7)),
        ] {
            let datagram = flood.datagram(7, 8, 9);
            let frame = datagram.bytes().first_chunk().map(Frame::decode);
            let pid = frame.and_then(Result::ok).map(|frame| frame.pid);
            assert_eq!(pid, claimed, "{flood:?}");
        }
        assert_eq!(Flood::Byte.datagram(7, 8, 9).bytes(), [0xa5]);
        let garbage = Flood::Garbage.datagram(7, 8, 9);
        assert_eq!(
            garbage.bytes().strip_prefix(&[0xa5; 28]),
            Some(&[7, 0, 0, 0][..])
        );
    }
}
