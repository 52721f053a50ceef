//! Reads a file that nobody but root and the observer's own user can have
//! written: whoever writes the configuration decides who may be an agent.

use std::collections::VecDeque;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{Mode, OFlags};

/// A configuration is no longer than that.
const MAX_BYTES: u64 = 4 << 20;

/// As many as the kernel follows (`MAXSYMLINKS`, `include/linux/namei.h`).
const MAX_LINKS: usize = 40;

/// Reads the file at a path.
///
/// First each folder on the way is checked, from the root on, and those behind
/// symbolic links too: nobody else can have another file found there after that.
/// Then the file is checked that was opened, and read by the same descriptor.
///
/// # Errors
/// If it cannot be read, others can write or replace it, or it changes
/// meanwhile.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let trusted = Trusted {
        uid: rustix::process::geteuid().as_raw(),
    };
    trusted.check_way(path)?;
    // A pipe in its place must not hold the observer up.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let before = file.metadata()?;
    ensure!(before.is_file(), "it is not a regular file");
    trusted.check("it", &before)?;
    let content = read_bounded(&mut file)?;
    let after = file.metadata()?;
    ensure!(
        state(&before) == state(&after),
        "it was changed while it was being read"
    );
    Ok(content)
}

fn read_bounded(file: &mut File) -> anyhow::Result<Vec<u8>> {
    let mut content = Vec::new();
    let most = MAX_BYTES.saturating_add(1);
    file.take(most).read_to_end(&mut content)?;
    ensure!(
        content.len() as u64 <= MAX_BYTES,
        "it has more than {MAX_BYTES} bytes"
    );
    Ok(content)
}

