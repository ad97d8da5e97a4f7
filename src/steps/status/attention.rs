//! What of a detour's state somebody has to look at, and how soon. Pure.

use serde::Serialize;

use super::look::Seen;
use crate::config::FenceKind;
use crate::error::{Error, Finding};
use crate::flow::source::slot;
use crate::flow::subscription;
use crate::output::plural;
use crate::phase::{Phase, Place, Serving, Side};
use crate::steps::preconditions::traffic::KEEP_OUT;
use crate::steps::run::facts::Carrier;
use crate::steps::run::names;

/// How much of what the mapping or the target lacks is told one by one.
const UNMAPPED_SHOWN: usize = 10;

/// How bad it is; the order is that of urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing to do.
    Well,
    /// It works, and somebody should act before it does not.
    Attention,
    /// Clients are not served as they should be, or changes are lost.
    Broken,
}

/// One thing to look at.
#[derive(Debug, Clone, Serialize)]
pub struct Attention {
    /// How bad.
    pub level: Level,
    /// What, and what mends it.
    #[serde(flatten)]
    pub finding: Finding,
}

/// What was found so far.
#[derive(Default)]
struct List(Vec<Attention>);

impl List {
    fn add(
        &mut self,
        level: Level,
        check: &'static str,
        object: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.0.push(Attention { level, finding: Finding::new(check, object, message, hint) });
    }
}

/// Everything that is not as it should be, the worst first.
pub fn of(seen: &Seen) -> Vec<Attention> {
    let mut list = List::default();
    servers(seen, &mut list);
    unfinished(seen, &mut list);
    refused(seen, &mut list);
    routers(seen, &mut list);
    if !seen.is_cleaning {
        flows(seen, &mut list);
        stages(seen, &mut list);
    }
    traffic(seen, &mut list);
    for orphan in &seen.orphans {
        let message = format!("it is left of a detour that no record speaks of: {}", orphan.kind);
        let object = format!("{}: {}", orphan.side, orphan.name);
        list.add(Level::Attention, "orphan", &object, message, "Run pgdetour clean to remove it.");
    }
    list.0.sort_by_key(|attention| std::cmp::Reverse(attention.level));
    list.0
}

fn serves(seen: &Seen, side: Side) -> bool {
    seen.home == Some(side.into())
}

fn servers(seen: &Seen, list: &mut List) {
    let none = seen.servers.iter().all(|server| !server.reachable || server.side == Place::Backup);
    for server in seen.servers.iter().filter(|server| !server.reachable) {
        let side = match server.side {
            Place::Source => Some(Side::Source),
            Place::Target => Some(Side::Target),
            Place::Backup => None,
        };
        // Without its record nobody knows whether it serves.
        let may_serve =
            |side| side == Side::Source && seen.home.is_none() && seen.phase == Some(Phase::Absent);
        let broken = side.is_some_and(|side| none || serves(seen, side) || may_serve(side));
        let level = if broken { Level::Broken } else { Level::Attention };
        let message = server.error.clone().unwrap_or_else(|| "it does not answer".into());
        let hint = match (server.side, broken) {
            (Place::Backup, _) if seen.phase == Some(Phase::Detoured) => {
                "The target serves without a copy beside it, and keeps its WAL for the backup until it is back."
            }
            (Place::Backup, _) if matches!(seen.phase, Some(Phase::Mirrored | Phase::CuttingOver)) => {
                "The mirror goes through it: nothing new reaches the target until it is back."
            }
            (Place::Source, false) => {
                "While it is down for maintenance nothing can be replayed, and the target keeps what is written."
            }
            (Place::Target, false) => away_target(seen),
            (Place::Source, true) if !none && seen.serving.is_none() => {
                "Nobody knows who serves until it answers: after clean --stay the target does. Start it, or correct how pgdetour reaches it."
            }
            _ => "Start it, or correct how pgdetour reaches it.",
        };
        list.add(level, "unreachable", server.side.name(), message, hint);
    }
}

