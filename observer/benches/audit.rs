//! The trail's cost: to the thread that leaves incidents, and in all.

fn main() {}
