//! Restriction of chosen statements on chosen tables for chosen roles, by triggers that nobody else pays for.

mod check;
mod condition;
mod guard;
mod limited_role;
mod observation;
mod rule;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use postgres::error::SqlState;

use crate::error::{Doing as _, Error, Finding, Result, human};
use crate::pg::{Session, record};
use crate::sql::{self, quote_identifier, quote_qualified};
pub use check::{check, check_ahead, check_tables};
use condition::Resolved;
pub use limited_role::{
    LimitedRole, check_removal, check_role, is_made_role, list_made_roles, make_role, release_roles,
    remove_roles, update_role,
};
pub use observation::{end_counting, is_observed, list_observed, observe, stop_observing};
use rule::{Definition, ROW_BIT, read_argument, summarize};
pub use rule::{Restricted, Rule, Verb};

/// What triggers on tables do with a statement that a rule denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// They refuse it.
    Refuse,
    /// They count it, in what was made for the counting at one time: sessions remember their counters.
    Observe { generation: u32 },
}

impl Purpose {
    /// How names of its triggers for whole statements begin.
    fn trigger(self) -> &'static str {
        match self {
            Purpose::Refuse => "pgdetour_restrict",
            Purpose::Observe { .. } => "pgdetour_observe",
        }
    }

    /// How names of its triggers for rows begin: they fire last, when no other will change the row any more.
    fn row_trigger(self) -> String {
        format!("~{}_", self.trigger())
    }

    /// The `n`th name for a trigger on a table, from 1 on. Partitions get those for rows of all tables above them, beside
    /// their own: by the oid none has the name of another.
    fn name(self, is_by_row: bool, oid: u32, n: usize) -> String {
        match (is_by_row, n) {
            (true, _) => format!("{}{oid}_{n}", self.row_trigger()),
            (false, 1) => self.trigger().to_owned(),
            (false, _) => format!("{}_{n}", self.trigger()),
        }
    }

    /// What they call, in our schema.
    fn function(self) -> &'static str {
        match self {
            Purpose::Refuse => "refuse",
            Purpose::Observe { .. } => "observe",
        }
    }
}

/// How often a table's lock is tried for.
const ATTEMPTS: u32 = 12;
/// How long writers may queue behind one attempt.
const LOCK_WAIT: Duration = Duration::from_millis(300);

/// What became of the restrictions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestrictionOutcome {
    /// Tables, `public.users`, whose restriction was added, changed or removed.
    pub changed: Vec<String>,
    /// What restricts tables that come later was added, changed or removed.
    pub guard_changed: bool,
    /// All that is restricted now.
    pub restricted: Vec<Restricted>,
}

/// A trigger that is there.
struct Installed {
    name: String,
    /// A partition's copy of one on its parent, with which it comes and goes.
    is_inherited: bool,
    /// None when it is not what we would have made of it, or is not enabled.
    definition: Option<Definition>,
}

/// A table, and what is or shall be on it. Positions in the maps are `pg_class.oid`.
struct Member {
    schema: String,
    name: String,
    owner: String,
    we_own: bool,
    is_partitioned: bool,
    /// Of what it is a partition.
    parent: Option<u32>,
    /// All that it inherits from or is a partition of, at any height.
    ancestors: Vec<u32>,
    columns: Vec<String>,
}

/// A named table and all that inherits from it.
type Members = Vec<(u32, Member)>;

