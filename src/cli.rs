//! What a person types: commands, options and their help. Also the source of the man pages and completions.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::units::{
    Lag, MaxLoad, parse_duration, parse_interval, parse_lag, parse_load, parse_rate, parse_share, parse_size,
};

const EXIT_CODES: &str = "\
Exit codes, and what a script should do next:
  0  done, or already done
  1  unexpected: a bug, or local input or output; report it
  2  wrong arguments or configuration, or no terminal to confirm and no --yes; correct the call
  3  refused: checks failed, or the wrong phase; nothing was changed
  4  busy: another run holds the lock; wait, then run again
  5  a server or the router could not be reached; nothing is half done; run again
  6  timed out; taken back, clients are where they were; run again later
  7  stopped part way; run the same command again, and it goes on or takes back
  8  the data differ, or a change does not fit; call a person
  130, 143  interrupted before the point of no return; taken back";

const OVERVIEW: &str = "\
Keeps a PostgreSQL service up while its database is under maintenance.

The source is the live database that is to be maintained. The target becomes its mirror, serves general traffic \
during the maintenance, and then gives the changes made there back to the source, whose schema may have changed \
meanwhile. Each command is one step that may be run again at any time.";

const TRIP: &str = "\
The trip:
  pgdetour check        find what would stop a later step
  pgdetour mirror       copy the source to the target and keep the copy current
  pgdetour restrict     make designated tables read-only on the target
  pgdetour cutover      move general traffic to the target
                        (maintain the source)
  pgdetour replay       apply the changes made on the target to the source
  pgdetour cutback      move general traffic home
  pgdetour clean        remove every object that pgdetour made";

/// The whole command line.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "pgdetour",
    version,
    about = "Keeps a PostgreSQL service up while its database is under maintenance",
    long_about = OVERVIEW,
    after_help = "Run 'pgdetour COMMAND --help' for the options of a command.",
    after_long_help = format!("{TRIP}\n\n{EXIT_CODES}"),
    propagate_version = true,
    disable_help_subcommand = true,
    max_term_width = 110
)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: GlobalOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Commands,
}

