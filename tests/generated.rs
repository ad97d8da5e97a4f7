//! What is generated from the command line's definition and committed: man pages and completions.
//! `UPDATE=1 cargo test generated` writes them anew.

#[path = "../src/cli.rs"]
mod cli;
#[path = "../src/units.rs"]
mod units;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::roff::{Roff, bold, roman};

#[test]
fn man_pages_follow_from_the_command_line() {
    let mut command = cli::Cli::command();
    command.build();
    let mut pages = BTreeMap::from([("pgdetour.1".into(), page(&command))]);
    for subcommand in command.get_subcommands() {
        let name = format!("pgdetour-{}", subcommand.get_name());
        pages.insert(format!("{name}.1"), page(subcommand));
    }
    assert_eq!(pages.len(), 11, "one page, and one for each command");
    compare("man", &pages);
}

#[test]
fn completions_follow_from_the_command_line() {
    let shells = [(Shell::Bash, "pgdetour.bash"), (Shell::Zsh, "_pgdetour"), (Shell::Fish, "pgdetour.fish")];
    let files = shells.map(|(shell, name)| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut cli::Cli::command(), "pgdetour", &mut script);
        (name.to_owned(), text(script))
    });
    compare("completions", &BTreeMap::from(files));
}

/// A page of the usual sections; what the help shows last becomes sections of its own.
fn page(command: &clap::Command) -> String {
    let man = clap_mangen::Man::new(command.clone())
        .source(concat!("pgdetour ", env!("CARGO_PKG_VERSION")))
        .manual("PostgreSQL maintenance");
    let mut page = Vec::new();
    man.render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| man.render_options_section(&mut page))
        .and_then(
            |()| if command.has_subcommands() { man.render_subcommands_section(&mut page) } else { Ok(()) },
        )
        .and_then(|()| own_sections(command).to_writer(&mut page))
        .expect("memory takes any page");
    text(page)
}

fn own_sections(command: &clap::Command) -> Roff {
    let mut sections = Roff::new();
    let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    for paragraph in help.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        let (heading, body) = paragraph.split_once(":\n").expect("each paragraph has a heading");
        let heading =
            if heading.starts_with("Exit codes") { "EXIT STATUS".into() } else { heading.to_uppercase() };
        sections.control("SH", [heading.as_str()]).control("nf", []).text([roman(body)]).control("fi", []);
    }
    sections.control("SH", ["ENVIRONMENT"]);
    for argument in command.get_arguments() {
        if let (Some(variable), Some(long)) = (argument.get_env(), argument.get_long()) {
            sections.control("TP", []).text([bold(variable.to_string_lossy())]);
            sections.text([roman(format!("Stands in for --{long}."))]);
        }
    }
    sections.control("TP", []).text([bold("PGPASSFILE, PGSERVICEFILE, PGSSLMODE and others")]);
    sections.text([roman("As for psql, where a connection string does not say otherwise.")]);
    sections
}

/// Compares with the files in `folder`, of which there may be no others; writes them when `UPDATE` is set.
fn compare(folder: &str, expected: &BTreeMap<String, String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::create_dir_all(&folder).expect("the project's folder can be written");
        for stale in files_in(&folder).iter().filter(|path| !expected.contains_key(&file_name(path))) {
            fs::remove_file(stale).expect("a file in the project can be removed");
        }
        for (name, content) in expected {
            fs::write(folder.join(name), content).expect("a file in the project can be written");
        }
    }
    let found: BTreeMap<String, String> = files_in(&folder)
        .iter()
        .map(|path| (file_name(path), fs::read_to_string(path).expect("a listed file can be read")))
        .collect();
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(expected), "files in {}", folder.display());
    for (name, content) in expected {
        assert!(found[name] == *content, "{name} is out of date: run UPDATE=1 cargo test generated");
    }
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("the folder can be listed").path()).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().expect("a listed file has a name").to_string_lossy().into_owned()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("what is generated is UTF-8")
}
