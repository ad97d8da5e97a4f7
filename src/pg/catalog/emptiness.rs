//! What a database without user objects holds all the same, and the way back to it.

use std::collections::{BTreeMap, BTreeSet};

use postgres::error::SqlState;
use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Error, Result};
use crate::pg::Session;
use crate::sql::{self, quote_identifier};

/// Objects dropped in one transaction: each takes some of the server's lock table, which has room for a few thousand.
const DROPPED_AT_ONCE: i64 = 100;

/// What a database without user objects holds all the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emptiness {
    /// Schemas that are not the system's.
    pub schemas: Vec<String>,
    /// Extensions.
    pub extensions: Vec<String>,
    /// Objects that count for nothing when a database is called empty, such as foreign servers and collations: type and name.
    #[serde(default)]
    pub objects: Vec<String>,
    /// Comments on these schemas; none in a record of an earlier version, which knows of none.
    #[serde(default)]
    pub comments: Option<BTreeMap<String, String>>,
    /// Who owns these schemas and may use them, default privileges, and privileges on the system's objects.
    #[serde(default)]
    pub privileges: Vec<Standing>,
}

impl Emptiness {
    /// Its schemas and extensions, as objects are named.
    pub fn containers(&self) -> impl Iterator<Item = String> {
        let schemas = self.schemas.iter().map(|name| format!("schema {}", quote_identifier(name)));
        schemas.chain(self.extensions.iter().map(|name| format!("extension {}", quote_identifier(name))))
    }
}

/// Owner and privileges of a schema, default privileges of a role, or privileges on an object of the system's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The schema; none for default privileges in all of them.
    schema: Option<String>,
    /// The schema's owner, or the role whose objects get the default privileges.
    owner: String,
    /// `tables`, `functions`, … of default privileges; none for others.
    object_kind: Option<String>,
    /// `routine pg_catalog.now()`: the system's object; none for others.
    #[serde(default)]
    built_in_object: Option<String>,
    /// What is granted.
    privileges: BTreeSet<Privilege>,
    /// What would be granted without a row in the catalog.
    #[serde(skip)]
    built_in: BTreeSet<Privilege>,
}

/// One privilege of one role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Privilege {
    /// None is PUBLIC.
    grantee: Option<String>,
    #[serde(rename = "privilege")]
    action: String,
    grantable: bool,
}

impl Standing {
    fn is_same(&self, other: &Standing) -> bool {
        self.schema == other.schema
            && self.object_kind == other.object_kind
            && self.built_in_object == other.built_in_object
            // A schema is the same one, whoever owns it.
            && (self.object_kind.is_none() || self.owner == other.owner)
    }

    /// What makes the privileges those of `before`.
    fn restoration(&self, before: Option<&Standing>) -> Vec<String> {
        let wanted = before.map_or(&self.built_in, |before| &before.privileges);
        let revoked = self.privileges.difference(wanted).map(|privilege| self.change("revoke", privilege));
        let granted = wanted.difference(&self.privileges).map(|privilege| self.change("grant", privilege));
        revoked.chain(granted).collect()
    }

    fn change(&self, verb: &str, one: &Privilege) -> String {
        let schema = self.schema.as_ref().map(|schema| quote_identifier(schema));
        let (head, on) = match (&self.object_kind, &self.built_in_object) {
            (None, Some(object)) => (String::new(), object.clone()),
            (None, None) => (String::new(), format!("schema {}", schema.unwrap_or_default())),
            (Some(kind), _) => {
                let within = schema.map_or_else(String::new, |schema| format!("in schema {schema} "));
                let role = quote_identifier(&self.owner);
                (format!("alter default privileges for role {role} {within}"), kind.clone())
            }
        };
        let grantee = one.grantee.as_ref().map_or_else(|| "public".to_owned(), |role| quote_identifier(role));
        let (to, option) = match verb {
            "grant" if one.grantable => ("to", " with grant option"),
            "grant" => ("to", ""),
            _ => ("from", ""),
        };
        format!("{head}{verb} {} on {on} {to} {grantee}{option}", one.action)
    }
}

/// What is there now, to be restored later.
pub fn read_emptiness(session: &mut Session) -> Result<Emptiness> {
    let row = session.query_one(&sql::catalog::READ_EMPTINESS, &[])?;
    let (schemas, extensions) = (row.get("schemas"), row.get("extensions"));
    let objects = list_droppable(session, None, &[])?.into_iter().map(|object| object.name).collect();
    let comments = serde_json::from_value(row.get("comments")).map_err(|error| Error::Internal {
        message: format!("the comments of the catalog cannot be read: {error}"),
    })?;
    Ok(Emptiness {
        schemas,
        extensions,
        objects,
        comments: Some(comments),
        privileges: list_standing(session)?,
    })
}

