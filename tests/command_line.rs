//! What the binary itself does with arguments, environment and configuration, before any server is asked.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Runs the binary in an empty folder, with none of our variables set.
fn pgdetour(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    command(arguments).current_dir(folder.path()).output().expect("the binary runs")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgdetour"));
    command.args(arguments).stdin(Stdio::null());
    for variable in ["PGDETOUR_CONFIG", "PGDETOUR_SOURCE", "PGDETOUR_TARGET"] {
        command.env_remove(variable);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the output is UTF-8")
}

/// The only document on standard output, which fits the schema.
fn document(output: &Output) -> Value {
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let schema: Value = serde_json::from_str(include_str!("schema.json")).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is one");
    let wrong: Vec<String> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:?} in {document}");
    document
}

#[test]
fn help_and_version_are_asked_for_and_succeed() {
    let help = pgdetour(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("Exit codes"));
    assert!(help.stderr.is_empty());
    let version = pgdetour(&["cutover", "--version"]);
    assert_eq!(text(&version.stdout), format!("pgdetour-cutover {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_shows_no_value_of_the_environment() {
    let mut command = command(&["cutover", "--help"]);
    command.env("PGDETOUR_SOURCE", "host=a password=geheim");
    let output = command.output().expect("the binary runs");
    assert!(text(&output.stdout).contains("PGDETOUR_SOURCE"));
    assert!(!text(&output.stdout).contains("geheim"));
}

#[test]
fn a_wrong_call_exits_2_and_says_what_would_be_right() {
    let output = pgdetour(&["cutover", "--max-paus", "3s"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert_eq!(
        text(&output.stderr),
        "error: unexpected argument '--max-paus' found\n  \
           hint: A similar argument exists: '--max-pause'. See \"pgdetour cutover --help\".\n  \
           next: nothing was changed; correct this, then run the same command again.\n"
    );
}

#[test]
fn a_call_without_a_command_lists_the_commands() {
    let output = pgdetour(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr)
            .starts_with("error: no command is given\n  hint: The commands are check, mirror, ")
    );
}

#[test]
fn with_json_even_a_wrong_call_gives_one_document() {
    let output = pgdetour(&["status", "--json", "--nonsense"]);
    assert_eq!(output.status.code(), Some(2));
    let found = document(&output);
    assert_eq!(found["command"], "status");
    assert_eq!(found["error"]["kind"], "usage");
    assert_eq!(found["error"]["exit"], 2);
    assert_eq!(document(&pgdetour(&["--json", "frobnicate"]))["command"], Value::Null);
    assert_eq!(document(&pgdetour(&["--json"]))["error"]["message"], "no command is given");
}

#[test]
fn options_of_every_command_stand_before_or_after_it() {
    for arguments in [["--json", "status"], ["status", "--json"]] {
        assert_eq!(document(&pgdetour(&arguments))["error"]["kind"], "configuration");
    }
}

#[test]
fn a_missing_configuration_is_named() {
    let output = pgdetour(&["status", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let message = document(&output)["error"]["message"].clone();
    assert_eq!(message, "pgdetour.toml: could not read the file: there is no such file");
    let output = pgdetour(&["status", "-c", "other.toml", "--source", "host=a", "--target", "host=b"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("error: other.toml: could not read the file"));
}

#[test]
fn every_mistake_in_the_configuration_is_told_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::write(folder.path().join("pgdetour.toml"), "[mirror]\njob = 3\nmode = \"batches\"\n")
        .expect("the folder can be written");
    let output = command(&["check", "--json"]).current_dir(folder.path()).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "error: pgdetour.toml:2: unknown key \"mirror.job\"\n  \
           hint: Did you mean \"jobs\"?\n  \
           configuration: pgdetour.toml:3: mirror.mode cannot be \"batches\"\n    \
             hint: It is one of \"continuous\", \"batch\". Did you mean \"batch\"?\n  \
           next: nothing was changed; correct this, then run the same command again.\n"
    );
    assert_eq!(document(&output)["error"]["failures"][0]["object"], "pgdetour.toml:3");
}

#[test]
fn a_password_in_a_wrong_call_is_not_repeated() {
    let output = pgdetour(&["status", "--json", "--source", "host=a", "password=geheim"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!text(&output.stdout).contains("geheim"), "{}", text(&output.stdout));
    assert!(!text(&output.stderr).contains("geheim"), "{}", text(&output.stderr));
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    for (arguments, code) in [(["cutover", "--help"], 0), (["cutover", "--json"], 2)] {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut command = command(&arguments);
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        drop(reader);
        let output = command.current_dir(folder.path()).stdout(writer).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
    }
}

#[test]
fn status_is_not_watched_without_a_pause() {
    let output = pgdetour(&["status", "--watch", "--interval", "0s"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--interval"), "{}", text(&output.stderr));
}
