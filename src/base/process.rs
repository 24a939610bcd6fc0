//! What this process takes of the machine, beside its memory. Read from /proc at each call; what
//! cannot be read is 0.

use std::fs;

use rustix::process::{Resource, getrlimit};

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// User and system time of all threads.
    pub cpu_s: f64,
    pub threads: u64,
    pub virtual_bytes: u64,
    /// Since 1970.
    pub started_s: f64,
    pub files: u64,
    /// 0: there is no limit.
    pub files_limit: u64,
}

/// As it is now.
pub fn usage() -> Usage {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = rustix::param::clock_ticks_per_second();
    let known = read(&stat, boot_s(&machine), ticks as f64).unwrap_or_default();
    Usage {
        files: open_files(),
        files_limit: getrlimit(Resource::Nofile).current.unwrap_or(0),
        ..known
    }
}

/// The fields of proc(5), from the third one on: the second is a name that may hold anything.
fn read(stat: &str, boot_s: f64, ticks_per_s: f64) -> Option<Usage> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Usage {
        cpu_s: (field(14)? + field(15)?) as f64 / ticks_per_s,
        threads: field(20)?,
        virtual_bytes: field(23)?,
        started_s: boot_s + field(22)? as f64 / ticks_per_s,
        ..Usage::default()
    })
}

fn boot_s(stat: &str) -> f64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|text| text.trim().parse().ok())
        .unwrap_or(0.0)
}

/// Without the one that counts them.
fn open_files() -> u64 {
    let files = fs::read_dir("/proc/self/fd");
    files.map_or(0, |files| files.count().saturating_sub(1) as u64)
}

#[cfg(test)]
mod tests {
    use super::{read, usage};

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 12 0 300 4096 99 5";
        let usage = read(stat, 1000.0, 100.0).expect("fields");
        assert_eq!((usage.cpu_s, usage.threads), (2.0, 12));
        assert_eq!((usage.virtual_bytes, usage.started_s), (4096, 1003.0));
        assert_eq!(read("7 (a", 0.0, 100.0), None);
    }

    #[test]
    fn this_process_is_alive() {
        let usage = usage();
        assert!(usage.threads >= 1 && usage.files >= 3, "{usage:?}");
        assert!(
            usage.virtual_bytes > 0 && usage.files_limit > 0,
            "{usage:?}"
        );
        let now = std::time::SystemTime::now();
        let now = now
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970");
        let age = now.as_secs_f64() - usage.started_s;
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }
}