/// What it means that the target is away while it does not serve.
fn away_target(seen: &Seen) -> &'static str {
    let has_slot = seen.mirror.as_ref().is_some_and(|mirror| mirror.slot.is_some());
    match seen.phase {
        Some(Phase::Absent) => {
            "No detour is under way, as far as the source was told. The next one needs it."
        }
        Some(Phase::Returned) => {
            "The phase is what the source was told last. Clients do not need it any more, and pgdetour clean does."
        }
        _ if has_slot => {
            "The phase is what the source was told last. The source keeps all its WAL for the mirror until then."
        }
        _ => "The phase is what the source was told last.",
    }
}

/// A run that died part way, or could not end what it had decided; one that is at work still holds the lock.
fn unfinished(seen: &Seen, list: &mut List) {
    if seen.is_cleaning && !seen.is_at_work {
        let again = if seen.phase == Some(Phase::Detoured) { "clean --stay" } else { "clean" };
        let hint = format!("Run pgdetour {again} again: it removes the rest.");
        let message = "clean has begun, and stopped part way";
        list.add(Level::Attention, "unfinished", "clean", message, hint);
    }
    let command = match seen.phase {
        _ if seen.is_cleaning => return,
        Some(Phase::Mirroring) => "mirror",
        Some(Phase::CuttingOver) => "cutover",
        Some(Phase::CuttingBack) => "cutback",
        _ => return,
    };
    if seen.is_at_work {
        return;
    }
    let held = seen.serving == Some(Serving::Nobody) && command != "mirror";
    let (level, message) = if held {
        (Level::Broken, format!("{command} stopped part way, and clients are held or kept out"))
    } else {
        (Level::Attention, format!("{command} stopped part way"))
    };
    if let Some(side) = seen.awaited {
        let message = format!("{command} stopped part way: it is decided, and the {side} lets clients in");
        let hint =
            format!("Point the clients to the {side}, and run pgdetour {command} again, which goes on.");
        list.add(Level::Attention, "unfinished", command, message, hint);
        return;
    }
    let hint = format!("Run pgdetour {command} again: it goes on, or takes back.");
    list.add(level, "unfinished", command, message, hint);
}

/// A run that is at work has found out for itself that it may go on, or is mending what is wrong.
fn refused(seen: &Seen, list: &mut List) {
    if seen.is_at_work {
        return;
    }
    if let Some(error) = &seen.refusal {
        let message = with_detail(&error.to_string(), error.detail().as_deref());
        list.add(Level::Broken, error.kind(), "source", message, error.hint().unwrap_or_default());
    } else if let Some(stop) = seen.replay.as_ref().and_then(|replay| replay.stopped_at.as_ref()) {
        let message = format!("replay stands still: {}", with_detail(&stop.message, stop.detail.as_deref()));
        list.add(
            Level::Attention,
            "replay_stopped",
            "source",
            message,
            stop.hint
                .clone()
                .unwrap_or_else(|| "Mend what the server says, and run pgdetour replay again.".into()),
        );
    }
    let drifted = seen.drifted.iter().take(UNMAPPED_SHOWN).cloned();
    list.0.extend(drifted.map(|finding| Attention { level: Level::Attention, finding }));
    if let Some(more @ 1..) = seen.drifted.len().checked_sub(UNMAPPED_SHOWN) {
        let message = format!("{more} more like these, which were changed there since they were mirrored");
        list.add(
            Level::Attention,
            "schema",
            "source",
            message,
            "Run pgdetour check, which lists all of them.",
        );
    }
    let unmapped = seen.unmapped.iter().take(UNMAPPED_SHOWN).cloned();
    list.0.extend(unmapped.map(|finding| Attention { level: Level::Attention, finding }));
    if let Some(more @ 1..) = seen.unmapped.len().checked_sub(UNMAPPED_SHOWN) {
        let message = format!("{more} more like these, for which replay is refused");
        list.add(
            Level::Attention,
            "mapping",
            "source",
            message,
            "Run pgdetour replay --lint, which lists all of them.",
        );
    }
}

