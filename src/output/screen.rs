//! A result that is shown again and again.

use std::io::{self, Write as _};

use dialoguer::console::{Term, truncate_str};

/// Shows `text` where the one before stood, cut to what the terminal has room for; elsewhere below it, behind an empty line.
pub fn redraw(text: &str) -> io::Result<()> {
    let terminal = Term::stdout();
    let mut stdout = io::stdout().lock();
    if !terminal.is_term() {
        writeln!(stdout, "{text}")?;
        return stdout.flush();
    }
    let (rows, columns) = terminal.size();
    let room = usize::from(rows.max(2)) - 1;
    // To the top left, each line and what is left of an older one; what is below it goes. No full clear: it flickers.
    let mut frame = String::from("\x1b[H");
    for line in text.lines().take(room) {
        frame.push_str(&truncate_str(line, columns.into(), "…"));
        frame.push_str("\x1b[K\r\n");
    }
    frame.push_str("\x1b[J");
    stdout.write_all(frame.as_bytes())?;
    stdout.flush()
}
