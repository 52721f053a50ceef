//! One style of imports: a line for each module, without braces in braces.
//! rustfmt has that behind a nightly option only (`imports_granularity`).
//!
//! Works on what rustfmt has written: a `use` begins a line, and a block is
//! indented more than what is around it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::Outcome;
use crate::workspace::Workspace;

/// Crates that have nothing but modules at their root. Each of these has a line
/// of its own.
const OF_MODULES: [&str; 3] = ["std", "core", "alloc"];

pub(super) fn check(workspace: &Workspace) -> Result<Outcome> {
    let mut files = Vec::new();
    find(workspace.root(), &mut files)?;
    let mut wrong = Vec::new();
    for file in &files {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(workspace.root()).unwrap_or(file);
        let found = judge(&text).into_iter();
        wrong.extend(found.map(|(line, what)| format!("{}:{line}: {what}", name.display())));
    }
    if !wrong.is_empty() {
        bail!("\n{}", wrong.join("\n"));
    }
    Ok(Outcome::Passed(format!(
        "a line for each module, in {} files",
        files.len()
    )))
}

/// All Rust files below the folder that are sources.
fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name();
        let is_ours = name != "target" && !name.as_encoded_bytes().starts_with(b".");
        if entry.file_type()?.is_dir() && is_ours {
            find(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

/// The lines with something wrong, and what.
fn judge(text: &str) -> Vec<(usize, String)> {
    let mut wrong = Vec::new();
    // By indentation, from the file to the innermost block.
    let mut scopes: BTreeMap<usize, HashMap<String, Imports>> = BTreeMap::new();
    let mut lines = text.lines().zip(1..);
    let mut attribute = "";
    while let Some((line, number)) = lines.next() {
        let trimmed = line.trim_start();
        if trimmed.is_empty() {
            continue;
        }
        let indentation = line.len().saturating_sub(trimmed.len());
        scopes.retain(|outer, _| *outer <= indentation);
        if let Some((visibility, first)) = import(trimmed) {
            let tree = whole(first, lines.by_ref().map(|(line, _)| line));
            let tree = Tree::of(&tree);
            let scope = scopes.entry(indentation).or_default();
            // Imports for tests or for a feature are apart from the others.
            let alike = scope.entry(format!("{attribute}{visibility}"));
            let fault = tree.fault().or_else(|| alike.or_default().add(&tree));
            wrong.extend(fault.map(|fault| (number, fault)));
        }
        let is_attribute = trimmed.starts_with("#[") || trimmed == ")]";
        attribute = if is_attribute { trimmed } else { "" };
    }
    wrong
}

/// The visibility of an import, and what follows its `use`.
fn import(line: &str) -> Option<(&str, &str)> {
    if let Some(rest) = line.strip_prefix("use ") {
        return Some(("", rest));
    }
    let (visibility, rest) = line.split_once(" use ")?;
    let is_restricted = visibility.starts_with("pub(") && visibility.ends_with(')');
    (visibility == "pub" || is_restricted).then_some((visibility, rest))
}

/// An import on one line, up to its semicolon.
fn whole<'a>(first: &str, following: impl Iterator<Item = &'a str>) -> String {
    let mut following = following.map(str::trim);
    let mut tree = first.to_owned();
    while !tree.ends_with(';')
        && let Some(line) = following.next()
    {
        tree.push_str(line);
    }
    tree.trim_end_matches(';').to_owned()
}

/// What an import takes: names of a module.
struct Tree<'a> {
    module: &'a str,
    /// Without what they are called here.
    names: Vec<&'a str>,
}

impl<'a> Tree<'a> {
    fn of(tree: &'a str) -> Self {
        let (module, names) = tree
            .split_once("::{")
            .or_else(|| tree.rsplit_once("::"))
            .unwrap_or(("", tree));
        let names = names.strip_suffix('}').unwrap_or(names).split(',');
        let names = names.filter_map(|name| name.trim().split(' ').next());
        Self {
            module,
            names: names.filter(|name| !name.is_empty()).collect(),
        }
    }

    /// What is wrong with it by itself.
    fn fault(&self) -> Option<String> {
        let Self { module, names } = self;
        let is_of_many = names.iter().any(|name| name.contains("::"));
        let is_of_modules = OF_MODULES.contains(module) && names.len() > 1;
        (is_of_many || is_of_modules)
            .then(|| format!("takes from several modules in {module}: give each a line"))
    }
}

/// What imports of one kind in a block have taken.
#[derive(Default)]
struct Imports {
    modules: HashSet<String>,
    names: HashSet<String>,
}

impl Imports {
    /// What is wrong with an import beside those before it.
    fn add(&mut self, tree: &Tree<'_>) -> Option<String> {
        let Self { modules, names } = self;
        let &Tree {
            module,
            names: ref new,
        } = tree;
        let shares_a_line = !module.is_empty() && !OF_MODULES.contains(&module);
        if shares_a_line && !modules.insert(module.to_owned()) {
            return Some(format!("is a second line for {module}: join them"));
        }
        let new = new.iter().map(|name| format!("{module}::{name}"));
        let new: Vec<String> = new.collect();
        let mut both = new.iter().filter(|path| modules.contains(*path));
        let both = both.next().map(String::as_str);
        let both = both.or_else(|| names.contains(module).then_some(module));
        let fault = both.map(|path| format!("is a second line for {path}: join them by `self`"));
        names.extend(new);
        fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_imports_are_right() {
        for right in [
            "use std::fs;\nuse std::io;\nuse std::path::{Path, PathBuf};\n",
            "use std::io::{self, Read as _};\nuse anyhow::Result;\n",
            "use super::{\n    a,\n    b,\n};\npub use super::c;\n",
            "use a::B;\n#[cfg(test)]\nuse a::C;\n",
            "use a::B;\nmod tests {\n    use a::B;\n}\nfn f() {\n    use a::B;\n}\n",
            "use a;\nuse b;\n// use a;\nlet text = \"a use of b\";\n",
        ] {
            assert_eq!(judge(right), [], "{right}");
        }
    }

    #[test]
    fn other_imports_are_found() {
        for wrong in [
            "\nuse a::{b, c::D};\n",
            "\nuse a::{\n    b::{C, D},\n    e,\n};\n",
            "\nuse std::{fs, io};\n",
            "use a::B;\nuse a::C;\n",
            "pub(crate) use a::{B, C};\npub(crate) use a::D;\n",
            "use std::io;\nuse std::io::Read;\n",
            "use std::io::{Read, Write};\nuse std::io;\n",
            "use super::{a, B};\nuse super::a::{C, D};\n",
            "mod tests { use a::B; }\nuse a::{b::C};\n",
        ] {
            let lines: Vec<_> = judge(wrong).into_iter().map(|(line, _)| line).collect();
            assert_eq!(lines, [2], "{wrong}");
        }
    }
}
