//! Users and groups, by number or by name.

use std::fs;

pub(crate) fn parse_group(text: &str) -> Result<u32, String> {
    parse(text, "/etc/group", "group")
}

pub(crate) fn parse_user(text: &str) -> Result<u32, String> {
    parse(text, "/etc/passwd", "user")
}

/// Looks names up in one file and nowhere else: a directory service may hang,
/// and the observer starts at boot.
fn parse(text: &str, file: &str, kind: &str) -> Result<u32, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // To the kernel the highest number means "unchanged" or "unknown".
        return match text.parse() {
            Ok(id) if id != u32::MAX => Ok(id),
            _ => Err(format!("not a {kind} id")),
        };
    }
    let names = fs::read(file)
        .map_err(|error| format!("cannot read {file} ({error}); give the number of the {kind}"))?;
    find(&String::from_utf8_lossy(&names), text).ok_or_else(|| {
        format!(
            "no such {kind} in {file}; for a {kind} from elsewhere give its number, which `getent` \
             shows"
        )
    })
}

/// The number of a name: both files have it in the third field
/// (`passwd(5)`, `group(5)`).
fn find(names: &str, name: &str) -> Option<u32> {
    names.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups() {
        let file = "root:x:0:\nstaff:x:50:alice,bob\nbroken\nodd:x:many:\n";
        assert_eq!(find(file, "staff"), Some(50));
        assert_eq!(find(file, "root"), Some(0));
        for missing in ["", "sta", "broken", "odd", "x"] {
            assert_eq!(find(file, missing), None, "{missing}");
        }
        assert_eq!(parse_group("1234"), Ok(1234));
        assert!(parse_group("4294967295").is_err());
        assert!(parse_group("no such group").is_err());
        assert!(parse_group("").is_err());
    }
}
