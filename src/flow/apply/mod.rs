//! Changes onto the subscriber: set by set, exactly once, each transaction whole or not at all.

pub mod batch;
#[cfg(test)]
mod batch_tests;
#[cfg(test)]
mod binary_tests;
pub mod conditional;
#[cfg(test)]
mod conditional_tests;
pub mod conflict;
#[cfg(test)]
mod deferrable_tests;
mod execute;
mod express;
#[cfg(test)]
mod express_tests;
pub mod follow;
#[cfg(test)]
pub(super) mod follow_tests;
mod join;
#[cfg(test)]
mod mapped_tests;
pub mod pace;
pub mod quarantine;
#[cfg(test)]
mod quarantine_tests;
pub mod references;
pub mod rehearse;
pub mod resume;
mod settle;
mod stage;
pub mod statement;
mod step;
#[cfg(test)]
pub(super) mod test_pair;
#[cfg(test)]
mod tests;
mod transaction;
mod unmade;
mod waiting;
mod worker;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::types::PgLsn;

use self::batch::{Irregular, Planned, Ranks, Shape, Transaction, Work};
use self::conflict::Failure;
use self::express::Express;
use self::quarantine::Quarantine;
use self::references::References;
use self::stage::Stages;
use crate::error::{Doing as _, Error, Result};
use crate::flow::FlowName;
use crate::flow::mapping::filter::LeftOut;
use crate::flow::mapping::foreign_key::list_foreign_keys;
use crate::flow::mapping::{Definitions, Mapping, TableName, TableRule};
use crate::pg::server::AS_REPLICA;
use crate::pg::{Server, Session};
use crate::sql;

/// How often a statement that lost a deadlock or waited too long for a lock is tried again.
const ATTEMPTS: u32 = 8;
/// What a session that applies changes begins with. Arrays of any length must not change the plan: by key, through its index. Compiling
/// would cost more than it saves. Pages of rows that are written now are read anyway, and neighbours change together: else the
/// planner would rather read all of a table for each batch than some of it by its index.
const SETTINGS: &str = "set plan_cache_mode = force_generic_plan; set jit = off; set work_mem = '32MB'; \
                        set random_page_cost = 1.1";
/// Rows in one statement where commit order is kept.
pub(super) const LONGEST_RUN: usize = 1000;

/// A session on the subscriber that applies transactions and knows how far it has come.
pub struct Applier {
    pub(super) session: Session,
    publisher: Server,
    /// Opened when a value is missing in the stream.
    lookup: Option<Session>,
    flow: &'static str,
    detour: String,
    sources: HashMap<TableName, Vec<Arc<TableRule>>>,
    left_out: LeftOut,
    statements: HashMap<String, postgres::Statement>,
    stages: Stages,
    /// Triggers and foreign keys do not fire for what is applied.
    pub(super) replica_role: bool,
    /// The subscriber's tables by its foreign keys, where these fire.
    ranks: Ranks,
    /// The shortest time that a round trip took.
    round_trip: Duration,
    /// How many there were.
    pub(super) round_trips: u64,
    /// Where changes go that do not fit, and those behind them; without it the flow stops at the first.
    pub(super) quarantine: Option<Quarantine>,
    /// What foreign keys of the subscriber may have done to rows before their own change comes.
    cascades: Cascades,
    /// What nothing else looks after where triggers do not fire.
    pub(super) references: References,
    /// The session that takes whole batches, where it does.
    express: Option<Express>,
    open: bool,
    /// What the tables were like when all of this was found out about them.
    definitions: Definitions,
    /// Those that parts of the open transaction have written to.
    written: HashSet<TableName>,
    /// End of the last transaction that is committed.
    applied: Option<PgLsn>,
    /// Changes in the open transaction that are not noted yet.
    open_changes: u64,
    /// Changes committed by this session.
    changes: u64,
}

/// ON DELETE and ON UPDATE of the subscriber's foreign keys, where these fire.
struct Cascades {
    /// A row that is to be deleted may be gone already.
    deletes: bool,
    /// A row whose key changes may have its new one already.
    moves: bool,
}

/// Why a run of transactions stopped: how many of its first are applied, and what is wrong with the next.
struct Stopped {
    good: usize,
    error: Error,
}

