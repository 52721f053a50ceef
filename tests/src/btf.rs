//! The running kernel's types, with single mistakes in them, and as later kernels
//! write them.

use std::fs;

use observer_testing::btf::LAYOUT;

/// Where the kernel shows its types.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

const HEADER: usize = 24;
const STRUCT: u32 = 4;
const ENUM: u32 = 6;

/// A BTF file of before Linux 7.1.
#[derive(Clone, Debug)]
pub struct Types {
    bytes: Vec<u8>,
}

/// A member of a structure.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its offset in bits.
    pub bits: u32,
    /// The type that it has.
    pub type_id: u32,
    /// Where its offset is in the file.
    at: usize,
}

impl Types {
    /// Those of the running kernel.
    ///
    /// # Panics
    /// If it does not show them.
    #[must_use]
    pub fn of_this_kernel() -> Self {
        let bytes = fs::read(KERNEL_BTF).expect("this kernel shows its types");
        Self { bytes }
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn word(&self, at: usize) -> u32 {
        let word = self.bytes[at..at + 4].try_into();
        u32::from_ne_bytes(word.expect("four bytes"))
    }

    /// A section of which offset and length are here in the header.
    fn section(&self, field: usize) -> std::ops::Range<usize> {
        let start = HEADER + self.word(field) as usize;
        start..start + self.word(field + 4) as usize
    }

    fn name(&self, offset: u32) -> &str {
        let names = &self.bytes[self.section(16)][offset as usize..];
        let length = names.iter().position(|&byte| byte == 0);
        str::from_utf8(&names[..length.expect("it ends")]).expect("it is text")
    }

    /// The members of the first structure of a name, those included of a
    /// structure without a name that it begins with (`mm_struct`).
    ///
    /// # Panics
    /// If there is none, or the file is of another format.
    #[must_use]
    pub fn members(&self, structure: &str) -> Vec<Member> {
        let mut types = self.types();
        let at = types.find(|&at| {
            self.kind_and_count(at).0 == STRUCT && self.name(self.word(at)) == structure
        });
        let at = at.unwrap_or_else(|| panic!("this kernel has no struct {structure}"));
        let mut members = self.members_at(at);
        if let Some(first) = members.first().filter(|first| first.name.is_empty()) {
            // Types are numbered from 1.
            let inner = self.types().nth(first.type_id as usize - 1);
            let inner = inner.filter(|&at| self.kind_and_count(at).0 == STRUCT);
            members.extend(inner.iter().flat_map(|&at| self.members_at(at)));
        }
        members
    }

    fn members_at(&self, at: usize) -> Vec<Member> {
        let (_, count) = self.kind_and_count(at);
        (0..count)
            .map(|number| self.member(at + 12 + number * 12))
            .collect()
    }

    /// Where each type is in the file.
    fn types(&self) -> impl Iterator<Item = usize> {
        let section = self.section(8);
        let next = move |&at: &usize| {
            let (kind, count) = self.kind_and_count(at);
            Some(at + 12 + length(kind, count)).filter(|&next| next < section.end)
        };
        std::iter::successors(Some(self.section(8).start), next)
    }

    fn kind_and_count(&self, at: usize) -> (u32, usize) {
        let info = self.word(at + 4);
        (info >> 24 & 0x1f, (info & 0xffff) as usize)
    }

    fn member(&self, at: usize) -> Member {
        Member {
            name: self.name(self.word(at)).to_owned(),
            bits: self.word(at + 8),
            type_id: self.word(at + 4),
            at: at + 8,
        }
    }

    /// One member of a structure.
    ///
    /// # Panics
    /// If there is none of the name.
    #[must_use]
    pub fn find(&self, structure: &str, name: &str) -> Member {
        let members = self.members(structure).into_iter();
        let mut found = members.filter(|member| member.name == name);
        let found = found.next();
        found.unwrap_or_else(|| panic!("this kernel has no {structure}.{name}"))
    }

    /// With a member at another place.
    #[must_use]
    pub fn with(&self, member: &Member, bits: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[member.at..member.at + 4].copy_from_slice(&bits.to_ne_bytes());
        bytes
    }

    /// As Linux 7.1 writes them: with a layout section, and with types of a kind
    /// that came later, one of them with more members than 16 bits count, and a
    /// structure behind them. The ids of the kernel's own types stay.
    #[must_use]
    pub fn of_later_format(&self) -> Vec<u8> {
        const LATER: u32 = 100;
        const MANY: u32 = 0x1_0001;
        let mut layout: Vec<u8> = LAYOUT
            .iter()
            .flat_map(|[once, each]| [*once, *each, 0, 0])
            .collect();
        layout.resize(LATER as usize * 4, 0);
        layout.extend([4, 4, 0, 0]);
        let mut types = self.bytes[self.section(8)].to_vec();
        for members in [0, MANY] {
            let head = [0, LATER << 24 | members, 0];
            // Read as a type, each word would be one of many members.
            let details = vec![u32::MAX; members as usize + 1];
            types.extend(
                head.iter()
                    .chain(&details)
                    .flat_map(|word| word.to_ne_bytes()),
            );
        }
        types.extend(
            [0, STRUCT << 24, 0_u32]
                .iter()
                .flat_map(|word| word.to_ne_bytes()),
        );
        let strings = &self.bytes[self.section(16)];
        let [of_types, of_layout, of_strings] = [types.len(), layout.len(), strings.len()]
            .map(|length| u32::try_from(length).expect("it is no large file"));
        let fields = [
            32,
            0,
            of_types,
            of_types + of_layout,
            of_strings,
            of_types,
            of_layout,
        ];
        let mut file = self.bytes[..4].to_vec();
        file.extend(fields.iter().flat_map(|field: &u32| field.to_ne_bytes()));
        file.extend([&types, &layout[..], strings].concat());
        file
    }
}

/// Of what follows a type of this kind.
fn length(kind: u32, count: usize) -> usize {
    match kind {
        1 | 14 | 17 => 4,
        3 => 12,
        ENUM | 13 => count * 8,
        STRUCT | 5 | 15 | 19 => count * 12,
        _ => 0,
    }
}
