//! What a guest has on its disk, which is its memory: an initramfs with the
//! tests, what they start, and the libraries of both.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::suite::{Step, Suite};
use crate::process;

/// Programs of the host's that the tests start.
const PROGRAMS: [&str; 12] = [
    "cat", "dd", "env", "ip", "mkfifo", "mount", "nsenter", "setpriv", "sh", "sleep", "timeout",
    "unshare",
];

/// Folders of the guest that file systems are mounted on.
const MOUNT_POINTS: [&str; 4] = ["proc", "sys", "dev", "tmp"];

/// Users that tests name. Numbers as on each Debian.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

/// A folder that becomes an initramfs.
pub(super) struct Image {
    root: PathBuf,
}

/// What goes into each guest.
pub(super) struct Contents<'a> {
    /// What runs first.
    pub(super) init: &'a Path,
    /// Executables and other files, at the same path as here: tests have the
    /// paths of their helpers compiled in.
    pub(super) files: &'a [PathBuf],
    pub(super) steps: &'a [Step],
}

impl Image {
    /// Lays everything out in `root`, which is emptied first.
    ///
    /// # Errors
    /// If a file cannot be copied or a program is not on this host.
    pub(super) fn lay_out(root: &Path, contents: &Contents<'_>) -> Result<Self> {
        if root.exists() {
            fs::remove_dir_all(root)?;
        }
        for folder in MOUNT_POINTS.iter().chain(&["modules", "etc"]) {
            fs::create_dir_all(root.join(folder))?;
        }
        // As Debian has them since 12.
        for folder in ["bin", "sbin", "lib", "lib64"] {
            fs::create_dir_all(root.join("usr").join(folder))?;
            symlink(Path::new("usr").join(folder), root.join(folder))?;
        }
        let image = Self {
            root: root.to_owned(),
        };
        let mut libraries = BTreeSet::new();
        for name in PROGRAMS {
            let program = find_program(name)?;
            libraries.extend(libraries_of(&program)?);
            fs::copy(&program, root.join("usr/bin").join(name))?;
        }
        for file in contents.files {
            if is_executable(file)? {
                libraries.extend(libraries_of(file)?);
            }
            image.copy(file)?;
        }
        for library in &libraries {
            image.copy(library)?;
        }
        image.copy_stripped(contents.init, Path::new("init"))?;
        fs::write(root.join("etc/passwd"), PASSWD)?;
        fs::write(root.join("etc/group"), GROUP)?;
        for suite in Suite::ALL {
            let steps = contents.steps.iter().filter(|step| suite.has(step));
            let lines: String = steps.map(Step::line).collect();
            fs::write(root.join(suite.path().trim_start_matches('/')), lines)?;
        }
        Ok(image)
    }

    /// Writes the initramfs with a kernel's modules.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub(super) fn pack(&self, modules: &[PathBuf], to: &Path) -> Result<()> {
        let folder = self.root.join("modules");
        fs::remove_dir_all(&folder)?;
        fs::create_dir(&folder)?;
        for module in modules {
            let name = module.file_name().context("a module without a name")?;
            fs::copy(module, folder.join(name))?;
        }
        // Not compressed: the guest would take longer to undo it than to
        // read the whole.
        let names = process::capture(Command::new("find").current_dir(&self.root).arg("."))?;
        let list = self.root.with_extension("list");
        fs::write(&list, names)?;
        let status = Command::new("cpio")
            .current_dir(&self.root)
            .args(["--create", "--format=newc", "--owner=0:0", "--quiet"])
            .stdin(fs::File::open(&list)?)
            .stdout(fs::File::create(to)?)
            .stderr(Stdio::inherit())
            .status()
            .context("cannot start cpio")?;
        if !status.success() {
            bail!("cpio failed ({status})");
        }
        Ok(())
    }

    /// Copies a file to the same path in the guest.
    fn copy(&self, file: &Path) -> Result<()> {
        let relative = file.strip_prefix("/").context("not an absolute path")?;
        // The guest's /lib is a link, as here.
        let to = match relative
            .strip_prefix("lib")
            .or_else(|_| relative.strip_prefix("lib64"))
        {
            Ok(_) => Path::new("usr").join(relative),
            Err(_) => relative.to_owned(),
        };
        self.copy_stripped(file, &to)
    }

    /// Without debug information, which is most of a test's size.
    fn copy_stripped(&self, file: &Path, to: &Path) -> Result<()> {
        let to = self.root.join(to);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        if !is_executable(file)? {
            fs::copy(file, to)?;
            return Ok(());
        }
        let mut strip = Command::new("strip");
        strip.arg("--strip-debug").arg("-o").arg(&to).arg(file);
        process::capture(&mut strip).map(drop)
    }
}

fn find_program(name: &str) -> Result<PathBuf> {
    process::find_on_path(name)
        .or_else(|| Some(Path::new("/usr/sbin").join(name)).filter(|path| path.is_file()))
        .with_context(|| format!("the tests need `{name}`, which is not on this host"))
}

/// The shared libraries of an executable, the loader included: the absolute
/// paths in what `ldd` prints.
fn libraries_of(executable: &Path) -> Result<Vec<PathBuf>> {
    let printed = process::capture(Command::new("ldd").arg(executable))?;
    Ok(printed
        .split_whitespace()
        .filter(|part| part.starts_with('/'))
        .map(PathBuf::from)
        .collect())
}

/// Whether it is an executable or a library: ELF.
fn is_executable(file: &Path) -> Result<bool> {
    use std::io::Read as _;
    let mut magic = Vec::new();
    fs::File::open(file)
        .and_then(|file| file.take(4).read_to_end(&mut magic))
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(magic == *b"\x7fELF")
}
