//! Every file under `sql/` is registered, used, and understood by a server.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::pg::test_server::TestServer;
use crate::sql::{self, Sql};

/// Files of several statements, in the order in which they build on each other.
const SCRIPTS: [&str; 23] = [
    "record/create_schema",
    "record/create_common",
    "record/create_copies",
    "record/create_source",
    "record/create_target",
    "restrict/create_refusal",
    "restrict/create_view",
    "restrict/create_guard",
    "restrict/create_observation",
    "capture/create_change",
    "capture/create_marker_trigger",
    "capture/create_triggers",
    "capture/create_whole_row_triggers",
    "capture/create_truncate_trigger",
    "capture/create_event_trigger",
    "capture/grant_recording",
    "capture/order_changes",
    "capture/drop_change",
    "record/forget_waiting",
    "restrict/drop_observation",
    "restrict/drop_guard",
    "restrict/drop_all",
    "record/drop_record",
];

/// How many of them make objects, which the single statements then read and write.
const CREATING: usize = 17;

/// A value for every psql variable, of the type that its column has.
const VARIABLES: [(&str, &str); 23] = [
    ("slot", "pgdetour_capture"),
    ("copy", "pgdetour_export"),
    ("bytes", "0"),
    ("allowed", "true"),
    ("changes", "0"),
    ("class", "1"),
    ("count", "1"),
    ("options", "array['proto_version', '1']"),
    ("detour", "00000000-0000-0000-0000-000000000000"),
    ("flow", "mirror"),
    ("new_key", "new.id"),
    ("old_key", "old.id"),
    ("id", "00000000-0000-0000-0000-000000000000"),
    ("key", "1"),
    ("lsn", "0/0"),
    ("schema", "public"),
    ("snapshot", "1:1:"),
    ("table", "public.orders"),
    ("transactions", "0"),
    ("written_at", "2024-01-01"),
    ("rows", ""),
    ("ordinals", "{}"),
    ("analyzed", "true"),
];

/// What `:rows` stands for where it is a query; elsewhere it is a number.
const ROWS_QUERY: &str = "select 'a'::text as key_text, '{a}'::text[] as key_parts, 'b'::text as row_text, \
                          'c'::text as version";

#[test]
fn every_file_is_registered() {
    let folder = project().join("sql");
    let files: BTreeSet<String> = files_below(&folder)
        .iter()
        .map(|path| {
            let relative = path.strip_prefix(&folder).expect("it was found there");
            relative.with_extension("").to_str().expect("our own names are text").to_owned()
        })
        .collect();
    let registered: BTreeSet<String> = sql::ALL.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(files, registered);
    assert_eq!(registered.len(), sql::ALL.len(), "each is registered once");
}

/// "could not … on source" is read by people.
#[test]
fn every_statement_says_what_it_does_with_a_verb() {
    const VERBS: &str = "advance ask assign bar copy count create decide delete describe drop end find fingerprint finish \
                         forget grant hash insert inspect list lock look make merge note notify order pin purge read record \
                         release remove repeat revoke set settle start store sum try update widen withhold write";
    for (path, statement) in sql::ALL {
        let action = statement.action();
        let verb = action.split(' ').next().unwrap_or_default();
        assert!(VERBS.split(' ').any(|known| known == verb), "sql/{path}.sql: could not {action}");
    }
    assert_eq!(sql::record::HAS_TABLE.action(), "look for table");
    let known = Sql::of_text(sql::record::UPDATE_STAMP.text).map(Sql::action);
    assert_eq!(known.as_deref(), Some("update stamp"));
}

#[test]
fn every_statement_is_understood_in_every_encoding() {
    // Comments are sent, too, and the server converts all of it into the encoding of its database.
    for (path, statement) in sql::ALL {
        assert!(statement.text.is_ascii(), "sql/{path}.sql");
    }
}

#[test]
fn every_statement_is_used() {
    let code: String = files_below(&project().join("src"))
        .iter()
        .filter(|path| !path.ends_with("src/sql.rs"))
        .map(|path| fs::read_to_string(path).expect("a listed file can be read"))
        .collect();
    let unused: Vec<&str> = sql::ALL
        .iter()
        .filter(|(_, statement)| !is_used(&code, &statement.name.to_uppercase()))
        .map(|(path, _)| *path)
        .collect();
    assert!(unused.is_empty(), "nothing uses {unused:?}");
}

#[test]
fn a_server_understands_every_statement() {
    let server = TestServer::start("");
    let mut client = server.client();
    client.batch_execute("begin; create table public.orders (id int)").expect("a transaction begins");
    for path in &SCRIPTS[..CREATING] {
        client.batch_execute(&text(path)).unwrap_or_else(|error| panic!("sql/{path}.sql: {error:?}"));
    }
    let mut prepared = 0;
    for (path, statement) in sql::ALL.iter().filter(|(path, _)| !SCRIPTS.contains(path)) {
        let rows = if path.contains("/hash_") { ROWS_QUERY } else { "0" };
        let variables = VARIABLES.map(|(name, value)| (name, if name == "rows" { rows } else { value }));
        client
            .prepare(&statement.with(&variables))
            .unwrap_or_else(|error| panic!("sql/{path}.sql: {error:?}"));
        prepared += 1;
    }
    for path in &SCRIPTS[CREATING..] {
        client.batch_execute(&text(path)).unwrap_or_else(|error| panic!("sql/{path}.sql: {error:?}"));
    }
    client.batch_execute("rollback").expect("a transaction ends");
    assert_eq!(prepared + SCRIPTS.len(), sql::ALL.len());
}

fn text(path: &str) -> String {
    let found = sql::ALL.iter().find(|(known, _)| *known == path);
    found.unwrap_or_else(|| panic!("sql/{path}.sql is registered")).1.with(&VARIABLES)
}

/// Whether the code has `::NAME`, and not as the beginning of a longer name.
fn is_used(code: &str, name: &str) -> bool {
    code.split(&format!("::{name}"))
        .skip(1)
        .any(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .flat_map(|entry| {
            let path = entry.expect("the folder can be listed").path();
            if path.is_dir() { files_below(&path) } else { vec![path] }
        })
        .collect()
}
