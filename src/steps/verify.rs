//! Compares both sides row by row, through the mapping, and makes them equal when asked to.

mod doubts;
mod sides;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postgres::error::SqlState;
use serde_json::{Value, json};

use self::doubts::Doubts;
pub(super) use self::sides::Sides;
use crate::error::{Error, Result};
use crate::fault;
use crate::flow::mapping::{Mapping, TableRule};
use crate::flow::source::slot;
use crate::flow::verify::pair::{Filters, Share, Size};
use crate::flow::verify::repair::Repaired;
use crate::flow::verify::{self, Comparison, Failure, Job, Pair, Partial, Sample, constraints, pair, repair};
use crate::flow::{FlowName, TableName, Until, apply_until, marker};
use crate::output::plural;
use crate::pattern::Selection;
use crate::pg::catalog::{self, Part, Table};
use crate::pg::{Session, record};
use crate::phase::{Phase, Place, Side};
use crate::sql;
use crate::steps::run::facts::Carrier;
use crate::steps::{Run, Signals, preconditions, replay};

/// How long a marker may take while rows that differ are read again.
const MARKER_BUDGET: Duration = Duration::from_secs(60);

/// What is compared, and what is done about differences.
#[derive(Debug, Clone, Default)]
pub struct Extent {
    /// Only tables that match; all when empty.
    pub patterns: Vec<String>,
    /// Only that many rows in a million.
    pub sample: Option<u32>,
    /// Go on where the last run was interrupted.
    pub resume: bool,
    /// Make the side that does not serve equal to the one that does.
    pub repair: bool,
    /// Compare the backup with the side that it follows.
    pub backup: bool,
}

/// Runs the command; its report. A difference is [`Error::Conflict`], with the report kept for the document.
pub fn run(run: &mut Run, extent: &Extent) -> Result<Value> {
    let sides = if extent.backup || extent.repair || extent.resume {
        Sides::open(run, extent.backup)?
    } else {
        Sides::open_beside_replay(run)?
    };
    if extent.repair && run.phase() == Phase::Returned {
        return Err(Error::Refused {
            kind: "nothing_to_repair",
            message: "since cutback the target is a copy that nothing follows".into(),
            detail: None,
            hint: "Verify without --repair, or run pgdetour clean and mirror again.".into(),
        });
    }
    if run.source.is_some() {
        run.require(&[preconditions::PARTS])?;
    }
    let mapping = sides.mapping(run)?;
    let missing = list_missing(run, sides, &mapping, extent)?;
    let pairs = list_pairs(run, sides, &mapping, extent)?;
    let doubts = Doubts::find(run, sides, extent)?;
    let mut known = begin(run, sides, extent)?;
    let mut found = Vec::new();
    let mut left = Vec::new();
    for mut pair in pairs {
        match known.remove(&pair.record_name()) {
            Some(Known::Equal(comparison)) => found.push((pair.share(), comparison)),
            Some(Known::Part(partial)) => {
                pair.resume(partial);
                left.push(pair);
            }
            None => left.push(pair),
        }
    }
    let pairs = left;
    found.extend(pairs.iter().map(Pair::share).zip(compare_all(run, sides, &pairs)?));
    if sides.are_noted() {
        forget(run)?;
    }
    let mut tables = merge(found);
    if extent.repair && tables.iter().any(|table| !table.equal) {
        tables = repair_all(run, &pairs, tables)?;
    }
    tables.extend(missing);
    tables.sort_by(|one, other| one.table.cmp(&other.table));
    for table in tables.iter().filter(|table| table.changing > 0) {
        run.warn(format!(
            "{} of table \"{}\" kept changing while they were compared",
            plural(table.changing as u64, "row"),
            table.table
        ));
    }
    if let Some(doubts) = doubts {
        doubts.end(run, &tables)?;
    }
    let unfit = if extent.repair { find_unfit(run, &mapping, &tables)? } else { None };
    let equal = tables.iter().all(|table| table.equal);
    let mut report = json!({ "tables": tables, "equal": equal });
    if let Some(side) = sides.in_place_of() {
        report["backup_in_place_of"] = json!(side);
    }
    if let Some(sample) = extent.sample {
        report["sample_percent"] = json!(f64::from(sample) / 10_000.0);
    }
    if let Some(unfit) = unfit {
        run.report = Some(report);
        return Err(unfit);
    }
    if equal {
        return Ok(report);
    }
    if extent.repair && run.plan.is_dry() {
        report["steps"] = run.steps_report();
    }
    run.report = Some(report);
    Err(unequal_tables(run.phase(), sides, advice(run, sides)?, &tables))
}

