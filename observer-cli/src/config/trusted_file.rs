//! Reads a file that nobody but root and the observer's own user can have
//! written: whoever writes the configuration decides who may be an agent.

mod way;

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{Mode, PROC_SUPER_MAGIC};

use self::way::Way;

/// A configuration is no longer than that.
const MAX_BYTES: u64 = 4 << 20;

/// Reads the file at a path.
///
/// Each folder on the way is checked, from the root on, and each symbolic link,
/// by the descriptor from which the next is opened: nobody else can have another
/// file found there. Then the file is checked that was opened, and read by the
/// same descriptor.
///
/// # Errors
/// If it cannot be read, others can write or replace it, or it changes
/// meanwhile.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let trusted = Trusted {
        uid: rustix::process::geteuid().as_raw(),
    };
    let mut file = Way::to(path)?.open(&trusted)?;
    let before = file.metadata()?;
    ensure!(before.is_file(), NO_FILE);
    trusted.check("it", &before)?;
    // `/proc/PID/cmdline` is root's where PID may not be traced, and says what
    // PID wants it to.
    ensure!(
        rustix::fs::fstatfs(&file)?.f_type != PROC_SUPER_MAGIC,
        "it is a file of /proc: others may choose what it says"
    );
    let content = read_bounded(&mut file)?;
    let after = file.metadata()?;
    ensure!(
        state(&before) == state(&after),
        "it was changed while it was being read"
    );
    Ok(content)
}

const NO_FILE: &str = "it is not a regular file";

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
    fn check_folder(&self, path: &Path, found: &Metadata) -> anyhow::Result<()> {
        let is_sticky = Mode::from_raw_mode(found.mode()).contains(Mode::SVTX);
        let name = format!("the folder {}", path.display());
        if !found.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory)).context(name);
        }
        if is_sticky {
            // What is in there is its owner's, whoever may write to it.
            return self.check_owner(&name, found);
        }
        self.check(&name, found)
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use rustix::fs::{CWD, RenameFlags};

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
        // By a folder that is a link, too.
        let way = scratch.path().join("way");
        symlink("./a/../b", &way).unwrap();
        assert_eq!(read(&way.join("file")).unwrap(), b"content");
        set_mode(&scratch.path().join("b"), 0o777);
        assert!(reason(&way.join("file")).contains("/b has mode 0777"));
        let round = scratch.path().join("round");
        symlink("round", &round).unwrap();
        assert!(reason(&round).contains("too many symbolic links"));
    }

    /// A file, or a folder on the way to it, that others put a link in the place
    /// of in the middle of it: it is never read what the link leads to.
    #[test]
    fn links_are_not_followed_unseen() {
        const ROUNDS: usize = 20_000;
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        for folder in ["way", "open"] {
            fs::create_dir(path(folder)).unwrap();
        }
        fs::write(path("way/file"), "good").unwrap();
        fs::write(path("open/file"), "bad").unwrap();
        set_mode(&path("open"), 0o777);
        symlink("open", path("link")).unwrap();
        symlink("../open/file", path("way/link")).unwrap();
        for (one, other) in [("way/file", "way/link"), ("way", "link")] {
            let (one, other) = (path(one), path(other));
            let stop = AtomicBool::new(false);
            let mut good = 0;
            thread::scope(|scope| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let swap = RenameFlags::EXCHANGE;
                        rustix::fs::renameat_with(CWD, &one, CWD, &other, swap).unwrap();
                    }
                });
                for _ in 0..ROUNDS {
                    let content = read(&path("way/file"));
                    good += usize::from(content.is_ok());
                    let is_bad = content.is_ok_and(|content| content != b"good");
                    if is_bad {
                        stop.store(true, Ordering::Relaxed);
                    }
                    assert!(!is_bad, "the link was followed");
                }
                stop.store(true, Ordering::Relaxed);
            });
            assert!(good > 0, "{}", one.display());
            // As it was.
            if one.is_symlink() {
                let swap = RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(CWD, &one, CWD, &other, swap).unwrap();
            }
        }
    }

    /// Root's, not to be written by anybody, and as long as its process wants.
    #[test]
    fn files_of_proc_are_refused() {
        for file in ["/proc/self/cmdline", "/proc/version", "/proc/self/environ"] {
            assert!(
                reason(Path::new(file)).contains("a file of /proc"),
                "{file}"
            );
        }
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let scratch = tempfile::tempdir().unwrap();
        let pipe = scratch.path().join("pipe");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(reason(&pipe).contains("not a regular file"));
        for folder in [scratch.path(), Path::new("/"), &scratch.path().join("..")] {
            assert!(reason(folder).contains("not a regular file"));
        }
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
