//! When what is kept for changes that were not applied yet is more than the configuration allows for.

use std::time::Duration;

use crate::config::Watch;
use crate::error::human;

impl Watch {
    /// Why somebody has to look, if anybody has: `retained` bytes are kept, and at the rate of late there is no room for more
    /// in `left`.
    pub fn alarm(&self, retained: Option<i64>, left: Option<Duration>) -> Option<String> {
        if let Some(left) = left.filter(|left| *left < self.before) {
            if left < Duration::from_secs(1) {
                return Some("what keeps the recorded changes is full now".to_owned());
            }
            return Some(format!(
                "what keeps the recorded changes is full in {} at the rate of late",
                human(Duration::from_secs(left.as_secs()))
            ));
        }
        let retained = retained.map(i64::cast_unsigned)?;
        let limit = self.retained.filter(|limit| retained >= *limit)?;
        Some(format!(
            "{retained} bytes are kept for changes that were not applied, and {limit} are the limit"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_time_and_many_bytes_are_told_and_nothing_else() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let watch = Watch { retained: Some(1000), before: hours(1) };
        assert_eq!(watch.alarm(Some(999), Some(hours(2))), None);
        assert_eq!(watch.alarm(None, None), None);
        assert!(watch.alarm(Some(1000), None).unwrap().contains("1000 bytes are kept"));
        assert!(watch.alarm(Some(1), Some(Duration::from_secs(90))).unwrap().contains("full in 90 s"));
        assert!(watch.alarm(Some(1), Some(Duration::ZERO)).unwrap().ends_with("is full now"));
    }
}
