//! What people and scripts read.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::error::{Finding, ServerError};

fn outcome(command: Command, report: Value) -> Outcome {
    Outcome { changed: true, report, ..Outcome::of(command) }
}

fn shown(outcome: &Outcome) -> String {
    report::text(outcome, false, false)
}

fn privilege() -> Error {
    Error::Sql {
        action: "create publication \"pgdetour_mirror\"".into(),
        on: "source".into(),
        cause: ServerError {
            sqlstate: Some("42501".into()),
            message: "permission denied for database shop".into(),
            hint: Some("Grant CREATE on database \"shop\" to \"dba\", or connect as its owner.".into()),
            ..Default::default()
        },
    }
}

#[test]
fn a_failure_reads_as_the_contract_shows_it() {
    assert_eq!(
        failure::text(&Outcome::of(Command::Mirror), &privilege()),
        "error: could not create publication \"pgdetour_mirror\" on source\n  \
           detail: permission denied for database shop (SQLSTATE 42501)\n  \
           hint: Grant CREATE on database \"shop\" to \"dba\", or connect as its owner.\n  \
           next: nothing was changed; fix this, then run the same command again.\n"
    );
}

#[test]
fn a_failed_check_lists_every_finding_with_its_hint() {
    let finding = |object: &str| {
        let hint = "alter table public.log replica identity full;\nor add a primary key.";
        Finding::new("replica_identity", object, "no usable replica identity", hint)
    };
    let error = Error::ChecksFailed { findings: vec![finding("public.log"), finding("public.b")] };
    let text = failure::text(&Outcome::of(Command::Check), &error);
    assert!(text.starts_with(
        "error: 2 of the preconditions do not hold\n  \
           replica_identity: public.log: no usable replica identity\n    \
             hint: alter table public.log replica identity full;\n          \
                   or add a primary key.\n  \
           replica_identity: public.b: "
    ));
}

#[test]
fn a_result_document_has_the_contracts_fields_in_its_order() {
    let mut outcome = outcome(Command::Cutover, json!({"pause_ms": 87.4, "late_writes": 0}));
    outcome.phase = Some(Phase::Detoured);
    outcome.serving = Some(Serving::Target);
    let document = document(&outcome, None, &["slow".into()]).to_string();
    assert_eq!(
        document,
        r#"{"format":1,"command":"cutover","ok":true,"changed":true,"phase":"detoured","serving":"target","warnings":["slow"],"report":{"pause_ms":87.4,"late_writes":0}}"#
    );
}

#[test]
fn a_failure_document_carries_code_and_sqlstate() {
    let mut outcome = Outcome::of(Command::Mirror);
    outcome.phase = Some(Phase::Absent);
    let document = document(&outcome, Some(&privilege()), &[]);
    assert_eq!(document["ok"], false);
    assert_eq!(document["error"]["kind"], "statement_failed");
    assert_eq!(document["error"]["exit"], 3);
    assert_eq!(document["error"]["sqlstate"], "42501");
    assert_eq!(document["error"]["failures"], json!([]));
    assert!(document.get("report").is_none());
}

#[test]
fn every_document_fits_the_schema() {
    let schema: Value = serde_json::from_str(include_str!("../../tests/schema.json")).expect("it is JSON");
    let validator = jsonschema::validator_for(&schema).expect("it is a schema");
    let finding = Finding::new("a", "b", "c", "d");
    let failures = [
        privilege(),
        Error::Usage { message: "a".into(), hint: "B.".into() },
        Error::ChecksFailed { findings: vec![finding] },
        Error::Interrupted { signal: 15 },
        Error::WrongPhase { command: "replay", phase: Phase::Absent },
    ];
    for error in &failures {
        for command in Command::ALL.map(Some).into_iter().chain([None]) {
            let document = document(&Outcome::of(command), Some(error), &["a".into()]);
            assert!(validator.is_valid(&document), "{document}");
        }
    }
    let cutover =
        json!({"pause_ms": 1.5, "steps": [{"name": "a", "ms": 1.0}], "late_writes": 0, "clients_held": 3});
    assert!(validator.is_valid(&document(&outcome(Command::Cutover, cutover), None, &[])));
    let wrong = [
        document(&outcome(Command::Cutover, json!({"pause_ms": "1"})), None, &[]),
        document(&outcome(Command::Replay, json!({})), None, &[]),
        json!({"format": 1, "command": "check", "ok": true}),
        json!({"format": 1, "command": "check", "ok": false, "changed": false, "phase": null, "serving": null, "warnings": []}),
    ];
    for document in wrong {
        assert!(!validator.is_valid(&document), "{document}");
    }
}

#[test]
fn a_cutover_is_told_in_a_sentence() {
    let report = json!({"pause_ms": 87.42, "late_writes": 0, "clients_held": 12, "steps": [{"name": "hold clients", "ms": 3.1}]});
    assert_eq!(
        shown(&outcome(Command::Cutover, report)),
        "General traffic is on the target. Clients were held for 87.4 ms; 0 late writes.\n  clients held  12\n"
    );
}

#[test]
fn a_cutover_without_a_router_does_not_tell_that_clients_were_held_or_moved() {
    let report =
        json!({"pause_ms": 170.4, "late_writes": 0, "clients_held": 0, "moved_by": null, "steps": []});
    assert_eq!(
        shown(&outcome(Command::Cutover, report)),
        "The target lets clients in, and the source does not: those that nobody has pointed to the target yet are not \
         served. The switch took 170.4 ms; 0 late writes.\n"
    );
}

