//! The statements that give a role of one's own, which is no superuser, what the configured trip needs on each side.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::config::{FenceKind, SchemaMode};
use crate::error::Result;
use crate::flow::sequences::{Sequence, list_sequences};
use crate::pg::catalog::facts::{STATEMENT_LOGGING, list_roles, read_own_role};
use crate::pg::catalog::inventory::{DatabaseSetting, list_database_settings};
use crate::pg::{Conninfo, Session, fence};
use crate::phase::{Place, Side};
use crate::sql::{self, quote_identifier, quote_qualified};
use crate::steps::Run;

/// What one side needs.
#[derive(Debug, Serialize)]
pub struct Grants {
    /// Where.
    pub side: Place,
    /// The role that gets it.
    pub role: String,
    /// The server's major version.
    pub major: i32,
    /// SQL for a superuser of that side, in the database of the detour; what the version keeps to superusers is named
    /// in comments.
    pub sql: String,
}

/// All that the statements of one side follow from.
struct Facts {
    side: Place,
    major: i32,
    database: String,
    role: String,
    /// None when the role is to be made.
    is_superuser: Option<bool>,
    database_owner: Owner,
    /// Owners of what is mirrored; on target and backup, of all that a dump of the source makes.
    owners: Vec<Owner>,
    /// Of `owners`, those that exist here.
    present: Vec<String>,
    /// Of `owners`, those that may create in schema public here.
    creators: Vec<String>,
    /// Tables of superusers, quoted.
    superusers_tables: Vec<String>,
    /// Sequences that no member of `owners` may set, quoted.
    sequences: Vec<String>,
    /// A table whose row-level security binds its owner too.
    forced: Option<String>,
    /// The source holds objects of others than `owners`, which a dump reads as well.
    reads_others: bool,
    /// Extensions that only a superuser can create here: name and schema.
    extensions: Vec<(String, String)>,
    /// The role by which the target's server reaches the source, when it is another one.
    replicator: Option<String>,
    /// On the target, where a limited role is to be made: the roles that it has to be a member of.
    limited: Option<Vec<String>>,
    /// On the target: settings of the source's database that only a superuser can make there, and whether what they are for exists.
    settings: Vec<(DatabaseSetting, bool)>,
    /// On target and backup: foreign-data wrappers that foreign servers of the source are made with, and the servers' owners.
    wrappers: Vec<(String, Vec<String>)>,
    /// General roles that a read-only fence is raised against, and whether each exists here.
    fenced: Vec<(String, bool)>,
}

/// A role that owns something.
#[derive(Debug, Clone)]
struct Owner {
    name: String,
    superuser: bool,
    /// Schemas that hold its objects.
    schemas: Vec<String>,
}

