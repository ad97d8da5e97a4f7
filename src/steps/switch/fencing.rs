//! The fences of both sides: planned and stored, raised, and on the target lowered once that serves.

use std::time::{Duration, Instant};

use crate::config::FenceKind;
use crate::error::Result;
use crate::pg::fence::{self, FenceUndo};
use crate::pg::sessions;
use crate::phase::Side;
use crate::steps::Run;
use crate::steps::preconditions::{self, Precondition};
use crate::steps::run::facts::Facts;
use crate::steps::switch::OUT;
use crate::steps::switch::pause::Bounds;

/// How long sessions on the target may take to end before it serves.
const ENDING: Duration = Duration::from_secs(2);

impl Run {
    /// What a side's fence does to general roles: as the record has it, else as configured.
    pub fn fence_kind(&self, side: Side) -> Result<FenceKind> {
        Ok(self.stored_fence(side)?.map_or(self.config.traffic.fence, |fence| fence.kind))
    }

    /// What lowers a side's fence, once that was planned.
    pub fn stored_fence(&self, side: Side) -> Result<Option<FenceUndo>> {
        let facts = self.facts()?;
        Ok(if side == Side::Source { facts.source_fence } else { facts.target_fence })
    }

    /// Reads what raising the fence needs, and what lowering it will restore.
    pub fn plan_fence(&mut self, side: Side) -> Result<FenceUndo> {
        let roles = self.config.general_roles(side);
        let mut kind = self.config.traffic.fence;
        let earlier = self.stored_fence(side)?;
        if let Some(earlier) = earlier.as_ref().filter(|earlier| earlier.kind == FenceKind::ReadOnly) {
            // Whatever the configuration says by now, nothing else would lower what stands.
            let gone = earlier.beside(&roles);
            if !gone.settings.is_empty() {
                fence::lower(self.session(side), &gone)?;
            }
            if kind == FenceKind::Closed && fence::stands(self.session(side), earlier)? {
                kind = FenceKind::ReadOnly;
            }
        }
        let fence = fence::plan_fence(self.session(side), kind, &roles, earlier.as_ref())?;
        self.store_fence(side, &fence)?;
        Ok(fence)
    }

    /// Stores what lowers it.
    pub fn store_fence(&mut self, side: Side, fence: &FenceUndo) -> Result<()> {
        let fence = Some(fence.clone());
        let facts = match side {
            Side::Source => Facts { source_fence: fence, ..Facts::default() },
            Side::Target => Facts { target_fence: fence, ..Facts::default() },
        };
        self.add_facts(&facts)
    }

    /// Raises the fence, and looks in the same round trip whether a session of general roles is left.
    pub fn raise_fence(&mut self, side: Side, fence: &FenceUndo) -> Result<()> {
        let looking = format!("{};\n{}", sessions::looking(&fence.roles), self.looking_for_writers(side));
        let begun = Instant::now();
        let seen = fence::raise_and_look(self.session(side), fence, &looking)?;
        self.answers.note(side, begun.elapsed());
        self.raised.push(side);
        self.none_left = sessions::is_none_left(&seen).then_some(side);
        self.writers = sessions::writers_of(&seen);
        Ok(())
    }

    /// Clients who choose their server themselves would go to the target as soon as the source refuses them, and write
    /// there what is not recorded yet: until the decision it lets none in, or none write. The fence for that, stored; none
    /// where a router moves the clients.
    pub fn plan_to_close_the_target(&mut self) -> Result<Option<FenceUndo>> {
        if self.routers()?.moves_clients() {
            return Ok(None);
        }
        self.plan_fence(Side::Target).map(Some)
    }

    /// Raises that fence, and ends what general roles have open there.
    pub fn close_the_target(&mut self, fence: &FenceUndo, bounds: &Bounds) -> Result<()> {
        fence::raise(self.target(), fence)?;
        self.raised.push(Side::Target);
        self.end_general_sessions(OUT, Side::Target, bounds)
    }

