//! Which tables the rows of a relation of the stream go to.

use std::sync::Arc;

use super::Run;
use crate::error::{Error, Result};
use crate::flow::mapping::bound::Bound;
use crate::flow::mapping::lint::toml_table;
use crate::flow::mapping::placeless::{was_renamed, where_renamed};
use crate::flow::mapping::{Mapping, TableName, drift};
use crate::flow::source::change::Relation;
use crate::flow::source::recorded;
use crate::flow::{FlowName, Snapshot, Xid};
use crate::pg::catalog;

/// What helps where recorded changes are of a table that is not there any more.
const GONE: &str =
    "Run pgdetour capture --anew, which begins a new recording and makes the source equal to the target.";

/// Where the rows of a relation go, and what the copy of the table holds already.
pub(super) struct Binding {
    table: Option<Arc<Bound>>,
    snapshot: Option<Snapshot>,
}

impl Run<'_> {
    /// Where a relation's rows go; none when the copy of the table holds this transaction's changes.
    pub(super) fn table_for(&mut self, relation: &Arc<Relation>, xid: Xid) -> Result<Option<Arc<Bound>>> {
        let address = Arc::as_ptr(relation);
        if !self.bindings.contains_key(&address) {
            let binding = self.bind(relation)?;
            self.bindings.insert(address, (Arc::clone(relation), binding));
        }
        let (_, binding) = &self.bindings[&address];
        if binding.snapshot.as_ref().is_some_and(|snapshot| snapshot.shows(xid.whole(self.next_xid))) {
            return Ok(None);
        }
        Ok(binding.table.clone())
    }

    fn bind(&mut self, relation: &Arc<Relation>) -> Result<Binding> {
        let its_name = relation.table_name();
        if self.flow.passed_over.contains(&its_name) {
            self.refuse_renamed(relation)?;
            // Before anything is let go: what is recorded does not have them any more then.
            recorded::note_passed_over(self.publisher, relation.id)?;
            return Ok(Binding { table: None, snapshot: None });
        }
        if self.mapping.rules_for(&relation.schema, &relation.name).is_empty() {
            self.learn(relation)?;
        }
        let rules = self.mapping.rules_for(&relation.schema, &relation.name);
        let mut name = (relation.schema.clone(), relation.name.clone());
        let known = if rules.is_empty() { None } else { Some(Bound::new(Arc::clone(relation), rules)) };
        let bound = match known {
            Some(Ok(bound)) => Some(bound),
            // Others than these columns by now; with nothing known of it, it may be gone.
            _ if known.is_some() || self.is_gone(relation)? => match self.bind_as_recorded(relation)? {
                Some((bound, now)) => {
                    name = (now.schema, now.name);
                    bound
                }
                // With the table went its rows, on both sides.
                None => return Ok(Binding { table: None, snapshot: None }),
            },
            _ => None,
        };
        let Some(bound) = bound else { return Err(self.unknown(relation)?) };
        let table = Some(Arc::new(bound));
        Ok(Binding { table, snapshot: self.flow.snapshots.get(&name).cloned() })
    }

    /// Fails where another table has the name by now, and that one is left out: the changes before were of one that is not.
    fn refuse_renamed(&mut self, relation: &Relation) -> Result<()> {
        let now = recorded::find_present_name(self.publisher, relation.id)?;
        let Some(now) = now.filter(|now| !self.flow.passed_over.contains(now)) else { return Ok(()) };
        let before = relation.display();
        Err(Error::Conflict {
            kind: "table_unknown",
            sqlstate: None,
            message: was_renamed(&now.to_string(), &before),
            detail: Some(format!(
                "Changes of it are recorded as those of \"{before}\", which mirror.exclude leaves out."
            )),
            hint: "Rename it back for the time of the replay; or run pgdetour capture --anew, which begins a new recording and makes the \
                   source equal to the target; no change is lost meanwhile."
                .to_owned(),
        })
    }

    /// The failure for a table of which nothing tells where its rows go. To record its changes no more would lose them.
    fn unknown(&mut self, relation: &Relation) -> Result<Error> {
        let name = relation.display();
        let before = match self.flow.name {
            FlowName::Replay => recorded::find_name(self.publisher, relation.id)?,
            FlowName::Mirror | FlowName::Backup => None,
        };
        let again = "then run the same command again: no change is lost meanwhile.";
        let (message, detail, hint) = match before.map(|before| before.to_string()) {
            Some(before) if before != name => (
                was_renamed(&name, &before),
                "By its new name nothing says where its rows go.",
                format!("{}; {again}", where_renamed(&name, &before)),
            ),
            _ => (
                format!("table \"{name}\" is published but is not part of the flow"),
                "What is recorded was altered, or the table is new.",
                match self.flow.name {
                    FlowName::Replay => format!(
                        "Say in a [[map]] from = {} where its rows go, or add it to mirror.exclude, by which its changes are passed \
                         over; {again}",
                        toml_table(&name)
                    ),
                    FlowName::Mirror | FlowName::Backup => {
                        self.flow.source.hint_to_leave_out(&relation.schema, &relation.name)
                    }
                },
            ),
        };
        Ok(Error::Conflict {
            kind: "table_unknown",
            sqlstate: None,
            message,
            detail: Some(detail.to_owned()),
            hint,
        })
    }

    /// Whether the publisher does not have a table of that name any more.
    fn is_gone(&mut self, relation: &Relation) -> Result<bool> {
        let tables = catalog::list_tables(self.publisher)?;
        Ok(!tables.iter().any(|table| table.schema == relation.schema && table.name == relation.name))
    }

    /// Where the rows of a table go that was altered, renamed or dropped since, if they have a place, and its name by now; none when it
    /// is on neither side any more.
    fn bind_as_recorded(&mut self, relation: &Arc<Relation>) -> Result<Option<(Option<Bound>, TableName)>> {
        let rules = self.mapping.map_rules().to_vec();
        let hint = match self.flow.name {
            FlowName::Replay => GONE,
            FlowName::Mirror | FlowName::Backup => "Run pgdetour clean, then mirror again.",
        };
        let subscriber = &self.flow.subscriber;
        let Some((mapping, now)) =
            drift::map_as_recorded(relation, &rules, self.publisher, subscriber, hint)?
        else {
            return Ok(None);
        };
        let rules = mapping.rules_for(&now.schema, &now.name);
        let bound = if rules.is_empty() { None } else { Some(Bound::new(Arc::clone(relation), rules)?) };
        Ok(Some((bound, now)))
    }

    /// A table that was not there when the mapping was built: a new partition of one that was.
    fn learn(&mut self, relation: &Relation) -> Result<()> {
        let is_known = |mapping: &Mapping, table: &catalog::Table| {
            let root = table.root.as_ref();
            let is_new = table.schema == relation.schema && table.name == relation.name;
            !mapping.rules_for(&table.schema, &table.name).is_empty()
                || is_new && root.is_some_and(|(schema, name)| !mapping.rules_for(schema, name).is_empty())
        };
        let mut published = catalog::list_tables(self.publisher)?;
        published.retain(|table| is_known(&self.mapping, table));
        let rules = self.mapping.map_rules().to_vec();
        // Outside of the applier's transaction, which may be open.
        let mut session = self.flow.subscriber.connect()?;
        let left_out = self.mapping.left_out().clone();
        self.mapping = Mapping::build(&published, &rules, &mut session)?.beside(left_out);
        self.settle()?;
        self.worker.applier()?.learn(&self.mapping);
        Ok(())
    }
}
