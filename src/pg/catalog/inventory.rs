//! Every object of a database, to account for each of them, and the settings that belong to the database itself.

use crate::error::{Doing as _, Error, Result, ServerError};
use crate::pg::Session;
use crate::pg::catalog::Table;
use crate::pg::catalog::objects::Name;
use crate::sql::{self, quote_identifier, quote_literal};

/// One object by kind and identity, which is the same on every server that has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Object {
    /// `table`, `index`, `large object`, …
    pub kind: String,
    /// As `pg_identify_object` writes it.
    pub identity: String,
    /// The table or view that it is or belongs to.
    pub relation: Option<Name>,
    /// The table that a foreign key refers to.
    pub referenced: Option<Name>,
}

/// Everything that users made in this database; not the system's, extensions' and ours.
pub fn list_objects(session: &mut Session) -> Result<Vec<Object>> {
    let rows = session.query(&sql::catalog::LIST_OBJECTS, &[])?;
    Ok(rows.iter().map(Object::of_row).collect())
}

impl Object {
    /// Of a row of `list_objects.sql`, or of another file that names objects alike.
    pub(super) fn of_row(row: &postgres::Row) -> Object {
        let name = |schema: &str, name: &str| {
            row.get::<_, Option<String>>(schema).zip(row.get::<_, Option<String>>(name))
        };
        Object {
            kind: row.get("kind"),
            identity: row.get("identity"),
            relation: name("relation_schema", "relation_name"),
            referenced: name("referenced_schema", "referenced_name"),
        }
    }
}

/// One setting of a database, for everybody or for one role in it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DatabaseSetting {
    /// For this role alone.
    pub role: Option<String>,
    /// Name of the parameter.
    pub name: String,
    /// Its value as the catalog keeps it: lists of names are quoted already.
    pub value: String,
}

/// Parameters whose value is a list of quoted names.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

impl DatabaseSetting {
    /// Whether another one sets the same parameter for the same sessions.
    pub fn is_for_the_same(&self, other: &DatabaseSetting) -> bool {
        self.role == other.role && self.name == other.name
    }

    /// `ALTER DATABASE …` or `ALTER ROLE … IN DATABASE …`, up to the verb.
    fn head(&self, database: &str) -> String {
        let database = quote_identifier(database);
        match &self.role {
            Some(role) => format!("alter role {} in database {database}", quote_identifier(role)),
            None => format!("alter database {database}"),
        }
    }

    /// The statement that makes it in `database`.
    pub fn set_statement(&self, database: &str) -> String {
        let value = match self.value.as_str() {
            "\"\"" => "''".to_owned(),
            list if LISTS.contains(&self.name.as_str()) && !list.is_empty() => list.to_owned(),
            text => quote_literal(text),
        };
        // The name of a parameter of an extension has a dot, and is written as it is.
        let name = self.name.split('.').map(quote_identifier).collect::<Vec<_>>().join(".");
        format!("{} set {name} to {value}", self.head(database))
    }

    /// The statement that takes it away again.
    pub fn reset_statement(&self, database: &str) -> String {
        let name = self.name.split('.').map(quote_identifier).collect::<Vec<_>>().join(".");
        format!("{} reset {name}", self.head(database))
    }

    /// `lock_timeout`, or `lock_timeout of role "shop_app"`.
    pub fn display(&self) -> String {
        match &self.role {
            Some(role) => format!("{} of role \"{role}\"", self.name),
            None => self.name.clone(),
        }
    }
}

/// What a definition holds that older majors do not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewerFeature {
    /// What it is, such as `public.t.c`.
    pub identity: String,
    /// The table or view that it is of.
    pub relation: Option<Name>,
    /// Such as `a virtual generated column`.
    pub what: String,
    /// The first major that knows it.
    pub since: i32,
}

/// What of the users' definitions `major` does not know.
pub fn list_newer_features(session: &mut Session, major: i32) -> Result<Vec<NewerFeature>> {
    let rows = session.query(&sql::catalog::LIST_NEWER_FEATURES, &[&major])?;
    let feature = |row: &postgres::Row| {
        let schema: Option<String> = row.get("schema_name");
        NewerFeature {
            identity: row.get("identity"),
            relation: schema.zip(row.get("relation_name")),
            what: row.get("feature"),
            since: row.get("since"),
        }
    };
    Ok(rows.iter().map(feature).collect())
}

/// The settings of the database that we are in.
pub fn list_database_settings(session: &mut Session) -> Result<Vec<DatabaseSetting>> {
    let rows = session.query(&sql::catalog::LIST_DATABASE_SETTINGS, &[])?;
    let setting = |row: &postgres::Row| DatabaseSetting {
        role: row.get("role_name"),
        name: row.get("name"),
        value: row.get("value"),
    };
    Ok(rows.iter().map(setting).collect())
}