fn with_detail(message: &str, detail: Option<&str>) -> String {
    detail.map_or_else(|| message.to_owned(), |detail| format!("{message}: {detail}"))
}

fn routers(seen: &Seen, list: &mut List) {
    let moves = matches!(seen.phase, Some(Phase::CuttingOver | Phase::CuttingBack));
    for router in seen.router.iter().filter(|router| !router.right) {
        let state = &router.state;
        if state.held && !moves {
            let mend = state.mend.as_deref().filter(|_| state.detail.is_none());
            let hint = mend.unwrap_or("Resume it by hand, unless somebody holds it on purpose.");
            list.add(Level::Broken, "router_held", &state.name, "it holds clients, and no switch runs", hint);
        }
        if state.disabled && !moves {
            let hint = "Enable it by hand (ENABLE on PgBouncer's console, \"enable frontend\" in HAProxy's runtime API), unless \
                        somebody has disabled it on purpose.";
            list.add(Level::Broken, "router_disabled", &state.name, "it refuses new clients", hint);
        }
        // Where its file says otherwise, clients are where it sends them now.
        if let Some(side) = state.side.or(state.live)
            && let Some(should) = router.should
            && side != should
        {
            let message = format!("it sends clients to the {side}, and should to the {should}");
            let hint = match seen.phase {
                Some(Phase::Absent) => "Point it to the source, whose data are the live ones.".to_owned(),
                Some(Phase::Detoured) => {
                    "Run pgdetour cutover again at once: it points the router to the target anew.".to_owned()
                }
                Some(Phase::Returned) => {
                    "Run pgdetour cutback again at once: it points the router to the source anew.".to_owned()
                }
                _ => format!("Point it to the {should} at once: writes to the {side} are not carried over."),
            };
            list.add(Level::Broken, "router_side", &state.name, message, hint);
        }
        let detail = state.detail.clone().unwrap_or_default();
        if state.down {
            // One that has told where it sends clients runs, and has no server for them.
            let (message, hint) = match (&state.mend, state.live) {
                (Some(mend), Some(_)) => (format!("no client is served: {detail}"), mend.as_str()),
                _ => (
                    format!("clients cannot reach it either: {detail}"),
                    "Start it; status then tells whether it sends clients where it should.",
                ),
            };
            list.add(Level::Broken, "router_down", &state.name, message, hint);
        } else if state.detail.is_some() {
            let hint = match (&state.mend, seen.phase) {
                (Some(mend), _) => mend,
                (None, Some(Phase::Detoured)) => {
                    "Run pgdetour cutover again: it points the router to the target anew."
                }
                (None, Some(Phase::Returned)) => {
                    "Run pgdetour cutback again: it points the router to the source anew."
                }
                _ => "Correct it before the next switch; pgdetour check tells how.",
            };
            // One that leads to neither side serves nobody, whatever its file says.
            let is_lost = router.is_known && router.should.is_some() && state.live.is_none() && !state.held;
            let level = if is_lost { Level::Broken } else { Level::Attention };
            list.add(level, "router_drift", &state.name, detail, hint);
        }
    }
}

/// Of databases that are not those of the detour nothing can be said.
fn are_others(seen: &Seen) -> bool {
    let kind = seen.refusal.as_ref().map(Error::kind);
    matches!(kind, Some("stamp_missing" | "stamp_mismatch" | "sides_swapped" | "record_lost"))
}

