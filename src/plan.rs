//! What a dry run would do: the statements and router actions, in order, with secrets hidden.

use std::sync::{Arc, Mutex, PoisonError};

/// One action that a dry run shows instead of doing it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Action {
    /// Step that it belongs to.
    pub step: String,
    /// `source`, `target`, `pgbouncer …`, or `pgdetour` for what we do ourselves.
    pub on: String,
    /// The statement or the action.
    #[allow(clippy::struct_field_names, reason = "the name in JSON")]
    pub action: String,
}

/// Where a dry run notes its actions. Clones share one list. A real run has none, and does things.
#[derive(Debug, Clone, Default)]
pub struct Plan(Option<Arc<Mutex<PlanState>>>);

#[derive(Debug, Default)]
struct PlanState {
    step: String,
    actions: Vec<Action>,
}

impl Plan {
    /// The plan of a real run: nothing is noted.
    pub fn real() -> Self {
        Plan(None)
    }

    /// The plan of a dry run.
    pub fn dry() -> Self {
        Plan(Some(Arc::default()))
    }

    /// Whether actions are to be noted instead of done.
    pub fn is_dry(&self) -> bool {
        self.0.is_some()
    }

    /// Names the step that the next actions belong to.
    pub fn enter(&self, step: &str) {
        self.with(|state| step.clone_into(&mut state.step));
    }

    /// Notes an action, with secrets already hidden; no effect on a real run.
    pub fn note(&self, on: &str, action: impl Into<String>) {
        self.with(|state| {
            let action = Action { step: state.step.clone(), on: on.to_owned(), action: action.into() };
            state.actions.push(action);
        });
    }

    /// All that was noted.
    pub fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        self.with(|state| actions.clone_from(&state.actions));
        actions
    }

    fn with(&self, work: impl FnOnce(&mut PlanState)) {
        if let Some(shared) = &self.0 {
            work(&mut shared.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}
