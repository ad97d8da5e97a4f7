//! Restriction of chosen statements on chosen tables for chosen roles, by triggers that nobody else pays for.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use postgres::error::SqlState;

use crate::error::{Checked, Doing as _, Error, Result, human};
use crate::pg::Session;
use crate::sql::{self, quote_identifier, quote_literal, quote_qualified};

/// Every trigger of ours begins so.
const TRIGGER: &str = "pgdetour_restrict";
/// How often a table's lock is tried for.
const ATTEMPTS: u32 = 12;
/// How long writers may queue behind one attempt.
const LOCK_WAIT: Duration = Duration::from_millis(300);

/// A kind of statement that can be denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// INSERT, COPY, MERGE that may insert.
    Insert,
    /// UPDATE, INSERT … ON CONFLICT DO UPDATE, MERGE that may update.
    Update,
    /// DELETE, MERGE that may delete.
    Delete,
    /// TRUNCATE.
    Truncate,
}

impl Verb {
    /// All of them: a table is read-only.
    pub const ALL: [Verb; 4] = [Verb::Insert, Verb::Update, Verb::Delete, Verb::Truncate];

    /// As in SQL, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Insert => "insert",
            Verb::Update => "update",
            Verb::Delete => "delete",
            Verb::Truncate => "truncate",
        }
    }

    /// Its bit in `pg_trigger.tgtype`.
    fn bit(self) -> i32 {
        match self {
            Verb::Insert => 4,
            Verb::Update => 16,
            Verb::Delete => 8,
            Verb::Truncate => 32,
        }
    }
}

/// What is refused, where, to whom, and in which words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Schema and name of each table, unquoted. Partitions and inheritors are included.
    pub tables: Vec<(String, String)>,
    /// Statements to refuse.
    pub deny: Vec<Verb>,
    /// Login roles to refuse them to.
    pub roles: Vec<String>,
    /// Primary message of the error.
    pub message: String,
}

/// One restriction of one table, as installed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Restricted {
    /// `public.users`, unquoted.
    pub table: String,
    /// Statements that are refused.
    pub deny: Vec<Verb>,
    /// Login roles to which they are refused.
    pub roles: Vec<String>,
}

/// What became of the restrictions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestrictionOutcome {
    /// Tables, `public.users`, whose restriction was added, changed or removed.
    pub changed: Vec<String>,
    /// All that is restricted now.
    pub restricted: Vec<Restricted>,
}

/// One trigger's meaning; equal definitions are equal triggers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Definition {
    deny: BTreeSet<Verb>,
    roles: BTreeSet<String>,
    message: String,
}

/// The trigger's argument: what `pg_trigger` cannot tell readably by itself.
#[derive(serde::Serialize, serde::Deserialize)]
struct Argument {
    message: String,
    roles: BTreeSet<String>,
}

impl Definition {
    fn of(rule: &Rule) -> Definition {
        Definition {
            deny: rule.deny.iter().copied().collect(),
            roles: rule.roles.iter().cloned().collect(),
            message: rule.message.clone(),
        }
    }

    fn create_trigger(&self, name: &str, table: &str) -> String {
        let name = quote_identifier(name);
        let verbs: Vec<&str> = self.deny.iter().map(|verb| verb.name()).collect();
        let roles: Vec<String> = self.roles.iter().map(|role| quote_literal(role)).collect();
        let argument = Argument { message: self.message.clone(), roles: self.roles.clone() };
        format!(
            "create trigger {name} before {} on {table} for each statement when (session_user in ({})) \
             execute function pgdetour.refuse({});\nalter table only {table} enable always trigger {name};\n",
            verbs.join(" or "),
            roles.join(", "),
            quote_literal(&ascii_json(&argument)),
        )
    }
}

/// A trigger that is there.
struct Installed {
    name: String,
    /// None when it is not what we would have made of it, or is not enabled.
    definition: Option<Definition>,
}

/// A table, and what is or shall be on it. Positions in the maps are `pg_class.oid`.
struct Member {
    schema: String,
    name: String,
    owner: String,
    we_own: bool,
}

/// A named table and all that inherits from it.
type Members = Vec<(u32, Member)>;