/// What the source's constraints say of these tables, now that rows were written while none of them was looked at; by this run or,
/// if it was told of then, by an earlier one.
fn find_unfit(run: &mut Run, mapping: &Mapping, tables: &[Comparison]) -> Result<Option<Error>> {
    if run.phase() != Phase::Detoured || run.plan.is_dry() {
        return Ok(None);
    }
    let names: HashSet<&str> = tables.iter().map(|table| table.table.as_str()).collect();
    let is_one = |table: &TableName| names.contains(table.to_string().as_str());
    constraints::find_violated(run.source(), mapping, &is_one)
}

/// What to do about tables that differ.
fn advice(run: &mut Run, sides: Sides) -> Result<&'static str> {
    Ok(match run.phase() {
        Phase::Mirrored if !sides.is_followed(run)? => {
            "Changes that were not carried over yet differ too, and nothing carries them now: run pgdetour mirror, then verify again."
        }
        Phase::Mirrored if sides.has_backup() => {
            "Find out who changed rows of the backup; pgdetour mirror --table TABLE --again copies a table anew, through it."
        }
        _ if sides.has_backup() => {
            "Find out who changed rows of the backup. Nothing makes them equal while the target serves: do without this copy, or keep \
             a dump of the target."
        }
        // What is lost no replay brings.
        Phase::Detoured if run.recording().require_intact(run.target()).is_err() => slot::MISSED,
        Phase::Detoured if sides.is_replayed => {
            "All that was written before had come home at each of three readings, and they differ still: find out who changed rows of the \
             source, or what is in quarantine; or end pgdetour replay --follow, and run pgdetour verify --repair, which copies them from the \
             target."
        }
        Phase::Detoured => {
            "Changes that were not replayed yet differ too: run pgdetour replay, then verify again. While users write, verify beside \
             pgdetour replay --follow: then these are no differences."
        }
        Phase::Returned => "Since cutback, traffic changes the source alone: the target stays as it was.",
        _ => "Find out who changed rows of the target; pgdetour verify --repair copies them from the source.",
    })
}

/// The failure that tells which tables differ, and which could not be compared.
fn unequal_tables(phase: Phase, sides: Sides, advice: &str, tables: &[Comparison]) -> Error {
    let (failed, different): (Vec<_>, Vec<_>) =
        tables.iter().filter(|table| !table.equal).partition(|table| table.failure.is_some());
    let mut said = Vec::new();
    if !different.is_empty() {
        let verb = if different.len() == 1 { "differs" } else { "differ" };
        said.push(format!("{} {verb}", plural(different.len() as u64, "table")));
    }
    if !failed.is_empty() {
        said.push(format!("{} could not be compared", plural(failed.len() as u64, "table")));
    }
    let failure = failed.iter().find_map(|table| table.failure.as_ref());
    let hint = match failure {
        Some(Failure { hint: Some(hint), .. }) => hint,
        Some(_) if phase == Phase::Detoured => {
            "Run pgdetour replay --rehearse, which names the rows; correct them on the target, or the expression in the [[map]], \
             and verify again."
        }
        Some(_) => "Correct what fails there, and verify again.",
        None => advice,
    };
    Error::Conflict {
        kind: if failure.is_some() { "not_compared" } else { "differs" },
        sqlstate: failure.map(|failure| failure.sqlstate.clone()),
        message: said.join(", "),
        detail: Some(
            failed
                .iter()
                .chain(&different)
                .map(|table| describe(table, sides))
                .collect::<Vec<_>>()
                .join("; "),
        ),
        hint: hint.to_owned(),
    }
}

