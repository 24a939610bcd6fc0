//! The Gregorian calendar in UTC: days as dates, moments as RFC 3339 and as HTTP dates. Pure.
//! Deliberately absent: other zones, leap seconds (Unix time has none), years beyond 9999.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECONDS_OF_DAY: u64 = 86_400;
/// 9999-12-31T23:59:59.
const LAST_SECOND: u64 = 253_402_300_799;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Days since 1970-01-01 as year, month and day. Years are counted from March, so that the leap
/// day comes last and months have a fixed pattern of lengths.
pub fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// What [`civil`] makes a date of; `None` for a day that its month does not have.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let year_from_march = year - i64::from(month <= 2);
    let (era, year_of_era) = (
        year_from_march.div_euclid(400),
        year_from_march.rem_euclid(400),
    );
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    (civil(days) == (year, month, day)).then_some(days)
}

/// `2026-11-22T12:00:00.000Z`; what was before 1970 is told as its begin. `None` after 9999.
pub fn rfc3339(at: SystemTime) -> Option<String> {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day, second) = parts(since.as_secs())?;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let ms = since.subsec_millis();
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"
    ))
}

/// Writes `Sun, 22 Nov 2026 12:00:00 GMT` (RFC 9110), of a second since 1970, with nothing from the
/// heap. False for a time that no calendar has.
pub fn write_http_date(second: u64, out: &mut String) -> bool {
    let Some((year, month, day, of_day)) = parts(second) else {
        return false;
    };
    // Both are small: a remainder of seven, and a month from 1 on.
    let weekday = WEEKDAYS[(second / SECONDS_OF_DAY % 7) as usize];
    let month = MONTHS[(month - 1) as usize];
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let date = write!(
        out,
        "{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT"
    );
    date.is_ok()
}

/// Year, month, day, and the second of that day.
fn parts(second: u64) -> Option<(i64, i64, i64, u64)> {
    let days = i64::try_from(second / SECONDS_OF_DAY).ok()?;
    let (year, month, day) = civil((second <= LAST_SECOND).then_some(days)?);
    Some((year, month, day, second % SECONDS_OF_DAY))
}

/// Reads `2026-11-22T12:00:00Z`, with or without a fraction of up to nine digits.
pub fn from_rfc3339(text: &str) -> Option<SystemTime> {
    let text = text.strip_suffix('Z')?;
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (text, "0"),
    };
    let is_shaped = whole.len() == 19
        && whole.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            10 => byte == b'T',
            13 | 16 => byte == b':',
            _ => byte.is_ascii_digit(),
        });
    let is_fraction =
        (1..=9).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !is_shaped || !is_fraction {
        return None;
    }
    let number = |from: usize, to: usize| whole[from..to].parse::<i64>().ok();
    let days = days(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let second = days * 86_400 + hour * 3600 + minute * 60 + second;
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    let whole = Duration::from_secs(second.unsigned_abs());
    let at = match second {
        0.. => UNIX_EPOCH.checked_add(whole)?,
        _ => UNIX_EPOCH.checked_sub(whole)?,
    };
    at.checked_add(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use jiff::Timestamp;

    use super::{from_rfc3339, rfc3339, write_http_date};

    #[test]
    fn writes_and_reads_as_the_reference_does() {
        let mut seed = 3_u64;
        let seconds = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 16) % 253_402_207_200
        });
        let edges = [0, 68_169_600, 951_782_399, 951_868_800, 4_107_542_400];
        for second in edges.into_iter().chain(seconds.take(20_000)) {
            let at = UNIX_EPOCH + Duration::from_millis(second * 1000 + second % 1000);
            let reference = Timestamp::try_from(at).unwrap();
            let text = rfc3339(at).unwrap();
            assert_eq!(text, format!("{reference:.3}"));
            assert_eq!(from_rfc3339(&text), Some(at));
            let mut date = String::new();
            jiff::fmt::rfc2822::DateTimePrinter::new()
                .print_timestamp_rfc9110(&reference, &mut date)
                .unwrap();
            let mut written = String::new();
            assert!(write_http_date(second, &mut written));
            assert_eq!(written, date);
        }
    }

    #[test]
    fn has_bounds_and_refuses_other_texts() {
        let mut date = String::new();
        assert!(!write_http_date(super::LAST_SECOND + 1, &mut date));
        assert!(write_http_date(super::LAST_SECOND, &mut date));
        assert_eq!(date, "Fri, 31 Dec 9999 23:59:59 GMT");
        let before = rfc3339(UNIX_EPOCH - Duration::from_millis(1));
        assert_eq!(before, rfc3339(UNIX_EPOCH));
        let early = UNIX_EPOCH - Duration::from_secs(630_720_000);
        assert_eq!(from_rfc3339("1950-01-06T00:00:00Z"), Some(early));
        for text in [
            "",
            "Z",
            "2026-11-22T12:00:00",
            "2026-11-22 12:00:00Z",
            "2026-11-22T12:00:00+01:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00.1234567890Z",
            "+026-01-01T00:00:00Z",
            "2026-01-01T00:00:0äZ",
        ] {
            assert_eq!(from_rfc3339(text), None, "{text}");
        }
    }
}
