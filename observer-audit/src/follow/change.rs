//! What happens to a trail's file beside lines.

use std::fmt;

/// What somebody else did to the file that is followed, or what is missing in
/// it. Its text says so to people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// There is no file. It is waited for.
    Absent,
    /// The file was cut.
    Truncated {
        /// How much of it had been read, in bytes.
        read: u64,
        /// How long it is now, in bytes.
        now: u64,
    },
    /// The file has another name now, and not one that the observer gives.
    Renamed {
        /// Its name.
        to: String,
    },
    /// The file was removed, or moved to another folder.
    Removed,
    /// Numbers are left out.
    Missing {
        /// The first line that was not seen.
        from: u64,
        /// The last one.
        through: u64,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("the file is not there: waiting for it"),
            Self::Truncated { read, now } => write!(
                f,
                "the file was cut, and not by the observer ({read} bytes were read, {now} are there): \
                 reading it from its beginning"
            ),
            Self::Renamed { to } => write!(
                f,
                "the file was renamed to {to}, and not by the observer: going on with the next one"
            ),
            Self::Removed => {
                f.write_str("the file was removed or moved away: going on with the next one")
            }
            Self::Missing { from, through } => {
                write!(f, "lines {from} to {through} were not seen")
            }
        }
    }
}