/// One result for each table, by its name, from those of all pairs and what of the table each is about.
fn merge(found: Vec<(Share, Comparison)>) -> Vec<Comparison> {
    let (made, more): (Vec<_>, Vec<_>) = found.into_iter().partition(|(share, _)| *share == Share::Rows);
    let mut tables: BTreeMap<String, Comparison> =
        made.into_iter().map(|(_, comparison)| (comparison.table.clone(), comparison)).collect();
    for (share, comparison) in more {
        if let Some(table) = tables.get_mut(&comparison.table) {
            table.merge(share, comparison);
        }
    }
    tables.into_values().collect()
}

/// Tables of which one side lacks all rows, since it lacks the table; as far as they are asked for. Fails for patterns that match
/// no table: nothing compared is not everything equal.
fn list_missing(run: &mut Run, sides: Sides, mapping: &Mapping, extent: &Extent) -> Result<Vec<Comparison>> {
    let mut missing: Vec<TableName> =
        run.missing_tables(sides.source, sides.target)?.iter().map(TableName::of).collect();
    // Other tables lead there.
    missing.retain(|table| !mapping.pairs().any(|rule| rule.to == *table));
    if let Some(wanted) = wanted(extent)? {
        refuse_idle(&wanted, mapping, &missing)?;
        missing.retain(|table| wanted.matches(&table.schema, &table.name));
    }
    let hint = match run.phase() {
        Phase::Mirrored => "Find out who dropped or renamed it; run pgdetour clean and mirror again.",
        Phase::Detoured => "Find out who dropped or renamed it: replay brings no change of it any more.",
        _ => {
            "Find out who dropped or renamed it. Since cutback, traffic changes the source alone: the target stays as it was."
        }
    };
    let failure = Failure {
        on: sides.target.name().into(),
        sqlstate: SqlState::UNDEFINED_TABLE.code().into(),
        message: "the table is not there any more".into(),
        hint: Some(hint.into()),
    };
    let comparison = |table: &TableName| Comparison {
        table: table.to_string(),
        failure: Some(failure.clone()),
        ..Comparison::default()
    };
    Ok(missing.iter().map(comparison).collect())
}

/// The tables that are asked for; none where all are.
fn wanted(extent: &Extent) -> Result<Option<Selection>> {
    let patterns = &extent.patterns;
    if patterns.is_empty() { Ok(None) } else { Selection::parse(patterns, &[""; 0]).map(Some) }
}

fn refuse_idle(wanted: &Selection, mapping: &Mapping, missing: &[TableName]) -> Result<()> {
    let tables = mapping.pairs().flat_map(|rule| [&rule.from, &rule.to]).chain(missing);
    let names: Vec<(&str, &str)> = tables.map(|name| (name.schema.as_str(), name.name.as_str())).collect();
    let idle: Vec<String> = wanted.idle(&names).iter().map(|pattern| format!("\"{pattern}\"")).collect();
    if idle.is_empty() {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!("no table that is compared matches {}", idle.join(", ")),
        hint: "Name tables of the mirror, on either side, as psql's \\d takes them.".into(),
    })
}

