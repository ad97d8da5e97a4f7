//! What our own roles have to be allowed on each side.

use std::collections::BTreeMap;

use crate::config::{CaptureMethod, SchemaMode};
use crate::error::{Checked, Result};
use crate::flow::mapping::Mapping;
use crate::flow::mapping::lint::RIGHTS;
use crate::flow::sequences::list_sequences;
use crate::flow::{TableName, subscription};
use crate::pg::catalog::facts::{OwnRole, list_statement_logging, may_set_replica_role, read_own_role};
use crate::pg::dump::fit::privilege_to_give;
use crate::phase::{Place, Side};
use crate::sql::{self, quote_identifier};
use crate::steps::Run;
use crate::steps::mirror::carrier::Choice;
use crate::steps::run::facts::Carrier;

/// What mirroring needs of our role on the source.
pub fn source(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let role = read_own_role(run.source())?;
    if role.superuser {
        return Ok(());
    }
    create(run, checked, Place::Source, &role)?;
    row_security(run, checked, Place::Source, &role)?;
    if run.config.mirror.method == CaptureMethod::Trigger {
        return triggers(run, checked, Side::Source, &role);
    }
    replication(checked, Place::Source, &role);
    let selected = run.selected_tables(Side::Source)?;
    let oids: Vec<u32> = selected.iter().map(|table| table.oid).collect();
    for table in super::tables::not_owned(run.source(), &oids)? {
        let message = format!("role \"{}\" does not own table \"{table}\", so cannot publish it", role.name);
        let hint = format!(
            "Grant the table's owner to {}, or connect as a superuser.",
            quote_identifier(&role.name)
        );
        checked.fail("privilege", &table, message, hint);
    }
    Ok(())
}

/// What mirroring needs of our role on the target.
pub fn target(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let role = read_own_role(run.target())?;
    if role.superuser {
        return Ok(());
    }
    create(run, checked, Place::Target, &role)?;
    inherit(run, checked, Place::Target, &role)?;
    row_security(run, checked, Place::Target, &role)?;
    subscribe(run, checked, Place::Target, &role)
}

/// What mirroring by way of a backup needs of our role there.
pub fn backup(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if !run.places().contains(&Place::Backup) {
        return Ok(());
    }
    let role = read_own_role(run.session(Place::Backup))?;
    if role.superuser {
        return Ok(());
    }
    create(run, checked, Place::Backup, &role)?;
    inherit(run, checked, Place::Backup, &role)?;
    row_security(run, checked, Place::Backup, &role)?;
    replication(checked, Place::Backup, &role);
    subscribe(run, checked, Place::Backup, &role)
}

/// Whom our role gives objects to lets it work with them: what it has given away it goes on to use, and be it a schema in which the
/// next object is made.
fn inherit(run: &mut Run, checked: &mut Checked, place: Place, role: &OwnRole) -> Result<()> {
    if run.config.mirror.schema == SchemaMode::Existing {
        return Ok(());
    }
    let rows = run.source().query(&sql::catalog::LIST_OBJECT_OWNERS, &[])?;
    let owners: Vec<String> = rows.iter().map(|row| row.get("owner")).collect();
    let session = run.session(place);
    let (version, privilege) = (session.version, privilege_to_give(session));
    for row in session.query(&sql::catalog::LIST_UNINHERITED_ROLES, &[&owners, &privilege])? {
        let owner: &str = row.get("name");
        let message = format!(
            "role \"{}\" is a member of \"{owner}\" on the {place}, and does not inherit what that may: it could make nothing in a \
             schema that it has given to it",
            role.name
        );
        let quoted = quote_identifier(&role.name);
        let hint = if version >= 160_000 {
            let owner = quote_identifier(owner);
            format!("Run GRANT {owner} TO {quoted} WITH INHERIT TRUE, SET TRUE; on the {place}.")
        } else {
            format!("Run ALTER ROLE {quoted} INHERIT; on the {place}.")
        };
        checked.fail("privilege", owner, message, hint);
    }
    Ok(())
}

fn subscribe(run: &mut Run, checked: &mut Checked, place: Place, role: &OwnRole) -> Result<()> {
    if run.choice != Choice::Only(Carrier::Pgdetour)
        && !subscription::may_create_subscription(run.session(place))?
    {
        let message = format!("role \"{}\" may not create subscriptions on the {place}", role.name);
        let instead = if run.has_backup() {
            "or take target.backup_conninfo out"
        } else {
            "or keep the mirror current with pgdetour mirror --follow"
        };
        let hint = format!(
            "From PostgreSQL 16 on, run GRANT pg_create_subscription TO {}; before that, connect as a superuser; {instead}.",
            quote_identifier(&role.name)
        );
        match run.choice {
            Choice::Auto => checked.warn("privilege", place.name(), message, hint),
            Choice::Only(_) => checked.fail("privilege", place.name(), message, hint),
        }
        return Ok(());
    }
    if run.choice != Choice::Only(Carrier::Pgdetour) {
        hidden_password(run, checked, place, role)?;
    }
    Ok(())
}

