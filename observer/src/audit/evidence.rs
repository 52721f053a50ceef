//! What else can be learnt of a sender: its container, and what it runs.

mod cgroup;
mod process;

pub(super) use cgroup::{Cgroups, Container};
pub(super) use process::Process;
