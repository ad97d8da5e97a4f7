//! The client against real servers.

use std::time::{Duration, Instant};

use bytes::Buf;
use postgres::types::PgLsn;

use super::{Client, CopyError, Event, Purpose, Stream};
use crate::error::Error;
use crate::pg::test_server::TestServer;

fn sql(server: &TestServer) -> Client {
    Client::connect(&server.conninfo(), "test", Purpose::Sql).expect("the test server lets us in")
}

fn value(client: &mut Client, question: &str) -> String {
    client.simple_query(question).expect("the statement runs")[0][0].clone().expect("a value")
}

#[test]
fn asks_over_tcp_and_the_socket_with_pinned_settings() {
    let server = TestServer::start("datestyle = 'SQL, DMY'\nstatement_timeout = '1min'");
    for conninfo in [server.conninfo(), server.socket_conninfo()] {
        for purpose in [Purpose::Sql, Purpose::Replication] {
            let mut client = Client::connect(&conninfo, "pgdetour test", purpose).unwrap();
            assert!(client.server_version() >= 140_000, "{}", client.server_version());
            assert_eq!(value(&mut client, "show datestyle"), "ISO, MDY");
            assert_eq!(value(&mut client, "show statement_timeout"), "0");
            assert_eq!(value(&mut client, "show application_name"), "pgdetour test");
            let rows = client.simple_query("select 1, null, 'ä'; select 2").unwrap();
            assert_eq!(rows, [vec![Some("1".into()), None, Some("ä".into())], vec![Some("2".into())]]);
            let error = client.simple_query("select 1/0").unwrap_err();
            assert_eq!(error.sqlstate.as_deref(), Some("22012"));
            assert!(!error.connection_lost && !client.is_lost());
            client.simple_query("copy (select 1) to stdout").unwrap();
            assert_eq!(
                client.simple_query("copy pg_class from stdin").unwrap_err().sqlstate.unwrap(),
                "57014"
            );
            assert_eq!(value(&mut client, "select 'still there'"), "still there");
        }
    }
    let mut client = sql(&server);
    let error = client.simple_query("select pg_terminate_backend(pg_backend_pid())").unwrap_err();
    assert_eq!(error.sqlstate.as_deref(), Some("57P01"));
    assert!(error.connection_lost && client.is_lost());
    assert!(client.simple_query("select 1").unwrap_err().connection_lost);
}

#[test]
fn questions_sent_at_once_are_answered_each_by_itself() {
    let server = TestServer::start("");
    let mut client = sql(&server);
    let questions =
        ["select 1 as one, null as \"N\"", "select 1/0", "set datestyle = 'German'", "show datestyle"];
    let answers = client.ask_each(&questions.map(str::to_owned)).unwrap();
    let [one, failed, set, shown] = &answers[..] else { panic!("{answers:?}") };
    let one = one.as_ref().unwrap();
    assert_eq!(
        (&one.columns[..], &one.rows[..]),
        (&["one".to_owned(), "N".to_owned()][..], &[vec![Some("1".to_owned()), None]][..])
    );
    assert_eq!(failed.as_ref().unwrap_err().sqlstate.as_deref(), Some("22012"));
    assert!(set.as_ref().unwrap().rows.is_empty());
    assert_eq!(
        shown.as_ref().unwrap().rows,
        [vec![Some("German, DMY".to_owned())]],
        "in the order in which they were sent"
    );
    let lost = client.ask_each(&["select pg_terminate_backend(pg_backend_pid())".into(), "select 1".into()]);
    assert!(lost.unwrap_err().connection_lost);
}