/// The tables of the source to compare, each with all that leads there. Partitions are compared with their root, since the
/// other side's may be cut in another way; one by one only where the root is not asked for.
pub(super) fn list_pairs(
    run: &mut Run,
    sides: Sides,
    mapping: &Mapping,
    extent: &Extent,
) -> Result<Vec<Pair>> {
    let wanted = wanted(extent)?;
    let chosen =
        |name: &TableName| wanted.as_ref().is_none_or(|wanted| wanted.matches(&name.schema, &name.name));
    let is_wanted = |rule: &TableRule| chosen(&rule.from) || chosen(&rule.to);
    let (old_tables, new_tables) =
        (catalog::list_tables(run.session(sides.target))?, catalog::list_tables(run.session(sides.source))?);
    let (target, source) = (Sizes::of(&old_tables), Sizes::of(&new_tables));
    let roots: HashSet<&TableName> = mapping
        .pairs()
        .filter(|rule| rule.from_partitioned && is_wanted(rule))
        .map(|rule| &rule.from)
        .collect();
    let sample = match extent.sample {
        Some(rows_in_a_million) => Some(Sample { rows_in_a_million, seed: new_seed(run)? }),
        None => None,
    };
    let parts = run.parts();
    let mut pairs = Vec::new();
    for group in mapping.by_target() {
        let with_root =
            |rule: &TableRule| target.roots.get(&rule.from).is_some_and(|root| roots.contains(root));
        if !group.iter().any(|rule| is_wanted(rule)) || group.iter().all(|rule| with_root(rule)) {
            continue;
        }
        let filtered = group.iter().find_map(|rule| parts.get(&rule.from.to_string())?.filter.clone());
        let filters = match filtered {
            // It has got what the target had, and every change since.
            Some(_) if sides.source == Place::Backup => Filters::default(),
            Some(filter) => filters_of(run, mapping, &group, filter),
            None => Filters::default(),
        };
        let size = |on_source: bool, name: &TableName| {
            if on_source { source.get(name) } else { target.get(name) }
        };
        // What each fills is compared with the rows in which anything of it is filled.
        let makers = group.iter().take_while(|rule| rule.fills.is_none()).count();
        let (making, filling) = group.split_at(makers);
        for rules in [making].into_iter().chain(filling.chunks(1)) {
            let rules = rules.iter().map(|rule| Arc::clone(rule)).collect();
            let mut pair = Pair::new(run.session(sides.target), rules, &size, &filters, sample)?;
            pair.is_joined = !filling.is_empty();
            pairs.push(pair);
        }
        // What was written on the target since cutover came home, or is to, whatever the filter says of it.
        if let (Some(outside), Some(filter)) = (filters.outside(), &filters.old)
            && (extent.repair || pair::has_rows_outside(run.session(sides.target), group[0], filter)?)
        {
            let rules = vec![Arc::clone(group[0])];
            pairs.push(Pair::new(run.session(sides.target), rules, &size, &outside, sample)?);
        }
    }
    Ok(pairs)
}

/// How the mirror's filter of a table holds on both sides.
fn filters_of(run: &mut Run, mapping: &Mapping, group: &[&Arc<TableRule>], filter: String) -> Filters {
    if run.phase() == Phase::Mirrored {
        // The mirror holds nothing but what the filter lets through.
        return Filters { new: Some(filter), ..Filters::default() };
    }
    let rule = group[0];
    let mirrored = mapping.left_out().mirrored(&rule.from, &rule.to);
    if let Some(new) = mirrored.filter(|_| is_image(group)) {
        return Filters { new: Some(new.to_owned()), old: Some(filter), ..Filters::default() };
    }
    run.warn(format!(
        "rows of table \"{}\" that the target lacks are not compared: since the maintenance, nothing tells which of them the \
         mirror's filter has left out",
        rule.to
    ));
    Filters { are_unknown: true, ..Filters::default() }
}

/// Whether one table of the target is the whole image of one of the source, row by row.
fn is_image(rules: &[&Arc<TableRule>]) -> bool {
    matches!(rules, [rule] if rule.condition.is_none() && rule.fills.is_none() && pair::is_evaluable_there(rule))
}

/// How large tables are, partitioned ones with their partitions, and whose partition each is.
struct Sizes {
    sizes: BTreeMap<(String, String), Size>,
    roots: std::collections::HashMap<TableName, TableName>,
}

