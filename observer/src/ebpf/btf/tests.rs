use std::fs;
use std::hint::black_box;

use btfparse::{Offset, TypeInformation, TypeVariant};

use super::*;
use crate::ebpf::KERNEL_BTF;

#[expect(
    clippy::arithmetic_side_effects,
    reason = "the numbers are a test's own, and small"
)]
mod generated;
#[expect(
    clippy::arithmetic_side_effects,
    reason = "the numbers are a test's own, and small"
)]
mod generator;

fn types() -> Vec<u8> {
    fs::read(KERNEL_BTF).expect("this kernel shows its types")
}

/// A file in memory, as the reference wants it.
struct Bytes<'a>(&'a [u8]);

impl btfparse::Readable for Bytes<'_> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
        let start = usize::try_from(offset).expect("64 bits");
        let end = start.checked_add(buffer.len()).expect("no overflow");
        buffer.copy_from_slice(self.0.get(start..end).expect("within the file"));
        Ok(())
    }
}

/// Each structure of the running kernel, and each of its fields that has a
/// name, where the reference says it is.
#[test]
fn every_field_of_this_kernel_is_where_the_reference_finds_it() {
    let bytes = types();
    let reference = TypeInformation::new(&Bytes(&bytes)).expect("it parses");
    let btf = Btf::parse(bytes).expect("it parses");
    let mut names = std::collections::HashSet::new();
    let mut fields = 0;
    for (&id, variant) in reference.get() {
        let TypeVariant::Struct(structure) = variant else {
            continue;
        };
        // Of several structures of one name, both take the first.
        let name = structure.name().clone().filter(|name| !name.is_empty());
        let Some(name) = name.filter(|name| names.insert(name.clone())) else {
            continue;
        };
        if names.len() % 100 != 0 && !OURS.contains(&name.as_str()) {
            continue;
        }
        let found = btf.structure(&name).expect("it is there");
        assert_eq!(found.size() as usize, *structure.size(), "{name}");
        for member in structure.member_list() {
            let Some(field) = member.name() else { continue };
            let expected = match reference.offset_of(id, &field) {
                Ok((_, Offset::ByteOffset(offset))) => Some(offset),
                _ => None,
            };
            assert_eq!(found.offset(&field), expected, "{name}.{field}");
            fields += 1;
        }
    }
    assert!(fields > 500, "{fields}");
}

/// The structures that the layout is made of.
const OURS: [&str; 10] = [
    "task_struct",
    "cred",
    "pid",
    "upid",
    "pid_namespace",
    "css_set",
    "cgroup",
    "kernfs_node",
    "unix_sock",
    "sock",
];

#[test]
fn what_is_not_there_is_not_found() {
    let btf = Btf::parse(types()).expect("it parses");
    let task = btf.structure("task_struct").expect("it is there");
    let namespace = btf.structure("pid_namespace").expect("it is there");
    assert!(btf.structure("no_such_struct").is_none());
    assert_eq!(task.offset("no_such_field"), None);
    assert_eq!(task.offset("pid.inum"), None);
    assert_eq!(namespace.offset("ns.no_such_field"), None);
    assert!(namespace.offset("ns.inum").is_some());
    // A bit field has no offset in bytes.
    assert_eq!(task.offset("in_execve"), None);
}

#[test]
fn a_damaged_file_is_an_error() {
    let good = types();
    let parse = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        Btf::parse(bytes).map(|_| ())
    };
    assert_eq!(parse(&|_| {}), Ok(()));
    assert_eq!(parse(&Vec::clear), Err(BtfError::Magic));
    assert_eq!(parse(&|bytes| bytes.truncate(2)), Err(BtfError::Truncated));
    assert_eq!(parse(&|bytes| bytes.truncate(23)), Err(BtfError::Truncated));
    assert_eq!(
        parse(&|bytes| bytes.truncate(1000)),
        Err(BtfError::Truncated)
    );
    assert_eq!(parse(&|bytes| bytes[..2].reverse()), Err(BtfError::Magic));
    assert_eq!(parse(&|bytes| bytes[2] = 9), Err(BtfError::Version(9)));
    let unknown = BtfError::Kind { id: 1, kind: 31 };
    assert_eq!(parse(&|bytes| bytes[24 + 7] = 31), Err(unknown));
    // Lengths and offsets beyond the end, or beyond all numbers.
    for at in [4, 8, 12, 16, 20] {
        let damage = |bytes: &mut Vec<u8>| bytes[at..at + 4].fill(0xff);
        assert_eq!(parse(&damage), Err(BtfError::Truncated), "{at}");
    }
}

/// Damage that is found late, if at all: no panic, and no end of time.
#[test]
fn whatever_the_bytes_no_look_up_panics() {
    // The first types of the kernel: small enough to be damaged everywhere.
    let whole = types();
    let number = |at: usize| u32::from_ne_bytes(whole[at..at + 4].try_into().expect("four"));
    let mut small = whole[..4096].to_vec();
    let strings = number(4) as usize + number(16) as usize;
    small.extend(&whole[strings..strings + 1024]);
    let section: [u32; 4] = [0, 4096 - 24, 4096 - 24, 1024];
    for (at, value) in section.iter().enumerate() {
        small[8 + 4 * at..12 + 4 * at].copy_from_slice(&value.to_ne_bytes());
    }
    arbtest::arbtest(|random| {
        let mut bytes = small.clone();
        for _ in 0..random.int_in_range(0..=20)? {
            let at = random.int_in_range(8..=bytes.len() - 1)?;
            bytes[at] = random.arbitrary()?;
        }
        // The end of the types is cut off within one, as a rule.
        if let Ok(btf) = Btf::parse(bytes.clone()) {
            black_box(btf.structure("task_struct"));
        }
        let types = (0..20)
            .filter_map(|_| random.int_in_range(24..=4000).ok())
            .collect();
        let bytes_len = bytes.len();
        let btf = Btf {
            bytes,
            strings: 4096..bytes_len,
            types,
        };
        for structure in ["", "a", "list_head"] {
            black_box(
                btf.structure(structure)
                    .map(|found| found.offset("next.prev")),
            );
        }
        if let Some(found) = btf.types.first().and_then(|&at| btf.type_at(at)) {
            black_box(btf.field(found, "x", MAX_DEPTH));
        }
        Ok(())
    })
    .budget_ms(1000);
}