impl Member {
    fn display(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// Makes the restrictions exactly what `rules` say: only differences are changed, each table in a transaction of its
/// own, so that no statement slips between an old and a new restriction. `changed` becomes true with the first table, so
/// that it is known after a failure, too.
pub fn install(session: &mut Session, rules: &[Rule], changed: &mut bool) -> Result<RestrictionOutcome> {
    let plan = TriggerPlan::new(session, rules)?;
    if !plan.is_empty() {
        create_objects(session)?;
    }
    let guarded = plan.guarded.clone();
    let mut outcome = plan.carry_out(session, Purpose::Refuse, changed)?;
    outcome.guard_changed = guard::install(session, &guarded)?;
    *changed |= outcome.guard_changed;
    Ok(outcome)
}

/// Restricts the tables of `rules` on which no restriction is yet, and leaves the others, and what restricts tables that come later,
/// as they are. `changed` as for [`install`].
pub fn extend(session: &mut Session, rules: &[Rule], changed: &mut bool) -> Result<()> {
    let mut plan = TriggerPlan::new(session, rules)?;
    let mut missing = plan.differences(session, Purpose::Refuse)?;
    missing.retain(|difference| difference.is_bare);
    plan.change(session, Purpose::Refuse, &missing, changed).map(drop)
}

/// Where the restrictions are not what rules say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differing {
    /// Tables, `public.users`.
    pub tables: Vec<String>,
    /// What restricts tables that come later.
    pub guard: bool,
}

/// What [`install`] would change.
pub fn list_differing(session: &mut Session, rules: &[Rule]) -> Result<Differing> {
    let mut plan = TriggerPlan::new(session, rules)?;
    let found = plan.differences(session, Purpose::Refuse)?;
    let mut tables: Vec<String> = found.iter().map(|it| plan.tables[&it.oid].display()).collect();
    tables.sort();
    Ok(Differing { tables, guard: guard::differs(session, &plan.guarded)? })
}

/// What makes one table what it is to be.
struct Difference {
    oid: u32,
    script: String,
    /// It has no trigger of its own that is ours.
    is_bare: bool,
}

/// Which triggers which table is to have.
struct TriggerPlan {
    wanted: BTreeMap<u32, BTreeSet<Definition>>,
    tables: BTreeMap<u32, Member>,
    guarded: Vec<guard::Guarded>,
    /// Who makes partitions that get triggers of ours with them: PostgreSQL asks whether he may execute what they call.
    makers: BTreeSet<String>,
}

impl TriggerPlan {
    fn new(session: &mut Session, rules: &[Rule]) -> Result<TriggerPlan> {
        let mut wanted: BTreeMap<u32, BTreeSet<Definition>> = BTreeMap::new();
        let mut tables: BTreeMap<u32, Member> = BTreeMap::new();
        let mut guarded = Vec::new();
        let mut makers = BTreeSet::new();
        for (rule, members) in rules.iter().zip(list_members(session, rules)?) {
            let mut named = BTreeSet::new();
            for ((schema, name), found) in rule.tables.iter().zip(members) {
                if found.is_empty() {
                    return Err(Error::Refused {
                        kind: "no_such_table",
                        message: format!("table {schema}.{name} does not exist on {}", session.place),
                        detail: None,
                        hint: "Correct the tables under [[restrict]].".into(),
                    });
                }
                for (oid, member) in found {
                    named.insert(oid);
                    tables.insert(oid, member);
                }
            }
            if let Some(like) = named.iter().next().map(|oid| &tables[oid]) {
                guarded.extend(guard::guarded(session, rule, like)?);
            }
            for oid in &named {
                let mut own = rule.definitions();
                if tables[oid].ancestors.iter().any(|ancestor| !named.contains(ancestor)) {
                    let beside: Vec<Definition> = own.iter().filter_map(Definition::beside_it).collect();
                    own.extend(beside);
                }
                if tables[oid].is_partitioned && own.iter().any(Definition::is_by_row) {
                    makers.insert(tables[oid].owner.clone());
                }
                // What fires for rows reaches partitions, those made later too, through their parent.
                let through_parent = tables[oid].parent.is_some_and(|parent| named.contains(&parent));
                own.retain(|it| !(through_parent && it.is_by_row()));
                wanted.entry(*oid).or_default().extend(own);
            }
        }
        Ok(TriggerPlan { wanted, tables, guarded, makers })
    }

    /// Whether no table is to have any trigger.
    fn is_empty(&self) -> bool {
        self.wanted.values().all(BTreeSet::is_empty)
    }

