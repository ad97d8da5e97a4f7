//! What the configuration file may say, and how its mistakes are named.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

const CONTRACT: &str = r#"
[source]
conninfo = "host=db1 dbname=shop user=dba"
[target]
conninfo = "host=db2 dbname=shop user=dba"
source_conninfo = "host=db1.internal dbname=shop user=replicator"

[traffic]
roles = ["shop_app"]
admin_networks = ["10.9.0.0/16"]

[mirror]
tables = ["public.*"]
exclude = ["public.audit_*"]
mode = "continuous"
jobs = 4

[[restrict]]
tables = ["public.users", "public.permissions"]
deny = ["insert", "update"]
roles = ["shop_limited"]
message = "User settings are read-only during maintenance."
[[restrict]]
tables = ["public.sessions"]
scratch = true

[capture]
method = "wal"

[replay]
on_conflict = "stop"

[[map]]
from = "public.customers"
to = "public.people"
key = { id = "id" }
columns = { id = "id", full_name = "first_name || ' ' || last_name", created = "created_at::timestamptz" }
drop = ["fax"]

[router]
kind = "pgbouncer"
[[router.pgbouncer]]
admin = "host=/run/pgbouncer port=6432 dbname=pgbouncer user=pgbouncer"
database = "shop"
config = "databases.ini"
target = "host=db2 dbname=shop user=shop_limited"
"#;

fn parsed(text: &str) -> Config {
    Config::parse(text, Path::new("/etc/pgdetour")).expect("the text has no mistake")
}

fn mistakes(text: &str) -> Vec<String> {
    let mistakes = Config::parse(text, Path::new("")).expect_err("the text has a mistake");
    mistakes
        .into_iter()
        .map(|mistake| format!("{}: {} | {}", mistake.line, mistake.message, mistake.hint))
        .collect()
}

#[test]
fn everything_the_contract_shows_is_read() {
    let config = parsed(CONTRACT);
    assert_eq!(config.source.conninfo.as_deref(), Some("host=db1 dbname=shop user=dba"));
    assert_eq!(
        config.target.source_conninfo.as_deref(),
        Some("host=db1.internal dbname=shop user=replicator")
    );
    assert_eq!(config.traffic.roles, ["shop_app"]);
    assert_eq!(config.traffic.admin_networks, ["10.9.0.0/16"]);
    assert_eq!(config.mirror.exclude, ["public.audit_*"]);
    assert_eq!((config.mirror.mode, config.mirror.jobs), (MirrorMode::Continuous, 4));
    assert_eq!(config.mirror.schema, SchemaMode::Dump);
    assert_eq!(config.restrict[0].deny, [Deny::Insert, Deny::Update]);
    assert_eq!(config.restrict[0].roles.as_deref(), Some(&["shop_limited".to_owned()][..]));
    assert!(config.restrict[1].scratch && config.restrict[1].deny.is_empty());
    let columns: Vec<&str> = config.map[0].columns.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(columns, ["id", "full_name", "created"], "columns keep the order of the file");
    assert_eq!(config.map[0].to.to_string(), "public.people");
    assert_eq!(config.router.kind, RouterKind::Pgbouncer);
    assert_eq!(config.router.pgbouncer[0].config, PathBuf::from("/etc/pgdetour/databases.ini"));
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = parsed("");
    assert_eq!(config.mirror.tables, ["*.*"]);
    assert_eq!(config.router.kind, RouterKind::None);
    assert_eq!(config.capture.method, CaptureMethod::Wal);
    assert!(config.mirror.selection().expect("valid").matches("public", "Orders"));
}