impl Applier {
    /// Opens a session on `subscriber`; `publisher` is asked for values that the stream leaves out.
    pub fn connect(
        subscriber: &Server,
        publisher: &Server,
        flow: &'static str,
        detour: &str,
        mapping: &Mapping,
    ) -> Result<Applier> {
        let mut session = subscriber.connect()?;
        let on = subscriber.place.name();
        session
            .client()
            .batch_execute(SETTINGS)
            .map_err(|error| Error::sql("prepare the session that applies changes", on, &error))?;
        let began = Instant::now();
        let replica_role = match session.client().batch_execute(AS_REPLICA) {
            Ok(()) => true,
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => false,
            Err(error) => return Err(Error::sql("set session_replication_role", on, &error)),
        };
        // Before there is other work: beside it, an answer takes longer than the way to the subscriber does.
        let round_trip = began.elapsed();
        let stages = Stages::new(session.query_one(&sql::flow::ASK_FOR_TEMPORARY_TABLES, &[])?.get(0));
        let ranks = if replica_role { Ranks::default() } else { read_ranks(&mut session)? };
        let cascading = session.query_one(&sql::flow::HAS_CASCADING_KEYS, &[])?;
        // The mirror's tables are copied one after the other, and fit each other at its end only.
        let is_replay = flow == FlowName::Replay.name();
        let references = if replica_role && is_replay {
            References::read(&mut session, mapping)?
        } else {
            References::default()
        };
        // Those of the mirror nobody alters beside it.
        let definitions = if is_replay { mapping.definitions().clone() } else { Definitions::default() };
        Ok(Applier {
            session,
            publisher: publisher.clone(),
            lookup: None,
            flow,
            detour: detour.to_owned(),
            sources: sources(mapping),
            left_out: mapping.left_out().clone(),
            statements: HashMap::new(),
            stages,
            replica_role,
            ranks,
            round_trip,
            round_trips: 0,
            quarantine: None,
            cascades: Cascades {
                deletes: !replica_role && cascading.get::<_, bool>("deleting"),
                moves: !replica_role && cascading.get::<_, bool>("updating"),
            },
            references,
            express: None,
            open: false,
            definitions,
            written: HashSet::new(),
            applied: None,
            open_changes: 0,
            changes: 0,
        })
    }

    /// Keeps other sessions from applying the same flow, as long as this one lives, and reads how far it is.
    pub(super) fn take_over(&mut self, flow: FlowName) -> Result<()> {
        resume::lock_applier(&mut self.session, flow)?;
        let row = self
            .session
            .query_opt(&sql::flow::READ_PROGRESS, &[&self.flow, &self.detour])
            .doing(|| format!("read the progress of the {flow} flow"))?;
        self.applied = row.map(|row| row.get("lsn"));
        Ok(())
    }

    /// Lets batches go in as few round trips as can be, where our role may do what that takes. The flow is taken over already.
    pub(super) fn hasten(&mut self, subscriber: &Server, flow: FlowName) {
        // It evaluates what the first session evaluates, and has to come to the same values.
        let conventions = subscriber.conventions.statement();
        let preparation = format!("{conventions}; {SETTINGS}; {AS_REPLICA}; {}", resume::second_lock(flow));
        self.open_express(subscriber, &preparation);
    }

    /// Sets aside what does not fit, instead of stopping there.
    pub fn set_aside(&mut self, quarantine: Quarantine) {
        self.quarantine = Some(quarantine);
    }

    /// Changes that did not fit and are set aside, committed by this session; later ones of the same rows not counted.
    pub fn conflicts(&self) -> u64 {
        self.quarantine.as_ref().map_or(0, Quarantine::conflicts)
    }

    /// Takes in a mapping that knows more tables.
    pub fn learn(&mut self, mapping: &Mapping) {
        self.sources = sources(mapping);
        self.left_out = mapping.left_out().clone();
        self.definitions.learn(mapping.definitions());
        if let Some(quarantine) = &mut self.quarantine {
            quarantine.learn(mapping);
        }
    }

    /// Changes that this session has applied and committed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// End, on the publisher, of the last transaction that is applied and committed; none before the first.
    pub fn applied(&self) -> Option<PgLsn> {
        self.applied
    }

    /// Whether triggers and foreign keys are passed over; if not, changes keep their order.
    pub fn replica_role(&self) -> bool {
        self.replica_role
    }

    /// A row that is to be deleted may be gone already, by a foreign key of the subscriber.
    pub(super) fn tolerates_missing_deletes(&self) -> bool {
        self.cascades.deletes
    }

    /// Time that waiting for the subscriber's answers has taken at least, beyond what it needed to do its work.
    pub fn waited(&self) -> Duration {
        self.round_trip.mul_f64(self.round_trips as f64)
    }

