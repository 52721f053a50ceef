//! The files that flags have the observer create: no two may be the same.

use std::fs;
use std::path::{Path, PathBuf};

/// A flag, and the file that it names.
pub(crate) type Named<'a> = (&'static str, &'a Path);

/// Two flags with one file, as a reason not to start: the second socket would
/// find the first in use, "by another process".
pub(super) fn clash<'a>(named: impl IntoIterator<Item = Named<'a>>) -> Option<String> {
    let mut seen: Vec<(&str, PathBuf)> = Vec::new();
    for (flag, path) in named {
        let path = whole(path);
        if let Some((other, _)) = seen.iter().find(|(_, before)| *before == path) {
            let path = path.display();
            return Some(format!(
                "{other} and {flag} both name {path}: each needs its own"
            ));
        }
        seen.push((flag, path));
    }
    None
}

/// The path from the root, by whichever way its folder was named. What is not
/// there yet, or may not be looked at, is found out later.
fn whole(path: &Path) -> PathBuf {
    let (folder, name) = match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if folder.as_os_str().is_empty() => (Path::new("."), name),
        (Some(folder), Some(name)) => (folder, name),
        _ => return path.to_owned(),
    };
    fs::canonicalize(folder).map_or_else(|_| path.to_owned(), |folder| folder.join(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_the_same_by_whichever_way_it_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let real = scratch.path().join("real");
        fs::create_dir(&real).unwrap();
        symlink(&real, scratch.path().join("link")).unwrap();
        let socket = real.join("s");
        let clash = |other: PathBuf| clash([("--socket", &*socket), ("--control", &*other)]);
        for same in ["real/s", "link/s", "real/../real/s", "link/../link/./s"] {
            let reason = clash(scratch.path().join(same)).unwrap();
            assert!(
                reason.starts_with("--socket and --control both name "),
                "{reason}"
            );
        }
        for other in ["real/t", "s", "link", "nowhere/s"] {
            assert_eq!(clash(scratch.path().join(other)), None, "{other}");
        }
    }
}
