//! The VLP 0.2 frame: 32 bytes, little-endian, and its only codec.
//!
//! | bytes  | field     |                                              |
//! |--------|-----------|----------------------------------------------|
//! | 0..2   | magic     | `VA`                                         |
//! | 2      | version   | 2                                            |
//! | 3      | status    | [`Status`]                                   |
//! | 4..8   | pid       | the process that the sender claims to be     |
//! | 8..16  | timestamp | nanoseconds since some epoch of the sender's |
//! | 16..24 | nonce     | counts up from 1; `u64::MAX`: the last frame |
//! | 24..28 | payload   | the application's own                        |
//! | 28..32 | crc       | CRC-32C (RFC 3720, appendix B.4) of 0..28    |
//!
//! The wire is that of the public crate varta-vlp 0.2.0.

/// Length of a frame in bytes.
pub const FRAME_LEN: usize = 32;

/// First two bytes of every frame.
pub const MAGIC: [u8; 2] = *b"VA";

/// The protocol version that this codec speaks.
pub const VERSION: u8 = 2;

/// The nonce of a terminal frame, allowed with [`Status::Critical`] only.
pub const NONCE_TERMINAL: u64 = u64::MAX;

/// The health that an agent claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// Healthy.
    Ok = 0,
    /// Working with trouble.
    Degraded = 1,
    /// About to die, or in need of help.
    Critical = 2,
}

#[cfg(feature = "user")]
impl Status {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Critical => "critical",
        }
    }
}

/// The process that 32 bytes claim as their sender, be they a frame or not. The
/// filter compares it without computing the checksum.
#[must_use]
pub const fn claimed_pid(bytes: &[u8; FRAME_LEN]) -> u32 {
    u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])
}

/// Whether 32 bytes claim status critical, be they a frame or not.
#[must_use]
pub const fn claims_critical(bytes: &[u8; FRAME_LEN]) -> bool {
    bytes[3] == Status::Critical as u8
}

/// The byte that stands for "stalled" in the protocol's status table. Only an
/// observer may use it.
#[cfg(feature = "user")]
const STATUS_STALL: u8 = 3;

/// A decoded frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Health that the sender claims.
    pub status: Status,
    /// Process that the sender claims to be; never 0 or 1.
    pub pid: u32,
    /// Nanoseconds since an epoch of the sender's choosing.
    pub timestamp: u64,
    /// Counts up from 1 in each session of the sender.
    pub nonce: u64,
    /// The agent's own number.
    pub payload: u32,
}

/// Why 32 bytes are no frame. Checks run in the order of the variants; the
/// first failure is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The first two bytes are not [`MAGIC`].
    BadMagic,
    /// The version is not [`VERSION`].
    BadVersion,
    /// The checksum does not fit the bytes.
    BadCrc {
        /// Computed over the bytes received.
        expected: u32,
        /// Carried by the frame.
        actual: u32,
    },
    /// A status byte that stands for nothing.
    BadStatus(u8),
    /// The status that only an observer may use.
    StallOnWire,
    /// Pid 0 or 1.
    BadPid(u32),
    /// The reserved timestamp `u64::MAX`.
    BadTimestamp(u64),
    /// [`NONCE_TERMINAL`] with a status other than critical.
    BadNonce {
        /// The nonce carried by the frame.
        nonce: u64,
        /// The status carried by the frame.
        status: Status,
    },
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::BadMagic => f.write_str("bad magic"),
            Self::BadVersion => f.write_str("bad version"),
            Self::BadCrc { expected, actual } => {
                write!(
                    f,
                    "bad CRC-32C: expected {expected:#010x}, got {actual:#010x}"
                )
            }
            Self::BadStatus(byte) => write!(f, "bad status {byte:#04x}"),
            Self::StallOnWire => f.write_str("status stall is the observer's to give"),
            Self::BadPid(pid) => write!(f, "reserved pid {pid}"),
            Self::BadTimestamp(_) => f.write_str("reserved timestamp"),
            Self::BadNonce { status, .. } => {
                write!(f, "terminal nonce with status {status:?}")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

impl DecodeError {
    /// Stable name of the error, the same as the variant's.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::BadMagic => "BadMagic",
            Self::BadVersion => "BadVersion",
            Self::BadCrc { .. } => "BadCrc",
            Self::BadStatus(_) => "BadStatus",
            Self::StallOnWire => "StallOnWire",
            Self::BadPid(_) => "BadPid",
            Self::BadTimestamp(_) => "BadTimestamp",
            Self::BadNonce { .. } => "BadNonce",
        }
    }

    /// The same name in `snake_case`, as all other names in reports are, and as
    /// counters are named.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BadMagic => "bad_magic",
            Self::BadVersion => "bad_version",
            Self::BadCrc { .. } => "bad_crc",
            Self::BadStatus(_) => "bad_status",
            Self::StallOnWire => "stall_on_wire",
            Self::BadPid(_) => "bad_pid",
            Self::BadTimestamp(_) => "bad_timestamp",
            Self::BadNonce { .. } => "bad_nonce",
        }
    }
}