#[test]
fn a_read_only_fence_is_for_clients_that_no_router_moves() {
    assert_eq!(parsed("traffic.roles = [\"app\"]").traffic.fence, FenceKind::Closed);
    let closed = parsed("[traffic]\nroles = [\"app\"]\nfence = \"closed\"");
    assert!(closed.traffic.fence == FenceKind::Closed && !closed.router.clients_choose);
    for router in ["", "[router]\nkind = \"none\""] {
        let config = parsed(&format!("[traffic]\nroles = [\"app\"]\nfence = \"read-only\"\n{router}"));
        assert!(config.traffic.fence == FenceKind::ReadOnly && config.router.clients_choose);
    }
    assert_eq!(
        mistakes("[traffic]\nfence = \"read-only\"\n"),
        [
            "1: traffic.roles is empty, and traffic.fence = \"read-only\" needs it | Name the roles that the application connects as, such as roles = [\"shop_app\"] under [traffic]."
        ]
    );
    for kind in ["pgbouncer", "haproxy", "command"] {
        let text =
            format!("[traffic]\nroles = [\"app\"]\nfence = \"read-only\"\n[router]\nkind = \"{kind}\"\n");
        let message = format!(
            "1: traffic.fence = \"read-only\" contradicts router.kind = \"{kind}\", which moves the clients | Leave traffic.fence out: general roles then cannot connect to the side that does not serve."
        );
        assert!(mistakes(&text).contains(&message), "{:?}", mistakes(&text));
    }
    let limited = "[traffic]\nroles = [\"app\"]\nfence = \"read-only\"\n[restrict_role]\nname = \"limited\"\nlike = \"app\"\n";
    assert_eq!(
        mistakes(limited),
        [
            "4: restrict_role contradicts traffic.fence = \"read-only\", whose clients are the same role on both servers | Leave restrict_role out: the application's own roles can be limited on the target."
        ]
    );
    assert_eq!(
        mistakes("[traffic]\nfence = \"readonly\"\n"),
        [
            "2: traffic.fence cannot be \"readonly\" | It is one of \"closed\", \"read-only\". Did you mean \"read-only\"?"
        ]
    );
}

#[test]
fn a_backup_goes_with_subscriptions_and_a_dump_only() {
    let text = |mirror: &str| format!("[target]\nbackup_conninfo = \"host=db3\"\n[mirror]\n{mirror}\n");
    let config = parsed(&text("mode = \"continuous\"\ncarrier = \"subscription\""));
    assert_eq!(config.target.backup_conninfo.as_deref(), Some("host=db3"));
    for key in ["mode = \"batch\"", "method = \"trigger\"", "carrier = \"pgdetour\"", "schema = \"existing\""]
    {
        let message = format!(
            "3: mirror.{key} contradicts target.backup_conninfo, whose stages subscriptions carry | Keep one of the two."
        );
        assert_eq!(mistakes(&text(key)), [message]);
    }
}

#[test]
fn a_restriction_denies_all_four_kinds_by_default() {
    let config = parsed("traffic.roles = [\"app\"]\n[[restrict]]\ntables = [\"users\"]\n");
    assert_eq!(config.restrict[0].deny, Deny::ALL);
    assert_eq!(config.restrict[0].roles, None);
}

#[test]
fn a_restriction_may_name_columns_rows_and_exceptions() {
    let restrict = |lines: &str| {
        let text = format!("traffic.roles = [\"app\"]\n[[restrict]]\ntables = [\"*\"]\n{lines}");
        parsed(&text).restrict.remove(0)
    };
    let one = restrict(
        "deny = ['delete', 'update(EMail)', 'update( \"A, b\" , c)']\nwhere = \"id > 1\"\nexcept = ['log_*']",
    );
    assert_eq!(one.deny, [Deny::Update, Deny::Delete]);
    assert_eq!(one.columns, ["email", "A, b", "c"]);
    assert_eq!(one.condition.as_deref(), Some("id > 1"));
    let selection = one.selection().expect("valid");
    assert!(selection.matches("public", "users") && !selection.matches("public", "log_1"));
    let wrong = |deny: &str| {
        mistakes(&format!("traffic.roles = [\"app\"]\n[[restrict]]\ntables = [\"a\"]\ndeny = {deny}\n"))
    };
    for deny in ["['insert(a)']", "['update()']", "['update(a']", "['update(a b)']", "['update(a,)']"] {
        let word = &deny[2..deny.len() - 2];
        let message = format!(
            "4: restrict.deny cannot be \"{word}\" | Columns can be named of an update: \"update(email, name)\"."
        );
        assert_eq!(wrong(deny), [message]);
    }
    assert_eq!(
        wrong("['update', 'update(a)']"),
        ["4: restrict.deny names columns of an update, and update as a whole | Keep one of the two."]
    );
}

