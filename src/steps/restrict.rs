//! Limits access to designated tables on the target: exactly as the configuration says, no more and no less. Before
//! that, counts on the side that serves what would be refused.

use serde_json::{Value, json};

use crate::config::Deny;
use crate::error::{Checked, Error, Result};
use crate::flow::source::{change_table, publication};
use crate::pattern::Pattern;
use crate::pg::catalog::Table;
use crate::pg::restriction::{self, Differing, LimitedRole, Restricted, Rule, Verb};
use crate::pg::sessions::list_sessions;
use crate::phase::{Phase, Serving, Side};
use crate::sql;
use crate::steps::run::names;
use crate::steps::run::selection::is_designated;
use crate::steps::{Needs, Run};

/// What the application reads when the configuration gives no message.
const MESSAGE: &str = "This table is read-only during maintenance.";

/// What `restrict` is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Restrict as configured.
    Restrict,
    /// Take everything away.
    Lift,
    /// Count what would be refused.
    Observe,
    /// Count no more.
    StopObserving,
    /// Show what was counted.
    Report,
}

/// Runs the command; its report.
pub fn run(run: &mut Run, act: Act) -> Result<Value> {
    if act == Act::Report {
        return report(run);
    }
    run.open(Needs::Target)?;
    match act {
        Act::Restrict => restrict(run),
        Act::Lift => lift(run),
        Act::Observe => observe(run),
        Act::StopObserving => {
            stop_observing(run)?;
            Ok(json!({ "observing": [] }))
        }
        Act::Report => unreachable!("it returned above"),
    }
}

fn restrict(run: &mut Run) -> Result<Value> {
    let (rules, scratch) = rules(run, Side::Target)?;
    let role = limited_role(run)?;
    run.step("check the limited roles", |run| {
        let made = role.as_ref().map(|role| role.name.as_str());
        let mut checked = restriction::check(run.target(), &rules, made)?;
        if let Some(role) = &role {
            checked.append(restriction::check_role(run.target(), role)?);
        }
        refuse(run, checked)
    })?;
    if let Some(role) = &role {
        run.changed |= run.step("make the limited role", |run| restriction::make_role(run.target(), role))?;
    }
    let outcome = change_tables(run, "restrict tables", |run, changed| {
        restriction::install(run.target(), &rules, changed)
    })?;
    if run.changed {
        tell(run, "restrict tables")?;
    }
    warn_of_late_scratch(run, &scratch)?;
    let restricted: Vec<Restricted> = outcome.restricted.into_iter().chain(scratch).collect();
    Ok(json!({ "restricted": restricted, "role": role.map(|role| role.name) }))
}

fn lift(run: &mut Run) -> Result<Value> {
    change_tables(run, "lift restrictions", |run, changed| restriction::lift_all(run.target(), changed))?;
    // What the router's entry names has to be there for as long as clients come that way.
    if matches!(run.phase(), Phase::CuttingOver | Phase::Detoured | Phase::CuttingBack) {
        if run.config.restrict_role.is_some() {
            run.warn("the limited role stays while the target serves; pgdetour clean removes it");
        }
        stop_observing(run)?;
    } else {
        // Before it, since the source may tell who serves.
        stop_observing(run)?;
        let removed = run.step("drop the limited role", remove_roles)?;
        run.changed |= !removed.is_empty();
    }
    if run.changed {
        tell(run, "lift restrictions")?;
    }
    Ok(json!({ "restricted": [] }))
}

/// Counts where the application writes now; what is refused there already is counted too.
fn observe(run: &mut Run) -> Result<Value> {
    let side = serving_side(run)?;
    let (rules, _) = rules(run, side)?;
    run.step("check the tables", |run| {
        let mut checked = Checked::default();
        restriction::check_tables(run.session(side), &rules, &mut checked)?;
        refuse(run, checked)
    })?;
    let outcome = change_tables(run, "observe tables", |run, changed| {
        restriction::observe(run.session(side), &rules, changed)
    })?;
    if run.changed {
        run.note_event("observe tables");
    }
    Ok(json!({ "side": side, "observing": outcome.restricted }))
}

