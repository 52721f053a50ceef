//! Kinds of types, and how long their descriptions are.

/// The kinds that matter here (`BTF_KIND_*`).
pub(super) const STRUCT: u32 = 4;
pub(super) const UNION: u32 = 5;
pub(super) const TYPEDEF: u32 = 8;
pub(super) const VOLATILE: u32 = 9;
pub(super) const CONST: u32 = 10;
pub(super) const RESTRICT: u32 = 11;
pub(super) const FUNC: u32 = 12;
pub(super) const TYPE_TAG: u32 = 18;

/// Length of `struct btf_member`.
pub(super) const MEMBER_LEN: usize = 12;

/// Length of `struct btf_layout`.
const LAYOUT_LEN: usize = 4;

/// How long what follows `struct btf_type` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lengths {
    /// What stands there once.
    once: usize,
    /// What stands there for each of `BTF_INFO_VLEN`.
    each: usize,
}

impl Lengths {
    /// Those of a kind. What is not known here is taken from the file's layout
    /// section (Linux 7.1 and later), which lists all kinds by their numbers,
    /// so that readers can skip those that came later than they did. `None` if
    /// that does not have it either: then nobody can tell where the next type
    /// begins.
    ///
    /// The kernel and libbpf do likewise: for the kinds that they know they do
    /// not look at that section (`btf_type_size` and `btf_type_size_unknown`,
    /// `tools/lib/bpf/btf.c`).
    pub(super) fn of(kind: u32, layout: &[u8]) -> Option<Self> {
        known(kind).or_else(|| described(kind, layout))
    }

    /// Of a type with so many members, or whatever it has.
    pub(super) fn total(self, members: usize) -> Option<usize> {
        members.checked_mul(self.each)?.checked_add(self.once)
    }
}

fn known(kind: u32) -> Option<Lengths> {
    let (once, each) = match kind {
        // Pointer, forward, typedef, volatile, const, restrict, function,
        // float, type tag.
        2 | 7..=12 | 16 | 18 => (0, 0),
        // Integer, variable, declaration tag.
        1 | 14 | 17 => (4, 0),
        // Array.
        3 => (12, 0),
        // Enumeration, prototype.
        6 | 13 => (0, 8),
        // Structure, union.
        STRUCT | UNION => (0, MEMBER_LEN),
        // Data section, enumeration of 64 bits.
        15 | 19 => (0, 12),
        _ => return None,
    };
    Some(Lengths { once, each })
}

/// What `struct btf_layout` says of it: `info_sz`, `elem_sz`, and flags that
/// are not used. Both lengths are multiples of 4.
fn described(kind: u32, layout: &[u8]) -> Option<Lengths> {
    // `BTF_KIND_UNKN` is no kind.
    let number = usize::try_from(kind).ok().filter(|&kind| kind != 0)?;
    let start = number.checked_mul(LAYOUT_LEN)?;
    let entry: &[u8; LAYOUT_LEN] = layout.get(start..)?.first_chunk()?;
    let [once, each, _, _] = entry.map(usize::from);
    let is_aligned = once.is_multiple_of(4) && each.is_multiple_of(4);
    is_aligned.then_some(Lengths { once, each })
}