#[test]
fn a_command_router_has_a_program_and_half_a_minute() {
    let text = "traffic.roles = [\"app\"]\n[router]\nkind = \"command\"\ncommand = { program = [\"./point\", \"-x\"] }\n";
    let command = parsed(text).router.command.expect("it is there");
    assert_eq!(command.program, ["/etc/pgdetour/./point", "-x"]);
    assert_eq!(command.timeout, Duration::from_secs(30));
    let command = parsed(&text.replace(" }", ", timeout = \"2min\" }")).router.command.expect("it is there");
    assert_eq!(command.timeout, Duration::from_secs(120));
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    assert_eq!(
        mistakes("[mirror]\nmode = \"batch\"\n\njob = 3\n"),
        ["4: unknown key \"mirror.job\" | Did you mean \"jobs\"?"]
    );
    assert_eq!(
        mistakes(
            "[traffic]\nroles = [\"a\"]\n[router]\nkind = \"pgbouncer\"\n[[router.pgbouncer]]\nadmin = \"a\"\ndatabase = \"b\"\nconfig = \"c\"\ntarget = \"d\"\nadmins = \"x\"\n"
        ),
        ["10: unknown key \"router.pgbouncer.admins\" | Did you mean \"admin\"?"]
    );
    assert_eq!(
        mistakes("mirrors = 1\nzzz = 2\n"),
        [
            "1: unknown key \"mirrors\" | Did you mean \"mirror\"?",
            "2: unknown key \"zzz\" | Known here: source, target, traffic, mirror, restrict, restrict_role, capture, replay, map, router."
        ]
    );
}

#[test]
fn all_mistakes_are_found_in_one_run() {
    assert_eq!(
        mistakes("[capture]\nmethod = \"wall\"\n[mirror]\njobs = 0\ntables = \"public.*\"\nmode = 3\n"),
        [
            "2: capture.method cannot be \"wall\" | It is one of \"wal\", \"trigger\". Did you mean \"wal\"?",
            "4: mirror.jobs is out of range | Give a number from 1 to 64.",
            "5: mirror.tables is of type string | Expected is an array of strings.",
            "6: mirror.mode is of type integer | Expected is a string."
        ]
    );
}

#[test]
fn text_that_is_not_toml_is_named_with_its_line_and_without_its_content() {
    let found = mistakes("[source]\nconninfo = \"password=geheim\n");
    assert!(found[0].starts_with("2: not valid TOML: "), "{found:?}");
    assert!(!found[0].contains("geheim"), "{found:?}");
}

#[test]
fn a_value_of_the_wrong_kind_is_not_repeated() {
    let found = mistakes("source = \"password=geheim\"\n");
    assert_eq!(found, ["1: source is of type string | Expected is a table, [source]."]);
}

#[test]
fn a_network_is_an_address_with_bits_and_nothing_right_of_the_mask() {
    let network = |text: &str| format!("[traffic]\nadmin_networks = [\"{text}\"]\n");
    for right in ["10.9.0.0/16", "0.0.0.0/0", "::/0", "fd00:9::/64", "192.168.1.7/32", "::1/128"] {
        parsed(&network(right));
    }
    let wrong = [
        ("10.9.0.0", "the number of bits is missing"),
        ("10.9.0.0/33", "the number of bits is more than 32"),
        ("10.9.0.1/16", "the address has bits set right of the mask"),
        ("10.9.0/16", "the address is not an IP address"),
        ("::1/x", "the number of bits is not a number"),
    ];
    for (text, why) in wrong {
        let found = mistakes(&network(text));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with(&format!("2: \"{text}\" is not a network: {why} | ")), "{found:?}");
    }
}