/// An object that [`restore_emptiness`] would drop.
pub struct Droppable {
    /// Its class and itself, by oid.
    pub oids: (u32, u32),
    /// Type and quoted name, as in [`Emptiness::objects`].
    pub name: String,
    /// `DROP` takes these two.
    kind: String,
    identity: String,
}

/// What has come since `before`, but for schemas and extensions.
pub fn list_come(session: &mut Session, before: &Emptiness) -> Result<Vec<Droppable>> {
    list_droppable(session, None, &before.objects)
}

/// Class and oid, type and quoted name, of all that has come since `before`, schemas and extensions with it.
pub fn list_all_come(session: &mut Session, before: &Emptiness) -> Result<Vec<((u32, u32), String)>> {
    let known: BTreeSet<String> = before.containers().collect();
    let container = |row: &postgres::Row| {
        let (kind, name): (&str, &str) = (row.get("kind"), row.get("name"));
        ((row.get("classid"), row.get("oid")), format!("{kind} {}", quote_identifier(name)))
    };
    let rows = session.query(&sql::catalog::LIST_CONTAINERS, &[])?;
    let containers = rows.iter().map(container).filter(|(_, name)| !known.contains(name));
    let objects = list_come(session, before)?.into_iter().map(|object| (object.oids, object.name));
    Ok(objects.chain(containers).collect())
}

/// Type and quoted name of every object, schema and extension that is not the system's or ours.
pub fn list_names(session: &mut Session) -> Result<BTreeSet<String>> {
    let held = read_emptiness(session)?;
    Ok(held.containers().chain(held.objects.iter().cloned()).collect())
}

fn list_droppable(session: &mut Session, most: Option<i64>, spared: &[String]) -> Result<Vec<Droppable>> {
    let rows = session.query(&sql::catalog::FIND_DROPPABLE, &[&most, &spared])?;
    let droppable = |row: &postgres::Row| Droppable {
        oids: (row.get("classid"), row.get("oid")),
        name: row.get("name"),
        kind: row.get("kind"),
        identity: row.get("identity"),
    };
    Ok(rows.iter().map(droppable).collect())
}

fn list_standing(session: &mut Session) -> Result<Vec<Standing>> {
    let read = |row: &postgres::Row, column: &str| {
        serde_json::from_value(row.get(column)).map_err(|error| Error::Internal {
            message: format!("the privileges of the catalog cannot be read: {error}"),
        })
    };
    let rows = session.query(&sql::catalog::LIST_STANDING_PRIVILEGES, &[])?;
    let standing = |row: &postgres::Row| {
        Ok(Standing {
            schema: row.get("schema_name"),
            owner: row.get("owner"),
            object_kind: row.get("object_kind"),
            built_in_object: row.get("built_in_object"),
            privileges: read(row, "privileges")?,
            built_in: read(row, "built_in")?,
        })
    };
    rows.iter().map(standing).collect()
}

/// Drops every object that was not there before and what depends on it, then such schemas and extensions, and gives back those schemas that were to whom they belonged. Our own schema stays.
/// What our role may not restore is returned, as the statement that would.
pub fn restore_emptiness(session: &mut Session, before: &Emptiness) -> Result<Vec<String>> {
    loop {
        // Dropping one may take others with it: look again after each few.
        let next = list_droppable(session, Some(DROPPED_AT_ONCE), &before.objects)?;
        if next.is_empty() {
            break;
        }
        drop_all(session, &next)?;
        if session.is_dry() {
            session.note("the same for every other object that was copied");
            return Ok(Vec::new());
        }
    }
    let now = read_emptiness(session)?;
    for extension in now.extensions.iter().filter(|name| !before.extensions.contains(name)) {
        let name = quote_identifier(extension);
        session
            .change_script(&format!("drop extension {name}"))
            .doing(|| format!("drop extension {name}"))?;
    }
    for schema in now.schemas.iter().filter(|name| !before.schemas.contains(name)) {
        let name = quote_identifier(schema);
        session.change_script(&format!("drop schema {name}")).doing(|| format!("drop schema {name}"))?;
    }
    // While the schemas are still ours.
    let mut refused = run_allowed(session, comments_to_restore(before, &now))?;
    refused.extend(restore_standing(session, &before.privileges)?);
    Ok(refused)
}

/// Drops these in one transaction; a failure names the one that it is about.
fn drop_all(session: &mut Session, objects: &[Droppable]) -> Result<()> {
    let statement = |it: &Droppable| format!("drop {} if exists {} cascade", it.kind, it.identity);
    let one = |session: &mut Session, it: &Droppable| {
        session.change_script(&statement(it)).doing(|| format!("drop {} {}", it.kind, it.identity))
    };
    if session.is_dry() {
        return objects.first().map_or(Ok(()), |first| one(session, first));
    }
    let statements: Vec<String> = objects.iter().map(statement).collect();
    match session.change_script(&statements.join(";\n")) {
        // Alone each tells for itself; what has gone is not missed by the next run.
        Err(error) if !error.is_connection_lost() => {
            objects.iter().try_for_each(|it| one(session, it)).and(Err(error))
        }
        done => done,
    }
}

