//! Wall-clock timestamps for people and logs. All waits and deadlines use `Instant` instead.

/// Now as RFC 3339 in UTC with milliseconds: `2026-11-22T12:00:00.000Z`.
pub fn now_rfc3339() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    #[test]
    fn has_milliseconds_and_zone() {
        let now = super::now_rfc3339();
        assert_eq!(now.len(), "2026-11-22T12:00:00.000Z".len(), "{now}");
        assert!(now.ends_with('Z'));
    }
}