/// Options that every command takes, before or after its name.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of every command")]
#[allow(clippy::struct_excessive_bools, reason = "each is one independent flag of the command line")]
pub struct GlobalOptions {
    /// Configuration file [default: pgdetour.toml]
    #[arg(short, long, global = true, value_name = "FILE", env = "PGDETOUR_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// How to reach the source, as for psql; before the configuration file
    ///
    /// Key/value pairs or a postgresql:// URI, completed from the PG* environment, the service file and the
    /// passfile. Keep passwords in the passfile: other users of this machine can read a process's arguments.
    #[arg(long, global = true, value_name = "CONNINFO", env = "PGDETOUR_SOURCE", hide_env_values = true)]
    pub source: Option<String>,
    /// How to reach the target, as for psql; before the configuration file
    #[arg(long, global = true, value_name = "CONNINFO", env = "PGDETOUR_TARGET", hide_env_values = true)]
    pub target: Option<String>,
    /// Write one JSON document to standard output; messages go to standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// Show every statement and router action in order, and change nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Answer the confirmation with yes
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Show no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Show more of what is done
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// The commands, in the order of the trip.
#[derive(Debug, Clone, Subcommand)]
pub enum Commands {
    /// Check every precondition of every later step; changes nothing
    #[command(
        long_about = "Checks every precondition of every later step, on both servers and the router, and shows \
            all findings of one run, each with what mends it. It changes nothing.\n\n\
            With --grants it checks nothing, and writes the SQL that gives a role of its own, which is no superuser, \
            what the configured trip needs on each side.",
        after_long_help = examples(
            "  pgdetour check\n  pgdetour check --json | jq '.error.failures[].message'\n  \
             pgdetour check --grants --role detour --side source | psql -h db1 -d shop -U postgres"
        )
    )]
    Check(CheckOptions),
    /// Copy the source to the target and keep the copy current
    #[command(
        long_about = "Copies the tables that [mirror] selects, then hands over to PostgreSQL's own replication, which \
            keeps the target up to date with no process of pgdetour running. Where the target's server cannot reach \
            the source, or may not subscribe, run it with --follow, which keeps the target current in the foreground, \
            or run it again now and then, which catches up and ends. Interrupted, it goes on where it was when it is \
            run again.",
        after_long_help = examples(
            "  pgdetour mirror\n  pgdetour mirror --jobs 8 --max-rate 50MB/s --max-load active=40,standby-lag=10s\n  \
             pgdetour mirror --follow\n  pgdetour mirror --stop\n  pgdetour mirror --table public.orders --again"
        )
    )]
    Mirror(MirrorOptions),
    /// Limit access to designated tables on the target
    #[command(
        long_about = "Installs the limits of every [[restrict]] on the target, and removes those that the \
            configuration no longer names. The application gets SQLSTATE 25006 and the configured message. Before that, \
            --observe counts what would be refused where the application works now, and --report shows it.",
        after_long_help = examples(
            "  pgdetour restrict --observe\n  pgdetour restrict --report\n  pgdetour restrict\n  pgdetour restrict --lift"
        )
    )]
    Restrict(RestrictOptions),
    /// Arm the recording of changes made on the target
    #[command(
        long_about = "Before cutover, arms the recording of changes made on the target; cutover does it by itself \
            when this has not been run. After cutover, proves that the recording is intact. Where it is not, or the source \
            has lost changes, --anew makes the way home again: it begins a new recording, and overwrites what differs on the \
            source by the target's rows. With --adopt-source that may be a database which was restored without what pgdetour kept in it.",
        after_long_help = examples(
            "  pgdetour capture\n  pgdetour capture --json | jq .report.retained_bytes\n  pgdetour capture --export changes.ndjson\n  \
             pgdetour capture --anew"
        )
    )]
    Capture(CaptureOptions),
    /// Move general traffic to the target
    #[command(
        long_about = "Holds general traffic, fences the source, proves that every change has arrived, and points the \
            router at the target. Until then every failure, timeout and signal is taken back, and clients go on \
            where they were.",
        after_long_help = examples(
            "  pgdetour cutover\n  pgdetour cutover --yes --max-pause 2s\n  pgdetour cutover --terminate-after 3s"
        )
    )]
    Cutover(SwitchOptions),
    /// Apply the changes made on the target to the source
    #[command(
        long_about = "Applies captured changes to the source, through [[map]] where the schema has changed, each \
            exactly once. It ends when everything is applied that was captured before the call, and may be run as \
            often as wanted while the target serves, from cron for example. With --follow it goes on until SIGINT or SIGTERM, \
            which end it well between two transactions; with --until-caught-up until the source is hardly behind. With replay.on_conflict = \
            \"quarantine\", a change that does not fit is set aside, and so is what comes later for the same row; \
            --quarantine shows these changes, tries them again, or gives them up.",
        after_long_help = examples(
            "  pgdetour replay\n  pgdetour replay --follow\n  pgdetour replay --until-caught-up --max-lag 5s\n  \
             pgdetour replay --rehearse\n  pgdetour replay --quarantine list\n  \
             pgdetour replay --quarantine retry --id 7"
        )
    )]
    Replay(ReplayOptions),
    /// Move general traffic home
    #[command(
        long_about = "Holds general traffic, fences the target, replays what is left, proves that nothing is missing, \
            and points the router at the source. Until then every failure, timeout and signal is taken back.",
        after_long_help = examples("  pgdetour cutback\n  pgdetour cutback --yes --max-pause 2s")
    )]
    Cutback(CutbackOptions),
    /// Compare both sides
    #[command(
        long_about = "Compares the rows of both sides, through [[map]] where the schema has changed: hashed by the \
            servers, several tables and ranges at once, while traffic goes on. Rows that differ are named by key \
            and column. Exits 8 when they differ; with --repair, they are copied from the side that serves to the \
            other after a confirmation, and compared again.\n\n\
            With --backup, the backup of target.backup_conninfo is compared with the side that it follows: the source \
            before cutover, the target while that serves.",
        after_long_help = examples(
            "  pgdetour verify\n  pgdetour verify --table 'public.order*' --table public.users\n  \
             pgdetour verify --sample 5%\n  pgdetour verify --repair\n  pgdetour verify --backup"
        )
    )]
    Verify(VerifyOptions),
    /// Show where the detour is, who serves, and what may be run next
    #[command(
        long_about = "Shows where the detour is, who serves, how far each flow is, and what may be run next. It takes \
            no lock and works with either side down.\n\n\
            With --check the exit code is for monitoring: 0 when all is well, 3 when somebody should act before it is \
            not, 8 when clients are not served as they should be or changes are lost; what it is, is told on standard \
            error. With --watch a signal is the normal end, with exit code 0.",
        after_long_help = examples(
            "  pgdetour status\n  pgdetour status --json | jq -r .phase\n  pgdetour status --watch --interval 5s\n  \
             pgdetour status --check --quiet\n  \
             pgdetour status --format prometheus > pgdetour.prom.new && mv pgdetour.prom.new pgdetour.prom"
        )
    )]
    Status(StatusOptions),
    /// Remove every object that pgdetour made
    #[command(
        long_about = "Removes every object that pgdetour made, on every server. Before cutover this is the abort: the \
            target is emptied again too, unless --keep-data is given. After cutback the target's copies stay, unless \
            --drop-data is given. With --stay, while detoured, the target becomes the new home.",
        after_long_help = examples(
            "  pgdetour clean\n  pgdetour clean --stay\n  pgdetour clean --yes --drop-data"
        )
    )]
    Clean(CleanOptions),
}

