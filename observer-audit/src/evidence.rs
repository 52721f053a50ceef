//! What is read about a sender after the fact: its container, and what it runs.

mod boot_clock;
mod cgroup;
mod executable;
mod gather;
mod process;
mod procfs;

pub(crate) use cgroup::Container;
pub(crate) use gather::{Evidence, Gathering};
pub(crate) use process::Process;