/// On both sides, of which the source may be down.
fn stop_observing(run: &mut Run) -> Result<()> {
    if run.source.is_none()
        && let Err(error) = run.open_source()
    {
        if !matches!(error, Error::Unreachable { .. }) {
            return Err(error);
        }
        run.warn(
            "the source does not answer: if statements are counted there, run the same command again when it does",
        );
    }
    change_tables(run, "stop observing", |run, changed| {
        restriction::stop_observing(run.target(), changed)?;
        if run.source.is_some() {
            restriction::stop_observing(run.source(), changed)?;
        }
        Ok(())
    })
}

/// Does a step that changes one table after the other: when it fails, those that are done stay, and the same command goes on.
fn change_tables<T>(
    run: &mut Run,
    name: &'static str,
    work: impl FnOnce(&mut Run, &mut bool) -> Result<T>,
) -> Result<T> {
    let mut changed = false;
    let result = run.step(name, |run| work(run, &mut changed));
    run.changed |= changed;
    run.part_way |= changed && result.is_err();
    result
}

/// Nobody whom the rules concern is there any more, and what counts would keep columns that a rule names from being dropped.
pub fn end_counting_on_the_source(run: &mut Run) -> Result<()> {
    match restriction::end_counting(run.source(), &mut false) {
        Ok(tables) if tables.is_empty() => {}
        Ok(tables) => run.warn(format!(
            "statements on {} are counted no more, since general traffic has left the source; pgdetour restrict --report \
             shows what was counted",
            tables.join(", ")
        )),
        Err(error) if error.is_connection_lost() => return Err(error),
        Err(error) => run.warn(format!(
            "the counting on the source could not be ended, which keeps columns that a rule names from being dropped: {}; \
             run pgdetour restrict --observe --lift",
            error.with_cause()
        )),
    }
    Ok(())
}

/// Takes no lock, so that it answers while another command is at work.
fn report(run: &mut Run) -> Result<Value> {
    run.connect(Needs::Target)?;
    let mut found = restriction::list_observed(run.target())?;
    let mut side = Side::Target;
    if found.is_none() {
        run.connect(Needs::Both)?;
        found = restriction::list_observed(run.source())?;
        side = Side::Source;
    }
    let Some(observed) = found else {
        return Err(Error::Refused {
            kind: "not_observed",
            message: "nothing is observed on either side".into(),
            detail: None,
            hint: "Run pgdetour restrict --observe first, and let the application work for a while.".into(),
        });
    };
    Ok(json!({ "side": side, "observed": observed }))
}

fn serving_side(run: &mut Run) -> Result<Side> {
    match run.serving() {
        Serving::Target => Ok(Side::Target),
        Serving::Source => run.open_source().map(|()| Side::Source),
        Serving::Nobody => Err(Error::WrongPhase { command: run.command.name(), phase: run.phase() }),
    }
}

/// Writes it into the history, and tells whoever listens.
fn tell(run: &mut Run, what: &str) -> Result<()> {
    run.note_event(what);
    run.target().change_returning(sql::restrict::NOTIFY_RESTRICTED.text, &[]).map(drop)
}

/// Removes the role that we have made on the target; the names of the roles. Without a record nobody knows whom clients come as: a role
/// that may be in use stays.
pub fn remove_roles(run: &mut Run) -> Result<Vec<String>> {
    let like = run.config.restrict_role.as_ref().map(|role| role.like.clone());
    let mut kept = Vec::new();
    if run.phase() == Phase::Absent {
        for name in restriction::list_made_roles(run.target())? {
            let has_sessions = !list_sessions(run.target(), std::slice::from_ref(&name))?.is_empty();
            let why = if has_sessions {
                "it has sessions on the target"
            } else if run.target_may_serve() {
                "the target serves, and general traffic may come as that"
            } else {
                continue;
            };
            run.warn(format!("role \"{name}\" stays: {why}"));
            kept.push(name);
        }
    }
    restriction::remove_roles(run.target(), like.as_deref(), &kept)
}

/// Whether anything on the target is restricted, or there is a role that was made for that.
pub fn stands(run: &mut Run) -> Result<bool> {
    let target = run.target();
    Ok(!restriction::list_restricted(target)?.is_empty() || !restriction::list_made_roles(target)?.is_empty())
}

