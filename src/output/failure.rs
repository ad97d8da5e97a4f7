//! A failure as people read it.

use std::fmt::Write;

use dialoguer::console::style;

use super::Outcome;
use crate::error::Error;

/// `error:`, and below it `detail:`, findings, `hint:` and `next:`, as far as there are any.
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
    for finding in error.findings() {
        line("  ", finding.check, &format!("{}: {}", finding.object, finding.message));
        if !finding.hint.is_empty() {
            line("    ", "hint", &finding.hint);
        }
    }
    if let Some(hint) = error.hint() {
        line("  ", "hint", &hint);
    }
    line("  ", "next", &error.next(outcome.command, outcome.changed, outcome.part_way, outcome.phase));
    text.push('\n');
    text
}