impl Member {
    fn display(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// Makes the restrictions exactly what `rules` say: only differences are changed, each table in a transaction of its
/// own, so that no statement slips between an old and a new restriction.
pub fn install(session: &mut Session, rules: &[Rule]) -> Result<RestrictionOutcome> {
    let mut wanted: BTreeMap<u32, BTreeSet<Definition>> = BTreeMap::new();
    let mut tables: BTreeMap<u32, Member> = BTreeMap::new();
    for (rule, members) in rules.iter().zip(list_members(session, rules)?) {
        for ((schema, name), found) in rule.tables.iter().zip(members) {
            if found.is_empty() {
                return Err(Error::Refused {
                    kind: "no_such_table",
                    message: format!("table {schema}.{name} does not exist on {}", session.side),
                    detail: None,
                    hint: "Correct the tables under [[restrict]].".into(),
                });
            }
            for (oid, member) in found {
                if !rule.deny.is_empty() && !rule.roles.is_empty() {
                    wanted.entry(oid).or_default().insert(Definition::of(rule));
                }
                tables.insert(oid, member);
            }
        }
    }
    let mut installed: BTreeMap<u32, Vec<Installed>> = BTreeMap::new();
    for (oid, member, trigger) in list_installed(session)? {
        installed.entry(oid).or_default().push(trigger);
        tables.entry(oid).or_insert(member);
    }
    let mut outcome = RestrictionOutcome::default();
    if !wanted.is_empty() {
        create_objects(session)?;
    }
    for (oid, member) in &tables {
        let wanted = wanted.remove(oid).unwrap_or_default();
        let installed = installed.remove(oid).unwrap_or_default();
        let script = difference(member, &wanted, &installed);
        if !script.is_empty() {
            change_table(session, *oid, member, &script)?;
            outcome.changed.push(member.display());
        }
        for definition in wanted {
            outcome.restricted.push(Restricted {
                table: member.display(),
                deny: definition.deny.into_iter().collect(),
                roles: definition.roles.into_iter().collect(),
            });
        }
    }
    outcome.changed.sort();
    outcome.restricted.sort_by(|a, b| a.table.cmp(&b.table));
    Ok(outcome)
}

/// Removes every restriction and what applications ask about them; the tables that were restricted.
pub fn lift_all(session: &mut Session) -> Result<Vec<String>> {
    let changed = install(session, &[])?.changed;
    let row = session.query_one(&sql::restrict::HAS_OBJECTS, &[])?;
    if row.get("refusal") || row.get("view") {
        session
            .change_script(sql::restrict::DROP_ALL.text)
            .doing(|| "drop function pgdetour.refuse".into())?;
    }
    Ok(changed)
}

/// What is restricted now, by table.
pub fn list_restricted(session: &mut Session) -> Result<Vec<Restricted>> {
    let installed = list_installed(session)?;
    let restricted = installed.into_iter().filter_map(|(_, member, trigger)| {
        trigger.definition.map(|definition| Restricted {
            table: member.display(),
            deny: definition.deny.into_iter().collect(),
            roles: definition.roles.into_iter().collect(),
        })
    });
    Ok(restricted.collect())
}

/// Every precondition of the rules, and who could undo them.
pub fn check(session: &mut Session, rules: &[Rule]) -> Result<Checked> {
    let mut checked = Checked::default();
    let side = session.side.name();
    for (rule, members) in rules.iter().zip(list_members(session, rules)?) {
        let mut oids = Vec::new();
        for ((schema, name), found) in rule.tables.iter().zip(members) {
            if found.is_empty() {
                let object = format!("{side}: {schema}.{name}");
                checked.fail(
                    "restrict_table",
                    &object,
                    "the table does not exist",
                    "Correct the tables under [[restrict]].",
                );
            }
            for (oid, member) in found {
                if !member.we_own {
                    let owner = quote_identifier(&member.owner);
                    checked.fail(
                        "restrict_table",
                        &format!("{side}: {}", member.display()),
                        format!("it belongs to {owner}, and only its owner can restrict it"),
                        format!(
                            "Run GRANT {owner} TO the role that pgdetour connects as, or connect as {owner}."
                        ),
                    );
                }
                oids.push(oid);
            }
        }
        for row in session.query(&sql::restrict::LIST_POWERS, &[&rule.roles, &oids])? {
            let role = quote_identifier(row.get("role_name"));
            let object = format!("{side}: role {role}");
            let owned: Vec<String> = row.get("owned");
            if !row.get::<_, bool>("present") {
                let hint =
                    format!("Create it, or correct the roles under [[restrict]]: CREATE ROLE {role} LOGIN;");
                checked.fail("restrict_role", &object, "it does not exist", hint);
            } else if row.get("is_us") {
                let hint = "Connect as a role that no rule restricts.";
                checked.fail("restrict_role", &object, "it is the role that pgdetour connects as", hint);
            } else if row.get("superuser") {
                let hint = format!("Run ALTER ROLE {role} NOSUPERUSER, if the application can do without.");
                checked.warn(
                    "restrict_role",
                    &object,
                    "it is a superuser, and could drop the restriction",
                    hint,
                );
            } else if let [first, rest @ ..] = owned.as_slice() {
                let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
                checked.warn(
                    "restrict_role",
                    &object,
                    format!("it may act as the owner of {first}{more}, and could drop the restriction"),
                    format!("Run ALTER TABLE {first} OWNER TO a role that the application does not use."),
                );
            }
        }
    }
    Ok(checked)
}

/// Statements that turn what is installed on a table into what is wanted; empty when it is the same.
fn difference(member: &Member, wanted: &BTreeSet<Definition>, installed: &[Installed]) -> String {
    let table = quote_qualified(&member.schema, &member.name);
    let mut missing = wanted.clone();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    let mut statements = Vec::new();
    for trigger in installed {
        if trigger.definition.as_ref().is_some_and(|definition| missing.remove(definition)) {
            names.insert(&trigger.name);
        } else {
            statements.push(format!("drop trigger {} on {table};\n", quote_identifier(&trigger.name)));
        }
    }
    let free = (1..).map(|n| if n == 1 { TRIGGER.to_owned() } else { format!("{TRIGGER}_{n}") });
    let free = free.filter(|name| !names.contains(name.as_str()));
    statements
        .extend(missing.iter().zip(free).map(|(definition, name)| definition.create_trigger(&name, &table)));
    statements.concat()
}

fn create_objects(session: &mut Session) -> Result<()> {
    let row = session.query_one(&sql::restrict::HAS_OBJECTS, &[])?;
    if !row.get::<_, bool>("refusal") {
        session
            .atomically(|session| session.change_script(sql::restrict::CREATE_REFUSAL.text))
            .doing(|| "create function pgdetour.refuse".into())?;
    }
    if !row.get::<_, bool>("view") {
        session
            .atomically(|session| session.change_script(sql::restrict::CREATE_VIEW.text))
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
                what: format!("the lock of table {} on {}", member.display(), session.side),
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
        };
        found[row.get::<_, i64>("ordinal") as usize - 1].push((row.get("table_oid"), member));
    }
    let mut found = found.into_iter();
    Ok(rules.iter().map(|rule| found.by_ref().take(rule.tables.len()).collect()).collect())
}

fn list_installed(session: &mut Session) -> Result<Vec<(u32, Member, Installed)>> {
    let rows = session.query(&sql::restrict::LIST_TRIGGERS, &[])?;
    let installed = rows.iter().map(|row| {
        let member = Member {
            schema: row.get("schema_name"),
            name: row.get("table_name"),
            owner: String::new(),
            we_own: true,
        };
        let kind: i32 = row.get("type");
        let deny = Verb::ALL.into_iter().filter(|verb| kind & verb.bit() != 0).collect();
        let definition = read_argument(row.get("definition"))
            .filter(|_| row.get("always"))
            .map(|argument| Definition { deny, roles: argument.roles, message: argument.message });
        (row.get("table_oid"), member, Installed { name: row.get("trigger_name"), definition })
    });
    Ok(installed.collect())
}

/// What the catalog keeps of the argument: ASCII, backslashes doubled, a zero byte at its end.
fn read_argument(escaped: &str) -> Option<Argument> {
    serde_json::from_str(&escaped.strip_suffix("\\000")?.replace("\\\\", "\\")).ok()
}

/// JSON in ASCII, so that it is the same bytes in every server encoding.
fn ascii_json(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_string(value).expect("strings and sets of strings become JSON");
    let escape = |unit: u16| match u8::try_from(unit) {
        Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
        _ => format!("\\u{unit:04x}"),
    };
    json.encode_utf16().map(escape).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests;