fn flows(seen: &Seen, list: &mut List) {
    if are_others(seen) {
        return;
    }
    let reachable = |side: Side| seen.servers.iter().any(|server| server.side == side && server.reachable);
    if let Some(alarm) = seen.mirror.as_ref().and_then(|mirror| mirror.alarm.as_ref()) {
        let has_slot = seen.mirror.as_ref().is_some_and(|mirror| mirror.slot.is_some());
        let (object, hint) = if has_slot {
            let hint = "Run pgdetour mirror, so that it catches up, or make room: raise max_slot_wal_keep_size on the source, \
                        or give it disk.";
            (names::MIRROR_SLOT, hint)
        } else {
            (
                names::CHANGE_TABLE,
                "Run pgdetour mirror, so that it catches up, or give the source's disk more room.",
            )
        };
        list.add(Level::Attention, "mirror", object, alarm, hint);
    }
    if let (Some(mirror), Some(Phase::Mirrored)) = (&seen.mirror, seen.phase) {
        let again = "Run pgdetour clean, then mirror again.";
        // What our own runs carry may be recorded by triggers, or come once only, and they need not run all the time.
        let by_subscription = mirror.carried_by != Some(Carrier::Pgdetour);
        let has_no_slot = by_subscription && mirror.slot.is_none() && reachable(Side::Source);
        if mirror.slot_lost == Some(true) || has_no_slot {
            let what = if mirror.slot.is_none() { "missing" } else { "lost" };
            let message =
                format!("the mirror's slot on the source is {what}: the target falls behind for good");
            list.add(Level::Broken, "mirror", names::MIRROR_SLOT, message, again);
        } else if !by_subscription {
            // Nothing more to ask of them.
        } else if mirror.enabled.is_none() && reachable(Side::Target) {
            list.add(
                Level::Attention,
                "mirror",
                names::MIRROR_SUBSCRIPTION,
                "nothing carries the mirror",
                again,
            );
        } else if mirror.enabled == Some(false) {
            let hint =
                format!("Run ALTER SUBSCRIPTION {} ENABLE; on the target.", names::MIRROR_SUBSCRIPTION);
            list.add(Level::Attention, "mirror", names::MIRROR_SUBSCRIPTION, "it is disabled", hint);
        } else if mirror.running == Some(false) {
            let hint = subscription::log_tells(Place::Target);
            list.add(Level::Attention, "mirror", names::MIRROR_SUBSCRIPTION, "its worker does not run", hint);
        }
    }
    if let Some(capture) = &seen.capture {
        if let Some(fault) = &capture.fault {
            let hint = format!("What was written since is on the target alone: {}", slot::MISSED);
            list.add(Level::Broken, "capture", names::CAPTURE_SLOT, fault, hint);
        } else if let Some(alarm) = &capture.alarm {
            let (object, hint) = if capture.slot.is_some() {
                let hint = "Run pgdetour replay, or make room: raise max_slot_wal_keep_size on the target, or give it disk.";
                (names::CAPTURE_SLOT, hint)
            } else {
                (names::CHANGE_TABLE, "Run pgdetour replay, or give the target's disk more room.")
            };
            list.add(Level::Attention, "capture", object, alarm, hint);
        }
        for (level, findings) in
            [(Level::Broken, &capture.unseen.failures), (Level::Attention, &capture.unseen.warnings)]
        {
            list.0.extend(findings.iter().cloned().map(|finding| Attention { level, finding }));
        }
    }
    if let Some(quarantined @ 1..) = seen.replay.as_ref().and_then(|replay| replay.quarantined) {
        let message = format!("{} set aside, not fitting the source", plural(quarantined as u64, "change"));
        let hint = "See them with pgdetour replay --quarantine list.";
        list.add(Level::Attention, "quarantine", "source", message, hint);
    }
}