/// What makes the comments on schemas that stay those of `before`.
fn comments_to_restore(before: &Emptiness, now: &Emptiness) -> Vec<String> {
    let (Some(known), Some(found)) = (&before.comments, &now.comments) else { return Vec::new() };
    let is_other = |schema: &&String| known.get(*schema) != found.get(*schema);
    let restored = before.schemas.iter().filter(|schema| now.schemas.contains(schema)).filter(is_other);
    let statement = |schema: &String| {
        let comment = known.get(schema).map_or_else(|| "null".to_owned(), |text| sql::quote_literal(text));
        format!("comment on schema {} is {comment}", quote_identifier(schema))
    };
    restored.map(statement).collect()
}

/// Owners first: what a schema's owner has was granted by himself.
fn restore_standing(session: &mut Session, before: &[Standing]) -> Result<Vec<String>> {
    let mut owners = Vec::new();
    for now in list_standing(session)?.iter().filter(|now| now.object_kind.is_none()) {
        if let (Some(known), Some(schema)) = (before.iter().find(|known| known.is_same(now)), &now.schema)
            && known.owner != now.owner
        {
            let (schema, owner) = (quote_identifier(schema), quote_identifier(&known.owner));
            owners.push(format!("alter schema {schema} owner to {owner}"));
        }
    }
    let mut refused = run_allowed(session, owners)?;
    let mut privileges = Vec::new();
    for now in list_standing(session)? {
        let known = before.iter().find(|known| known.is_same(&now));
        // A record of an earlier version knows of no privileges.
        let had_none = now.object_kind.is_some() || now.built_in_object.is_some();
        if known.is_some() || (had_none && !before.is_empty()) {
            privileges.extend(now.restoration(known));
        }
    }
    refused.extend(run_allowed(session, privileges)?);
    Ok(refused)
}

/// Runs each statement; those that our role may not run are returned.
fn run_allowed(session: &mut Session, statements: Vec<String>) -> Result<Vec<String>> {
    let mut refused = Vec::new();
    for statement in statements {
        match session.change_script(&statement) {
            Err(error) if error.is_sqlstate(&SqlState::INSUFFICIENT_PRIVILEGE) => refused.push(statement),
            result => result?,
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(object_kind: Option<&str>, privileges: &[(&str, &str, bool)]) -> Standing {
        let privilege = |(grantee, action, grantable): &(&str, &str, bool)| Privilege {
            grantee: (*grantee != "public").then(|| (*grantee).to_owned()),
            action: (*action).to_owned(),
            grantable: *grantable,
        };
        Standing {
            schema: Some("a b".into()),
            owner: "o".into(),
            object_kind: object_kind.map(str::to_owned),
            built_in_object: None,
            privileges: privileges.iter().map(privilege).collect(),
            built_in: BTreeSet::new(),
        }
    }

    #[test]
    fn what_came_is_revoked_and_what_went_is_granted_again() {
        let before = standing(None, &[("o", "USAGE", false), ("public", "CREATE", true)]);
        let now = standing(None, &[("o", "USAGE", false), ("x", "USAGE", false)]);
        assert_eq!(
            now.restoration(Some(&before)),
            [
                r#"revoke USAGE on schema "a b" from "x""#,
                r#"grant CREATE on schema "a b" to public with grant option"#
            ]
        );
    }

    #[test]
    fn default_privileges_that_nobody_had_go_back_to_what_is_built_in() {
        let now = standing(Some("tables"), &[("x", "SELECT", false)]);
        assert_eq!(
            now.restoration(None),
            [r#"alter default privileges for role "o" in schema "a b" revoke SELECT on tables from "x""#]
        );
        assert!(now.is_same(&standing(Some("tables"), &[])) && !now.is_same(&standing(None, &[])));
    }

    #[test]
    fn the_systems_objects_go_back_to_what_they_were() {
        let object = "routine pg_catalog.pg_sleep(double precision)";
        let mut now = standing(None, &[("o", "EXECUTE", false), ("x", "EXECUTE", false)]);
        now.schema = None;
        now.built_in_object = Some(object.into());
        now.built_in = standing(None, &[("o", "EXECUTE", false), ("public", "EXECUTE", false)]).privileges;
        assert_eq!(
            now.restoration(None),
            [
                format!("revoke EXECUTE on {object} from \"x\""),
                format!("grant EXECUTE on {object} to public")
            ]
        );
    }
}
