//! Times as people read them in answers and logs. All waits and deadlines use `Instant` instead.

/// Now as RFC 3339 in UTC with milliseconds: `2026-11-22T12:00:00.000Z`.
pub fn now_rfc3339() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// Unix time in whole seconds; 0 before 1970.
pub fn unix_s() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A moment as [`now_rfc3339`] writes it.
pub fn rfc3339(at: std::time::SystemTime) -> String {
    match jiff::Timestamp::try_from(at) {
        Ok(at) => format!("{at:.3}"),
        // Beyond the year 9999.
        Err(_) => now_rfc3339(),
    }
}

/// Reads what [`rfc3339`] writes.
pub fn from_rfc3339(text: &str) -> Option<std::time::SystemTime> {
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(at.into())
}

/// The moment in so long, likewise.
pub fn rfc3339_after(wait: std::time::Duration) -> String {
    let now = jiff::Timestamp::now();
    // What is beyond the calendar never comes.
    let then = now.checked_add(wait).unwrap_or(jiff::Timestamp::MAX);
    format!("{then:.3}")
}

/// A limit as people write it: `300 ms`, `1.5 s`, `45 s`.
pub fn rounded(time: std::time::Duration) -> String {
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
