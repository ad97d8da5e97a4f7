use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;

/// A file on disk with this text.
fn file_of(text: &[u8]) -> (tempfile::TempDir, DatabaseFile) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("databases.ini");
    fs::write(&path, text).expect("a file");
    let file = DatabaseFile::read(&path, None, "shop").expect("it is there");
    (directory, file)
}

fn rewritten(text: &str, value: &str) -> String {
    let (_directory, file) = file_of(text.as_bytes());
    let (entry, _) = file.entry("shop").expect("an entry");
    String::from_utf8(file.with_value(&entry, value, false)).expect("UTF-8")
}

fn value_in(text: &str) -> Result<Option<String>, String> {
    Ok(find_entry(text.as_bytes(), "shop")?.map(|entry| text[entry.value].to_owned()))
}

#[test]
fn only_the_value_of_the_entry_changes() {
    for (before, after) in [
        ("[databases]\nshop = host=db1\n", "[databases]\nshop = host=db2\n"),
        ("[databases]\nshop=host=db1", "[databases]\nshop=host=db2"),
        (
            "[databases]\r\nshop = host=db1  \r\nblog = host=db1\r\n",
            "[databases]\r\nshop = host=db2  \r\nblog = host=db1\r\n",
        ),
        ("shop = host=db1\n", "shop = host=db2\n"),
        (
            "; made by hand\n\n  \tshop\t =\t host=db1\t\nother = x=y\n",
            "; made by hand\n\n  \tshop\t =\t host=db2\t\nother = x=y\n",
        ),
        ("[databases] shop = host=db1\n", "[databases] shop = host=db2\n"),
        ("[databases]\n'shop' = host=db1\n", "[databases]\n'shop' = host=db2\n"),
        ("[databases]\nshop =\n\n\nblog = host=x\n", "[databases]\nshop =host=db2\n\n\nblog = host=x\n"),
        (
            "[users]\nshop = pool_mode=session\n[databases]\nshop = a=1\n[pgbouncer]\nshop = 1\n",
            "[users]\nshop = pool_mode=session\n[databases]\nshop = host=db2\n[pgbouncer]\nshop = 1\n",
        ),
        (
            "[databases]\n#shop = host=old\n;shop = host=older\nshop = host=db1 ; no comment\n",
            "[databases]\n#shop = host=old\n;shop = host=older\nshop = host=db2\n",
        ),
        (
            "%include /etc/x.ini\n[databases]\nshopping = host=db1\nshop = host=db1\nmy.shop = host=db1\n* = host=z\n",
            "%include /etc/x.ini\n[databases]\nshopping = host=db1\nshop = host=db2\nmy.shop = host=db1\n* = host=z\n",
        ),
        (
            "[databases]\nshop = host=db1\n[pgbouncer]\nlogfile = 'a b'\n[databases]\nblog = host=b\n",
            "[databases]\nshop = host=db2\n[pgbouncer]\nlogfile = 'a b'\n[databases]\nblog = host=b\n",
        ),
    ] {
        assert_eq!(rewritten(before, "host=db2"), after, "{before:?}");
    }
}

#[test]
fn bytes_that_are_not_text_stay() {
    let before = b"; caf\xe9\n[databases]\nshop = host=db1\n; \xff\xfe\n";
    let (_directory, file) = file_of(before);
    let (entry, value) = file.entry("shop").expect("an entry");
    assert_eq!((entry.line, value.as_str()), (3, "host=db1"));
    assert_eq!(
        file.with_value(&entry, "host=db2", false),
        b"; caf\xe9\n[databases]\nshop = host=db2\n; \xff\xfe\n"
    );
}

#[test]
fn entries_elsewhere_are_none_of_ours() {
    for text in [
        "",
        "[pgbouncer]\nshop = 1\n",
        "[databases]\n;shop = host=a\n",
        "[databases]\nSHOP = host=a\n* = host=b\n",
    ] {
        assert_eq!(value_in(text), Ok(None), "{text:?}");
    }
    assert_eq!(
        value_in("[databases]\nshop = a=b\0\nshop = c=d\n"),
        Ok(Some("a=b".into())),
        "PgBouncer stops at NUL"
    );
}

