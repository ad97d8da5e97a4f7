//! Arrows between the parts of the program point down only: cli → steps → (flow, routers) → pg.

use std::fs;
use std::path::{Path, PathBuf};

/// Who may use whom: a part, and the layer that it is in. Parts of the same layer do not know each other.
const LAYERS: &[(&str, u8)] = &[
    ("main", 9),
    ("cli", 8),
    ("steps", 7),
    ("output", 6),
    ("flow", 5),
    ("routers", 5),
    ("pg", 4),
    ("config", 3),
    ("pattern", 2),
    ("units", 1),
    ("plan", 1),
    ("fault", 1),
    ("sql", 1),
];

/// These two speak of each other and are known to all: a failure names the phase.
const SHARED: &[&str] = &["error", "phase"];

#[test]
fn arrows_point_down_only() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut arrows = 0;
    let mut wrong = Vec::new();
    for path in rust_files(&source) {
        let relative = path.strip_prefix(&source).expect("it was found there");
        let from = part_of(relative);
        let text = fs::read_to_string(&path).expect("a listed file can be read");
        for to in used_parts(&text) {
            arrows += 1;
            if !may_use(&from, &to) {
                wrong.push(format!("src/{}: {from} uses {to}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(arrows > 20, "only {arrows} arrows were found: is the source read at all?");
}

#[test]
fn every_form_of_use_is_seen() {
    let text = "use crate::pg::Session;\npub use crate::{flow::Copy, routers};\nlet a = crate::sql::quote(b);\n\
                use crate::{\n    error::Error,\n    plan,\n};\n//! crate::cli\nuse super::units;\nuse std::fmt;\n";
    assert_eq!(used_parts(text), ["pg", "flow", "routers", "sql", "error", "plan"]);
}

#[test]
fn wrong_arrows_are_refused() {
    assert!(may_use("steps", "flow"));
    assert!(may_use("flow", "pg"));
    assert!(may_use("flow", "flow"));
    assert!(may_use("error", "phase"));
    assert!(!may_use("pg", "flow"));
    assert!(!may_use("flow", "routers"));
    assert!(!may_use("routers", "flow"));
    assert!(!may_use("flow", "output"));
    assert!(!may_use("error", "steps"));
}

/// Whether `from` may use `to`. A part that the table does not know may be used by nobody, so that it gets a place.
fn may_use(from: &str, to: &str) -> bool {
    let layer = |part: &str| LAYERS.iter().find(|(name, _)| *name == part).map(|(_, layer)| *layer);
    if from == to || SHARED.contains(&to) {
        return true;
    }
    // What is shared by all uses nothing of what uses it, beside what has no arrows of its own.
    let from = if SHARED.contains(&from) { Some(1) } else { layer(from) };
    matches!((from, layer(to)), (Some(from), Some(to)) if from > to)
}

/// `steps/cutover.rs` and `steps.rs` are parts of `steps`.
fn part_of(relative: &Path) -> String {
    let first = relative.components().next().expect("a file has a name");
    let first = Path::new(first.as_os_str());
    first.file_stem().expect("a file has a name").to_string_lossy().into_owned()
}

/// First segments of all paths that begin with `crate::`, comments left out, groups resolved.
fn used_parts(text: &str) -> Vec<String> {
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut parts = Vec::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            Some(group) => parts.extend(group_members(group).iter().map(|member| first_word(member))),
            None => parts.push(first_word(after)),
        }
    }
    parts
}

/// What a group of imports lists, up to its closing brace; groups within it stay with their member.
fn group_members(group: &str) -> Vec<String> {
    let mut members = vec![String::new()];
    let mut depth = 0;
    for character in group.chars() {
        match character {
            '}' if depth == 0 => break,
            ',' if depth == 0 => members.push(String::new()),
            _ => {
                depth += i32::from(character == '{') - i32::from(character == '}');
                members.last_mut().expect("it begins with one member").push(character);
            }
        }
    }
    members.retain(|member| !member.trim().is_empty());
    members
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("the source folder can be listed") {
        let path = entry.expect("the source folder can be listed").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
