//! What to install, as lines to type.

use crate::{compiler, linker};

/// Where a compiler is missing. The linker is then missing too, as a rule.
#[must_use]
pub fn toolchain() -> String {
    format!(
        "\nThe eBPF program needs a Rust compiler with the sources of core. With rustup:\n    {}\n\
         or on Debian and its children, as root:\n    {}\n\
         It also needs bpf-linker{}",
        compiler::WITH_RUSTUP,
        apt(&compiler::PACKAGES),
        linker_lines(linker::USUAL_LLVM),
    )
}

/// Where the compiler is there and lacks a linker.
#[must_use]
pub fn linker(llvm: u32) -> String {
    format!("\nThe eBPF program needs bpf-linker{}", linker_lines(llvm))
}

fn linker_lines(llvm: u32) -> String {
    format!(
        " and, to build it, LLVM {llvm}. On Debian and its children, as root:\n    {}\n\
         and as yourself:\n    {}\n\
         elsewhere set LLVM_PREFIX to where LLVM {llvm} is, or install a release of bpf-linker \
         0.13 on your PATH.",
        apt(&linker::packages(llvm)),
        linker::by_hand(llvm),
    )
}

fn apt(packages: &[impl AsRef<str>]) -> String {
    let packages: Vec<&str> = packages.iter().map(AsRef::as_ref).collect();
    let packages = packages.join(" ");
    format!("apt-get update && apt-get install --no-install-recommends {packages}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_install_is_named() {
        let all = toolchain();
        for line in [
            "rustup toolchain install nightly --component rust-src",
            "rustc-web rust-web-src gcc libc6-dev",
            "llvm-22-dev",
            "LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker",
        ] {
            assert!(all.contains(line), "{line}: {all}");
        }
        let linker = linker(21);
        assert!(linker.contains("llvm-21-dev"), "{linker}");
        assert!(!linker.contains("rustup"), "{linker}");
    }
}
