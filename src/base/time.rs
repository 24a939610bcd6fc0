//! Times as people read them in answers and logs. All waits and deadlines use `Instant` instead.

use std::time::{Duration, SystemTime};

use crate::base::calendar;

/// What is beyond the calendar never comes.
const NEVER: &str = "9999-12-31T23:59:59.999Z";

/// Now as RFC 3339 in UTC with milliseconds: `2026-11-22T12:00:00.000Z`.
pub fn now_rfc3339() -> String {
    rfc3339(SystemTime::now())
}

/// Unix time in whole seconds; 0 before 1970.
pub fn unix_s() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A moment as [`now_rfc3339`] writes it.
pub fn rfc3339(at: SystemTime) -> String {
    calendar::rfc3339(at).unwrap_or_else(|| NEVER.to_owned())
}

/// The same of a moment in whole seconds of Unix.
pub fn rfc3339_of_s(unix_s: u64) -> String {
    rfc3339(std::time::UNIX_EPOCH + std::time::Duration::from_secs(unix_s))
}

/// Reads what [`rfc3339`] writes.
pub fn from_rfc3339(text: &str) -> Option<SystemTime> {
    calendar::from_rfc3339(text)
}

/// The moment in so long, likewise.
pub fn rfc3339_after(wait: Duration) -> String {
    let then = SystemTime::now().checked_add(wait);
    let then = then.and_then(calendar::rfc3339);
    then.unwrap_or_else(|| NEVER.to_owned())
}

/// A limit as people write it: `300 ms`, `1.5 s`, `45 s`.
pub fn rounded(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        ms => match (ms + 50) / 100 {
            tenths @ 0..100 if tenths % 10 > 0 => format!("{}.{} s", tenths / 10, tenths % 10),
            _ => format!("{} s", (ms + 500) / 1000),
        },
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn limits_are_short() {
        let text = |ms| super::rounded(std::time::Duration::from_millis(ms));
        assert_eq!(text(300), "300 ms");
        assert_eq!((text(1000), text(44_998)), ("1 s".into(), "45 s".into()));
        assert_eq!((text(1500), text(2998)), ("1.5 s".into(), "3 s".into()));
    }

    #[test]
    fn has_milliseconds_and_zone() {
        let now = super::now_rfc3339();
        assert_eq!(now.len(), "2026-11-22T12:00:00.000Z".len(), "{now}");
        assert!(now.ends_with('Z'));
    }
}
