//! Durations and sizes as people write them: `5s`, `800ms`, `16MB`; PostgreSQL's units.

use std::time::Duration;

/// How far behind something may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lag {
    /// WAL in bytes that is not applied yet.
    Bytes(u64),
    /// Age of the oldest transaction that is not applied yet.
    Time(Duration),
}

/// Reads a size or a duration; a bare `0` is no bytes.
pub fn parse_lag(text: &str) -> Result<Lag, String> {
    let size = parse_size(text).map(Lag::Bytes);
    size.or_else(|_| parse_duration(text).map(Lag::Time))
        .map_err(|_| "give a size or a duration with a unit, such as 16MB or 5s".into())
}

/// Reads `800ms`, `5s`, `2min`, `1h`, `1d`; a bare `0` too. The error says what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "min" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        "" if number == "0" => 0,
        _ => return Err("give a number with a unit: ms, s, min, h or d, such as 5s or 800ms".into()),
    };
    let number: u64 = number.parse().map_err(|_| "the number is not a whole one, such as 5s or 800ms")?;
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(|| "too long".into())
}

/// The same, and longer than nothing.
pub fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("too short".into()),
        interval => Ok(interval),
    }
}

/// Reads `512kB`, `16MB`, `2GB`, `1TB` (multiples of 1024) or `1024B`, in bytes; a bare `0` too.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let power = match unit {
        "B" => 0,
        "kB" => 1,
        "MB" => 2,
        "GB" => 3,
        "TB" => 4,
        "" if number == "0" => 0,
        _ => return Err("give a number with a unit: B, kB, MB, GB or TB, such as 16MB".into()),
    };
    let number: u64 = number.parse().map_err(|_| "the number is not a whole one, such as 16MB")?;
    number.checked_mul(1024_u64.pow(power)).ok_or_else(|| "too large".into())
}

/// Reads `5%`, `5` or `0.1%`, in rows out of a million: more than none, at most all.
pub fn parse_share(text: &str) -> Result<u32, String> {
    let wrong = "give a percentage above 0 and up to 100, such as 5% or 0.1%";
    let number: f64 = text.trim().trim_end_matches('%').trim_end().parse().map_err(|_| wrong)?;
    let share = (number * 10_000.0).round();
    if (1.0..=1e6).contains(&share) { Ok(share as u32) } else { Err(wrong.into()) }
}

/// Reads `50MB/s`, in bytes a second; the `/s` may be left out.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let size = text.trim().strip_suffix("/s").unwrap_or(text);
    match parse_size(size) {
        Ok(0) => Err("give a rate above 0, such as 50MB/s".into()),
        Ok(rate) => Ok(rate),
        Err(_) => Err("give a size a second, such as 50MB/s".into()),
    }
}

/// What of a server's load stops a copy for as long as it lasts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MaxLoad {
    /// More sessions than this, ours apart, run something.
    pub active: Option<u32>,
    /// A standby is further behind than this.
    pub standby_lag: Option<Duration>,
}

/// Reads `active=40`, `standby-lag=10s`, or both with a comma between them.
pub fn parse_load(text: &str) -> Result<MaxLoad, String> {
    let mut load = MaxLoad::default();
    for part in text.split(',') {
        match part.trim().split_once('=') {
            Some(("active", number)) => {
                let number =
                    number.trim().parse().map_err(|_| "active is a whole number, such as active=40")?;
                load.active = Some(number);
            }
            Some(("standby-lag", duration)) => load.standby_lag = Some(parse_duration(duration)?),
            _ => return Err("give active=N, standby-lag=DURATION, or both with a comma between them".into()),
        }
    }
    Ok(load)
}

/// The number and its unit, spaces between them allowed.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    (text[..end].trim_end(), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_one_of_postgresqls_units() {
        assert_eq!(parse_duration("800ms"), Ok(Duration::from_millis(800)));
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("2 min"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(parse_duration("1d"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for wrong in ["", "5", "s", "-1s", "1.5s", "5m", "5S", "5s5s", "99999999999999999999d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?} was taken");
        }
        assert_eq!(parse_duration("213503982335d"), Err("too long".into()));
        assert_eq!(parse_interval("0s"), Err("too short".into()));
        assert_eq!(parse_interval("1ms"), Ok(Duration::from_millis(1)));
    }

    #[test]
    fn a_share_is_a_percentage_of_more_than_nothing() {
        assert_eq!(parse_share("5%"), Ok(50_000));
        assert_eq!(parse_share("0.1"), Ok(1000));
        assert_eq!(parse_share("100 %"), Ok(1_000_000));
        for wrong in ["", "0", "101%", "-1", "x", "NaN", "0.000001%"] {
            assert!(parse_share(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn a_rate_is_a_size_a_second_and_a_load_names_its_measures() {
        assert_eq!(parse_rate("50MB/s"), Ok(50 << 20));
        assert_eq!(parse_rate("50MB"), Ok(50 << 20));
        assert!(parse_rate("0").is_err() && parse_rate("50").is_err() && parse_rate("50MB/min").is_err());
        let lag = Some(Duration::from_secs(10));
        assert_eq!(
            parse_load("active=40, standby-lag=10s"),
            Ok(MaxLoad { active: Some(40), standby_lag: lag })
        );
        assert_eq!(parse_load("standby-lag=10s"), Ok(MaxLoad { active: None, standby_lag: lag }));
        for wrong in ["", "40", "active=", "active=-1", "load=3", "active=4,"] {
            assert!(parse_load(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn a_lag_is_a_size_or_a_duration() {
        assert_eq!(parse_lag("16MB"), Ok(Lag::Bytes(16 << 20)));
        assert_eq!(parse_lag("5s"), Ok(Lag::Time(Duration::from_secs(5))));
        assert_eq!(parse_lag("0"), Ok(Lag::Bytes(0)));
        for wrong in ["", "16", "5 minutes", "-1s"] {
            assert!(parse_lag(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn a_size_counts_in_multiples_of_1024() {
        assert_eq!(parse_size("16MB"), Ok(16 * 1024 * 1024));
        assert_eq!(parse_size("8 kB"), Ok(8192));
        assert_eq!(parse_size("17B"), Ok(17));
        assert_eq!(parse_size("1TB"), Ok(1 << 40));
        for wrong in ["", "16", "MB", "16mb", "1.5GB", "16MiB", "-1MB"] {
            assert!(parse_size(wrong).is_err(), "{wrong:?} was taken");
        }
        assert_eq!(parse_size("99999999TB"), Err("too large".into()));
    }
}