/// The statements of every side for `role`, or for the roles that the connection strings name.
pub fn list(run: &mut Run, role: Option<&str>) -> Result<Vec<Grants>> {
    let tables = run.selected_tables(Side::Source)?;
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let rows = run.source().query(&sql::catalog::LIST_TABLE_OWNERS, &[&oids])?;
    let superusers = rows.iter().filter(|row| row.get("superuser"));
    let superusers_tables =
        superusers.map(|row| quote_qualified(row.get("schema_name"), row.get("table_name"))).collect();
    let forced = rows.iter().find(|row| row.get("forced"));
    let forced = forced.map(|row| quote_qualified(row.get("schema_name"), row.get("table_name")));
    let selected: BTreeSet<String> = rows.iter().map(|row| row.get("owner")).collect();
    let all = list_owners(run.source())?;
    let (owners, others): (Vec<Owner>, Vec<Owner>) =
        all.iter().cloned().partition(|owner| selected.contains(&owner.name));
    let reads_others = !others.is_empty() || owners.iter().any(|owner| owner.superuser);
    let replicator = match &run.config.target.source_conninfo {
        Some(text) => Some(Conninfo::parse(text)?.user().to_owned()),
        None => None,
    };
    let extensions = untrusted_extensions(run, Place::Target)?;
    let sequences = list_sequences(run.source())?;
    let mut source = Facts {
        superusers_tables,
        forced: forced.clone(),
        reads_others,
        replicator,
        ..facts(run, Place::Source, role, owners)?
    };
    source.sequences =
        sequences.iter().filter(|one| is_out_of_reach(one, &source)).map(Sequence::quoted).collect();
    let mut sides = vec![source];
    if run.answering(Place::Backup).is_some() {
        let extensions = untrusted_extensions(run, Place::Backup)?;
        sides.push(Facts {
            forced: forced.clone(),
            extensions,
            ..facts(run, Place::Backup, role, all.clone())?
        });
    }
    let limited = match run.config.restrict_role.as_ref().map(|role| role.like.clone()) {
        Some(like) => {
            Some(list_roles(run.target(), &[like])?.into_iter().flat_map(|like| like.member_of).collect())
        }
        None => None,
    };
    let settings = list_settings(run)?;
    sides.push(Facts { forced, extensions, limited, settings, ..facts(run, Place::Target, role, all)? });
    let wrappers = list_wrappers(run.source())?;
    sides.iter_mut().skip(1).for_each(|facts| facts.wrappers.clone_from(&wrappers));
    Ok(sides
        .iter()
        .map(|facts| Grants {
            side: facts.side,
            role: facts.role.clone(),
            major: facts.major,
            sql: statements(facts),
        })
        .collect())
}

/// Whether a sequence that is no column's belongs to nobody whose rights the role gets.
fn is_out_of_reach(sequence: &Sequence, facts: &Facts) -> bool {
    let owners = facts.owners.iter().chain([&facts.database_owner]);
    let mut lending = owners.filter(|owner| !owner.superuser).map(|owner| &owner.name).chain([&facts.role]);
    sequence.owner.is_none() && lending.all(|name| *name != sequence.belongs_to)
}

fn facts(run: &mut Run, side: Place, role: Option<&str>, owners: Vec<Owner>) -> Result<Facts> {
    let general = match (run.config.traffic.fence, side) {
        (FenceKind::Closed, _) | (_, Place::Backup) => Vec::new(),
        (FenceKind::ReadOnly, Place::Source) => run.config.general_roles(Side::Source),
        (FenceKind::ReadOnly, Place::Target) => run.config.general_roles(Side::Target),
    };
    let session = run.session(side);
    let role = match role {
        Some(role) => role.to_owned(),
        None => read_own_role(session)?.name,
    };
    let is_superuser = list_roles(session, std::slice::from_ref(&role))?.first().map(|found| found.superuser);
    let names: Vec<&String> = owners.iter().map(|owner| &owner.name).collect();
    let row = session.query_one(&sql::catalog::READ_DATABASE_OWNER, &[&names])?;
    let found = list_roles(session, &general)?;
    let is_there = |name: &String| found.iter().any(|role| &role.name == name);
    let fenced = general.iter().map(|name| (name.clone(), is_there(name))).collect();
    Ok(Facts {
        side,
        major: session.version / 10_000,
        database: row.get("name"),
        role,
        is_superuser,
        database_owner: Owner {
            name: row.get("owner"),
            superuser: row.get("superuser"),
            schemas: Vec::new(),
        },
        owners,
        present: row.get("present"),
        creators: row.get("creators"),
        superusers_tables: Vec::new(),
        sequences: Vec::new(),
        forced: None,
        reads_others: false,
        extensions: Vec::new(),
        replicator: None,
        limited: None,
        settings: Vec::new(),
        wrappers: Vec::new(),
        fenced,
    })
}

fn list_owners(session: &mut Session) -> Result<Vec<Owner>> {
    let rows = session.query(&sql::catalog::LIST_OBJECT_OWNERS, &[])?;
    let owner = |row: &postgres::Row| Owner {
        name: row.get("owner"),
        superuser: row.get("superuser"),
        schemas: row.get("schemas"),
    };
    Ok(rows.iter().map(owner).collect())
}