    /// The shortest time that a round trip took.
    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// The subscriber's session; not to be used for changes while a transaction is open.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Applies whole transactions, the first of which [`Applier::apply_part`] may have begun, and commits. `plan` is what
    /// [`batch::coalesce`] makes of them where the applier [is hasty](Applier::is_hasty); none where their history does not add up.
    /// On a conflict those before it are committed, and the error names it.
    pub fn apply(&mut self, transactions: &[Transaction], plan: Option<&[Planned]>) -> Result<()> {
        if self.apply_in_one_go(transactions, plan)? {
            return Ok(());
        }
        if !self.open && transactions.iter().all(|transaction| transaction.work.is_empty()) {
            return self.commit_alone(transactions);
        }
        let is_begun = self.open;
        if is_begun {
            self.save()?;
        }
        self.begin()?;
        let last = transactions.last().map_or(PgLsn::from(0), |transaction| transaction.end_lsn);
        let mut applied = self.apply_range(transactions);
        if applied.is_ok()
            && let Err(error) = self.check_pending_references(last)
        {
            if self.sets_aside() && !is_begun && !self.references.is_strict {
                return self.apply_strictly(transactions);
            }
            applied = Err(Stopped { good: 0, error });
        }
        match applied {
            Ok(()) => self.commit(transactions),
            Err(Stopped { good, error }) => {
                // A lost connection has rolled back by itself; there is nothing to save then. Else what stands behind the good ones
                // is a part of the next: of a failure that is not about data, nobody has undone it.
                if good == 0 || error.is_connection_lost() || self.undo().is_err() {
                    self.roll_back();
                } else {
                    self.commit(&transactions[..good])?;
                }
                Err(error)
            }
        }
    }

    /// One of the transactions leaves rows without their parents, since what it was to do to these was set aside: which one that is,
    /// and what in it does not fit then, is found out by itself.
    fn apply_strictly(&mut self, transactions: &[Transaction]) -> Result<()> {
        self.roll_back();
        if transactions.len() > 1 {
            let (first, second) = transactions.split_at(transactions.len() / 2);
            self.apply(first, None)?;
            return self.apply(second, None);
        }
        self.references.is_strict = true;
        let applied = self.apply(transactions, None);
        self.references.is_strict = false;
        applied
    }

    /// Whether what does not fit is set aside.
    fn sets_aside(&self) -> bool {
        self.quarantine.as_ref().is_some_and(|quarantine| !quarantine.stops())
    }

    /// Applies what has been read of a transaction that is larger than a batch; nothing is committed.
    pub fn apply_part(&mut self, part: &Transaction, plan: Option<&[Planned]>) -> Result<()> {
        if self.apply_part_in_one_go(part, plan)? {
            return Ok(());
        }
        if self.open {
            self.save()?;
        }
        self.begin()?;
        self.note_part(part);
        self.references.is_part = true;
        self.references.goes_on = true;
        let applied = self.apply_range(std::slice::from_ref(part));
        self.references.is_part = false;
        self.references.goes_on = false;
        applied.map_err(|Stopped { error, .. }| {
            self.roll_back();
            error
        })
    }

    /// What is applied of it is to be committed with its end.
    fn note_part(&mut self, part: &Transaction) {
        self.open_changes += part.work.len() as u64;
        self.written.extend(batch::targets(&part.work).into_iter().cloned());
    }

    /// Applies transactions behind the savepoint: all at once, else in halves, in the end one change after the other.
    fn apply_range(&mut self, transactions: &[Transaction]) -> std::result::Result<(), Stopped> {
        let fatal = |error| Stopped { good: 0, error };
        if transactions.iter().all(|transaction| transaction.work.is_empty()) {
            return Ok(());
        }
        if self.sets_aside() {
            return self.settle(&settle::items_of(transactions)).map_err(fatal);
        }
        let (work, waiting) = self.without_waiting(transactions);
        if self.run_sets(&work).map_err(fatal)? {
            return self.note_waiting(waiting).map_err(fatal);
        }
        if let [transaction] = transactions {
            self.apply_one_by_one(&work, transaction.end_lsn)?;
            return self.note_waiting(waiting).map_err(fatal);
        }
        self.look_again_who_waits().map_err(fatal)?;
        let (first, second) = transactions.split_at(transactions.len() / 2);
        self.apply_range(first)?;
        self.save().map_err(|error| Stopped { good: 0, error })?;
        self.apply_range(second).map_err(|stopped| Stopped { good: first.len() + stopped.good, ..stopped })
    }

    /// Applies changes in as large sets as can be; false when they do not fit that way: then they are undone.
    fn run_sets(&mut self, work: &[&Work]) -> Result<bool> {
        let plan = self.plan(work).ok();
        let mut failed = None;
        if let Some(plan) = plan {
            let Err((_, failure)) = self.run(&plan) else { return Ok(true) };
            if failure.is_fatal() {
                return Err(failure.into_error(self.session.place.name()));
            }
            self.undo()?;
            failed = Some(failure);
        }
        self.run_otherwise(work, failed.as_ref())
    }

    /// The steps that are most likely to do it at once.
    pub(super) fn plan(&self, work: &[&Work]) -> std::result::Result<Vec<Planned>, Irregular> {
        let shape = if self.replica_role { Shape::Plain } else { Shape::Referential(&self.ranks) };
        batch::coalesce(work.iter().copied(), shape)
    }

