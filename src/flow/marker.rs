//! Markers: rows written into a flow, whose arrival proves that everything before them has arrived.

use std::time::{Duration, Instant};

use super::FlowName;
use crate::error::{Doing as _, Error, Result};
use crate::pg::Session;
use crate::sql;

/// First and longest pause between two looks.
const POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));

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

/// Waits until a marker has arrived on the subscriber; how long that took. A dry run does not wait.
pub fn wait_for_marker(subscriber: &mut Session, id: &str, budget: Duration) -> Result<Duration> {
    let began = Instant::now();
    if subscriber.is_dry() {
        subscriber.note("wait until the marker has arrived");
        return Ok(Duration::ZERO);
    }
    let mut pause = POLL.0;
    while !has_marker(subscriber, id)? {
        if began.elapsed() >= budget {
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
    Ok(began.elapsed())
}
