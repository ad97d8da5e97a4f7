//! Markers: rows written into a flow, whose arrival proves that everything before them has arrived.

use std::time::{Duration, Instant};

use super::FlowName;
use crate::error::{Doing as _, Error, Result};
use crate::pg::Session;
use crate::sql;

/// First and longest pause between two looks.
const POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Writes a marker on the publisher, committed when this returns; its id, a uuid's text. A dry run writes none.
pub fn write_marker(publisher: &mut Session, flow: FlowName) -> Result<String> {
    let rows = publisher
        .change_returning(sql::flow::WRITE_MARKER.text, &[&flow.name()])
        .doing(|| format!("write a marker into the {flow} flow"))?;
    Ok(rows.first().map(|row| row.get(0)).unwrap_or_default())
}

/// Whether a marker has arrived on the subscriber.
pub fn has_marker(subscriber: &mut Session, id: &str) -> Result<bool> {
    Ok(subscriber.query_one(&sql::flow::HAS_MARKER, &[&id])?.get("arrived"))
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
                what: format!("waiting for a marker on {}", subscriber.side),
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