#[test]
fn copies_rows_through_and_names_the_side_that_failed() {
    let server = TestServer::start("");
    let (mut from, mut into) = (sql(&server), sql(&server));
    from.simple_query(
        "create table public.a as select i, repeat('x', 50) as t from generate_series(1, 100000) i; \
         create table public.b (i int check (i <> 50000), t text); create table public.c (i int, t text)",
    )
    .unwrap();
    let mut told = Vec::new();
    let out = "copy public.a to stdout (format binary)";
    let copied = from
        .copy_through(out, &mut into, "copy public.c from stdin (format binary)", &mut |bytes| {
            told.push(bytes);
            Ok(())
        })
        .unwrap();
    assert_eq!(copied.rows, 100_000);
    // Two counts of columns, two lengths, an integer and the text; a header and a trailer.
    assert_eq!(copied.bytes, 100_000 * (2 + 4 + 4 + 4 + 50) + 19 + 2);
    assert_eq!(told.last(), Some(&copied.bytes));
    assert!(told.len() > 20 && told.is_sorted());
    let sum = "select count(*) || ' ' || sum(i) || ' ' || sum(length(t)) from public.";
    assert_eq!(value(&mut into, &format!("{sum}c")), value(&mut into, &format!("{sum}a")));

    // The target refuses a row in the middle: it says so, and can be used again.
    // More is to come than the sockets' buffers hold.
    let wide = "copy (select i, repeat('x', 500) from public.a) to stdout (format binary)";
    let mut last = 0;
    let failed =
        from.copy_through(wide, &mut into, "copy public.b from stdin (format binary)", &mut |bytes| {
            last = bytes;
            Ok(())
        });
    match failed {
        Err(CopyError::In(error)) => assert_eq!(error.sqlstate.as_deref(), Some("23514"), "{error:?}"),
        other => panic!("{other:?}"),
    }
    assert!(last < 100_000 * 500, "the error was noticed before the end");
    assert_eq!((from.is_lost(), into.is_lost()), (true, false), "{last}");
    assert_eq!(value(&mut into, "select count(*) from public.b"), "0");

    // The source refuses: before the first row, and in the middle.
    let mut from = sql(&server);
    for out in ["copy nothing to stdout", "copy (select 1 / (50000 - i) from public.a) to stdout"] {
        match from.copy_through(out, &mut into, "copy public.c (i) from stdin", &mut |_| Ok(())) {
            Err(CopyError::Out(error)) => assert!(error.sqlstate.is_some(), "{error:?}"),
            other => panic!("{other:?}"),
        }
        assert!(!from.is_lost() && !into.is_lost());
    }
    assert_eq!(value(&mut into, "select count(*) from public.c"), "100000");

    // The caller stops it.
    let stopped =
        from.copy_through(out, &mut into, "copy public.c from stdin (format binary)", &mut |bytes| {
            if bytes > 1_000_000 { Err(Error::Interrupted { signal: 2 }) } else { Ok(()) }
        });
    assert!(matches!(stopped, Err(CopyError::Stopped(Error::Interrupted { signal: 2 }))));
    assert!(from.is_lost() && !into.is_lost());
    assert_eq!(value(&mut into, "select count(*) from public.c"), "100000");

    // One row that is larger than every buffer, and a target that talks all the time.
    let mut from = sql(&server);
    into.simple_query(
        "create table public.big (t text); create function public.talk() returns trigger language plpgsql as \
         $$begin raise notice '%', repeat('n', 3000); return new; end$$; \
         create trigger talk before insert on public.c for each row execute function public.talk()",
    )
    .unwrap();
    let huge = "copy (select repeat('z', 20000000) from generate_series(1, 2)) to stdout";
    let copied = from.copy_through(huge, &mut into, "copy public.big from stdin", &mut |_| Ok(())).unwrap();
    assert_eq!((copied.rows, copied.bytes), (2, 40_000_002));
    let copied = from
        .copy_through(out, &mut into, "copy public.c from stdin (format binary)", &mut |_| Ok(()))
        .unwrap();
    assert_eq!(copied.rows, 100_000);
}

fn stream(server: &TestServer) -> Stream {
    let mut client = sql(server);
    client
        .simple_query("create table public.a (i int primary key); create publication p for table public.a")
        .unwrap();
    client.simple_query("select pg_create_logical_replication_slot('s', 'pgoutput')").unwrap();
    let client = Client::connect(&server.conninfo(), "test", Purpose::Replication).unwrap();
    client.start_replication("s", PgLsn::from(0), "p").unwrap()
}

