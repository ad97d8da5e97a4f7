//! pgdetour keeps a PostgreSQL service up while its database is under maintenance.

mod cli;
mod config;
mod error;
mod fault;
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

use cli::{
    CaptureOptions, CheckOptions, Cli, Commands, GlobalOptions, MirrorOptions, QuarantineAction,
    ReplayOptions, RestrictOptions, SideName, StatusFormat, StatusOptions, SwitchOptions,
};
use config::Config;
use error::{Error, Result};
use output::{Mode, Outcome, Output};
use phase::{Command, Place};
use plan::Plan;
use serde_json::Value;
use steps::capture::export::Destination;
use steps::check::Question;
use steps::mirror::{Limits, Wishes};
use steps::replay::Task;
use steps::restrict::Act;
use steps::status::Telling;
use steps::{Bounds, Copies, Extent, Rehearsal, Run, Signals};

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == steps::switch::guardian::ARGUMENT) {
        return guard();
    }
    // Before anything else: a signal that comes now is heeded, and told of, at the first safe point.
    let signals = Signals::install();
    let code = match Cli::try_parse() {
        Ok(cli) => run(&cli, signals),
        Err(error) => refuse(&error),
    };
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Ends the hold of the run that has started this process, should that die.
fn guard() -> ExitCode {
    match steps::switch::guardian::watch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(u8::try_from(error.exit_code(true)).unwrap_or(u8::MAX)),
    }
}

/// Runs the command and prints what it came to; the exit code.
fn run(cli: &Cli, signals: Result<Signals>) -> i32 {
    let command = command_of(&cli.command);
    let exports_to_stdout =
        matches!(&cli.command, Commands::Capture(options) if options.export.as_deref() == Some("-"));
    if exports_to_stdout && cli.global.json {
        let output = Output::new(mode(cli));
        return output.finish(&Outcome::of(command), Some(&two_documents()));
    }
    // Standard output is the changes' own then.
    let mode = mode(cli);
    let output = Output::new(Mode { quiet: mode.quiet || exports_to_stdout, ..mode });
    let plan = if cli.global.dry_run { Plan::dry() } else { Plan::real() };
    let begun =
        configure(&cli.global).and_then(|config| Run::new(command, config, output.clone(), plan, signals?));
    let (outcome, error) = match begun {
        Ok(mut run) => {
            let result = take(&mut run, &cli.command);
            run.into_outcome(result)
        }
        Err(error) => (Outcome::of(command), Some(error)),
    };
    output.finish(&outcome, error.as_ref())
}

/// The one step that the command is; its report.
fn take(run: &mut Run, command: &Commands) -> Result<Value> {
    match command {
        Commands::Check(options) => steps::check::run(run, &question(options)),
        Commands::Mirror(options) if options.stop => steps::mirror::stop(run),
        Commands::Mirror(options) => steps::mirror::run(run, &wishes(options)),
        Commands::Restrict(options) => steps::restrict::run(run, restrict_act(options)),
        Commands::Capture(options) if options.anew => steps::capture::anew::run(run, options.adopt_source),
        Commands::Capture(options) => steps::capture::run(run, destination(options).as_ref()),
        Commands::Cutover(options) => steps::switch::cutover::run(run, &bounds(options)),
        Commands::Replay(options) => steps::replay::run(run, replay_task(options)?),
        Commands::Cutback(options) => {
            steps::switch::cutback::run(run, &bounds(&options.switch), i64::from(options.accept_quarantined))
        }
        Commands::Verify(options) => {
            let extent = steps::verify::Extent {
                patterns: options.tables.clone(),
                sample: options.sample,
                resume: options.resume,
                repair: options.repair,
                backup: options.backup,
            };
            steps::verify::run(run, &extent)
        }
        Commands::Status(options) => steps::status::run(run, telling(options)),
        Commands::Clean(options) => {
            let copies = match (options.drop_data, options.keep_data) {
                (true, _) => Copies::Drop,
                (_, true) => Copies::Keep,
                _ => Copies::ByPhase,
            };
            steps::clean::run(run, Extent { stay: options.stay, copies })
        }
    }
}

