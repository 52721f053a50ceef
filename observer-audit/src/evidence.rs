//! What else can be learnt of a sender: its container, and what it runs.

mod cgroup;
mod gather;
mod process;

pub(super) use cgroup::Container;
pub(super) use gather::{Evidence, Gathering};
pub(super) use process::Process;