/// Extensions of the source that are not at `place` yet and that only a superuser can create there.
fn untrusted_extensions(run: &mut Run, place: Place) -> Result<Vec<(String, String)>> {
    let wanted = run.source().query(&sql::catalog::LIST_EXTENSIONS, &[])?;
    let there = run.session(place).query(&sql::catalog::LIST_EXTENSIONS, &[])?;
    let is_there = |name: &str| there.iter().any(|row| row.get::<_, &str>("name") == name);
    let missing = wanted.iter().filter(|row| !row.get::<_, bool>("trusted") && !is_there(row.get("name")));
    Ok(missing.map(|row| (row.get("name"), row.get("schema_name"))).collect())
}

/// Settings of the source's database that the target's lacks and that the mirror may not be able to make: those of single roles, and
/// those that superusers alone may make.
fn list_settings(run: &mut Run) -> Result<Vec<(DatabaseSetting, bool)>> {
    if run.config.mirror.schema == SchemaMode::Existing {
        return Ok(Vec::new());
    }
    let mut missing = list_database_settings(run.source())?;
    let there = list_database_settings(run.target())?;
    let superusers: BTreeSet<String> = run
        .target()
        .query(&sql::catalog::LIST_SUPERUSERS_SETTINGS, &[])?
        .iter()
        .map(|row| row.get("name"))
        .collect();
    missing.retain(|setting| {
        let has = there.iter().any(|other| other.is_for_the_same(setting));
        // These may be a fence's, and a mark of ours.
        let is_ours = setting.name == fence::SETTING || setting.name == "pgdetour.limited";
        !has && !is_ours && (setting.role.is_some() || superusers.contains(&setting.name))
    });
    let roles: Vec<String> = missing.iter().filter_map(|setting| setting.role.clone()).collect();
    let found = list_roles(run.target(), &roles)?;
    let is_there = |setting: &DatabaseSetting| {
        setting.role.as_ref().is_none_or(|name| found.iter().any(|role| role.name == *name))
    };
    let with_role = |setting: DatabaseSetting| {
        let is_there = is_there(&setting);
        (setting, is_there)
    };
    Ok(missing.into_iter().map(with_role).collect())
}

fn list_wrappers(source: &mut Session) -> Result<Vec<(String, Vec<String>)>> {
    let rows = source.query(&sql::catalog::LIST_WRAPPERS, &[])?;
    Ok(rows.iter().map(|row| (row.get("wrapper"), row.get("owners"))).collect())
}

/// A name for a comment, which ends with its line.
fn shown(name: &str) -> String {
    quote_identifier(name).replace(['\n', '\r'], " ")
}

fn statements(facts: &Facts) -> String {
    let mut lines = vec![format!(
        "-- For role {} on the {}, PostgreSQL {}. Run this as a superuser in database {}.",
        shown(&facts.role),
        facts.side,
        facts.major,
        shown(&facts.database)
    )];
    if facts.is_superuser == Some(true) {
        lines.push("-- It is a superuser, who needs none of this. See --role for another.".into());
        return lines.join("\n") + "\n";
    }
    let role = quote_identifier(&facts.role);
    let verb = if facts.is_superuser.is_none() { "create" } else { "alter" };
    let bypass = if facts.forced.is_some() { " bypassrls" } else { "" };
    lines.push("-- Slots, and the streams that read them. Give it a password with psql's \\password.".into());
    if let Some(table) = &facts.forced {
        lines.push(format!(
            "-- BYPASSRLS: row-level security of {} binds its owner too.",
            table.replace(['\n', '\r'], " ")
        ));
    }
    lines.push(format!("{verb} role {role} login inherit replication{bypass};"));
    if let Some(replicator) = facts.replicator.as_ref().filter(|name| **name != facts.role) {
        lines.push("-- By this one the target's server reaches the source.".into());
        lines.push(format!("alter role {} login replication;", quote_identifier(replicator)));
    }
    ownership(facts, &role, &mut lines);
    read_only_fence(facts, &role, &mut lines);
    limited_role(facts, &role, &mut lines);
    lines.push("-- To see the application's sessions, and to end them when clients are held.".into());
    lines.push(format!("grant pg_read_all_stats, pg_signal_backend to {role};"));
    if facts.reads_others {
        lines.push("-- A dump of the schema looks at tables of others, too.".into());
        lines.push(format!("grant pg_read_all_data to {role};"));
    }
    if facts.major >= 15 {
        lines.push("-- So that triggers do not fire again for changes that are carried over.".into());
        lines.push(format!("grant set on parameter session_replication_role to {role};"));
    } else {
        lines.push(format!(
            "-- PostgreSQL {} lets only superusers set session_replication_role: without it changes are carried over row \
             by row, and triggers fire for them. Disable those that must not.",
            facts.major
        ));
    }
    if facts.side != Side::Source {
        copy_only(facts, &role, &mut lines);
    }
    lines.join("\n") + "\n"
}

