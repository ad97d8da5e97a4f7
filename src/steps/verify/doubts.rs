//! Values that an ALTER may have rewritten: a comparison that begins after it, and finds the table equal, tells that the copy has
//! them too.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::flow::verify::Comparison;
use crate::flow::{TableName, copy};
use crate::pg::catalog::objects::Name;
use crate::phase::{Phase, Place};
use crate::steps::Run;
use crate::steps::mirror::followed::{self, Doubt};
use crate::steps::mirror::stages::Stage;
use crate::steps::verify::{Extent, Sides, settle};

/// Tables that are doubted, as they are before they are read: an ALTER that comes later is doubted again.
pub struct Doubts {
    stage: Stage,
    tables: BTreeMap<Name, Doubt>,
}

impl Doubts {
    /// Those that the comparison can end.
    ///
    /// What was written before the ALTER has to be on the other side before it begins: it might make a row differ that was equal by
    /// chance. So nothing is ended where nothing carries changes, nor by a sample, nor by what an earlier run has read.
    pub fn find(run: &mut Run, sides: Sides, extent: &Extent) -> Result<Option<Doubts>> {
        let is_whole = extent.sample.is_none() && !extent.resume;
        let is_configured = run.is_staged() == run.has_backup();
        if run.phase() != Phase::Mirrored || !is_whole || !is_configured || !sides.is_followed(run)? {
            return Ok(None);
        }
        let stage = match run.stages() {
            [first, ..] if sides.has_backup() => *first,
            [.., last] => *last,
            [] => return Ok(None),
        };
        if stage.publisher() == Place::Backup && run.open_backup().is_err() {
            // It is not what was asked for.
            run.backup = None;
            return Ok(None);
        }
        let tables = followed::list_doubtful(run, stage)?;
        if tables.is_empty() {
            return Ok(None);
        }
        let (mut source, mut target) =
            (run.server(sides.source).connect()?, run.server(sides.target).connect()?);
        settle(sides, true, &mut source, &mut target, &run.signals)?;
        Ok(Some(Doubts { stage, tables }))
    }

    /// Notes that tables which are equal are what they are by now.
    pub fn end(self, run: &mut Run, compared: &[Comparison]) -> Result<()> {
        let is_equal = |(schema, name): &Name| {
            let name = TableName { schema: schema.clone(), name: name.clone() }.to_string();
            compared.iter().any(|table| table.table == name && table.equal && table.changing == 0)
        };
        // A partition is compared with its root, unless it was asked for by itself.
        let is_over =
            |name: &Name, doubt: &Doubt| is_equal(name) || doubt.root.as_ref().is_some_and(is_equal);
        let over = self.tables.into_iter().filter(|(name, doubt)| is_over(name, doubt));
        let origins: BTreeMap<Name, _> = over.map(|(name, doubt)| (name, doubt.now)).collect();
        if origins.is_empty() {
            return Ok(());
        }
        copy::note_origins(run.session(self.stage.subscriber()), &origins)
    }
}