impl Sizes {
    fn of(tables: &[Table]) -> Sizes {
        let mut sizes: BTreeMap<(String, String), Size> = BTreeMap::new();
        let mut roots = std::collections::HashMap::new();
        for table in tables {
            let bytes = table.bytes.cast_unsigned();
            let own = table.full_name();
            for name in table.root.iter().chain([&own]) {
                let size = sizes.entry(name.clone()).or_default();
                size.bytes = size.bytes.max(bytes);
                // A partitioned table's own estimate is the sum of its partitions', where there is one.
                size.rows = if *name == own {
                    size.rows.max(table.rows_estimate)
                } else {
                    size.rows + table.rows_estimate
                };
            }
            if let Some((schema, name)) = &table.root {
                let root = TableName { schema: schema.clone(), name: name.clone() };
                roots.insert(TableName::of(table), root);
            }
        }
        Sizes { sizes, roots }
    }

    fn get(&self, table: &TableName) -> Size {
        self.sizes.get(&(table.schema.clone(), table.name.clone())).copied().unwrap_or_default()
    }
}

/// Another one for each run, so that samples add up.
fn new_seed(run: &mut Run) -> Result<i64> {
    let rows = run.target().query_text("select (pg_catalog.random() * 9e15)::bigint", &[])?;
    Ok(rows[0].get(0))
}

/// What an interrupted run has found out about a table.
enum Known {
    /// It is equal.
    Equal(Comparison),
    /// What its ranges hold as far as they were read.
    Part(Partial),
}

/// What an interrupted run has found equal already, and what it has read; a new one begins with nothing.
fn begin(run: &mut Run, sides: Sides, extent: &Extent) -> Result<BTreeMap<String, Known>> {
    let mut known = BTreeMap::new();
    if run.plan.is_dry() || !sides.are_noted() {
        return Ok(known);
    }
    if !extent.resume {
        forget(run)?;
        return Ok(known);
    }
    let mut since: Option<String> = None;
    for row in run.target().query(&sql::record::LIST_VERIFIED, &[])? {
        let (report, partial): (Option<Value>, Option<Value>) = (row.get("report"), row.get("partial"));
        let equal = report.and_then(|report| serde_json::from_value(report).ok()).map(Known::Equal);
        let part = partial.and_then(|partial| serde_json::from_value(partial).ok()).map(Known::Part);
        if let Some(found) = equal.or(part) {
            known.insert(row.get("table_name"), found);
            since = Some(row.get("since"));
        }
    }
    if let Some(since) = since {
        run.warn(format!(
            "what the interrupted comparison has read since {since}, all or a part of {}, counts as it was then: a row that has moved \
             into it since is not seen where one side alone has it",
            plural(known.len() as u64, "table")
        ));
    }
    Ok(known)
}

/// A comparison that has come to its end leaves nothing to go on with.
fn forget(run: &mut Run) -> Result<()> {
    if run.plan.is_dry() { Ok(()) } else { run.target().change_script("delete from pgdetour.verified") }
}

fn compare_all(run: &mut Run, sides: Sides, pairs: &[Pair]) -> Result<Vec<Comparison>> {
    let live = sides.is_followed(run)?;
    let (signals, stop) = (run.signals.clone(), run.signals.stop_flag());
    let is_noted = !run.plan.is_dry() && sides.are_noted();
    let note = if is_noted { Some(Mutex::new(run.server(Side::Target).connect()?)) } else { None };
    let output = run.output.clone();
    let session = || note.as_ref().map(|note| note.lock().unwrap_or_else(PoisonError::into_inner));
    let job = Job {
        source: run.server(sides.source),
        target: run.server(sides.target),
        pairs,
        jobs: run.config.mirror.jobs,
        stop: &stop,
        settle: &|source, target| settle(sides, live, source, target, &signals),
        note: &|pair, partial| {
            if let Some(mut session) = session() {
                session.change(sql::record::NOTE_PARTIAL.text, &[&pair.record_name(), &json!(partial)])?;
                fault::point("after", "note what is compared");
            }
            Ok(())
        },
        done: &|pair, comparison| {
            let what = if comparison.equal { "equal" } else { "different" };
            output.elaborate(&format!("table \"{}\" is {what}", comparison.table));
            if let Some(mut session) = session().filter(|_| comparison.equal && comparison.changing == 0) {
                session
                    .change(sql::record::INSERT_VERIFIED.text, &[&pair.record_name(), &json!(comparison)])?;
            }
            Ok(())
        },
    };
    let result = verify::compare_tables(&job);
    run.heed_signals()?;
    result
}