/// The statement that makes a subscription holds its connection string, and the server may log statements.
fn hidden_password(run: &mut Run, checked: &mut Checked, place: Place, role: &OwnRole) -> Result<()> {
    let Some(stage) = run.stages().iter().find(|stage| stage.subscriber() == place) else { return Ok(()) };
    // One that cannot be read is another check's.
    if !run.conninfo_of(*stage).is_ok_and(|conninfo| conninfo.has_secret()) {
        return Ok(());
    }
    let settings = list_statement_logging(run.session(place))?;
    let telling: Vec<&str> = settings
        .iter()
        .filter(|setting| setting.tells && !setting.may_set)
        .map(|setting| setting.name.as_str())
        .collect();
    if telling.is_empty() {
        return Ok(());
    }
    let names = telling.join(", ");
    checked.warn(
        "password_logged",
        place.name(),
        format!(
            "the password in the subscription's connection string can get into the {place}'s log or statistics: role \"{}\" may not \
             turn off {names} for the statement that holds it",
            role.name
        ),
        format!(
            "Run GRANT SET ON PARAMETER {names} TO {}; on the {place}, or mirror as a superuser.",
            quote_identifier(&role.name)
        ),
    );
    Ok(())
}

/// What capture needs of our role on the target.
pub fn capture(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let role = read_own_role(run.target())?;
    if role.superuser {
        return Ok(());
    }
    if run.config.capture.method == CaptureMethod::Wal {
        replication(checked, Place::Target, &role);
        return Ok(());
    }
    triggers(run, checked, Side::Target, &role)
}

/// What replay needs of our role on the source.
pub fn replay(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if !may_set_replica_role(run.source())? {
        let role = quote_identifier(&read_own_role(run.source())?.name);
        checked.warn(
            "replica_role",
            "source",
            "our role may not set session_replication_role, so replay goes row by row and fires triggers",
            format!("From PostgreSQL 15 on, run GRANT SET ON PARAMETER session_replication_role TO {role};"),
        );
    }
    sequences(run, checked)
}

/// The sequences of the source are set when traffic comes home, those of others among them.
fn sequences(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let selection = run.config.mirror.selection()?;
    let mut unsettable = list_sequences(run.source())?;
    unsettable.retain(|sequence| {
        let table = sequence.owner.as_ref().map_or(&sequence.name, |(_, table, _)| table);
        !sequence.settable && selection.matches(&sequence.schema, table)
    });
    if unsettable.is_empty() {
        return Ok(());
    }
    let role = read_own_role(run.source())?.name;
    for sequence in unsettable {
        let name = sequence.display();
        let message =
            format!("role \"{role}\" may not set sequence \"{name}\" of the source, so cutback would fail");
        let hint = format!(
            "Run GRANT SELECT, UPDATE ON SEQUENCE {} TO {};",
            sequence.quoted(),
            quote_identifier(&role)
        );
        checked.warn("privilege", &name, message, hint);
    }
    Ok(())
}