#[test]
fn a_restriction_may_have_a_name_and_an_sqlstate() {
    let text = |code: &str| {
        format!(
            "traffic.roles = [\"app\"]\n[[restrict]]\ntables = [\"a\"]\nname = \"closed\"\nsqlstate = \"{code}\"\n"
        )
    };
    let restrict = parsed(&text("PX001")).restrict.remove(0);
    assert_eq!((restrict.name.as_deref(), restrict.sqlstate.as_deref()), (Some("closed"), Some("PX001")));
    for wrong in ["00000", "01004", "25000", "px001", "2500", "25 06"] {
        let found = mistakes(&text(wrong));
        assert!(
            found[0].starts_with(&format!("5: restrict.sqlstate cannot be \"{wrong}\" | Give five")),
            "{found:?}"
        );
    }
}

#[test]
fn a_limited_role_is_like_the_only_role_of_traffic() {
    let text = |lines: &str| format!("traffic.roles = [\"app\"]\n[restrict_role]\nname = \"guest\"\n{lines}");
    let config = parsed(&text("password_file = \"guest.password\"\n"));
    assert_eq!(config.general_roles(crate::phase::Side::Source), ["app"]);
    assert_eq!(config.general_roles(crate::phase::Side::Target), ["app", "guest"]);
    assert_eq!(config.restrict_role.map(|role| role.like).as_deref(), Some("app"));
    assert_eq!(
        mistakes(&text("like = \"guest\"\npassword_env = \"A\"\npassword_file = \"b\"\n")),
        [
            "3: restrict_role.name is the same as restrict_role.like | Give the limited role a name of its own, or leave [restrict_role] out to limit the application's role.",
            "5: restrict_role.password_env and restrict_role.password_file both say where the password is | Keep one of the two.",
        ]
    );
    let found = mistakes("traffic.roles = [\"a\", \"b\"]\n[restrict_role]\nname = \"guest\"\n");
    assert!(found[0].contains("restrict_role.like is missing"), "{found:?}");
}

#[test]
fn a_table_is_restricted_once_for_one_role() {
    let text = "[[restrict]]\ntables = [\"public.users\"]\nroles = [\"a\"]\n[[restrict]]\ntables = [\"public.\\\"users\\\"\"]\n";
    assert_eq!(
        mistakes(&format!("{text}roles = [\"b\", \"a\"]\n")),
        [
            "5: \"public.\"users\"\" is restricted twice for the same roles | Write one [[restrict]] for it, or give the two different roles."
        ]
    );
    parsed(&format!("{text}roles = [\"b\"]\n"));
}

#[test]
fn a_restriction_says_whom_and_what_it_limits() {
    assert_eq!(
        mistakes("[[restrict]]\ntables = []\ndeny = []\nroles = []\n"),
        [
            "2: restrict.tables names no table | Give patterns, or remove the entry.",
            "3: restrict.deny is empty | Leave it out to deny all four, or name some.",
            "4: restrict.roles is empty | Leave it out to limit the roles of [traffic], or name some."
        ]
    );
    assert_eq!(
        mistakes("[[restrict]]\ntables = [\"a\"]\n"),
        [
            "1: restrict.roles is missing, and traffic.roles, which stands in for it, is empty | Name the roles to limit."
        ]
    );
    assert_eq!(
        mistakes("[traffic]\nroles = [\"a\"]\n[[restrict]]\nscratch = true\ndeny = [\"insert\"]\n"),
        [
            "3: restrict.tables is missing | Give patterns such as [\"public.users\"].",
            "5: restrict.deny contradicts scratch = true, which lets writes pass | Keep one of the two."
        ]
    );
}