/// Reads until a commit; the end of its record and the number of rows before it.
fn read_commit(stream: &mut Stream) -> (PgLsn, usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut rows = 0;
    while Instant::now() < deadline {
        if let Event::Data { body, wal_start, .. } = stream.next(Duration::from_millis(500)).unwrap() {
            match body[0] {
                b'I' => rows += 1,
                b'C' => {
                    assert_eq!(PgLsn::from((&body[10..18]).get_u64()), wal_start);
                    return (wal_start, rows);
                }
                _ => {}
            }
        }
    }
    panic!("no commit came");
}

#[test]
fn streams_a_slot_and_reports_positions() {
    let server = TestServer::start("");
    let mut stream = stream(&server);
    let mut other = sql(&server);
    while let Event::Keepalive { .. } = stream.next(Duration::ZERO).unwrap() {}
    assert_eq!(stream.next(Duration::ZERO).unwrap(), Event::Idle);
    other.simple_query("insert into public.a select generate_series(1, 50000)").unwrap();
    let (end, rows) = read_commit(&mut stream);
    assert_eq!(rows, 50_000);
    assert!(stream.flushed() < end);

    // Nothing is confirmed: keepalives do not raise the position.
    other.simple_query("create table public.unpublished as select generate_series(1, 1000)").unwrap();
    let insert_position = "select pg_current_wal_insert_lsn()";
    let now: PgLsn = value(&mut other, insert_position).parse().unwrap();
    let wait_for_keepalive = |stream: &mut Stream, beyond: PgLsn| loop {
        match stream.next(Duration::from_secs(10)).unwrap() {
            Event::Keepalive { wal_end } if wal_end >= beyond => break,
            Event::Idle => panic!("no keepalive came"),
            _ => {}
        }
    };
    stream.send_status().unwrap();
    wait_for_keepalive(&mut stream, now);
    assert!(stream.flushed() < end);
    stream.confirm(end);
    assert!(stream.flushed() >= now, "what came is confirmed, so the quiet WAL behind it is too");
    stream.finish().unwrap();

    // The server has it, the slot is free, and what was confirmed does not come again.
    let position = "select confirmed_flush_lsn from pg_replication_slots where slot_name = 's'";
    assert!(value(&mut other, position).parse::<PgLsn>().unwrap() >= now);
    other.simple_query("insert into public.a values (0)").unwrap();
    let client = Client::connect(&server.conninfo(), "test", Purpose::Replication).unwrap();
    let mut stream = client.start_replication("s", end, "p").unwrap();
    assert_eq!(read_commit(&mut stream).1, 1);
    stream.finish().unwrap();
    let client = Client::connect(&server.conninfo(), "test", Purpose::Replication).unwrap();
    let error = client.start_replication("absent", end, "p").map(|_| ()).unwrap_err();
    assert_eq!(error.sqlstate.as_deref(), Some("42704"));
}

#[test]
fn a_server_that_stops_ends_the_stream_and_does_not_wait_for_us() {
    let server = TestServer::start("wal_sender_timeout = 2s");
    let mut stream = stream(&server);
    sql(&server).simple_query("insert into public.a values (1)").unwrap();
    let (end, _) = read_commit(&mut stream);
    stream.confirm(end);
    // Longer than wal_sender_timeout, with nothing to read.
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_secs(5) {
        assert_ne!(stream.next(Duration::from_secs(1)).unwrap(), Event::End);
    }
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| {
            let start = Instant::now();
            (server.stop("fast", 30), start.elapsed())
        });
        let deadline = Instant::now() + Duration::from_secs(30);
        while stream.next(Duration::from_millis(200)).unwrap() != Event::End {
            assert!(Instant::now() < deadline);
        }
        assert_eq!(stream.next(Duration::from_secs(1)).unwrap(), Event::End);
        stream.finish().unwrap();
        let (stopped, took) = stopping.join().unwrap();
        assert!(stopped && took < Duration::from_secs(5), "{took:?}");
    });
}
