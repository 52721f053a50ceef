//! Files that no kernel at hand has: structures in any order, fields within
//! anonymous structures and unions, kinds that came later.

use arbtest::arbitrary::{Result, Unstructured};
use arbtest::arbtest;

use super::super::{Btf, BtfError, kind};
use super::generator::{Format, Generator, Member};

const FORMATS: [Format; 3] = [Format::Classic, Format::Layout, Format::Later];

/// Kinds that stand for another type.
const ALIASES: [u32; 5] = [
    kind::TYPEDEF,
    kind::VOLATILE,
    kind::CONST,
    kind::RESTRICT,
    kind::TYPE_TAG,
];

fn parse(generator: &Generator, format: Format) -> Result<Btf, BtfError> {
    Btf::parse(generator.file(format))
}

/// Fields as a compiler with `RANDSTRUCT` could lay them out: in any order, and
/// any run of them within an anonymous structure or union, again and again.
struct Randomized<'a, 'b> {
    random: &'a mut Unstructured<'b>,
    generator: &'a mut Generator,
    integer: u32,
    /// Each name, and where it is in bytes; `None` for bit fields.
    expected: Vec<(String, Option<u32>)>,
}

impl Randomized<'_, '_> {
    /// Members from this offset on, and where they end.
    fn members(&mut self, at: u32, depth: u32, base: u32) -> Result<(Vec<Member>, u32)> {
        let mut members = Vec::new();
        let mut offset = at;
        for _ in 0..self.random.int_in_range(1..=4)? {
            if depth > 0 && self.random.ratio(1, 2)? {
                let (member, bytes) = self.anonymous(offset, depth - 1, base + offset)?;
                members.push(member);
                offset += bytes;
            } else {
                members.push(self.field(offset, base)?);
                offset += 8;
            }
        }
        // The order in the file is not the order in memory.
        for index in (1..members.len()).rev() {
            members.swap(index, self.random.int_in_range(0..=index)?);
        }
        Ok((members, offset))
    }

    fn field(&mut self, offset: u32, base: u32) -> Result<Member> {
        let name = format!("field_{}", self.expected.len());
        let mut member = Member::new(&name, self.integer, offset * 8);
        let is_bits = self.random.ratio(1, 5)?;
        if is_bits {
            member.width = 3;
        }
        let place = (!is_bits).then_some(base + offset);
        self.expected.push((name, place));
        Ok(member)
    }

    /// An anonymous structure or union, and how long it is. Members of a union
    /// that are structures hide more fields.
    fn anonymous(&mut self, offset: u32, depth: u32, base: u32) -> Result<(Member, u32)> {
        let (kind, members, bytes) = if self.random.arbitrary()? {
            let (members, bytes) = self.members(0, depth, base)?;
            (kind::STRUCT, members, bytes)
        } else {
            let mut members = Vec::new();
            let mut bytes = 8;
            for _ in 0..self.random.int_in_range(1..=3)? {
                if depth > 0 && self.random.arbitrary()? {
                    let (member, length) = self.anonymous(0, depth - 1, base)?;
                    members.push(member);
                    bytes = bytes.max(length);
                } else {
                    members.push(self.field(0, base)?);
                }
            }
            (kind::UNION, members, bytes)
        };
        // With -fms-extensions a structure with a name can be a member without.
        let name = *self.random.choose(&["", "tagged"])?;
        let mut id = self.generator.composite(kind, name, bytes, &members);
        if self.random.arbitrary()? {
            id = self
                .generator
                .alias(*self.random.choose(&ALIASES)?, "alias", id);
        }
        Ok((Member::new("", id, offset * 8), bytes))
    }
}

#[test]
fn fields_are_found_in_any_order_and_within_anonymous_unions() {
    arbtest(|random| {
        let format = *random.choose(&FORMATS)?;
        let mut generator = Generator::new();
        let integer = generator.integer("int", 4);
        let mut randomized = Randomized {
            random,
            generator: &mut generator,
            integer,
            expected: Vec::new(),
        };
        let (members, bytes) = randomized.members(0, 3, 0)?;
        let expected = randomized.expected;
        if format != Format::Classic {
            // By five bits the second would be a structure, and the third too.
            for kind in [20, 36, 100] {
                let [once, each] = random.arbitrary::<[u8; 2]>()?.map(|size| size % 5);
                generator.unknown(kind, once, each, random.int_in_range(0..=70)?);
            }
        }
        generator.structure("task_struct", bytes, &members);
        let btf = parse(&generator, format).expect("it can be read");
        let structure = btf.structure("task_struct").expect("it is there");
        assert_eq!(structure.size(), bytes);
        for (name, place) in &expected {
            assert_eq!(structure.offset(name), *place, "{name}: {format:?}");
        }
        Ok(())
    })
    .budget_ms(1000);
}

