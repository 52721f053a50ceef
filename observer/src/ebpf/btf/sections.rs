//! Where the sections of a BTF file are.

use std::ops::Range;

use super::{BtfError, at, index, word};

/// `BTF_MAGIC`
pub(in crate::ebpf) const MAGIC: u16 = 0xeb9f;

/// `BTF_VERSION`
pub(super) const VERSION: u8 = 1;

/// Length of `struct btf_header` before Linux 7.1. What is longer has more
/// sections: the length says which of them the file has.
const HEADER_LEN: usize = 24;

/// Its length with `layout_off` and `layout_len` (Linux 7.1 and later).
const HEADER_LEN_WITH_LAYOUT: usize = 32;

/// The sections, by where they begin and end in the file.
#[derive(Clone, Debug)]
pub(super) struct Sections {
    pub(super) types: Range<usize>,
    pub(super) strings: Range<usize>,
    /// Empty: the file has none.
    pub(super) layout: Range<usize>,
}

impl Sections {
    /// Reads the header, and checks that the sections are in the file.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, BtfError> {
        if at(bytes, 0).map(u16::from_ne_bytes) != Some(MAGIC) {
            return Err(BtfError::Magic);
        }
        let [version] = at(bytes, 2).ok_or(BtfError::Truncated)?;
        if version != VERSION {
            return Err(BtfError::Version(version));
        }
        let header = index(word(bytes, 4).ok_or(BtfError::Truncated)?);
        let section = |field| section(bytes, header, field).ok_or(BtfError::Truncated);
        if header < HEADER_LEN {
            return Err(BtfError::Truncated);
        }
        Ok(Self {
            types: section(8)?,
            strings: section(16)?,
            layout: if header < HEADER_LEN_WITH_LAYOUT {
                0..0
            } else {
                section(24)?
            },
        })
    }
}

/// The section of which offset and length are here in the header.
fn section(bytes: &[u8], header: usize, field: usize) -> Option<Range<usize>> {
    let start = header.checked_add(index(word(bytes, field)?))?;
    let length = index(word(bytes, field.checked_add(4)?)?);
    let end = start.checked_add(length)?;
    (end <= bytes.len()).then_some(start..end)
}