/// Whether rows of the table can be written one by one, as those of the other side are. `parts` is what of each table is
/// mirrored.
pub(super) fn may_be_repaired(parts: &BTreeMap<String, Part>, pair: &Pair) -> bool {
    let is_filtered =
        |rule: &Arc<TableRule>| parts.get(&rule.from.to_string()).is_some_and(|part| part.filter.is_some());
    // Rows that the mirror has left out are no rows to delete; of those outside of the filter none is.
    !pair.is_joined
        && (!pair.has_left_out || pair.is_outside)
        && pair.is_told_apart()
        && (is_image(&pair.rules.iter().collect::<Vec<_>>()) || !pair.rules.iter().any(is_filtered))
}

/// Makes the tables that differ equal, and compares them again.
fn repair_all(run: &mut Run, pairs: &[Pair], mut tables: Vec<Comparison>) -> Result<Vec<Comparison>> {
    let serving = if run.phase() == Phase::Mirrored { Side::Source } else { Side::Target };
    let (mut rows, mut names) = (0, Vec::new());
    let parts = run.parts();
    let by_name: HashMap<String, &Pair> =
        pairs.iter().filter(|pair| may_be_repaired(&parts, pair)).map(|pair| (pair.name(), pair)).collect();
    for table in tables.iter().filter(|table| !table.equal && table.failure.is_none()) {
        if !by_name.contains_key(&table.table) {
            run.warn(format!(
                "table \"{}\" cannot be repaired row by row: its rows are joined from several tables, or several without a common key lead there, or the mirror has left out rows",
                table.table
            ));
            continue;
        }
        rows += table.different + table.missing_on_source + table.missing_on_target;
        names.push(table.table.clone());
    }
    if names.is_empty() {
        return Ok(tables);
    }
    run.confirm(&format!(
        "overwrite {rows} differing rows in {} on the {} by those of the {serving}",
        names.join(", "),
        serving.other()
    ))?;
    if run.plan.is_dry() {
        let other = serving.other();
        run.step("repair rows", |run| {
            for table in tables.iter().filter(|table| names.contains(&table.table)) {
                run.session(other).note(format!("{}: as on the {serving}", describe(table, Sides::BOTH)));
            }
            Ok(())
        })?;
        return Ok(tables);
    }
    // Who brings what is written meanwhile: somebody else, or ourselves.
    let (name, flow) = match serving {
        Side::Target => (FlowName::Replay, Some(replay::mapped_flow(run)?)),
        Side::Source if Sides::BOTH.is_followed(run)? => (FlowName::Mirror, None),
        Side::Source if run.carrier()? == Carrier::Pgdetour => {
            run.take_free_flow()?;
            (FlowName::Mirror, Some(run.mirror_flow()?))
        }
        Side::Source => return Err(mirror_is_stopped()),
    };
    let (signals, stop) = (run.signals.clone(), run.signals.stop_flag());
    let settle = |source: &mut Session, target: &mut Session| match &flow {
        None => settle(Sides::BOTH, true, source, target, &signals),
        Some(flow) => {
            let (from, to) = match serving {
                Side::Source => (source, target),
                Side::Target => (target, source),
            };
            let id = record::new_id(from)?;
            marker::write_marker(from, name, &id)?;
            apply_until(flow, &Until::Marker(id.clone()), &stop, Some(MARKER_BUDGET), &mut |_| {})?;
            marker::remove_marker(from, to, &id)
        }
    };
    let (source_server, target_server) = (run.server(Side::Source).clone(), run.server(Side::Target).clone());
    let job = Job::of_one(&source_server, &target_server, pairs, &stop, &settle);
    let (mut source, mut target) = (source_server.connect()?, target_server.connect()?);
    let differing = (0..tables.len()).filter(|at| names.contains(&tables[*at].table)).collect();
    repair::in_order_of_keys(differing, |at: usize| {
        let table = &mut tables[at];
        let (mut whole, mut found) = (Repaired::default(), Vec::new());
        for pair in pairs.iter().filter(|pair| pair.name() == table.table) {
            run.heed_signals()?;
            let done = repair::repair_table(&job, pair, serving, &mut source, &mut target)?;
            run.changed |= done.rows > 0;
            whole.rows += done.rows;
            whole.left += done.left;
            tell_overwritten(run, pair, &done);
            whole.refusal = whole.refusal.or(done.refusal);
            if whole.refusal.is_none() {
                let again = Job { pairs: std::slice::from_ref(pair), ..job };
                found.push((pair.share(), verify::compare_tables(&again)?.pop().unwrap_or_default()));
            }
        }
        let repaired = table.repaired + whole.rows;
        if whole.refusal.is_some() {
            table.repaired = repaired;
            return Ok(whole);
        }
        run.note_event(&format!("repaired {} of table \"{}\"", plural(repaired as u64, "row"), table.table));
        if let Some(now) = merge(found).pop() {
            *table = Comparison { repaired, ..now };
        }
        Ok(whole)
    })?;
    Ok(tables)
}

