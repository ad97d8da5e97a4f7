//! Table patterns held against psql, which has the rules.

use crate::pattern::Pattern;
use crate::pg::test_server::TestServer;
use crate::sql::quote_identifier;

#[test]
fn a_pattern_means_what_psql_takes_it_for() {
    let server = TestServer::start("");
    let schemas = ["a", "b.c", "Ab", "a_b"];
    let names = [
        "a", "b", "ab", "aab", "Ab", "AB", "a.b", "a b", "a*", "a?", "a$", "a$b", "a_", "a_1", "a1", "a12",
        "a[b]", "ab[]", "a\"b", "a|b", "(a)", "a+", "a{2}", "^a", "é", "É", "aé", "a-b", "a,b", "1a", "-",
    ];
    let mut client = server.client();
    let mut tables = Vec::new();
    // A name is in one schema only: where a pattern names none, psql shows what the search path leads to.
    for (schema, end) in schemas.iter().zip(["", "x", "y", "z"]) {
        client.batch_execute(&format!("create schema {}", quote_identifier(schema))).expect("a schema");
        for name in names {
            let name = format!("{name}{end}");
            let create = format!("create table {}.{} ()", quote_identifier(schema), quote_identifier(&name));
            client.batch_execute(&create).expect("a table");
            tables.push(((*schema).to_owned(), name));
        }
    }
    let patterns = patterns();
    let path = schemas.map(quote_identifier).join(", ");
    let mut commands = vec![format!("set search_path = {path}")];
    for pattern in &patterns {
        commands.extend(["\\echo ##".to_owned(), format!("\\dt {pattern}")]);
    }
    let said = server.psql(&commands);
    let answers: Vec<&str> = said.split("##\n").skip(1).collect();
    assert_eq!(answers.len(), patterns.len(), "{said}");
    let mut compared = 0;
    for (text, answer) in patterns.iter().zip(answers) {
        // We refuse a name that is not closed and an empty one, for which psql shows every table.
        let Ok(pattern) = Pattern::parse(text) else { continue };
        let shown = answer.lines().filter_map(|line| {
            let mut fields = line.split('\t');
            let table = (fields.next()?.to_owned(), fields.next()?.to_owned());
            tables.contains(&table).then_some(table)
        });
        let meant = tables.iter().filter(|(schema, name)| pattern.matches(schema, name)).cloned();
        let [mut shown, mut meant] = [shown.collect::<Vec<_>>(), meant.collect()];
        shown.sort();
        meant.sort();
        assert_eq!(meant, shown, "{text}");
        compared += usize::from(!shown.is_empty());
    }
    assert!(compared > 50, "only {compared} patterns mean a table");
}

/// Some that matter, and others of the characters that mean something.
fn patterns() -> Vec<String> {
    let some = [
        "a.*",
        "*.a",
        "*.*",
        "*",
        "a?",
        "A*",
        "\"A\"*",
        "a.a\"B\"",
        "\"b.c\".*",
        "b.c",
        "a$",
        "a$*",
        "a[b]",
        "a[0-9]",
        "a[^b]",
        "(a|b)",
        "a|b",
        "ab[]",
        "a\"[b]\"",
        "a\"*\"",
        "a_.*",
        "É",
        "é",
        "a\"\"\"\"b",
        "a{2}",
        "a{1,2}b",
        "a.b.c",
        "\"a",
        "a.",
        ".a",
    ];
    let alphabet = [
        "a", "b", "A", "B", "1", "_", "$", "*", "?", ".", "\"", "[", "]", "[a-c]", "|", "(", ")", "+", "^",
        "é", "É",
    ];
    let mut seed: u64 = 7;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let drawn = (0..300).map(|_| {
        let length = 1 + next(6);
        (0..length).map(|_| alphabet[next(alphabet.len())]).collect::<String>()
    });
    some.into_iter().map(str::to_owned).chain(drawn.collect::<Vec<_>>()).collect()
}
