//! Markers: rows written into a flow, whose arrival proves that everything before them has arrived.

use std::time::{Duration, Instant};

use super::FlowName;
use crate::error::{Doing as _, Error, Result};
use crate::pg::Session;
use crate::sql;

/// First and longest pause between two looks.
const POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));

/// Between two looks that a server takes by itself, and how many of them at most.
const MOMENT: Duration = Duration::from_millis(2);
const MOST_LOOKS: u128 = 20;

/// The statements of a drain, to be prepared before it has to be fast.
pub const DRAINING: [&sql::Sql; 3] =
    [&sql::flow::WRITE_MARKER, &sql::flow::HAS_MARKER, &sql::flow::READ_WAL_POSITION];

/// Writes the marker `id`, a uuid's text, on the publisher; it is committed when this returns. A dry run writes none.
pub fn write_marker(publisher: &mut Session, flow: FlowName, id: &str) -> Result<()> {
    publisher
        .change(sql::flow::WRITE_MARKER.text, &[&flow.name(), &id])
        .doing(|| format!("write a marker into the {flow} flow"))
        .map(drop)
}

/// Removes a marker that has served from the side that wrote it and the one where it arrived.
pub fn remove_marker(publisher: &mut Session, subscriber: &mut Session, id: &str) -> Result<()> {
    for session in [publisher, subscriber] {
        session.change(sql::flow::REMOVE_MARKER.text, &[&id]).doing(|| "remove a marker".into())?;
    }
    Ok(())
}

/// Whether a marker has arrived on the subscriber.
pub fn has_marker(subscriber: &mut Session, id: &str) -> Result<bool> {
    let row = subscriber.query_one(&sql::flow::HAS_MARKER, &[&id]);
    Ok(row.doing(|| "look for a marker".into())?.get("arrived"))
}

/// Looks for a marker again and again. Where a server is far away it looks there more often than it can be asked.
#[derive(Debug, Default)]
pub struct Looks {
    /// What the last one took.
    took: Duration,
}

impl Looks {
    /// Whether another would be over by then.
    pub fn fit_before(&self, deadline: Instant) -> bool {
        Instant::now() + self.took < deadline
    }

    /// Whether it has arrived by now, or within the time of a round trip.
    pub fn has_marker(&mut self, subscriber: &mut Session, id: &str) -> Result<bool> {
        let began = Instant::now();
        let again = (self.took.as_millis() / MOMENT.as_millis()).min(MOST_LOOKS) as usize;
        let arrived = if again == 0 || subscriber.is_dry() {
            has_marker(subscriber, id)
        } else {
            let look = sql::flow::HAS_MARKER.text.replace("$1", &sql::quote_literal(id));
            let wait = format!(
                "select pg_catalog.pg_sleep({}) from (\n{look}\n) as m where not m.arrived;\n",
                MOMENT.as_secs_f64()
            );
            // Each statement sees what was committed before it.
            let rows = subscriber.ask_script(&format!("{}{look}", wait.repeat(again)));
            let rows = rows.doing(|| "look for a marker".into())?;
            Ok(rows.last().and_then(|row| row[0].as_deref()) == Some("t"))
        };
        if again == 0 {
            self.took = began.elapsed();
        }
        arrived
    }
}

/// Waits until a marker has arrived on the subscriber. A dry run does not wait.
pub fn wait_for_marker(subscriber: &mut Session, id: &str, budget: Duration) -> Result<()> {
    let began = Instant::now();
    if subscriber.is_dry() {
        subscriber.note("wait until the marker has arrived");
        return Ok(());
    }
    let mut pause = POLL.0;
    let mut looks = Looks::default();
    while !looks.has_marker(subscriber, id)? {
        if !looks.fit_before(began + budget) {
            return Err(Error::TimedOut {
                what: format!("waiting for a marker on {}", subscriber.place),
                budget,
                detail: Some(format!("Marker {id} has not arrived: the flow is behind, or stopped.")),
                hint: "See the flow's lag with \"pgdetour status\".".to_owned(),
            });
        }
        std::thread::sleep(pause);
        if began.elapsed() > Duration::from_millis(100) {
            pause = (pause * 2).min(POLL.1);
        }
    }
    Ok(())
}
