//! What this was measured on.

use std::collections::BTreeMap;
use std::fs;
use std::thread;

use serde::Serialize;

/// As far as the kernel shows it.
#[derive(Debug, Serialize)]
pub struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    is_virtual: bool,
    /// Of the CPU's weaknesses that apply, what the kernel does about each.
    mitigations: BTreeMap<String, String>,
    /// Load averages when it began: what else was going on.
    load: String,
}

impl Machine {
    pub fn describe() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let of_cpu = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(": "))
                .map_or("", |(_, value)| value)
        };
        let uname = rustix::system::uname();
        Self {
            cpu: of_cpu("model name").to_owned(),
            cores: thread::available_parallelism().map_or(0, usize::from),
            kernel: uname.release().to_string_lossy().into_owned(),
            is_virtual: of_cpu("flags").split(' ').any(|flag| flag == "hypervisor"),
            mitigations: mitigations(),
            load: read("/proc/loadavg").trim().to_owned(),
        }
    }

    /// One paragraph.
    pub fn sentence(&self) -> String {
        let Self {
            cpu,
            cores,
            kernel,
            is_virtual,
            mitigations,
            load,
        } = self;
        let kind = if *is_virtual { "virtual" } else { "physical" };
        let names: Vec<&str> = mitigations.keys().map(String::as_str).collect();
        let against = if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.join(", ")
        };
        format!(
            "{cores} {kind} cores of {cpu}, Linux {kernel}, mitigations against {against}; \
             load when it began: {load}."
        )
    }
}

fn mitigations() -> BTreeMap<String, String> {
    let folder = fs::read_dir("/sys/devices/system/cpu/vulnerabilities");
    let files = folder.into_iter().flatten().filter_map(Result::ok);
    files
        .map(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            let state = fs::read_to_string(file.path()).unwrap_or_default();
            (name, state.trim().to_owned())
        })
        .filter(|(_, state)| state.starts_with("Mitigation"))
        .collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default()
}
