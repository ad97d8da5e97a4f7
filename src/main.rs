//! pgdetour keeps a PostgreSQL service up while its database is under maintenance.

mod cli;
mod config;
mod error;
mod flow;
mod output;
mod pattern;
mod pg;
mod phase;
mod plan;
mod routers;
mod sql;
mod steps;
mod units;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use cli::{Cli, Commands, GlobalOptions};
use config::Config;
use error::{Error, Result};
use output::{Mode, Outcome, Output};
use phase::Command;

fn main() -> ExitCode {
    let code = match Cli::try_parse() {
        Ok(cli) => run(&cli),
        Err(error) => refuse(&error),
    };
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Runs the command and prints what it came to; the exit code.
fn run(cli: &Cli) -> i32 {
    let command = command_of(&cli.command);
    let output = Output::new(mode(&cli.global));
    match configure(&cli.global) {
        Ok(_config) => {
            let message = format!("{command} is not wired to its steps");
            output.finish(&Outcome::of(command), Some(&Error::Internal { message }))
        }
        Err(error) => output.finish(&Outcome::of(command), Some(&error)),
    }
}

/// The configuration that the options and the environment ask for.
fn configure(options: &GlobalOptions) -> Result<Config> {
    Config::resolve(options.config.as_deref(), options.source.as_deref(), options.target.as_deref())
}

fn mode(options: &GlobalOptions) -> Mode {
    Mode { json: options.json, quiet: options.quiet, verbose: options.verbose, yes: options.yes }
}

fn command_of(command: &Commands) -> Command {
    match command {
        Commands::Check => Command::Check,
        Commands::Mirror(_) => Command::Mirror,
        Commands::Restrict(_) => Command::Restrict,
        Commands::Capture => Command::Capture,
        Commands::Cutover(_) => Command::Cutover,
        Commands::Replay(_) => Command::Replay,
        Commands::Cutback(_) => Command::Cutback,
        Commands::Verify(_) => Command::Verify,
        Commands::Status => Command::Status,
        Commands::Clean(_) => Command::Clean,
    }
}

/// Prints help or version where that was asked for; else says what is wrong with the command line,
/// as a document too when `--json` is among the arguments.
fn refuse(error: &clap::Error) -> i32 {
    if !error.use_stderr() {
        // Whoever closed the pipe has read enough.
        let _ = error.print();
        return error::exit::DONE;
    }
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    let command =
        Command::ALL.into_iter().find(|command| arguments.iter().any(|word| word == command.name()));
    let json = arguments.iter().any(|argument| argument == "--json");
    let output = Output::new(Mode { json, ..Mode::default() });
    let failure = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => no_command(),
        _ => usage_error(&error.render().to_string(), command),
    };
    output.finish(&Outcome::of(command), Some(&failure))
}

fn no_command() -> Error {
    let names = Command::ALL.map(Command::name).join(", ");
    Error::Usage {
        message: "no command is given".into(),
        hint: format!("The commands are {names}. See \"pgdetour --help\"."),
    }
}

/// What the parser says, as one of our failures: the first paragraph is the message, tips become the hint.
fn usage_error(rendered: &str, command: Option<Command>) -> Error {
    let mut paragraphs =
        rendered.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let message = paragraphs.next().unwrap_or_default();
    let tips = paragraphs.filter_map(|paragraph| {
        let tip = paragraph.strip_prefix("tip: ")?;
        let (first, rest) = tip.split_at_checked(1)?;
        Some(format!("{}{rest}.", first.to_uppercase()))
    });
    let help = match command {
        Some(command) => format!("See \"pgdetour {command} --help\"."),
        None => "See \"pgdetour --help\".".into(),
    };
    Error::Usage {
        message: message.strip_prefix("error: ").unwrap_or(&message).to_owned(),
        hint: tips.chain([help]).collect::<Vec<_>>().join(" "),
    }
}
