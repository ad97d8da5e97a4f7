//! The report of `status` as metrics in Prometheus's text format. The names are part of the interface.

use std::fmt::Write as _;

use serde_json::Value;

use crate::phase::Phase;

/// One metric with all its samples.
struct Metric {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    /// Labels and value.
    samples: Vec<(Vec<(&'static str, String)>, f64)>,
}

/// Every metric that the report has values for; empty without a report.
pub fn text(report: &Value) -> String {
    if report.is_null() {
        return String::new();
    }
    let mut text = String::new();
    for metric in metrics(report).iter().filter(|metric| !metric.samples.is_empty()) {
        let Metric { name, help, kind, samples } = metric;
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let labels: Vec<String> =
                labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escape(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    }
    text
}

fn metrics(report: &Value) -> Vec<Metric> {
    let word = |pointer: &str| report.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let rows = |key: &str| report[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let name_of = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let flag = |value: &Value| value.as_bool().map(|value| f64::from(u8::from(value)));
    // One sample for each row that has a value.
    let each = |key: &str, label: &'static str, from: &str, value: &dyn Fn(&Value) -> Option<f64>| {
        let samples =
            rows(key).iter().filter_map(|row| Some((vec![(label, name_of(row, from))], value(row)?)));
        samples.collect::<Vec<_>>()
    };
    // One sample for each word that could be, 1 for the one that is.
    let one_of = |label: &'static str, words: &[&str], is: &str| {
        let sample = |word: &&str| (vec![(label, (*word).to_owned())], f64::from(u8::from(*word == is)));
        words.iter().map(sample).collect::<Vec<_>>()
    };
    let single = |value: Option<f64>| value.map(|value| (Vec::new(), value)).into_iter().collect::<Vec<_>>();
    let number = |pointer: &str| {
        let value = report.pointer(pointer);
        single(value.and_then(|value| value.as_f64().or_else(|| flag(value))))
    };
    let count = |key: &str| single(Some(rows(key).len() as f64));
    let fenced = ["source", "target"]
        .iter()
        .filter_map(|side| Some((vec![("side", (*side).to_owned())], flag(&report["fenced"][*side])?)));
    let gauge = |name, help, samples| Metric { name, help, kind: "gauge", samples };
    let counter = |name, help, samples| Metric { name, help, kind: "counter", samples };
    vec![
        gauge(
            "pgdetour_up",
            "Whether the server answers.",
            each("servers", "side", "side", &|row| flag(&row["reachable"])),
        ),
        gauge(
            "pgdetour_phase",
            "The phase that the detour is in has 1; all have 0 when it is not known.",
            one_of("phase", &Phase::ALL.map(Phase::name), &word("/phase")),
        ),
        gauge(
            "pgdetour_serving",
            "Who serves general traffic has 1; nobody means that clients are held.",
            one_of("side", &["source", "target", "nobody"], &word("/serving")),
        ),
        gauge(
            "pgdetour_health",
            "How the detour is has 1: well, attention (somebody should act), broken (clients or changes are lost).",
            one_of("level", &["well", "attention", "broken"], &word("/health")),
        ),
        gauge("pgdetour_findings", "Number of things that somebody has to look at.", count("attention")),
        gauge(
            "pgdetour_run_in_progress",
            "Whether a command that changes something is at work.",
            single(Some(f64::from(u8::from(!report["running"].is_null())))),
        ),
        gauge(
            "pgdetour_mirror_running",
            "Whether the mirror's apply worker runs on the target.",
            number("/mirror/running"),
        ),
        gauge(
            "pgdetour_mirror_lag_bytes",
            "WAL of the source that the target has not confirmed.",
            number("/mirror/lag_bytes"),
        ),
        gauge(
            "pgdetour_mirror_retained_bytes",
            "WAL that the source keeps for the mirror.",
            number("/mirror/retained_bytes"),
        ),
        gauge(
            "pgdetour_capture_lost",
            "Whether recorded changes were lost before they were replayed.",
            number("/capture/lost"),
        ),
        gauge(
            "pgdetour_capture_retained_bytes",
            "WAL that the target keeps of what was not replayed yet.",
            number("/capture/retained_bytes"),
        ),
        gauge(
            "pgdetour_capture_safe_bytes",
            "WAL that may still be written before the recording is given up; absent without a limit.",
            number("/capture/safe_bytes"),
        ),
        gauge(
            "pgdetour_capture_growth_bytes_per_second",
            "WAL written on the target, on average since cutover.",
            number("/capture/growth_bytes"),
        ),
        gauge(
            "pgdetour_capture_left_seconds",
            "Time until the recording is given up at that rate; absent without a limit.",
            number("/capture/left_seconds"),
        ),
        gauge(
            "pgdetour_replay_lag_bytes",
            "WAL of the target that was not replayed on the source.",
            number("/replay/lag_bytes"),
        ),
        counter(
            "pgdetour_replay_transactions_total",
            "Transactions replayed on the source in this detour.",
            number("/replay/transactions"),
        ),
        counter(
            "pgdetour_replay_changes_total",
            "Row changes replayed on the source in this detour.",
            number("/replay/changes"),
        ),
        gauge(
            "pgdetour_replay_quarantined",
            "Changes that did not fit the source and were set aside.",
            number("/replay/quarantined"),
        ),
        gauge(
            "pgdetour_router_right",
            "Whether the router does what it should.",
            each("router", "router", "name", &|row| flag(&row["right"])),
        ),
        gauge(
            "pgdetour_router_held",
            "Whether the router holds clients.",
            each("router", "router", "name", &|row| flag(&row["held"])),
        ),
        gauge(
            "pgdetour_router_disabled",
            "Whether the router refuses new clients.",
            each("router", "router", "name", &|row| flag(&row["disabled"])),
        ),
        gauge(
            "pgdetour_router_down",
            "Whether clients are not served through the router.",
            each("router", "router", "name", &|row| flag(&row["down"])),
        ),
        gauge(
            "pgdetour_wrong_side_sessions",
            "Sessions of general roles on the side that does not serve.",
            count("wrong_side"),
        ),
        gauge("pgdetour_fenced", "Whether general roles are kept out, or from writing.", fenced.collect()),
        gauge("pgdetour_orphans", "Objects that no record speaks of.", count("orphans")),
        gauge("pgdetour_restricted_tables", "Tables that are restricted on the target.", count("restricted")),
    ]
}

/// A label's value, in which three characters are escaped.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