    /// Changes what differs, table by table, once all of it is known.
    fn carry_out(
        mut self,
        session: &mut Session,
        purpose: Purpose,
        changed: &mut bool,
    ) -> Result<RestrictionOutcome> {
        let differences = self.differences(session, purpose)?;
        let mut outcome = RestrictionOutcome {
            changed: self.change(session, purpose, &differences, changed)?,
            ..RestrictionOutcome::default()
        };
        for (oid, member) in &self.tables {
            let wanted = self.wanted.remove(oid).unwrap_or_default();
            outcome.restricted.extend(summarize(&member.display(), wanted));
        }
        outcome.restricted.sort_by(|a, b| a.table.cmp(&b.table));
        Ok(outcome)
    }

    /// Each table that is not as it is to be; those that are to have nothing and have it are among `tables` then.
    fn differences(&mut self, session: &mut Session, purpose: Purpose) -> Result<Vec<Difference>> {
        let mut installed: BTreeMap<u32, Vec<Installed>> = BTreeMap::new();
        for (oid, member, trigger) in list_installed(session, purpose)? {
            installed.entry(oid).or_default().push(trigger);
            self.tables.entry(oid).or_insert(member);
        }
        let nothing = BTreeSet::new();
        let mut differences = Vec::new();
        for (oid, member) in &self.tables {
            let wanted = self.wanted.get(oid).unwrap_or(&nothing);
            let installed = installed.remove(oid).unwrap_or_default();
            let script = difference(session, purpose, *oid, member, wanted, &installed)?;
            if !script.is_empty() {
                let is_bare = installed.iter().all(|trigger| trigger.is_inherited);
                differences.push(Difference { oid: *oid, script, is_bare });
            }
        }
        Ok(differences)
    }

