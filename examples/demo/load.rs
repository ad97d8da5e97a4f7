//! The clients: a shop that remembers what it was told, and pgbench.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use postgres::error::SqlState;
use postgres::{Client, NoTls, SimpleQueryMessage};

use crate::support::postgres::DATABASE;
use crate::support::scratch::as_server_user;

const PACE: Duration = Duration::from_millis(5);

/// What the shop was told, to hold against the database.
#[derive(Default, Debug)]
pub struct Sales {
    /// Orders whose COMMIT was acknowledged.
    pub orders: Vec<i64>,
    /// The name that each renamed customer had last.
    pub names: HashMap<i64, String>,
    /// Changes of settings that were accepted.
    pub settings_changed: u64,
    /// Changes of settings that were refused as read-only: what the restriction is for.
    pub settings_refused: u64,
    /// Everything else that went wrong.
    pub errors: Vec<String>,
}

/// One clerk who takes orders, renames customers and changes their settings.
pub struct Shop {
    stop: Arc<AtomicBool>,
    orders: Arc<AtomicU64>,
    clerk: Option<JoinHandle<Sales>>,
}

impl Shop {
    /// Opens at once.
    pub fn open(conninfo: &str) -> Shop {
        let stop = Arc::new(AtomicBool::new(false));
        let orders = Arc::new(AtomicU64::new(0));
        let clerk = std::thread::spawn({
            let (stop, orders, conninfo) = (Arc::clone(&stop), Arc::clone(&orders), conninfo.to_owned());
            move || work(&conninfo, &stop, &orders)
        });
        Shop { stop, orders, clerk: Some(clerk) }
    }

    /// Orders taken until now.
    pub fn orders(&self) -> u64 {
        self.orders.load(Ordering::SeqCst)
    }

    /// Closes after the transaction at hand.
    pub fn close(mut self) -> Sales {
        self.stop.store(true, Ordering::SeqCst);
        let clerk = self.clerk.take().expect("the shop closes once");
        clerk.join().expect("the clerk does not panic")
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn work(conninfo: &str, stop: &AtomicBool, orders: &AtomicU64) -> Sales {
    let mut sales = Sales::default();
    let mut connection = None;
    let mut day = 0_i64;
    while !stop.load(Ordering::SeqCst) {
        std::thread::sleep(PACE);
        let client = match &mut connection {
            Some(client) => client,
            None => match Client::connect(conninfo, NoTls) {
                Ok(client) => connection.insert(client),
                Err(error) => {
                    sales.errors.push(error.to_string());
                    continue;
                }
            },
        };
        day += 1;
        if let Err(error) = one_day(client, day, &mut sales, orders) {
            sales.errors.push(error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string));
            if client.is_closed() || client.batch_execute("rollback").is_err() {
                connection = None;
            }
        }
    }
    sales
}

/// One order of two lines; every third time it is paid, a customer renamed; every fifth time settings change.
fn one_day(
    client: &mut Client,
    day: i64,
    sales: &mut Sales,
    orders: &AtomicU64,
) -> Result<(), postgres::Error> {
    let customer = day * 37 % 20_000 + 1;
    client.batch_execute("begin")?;
    let order = client.simple_query(&format!(
        "insert into public.orders (placed_on, customer_id, invoice, total)
         values (date '2024-06-01' + {}, {customer}, nextval('public.invoice_numbers'), 12.34) returning id",
        day % 900
    ))?;
    let id = order.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse::<i64>().ok(),
        _ => None,
    });
    let id = id.expect("a new order has a number");
    client.batch_execute(&format!(
        "insert into public.order_items select id, placed_on, line, {} + line, line
         from public.orders, generate_series(1, 2) as line where id = {id}",
        day % 400 + 1
    ))?;
    client.batch_execute("commit")?;
    sales.orders.push(id);
    orders.fetch_add(1, Ordering::SeqCst);

    if day % 3 == 0 {
        let (first, last) = (format!("First{day}"), format!("Renamed{day}"));
        client.batch_execute(&format!(
            "begin; update public.orders set state = 'paid' where id = {id};
             select public.rename_customer({customer}, '{first}', '{last}'); commit"
        ))?;
        sales.names.insert(customer, format!("{first} {last}"));
    }
    if day % 5 == 0 {
        let change = format!(
            "update public.user_settings set newsletter = not newsletter where customer_id = {customer}"
        );
        match client.batch_execute(&change) {
            Ok(()) => sales.settings_changed += 1,
            Err(error) if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => {
                sales.settings_refused += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What pgbench says of itself.
#[derive(Default, Debug)]
pub struct Transactions {
    /// Transactions that it counted.
    pub processed: i64,
    /// Its complaints.
    pub errors: Vec<String>,
}

/// pgbench in runs of a few seconds, one after the other, since it counts only at the end of a run.
pub struct Pgbench {
    stop: Arc<AtomicBool>,
    child: Arc<Mutex<Option<Child>>>,
    thread: Option<JoinHandle<Transactions>>,
}

impl Pgbench {
    /// Starts it against the pooler.
    pub fn start(program: &Path, port: u16) -> Pgbench {
        let stop = Arc::new(AtomicBool::new(false));
        let child = Arc::new(Mutex::new(None));
        let thread = std::thread::spawn({
            let (stop, child, program) = (Arc::clone(&stop), Arc::clone(&child), program.to_owned());
            move || {
                let mut all = Transactions::default();
                while !stop.load(Ordering::SeqCst) {
                    run_once(&program, port, &child, &mut all);
                }
                all
            }
        });
        Pgbench { stop, child, thread: Some(thread) }
    }

    /// Waits for the end of the run at hand.
    pub fn stop(mut self) -> Transactions {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().expect("pgbench stops once");
        thread.join().expect("the thread that runs pgbench does not panic")
    }
}

impl Drop for Pgbench {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(child) = locked(&self.child).as_mut() {
            let _ = child.kill();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run_once(program: &PathBuf, port: u16, slot: &Mutex<Option<Child>>, all: &mut Transactions) {
    let child = as_server_user(program)
        .args([
            "--no-vacuum",
            "--protocol=simple",
            "--client=4",
            "--rate=200",
            "--time=3",
            "--host=127.0.0.1",
        ])
        .args([&format!("--port={port}"), "--username=shop_app", DATABASE])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            all.errors.push(error.to_string());
            std::thread::sleep(Duration::from_secs(1));
            return;
        }
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    *locked(slot) = Some(child);
    let complaints = std::thread::spawn(move || stderr.map(std::io::read_to_string));
    let said = stdout.map(std::io::read_to_string).and_then(Result::ok).unwrap_or_default();
    let complaints = complaints.join().ok().flatten().and_then(Result::ok).unwrap_or_default();
    let mut child = locked(slot).take().expect("only this function takes it");
    let status = child.wait().expect("a child can be waited for");
    let counted =
        said.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "));
    all.processed +=
        counted.and_then(|count| count.split('/').next()?.trim().parse::<i64>().ok()).unwrap_or(0);
    if !status.success() {
        all.errors.push(complaints.lines().last().unwrap_or("pgbench failed").to_owned());
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