/// The lowest pid that VLP allows: 0 names nobody and 1 the init process.
#[cfg(feature = "user")]
const LOWEST_PID: u32 = 2;

#[cfg(feature = "user")]
impl Frame {
    /// Reads a frame from its bytes.
    ///
    /// # Errors
    /// The first check that fails, in the order of [`DecodeError`]'s variants.
    pub fn decode(bytes: &[u8; FRAME_LEN]) -> Result<Self, DecodeError> {
        Self::decode_from(bytes, LOWEST_PID)
    }

    /// Reads a frame whose sender may be the first process of a pid namespace
    /// of its own, where pid 1 is a valid claim.
    ///
    /// # Errors
    /// As [`Frame::decode`], with [`DecodeError::BadPid`] for pid 0 only.
    pub fn decode_in_container(bytes: &[u8; FRAME_LEN]) -> Result<Self, DecodeError> {
        Self::decode_from(bytes, LOWEST_PID - 1)
    }

    fn decode_from(bytes: &[u8; FRAME_LEN], lowest_pid: u32) -> Result<Self, DecodeError> {
        let wire: &Wire = zerocopy::transmute_ref!(bytes);
        if wire.magic != MAGIC {
            return Err(DecodeError::BadMagic);
        }
        if wire.version != VERSION {
            return Err(DecodeError::BadVersion);
        }
        let (expected, actual) = (checksum(bytes), wire.crc.get());
        if expected != actual {
            return Err(DecodeError::BadCrc { expected, actual });
        }
        let status = match wire.status {
            0 => Status::Ok,
            1 => Status::Degraded,
            2 => Status::Critical,
            STATUS_STALL => return Err(DecodeError::StallOnWire),
            other => return Err(DecodeError::BadStatus(other)),
        };
        let frame = Self {
            status,
            pid: wire.pid.get(),
            timestamp: wire.timestamp.get(),
            nonce: wire.nonce.get(),
            payload: wire.payload.get(),
        };
        frame.check_ranges(lowest_pid)
    }

    fn check_ranges(self, lowest_pid: u32) -> Result<Self, DecodeError> {
        let Self {
            status,
            pid,
            timestamp,
            nonce,
            payload: _,
        } = self;
        if pid < lowest_pid {
            return Err(DecodeError::BadPid(pid));
        }
        if timestamp == u64::MAX {
            return Err(DecodeError::BadTimestamp(timestamp));
        }
        if nonce == NONCE_TERMINAL && status != Status::Critical {
            return Err(DecodeError::BadNonce { nonce, status });
        }
        Ok(self)
    }

    /// Writes the frame as its bytes. It is not checked: tests need frames that
    /// [`Frame::decode`] refuses.
    #[must_use]
    pub fn encode(&self) -> [u8; FRAME_LEN] {
        let mut wire = Wire {
            magic: MAGIC,
            version: VERSION,
            status: self.status as u8,
            pid: self.pid.into(),
            timestamp: self.timestamp.into(),
            nonce: self.nonce.into(),
            payload: self.payload.into(),
            crc: 0.into(),
        };
        let unsigned: [u8; FRAME_LEN] = zerocopy::transmute!(wire);
        wire.crc = checksum(&unsigned).into();
        zerocopy::transmute!(wire)
    }
}

/// The bytes of a frame by field, without alignment.
#[cfg(feature = "user")]
#[derive(
    Clone,
    Copy,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
    zerocopy::Unaligned,
)]
#[repr(C)]
struct Wire {
    magic: [u8; 2],
    version: u8,
    status: u8,
    pid: zerocopy::little_endian::U32,
    timestamp: zerocopy::little_endian::U64,
    nonce: zerocopy::little_endian::U64,
    payload: zerocopy::little_endian::U32,
    crc: zerocopy::little_endian::U32,
}

/// The checksum that belongs at the end of the frame.
#[cfg(feature = "user")]
fn checksum(bytes: &[u8; FRAME_LEN]) -> u32 {
    let (covered, _crc) = bytes.split_at(FRAME_LEN - 4);
    crc32c::crc32c(covered)
}
