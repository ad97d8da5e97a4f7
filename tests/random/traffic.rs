//! Sessions of the application that write what the dice say, and go on whatever happens to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use postgres::{Client, NoTls};

use super::dice::Dice;
use super::shape::{Old, Shape};
use crate::support::wait::until;

/// Keys are few, so that rows come, change, go and come again.
const KEYS: u64 = 120;
const PACE: Duration = Duration::from_millis(60);

/// The running writers.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts `writers` sessions.
    pub fn start(conninfo: &str, shape: &Shape, dice: &mut Dice, writers: usize) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let committed = Arc::new(AtomicU64::new(0));
        let tables = Arc::new(shape.tables.clone());
        let threads = (0..writers).map(|_| {
            let (mut dice, conninfo) = (dice.fork(), conninfo.to_owned());
            let (stop, committed, tables) = (Arc::clone(&stop), Arc::clone(&committed), Arc::clone(&tables));
            std::thread::spawn(move || {
                let mut client: Option<Client> = None;
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(PACE);
                    let script = transaction(&mut dice, &tables);
                    if client.as_ref().is_none_or(Client::is_closed) {
                        client = Client::connect(&conninfo, NoTls).ok();
                    }
                    let Some(session) = &mut client else { continue };
                    match session.batch_execute(&script) {
                        Ok(()) => {
                            committed.fetch_add(1, Ordering::Relaxed);
                        }
                        // Another writer was faster with the key, or a server is down: the transaction is as if it never was.
                        Err(_) => {
                            let _ = session.batch_execute("rollback");
                        }
                    }
                }
            })
        });
        Traffic { threads: threads.collect(), stop, committed }
    }

    /// Waits until some more transactions are committed.
    pub fn wait_for_more(&self) {
        let before = self.committed.load(Ordering::Relaxed);
        until("the application has written on", Duration::from_secs(60), || {
            (self.committed.load(Ordering::Relaxed) >= before + 10).then_some(())
        });
    }

    /// Ends the writers; how many transactions were committed.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a writer goes on whatever happens"));
        self.committed.load(Ordering::Relaxed)
    }
}

/// One transaction.
fn transaction(dice: &mut Dice, tables: &[Old]) -> String {
    let mut script = String::from("begin;\n");
    for _ in 0..dice.between(1, 6) {
        let table = dice.pick(tables);
        if dice.one_in(10) {
            script.push_str("savepoint s;\n");
            script.push_str(&change(dice, table));
            script.push_str("rollback to s;\n");
        }
        script.push_str(&change(dice, table));
    }
    script.push_str("commit");
    script
}

fn change(dice: &mut Dice, table: &Old) -> String {
    let name = &table.name;
    let id = dice.between(1, KEYS);
    let assignments = |dice: &mut Dice, id: &str| -> String {
        let mut set = vec![format!("id = {id}")];
        for (column, kind) in &table.columns {
            if dice.one_in(2) {
                set.push(format!("{column} = {}", kind.value(dice)));
            }
        }
        set.join(", ")
    };
    let part = *dice.pick(&["k", "l", "m"]);
    match dice.between(0, 99) {
        0..35 => {
            let values: Vec<String> = table.columns.iter().map(|(_, kind)| kind.value(dice)).collect();
            let key = if table.key.len() > 1 { format!("{id}, '{part}'") } else { id.to_string() };
            format!(
                "insert into public.{name} values ({}) on conflict do nothing;\n",
                [key].into_iter().chain(values).collect::<Vec<_>>().join(", ")
            )
        }
        35..60 => format!("update public.{name} set {} where id = {id};\n", assignments(dice, "id")),
        60..70 => {
            let until = id + dice.between(1, 15);
            format!(
                "update public.{name} set {} where id between {id} and {until};\n",
                assignments(dice, "id")
            )
        }
        70..78 => {
            // Free mostly; where it is not, the whole transaction fails.
            let other = KEYS + dice.between(1, 2000);
            format!("update public.{name} set {} where id = {id};\n", assignments(dice, &other.to_string()))
        }
        78..82 => {
            let (one, other) = (dice.between(1, KEYS), dice.between(1, KEYS));
            format!(
                "update public.{name} set id = -1 where id = {one};\n\
                 update public.{name} set id = {one} where id = {other};\n\
                 update public.{name} set id = {other} where id = -1;\n"
            )
        }
        82..84 if table.key.len() > 1 => {
            format!("update public.{name} set part = 'moved' where id = {id} and part = '{part}';\n")
        }
        84 => format!("truncate public.{name};\n"),
        _ => format!("delete from public.{name} where id = {id};\n"),
    }
}
