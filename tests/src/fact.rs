//! What a test found out about this kernel, for the tables that
//! `cargo xtask vm` makes.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;

use serde_json::json;

/// Records a fact, of a name that is the same on each kernel, in the file that
/// `OBSERVER_FACTS` names; without it, nowhere.
///
/// # Panics
/// If the file cannot be written.
pub fn record(name: &str, value: &str) {
    let Some(path) = env::var_os("OBSERVER_FACTS") else {
        return;
    };
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let line = json!({"fact": name, "value": value});
    writeln!(file, "{line}").expect("it can be written");
}