    /// Makes these tables what they are to be; their names.
    fn change(
        &self,
        session: &mut Session,
        purpose: Purpose,
        differences: &[Difference],
        changed: &mut bool,
    ) -> Result<Vec<String>> {
        grant_execute(session, purpose, &self.makers)?;
        let mut names = Vec::new();
        for Difference { oid, script, .. } in differences {
            let member = &self.tables[oid];
            change_table(session, *oid, member, script)?;
            *changed = true;
            names.push(member.display());
        }
        names.sort();
        Ok(names)
    }
}

/// Lets roles make triggers that call our function, as far as they may not yet.
fn grant_execute(session: &mut Session, purpose: Purpose, makers: &BTreeSet<String>) -> Result<()> {
    let makers: Vec<&String> = makers.iter().collect();
    let function = format!("pgdetour.{}()", purpose.function());
    for row in session.query(&sql::restrict::LIST_BARRED_ROLES, &[&makers, &function])? {
        let role = quote_identifier(row.get("role_name"));
        session
            .change_script(&format!("grant execute on function {function} to {role}"))
            .doing(|| format!("let role {role} make partitions"))?;
    }
    Ok(())
}

/// Removes every restriction and what applications ask about them; the tables that were restricted. `changed` as for
/// [`install`].
pub fn lift_all(session: &mut Session, changed: &mut bool) -> Result<Vec<String>> {
    let lifted = install(session, &[], changed)?.changed;
    let row = session.query_one(&sql::restrict::HAS_OBJECTS, &[])?;
    if row.get("refusal") || row.get("view") {
        session
            .change_script(sql::restrict::DROP_ALL.text)
            .doing(|| "drop function pgdetour.refuse".into())?;
    }
    drop_idle_schema(session)?;
    Ok(lifted)
}

/// Drops our schema when nothing is in it: without a detour it was made for the restrictions alone.
fn drop_idle_schema(session: &mut Session) -> Result<()> {
    if session.query_one(&sql::restrict::INSPECT_SCHEMA, &[])?.get("idle") {
        session.change_script("drop schema pgdetour").doing(|| "drop schema pgdetour".into())?;
    }
    Ok(())
}

/// Whether restrictions were made and not lifted, whatever has become of them.
pub fn is_begun(session: &mut Session) -> Result<bool> {
    Ok(session.query_one(&sql::restrict::HAS_OBJECTS, &[])?.get("refusal"))
}

/// What is restricted now, by table.
pub fn list_restricted(session: &mut Session) -> Result<Vec<Restricted>> {
    let mut tables: BTreeMap<String, Vec<Definition>> = BTreeMap::new();
    let installed = list_installed(session, Purpose::Refuse)?;
    for (_, member, trigger) in installed.into_iter().filter(|(.., trigger)| !trigger.is_inherited) {
        tables.entry(member.display()).or_default().extend(trigger.definition);
    }
    Ok(tables.into_iter().flat_map(|(table, definitions)| summarize(&table, definitions)).collect())
}

/// Statements that turn what is installed on a table into what is wanted; empty when it is the same.
fn difference(
    session: &mut Session,
    purpose: Purpose,
    oid: u32,
    member: &Member,
    wanted: &BTreeSet<Definition>,
    installed: &[Installed],
) -> Result<String> {
    let table = quote_qualified(&member.schema, &member.name);
    let mut missing = wanted.clone();
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut script = String::new();
    for trigger in installed {
        let is_well_named = |definition: &Definition| {
            !definition.is_by_row() || trigger.name.starts_with(&purpose.row_trigger())
        };
        let is_wanted = trigger
            .definition
            .as_ref()
            .is_some_and(|definition| is_well_named(definition) && missing.remove(definition));
        if trigger.is_inherited || is_wanted {
            names.insert(trigger.name.clone());
        } else {
            let _ = writeln!(script, "drop trigger {} on {table};", quote_identifier(&trigger.name));
        }
    }
    for definition in &missing {
        let mut free = (1..).map(|n| purpose.name(definition.is_by_row(), oid, n));
        let Some(name) = free.find(|name| !names.contains(name)) else { continue };
        let resolved = resolve_condition(session, member, definition)?;
        script += &definition.create_trigger(&quote_identifier(&name), &table, resolved.as_ref(), purpose);
        names.insert(name);
    }
    Ok(script)
}

fn resolve_condition(
    session: &mut Session,
    member: &Member,
    definition: &Definition,
) -> Result<Option<Resolved>> {
    let Some(text) = definition.condition.as_ref().filter(|_| definition.is_by_row()) else {
        return Ok(None);
    };
    match condition::resolve(session, member, text, condition::sees_new(&definition.deny))? {
        Ok(resolved) => Ok(Some(resolved)),
        Err(said) => Err(Error::ChecksFailed {
            findings: vec![Finding::new(
                "restrict_where",
                format!("{}: {}", session.place, member.display()),
                format!("its condition cannot be used: {said}"),
                "Correct where = \"...\" under [[restrict]].",
            )],
        }),
    }
}

fn create_objects(session: &mut Session) -> Result<()> {
    let row = session.query_one(&sql::restrict::HAS_OBJECTS, &[])?;
    if !row.get::<_, bool>("refusal") {
        session
            .atomically(|session| record::make_objects(session, &[&sql::restrict::CREATE_REFUSAL]))
            .doing(|| "create function pgdetour.refuse".into())?;
    }
    if !row.get::<_, bool>("view") {
        session
            .atomically(|session| record::make_objects(session, &[&sql::restrict::CREATE_VIEW]))
            .doing(|| "create view pgdetour.restriction".into())?;
    }
    Ok(())
}

/// Runs a script about one table in a short transaction, again and again until its lock is free.
fn change_table(session: &mut Session, oid: u32, member: &Member, script: &str) -> Result<()> {
    let begun = Instant::now();
    let limit = format!("set local lock_timeout = '{}ms'", LOCK_WAIT.as_millis());
    let mut attempt = 1;
    loop {
        let outcome = session.atomically(|session| {
            session.change_script(&limit)?;
            session.change_script(script)
        });
        let error = match outcome {
            Err(error)
                if error.is_sqlstate(&SqlState::LOCK_NOT_AVAILABLE)
                    || error.is_sqlstate(&SqlState::T_R_DEADLOCK_DETECTED) =>
            {
                error
            }
            other => return other.doing(|| format!("restrict table {}", member.display())),
        };
        let blockers = list_blockers(session, oid)?;
        if attempt >= ATTEMPTS {
            return Err(Error::TimedOut {
                what: format!("the lock of table {} on {}", member.display(), session.place),
                budget: begun.elapsed(),
                detail: Some(if blockers.is_empty() { error.to_string() } else { blockers.join("; ") }),
                hint: "Have these sessions end their transactions, then run the same command again.".into(),
            });
        }
        attempt += 1;
        // Writers that queued behind us get through before the next attempt.
        thread::sleep(Duration::from_millis(50) + jitter(Duration::from_millis(250)));
    }
}

/// Up to `most`, different every time.
fn jitter(most: Duration) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    most * (now.subsec_micros() % 1000) / 1000
}