/// Membership in owners, so that tables can be published, restricted and written, and the database fenced.
fn ownership(facts: &Facts, role: &str, lines: &mut Vec<String>) {
    // Since 16 membership says for itself what it is good for.
    let options = if facts.major >= 16 { " with inherit true, set true" } else { "" };
    let database = quote_identifier(&facts.database);
    lines.push("-- Who owns the database may say who connects to it, and create in it.".into());
    if facts.database_owner.superuser {
        lines.push(format!(
            "-- It belongs to {}, and a member of a superuser is one.",
            shown(&facts.database_owner.name)
        ));
        lines.push(format!("alter database {database} owner to {role};"));
    } else if facts.database_owner.name != facts.role {
        lines.push(format!("grant {} to {role}{options};", quote_identifier(&facts.database_owner.name)));
    }
    let is_other = |owner: &&Owner| {
        !owner.superuser && owner.name != facts.role && owner.name != facts.database_owner.name
    };
    let others: Vec<&Owner> = facts.owners.iter().filter(is_other).collect();
    if !others.is_empty() {
        lines.push("-- Who owns tables may publish, restrict and write them.".into());
    }
    for owner in others {
        if !facts.present.contains(&owner.name) {
            lines.push(
                "-- As on the source, whose pg_dumpall --roles-only tells its password and settings.".into(),
            );
            lines.push(format!("create role {};", quote_identifier(&owner.name)));
        }
        lines.push(format!("grant {} to {role}{options};", quote_identifier(&owner.name)));
    }
    if !facts.sequences.is_empty() {
        lines.push("-- Sequences of others, which are set when traffic comes home.".into());
        let grant = |sequence: &String| format!("grant select, update on sequence {sequence} to {role};");
        lines.extend(facts.sequences.iter().map(grant));
    }
    if !facts.superusers_tables.is_empty() {
        lines.push("-- These belong to a superuser, and a member of a superuser is one.".into());
        let alter = |table: &String| format!("alter table {table} owner to {role};");
        lines.extend(facts.superusers_tables.iter().map(alter));
    }
}

/// Membership in the application's roles: each role may change its own settings, and nothing else allows as little.
fn read_only_fence(facts: &Facts, role: &str, lines: &mut Vec<String>) {
    let options = if facts.major >= 16 { " with inherit false, set true" } else { "" };
    // To those that own something it belongs already.
    let is_granted =
        |name: &str| facts.database_owner.name == name || facts.owners.iter().any(|owner| owner.name == name);
    for (name, is_there) in facts.fenced.iter().filter(|(name, _)| *name != facts.role && !is_granted(name)) {
        lines.push(format!(
            "-- To make {} read-only on the side that does not serve: each role may change its own settings.",
            shown(name)
        ));
        let grant = format!("grant {} to {role}{options};", quote_identifier(name));
        if *is_there {
            lines.push(grant);
        } else {
            lines.push("-- It has to be made first, as on the source.".into());
            lines.push(format!("-- {}", grant.replace(['\n', '\r'], " ")));
        }
    }
}

