//! Reads field offsets from BTF, the kernel's own description of its types
//! (`Documentation/bpf/btf.rst`, `include/uapi/linux/btf.h`, read in Linux 6.18
//! and in the development tree of 7.1, whose files have 24 bits of members, 7
//! bits of kinds, and a section about the kinds that they use).
//!
//! The observer needs fewer than twenty of some 150,000 types, once. Libraries
//! build all of them, which takes a tenth of a second, and fifty megabytes that
//! the allocator then keeps. So this reader finds types by name in the file.
//! A library is the reference that it is tested against.
//!
//! The file is root's, and trusted. It is read with checked accesses
//! nevertheless: a damaged file is an error, never a panic, and the verifier or
//! the self-test refuses wrong offsets.

mod kind;
mod sections;

use std::ops::Range;

use thiserror::Error;

pub(super) use self::sections::MAGIC;

use self::kind::{Lengths, MEMBER_LEN};
use self::sections::{Sections, VERSION};

/// Length of `struct btf_type`.
const TYPE_LEN: usize = 12;

/// Most modifiers of a type, and most anonymous structures within one another.
/// A file with more is damaged: its types may refer to one another in a circle.
const MAX_DEPTH: usize = 32;

/// Why a file cannot be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum BtfError {
    #[error("it is no BTF of this machine's byte order")]
    Magic,
    #[error("it is BTF of version {0}, not {VERSION}")]
    Version(u8),
    #[error("it ends too early")]
    Truncated,
    #[error("type {id} is of kind {kind}, which is not known, and which it does not describe")]
    Kind { id: usize, kind: u32 },
}

/// The types of a BTF file.
#[derive(Debug)]
pub(super) struct Btf {
    bytes: Vec<u8>,
    /// Where the strings are.
    strings: Range<usize>,
    /// Where each type begins; type 1 is the first, 0 is `void`.
    types: Vec<usize>,
}

/// A structure of a BTF file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Structure<'a> {
    btf: &'a Btf,
    found: Type,
}

/// `struct btf_type`
#[derive(Clone, Copy, Debug)]
struct Type {
    /// Where its members begin, if it has any.
    details: usize,
    name: u32,
    kind: u32,
    members: usize,
    /// Whether members' offsets have the size of a bit field in them.
    has_bit_fields: bool,
    /// Size in bytes, or the type that it refers to.
    value: u32,
}

/// `struct btf_member`
#[derive(Clone, Copy, Debug)]
struct Member {
    name: u32,
    type_id: u32,
    /// From the beginning of the structure, in bits.
    bits: u32,
    is_bit_field: bool,
}

/// A field: where it is, and what.
#[derive(Clone, Copy, Debug)]
struct Field {
    /// In bits.
    offset: u32,
    type_id: u32,
    is_bits: bool,
}