#[test]
fn a_text_that_pgbouncer_rejects_is_refused_with_its_line() {
    for (text, wrong) in [
        ("[databases\nshop = a=b\n", "section without \"]\" in line 1"),
        ("[databases]\n\nshop host=db1\n", "setting without \"=\" in line 3"),
        ("[databases]\n'shop = a=b\n", "name without closing quote in line 2"),
        ("[databases]\nshop = a=b\nblog = a=b\nshop = a=b\n", "\"shop\" stands twice, in lines 2 and 4"),
    ] {
        assert_eq!(value_in(text), Err(wrong.to_owned()), "{text:?}");
    }
}

#[test]
fn a_missing_entry_names_the_files_that_are_included() {
    let (_directory, file) =
        file_of(b"%include /etc/pgbouncer/databases.ini\n[pgbouncer]\nlisten_port = 1\n");
    let Err(Error::Router { message, hint, .. }) = file.entry("shop") else { panic!("there is no entry") };
    assert_eq!(message, "it has no entry there");
    assert!(hint.contains("this one includes /etc/pgbouncer/databases.ini"), "{hint}");
}

#[test]
fn an_entry_leads_where_pgbouncer_would_go() {
    let place = place_of("shop", "").expect("an empty entry is one");
    assert_eq!(place, Place { host: None, port: "5432".into(), dbname: "shop".into(), user: None });
    let place =
        place_of("shop", " host = 'a b''c'  port=6000 dbname=x user='u''v' pool_size=5 ").expect("an entry");
    assert_eq!((place.host.as_deref(), place.port.as_str()), (Some("a b'c"), "6000"));
    assert_eq!((place.dbname.as_str(), place.user.as_deref()), ("x", Some("u'v")));
    for (value, wrong) in [
        ("host", "\"host\" without \"=\""),
        ("host=", "\"host\" without a value"),
        ("host='' port=1", "\"host\" without a value"),
        ("host='a", "\"host\" without closing quote"),
        ("host='a'port=1", "no space behind the value of \"host\""),
        ("host=a sslmode=require", "\"sslmode\", which is not a key of an entry"),
        ("port=0", "port \"0\""),
        ("=a", "something that is not a key"),
        ("host=a\nblog = host=b", "more than one line"),
    ] {
        assert_eq!(place_of("shop", value), Err(wrong.to_owned()), "{value:?}");
    }
}

#[test]
fn passwords_are_never_shown() {
    for (value, shown) in [
        ("host=a password=secret port=1", "host=a password=*** port=1"),
        ("password = 'se''cr et' host=a", "password = *** host=a"),
        ("host=a connect_query='select ''password=x'''", "host=a connect_query='select ''password=x'''"),
        ("host=a password='unclosed secret", "host=a password=***"),
    ] {
        assert_eq!(hide_password(value), shown);
    }
    assert!(has_password("password=x") && has_password("password='x") && !has_password("host=password"));
}

#[test]
fn a_kept_value_comes_back_byte_for_byte() {
    for text in [
        "[databases]\n  shop =  host=db1 password=secret  \r\nblog = host=b password=other\n",
        "[databases] shop=host=db1 password='a b'",
        "'shop' = password=x host=db1\n",
    ] {
        let (_directory, file) = file_of(text.as_bytes());
        let (entry, _) = file.entry("shop").expect("an entry");
        let away = file.with_value(&entry, "host=db2 password=new", true);
        let (_directory, file) = file_of(&away);
        let (entry, value) = file.entry("shop").expect("the entry is still one");
        assert_eq!(value, "host=db2 password=new");
        assert_eq!(file.with_kept_value(&entry).map(String::from_utf8), Some(Ok(text.to_owned())));
    }
    let (_directory, file) = file_of(b"[databases]\n;pgdetour blog = host=a\nshop = host=db2\n");
    let (entry, _) = file.entry("shop").expect("an entry");
    assert_eq!(file.with_kept_value(&entry), None, "the comment is another entry's");
}

