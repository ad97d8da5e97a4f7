//! Transactions that are not general traffic, of other roles or of background workers, and have written to tables that are carried
//! over: no fence keeps them out, and what they commit once the switch has taken the last changes would stay where it is.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::error::Result;
use crate::pg::sessions::{self, Writer};
use crate::phase::Side;
use crate::steps::Run;
use crate::steps::switch::Switch;
use crate::steps::switch::pause::Bounds;

/// Between two looks while clients are served, and while they wait.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(2));

impl Run {
    /// Waits, with clients still served, for those that are open now. Who begins later has either ended when the last changes are
    /// taken, or is seen then.
    pub fn wait_for_writers(&mut self, switch: Switch, bounds: &Bounds) -> Result<()> {
        let due = self.writers_on(switch.from)?;
        if self.plan.is_dry() {
            return Ok(());
        }
        let deadline = Instant::now() + bounds.drain_timeout;
        self.until_ended(switch.from, &due, deadline, bounds.drain_timeout, PAUSES.0)
    }

    /// What looks for them while the fence is raised.
    pub fn looking_for_writers(&self, side: Side) -> String {
        sessions::looking_for_writers(&self.config.general_roles(side), &self.carried)
    }

    /// Waits for those that were open when the fence was raised: what commits later would be missed.
    pub fn end_writers(&mut self, switch: Switch, bounds: &Bounds) -> Result<()> {
        let due = std::mem::take(&mut self.writers);
        if due.is_empty() {
            return Ok(());
        }
        let deadline = self.pause_deadline(switch, bounds);
        let budget = deadline.saturating_duration_since(Instant::now());
        self.until_ended(switch.from, &due, deadline, budget, PAUSES.1)
    }

    /// Warns of those that have written since, and can still commit.
    pub fn tell_of_writers(&mut self, switch: Switch) -> Result<()> {
        for (_, writer) in self.writers_on(switch.from)? {
            self.warn(format!(
                "what this transaction has written on the {} is not carried over when it commits: {writer}",
                switch.from
            ));
        }
        Ok(())
    }

    fn until_ended(
        &mut self,
        side: Side,
        due: &[Writer],
        deadline: Instant,
        budget: Duration,
        pause: Duration,
    ) -> Result<()> {
        if let Some((_, first)) = due.first().filter(|_| self.held_since.is_none()) {
            self.output
                .say(&format!("waits for the end of a transaction that has written on the {side}: {first}"));
        }
        let mut left = due.to_vec();
        while !left.is_empty() {
            if Instant::now() + pause >= deadline {
                self.report =
                    Some(json!({ "blockers": left.iter().map(|(_, one)| one).collect::<Vec<_>>() }));
                return Err(sessions::writers_left(&left, budget));
            }
            self.heed_signals()?;
            thread::sleep(pause);
            left = self.writers_on(side)?;
            left.retain(|(xid, _)| due.iter().any(|(other, _)| other == xid));
        }
        Ok(())
    }

    /// Those that are open by now on a side. Its tables are looked up once: a run leaves no other side.
    pub fn writers_on(&mut self, side: Side) -> Result<Vec<Writer>> {
        if self.carried.is_empty() {
            self.carried = self.carried_tables(side)?;
        }
        let roles = self.config.general_roles(side);
        let carried = std::mem::take(&mut self.carried);
        let writers = sessions::list_writers(self.session(side), &roles, &carried);
        self.carried = carried;
        writers
    }

    fn carried_tables(&mut self, side: Side) -> Result<Vec<u32>> {
        let tables = if side == Side::Source { self.selected_tables(side)? } else { self.replayed_tables()? };
        Ok(tables.iter().map(|table| table.oid).collect())
    }
}