impl Btf {
    /// Finds where each type is.
    ///
    /// # Errors
    /// If the bytes are no BTF, or are damaged.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let Sections {
            types,
            strings,
            layout,
        } = Sections::of(&bytes)?;
        let types = walk(&bytes, types, bytes.get(layout).unwrap_or_default())?;
        Ok(Self {
            bytes,
            strings,
            types,
        })
    }

    /// The first structure of this name. Functions and variables may have the
    /// same name.
    pub(super) fn structure(&self, name: &str) -> Option<Structure<'_>> {
        let all = self.types.iter().filter_map(|&offset| self.type_at(offset));
        all.into_iter()
            .find(|found| found.kind == kind::STRUCT && self.is_named(found.name, name))
            .map(|found| Structure { btf: self, found })
    }

    /// The id of the first structure of this name.
    pub(super) fn structure_id(&self, name: &str) -> Option<u32> {
        self.id(kind::STRUCT, name)
    }

    /// The id of the first function of this name.
    pub(super) fn function_id(&self, name: &str) -> Option<u32> {
        self.id(kind::FUNC, name)
    }

    /// Types are numbered from 1, in their order in the file.
    fn id(&self, kind: u32, name: &str) -> Option<u32> {
        let at = self.types.iter().position(|&offset| {
            self.type_at(offset)
                .is_some_and(|found| found.kind == kind && self.is_named(found.name, name))
        })?;
        u32::try_from(at).ok()?.checked_add(1)
    }

    /// A field of a structure, or of an anonymous one in it, whose fields count
    /// as the outer one's in C.
    fn field(&self, structure: Type, name: &str, depth: usize) -> Option<Field> {
        let depth = depth.checked_sub(1)?;
        for index in 0..structure.members {
            let member = self.member(structure, index)?;
            let field = Field {
                offset: member.bits,
                type_id: member.type_id,
                is_bits: member.is_bit_field,
            };
            if self.is_named(member.name, name) {
                return Some(field);
            }
            if !self.is_named(member.name, "") {
                continue;
            }
            let inner = self.resolve(member.type_id)?;
            if let Some(found) = self.field(inner, name, depth) {
                let offset = found.offset.checked_add(member.bits)?;
                return Some(Field { offset, ..found });
            }
        }
        None
    }

    /// The structure or union that a type stands for.
    fn resolve(&self, type_id: u32) -> Option<Type> {
        let mut id = type_id;
        for _ in 0..MAX_DEPTH {
            let offset = self.types.get(index(id).checked_sub(1)?)?;
            let found = self.type_at(*offset)?;
            match found.kind {
                kind::STRUCT | kind::UNION => return Some(found),
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = found.value;
                }
                // Anything else has no fields.
                _ => {
                    return Some(Type {
                        members: 0,
                        ..found
                    });
                }
            }
        }
        None
    }

    fn type_at(&self, offset: usize) -> Option<Type> {
        read_type(&self.bytes, offset)
    }

    fn member(&self, structure: Type, number: usize) -> Option<Member> {
        let start = number
            .checked_mul(MEMBER_LEN)?
            .checked_add(structure.details)?;
        let word = |number: usize| word(&self.bytes, start.checked_add(number)?);
        let offset = word(8)?;
        // `BTF_MEMBER_BIT_OFFSET`, `BTF_MEMBER_BITFIELD_SIZE`
        let (bits, size) = if structure.has_bit_fields {
            (offset & 0x00ff_ffff, offset >> 24)
        } else {
            (offset, 0)
        };
        Some(Member {
            name: word(0)?,
            type_id: word(4)?,
            bits,
            is_bit_field: size != 0,
        })
    }

    /// Whether the string at an offset is this one.
    fn is_named(&self, offset: u32, name: &str) -> bool {
        let strings = self.bytes.get(self.strings.clone());
        let string = strings.and_then(|strings| strings.get(index(offset)..));
        string
            .and_then(|string| string.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

impl Structure<'_> {
    /// Its size in bytes.
    pub(super) fn size(&self) -> u32 {
        self.found.value
    }

    /// Offset of a field in bytes; `path` may name a field of an inner
    /// structure, as `ns.inum` does. A bit field has no offset.
    pub(super) fn offset(&self, path: &str) -> Option<u32> {
        let Self { btf, found } = self;
        let mut within = *found;
        let mut names = path.split('.').peekable();
        let mut bits = 0_u32;
        while let Some(name) = names.next() {
            let field = btf.field(within, name, MAX_DEPTH)?;
            bits = bits.checked_add(field.offset)?;
            if names.peek().is_none() {
                let is_whole = !field.is_bits && bits.is_multiple_of(u8::BITS);
                return is_whole.then_some(bits / u8::BITS);
            }
            within = btf.resolve(field.type_id)?;
        }
        None
    }
}

/// Where each type begins, by what is known of kinds and what the file's layout
/// section says of others.
fn walk(bytes: &[u8], section: Range<usize>, layout: &[u8]) -> Result<Vec<usize>, BtfError> {
    let Range { start, end } = section;
    let mut types = Vec::new();
    let mut offset = start;
    while offset < end {
        let found = read_type(bytes, offset).ok_or(BtfError::Truncated)?;
        types.push(offset);
        let lengths = Lengths::of(found.kind, layout).ok_or(BtfError::Kind {
            id: types.len(),
            kind: found.kind,
        })?;
        let details = lengths.total(found.members).ok_or(BtfError::Truncated)?;
        offset = found
            .details
            .checked_add(details)
            .ok_or(BtfError::Truncated)?;
    }
    if offset > end {
        return Err(BtfError::Truncated);
    }
    Ok(types)
}

fn read_type(bytes: &[u8], offset: usize) -> Option<Type> {
    let word = |number: usize| word(bytes, offset.checked_add(number)?);
    let info = word(4)?;
    // `BTF_INFO_VLEN`, `BTF_INFO_KIND`, `BTF_INFO_KFLAG`. The kernel writes
    // zeros to the bits that older versions do not use
    // (`btf_check_meta`, `kernel/bpf/btf.c`).
    Some(Type {
        details: offset.checked_add(TYPE_LEN)?,
        name: word(0)?,
        kind: info >> 24 & 0x7f,
        members: index(info & 0x00ff_ffff),
        has_bit_fields: info >> 31 == 1,
        value: word(8)?,
    })
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    at(bytes, offset).map(u32::from_ne_bytes)
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// An index has 32 bits or more here.
fn index(number: u32) -> usize {
    const { assert!(usize::BITS >= u32::BITS) };
    number as usize
}

#[cfg(test)]
mod tests;