/// Our role may write the tables of the source that rows go to, and read those that are looked up: what maintenance has made
/// belongs to whoever made it. Without a mapping nobody knows yet which tables these are.
pub fn replayed_tables(run: &mut Run, checked: &mut Checked) -> Result<()> {
    // By the table: where its rows come from, and whether it is written.
    let mut needed: BTreeMap<TableName, (TableName, bool)> = BTreeMap::new();
    for rule in run.checked_mapping.iter().flat_map(Mapping::pairs) {
        let from = rule.from_root.as_ref().unwrap_or(&rule.from);
        needed.entry(rule.to.clone()).or_insert_with(|| (from.clone(), true)).1 = true;
        for table in &rule.looks_up {
            needed.entry(table.clone()).or_insert_with(|| (from.clone(), false));
        }
    }
    let schemas: Vec<&String> = needed.keys().map(|table| &table.schema).collect();
    let names: Vec<&String> = needed.keys().map(|table| &table.name).collect();
    let written: Vec<bool> = needed.values().map(|(_, written)| *written).collect();
    let role = read_own_role(run.source())?.name;
    let quoted = quote_identifier(&role);
    for row in run.source().query(&sql::catalog::LIST_LACKING_RIGHTS, &[&schemas, &names, &written])? {
        let table = TableName::in_row(&row);
        let Some((from, is_written)) = needed.get(&table) else { continue };
        let why = if *is_written { "where its rows go" } else { "which its [[map]] looks up" };
        let (mut lacks, lacks_schema): (Vec<String>, bool) = (row.get("lacks"), row.get("lacks_schema"));
        let grant = |rights: &str| {
            format!("Run GRANT {rights} ON TABLE {} TO {quoted}; on the source.", table.quoted())
        };
        let mut fail = |message, hint| checked.fail(RIGHTS, &from.to_string(), message, hint);
        if lacks_schema {
            fail(
                format!("role \"{role}\" may not use schema \"{}\" of the source, {why}", table.schema),
                format!(
                    "Run GRANT USAGE ON SCHEMA {} TO {quoted}; on the source.",
                    quote_identifier(&table.schema)
                ),
            );
        }
        let lacks_truncate: bool = row.get("lacks_truncate");
        if !lacks.is_empty() {
            lacks.extend(lacks_truncate.then(|| "TRUNCATE".to_owned()));
            let rights = lacks.join(", ");
            fail(
                format!("role \"{role}\" lacks {rights} on table \"{table}\" of the source, {why}"),
                grant(&rights),
            );
        } else if row.get("bound") {
            fail(
                format!(
                    "row-level security of table \"{table}\" of the source, {why}, binds role \"{role}\""
                ),
                format!("Run ALTER ROLE {quoted} BYPASSRLS; on the source."),
            );
        } else if lacks_truncate {
            let message = format!(
                "role \"{role}\" may not empty table \"{table}\" of the source: a TRUNCATE would not fit"
            );
            checked.warn(RIGHTS, &from.to_string(), message, grant("TRUNCATE"));
        }
    }
    Ok(())
}

/// What recording by triggers needs of our role.
fn triggers(run: &mut Run, checked: &mut Checked, side: Side, role: &OwnRole) -> Result<()> {
    let tables = if side == Side::Target { run.replayed_tables()? } else { run.selected_tables(side)? };
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let name = &role.name;
    for table in super::tables::not_owned(run.session(side), &oids)? {
        let message =
            format!("role \"{name}\" does not own table \"{table}\", so cannot create triggers on it");
        let hint =
            format!("Grant the table's owner to {}, or connect as a superuser.", quote_identifier(name));
        checked.fail("privilege", &table, message, hint);
    }
    checked.warn(
        "event_trigger",
        side.name(),
        format!("role \"{name}\" is no superuser, so cannot create the event trigger that follows ALTER TABLE"),
        "Do not alter captured tables, disable their triggers, nor TRUNCATE a partition made later by its own name before replay has brought a row of it, while changes are recorded there.",
    );
    Ok(())
}

fn replication(checked: &mut Checked, place: Place, role: &OwnRole) {
    if !role.replication {
        let message = format!("role \"{}\" has no REPLICATION attribute on the {place}", role.name);
        let hint = format!("Run ALTER ROLE {} REPLICATION; on the {place}.", quote_identifier(&role.name));
        checked.fail("privilege", place.name(), message, hint);
    }
}

/// Row-level security that binds a table's owner binds who is a member of it, too, wherever that reads or writes its rows.
fn row_security(run: &mut Run, checked: &mut Checked, place: Place, role: &OwnRole) -> Result<()> {
    if role.bypass_rls {
        return Ok(());
    }
    // The other sides' tables are copies of these, or are to be.
    let oids: Vec<u32> = run.selected_tables(Side::Source)?.iter().map(|table| table.oid).collect();
    let rows = run.source().query(&sql::catalog::LIST_TABLE_OWNERS, &[&oids])?;
    for row in rows.iter().filter(|row| row.get("enforced")) {
        let table = format!("{}.{}", row.get::<_, &str>("schema_name"), row.get::<_, &str>("table_name"));
        let message = format!(
            "row-level security of table \"{table}\" is forced, and binds role \"{}\" on the {place}",
            role.name
        );
        let hint = format!("Run ALTER ROLE {} BYPASSRLS; on the {place}.", quote_identifier(&role.name));
        checked.fail("privilege", &table, message, hint);
    }
    Ok(())
}

fn create(run: &mut Run, checked: &mut Checked, place: Place, role: &OwnRole) -> Result<()> {
    if !role.create_in_database {
        let database = run.database_facts(place)?.name;
        let message =
            format!("role \"{}\" may not create in database \"{database}\" of the {place}", role.name);
        let hint = format!(
            "Run GRANT CREATE ON DATABASE {} TO {}; on the {place}.",
            quote_identifier(&database),
            quote_identifier(&role.name)
        );
        checked.fail("privilege", place.name(), message, hint);
    }
    Ok(())
}
