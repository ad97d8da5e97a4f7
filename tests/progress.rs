//! How a copy tells how far it is: bars on a terminal, lines elsewhere, and no value of a row in either.

use std::io::Read;

use crate::support::detour::Detour;
use crate::support::terminal;

const SECRET: &str = "never-to-be-seen";

#[test]
fn a_copy_draws_bars_on_a_terminal_and_writes_lines_elsewhere_and_shows_no_row() {
    let mut detour = Detour::new().table("orders").on_source(&format!(
        "create table public.big (id int primary key, note text);
         alter table public.big alter note set storage external;
         insert into public.big select n, repeat('{SECRET}', 4096) from generate_series(1, 1100) as n"
    ));
    let configuration = detour.configuration().display().to_string();
    let mirror = format!("mirror --config {configuration} --jobs 1 --max-rate 40MB/s");
    let line = format!("stty cols 100; exec {} {mirror}", env!("CARGO_BIN_EXE_pgdetour"));
    let mut typed = terminal::start(&line);
    let mut screen = Vec::new();
    typed.stdout.take().expect("a pipe").read_to_end(&mut screen).expect("the screen can be read");
    let screen = String::from_utf8_lossy(&screen);
    assert_eq!(typed.wait().expect("it ends").code(), Some(0), "{screen}");
    for bar in ["copied", "public.big"] {
        let drawn: std::collections::BTreeSet<&str> = screen
            .split(['\r', '\n'])
            .filter(|line| line.contains(bar) && line.contains("=>") && line.contains("/s"))
            .collect();
        assert!(drawn.len() > 3, "the bar of {bar} moves: {screen}");
    }
    assert!(!screen.contains(SECRET));

    // Slower than a line's turn comes.
    detour =
        detour.run("clean").exits(0).run("mirror").with(&["--jobs", "1", "--max-rate", "6MB/s"]).exits(0);
    let told = &detour.last().stderr;
    assert!(!told.contains(SECRET) && !told.contains('\u{1b}'), "{told}");
    let is_line = |line: &str| line.trim_start().starts_with("copied: ") && line.ends_with(" left");
    assert!(told.lines().any(is_line), "{told}");
    assert!(told.lines().any(|line| line.contains("public.big: 1100 rows, ")), "{told}");
}