/// The flows through the backup, and to it while the target serves.
fn stages(seen: &Seen, list: &mut List) {
    let reachable = |place| seen.servers.iter().any(|server| server.side == place && server.reachable);
    for stage in &seen.stages {
        let object = format!("{} to {}", stage.from, stage.to);
        let serves = stage.from == Place::Target;
        let again = if serves {
            "Traffic is not concerned. Give the backup up by removing target.backup_conninfo, or make another copy yourself."
        } else {
            "Run pgdetour clean, then mirror again."
        };
        if reachable(stage.from) && (stage.slot.is_none() || stage.slot_lost == Some(true)) {
            let what = if stage.slot.is_none() { "missing" } else { "lost" };
            let message =
                format!("the slot on the {} is {what}: the {} falls behind for good", stage.from, stage.to);
            // Without the backup the serving side is as well as ever.
            let level = if serves { Level::Attention } else { Level::Broken };
            list.add(level, "stage", &object, message, again);
        } else if reachable(stage.to) && stage.enabled != Some(true) {
            let hint = if serves {
                "Run pgdetour cutover again: it lets the backup follow."
            } else {
                "Run pgdetour mirror: it lets the subscription go on."
            };
            list.add(Level::Attention, "stage", &object, format!("the {} does not follow", stage.to), hint);
        } else if reachable(stage.to) && reachable(stage.from) && stage.running == Some(false) {
            let hint = subscription::log_tells(stage.to);
            list.add(Level::Attention, "stage", &object, "its worker does not run", hint);
        }
    }
}

/// General roles: whom the fence lets in, and where they are.
fn traffic(seen: &Seen, list: &mut List) {
    // Of databases that are not those of the detour nothing can be said.
    if matches!(seen.refusal, Some(Error::Refused { .. })) {
        return;
    }
    let moves = matches!(seen.phase, Some(Phase::CuttingOver | Phase::CuttingBack));
    for side in [Side::Source, Side::Target] {
        let fence = seen.fenced.on(side);
        if fence.raised == Some(true) && serves(seen, side) && !moves {
            let message = match fence.kind {
                FenceKind::Closed => "general roles may not connect, and it serves",
                FenceKind::ReadOnly => "general roles are read-only there, and it serves",
            };
            let opens = format!("Run {} there.", fence.opened_by);
            // It may be one that was left behind for good, which takes no more writes.
            let was_left =
                seen.phase == Some(Phase::Absent) && side == Side::Source && seen.fenced.source_alone();
            let hint = if was_left {
                format!("Send clients to the target if that has stayed in service. If not: {opens}")
            } else {
                opens
            };
            list.add(Level::Broken, "fence", side.name(), message, hint);
        }
    }
    if seen.fenced.source.raised == Some(false) && seen.phase == Some(Phase::Detoured) {
        let message = match seen.fenced.source.kind {
            FenceKind::Closed => "general roles may connect, and what they write there is not on the target",
            FenceKind::ReadOnly => "general roles may write there, and what they write is not on the target",
        };
        list.add(Level::Attention, "fence", "source", message, KEEP_OUT);
    }
    // Of another kind, the record tells of an earlier one, and this one was not raised.
    let stands = seen.fenced.target.raised == Some(true) && seen.fenced.target.kind == FenceKind::ReadOnly;
    let is_known = seen.fenced.target.raised.is_some();
    let is_due = seen.phase == Some(Phase::Mirrored) && !seen.is_cleaning;
    if seen.fenced.is_standing && is_known && !stands && is_due {
        let message = "general roles may write there, and clients who look for a server to write on may come";
        list.add(
            Level::Attention,
            "fence",
            "target",
            message,
            "Run pgdetour mirror again: it raises the fence.",
        );
    }
    if !seen.wrong_side.is_empty() {
        let side = seen.wrong_side[0]["side"].as_str().unwrap_or_default();
        let count = seen.wrong_side.len() as u64;
        let message = if count == 1 {
            "a session of a general role is connected, and it does not serve".to_owned()
        } else {
            format!("{count} sessions of general roles are connected, and it does not serve")
        };
        let is_source = side == Side::Source.name();
        let fence = seen.fenced.on(if is_source { Side::Source } else { Side::Target });
        let hint = match fence.kind {
            FenceKind::Closed => "See who they are under wrong_side: they do not go through the router.",
            FenceKind::ReadOnly => {
                "See who they are under wrong_side: they stay on a side that is read-only for them, or write all the same."
            }
        };
        list.add(Level::Attention, "wrong_side", side, message, hint);
    }
}