#[test]
fn a_list_within_a_list_becomes_a_table_of_its_own() {
    let orders = json!([
        {"key": {"id": "5"}, "state": "different", "columns": ["note", "total"]},
        {"key": {"id": "9"}, "state": "missing_on_target", "columns": []},
    ]);
    let report = json!({"equal": false, "tables": [
        {"table": "public.orders", "equal": false, "keys": ["(5)", "(9)"], "rows": orders},
        {"table": "public.users", "equal": true, "keys": []},
    ]});
    assert_eq!(
        report::text(&outcome(Command::Verify, report), true, false).trim_start_matches("  equal  no\n"),
        "\ntables:\n  \
         table          equal\n  \
         public.orders  no\n  \
         public.users   yes\n\
         \npublic.orders, rows:\n  \
         key   state              columns\n  \
         id 5  different          note, total\n  \
         id 9  missing_on_target\n"
    );
    let columns = json!([{"column": "id", "fate": "kept"}, {"column": "fax", "fate": "dropped"}]);
    let report = json!({"lint": [{"from": "public.customers", "to": "public.people", "columns": columns}]});
    assert_eq!(
        shown(&outcome(Command::Replay, report)),
        "This becomes of the captured columns.\n\
         \npublic.customers to public.people, columns:\n  \
         column  fate\n  \
         id      kept\n  \
         fax     dropped\n"
    );
}

#[test]
fn a_list_becomes_a_table_with_its_numbers_to_the_right() {
    let report = json!({"equal": true, "tables": [
        {"table": "public.orders", "rows_source": 1_200_000, "rows_target": 1_200_000, "equal": true},
        {"table": "public.users", "rows_source": 7, "rows_target": 7, "equal": true},
    ]});
    assert_eq!(
        shown(&outcome(Command::Verify, report)),
        "Both sides are equal in 2 tables.\n\ntables:\n  \
         table          rows source  rows target  equal\n  \
         public.orders    1,200,000    1,200,000  yes\n  \
         public.users             7            7  yes\n"
    );
}

#[test]
fn a_status_says_where_who_and_what_next() {
    let mut outcome = outcome(
        Command::Status,
        json!({"phase": "mirrored", "serving": "source", "next": ["restrict", "cutover"], "orphans": [], "capture": null,
               "mirror": {"lag_bytes": 17_000_000, "tables": 3}}),
    );
    outcome.phase = Some(Phase::Mirrored);
    outcome.serving = Some(Serving::Source);
    assert_eq!(
        shown(&outcome),
        "Phase \"mirrored\"; the source serves. Next: restrict, cutover.\n\nmirror:\n  lag     16.2 MB\n  tables  3\n"
    );
}

#[test]
fn a_dry_run_shows_every_action_in_order() {
    let report = json!({"steps": [
        {"name": "hold clients", "actions": [{"step": "hold clients", "on": "pgbouncer a", "action": "PAUSE \"shop\""}]},
        {"name": "wait", "actions": []},
        {"name": "fence", "actions": [
            {"step": "fence", "on": "source", "action": "alter role a\nnologin"},
            {"step": "fence", "on": "source", "action": "select 1"},
        ]},
    ]});
    assert_eq!(
        shown(&outcome(Command::Cutover, report)),
        "hold clients\n  on pgbouncer a:\n    PAUSE \"shop\"\nfence\n  on source:\n    alter role a\n    nologin\n    select 1\n"
    );
    let nothing = json!({"steps": [{"name": "wait", "actions": []}]});
    assert_eq!(shown(&outcome(Command::Cutover, nothing)), "Nothing would be changed.\n");
}

#[test]
fn quiet_leaves_only_what_was_asked_for() {
    let report = json!({"equal": true, "tables": []});
    let text = |command| report::text(&outcome(command, report.clone()), false, true);
    assert_eq!(text(Command::Cutover), "");
    assert!(text(Command::Verify).starts_with("Both sides are equal in 0 tables.\n"));
    let quarantine = json!({"quarantined": 1, "entries": [{"id": 7}], "left": 0});
    let text = report::text(&outcome(Command::Replay, quarantine), false, true);
    assert!(text.starts_with("1 change in quarantine.\n") && text.contains('7'), "{text}");
    let replayed = json!({"transactions": 1, "changes": 1, "caught_up": true});
    assert_eq!(report::text(&outcome(Command::Replay, replayed), false, true), "");
}

#[test]
fn times_and_sizes_are_written_in_the_unit_that_fits() {
    let time = |milliseconds| report::duration(Duration::from_millis(milliseconds));
    assert_eq!(time(16), "16.0 ms");
    assert_eq!(time(3_400), "3.4 s");
    assert_eq!(time(125_000), "2 min 5 s");
    assert_eq!(time(7_260_000), "2 h 1 min");
    assert_eq!(report::bytes(17), "17 B");
    assert_eq!(report::bytes(1 << 24), "16.0 MB");
    assert_eq!(report::bytes(3 << 41), "6.0 TB");
}

#[test]
fn without_a_terminal_only_yes_confirms() {
    // The test runner's standard input may be a terminal, its standard error then as well.
    if Term::stderr().is_term() && io::stdin().is_terminal() {
        return;
    }
    let error = Output::new(Mode::default()).confirm("move general traffic").expect_err("nobody is there");
    assert_eq!(
        error.to_string(),
        "will not move general traffic without confirmation, and there is no terminal to ask on"
    );
    assert_eq!(error.exit_code(false), 2);
    assert!(Output::new(Mode { yes: true, ..Mode::default() }).confirm("move general traffic").is_ok());
}
