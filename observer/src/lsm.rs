//! Security modules that decide who may send to whom by Unix sockets.
//!
//! `unix_dgram_sendmsg` (`net/unix/af_unix.c`, read in 6.1, 6.12 and 6.18)
//! runs the receiver's filter before it asks them
//! (`security_unix_may_send`): a filter that takes datagrams delivers what
//! they forbid. So where one of them enforces, datagrams are taken only if the
//! operator says so. What cannot be read counts as enforcing.
//!
//! Of the kernel's own modules these three decide about sockets that have a
//! path. Landlock's hook looks at abstract ones only
//! (`hook_unix_may_send`, `security/landlock/task.c`, 6.12), and TOMOYO's is
//! called before the filter (`security_socket_sendmsg`). Whether a BPF program
//! sits on that hook cannot be read anywhere.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

/// A security module that decides about sends by Unix sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SecurityModule {
    /// `SELinux`, enforcing.
    SeLinux,
    /// Smack.
    Smack,
    /// `AppArmor` of a kernel that has it mediate Unix sockets.
    AppArmor,
    /// There may be one: `/proc/filesystems` cannot be read.
    Unknown,
}

impl fmt::Display for SecurityModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SeLinux => "SELinux",
            Self::Smack => "Smack",
            Self::AppArmor => "AppArmor",
            Self::Unknown => "an unknown security module (/proc/filesystems is not readable)",
        })
    }
}

impl SecurityModule {
    /// The one that decides on this host at this moment, the first of several.
    #[must_use]
    pub fn in_force() -> Option<Self> {
        Self::in_force_at(Path::new("/"))
    }

    /// The same of the host whose `/proc` and `/sys` are below `root`.
    ///
    /// `SELinux` and Smack register their file systems when they are switched
    /// on at boot, and then only (`init_sel_fs`,
    /// `security/selinux/selinuxfs.c`; `init_smk_fs`,
    /// `security/smack/smackfs.c`): that shows in a container too, where these
    /// file systems are not mounted.
    fn in_force_at(root: &Path) -> Option<Self> {
        let Ok(filesystems) = fs::read_to_string(root.join("proc/filesystems")) else {
            return Some(Self::Unknown);
        };
        let is_registered = |name| {
            let mut names = filesystems
                .lines()
                .filter_map(|line| line.split('\t').nth(1));
            names.any(|other| other == name)
        };
        if is_registered("selinuxfs") && !is_permissive(root) {
            Some(Self::SeLinux)
        } else if is_registered("smackfs") {
            Some(Self::Smack)
        } else if has_app_armor(root) && app_armor_mediates(root) {
            Some(Self::AppArmor)
        } else {
            None
        }
    }
}

fn is_permissive(root: &Path) -> bool {
    let enforce = fs::read(root.join("sys/fs/selinux/enforce"));
    enforce.is_ok_and(|enforce| enforce.trim_ascii() == b"0")
}

/// The directory is there wherever the module is built in.
fn has_app_armor(root: &Path) -> bool {
    match fs::read(root.join("sys/module/apparmor/parameters/enabled")) {
        Ok(enabled) => enabled.trim_ascii() != b"N",
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Whether its features have `af_unix` (`aa_sfs_entry_networkv9`,
/// `security/apparmor/net.c`; distributions' kernels had it before, in
/// `network`). Profiles may be loaded at any time, so it does not matter how
/// many there are now.
fn app_armor_mediates(root: &Path) -> bool {
    let Ok(features) = fs::read_dir(root.join("sys/kernel/security/apparmor/features")) else {
        return true;
    };
    let mut features = features.map(|feature| feature.map(|feature| feature.path()));
    features.any(|feature| feature.is_ok_and(|feature| feature.join("af_unix").exists()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A host with these files.
    fn found(files: &[(&str, &str)]) -> Option<SecurityModule> {
        let root = TempDir::new().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        SecurityModule::in_force_at(root.path())
    }

    const PLAIN: (&str, &str) = ("proc/filesystems", "nodev\tsysfs\n\text4\n");
    const SELINUX: (&str, &str) = (
        "proc/filesystems",
        "nodev\tsysfs\nnodev\tselinuxfs\n\text4\n",
    );

    #[test]
    fn selinux_decides_unless_it_is_permissive() {
        use SecurityModule::SeLinux;
        let enforce = "sys/fs/selinux/enforce";
        assert_eq!(found(&[SELINUX, (enforce, "1")]), Some(SeLinux));
        assert_eq!(found(&[SELINUX, (enforce, "0")]), None);
        assert_eq!(found(&[SELINUX, (enforce, "")]), Some(SeLinux));
        // As in a container, where the file is not shown.
        assert_eq!(found(&[SELINUX]), Some(SeLinux));
    }

    #[test]
    fn smack_decides() {
        let smack = ("proc/filesystems", "nodev\tsmackfs\n");
        assert_eq!(found(&[smack]), Some(SecurityModule::Smack));
    }

    #[test]
    fn app_armor_decides_where_it_mediates_unix_sockets() {
        use SecurityModule::AppArmor;
        let enabled = "sys/module/apparmor/parameters/enabled";
        let on = (enabled, "Y\n");
        let features = "sys/kernel/security/apparmor/features";
        let old = format!("{features}/network_v8/af_mask");
        let new = format!("{features}/network_v9/af_unix");
        assert_eq!(found(&[PLAIN, on, (&old, "unix")]), None);
        assert_eq!(
            found(&[PLAIN, on, (&old, "unix"), (&new, "yes")]),
            Some(AppArmor)
        );
        assert_eq!(found(&[PLAIN, (enabled, "N\n"), (&new, "yes")]), None);
        // Its features cannot be read.
        assert_eq!(found(&[PLAIN, on]), Some(AppArmor));
    }

    #[test]
    fn a_host_without_any_is_free() {
        assert_eq!(found(&[PLAIN]), None);
        let other = (
            "proc/filesystems",
            "nodev\tnoselinuxfs\nnodev\tselinuxfs2\n",
        );
        assert_eq!(found(&[other]), None);
    }

    #[test]
    fn a_host_that_cannot_be_read_may_have_any() {
        assert_eq!(found(&[]), Some(SecurityModule::Unknown));
    }
}