fn list_blockers(session: &mut Session, oid: u32) -> Result<Vec<String>> {
    let rows = session.query(&sql::restrict::LIST_BLOCKERS, &[&oid])?;
    let blockers = rows.iter().map(|row| {
        let age = row.get::<_, Option<f64>>("transaction_seconds").unwrap_or_default();
        let age = human(Duration::from_secs_f64(age.max(0.0)));
        let role: Option<String> = row.get("role_name");
        let (pid, state): (i32, String) = (row.get("pid"), row.get("state"));
        format!("pid {pid} of \"{}\", {state}, its transaction {age} old", role.unwrap_or_default())
    });
    Ok(blockers.collect())
}

/// For every rule, for every table that it names: the table and all that inherits from it.
fn list_members(session: &mut Session, rules: &[Rule]) -> Result<Vec<Vec<Members>>> {
    let named = || rules.iter().flat_map(|rule| &rule.tables);
    let schemas: Vec<&String> = named().map(|(schema, _)| schema).collect();
    let tables: Vec<&String> = named().map(|(_, table)| table).collect();
    let mut found: Vec<Members> = tables.iter().map(|_| Vec::new()).collect();
    for row in session.query(&sql::restrict::LIST_MEMBERS, &[&schemas, &tables])? {
        let member = Member {
            schema: row.get("schema_name"),
            name: row.get("table_name"),
            owner: row.get("owner_name"),
            we_own: row.get("we_own"),
            is_partitioned: row.get("is_partitioned"),
            parent: row.get("parent_oid"),
            ancestors: row.get("ancestor_oids"),
            columns: row.get("columns"),
        };
        found[row.get::<_, i64>("ordinal") as usize - 1].push((row.get("table_oid"), member));
    }
    let mut found = found.into_iter();
    Ok(rules.iter().map(|rule| found.by_ref().take(rule.tables.len()).collect()).collect())
}

fn list_installed(session: &mut Session, purpose: Purpose) -> Result<Vec<(u32, Member, Installed)>> {
    let rows = session.query(&sql::restrict::LIST_TRIGGERS, &[&purpose.function()])?;
    let installed = rows.iter().map(|row| {
        let member = Member {
            schema: row.get("schema_name"),
            name: row.get("table_name"),
            owner: String::new(),
            we_own: true,
            is_partitioned: false,
            parent: None,
            ancestors: Vec::new(),
            columns: Vec::new(),
        };
        let kind: i32 = row.get("type");
        let deny: BTreeSet<Verb> = Verb::ALL.into_iter().filter(|verb| kind & verb.bit() != 0).collect();
        let columns: Vec<String> = row.get("columns");
        let definition = read_argument(row.get("definition"))
            .map(|argument| Definition {
                deny,
                columns: columns.into_iter().collect(),
                from_above: kind & ROW_BIT != 0 && argument.condition.is_none(),
                condition: argument.condition,
                roles: argument.roles,
                message: argument.message,
                sqlstate: argument.sqlstate,
                rule: argument.rule,
            })
            .filter(|definition| row.get("always") && definition.kind() == kind);
        let trigger =
            Installed { name: row.get("trigger_name"), is_inherited: row.get("inherited"), definition };
        (row.get("table_oid"), member, trigger)
    });
    Ok(installed.collect())
}

#[cfg(test)]
mod tests;
