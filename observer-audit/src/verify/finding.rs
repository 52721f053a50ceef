//! What can be wrong with a trail.

use std::path::PathBuf;

use serde::Serialize;
use thiserror::Error;

/// Something wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// Its line, counted from 1; `None`: the whole file.
    pub line: Option<u64>,
    /// What is wrong.
    #[serde(flatten)]
    pub fault: Fault,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Error)]
#[serde(tag = "fault", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// Not of the form that the observer writes.
    #[error("this is no line of the trail")]
    Malformed,
    /// Its MAC does not fit.
    #[error("line {seq} was edited or forged: its MAC does not fit")]
    Edited {
        /// The number that it claims.
        seq: u64,
    },
    /// It verifies, but was written after another line than the one before it
    /// in the file.
    #[error("line {seq} does not follow the line before it")]
    Unlinked {
        /// Its number.
        seq: u64,
    },
    /// It is of another epoch: an epoch ends with its seal, and only so.
    #[error("line {seq} is of epoch {epoch}, and epoch {expected} is due here")]
    WrongEpoch {
        /// Its number.
        seq: u64,
        /// The epoch under whose key it verifies.
        epoch: u64,
        /// The epoch that belongs here.
        expected: u64,
    },
    /// Lines are missing before it.
    #[error("{} missing here", lines(*.from, *.through))]
    Missing {
        /// The first of them.
        from: u64,
        /// The last of them.
        through: u64,
    },
    /// It verifies, but stands in the wrong place, or twice.
    #[error("line {seq} was moved or copied here, where line {expected} belongs")]
    Misplaced {
        /// Its number.
        seq: u64,
        /// The number that belongs here.
        expected: u64,
    },
    /// The file ends within a line, or with something that was appended.
    #[error(
        "after the last whole line there are {bytes} bytes: a line cut off in the middle, or \
         something that was appended"
    )]
    Torn {
        /// How many.
        bytes: u64,
    },
    /// The trail does not begin with its first line, and no line records that
    /// the observer removed those before.
    #[error("{} missing, and no retention accounts for that", lines(1, *.through))]
    BeginningMissing {
        /// The last of them.
        through: u64,
    },
    /// The host's key file records lines that are not there.
    #[error(
        "the end was cut off: the key file records lines up to {through}, here line {last} is the last"
    )]
    Cut {
        /// The last line that there is.
        last: u64,
        /// The last line that the key file records.
        through: u64,
    },
    /// There is no ordered stop where one is expected.
    #[error(
        "the trail ends with line {last} and no ordered stop: either the observer was killed or \
         still runs, or the end was cut off (the host's key file shows which)"
    )]
    OpenEnd {
        /// The last line.
        last: u64,
    },
    /// The key file's key or position is not this trail's.
    #[error("the host's key file was forged or is damaged: it does not fit the trail")]
    KeyFileForged,
    /// The trail continues after the position of the key file.
    #[error("the host's key file was rolled back to epoch {epoch}: the trail is in epoch {trail}")]
    KeyFileOld {
        /// The key file's.
        epoch: u64,
        /// The trail's.
        trail: u64,
    },
    /// Its name is that of another rotated file.
    #[error("this file begins with line {seq}, and its name says line {named}: it was renamed")]
    Misnamed {
        /// Its first line.
        seq: u64,
        /// The first line of the file that the observer gave this name.
        named: u64,
    },
    /// The trail was broken when it was continued.
    #[error(
        "the trail was broken before line {seq} ({found}), and {bytes} bytes that did not verify \
         stood there: any lines in their place are lost"
    )]
    Continued {
        /// The line that says so.
        seq: u64,
        /// How much did not verify.
        bytes: u64,
        /// What was wrong.
        found: String,
    },
    /// Not one line of it verifies.
    #[error("this is no file of the trail: no line in it verifies")]
    Foreign,
    /// Compressed, and so not read.
    #[error(
        "this file is compressed ({format}) and was not read: decompress it, and verify what comes \
         out in its place"
    )]
    Compressed {
        /// The compressor.
        format: &'static str,
    },
    /// It begins with the same line as another file.
    #[error("this is a copy of {}, or of a part of it", of.display())]
    Copied {
        /// The other file.
        of: PathBuf,
    },
    /// Not one line.
    #[error("there is no line that verifies")]
    Empty,
}

/// Lines from one to another, as a sentence about them begins.
fn lines(from: u64, through: u64) -> String {
    if from == through {
        format!("line {from} is")
    } else {
        format!("lines {from} to {through} are")
    }
}
