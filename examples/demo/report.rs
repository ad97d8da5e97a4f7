//! The end of the demo: what the clients were told against what is there, as a table.

use std::fmt;
use std::time::Duration;

use comfy_table::{Table, presets};
use postgres::Client;

use crate::load::{Sales, Transactions};
use crate::support::writer::{Outcome, Written};

/// What was looked up on the servers when all was over.
pub struct Found {
    differences: Vec<String>,
    orders: usize,
    names: usize,
    history: i64,
    balanced: bool,
    compared: i64,
    unequal: Vec<&'static str>,
}

/// All figures of the trip.
pub struct Report {
    /// The longest time that any connection went without an acknowledgement around cutover.
    pub pause_out: Duration,
    /// The same around cutback.
    pub pause_home: Duration,
    /// Transactions acknowledged while the target served.
    pub written_during: u64,
    /// What the numbering writer was told.
    pub written: Written,
    /// What the shop was told.
    pub sales: Sales,
    /// What pgbench was told.
    pub transactions: Transactions,
    /// What is there.
    pub found: Found,
}

/// Tables of which neither side has changed anything but by additions since the traffic came home; each query gives the
/// number of rows up to `$1`, the last order that both know for sure, and a hash of all their values.
const COMPARED: [(&str, &str); 3] = [
    (
        "orders",
        "select count(*), sum(hashtextextended(concat_ws('|', id, placed_on, customer_id, state, invoice, total), 0))::text
           from public.orders where id <= $1",
    ),
    (
        "order_items",
        "select count(*), sum(hashtextextended(concat_ws('|', order_id, placed_on, line, product_id, quantity), 0))::text
           from public.order_items where order_id <= $1",
    ),
    (
        "products",
        "select count(*), sum(hashtextextended(concat_ws('|', id, name, price, description), 0))::text
           from public.products where id <= $1::bigint",
    ),
];

impl Found {
    /// Looks everything up, on the servers themselves and not through the pooler.
    pub fn at(source: &mut Client, target: &mut Client, written: &Written, sales: &Sales) -> Found {
        let mut count = |query: &str| -> i64 { source.query_one(query, &[]).expect("a count").get(0) };
        let history = count("select count(*) from public.pgbench_history");
        let balances = [
            count("select coalesce(sum(delta), 0)::bigint from public.pgbench_history"),
            count("select sum(abalance)::bigint from public.pgbench_accounts"),
            count("select sum(tbalance)::bigint from public.pgbench_tellers"),
            count("select sum(bbalance)::bigint from public.pgbench_branches"),
        ];
        let orders = source
            .query(
                "select o.id from public.orders o where o.id = any($1)
                      and (select count(*) from public.order_items i where i.order_id = o.id) = 2",
                &[&sales.orders],
            )
            .expect("orders can be read")
            .len();
        let customers: Vec<i64> = sales.names.keys().copied().collect();
        let names = source
            .query("select id, full_name from public.customers where id = any($1)", &[&customers])
            .expect("customers can be read")
            .iter()
            .filter(|row| sales.names.get(&row.get(0)).is_some_and(|name| *name == row.get::<_, String>(1)))
            .count();
        // The last few orders on the target may have been paid on the source since.
        let last: i64 =
            target.query_one("select max(id) - 10 from public.orders", &[]).expect("an order").get(0);
        let mut compared = 0;
        let mut unequal = Vec::new();
        for (table, query) in COMPARED {
            let hash = |client: &mut Client| {
                let row = client.query_one(query, &[&last]).expect("a hash");
                (row.get::<_, i64>(0), row.get::<_, Option<String>>(1))
            };
            let (here, there) = (hash(source), hash(target));
            compared += here.0;
            if here != there {
                unequal.push(table);
            }
        }
        Found {
            differences: written.differences(source),
            orders,
            names,
            history,
            balanced: balances.iter().all(|balance| *balance == balances[0]),
            compared,
            unequal,
        }
    }
}

impl Report {
    /// Nothing was lost, nothing changed, and no client saw an error but the refusals that were wanted.
    pub fn is_good(&self) -> bool {
        self.lines().iter().all(|line| line.good)
    }

    fn lines(&self) -> Vec<Line> {
        let Report { found, sales, transactions, written, .. } = self;
        let errors = written.errors.len() + sales.errors.len() + transactions.errors.len();
        let first_error = written.errors.first().map(ToString::to_string);
        let first_error = first_error.or_else(|| sales.errors.first().cloned());
        let first_error = first_error.or_else(|| transactions.errors.first().cloned()).unwrap_or_default();
        let told = written.count(Outcome::Committed);
        vec![
            Line::fact("longest wait of any client at cutover", format!("{} ms", self.pause_out.as_millis())),
            Line::fact(
                "longest wait of any client at cutback",
                format!("{} ms", self.pause_home.as_millis()),
            ),
            Line::check("errors that clients saw", &format!("{errors} {first_error}"), errors == 0),
            Line::check(
                "writes to the restricted table refused while detoured (wanted)",
                &format!("{}, accepted before and after: {}", sales.settings_refused, sales.settings_changed),
                sales.settings_refused > 0 && sales.settings_changed > 0,
            ),
            Line::check(
                "transactions of the application while the target served",
                &self.written_during.to_string(),
                self.written_during > 0,
            ),
            Line::check(
                "numbered transactions acknowledged, and found on the source",
                &match found.differences.first() {
                    None => format!("{told}, all of them"),
                    Some(first) => format!("{told}, {} differences: {first}", found.differences.len()),
                },
                told > 0 && found.differences.is_empty(),
            ),
            Line::check(
                "orders acknowledged, and found on the source",
                &format!("{}, {}", sales.orders.len(), found.orders),
                !sales.orders.is_empty() && sales.orders.len() == found.orders,
            ),
            Line::check(
                "customers renamed, and found in the merged column",
                &format!("{}, {}", sales.names.len(), found.names),
                !sales.names.is_empty() && sales.names.len() == found.names,
            ),
            Line::check(
                "pgbench transactions counted, and found on the source",
                &format!("{}, {}", transactions.processed, found.history),
                transactions.processed > 0 && transactions.processed == found.history,
            ),
            Line::check(
                "pgbench's balances agree",
                if found.balanced { "yes" } else { "no" },
                found.balanced,
            ),
            Line::check(
                "rows with the same content on both sides",
                &match found.unequal.as_slice() {
                    [] => format!("{}, all that were compared", found.compared),
                    tables => format!("not in {}", tables.join(", ")),
                },
                found.unequal.is_empty() && found.compared > 0,
            ),
        ]
    }
}

struct Line {
    what: &'static str,
    value: String,
    mark: &'static str,
    good: bool,
}

impl Line {
    fn fact(what: &'static str, value: String) -> Line {
        Line { what, value, mark: "", good: true }
    }

    fn check(what: &'static str, value: &str, good: bool) -> Line {
        Line { what, value: value.trim_end().to_owned(), mark: if good { "ok" } else { "WRONG" }, good }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        for line in self.lines() {
            table.add_row([line.what, &line.value, line.mark]);
        }
        for line in table.lines() {
            writeln!(f, " {}", line.trim_end())?;
        }
        Ok(())
    }
}