/// Tables that a mirror has got beside those that are restricted become so, too, and the limited role may do with them what the one
/// may that it is like. Where that fails the mirror stands all the same, and cutover is refused.
pub fn extend(run: &mut Run) -> Result<()> {
    let Err(error) = extend_to_added(run) else { return Ok(()) };
    if error.is_connection_lost() {
        return Err(error);
    }
    let why = error
        .findings()
        .first()
        .map_or_else(|| error.with_cause(), |finding| format!("{}: {}", finding.object, finding.message));
    run.warn(format!(
        "what was added to the mirror could not be restricted ({why}); run pgdetour restrict before cutover"
    ));
    Ok(())
}

fn extend_to_added(run: &mut Run) -> Result<()> {
    if let Some(role) = run.config.restrict_role.clone() {
        let role = LimitedRole { name: role.name, like: role.like, password: None };
        run.changed |= restriction::update_role(run.target(), &role)?;
    }
    if restriction::list_restricted(run.target())?.is_empty() {
        return Ok(());
    }
    let (rules, _) = rules(run, Side::Target)?;
    let mut changed = false;
    let extended = restriction::extend(run.target(), &rules, &mut changed);
    run.changed |= changed;
    extended?;
    if changed { tell(run, "restrict added tables") } else { Ok(()) }
}

/// `[restrict_role]` with its password.
fn limited_role(run: &mut Run) -> Result<Option<LimitedRole>> {
    let Some(role) = run.config.restrict_role.clone() else { return Ok(None) };
    let password = match role.password.map(|place| place.read()).transpose()? {
        Some((password, remark)) => {
            if let Some(remark) = remark {
                run.warn(remark);
            }
            Some(password)
        }
        None => None,
    };
    Ok(Some(LimitedRole { name: role.name, like: role.like, password }))
}

