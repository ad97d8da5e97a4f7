//! What a run of the binary answered, held against the contract.

use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::OnceLock;

use serde_json::Value;

use super::postgres::DBA_PASSWORD;

const PHASES: [&str; 7] =
    ["absent", "mirroring", "mirrored", "cutting_over", "detoured", "cutting_back", "returned"];

/// One run: how it ended and all that it wrote.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Arguments, for messages.
    pub arguments: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
    /// The one document on stdout; null when a signal ended the run before it could answer.
    pub json: Value,
}

impl Answer {
    /// Reads what a run with `--json` wrote, and panics unless it is what the contract promises for `command`.
    pub fn read(
        command: &str,
        arguments: String,
        status: ExitStatus,
        stdout: String,
        stderr: String,
    ) -> Answer {
        let mut answer = Answer { arguments, status, stdout, stderr, json: Value::Null };
        assert!(
            !answer.stdout.contains(DBA_PASSWORD) && !answer.stderr.contains(DBA_PASSWORD),
            "{} shows a password",
            answer.arguments
        );
        if answer.status.signal().is_some() {
            return answer;
        }
        match serde_json::from_str(&answer.stdout) {
            Ok(document) => answer.json = document,
            Err(error) => panic!("stdout is not one JSON document: {error}\n{}", answer.describe()),
        }
        let mistakes = answer.mistakes(command);
        assert!(mistakes.is_empty(), "against the contract: {}\n{}", mistakes.join("; "), answer.describe());
        answer
    }

    /// The exit code; none when a signal ended the run.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Whether SIGKILL ended it, as an injected fault does.
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(9)
    }

    /// The value at a JSON pointer such as `/report/steps`; panics when there is none.
    pub fn at(&self, pointer: &str) -> &Value {
        self.json
            .pointer(pointer)
            .unwrap_or_else(|| panic!("no {pointer} in the answer\n{}", self.describe()))
    }

    /// The text at a JSON pointer.
    pub fn text_at(&self, pointer: &str) -> &str {
        let value = self.at(pointer);
        value.as_str().unwrap_or_else(|| panic!("{pointer} is not a text\n{}", self.describe()))
    }

    /// The whole run, for a message.
    pub fn describe(&self) -> String {
        let mut text = format!("$ pgdetour {}\n{}", self.arguments, self.status);
        for (name, content) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let _ = write!(text, "\n--- {name}\n{content}");
        }
        text
    }

    fn mistakes(&self, command: &str) -> Vec<String> {
        let json = &self.json;
        let mut mistakes = Vec::new();
        let mut expect = |holds: bool, what: &str| {
            if !holds {
                mistakes.push(what.to_owned());
            }
        };
        let is_one_of =
            |key: &str, words: &[&str]| json[key].as_str().is_some_and(|word| words.contains(&word));
        let code = self.status.code();
        expect(json["format"] == 1, "format is not 1");
        expect(json["command"] == command, "command is not the one that was run");
        expect(json["ok"] == Value::Bool(code == Some(0)), "ok does not go with the exit code");
        expect(json["changed"].is_boolean(), "changed is not a boolean");
        expect(json["phase"].is_null() || is_one_of("phase", &PHASES), "phase is not one of the contract's");
        expect(
            json["serving"].is_null() || is_one_of("serving", &["source", "target", "nobody"]),
            "serving is not one of the contract's",
        );
        expect(json["warnings"].is_array(), "warnings is not a list");
        if code == Some(0) {
            expect(json["report"].is_object(), "no report");
            expect(json.get("error").is_none_or(Value::is_null), "an error beside exit code 0");
        } else {
            let error = &json["error"];
            expect(error["exit"].as_i64() == code.map(i64::from), "error.exit is not the exit code");
            let has_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
            for key in ["kind", "message"] {
                expect(has_text(&error[key]), &format!("no error.{key}"));
            }
            expect(error["hint"].is_null() || has_text(&error["hint"]), "error.hint is empty");
            for failure in error["failures"].as_array().into_iter().flatten() {
                for key in ["check", "object", "message", "hint"] {
                    expect(has_text(&failure[key]), &format!("a failure without {key}"));
                }
            }
            let message = error["message"].as_str().unwrap_or_default();
            expect(!message.ends_with('.'), "the message ends with a full stop");
            if code == Some(3) {
                expect(json["changed"] == false, "refused, but changed");
            }
        }
        mistakes.extend(schema_errors(json));
        mistakes
    }
}

/// What the published schema says against a document.
fn schema_errors(document: &Value) -> Vec<String> {
    static VALIDATOR: OnceLock<Option<jsonschema::Validator>> = OnceLock::new();
    let validator = VALIDATOR.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schema.json");
        let text = std::fs::read_to_string(path).ok()?;
        let schema: Value = serde_json::from_str(&text).expect("tests/schema.json is JSON");
        Some(jsonschema::validator_for(&schema).expect("tests/schema.json is a schema"))
    });
    let errors = validator.iter().flat_map(|validator| validator.iter_errors(document));
    errors.map(|error| format!("schema: {error} at {}", error.instance_path())).collect()
}