/// Options of `check`.
#[derive(Debug, Clone, Default, Args)]
pub struct CheckOptions {
    /// Write the SQL that gives a role what the trip needs, instead of checking
    #[arg(long)]
    pub grants: bool,
    /// The role, when it is not the one that connects; it need not exist yet
    #[arg(long, value_name = "NAME", requires = "grants")]
    pub role: Option<String>,
    /// Only for one side
    #[arg(long, value_name = "SIDE", requires = "grants")]
    pub side: Option<SideName>,
}

/// A database of the detour, as an option names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SideName {
    /// The database that is to be maintained
    Source,
    /// The one that serves meanwhile
    Target,
    /// The one between both, where there is one
    Backup,
}

/// Options of `mirror`.
#[derive(Debug, Clone, Default, Args)]
pub struct MirrorOptions {
    /// Connections that copy at the same time, instead of mirror.jobs
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,
    /// Stay in the foreground and keep the target current, without a subscription, until interrupted
    #[arg(long)]
    pub follow: bool,
    /// End a copy or a flow of the mirror, wherever it runs, at a safe place; mirror goes on from there
    #[arg(long, conflicts_with_all = ["follow", "jobs", "tables", "max_rate", "max_load"])]
    pub stop: bool,
    /// With --again: copy only tables that match, as psql's \d takes it; may be given more than once
    #[arg(short, long = "table", value_name = "PATTERN", requires = "again")]
    pub tables: Vec<String>,
    /// Copy the tables of --table anew, in a mirror that stands
    #[arg(long, requires = "tables")]
    pub again: bool,
    /// Read the source no faster than this while copying, such as 50MB/s
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub max_rate: Option<u64>,
    /// Pause the copy while the source is busier than this: active=N sessions that run something, standby-lag=DURATION of
    /// any of its standbys, or both with a comma between them
    #[arg(long, value_name = "LOAD", value_parser = parse_load)]
    pub max_load: Option<MaxLoad>,
}

/// Options of `restrict`.
#[derive(Debug, Clone, Default, Args)]
pub struct RestrictOptions {
    /// Remove the limits instead, the limited role and what --observe has made; with --observe, only the latter
    #[arg(long)]
    pub lift: bool,
    /// Refuse nothing: count on the side that serves what would be refused
    #[arg(long)]
    pub observe: bool,
    /// Show what --observe has counted, by table, role and application
    #[arg(long, conflicts_with_all = ["observe", "lift"])]
    pub report: bool,
}

/// Options of `capture`.
#[derive(Debug, Clone, Default, Args)]
pub struct CaptureOptions {
    /// Write the changes that are recorded by now as lines of JSON, "-" to standard output; they stay recorded
    #[arg(long, value_name = "FILE")]
    pub export: Option<String>,
    /// Overwrite the file if it exists
    #[arg(long, requires = "export")]
    pub force: bool,
    /// While the target serves, begin recording anew, and make the source equal to the target
    #[arg(long, conflicts_with = "export")]
    pub anew: bool,
    /// Take on a source that does not know of the detour, such as one that was restored without schema "pgdetour"
    #[arg(long, requires = "anew")]
    pub adopt_source: bool,
}

/// Options of `cutover` and `cutback`.
#[derive(Debug, Clone, Args)]
pub struct SwitchOptions {
    /// How long clients may be held; longer, and all is taken back
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub max_pause: Duration,
    /// How far behind the flow may be when clients are held
    #[arg(long, value_name = "BYTES", default_value = "16MB", value_parser = parse_size)]
    pub max_lag: u64,
    /// How long to wait, with clients still served, until the flow is no further behind than that
    #[arg(long, value_name = "DURATION", default_value = "10min", value_parser = parse_duration)]
    pub drain_timeout: Duration,
    /// End transactions of general traffic that are still open this long after clients are held [default: wait]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub terminate_after: Option<Duration>,
    /// How often to try again after one of these bounds was exceeded and all was taken back
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub retries: u32,
    /// Do everything up to the point of no return, then take it back; tells the pause to expect
    #[arg(long)]
    pub rehearse: bool,
    /// Rehearse what can be done without holding clients
    #[arg(long, requires = "rehearse")]
    pub no_hold: bool,
    /// Load tables and indexes into the caches of the side that takes over first, by extension `pg_prewarm`
    #[arg(long)]
    pub prewarm: bool,
}

