//! All that a real database holds: there and back again, each row and each definition as it was.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use crate::support::detour::{Detour, Serving};
use crate::support::postgres::Postgres;
use crate::support::wait::until;

const SOURCE: &str = include_str!("cases/objects/source.sql");

#[test]
fn all_that_a_database_holds_goes_there_and_comes_home() {
    let detour = Detour::new()
        .on_source(SOURCE)
        .writing()
        .run("check")
        .exits(0)
        .run("mirror")
        .fault("after:copy tables")
        .dies()
        .on_source("call public.churn(1)")
        .run("mirror")
        .exits(0)
        .phase("mirrored")
        .on_source("call public.churn(2)")
        .at_rest(|detour| detour.run("verify").exits(0).reports("/equal", true).holds_the_same())
        .has_the_same_schema()
        .run("cutover")
        .exits(0)
        .serving(Serving::Target)
        .has_the_same_sequences()
        .on_target("call public.churn(3)")
        .at_rest(|detour| {
            detour
                .run("replay")
                .exits(0)
                .reports("/quarantined", 0)
                .run("verify")
                .exits(0)
                .reports("/equal", true)
                .holds_the_same()
        })
        .on_target("call public.churn(4)")
        .at_rest(|detour| detour.run("cutback").exits(0).serving(Serving::Source).holds_the_same())
        .has_the_same_sequences()
        .application_goes_on()
        .no_client_error()
        .no_row_lost();
    drop(detour);
}

impl Detour {
    /// Every followed table holds the same rows on both sides, as each server writes them as text.
    pub fn holds_the_same(self) -> Detour {
        let same = || contents(&self.source) == contents(&self.target);
        let limit = Duration::from_secs(60);
        let mut last = String::new();
        let began = std::time::Instant::now();
        until("both sides hold the same", limit * 2, || {
            if same() {
                last.clear();
                return Some(());
            }
            last = differences(&contents(&self.source), &contents(&self.target));
            (began.elapsed() > limit).then_some(())
        });
        assert!(last.is_empty(), "{last}\n{}", self.last().describe());
        self
    }

    /// `pg_dump` writes the same definitions of both sides.
    pub fn has_the_same_schema(self) -> Detour {
        let (source, target) = (schema(&self.source), schema(&self.target));
        let lost: Vec<&String> = source.iter().filter(|entry| !target.contains(entry)).collect();
        let come: Vec<&String> = target.iter().filter(|entry| !source.contains(entry)).collect();
        assert!(
            lost.is_empty() && come.is_empty(),
            "only on the source: {lost:#?}\nonly on the target: {come:#?}"
        );
        assert!(source.len() > 5, "a dump was read");
        self
    }

    /// Every sequence stands where the other side's does.
    pub fn has_the_same_sequences(self) -> Detour {
        let read = |server: &Postgres| -> Vec<String> {
            let query = "select format('%I.%I %s', schemaname, sequencename, last_value) from pg_sequences
                          where schemaname <> 'pgdetour' order by 1";
            let rows = server.client("dba").query(query, &[]).expect("sequences can be listed");
            rows.iter().map(|row| row.get(0)).collect()
        };
        assert_eq!(read(&self.source), read(&self.target));
        self
    }
}

/// Rows and hash of each table, read without any help of what is tested.
fn contents(server: &Postgres) -> BTreeMap<String, (i64, Option<String>)> {
    let mut client = server.client("dba");
    let tables = "select format('%I.%I', n.nspname, c.relname)
                    from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
                   where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname !~ '^(pg_|information_schema|pgdetour)'
                     and c.relname <> 'probe'";
    client
        .batch_execute(
            "set search_path = ''; set timezone = 'UTC'; set extra_float_digits = 3; set row_security = off;
             set intervalstyle = postgres; set datestyle = iso; set bytea_output = hex",
        )
        .expect("settings can be set");
    let names: Vec<String> =
        client.query(tables, &[]).expect("tables can be listed").iter().map(|row| row.get(0)).collect();
    let hash = |name: String| {
        let query = format!(
            "select count(*), md5(string_agg(t, chr(10) order by t collate \"C\"))
               from (select r::text as t from only {name} as r) as rows"
        );
        let row = client.query_one(&query, &[]).unwrap_or_else(|error| panic!("{error:?}\n{query}"));
        (name, (row.get(0), row.get(1)))
    };
    names.into_iter().map(hash).collect()
}

fn differences(
    source: &BTreeMap<String, (i64, Option<String>)>,
    target: &BTreeMap<String, (i64, Option<String>)>,
) -> String {
    let names: std::collections::BTreeSet<&String> = source.keys().chain(target.keys()).collect();
    let differing = names.into_iter().filter(|name| source.get(*name) != target.get(*name));
    differing
        .map(|name| format!("{name}: source {:?}, target {:?}", source.get(name), target.get(name)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The entries of a dump, in an order of their own.
fn schema(server: &Postgres) -> Vec<String> {
    let folder = std::env::var_os("PGDETOUR_PG_BIN").map(std::path::PathBuf::from);
    let program = folder.map_or_else(|| server.program("pg_dump"), |folder| folder.join("pg_dump"));
    let output = Command::new(program)
        .args(["--schema-only", "--no-publications", "--no-subscriptions", "--exclude-schema=pgdetour", "-d"])
        .arg(server.conninfo("dba"))
        .output()
        .expect("pg_dump can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("a dump is UTF-8");
    let (text, _) = text.split_once("\n--\n-- PostgreSQL database dump complete").expect("a dump has an end");
    let body = text.split("\n\n\n--\n").filter(|entry| entry.starts_with("-- Name: "));
    let mut entries: Vec<String> = body.map(|entry| entry.trim_end().to_owned()).collect();
    entries.sort();
    entries
}
