//! What the kernel side and the user side of the observer share.
//!
//! - [`frame`]: the 32-byte VLP frame and its only codec.
//! - [`record`]: what the eBPF programs write to the ring for each datagram.
//! - [`gate`]: what the filter on the Unix socket lets through.
//! - [`kfunc`]: the kernel functions that the eBPF programs call.
//! - [`layout`]: the constants that userspace injects when it loads them.
//! - [`listener`]: which IP datagrams are the observer's.
//! - [`loss`]: what the kernel side counts when it has to let something go.
//!
//! The crate is `no_std`. The `user` feature adds what only userspace needs.

#![no_std]

pub mod frame;
pub mod gate;
pub mod kfunc;
pub mod layout;
pub mod listener;
pub mod loss;
pub mod record;