#[test]
fn a_map_goes_from_one_table_to_another() {
    assert_eq!(
        mistakes("[[map]]\nfrom = \"customers\"\ncolumns = { a = \"\" }\n"),
        [
            "1: map.to is missing | Name the new table, on the source: to = \"public.people\".",
            "2: \"customers\" does not name one table | Write schema and name, such as public.orders; double quotes keep upper case.",
            "3: map.columns gives no expression for column \"a\" | Write SQL over the old row's columns, such as \"first_name || ' ' || last_name\"."
        ]
    );
    let twice = "[[map]]\nfrom = \"a.b\"\nto = \"a.c\"\n[[map]]\nfrom = \"A.B\"\nto = \"a.c\"\n";
    assert_eq!(
        mistakes(twice),
        ["5: table \"a.b\" is mapped twice to \"a.c\" | Write one [[map]] for each pair of tables."]
    );
    let differs =
        "[[map]]\nfrom = \"a.b\"\nto = \"a.c\"\nkey = { id = \"id\" }\ncolumns = { id = \"id + 1\" }\n";
    assert_eq!(
        mistakes(differs),
        [
            "5: map.columns and map.key give different expressions for column \"id\" | Give the same expression in both, or leave the column out of columns."
        ]
    );
}

#[test]
fn a_router_has_what_its_kind_needs_and_nothing_else() {
    assert_eq!(
        mistakes("[router]\nkind = \"pgbouncer\"\n"),
        [
            "1: traffic.roles is empty, and router.kind = \"pgbouncer\" needs it | Name the roles that the application connects as, such as roles = [\"shop_app\"] under [traffic].",
            "2: router.kind = \"pgbouncer\" needs at least one [[router.pgbouncer]] | Write one for each PgBouncer process: admin, database, config, target."
        ]
    );
    let command = "[router]\nkind = \"none\"\n[router.command]\nprogram = []\ntimeout = \"5\"\n";
    assert_eq!(
        mistakes(command),
        [
            "3: router.command has no effect with router.kind = \"none\" | Remove it, or set kind = \"command\".",
            "4: router.command.program is empty | Give the program and its arguments.",
            "5: router.command.timeout cannot be \"5\" | Give a number with a unit: ms, s, min, h or d, such as 5s or 800ms."
        ]
    );
    assert_eq!(
        mistakes("[router]\n"),
        ["1: router.kind is missing | Say which router: pgbouncer, haproxy, command or none."]
    );
}

#[test]
fn a_map_of_haproxy_has_words_that_its_runtime_api_takes() {
    let head = "traffic.roles = [\"app\"]\n[router]\nkind = \"haproxy\"\n";
    let text = format!(
        "{head}[[router.haproxy]]\nsocket = \"run/admin.sock\"\nmap = \"/etc/a.map\"\nsource = \"s\"\n\
         target = \"t\"\n[[router.haproxy]]\nsocket = \"lb:9999\"\nmap = \"/etc/a.map\"\nkey = \"web\"\n\
         source = \"s\"\ntarget = \"t\"\nfile = \"a.map\"\nadmin_acl = \"/etc/a.acl\"\n"
    );
    let config = parsed(&text);
    let [first, second] = config.router.haproxy.as_slice() else { panic!("{:?}", config.router) };
    assert!(
        first.socket.ends_with("/run/admin.sock"),
        "a path begins at the file's folder: {}",
        first.socket
    );
    assert_eq!((first.key.as_str(), first.file.as_path()), ("general", Path::new("/etc/a.map")));
    assert_eq!((second.socket.as_str(), second.key.as_str()), ("lb:9999", "web"));
    assert!(second.file.ends_with("a.map") && second.file != Path::new("/etc/a.map"), "{:?}", second.file);
    assert_eq!(second.admin_acl.as_deref(), Some("/etc/a.acl"));

    assert_eq!(
        mistakes(head),
        [
            "3: router.kind = \"haproxy\" needs at least one [[router.haproxy]] | Write one for each HAProxy process: socket, map, source, target."
        ]
    );
    let wrong = "[[router.haproxy]]\nmap = \"a b\"\nsource = \"hold\"\ntarget = \"hold\"\n";
    assert_eq!(
        mistakes(&format!("{head}{wrong}")),
        [
            "4: router.haproxy.socket is missing | Give the path or host:port of a \"stats socket\" with level admin.",
            "5: router.haproxy.map cannot be \"a b\" | HAProxy's runtime API takes no spaces, quotes, backslashes and semicolons.",
            "6: router.haproxy.source cannot be \"hold\", which is the map's value while clients wait | Give the backend another name.",
            "7: router.haproxy.target is the same as source | Name two backends of HAProxy.",
            "7: router.haproxy.target cannot be \"hold\", which is the map's value while clients wait | Give the backend another name."
        ]
    );
}