/// Tells of rows outside of the mirror's filter that were written over others of the same key: nothing tells whether these had come
/// home before.
pub(super) fn tell_overwritten(run: &mut Run, pair: &Pair, done: &Repaired) {
    if pair.is_outside && done.overwritten > 0 {
        run.warn(format!(
            "{} of table \"{}\" outside of the mirror's filter had the key of a different one on the target, and is as that one now: \
             whether the mirror had left it out, nothing tells",
            plural(done.overwritten as u64, "row"),
            pair.name()
        ));
    }
}

fn mirror_is_stopped() -> Error {
    Error::Refused {
        kind: "mirror_stopped",
        message: "the mirror was stopped, so rows cannot be made equal to the source's".into(),
        detail: None,
        hint: "Run pgdetour mirror to let it go on, then repair.".into(),
    }
}

/// Waits until what one side has committed up to now is on the one that follows it.
fn settle(
    sides: Sides,
    live: bool,
    source: &mut Session,
    target: &mut Session,
    signals: &Signals,
) -> Result<()> {
    if !live {
        return Ok(());
    }
    let (from, to) = match sides.leader() {
        Side::Source => (source, target),
        Side::Target => (target, source),
    };
    let id = record::new_id(from)?;
    marker::write_marker(from, sides.flow(), &id)?;
    let arrived =
        signals.heed_while(MARKER_BUDGET, |budget| match marker::wait_for_marker(to, &id, budget) {
            Err(Error::TimedOut { .. }) if sides.is_replayed && !sides::is_replayed(from)? => {
                Err(replay_has_ended())
            }
            waited => waited,
        });
    arrived?;
    marker::remove_marker(from, to, &id)
}

fn replay_has_ended() -> Error {
    Error::Refused {
        kind: "replay_ended",
        message: "replay --follow has ended while both sides were compared".into(),
        detail: Some("What was written on the target meanwhile does not come home.".into()),
        hint: "See with pgdetour status whether something stops it. Let it run again, and verify beside it; or verify alone, while nobody \
               writes, after pgdetour replay."
            .into(),
    }
}

fn describe(table: &Comparison, sides: Sides) -> String {
    if let Some(Failure { on, sqlstate, message, .. }) = &table.failure {
        return format!("{}: {message} (SQLSTATE {sqlstate} on {on})", table.table);
    }
    let mut parts = Vec::new();
    for (count, what) in [
        (table.missing_on_source, format!("only on the {}", sides.target)),
        (table.missing_on_target, format!("only on the {}", sides.source)),
        (table.different, "different".to_owned()),
    ] {
        if count > 0 {
            parts.push(format!("{} {what}", plural(count as u64, "row")));
        }
    }
    format!("{}: {}", table.table, parts.join(", "))
}
