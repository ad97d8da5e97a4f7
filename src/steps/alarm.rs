//! When what is kept for changes that were not replayed is more than the configuration allows for.

use std::time::Duration;

use crate::config::Capture;
use crate::error::human;

impl Capture {
    /// Why somebody has to look, if anybody has: `retained` bytes are kept, and at the rate of late what keeps them is full
    /// in `left`.
    pub fn alarm(&self, retained: Option<i64>, left: Option<Duration>) -> Option<String> {
        if let Some(left) = left.filter(|left| *left < self.warn_before) {
            return Some(format!(
                "what keeps the recorded changes is full in {} at the rate of late",
                human(Duration::from_secs(left.as_secs()))
            ));
        }
        let retained = retained.map(i64::cast_unsigned)?;
        let limit = self.warn_retained.filter(|limit| retained >= *limit)?;
        Some(format!(
            "{retained} bytes are kept for changes that were not replayed, and {limit} are the limit"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_time_and_many_bytes_are_told_and_nothing_else() {
        let capture = Capture { warn_retained: Some(1000), ..Capture::default() };
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        assert_eq!(capture.alarm(Some(999), hours(2)), None);
        assert_eq!(capture.alarm(None, None), None);
        assert!(capture.alarm(Some(1000), None).unwrap().contains("1000 bytes are kept"));
        assert!(capture.alarm(Some(1), Some(Duration::from_secs(90))).unwrap().contains("full in 90 s"));
    }
}