fn restrict_act(options: &RestrictOptions) -> Act {
    match (options.report, options.observe, options.lift) {
        (true, ..) => Act::Report,
        (_, true, false) => Act::Observe,
        (_, true, true) => Act::StopObserving,
        (_, false, true) => Act::Lift,
        (_, false, false) => Act::Restrict,
    }
}

fn wishes(options: &MirrorOptions) -> Wishes {
    Wishes {
        jobs: options.jobs,
        follow: options.follow,
        again: options.tables.clone(),
        limits: Limits { rate: options.max_rate, load: options.max_load.unwrap_or_default() },
    }
}

fn destination(options: &CaptureOptions) -> Option<Destination> {
    let file = options.export.clone()?;
    Some(Destination { file, force: options.force })
}

fn replay_task(options: &ReplayOptions) -> Result<Task> {
    let (id, after) = (options.id.map(i64::from), options.after.map(i64::from));
    if after.is_some() && options.quarantine != Some(QuarantineAction::List) {
        return Err(Error::Usage {
            message: "--after goes with --quarantine list only".into(),
            hint: "Name one change with --id, or leave both out for all of them.".into(),
        });
    }
    Ok(match options.quarantine {
        Some(QuarantineAction::List) => Task::ListQuarantine { id, after: after.unwrap_or(0) },
        Some(QuarantineAction::Retry) => Task::RetryQuarantine { id },
        Some(QuarantineAction::Skip) => Task::SkipQuarantine { id },
        None if options.lint => Task::Lint,
        None if options.rehearse => Task::Rehearse { sample: options.sample },
        None if options.follow => Task::Follow,
        None if options.until_caught_up => Task::CatchUpWithin(options.max_lag),
        None => Task::CatchUp,
    })
}

fn question(options: &CheckOptions) -> Question {
    if !options.grants {
        return Question::Preconditions;
    }
    let side = options.side.map(|side| match side {
        SideName::Source => Place::Source,
        SideName::Target => Place::Target,
        SideName::Backup => Place::Backup,
    });
    Question::Grants { role: options.role.clone(), side }
}

fn telling(options: &StatusOptions) -> Telling {
    Telling {
        watch: options.watch.then_some(options.interval),
        check: options.check,
        always: options.format == StatusFormat::Prometheus,
    }
}

fn bounds(options: &SwitchOptions) -> Bounds {
    Bounds {
        max_pause: options.max_pause,
        max_lag: options.max_lag,
        drain_timeout: options.drain_timeout,
        terminate_after: options.terminate_after,
        retries: options.retries,
        rehearsal: match (options.rehearse, options.no_hold) {
            (true, false) => Some(Rehearsal::Held),
            (true, true) => Some(Rehearsal::NotHeld),
            (false, _) => None,
        },
        prewarm: options.prewarm,
    }
}

/// The configuration that the options and the environment ask for.
fn configure(options: &GlobalOptions) -> Result<Config> {
    Config::resolve(options.config.as_deref(), options.source.as_deref(), options.target.as_deref())
}

fn mode(cli: &Cli) -> Mode {
    let options = &cli.global;
    let metrics =
        matches!(&cli.command, Commands::Status(status) if status.format == StatusFormat::Prometheus);
    Mode { json: options.json, quiet: options.quiet, verbose: options.verbose, yes: options.yes, metrics }
}

fn command_of(command: &Commands) -> Command {
    match command {
        Commands::Check(_) => Command::Check,
        Commands::Mirror(_) => Command::Mirror,
        Commands::Restrict(_) => Command::Restrict,
        Commands::Capture(_) => Command::Capture,
        Commands::Cutover(_) => Command::Cutover,
        Commands::Replay(_) => Command::Replay,
        Commands::Cutback(_) => Command::Cutback,
        Commands::Verify(_) => Command::Verify,
        Commands::Status(_) => Command::Status,
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

fn two_documents() -> Error {
    Error::Usage {
        message: "--export - and --json both write to standard output".into(),
        hint: "Give --export the name of a file.".into(),
    }
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