/// What making the role takes that restrict limits.
fn limited_role(facts: &Facts, role: &str, lines: &mut Vec<String>) {
    let Some(teams) = &facts.limited else { return };
    if facts.major < 15 {
        lines.push(format!(
            "-- PostgreSQL {} lets only superusers mark the role of [restrict_role]: connect to the target as one for \
             \"pgdetour restrict\" and \"pgdetour clean\".",
            facts.major
        ));
        return;
    }
    lines.push("-- To make the role of [restrict_role], and to mark it.".into());
    lines.push(format!("alter role {role} createrole;"));
    lines.push(format!("grant set on parameter pgdetour.limited to {role};"));
    for team in teams {
        lines.push(format!("grant {} to {role} with admin option;", quote_identifier(team)));
    }
}

fn copy_only(facts: &Facts, role: &str, lines: &mut Vec<String>) {
    for owner in facts.owners.iter().filter(|owner| !owner.superuser) {
        let owns_public = facts.database_owner.name == owner.name && facts.major >= 15;
        let may_create = owns_public || facts.creators.contains(&owner.name);
        if owner.schemas.iter().any(|schema| schema == "public") && !may_create {
            lines.push("-- A new owner must be allowed to create where the object is.".into());
            lines.push(format!("grant create on schema public to {};", quote_identifier(&owner.name)));
        }
    }
    if facts.owners.iter().any(|owner| owner.superuser) && facts.major >= 15 {
        lines.push("-- What belongs to a superuser on the source is this role's here.".into());
        lines.push(format!("grant create on schema public to {role};"));
    }
    if facts.major >= 16 {
        lines.push("-- The mirror's subscription. Its connection string has to hold a password.".into());
        lines.push(format!("grant pg_create_subscription to {role};"));
        let settings = STATEMENT_LOGGING.map(|(name, _)| name).join(", ");
        lines.push(
            "-- Optional: to keep that password out of the server's log and statistics, whatever statements get there."
                .into(),
        );
        lines.push(format!("grant set on parameter {settings} to {role};"));
    } else {
        lines.push(format!(
            "-- PostgreSQL {} lets only superusers create a subscription. Either connect to the target as one for \
             \"pgdetour mirror\" and \"pgdetour cutover\", or let \"pgdetour mirror --follow\" carry the changes.",
            facts.major
        ));
    }
    for (name, schema) in &facts.extensions {
        lines.push("-- Only a superuser can create this extension.".into());
        if schema != "public" {
            lines.push(format!("create schema if not exists {};", quote_identifier(schema)));
        }
        lines.push(format!(
            "create extension if not exists {} schema {};",
            quote_identifier(name),
            quote_identifier(schema)
        ));
    }
    for (wrapper, owners) in &facts.wrappers {
        lines.push(
            "-- Whoever makes a foreign server, or is to own one, must be allowed to use its wrapper.".into(),
        );
        let is_there = |name: &&String| facts.owners.iter().any(|owner| owner.name == **name);
        let owners = owners.iter().filter(|name| **name != facts.role).filter(is_there);
        let roles: Vec<String> =
            [role.to_owned()].into_iter().chain(owners.map(|name| quote_identifier(name))).collect();
        lines.push(format!(
            "grant usage on foreign data wrapper {} to {};",
            quote_identifier(wrapper),
            roles.join(", ")
        ));
    }
    if !facts.settings.is_empty() {
        lines.push("-- Set for the source's database, and here a superuser's to set.".into());
    }
    for (setting, is_there) in &facts.settings {
        let statement = format!("{};", setting.set_statement(&facts.database));
        lines.push(if *is_there {
            statement
        } else {
            format!("-- {}", statement.replace(['\n', '\r'], " "))
        });
    }
    lines.push(
        "-- Event triggers are a superuser's: without one, tables made while the target serves are not restricted."
            .into(),
    );
}
