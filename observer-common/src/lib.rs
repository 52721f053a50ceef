//! What the kernel side and the user side of the observer share.
//!
//! - [`frame`]: the 32-byte VLP frame and its only codec.
//! - [`record`]: what the eBPF programs write to the ring for each datagram.
//! - [`gate`]: what a sender may send, and what is taken off the Unix socket.
//! - [`budget`]: what the eBPF programs keep of each sender.
//! - [`kfunc`]: the kernel functions that the eBPF programs call.
//! - [`layout`]: the constants that userspace injects when it loads them.
//! - [`listener`]: which IP datagrams are the observer's.
//! - [`loss`]: what the kernel side counts of what is lost, dropped or refused.
//!
//! The crate is `no_std`. The `user` feature adds what only userspace needs.

#![no_std]

pub mod budget;
pub mod frame;
pub mod gate;
pub mod kfunc;
pub mod layout;
pub mod listener;
pub mod loss;
pub mod record;