/// Options of `cutback`.
#[derive(Debug, Clone, Args)]
pub struct CutbackOptions {
    /// Those that it shares with `cutover`.
    #[command(flatten)]
    pub switch: SwitchOptions,
    /// Go home although exactly this many changes are in quarantine, which are then lost to the source
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub accept_quarantined: u32,
}

/// Options of `replay`.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is one independent flag of the command line")]
pub struct ReplayOptions {
    /// Stay in the foreground and apply changes as they come until interrupted
    #[arg(long)]
    pub follow: bool,
    /// Apply changes as they come until the source is no further behind than --max-lag, then end
    #[arg(long, conflicts_with_all = ["follow", "lint", "quarantine"])]
    pub until_caught_up: bool,
    /// How far behind that may be: WAL in bytes, or the age of the oldest change that is not applied
    #[arg(long, value_name = "BYTES|DURATION", default_value = "16MB", value_parser = parse_lag, requires = "until_caught_up")]
    pub max_lag: Lag,
    /// Show what becomes of each captured column on the source, and propose [[map]] text; nothing is applied
    #[arg(long, conflicts_with_all = ["follow", "quarantine"])]
    pub lint: bool,
    /// Try [[map]] on the rows that the target has now, and show which would not fit; nothing is applied or kept
    ///
    /// The rows go into temporary copies of the source's tables, in a transaction that is rolled back. Exits 8 when a
    /// row would not fit.
    #[arg(long, conflicts_with_all = ["follow", "quarantine", "lint"])]
    pub rehearse: bool,
    /// Try only so many rows of each table; foreign keys between these tables are not looked at then
    #[arg(long, value_name = "N", requires = "rehearse", value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: Option<u64>,
    /// Show the changes that were set aside, try them again, or give them up; nothing else is applied
    #[arg(long, value_name = "ACTION", conflicts_with = "follow")]
    pub quarantine: Option<QuarantineAction>,
    /// Only the change of this number
    #[arg(long, value_name = "N", requires = "quarantine")]
    pub id: Option<u32>,
    /// With --quarantine list: only the changes behind this number, since a thousand are shown at once
    #[arg(long, value_name = "N", requires = "quarantine", conflicts_with = "id")]
    pub after: Option<u32>,
}

/// What to do with changes that were set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum QuarantineAction {
    /// Show them, each with why it does not fit
    List,
    /// Apply those that fit by now, in their order
    Retry,
    /// Give them up: the source never gets them
    Skip,
}

/// Options of `verify`.
#[derive(Debug, Clone, Default, Args)]
pub struct VerifyOptions {
    /// Compare only tables that match, as psql's \d takes it; may be given more than once
    #[arg(short, long = "table", value_name = "PATTERN")]
    pub tables: Vec<String>,
    /// Compare only this share of the rows, chosen anew each time, such as 5%
    #[arg(long, value_name = "PERCENT", value_parser = parse_share)]
    pub sample: Option<u32>,
    /// Go on where the last run was interrupted, in large tables range by range, instead of comparing every table anew
    #[arg(long, conflicts_with = "sample")]
    pub resume: bool,
    /// Copy rows that differ from the side that serves to the other
    #[arg(long, conflicts_with = "sample")]
    pub repair: bool,
    /// Compare the backup with the side that it follows; of it nothing is repaired
    #[arg(long, conflicts_with_all = ["repair", "resume"])]
    pub backup: bool,
}

/// Options of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusOptions {
    /// Show it again and again until interrupted
    #[arg(short, long, conflicts_with_all = ["json", "check", "format"])]
    pub watch: bool,
    /// How long to wait between two looks
    #[arg(long, value_name = "DURATION", default_value = "2s", requires = "watch", value_parser = parse_interval)]
    pub interval: Duration,
    /// Exit with 3 when somebody has to act, with 8 when clients are not served or changes are lost
    #[arg(long)]
    pub check: bool,
    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "text", conflicts_with = "json")]
    pub format: StatusFormat,
}

/// How `status` writes what it has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StatusFormat {
    /// For people
    Text,
    /// Metrics for a textfile collector
    Prometheus,
}

/// Options of `clean`.
#[derive(Debug, Clone, Default, Args)]
pub struct CleanOptions {
    /// Make the target the new home: leave traffic there and forget the way back
    #[arg(long)]
    pub stay: bool,
    /// Drop the copies on the target too, which pgdetour does by itself only before cutover
    #[arg(long, conflicts_with = "stay")]
    pub drop_data: bool,
    /// Keep the copies on the target, also before cutover
    #[arg(long, conflicts_with = "drop_data")]
    pub keep_data: bool,
}

/// Examples and exit codes below a command's long help.
fn examples(lines: &str) -> String {
    format!("Examples:\n{lines}\n\n{EXIT_CODES}")
}
