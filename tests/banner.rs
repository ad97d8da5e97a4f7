//! The web application of the examples behind HAProxy in HTTP mode, in a browser, over a whole trip.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use crate::support::browser::{Browser, request};
use crate::support::detour::{Detour, Serving};
use crate::support::port::Port;
use crate::support::scratch::{Kept, write_as_server_user};
use crate::support::wait::until;

const TABLES: &str = "
create table public.settings (id int primary key, name text not null, value text);
create table public.orders (id int primary key, name text not null, value text);
insert into public.settings values (1, 'Shop name', 'Corner Shop'), (2, 'Currency', 'EUR'), (3, 'Reply address', 'shop@example.org');
insert into public.orders values (1, 'Order 1041', 'packed'), (2, 'Order 1042', 'paid'), (3, 'Order 1043', '0');
grant select, update on public.settings, public.orders to shop_app;
";

const MESSAGE: &str = "Settings are read-only until the maintenance is over. Orders go on as always.";

/// The application before one database.
fn start_application(directory: &Path, name: &str, database: &str, port: &Port) -> Kept {
    let program = directory.join("app.py");
    write_as_server_user(&program, include_str!("../examples/banner/app.py"));
    let settings = [
        format!("BANNER_DATABASE={database}"),
        format!("BANNER_PORT={}", port.number()),
        format!("BANNER_NAME={name}"),
        "BANNER_SITE=Corner Shop".to_owned(),
    ];
    let program = program.to_str().expect("temporary paths are UTF-8");
    // Debian's own Python is the one that has Debian's psycopg2.
    let arguments: Vec<&str> =
        settings.iter().map(String::as_str).chain(["/usr/bin/python3", program]).collect();
    let log = directory.join(format!("{name}.log"));
    let kept = Kept::start(Path::new("/usr/bin/env"), &arguments, &log, "KILL");
    let is_up = until("the application answers", Duration::from_secs(60), || {
        if std::net::TcpStream::connect(("127.0.0.1", port.number())).is_ok() {
            Some(true)
        } else {
            (!kept.is_running()).then_some(false)
        }
    });
    assert!(is_up, "{}", std::fs::read_to_string(&log).unwrap_or_default());
    kept
}

/// What a person sees of a page.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    banner: Option<String>,
    can_save: bool,
    served_by: String,
}

fn look(browser: &Browser, url: &str) -> Seen {
    browser.open(url);
    let text = |script: &str| browser.evaluate(script).as_str().map(str::to_owned);
    let buttons =
        browser.evaluate("[...document.querySelectorAll('button')].map(button => !button.disabled)");
    let buttons = buttons.as_array().expect("a list").clone();
    let page = browser.evaluate("document.documentElement.outerHTML");
    assert_eq!(buttons.len(), 3, "a button for each row: {page}");
    assert!(buttons.iter().all(|button| button == &buttons[0]), "{buttons:?}");
    Seen {
        banner: text("document.querySelector('.banner')?.innerText ?? null"),
        can_save: buttons[0] == true,
        served_by: text("document.querySelector('small').innerText").expect("the page says who serves it"),
    }
}

/// Ends the edits with the test, however that ends: left alone they would take the machine from every other one.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_web_application_shows_a_banner_and_lets_other_edits_pass() {
    let apps = [Port::claim(), Port::claim()];
    let detour = Detour::new()
        .on_source(TABLES)
        .behind_haproxy_with_web([apps[0].number(), apps[1].number()])
        .configured(&format!("[[restrict]]\ntables = [\"public.settings\"]\nmessage = \"{MESSAGE}\"\n"))
        .mirrored();
    let _first =
        start_application(detour.directory(), "source", &detour.source.conninfo("shop_app"), &apps[0]);
    let _second =
        start_application(detour.directory(), "target", &detour.target.conninfo("shop_app"), &apps[1]);
    let port = detour.balancer().http_port();
    let browser = Browser::start(detour.directory());
    let page = |name: &str| format!("http://127.0.0.1:{port}/{name}");
    let seen = |banner: Option<&str>, served_by: &str| Seen {
        banner: banner.map(str::to_owned),
        can_save: banner.is_none(),
        served_by: format!("served by {served_by}"),
    };
    assert_eq!(look(&browser, &page("settings")), seen(None, "source"));
    browser.click("button");
    browser.wait_for("location.pathname", "/settings");

    // Somebody edits orders through HAProxy all the while.
    let (stop, edits) = (Stop::default(), Arc::new(AtomicI64::new(0)));
    let (told, counted) = (Arc::clone(&stop.0), Arc::clone(&edits));
    let editing = std::thread::spawn(move || {
        let mut refused = Vec::new();
        while !told.load(Ordering::SeqCst) {
            let next = counted.load(Ordering::SeqCst) + 1;
            match request(port, "POST", "/orders", Some(&format!("id=3&value={next}"))) {
                Ok((303, _)) => counted.store(next, Ordering::SeqCst),
                other => refused.push(format!("{other:?}")),
            }
        }
        refused
    });
    let goes_on = || {
        let before = edits.load(Ordering::SeqCst);
        until("edits go on", Duration::from_secs(60), || {
            (edits.load(Ordering::SeqCst) > before + 5).then_some(())
        });
    };
    goes_on();
    let detour = detour.run("cutover").exits(0).serving(Serving::Target);
    goes_on();
    assert_eq!(look(&browser, &page("settings")), seen(None, "target"), "nothing is restricted yet");
    // The restriction comes while the page is open: the button is there, and the database says no in words for people.
    let detour = detour.run("restrict").exits(0);
    browser.click("button");
    browser.wait_for("document.body.innerText.trim()", MESSAGE);
    assert_eq!(look(&browser, &page("settings")), seen(Some(MESSAGE), "target"));
    keep_screenshot(&browser.screenshot());
    assert_eq!(look(&browser, &page("orders")), seen(None, "target"), "other edits pass");
    browser.click("button");
    browser.wait_for("location.pathname", "/orders");
    // Lifted and made again, the page follows with nobody restarting anything.
    let detour = detour.run("restrict").with(&["--lift"]).exits(0);
    until("the banner goes", Duration::from_secs(60), || {
        (look(&browser, &page("settings")) == seen(None, "target")).then_some(())
    });
    let detour = detour.run("restrict").exits(0);
    until("the banner comes back", Duration::from_secs(60), || {
        (look(&browser, &page("settings")) == seen(Some(MESSAGE), "target")).then_some(())
    });
    let detour = detour.run("replay").exits(0).run("cutback").exits(0).serving(Serving::Source);
    goes_on();
    assert_eq!(look(&browser, &page("settings")), seen(None, "source"));
    drop(stop);
    let refused = editing.join().expect("no panic");
    assert!(refused.is_empty(), "edits failed: {refused:?}");
    let last: String = detour.source.value("select value from public.orders where id = 3");
    assert_eq!(last, edits.load(Ordering::SeqCst).to_string(), "no edit was lost");
}

/// The picture in the README is what the test saw; `UPDATE=1` writes it.
fn keep_screenshot(picture: &[u8]) {
    assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n") && picture.len() > 5_000, "{} bytes", picture.len());
    let kept: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/banner/screenshot.png");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&kept, picture).expect("the repository can be written");
    }
    let kept = std::fs::read(&kept).expect("UPDATE=1 writes it");
    assert_eq!(kept[16..24], picture[16..24], "the kept picture has another size: UPDATE=1 writes it again");
}