    /// Lets general roles work on the target, which serves now, where it was closed to clients who choose their server
    /// themselves.
    pub fn open_the_target(&mut self) -> Result<()> {
        let Some(fence) = self.stored_fence(Side::Target)? else { return Ok(()) };
        // A read-only one may stand since before a router was configured.
        if fence.kind == FenceKind::Closed && self.routers()?.moves_clients() {
            return Ok(());
        }
        fence::lower(self.target(), &fence)
    }

    /// Raises the source's fence again where the target serves and somebody, or a restore, has let general roles in.
    pub fn keep_the_source_fenced(&mut self) -> Result<()> {
        if self.source_is_fenced()? {
            return Ok(());
        }
        self.step("fence source again", |run| {
            let (roles, kind) = (run.config.general_roles(Side::Source), run.fence_kind(Side::Source)?);
            let earlier = run.stored_fence(Side::Source)?;
            let fence = fence::plan_fence(run.source(), kind, &roles, earlier.as_ref())?;
            let both = earlier.map_or_else(|| fence.clone(), |earlier| earlier.and(&fence));
            run.store_fence(Side::Source, &both)?;
            fence::raise(run.source(), &fence)?;
            run.changed |= !run.plan.is_dry();
            run.warn(
                "general roles were let into the source, and are kept out again: what they have written there meanwhile is not on \
                 the target; \"pgdetour verify\" names it",
            );
            run.end_early_sessions(Side::Source, &fence)
        })
    }

    /// Whether general roles are kept out of a side, or from writing there; None where nobody tells.
    pub fn is_fenced(&mut self, side: Side) -> Option<bool> {
        let kind = self.fence_kind(side).unwrap_or(self.config.traffic.fence);
        let roles = self.config.general_roles(side);
        // A role that does not exist is kept out by nobody.
        let session = self.answering(side).filter(|_| !roles.is_empty())?;
        fence::is_raised(session, kind, &roles).ok()
    }

    /// Whether general roles are kept out of the source, or from writing there.
    pub fn source_is_fenced(&mut self) -> Result<bool> {
        let (roles, kind) = (self.config.general_roles(Side::Source), self.fence_kind(Side::Source)?);
        fence::is_raised(self.source(), kind, &roles)
    }

    /// What [`Self::keep_the_target_read_only`] needs.
    pub fn needs_of_a_standing_fence(&self) -> &'static [Precondition] {
        match self.config.traffic.fence {
            FenceKind::Closed => &[],
            FenceKind::ReadOnly => preconditions::STANDING_FENCE,
        }
    }

    /// Clients who take whichever server can be written must not take the target before it serves: with a read-only fence
    /// it stands there from the first copy on. Nothing to do where it stands already.
    pub fn keep_the_target_read_only(&mut self) -> Result<()> {
        if self.config.traffic.fence == FenceKind::Closed || self.target_is_read_only()? {
            return Ok(());
        }
        self.step("fence target", |run| {
            let fence = run.plan_fence(Side::Target)?;
            fence::raise(run.target(), &fence)?;
            run.changed |= !run.plan.is_dry();
            run.end_early_sessions(Side::Target, &fence)
        })
    }

    fn target_is_read_only(&mut self) -> Result<bool> {
        let roles = self.config.general_roles(Side::Target);
        let stored = self.stored_fence(Side::Target)?;
        if stored.is_none_or(|fence| fence.kind == FenceKind::Closed || fence.roles != roles) {
            return Ok(false);
        }
        fence::is_raised(self.target(), FenceKind::ReadOnly, &roles)
    }

    /// Ends what general roles have open on a side that does not serve; whoever is busy there is named.
    fn end_early_sessions(&mut self, side: Side, fence: &FenceUndo) -> Result<()> {
        let until = Instant::now() + ENDING;
        let signals = self.signals.clone();
        let heed = || signals.heed();
        let ended = sessions::end_sessions(self.session(side), &fence.roles, fence.kind, until, None, &heed)?;
        for session in &ended.left {
            self.warn(format!(
                "this session on the {side} began before its fence, and may write there: {session}"
            ));
        }
        Ok(())
    }
}