#[test]
fn a_mirror_by_triggers_has_no_subscription() {
    let text = "traffic.roles = [\"app\"]\nrouter.kind = \"none\"\n[mirror]\nmethod = \"trigger\"\ncarrier = \"subscription\"\n";
    let message =
        "mirror.carrier = \"subscription\" contradicts method = \"trigger\", which needs runs of pgdetour";
    assert_eq!(mistakes(text), [format!("5: {message} | Keep one of the two.")]);
}

#[test]
fn the_first_mistake_is_the_failure_and_the_others_stand_beside_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("x.toml");
    std::fs::write(&path, "a = 1\nb = 2\n").expect("the folder can be written");
    let error = Config::load(&path).expect_err("two unknown keys");
    assert_eq!(error.to_string(), format!("{}:1: unknown key \"a\"", path.display()));
    let Error::Config { more, .. } = error else { panic!("not a configuration error") };
    assert_eq!(more[0].object, format!("{}:2", path.display()));
}

#[test]
fn a_named_file_must_exist() {
    let error = Config::resolve(Some(Path::new("/nonexistent/x.toml")), Some("a"), Some("b"));
    let error = error.expect_err("the file is missing");
    assert_eq!(error.to_string(), "/nonexistent/x.toml: could not read the file: there is no such file");
}

#[test]
fn connection_strings_of_the_command_line_come_before_the_files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("x.toml");
    std::fs::write(&path, "source.conninfo = \"file\"\ntarget.conninfo = \"file\"\n")
        .expect("it can be written");
    let config = Config::resolve(Some(&path), Some("flag"), Some("")).expect("no mistake");
    assert_eq!(config.conninfo(Side::Source).expect("given"), "flag");
    assert_eq!(config.conninfo(Side::Target).expect("given"), "file", "an empty variable counts as absent");
    let error = Config::default().conninfo(Side::Target).expect_err("nothing is given").to_string();
    assert_eq!(error, "no connection string for the target is given");
}

#[test]
fn the_example_is_read_and_the_defaults_it_shows_are_the_defaults() {
    let text = include_str!("../../examples/pgdetour.toml");
    parsed(text);
    let shown = [
        "tables = [\"*.*\"]",
        "mode = \"continuous\"",
        "carrier = \"auto\"",
        "jobs = 4",
        "schema = \"dump\"",
        "deny = [\"insert\", \"update\", \"delete\", \"truncate\"]",
        "method = \"wal\"",
        "on_conflict = \"stop\"",
    ];
    let mut written_out = text.to_owned();
    for line in shown {
        assert!(text.contains(&format!("\n# {line}\n")), "the example does not show {line}");
        written_out = written_out.replace(&format!("\n# {line}\n"), &format!("\n{line}\n"));
    }
    assert_eq!(format!("{:?}", parsed(&written_out)), format!("{:?}", parsed(text)));
}