/// The columns of `table` that its filter reads, or what the server says against the filter. Asks in a transaction that
/// is rolled back.
pub fn list_filter_columns(session: &mut Session, table: &Table) -> Result<Result<Vec<String>, ServerError>> {
    let Some(filter) = &table.part.filter else { return Ok(Ok(Vec::new())) };
    let on = session.place.name();
    let view = format!(
        "begin; create temporary view pgdetour_filter as select from only {} where ({filter}\n)",
        table.quoted()
    );
    let made = session.client().batch_execute(&view);
    let columns = match &made {
        Ok(()) => session.query(&sql::catalog::LIST_FILTER_COLUMNS, &[&table.oid]),
        Err(_) => Ok(Vec::new()),
    };
    let ended = session.client().batch_execute("rollback");
    ended.map_err(|error| Error::sql("examine the mirror's filters", on, &error))?;
    match made {
        Ok(()) => Ok(Ok(columns
            .doing(|| "examine the mirror's filters".into())?
            .iter()
            .map(|row| row.get("column_name"))
            .collect())),
        Err(error) if error.as_db_error().is_some() => Ok(Err(ServerError::from(&error))),
        Err(error) => Err(Error::sql("examine the mirror's filters", on, &error)),
    }
}

/// Whether the server takes a text for true, of a setting that is either.
pub fn is_true(value: &str) -> bool {
    let value = value.to_lowercase();
    ["true", "yes"].iter().any(|word| !value.is_empty() && word.starts_with(&value))
        || value == "on"
        || value == "1"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::test_server::TestServer;
    use crate::phase::Side;

    #[test]
    fn privileges_are_listed_whatever_they_are_on_and_what_comes_with_a_type_is_not() {
        let server = TestServer::start("");
        let mut session = server.server(Side::Source).connect().unwrap();
        let before = list_objects(&mut session).unwrap();
        assert!(before.is_empty(), "{before:?}");
        session
            .change_script(
                "create role \"the app\"; create type public.span as range (subtype = pg_catalog.int4);
                 create foreign data wrapper w; create server s foreign data wrapper w;
                 grant usage on foreign data wrapper w to \"the app\"; grant usage on foreign server s to \"the app\";
                 revoke usage on language sql from public; grant usage on language sql to \"the app\";
                 grant create on schema public to \"the app\";
                 grant execute on function pg_catalog.pg_ls_waldir(), pg_catalog.now() to \"the app\";
                 grant select on pg_catalog.pg_authid to \"the app\";
                 revoke connect on database postgres from public; grant create on database postgres to \"the app\"",
            )
            .unwrap();
        let named = |object: Object| format!("{}: {}", object.kind, object.identity);
        let found: Vec<String> = list_objects(&mut session).unwrap().into_iter().map(named).collect();
        assert_eq!(
            found,
            [
                "database grant: CREATE to the app",
                "database grant: no CONNECT to PUBLIC",
                "foreign-data wrapper: w",
                "grant: CREATE on schema public to the app",
                "grant: EXECUTE on function pg_catalog.now() to the app",
                "grant: EXECUTE on function pg_catalog.pg_ls_waldir() to the app",
                "grant: SELECT on table pg_catalog.pg_authid to the app",
                "grant: USAGE on foreign-data wrapper w to the app",
                "grant: USAGE on language sql to the app",
                "grant: USAGE on server s to the app",
                "server: s",
                "type: public.span",
            ]
        );
    }

    #[test]
    fn what_older_majors_cannot_have_is_told_with_the_first_that_can() {
        let server = TestServer::start("");
        let mut session = server.server(Side::Source).connect().unwrap();
        if session.version < 150_000 {
            return;
        }
        session
            .change_script(
                "create table public.o (a pg_catalog.int4, b pg_catalog.int4, primary key (a, b));
                 create table public.t (id pg_catalog.int4 primary key, u pg_catalog.int4 unique nulls not distinct,
                     n pg_catalog.numeric(2, -3), m pg_catalog.numeric(2, 5), x pg_catalog.numeric(9, 2), s pg_catalog.numeric,
                     a pg_catalog.int4, b pg_catalog.int4,
                     constraint k foreign key (a, b) references public.o on delete set null (b));
                 create view public.v with (security_invoker = on) as select id from public.t;
                 create view public.w as select id from public.t; create unlogged sequence public.q",
            )
            .unwrap();
        let told: Vec<String> = list_newer_features(&mut session, 14)
            .unwrap()
            .into_iter()
            .map(|feature| format!("{} {} {}", feature.since, feature.identity, feature.what))
            .collect();
        assert_eq!(
            told,
            [
                "15 public.q an unlogged sequence",
                "15 public.t.k a foreign key that sets some of its columns on delete",
                "15 public.t.m a numeric of such a scale",
                "15 public.t.n a numeric of such a scale",
                "15 public.t_u_key an index with NULLS NOT DISTINCT",
                "15 public.v a view with security_invoker",
            ]
        );
        assert_eq!(list_newer_features(&mut session, 15).unwrap(), []);
    }

    #[test]
    fn settings_are_written_so_that_they_mean_the_same_elsewhere() {
        let setting = |role: Option<&str>, name: &str, value: &str| DatabaseSetting {
            role: role.map(str::to_owned),
            name: name.into(),
            value: value.into(),
        };
        let statement = setting(None, "search_path", "public, \"$user\", \"Odd\"").set_statement("a \"b\"");
        assert_eq!(
            statement,
            "alter database \"a \"\"b\"\"\" set \"search_path\" to public, \"$user\", \"Odd\""
        );
        assert_eq!(
            setting(Some("x"), "my.name", "it's").set_statement("d"),
            "alter role \"x\" in database \"d\" set \"my\".\"name\" to 'it''s'"
        );
        assert!(setting(None, "search_path", "\"\"").set_statement("d").ends_with("to ''"));
        assert_eq!(setting(None, "a", "b").reset_statement("d"), "alter database \"d\" reset \"a\"");
    }
}