/// What of the restrictions must hold, said before they are made; in phases before the mirror stands, of the
/// source's tables.
pub fn check_ahead(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.restrict.is_empty() && run.config.restrict_role.is_none() {
        return Ok(());
    }
    let ahead = matches!(run.phase(), Phase::Absent | Phase::Mirroring);
    let side = if ahead { Side::Source } else { Side::Target };
    let rules = match rules(run, side) {
        Ok((rules, _)) => rules,
        Err(Error::ChecksFailed { findings }) => {
            checked.failures.extend(findings);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let made = run.config.restrict_role.as_ref().map(|role| role.name.clone());
    let rules = if ahead { on_target(run, rules) } else { rules };
    if ahead {
        let (source, target) = run.both();
        checked.append(restriction::check_ahead(source, target, &rules, made.as_deref())?);
    } else {
        checked.append(restriction::check(run.target(), &rules, made.as_deref())?);
    }
    if let Some(role) = run.config.restrict_role.clone() {
        let role = LimitedRole { name: role.name, like: role.like, password: None };
        checked.append(restriction::check_role(run.target(), &role)?);
    }
    Ok(())
}

/// How many tables are named.
const NAMED: usize = 5;

/// The restrictions of the target are what the configuration says. One that was never made may be meant so; what stands is not to
/// be another one than whoever reads the configuration believes.
pub fn check_in_force(run: &mut Run, checked: &mut Checked) -> Result<()> {
    const HINT: &str = "Run pgdetour restrict before cutover.";
    let has_none = !restriction::is_begun(run.target())?;
    if has_none && run.config.restrict.is_empty() {
        return Ok(());
    }
    let differing = rules(run, Side::Target).and_then(|(rules, _)| {
        if has_none { Ok(Differing::default()) } else { restriction::list_differing(run.target(), &rules) }
    });
    let differing = match differing {
        Ok(differing) => differing,
        Err(Error::ChecksFailed { findings }) => {
            checked.failures.extend(findings);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if has_none {
        for restrict in run.config.restrict.iter().filter(|restrict| !restrict.scratch) {
            let object = format!("[[restrict]] of {}", restrict.tables.join(", "));
            checked.warn("restrict", &object, "it is configured, and not in force", HINT);
        }
    }
    if !differing.tables.is_empty() {
        let named: Vec<&str> = differing.tables.iter().take(NAMED).map(String::as_str).collect();
        let more = differing.tables.len() - named.len();
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        let message =
            format!("on the target other statements are refused than it says: {}{more}", named.join(", "));
        checked.fail("restrict", "[[restrict]]", message, HINT);
    } else if differing.guard {
        let message = "tables that come later would be restricted otherwise than it says";
        checked.fail("restrict", "[[restrict]]", message, HINT);
    }
    Ok(())
}

/// The rules with the roles that they limit on the target.
fn on_target(run: &Run, mut rules: Vec<Rule>) -> Vec<Rule> {
    let restricts = run.config.restrict.iter().filter(|restrict| !restrict.scratch);
    for (rule, restrict) in rules.iter_mut().zip(restricts) {
        rule.roles = restrict.roles.clone().unwrap_or_else(|| run.config.general_roles(Side::Target));
    }
    rules
}

/// What is recorded is fixed when capture is armed; a table that becomes scratch later is still skipped by replay.
fn warn_of_late_scratch(run: &mut Run, scratch: &[Restricted]) -> Result<()> {
    let mut published =
        publication::list_published(run.target(), names::CAPTURE_PUBLICATION)?.unwrap_or_default();
    published.extend(change_table::list_recorded(run.target())?.unwrap_or_default());
    for table in scratch {
        if published.iter().any(|name| name.to_string() == table.table) {
            run.warn(format!(
                "changes of scratch table {} are recorded since capture was armed before, though not replayed; before \
                 cutover, pgdetour capture leaves them out",
                table.table
            ));
        }
    }
    Ok(())
}

fn refuse(run: &mut Run, checked: Checked) -> Result<()> {
    for warning in &checked.warnings {
        run.warn(format!("{}: {}. {}", warning.object, warning.message, warning.hint));
    }
    if checked.failures.is_empty() { Ok(()) } else { Err(Error::ChecksFailed { findings: checked.failures }) }
}

fn verb(deny: Deny) -> Verb {
    match deny {
        Deny::Insert => Verb::Insert,
        Deny::Update => Verb::Update,
        Deny::Delete => Verb::Delete,
        Deny::Truncate => Verb::Truncate,
    }
}

/// One rule for each `[[restrict]]`, its patterns resolved against the tables of a side; and the scratch tables.
/// On the source the application still has its own role, which stands for the limited one.
fn rules(run: &mut Run, side: Side) -> Result<(Vec<Rule>, Vec<Restricted>)> {
    let tables = run.list_tables(side)?;
    let restrictions = run.config.restrict.clone();
    let mut checked = Checked::default();
    let (mut rules, mut scratch) = (Vec::new(), Vec::new());
    for restrict in &restrictions {
        let selection = restrict.selection()?;
        let designated: Vec<&Table> =
            tables.iter().filter(|table| is_designated(&selection, table)).collect();
        if designated.is_empty() {
            let patterns = restrict.tables.join(", ");
            let message = format!("no table of the {side} matches {patterns}");
            checked.fail("restrict", &patterns, message, "Correct the tables of this [[restrict]].");
        }
        if restrict.scratch {
            scratch.extend(designated.iter().map(|table| Restricted::scratch(table.display())));
            continue;
        }
        let mut limited_roles = restrict.roles.clone().unwrap_or_else(|| run.config.general_roles(side));
        if let (Side::Source, Some(limited)) = (side, &run.config.restrict_role) {
            let stands_for = |role: &mut String| {
                if *role == limited.name {
                    role.clone_from(&limited.like);
                }
            };
            limited_roles.iter_mut().for_each(stands_for);
        }
        rules.push(Rule {
            tables: designated.iter().map(|table| table.full_name()).collect(),
            patterns: selection.include.iter().map(Pattern::regexes).collect(),
            except: selection.exclude.iter().map(Pattern::regexes).collect(),
            deny: restrict.deny.iter().map(|deny| verb(*deny)).collect(),
            columns: restrict.columns.clone(),
            condition: restrict.condition.clone(),
            roles: limited_roles,
            message: restrict.message.clone().unwrap_or_else(|| MESSAGE.into()),
            sqlstate: restrict.sqlstate.clone(),
            name: restrict.name.clone(),
        });
    }
    refuse(run, checked)?;
    scratch.sort_by(|one, other| one.table.cmp(&other.table));
    Ok((rules, scratch))
}