/// A file with a structure behind whatever this adds.
fn behind(add: impl FnOnce(&mut Generator)) -> Generator {
    let mut generator = Generator::new();
    let integer = generator.integer("int", 4);
    add(&mut generator);
    generator.structure("cred", 8, &[Member::new("uid", integer, 32)]);
    generator
}

fn offset(generator: &Generator, format: Format) -> Result<Option<u32>, BtfError> {
    let btf = parse(generator, format)?;
    Ok(btf
        .structure("cred")
        .and_then(|structure| structure.offset("uid")))
}

#[test]
fn kinds_that_came_later_are_skipped_if_the_file_describes_them() {
    for kind in [20, 31, 32, 36, 63, 64, 127] {
        let generator = behind(|generator| {
            generator.unknown(kind, 2, 3, 5);
        });
        for format in [Format::Layout, Format::Later] {
            assert_eq!(offset(&generator, format), Ok(Some(4)), "{kind}");
        }
        let unknown = BtfError::Kind {
            id: 2,
            kind: kind.into(),
        };
        assert_eq!(offset(&generator, Format::Classic), Err(unknown));
        let mut undescribed = generator;
        undescribed.describe_below(kind);
        assert_eq!(offset(&undescribed, Format::Layout), Err(unknown));
    }
}

#[test]
fn what_describes_no_kind_describes_none() {
    let mut generator = behind(|generator| {
        generator.unknown(20, 1, 1, 2);
    });
    let unknown = |kind| Err(BtfError::Kind { id: 2, kind });
    for (once, each) in [(3, 4), (4, 5), (1, 0)] {
        generator.describe(20, once, each);
        assert_eq!(offset(&generator, Format::Layout), unknown(20));
    }
    let unnamed = behind(|generator| {
        generator.unknown(0, 0, 0, 0);
    });
    assert_eq!(offset(&unnamed, Format::Layout), unknown(0));
}

/// What it says of a kind that is known is not looked at, as in the kernel.
#[test]
fn known_kinds_are_read_as_they_are_known() {
    let mut generator = behind(|_| ());
    generator.describe(4, 0, 8);
    assert_eq!(offset(&generator, Format::Layout), Ok(Some(4)));
}

/// Lengths that lead beyond the section are damage.
#[test]
fn a_kind_that_is_longer_than_the_file_is_damage() {
    let mut generator = behind(|generator| {
        generator.unknown(20, 1, 1, 3);
    });
    generator.describe(20, 252, 252);
    assert_eq!(offset(&generator, Format::Layout), Err(BtfError::Truncated));
}

/// More than 16 bits can count.
#[test]
fn types_may_have_more_members_than_they_used_to() {
    const MANY: u32 = 0x1_0003;
    let generator = behind(|generator| {
        generator.unknown(22, 0, 3, MANY);
        let members: Vec<Member> = (0..MANY)
            .map(|number| Member::new(&format!("member_{number}"), 1, number * 32))
            .collect();
        generator.structure("long", MANY * 4, &members);
    });
    assert_eq!(offset(&generator, Format::Layout), Ok(Some(4)));
    let btf = parse(&generator, Format::Layout).expect("it can be read");
    let long = btf.structure("long").expect("it is there");
    assert_eq!(long.offset("member_65538"), Some(65538 * 4));
}

/// A header of a length between two that there were has no layout section.
#[test]
fn the_headers_length_says_which_sections_there_are() {
    let generator = behind(|generator| {
        generator.unknown(20, 0, 0, 0);
    });
    let mut file = generator.file(Format::Layout);
    assert!(Btf::parse(file.clone()).is_ok());
    // The two words are no header's any more: the sections begin with them.
    file[4..8].copy_from_slice(&28_u32.to_ne_bytes());
    file.drain(24..28);
    let unknown = BtfError::Kind { id: 2, kind: 20 };
    assert_eq!(Btf::parse(file).err(), Some(unknown));
}

#[test]
fn names_end_with_their_section() {
    let generator = behind(|_| ());
    let mut file = generator.file(Format::Later);
    let cut: u32 = 2;
    let at = 20;
    let length = u32::from_ne_bytes(file[at..at + 4].try_into().expect("four"));
    file[at..at + 4].copy_from_slice(&(length - cut).to_ne_bytes());
    // The last name is that of the structure.
    let btf = Btf::parse(file).expect("it can be read");
    assert!(btf.structure("cred").is_none());
}

/// A field of a structure that a pointer leads to is no field of this one.
#[test]
fn pointers_hide_fields() {
    let generator = behind(|generator| {
        let inner = generator.structure("inner", 8, &[Member::new("uid", 1, 0)]);
        let pointer = generator.pointer(inner);
        let members = [Member::new("", pointer, 0), Member::new("at", 1, 64)];
        generator.structure("outer", 16, &members);
    });
    let btf = parse(&generator, Format::Classic).expect("it can be read");
    let outer = btf.structure("outer").expect("it is there");
    assert_eq!(outer.offset("uid"), None);
    assert_eq!(outer.offset("at"), Some(8));
}
