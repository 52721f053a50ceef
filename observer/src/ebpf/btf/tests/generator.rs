//! BTF files as compilers and pahole could make them, and as no kernel at hand
//! has them.

use observer_testing::btf::LAYOUT;

use crate::ebpf::btf::kind;

const INT: u32 = 1;
const POINTER: u32 = 2;

/// What a file is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// As before Linux 7.1.
    Classic,
    /// With a layout section between types and strings, as Linux 7.1 has it.
    Layout,
    /// With a longer header than anybody knows, and with the layout section
    /// behind the strings.
    Later,
}

/// A member of a structure or union, at an offset in bits.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Empty: its fields count as the outer structure's.
    pub(super) name: String,
    pub(super) type_id: u32,
    pub(super) bits: u32,
    /// In bits; 0: it is no bit field.
    pub(super) width: u32,
}

impl Member {
    pub(super) fn new(name: &str, type_id: u32, bits: u32) -> Self {
        Self {
            name: name.into(),
            type_id,
            bits,
            width: 0,
        }
    }
}

/// A file in the making.
#[derive(Debug)]
pub(super) struct Generator {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
    /// By kind: how long what follows `struct btf_type` is, once and for each.
    layout: Vec<[u8; 2]>,
}

impl Generator {
    pub(super) fn new() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
            count: 0,
            layout: LAYOUT.to_vec(),
        }
    }

    /// Adds a type, and returns its id.
    fn add(&mut self, name: &str, info: u32, value: u32, details: &[u32]) -> u32 {
        let name = self.string(name);
        for word in [name, info, value].iter().chain(details) {
            self.types.extend(word.to_ne_bytes());
        }
        self.count += 1;
        self.count
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        at
    }

    pub(super) fn integer(&mut self, name: &str, bytes: u32) -> u32 {
        self.add(name, INT << 24, bytes, &[bytes * 8])
    }

    pub(super) fn pointer(&mut self, to: u32) -> u32 {
        self.add("", POINTER << 24, to, &[])
    }

    /// A type that stands for another: `typedef`, `const`, a tag.
    pub(super) fn alias(&mut self, kind: u32, name: &str, of: u32) -> u32 {
        self.add(name, kind << 24, of, &[])
    }

    pub(super) fn structure(&mut self, name: &str, bytes: u32, members: &[Member]) -> u32 {
        self.composite(kind::STRUCT, name, bytes, members)
    }

    /// A structure or union.
    pub(super) fn composite(
        &mut self,
        kind: u32,
        name: &str,
        bytes: u32,
        members: &[Member],
    ) -> u32 {
        let has_bit_fields = members.iter().any(|member| member.width > 0);
        let count = u32::try_from(members.len()).unwrap();
        let info = u32::from(has_bit_fields) << 31 | kind << 24 | count;
        let mut details = Vec::new();
        for member in members {
            let name = self.string(&member.name);
            details.extend([name, member.type_id, member.width << 24 | member.bits]);
        }
        self.add(name, info, bytes, &details)
    }

    /// A type of a kind that came later than its readers: so many words once,
    /// and so many for each of its members.
    pub(super) fn unknown(&mut self, kind: u8, once: u8, each: u8, members: u32) -> u32 {
        let index = usize::from(kind);
        let length = self.layout.len().max(index + 1);
        self.layout.resize(length, [0, 0]);
        self.layout[index] = [once * 4, each * 4];
        // Read as types they would be structures of that many members.
        let words = u32::from(once) + u32::from(each) * members;
        let details = vec![kind::STRUCT << 24 | 1; words as usize];
        self.add("unknown", u32::from(kind) << 24 | members, 0, &details)
    }

    /// Says something else of a kind.
    pub(super) fn describe(&mut self, kind: u8, once: u8, each: u8) {
        self.layout[usize::from(kind)] = [once, each];
    }

    /// Does not describe kinds from this one on.
    pub(super) fn describe_below(&mut self, kind: u8) {
        self.layout.truncate(kind.into());
    }

    pub(super) fn file(&self, format: Format) -> Vec<u8> {
        let layout: Vec<u8> = self
            .layout
            .iter()
            .flat_map(|[once, each]| [*once, *each, 0, 0])
            .collect();
        let [types, strings, layouts] = [&self.types, &self.strings, &layout]
            .map(|section| u32::try_from(section.len()).unwrap());
        let (length, fields) = match format {
            Format::Classic => (24_u32, vec![0, types, types, strings]),
            Format::Layout => {
                let after = types + layouts;
                (32, vec![0, types, after, strings, types, layouts])
            }
            Format::Later => {
                let after = types + strings;
                let more = [0x5a5a_5a5a; 2];
                let known = [0, types, types, strings, after, layouts];
                (40, [&known[..], &more].concat())
            }
        };
        let mut file = 0xeb9f_u16.to_ne_bytes().to_vec();
        file.extend([1, 0]);
        file.extend(length.to_ne_bytes());
        file.extend(fields.iter().flat_map(|field| field.to_ne_bytes()));
        let sections: &[&[u8]] = match format {
            Format::Classic => &[&self.types, &self.strings],
            Format::Layout => &[&self.types, &layout, &self.strings],
            Format::Later => &[&self.types, &self.strings, &layout],
        };
        file.extend(sections.concat());
        file
    }
}