    /// Applies changes that could not be applied by [`Applier::plan`], and are undone, by other steps of large sets; false as there.
    pub(super) fn run_otherwise(&mut self, work: &[&Work], failed: Option<&Failure>) -> Result<bool> {
        let plan = if !self.replica_role {
            batch::in_order(work.iter().copied(), LONGEST_RUN)
        } else if failed.is_some_and(Failure::is_of_uniqueness)
            && let Ok(plan) = batch::coalesce(work.iter().copied(), Shape::Rewritten)
        {
            plan
        } else {
            return Ok(false);
        };
        let Err((_, failure)) = self.run(&plan) else { return Ok(true) };
        if failure.is_fatal() {
            return Err(failure.into_error(self.session.place.name()));
        }
        self.undo()?;
        Ok(false)
    }

    /// Exactly what the publisher did, change by change; the one that does not fit is the conflict.
    fn apply_one_by_one(&mut self, work: &[&Work], end: PgLsn) -> std::result::Result<(), Stopped> {
        let plan = batch::in_order(work.iter().copied(), 1);
        let Err((at, failure)) = self.run(&plan) else { return Ok(()) };
        let on = self.session.place.name();
        let error = if failure.is_fatal() {
            failure.into_error(on)
        } else {
            let planned = plan.get(at);
            let undone = self.undo().and_then(|()| self.violated_columns(&failure));
            match undone {
                Ok(violated) => conflict::decide(planned, failure, violated.as_deref(), end, on),
                Err(error) => error,
            }
        };
        Err(Stopped { good: 0, error })
    }

    /// Columns of the unique index that a row ran into.
    pub(super) fn violated_columns(&mut self, failure: &Failure) -> Result<Option<Vec<String>>> {
        let Some((schema, index)) = failure.violated_index() else { return Ok(None) };
        let rows = self.session.query(&sql::flow::LIST_INDEX_COLUMNS, &[&schema, &index])?;
        Ok(Some(rows.iter().map(|row| row.get(0)).collect()))
    }

    pub(super) fn undo(&mut self) -> Result<()> {
        self.stages.undo();
        self.batch_execute("rollback to savepoint pgdetour", "roll back to a savepoint")
    }

    /// Runs a plan, again after a deadlock; the failure comes with the position of its step.
    pub(super) fn run(&mut self, plan: &[Planned]) -> std::result::Result<(), (usize, Failure)> {
        for attempt in 1.. {
            let Err((at, failure)) = self.run_once(plan) else { return Ok(()) };
            if !failure.is_transient() || attempt == ATTEMPTS {
                return Err((at, failure));
            }
            self.undo().map_err(|error| (at, Failure::Other(error)))?;
            std::thread::sleep(jittered(attempt));
        }
        Ok(())
    }

    fn run_once(&mut self, plan: &[Planned]) -> std::result::Result<(), (usize, Failure)> {
        let watched = if self.replica_role { self.watch_references(plan)? } else { Vec::new() };
        for (at, planned) in plan.iter().enumerate() {
            match planned {
                Planned::Rows { table, step } => {
                    for rule in &table.rules {
                        self.apply_step(table, rule, step).map_err(|failure| (at, failure))?;
                    }
                }
                Planned::Truncate { tables } => self.truncate(tables).map_err(|failure| (at, failure))?,
            }
        }
        if self.replica_role {
            self.check_references(plan, &watched)?;
        } else {
            let checked = self
                .session
                .client()
                .batch_execute("set constraints all immediate; set constraints all deferred");
            checked.map_err(|error| (plan.len(), Failure::Server(error)))?;
        }
        Ok(())
    }
}

/// Which tables of the publisher have their rows in each of the subscriber's.
fn sources(mapping: &Mapping) -> HashMap<TableName, Vec<Arc<TableRule>>> {
    let mut sources: HashMap<TableName, Vec<Arc<TableRule>>> = HashMap::new();
    for rule in mapping.pairs().filter(|rule| !rule.from_partitioned) {
        sources.entry(rule.to.clone()).or_default().push(Arc::clone(rule));
    }
    sources
}

fn read_ranks(session: &mut Session) -> Result<Ranks> {
    let keys = list_foreign_keys(session)?;
    let references: Vec<(TableName, TableName)> =
        keys.into_iter().map(|key| (key.table, key.referenced)).collect();
    Ok(batch::rank(&references))
}

/// A wait that grows with each attempt, between half and all of 20 ms · 2^attempt, so that two that met do not meet again.
fn jittered(attempt: u32) -> Duration {
    let full = Duration::from_millis(20 << attempt.min(6));
    let random = RandomState::new().build_hasher().finish();
    full.mul_f64(0.5 + (random % 1024) as f64 / 2048.0)
}