/// What changes with each write.
fn state(file: &Metadata) -> (u64, i64, i64, i64, i64) {
    (
        file.size(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    )
}

/// Who is trusted: root, and this user.
struct Trusted {
    uid: u32,
}

impl Trusted {
    /// Checks each folder on the way to a file, and each symbolic link.
    fn check_way(&self, path: &Path) -> anyhow::Result<()> {
        let mut left: VecDeque<OsString> = VecDeque::new();
        if path.is_relative() {
            let here = env::current_dir().context("the working directory has no path")?;
            push_front(&mut left, &here);
        }
        let path: Vec<_> = path.components().map(owned).collect();
        left.extend(path);
        let mut folder = PathBuf::from("/");
        let mut links = 0_usize;
        while let Some(name) = left.pop_front() {
            self.check_folder(&folder)?;
            if name == OsStr::new("..") {
                folder.pop();
                continue;
            }
            if name == OsStr::new(".") {
                continue;
            }
            // An absolute one begins anew.
            let next = folder.join(&name);
            let found = fs::symlink_metadata(&next)?;
            if found.is_symlink() {
                links = links.saturating_add(1);
                ensure!(links <= MAX_LINKS, "there are too many symbolic links");
                self.check_owner(&next.display().to_string(), &found)?;
                push_front(&mut left, &fs::read_link(&next)?);
            } else {
                folder = next;
            }
        }
        Ok(())
    }

    fn check_folder(&self, folder: &Path) -> anyhow::Result<()> {
        let found = fs::metadata(folder)?;
        let is_sticky = Mode::from_raw_mode(found.mode()).contains(Mode::SVTX);
        let name = format!("the folder {}", folder.display());
        if !found.is_dir() {
            // The last one, which is the file.
            return Err(io::Error::from(io::ErrorKind::NotADirectory)).context(name);
        }
        if is_sticky {
            // What is in there is its owner's, whoever may write to it.
            return self.check_owner(&name, &found);
        }
        self.check(&name, &found)
    }

    /// Neither another user's, nor to be written by others. A group may be
    /// anybody: even root's own is no reason to make an exception. An access
    /// list that lets others write shows in the group's bits (`acl(5)`).
    fn check(&self, name: &str, found: &Metadata) -> anyhow::Result<()> {
        self.check_owner(name, found)?;
        let mode = found.mode();
        if Mode::from_raw_mode(mode).intersects(Mode::WGRP | Mode::WOTH) {
            let mode = mode & 0o7777;
            bail!("{name} has mode {mode:04o}, which lets others write to it (chmod go-w)");
        }
        Ok(())
    }

    fn check_owner(&self, name: &str, found: &Metadata) -> anyhow::Result<()> {
        let owner = found.uid();
        ensure!(
            owner == 0 || owner == self.uid,
            "{name} belongs to uid {owner}, neither to root nor to the observer's user (uid {})",
            self.uid
        );
        Ok(())
    }
}

/// The parts of a path, to be walked next.
fn push_front(left: &mut VecDeque<OsString>, path: &Path) {
    for part in path.components().rev() {
        left.push_front(owned(part));
    }
}

fn owned(part: Component<'_>) -> OsString {
    part.as_os_str().to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn reason(path: &Path) -> String {
        format!("{:#}", read(path).unwrap_err())
    }

    #[test]
    fn others_can_neither_write_nor_replace_it() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let file = folder.join("file");
        fs::write(&file, "content").unwrap();
        for (folder_mode, file_mode, is_read) in [
            (0o755, 0o644, true),
            (0o700, 0o400, true),
            (0o1777, 0o644, true),
            (0o755, 0o664, false),
            (0o755, 0o646, false),
            (0o775, 0o644, false),
            (0o757, 0o644, false),
        ] {
            set_mode(&folder, folder_mode);
            set_mode(&file, file_mode);
            let modes = format!("{folder_mode:o} {file_mode:o}");
            match read(&file) {
                Ok(content) => assert!(is_read && content == b"content", "{modes}"),
                Err(error) => assert!(!is_read, "{modes}: {error:#}"),
            }
        }
        assert!(reason(&file).contains("/folder has mode 0757"));
    }

    /// Neither the folder of a link nor that of its target.
    #[test]
    fn links_are_followed_with_the_same_care() {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::create_dir(scratch.path().join(name)).unwrap();
        }
        let (link, file) = (scratch.path().join("a/link"), scratch.path().join("b/file"));
        fs::write(&file, "content").unwrap();
        symlink("../b/file", &link).unwrap();
        assert_eq!(read(&link).unwrap(), b"content");
        for open in ["a", "b"] {
            let folder = scratch.path().join(open);
            set_mode(&folder, 0o777);
            assert!(reason(&link).contains(&format!("/{open} has mode 0777")));
            set_mode(&folder, 0o755);
        }
        let round = scratch.path().join("round");
        symlink("round", &round).unwrap();
        assert!(reason(&round).contains("too many symbolic links"));
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let scratch = tempfile::tempdir().unwrap();
        let pipe = scratch.path().join("pipe");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(reason(&pipe).contains("not a regular file"));
        assert!(reason(scratch.path()).contains("not a regular file"));
        assert!(reason(&scratch.path().join("none")).contains("No such file"));
        assert!(reason(&pipe.join("x")).contains("ot a directory"));
        let large = scratch.path().join("large");
        fs::write(&large, vec![b'#'; 4 << 20]).unwrap();
        assert_eq!(read(&large).unwrap().len(), 4 << 20);
        fs::write(&large, vec![b'#'; (4 << 20) + 1]).unwrap();
        assert!(reason(&large).contains("more than"));
    }

    /// One content or the other, or an error: never a part of each.
    #[test]
    fn a_file_that_is_replaced_or_rewritten_meanwhile_is_read_whole() {
        const SIZE: usize = 1 << 18;
        let scratch = tempfile::tempdir().unwrap();
        let (file, other) = (scratch.path().join("file"), scratch.path().join("other"));
        let contents = [b'a', b'b'].map(|byte| vec![byte; SIZE]);
        fs::write(&file, &contents[0]).unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for content in contents.iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    fs::write(&other, content).unwrap();
                    fs::rename(&other, &file).unwrap();
                    fs::write(&file, content).unwrap();
                }
            });
            for _ in 0..50 {
                if let Ok(content) = read(&file) {
                    let is_whole = contents.contains(&content);
                    // Cut short before its first write, within one tick of the
                    // clock that stamps files.
                    assert!(is_whole || content.len() < SIZE, "{}", content.len());
                    assert!(content.windows(2).all(|two| two[0] == two[1]));
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
