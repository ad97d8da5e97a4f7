//! A failure as people read it.

use std::fmt::Write;

use dialoguer::console::style;
use serde_json::Value;

use super::{Outcome, plural};
use crate::error::Error;

/// `error:`, and below it `detail:`, `hint:`, findings and `next:`, as far as there are any.
pub fn text(outcome: &Outcome, error: &Error) -> String {
    let mut text = format!("{} {error}", style("error:").red().bold().for_stderr());
    let mut line = |indent: &str, label: &str, content: &str| {
        let continued = format!("\n{indent}{}", " ".repeat(label.len() + 2));
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{indent}{label}: {}", content.trim_end().replace('\n', &continued));
    };
    if let Some(detail) = error.detail() {
        line("  ", "detail", &detail);
    }
    if let Some(hint) = error.hint() {
        line("  ", "hint", &hint);
    }
    for finding in error.findings() {
        line("  ", finding.check, &format!("{}: {}", finding.object, finding.message));
        if !finding.hint.is_empty() {
            line("    ", "hint", &finding.hint);
        }
    }
    let stays = stays(outcome);
    line("  ", "next", &error.next(outcome.command, stays.as_deref(), outcome.part_way, outcome.phase));
    text.push('\n');
    text
}

/// What there is still of what a command has done before it failed.
fn stays(outcome: &Outcome) -> Option<String> {
    let applied = outcome.report.get("transactions").and_then(Value::as_u64);
    outcome.changed.then(|| match applied {
        Some(transactions) => format!("what was applied stays, {}", plural(transactions, "transaction")),
        None => "what was finished stays".to_owned(),
    })
}