#[test]
fn replacing_keeps_mode_owner_and_links() {
    let (directory, _) = file_of(b"shop = host=db1\n");
    let path = directory.path().join("databases.ini");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("our own file");
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(&path, Some(101), Some(104)).expect("root may");
    }
    let link = directory.path().join("link.ini");
    std::os::unix::fs::symlink("databases.ini", &link).expect("a link");
    let owner = fs::metadata(&path).map(|m| (m.uid(), m.gid())).expect("it is there");
    let file = DatabaseFile::read(&link, None, "shop").expect("the link leads to it");
    file.replace(b"shop = host=db2\n", None).expect("it can be replaced");
    assert!(fs::symlink_metadata(&link).expect("it is there").is_symlink());
    let now = fs::metadata(&path).expect("it is there");
    assert_eq!((now.mode() & 0o7777, (now.uid(), now.gid())), (0o640, owner));
    assert_eq!(fs::read(&path).expect("it is there"), b"shop = host=db2\n");
    assert_eq!(fs::read_dir(directory.path()).expect("it is there").count(), 2, "nothing is left behind");
    assert!(file.replace(b"shop = host=db3\n", None).is_err(), "it is not the file that was read any more");
}

#[test]
fn what_was_made_ready_has_no_name_until_it_replaces_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("databases.ini");
    fs::write(&path, "shop = host=db1\n").expect("it is writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("it is ours");
    let names = || fs::read_dir(folder.path()).expect("readable").count();
    let text = || fs::read_to_string(&path).expect("readable");
    let read = || DatabaseFile::read(&path, None, "shop").expect("readable");

    let ready = read().make_ready(b"shop = host=db2\n").expect("there is room");
    assert!(ready.is_some(), "this file system has files without a name");
    assert_eq!(names(), 1);
    read().replace(b"shop = host=db2\n", ready).expect("it can be replaced");
    assert_eq!((names(), text().as_str()), (1, "shop = host=db2\n"));
    assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o7777, 0o640);

    // What is to be written now counts, not what was expected.
    let ready = read().make_ready(b"shop = host=db3\n").expect("there is room");
    read().replace(b"shop = host=db1\n", ready).expect("it can be replaced");
    assert_eq!((names(), text().as_str()), (1, "shop = host=db1\n"));
}

#[test]
fn a_proof_goes_from_the_text_without_a_trace() {
    let proof = Proof { name: "pgdetour_proof_1".into(), limit: 6 };
    for text in [
        "[databases]\nshop = host=db1\n",
        "shop=host=db1",
        "[databases]\r\nshop = host=db1  \r\nblog = host=db1\r\n",
        "[databases] shop = host=db1\n",
        "[databases]\n\t'shop'\t=\thost=db1\t\n",
        "[databases]\nshop =\n\nblog = host=x\n",
        "[databases]\nshop =  \nblog = host=x\n",
        "[databases]\nshop = host=db1 max_db_connections=5\n",
        "[databases]\n;pgdetour shop = host=db1 password=x\nshop = host=db2\n",
        ";pgdetour-proof somebody's own\nshop = host=db1\n",
    ] {
        let (directory, file) = file_of(text.as_bytes());
        assert!(!file.has_proof());
        let (entry, value) = file.entry("shop").expect("an entry");
        let with = file.with_proof(&entry, &proof);
        let path = directory.path().join("databases.ini");
        fs::write(&path, &with).expect("it is ours");
        let with = String::from_utf8(with).expect("UTF-8");
        // As PgBouncer reads it.
        let passing = find_entry(with.as_bytes(), &proof.name).expect("well-formed").expect("it is there");
        assert_eq!(&with[passing.value], "host=127.0.0.1 port=1");
        let limited = value_in(&with).expect("well-formed").expect("it is there");
        assert!(limited.ends_with("max_db_connections=6"), "{limited}");

        let file = DatabaseFile::read(&path, None, "shop").expect("it is there");
        assert!(file.has_proof(), "{with}");
        assert_eq!(String::from_utf8_lossy(file.text()), text);
        assert_eq!(file.entry("shop").expect("an entry"), (entry, value));
        // Another entry's is none of its business.
        let other = DatabaseFile::read(&path, None, "blog").expect("it is there");
        assert!(!other.has_proof() && other.text() == with.as_bytes());
    }
}
