//! Which file a process executes, by device and inode.
//!
//! The kernel's record has a file system's own device number
//! (`super_block.s_dev`) and an inode's own number (`inode.i_ino`). `stat` may
//! say otherwise: on btrfs it gives each subvolume a device of its own, and on
//! overlayfs a file may have the device or the inode of the layer that it lies
//! in. What the kernel says of an *open* file is what the record says:
//! `/proc/self/fdinfo` has the inode (`ino`, `seq_show`, `fs/proc/fd.c`) and the
//! mount (`mnt_id`), and `/proc/self/mountinfo` that mount's device
//! (`show_mountinfo`, `fs/proc_namespace.c`). None of that asks a file system
//! anything. Opening the file may: a network file system may ask its server
//! whether it is still there (`complete_walk`, `fs/namei.c`).

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A device number.
///
/// ```
/// use observer_events::exe::Device;
///
/// let device = Device::from_kernel(254 << 20 | 1);
/// assert_eq!(device, Device::from_stat(0xfe01));
/// assert_eq!(device.to_string(), "254:1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    /// Which driver, or 0 where no device is behind the file system.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

impl Device {
    /// As the kernel itself encodes it (`MKDEV`, `include/linux/kdev_t.h`).
    #[must_use]
    pub const fn from_kernel(number: u32) -> Self {
        Self {
            major: number >> 20,
            minor: number & 0x000f_ffff,
        }
    }

    /// As `stat` gives it to programs (`new_encode_dev`, likewise).
    #[must_use]
    pub const fn from_stat(number: u64) -> Self {
        // The rest is for numbers that no kernel gives out.
        let number = (number & 0xffff_ffff) as u32;
        Self {
            major: (number & 0x000f_ff00) >> 8,
            minor: (number & 0xff) | ((number >> 12) & 0x000f_ff00),
        }
    }

    /// `MAJOR:MINOR`
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once(':')?;
        Some(Self {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

/// `MAJOR:MINOR`, as in `/proc/self/mountinfo`.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor } = self;
        write!(f, "{major}:{minor}")
    }
}

/// As text.
impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Device {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("no device number"))
    }
}

/// The file that a process executes.
///
/// It names the file while that exists, and no longer: a file system may give
/// the number of a removed file to a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExeId {
    /// Device of its file system, as `/proc/self/mountinfo` shows it.
    pub device: Device,
    /// Its inode.
    pub inode: u64,
}

/// For people.
impl fmt::Display for ExeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, inode } = self;
        write!(f, "inode {inode} on {device}")
    }
}

/// Where an open file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The mount that it was opened by.
    pub mount_id: u64,
    /// Its inode.
    pub inode: u64,
}

impl Place {
    /// That of an open file; `O_PATH` will do.
    ///
    /// # Errors
    /// If `/proc` does not show it.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        let number = file.as_fd().as_raw_fd();
        let text = fs::read_to_string(format!("/proc/thread-self/fdinfo/{number}"))?;
        Self::parse(&text).ok_or_else(|| io::Error::other("fdinfo shows no inode"))
    }

    fn parse(fdinfo: &str) -> Option<Self> {
        let number = |name| {
            let mut lines = fdinfo.lines();
            let value = lines.find_map(|line| line.strip_prefix(name))?;
            value.trim().parse().ok()
        };
        Some(Self {
            mount_id: number("mnt_id:")?,
            inode: number("ino:")?,
        })
    }

    /// The device of its mount, by a `mountinfo` of `/proc` (`proc(5)`): `ID
    /// PARENT MAJOR:MINOR ROOT ...` on each line. `None`: that mount is not in it,
    /// or the text ends before the end of its number.
    #[must_use]
    pub fn device(&self, mountinfo: &[u8]) -> Option<Device> {
        mountinfo.split(|&byte| byte == b'\n').find_map(|line| {
            // What comes after may be no text: it is names of folders.
            let mut words = line.split(|&byte| byte == b' ');
            let mut word = || str::from_utf8(words.next()?).ok();
            let (id, _parent, device) = (word()?, word()?, word()?);
            let is_this = id.parse() == Ok(self.mount_id) && words.next().is_some();
            is_this.then(|| Device::parse(device))?
        })
    }
}

impl ExeId {
    /// The id by which a record would name an open file; `O_PATH` will do.
    /// `None` if the mount that it was opened by is not one of this mount
    /// namespace, or is not shown: of a file in memory (`memfd_create`) there is
    /// none.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn of_file(file: impl AsFd) -> io::Result<Option<Self>> {
        let place = Place::of(file)?;
        let mounts = fs::read("/proc/thread-self/mountinfo")?;
        Ok(place.device(&mounts).map(|device| Self {
            device,
            inode: place.inode,
        }))
    }

    /// That of a record; zeros are unknown. A FUSE server may give an inode the
    /// number 0, and no file system has the device 0.
    #[must_use]
    pub fn from_record(device: u32, inode: u64) -> Option<Self> {
        (device != 0 || inode != 0).then_some(Self {
            device: Device::from_kernel(device),
            inode,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn devices_are_read_in_each_encoding() {
        for (major, minor, kernel, stat) in [
            (0, 27, 27, 27),
            (8, 1, 8 << 20 | 1, 0x801),
            (254, 0x1_2345, 254 << 20 | 0x1_2345, 0x1230_fe45),
            (0xfff, 0xf_ffff, u32::MAX, 0xffff_ffff),
        ] {
            let device = Device { major, minor };
            assert_eq!(Device::from_kernel(kernel), device);
            assert_eq!(Device::from_stat(stat), device);
            assert_eq!(Device::parse(&device.to_string()), Some(device));
        }
        for bad in ["", "1", "1:", ":1", "1:x", "1:2:3", "-1:2"] {
            assert_eq!(Device::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_mount_is_found_by_its_whole_number() {
        let mounts =
            b"301 1 0:5 / /\xff rw - tmpfs x rw\n\nx\n30 1 8:2 /a\\040b / rw - ext4 /x rw\n";
        let place = |mount_id| Place { mount_id, inode: 1 };
        let expected = Device { major: 8, minor: 2 };
        assert_eq!(place(30).device(mounts), Some(expected));
        assert_eq!(place(1).device(mounts), None);
        assert_eq!(place(30).device(b"30 1"), None);
        assert_eq!(place(30).device(b"30 1 x / "), None);
        // Cut: it may have been 8:21.
        assert_eq!(place(30).device(b"30 1 8:2"), None);
    }

    #[test]
    fn what_fdinfo_does_not_show_is_unknown() {
        let text = "pos:\t0\nflags:\t0100000\nmnt_id:\t30\nino:\t77\n";
        let expected = Place {
            mount_id: 30,
            inode: 77,
        };
        assert_eq!(Place::parse(text), Some(expected));
        assert_eq!(Place::parse("mnt_id:\t30\n"), None);
        assert_eq!(Place::parse("mnt_id:\tx\nino:\t1\n"), None);
    }

    #[test]
    fn an_open_file_is_named() {
        let file = File::open("/proc/self/exe").unwrap();
        let place = Place::of(&file).unwrap();
        assert_ne!(place.inode, 0);
        let proc = File::open("/proc/version").unwrap();
        // It has the same numbers in `stat`.
        let metadata = proc.metadata().unwrap();
        let expected = ExeId {
            device: Device::from_stat(metadata.dev()),
            inode: metadata.ino(),
        };
        assert_eq!(ExeId::of_file(&proc).unwrap(), Some(expected));
        assert_eq!(ExeId::from_record(0, 0), None);
        assert!(ExeId::from_record(5, 0).is_some());
    }
}
